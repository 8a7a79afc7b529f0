"""The ground that attacks are run on: a small course, its students, and decoys for everything that may not be reached.

All of it lies in a folder made for the run. Decoys are harmless: a folder to write to, a file to read, a port, a socket
and a process that note who reached them. What stands for a secret is a canary, two words that occur nowhere else.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbgrader.api import Gradebook
from nbgrader.apps.api import NbGraderAPI

from gradekit.authoring import answers
from gradekit.authoring.canaries import ensure
from gradekit.authoring.sync import pairs, sync
from gradekit.course import Course, Role, read_notebook, role_of
from gradekit.integrity import canaries
from gradekit.redteam.attack import Attack

log = logging.getLogger("gradekit.redteam")

#: What students may not see, by where it lies.
CANARIES = {
    "hidden": "cobalt heron",  # the hidden tests
    "solution": "marsh harrier",  # the instructor's notebook
    "neighbour": "saffron newt",  # another student's folder
    "gradebook": "umber lynx",  # the gradebook
    "outside": "ivory stoat",  # a file beside the course
    "environment": "scarlet ibis",  # the grader's environment
}
SECRET_VARIABLE = "REDTEAM_SECRET"
NEIGHBOURS = ("anna", "zoe")
#: Seconds that a cell may take, so that a hang is soon over.
CELL_TIMEOUT_S = 15

_CONFIG = """
c = get_config()
c.CourseDirectory.course_id = "redteam"
c.CourseDirectory.ignore = [".ipynb_checkpoints", "*.pyc", "__pycache__", "feedback", "plain.py", "deep.py"]
c.Exchange.root = {exchange!r}
c.ClearSolutions.code_stub = {{"python": "raise NotImplementedError()"}}
c.Execute.timeout = {timeout}
"""


def build(folder: Path, root: Path) -> Course:
    """The small course, generated and with its canaries, without students.

    Args:
        folder: its texts, one file for each lab, each an assignment of its own, and their answer bank in ``answers``.
        root: where to make it.
    """
    shutil.copytree(folder / "answers", root / "answers")
    for text in sorted(folder.glob("*.py")):
        (root / "source" / text.stem).mkdir(parents=True)
        shutil.copy(text, root / "source" / text.stem)
    course = configured(root)
    for stem in pairs(course):
        sync(stem)
    generate(course)
    return course


def copied(course: Course, root: Path) -> Course:
    """A copy of a course, generated and with its canaries, without students."""
    shutil.copytree(course.path("source", "."), root / "source")
    for name in ("nbgrader_config.py", "syllabus.yaml"):
        if (course.root / name).is_file():
            shutil.copy(course.root / name, root)
    for lab in course.labs():
        if (bank := answers.folder(course, lab)).is_dir():
            shutil.copytree(bank, root / "answers" / lab.name)
        if (made := canaries.place(course.root, lab.assignment, lab.name)).is_file():
            kept = canaries.place(root, lab.assignment, lab.name)
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(made, kept)
    copy = Course.open(root)
    generate(copy)
    return copy


def generate(course: Course) -> None:
    """Make the student version of every assignment, and what graders plant in its notebooks."""
    api = NbGraderAPI(course.directory, config=course.config)
    for assignment in course.assignments:
        done = api.generate_assignment(assignment)
        if not done["success"]:
            raise RuntimeError(done["log"])
    for lab, test, why in ensure(course, course.labs()):
        log.warning("%s, %s: no canary: %s", lab.name, test or "all tests", why)


def configured(root: Path) -> Course:
    """The small course in a folder, with a configuration and an exchange of its own."""
    exchange = root / "exchange"
    exchange.mkdir(exist_ok=True)
    exchange.chmod(0o777)
    (root / "nbgrader_config.py").write_text(_CONFIG.format(exchange=str(exchange), timeout=CELL_TIMEOUT_S))
    return Course.open(root)


@dataclass(frozen=True)
class Ground:
    """A course to attack, and what lies around it.

    Attributes:
        outside: a decoy folder beside the course that every user may write to.
        places: what ``@NAME@`` in an attack stands for.
    """

    course: Course
    outside: Path
    places: dict[str, str]

    def hand_in(self, attack: Attack, student: str) -> None:
        """Collect an attack as the submission of a student."""
        folder = self._collected(student, attack.lab)
        path = folder / f"{attack.lab}.ipynb"
        notebook = json.loads(path.read_text())
        places = {**self.places, "MARK": str(self.outside / attack.marker), "NAME": attack.marker}
        content: bytes | None = None
        for title, body in attack.sections:
            for name, value in places.items():
                body = body.replace(f"@{name}@", value)
            kind, _, rest = title.partition(" ")
            if kind == "make":
                names = {"notebook": notebook, "folder": folder, "content": None}
                exec(compile(body, f"{attack.name}: make", "exec"), names)
                content = names["content"]
            elif kind == "file":
                (folder / rest).parent.mkdir(parents=True, exist_ok=True)
                (folder / rest).write_text(body)
            elif kind in ("before", "after"):
                at = _index(notebook, rest) + (kind == "after")
                notebook["cells"].insert(at, _cell(body, f"own-{at}-{len(notebook['cells'])}"))
            else:
                notebook["cells"][_index(notebook, title)]["source"] = body.rstrip("\n")
        if not path.is_dir():
            path.write_bytes(json.dumps(notebook).encode() if content is None else content)

    def settle_neighbours(self, names: tuple[str, ...] = NEIGHBOURS) -> None:
        """Students who hand in the right answers, and whose work nobody may read or change."""
        for name in names:
            for lab in self.course.labs():
                folder = self._collected(name, lab.assignment)
                (folder / "notes.txt").write_text(f"{CANARIES['neighbour']} of {name}\n")
                path = folder / f"{lab.name}.ipynb"
                notebook = read_notebook(path)
                for cell, original in zip(notebook.cells, lab.notebook.cells, strict=True):
                    if role_of(cell) is Role.EXERCISE:
                        cell.source = answers.reference(original).replace(f"# {CANARIES['solution']}", "")
                    elif role_of(cell) is Role.MANUAL:
                        cell.source = f"{CANARIES['neighbour']}, says {name}."
                nbformat.write(notebook, path)
            with Gradebook(self.course.db_url, self.course.course_id) as gradebook:
                gradebook.update_or_create_student(name, email=f"{CANARIES['gradebook']}@{name}")

    def neighbourhood(self) -> dict[str, str]:
        """Digests of the files that no attack may change, by path."""
        found = {}
        steps = [self.course.root / step for step in ("source", "release")]
        steps += [self.course.root / "submitted" / name for name in NEIGHBOURS]
        for top in steps:
            for base, folders, names in os.walk(top):
                folders.sort()
                for name in sorted(names):
                    path = Path(base, name)
                    if not path.is_symlink() and path.is_file():
                        found[str(path.relative_to(self.course.root))] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found

    def _collected(self, student: str, assignment: str) -> Path:
        folder = self.course.path("submitted", assignment, student)
        shutil.copytree(self.course.path("release", assignment), folder)
        (folder / "timestamp.txt").write_text("2026-01-01 10:00:00 UTC")
        (folder / "submission_secret.txt").write_text(f"a secret of {student}")
        return folder


@contextmanager
def ground(template: Course, root: Path) -> Iterator[Ground]:
    """A fresh copy of the course below ``root``, with its decoys."""
    shutil.copytree(template.root, root / "course")
    course = configured(root / "course")
    outside = root / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_text(CANARIES["outside"])
    for parent in (outside, root):
        parent.chmod(0o777)  # only the sandbox is in the way
    listener, abstract = socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX)
    abstract.bind(f"\0redteam-{os.getpid()}-{root.name}")
    abstract.listen()
    for s in (listener, abstract):
        threading.Thread(target=_note_callers, args=(s, outside), daemon=True).start()
    process = subprocess.Popen(
        ["/bin/sh", "-c", "trap 'touch escaping-signal-another-process' USR1; while :; do sleep 0.2; done"], cwd=outside
    )
    places = {
        "OUTSIDE": str(outside),
        "COURSE": str(course.root),
        "NEIGHBOUR": str(course.root / "submitted" / NEIGHBOURS[-1]),
        "PORT": str(listener.getsockname()[1]),
        "SOCKET": f"redteam-{os.getpid()}-{root.name}",
        "PID": str(process.pid),
    }
    try:
        yield Ground(course, outside, places)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        for s in (listener, abstract):
            s.close()


def _note_callers(listener: socket.socket, outside: Path) -> None:
    """A decoy service: who connects says a name, which becomes a file."""
    while True:
        try:
            caller, _ = listener.accept()
        except OSError:
            return
        with caller:
            caller.settimeout(2)
            try:
                name = caller.recv(100).decode(errors="replace").strip()
            except OSError:
                continue
            if name.replace("-", "").isalnum():
                (outside / name).touch()


def _index(notebook: dict[str, Any], grade_id: str) -> int:
    for index, cell in enumerate(notebook["cells"]):
        if cell["metadata"].get("nbgrader", {}).get("grade_id") == grade_id:
            return index
    raise ValueError(f"the small course has no cell '{grade_id}'")


def _cell(source: str, name: str) -> dict[str, Any]:
    kind = "code"
    if source.startswith("[markdown]\n"):
        kind, source = "markdown", source.removeprefix("[markdown]\n")
    cell: dict[str, Any] = {"cell_type": kind, "id": name, "metadata": {}, "source": source.rstrip("\n")}
    return cell | {"execution_count": None, "outputs": []} if kind == "code" else cell
