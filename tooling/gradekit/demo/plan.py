"""Who is in the class and what each student will hand in, drawn from the answer bank by a seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum

import nbformat

from gradekit.authoring import answers
from gradekit.authoring.answers import Answer, Kind
from gradekit.course import Course, CourseError, Lab, Role, role_of

NAMES = (
    "ada",
    "alan",
    "alonzo",
    "annie",
    "barbara",
    "claude",
    "donald",
    "edsger",
    "emmy",
    "frances",
    "grace",
    "hedy",
    "ida",
    "john",
    "kathleen",
    "ken",
    "lise",
    "margaret",
    "marie",
    "niklaus",
    "radia",
    "richard",
    "rosalind",
    "shafi",
    "sofia",
    "srinivasa",
    "stephen",
    "tim",
    "tony",
    "vera",
)

#: What students write under a question that a person will mark.
REFLECTIONS = (
    "I measured it with the cell above: the second version moves half the bytes, so I expected about twice the speed. "
    "It was a little less, because the launch costs the same.",
    "My class keeps one copy of the weights. If it had to serve many users at once, I would keep the base weights "
    "shared and only the small matrices per user.",
    "It broke for me when the input was longer than the block. In production I would check that first.",
)


class Style(StrEnum):
    """How a student works. The weights below make a class that looks like one."""

    REFERENCE = "as the reference"
    ALTERNATIVE = "another way"
    MISTAKE = "a common mistake"
    UNFINISHED = "partly done"
    UNTOUCHED = "untouched"


WEIGHTS = {Style.REFERENCE: 3, Style.ALTERNATIVE: 3, Style.MISTAKE: 4, Style.UNFINISHED: 1.5, Style.UNTOUCHED: 1}


#: Labs of one assignment that a student works on: a class of twelve then takes minutes, whatever the course has.
OPENED = 3


@dataclass(frozen=True)
class Plan:
    """What one student will hand in for one assignment.

    Attributes:
        answers: lab name -> the answer; None is the reference.
        untouched: labs that the student never opened.
        late: handed in after the due date.
        twice: an empty version is handed in first.
    """

    student: str
    assignment: str
    answers: dict[str, Answer | None]
    untouched: frozenset[str]
    late: bool
    twice: bool
    seed: int

    def expected(self, lab: Lab) -> dict[str, float]:
        """The points that the answer bank gives to each automatically graded cell of a lab."""
        cells = answers.tests(lab)
        if lab.name in self.untouched:
            return {cell.grade_id: 0.0 for cell in cells}
        answer = self.answers[lab.name]
        return {c.grade_id: c.points for c in cells} if answer is None else answer.expected(lab)

    def style(self, lab: str) -> str:
        """How this student went about a lab, for the table."""
        if lab in self.untouched:
            return Style.UNTOUCHED
        answer = self.answers[lab]
        return Style.REFERENCE if answer is None else answer.name.removeprefix("wrong_").replace("_", " ")


def plan_class(course: Course, students: int, seed: int) -> list[Plan]:
    """Draw what each student does. The same seed draws the same class.

    Raises:
        CourseError: a lab has no answer bank, or the course has no labs.
    """
    labs = {name: course.labs(name) for name in course.assignments}
    if not labs:
        raise CourseError(f"{course.path('source', '.')} holds no notebooks. `gradekit sync` writes them from texts.")
    banks = {lab.name: answers.bank(course, lab) for group in labs.values() for lab in group}
    bare = [name for name, bank in banks.items() if not bank]
    if bare:
        place = answers.folder(course, course.lab(bare[0]))
        raise CourseError(f"No answer bank for {', '.join(bare)}: add correct_*.py and wrong_*.py in {place}.")
    plans = []
    for index, name in enumerate(_names(students)):
        for assignment, group in labs.items():
            draw = random.Random(f"{seed} {name} {assignment}")
            styles = {lab.name: _style(index, draw) for lab in group}
            for lab in draw.sample(group, max(0, len(group) - OPENED)):
                styles[lab.name] = Style.UNTOUCHED
            plans.append(
                Plan(
                    student=name,
                    assignment=assignment,
                    answers={lab: _pick(style, banks[lab], draw) for lab, style in styles.items()},
                    untouched=frozenset(lab for lab, style in styles.items() if style is Style.UNTOUCHED),
                    late=draw.random() < 0.2,
                    twice=draw.random() < 0.25,
                    seed=draw.randrange(2**32),
                )
            )
    return plans


def _names(students: int) -> list[str]:
    rounds = range(-(-students // len(NAMES)))
    return [name if r == 0 else f"{name}{r + 1}" for r in rounds for name in NAMES][:students]


def _style(index: int, draw: random.Random) -> Style:
    """The first five students show each style once; the others are drawn."""
    styles = list(WEIGHTS)
    return styles[index] if index < len(styles) else draw.choices(styles, list(WEIGHTS.values()))[0]


def _pick(style: Style, bank: list[Answer], draw: random.Random) -> Answer | None:
    choices = {
        Style.ALTERNATIVE: [a for a in bank if a.kind is Kind.CORRECT],
        Style.MISTAKE: [a for a in bank if a.kind is Kind.WRONG and not a.is_unfinished],
        Style.UNFINISHED: [a for a in bank if a.is_unfinished],
    }.get(style)
    return draw.choice(choices) if choices else None


def answered(notebook: nbformat.NotebookNode, lab: Lab, plan: Plan) -> nbformat.NotebookNode:
    """A released notebook as the student hands it in: solutions from the bank, a few sentences where a person reads."""
    if lab.name in plan.untouched:
        return notebook
    done = answers.apply(notebook, lab, plan.answers[lab.name])
    draw = random.Random(f"{plan.seed} {lab.name}")
    for cell, released in zip(done.cells, notebook.cells, strict=True):
        if role_of(cell) is Role.MANUAL:
            cell.source = draw.choice(REFLECTIONS) if draw.random() < 0.8 else released.source
    return done
