"""The rule for a verdict."""

from __future__ import annotations

import nbformat
import pytest
from gradekit.grading.judge import Status, judge
from nbformat import NotebookNode
from nbformat.v4 import new_output


def cell(*outputs: NotebookNode, points: float = 3, solution: bool = False, kind: str = "code") -> NotebookNode:
    make = nbformat.v4.new_code_cell if kind == "code" else nbformat.v4.new_markdown_cell
    meta = {"grade_id": "t", "grade": True, "points": points, "solution": solution}
    made = make(source="", metadata={"nbgrader": meta})
    if kind == "code":
        made.outputs = list(outputs)
    return made


def value(text: str) -> NotebookNode:
    return new_output("execute_result", data={"text/plain": text})


ERROR = new_output("error", ename="AssertionError", evalue="no", traceback=[])
WARNING = new_output("stream", name="stderr", text="UserWarning: careful")
PRINT = new_output("stream", name="stdout", text="5")


@pytest.mark.parametrize(
    ("outputs", "status", "score"),
    [
        ((), Status.PASSED, 3),
        ((PRINT,), Status.PASSED, 3),
        ((WARNING,), Status.PASSED, 3),
        ((ERROR,), Status.FAILED, 0),
        ((WARNING, ERROR), Status.FAILED, 0),
        ((value("2"), ERROR), Status.FAILED, 0),
        ((value("2"),), Status.PARTIAL, 2),
        ((WARNING, value("1.5")), Status.PARTIAL, 1.5),
        ((value("0"),), Status.PARTIAL, 0),
        ((value("3.0"),), Status.PASSED, 3),
        ((value("np.float64(0.5)"),), Status.PARTIAL, 0.5),
        ((value("3.5"),), Status.ODD, 0),
        ((value("-1"),), Status.ODD, 0),
        ((value("nan"),), Status.ODD, 0),
        ((value("np.float64(inf)"),), Status.ODD, 0),
        ((value("1e999"),), Status.ODD, 0),
        ((value("True"),), Status.ODD, 0),
        ((value("'3'"),), Status.ODD, 0),
        ((value("tensor(3.)"),), Status.ODD, 0),
        ((value("[3]"),), Status.ODD, 0),
        ((value("<Cheat object>"),), Status.ODD, 0),
        ((new_output("execute_result", data={"text/html": "3"}),), Status.ODD, 0),
    ],
)
def test_outputs_decide(outputs: tuple[NotebookNode, ...], status: Status, score: float) -> None:
    verdict = judge(cell(*outputs))
    assert (verdict.status, verdict.score) == (status, score)


def test_hardware_that_is_not_here_is_neither_passed_nor_zero() -> None:
    output = new_output("error", ename="NotGradedHere", evalue="warp shuffles: needs a GPU", traceback=[])
    asking = cell(output)
    asking.source = 'hardware.require_gpu("warp shuffles")'
    verdict = judge(asking)
    assert (verdict.status, verdict.score) == (Status.NOT_HERE, None)
    assert "GPU" in verdict.reason
    # A student's function that raises it, in a test that asks for no hardware, has failed.
    assert judge(cell(output)).score == 0


def test_a_cell_that_was_not_run_earns_nothing_and_says_why() -> None:
    verdict = judge(cell(), ran=False, why_not_run="it used more than 1 s of CPU time")
    assert (verdict.status, verdict.score) == (Status.NOT_RUN, 0)
    assert "CPU" in verdict.reason


@pytest.mark.parametrize("kind", ["code", "markdown"])
def test_a_manual_cell_waits_for_a_person_unless_it_was_left_as_released(kind: str) -> None:
    manual = cell(solution=True, kind=kind)
    assert judge(manual).score is None
    blank = judge(manual, changed=False)
    assert (blank.status, blank.score) == (Status.BLANK, 0)


def test_a_task_waits_for_a_person_also_when_its_text_is_as_released() -> None:
    task = cell(kind="markdown")
    task.metadata["nbgrader"] |= {"grade": False, "task": True}
    assert judge(task, changed=False).status == Status.MANUAL
