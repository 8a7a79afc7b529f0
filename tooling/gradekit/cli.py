"""The ``gradekit`` command. Each command is a thin line over the module that does the work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from gradekit.course import Course, CourseError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Author, grade and report on an nbgrader course.",
)
app.callback()(lambda: None)  # keeps the sub-command form while there is only one
console = Console()
errors = Console(stderr=True)

CourseDir = Annotated[Path, typer.Option("--course-dir", help="The course's folder.", envvar="GRADEKIT_COURSE")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.command()
def sync(
    labs: Annotated[list[str] | None, typer.Argument(help="Labs by name; all when none is given.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Change nothing; exit 1 when a pair is out of sync.")] = False,
    keep: Annotated[str | None, typer.Option(help="The side that wins when both changed: text or notebook.")] = None,
    course_dir: CourseDir = Path("."),
) -> None:
    """Bring the text and the notebook of each lab in line, in the direction of the side that changed."""
    from gradekit.authoring.sync import Change, Keep, pairs
    from gradekit.authoring.sync import sync as sync_pair

    course = Course.open(course_dir)
    if keep is not None and keep not in list(Keep):
        raise CourseError(f"--keep takes 'text' or 'notebook', not '{keep}'.")
    if keep is not None and not labs:
        raise CourseError("--keep throws the other side's changes away: name the lab that it is for.")
    stems = pairs(course)
    if labs:
        unknown = [name for name in labs if not any(_called(stem, name) for stem in stems)]
        if unknown:
            known = ", ".join(stem.name for stem in stems) or "none yet"
            raise CourseError(f"No lab is called {', '.join(unknown)}. There are: {known}.")
        stems = [stem for stem in stems if any(_called(stem, name) for name in labs)]
    results = [sync_pair(stem, check=check, keep=Keep(keep) if keep else None) for stem in stems]
    for result in results:
        word = (
            f"would be: {result.change}"
            if check and not result.failed and result.change != Change.NONE
            else result.change
        )
        console.print(f"{result.text.parent.name}/{result.text.stem}: {word}", highlight=False, soft_wrap=True)
        if result.detail:
            errors.print(f"  {result.detail}", highlight=False, soft_wrap=True, markup=False)
    if any(r.failed or (check and r.change != Change.NONE) for r in results):
        raise typer.Exit(1)


def _called(stem: Path, name: str) -> bool:
    return stem.name == name or stem.name.startswith(f"{name}-")


def main() -> None:
    """Run the command; what a user can mend is one line on stderr, exit status 2."""
    try:
        app()
    except CourseError as error:
        errors.print(f"gradekit: {error}", style="red", highlight=False, soft_wrap=True, markup=False)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
