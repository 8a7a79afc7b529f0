"""The page of `gradekit mutate --html`: every mutant with its diff, the survivors first."""

from __future__ import annotations

from html import escape

from gradekit.authoring.mutation import Fate, Mutant, Report

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a }
pre { background: #f6f6f4; padding: .6rem; overflow-x: auto; font-size: 14px }
.minus { color: #9c2b00 } .plus { color: #00509e } summary { cursor: pointer }
.fate { font-weight: 600 } dt { font-weight: 600 } :focus-visible { outline: 2px solid #0072b2 }
"""


def page(report: Report) -> str:
    """A self-contained HTML page."""
    counts = ", ".join(f"{report.count(fate)} {fate}" for fate in Fate if report.count(fate))
    sections = "".join(_section(report, fate) for fate in sorted(Fate, key=lambda fate: fate is not Fate.SURVIVED))
    mistakes = "".join(f"<p>{escape(mistake)}</p>" for mistake in report.mistakes)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Mutants of {escape(report.lab)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body><main>'
        f"<h1>Mutants of {escape(report.lab)}</h1><p>{len(report.mutants)} mutants: {counts}. "
        f"{report.score:.1%} were noticed.</p>{mistakes}{sections}</main></body></html>"
    )


def _section(report: Report, fate: Fate) -> str:
    mutants = [mutant for mutant in report.mutants if mutant.fate is fate]
    if not mutants:
        return ""
    opened = " open" if fate is Fate.SURVIVED else ""
    entries = "".join(_entry(mutant, report.references[mutant.cell], opened) for mutant in mutants)
    return f"<section><h2>{escape(fate.capitalize())}: {len(mutants)}</h2>{entries}</section>"


def _entry(mutant: Mutant, reference: str, opened: str) -> str:
    why = f" by {mutant.test}" if mutant.test else ""
    reason = f"<p>{escape(mutant.reason)}</p>" if mutant.reason else ""
    lines = []
    for line in mutant.diff(reference).splitlines():
        kind = {"-": "minus", "+": "plus"}.get(line[:1])
        lines.append(f'<span class="{kind}">{escape(line)}</span>' if kind else escape(line))
    title = f"{mutant.cell}, line {mutant.line}: {mutant.operator} ({mutant.id})"
    head = f'<summary>{escape(title)} <span class="fate">{escape(mutant.fate + why)}</span></summary>'
    return f"<details{opened}>{head}{reason}<pre>{chr(10).join(lines)}</pre></details>"
