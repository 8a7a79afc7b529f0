"""Grading a class: stock ``nbgrader autograde`` and ``gradekit grade`` in turn on the same course, and the limit.

Every figure is the wall time of a whole command, its start-up included. Each command grades a small and a large class;
the marginal submission is the difference over the difference. Both must give the same marks to the same notebooks.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nbformat
from nbformat.v4 import new_code_cell, new_notebook
from nbgrader.api import Gradebook
from nbgrader.apps.api import NbGraderAPI
from rich.console import Console
from rich.table import Table

from gradekit.course import Course

WIDTH = 2
ASSIGNMENT = "ps1"
CLASS = 100  # the class for which submissions per hour are given
LONG_CLASS = 1000

CONFIG = """
c = get_config()
c.CourseDirectory.course_id = "bench"
c.ClearSolutions.code_stub = {"python": "raise NotImplementedError()"}
c.Execute.timeout = 120
"""


@dataclass(frozen=True)
class Workload:
    """A kind of notebook, and the sizes of the classes that are graded to find the marginal submission.

    Attributes:
        imports: the first cell.
        load: what the last test runs before it asserts; ``{n}`` is a number of loops that takes three seconds.
    """

    name: str
    imports: str
    preload: str
    load: str
    stock: tuple[int, int]
    ours: tuple[int, int]

    def halved(self) -> Workload:
        """The same with classes of half the size."""
        (a, b), (c, d) = self.stock, self.ours
        return replace(self, stock=(a // 2, b // 2), ours=(c // 2, d // 2))


WORKLOADS = (
    Workload("imports", "import torch, transformers, peft", "torch,transformers,peft", "", (2, 8), (20, 100)),
    Workload("trivial", "import math", "-", "", (2, 12), (20, 200)),
    Workload("compute", "import math", "-", "for i in range({n}):\n    math.sqrt(i)", (2, 6), (6, 26)),
)

PARTS = (*(workload.name for workload in WORKLOADS), "growth")

#: Grade id of an exercise -> what students type: right, right in another way, wrong; None leaves it untouched.
ANSWERS: tuple[dict[str, str], ...] = (
    {"square": "def square(x):\n    return x * x", "half": "def half(x):\n    return x / 2"},
    {"square": "def square(x):\n    return x ** 2", "half": "def half(x):\n    return 0.5 * x"},
    {"square": "def square(x):\n    return x + x", "half": "def half(x):\n    return x / 2"},
    {"square": "def square(x):\n    return x * x"},
)


def run(json_path: Path | None = None, *, quick: bool = False, only: str | None = None) -> None:
    """Measure, print a table, and write the figures as JSON if a path is given.

    Args:
        quick: classes of half the size, and no class of a thousand: rougher figures in a few minutes.
        only: the one of PARTS to measure.
    """
    figures: dict[str, Any] = {"cpus": os.cpu_count(), "width": WIDTH, "class": CLASS}
    with tempfile.TemporaryDirectory(prefix="gradekit-bench-") as folder:
        for workload in WORKLOADS:
            if only in (None, workload.name):
                figures[workload.name] = measure(workload.halved() if quick else workload, Path(folder))
        if only == "growth" or (only is None and not quick):
            figures["growth"] = growth(Path(folder))
    _show(figures)
    if json_path:
        json_path.write_text(json.dumps(figures, indent=1) + "\n")


def measure(workload: Workload, folder: Path) -> dict[str, Any]:
    """All figures of one workload; seconds, and MiB.

    Raises:
        RuntimeError: a command failed, or the two graders disagree about a mark.
    """
    root = folder / workload.name
    build(root / "course", workload, max(*workload.ours, *workload.stock))
    seconds: dict[str, list[float]] = {"stock": [], "ours": [], "limit": []}
    for command in (_stock_command, _our_command, lambda course: _limit_command(course, workload)):
        _timed(command(_class(root, 1, "warm-up")))  # files into memory, modules into bytecode
    for stock, ours in zip(workload.stock, workload.ours, strict=True):
        courses = {"stock": _class(root, stock, "stock"), "ours": _class(root, ours, "ours")}
        seconds["stock"].append(_timed(_stock_command(courses["stock"])))
        seconds["ours"].append(_timed(_our_command(courses["ours"])))
        seconds["limit"].append(_timed(_limit_command(courses["ours"], workload)))
        _require_equal_marks(courses["stock"], courses["ours"])
    memory = {
        "ours": _peak_mib(_our_command(_class(root, workload.ours[0], "memory"))),
        "limit": _peak_mib(_limit_command(root / "memory", workload)),
    }
    per = {"stock": workload.stock, "ours": workload.ours, "limit": workload.ours}
    marginal = {k: (s[1] - s[0]) / (per[k][1] - per[k][0]) for k, s in seconds.items()}
    at_class = {k: seconds[k][0] + marginal[k] * (CLASS - per[k][0]) for k in seconds}
    return {
        "classes": {k: list(v) for k, v in per.items()},
        "seconds": seconds,
        "marginal_s": marginal,
        "class_s": at_class,
        "per_hour": {k: 3600 * CLASS / s for k, s in at_class.items()},
        "ratio_class": at_class["stock"] / at_class["ours"],
        "ratio_marginal": marginal["stock"] / marginal["ours"],
        "above_limit_s": marginal["ours"] - marginal["limit"],
        "memory_mib": memory,
    }


def growth(folder: Path) -> dict[str, float]:
    """What a class of a thousand leaves: memory of all processes late in the run less the same early in it, in MiB."""
    trivial = next(w for w in WORKLOADS if w.name == "trivial")
    build(folder / "long" / "course", trivial, LONG_CLASS)
    samples = _sampled(_our_command(folder / "long" / "course"), every=0.5)
    tenth = len(samples) // 10
    early, late = samples[tenth : 3 * tenth], samples[-3 * tenth : -tenth]
    return {
        "submissions": LONG_CLASS,
        "early_mib": sum(early) / len(early),
        "late_mib": sum(late) / len(late),
        "growth_mib": sum(late) / len(late) - sum(early) / len(early),
    }


# -- the course --------------------------------------------------------------------------------------------------------


def build(root: Path, workload: Workload, students: int) -> Course:
    """A course with one generated assignment and its collected submissions."""
    source = root / "source" / ASSIGNMENT
    source.mkdir(parents=True)
    (root / "nbgrader_config.py").write_text(CONFIG)
    load = workload.load.format(n=_loops_in_three_seconds()) if workload.load else ""
    nbformat.write(_notebook(workload.imports, load), source / "notebook.ipynb")
    course = Course.open(root)
    done = NbGraderAPI(course.directory, config=course.config).generate_assignment(ASSIGNMENT)
    if not done["success"]:
        raise RuntimeError(done["log"])
    released = nbformat.read(root / "release" / ASSIGNMENT / "notebook.ipynb", as_version=4)
    for number in range(students):
        answer = ANSWERS[number % len(ANSWERS)]
        for cell in released.cells:
            grade_id = cell.metadata["nbgrader"]["grade_id"]
            if grade_id in ANSWERS[0]:
                cell.source = answer.get(grade_id, "raise NotImplementedError()")
        folder = root / "submitted" / f"s{number:05}" / ASSIGNMENT
        folder.mkdir(parents=True)
        nbformat.write(released, folder / "notebook.ipynb")
    return course


def _notebook(imports: str, load: str) -> nbformat.NotebookNode:
    def cell(grade_id: str, source: str, points: int = 0, *, solution: bool = False) -> nbformat.NotebookNode:
        meta: dict[str, Any] = {"grade": points > 0, "grade_id": grade_id, "locked": not solution}
        meta |= {"schema_version": 3, "solution": solution, "task": False}
        meta |= {"points": points} if points else {}
        return new_code_cell(source, id=grade_id, metadata={"nbgrader": meta})

    def solved(source: str) -> str:
        return f"### BEGIN SOLUTION\n{source}\n### END SOLUTION"

    cells = [
        cell("imports", imports),
        cell("square", solved(ANSWERS[0]["square"]), solution=True),
        cell("test-square", "assert square(3) == 9\nassert square(-4) == 16", 2),
        cell("half", solved(ANSWERS[0]["half"]), solution=True),
        cell("test-half", f"{load}\nassert half(3) == 1.5".strip(), 3),
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel})


def _loops_in_three_seconds() -> int:
    loops = 1_000_000
    code = f"import math, time\nstart = time.perf_counter()\nfor i in range({loops}):\n    math.sqrt(i)\n"
    code += "print(time.perf_counter() - start)"
    seconds = min(float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(3))
    return int(loops * 3 / seconds)


def _class(root: Path, size: int, name: str) -> Path:
    """A copy of the course with the first ``size`` students and no marks."""
    course = root / name
    shutil.rmtree(course, ignore_errors=True)
    shutil.copytree(root / "course", course, ignore=shutil.ignore_patterns("submitted"))
    for folder in sorted((root / "course" / "submitted").iterdir())[:size]:
        shutil.copytree(folder, course / "submitted" / folder.name)
    return course


# -- the commands ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Command:
    argv: Sequence[str]
    folder: Path

    def start(self) -> subprocess.Popen[bytes]:
        env = {**os.environ, **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")}
        quiet = subprocess.DEVNULL
        return subprocess.Popen(self.argv, cwd=self.folder, env=env, stdout=quiet, stderr=quiet)


def _stock_command(course: Path) -> _Command:
    return _Command([sys.executable, "-m", "nbgrader", "autograde", ASSIGNMENT, "--log-level=ERROR"], course)


def _our_command(course: Path) -> _Command:
    return _Command([sys.executable, "-m", "gradekit.cli", "grade", ASSIGNMENT, "--jobs", str(WIDTH)], course)


def _limit_command(course: Path, workload: Workload) -> _Command:
    notebooks = [str(path) for path in sorted(course.glob("submitted/*/*/*.ipynb"))]
    return _Command([sys.executable, "-m", "gradekit.bench.limit", str(WIDTH), workload.preload, *notebooks], course)


def _timed(command: _Command) -> float:
    start = time.perf_counter()
    status = command.start().wait()
    seconds = time.perf_counter() - start
    if status:
        raise RuntimeError(f"{' '.join(command.argv[:6])} in {command.folder} ended with status {status}")
    return seconds


def _require_equal_marks(stock: Path, ours: Path) -> None:
    marks, others = _marks(stock), _marks(ours)
    for student in sorted(marks.keys() & others.keys()):
        if marks[student] != others[student]:
            raise RuntimeError(f"{student}: stock nbgrader gives {marks[student]}, gradekit gives {others[student]}")


def _marks(root: Path) -> dict[str, dict[str, Any]]:
    course = Course.open(root)
    with Gradebook(course.db_url, course.course_id) as gradebook:
        return {
            submission.student.id: {
                grade.name: (grade.auto_score, grade.needs_manual_grade)
                for notebook in submission.notebooks
                for grade in notebook.grades
            }
            for submission in gradebook.assignment_submissions(ASSIGNMENT)
        }


# -- memory ------------------------------------------------------------------------------------------------------------


def _peak_mib(command: _Command) -> float | None:
    samples = _sampled(command, every=0.1)
    return max(samples) if samples else None


def _sampled(command: _Command, every: float) -> list[float]:
    """The proportional set size, in MiB, of a command and all it started, over time; empty if it may not be read."""
    process = command.start()
    samples: list[float] = []
    done = threading.Event()

    def sample() -> None:
        while True:
            try:
                samples.append(_pss_kib(process.pid) / 1024)
            except PermissionError:  # other users' processes: a fork server of the namespaces level
                samples.clear()
                return
            if done.wait(every):
                return

    sampler = threading.Thread(target=sample)
    sampler.start()
    status = process.wait()
    done.set()
    sampler.join()
    if status:
        raise RuntimeError(f"{' '.join(command.argv[:6])} ended with status {status}")
    return samples


def _pss_kib(root: int) -> int:
    total, waiting = 0, [root]
    while waiting:
        pid = waiting.pop()
        try:
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            threads = os.listdir(f"/proc/{pid}/task")
            for thread in threads:
                waiting += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
        total += next((int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")), 0)
    return total


def _show(figures: dict[str, Any]) -> None:
    console = Console()
    table = Table(title=f"Grading, {figures['width']} jobs at a time on {figures['cpus']} CPUs")
    measured = {name: figures[name] for name in figures if name in PARTS and name != "growth"}
    table.add_column("")
    for name in measured:
        table.add_column(name, justify="right")

    def add(heading: str, cell: Callable[[dict[str, Any]], str]) -> None:
        table.add_row(heading, *(cell(row) for row in measured.values()))

    add("submissions per hour, stock", lambda row: f"{row['per_hour']['stock']:,.0f}")
    add("gradekit", lambda row: f"{row['per_hour']['ours']:,.0f}")
    add("times stock", lambda row: f"{row['ratio_class']:.1f}")
    table.add_section()
    add("one more submission, stock, s", lambda row: f"{row['marginal_s']['stock']:.2f}")
    add("gradekit", lambda row: f"{row['marginal_s']['ours']:.3f}")
    add("times stock", lambda row: f"{row['ratio_marginal']:.1f}")
    add("the limit", lambda row: f"{row['marginal_s']['limit']:.4f}")
    add("gradekit above the limit", lambda row: f"{row['above_limit_s']:.3f}")
    table.add_section()
    add("memory at peak, gradekit, MiB", lambda row: _shown(row["memory_mib"]["ours"]))
    add("the limit", lambda row: _shown(row["memory_mib"]["limit"]))
    if measured:
        console.print(table)
        console.print(f"Per hour: a class of {figures['class']}, start-up included, from the two classes measured.")
    if "growth" in figures:
        grown = figures["growth"]
        console.print(f"{grown['submissions']} submissions added {grown['growth_mib']:.1f} MiB to all processes.")


def _shown(mib: float | None) -> str:
    return "not readable" if mib is None else f"{mib:,.0f}"
