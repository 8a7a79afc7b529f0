"""Take an assignment that changed after its release into a gradebook that holds submissions.

nbgrader itself updates cells that are there, and refuses to add or remove any. Here it makes the assignment anew in a
gradebook of its own, and the difference is carried over in one transaction: marks and comments stay with their cells.
"""

from __future__ import annotations

import copy
import json
import logging
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from nbconvert.exporters import Exporter
from nbgrader.api import Base, BaseCell, Comment, Grade, Gradebook, GradeCell, Notebook, SolutionCell, TaskCell
from nbgrader.converters import GenerateAssignment
from sqlalchemy import create_engine

from gradekit.course import Course, CourseError, Role
from gradekit.grading.job import SourceCell, Target
from gradekit.grading.plan import read_targets


@dataclass(frozen=True)
class Revision:
    """What the source says of an assignment, and how it differs from what the gradebook says.

    Attributes:
        targets: all notebooks, those that are to be revised as in the source, the others as in the gradebook.
        renamed: notebook -> old grade id -> new one, of locked cells that are otherwise the same.
        changes: what is different, a line for a person each.
        losses: what marks, comments or answers there are in cells that are gone, a line each.
    """

    targets: tuple[Target, ...]
    notebooks: frozenset[str]
    renamed: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    changes: tuple[str, ...] = ()
    losses: tuple[str, ...] = ()


def revise(course: Course, assignment: str, gradebook: Gradebook, notebooks: Collection[str] = ()) -> Revision:
    """Compare source and gradebook; nothing is written.

    Args:
        notebooks: take only these into account; all when none is named.

    Raises:
        CourseError: the assignment was never generated, nbgrader refuses its source, there is no such notebook, or one
            that the gradebook has is gone.
    """
    old = {target.notebook: target for target in read_targets(course, assignment)}
    with _generated(course, assignment) as scratch:
        new = {target.notebook: target for target in read_targets(scratch, assignment)}
    if gone := sorted(old.keys() - new.keys()):
        raise CourseError(
            f"{', '.join(gone)} is in the gradebook, but no longer in {course.path('source', assignment)}. "
            "Put the notebook back, under its old name."
        )
    if unknown := sorted(set(notebooks) - new.keys()):
        raise CourseError(f"'{assignment}' has no notebook '{unknown[0]}'. It has: {', '.join(sorted(new))}.")
    chosen = frozenset(notebooks or new)
    renamed = {name: _renamed(old[name], new[name]) for name in chosen & old.keys()}
    changes = [line for name in sorted(chosen) for line in _changes(old.get(name), new[name], renamed.get(name, {}))]
    losses = [
        line
        for notebook in gradebook.find_assignment(assignment).notebooks
        if notebook.name in chosen
        for line in _losses(notebook, new[notebook.name], renamed[notebook.name])
    ]
    targets = tuple(
        target if name in chosen else old[name] for name, target in sorted(new.items()) if name in chosen | old.keys()
    )
    return Revision(targets, chosen, renamed, tuple(changes), tuple(losses))


def take_in(gradebook: Gradebook, revision: Revision) -> None:
    """Write the revised notebooks into the gradebook, inside the caller's transaction.

    Rows of cells that are gone go with their grades and comments; each submission gets an empty row for each new one.
    """
    for target in revision.targets:
        if target.notebook in revision.notebooks:
            notebook = gradebook.update_or_create_notebook(
                target.notebook, target.assignment, kernelspec=json.dumps(target.kernelspec)
            )
            for old, new in revision.renamed.get(target.notebook, {}).items():
                for cell in (*notebook._base_cells, *notebook.source_cells):
                    if cell.name == old:
                        cell.name = new
            _remove(gradebook, notebook, target)
            for source in target.cells:
                _write(gradebook, source, target)
            gradebook.db.flush()
            gradebook.db.expire_all()
            _add_rows(gradebook, notebook)


@contextmanager
def _generated(course: Course, assignment: str) -> Iterator[Course]:
    """The course with a gradebook that ``generate_assignment`` has just filled from the source."""
    with tempfile.TemporaryDirectory(prefix="gradekit-revise-") as folder:
        config = copy.deepcopy(course.config)
        config.CourseDirectory.db_url = f"sqlite:///{Path(folder) / 'gradebook.db'}"
        scratch = replace(course, config=config)
        # nbgrader asks alembic, a process of its own that takes seconds, for the version of a gradebook without tables.
        Base.metadata.create_all(create_engine(scratch.db_url))
        with Gradebook(scratch.db_url, scratch.course_id) as gradebook:
            gradebook.add_assignment(assignment)
        exporter = Exporter(config=config)
        for preprocessor in GenerateAssignment(coursedir=scratch.directory, config=config).preprocessors:
            exporter.register_preprocessor(preprocessor, enabled=True)
        for lab in course.labs(assignment):
            names = {"assignment": assignment, "notebook": lab.name, "student": ".", "db_url": scratch.db_url}
            resources = {
                "unique_key": lab.name,
                "metadata": {"name": lab.name, "path": str(lab.path.parent)},
                "nbgrader": names,
            }
            logging.disable(logging.CRITICAL)  # nbgrader logs an error before it raises it; one report is enough
            try:
                exporter.from_notebook_node(lab.notebook, resources)
            except CourseError:
                raise
            except Exception as error:  # RuntimeError, ValueError, ValidationError or its own, as nbgrader pleases
                raise CourseError(f"{lab.path}: nbgrader cannot release this lab: {error}") from None
            finally:
                logging.disable(logging.NOTSET)
        yield scratch


def _renamed(old: Target, new: Target) -> dict[str, str]:
    """Locked cells that only their name tells apart. What students type in keeps its name: their notebooks carry it."""
    before, after = ({cell.grade_id: cell for cell in target.cells} for target in (old, new))

    def same(cell: SourceCell) -> tuple[object, ...]:
        return cell.kind, cell.source, cell.role, cell.locked

    gone = [cell for name, cell in before.items() if name not in after and cell.locked]
    come = [cell for name, cell in after.items() if name not in before and cell.locked]
    pairs = {}
    for cell in gone:
        twins = [other for other in come if same(other) == same(cell)]
        if len(twins) == 1 and sum(same(other) == same(cell) for other in gone) == 1:
            pairs[cell.grade_id] = twins[0].grade_id
    return pairs


def _changes(old: Target | None, new: Target, renamed: Mapping[str, str]) -> Iterator[str]:
    if old is None:
        yield f"{new.notebook}: new notebook"
        return
    before = {renamed.get(cell.grade_id, cell.grade_id): cell for cell in old.cells}
    after = {cell.grade_id: cell for cell in new.cells}
    for name, was in before.items():
        where = f"{new.notebook} {name}"
        now = after.get(name)
        if was.grade_id != name:
            yield f"{where}: renamed, was {was.grade_id}"
        if now is None:
            yield f"{where}: gone"
            continue
        if was.points != now.points:
            yield f"{where}: {was.points:g} points became {now.points:g}"
        if (was.source, was.kind, was.role, was.locked) != (now.source, now.kind, now.role, now.locked):
            yield f"{where}: changed"
    yield from (f"{new.notebook} {name}: new" for name in after if name not in before)
    if old.kernelspec != new.kernelspec:
        yield f"{new.notebook}: another kernel"


def _losses(notebook: Notebook, target: Target, renamed: Mapping[str, str]) -> Iterator[str]:
    wanted = _rows(target)
    for cell in notebook._base_cells:
        name = renamed.get(cell.name, cell.name)
        if (type(cell), name) in wanted:
            continue
        marks = sum(bool(grade.score) or grade.manual_score is not None for grade in cell.grades or ())
        comments = sum(bool(comment.manual_comment) for comment in cell.comments or ())
        where = f"{notebook.name} {cell.name}"
        if marks:
            yield f"{where}: the marks of {marks} students"
        if comments:
            yield f"{where}: the comments for {comments} students"
        if isinstance(cell, SolutionCell) and name not in {c.grade_id for c in target.cells} and notebook.submissions:
            yield f"{where}: what {len(notebook.submissions)} students answered, which carries this name"


def _rows(target: Target) -> set[tuple[type[BaseCell], str]]:
    """The rows that nbgrader keeps for the cells of a notebook, besides their sources."""
    rows: set[tuple[type[BaseCell], str]] = set()
    for cell in target.cells:
        if cell.role in (Role.TEST, Role.MANUAL):
            rows.add((GradeCell if cell.metadata()["grade"] else TaskCell, cell.grade_id))
        if cell.solution:
            rows.add((SolutionCell, cell.grade_id))
    return rows


def _remove(gradebook: Gradebook, notebook: Notebook, target: Target) -> None:
    wanted, names = _rows(target), {cell.grade_id for cell in target.cells}
    for cell in list(notebook._base_cells):
        if (type(cell), cell.name) not in wanted:
            for row in (*(cell.grades or ()), *(cell.comments or ())):
                gradebook.db.delete(row)
            gradebook.db.delete(cell)
    for source in list(notebook.source_cells):
        if source.name not in names:
            gradebook.db.delete(source)
    gradebook.db.flush()
    gradebook.db.expire_all()


def _write(gradebook: Gradebook, cell: SourceCell, target: Target) -> None:
    place = (cell.grade_id, target.notebook, target.assignment)
    meta = cell.metadata()
    if meta["task"]:
        gradebook.update_or_create_task_cell(*place, max_score=cell.points, cell_type=cell.kind)
    elif meta["grade"]:
        gradebook.update_or_create_grade_cell(*place, max_score=cell.points, cell_type=cell.kind)
    if cell.solution:
        gradebook.update_or_create_solution_cell(*place)
    gradebook.update_or_create_source_cell(
        *place, cell_type=cell.kind, locked=cell.locked, source=cell.source, checksum=cell.checksum
    )


def _add_rows(gradebook: Gradebook, notebook: Notebook) -> None:
    """nbgrader's pages and feedback ask for a row of each cell in each submission."""
    graded: Sequence[BaseCell] = [*notebook.grade_cells, *notebook.task_cells]
    answered: Sequence[BaseCell] = [*notebook.solution_cells, *notebook.task_cells]
    for submitted in notebook.submissions:
        marked, commented = ({row.cell_id for row in rows} for rows in (submitted.grades, submitted.comments))
        gradebook.db.add_all(Grade(cell_id=c.id, notebook=submitted) for c in graded if c.id not in marked)
        gradebook.db.add_all(Comment(cell_id=c.id, notebook=submitted) for c in answered if c.id not in commented)
    gradebook.db.flush()
