"""The formgrader with a large class: seconds until its pages stand in a browser, as it comes and with gradekit's lines.

The gradebook is filled through nbgrader's own classes. nbgrader's formgrader then runs on it twice: with an
``nbgrader_config.py`` that says nothing about it, and with this course's lines on it. Each page is opened in Chromium
until its table, or its points, are there; hosts beyond this machine (MathJax's) are out of reach. What the server
computes for it is told apart, since other programs on the machine lengthen the wait alone. The calls of nbgrader's API
behind the pages are made in this process, and their SQL statements counted.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from nbgrader.api import Comment, Grade, Gradebook, SubmittedAssignment, SubmittedNotebook
from nbgrader.apps.api import NbGraderAPI
from rich.console import Console
from rich.table import Table
from sqlalchemy import event, insert
from sqlalchemy.engine import Engine

from gradekit.course import Course, CourseError
from gradekit.formgrader.quick import QuickAPI

if TYPE_CHECKING:
    from playwright.sync_api import Page

#: A page that takes longer keeps a TA waiting.
WANTED_S = 2.0
#: The median of so many; what took longer than WANTED_S is not done again.
RUNS = 3
#: When a page is given up.
PATIENCE_S = 600
HANDED_IN = datetime(2026, 1, 1)
CONFIG = """
c = get_config()
c.CourseDirectory.course_id = "bench"
c.CourseDirectory.root = {root!r}
c.Exchange.root = {exchange!r}
"""
OURS = """
from gradekit.formgrader import quick
quick.install()
c.HTMLExporter.preprocessors = ["gradekit.reports.safe_html.Sanitize", "gradekit.formgrader.beside.Beside"]
c.HTMLExporter.filters = {"markdown2html": "gradekit.reports.safe_html.markdown2html"}
"""
#: The assignment, notebook, student and submission whose pages are measured.
ASSIGNMENT, LAB, STUDENT = "ps0", "ps0-lab0", "s00000"
SUBMISSION = f"{ASSIGNMENT}-{STUDENT}-{LAB}"
#: Lists, then pages of a submission: name -> address below the formgrader's.
PAGES = {
    "assignments": "manage_assignments",
    "submissions of an assignment": f"manage_submissions/{ASSIGNMENT}",
    "manual grading": "gradebook",
    "notebooks of an assignment": f"gradebook/{ASSIGNMENT}",
    "submissions of a notebook": f"gradebook/{ASSIGNMENT}/{LAB}",
    "students": "manage_students",
    "assignments of a student": f"manage_students/{STUDENT}",
    "notebooks of a student": f"manage_students/{STUDENT}/{ASSIGNMENT}",
    "a submission": f"submissions/{SUBMISSION}/",
    "the next submission": f"submissions/{SUBMISSION}/next",
    "the next with a failed test": f"submissions/{SUBMISSION}/next_incorrect",
}
#: Address below the formgrader's API -> the same by nbgrader's own class.
CALLS: dict[str, Callable[[NbGraderAPI], object]] = {
    "assignments": lambda api: api.get_assignments(),
    f"submissions/{ASSIGNMENT}": lambda api: api.get_submissions(ASSIGNMENT),
    f"notebooks/{ASSIGNMENT}": lambda api: api.get_notebooks(ASSIGNMENT),
    f"submitted_notebooks/{ASSIGNMENT}/{LAB}": lambda api: api.get_notebook_submissions(ASSIGNMENT, LAB),
    "students": lambda api: api.get_students(),
    f"student_submissions/{STUDENT}": lambda api: api.get_student_submissions(STUDENT),
    f"student_notebook_submissions/{STUDENT}/{ASSIGNMENT}": lambda api: api.get_student_notebook_submissions(
        STUDENT, ASSIGNMENT
    ),
    f"grades?submission_id={SUBMISSION}": lambda api: _rows(api, "grades"),
    f"comments?submission_id={SUBMISSION}": lambda api: _rows(api, "comments"),
}


@dataclass(frozen=True)
class Class:
    """How much is in the gradebook. The default is a whole course of labs like those of module 1.3 and 3.1.

    Attributes:
        notebooks: in each assignment.
        tests, answers: graded cells in each notebook, marked by machine and by hand.
    """

    students: int = 300
    assignments: int = 10
    notebooks: int = 8
    tests: int = 8
    answers: int = 3


def run(json_path: Path | None = None) -> None:
    """Measure, print a table, and write the figures as JSON if a path is given. Takes about ten minutes.

    Raises:
        CourseError: Playwright or Chromium is missing.
    """
    if importlib.util.find_spec("playwright") is None or shutil.which("chromium") is None:
        raise CourseError("Pages are measured in Chromium: `make test` installs it and Playwright.")
    figures = measure(Class())
    _show(figures)
    if json_path:
        json_path.write_text(json.dumps(figures, indent=1) + "\n")


def measure(size: Class) -> dict[str, Any]:
    """Seconds of each page, stock and with gradekit's lines, and of each API call behind them; see ``run``."""
    load = os.getloadavg()[0]
    pages: dict[str, dict[str, float]] = {name: {} for name in PAGES}
    calls: dict[str, dict[str, float]] = {path: {} for path in CALLS}
    with tempfile.TemporaryDirectory(prefix="gradekit-bench-") as folder:
        course = build(Path(folder) / "course", size)
        for kind, lines, api in (("stock", "", NbGraderAPI), ("ours", OURS, QuickAPI)):
            _configure(course.root, lines)
            with served(course.root) as server, _browser(server) as page:
                for name, path in PAGES.items():
                    opening = functools.partial(_open, page, server, path)
                    pages[name] |= _named(kind, wall_s=time.perf_counter, server_s=server.cpu_s, of=opening)
            for path, call in CALLS.items():
                calling = functools.partial(_call, api, course, call)
                calls[path] |= _named(kind, cpu_s=time.process_time, statements=_statements, of=calling)
    return {
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "load_before": load,
        "load_after": os.getloadavg()[0],
        "class": asdict(size),
        "marked_cells": size.students * size.assignments * size.notebooks * (size.tests + size.answers),
        "wanted_s": WANTED_S,
        "pages": pages,
        "calls": calls,
    }


# -- the course --------------------------------------------------------------------------------------------------------


def build(root: Path, size: Class) -> Course:
    """A course in which everybody has handed in everything, and everything is graded but for the answers."""
    root.mkdir(parents=True)
    (root / "exchange").mkdir(mode=0o777)
    (root / "exchange").chmod(0o777)
    _configure(root, "")
    course = Course.open(root)
    notebook = root / "notebook.ipynb"
    nbformat.write(_notebook(size), notebook)
    students = [f"s{number:05}" for number in range(size.students)]
    with Gradebook(course.db_url, course.course_id) as gradebook:
        for student in students:
            gradebook.add_student(student, first_name="A", last_name=f"Student {student}")
        for number in range(size.assignments):
            _fill(course, gradebook, f"ps{number}", size, students, notebook)
    return course


def _configure(root: Path, lines: str) -> None:
    text = CONFIG.format(root=str(root), exchange=str(root / "exchange"))
    (root / "nbgrader_config.py").write_text(text + lines)


def _fill(course: Course, gradebook: Gradebook, name: str, size: Class, students: list[str], notebook: Path) -> None:
    """An assignment, its submissions, and their files: links to one notebook, since no page reads two of them."""
    assignment = gradebook.add_assignment(name, duedate=HANDED_IN)
    graded: dict[str, list[tuple[str, str]]] = {}
    commented: dict[str, list[str]] = {}
    names = [f"{name}-lab{k}" for k in range(size.notebooks)]
    for lab in names:
        gradebook.add_notebook(lab, name)
        for cell in [c for c in nbformat.read(notebook, as_version=4).cells if "nbgrader" in c.metadata]:
            own = cell.metadata.nbgrader
            if own.grade:
                row = gradebook.add_grade_cell(
                    own.grade_id, lab, name, max_score=own.points, cell_type=cell.cell_type
                )
                graded.setdefault(lab, []).append((row.id, cell.cell_type))
            if own.solution:
                row = gradebook.add_solution_cell(own.grade_id, lab, name)
                commented.setdefault(lab, []).append(row.id)
    labs = {row.name: row.id for row in assignment.notebooks}
    works = [
        {"id": f"{name}-{student}", "assignment_id": assignment.id, "student_id": student, "timestamp": HANDED_IN}
        for student in students
    ]
    parts = [
        {"id": f"{work['id']}-{lab}", "assignment_id": work["id"], "notebook_id": labs[lab]}
        for work in works
        for lab in names
    ]
    of = {labs[lab]: lab for lab in names}
    grades = [
        {
            "id": f"{part['id']}-{k}",
            "notebook_id": part["id"],
            "cell_id": cell,
            "auto_score": float((k + j) % 3 != 0) if kind == "code" else None,
            "needs_manual_grade": kind != "code",
        }
        for j, part in enumerate(parts)
        for k, (cell, kind) in enumerate(graded[of[part["notebook_id"]]])
    ]
    comments = [
        {"id": f"{part['id']}-{k}", "notebook_id": part["id"], "cell_id": cell}
        for part in parts
        for k, cell in enumerate(commented[of[part["notebook_id"]]])
    ]
    for table, rows in ((SubmittedAssignment, works), (SubmittedNotebook, parts), (Grade, grades), (Comment, comments)):
        gradebook.db.execute(insert(table), rows)
    gradebook.db.commit()
    _link(notebook, course.path("source", name), names)
    for student in students:
        _link(notebook, course.path("autograded", name, student), names)
        submitted = course.path("submitted", name, student)
        submitted.mkdir(parents=True)
        (submitted / "timestamp.txt").write_text(f"{HANDED_IN:%Y-%m-%d %H:%M:%S} UTC")


def _link(notebook: Path, folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True)
    for name in names:
        os.link(notebook, folder / f"{name}.ipynb")


def _notebook(size: Class) -> nbformat.NotebookNode:
    """Of the length of a graded lab: 100 cells, 200 kB."""
    def own(grade_id: str, points: int = 0, *, solution: bool = False) -> dict[str, Any]:
        return {"nbgrader": {"grade": points > 0, "grade_id": grade_id, "locked": not solution, "points": points,
                             "schema_version": 3, "solution": solution, "task": False}}  # fmt: skip

    prose = "What this part is about, and **why**, with $y = Wx + b$.\n\n" + "One more sentence on it. " * 40
    cells = []
    for k in range(size.tests):
        code = f"def part{k}(x):\n" + "    x = x + 1\n" * 20 + "    return x"
        cells += [new_markdown_cell(prose) for _ in range(4)]
        cells.append(new_code_cell(code, metadata=own(f"part{k}", solution=True)))
        cells.append(new_code_cell(f"assert part{k}(1) == 21\n" * 20, metadata=own(f"test-part{k}", 1)))
        cells.append(new_code_cell(f"print(part{k}(2))", outputs=[new_output("stream", text="22\n" * 500)]))
    scheme = "### BEGIN MARK SCHEME\nOne point each.\n### END MARK SCHEME"
    solved = f"### BEGIN SOLUTION\nAn answer.\n\n{scheme}\n### END SOLUTION"
    for k in range(size.answers):
        cells.append(new_markdown_cell(f"Question {k}?\n\n{solved}", metadata=own(f"reflect{k}", 2, solution=True)))
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number}"
    return new_notebook(cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})


# -- the formgrader ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Server:
    """A Jupyter server with nbgrader's formgrader; ``token`` lets in."""

    address: str
    token: str
    pid: int

    def url(self, path: str) -> str:
        return f"{self.address}formgrader/{path}"

    def answers(self) -> bool:
        request = urllib.request.Request(self.url("api/status"), headers={"Authorization": f"token {self.token}"})
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return answer.status == 200

    def cpu_s(self) -> float:
        """The seconds that the server has computed so far."""
        user, system = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@contextmanager
def served(root: Path) -> Iterator[Server]:
    """nbgrader's formgrader on the course in ``root``, on this machine alone.

    Raises:
        RuntimeError: it did not start; the message has its log.
    """
    with tempfile.TemporaryDirectory(prefix="gradekit-jupyter-") as folder:
        own = {f"JUPYTER_{kind}_DIR": str(Path(folder) / kind.lower()) for kind in ("CONFIG", "DATA", "RUNTIME")}
        paths = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
        argv = [sys.executable, "-m", "jupyter_server", "--no-browser", "--ServerApp.port=0", "--allow-root",
                f"--ServerApp.root_dir={root}"]  # fmt: skip
        log = Path(folder) / "log"
        env = {**os.environ, **own, "PATH": paths}
        with log.open("w") as file:
            server = subprocess.Popen(argv, cwd=root, env=env, stdout=file, stderr=file)
        try:
            yield _started(server, Path(own["JUPYTER_RUNTIME_DIR"]), log)
        finally:
            server.terminate()
            server.wait()


def _started(server: subprocess.Popen[bytes], runtime: Path, log: Path) -> Server:
    deadline = time.monotonic() + 120
    while server.poll() is None and time.monotonic() < deadline:
        for path in runtime.glob("jpserver-*.json"):
            with suppress(OSError, ValueError, KeyError):  # half written, or not listening yet
                info = json.loads(path.read_text())
                found = Server(info["url"], info["token"], server.pid)
                if found.answers():
                    return found
        time.sleep(0.1)
    raise RuntimeError(f"the Jupyter server did not start:\n{log.read_text()[-2000:]}")


@contextmanager
def _browser(server: Server) -> Iterator[Page]:
    """A page that is signed in and reaches the server alone."""
    from playwright.sync_api import sync_playwright

    as_root = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=as_root)
        page = browser.new_page(viewport={"width": 1200, "height": 800})
        page.set_default_timeout(1000 * PATIENCE_S)
        page.route(lambda url: not url.startswith(server.address), lambda route: route.abort())
        page.goto(f"{server.url('gradebook')}?token={server.token}")
        page.wait_for_function(_SHOWN)  # what a server does once, such as making indexes, is done
        yield page
        browser.close()


# -- what is measured --------------------------------------------------------------------------------------------------

#: A list has its rows; a submission its points and comments.
_SHOWN = """() => typeof formgrader !== "undefined" && formgrader.loaded !== undefined
    ? formgrader.grades && formgrader.grades.loaded && formgrader.comments && formgrader.comments.loaded
    : typeof models !== "undefined" && models && models.loaded"""


def _open(page: Page, server: Server, path: str) -> None:
    page.goto(server.url(path))
    page.wait_for_function(_SHOWN)


def _call(api: type[NbGraderAPI], course: Course, call: Callable[[NbGraderAPI], object]) -> None:
    call(api(course.directory, config=course.config))


def _named(kind: str, *, of: Callable[[], object], **clocks: Callable[[], float]) -> dict[str, float]:
    """What clocks show for something that is done, as ``<kind>_<name of the clock>``: medians of a few runs."""
    shown: dict[str, list[float]] = {name: [] for name in clocks}
    start = time.perf_counter()
    for _ in range(RUNS):
        before = {name: clock() for name, clock in clocks.items()}
        of()
        for name, clock in clocks.items():
            shown[name].append(clock() - before[name])
        if time.perf_counter() - start > WANTED_S:
            break
    return {f"{kind}_{name}": statistics.median(values) for name, values in shown.items()}


_made = 0


def _statements() -> int:
    """How many SQL statements this process has made so far."""
    return _made


@event.listens_for(Engine, "before_cursor_execute")
def _count(*_: object) -> None:
    global _made
    _made += 1


def _rows(api: NbGraderAPI, kind: str) -> list[dict[str, Any]]:
    """Grades or comments of a submission, as the formgrader's handlers put them together."""
    with api.gradebook as gradebook:
        return [row.to_dict() for row in getattr(gradebook.find_submission_notebook_by_id(SUBMISSION), kind)]


def _show(figures: dict[str, Any]) -> None:
    console, size = Console(), figures["class"]
    console.print(
        f"{size['students']} students, {size['assignments']} assignments, {figures['marked_cells']:,} marked cells; "
        f"{figures['cpus']} CPUs, load {figures['load_before']:.1f} before and {figures['load_after']:.1f} after",
        highlight=False,
    )
    pages = Table(title="Until a page is there, s")
    calls = Table(title="The API behind the pages")
    for heading in ("page", "stock", "its server computes", "gradekit", "its server computes", f"of {WANTED_S:g} s"):
        pages.add_column(heading, justify="left" if heading == "page" else "right")
    for heading in ("call", "stock computes, s", "SQL statements", "gradekit computes, s", "SQL statements"):
        calls.add_column(heading, justify="left" if heading == "call" else "right")
    for name, row in figures["pages"].items():
        share = row["ours_wall_s"] / WANTED_S
        seconds = [row[f"{kind}_{clock}_s"] for kind in ("stock", "ours") for clock in ("wall", "server")]
        colour = "green" if share <= 1 else "red"
        pages.add_row(name, *(f"{value:.2f}" for value in seconds), f"[{colour}]{share:.0%}[/]")
    for name, row in figures["calls"].items():
        made = [f"{row['stock_statements']:.0f}", f"{row['ours_statements']:.0f}"]
        calls.add_row(name, f"{row['stock_cpu_s']:.2f}", made[0], f"{row['ours_cpu_s']:.2f}", made[1])
    console.print(pages, calls)
