"""A class that takes the course: students fetch, answer from the answer bank and submit; the instructor does the rest.

Everything goes through the commands that people use. Each student has a home, a name and a configuration of their own.
What is still current is left alone: a second run does only what a changed lab, or another class, asks for.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import re
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cache
from pathlib import Path

import nbformat
from nbgrader.api import Gradebook
from nbgrader.utils import find_all_files
from rich.progress import Progress
from rich.table import Table

from gradekit.authoring import answers
from gradekit.authoring.answers import Answer, Kind
from gradekit.course import Course, CourseError, Lab, Role, read_notebook, role_of
from gradekit.grading.local import LocalGrader
from gradekit.reports.feedback import give_feedback

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


@dataclass
class Class:
    """The plans of all students, and who handed in something in this run."""

    plans: list[Plan]
    submitted: set[tuple[str, str]] = field(default_factory=set)


def plan_class(course: Course, students: int, seed: int) -> Class:
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
    return Class(plans)


def refuse_a_real_class(course: Course) -> None:
    """A demo writes marks and due dates: it must not do so in a course that people take.

    Raises:
        CourseError: the gradebook holds a student who is not of a demo.
    """
    with Gradebook(course.db_url, course.course_id) as gradebook:
        real = sorted(s.id for s in gradebook.students if not (course.root / ".demo" / s.id).is_dir())
    if real:
        raise CourseError(
            f"The gradebook holds {len(real)} students who are not of a demo ({', '.join(real[:3])}, ...): a demo "
            "would write among their marks. Run it in another clone of the course; `make grade A=...` grades this one."
        )


def _names(students: int) -> list[str]:
    rounds = range(-(-students // len(NAMES)))
    return [name if r == 0 else f"{name}{r + 1}" for r in rounds for name in NAMES][:students]


def _style(index: int, draw: random.Random) -> Style:
    """The first five students show each style once; the others are drawn."""
    styles = list(WEIGHTS)
    return styles[index] if index < len(styles) else draw.choices(styles, list(WEIGHTS.values()))[0]


def _pick(style: Style, bank: list[Answer], draw: random.Random) -> Answer | None:
    unfinished = [a for a in bank if a.kind is Kind.WRONG and None in a.cells.values()]
    choices = {
        Style.ALTERNATIVE: [a for a in bank if a.kind is Kind.CORRECT],
        Style.MISTAKE: [a for a in bank if a.kind is Kind.WRONG and a not in unfinished],
        Style.UNFINISHED: unfinished,
    }.get(style)
    return draw.choice(choices) if choices else None


@dataclass(frozen=True)
class Student:
    """A user: a home with nbgrader's configuration in it, and the folder that they work in."""

    name: str
    home: Path

    @classmethod
    def enrol(cls, course: Course, name: str) -> Student:
        """Make the home. The exchange, the course's id and the name are all that a student configures."""
        home = course.root / ".demo" / name
        config = home / ".jupyter" / "nbgrader_config.py"
        config.parent.mkdir(parents=True, exist_ok=True)
        (home / "work").mkdir(exist_ok=True)
        config.write_text(
            "c = get_config()\n"
            f"c.CourseDirectory.course_id = {course.course_id!r}\n"
            f"c.CourseDirectory.student_id = {name!r}\n"
            f"c.Exchange.root = {str(course.exchange)!r}\n"
        )
        return cls(name, home)

    @property
    def work(self) -> Path:
        return self.home / "work"

    def run(self, *command: str) -> None:
        """Run an nbgrader command as this student would, in their folder and with nothing of the instructor's."""
        keep = ("PATH", "LANG", "LC_ALL", "VIRTUAL_ENV", "TMPDIR")
        env = {key: os.environ[key] for key in keep if key in os.environ} | {"HOME": str(self.home), "USER": self.name}
        run_nbgrader(*command, cwd=self.work, env=env)

    def fetch(self, assignment: str) -> None:
        shutil.rmtree(self.work / assignment, ignore_errors=True)
        self.run("fetch_assignment", assignment)

    def submit(self, assignment: str) -> None:
        self.run("submit", assignment)


def run_nbgrader(*command: str, cwd: Path, env: dict[str, str] | None = None) -> None:
    """Run ``nbgrader <command>`` in a process of its own.

    Raises:
        CourseError: it failed; the message names the cause that it logged.
    """
    status, log = _commands().submit(_command, command, cwd, env).result()
    if status != 0:
        raise CourseError(f"nbgrader {' '.join(command)}: {_cause(log)}")


@cache
def _commands() -> ProcessPoolExecutor:
    """Where nbgrader's commands run: forks of a process that has imported nbgrader, which takes 2 s each time."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["nbgrader.apps.nbgraderapp"])
    return ProcessPoolExecutor(os.cpu_count(), mp_context=context, max_tasks_per_child=1)


def _command(command: tuple[str, ...], cwd: Path, env: dict[str, str] | None) -> tuple[int, str]:
    """What ``nbgrader <command>`` does, in this process: its exit status and its log."""
    from nbgrader.apps.nbgraderapp import NbGraderApp

    os.chdir(cwd)
    if env is not None:
        os.environ.clear()
        os.environ.update(env)
    with tempfile.TemporaryFile("w+") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            NbGraderApp.launch_instance(argv=list(command))
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:  # what the command would have shown as a traceback
            traceback.print_exc()
            status = 1
        sys.stdout.flush()
        sys.stderr.flush()
        log.seek(0)
        return status, log.read()


def _cause(log: str) -> str:
    """The line of nbgrader's log that names the cause: the exception's own, else the errors."""
    raised = re.findall(r"^\s*(?:[\w.]+\.)?(?:\w*(?:Error|Exception|Entry)): (.+)$", log, re.MULTILINE)
    if any("Cannot add or remove cells" in line for line in raised):
        return f"{raised[-1]}. To start over with a demo's class: make clean, then make."
    logged = re.findall(r"\| (?:ERROR|CRITICAL)\] (.+)$", log, re.MULTILINE)
    return (raised or logged or [log.strip()[-300:] or "it failed without a word"])[-1]


def release(course: Course, assignment: str) -> bool:
    """Make and release the student version, when the source is newer than what is released. Returns whether it was."""
    source, outbound = course.path("source", assignment), course.exchange / course.course_id / "outbound" / assignment
    newest = max(os.stat(path).st_mtime for path in find_all_files(str(source), list(course.directory.ignore)))
    made = [path.stat().st_mtime for path in course.path("release", assignment).glob("*.ipynb")]
    sent = [path.stat().st_mtime for path in outbound.glob("*.ipynb")]
    expected = len(course.labs(assignment))
    complete = len(made) == len(sent) == expected and _known(course, assignment)
    if complete and min(made) >= newest and min(sent) >= min(made):
        return False
    prepare_exchange(course)
    run_nbgrader("generate_assignment", assignment, "--force", cwd=course.root)
    run_nbgrader("release_assignment", assignment, "--force", cwd=course.root)
    # nbgrader copies times along with the files; these must be later than the source's.
    for path in [*course.path("release", assignment).glob("*.ipynb"), *outbound.glob("*.ipynb")]:
        os.utime(path)
    return True


def prepare_exchange(course: Course) -> None:
    """Make the exchange folder that ships inside the course; one elsewhere must be there already.

    Raises:
        CourseError: it is not there, or not writable.
    """
    root = course.exchange
    try:
        if not root.exists() and root.is_relative_to(course.root):
            root.mkdir(parents=True)
            root.chmod(0o777)
    except OSError as error:
        raise CourseError(f"The exchange {root} cannot be made: {error.strerror}.") from None
    if not os.access(root, os.W_OK | os.X_OK):
        raise CourseError(
            f"The exchange {root} is not a folder that you can write to. Make it with "
            f"mkdir -p {root} && chmod ugo+rwx {root}, or set NBGRADER_EXCHANGE to one that you can."
        )


def _known(course: Course, assignment: str) -> bool:
    with Gradebook(course.db_url, course.course_id) as gradebook:
        return any(a.name == assignment and a.notebooks for a in gradebook.assignments)


def hand_in(course: Course, klass: Class, progress: Callable[[], None]) -> None:
    """Let every student fetch, answer and submit whose submission is not yet the planned one.

    Those on time go first; then the due date falls, and the late ones follow.
    """
    pending = [plan for plan in klass.plans if not _is_collected(course, plan)]
    klass.submitted = {(plan.student, plan.assignment) for plan in pending}
    for _ in range(len(klass.plans) - len(pending)):
        progress()
    on_time = [plan for plan in pending if not plan.late]
    late = [plan for plan in pending if plan.late]
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:

        def each(plans: list[Plan]) -> None:
            for _ in pool.map(lambda plan: _take(course, plan), plans):
                progress()

        each(on_time)
        if pending:
            _set_due_date(course, {plan.assignment for plan in pending})
            time.sleep(2)  # until it has passed
        each(late)


def _take(course: Course, plan: Plan) -> None:
    student = Student.enrol(course, plan.student)
    student.fetch(plan.assignment)
    if plan.twice:
        student.submit(plan.assignment)
        time.sleep(1)  # the later submission must have the later time stamp
    for lab in course.labs(plan.assignment):
        path = student.work / plan.assignment / f"{lab.name}.ipynb"
        nbformat.write(answered(read_notebook(path), lab, plan), path)
    student.submit(plan.assignment)


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


def _is_collected(course: Course, plan: Plan) -> bool:
    """Whether what was collected from the student is what the plan makes of the current release."""
    folder = course.path("submitted", plan.assignment, plan.student)
    for lab in course.labs(plan.assignment):
        try:
            released = read_notebook(course.path("release", plan.assignment) / f"{lab.name}.ipynb")
            collected = read_notebook(folder / f"{lab.name}.ipynb")
        except CourseError:
            return False
        planned = answered(released, lab, plan)
        if [cell.source for cell in planned.cells] != [cell.source for cell in collected.cells]:
            return False
    return True


def _set_due_date(course: Course, assignments: set[str]) -> None:
    due = datetime.now(UTC).replace(microsecond=0, tzinfo=None) + timedelta(seconds=1)
    with Gradebook(course.db_url, course.course_id) as gradebook:
        for assignment in assignments:
            gradebook.update_or_create_assignment(assignment, duedate=due)


def fetch_feedback(course: Course, klass: Class, students: set[tuple[str, str]]) -> None:
    """Let the students fetch the feedback that was released to them."""
    wanted = [plan for plan in klass.plans if (plan.student, plan.assignment) in students]
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        list(pool.map(lambda p: Student.enrol(course, p.student).run("fetch_feedback", p.assignment), wanted))


@dataclass(frozen=True)
class Mark:
    """One line of the closing table.

    Attributes:
        automatic: points from the autograder, ``expected`` what the answer bank says.
        reading: how many cells wait for a person.
        flags: what a TA should know.
    """

    student: str
    lab: str
    style: str
    automatic: float
    expected: float
    possible: float
    reading: int
    flags: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        return abs(self.automatic - self.expected) < 1e-9


def introduce(course: Course, klass: Class) -> None:
    """Give the students names, which the formgrader shows."""
    with Gradebook(course.db_url, course.course_id) as gradebook:
        for name in {plan.student for plan in klass.plans}:
            gradebook.update_or_create_student(name, first_name=name.capitalize(), last_name="(demo)")


def marks(course: Course, klass: Class) -> list[Mark]:
    """The gradebook's marks beside those that the answer bank says."""
    found = []
    with Gradebook(course.db_url, course.course_id) as gradebook:
        for plan in klass.plans:
            submission = gradebook.find_submission(plan.assignment, plan.student)
            for lab in course.labs(plan.assignment):
                notebook = gradebook.find_submission_notebook(lab.name, plan.assignment, plan.student)
                tests = {cell.grade_id for cell in answers.tests(lab)}
                here = {g.name: g for g in notebook.grades if g.name in tests and g.auto_score is not None}
                elsewhere = sorted(tests - here.keys())
                flags = ["late"] if submission.total_seconds_late > 0 else []
                flags += ["twice"] if plan.twice else []
                flags += [f"{len(elsewhere)} not graded here"] if elsewhere else []
                expected = plan.expected(lab)
                found.append(
                    Mark(
                        plan.student,
                        lab.name,
                        plan.style(lab.name),
                        sum(grade.auto_score for grade in here.values()),
                        sum(expected[name] for name in here),
                        sum(cell.points for cell in answers.tests(lab) if cell.grade_id in here),
                        sum(1 for g in notebook.grades if g.needs_manual_grade and g.name not in elsewhere),
                        tuple(flags),
                    )
                )
    return found


def run_course(course: Course, students: int, seed: int, jobs: int, progress: Progress) -> list[Mark]:
    """The whole course, once: release, class, collection, grading, feedback. Returns the marks.

    Raises:
        CourseError: a step failed; the message says which and what to do.
    """
    refuse_a_real_class(course)
    klass = plan_class(course, students, seed)
    assignments = course.assignments

    step = progress.add_task("releasing", total=len(assignments))
    for assignment in assignments:
        release(course, assignment)
        progress.advance(step)

    step = progress.add_task("students fetch, answer, submit", total=len(klass.plans))
    hand_in(course, klass, lambda: progress.advance(step))

    with LocalGrader(jobs) as grader:
        for assignment in assignments:
            if any(name == assignment for _, name in klass.submitted):
                run_nbgrader("collect", assignment, "--update", cwd=course.root)
            step = progress.add_task(f"grading {assignment}", total=len(course.submissions(assignment)))
            result = grader.grade(course, assignment, progress=lambda *_, step=step: progress.advance(step))
            if result.failed:
                raise CourseError(result.summary())

    introduce(course, klass)

    step = progress.add_task("feedback", total=len(assignments) + 1)
    written: set[tuple[str, str]] = set()
    for assignment in assignments:
        results = give_feedback(course, assignment)
        written |= {(result.submission.student, assignment) for result in results if result.written}
        progress.advance(step)
    fetch_feedback(course, klass, written)
    progress.advance(step)
    return marks(course, klass)


def result_table(marks: list[Mark]) -> Table:
    """The closing table: student, lab, automatic points, what a person has to read, flags."""
    table = Table(title="The class, as the gradebook has it")
    for heading in ("student", "lab", "handed in", "points", "of", "to read", "flags"):
        number = heading in ("points", "of", "to read")
        table.add_column(heading, justify="right" if number else "left", overflow="fold")
    for before, mark in zip([None, *marks], marks, strict=False):
        new = before is None or before.student != mark.student
        if new and before is not None:
            table.add_section()
        flags = [*mark.flags, *([] if mark.agrees else [f"the answer bank says {mark.expected:g}"])]
        table.add_row(
            mark.student if new else "",
            short_name(mark.lab),
            mark.style,
            f"{mark.automatic:g}",
            f"{mark.possible:g}",
            str(mark.reading) if mark.reading else "",
            ", ".join(flags),
            style=None if mark.agrees else "bold red",
        )
    return table


def short_name(lab: str) -> str:
    """The number that a lab's name begins with, or the name."""
    number = re.match(r"(opt-[A-Z]|\d+)(\.\d+)+(?=-)", lab)
    return number[0] if number else lab
