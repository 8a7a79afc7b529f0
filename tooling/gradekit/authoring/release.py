"""The notebooks that nbgrader makes of a lab, in memory and without a database, and what it takes out."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from nbconvert.exporters import Exporter
from nbformat import NotebookNode
from nbgrader.converters import GenerateAssignment
from nbgrader.preprocessors import ClearHiddenTests, ClearMarkScheme, IncludeHeaderFooter, SaveCells

from gradekit.course import Cell, Course, CourseError, Lab


def released(course: Course, lab: Lab, *, hidden_tests: bool = False) -> NotebookNode:
    """What a student gets: the lab after the preprocessors of the course's own ``generate_assignment``.

    Args:
        course: its configuration chooses the preprocessors, the stub and the markers.
        lab: the instructor's notebook; it is not changed.
        hidden_tests: keep hidden tests and mark schemes, as when it is graded, and add no header or footer: cell for
            cell the instructor's notebook, with stubs.

    Raises:
        CourseError: nbgrader refuses the lab (unbalanced markers, duplicate or missing ids).
    """
    left_out = (SaveCells, IncludeHeaderFooter, ClearHiddenTests, ClearMarkScheme) if hidden_tests else (SaveCells,)
    converter = GenerateAssignment(coursedir=course.directory, config=course.config)
    exporter = Exporter(config=course.config)
    for preprocessor in converter.preprocessors:
        if preprocessor not in left_out:
            exporter.register_preprocessor(preprocessor, enabled=True)
    resources = {
        "unique_key": lab.name,
        "metadata": {"name": lab.name, "path": str(lab.path.parent)},
        "nbgrader": {"assignment": lab.assignment, "notebook": lab.name, "student": ".", "db_url": course.db_url},
    }
    try:
        with _silent():
            notebook, _ = exporter.from_notebook_node(lab.notebook, resources)
    except Exception as error:  # RuntimeError, ValueError, ValidationError or its own, as nbgrader pleases
        raise CourseError(f"{lab.path}: nbgrader cannot release this lab: {error}") from None
    return notebook


def solution_lines(cell: Cell) -> list[tuple[int, str]]:
    """Number (from 1) and text of the lines between the solution markers."""
    inside, found = False, []
    for number, line in enumerate(cell.source.splitlines(), 1):
        if "BEGIN SOLUTION" in line:
            inside = True
        elif "END SOLUTION" in line:
            inside = False
        elif inside:
            found.append((number, line))
    return found


@contextmanager
def _silent() -> Iterator[None]:
    """nbgrader logs an error before it raises it; one report is enough."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
