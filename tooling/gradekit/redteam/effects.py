"""What an attack did, read off the marks, the recorded notebook, the feedback page and the decoys."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from bs4 import BeautifulSoup
from nbgrader.api import Gradebook, MissingEntry

from gradekit.course import Course, Role, read_notebook
from gradekit.redteam.attack import Attack
from gradekit.redteam.ground import CANARIES, Ground

#: Stands in every payload for a feedback page.
TOKEN = "redteam"
_ADDRESSES = ("href", "src", "action", "formaction", "data", "xlink:href", "poster", "background", "srcset", "srcdoc")
_LOADS = ("iframe", "frame", "object", "embed", "base", "link", "form", "meta", "style", "portal")
_RUNS = ("javascript:", "vbscript:", "data:text/html", "data:image/svg")
_SCRIPTS = ("", "module", "text/javascript", "application/javascript", "application/ecmascript", "text/ecmascript")


class End(StrEnum):
    """What came of an attack, worst first."""

    DISTURBED = "disturbed another"
    REACHED = "reached outside"
    GAINED = "points gained"
    HELD = "held"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Effect:
    """What an attack did.

    Attributes:
        gained: points above what its answers earn that stand in the gradebook.
        held: graded cells that wait for a person.
        reached: what it read, wrote or left active that it must not.
        disturbed: what became of others.
    """

    gained: float = 0.0
    held: tuple[str, ...] = ()
    reached: tuple[str, ...] = ()
    disturbed: tuple[str, ...] = field(default=())

    @property
    def end(self) -> End:
        if self.disturbed:
            return End.DISTURBED
        if self.reached:
            return End.REACHED
        if self.gained:
            return End.GAINED
        return End.HELD if self.held else End.STOPPED

    @property
    def succeeded(self) -> bool:
        return self.end not in (End.HELD, End.STOPPED)

    def __str__(self) -> str:
        what = {
            End.DISTURBED: "; ".join(self.disturbed),
            End.REACHED: "; ".join(self.reached),
            End.GAINED: f"{self.gained:g}",
            End.HELD: ", ".join(self.held),
        }.get(self.end, "")
        return f"{self.end}: {what}" if what else str(self.end)


def effect(ground: Ground, attack: Attack, student: str, disturbed: tuple[str, ...] = ()) -> Effect:
    """What an attack did, after grading and, where it is about it, feedback."""
    gained, held = _marks(ground.course, attack, student)
    reached = []
    if (ground.outside / attack.marker).exists():
        reached.append("left a mark outside")
    for name in attack.goals.get("leak", ()):
        reached += [f"the {name} canary is in {place}" for place in _leaks(ground.course, attack, student, name)]
    if "script" in attack.goals:
        for page in sorted(ground.course.path("feedback", attack.lab, student).glob("*.html")):
            reached += active(page.read_text(encoding="utf-8", errors="replace"))
    return Effect(gained, held, tuple(dict.fromkeys(reached)), disturbed)


def disturbances(ground: Ground, before: dict[str, str], names: tuple[str, ...], labs: set[str]) -> tuple[str, ...]:
    """What is no longer as it must be with the submissions of the neighbours, and with the course."""
    after = ground.neighbourhood()
    paths = sorted(before.keys() | after.keys())
    found = [f"{path} was changed" for path in paths if before.get(path) != after.get(path)]
    course = ground.course
    with Gradebook(course.db_url, course.course_id) as gradebook:
        strangers = {s.id for s in gradebook.students} & {"redteam"}
        found += [f"there is a student '{name}'" for name in strangers]
        for name in names:
            rows = [student for student in gradebook.students if student.id == name]
            if [row.email for row in rows] != [f"{CANARIES['gradebook']}@{name}"]:
                found.append(f"the gradebook's row of {name} was changed")
            for lab in sorted(labs):
                wanted = {c.grade_id: c.points for c in course.lab(lab).cells if c.role is Role.TEST}
                try:
                    grades = gradebook.find_submission_notebook(lab, lab, name).grades
                except MissingEntry:
                    found.append(f"{name} was not graded")
                    continue
                marks = {grade.name: grade.score for grade in grades if grade.name in wanted}
                found += [f"{name} has {marks.get(c)} of {p:g} in {c}" for c, p in wanted.items() if marks.get(c) != p]
    return tuple(found)


def _marks(course: Course, attack: Attack, student: str) -> tuple[float, tuple[str, ...]]:
    """Points above the earned ones, and the tests that wait for a person."""
    tests = {cell.grade_id for cell in course.lab(attack.lab).cells if cell.role is Role.TEST}
    gained, held = 0.0, []
    with Gradebook(course.db_url, course.course_id) as gradebook:
        try:
            submission = gradebook.find_submission(attack.lab, student)
        except MissingEntry:
            return 0.0, ()
        for notebook in submission.notebooks:
            for grade in notebook.grades:
                gained += max(0.0, (grade.score or 0.0) - attack.earns.get(grade.name, 0.0))
                if grade.name in tests and grade.needs_manual_grade and grade.auto_score is not None:
                    held.append(grade.name)
    return gained, tuple(sorted(held))


def _leaks(course: Course, attack: Attack, student: str, canary: str) -> list[str]:
    """Where a canary stands that students get to see, or that student code had in its hands; also backwards, in hex."""
    words = CANARIES[canary]
    forms = (words, words[::-1], words.encode().hex(), words.replace(" ", ""), words.replace(" ", "&#160;"))

    def has(text: str) -> bool:
        return any(form in text.lower() for form in forms)

    found = []
    folder = course.path("autograded", attack.lab, student)
    # The autograded notebook holds the hidden tests anyway, and is for staff; nothing else may come into it.
    for path in sorted(folder.glob("*.ipynb")) if canary != "hidden" else ():
        if any(has(json.dumps(cell.outputs)) for cell in read_notebook(path).cells if cell.cell_type == "code"):
            found.append("recorded outputs")
    for page in course.path("feedback", attack.lab, student).rglob("*"):
        if page.is_file() and has(page.read_text(encoding="utf-8", errors="replace")):
            found.append("feedback")
    if canary != "hidden":
        found += [
            f"the autograded {path.name}"
            for path in folder.rglob("*")
            if path.is_file() and path.suffix != ".ipynb" and has(path.read_text(encoding="utf-8", errors="replace"))
        ]
    return found


def active(page: str) -> list[str]:
    """What of a student's is active in an HTML page: scripts, handlers, frames, loads from elsewhere, by the token."""
    soup = BeautifulSoup(page, "html.parser")
    found = []
    for tag in soup.find_all(True):
        if tag.name == "script" and TOKEN in tag.get_text().lower() and _is_script(tag.get("type")):
            found.append("a script is active in the feedback")
        if tag.name in _LOADS and TOKEN in str(tag).lower():
            found.append(f"<{tag.name}> is active in the feedback")
        for name, value in tag.attrs.items():
            text = re.sub(r"[\x00-\x20]", "", " ".join(value) if isinstance(value, list) else str(value)).lower()
            if TOKEN not in text:
                continue
            if name.startswith("on") or name == "srcdoc":
                found.append(f"{name}= is active in the feedback")
            elif name in _ADDRESSES and text.startswith(_RUNS):
                found.append(f"{name}={text.split(':')[0]}: is active in the feedback")
            elif name in (*_ADDRESSES, "style") and tag.name != "a" and ("//" in text):
                found.append(f"<{tag.name} {name}> loads from elsewhere in the feedback")
    return found + _formulas(soup)


def _formulas(soup: BeautifulSoup) -> list[str]:
    r"""MathJax makes a link of ``\href{javascript:...}`` in any text that is not code, unless told to be safe."""
    scripts = " ".join(str(tag) for tag in soup.find_all("script")).lower()
    if "mathjax" not in scripts or "safe" in re.findall(r"mathjax[^;]{0,400}safe", scripts):
        return []
    text = " ".join(node for node in soup.find_all(string=True) if not node.find_parent(["pre", "code", "script"]))
    harmful = re.search(r"\\href\s*\{\s*(javascript|data|vbscript):[^}]*redteam", text, re.IGNORECASE)
    return ["a formula's javascript: link is active in the feedback"] if harmful else []


def _is_script(kind: Any) -> bool:
    return str(kind or "").split(";")[0].strip().lower() in _SCRIPTS


