"""The domain: a course directory, its assignments, labs, cells and submissions, as nbgrader lays them out.

Works on any nbgrader course: folder names and the directory structure come from its ``nbgrader_config.py``.
"""

from __future__ import annotations

import fnmatch
import glob
import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from pathlib import Path

import nbformat
from nbgrader.apps.baseapp import NbGrader
from nbgrader.coursedir import CourseDirectory
from nbgrader.utils import is_grade, is_locked, is_solution, is_task
from nbgrader.utils import parse_utc as parse_timestamp
from traitlets.config import Config


class CourseError(Exception):
    """Something in the course directory is not as it must be. The message says what to do."""


class Role(StrEnum):
    """What a cell is to the grader, read from its nbgrader metadata."""

    EXERCISE = "exercise"  # the student's code: solution, not graded itself
    TEST = "test"  # graded and locked
    GIVEN = "given"  # locked, not graded: imports and helpers that tests rely on
    MANUAL = "manual"  # graded and solution, or a task: marked by a person
    PLAIN = "plain"  # no nbgrader metadata: prose, a playground


@dataclass(frozen=True)
class Cell:
    """One cell of a notebook; ``index`` counts all cells from 0, ``grade_id`` is empty for a plain cell."""

    index: int
    kind: str
    source: str
    role: Role
    grade_id: str
    points: float


def role_of(cell: nbformat.NotebookNode) -> Role:
    """The role that a notebook cell's nbgrader metadata gives it."""
    if is_task(cell) or (is_grade(cell) and is_solution(cell)):
        return Role.MANUAL
    if is_grade(cell):
        return Role.TEST
    if is_solution(cell):
        return Role.EXERCISE
    return Role.GIVEN if is_locked(cell) else Role.PLAIN


def cells_of(notebook: nbformat.NotebookNode) -> list[Cell]:
    """The cells of a notebook in order."""
    cells = []
    for index, cell in enumerate(notebook.cells):
        meta = cell.metadata.get("nbgrader", {})
        role = role_of(cell)
        points = float(meta.get("points", 0)) if role in (Role.TEST, Role.MANUAL) else 0.0
        cells.append(Cell(index, cell.cell_type, cell.source, role, meta.get("grade_id", ""), points))
    return cells


def read_notebook(path: Path) -> nbformat.NotebookNode:
    """Read a notebook as nbformat 4.

    Raises:
        CourseError: the file is missing, or is not a notebook.
    """
    try:
        return nbformat.read(path, as_version=4)
    except FileNotFoundError:
        raise CourseError(f"{path}: there is no such notebook") from None
    except OSError as error:
        raise CourseError(f"{path}: cannot be read ({error.strerror})") from None
    except Exception as error:  # nbformat raises whatever the JSON or the schema does
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CourseError(f"{path}: not a notebook that nbformat can read ({reason})") from None


#: The folder in an assignment that holds its readiness notebook: nbgrader makes and grades no notebook in a folder.
READINESS = "readiness"


@dataclass(frozen=True)
class Lab:
    """An instructor's notebook: ``source/<assignment>/<name>.ipynb``, or a readiness notebook one folder deeper."""

    assignment: str
    path: Path

    @property
    def is_readiness(self) -> bool:
        """Whether this is an ungraded readiness notebook."""
        return self.path.parent.name == READINESS

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def text(self) -> Path:
        """The other half of the pair: the percent-format text."""
        return self.path.with_suffix(".py")

    @cached_property
    def notebook(self) -> nbformat.NotebookNode:
        return read_notebook(self.path)

    @cached_property
    def cells(self) -> list[Cell]:
        return cells_of(self.notebook)

    def points(self, *roles: Role) -> float:
        """The points of all cells that have one of ``roles``."""
        return sum(cell.points for cell in self.cells if cell.role in roles)


@dataclass(frozen=True)
class Submission:
    """One student's folder for one assignment, as collected."""

    student: str
    assignment: str
    folder: Path

    @property
    def timestamp(self) -> datetime | None:
        """When it was submitted (UTC), or None when nbgrader left no readable timestamp."""
        try:
            return parse_timestamp((self.folder / "timestamp.txt").read_text().strip())
        except (OSError, ValueError):
            return None


class _Configured(NbGrader):
    """nbgrader's own way to find and read configuration, without its command line."""

    name = "nbgrader"
    load_cwd_config = False


@dataclass(frozen=True)
class Course:
    """A course directory.

    Attributes:
        root: the folder that holds ``nbgrader_config.py``.
        config: nbgrader's merged configuration, for its own classes.
    """

    root: Path
    config: Config

    @classmethod
    def open(cls, root: Path) -> Course:
        """Read the configuration of the course in ``root``.

        Raises:
            CourseError: ``root`` is not a course directory.
        """
        root = root.resolve()
        if not (root / "nbgrader_config.py").is_file() and not (root / "source").is_dir():
            raise CourseError(
                f"{root} is not a course: it has neither nbgrader_config.py nor source/. "
                "Run this in the course's folder, or name it with --course-dir."
            )
        _put_scripts_on_path()
        app = _Configured(log_level=logging.ERROR)
        app.initialize(argv=[], root=str(root))
        config = app.config.copy()
        config.CourseDirectory.root = str(root)
        return cls(root, config)

    @cached_property
    def directory(self) -> CourseDirectory:
        """nbgrader's own view of the course."""
        return CourseDirectory(config=self.config)

    @property
    def course_id(self) -> str:
        return self.directory.course_id

    @property
    def db_url(self) -> str:
        return self.directory.db_url

    def path(self, step: str, assignment: str, student: str = ".") -> Path:
        """The folder of a step of nbgrader's: ``source``, ``release``, ``submitted``, ``autograded``, ``feedback``."""
        name = getattr(self.directory, f"{step}_directory")
        return Path(self.directory.format_path(name, student, assignment)).resolve()

    @property
    def assignments(self) -> list[str]:
        """The assignments in the source folder that hold at least one notebook, by name."""
        return sorted({name for name, folder in self._folders("source", ".", "*") if any(folder.glob("*.ipynb"))})

    def require(self, assignment: str) -> str:
        """``assignment`` itself when it exists.

        Raises:
            CourseError: it does not; the message lists those that do.
        """
        if assignment not in self.assignments:
            known = ", ".join(self.assignments) or "none yet"
            raise CourseError(
                f"There is no assignment '{assignment}' in {self.path('source', '.')}. There are: {known}."
            )
        return assignment

    def labs(self, assignment: str | None = None) -> list[Lab]:
        """The labs of one assignment, or of all."""
        names = self.assignments if assignment is None else [self.require(assignment)]
        return [Lab(name, path) for name in names for path in sorted(self.path("source", name).glob("*.ipynb"))]

    @property
    def readiness(self) -> list[Lab]:
        """The readiness notebooks, ``source/<assignment>/readiness/<module id>-readiness.ipynb``: never graded."""
        folders = sorted(self._folders("source", ".", "*"))
        return [Lab(name, path) for name, folder in folders for path in sorted(folder.glob(f"{READINESS}/*.ipynb"))]

    def lab(self, name: str) -> Lab:
        """A lab by its name, or by an id such as ``1.3.1`` that starts exactly one name.

        Raises:
            CourseError: no lab, or more than one, is called so.
        """
        labs = self.labs()
        found = [lab for lab in labs if lab.name == name] or [lab for lab in labs if lab.name.startswith(f"{name}-")]
        if len(found) != 1:
            known = ", ".join(lab.name for lab in found or labs) or "none yet"
            what = "More than one lab is" if found else "No lab is"
            raise CourseError(f"{what} called '{name}'. There are: {known}.")
        return found[0]

    def submissions(self, assignment: str, students: str = "*") -> list[Submission]:
        """The collected submissions of an assignment whose student matches the glob, by student.

        As in nbgrader, ``CourseDirectory.student_id_exclude`` leaves students out.
        """
        excluded = [name.strip() for name in self.directory.student_id_exclude.split(",")]
        return sorted(
            (
                Submission(student, assignment, folder)
                for student, folder in self._folders("submitted", students, glob.escape(assignment))
                if not any(fnmatch.fnmatchcase(student, name) for name in excluded)
            ),
            key=lambda submission: submission.student,
        )

    def _folders(self, step: str, student: str, assignment: str) -> Iterator[tuple[str, Path]]:
        """The folders of a step that match globs, whatever the course's ``directory_structure`` is.

        Yields the student of each, or the assignment when ``student`` is ``"."``.
        """
        directory, own = self.directory, getattr(self.directory, f"{step}_directory")
        varies = "assignment_id" if student == "." else "student_id"
        globs = {"nbgrader_step": glob.escape(own), "student_id": student, "assignment_id": assignment}
        named = {"nbgrader_step": re.escape(own), "student_id": re.escape(student), "assignment_id": "[^/]+"}
        structure = re.escape(os.path.join(directory.root, directory.directory_structure))
        for field, value in (named | {varies: "(?P<name>[^/]+)"}).items():
            structure = structure.replace(re.escape("{" + field + "}"), value)
        pattern = os.path.join(glob.escape(directory.root), directory.directory_structure.format(**globs))
        for found in glob.glob(pattern):
            match = re.fullmatch(structure, found)
            if match and Path(found).is_dir():
                yield match["name"], Path(found)

    @property
    def exchange(self) -> Path:
        """The root of nbgrader's exchange."""
        from nbgrader.exchange.default.exchange import Exchange

        return Path(Exchange(coursedir=self.directory, config=self.config).root)


def _put_scripts_on_path() -> None:
    """nbgrader runs ``alembic`` by its bare name to make a gradebook, also when the environment is not activated."""
    scripts = str(Path(sys.executable).parent)
    paths = os.environ.get("PATH", os.defpath).split(os.pathsep)
    if scripts not in paths:
        os.environ["PATH"] = os.pathsep.join([scripts, *paths])


def dump_json(value: object) -> str:
    """JSON as all of gradekit's ``--json`` options print it."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)
