"""Run a notebook in a kernel of its own, and keep what each cell did and cost."""

from __future__ import annotations

import ast
import asyncio
import copy
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_output
from nbgrader.utils import is_grade

from gradekit.course import Course, Lab
from gradekit.grading.judge import Verdict, judge
from gradekit.kernels import ForkServer, KernelRequest, SandboxedNotebookClient
from gradekit.kernels.manager import SandboxedKernelManager


@dataclass(frozen=True)
class Execution:
    """What a run of a notebook did.

    Attributes:
        notebook: with the outputs of the cells that ran.
        seconds: of each code cell that came to its end, by the index of the cell.
        peak: the largest resident size of its process, in bytes; 0 when it is not known.
        ended: why the run ended before the notebook did; empty when it did not.
        beside: the text of the last expression of each step that belongs to no cell; an error's where there was one.
        beside_s: the seconds of each of these steps.
        fetched: what each cell asked of the network, by the index of the cell; only a run in a kernel looks.
    """

    notebook: NotebookNode
    seconds: Mapping[int, float]
    peak: int
    ended: str = ""
    beside: Sequence[str] = ()
    beside_s: Sequence[float] = ()
    fetched: Mapping[int, str] = field(default_factory=dict)
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


#: Runs before the first cell: notes what is asked of the network. An audit hook sees it whatever library asks.
_WATCH = """
import sys as _sys
_gradekit_asked = []
def _gradekit_watch(event, args, asked=_gradekit_asked):
    if event in ("socket.connect", "socket.getaddrinfo"):
        to = args[1] if event == "socket.connect" else args[0]
        if not isinstance(to, (str, bytes)) or event == "socket.getaddrinfo":
            asked.append(str(to))
_sys.addaudithook(_gradekit_watch)
"""
#: Runs after each cell: seconds for which the kernel's main thread was ready and had no core, and what was asked.
_METER = "(int(open('/proc/self/schedstat').read().split()[1]) / 1e9, _gradekit_asked[:], _gradekit_asked.clear())[:2]"


def in_kernel(course: Course, lab: Lab, notebook: NotebookNode, server: ForkServer) -> Execution:
    """Run a notebook from top to bottom in a fresh sandboxed kernel.

    The seconds of a cell leave out those in which other work had the core, so that a busy machine makes no lab slow.

    Raises:
        SandboxError: no sandboxed kernel could be had.
    """
    notebook = blank(notebook)
    with workplace(course, lab) as here:
        request = KernelRequest(files=here, env={"NBGRADER_EXECUTION": "autograde"}, cores=server.cores)
        with server.kernel(request) as manager:
            return asyncio.run(_follow(notebook, manager, int(course.config.Execute.get("timeout", 30) or 300)))


async def _follow(notebook: NotebookNode, manager: SandboxedKernelManager, timeout: int) -> Execution:
    notebook.cells.append(new_code_cell(""))  # nbclient stores each cell that it ran: here go those between
    client = SandboxedNotebookClient(notebook, km=manager, timeout=timeout, store_widget_state=False)
    seconds: dict[int, float] = {}
    fetched: dict[int, str] = {}
    ended = ""

    async def aside(source: str) -> str:
        cell = new_code_cell(source)
        await client.async_execute_cell(cell, -1, store_history=False)
        return "".join(output.data["text/plain"] for output in cell.outputs if "data" in output)

    async with client.async_setup_kernel(cleanup_kc=False):
        try:
            manager.guard.before(-1, graded=False, locked=True)  # a notebook's own audit hook would be refused
            await aside(_WATCH)
            manager.guard.after(-1)
            before, _ = ast.literal_eval(await aside(_METER))
            for index, cell in enumerate(notebook.cells[:-1]):
                if cell.cell_type != "code" or not cell.source.strip():
                    continue
                await client.async_execute_cell(cell, index, store_history=False)
                if index in client.timed_out:
                    late = f"it ran for more than {timeout} s"
                    cell.outputs.append(new_output("error", ename="CellTimeoutError", evalue=late, traceback=[]))
                waited, asked = ast.literal_eval(await aside(_METER))
                seconds[index] = max(0.0, client.seconds[index] - (waited - before))
                before = waited
                if asked:
                    fetched[index] = ", ".join(dict.fromkeys(asked))
        except DeadKernelError as error:
            ended = manager.death.reason if manager.death else str(error)
    notebook.cells.pop()
    process = manager.process
    process.kill("the notebook is done")
    process.wait(10)
    peak = int(process.death.usage.get("max_rss_bytes", 0)) if process.death else 0
    return Execution(notebook, seconds, peak, ended, fetched=fetched)


def blank(notebook: NotebookNode) -> NotebookNode:
    """A copy without outputs."""
    notebook = copy.deepcopy(notebook)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook
