"""Readiness notebooks: their gates flag what misleads; students get them; nbgrader and the graders never look."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import nbformat
import pytest
from gradekit.authoring.check import State, check_lab, chosen
from gradekit.authoring.gates import READINESS_GATES
from gradekit.authoring.sync import pairs, sync
from gradekit.course import Course, CourseError
from gradekit.grading.local import LocalGrader
from nbgrader.api import Gradebook
from nbgrader.apps.api import NbGraderAPI

ROOT = Path(__file__).parents[4]
TEXT = (Path(__file__).parent / "data" / "0.1-readiness.txt").read_text()
NAME = "0.1-readiness"
SKILL_4 = TEXT[TEXT.index("# %% [markdown]\n# ### Skill 4") : TEXT.index("# %% [markdown]\n# ### Skill 5")]

WithReadiness = Callable[..., Course]


@pytest.fixture
def with_readiness(broken: Callable[..., Course]) -> WithReadiness:
    """The clean course, and in it a readiness notebook with one text replaced by another."""

    def make(old: str = "", new: str = "", *, name: str = NAME) -> Course:
        if old:
            assert TEXT.count(old) == 1, f"{TEXT.count(old)} times in the notebook: {old}"
        course = broken(config=(ROOT / "nbgrader_config.py").read_text())
        folder = course.path("source", "0.1-vectors") / "readiness"
        folder.mkdir()
        (folder / f"{name}.py").write_text(TEXT.replace(old, new) if old else TEXT)
        for stem in pairs(course):
            assert not sync(stem).failed
        return course

    return make


def test_a_clean_one_passes_its_own_gates_and_is_not_run_again(with_readiness: WithReadiness) -> None:
    course = with_readiness()
    (lab,) = course.readiness
    first = check_lab(course, lab, ours=True)
    assert [(gate.name, gate.state, gate.faults) for gate in first.gates] == [
        (name, State.PASSED, []) for name in ("format", "skills", "untouched", "answers", "imports", "network")
    ]
    assert first.is_readiness and not first.known
    assert check_lab(course, course.readiness[0], ours=True).known


@pytest.mark.parametrize(
    ("number", "old", "new", "message"),
    [
        (1, "# ## The result", "# ## Verdict", "'## Verdict' is no section of a readiness notebook"),
        (1, "# ## What comes next\n", "# ### What comes next\n", "there is no section '## What comes next'"),
        (1, "# %%\nprint(", '# %% nbgrader={"grade": false, "grade_id": "it", "locked": true, "schema_version": 3, '
         '"solution": false, "task": false}\nprint(', "it: has nbgrader metadata"),
        (1, "# Read on.", "# TO WRITE: where to read", "'TO WRITE' stands in 1 cells"),
        (2, "# ### Skill 4", "# ### Skill 5", "numbered 1, 2, 3, 5, 5"),
        (2, "<details><summary>Answer</summary>An element of a vector space.</details>", "Well?", "no folded answer"),
        (2, "# ```python\n# def sign(x):", "# ```\n# def sign(x):", "has no ```python block"),
        (2, "# %%\ndef sign(x):", "# %%\nx = 3\n\n# %%\ndef sign(x):", "has 3 code cells"),
        (2, SKILL_4, "# %% [markdown]\n# ### Skill 4: sign\n#\n# <details><summary>Answer</summary>+</details>\n\n",
         "3 skills are tried in code, at least 4"),
        (3, "def half(x):\n    raise NotImplementedError()", "def half(x):\n    return x / 2", "says 'ready: half'"),
        (3, "def half(x):\n    raise NotImplementedError()", "def half(x):\n    pass", "says 'not yet: half. a float'"),
        (3, 'print("It runs.")', "undefined", "fails as it is released: NameError"),
        (4, "#     return x / 2", "#     return x // 2", "does not pass its check, which says: not yet: half. a float"),
        (4, '"sign": "lab 0.0.4"}', '"sign": "lab 0.0.4", "never": "lab"}', "no cell says 'You are ready for module"),
        (5, 'print("It runs.")', "import gradekit", "imports gradekit"),
        (6, 'print("It runs.")', "!pip install numpy", "runs pip, which fetches"),
    ],
)  # fmt: skip
def test_a_gate_flags_its_defect(
    with_readiness: WithReadiness, number: int, old: str, new: str, message: str
) -> None:
    faults = _faults(with_readiness(old, new), number)
    assert any(message in fault for fault in faults), faults


def test_it_takes_its_time(with_readiness: WithReadiness, monkeypatch: pytest.MonkeyPatch) -> None:
    course = with_readiness('print("It runs.")', "import time\ntime.sleep(0.5)")
    monkeypatch.setattr("gradekit.authoring.gates.readiness.NOTEBOOK_S", 0.4)
    faults = _faults(course, 3)
    assert any("use less data" in fault for fault in faults), faults


def test_its_name_is_its_modules(with_readiness: WithReadiness) -> None:
    faults = _faults(with_readiness(name="0.7-readiness"), 1)
    assert any("the readiness notebook of 0.1-vectors is 0.1-readiness" in fault for fault in faults), faults


def test_it_is_checked_with_the_labs_and_by_name_but_is_no_lab(with_readiness: WithReadiness) -> None:
    course = with_readiness()
    assert [lab.name for lab in chosen(course, None)] == ["0.1.1-axpy", NAME]
    assert [lab.name for lab in chosen(course, [NAME])] == [NAME]
    assert [lab.name for lab in course.labs()] == ["0.1.1-axpy"]
    with pytest.raises(CourseError, match="No lab is called"):
        course.lab(NAME)


def test_students_get_it_and_no_grader_looks(with_readiness: WithReadiness) -> None:
    course = with_readiness()
    done = NbGraderAPI(course.directory, config=course.config).generate_assignment("0.1-vectors")
    assert done["success"], done["log"]
    release = course.path("release", "0.1-vectors")
    assert [path.name for path in (release / "readiness").iterdir()] == [f"{NAME}.ipynb"]
    shipped = nbformat.read(release / "readiness" / f"{NAME}.ipynb", as_version=4)
    assert shipped == course.readiness[0].notebook

    folder = course.path("submitted", "0.1-vectors", "a")
    shutil.copytree(release, folder)
    (folder / "timestamp.txt").write_text("2026-01-01 10:00:00 UTC")
    shipped.cells[2].source = "open('was-run', 'w').close(); raise SystemExit"
    nbformat.write(shipped, folder / "readiness" / f"{NAME}.ipynb")
    with LocalGrader(1) as grader:
        ((_, outcomes),) = grader.grade(course, "0.1-vectors").graded
    assert [outcome.name for outcome in outcomes] == ["0.1.1-axpy"]
    with Gradebook(course.db_url, course.course_id) as gradebook:
        assert [notebook.name for notebook in gradebook.find_assignment("0.1-vectors").notebooks] == ["0.1.1-axpy"]
    assert not list(course.root.rglob("was-run"))


def _faults(course: Course, number: int) -> Sequence[str]:
    (gate,) = (gate for gate in READINESS_GATES if gate.number == number)
    (result,) = check_lab(course, course.readiness[0], ours=True, gates=[gate]).gates
    return result.faults
