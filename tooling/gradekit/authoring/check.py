"""Bring labs through the gates: two at a time, and nothing twice that has passed with the same content."""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path

from gradekit.authoring import answers, cache
from gradekit.authoring.gates import GATES, READINESS_GATES
from gradekit.authoring.gates.subject import Fault, Gate, Subject
from gradekit.course import Course, CourseError, Lab
from gradekit.syllabus import load as load_syllabus


class State(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    NOT_APPLICABLE = "does not apply"


@dataclass(frozen=True)
class GateResult:
    """What one gate said. The seconds of a run that gates share count for the first that needed it."""

    number: int
    name: str
    state: State
    faults: Sequence[str]
    seconds: float
    known: bool = False


@dataclass(frozen=True)
class LabResult:
    """What all gates said about a lab; ``seconds`` is the time that it took, waiting for a core included."""

    lab: str
    assignment: str
    gates: Sequence[GateResult]
    seconds: float
    is_readiness: bool = False

    @property
    def passed(self) -> bool:
        return all(gate.state is not State.FAILED for gate in self.gates)

    @property
    def known(self) -> bool:
        """Whether nothing had to run."""
        return all(gate.known for gate in self.gates if gate.state is not State.NOT_APPLICABLE)


def chosen(course: Course, names: Sequence[str] | None) -> list[Lab]:
    """The labs and readiness notebooks of these names or ids; all when none is given.

    Raises:
        CourseError: there is nothing of such a name, or nothing at all.
    """
    readiness = {lab.name: lab for lab in course.readiness}
    if names:
        return [readiness.get(name) or course.lab(name) for name in names]
    labs = course.labs()
    if not labs:
        raise CourseError(f"{course.path('source', '.')} holds no lab yet.")
    return [*labs, *readiness.values()]


def check(
    course: Course, labs: Sequence[Lab], *, jobs: int = 2, fresh: bool = False
) -> Iterator[LabResult]:
    """Check labs, ``jobs`` at a time, and yield each result when it is there.

    Args:
        fresh: run everything, whatever has passed before.
    """
    ours = planned(course)
    share = jobs if len(labs) == 1 else 1
    with ThreadPoolExecutor(max_workers=jobs) as pool:
        todo = [pool.submit(check_lab, course, lab, lab.name in ours, share, fresh) for lab in labs]
        for done in as_completed(todo):
            yield done.result()


def passed_before(course: Course, lab: Lab, *, gates: Sequence[Gate] = GATES) -> tuple[int, int]:
    """How many gates the lab passed when it was last checked, as it is now, of how many that apply. Runs nothing."""
    ours = lab.name in planned(course)
    passed = cache.load(_passes(course, lab))
    applicable = [gate for gate in gates if ours or gate.everywhere]
    try:
        keys = contents(course, lab, ours, applicable)
    except CourseError:  # the notebook cannot be read
        return 0, len(applicable)
    return sum(passed.get(str(gate.number)) == keys[gate.number] for gate in applicable), len(applicable)


def planned(course: Course) -> frozenset[str]:
    """What the course's syllabus has, labs and readiness notebooks, which keep every rule; none without a syllabus."""
    path = course.root / "syllabus.yaml"
    return _planned(path, path.stat().st_mtime_ns) if path.exists() else frozenset()


@lru_cache(maxsize=1)
def _planned(path: Path, changed: int) -> frozenset[str]:
    syllabus = load_syllabus(path)
    return frozenset({lab.slug for lab in syllabus.labs} | {f"{module.id}-readiness" for module in syllabus.modules})


def _passes(course: Course, lab: Lab) -> Path:
    """Where the gates that a lab passed are kept, each with the content that passed it."""
    return cache.folder(course) / "gates" / f"{lab.name}.json"


def check_lab(
    course: Course, lab: Lab, ours: bool, jobs: int = 2, fresh: bool = False, gates: Sequence[Gate] | None = None
) -> LabResult:
    """Bring one lab through its gates: those of labs, or of readiness notebooks."""
    start = time.monotonic()
    gates = (READINESS_GATES if lab.is_readiness else GATES) if gates is None else gates
    path = _passes(course, lab)
    passed = {} if fresh else cache.load(path)
    applicable = [gate for gate in gates if ours or gate.everywhere]
    try:
        keys = contents(course, lab, ours, gates)
    except CourseError as error:  # the notebook cannot be read: no gate can run
        unread = [GateResult(gate.number, gate.name, State.FAILED, [str(error)], 0.0) for gate in gates]
        return LabResult(lab.name, lab.assignment, unread, time.monotonic() - start, lab.is_readiness)
    todo = [gate for gate in applicable if passed.get(str(gate.number)) != keys[gate.number]]
    subject = Subject(course, lab, ours, todo, jobs, fresh)
    results = []
    for gate in gates:
        if gate not in applicable:
            results.append(GateResult(gate.number, gate.name, State.NOT_APPLICABLE, [], 0.0))
        elif gate not in todo:
            results.append(GateResult(gate.number, gate.name, State.PASSED, [], 0.0, known=True))
        else:
            results.append(run_gate(gate, subject))
    kept = {str(result.number): keys[result.number] for result in results if result.state is State.PASSED}
    cache.save(path, kept)
    return LabResult(lab.name, lab.assignment, results, time.monotonic() - start, lab.is_readiness)


def run_gate(gate: Gate, subject: Subject) -> GateResult:
    """Run one gate. Whatever it raises is a fault: a gate that could not run has not been passed."""
    start = time.monotonic()
    try:
        faults = [str(fault) for fault in gate.check(subject)]
    except Exception as error:
        faults = [str(Fault(f"the gate could not run: {error or type(error).__name__}"))]
    state = State.FAILED if faults else State.PASSED
    return GateResult(gate.number, gate.name, state, faults, time.monotonic() - start)


def contents(course: Course, lab: Lab, ours: bool, gates: Sequence[Gate]) -> dict[int, str]:
    """The fingerprint of all that each gate looks at; for one that reads no prose, of code and answers alone."""
    cells = [(cell.kind, cell.source, str(cell.role), cell.grade_id, cell.points) for cell in lab.cells]
    text = lab.text.read_text(encoding="utf-8") if lab.text.exists() else ""
    code = [cell for cell in cells if cell[0] == "code"]
    config = [course.root / "nbgrader_config.py", course.root / "pyproject.toml"]
    around = cache.digest(
        ours,
        code,
        cache.library(code_of(course, lab)),
        cache.files(answers.folder(course, lab).glob("*")),
        cache.files(config),
        cache.data_of(lab),
    )
    prose = cache.digest(cells, lab.path.read_text(encoding="utf-8"), text)
    return {
        gate.number: cache.digest(around, cache.rules(Path(inspect.getfile(gate.check))), prose if gate.prose else "")
        for gate in gates
    }


def code_of(course: Course, lab: Lab) -> list[str]:
    """Everything of a lab that may import: its code cells, its answers, and modules among its data."""
    beside = [*answers.folder(course, lab).glob("*.py"), *(lab.path.parent / "data").rglob("*.py")]
    cells = [cell.source for cell in lab.cells if cell.kind == "code"]
    return cells + [path.read_text(encoding="utf-8", errors="replace") for path in sorted(beside)]
