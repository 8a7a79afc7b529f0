"""The syllabus: the course's own is sound, and every fault in one is reported where it is."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from gradekit.course import CourseError
from gradekit.syllabus import BLOOM, TIERS, Syllabus, SyllabusError, load, status_rows
from labkit import hardware

COURSE = Path(__file__).parents[3]

# How many labs the curriculum gives each module; a capstone is one lab that has its module's id.
CURRICULUM = {
    "1.1": 5, "1.2": 5, "1.3": 5, "1.4": 5, "1.5": 5, "1.6": 4, "1.7": 0,
    "2.1": 6, "2.2": 6, "2.3": 6, "2.4": 6, "2.5": 6, "2.6": 6,
    "3.1": 10, "3.2": 8, "3.3": 7, "3.4": 6, "3.5": 7, "3.6": 6,
    "4.1": 4, "4.2": 6, "4.3": 7, "4.4": 7, "4.5": 3, "4.6": 0,
    "opt-A": 2, "opt-B": 2, "opt-C": 2, "opt-D": 3, "opt-E": 2,
}  # fmt: skip
RESEARCH_REPORT = "1.3.6"  # the parallel histogram: a lab that the research report adds, over the curriculum's hours

SMALL = """\
domains: {1: Foundations}
modules:
  - id: "1.1"
    title: First
    slug: 1.1-first
    domain: 1
    hours: [2, 4]
    objectives:
      - {id: 1.1.1, bloom: apply, text: Do it}
    labs:
      - {id: 1.1.1, title: One, slug: 1.1.1-one, objectives: [1.1.1], hours: 1.5, tier: cpu, builds_on: null}
      - {id: 1.1.2, title: Two, slug: 1.1.2-two, objectives: [1.1.1], hours: 2, tier: cpu, builds_on: 1.1.1}
"""


@pytest.fixture(scope="module")
def course() -> Syllabus:
    return load(COURSE / "syllabus.yaml")


def problems_of(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "syllabus.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SyllabusError) as raised:
        load(path)
    return [problem.removeprefix(f"{path}:") for problem in raised.value.problems]


# The course's own syllabus


def test_every_lab_of_the_curriculum_is_there(course: Syllabus) -> None:
    assert [module.id for module in course.modules] == list(CURRICULUM)
    expected = {f"{m}.{n}" for m, count in CURRICULUM.items() for n in range(1, count + 1)} | {"1.7", "4.6"}
    assert len(expected) == 149
    assert expected | {RESEARCH_REPORT} == {lab.id for lab in course.labs}
    assert all(lab.id == lab.module or lab.id.startswith(f"{lab.module}.") for lab in course.labs)


def test_labs_stand_in_the_order_of_their_numbers(course: Syllabus) -> None:
    for module in course.modules:
        if module.id not in ("1.7", "4.6"):
            numbers = [int(lab.id.rpartition(".")[2]) for lab in module.labs]
            assert numbers == list(range(1, len(numbers) + 1)), module.id


def test_every_lab_rests_on_an_earlier_one(course: Syllabus) -> None:
    order = {lab.id: place for place, lab in enumerate(course.labs)}
    for lab in course.labs:
        assert lab.builds_on is None or order[lab.builds_on] < order[lab.id], lab.id
    assert [lab.id for lab in course.labs if lab.builds_on is None] == ["1.1.1", "1.2.1"]


def test_every_objective_is_served_by_a_lab(course: Syllabus) -> None:
    for module in course.modules:
        assert {objective.id for objective in module.objectives} == {o for lab in module.labs for o in lab.objectives}


def test_a_modules_labs_fit_into_its_hours(course: Syllabus) -> None:
    # The curriculum's own estimates for 1.4, 3.2 and 3.4 exceed the module's range by one hour.
    for module in course.modules:
        least, most = module.hours
        assert least <= sum(lab.hours for lab in module.labs if lab.id != RESEARCH_REPORT) <= most + 1, module.id


def test_names_of_folders_and_notebooks_that_are_fixed(course: Syllabus) -> None:
    assert course.module("1.3").slug == "1.3-cuda-python"
    assert course.module("3.1").slug == "3.1-llm-finetuning"
    assert course.lab("1.3.1").slug == "1.3.1-parallel-reduction"
    assert course.lab("3.1.1").slug == "3.1.1-lora-from-scratch"


def test_every_folder_of_labs_belongs_to_a_module(course: Syllabus) -> None:
    folders = {path.name for path in (COURSE / "source").iterdir() if path.is_dir() and path.name[0] not in "._"}
    assert folders <= {module.slug for module in course.modules}


@pytest.mark.parametrize("page", sorted((COURSE / "source").glob("*/README.md")), ids=lambda page: page.parent.name)
def test_a_modules_page_says_what_the_syllabus_says(course: Syllabus, page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    (module,) = (module for module in course.modules if module.slug == page.parent.name)
    assert text.startswith(f"# Module {module.id}: {module.title}\n")
    for row in status_rows(course, COURSE):
        if row.module == module.id:
            assert f"\n| {row.lab} {row.title} | {row.hours:g} | {row.tier} | {row.status} |" in text, row
    for objective in module.objectives:
        practised = ", ".join(lab.id for lab in module.labs if objective.id in lab.objectives)
        line = next(line for line in text.splitlines() if line.startswith(f"| {objective.id} | {objective.bloom} |"))
        assert line.endswith(f"| {practised} |")


def test_the_labs_runtime_knows_the_same_tiers() -> None:
    assert get_args(hardware.Tier) == TIERS


# Reading


def test_what_is_read_is_what_is_written(tmp_path: Path) -> None:
    (tmp_path / "syllabus.yaml").write_text(SMALL)
    syllabus = load(tmp_path / "syllabus.yaml")
    assert syllabus.domains == {"1": "Foundations"}
    (module,) = syllabus.modules
    assert (module.id, module.title, module.slug, module.domain) == ("1.1", "First", "1.1-first", "1")
    assert module.hours == (2.0, 4.0)
    assert [(o.id, o.bloom, o.text) for o in module.objectives] == [("1.1.1", "apply", "Do it")]
    one, two = syllabus.labs
    assert (one.module, one.title, one.slug, one.objectives) == ("1.1", "One", "1.1.1-one", ("1.1.1",))
    assert (one.hours, one.tier, one.builds_on, two.builds_on) == (1.5, "cpu", None, "1.1.1")
    assert syllabus.lab("1.1.2") is two and syllabus.module("1.1") is module


def test_asking_for_a_lab_that_is_not_there_says_which_are(course: Syllabus) -> None:
    with pytest.raises(CourseError, match=r"No lab 1\.6\.9 .* has 1\.6\.1, 1\.6\.2, 1\.6\.3, 1\.6\.4\."):
        course.lab("1.6.9")
    with pytest.raises(CourseError, match="gradekit status"):
        course.lab("banana")
    with pytest.raises(CourseError, match=r"No module 5\.1 .* 4\.6, opt-A"):
        course.module("5.1")


def test_a_lab_is_written_when_its_notebook_is_there(tmp_path: Path) -> None:
    (tmp_path / "syllabus.yaml").write_text(SMALL)
    (tmp_path / "source" / "1.1-first" / "1.1.1-one.ipynb").mkdir(parents=True)  # a folder is no notebook
    (tmp_path / "source" / "1.1-first" / "1.1.2-two.py").touch()
    syllabus = load(tmp_path / "syllabus.yaml")
    assert [row.status for row in status_rows(syllabus, tmp_path)] == ["planned", "planned"]
    (tmp_path / "source" / "1.1-first" / "1.1.2-two.ipynb").touch()
    one, two = status_rows(syllabus, tmp_path)
    assert (one.status, two.status) == ("planned", "written")
    assert (two.module, two.lab, two.title, two.hours, two.tier) == ("1.1", "1.1.2", "Two", 2.0, "cpu")
    assert (one.builds_on, two.builds_on) == (None, "1.1.1")


# Faults

FAULTS = {
    "lab id twice": ("id: 1.1.2,", "id: 1.1.1,", "12: lab 1.1.1: duplicate lab id '1.1.1', first on line 11"),
    "slug twice": ("id: 1.1.2, title: Two, slug: 1.1.2-two", "id: 1.1.1, title: Two, slug: 1.1.1-one",
                   "12: lab 1.1.1: duplicate lab slug '1.1.1-one', first on line 11"),
    "slug without id": ("1.1.2-two", "two", "12: lab 1.1.2: slug 'two' must be '1.1.2-' and then"),
    "slug leads out": ("1.1.2-two", "1.1.2-../two", "12: lab 1.1.2: slug '1.1.2-../two' must be"),
    "id is a number": ('"1.1"', "1.1", "3: module: 'id' is 1.1, not text: put the id in quotes"),
    "objective unknown": ("objectives: [1.1.1], hours: 2", "objectives: [1.1.9], hours: 2",
                          "12: lab 1.1.2: unknown objective '1.1.9': module 1.1 has 1.1.1"),
    "objectives none": ("objectives: [1.1.1], hours: 2", "objectives: [], hours: 2",
                        "12: lab 1.1.2: 'objectives' must list at least one"),
    "builds on nothing known": ("builds_on: 1.1.1", "builds_on: 9.9.9",
                                "12: lab 1.1.2: builds on '9.9.9', which is no lab here"),
    "builds on a later lab": ("builds_on: null", "builds_on: 1.1.2",
                              "11: lab 1.1.1: builds on lab 1.1.2, which comes later (line 12)"),
    "builds on itself": ("builds_on: 1.1.1", "builds_on: 1.1.2", "12: lab 1.1.2: builds on itself"),
    "builds on a number": ("builds_on: 1.1.1", "builds_on: 1.7", "12: lab 1.1.2: 'builds_on' is 1.7, not text"),
    "tier": ("hours: 2, tier: cpu", "hours: 2, tier: tpu",
             "12: lab 1.1.2: unknown tier 'tpu': use cpu, gpu-optional, gpu-required"),
    "bloom": ("bloom: apply", "bloom: grok", "9: objective 1.1.1: unknown bloom 'grok': use remember, understand"),
    "domain": ("domain: 1", "domain: 7", "3: module 1.1: unknown domain '7': use 1, or add it"),
    "hours of a lab": ("hours: 2,", "hours: -2,", "12: lab 1.1.2: 'hours' must be a number above 0, not -2"),
    "hours not finite": ("hours: 2,", "hours: .nan,", "12: lab 1.1.2: 'hours' must be a number above 0, not nan"),
    "hours yes": ("hours: 2,", "hours: yes,", "12: lab 1.1.2: 'hours' must be a number above 0, not True"),
    "objectives are words": ("objectives:\n      - {id: 1.1.1, bloom: apply, text: Do it}", "objectives: [Do it]",
                             "3: module 1.1: 'objectives' must be a list of entries"),
    "hours of a module": ("[2, 4]", "[4, 2]", "3: module 1.1: 'hours' must be [least, most]"),
    "key missing": (", tier: cpu, builds_on: 1.1.1", ", builds_on: 1.1.1", "12: lab 1.1.2: 'tier' is missing: add it"),
    "key misspelt": ("builds_on: 1.1.1", "build_on: 1.1.1", "12: lab 1.1.2: unknown key 'build_on': the keys here are"),
    "id missing": ("{id: 1.1.2, ", "{", "12: lab without an id: 'id' is missing: add it"),
    "title empty": ("title: Two", "title: ", "12: lab 1.1.2: 'title' must be a text, not None"),
    "no domains": ("domains: {1: Foundations}", "domains:", "1: the syllabus: 'domains' must map"),
    "key twice": ("title: First", "id: x", "4: not valid YAML: the key 'id' is given twice"),
    "key is a list": ("title: First", "[a]: x", "4: not valid YAML: a key must be a word or a number"),
    "bracket open": ("[2, 4]", "[2, 4", "8: not valid YAML"),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new", "expected"), FAULTS.values(), ids=FAULTS.keys())
def test_a_fault_is_named_with_its_line_and_what_to_do(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert SMALL.count(old) == 1
    found = problems_of(tmp_path, SMALL.replace(old, new))
    assert any(problem.startswith(expected) for problem in found), found


def test_a_circle_is_broken_where_it_points_ahead(tmp_path: Path) -> None:
    (problem,) = problems_of(tmp_path, SMALL.replace("builds_on: null", "builds_on: 1.1.2"))
    assert problem == "11: lab 1.1.1: builds on lab 1.1.2, which comes later (line 12): move one of the two"


def test_all_faults_are_reported_at_once_and_in_order(tmp_path: Path) -> None:
    text = SMALL.replace("tier: cpu", "tier: tpu").replace("bloom: apply", "bloom: grok").replace("[2, 4]", "[4, 2]")
    assert [problem.split(":")[0] for problem in problems_of(tmp_path, text)] == ["3", "9", "11", "12"]


@pytest.mark.parametrize("text", ["", "just words", "- a\n- list\n", "\x00"], ids=["empty", "words", "list", "nul"])
def test_a_file_that_is_no_syllabus(tmp_path: Path, text: str) -> None:
    assert len(problems_of(tmp_path, text)) == 1


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SyllabusError, match=r"absent\.yaml: cannot be read"):
        load(tmp_path / "absent.yaml")
    (tmp_path / "latin.yaml").write_bytes("title: caf\xe9".encode("latin-1"))
    with pytest.raises(SyllabusError, match=r"latin\.yaml: cannot be read"):
        load(tmp_path / "latin.yaml")


def places(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value inside a parsed YAML document."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield (*path, key)
        yield from places(value, (*path, key))


@pytest.mark.parametrize("junk", [None, True, 0, 1.5, "", "x", [], [None], [[]], {}, {"x": []}], ids=repr)
def test_junk_anywhere_is_a_fault_with_a_line_or_harmless(tmp_path: Path, junk: Any) -> None:
    sound = yaml.safe_load(SMALL)
    path = tmp_path / "syllabus.yaml"
    for place in places(sound):
        document = copy.deepcopy(sound)
        parent = document
        for key in place[:-1]:
            parent = parent[key]
        parent[place[-1]] = junk
        path.write_text(yaml.safe_dump(document))
        try:
            syllabus = load(path)
        except SyllabusError as error:
            assert all(problem.startswith(f"{path}:") for problem in error.problems), place
        else:
            assert all(lab.tier in TIERS and lab.objectives and lab.hours > 0 for lab in syllabus.labs), place
            assert all(o.bloom in BLOOM and o.text for m in syllabus.modules for o in m.objectives), place
