"""What each answer of a lab's bank earns, and what it must."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gradekit.authoring import answers
from gradekit.authoring.answers import Answer
from gradekit.authoring.dependencies import Graph
from gradekit.authoring.release import released
from gradekit.authoring.replay import replay, variant
from gradekit.authoring.run import Execution
from gradekit.course import Course, Lab
from gradekit.grading.judge import Status, Verdict


@dataclass(frozen=True)
class AnswerRun:
    """One answer, graded.

    Attributes:
        expected: points by test grade id; `got` the verdicts.
        ended: why its process ended before the notebook did, empty when it did not.
    """

    answer: Answer
    expected: Mapping[str, float]
    got: Mapping[str, Verdict]
    seconds: float
    peak: int
    ended: str = ""

    @property
    def surprises(self) -> dict[str, str]:
        """What came out differently, by test grade id, in words."""
        found = {}
        for grade_id, points in self.expected.items():
            verdict = self.got[grade_id]
            if verdict.status is Status.NOT_HERE or verdict.score == points:
                continue
            why = f": {verdict.reason}" if verdict.reason else ""
            found[grade_id] = f"earns {verdict.score:g}, expected {points:g}{why}"
        return found

    @property
    def not_graded_here(self) -> list[str]:
        """Tests that need hardware which this machine has not: what the answer earns there is not known."""
        return [grade_id for grade_id, verdict in self.got.items() if verdict.status is Status.NOT_HERE]


def run_bank(course: Course, lab: Lab, *, jobs: int = 2) -> list[AnswerRun]:
    """Grade every answer of a lab's bank. Demonstrations that no test rests on are left out."""
    bank = answers.bank(course, lab)
    stub = released(course, lab, hidden_tests=True)
    reference = answers.apply(stub, lab, None)
    core = Graph(reference).core
    variants = [variant(a.name, reference, answers.apply(stub, lab, a), core) for a in bank]
    _, runs = replay(course, lab, reference, variants, jobs=jobs, cells=core)
    return [graded(lab, answer, runs[answer.name]) for answer in bank]


def graded(lab: Lab, answer: Answer, run: Execution) -> AnswerRun:
    """What an answer earned in a run of it."""
    return AnswerRun(answer, answer.expected(lab), run.verdicts, sum(run.seconds.values()), run.peak, run.ended)
