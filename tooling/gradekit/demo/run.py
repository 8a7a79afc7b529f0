"""The whole course, once: release, class, collection, grading, feedback.

Everything goes through the commands that people use. What is still current is left alone: a second run does only what a
changed lab, or another class, asks for.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import groupby

import nbformat
from nbgrader.api import Gradebook
from nbgrader.utils import find_all_files
from rich.progress import Progress

from gradekit.course import Course, CourseError, read_notebook
from gradekit.demo.commands import Student, run_nbgrader
from gradekit.demo.marks import Mark, marks
from gradekit.demo.plan import Plan, answered, plan_class
from gradekit.grading.local import LocalGrader
from gradekit.reports.feedback import give_feedback


def run_course(course: Course, students: int, seed: int, jobs: int, progress: Progress) -> list[Mark]:
    """The whole course, once: release, class, collection, grading, feedback. Returns the marks.

    Raises:
        CourseError: a step failed; the message says which and what to do.
    """
    refuse_a_real_class(course)
    plans = plan_class(course, students, seed)
    assignments = course.assignments

    step = progress.add_task("releasing", total=len(assignments))
    for assignment in assignments:
        release(course, assignment)
        progress.advance(step)

    step = progress.add_task("students fetch, answer, submit", total=len(plans))
    submitted = hand_in(course, plans, lambda: progress.advance(step))

    with LocalGrader(jobs) as grader:
        for assignment in assignments:
            if any(plan.assignment == assignment for plan in submitted):
                run_nbgrader("collect", assignment, "--update", cwd=course.root)
            step = progress.add_task(f"grading {assignment}", total=len(course.submissions(assignment)))
            result = grader.grade(course, assignment, progress=lambda *_, step=step: progress.advance(step))
            if result.failed:
                raise CourseError(result.summary())

    introduce(course, plans)

    step = progress.add_task("feedback", total=len(assignments) + 1)
    written: set[tuple[str, str]] = set()
    for assignment in assignments:
        results = give_feedback(course, assignment)
        written |= {(result.submission.student, assignment) for result in results if result.written}
        progress.advance(step)
    fetch_feedback(course, [plan for plan in plans if (plan.student, plan.assignment) in written])
    progress.advance(step)
    return marks(course, plans)


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


def hand_in(course: Course, plans: list[Plan], progress: Callable[[], None]) -> list[Plan]:
    """Let every student fetch, answer and submit whose submission is not yet the planned one; return those plans.

    Those on time go first; then the due date falls, and the late ones follow.
    """
    pending = [plan for plan in plans if not _is_collected(course, plan)]
    for _ in range(len(plans) - len(pending)):
        progress()

    def take(plan: Plan) -> None:
        _take(course, plan)
        progress()

    _side_by_side(take, [plan for plan in pending if not plan.late])
    if pending:
        _set_due_date(course, {plan.assignment for plan in pending})
        time.sleep(2)  # until it has passed
    _side_by_side(take, [plan for plan in pending if plan.late])
    return pending


def _side_by_side(work: Callable[[Plan], None], plans: Iterable[Plan]) -> None:
    """Students at the same time, each one thing after the other: two nbgrader commands would make the same folder."""
    ordered = sorted(plans, key=lambda plan: plan.student)
    each = [list(own) for _, own in groupby(ordered, key=lambda plan: plan.student)]
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        list(pool.map(lambda own: list(map(work, own)), each))


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


def fetch_feedback(course: Course, plans: Iterable[Plan]) -> None:
    """Let the students of these plans fetch the feedback that was released to them."""
    _side_by_side(lambda plan: Student.enrol(course, plan.student).run("fetch_feedback", plan.assignment), plans)


def introduce(course: Course, plans: Iterable[Plan]) -> None:
    """Give the students names, which the formgrader shows."""
    with Gradebook(course.db_url, course.course_id) as gradebook:
        for name in {plan.student for plan in plans}:
            gradebook.update_or_create_student(name, first_name=name.capitalize(), last_name="(demo)")
