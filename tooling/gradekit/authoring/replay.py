"""Run many variants of one notebook for the price of their differences.

The notebook runs once, in one process. In front of the cell where a variant begins to differ, that process forks, and
the fork goes on with the variant's own cells: what comes before is computed once for all of them. A mutant may do
anything, so all of it happens inside the sandbox, in a process that a sandboxed kernel starts.

Torch, NumPy and numba bear the fork because they are held to one thread and to the CPU here.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook, new_output

from gradekit.authoring.run import Execution, blank, workplace
from gradekit.course import Course, Lab, Role, cells_of
from gradekit.kernels import ForkServer, KernelRequest, Limits, SandboxedNotebookClient

#: One thread each: a pool of threads does not survive a fork, and variants run beside each other.
ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "",
    "HF_HUB_OFFLINE": "1",
    "MKL_NUM_THREADS": "1",
    "MPLBACKEND": "agg",
    "NBGRADER_EXECUTION": "autograde",
    "NUMBA_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
GIB = 1 << 30

#: On all variants together. Time is bounded for each variant by itself.
LIMITS = Limits(
    wall_s=7200, cpu_s=7200, memory_bytes=12 * GIB, disk_bytes=2 * GIB, disk_files=200_000, output_bytes=256 << 20
)

#: Runs in the sandboxed kernel. The request holds hidden tests: it is gone from the work folder before anything runs.
_DRIVER = """
import shutil, subprocess, sys
with open(".replay/request.json", "rb") as file: request = file.read()
with open(".replay/replay_child.py") as file: program = file.read()
shutil.rmtree(".replay")
child = subprocess.Popen(
    [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
)
records, complaints = child.communicate(request)
print(records.decode(), end="")
print(complaints.decode(errors="replace")[-2000:] or f"(exit status {child.returncode})", file=sys.stderr)
"""


class ReplayError(Exception):
    """The process that runs the notebook itself came to no good end."""


@dataclass(frozen=True)
class Variant:
    """A way in which a notebook can go on.

    Attributes:
        first: the cell in front of which it leaves the notebook's own run; None is after the last one.
        steps: the cells to run from there on, as (index of the cell, source); index -1 belongs to no cell.
        stop_early: stop at the first test that loses points.
        limit: seconds for all its steps.
        cell_limit: seconds for one step, then the next one runs; by default as many as the notebook's cells have.
        memory: bytes of data that it may hold.
        pace: a variant that leaves at the same cell, and whose time sets the limit of this one: five times it and 2 s.
    """

    name: str
    first: int | None
    steps: Sequence[tuple[int, str]]
    stop_early: bool = False
    limit: float = 300.0
    cell_limit: float | None = None
    memory: int = 4 * GIB
    pace: str = ""


def replay(
    course: Course,
    lab: Lab,
    notebook: NotebookNode,
    variants: Sequence[Variant] = (),
    *,
    jobs: int = 2,
    setup: Sequence[str] = (),
    cells: Collection[int] | None = None,
) -> tuple[Execution, dict[str, Execution]]:
    """Run a notebook, and variants of it.

    Args:
        notebook: the sources of the trunk, which every variant shares up to its first step.
        jobs: how many variants run at the same time.
        setup: sources to run before the first cell.
        cells: the indices of the trunk's cells to run; all when it is None.

    Returns:
        The run of the notebook itself, and that of each variant by name.

    Raises:
        ReplayError: the notebook's own run died, which leaves nothing to fork from.
    """
    points = {cell.index: cell.points for cell in cells_of(notebook) if cell.role is Role.TEST}
    limit = float(course.config.Execute.get("timeout", 30) or 300)

    def step(index: int, source: str) -> dict[str, object]:
        return {"index": index, "source": source, "points": points.get(index)}

    request = {
        "setup": list(setup),
        "jobs": jobs,
        "cell_limit": limit,
        "steps": [step(i, source) for i, source in code(notebook, 0, cells)],
        "variants": [
            {**vars(v), "cell_limit": v.cell_limit or limit, "steps": [step(i, source) for i, source in v.steps]}
            for v in variants
        ],
    }
    records: dict[str | None, list[dict]] = {None: [], **{v.name: [] for v in variants}}
    with workplace(course, lab) as here:
        lines, complaints = _in_sandbox(request, here)
    for line in lines.splitlines():
        record = json.loads(line)
        records[record["variant"]].append(record)
    if not records[None] or "ended" not in records[None][-1]:
        ran = [record["index"] for record in records[None]]
        where = f"after cell {ran[-1] + 1}" if ran else "before the first cell"
        last = complaints.strip().splitlines()[-1:]
        raise ReplayError(f"the process that runs {lab.name} ended {where} {' '.join(last)}".rstrip())
    trunk = records[None]
    runs = {}
    for v in variants:
        shared = [record for record in trunk[:-1] if v.first is None or record["index"] < v.first]
        runs[v.name] = _execution(_with(notebook, v.steps), shared + records[v.name])
    return _execution(notebook, trunk), runs


def variant(
    name: str, trunk: NotebookNode, changed: NotebookNode, cells: Collection[int] | None = None, *, limit: float = 300.0
) -> Variant:
    """The variant that turns one notebook into another with the same cells, some with another source.

    ``cells`` are the indices of those to run; all when it is None.
    """
    pairs = zip(trunk.cells, changed.cells, strict=True)
    differ = (i for i, (old, new) in enumerate(pairs) if old.cell_type == "code" and old.source != new.source)
    first = next(differ, None)
    return Variant(name, first, [] if first is None else code(changed, first, cells), limit=limit)


def code(notebook: NotebookNode, first: int, cells: Collection[int] | None) -> list[tuple[int, str]]:
    """Index and source of the code cells from ``first`` on, of those in ``cells``."""
    chosen = enumerate(notebook.cells)
    return [(i, c.source) for i, c in chosen if i >= first and c.cell_type == "code" and (cells is None or i in cells)]


def _in_sandbox(request: dict[str, object], here: Path) -> tuple[str, str]:
    """Run the child in a sandboxed kernel: the JSON lines that it wrote, and what it or the kernel complained of."""
    tools = here / ".replay"
    tools.mkdir()
    (tools / "request.json").write_text(json.dumps(request))
    shutil.copy(Path(__file__).with_name("replay_child.py"), tools)
    env = ENVIRONMENT | {name: os.environ[name] for name in ("NUMBA_ENABLE_CUDASIM",) if name in os.environ}
    notebook = new_notebook(cells=[new_code_cell(_DRIVER)])
    with ForkServer() as server, server.kernel(KernelRequest(files=here, limits=LIMITS, env=env)) as manager:
        client = SandboxedNotebookClient(notebook, km=manager, timeout=None)
        try:
            client.execute()
        except DeadKernelError as error:
            return "", manager.death.reason if manager.death else str(error)
    written = {"stdout": "", "stderr": ""}
    for output in notebook.cells[0].outputs:
        if output.output_type == "stream":
            written[output.name] += output.text
        elif output.output_type == "error":
            written["stderr"] += f"{output.ename}: {output.evalue}"
    return written["stdout"], written["stderr"]


def _with(notebook: NotebookNode, steps: Sequence[tuple[int, str]]) -> NotebookNode:
    changed = blank(notebook)
    for index, source in steps:
        if index >= 0:
            changed.cells[index].source = source
    return changed


def _execution(notebook: NotebookNode, records: Sequence[dict]) -> Execution:
    """The records of one run as an executed notebook."""
    notebook = blank(notebook)
    seconds: dict[int, float] = {}
    beside, beside_s = [], []
    for record in records[:-1]:
        index = record["index"]
        if index < 0:
            beside.append(": ".join(record["error"]) if record["error"] else record["value"] or "")
            beside_s.append(record["seconds"])
            continue
        seconds[index] = record["seconds"]
        if record["error"]:
            name, message = record["error"]
            notebook.cells[index].outputs.append(new_output("error", ename=name, evalue=message, traceback=[]))
        elif record["value"] is not None:
            notebook.cells[index].outputs.append(new_output("execute_result", data={"text/plain": record["value"]}))
    return Execution(notebook, seconds, records[-1]["peak"], records[-1]["ended"], beside, beside_s)
