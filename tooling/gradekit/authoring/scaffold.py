"""Lay out a new lab: every section in order, one worked example of each kind of cell, and an answer to begin with.

What is laid out is a working lab about a vector sum, with ``TO WRITE`` where the author's own words belong; gate 1 is
not passed before the last of these is gone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

from gradekit.authoring import answers
from gradekit.authoring.files import write_atomically
from gradekit.authoring.sync import canonical_notebook, canonical_text
from gradekit.course import Course, CourseError, Lab
from gradekit.syllabus import Module, Syllabus, SyllabusLab, load

_TEMPLATE = Path(__file__).with_name("lab_template.txt")
_KIND = re.compile(r"^# %%(?P<markdown> \[markdown\])? (?P<kind>exercise|test|given|manual):(?P<id>\S+)$", re.MULTILINE)
#: nbgrader's metadata for each kind of cell: grade, solution, locked, points.
_METADATA = {
    "exercise": (False, True, False, None),
    "test": (True, False, True, 2),
    "given": (False, False, True, None),
    "manual": (True, True, False, 3),
}
_REFLECTIONS = {
    "memory": "memory or performance",
    "scale": "integration or scale",
    "production": "production",
}
_REFLECTION = """\
# %% [markdown] manual:reflect-{name}-{what}
# **Reflection {number}: {about} (3 points).** TO WRITE: a question about the student's own code and measurements.
#
# ### BEGIN SOLUTION
# TO WRITE: an answer that earns full marks.
#
# ### BEGIN MARK SCHEME
# - TO WRITE: what earns each point; an answer at half the marks.
# ### END MARK SCHEME
# ### END SOLUTION

"""
_UNFINISHED = """\
# loses: test-{name}-scaled-sum
# Nothing was begun. (A sample: the first line names the tests that lose points, and these lines say what is wrong.
# `test-... keeps 1.5` stands for partial credit. A correct_*.py begins with a line that says what is different.)

# %% {name}-scaled-sum
# untouched
"""


class _At(Template):
    """``@name`` is replaced: ``$`` belongs to the mathematics."""

    delimiter = "@"


@dataclass(frozen=True)
class Laid:
    """What was laid out. ``also``: what else has to be edited, one instruction each."""

    lab: Lab
    files: Sequence[Path]
    also: Sequence[str]


def lay_out(course: Course, lab_id: str) -> Laid:
    """Write a new lab's text, notebook and first answer.

    Raises:
        CourseError: the syllabus cannot be read or has no such lab, or a file of the lab exists: nothing is written.
    """
    syllabus = load(course.root / "syllabus.yaml")
    entry = syllabus.lab(lab_id)
    module = syllabus.module(entry.module)
    lab = Lab(module.slug, course.path("source", module.slug) / f"{entry.slug}.ipynb")
    name = re.sub(r"[^a-z0-9]+", "-", entry.slug.removeprefix(f"{entry.id}-").lower()).strip("-")
    first_answer = answers.folder(course, lab) / "wrong_unfinished.py"
    there = [path for path in (lab.text, lab.path, first_answer) if path.exists()]
    if there:
        raise CourseError(f"{there[0]} exists already, and is left as it is. Edit it, or remove it first.")
    text = _text(syllabus, module, entry, name)
    files = {lab.text: text, lab.path: canonical_notebook(text), first_answer: _UNFINISHED.format(name=name)}
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    return Laid(lab, list(files), _also(module, entry, lab))


def _text(syllabus: Syllabus, module: Module, entry: SyllabusLab, name: str) -> str:
    import jupytext

    earlier = syllabus.lab(entry.builds_on) if entry.builds_on else None
    objectives = [objective for objective in module.objectives if objective.id in entry.objectives]
    filled = _At(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        id=entry.id,
        title=entry.title,
        name=name,
        module=f"{module.id} {module.title}",
        time=f"{entry.hours:g} hour{'' if entry.hours == 1 else 's'}",
        tier=entry.tier,
        builds_on=f"{earlier.id} {earlier.title}" if earlier else "nothing before it",
        objectives="\n".join(f"# - {objective.id}: {objective.text}" for objective in objectives),
        reflections="".join(
            _REFLECTION.format(name=name, what=what, number=number, about=about)
            for number, (what, about) in enumerate(_REFLECTIONS.items(), 1)
        ),
    )
    return canonical_text(jupytext.reads(_KIND.sub(_header, filled), fmt="py:percent"))


def _header(match: re.Match[str]) -> str:
    kind, prefix = match["kind"], "test-" if match["kind"] == "test" else ""
    grade, solution, locked, points = _METADATA[kind]
    metadata = {"grade": grade, "grade_id": prefix + match["id"], "locked": locked, "schema_version": 3}
    metadata |= {"solution": solution, "task": False} | ({} if points is None else {"points": points})
    return f"# %%{match['markdown'] or ''} nbgrader={json.dumps(dict(sorted(metadata.items())))}"


def _also(module: Module, entry: SyllabusLab, lab: Lab) -> list[str]:
    page = lab.path.parent / "README.md"
    if not page.exists():
        return [f"{page}: write the module's page; it has none yet."]
    row = f"| {entry.id} {entry.title} | {entry.hours:g} | {entry.tier} |"
    if f"{row} written |" in page.read_text(encoding="utf-8"):
        return []
    return [f"{page}: this lab's line must now begin with '{row} written |'."]
