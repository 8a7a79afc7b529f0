"""Kernel start-up: stock kernels, warm forks without a sandbox, warm forks with one, in turn on the same machine.

A figure is the wall time of one notebook of two trivial cells (one imports the libraries), from asking for a kernel to
its end. Medians; the three kinds take turns, so that a busy machine slows them alike.
"""

from __future__ import annotations

import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook
from rich.console import Console
from rich.table import Table

from gradekit.kernels import ForkServer, SandboxedNotebookClient

WORKLOADS = {"no imports": (), "torch, transformers, peft": ("torch", "transformers", "peft")}
STOCK_RUNS, WARM_RUNS, GROWTH_RUNS = 3, 21, 1000


def run(json_path: Path | None = None) -> None:
    """Measure, print a table, and write the figures as JSON if a path is given. Takes about two minutes."""
    figures: dict[str, Any] = {"cpus": os.cpu_count()}
    for name, modules in WORKLOADS.items():
        with ForkServer(modules, levels=("none",)) as bare, ForkServer(modules) as sandboxed:
            figures["level"] = sandboxed.report.level
            kinds: dict[str, Callable[[], float]] = {
                "sandboxed": lambda server=sandboxed, modules=modules: _warm(server, modules),  # type: ignore[misc]
                "bare": lambda server=bare, modules=modules: _warm(server, modules),  # type: ignore[misc]
            }
            seconds: dict[str, list[float]] = {"stock": [_stock(modules) for _ in range(STOCK_RUNS)]}
            for kind in [*kinds] * WARM_RUNS:
                seconds.setdefault(kind, []).append(kinds[kind]())
            figures[name] = {
                **{f"{kind}_ms": 1e3 * statistics.median(s) for kind, s in seconds.items()},
                "enter_sandbox_ms": 1e3 * statistics.median(_enter(sandboxed) for _ in range(WARM_RUNS)),
                "server_mib": _private_bytes(sandboxed) / 2**20,
            }
    figures["growth"] = _growth()
    _show(figures)
    if json_path:
        json_path.write_text(json.dumps(figures, indent=1) + "\n")


def _notebook(modules: tuple[str, ...]) -> Any:
    imports = ", ".join(("sys", *modules))
    return new_notebook(cells=[new_code_cell(f"import {imports}"), new_code_cell("1 + 1")])


def _stock(modules: tuple[str, ...]) -> float:
    start = time.perf_counter()
    NotebookClient(_notebook(modules), kernel_name="python3").execute()
    return time.perf_counter() - start


def _warm(server: ForkServer, modules: tuple[str, ...]) -> float:
    start = time.perf_counter()
    with server.kernel() as manager:
        SandboxedNotebookClient(_notebook(modules), km=manager, allow_errors=False).execute()
    return time.perf_counter() - start


def _enter(server: ForkServer) -> float:
    """Seconds from the fork's first step to its last lock."""
    process = server.spawn()
    process.kill("measured")
    process.wait()
    return process.sandbox_s


def _private_bytes(server: ForkServer) -> int:
    """Proportional set size of the server's processes."""
    total, waiting = 0, [server.pid]
    while waiting:
        pid = waiting.pop()
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        total += int(next(line for line in rollup.splitlines() if line.startswith("Pss:")).split()[1]) * 1024
        waiting += [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return total


def _growth() -> dict[str, float]:
    """What a thousand kernels leave behind: memory of grader and server, open descriptors."""

    def state() -> tuple[int, int, int]:
        own = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
        return own, _private_bytes(server), len(os.listdir("/proc/self/fd"))

    with ForkServer() as server:
        for _ in range(100):  # allocators and caches settle
            _warm(server, ())
        before = state()
        for _ in range(GROWTH_RUNS):
            _warm(server, ())
        after = state()
    names = ("grader_mib", "server_mib", "descriptors")
    scale = (2**20, 2**20, 1)
    return {n: (b - a) / s for n, a, b, s in zip(names, before, after, scale, strict=True)}


def _show(figures: dict[str, Any]) -> None:
    console = Console()
    table = Table(title=f"One notebook, ms (sandbox level: {figures['level']}, {figures['cpus']} CPUs)")
    table.add_column("notebook")
    for heading in ("stock", "warm, bare", "warm, sandboxed", "sandbox adds", "stock / ours", "server, MiB"):
        table.add_column(heading, justify="right")
    for name in WORKLOADS:
        row = figures[name]
        added, ratio = row["sandboxed_ms"] - row["bare_ms"], row["stock_ms"] / row["sandboxed_ms"]
        cells = [row["stock_ms"], row["bare_ms"], row["sandboxed_ms"], added, ratio, row["server_mib"]]
        table.add_row(name, *(f"{x:.1f}" for x in cells))
    console.print(table)
    growth = figures["growth"]
    console.print(
        f"{GROWTH_RUNS} kernels added {growth['grader_mib']:.1f} MiB to the grader, "
        f"{growth['server_mib']:.1f} MiB to the server, {growth['descriptors']:.0f} descriptors."
    )
