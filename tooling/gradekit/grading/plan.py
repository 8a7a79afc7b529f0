"""What has to be graded: submissions and the gradebook's view of the assignment in, jobs out."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nbformat import NotebookNode
from nbgrader.api import Gradebook, MissingEntry, Notebook
from nbgrader.converters import Autograde
from nbgrader.preprocessors import ClearHiddenTests, ClearMarkScheme, Execute, LimitOutput
from nbgrader.utils import find_all_files

from gradekit.course import Cell, Course, CourseError, Lab, Role, Submission, cells_of, read_notebook
from gradekit.grading.job import Job, SourceCell, Target, digest
from gradekit.grading.sanitize import sanitize
from gradekit.integrity.canaries import Canaries, Plant, digest_of, place
from gradekit.kernels import Limits
from gradekit.kernels.preload import choose
from gradekit.syllabus import load

#: The most that a submission's other files may hold; nbgrader's exchange lets no larger folder through.
MAX_FILES_BYTES = 100_000_000
#: Bounds on what a folder may be like; a place below another folder must still hold its longest path.
MAX_FILES, MAX_PATH = 10_000, 1_000
#: Beside the executed notebooks in the autograded folder: the fingerprint, and what a TA may ask of a verdict.
RECORD = ".gradekit.json"
#: Tiers of the syllabus whose labs are given a GPU where there is one.
GPU_TIERS = ("gpu-optional", "gpu-required")


@dataclass(frozen=True)
class Planned:
    """A submission that has to be graded.

    Attributes:
        jobs: one per notebook of the assignment.
        fingerprint: of all that the marks depend on; a submission whose recorded one is the same is not graded again.
        work: the fingerprint of what the student handed in alone.
        findings: what is odd about the folder, in words for a TA.
    """

    submission: Submission
    jobs: tuple[Job, ...]
    files: dict[str, bytes]
    fingerprint: str
    work: str
    findings: tuple[str, ...] = ()


class Planner:
    """Turns the submissions of one assignment into jobs.

    Args:
        course: the course.
        assignment: its name.
        limits: what each job may use.
        targets: its notebooks; by default as the gradebook has them.

    Raises:
        CourseError: the assignment is unknown, or has never been generated.
    """

    def __init__(
        self, course: Course, assignment: str, limits: Limits, targets: tuple[Target, ...] | None = None
    ) -> None:
        self.course, self.assignment, self.limits = course, assignment, limits
        course.require(assignment)
        self.targets = read_targets(course, assignment) if targets is None else targets
        spared = Autograde(coursedir=course.directory, config=course.config).exclude_overwriting.get(assignment, [])
        master = dict(_files(course.path("source", assignment), course, notebooks=False))
        self.master = {name: content for name, content in master.items() if name not in spared}
        labs = course.labs(assignment)
        self.preload = choose(lab.path for lab in labs)
        self.gpu = _want_gpu(course, labs)
        timeout = Execute(config=course.config).timeout
        self.cell_timeout = float(timeout or limits.wall_s)
        output = LimitOutput(config=course.config)
        self.output_lines = (output.max_lines, output.max_traceback)
        self.handed_out = {target.notebook: _handed_out(course, assignment, target.notebook) for target in self.targets}
        self.plants = {target.notebook: _plants(course, target) for target in self.targets}
        # Whether there are canaries counts, not which: they are made again now and then, and the marks are the same.
        covered = repr([bool(self.plants[target.notebook]) for target in self.targets])
        self._base = digest(*self._target_bytes(), *_listing(self.master), repr(limits).encode(), covered.encode())

    def _target_bytes(self) -> Iterator[bytes]:
        for target in self.targets:
            yield repr(target).encode()

    def plan(self, submission: Submission) -> Planned:
        """The jobs of one submission. Reads regular files only: a link that a student left leads nowhere."""
        findings: list[str] = []
        own = dict(_files(submission.folder, self.course, findings=findings))
        names = {f"{target.notebook}.ipynb" for target in self.targets}
        stray = sorted(name for name in own if name.endswith(".ipynb") and "/" not in name and name not in names)
        absent = sorted(names - own.keys())
        if stray and absent:
            findings.append(
                f"{', '.join(absent)} is missing, but there is {', '.join(stray)}: renamed? "
                f"If so, give it its name back in {submission.folder} and grade again"
            )
        # The course's files, the notebooks and our record win, also where a student put a folder in a file's place.
        fixed = {*self.master, *names, RECORD}
        folders = {str(parent) for name in fixed for parent in Path(name).parents}
        files = {n: c for n, c in own.items() if n not in folders and fixed.isdisjoint(_and_parents(n))} | self.master
        jobs = []
        for target in self.targets:
            clean = sanitize(own.get(f"{target.notebook}.ipynb"), target, self.handed_out[target.notebook])
            jobs.append(
                Job(
                    student=submission.student,
                    target=target,
                    notebook=json.dumps(clean.notebook),
                    files={n: c for n, c in files.items() if not n.endswith(".ipynb")},
                    unchanged=clean.unchanged,
                    limits=self.limits,
                    preload=self.preload,
                    cell_timeout=self.cell_timeout,
                    output_lines=self.output_lines,
                    findings=clean.findings,
                    unreadable=clean.unreadable,
                    gpu=target.notebook in self.gpu,
                    plants=self.plants[target.notebook],
                )
            )
        fingerprint = digest(self._base.encode(), *_listing(own))
        return Planned(submission, tuple(jobs), files, fingerprint, digest(*_listing(own)), tuple(findings))


def _and_parents(name: str) -> Iterator[str]:
    path = Path(name)
    yield from (name, *map(str, path.parents))


def read_targets(course: Course, assignment: str) -> tuple[Target, ...]:
    """The notebooks of an assignment as ``nbgrader generate_assignment`` left them in the gradebook."""
    with Gradebook(course.db_url, course.course_id) as gradebook:
        try:
            notebooks = gradebook.find_assignment(assignment).notebooks
        except MissingEntry:
            notebooks = []
        if not notebooks:
            raise CourseError(
                f"The gradebook does not know '{assignment}' yet. "
                f"Run `nbgrader generate_assignment {assignment}` first."
            )
        return tuple(_target(course, assignment, notebook) for notebook in sorted(notebooks, key=lambda n: n.name))


def _target(course: Course, assignment: str, notebook: Notebook) -> Target:
    graded = {cell.name: cell for cell in [*notebook.grade_cells, *notebook.task_cells]}
    solutions = {cell.name for cell in notebook.solution_cells}
    clear = (ClearHiddenTests(config=course.config), ClearMarkScheme(config=course.config))
    cells = []
    for source in notebook.source_cells:
        name = source.name
        if name in graded:
            tested = name in {c.name for c in notebook.grade_cells} and name not in solutions
            role = Role.TEST if tested else Role.MANUAL
        else:
            role = Role.EXERCISE if name in solutions else Role.GIVEN
        cells.append(
            SourceCell(
                grade_id=name,
                kind=source.cell_type,
                source=source.source,
                released=_released(source.source, source.cell_type, clear),
                role=role,
                points=float(graded[name].max_score) if name in graded else 0.0,
                locked=bool(source.locked),
                solution=name in solutions,
                checksum=source.checksum,
            )
        )
    source_cells = _source_cells(course, assignment, notebook.name)
    order = {cell.grade_id: cell.index for cell in source_cells if cell.grade_id}
    plain = tuple(cell.source for cell in source_cells if cell.role is Role.PLAIN and cell.kind == "code")
    cells.sort(key=lambda cell: order.get(cell.grade_id, len(order)))
    kernelspec = json.loads(notebook.kernelspec) if notebook.kernelspec else {}
    return Target(assignment, notebook.name, kernelspec, tuple(cells), plain)


def _plants(course: Course, target: Target) -> tuple[Plant, ...]:
    """The canaries that were made for the notebook as the gradebook has it; none for one that has changed since."""
    canaries = Canaries.load(place(course.root, target.assignment, target.notebook))
    cells = {cell.grade_id: cell.source for cell in target.cells}
    return canaries.plants if canaries and canaries.digest == digest_of(cells) else ()


def _want_gpu(course: Course, labs: list[Lab]) -> frozenset[str]:
    """The notebooks that are given a GPU where there is one: the syllabus says so, or their own metadata."""
    try:
        tiers = {lab.slug: lab.tier for lab in load(course.root / "syllabus.yaml").labs}
    except CourseError:  # a course without a syllabus
        tiers = {}
    wanted = set()
    for lab in labs:
        try:
            own = lab.notebook.metadata.get("gradekit", {})
        except CourseError:
            own = {}
        if own.get("gpu", tiers.get(lab.name) in GPU_TIERS):
            wanted.add(lab.name)
    return frozenset(wanted)


def _source_cells(course: Course, assignment: str, name: str) -> list[Cell]:
    """The cells of the source notebook: the gradebook keeps those it knows in no order, and the others not at all."""
    try:
        return cells_of(read_notebook(course.path("source", assignment) / f"{name}.ipynb"))
    except CourseError:
        return []


def _handed_out(course: Course, assignment: str, name: str) -> dict[str, str]:
    """Grade id -> the cell in the release folder: what students fetched, also when tests were mended since."""
    try:
        cells = cells_of(read_notebook(course.path("release", assignment) / f"{name}.ipynb"))
    except CourseError:
        return {}
    return {cell.grade_id: cell.source for cell in cells if cell.grade_id}


def _released(source: str, kind: str, clear: tuple[ClearHiddenTests, ClearMarkScheme]) -> str:
    cell = NotebookNode(cell_type=kind, source=source, metadata={})
    hidden, scheme = clear
    hidden._remove_hidden_test_region(cell)
    scheme._remove_mark_scheme_region(cell)
    return cell.source


def _files(
    folder: Path, course: Course, *, notebooks: bool = True, findings: list[str] | None = None
) -> Iterator[tuple[str, bytes]]:
    """Path below ``folder`` -> content, for regular files that nbgrader would not ignore, up to a total size."""
    ignore = [*course.directory.ignore, *([] if notebooks else ["*.ipynb"])]
    total = 0
    odd: list[str] = []
    for number, path in enumerate(sorted(find_all_files(str(folder), ignore))):
        name = os.path.relpath(path, folder)
        if number >= MAX_FILES:
            odd.append(f"all after the first {MAX_FILES:,}")
            break
        if len(os.fsencode(name)) > MAX_PATH:
            odd.append(f"{name[:60]}... (too deep)")
            continue
        try:
            # O_NOFOLLOW and O_NONBLOCK: neither a link nor a pipe may lead or hold the grader.
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            odd.append(name)
            continue
        with open(fd, "rb") as file:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                odd.append(name)
                continue
            total += status.st_size
            if total > MAX_FILES_BYTES:
                odd.append(f"{name} (too large)")
                continue
            yield name, file.read(MAX_FILES_BYTES)
    if odd and findings is not None:
        shown = ", ".join(odd[:10]).encode(errors="replace").decode()
        findings.append(f"left out of the submission, being no readable file: {shown}")


def _listing(files: dict[str, bytes]) -> Iterator[bytes]:
    for name, content in sorted(files.items()):
        yield name.encode(errors="surrogateescape")
        yield content
