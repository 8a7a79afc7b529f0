"""Tables and JSON for what the authoring commands found."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from gradekit.authoring.answer_runs import AnswerRun
from gradekit.grading.judge import Status


def answers_table(runs: Sequence[AnswerRun]) -> Table:
    """Answer x graded cell: what was got, and in red what was expected where the two differ."""
    table = Table("answer", title_justify="left", show_edge=False)
    tests = list(runs[0].expected)
    for grade_id in tests:
        table.add_column(grade_id, justify="right", overflow="fold")
    table.add_column("s", justify="right")
    table.add_column("MB", justify="right")
    for run in runs:
        row = []
        for grade_id in tests:
            verdict, want = run.got[grade_id], run.expected[grade_id]
            if verdict.status is Status.NOT_HERE:
                row.append("[yellow]not here[/]")
            elif verdict.score != want:
                row.append(f"[red]{verdict.score:g}, not {want:g}[/]")
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
                grade_id: {"expected": run.expected[grade_id], "got": verdict.score, "reason": verdict.reason}
                for grade_id, verdict in run.got.items()
            },
            "surprises": run.surprises,
        }
        for run in runs
    ]
