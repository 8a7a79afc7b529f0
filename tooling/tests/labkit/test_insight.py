"""labkit.insight: it never raises into a notebook, says what is missing, and draws what it is given."""

import matplotlib
import pytest
from labkit import insight

matplotlib.use("Agg")


def unfinished():
    raise NotImplementedError()


def missing():
    return not_written_yet()  # noqa: F821


def broken():
    return {}["key"]


def test_returns_what_was_measured(capsys):
    assert insight.run(lambda: {"s": 1.5}, needs="Exercise 1") == {"s": 1.5}
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("analysis", "says"),
    [
        (unfinished, ["Exercise 7 (scan)"]),
        (missing, ["not_written_yet", "Exercise 7 (scan)", "return not_written_yet()"]),
        (broken, ["KeyError", "'key'", 'return {}["key"]', "Exercise 7 (scan)"]),
    ],
)
def test_says_what_is_missing_and_where(analysis, says, capsys):
    assert insight.run(analysis, needs="Exercise 7 (scan)") is None
    out, err = capsys.readouterr()
    assert all(text in out for text in says)
    assert err == ""


def test_the_line_shown_is_the_students_not_the_librarys(capsys):
    import torch

    def analysis():
        return torch.nn.Linear(2, 3)(torch.zeros(5))

    insight.run(analysis, needs="Exercise 1")
    assert "torch.nn.Linear(2, 3)" in capsys.readouterr().out


def test_an_interrupt_goes_through():
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        insight.run(interrupted, needs="Exercise 1")


def test_bars_have_labels_and_values():
    axes = insight.bars({"full": 16578.2, "LoRA": 0.25}, ylabel="memory [MiB]", title="Adam", log=True)
    assert axes.get_ylabel() == "memory [MiB]"
    assert [text.get_text() for text in axes.texts] == ["16,578", "0.25"]
    assert axes.get_yscale() == "log"


def test_lines_can_be_told_apart_without_colour():
    axes = insight.lines([1, 2, 4], {name: [1, 2, 3] for name in "abcde"}, xlabel="rank", ylabel="error", logx=True)
    looks = {(line.get_linestyle(), line.get_marker()) for line in axes.get_lines()}
    assert len(looks) == 5
    assert len({line.get_color() for line in axes.get_lines()}) == 5
    assert [text.get_text() for text in axes.get_legend().get_texts()] == list("abcde")
    assert axes.get_xscale() == "log"
