"""Readiness: a right answer is ready, a wrong one says what to reread, an unwritten one is neither."""

from __future__ import annotations

import pytest
from labkit.readiness import Readiness

REREAD = {"squares": "lab 0.1", "shapes": "lab 0.2, Foundations", "clocks": "lab 0.3"}


@pytest.fixture
def ready() -> Readiness:
    return Readiness("0.4", REREAD)


def test_each_state_is_said_and_kept(ready: Readiness, capsys: pytest.CaptureFixture[str]) -> None:
    assert ready.states == dict.fromkeys(REREAD, "not run")
    with ready.skill("squares"):
        assert 3 * 3 == 9
    with ready.skill("shapes"):
        raise AssertionError("count the axes")
    with ready.skill("clocks"):
        raise NotImplementedError
    assert ready.states == {"squares": "ready", "shapes": "not yet", "clocks": "not answered"}
    said = capsys.readouterr().out
    assert said.startswith("ready: squares\n")
    assert "not yet: shapes. count the axes\nTo reread: lab 0.2, Foundations\n" in said
    assert "not answered: clocks. write your answer in the cell above" in said


def test_an_error_of_the_answer_is_named_and_stops_nothing(
    ready: Readiness, capsys: pytest.CaptureFixture[str]
) -> None:
    with ready.skill("squares"):
        [][0]
    assert "not yet: squares. IndexError: list index out of range" in capsys.readouterr().out
    with ready.skill("squares"):
        undefined  # type: ignore[name-defined]  # noqa: B018, F821
    assert ready.states["squares"] == "not answered"
    assert "name 'undefined' is not defined" in capsys.readouterr().out


def test_a_check_that_runs_again_counts_once(ready: Readiness, capsys: pytest.CaptureFixture[str]) -> None:
    for right in (False, True):
        for name in REREAD:
            with ready.skill(name):
                assert right
        ready.report()
    before, after = capsys.readouterr().out.split("3 of 3")
    assert "0 of 3 skills are there. Reread" in before and "shapes    not yet        reread: lab 0.2" in before
    assert "You are ready for module 0.4." in after and "reread" not in after.lower()


def test_an_interrupt_goes_through(ready: Readiness) -> None:
    with pytest.raises(KeyboardInterrupt), ready.skill("squares"):
        raise KeyboardInterrupt
    assert ready.states["squares"] == "not run"


def test_a_skill_that_was_not_declared_is_a_mistake_of_the_notebook(ready: Readiness) -> None:
    with pytest.raises(ValueError, match="'circles' is not among the skills of this notebook: squares, shapes"), \
            ready.skill("circles"):
        pass
