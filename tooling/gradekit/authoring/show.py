"""Tables and JSON for what the authoring commands found."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from gradekit.authoring.answer_runs import AnswerRun
from gradekit.authoring.check import LabResult, State
from gradekit.authoring.mutation import Fate, Report
from gradekit.grading.judge import Status


def answers_table(runs: Sequence[AnswerRun]) -> Table:
    """Answer x graded cell: what was got, and in red what was expected where the two differ."""
    tests = list(runs[0].expected)
    table = _numbered("answer", tests)
    table.add_column("s", justify="right", no_wrap=True)
    table.add_column("MB", justify="right")
    for run in runs:
        row = []
        for grade_id in tests:
            verdict, want = run.got[grade_id], run.expected[grade_id]
            if verdict.status is Status.NOT_HERE:
                row.append("[yellow]not here[/]")
            elif verdict.score != want:
                row.append(f"[red]{verdict.score:g}, not {want:g}[/]")
            elif others := run.others(grade_id):
                row.append(f"[red]not {want:g} in {len(others)} of {len(run.rounds[grade_id])}[/]")
            else:
                row.append(f"{verdict.score:g}" if want == verdict.points else f"[dim]{verdict.score:g}[/]")
        table.add_row(run.answer.name, *row, f"{run.seconds:.2f}", f"{run.peak / 1e6:.0f}")
    return table


def answers_json(runs: Sequence[AnswerRun]) -> list[dict]:
    """The same for a program, with the reason of each lost point."""
    return [
        {
            "answer": run.answer.name,
            "kind": run.answer.kind,
            "summary": run.answer.summary,
            "seconds": run.seconds,
            "peak_bytes": run.peak,
            "ended": run.ended,
            "tests": {
                grade_id: {
                    "expected": run.expected[grade_id],
                    "got": verdict.score,
                    "reason": verdict.reason,
                    "rounds": len(run.rounds.get(grade_id, ())),
                    "other_rounds": run.others(grade_id),
                }
                for grade_id, verdict in run.got.items()
            },
            "surprises": run.surprises,
        }
        for run in runs
    ]


MARKS = {State.PASSED: "[green]ok[/]", State.FAILED: "[red]no[/]", State.NOT_APPLICABLE: "[dim]-[/]"}


def checks_table(results: Sequence[LabResult]) -> Table:
    """Lab x gate, with what each lab cost."""
    table = _numbered("lab", [gate.name for gate in results[0].gates])
    table.add_column("s", justify="right", no_wrap=True)
    for result in results:
        cost = "known" if result.known else f"{result.seconds:.1f}"
        table.add_row(result.lab, *(MARKS[gate.state] for gate in result.gates), cost)
    return table


def checks_json(results: Sequence[LabResult]) -> list[dict]:
    """The same for a program, with all faults."""
    return [
        {
            "lab": result.lab,
            "assignment": result.assignment,
            "passed": result.passed,
            "seconds": result.seconds,
            "gates": [vars(gate) for gate in result.gates],
        }
        for result in results
    ]


def mutants_table(report: Report) -> Table:
    """Cell x fate, then operator x fate."""
    fates = list(Fate)
    table = Table("cell or operator", "mutants", *fates, show_edge=False)
    for key in ("cell", "operator"):
        for name in sorted({getattr(mutant, key) for mutant in report.mutants}):
            here = [mutant for mutant in report.mutants if getattr(mutant, key) == name]
            counts = [sum(mutant.fate is fate for mutant in here) for fate in fates]
            red = {fates.index(Fate.SURVIVED)} if counts[fates.index(Fate.SURVIVED)] else set()
            cells = [f"[red]{n}[/]" if i in red else str(n or "") for i, n in enumerate(counts)]
            table.add_row(name, str(len(here)), *cells)
        table.add_section()
    return table


def mutants_json(report: Report) -> dict:
    """The same for a program, mutant by mutant, with the diffs."""
    return {
        "lab": report.lab,
        "score": report.score,
        "seconds": report.seconds,
        "reused": report.reused,
        "mistakes": list(report.mistakes),
        "mutants": [
            {**vars(mutant), "id": mutant.id, "diff": mutant.diff(report.references[mutant.cell])}
            for mutant in report.mutants
        ],
    }


def _numbered(first: str, names: Sequence[str]) -> Table:
    """A table whose columns are numbers, named below it: eleven grade ids side by side fit no terminal."""
    legend = ", ".join(f"{number} {name}" for number, name in enumerate(names, 1))
    table = Table(first, show_edge=False, pad_edge=False, box=None, caption=legend, caption_justify="left")
    table.columns[0].no_wrap = True
    for number in range(1, len(names) + 1):
        table.add_column(str(number), justify="right", no_wrap=True)
    return table
