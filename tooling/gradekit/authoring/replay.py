"""Run many variants of one notebook for the price of their differences.

The notebook runs once, in one process. In front of the cell where a variant begins to differ, that process forks, and
the fork goes on with the variant's own cells: what comes before is computed once for all of them.

Torch, NumPy and numba bear the fork because they are held to one thread and to the CPU here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from nbformat import NotebookNode
from nbformat.v4 import new_output

from gradekit.authoring.run import Execution, blank, workplace
from gradekit.course import Course, Lab, Role, cells_of

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
PASSED_ON = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONPATH", "NUMBA_ENABLE_CUDASIM")
GIB = 1 << 30


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
        cell_limit: seconds for one step; the next one still runs.
        memory: bytes of data that it may hold.
        pace: a variant that leaves at the same cell, and whose time sets the limit of this one: five times it and 2 s.
    """

    name: str
    first: int | None
    steps: Sequence[tuple[int, str]]
    stop_early: bool = False
    limit: float = 300.0
    cell_limit: float = 30.0
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
        "variants": [{**vars(v), "steps": [step(i, source) for i, source in v.steps]} for v in variants],
    }
    records: dict[str | None, list[dict]] = {None: [], **{v.name: [] for v in variants}}
    with workplace(course, lab) as here, tempfile.TemporaryFile() as complaints:
        with subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("replay_child.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            cwd=here,
            env=environment(here.parent),
            start_new_session=True,
        ) as process:
            assert process.stdin and process.stdout
            try:
                process.stdin.write(json.dumps(request).encode())
                process.stdin.close()
                for line in process.stdout:
                    record = json.loads(line)
                    records[record["variant"]].append(record)
            finally:
                process.kill()
        if not records[None] or "ended" not in records[None][-1]:
            complaints.seek(0)
            last = complaints.read().decode(errors="replace").strip().splitlines()[-1:]
            ran = [record["index"] for record in records[None]]
            last = last or [f"(exit status {process.wait()})"]
            where = f"after cell {ran[-1] + 1}" if ran else "before the first cell"
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


def environment(home: Path) -> dict[str, str]:
    """The environment of a run: nothing of the user's but how to find programs and libraries."""
    kept = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    return {**kept, "HOME": str(home), "IPYTHONDIR": str(home / "ipython"), "MPLCONFIGDIR": str(home / "mpl")} | (
        ENVIRONMENT
    )


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
    beside = []
    for record in records[:-1]:
        index = record["index"]
        if index < 0:
            beside.append(": ".join(record["error"]) if record["error"] else record["value"] or "")
            continue
        seconds[index] = record["seconds"]
        if record["error"]:
            name, message = record["error"]
            notebook.cells[index].outputs.append(new_output("error", ename=name, evalue=message, traceback=[]))
        elif record["value"] is not None:
            notebook.cells[index].outputs.append(new_output("execute_result", data={"text/plain": record["value"]}))
    return Execution(notebook, seconds, records[-1]["peak"], records[-1]["ended"], beside)
