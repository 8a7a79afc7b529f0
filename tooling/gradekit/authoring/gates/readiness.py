"""The gates of a readiness notebook: ungraded, so no mark hangs on it, but it may not mislead who reads it.

Each skill that can be tried is four cells under one ``### Skill N: ...``: the question, a cell for the answer, a cell
that checks it, and the folded answer, whose Python block is what belongs into the cell for the answer. So both runs can
be made: as students get it, where nothing may be called ready, and with the folded answers, where everything must be.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass

from nbformat import NotebookNode

from gradekit.authoring.gates import form, imports, network
from gradekit.authoring.gates.subject import Fault, Gate, Subject, errors
from gradekit.authoring.run import Execution, in_kernel
from gradekit.course import READINESS
from gradekit.kernels import ForkServer

SECTIONS = (
    "# Readiness check: module",
    "## How this works",
    "## From",
    "## Your machine",
    "## The result",
    "## If you are not ready",
    "## What comes next",
)
#: How many skills have to be tried, not only thought about; and the seconds that all cells may take together.
WANTED, NOTEBOOK_S = 4, 10.0
_SKILL = re.compile(r"^### Skill (\d+): \S", re.MULTILINE)
_FOLDED = re.compile(r"<details>\s*<summary>.*?</summary>(?P<answer>.*?)</details>", re.DOTALL)
_PYTHON = re.compile(r"^```python\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Skill:
    """One skill: the index of its heading, those of its code cells, and its folded answers' texts."""

    number: int
    heading: int
    code: tuple[int, ...]
    folded: tuple[str, ...]

    @property
    def answer(self) -> str:
        """What belongs into the cell for the answer."""
        return "\n".join(match["code"] for text in self.folded for match in _PYTHON.finditer(text)).rstrip()


def skills(notebook: NotebookNode) -> list[Skill]:
    """The skills of a readiness notebook: what stands between two headings."""
    found: list[Skill] = []
    number, heading, code, folded = 0, -1, [], []  # type: tuple[int, int, list[int], list[str]]

    def close() -> None:
        if number:
            found.append(Skill(number, heading, tuple(code), tuple(folded)))

    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            code.append(index)
            continue
        if re.search(r"^#{1,3} ", cell.source, re.MULTILINE):
            close()
            match = _SKILL.search(cell.source)
            number, heading, code, folded = int(match[1]) if match else 0, index, [], []
        folded += [match["answer"] for match in _FOLDED.finditer(cell.source)]
    close()
    return found


def check_form(subject: Subject) -> Iterator[Fault]:
    """In sync, valid, named after its module, ungraded, its sections in order."""
    lab = subject.lab
    yield from form.pair(subject)
    yield from form.valid(subject)
    yield from form.titles(subject)
    module = lab.assignment.partition("-")[0]
    if lab.name != f"{module}-{READINESS}":
        yield Fault(f"is called {lab.name}; the readiness notebook of {lab.assignment} is {module}-{READINESS}")
    for cell in lab.cells:
        if "nbgrader" in lab.notebook.cells[cell.index].metadata:
            yield Fault("has nbgrader metadata; nothing is graded here, take it out", subject.name_of(cell.index))
    yield from form.in_order(subject, SECTIONS, "a readiness notebook")
    yield from form.sizes(subject)
    yield from form.placeholders(subject)


def check_skills(subject: Subject) -> Iterator[Fault]:
    """Each skill is a question with a folded answer, and most are tried in code."""
    found = skills(subject.lab.notebook)
    if [skill.number for skill in found] != list(range(1, len(found) + 1)):
        yield Fault(f"the skills are numbered {', '.join(str(skill.number) for skill in found)}; count from 1")
    for skill in found:
        where = subject.name_of(skill.heading)
        if not skill.folded:
            yield Fault("has no folded answer; add <details><summary>Answer</summary> ... </details>", where)
        if len(skill.code) not in (0, 2):
            yield Fault(f"has {len(skill.code)} code cells; it takes one for the answer and one that checks it", where)
        if skill.code and not skill.answer:
            yield Fault("its folded answer has no ```python block; give what belongs into the answer's cell", where)
    tried = sum(bool(skill.code) for skill in found)
    if tried < WANTED:
        yield Fault(f"{tried} skills are tried in code, at least {WANTED} are wanted; add some")


def check_untouched(subject: Subject) -> Iterator[Fault]:
    """It runs from top to bottom as students get it, in seconds, and calls no skill ready that nobody showed."""
    run = subject.kernel_run
    yield from runs(subject, run, "as it is released")
    for skill in (skill for skill in skills(subject.lab.notebook) if len(skill.code) == 2):
        if not said(run, skill).startswith("not answered:"):
            line = said(run, skill).partition("\n")[0]
            message = f"before it is answered its check must say 'not answered: ...', and says '{line}'"
            todo = "end the answer's cell in `raise NotImplementedError()`"
            yield Fault(f"{message}; {todo}", subject.name_of(skill.heading))
    total = sum(run.seconds.values())
    if total > NOTEBOOK_S:
        yield Fault(f"the notebook takes {total:.1f} s, at most {NOTEBOOK_S:g} are allowed; use less data")


def check_answers(subject: Subject) -> Iterator[Fault]:
    """With the folded answers typed in, every skill is ready, and the result says so."""
    notebook = copy.deepcopy(subject.lab.notebook)
    found = [skill for skill in skills(notebook) if len(skill.code) == 2]
    for skill in found:
        notebook.cells[skill.code[0]].source = skill.answer
    with ForkServer(subject.libraries, cores=1) as server:
        run = in_kernel(subject.course, subject.lab, notebook, server)
    yield from runs(subject, run, "with the folded answers")
    for skill in found:
        if not said(run, skill).startswith("ready:"):
            message = f"its folded answer does not pass its check, which says: {said(run, skill).strip()}"
            yield Fault(message, subject.name_of(skill.heading))
    if not any("You are ready for module" in printed(cell) for cell in run.notebook.cells):
        yield Fault("no cell says 'You are ready for module ...'; end in `ready.report()` of labkit.readiness")


def runs(subject: Subject, run: Execution, how: str) -> Iterator[Fault]:
    if run.ended:
        yield Fault(f"its run {how} ended early: {run.ended}")
    for index, error in errors(run):
        yield Fault(f"fails {how}: {error}", subject.name_of(index))


def said(run: Execution, skill: Skill) -> str:
    """What the check of a skill printed."""
    return printed(run.notebook.cells[skill.code[1]])


def printed(cell: NotebookNode) -> str:
    return "".join(output.text for output in cell.get("outputs", []) if output.output_type == "stream")


GATES = (
    Gate(1, "format", check_form, prose=True),
    Gate(2, "skills", check_skills, prose=True),
    Gate(3, "untouched", check_untouched),
    Gate(4, "answers", check_answers, prose=True),
    Gate(5, "imports", imports.check),
    Gate(6, "network", network.check),
)
