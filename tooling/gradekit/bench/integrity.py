"""What keeps marks honest costs time: the guard before and after each cell, and canaries behind the last one.

The guard: the same empty cell in one kernel with torch, watched and not, in turn; medians. Canaries: the reference
solution of every lab is graded, and the seconds of its plants compared with the notebook's own.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from nbformat.v4 import new_code_cell, new_notebook
from rich.console import Console
from rich.table import Table

from gradekit.authoring import answers
from gradekit.course import Course
from gradekit.grading.local import LocalGrader
from gradekit.grading.planting import guarded
from gradekit.kernels import ForkServer, SandboxedNotebookClient
from gradekit.redteam.ground import copied
from gradekit.redteam.honest import Honest, Style, hand_in

ROUNDS = 100
WANTED = 0.30
PLAIN = Style("plain", "", ())


def run(course: Course, json_path: Path | None = None) -> None:
    """Measure, print tables, and write the figures as JSON if a path is given. Half a minute for each lab."""
    figures: dict[str, Any] = {"cpus": os.cpu_count(), "guard_ms": asyncio.run(_guard()), "labs": _canaries(course)}
    _show(figures)
    if json_path:
        json_path.write_text(json.dumps(figures, indent=1) + "\n")


async def _guard() -> dict[str, float]:
    """Milliseconds of one empty cell: by itself, watched, and watched as a graded one."""
    first, cell = new_code_cell("import torch, numpy as np"), new_code_cell("pass")
    seconds: dict[str, list[float]] = {"alone": [], "watched": [], "graded": []}
    with ForkServer(("torch", "numpy")) as server, server.kernel() as manager:
        client = SandboxedNotebookClient(new_notebook(cells=[first, cell]), km=manager)
        async with client.async_setup_kernel(cleanup_kc=True):
            await guarded(client, manager.guard, first, 0, graded=False, locked=False)
            for kind in [*seconds] * ROUNDS:
                start = time.perf_counter()
                if kind == "alone":
                    await client.async_execute_cell(cell, 1, store_history=False)
                else:
                    graded = kind == "graded"
                    await guarded(client, manager.guard, cell, 1, graded=graded, locked=graded)
                seconds[kind].append(time.perf_counter() - start)
    return {kind: 1e3 * statistics.median(took) for kind, took in seconds.items()}


def _canaries(course: Course) -> dict[str, dict[str, float]]:
    """Lab -> what its canaries took when its reference solution was graded, one notebook at a time."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="gradekit-bench-") as folder:
        copy = copied(course, Path(folder))
        for lab in copy.labs():
            hand_in(copy, Honest("reference", lab, None, PLAIN))
        with LocalGrader(1) as workers:
            for assignment in copy.assignments:
                for _, outcomes in workers.grade(copy, assignment).graded:
                    for outcome in outcomes:
                        said = outcome.canaries
                        found[outcome.name] = {
                            "own_s": said.of,
                            "planted": said.planted,
                            "canaries_s": said.seconds,
                            "share": said.seconds / said.of,
                            "tests": sum(1 for cell in answers.tests(copy.lab(outcome.name))),
                            "uncovered": len(said.uncovered),
                        }
    return found


def _show(figures: dict[str, Any]) -> None:
    console = Console()
    guard = figures["guard_ms"]
    console.print(
        f"An empty cell: {guard['alone']:.1f} ms; the guard adds {guard['watched'] - guard['alone']:.1f} ms, "
        f"{guard['graded'] - guard['alone']:.1f} ms to a graded one ({figures['cpus']} CPUs)."
    )
    table = Table(title=f"Canaries behind the reference solution (wanted: at most {WANTED:.0%} of the notebook's time)")
    table.add_column("lab")
    for heading in ("its own, s", "canaries, s", "share", "planted", "tests", "not covered"):
        table.add_column(heading, justify="right")
    for name, row in figures["labs"].items():
        cells = [f"{row['own_s']:.2f}", f"{row['canaries_s']:.2f}", f"{row['share']:.0%}"]
        cells += [f"{row[key]:.0f}" for key in ("planted", "tests", "uncovered")]
        table.add_row(name, *cells, style="red" if row["share"] > WANTED else None)
    console.print(table)
