"""`gradekit bench gpu` without a GPU: it refuses. And what it makes of made-up figures: no time here is a GPU's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from gradekit.bench import gpu
from gradekit.bench.gpu import Result
from gradekit.course import Lab
from labkit import hardware
from labkit.fullsize import Measured, Roofs
from nbformat.v4 import new_code_cell, new_notebook
from rich.console import Console

ROOT = Path(__file__).parents[4]
GPU = hardware.GPU("Made-up", (9, 0), 10**9, False, "1", (13, 0))
ROOFS = Roofs(bandwidth=200e9, flops=20e12)
SUMS = [Measured(name, seconds, nbytes=10**9, cpu_s=1.0) for name, seconds in (("slow", 0.02), ("fast", 0.005))]
PRODUCTS = [Measured(name, seconds, flops=10**12, library_s=0.1) for name, seconds in (("tiled", 0.3), ("tuned", 0.2))]
FULL = [
    Result("1.3.1", (), SUMS, ROOFS),
    Result("1.3.2", (), PRODUCTS, ROOFS),
    Result("1.3.3"),
    Result("1.3.4", (), [Measured("pipeline", 0.1, nbytes=10**9, cpu_s=0.05)], ROOFS),
]


@pytest.mark.skipif(hardware.machine().gpu is not None, reason="there is a GPU")
def test_without_a_gpu_nothing_is_measured_or_written(tmp_path: Path) -> None:
    figures = tmp_path / "gpu.json"
    command = [sys.executable, "-m", "gradekit.cli", "bench", "gpu", "--json", str(figures), "--course-dir", str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Nothing was measured: this machine has no NVIDIA GPU." in done.stderr
    assert not done.stdout and not figures.exists()


def test_a_milestone_is_reached_by_the_best_kernel() -> None:
    rows = gpu.reached(FULL)
    assert [(milestone.lab, value, kept) for milestone, value, kept in rows] == [
        ("1.3.1", 200.0, True), ("1.3.2", 2.0, True), ("1.3.3", 0.0, True), ("1.3.4", 0.5, True)
    ]  # fmt: skip


def test_a_milestone_that_was_not_measured_is_not_reached() -> None:
    rows = gpu.reached([Result("1.3.1", ["test-x: AssertionError: no"]), Result("1.3.3", ["test-y: ValueError: no"])])
    assert [(value, kept) for _, value, kept in rows] == [(None, False), (None, False), (1.0, False), (None, False)]


def test_the_table_and_the_figures(tmp_path: Path) -> None:
    console = Console(width=200, record=True)
    results = [*FULL, Result("1.3.5", ["test-record: AssertionError: no"])]
    gpu.show(console, "Made-up", results, gpu.reached(results))
    said = console.export_text()
    fast = next(line for line in said.splitlines() if " fast " in line)
    for cell in ("5.000", "200 GB/s", "100%", "200.0"):
        assert cell in fast
    tuned = next(line for line in said.splitlines() if " tuned " in line)
    for cell in ("5.00 TFLOP/s", "25%", "2.00"):
        assert cell in tuned
    assert "1.3.5: test-record: AssertionError: no" in said and "reached 1.3.1" in said
    written = json.loads(json.dumps(gpu.figures(GPU, results, gpu.reached(results))))
    assert written["labs"][0]["kernels"][1]["cpu_s"] == 1.0 and written["labs"][0]["roofs"]["flops"] == 20e12
    assert written["milestones"][1] == {
        "lab": "1.3.2", "text": "a tiled product within 2 times the time of cuBLAS", "value": 2.0, "reached": True
    }  # fmt: skip


def _lab(tmp_path: Path, *sources: str) -> Lab:
    path = tmp_path / "1.3.7-made-up.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell(source) for source in sources]), path)
    return Lab("1.3-cuda-python", path)


PATCH = """
from labkit import fullsize
fullsize.roofs = lambda: fullsize.Roofs(200e9, 20e12)
def full_size():
    print("full size: said by the notebook itself")
    return [fullsize.Measured("sum", 0.5, nbytes=10**9, cpu_s=2.0)]
"""


def test_a_notebook_is_run_and_its_full_size_read(tmp_path: Path) -> None:
    result = gpu.measure(_lab(tmp_path, PATCH, "1 / 0", "print('on')"))
    assert result == Result(
        "1.3.7", ["cell 2: ZeroDivisionError: division by zero"], [Measured("sum", 0.5, nbytes=10**9, cpu_s=2.0)], ROOFS
    )


def test_a_notebook_without_full_size_or_with_one_that_fails(tmp_path: Path) -> None:
    assert gpu.measure(_lab(tmp_path, "x = 1")) == Result("1.3.7", [])
    (tmp_path / "again").mkdir()
    failing = PATCH.replace("return [", "raise RuntimeError('out of memory')\n    return [")
    result = gpu.measure(_lab(tmp_path / "again", failing))
    assert result.kernels == () and result.faults == ["cell 2: RuntimeError: out of memory"]


def test_the_milestones_are_those_of_labs_that_exist_or_are_planned() -> None:
    from gradekit.syllabus import load

    known = {lab.id for lab in load(ROOT / "syllabus.yaml").labs}
    assert {milestone.lab for milestone in gpu.MILESTONES} <= known
