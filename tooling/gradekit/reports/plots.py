"""Pictures for a report: SVG that needs no network, reads in print, and does not rest on telling colours apart."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gradekit.reports.items import Item

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
        figure = Figure(figsize=(4.6, 2.3), layout="constrained")
        axes = figure.subplots()
        axes.bar([(k + 0.5) * 100 / BINS for k in range(BINS)], counts, width=9, color=BLUE)
        _whole(axes, max(counts, default=0))
        axes.set(xlabel="share of the points (%)", ylabel="students", xlim=(0, 100))
        return _embedded(figure)


def item_shares(items: Sequence[Item]) -> str:
    """The share of its points that each question earned; hatched where it tells students hardly apart."""
    with rc_context(_STYLE):
        figure = Figure(figsize=(7.2, 0.6 + 0.19 * len(items)), layout="constrained")
        axes = figure.subplots()
        for place, item in enumerate(items):
            look: dict[str, Any] = {"color": BLUE}
            if item.doubts:
                look = {"facecolor": ORANGE, "hatch": "///", "edgecolor": "black"}
            axes.barh(place, 100 * (item.difficulty or 0), **look)
        axes.set_yticks(range(len(items)), [item.question.name for item in items], fontsize=7)
        axes.set(xlabel="share of the points earned (%); hatched: see the remarks in the table", xlim=(0, 100))
        axes.invert_yaxis()
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
