"""Solutions to publish: the reference, other right answers measured, wrong ones and what caught them.

Students read these notebooks, so everything is run on what students have: no hidden test takes part, and none is shown.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from nbformat import NotebookNode, writes
from nbformat.v4 import new_markdown_cell
from nbgrader.api import Gradebook, MissingEntry

from gradekit import gradebook
from gradekit.authoring import answers
from gradekit.authoring.answers import Answer, Kind
from gradekit.authoring.dependencies import Graph
from gradekit.authoring.files import write_atomically
from gradekit.authoring.release import released
from gradekit.authoring.replay import Variant, code, replay, variant
from gradekit.authoring.run import Execution, in_kernel
from gradekit.authoring.sync import cell_ids
from gradekit.course import Course, CourseError, Lab
from gradekit.grading.judge import Status
from gradekit.kernels import ForkServer
from gradekit.kernels.preload import choose

#: How often the right answers run, in turn with the reference.
ROUNDS = 5
NOT_SHOWN = "caught by a check that is not shown"


@dataclass(frozen=True)
class Measured:
    """Seconds and peak bytes of one process per round, for the tests that rest on what an answer changes."""

    seconds: Sequence[float]
    peaks: Sequence[int]

    def __str__(self) -> str:
        middle, low, high = statistics.median(self.seconds), min(self.seconds), max(self.seconds)
        time = f"{middle * 1e3:.3g} ms ({low * 1e3:.3g} to {high * 1e3:.3g})"
        return f"{time} | {statistics.median(self.peaks) / 1e6:.0f}"


def due(course: Course, assignment: str) -> datetime | None:
    """When an assignment is due (UTC) by the gradebook; None when it does not say."""
    if not gradebook.exists(course):
        return None
    with Gradebook(course.db_url, course.course_id) as marks:
        try:
            date = marks.find_assignment(assignment).duedate
        except MissingEntry:
            return None
    return None if date is None else date.replace(tzinfo=UTC)


def publish(
    course: Course, assignment: str, *, before_deadline: bool = False, now: datetime | None = None
) -> list[Path]:
    """Write a solution notebook for each lab of an assignment into the course's solution folder.

    Args:
        before_deadline: also when the assignment may still be handed in.
        now: the time (UTC) to compare the due date with.

    Raises:
        CourseError: the assignment is not due yet or has no due date, or a reference does not pass: nothing is written.
    """
    labs = course.labs(assignment)
    date = due(course, assignment)
    if not before_deadline and (date is None or (now or datetime.now(UTC)) < date):
        when = f"is not due before {date:%Y-%m-%d %H:%M} UTC" if date else "has no due date in the gradebook"
        raise CourseError(
            f"'{assignment}' {when}: who reads the solutions may still hand in. "
            "Wait, set the due date, or write them all the same with --before-deadline."
        )
    folder = course.path("solution", assignment)
    written = {folder / lab.path.name: solution(course, lab) for lab in labs}
    folder.mkdir(parents=True, exist_ok=True)
    for path, notebook in written.items():
        write_atomically(path, writes(notebook) + "\n")
    return list(written)


def solution(course: Course, lab: Lab) -> NotebookNode:
    """One lab's solution notebook.

    Raises:
        CourseError: the reference does not pass the tests that students see.
    """
    stub = released(course, lab)
    reference = answers.apply(stub, lab, None)
    bank = answers.bank(course, lab)
    with ForkServer(choose([lab.path]), cores=1) as server:
        run = in_kernel(course, lab, reference, server)
    if run.ended or any(v.status in (Status.FAILED, Status.PARTIAL, Status.NOT_RUN) for v in run.verdicts.values()):
        raise CourseError(f"{lab.name}: the reference does not pass its own tests. Run `gradekit check {lab.name}`.")
    notebook = run.notebook
    for cell in notebook.cells:
        for key in ("nbgrader", "deletable", "editable"):  # nobody is to hand this in
            cell.metadata.pop(key, None)
    if bank:
        notebook.cells += _bank_cells(course, lab, stub, reference, bank)
    for cell, cell_id in zip(notebook.cells, cell_ids(notebook), strict=True):
        cell.id = cell_id
    return notebook


def _bank_cells(
    course: Course, lab: Lab, stub: NotebookNode, reference: NotebookNode, bank: Sequence[Answer]
) -> list[NotebookNode]:
    graph = Graph(reference)
    variants = {a.name: variant(a.name, reference, answers.apply(stub, lab, a), graph.core) for a in bank}
    wrong = [answer for answer in bank if answer.kind is Kind.WRONG]
    right = [answer for answer in bank if answer.kind is Kind.CORRECT]
    cells = []
    if right:
        cells.append(new_markdown_cell("# Other right answers\n\n" + _comparison(course, lab, graph, right, variants)))
        cells += [new_markdown_cell(_shown(answer, answer.summary)) for answer in right]
    if wrong:
        _, runs = replay(course, lab, reference, [variants[answer.name] for answer in wrong], cells=graph.core)
        cells.append(new_markdown_cell("# Wrong answers, and what caught them"))
        for answer in wrong:
            caught = "\n".join(_caught(answer, runs[answer.name]))
            cells.append(new_markdown_cell(_shown(answer, f"{answer.summary}\n\n{caught}")))
    return cells


def _comparison(
    course: Course, lab: Lab, graph: Graph, right: Sequence[Answer], variants: dict[str, Variant]
) -> str:
    """A table of the right answers: time and memory of the tests that rest on what each changes."""
    runs: dict[str, list[Execution]] = {}
    chosen = []
    for answer in right:
        mine = variants[answer.name]
        if mine.first is not None:
            same = code(graph.notebook, mine.first, graph.core)
            chosen += [mine, Variant(f"reference: {answer.name}", mine.first, same)]
    for _ in range(ROUNDS):
        _, round_ = replay(course, lab, graph.notebook, chosen, jobs=1, cells=graph.core)
        for name, run in round_.items():
            runs.setdefault(name, []).append(run)
    rows = [
        "| answer | its tests take | peak memory [MB] | with the reference | peak memory [MB] |",
        "|---|---|---|---|---|",
    ]
    for answer in right:
        tests = _tests(graph, answer)
        if variants[answer.name].first is not None and tests:
            both = [_measured(runs[name], tests) for name in (answer.name, f"reference: {answer.name}")]
            rows.append(f"| {_title(answer)} | {both[0]} | {both[1]} |")
    return "\n".join(rows) + (
        f"\n\nMedian of {ROUNDS} runs on one CPU core, in brackets the fastest and the slowest. What is timed is the "
        "visible tests that rest on the cells which the answer changes, with the answer and with the reference in "
        "turn. Memory is the whole process's, libraries included. Differences within the spread mean nothing."
    )


def _tests(graph: Graph, answer: Answer) -> set[int]:
    cells = graph.notebook.cells
    changed = (i for i in graph.code if cells[i].metadata.get("nbgrader", {}).get("grade_id") in answer.cells)
    return {test for index in changed for test in graph.tests_of(index)}


def _measured(runs: Sequence[Execution], tests: set[int]) -> Measured:
    return Measured([sum(run.seconds.get(i, 0.0) for i in tests) for run in runs], [run.peak for run in runs])


def _caught(answer: Answer, run: Execution) -> list[str]:
    """A line for each test that takes points from a wrong answer: the message of its visible part."""
    lines = []
    for grade_id in answer.kept:
        verdict = run.verdicts[grade_id]
        lost = verdict.status in (Status.FAILED, Status.PARTIAL, Status.ODD, Status.NOT_RUN)
        lines.append(f"- `{grade_id}`: {verdict.reason if lost and verdict.reason else NOT_SHOWN}")
    return lines


def _shown(answer: Answer, text: str) -> str:
    """An answer as markdown: to be read, not run, as it would replace the reference's definitions."""
    parts = [f"## {_title(answer)}", text]
    for grade_id, source in answer.cells.items():
        body = "left as it was released" if source is None else f"\n```python\n{source}\n```"
        parts.append(f"`{grade_id}`: {body}" if source is None else f"`{grade_id}`:\n{body}")
    return "\n\n".join(parts)


def _title(answer: Answer) -> str:
    return answer.name.removeprefix(f"{answer.kind}_").replace("_", " ").capitalize()
