"""Gate 3: the instructor's notebook passes from top to bottom in a fresh kernel, under three seeds."""

from __future__ import annotations

from collections.abc import Iterator

from gradekit.authoring.gates.subject import Fault, Gate, Subject, errors
from gradekit.authoring.replay import Variant, code
from gradekit.authoring.run import Execution
from gradekit.grading.judge import NOT_GRADED_HERE, Status

#: Besides the fresh kernel, whose state is nobody's choice.
SEEDS = (1, 2)
_SEED = """
import random, sys
random.seed({seed})
if "numpy" in sys.modules:
    sys.modules["numpy"].random.seed({seed})
if "torch" in sys.modules:
    sys.modules["torch"].manual_seed({seed})
"""


def variants(subject: Subject) -> Iterator[Variant]:
    """What the tests rest on, from the first cell on, with the generators seeded beforehand."""
    steps = code(subject.reference, 0, subject.graph.core)
    for seed in SEEDS:
        yield Variant(f"seed {seed}", steps[0][0] if steps else None, [(-1, _SEED.format(seed=seed)), *steps])


def check(subject: Subject) -> Iterator[Fault]:
    yield from passes(subject, subject.kernel_run, "in a fresh kernel")
    for seed in SEEDS:
        yield from passes(subject, subject.runs[f"seed {seed}"], f"under seed {seed}")


def passes(subject: Subject, run: Execution, how: str) -> Iterator[Fault]:
    """Every cell runs without an error, and every test gives all its points."""
    if run.ended:
        yield Fault(f"the reference's run {how} ended early: {run.ended}")
    for index, error in errors(run):
        if not error.startswith(NOT_GRADED_HERE):
            yield Fault(f"the reference fails {how}: {error}", subject.name_of(index))
    for verdict in run.verdicts.values():
        if verdict.status in (Status.PARTIAL, Status.ODD, Status.NOT_RUN):
            yield Fault(f"the reference gets {verdict.score:g} points {how}: {verdict.reason}", verdict.grade_id)


GATE = Gate(3, "reference", check, variants)
