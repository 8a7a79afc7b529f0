"""What a regrading changed, for a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from gradekit.grading.regrade import Change, Regraded, Regrading


def show(result: Regrading, console: Console) -> None:
    """Print what is new in the source, a table of every student whose marks change or are kept, and the sum of it."""

    def say(line: str) -> None:
        console.print(line, highlight=False, soft_wrap=True, markup=False)

    for line in result.revision.changes:
        say(f"  {line}")
    if not result.revision.changes:
        say(f"{result.assignment}: the gradebook has the cells that the source has.")
    for line in result.revision.losses:
        say(f"  {'would be ' if result.dry_run else ''}dropped with its cell: {line}")
    if any(one.changes for one in result.students):
        console.print(_table(result.students))
    say(_summary(result))
    kept = sum(change.kept for one in result.students for change in one.questions)
    if kept:
        say(f"  answers that keep points which the tests now would not give: {kept}; --lower takes these away")
    for student, why in result.failed.items():
        say(f"  {student}: not graded, the old marks stand: {why}")


def _table(students: list[Regraded]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("student", "question"):
        table.add_column(heading, overflow="fold")
    for heading in ("before", "after", "by the tests", "of"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for one in students:
        if one.changes:
            table.add_row(one.student, "in all, less late penalties", _points(one.before), _points(one.after))
        for change in one.changes:
            cells = (change.before, change.after, change.now, change.points)
            table.add_row("", f"{change.notebook} {change.question}", *map(_points, cells), _remark(change))
    return table


def _remark(change: Change) -> str:
    who = "kept" if change.kept else "a person's points stand" if change.by_person else ""
    return "; ".join(filter(None, (who, change.note)))


def _points(value: float | None) -> str:
    return "-" if value is None else f"{value:.10g}"


def _summary(result: Regrading) -> str:
    up = sum(one.before is not None and one.after > one.before for one in result.students)
    down = sum(one.before is not None and one.after < one.before for one in result.students)
    did = "would be graded again" if result.dry_run else "graded again"
    return (
        f"{result.assignment}: {len(result.students)} {did} in {result.seconds:.1f} s: {up} up, {down} down, "
        f"{len(result.students) - up - down} the same; {len(result.unchanged)} were graded with these tests already, "
        f"{len(result.failed)} failed" + ("; nothing was written" if result.dry_run else "")
    )
