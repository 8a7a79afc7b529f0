"""The rule for a verdict: what an executed graded cell is worth, and why.

An error zeroes its cell, and only that. A warning on stderr costs nothing. A number as the last expression is partial
credit when it lies between 0 and the points. Any other last value is no credit, and a finding for a person to read.
"""

from __future__ import annotations

import ast
import math
from dataclasses import dataclass
from enum import StrEnum

from nbformat import NotebookNode
from nbgrader.utils import is_task

from gradekit.course import Role, role_of

#: What a test raises (labkit.hardware) when this machine cannot run it: neither passed nor zero.
NOT_GRADED_HERE = "NotGradedHere"
#: How it asks.
ASKS_FOR_HARDWARE = "require_gpu("


class Status(StrEnum):
    """How a graded cell ended."""

    PASSED = "passed"
    PARTIAL = "partial"
    FAILED = "failed"
    ODD = "odd value"  # the last expression is not a number between 0 and the points
    NOT_RUN = "not run"  # the kernel ended before or in this cell
    UNREADABLE = "unreadable"  # the notebook is missing, or none
    NOT_HERE = "not graded here"  # needs hardware that this machine has not
    HELD = "held"  # evidence speaks against it: no points until a person gives them
    MANUAL = "for a person"
    BLANK = "no response"  # a manual cell left as released


@dataclass(frozen=True)
class Verdict:
    """The verdict on one graded cell. ``score`` is None when only a person, or another machine, can give it.

    ``would_be`` is what a held cell would have earned.
    """

    grade_id: str
    status: Status
    score: float | None
    points: float
    reason: str = ""
    would_be: float | None = None


def judge(cell: NotebookNode, *, ran: bool = True, changed: bool = True, why_not_run: str = "") -> Verdict:
    """The verdict on one executed cell.

    Args:
        cell: a graded cell with the outputs of its execution.
        ran: whether its execution came to an end.
        changed: for a manual cell, whether the student wrote anything in it.
        why_not_run: what ended the kernel, for the reason.
    """
    meta = cell.metadata["nbgrader"]
    grade_id, points = meta["grade_id"], float(meta.get("points", 0))
    if role_of(cell) is Role.MANUAL:
        if changed or is_task(cell):  # a task is answered in cells of the student's own: its text stays as it is
            return Verdict(grade_id, Status.MANUAL, None, points)
        return Verdict(grade_id, Status.BLANK, 0.0, points, "left as it was released")
    if cell.cell_type != "code":
        return Verdict(grade_id, Status.MANUAL, None, points)
    if not ran:
        return Verdict(grade_id, Status.NOT_RUN, 0.0, points, why_not_run)
    values = []
    for output in cell.outputs:
        if output.output_type == "error":
            reason = f"{output.ename}: {first_line(output.evalue)}".strip(": ")
            # Only a test that asks for hardware may say that it is not here; an answer that raises this has failed.
            if output.ename == NOT_GRADED_HERE and ASKS_FOR_HARDWARE in cell.source:
                return Verdict(grade_id, Status.NOT_HERE, None, points, first_line(output.evalue))
            return Verdict(grade_id, Status.FAILED, 0.0, points, reason)
        if output.output_type == "execute_result":
            values.append(output)
    if not values:
        return Verdict(grade_id, Status.PASSED, points, points)
    return _partial(values[0], grade_id, points)


def _partial(output: NotebookNode, grade_id: str, points: float) -> Verdict:
    """Partial credit from the value of a cell's last expression, as text: ``2``, ``1.5``, ``np.float64(0.5)``."""
    text = str(output.data.get("text/plain", "")).strip()
    score = number(text)
    if score is None:
        reason = f"the last expression shows {first_line(text)!r}, not a number: no credit until a person has looked"
        return Verdict(grade_id, Status.ODD, 0.0, points, reason)
    if not 0 <= score <= points:
        reason = f"the last expression is {score:g}, outside 0 to {points:g}: no credit until a person has looked"
        return Verdict(grade_id, Status.ODD, 0.0, points, reason)
    if score == points:
        return Verdict(grade_id, Status.PASSED, points, points)
    return Verdict(grade_id, Status.PARTIAL, score, points, f"partial credit: {score:g} of {points:g}")


def number(text: str) -> float | None:
    """The finite number that a text shows, or None."""
    if text.startswith(("np.", "numpy.")) and text.endswith(")"):
        text = text[text.index("(") + 1 : -1]
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return float(value) if type(value) in (int, float) and math.isfinite(value) else None


def first_line(text: str, limit: int = 200) -> str:
    """The first line of a message, cut to ``limit`` characters."""
    line = text.strip().splitlines()[0] if text.strip() else ""
    return line if len(line) <= limit else line[: limit - 1] + "…"
