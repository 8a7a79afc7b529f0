"""Pictures for a report: SVG that needs no network, reads in print, and does not rest on telling colours apart."""

from __future__ import annotations

import base64
import io
import statistics
from collections.abc import Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gradekit.reports.items import LabItems

#: Two of Okabe and Ito's colours (Color Universal Design, 2008), which differ in lightness, too.
BLUE, ORANGE = "#0072b2", "#e69f00"
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "gradekit",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "hatch.linewidth": 0.6,
}
BINS = 10


def distribution(shares: Sequence[float]) -> str:
    """How many students have which share of the points, in tenths, with a line at the median."""
    counts = [0] * BINS
    for share in shares:
        counts[min(int(max(share, 0.0) * BINS + 1e-9), BINS - 1)] += 1
    with rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 2.3), layout="constrained")
        axes = figure.subplots()
        axes.bar([(k + 0.5) * 100 / BINS for k in range(BINS)], counts, width=9, color=BLUE)
        _whole(axes, max(counts, default=0))
        axes.set(xlabel="share of the points (%)", ylabel="students", xlim=(0, 100))
        if shares:
            median = 100 * statistics.median(shares)
            axes.axvline(median, color="black", linestyle="--")
            axes.annotate(
                "median", (median, 1), (4, -8), xycoords=("data", "axes fraction"), textcoords="offset points",
                fontsize=8, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
            )  # fmt: skip
        return _embedded(figure)


def compared(named: Sequence[tuple[str, Sequence[float]]]) -> str:
    """The spread of the marks of each assignment that somebody handed in: median, quartiles, whiskers and outliers."""
    handed_in = [(name, [100 * share for share in shares]) for name, shares in named if shares]
    with rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 0.7 + 0.35 * len(handed_in)), layout="constrained")
        axes = figure.subplots()
        axes.boxplot(
            [shares for _, shares in handed_in], orientation="horizontal", widths=0.6, patch_artist=True,
            boxprops={"facecolor": "#cfe3f0", "edgecolor": BLUE}, medianprops={"color": "black", "linewidth": 2},
            flierprops={"markersize": 4},
        )  # fmt: skip
        axes.set_yticks(range(1, len(handed_in) + 1), [name for name, _ in handed_in], fontsize=8)
        axes.set(xlabel="share of the points (%)", xlim=(-2, 102))
        axes.invert_yaxis()
        return _embedded(figure)


def item_shares(labs: Sequence[LabItems]) -> str:
    """The share of its points that each question earned, a panel for each notebook; hatched where there is a remark."""
    rows = [labs[k : k + 2] for k in range(0, len(labs), 2)]
    heights = [max(len(lab.items) for lab in row) + 3 for row in rows]
    with rc_context(_STYLE):
        figure = Figure(figsize=(10, 0.15 * sum(heights) + 0.3), layout="constrained")
        grid = figure.subplots(len(rows), 2, squeeze=False, gridspec_kw={"height_ratios": heights})
        for axes in grid.flat:
            axes.set_visible(False)
        for lab, axes in zip(labs, grid.flat, strict=False):
            axes.set_visible(True)
            for place, item in enumerate(lab.items):
                look: dict[str, Any] = {"color": BLUE}
                if item.doubts:
                    look = {"facecolor": ORANGE, "hatch": "////", "edgecolor": "black"}
                axes.barh(place, 100 * (item.difficulty or 0), **look)
            axes.set_title(lab.name, fontsize=8, fontweight="bold", loc="left")
            axes.set_yticks(range(len(lab.items)), [item.question.name for item in lab.items], fontsize=7)
            axes.tick_params(axis="x", labelsize=7)
            axes.set(xlim=(0, 100), ylim=(len(lab.items) - 0.4, -0.6))
        return _embedded(figure)


def _whole(axes: Axes, most: int) -> None:
    """Ticks at whole numbers."""
    step = max(1, -(-most // 5))
    axes.set_yticks(range(0, most + step, step))


def _embedded(figure: Figure) -> str:
    """A data address for an ``<img>``."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(file.getvalue()).decode()}"
