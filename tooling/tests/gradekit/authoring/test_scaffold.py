"""`gradekit new`: what it lays out is a working lab, and it never writes over anything."""

from __future__ import annotations

from pathlib import Path

import pytest
from gradekit.authoring.check import State, check_lab
from gradekit.authoring.scaffold import lay_out
from gradekit.authoring.sync import Change, sync
from gradekit.course import Course, CourseError, Role

SYLLABUS = """
domains: {"0": Zero}
modules:
  - {id: "0.1", title: Vectors, slug: 0.1-vectors, domain: 0, hours: [1, 2],
     objectives: [{id: 0.1.1, bloom: apply, text: Say what an update costs}, {id: 0.1.2, bloom: apply, text: Other}],
     labs: [{id: 0.1.1, title: One, slug: 0.1.1-one, objectives: [0.1.1], hours: 1, tier: cpu, builds_on: null},
            {id: 0.1.2, title: The Second, slug: 0.1.2-The.second, objectives: [0.1.1], hours: 2.5,
             tier: gpu-optional, builds_on: 0.1.1}]}
"""
STUB = 'c = get_config()\nc.ClearSolutions.code_stub = {"python": "raise NotImplementedError()"}\n'


@pytest.fixture
def empty(tmp_path: Path) -> Course:
    (tmp_path / "source").mkdir()
    (tmp_path / "nbgrader_config.py").write_text(STUB)
    (tmp_path / "syllabus.yaml").write_text(SYLLABUS)
    return Course.open(tmp_path)


def test_a_new_lab_fails_only_for_what_its_author_has_to_write(empty: Course) -> None:
    laid = lay_out(empty, "0.1.2")
    result = check_lab(empty, laid.lab, ours=True)
    failed = {gate.number: gate.faults for gate in result.gates if gate.state is State.FAILED}
    assert set(failed) == {1, 5}, failed
    assert len(failed[1]) == 1 and "TO WRITE" in failed[1][0] and "line 7" in failed[1][0]
    assert all("are wanted; add them" in fault for fault in failed[5])
    assert not any(gate.state is State.NOT_APPLICABLE for gate in result.gates)


def test_the_table_is_filled_from_the_syllabus(empty: Course) -> None:
    laid = lay_out(empty, "0.1.2")
    title, goals = (laid.lab.cells[index].source for index in (0, 1))
    assert title.startswith("# Lab 0.1.2: The Second\n")
    for row in ("| Module | 0.1 Vectors |", "| Time | 2.5 hours |", "| Hardware | gpu-optional;", "0.1.1 One |"):
        assert row in title
    assert "- 0.1.1: Say what an update costs" in goals and "0.1.2: Other" not in goals
    automatic, manual = laid.lab.points(Role.TEST), laid.lab.points(Role.MANUAL)
    assert f"| Points | {automatic:g} automatic, {manual:g} read by a person |" in title
    assert sync(laid.lab.path.with_suffix(""), check=True).change is Change.NONE
    assert [c.grade_id for c in laid.lab.cells if c.role is Role.TEST] == ["test-the-second-scaled-sum"]


@pytest.mark.parametrize("name", ["0.1.2-The.second.py", "0.1.2-The.second.ipynb"])
def test_nothing_is_written_over(empty: Course, name: str) -> None:
    folder = empty.root / "source" / "0.1-vectors"
    folder.mkdir()
    (folder / name).write_text("mine")
    with pytest.raises(CourseError, match=f"{name} exists already"):
        lay_out(empty, "0.1.2")
    assert [(path.name, path.read_text()) for path in folder.iterdir()] == [(name, "mine")]
    assert not (empty.root / "answers").exists()


def test_an_answer_is_not_written_over(empty: Course) -> None:
    answer = empty.root / "answers" / "0.1.2-The.second" / "wrong_unfinished.py"
    answer.parent.mkdir(parents=True)
    answer.write_text("mine")
    with pytest.raises(CourseError, match="exists already"):
        lay_out(empty, "0.1.2")
    assert answer.read_text() == "mine" and not (empty.root / "source" / "0.1-vectors").exists()


def test_an_unknown_lab_and_a_missing_syllabus(empty: Course) -> None:
    with pytest.raises(CourseError, match=r"No lab 0\.1\.9 in the syllabus\. That module has 0\.1\.1"):
        lay_out(empty, "0.1.9")
    (empty.root / "syllabus.yaml").unlink()
    with pytest.raises(CourseError, match=r"syllabus\.yaml: cannot be read"):
        lay_out(empty, "0.1.2")


def test_it_says_which_line_of_the_modules_page_to_change(empty: Course) -> None:
    page = empty.root / "source" / "0.1-vectors" / "README.md"
    page.parent.mkdir()
    page.write_text("| 0.1.1 One | 1 | cpu | planned | x |\n| 0.1.2 The Second | 2.5 | gpu-optional | planned | y |\n")
    (instruction,) = lay_out(empty, "0.1.2").also
    assert str(page) in instruction and "| 0.1.2 The Second | 2.5 | gpu-optional | written |" in instruction
