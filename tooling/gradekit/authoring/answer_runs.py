"""What each answer of a lab's bank earns, and what it must."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from gradekit.authoring import answers
from gradekit.authoring.answers import Answer, Kind
from gradekit.authoring.dependencies import Graph
from gradekit.authoring.release import released
from gradekit.authoring.replay import Variant, code, replay, variant
from gradekit.authoring.rounds import outcomes, repeated
from gradekit.authoring.run import Execution
from gradekit.course import Cell, Course, Lab
from gradekit.grading.judge import Status, Verdict

#: Seconds for the rounds of one test with one answer, and for all of one answer's.
TEST_S, ANSWER_S = 2.0, 1800.0


@dataclass(frozen=True)
class AnswerRun:
    """One answer, graded.

    Attributes:
        expected: points by test grade id; `got` the verdicts.
        ended: why its process ended before the notebook did, empty when it did not.
        rounds: what each further round of a test gave, by grade id: points (None where that cannot be told), reason.
    """

    answer: Answer
    expected: Mapping[str, float]
    got: Mapping[str, Verdict]
    seconds: float
    peak: int
    ended: str = ""
    rounds: Mapping[str, Sequence[tuple[float | None, str]]] = field(default_factory=dict)

    @property
    def surprises(self) -> dict[str, str]:
        """What came out differently, by test grade id, in words."""
        found = {}
        for grade_id, points in self.expected.items():
            verdict = self.got[grade_id]
            if verdict.status is Status.NOT_HERE:
                continue
            if verdict.score != points:
                why = f": {verdict.reason}" if verdict.reason else ""
                found[grade_id] = f"earns {verdict.score:g}, expected {points:g}{why}"
            elif others := self.others(grade_id):
                score, why = self.rounds[grade_id][others[0]]
                got = "no number" if score is None else f"{score:g}"
                found[grade_id] = (
                    f"earns {got}, expected {points:g}, in {len(others)} of {len(self.rounds[grade_id])} rounds, "
                    f"first in round {others[0]}" + (f": {why}" if why else "")
                )
        return found

    def others(self, grade_id: str) -> list[int]:
        """The rounds of a test, counted from 0, that did not give what the answer must earn."""
        said = self.rounds.get(grade_id, ())
        return [number for number, (score, _) in enumerate(said) if score != self.expected[grade_id]]

    @property
    def not_graded_here(self) -> list[str]:
        """Tests that need hardware which this machine has not: what the answer earns there is not known."""
        return [grade_id for grade_id, verdict in self.got.items() if verdict.status is Status.NOT_HERE]


def run_bank(course: Course, lab: Lab, *, rounds: int = 0, jobs: int = 2) -> list[AnswerRun]:
    """Grade every answer of a lab's bank. Demonstrations that no test rests on are left out.

    Args:
        rounds: how many times more each test is run, with other fresh inputs, while `TEST_S` lasts: every test with
            the reference, which then comes first, and with the right answers, and with a wrong one those that it loses.
    """
    bank = answers.bank(course, lab)
    if rounds and bank:
        bank = [Answer(lab.path.with_name("reference"), Kind.CORRECT, "the instructor's own", {}, {}), *bank]
    stub = released(course, lab, hidden_tests=True)
    reference = answers.apply(stub, lab, None)
    core = Graph(reference).core
    variants = [variant(a.name, reference, answers.apply(stub, lab, a), core) for a in bank]
    again: dict[str, list[Cell]] = {}
    if rounds:
        trunk = code(reference, 0, core)
        again = {a.name: _again(lab, a, (v.steps or trunk)[0][0]) for a, v in zip(bank, variants, strict=True)}
        variants = [_with_rounds(v, v.steps or trunk, again[v.name], rounds) for v in variants]
    _, runs = replay(course, lab, reference, variants, jobs=jobs, cells=core)
    found = []
    for answer in bank:
        run = runs[answer.name]
        pairs = zip(again.get(answer.name, ()), run.beside, strict=False)  # fewer when the run ended early
        said = {test.grade_id: outcomes(text, test.points) for test, text in pairs}
        found.append(replace(graded(lab, answer, run), rounds=said))
    return found


def _again(lab: Lab, answer: Answer, first: int) -> list[Cell]:
    """The tests to repeat with an answer, in order; those before the first cell in which it differs say nothing new."""
    here = [test for test in answers.tests(lab) if test.index >= first]
    return [test for test in here if answer.kind is Kind.CORRECT or test.grade_id in answer.kept]


def _with_rounds(one: Variant, steps: Sequence[tuple[int, str]], tests: Sequence[Cell], rounds: int) -> Variant:
    """The variant with each of the tests repeated where it stands."""
    here = {test.index for test in tests}
    doubled: list[tuple[int, str]] = []
    for index, source in steps:
        doubled.append((index, source))
        if index in here:
            doubled.append((-1, repeated(source, rounds, TEST_S)))
    return replace(one, first=steps[0][0], steps=doubled, limit=ANSWER_S)


def graded(lab: Lab, answer: Answer, run: Execution) -> AnswerRun:
    """What an answer earned in a run of it."""
    return AnswerRun(answer, answer.expected(lab), run.verdicts, sum(run.seconds.values()), run.peak, run.ended)
