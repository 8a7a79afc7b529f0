"""Systems insights: run an analysis on a student's possibly unfinished code, and draw what it measured."""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from matplotlib.axes import Axes

T = TypeVar("T")

# Okabe and Ito's palette, told apart with every common colour blindness; without its yellow, which fades in
# print.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_DASHES = ("-", "--", "-.", ":")
_HATCHES = ("", "//", "..", "xx", "--", "\\\\", "++")
_NOT_STUDENTS = tuple(
    str(Path(folder).resolve())
    for folder in (Path(__file__).parent, sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"))
)


def run(analysis: Callable[[], T], *, needs: str) -> T | None:
    """Run a systems-insight analysis that calls the student's code.

    Args:
        analysis: measures the student's code and returns what it measured.
        needs: the exercises it stands on, as the student knows them: "Exercise 2 (LoRALinear.forward)".

    Returns:
        What `analysis` returned, or None after saying what is missing or what went wrong, and at which line.
        It never raises into the notebook; an interrupt is no error and goes through.
    """
    try:
        return analysis()
    except NotImplementedError:
        print(f"Not yet: this insight measures your own code. Finish {needs}, then run this cell again.")
    except NameError as error:
        print(f"{error}{_line(error)}")
        print(f"This insight needs {needs}: finish it and run its cell, then run this cell again.")
    except Exception as error:
        print(f"The insight stopped with {type(error).__name__}: {error}{_line(error)}")
        print(f"It needs {needs}: see that the tests there pass, then run this cell again.")
    return None


def bars(values: Mapping[str, float], *, ylabel: str, title: str = "", log: bool = False) -> Axes:
    """A bar for each entry, its value written above it. `ylabel` names the quantity and its unit."""
    axes = _axes(title, "", ylabel)
    for place, (name, value) in enumerate(values.items()):
        colour, hatch = COLOURS[place % len(COLOURS)], _HATCHES[place % len(_HATCHES)]
        drawn = axes.bar(name, value, color=colour, hatch=hatch, edgecolor="black", linewidth=0.6)
        axes.bar_label(drawn, labels=[f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"], padding=2, fontsize=9)
    if log:
        axes.set_yscale("log")
    axes.margins(y=0.12)
    return axes


def lines(
    x: Sequence[float],
    series: Mapping[str, Sequence[float]],
    *,
    xlabel: str,
    ylabel: str,
    title: str = "",
    logx: bool = False,
    logy: bool = False,
) -> Axes:
    """A line for each series over the common `x`, told apart by colour, dash and marker. Labels carry units."""
    axes = _axes(title, xlabel, ylabel)
    for place, (name, y) in enumerate(series.items()):
        axes.plot(
            x, y, label=name, color=COLOURS[place % len(COLOURS)], linestyle=_DASHES[place % len(_DASHES)],
            marker=_MARKERS[place % len(_MARKERS)], markersize=4, markevery=max(1, len(x) // 12),
        )
    if logx:
        axes.set_xscale("log", base=2)
    if logy:
        axes.set_yscale("log")
    if len(series) > 1:
        axes.legend(frameon=False, fontsize=9)
    axes.grid(alpha=0.3)
    return axes


def _axes(title: str, xlabel: str, ylabel: str) -> Axes:
    # Imported late: matplotlib chooses its backend at import, and a kernel names its own once it has started.
    from matplotlib import pyplot

    _, axes = pyplot.subplots(figsize=(5.5, 3.2), layout="constrained")
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def _line(error: Exception) -> str:
    """The innermost line of the notebook's own code on the way to the error."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = str(Path(frame.filename).resolve())
        if not path.startswith(_NOT_STUDENTS) and not frame.filename.startswith("<"):
            return f"\n  in {frame.name}, line {frame.lineno}:  {frame.line}"
    return ""
