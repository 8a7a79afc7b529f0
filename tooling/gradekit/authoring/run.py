"""Run a notebook in a kernel of its own, and keep what each cell did and cost."""

from __future__ import annotations

import copy
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from nbformat import NotebookNode
from nbgrader.utils import is_grade

from gradekit.course import Course, Lab
from gradekit.grading.judge import Verdict, judge


@dataclass(frozen=True)
class Execution:
    """What a run of a notebook did.

    Attributes:
        notebook: with the outputs of the cells that ran.
        seconds: of each code cell that came to its end, by the index of the cell.
        peak: the largest resident size of its process, in bytes; 0 when it is not known.
        ended: why the run ended before the notebook did; empty when it did not.
    """

    notebook: NotebookNode
    seconds: Mapping[int, float]
    peak: int
    ended: str = ""
    verdicts: Mapping[str, Verdict] = field(init=False)

    def __post_init__(self) -> None:
        verdicts = [
            judge(cell, ran=index in self.seconds or cell.cell_type != "code", why_not_run=self.ended)
            for index, cell in enumerate(self.notebook.cells)
            if is_grade(cell) and cell.cell_type == "code"
        ]
        object.__setattr__(self, "verdicts", {verdict.grade_id: verdict for verdict in verdicts})


@contextmanager
def workplace(course: Course, lab: Lab) -> Iterator[Path]:
    """A throw-away copy of what lies beside the lab for students: nbgrader's ignore list and the notebooks left out."""
    ignored = shutil.ignore_patterns(*course.directory.ignore, "*.ipynb")
    with tempfile.TemporaryDirectory(prefix="gradekit-") as folder:
        yield Path(shutil.copytree(lab.path.parent, Path(folder) / "here", symlinks=True, ignore=ignored))


def blank(notebook: NotebookNode) -> NotebookNode:
    """A copy without outputs."""
    notebook = copy.deepcopy(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook
