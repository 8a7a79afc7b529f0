"""The two columns side by side, and the totals of each family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.table import Table

from gradekit.redteam.attack import TITLES, Attack, Family
from gradekit.redteam.effects import Effect, End


@dataclass(frozen=True)
class Row:
    """One attack and what it did to each grader; None where it was not run."""

    attack: Attack
    stock: Effect | None
    ours: Effect | None

    @property
    def unexpected(self) -> bool:
        """Whether gradekit let something through that is not known."""
        return self.ours is not None and self.ours.succeeded and not self.attack.known


def table(rows: list[Row]) -> Table:
    """One line for each attack."""
    shown = Table(title=f"{len(rows)} attacks")
    for heading in ("family", "attack", "stock nbgrader", "gradekit"):
        shown.add_column(heading, overflow="fold")
    for family in Family:
        for row in (row for row in rows if row.attack.family is family):
            ours = _shown(row.ours) + (" (known)" if row.attack.known else "")
            style = "red" if row.unexpected else "yellow" if row.attack.known else None
            stock = _shown(row.stock) if row.attack.runs_against_stock else "not run"
            shown.add_row(TITLES[family], row.attack.name, stock, ours, style=style)
        shown.add_section()
    return shown


def totals(rows: list[Row]) -> Table:
    """One line for each family: how many attacks ended how."""
    shown = Table(title="stock nbgrader / gradekit")
    shown.add_column("family")
    shown.add_column("attacks", justify="right")
    for end in reversed(End):
        shown.add_column(str(end), justify="right")
    for family in [*Family, None]:
        group = [row for row in rows if family in (None, row.attack.family)]
        if not group:
            continue
        cells = []
        for end in reversed(End):
            stock, ours = (sum(e is not None and e.end is end for e in es) for es in _columns(group))
            cells.append(f"{stock or '-'} / {ours or '-'}")
        if family is None:
            shown.add_section()
        shown.add_row(TITLES[family] if family else "all", str(len(group)), *cells)
    return shown


def to_json(rows: list[Row]) -> dict[str, Any]:
    """The same as plain data."""
    return {
        "attacks": [
            {
                "name": row.attack.name,
                "family": row.attack.family,
                "tries": row.attack.tries,
                "known": row.attack.known,
                "not_run_against_stock": row.attack.stock if not row.attack.runs_against_stock else "",
                "stock": _plain(row.stock),
                "gradekit": _plain(row.ours),
            }
            for row in rows
        ],
        "unexpected": [row.attack.name for row in rows if row.unexpected],
    }


def _columns(rows: list[Row]) -> tuple[list[Effect | None], list[Effect | None]]:
    return [row.stock for row in rows], [row.ours for row in rows]


def _shown(effect: Effect | None) -> str:
    return "-" if effect is None else str(effect)


def _plain(effect: Effect | None) -> dict[str, Any] | None:
    if effect is None:
        return None
    return {
        "end": effect.end,
        "points_gained": effect.gained,
        "held": list(effect.held),
        "reached": list(effect.reached),
        "disturbed": list(effect.disturbed),
    }
