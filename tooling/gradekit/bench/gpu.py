"""Module 1.3 on a GPU: every reference notebook with real kernels, each kernel at full size, the module's milestones.

A notebook runs in a stock kernel of its own, from top to bottom; its tests then use the GPU. If it has a function
``full_size``, that is called last, in the same process, and so are the roofs that its kernels are held against.
Nothing of this is simulated, and without a GPU there is nothing to print.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from labkit import hardware
from labkit.fullsize import Measured, Roofs
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell
from rich.console import Console
from rich.table import Table

from gradekit.authoring.gates.subject import parsed
from gradekit.authoring.run import blank
from gradekit.course import Course, CourseError, Lab

ASSIGNMENT = "1.3-cuda-python"
FUNCTION = "full_size"
#: For one cell. Full size takes minutes where a CPU does the same work.
CELL_S = 900
_MARK = "full size:"
_LAST = f"""
import dataclasses, json
from labkit import fullsize
print("{_MARK}", json.dumps({{
    "kernels": [dataclasses.asdict(one) for one in {FUNCTION}()], "roofs": dataclasses.asdict(fullsize.roofs())
}}))
"""


@dataclass(frozen=True)
class Result:
    """What the run of one notebook gave.

    Attributes:
        lab: the lab's id.
        faults: every cell that ended in an error, and why.
        kernels: what its ``full_size`` measured; nothing where it has none, or where it failed.
        roofs: measured in the same process; None without ``full_size``.
    """

    lab: str
    faults: Sequence[str] = ()
    kernels: Sequence[Measured] = field(default_factory=tuple)
    roofs: Roofs | None = None


@dataclass(frozen=True)
class Milestone:
    """A promise of the module.

    Attributes:
        lab: the lab that proves it.
        text: in words.
        value: the number to look at, from the lab's result; None where it was not measured.
        kept: whether a number keeps it.
    """

    lab: str
    text: str
    value: Callable[[Result], float | None]
    kept: Callable[[float], bool]


def _best_cpu_factor(result: Result) -> float | None:
    return max((one.cpu_s / one.seconds for one in result.kernels if one.cpu_s), default=None)


def _best_library_factor(result: Result) -> float | None:
    return min((one.seconds / one.library_s for one in result.kernels if one.library_s), default=None)


def _tests_failed(result: Result) -> float | None:
    return float(len(result.faults))


MILESTONES = (
    Milestone("1.3.1", "a reduction over 100 times faster than on a CPU", _best_cpu_factor, lambda x: x > 100),
    Milestone("1.3.2", "a tiled product within 2 times the time of cuBLAS", _best_library_factor, lambda x: x <= 2),
    Milestone("1.3.3", "an embedding kernel that works (cells that fail)", _tests_failed, lambda x: x == 0),
    Milestone("1.3.4", "a pipeline on CuPy with its speed-up measured", _best_cpu_factor, lambda x: x > 0),
)


def run(course: Course, json_path: Path | None = None) -> bool:
    """Measure, print, and write the figures as JSON if a path is given.

    Returns:
        Whether every notebook ran without a fault and every milestone was reached.

    Raises:
        CourseError: there is no GPU, or kernels are simulated: nothing was measured, nothing is written.
    """
    gpu = hardware.machine().gpu
    if gpu is None or hardware.prepare_cuda().simulated:
        why = "this machine has no NVIDIA GPU" if gpu is None else "NUMBA_ENABLE_CUDASIM asks for the simulator"
        raise CourseError(f"Nothing was measured: {why}. Run this on a machine with one; a simulator has no speed.")
    console = Console()
    results = []
    for lab in course.labs(ASSIGNMENT):
        console.print(f"{lab.name} ...", highlight=False)
        results.append(measure(lab))
    rows = reached(results)
    show(console, gpu.name, results, rows)
    if json_path:
        json_path.write_text(json.dumps(figures(gpu, results, rows), indent=1) + "\n")
    return not any(result.faults for result in results) and all(kept for *_, kept in rows)


def measure(lab: Lab) -> Result:
    """Run a lab's notebook as its author wrote it, and call its ``full_size`` where there is one."""
    notebook = blank(lab.notebook)
    at_full_size = defines(notebook, FUNCTION)
    if at_full_size:
        notebook.cells.append(new_code_cell(_LAST))
    ended = ""
    client = NotebookClient(notebook, timeout=CELL_S, kernel_name="python3", allow_errors=True,
                            resources={"metadata": {"path": str(lab.path.parent)}})
    try:
        client.execute()
    except (CellTimeoutError, DeadKernelError) as error:
        ended = str(error).strip().splitlines()[0]
    faults = [*_errors(notebook), *([f"the run ended early: {ended}"] if ended else [])]
    said = next(filter(None, map(_said, notebook.cells)), None)
    id = lab.name.partition("-")[0]
    if said is None:
        if at_full_size and not faults:
            faults.append(f"{FUNCTION}() printed no figures")
        return Result(id, faults)
    return Result(id, faults, [Measured(**one) for one in said["kernels"]], Roofs(**said["roofs"]))


def defines(notebook: NotebookNode, name: str) -> bool:
    """Whether a code cell defines a function of this name."""
    sources = (cell.source for cell in notebook.cells if cell.cell_type == "code")
    return any(isinstance(node, ast.FunctionDef) and node.name == name for s in sources for node in parsed(s).body)


def _errors(notebook: NotebookNode) -> Iterable[str]:
    for index, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                where = cell.metadata.get("nbgrader", {}).get("grade_id") or f"cell {index + 1}"
                first = output.evalue.strip().splitlines()[0] if output.evalue.strip() else ""
                yield f"{where}: {output.ename}: {first}"


def _said(cell: NotebookNode) -> dict | None:
    if cell.cell_type != "code" or cell.source != _LAST or any(o.output_type == "error" for o in cell.outputs):
        return None
    text = "".join(output.text for output in cell.outputs if output.output_type == "stream" and output.name == "stdout")
    lines = [line for line in text.splitlines() if line.startswith(_MARK)]
    return json.loads(lines[-1].removeprefix(_MARK)) if lines else None


def reached(results: Sequence[Result]) -> list[tuple[Milestone, float | None, bool]]:
    """Each milestone with its number and whether it was reached; one that was not measured was not reached."""
    by_lab = {result.lab: result for result in results}
    rows = []
    for milestone in MILESTONES:
        result = by_lab.get(milestone.lab)
        value = milestone.value(result) if result else None
        rows.append((milestone, value, value is not None and milestone.kept(value)))
    return rows


def show(
    console: Console, gpu: str, results: Sequence[Result], rows: Sequence[tuple[Milestone, float | None, bool]]
) -> None:
    """Kernels, then milestones, then faults."""
    table = Table(title=f"Kernels at full size on {gpu}", caption="roofs: a copy; float32 cuBLAS without TF32")
    for heading in ("lab", "kernel", "ms", "rate", "of the roof", "x CPU", "of the library's time"):
        table.add_column(heading, justify="left" if heading in ("lab", "kernel") else "right")
    for result in results:
        for one in result.kernels:
            assert result.roofs is not None
            cpu = f"{one.cpu_s / one.seconds:.1f}" if one.cpu_s else "-"
            library = f"{one.seconds / one.library_s:.2f}" if one.library_s else "-"
            share = f"{one.share(result.roofs):.0%}"
            table.add_row(result.lab, one.kernel, f"{1e3 * one.seconds:.3f}", one.rate, share, cpu, library)
        if not result.kernels:
            table.add_row(result.lab, "[dim]no kernel at full size[/]")
        table.add_section()
    console.print(table)
    for milestone, value, kept in rows:
        word = "[yellow]not measured[/]" if value is None else "[green]reached[/]" if kept else "[red]not reached[/]"
        console.print(f"{word} {milestone.lab} {milestone.text}" + ("" if value is None else f": {value:.3g}"))
    for result in results:
        for fault in result.faults:
            console.print(f"{result.lab}: {fault}", style="red", markup=False, highlight=False, soft_wrap=True)


def figures(gpu: hardware.GPU, results: Sequence[Result], rows: Sequence[tuple[Milestone, float | None, bool]]) -> dict:
    """All of it for a program."""
    return {
        "gpu": asdict(gpu),
        "labs": [asdict(result) for result in results],
        "milestones": [{"lab": m.lab, "text": m.text, "value": value, "reached": kept} for m, value, kept in rows],
    }
