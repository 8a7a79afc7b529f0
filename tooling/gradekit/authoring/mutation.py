"""Mutation analysis of a lab's tests: which small wrong changes to the reference does no test notice?

A mutant runs as a fork of the reference's state in front of its solution cell, through the tests that rest on it; the
first test that loses points ends it. A survivor is a wrong answer that would earn full marks: the tests get better, or
the change is shown to change nothing and is listed in ``equivalent.yaml`` beside the answer bank::

    - cell: lora-forward
      before: for i in range(n):
      after: for i in range(n + 1):
      reason: slicing past the end adds nothing
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import yaml

from gradekit.authoring import answers, cache, operators
from gradekit.authoring.dependencies import Graph
from gradekit.authoring.release import released, solution_lines
from gradekit.authoring.replay import Variant, code, replay
from gradekit.authoring.run import Execution
from gradekit.course import Cell, Course, CourseError, Lab, Role
from gradekit.grading.judge import Status, Verdict

LOST = (Status.FAILED, Status.PARTIAL, Status.ODD)


class Fate(StrEnum):
    KILLED = "killed"
    TIMED_OUT = "timed out"  # it runs on where the reference ends: no test would pass
    SURVIVED = "survived"
    EQUIVALENT = "equivalent"  # survived, and declared to change nothing
    NOT_HERE = "not tested here"  # the tests that rest on it need hardware which this machine has not


@dataclass(frozen=True)
class Mutant:
    """A mutant and what became of it.

    Attributes:
        cell: grade id of the solution cell; ``line`` counts from 1 within it.
        before, after: the lines that differ, without those around them.
        test: grade id of the first test that noticed it.
        seconds: that it took, 0 when the result was kept from an earlier run.
    """

    cell: str
    operator: str
    line: int
    source: str
    before: str
    after: str
    fate: Fate = Fate.SURVIVED
    test: str = ""
    reason: str = ""
    seconds: float = 0.0

    @property
    def id(self) -> str:
        return cache.digest(self.cell, self.source)[:8]

    def diff(self, reference: str) -> str:
        """A unified diff from the reference's cell to the mutant."""
        lines = difflib.unified_diff(reference.splitlines(), self.source.splitlines(), n=2, lineterm="")
        return "\n".join(list(lines)[2:])


@dataclass(frozen=True)
class Report:
    """All mutants of a lab. ``mistakes``: what is wrong with equivalent.yaml, and exercises that no test rests on."""

    lab: str
    mutants: Sequence[Mutant]
    references: Mapping[str, str]
    mistakes: Sequence[str]
    seconds: float
    reused: int

    def count(self, fate: Fate) -> int:
        return sum(mutant.fate is fate for mutant in self.mutants)

    @property
    def score(self) -> float:
        """The share of the mutants that were noticed, equivalent ones and those not tested here left out."""
        judged = [m for m in self.mutants if m.fate not in (Fate.EQUIVALENT, Fate.NOT_HERE)]
        return 1 - self.count(Fate.SURVIVED) / len(judged) if judged else 1.0


@dataclass(frozen=True)
class Equivalent:
    """A declared survivor, with the reason why it is no wrong answer."""

    cell: str
    before: str
    after: str
    reason: str

    def means(self, mutant: Mutant) -> bool:
        return (self.cell, _bare(self.before), _bare(self.after)) == (
            mutant.cell,
            _bare(mutant.before),
            _bare(mutant.after),
        )


def _bare(lines: str) -> list[str]:
    return [line.strip() for line in lines.strip().splitlines()]


def equivalents(course: Course, lab: Lab) -> list[Equivalent]:
    """The declared survivors of a lab.

    Raises:
        CourseError: the file is not in the format.
    """
    path = answers.folder(course, lab) / "equivalent.yaml"
    if not path.exists():
        return []
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8")) or []
    except yaml.YAMLError as error:
        raise CourseError(f"{path}: not valid YAML: {str(error).splitlines()[0]}") from None
    found = []
    for number, entry in enumerate(entries if isinstance(entries, list) else [entries], 1):
        keys = {"cell", "before", "after", "reason"}
        if not isinstance(entry, dict) or set(entry) != keys or not (entry["cell"] and entry["reason"]):
            raise CourseError(f"{path}: entry {number} must have cell, before, after and a reason, and nothing else.")
        found.append(Equivalent(**{key: str(entry[key] or "") for key in keys}))
    return found


def candidates(cell: Cell, reference: str) -> list[Mutant]:
    """The mutants of a solution cell, before any has run. Only what stands between the markers is changed."""
    marked = [number for number, line in enumerate(cell.source.splitlines(), 1) if "SOLUTION" in line]
    inside = {number for number, _ in solution_lines(cell)} or set(range(1, len(reference.splitlines()) + 1))
    lines = {number - sum(mark < number for mark in marked) for number in inside}
    found = []
    for mutant in operators.mutants(reference, lines):
        before, after = _changed(reference, mutant.source)
        found.append(Mutant(cell.grade_id, mutant.operator, mutant.line, mutant.source, before, after))
    return found


def _changed(old: str, new: str) -> tuple[str, str]:
    diff = [line for line in difflib.ndiff(old.splitlines(), new.splitlines()) if line[:2] in ("- ", "+ ")]
    sides = ("\n".join(line[2:] for line in diff if line[0] == side) for side in "-+")
    return next(sides), next(sides)


def mutate(course: Course, lab: Lab, *, jobs: int = 2, fresh: bool = False) -> Report:
    """Run the mutants of every exercise of a lab, except those whose result is known for the same content.

    Args:
        jobs: mutants at a time.
        fresh: run all, whatever is known.

    Raises:
        CourseError: the reference itself loses points, so that nothing can be said about its mutants.
        ReplayError: the reference's own run died.
    """
    start = time.monotonic()
    reference = answers.apply(released(course, lab, hidden_tests=True), lab, None)
    graph = Graph(reference)
    exercises = {
        cell.grade_id: cell for cell in lab.cells if cell.role is Role.EXERCISE and cell.kind == "code"
    }
    sources = {grade_id: reference.cells[cell.index].source for grade_id, cell in exercises.items()}
    found = [mutant for cell in exercises.values() for mutant in candidates(cell, sources[cell.grade_id])]
    known = _Known(course, lab, graph)
    mistakes = [
        f"{grade_id}: no test rests on this exercise, so none can notice a mutant"
        for grade_id, cell in exercises.items()
        if not graph.tests_of(cell.index)
    ]
    settled = [mutant if fresh else known.settle(mutant, exercises[mutant.cell].index) for mutant in found]
    waiting = {mutant.id: mutant for mutant, done in zip(found, settled, strict=True) if fresh or done is None}
    ran = _run(course, lab, graph, exercises, waiting, jobs) if waiting else {}
    mutants = [ran.get(mutant.id) or done or mutant for mutant, done in zip(found, settled, strict=True)]
    known.keep(mutants, {grade_id: cell.index for grade_id, cell in exercises.items()})
    mutants, wrong = _declared(mutants, equivalents(course, lab))
    return Report(lab.name, mutants, sources, mistakes + wrong, time.monotonic() - start, len(found) - len(waiting))


def _run(
    course: Course, lab: Lab, graph: Graph, exercises: Mapping[str, Cell], mutants: Mapping[str, Mutant], jobs: int
) -> dict[str, Mutant]:
    """Run mutants through the cells that their tests rest on by name; if the reference needs more, through all."""
    for slices in (True, False):
        runs = _replay(course, lab, graph, exercises, mutants, jobs, slices)
        wrong = [
            f"the {name} itself does not pass: {run.ended or lost}"
            for name, run in runs.items()
            if name not in mutants and (run.ended or (lost := _first_lost(run)))
        ]
        if not wrong:
            return {name: _fate(mutants[name], run, graph) for name, run in runs.items() if name in mutants}
    raise CourseError(f"{lab.name}: {wrong[0]}. So its mutants say nothing; mend that first.")


def _first_lost(run: Execution) -> Verdict | None:
    return next((verdict for verdict in run.verdicts.values() if verdict.status in LOST), None)


def _replay(
    course: Course,
    lab: Lab,
    graph: Graph,
    exercises: Mapping[str, Cell],
    mutants: Mapping[str, Mutant],
    jobs: int,
    slices: bool,
) -> dict[str, Execution]:
    variants, needed = [], set()
    for grade_id in dict.fromkeys(mutant.cell for mutant in mutants.values()):
        index = exercises[grade_id].index
        cells = graph.closure([index, *graph.tests_of(index)]) if slices else set(graph.code)
        needed |= cells
        rest = code(graph.notebook, index + 1, cells)
        control = f"reference at {grade_id}"
        variants.append(Variant(control, index, code(graph.notebook, index, cells)))
        for mutant in mutants.values():
            if mutant.cell == grade_id:
                steps = [(index, mutant.source), *rest]
                variants.append(Variant(mutant.id, index, steps, stop_early=True, pace=control))
    _, runs = replay(course, lab, graph.notebook, variants, jobs=jobs, cells=needed)
    return runs


def _fate(mutant: Mutant, run: Execution, graph: Graph) -> Mutant:
    seconds = sum(run.seconds.values())
    ran = [verdict for verdict in run.verdicts.values() if verdict.status is not Status.NOT_RUN]
    lost = _first_lost(run)
    late = lost is not None and lost.reason.startswith("CellTimeoutError")
    if run.ended == "timed out" or late:
        return replace(mutant, fate=Fate.TIMED_OUT, seconds=seconds, reason="it ran far longer than the reference")
    if run.ended:
        return replace(mutant, fate=Fate.KILLED, seconds=seconds, reason=run.ended)
    if lost:
        return replace(mutant, fate=Fate.KILLED, test=lost.grade_id, seconds=seconds, reason=lost.reason)
    tests = {graph.notebook.cells[index].metadata.nbgrader.grade_id for index in graph.tests_of(_index(graph, mutant))}
    here = any(verdict.status is Status.NOT_HERE for verdict in ran if verdict.grade_id in tests)
    return replace(mutant, fate=Fate.NOT_HERE if here else Fate.SURVIVED, seconds=seconds)


def _index(graph: Graph, mutant: Mutant) -> int:
    cells = graph.notebook.cells
    return next(i for i in graph.code if cells[i].metadata.get("nbgrader", {}).get("grade_id") == mutant.cell)


def _declared(mutants: Sequence[Mutant], declared: Sequence[Equivalent]) -> tuple[list[Mutant], list[str]]:
    """Survivors that are declared become equivalent; a declaration that is not true any more is a mistake."""
    mistakes, out = [], list(mutants)
    for entry in declared:
        meant = [n for n, mutant in enumerate(mutants) if entry.means(mutant)]
        label = f"equivalent.yaml, {entry.cell}: {entry.before.strip()} -> {entry.after.strip()}"
        if not meant:
            mistakes.append(f"{label}: there is no such mutant (any more); take the entry out")
        for n in meant:
            if mutants[n].fate is Fate.SURVIVED:
                out[n] = replace(mutants[n], fate=Fate.EQUIVALENT, reason=entry.reason)
            elif mutants[n].fate in (Fate.KILLED, Fate.TIMED_OUT):
                by = mutants[n].test or mutants[n].fate
                mistakes.append(f"{label}: declared equivalent, but killed ({by}); take the entry out")
    return out, mistakes


class _Known:
    """Results of earlier runs. One holds as long as all cells that took part in it have the same source."""

    def __init__(self, course: Course, lab: Lab, graph: Graph) -> None:
        self.path: Path = cache.folder(course) / "mutants" / f"{lab.name}.json"
        self.graph = graph
        sources = [graph.notebook.cells[index].source for index in graph.code]
        self.around = [cache.rules(Path(__file__)), cache.library(sources), cache.data_of(lab)]
        self.entries = cache.load(self.path)

    def _context(self, mutant: Mutant, index: int, test: str) -> str:
        """The fingerprint of the cells that a mutant meets up to the test that notices it, or to the last one."""
        cells = self.graph.notebook.cells
        tests = self.graph.tests_of(index)
        ids = [cells[i].metadata.nbgrader.grade_id for i in tests]
        through = tests[: ids.index(test) + 1] if test in ids else tests
        involved = sorted(self.graph.closure([index, *through]))
        return cache.digest(self.around, mutant.source, [cells[i].source for i in involved])

    def settle(self, mutant: Mutant, index: int) -> Mutant | None:
        """The mutant with the fate that is known for it, if one is."""
        entry = self.entries.get(mutant.id)
        if not entry or entry["context"] != self._context(mutant, index, entry["test"]):
            return None
        return replace(mutant, fate=Fate(entry["fate"]), test=entry["test"], reason=entry["reason"])

    def keep(self, mutants: Sequence[Mutant], places: Mapping[str, int]) -> None:
        self.entries = {
            m.id: {
                "fate": m.fate,
                "test": m.test,
                "reason": m.reason,
                "context": self._context(m, places[m.cell], m.test),
            }
            for m in mutants
        }
        cache.save(self.path, self.entries)
