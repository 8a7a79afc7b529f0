"""Item analysis against figures that can be worked out by hand, and what holds for any class."""

from __future__ import annotations

from typing import Any

import pytest
from gradekit.reports.items import ENOUGH, by_lab, concerns, cronbach, items
from gradekit.reports.marks import Marks, Person, Question, Sheet, Work
from hypothesis import given
from hypothesis import strategies as st


def marks(*rows: dict[str, float], points: float = 2.0, name: str = "ps1") -> Marks:
    """A class of one assignment: each row is a student's scores by question."""
    names = sorted({question for row in rows for question in row})
    sheet = Sheet(name, None, tuple(Question("lab", question, points, False) for question in names))
    people = tuple(Person(f"s{n}", "", "", "") for n in range(len(rows)))
    works = {
        (person.id, name): Work(None, 0.0, {("lab", question): score for question, score in row.items()})
        for person, row in zip(people, rows, strict=True)
    }
    return Marks((sheet,), people, works)


def record(**verdicts: tuple[str, str]) -> dict[str, Any]:
    """What grading leaves: question -> (status, reason)."""
    told = [{"grade_id": name, "status": status, "reason": why} for name, (status, why) in verdicts.items()]
    return {"notebooks": [{"name": "lab", "seconds": dict.fromkeys(verdicts, 0.5), "verdicts": told}]}


def test_figures_of_a_question() -> None:
    rows = [{"a": 2.0, "b": 2.0}] * 5 + [{"a": 0.0, "b": 1.0}] * 3 + [{"a": 1.0, "b": 1.5}] * 2
    found = marks(*rows)
    a, b = items(found, found.sheets[0], {})
    assert (a.answers, a.full, a.zero) == (10, 0.5, 0.3)
    assert a.difficulty == pytest.approx(0.6) and b.difficulty == pytest.approx(0.8)
    assert a.discrimination == pytest.approx(1.0) and a.doubts == []


def test_a_question_that_weak_students_get_right_is_doubtful() -> None:
    rows = [{"a": 2.0, "b": 0.0, "c": 2.0}] * 5 + [{"a": 0.0, "b": 2.0, "c": 0.0}] * 5
    found = marks(*rows)
    assert items(found, found.sheets[0], {})[1].doubts == ["strong students do worse"]


def test_questions_that_everybody_or_nobody_gets_right() -> None:
    found = marks(*[{"all": 2.0, "none": 0.0, "some": float(n % 2)} for n in range(ENOUGH)])
    assert [item.doubts for item in items(found, found.sheets[0], {})[:2]] == [["never failed"], ["never earned"]]
    few = marks(*[{"all": 2.0, "some": float(n % 2)} for n in range(ENOUGH - 1)])
    assert [item.doubts for item in items(few, few.sheets[0], {})] == [[], []]
    assert items(few, few.sheets[0], {})[0].discrimination is None


def test_what_waits_for_a_person_counts_nowhere() -> None:
    found = marks({"a": 0.0}, {"a": 2.0})
    found.works["s0", "ps1"].waiting.add(("lab", "a"))
    (item,) = items(found, found.sheets[0], {})
    assert (item.answers, item.difficulty, item.waiting) == (1, 1.0, 1)


def test_reasons_are_counted_without_their_numbers() -> None:
    found = marks({"a": 0.0}, {"a": 0.0}, {"a": 0.0}, {"a": 2.0})
    records = {
        "s0": record(a=("failed", "AssertionError: 3 is not 4\nmore")),
        "s1": record(a=("failed", "AssertionError: 17.5 is not 1e-06")),
        "s2": record(a=("failed", "NotImplementedError")),
        "s3": record(a=("passed", "")),
    }
    (item,) = items(found, found.sheets[0], records)
    assert item.reasons == (("AssertionError: # is not #", 2), ("NotImplementedError", 1))
    assert item.seconds == 0.5


def test_a_slight_negative_correlation_is_no_accusation() -> None:
    own, rest = (0, 1, 1, 0, 0, 1, 1, 0), (0.2, 1, 2, 3, 4, 5, 6, 7)
    rows = [{"a": a, "b": b} for a, b in zip(own, rest, strict=True)]
    found = marks(*rows, points=8.0)
    item = items(found, found.sheets[0], {})[0]
    assert item.discrimination is not None and -0.1 < item.discrimination < 0
    assert item.doubts == ["tells students hardly apart"]


def test_what_was_left_as_released() -> None:
    found = marks(*[{"a": 0.0, "b": 0.0}] * 4)
    records = {
        "s0": record(a=("no response", "left as it was released"), b=("passed", "")),
        "s1": record(a=("failed", "NotImplementedError"), b=("passed", "")),
        "s2": record(a=("failed", "AssertionError: NotImplementedError expected"), b=("passed", "")),
        "s3": record(a=("passed", ""), b=("passed", "")),
    }
    assert [item.blank for item in items(found, found.sheets[0], records)] == [0.5, 0.0]
    assert items(found, found.sheets[0], {})[0].blank is None


def test_a_lab_is_the_sum_of_its_questions() -> None:
    questions = (Question("one", "a", 1.0, False), Question("one", "b", 3.0, True), Question("two", "c", 2.0, False))
    scores = {("one", "a"): 1.0, ("one", "b"): 0.0, ("two", "c"): 2.0}
    work = Work(None, 0.0, scores, {("two", "c")})
    found = Marks((Sheet("ps1", None, questions),), (Person("s0", "", "", ""),), {("s0", "ps1"): work})
    one, two = by_lab(items(found, found.sheets[0], {}))
    assert (one.name, one.points, one.difficulty, one.waiting, one.seconds) == ("one", 4.0, 0.25, 0, None)
    assert (two.points, two.difficulty, two.waiting) == (2.0, None, 1)


def test_alpha_of_equal_and_of_unrelated_questions() -> None:
    equal = marks(*[{"a": float(n), "b": float(n), "c": float(n)} for n in range(10)])
    assert cronbach(equal, equal.sheets[0]) == pytest.approx(1.0)
    unrelated = marks(*[{"a": float(n % 2), "b": float(n // 2 % 2)} for n in range(8)])
    assert cronbach(unrelated, unrelated.sheets[0]) == pytest.approx(0.0)
    assert cronbach(marks({"a": 1.0, "b": 2.0}), equal.sheets[0]) is None


def test_whom_to_look_after() -> None:
    first = marks(*[{"a": 2.0}] * 6, {"a": 0.5})
    sheet = Sheet("ps2", None, first.sheets[0].questions)
    works = {**first.works, **{(f"s{n}", "ps2"): Work(None, 0.0, {("lab", "a"): 2.0}) for n in range(1, 6)}}
    found = Marks((*first.sheets, sheet), first.people, works)
    said = {concern.person.id: concern.reasons for concern in concerns(found, ["ps1", "ps2"])}
    assert said == {
        "s6": ("nothing handed in for ps2", "less than half of the middle mark in ps1"),
        "s0": ("nothing handed in for ps2",),
    }
    assert list(said) == ["s6", "s0"]
    assert concerns(found, []) == []


@given(st.lists(st.lists(st.floats(0, 2), min_size=3, max_size=3), max_size=30))
def test_figures_stay_in_their_ranges(scores: list[list[float]]) -> None:
    found = marks(*[dict(zip("abc", row, strict=True)) for row in scores])
    for sheet in found.sheets:
        for item in items(found, sheet, {}):
            assert item.difficulty is None or -1e-9 <= item.difficulty <= 1 + 1e-9
            assert item.discrimination is None or -1 - 1e-9 <= item.discrimination <= 1 + 1e-9
            assert 0 <= item.full + item.zero <= 1
        alpha = cronbach(found, sheet)
        assert alpha is None or alpha <= 1 + 1e-6
