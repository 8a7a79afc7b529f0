"""Marks for other systems: what is in the file is what the gradebook says, whatever names students have."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
from gradekit.course import Course
from gradekit.reports import marks
from nbgrader.api import Gradebook
from tinycourse import RIGHT, build_course, submit
from typer.testing import CliRunner

NAMES = {
    "ada": ("Ada", "Byron, King", "ada@example.org"),
    "bob": ('Robert "Bob"', "=HYPERLINK(1)", "bob@example.org"),
    "kim": ("金\nKim", "", ""),
    "late": ("Late", "Riser", None),
    "none": ("No", "Work", None),
}
LATE = '''
from nbgrader.plugins import BasePlugin
class HalfAPoint(BasePlugin):
    def late_submission_penalty(self, student_id, score, total_seconds_late):
        return 0.5
c.AssignLatePenalties.plugin_class = HalfAPoint
'''


@pytest.fixture(scope="module")
def graded(tmp_path_factory: pytest.TempPathFactory) -> Course:
    """Five students: full marks, a wrong root and marks by hand, half, late, and nothing handed in."""
    from gradekit.grading.local import LocalGrader
    from nbgrader.apps.api import NbGraderAPI

    root = tmp_path_factory.mktemp("export") / "course"
    course = build_course(root)
    with open(root / "nbgrader_config.py", "a") as config:
        config.write(LATE)
    course = Course.open(root)
    assert NbGraderAPI(course.directory, config=course.config).generate_assignment("ps1")["success"]
    with Gradebook(course.db_url, course.course_id) as gradebook:
        gradebook.update_or_create_assignment("ps1", duedate="2026-01-02 00:00:00 UTC")
        for student, (first, last, email) in NAMES.items():
            gradebook.update_or_create_student(student, first_name=first, last_name=last, email=email)
    submit(course, "ada", RIGHT)
    submit(course, "bob", {**RIGHT, "root": "def root(x):\n    return x"})
    submit(course, "kim", {"square": RIGHT["square"]})
    submit(course, "late", RIGHT, when="2026-01-02 00:00:01 UTC")
    with LocalGrader(2) as grader:
        assert not grader.grade(course, "ps1").failed
    with Gradebook(course.db_url, course.course_id) as gradebook:
        for student, given, extra in (("ada", 1.5, None), ("bob", 2.0, 0.25)):
            grade = gradebook.find_grade("reflect", "warm-up", "ps1", student)
            grade.manual_score, grade.extra_credit, grade.needs_manual_grade = given, extra, False
        gradebook.db.commit()
    return course


def export(course: Course, *arguments: str, status: int = 0) -> str:
    """What ``gradekit export`` writes, or what it says when it does not."""
    from gradekit.cli import app

    file = course.root / "out"
    file.unlink(missing_ok=True)
    done = CliRunner().invoke(app, ["export", "--course-dir", str(course.root), "--to", str(file), *arguments])
    assert (done.exit_code != 0) == (status != 0), done.output
    return file.read_bytes().decode() if not status else str(done.exception)


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def in_gradebook(course: Course) -> dict[str, float]:
    """Each student's score as nbgrader counts it."""
    with Gradebook(course.db_url, course.course_id) as gradebook:
        found = gradebook.assignment_submissions("ps1")
        return {s.student.id: max(0.0, s.score - (s.late_submission_penalty or 0.0)) for s in found}


def test_the_marks_that_are_read_are_nbgraders(graded: Course) -> None:
    with Gradebook(graded.db_url, graded.course_id) as gradebook:
        found = marks.read(gradebook)
    assert {student: work.total for (student, _), work in found.works.items()} == in_gradebook(graded)
    (sheet,) = found.sheets
    assert [(q.name, q.points, q.manual) for q in sheet.questions] == [
        ("reflect", 2.0, True), ("test-root", 3.0, False), ("test-square", 2.0, False),
    ]  # fmt: skip
    assert found.works["late", "ps1"].waiting == {("warm-up", "reflect")}
    assert found.works["ada", "ps1"].waiting == set()


def test_rows_of_csv_add_up_to_the_score(graded: Course) -> None:
    found = rows(export(graded, "--format", "csv"))
    sums = {student: sum(float(r["score"]) for r in found if r["student_id"] == student) for student in NAMES}
    assert sums == {**in_gradebook(graded), "none": 0.0}
    assert sums["bob"] == 5.25 and sums["late"] == 4.5
    (penalty,) = [r for r in found if r["question"] == "late penalty"]
    assert (penalty["student_id"], penalty["score"], penalty["max_score"]) == ("late", "-0.5", "0")
    assert {r["timestamp"] for r in found if r["student_id"] == "none"} == {""}
    names = {r["student_id"]: (r["first_name"], r["last_name"]) for r in found}
    assert names["ada"] == ("Ada", "Byron, King") and names["kim"] == ("金\nKim", "")
    assert names["bob"] == ('Robert "Bob"', "'=HYPERLINK(1)")
    waits = {(r["student_id"], r["question"]) for r in found if r["waits_for_a_person"] == "yes"}
    assert waits == {("late", "reflect")}  # an untouched answer is 0 without a person


def test_canvas_takes_the_total_and_passes_the_questions_over(graded: Course) -> None:
    first, possible, *found = list(csv.reader(io.StringIO(export(graded, "--format", "canvas"), newline="")))
    assert first[:5] == ["Student", "ID", "SIS User ID", "SIS Login ID", "Section"]
    assert first[5:] == ["ps1", "ps1 / warm-up / reflect", "ps1 / warm-up / test-root", "ps1 / warm-up / test-square"]
    assert possible == ["    Points Possible", "", "", "", "", "7", *["(read only)"] * 3]
    by_login = {row[3]: row for row in found}
    assert by_login["ada"][0] == "Byron, King, Ada" and by_login["ada"][5:] == ["6.5", "1.5", "3", "2"]
    assert by_login["none"][5:] == ["", "", "", ""]
    assert {login: float(row[5]) for login, row in by_login.items() if row[5]} == in_gradebook(graded)


def test_moodle_has_a_column_for_each_item(graded: Course) -> None:
    found = {row["Username"]: row for row in rows(export(graded, "--format", "moodle"))}
    assert found["bob"]["Assignment: ps1 (Real)"] == "5.25"
    assert found["bob"]["ps1 / warm-up / reflect (Real)"] == "2.25"
    assert found["kim"]["First name"] == "金\nKim" and found["none"]["Assignment: ps1 (Real)"] == ""


def test_lti_scores_say_what_is_final(graded: Course) -> None:
    items = json.loads(export(graded, "--format", "lti-json"))["lineItems"]
    assert [(item["tag"], item["scoreMaximum"]) for item in items] == [
        ("assignment", 7.0), ("question", 2.0), ("question", 3.0), ("question", 2.0),
    ]  # fmt: skip
    assert len({item["resourceId"] for item in items}) == 4
    total = {score["userId"]: score for score in items[0]["scores"]}
    assert {who: score.get("scoreGiven") for who, score in total.items()} == {**in_gradebook(graded), "none": None}
    assert total["none"]["gradingProgress"] == "NotReady"
    assert (total["ada"]["gradingProgress"], total["late"]["gradingProgress"]) == ("FullyGraded", "PendingManual")
    assert {score["gradingProgress"] for score in items[2]["scores"]} == {"FullyGraded"}
    assert all(datetime.fromisoformat(score["timestamp"]).tzinfo for score in total.values())
    assert items[0]["endDateTime"] == "2026-01-02T00:00:00+00:00"


def test_students_and_assignments_can_be_chosen(graded: Course) -> None:
    found = rows(export(graded, "--student", "ada", "--student", "late", "--assignment", "ps1"))
    assert {row["student_id"] for row in found} == {"ada", "late"}
    assert "no student 'zoe'" in export(graded, "--student", "zoe", status=1)
    assert "no assignment 'ps9'. It has: ps1." in export(graded, "--assignment", "ps9", status=1)
    assert "canvas, moodle, csv, lti-json" in export(graded, "--format", "xls", status=1)


def test_the_file_is_its_owners_and_whole(graded: Course) -> None:
    export(graded)
    assert (graded.root / "out").stat().st_mode & 0o077 == 0
    assert not list(graded.root.glob(".out*"))


def test_without_a_gradebook_it_says_so_and_makes_none(tmp_path: Path) -> None:
    course = build_course(tmp_path / "course")
    assert "no gradebook yet" in export(course, status=1)
    assert not (course.root / "gradebook.db").exists()


def test_nbgraders_own_command_takes_the_plugin(graded: Course) -> None:
    command = [sys.executable, "-m", "nbgrader", "export", "--exporter=gradekit.reports.export.MoodleExport"]
    subprocess.run([*command, "--to=by-nbgrader.csv"], cwd=graded.root, check=True, capture_output=True)
    assert (graded.root / "by-nbgrader.csv").read_text() == export(graded, "--format", "moodle")
