"""``gradekit regrade``: a test was wrong after release. Nobody's mark goes down unless the instructor says so."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from concurrent.futures import Future

import nbformat
import pytest
from gradekit.authoring.sync import pairs, require_notebooks, sync
from gradekit.course import Course, CourseError
from gradekit.grading.job import Job, Outcome
from gradekit.grading.local import LocalGrader
from gradekit.grading.plan import RECORD
from gradekit.grading.record import only_writer, points_kept
from gradekit.grading.regrade import Change, Regrading, regrade
from gradekit.integrity.evidence import Evidence
from gradekit.kernels.manager import SandboxedKernelManager
from gradekit.reports import held
from nbgrader.api import Gradebook
from nbgrader.apps.api import NbGraderAPI
from nbgrader.utils import parse_utc
from tinycourse import RIGHT, scores, submit

HIDDEN = 'assert square(-4) == 16, "the square of a negative number is positive"'
CREDIT = "credit += root(x) == y"
POSITIVE = {**RIGHT, "square": "def square(x):\n    return abs(x) * x"}  # right only for what is not negative
WRONG_ROOT = {**RIGHT, "root": "def root(x):\n    return x / 2"}  # 2 of 3 cases


PLUGIN = """
from nbgrader.plugins import BasePlugin

class HalfAPointPerHour(BasePlugin):
    def late_submission_penalty(self, student_id, score, total_seconds_late):
        return 0.5 * total_seconds_late / 3600

c.AssignLatePenalties.plugin_class = HalfAPointPerHour
"""


class Suspicious:
    """A guard that has something against the fifth cell, the exercise before test-root."""

    def before(self, cell_index: int, graded: bool, **settings: object) -> None: ...

    def sent(self, source: str) -> None: ...

    def saw(self, failed: bool, shown: list[str]) -> None: ...

    def after(self, cell_index: int) -> list[Evidence]:
        return [Evidence("tampered", "cell 4", "math.isclose was exchanged", True)] if cell_index == 4 else []

    def close(self) -> list[Evidence]:
        return []


def mend(course: Course, *changes: tuple[str, str]) -> None:
    """Change the text of the lab and sync, as an instructor does."""
    text = course.path("source", "ps1") / "warm-up.py"
    content = text.read_text()
    for old, new in changes:
        assert old in content, old
        content = content.replace(old, new)
    text.write_text(content)
    for stem in pairs(course):
        assert not sync(stem).failed


def marks(course: Course, student: str) -> dict[str, float]:
    """What counts, whoever gave it."""
    with Gradebook(course.db_url, course.course_id) as gradebook:
        return {g.name: g.score for g in gradebook.find_submission_notebook("warm-up", "ps1", student).grades}


def give(course: Course, student: str, cell: str, points: float, extra: float | None = None) -> None:
    """Points from a person, as the formgrader writes them."""
    with Gradebook(course.db_url, course.course_id) as gradebook:
        grade = gradebook.find_grade(cell, "warm-up", "ps1", student)
        grade.manual_score, grade.extra_credit, grade.needs_manual_grade = points, extra, False
        gradebook.db.commit()


def comment(course: Course, student: str, cell: str) -> str | None:
    with Gradebook(course.db_url, course.course_id) as gradebook:
        return gradebook.find_comment(cell, "warm-up", "ps1", student).comment


def waits(course: Course, student: str) -> set[str]:
    with Gradebook(course.db_url, course.course_id) as gradebook:
        notebook = gradebook.find_submission_notebook("warm-up", "ps1", student)
        return {grade.name for grade in notebook.grades if grade.needs_manual_grade}


def totals(result: Regrading) -> dict[str, tuple[float | None, float]]:
    return {one.student: (one.before, one.after) for one in result.students}


def question(result: Regrading, student: str, name: str) -> Change:
    return next(c for one in result.students if one.student == student for c in one.questions if c.question == name)


def everything(course: Course) -> dict[str, bytes]:
    """All that a dry run must leave alone."""
    with Gradebook(course.db_url, course.course_id) as gradebook:
        dump = "\n".join(gradebook.engine.raw_connection().driver_connection.iterdump())
    files = [path for step in ("autograded", "release", "submitted") for path in course.path(step, ".").rglob("*")]
    return {str(p): p.read_bytes() for p in files if p.is_file() and p.name != "lock"} | {"gradebook": dump.encode()}


@pytest.fixture
def graded(tiny_course: Course, grader: LocalGrader) -> Course:
    """Three students with the marks of the first grading: 5, 5 and 2 + 2."""
    submit(tiny_course, "right", RIGHT)
    submit(tiny_course, "positive", POSITIVE)
    submit(tiny_course, "halver", WRONG_ROOT)
    mend(tiny_course, (HIDDEN, "pass"))
    done = NbGraderAPI(tiny_course.directory, config=tiny_course.config).generate_assignment("ps1", force=True)
    assert done["success"], done["log"]
    assert not grader.grade(tiny_course, "ps1").failed
    assert marks(tiny_course, "positive") == {"test-square": 2, "test-root": 3, "reflect": 0}
    return tiny_course


STRICTER = ("### BEGIN HIDDEN TESTS\npass", f"### BEGIN HIDDEN TESTS\n{HIDDEN}")
KINDER = (CREDIT, "credit += abs(root(x) - y) < 0.4")  # x / 2 is 1.125 for 2.25, whose root is 1.5


def test_what_the_mended_test_gives_is_given_and_what_it_would_take_is_kept(
    graded: Course, grader: LocalGrader
) -> None:
    mend(graded, STRICTER, KINDER)
    released = (graded.path("release", "ps1") / "warm-up.ipynb").read_bytes()
    seen = everything(graded)
    preview = regrade(graded, "ps1", grader, dry_run=True)
    assert everything(graded) == seen
    result = regrade(graded, "ps1", grader)
    assert (graded.path("release", "ps1") / "warm-up.ipynb").read_bytes() == released
    assert totals(preview) == totals(result) == {"right": (5, 5), "positive": (5, 5), "halver": (4, 5)}
    assert [one.questions for one in preview.students] == [one.questions for one in result.students]
    assert marks(graded, "halver")["test-root"] == 3
    assert marks(graded, "positive")["test-square"] == 2 and scores(graded, "positive")["test-square"] == 0
    (kept,) = [change for one in result.students for change in one.questions if change.kept]
    assert (kept.question, kept.before, kept.after, kept.now) == ("test-square", 2, 2, 0)
    assert "Kept: 2 points for test-square" in comment(graded, "positive", "square")
    assert waits(graded, "positive") == {"reflect"}
    assert "edited" not in (graded.path("autograded", "ps1", "halver") / RECORD).read_text()  # it was the course's own
    with Gradebook(graded.db_url, graded.course_id) as gradebook:
        assert HIDDEN in gradebook.find_source_cell("test-square", "warm-up", "ps1").source

    # Nothing later undoes it: a plain run, one that is forced, nbgrader's own, or regrading once more.
    assert not grader.grade(graded, "ps1").graded
    grader.grade(graded, "ps1", force=True)
    assert marks(graded, "positive")["test-square"] == 2
    again = regrade(graded, "ps1", grader)
    assert not again.students and again.unchanged == ["halver", "positive", "right"] and not again.revision.changes
    subprocess.run(
        [sys.executable, "-m", "nbgrader", "autograde", "ps1", "--force"],
        cwd=graded.root,
        capture_output=True,
        check=True,
    )
    assert marks(graded, "positive")["test-square"] == 2


def test_lower_takes_away_now_or_later_and_kinder_tests_replace_what_was_kept(
    graded: Course, grader: LocalGrader
) -> None:
    mend(graded, STRICTER)
    preview = regrade(graded, "ps1", grader, lower=True, dry_run=True)
    assert totals(preview)["positive"] == (5, 3)
    regrade(graded, "ps1", grader)
    lowered = regrade(graded, "ps1", grader, lower=True)
    assert totals(lowered) == {"positive": (5, 3)}
    assert marks(graded, "positive")["test-square"] == 0 and comment(graded, "positive", "square") is None
    mend(graded, (HIDDEN, "pass"))
    assert totals(regrade(graded, "ps1", grader))["positive"] == (3, 5)
    with Gradebook(graded.db_url, graded.course_id) as gradebook:
        assert gradebook.find_grade("test-square", "warm-up", "ps1", "positive").manual_score is None


def test_what_was_kept_gives_way_to_more_points_and_new_work(graded: Course, grader: LocalGrader) -> None:
    mend(graded, STRICTER)
    regrade(graded, "ps1", grader)
    mend(
        graded,
        ('"points": 2, "schema_version": 3, "solution": false', '"points": 4, "schema_version": 3, "solution": false'),
    )
    shutil.rmtree(graded.path("submitted", "ps1", "positive"))
    submit(graded, "positive", RIGHT, when="2026-01-02 10:00:00 UTC")
    assert totals(regrade(graded, "ps1", grader))["positive"] == (5, 7)
    with Gradebook(graded.db_url, graded.course_id) as gradebook:
        assert gradebook.find_grade("test-square", "warm-up", "ps1", "positive").manual_score is None


def test_what_people_gave_stays_and_they_need_not_look_again_but_where_it_matters(
    graded: Course, grader: LocalGrader
) -> None:
    give(graded, "halver", "reflect", 1.5, extra=0.5)
    give(graded, "positive", "test-square", 1)
    give(graded, "right", "test-root", 2)
    with Gradebook(graded.db_url, graded.course_id) as gradebook:
        gradebook.find_comment("square", "warm-up", "ps1", "positive").manual_comment = "half right"
        gradebook.db.commit()
    mend(graded, STRICTER, ('"points": 3', '"points": 6'))
    result = regrade(graded, "ps1", grader, lower=True)
    assert marks(graded, "halver")["reflect"] == 2 and marks(graded, "positive")["test-square"] == 1
    assert comment(graded, "positive", "square") == "half right"
    assert "reflect" not in waits(graded, "halver")  # nothing about it has changed
    assert "test-square" in waits(graded, "positive")  # the automatic points did
    assert marks(graded, "right")["test-root"] == 2 and "test-root" in waits(graded, "right")
    (change,) = [
        c for one in result.students for c in one.questions if one.student == "right" and c.question == "test-root"
    ]
    assert change.by_person and change.note == "a person gave 2 of 3 points; it is worth 6 now"


def test_points_of_a_cell_go_up_and_down(graded: Course, grader: LocalGrader) -> None:
    mend(graded, ('"points": 3', '"points": 1'), ("credit\n\n# %% [mark", "credit / 3\n\n# %% [mark"))
    result = regrade(graded, "ps1", grader)
    assert "warm-up test-root: 3 points became 1" in result.revision.changes
    assert marks(graded, "right")["test-root"] == 3 and marks(graded, "halver")["test-root"] == 2
    with Gradebook(graded.db_url, graded.course_id) as gradebook:
        assert gradebook.find_assignment("ps1").max_score == 5
    regrade(graded, "ps1", grader, lower=True)
    assert marks(graded, "right")["test-root"] == 1
    mend(graded, ('"points": 1', '"points": 9'), ("credit / 3\n", "credit * 3\n"))
    assert totals(regrade(graded, "ps1", grader))["halver"] == (2 + 2 / 3, 2 + 6)


NEW_TEST = '''# %% nbgrader={"grade": true, "grade_id": "test-zero", "locked": true, "points": 1, "schema_version": 3, "solution": false, "task": false}
assert square(0) == 0

# %% nbgrader={"grade": false, "grade_id": "root"'''  # noqa: E501


def test_a_test_is_added_and_feedback_and_formgrader_find_its_rows(graded: Course, grader: LocalGrader) -> None:
    (graded.path("submitted", "ps1", "halver") / "warm-up.ipynb").unlink()  # cannot be read: zero, but no mark is lost
    mend(graded, ('# %% nbgrader={"grade": false, "grade_id": "root"', NEW_TEST))
    result = regrade(graded, "ps1", grader, students="[hr]*")
    assert "warm-up test-zero: new" in result.revision.changes
    assert totals(result) == {"halver": (4, 4), "right": (5, 6)}
    assert scores(graded, "positive")["test-zero"] is None and "test-zero" in waits(graded, "positive")
    # Who was not regraded is protected: a plain run gives the new point and takes nothing.
    assert [s.student for s, _ in grader.grade(graded, "ps1").graded] == ["positive"]
    assert marks(graded, "positive") == {"test-square": 2, "test-root": 3, "reflect": 0, "test-zero": 1}
    assert not grader.grade(graded, "ps1").graded
    done = NbGraderAPI(graded.directory, config=graded.config).generate_feedback("ps1")
    assert done["success"], done["log"]
    done = NbGraderAPI(graded.directory, config=graded.config).generate_assignment("ps1", force=True)
    assert done["success"], done["log"]


def test_who_is_not_regraded_keeps_the_marks_in_a_plain_run(graded: Course, grader: LocalGrader) -> None:
    mend(graded, STRICTER)
    assert list(totals(regrade(graded, "ps1", grader, students="right"))) == ["right"]
    assert marks(graded, "positive")["test-square"] == 2
    assert {s.student for s, _ in grader.grade(graded, "ps1").graded} == {"positive", "halver"}
    assert marks(graded, "positive")["test-square"] == 2 and scores(graded, "positive")["test-square"] == 0
    # New work is graded for what it is.
    notebook = graded.path("submitted", "ps1", "halver") / "warm-up.ipynb"
    notebook.write_text(notebook.read_text().replace("return x / 2", "return -1"))
    grader.grade(graded, "ps1")
    assert marks(graded, "halver")["test-root"] == 0


def test_a_cell_that_is_gone_takes_no_marks_with_it_untold(graded: Course, grader: LocalGrader) -> None:
    text = (graded.path("source", "ps1") / "warm-up.py").read_text()
    start = text.index('# %% nbgrader={"grade": true, "grade_id": "test-root"')
    mend(graded, (text[start : text.index("# %% [markdown] nb")], ""))
    seen = everything(graded)
    with pytest.raises(CourseError, match=r"warm-up test-root: the marks of 3 students(.|\n)*--lower"):
        regrade(graded, "ps1", grader)
    preview = regrade(graded, "ps1", grader, lower=True, dry_run=True)
    assert everything(graded) == seen
    result = regrade(graded, "ps1", grader, lower=True)
    assert totals(preview) == totals(result) == {"right": (5, 2), "positive": (5, 2), "halver": (4, 2)}
    assert marks(graded, "right") == {"test-square": 2, "reflect": 0}
    done = NbGraderAPI(graded.directory, config=graded.config).generate_feedback("ps1")
    assert done["success"], done["log"]


def test_a_renamed_test_keeps_its_marks_and_a_renamed_exercise_is_refused(graded: Course, grader: LocalGrader) -> None:
    give(graded, "halver", "test-root", 2.5)
    mend(graded, ('"test-root"', '"test-square-root"'))
    result = regrade(graded, "ps1", grader)
    assert "warm-up test-square-root: renamed, was test-root" in result.revision.changes
    assert totals(result) == {"right": (5, 5), "positive": (5, 5), "halver": (4.5, 4.5)}
    assert marks(graded, "halver") == {"test-square": 2, "test-square-root": 2.5, "reflect": 0}
    mend(graded, ('"grade_id": "square"', '"grade_id": "squared"'))
    with pytest.raises(CourseError, match="warm-up square: what 3 students answered"):
        regrade(graded, "ps1", grader)


def test_held_points_stay_with_whoever_decides(
    graded: Course, grader: LocalGrader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SandboxedKernelManager, "guard", Suspicious())
    submit(graded, "cheat", RIGHT)
    submit(graded, "forgiven", RIGHT)
    grader.grade(graded, "ps1")
    give(graded, "forgiven", "test-root", 3)
    mend(graded, STRICTER)
    result = regrade(graded, "ps1", grader)
    assert marks(graded, "cheat")["test-root"] == 0 and marks(graded, "forgiven")["test-root"] == 3
    # Whose points were good until now keeps them, and a person is asked to look.
    assert marks(graded, "right")["test-root"] == 3 and "test-root" in waits(graded, "right")
    (change,) = [
        c for one in result.students if one.student == "right" for c in one.questions if c.question == "test-root"
    ]
    assert change.kept and "math.isclose was exchanged" in change.note
    waiting = {case.submission.student for case in held.cases(graded, "ps1") if case.waits}
    assert waiting == {"cheat", "right", "positive", "halver"}
    assert len(grader.grade(graded, "ps1").held) == 4


def test_late_penalties_follow_the_marks_and_lower_none(graded: Course, grader: LocalGrader) -> None:
    config = graded.root / "nbgrader_config.py"
    config.write_text(config.read_text() + PLUGIN)
    course = Course.open(graded.root)
    with Gradebook(course.db_url, course.course_id) as gradebook:
        gradebook.update_or_create_assignment("ps1", duedate=parse_utc("2026-01-01 08:00:00 UTC"))  # two hours: 1 point
    grader.grade(course, "ps1")
    with Gradebook(course.db_url, course.course_id) as gradebook:
        assert gradebook.find_submission("ps1", "halver").late_submission_penalty == 1
        gradebook.update_or_create_assignment("ps1", duedate=parse_utc("2026-01-01 04:00:00 UTC"))  # six: 3
    mend(course, KINDER)
    assert totals(regrade(course, "ps1", grader)) == {"right": (4, 4), "positive": (4, 4), "halver": (3, 3)}
    mend(course, ("abs(root(x) - y) < 0.4", "abs(root(x) - y) < 0.5"))
    assert totals(regrade(course, "ps1", grader, lower=True))["right"] == (4, 2)


def test_one_that_fails_keeps_its_marks_and_the_next_run_goes_on(
    graded: Course, grader: LocalGrader, monkeypatch: pytest.MonkeyPatch
) -> None:
    mend(graded, STRICTER)
    submit_job = grader.submit

    def broken(job: Job) -> object:
        if job.student == "positive":
            raise KeyboardInterrupt
        return submit_job(job)

    monkeypatch.setattr(grader, "submit", broken)
    with pytest.raises(KeyboardInterrupt):  # as Ctrl-C in the middle
        regrade(graded, "ps1", grader)
    monkeypatch.undo()
    assert marks(graded, "positive")["test-square"] == 2
    shutil.copytree(graded.root, graded.root.with_name("copy"))
    copy = Course.open(graded.root.with_name("copy"))
    grader.grade(copy, "ps1")  # not even plain grading takes what the regrading had not come to
    assert marks(copy, "positive")["test-square"] == 2

    def lost(job: Job) -> Future[Outcome]:
        future: Future[Outcome] = Future()
        future.set_exception(RuntimeError("its worker is lost"))
        return future if job.student == "positive" else submit_job(job)

    monkeypatch.setattr(grader, "submit", lost)
    result = regrade(graded, "ps1", grader)
    monkeypatch.undo()
    assert "its worker is lost" in result.failed["positive"] and marks(graded, "positive")["test-square"] == 2
    assert regrade(graded, "ps1", grader).failed == {}
    assert marks(graded, "positive")["test-square"] == 2 and scores(graded, "positive")["test-square"] == 0


def test_one_notebook_of_several(graded: Course, grader: LocalGrader) -> None:
    source, other = graded.path("source", "ps1") / "warm-up.ipynb", graded.path("source", "ps1") / "other.ipynb"
    shutil.copy(source, other)
    assert "other: new notebook" in regrade(graded, "ps1", grader, notebooks=["other"]).revision.changes
    mend(graded, STRICTER)
    other.with_suffix(".py").unlink()  # sync wrote it; here it would count as a data file
    notebook = nbformat.read(other, as_version=4)
    notebook.cells[3].source = "assert False"
    nbformat.write(notebook, other)
    result = regrade(graded, "ps1", grader, notebooks=["warm-up"], lower=True)
    assert totals(result)["positive"] == (5, 3)
    assert {change.notebook for one in result.students for change in one.questions} == {"warm-up"}
    record = json.loads((graded.path("autograded", "ps1", "positive") / RECORD).read_text())
    assert [one["name"] for one in record["notebooks"]] == ["other", "warm-up"]
    assert (graded.path("autograded", "ps1", "positive") / "other.ipynb").exists()
    assert not grader.grade(graded, "ps1").graded  # of the other notebook's new test the gradebook knows nothing yet


def test_what_cannot_be_regraded_is_said(graded: Course, grader: LocalGrader) -> None:
    with pytest.raises(CourseError, match=r"There are: ps1\."):
        regrade(graded, "ps9", grader)
    with pytest.raises(CourseError, match="Collected: halver, positive, right"):
        regrade(graded, "ps1", grader, students="nobody")
    with pytest.raises(CourseError, match=r"has no notebook 'cool-down'\. It has: warm-up"):
        regrade(graded, "ps1", grader, notebooks=["cool-down"])
    with only_writer(graded), pytest.raises(CourseError, match="Another run is grading"):
        regrade(graded, "ps1", grader)
    mend(graded, ("### END HIDDEN TESTS", "### THE END"))
    with pytest.raises(CourseError, match="nbgrader cannot release this lab"):
        regrade(graded, "ps1", grader)
    mend(graded, ("### THE END", "### END HIDDEN TESTS"))
    source = graded.path("source", "ps1") / "warm-up.ipynb"
    source.rename(source.with_name("renamed.ipynb"))
    with pytest.raises(CourseError, match="warm-up is in the gradebook, but no longer"):
        regrade(graded, "ps1", grader)


@pytest.mark.parametrize(
    ("auto", "floor", "new", "lower", "kept"),
    [
        (3, None, 0, None, None),  # plain grading of what was never regraded
        (3, None, 0, False, 3),
        (3, None, None, False, 3),  # a machine without the GPU that it needs
        (3, None, 3, False, None),
        (None, None, 0, False, None),
        (0, None, None, False, None),
        (3, None, 0, True, None),
        (0, 3, 1, None, 3),
        (0, 3, 3, None, None),
        (0, 3, 1, True, None),
    ],
)
def test_points_that_are_kept(
    auto: float | None, floor: float | None, new: float | None, lower: bool | None, kept: float | None
) -> None:
    assert points_kept(auto, floor, new, lower) == kept


def test_a_text_that_was_not_synced_is_refused(graded: Course) -> None:
    require_notebooks(graded, "ps1")
    text = graded.path("source", "ps1") / "warm-up.py"
    text.write_text(text.read_text().replace(*STRICTER))
    with pytest.raises(CourseError, match="gradekit sync warm-up"):
        require_notebooks(graded, "ps1")


def test_the_command(graded: Course) -> None:
    mend(graded, STRICTER, KINDER)
    command = [sys.executable, "-m", "gradekit.cli", "regrade", "ps1", "--course-dir", str(graded.root)]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    (halver,) = [one for one in json.loads(done.stdout)["students"] if one["student"] == "halver"]
    assert (halver["before"], halver["after"]) == (4, 5)
    done = subprocess.run([*command, "--lower"], capture_output=True, text=True, check=True)
    assert "0 up, 1 down" in done.stdout and "2 were graded with these tests already" in done.stdout
