"""Stock nbgrader commands grade in the sandbox when the configuration names the kernel."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from gradekit.kernels import install

CONFIG = """
c = get_config()
c.Execute.kernel_name = "gradekit"
"""


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """nbgrader's own example course, one student's submission, and our kernel in a prefix of its own."""
    base = tmp_path_factory.mktemp("stock")
    install(base / "prefix")
    nbgrader(base, "quickstart", "course")
    root = base / "course"
    (root / "nbgrader_config.py").write_text((root / "nbgrader_config.py").read_text() + CONFIG)
    (root / "source" / "ps1" / "numbers.txt").write_text("40 2\n")
    nbgrader(root, "generate_assignment", "ps1")
    for notebook in (root / "source" / "ps1").glob("*.ipynb"):
        submitted = root / "submitted" / "ada" / "ps1" / notebook.name
        submitted.parent.mkdir(parents=True, exist_ok=True)
        submitted.write_bytes(notebook.read_bytes())  # the instructor's own answers
    add_probe_cell(root / "submitted" / "ada" / "ps1" / "problem1.ipynb")
    return root


def add_probe_cell(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    source = (
        "import os, sys\n"
        "print('uid', os.getuid(), 'in', os.getcwd(), 'with', sorted(os.listdir('.')))\n"
        "print('sum', sum(map(int, open('numbers.txt').read().split())))\n"
        "print('execution', os.environ.get('NBGRADER_EXECUTION'))\n"
        f"print('course seen', os.path.exists({str(path.parent)!r}))"
    )
    cell = nbformat.v4.new_code_cell(source)
    del cell["id"]  # the example is of nbformat 4.0
    notebook.cells.append(cell)
    nbformat.write(notebook, path)


def nbgrader(where: Path, *arguments: str) -> str:
    return python(where, "-m", "nbgrader", *arguments)


def python(where: Path, *arguments: str) -> str:
    prefix = next(p for p in (where, *where.parents) if p.name.startswith("stock")) / "prefix"
    env = {
        **os.environ,
        "PATH": f"{sys.prefix}/bin:{os.environ['PATH']}",  # nbgrader looks for alembic there
        "JUPYTER_PATH": str(prefix / "share" / "jupyter"),
    }
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=where, env=env, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def printed(root: Path) -> str:
    notebook = nbformat.read(root / "autograded" / "ada" / "ps1" / "problem1.ipynb", as_version=4)
    (cell,) = (c for c in notebook.cells if "print('uid'" in c.source)
    return "".join(o.get("text", str(o)) for o in cell.outputs)


def test_autograde_runs_in_the_sandbox_beside_the_submitted_files(course: Path) -> None:
    nbgrader(course, "autograde", "ps1", "--force")
    said = printed(course)
    assert "uid 1000 in /submission" in said
    assert "sum 42" in said
    assert "execution autograde" in said
    assert "course seen False" in said
    assert ".ipynb" not in said.split("with")[1].split("\n")[0]  # autograded notebooks hold the hidden tests
    with sqlite3.connect(course / "gradebook.db") as gradebook:
        marks = gradebook.execute("select sum(auto_score) from grade where auto_score is not null").fetchone()[0]
    assert marks == 3  # every point that the example gives by tests


def test_validate_runs_in_the_sandbox(course: Path) -> None:
    said = nbgrader(course, "validate", "source/ps1/problem1.ipynb")
    assert "Success! Your notebook passes all the tests." in said


def test_formgraders_button_calls_what_autograde_calls(course: Path) -> None:
    """The button is nbgrader.apps.api.NbGraderAPI.autograde, with the course's configuration."""
    code = (
        "from nbgrader.apps import NbGraderAPI, NbGrader\n"
        "app = NbGrader(); app.load_config_file()\n"
        "print(NbGraderAPI(config=app.config).autograde('ps1', 'ada', force=True, create=True))"
    )
    assert "'success': True" in python(course, "-c", code)
    assert "uid 1000 in /submission" in printed(course)
