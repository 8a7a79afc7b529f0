"""Gate 4: the released notebook earns zero automatic points.

Courses are known to have given a third of their points to notebooks that nobody had touched.
"""

from __future__ import annotations

from collections.abc import Iterator

from gradekit.authoring.gates.subject import Fault, Gate, Subject
from gradekit.authoring.replay import Variant, code


def variants(subject: Subject) -> Iterator[Variant]:
    steps = code(subject.stub, 0, None)
    yield Variant("untouched", steps[0][0] if steps else None, steps)


def check(subject: Subject) -> Iterator[Fault]:
    run = subject.runs["untouched"]
    if run.ended:
        yield Fault(f"the released notebook's run ended early: {run.ended}")
    for verdict in run.verdicts.values():
        if verdict.score:
            yield Fault(
                f"an untouched notebook earns {verdict.score:g} of {verdict.points:g} points; "
                "let the test use what the student writes",
                verdict.grade_id,
            )


GATE = Gate(4, "untouched", check, variants)
