"""What `gradekit status` says of a lab's gates: only what was passed with the content as it is."""

from __future__ import annotations

import json
from collections.abc import Iterator

from gradekit.authoring.check import check_lab, passed_before
from gradekit.authoring.gates import form, imports
from gradekit.authoring.gates.subject import Fault, Gate, Subject
from gradekit.cli import app
from gradekit.course import Course, Lab
from typer.testing import CliRunner


def refuse(subject: Subject) -> Iterator[Fault]:
    yield Fault("no")


GATES = (form.GATE, imports.GATE, Gate(98, "never", refuse), Gate(99, "elsewhere", refuse))


def test_only_current_passes_count(course: Course) -> None:
    lab = course.labs()[0]
    assert passed_before(course, lab, gates=GATES) == (0, 4)
    check_lab(course, lab, ours=True, gates=GATES)
    assert passed_before(course, lab, gates=GATES) == (2, 4)

    text = lab.path.read_text()
    lab.path.write_text(text.replace("Two bowls", "Three bowls"))  # prose: only the gate of the format reads it
    assert passed_before(course, Lab(lab.assignment, lab.path), gates=GATES) == (1, 4)
    lab.path.write_text(text.replace("return a * x + y", "return y + a * x"))
    assert passed_before(course, Lab(lab.assignment, lab.path), gates=GATES) == (0, 4)
    lab.path.write_text("{")
    assert passed_before(course, Lab(lab.assignment, lab.path), gates=GATES) == (0, 4)


def test_gates_that_do_not_apply_are_not_counted(course: Course) -> None:
    (course.root / "syllabus.yaml").unlink()
    ours_only = Gate(98, "ours", refuse, everywhere=False)
    assert passed_before(course, course.labs()[0], gates=(imports.GATE, ours_only)) == (0, 1)


def test_status_shows_them(course: Course) -> None:
    def status(*options: str) -> str:
        done = CliRunner().invoke(app, ["status", "--course-dir", str(course.root), *options], env={"COLUMNS": "150"})
        assert done.exit_code == 0, done.output
        return done.output

    assert "not checked" in status()
    check_lab(course, course.labs()[0], ours=True, gates=(form.GATE, imports.GATE))
    assert "2/12" in status()
    assert [row["gates"] for row in json.loads(status("--json"))] == [{"passed": 2, "of": 12}]
