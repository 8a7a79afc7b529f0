"""The ``gradekit`` command. Each command is a thin line over the module that does the work."""

from __future__ import annotations

import logging
import os
from contextlib import AbstractContextManager
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.logging import RichHandler
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from gradekit.course import Course, CourseError, Lab, Submission, dump_json

if TYPE_CHECKING:
    from gradekit.grading.run import Workers

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Author, grade and report on an nbgrader course.",
)
bench = typer.Typer(no_args_is_help=True, help="Measure against a baseline in the same run; print a table, write JSON.")
app.add_typer(bench, name="bench")
console = Console()
errors = Console(stderr=True)

CourseDir = Annotated[Path, typer.Option("--course-dir", help="The course's folder.", envvar="GRADEKIT_COURSE")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
JsonPath = Annotated[Path | None, typer.Option("--json", help="Write the figures here as well.")]


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


@app.command()
def new(
    lab: Annotated[str, typer.Argument(help="The id of a planned lab of the syllabus, such as 1.3.2.")],
    course_dir: CourseDir = Path("."),
) -> None:
    """Lay out a planned lab with every section and an answer bank, and say which gates it does not pass yet."""
    from gradekit.authoring.check import State, check_lab
    from gradekit.authoring.scaffold import lay_out

    course = Course.open(course_dir)
    laid = lay_out(course, lab)
    for path in laid.files:
        console.print(f"wrote {path.relative_to(course.root)}", highlight=False, soft_wrap=True)
    for instruction in laid.also:
        console.print(f"edit {instruction}", highlight=False, soft_wrap=True, markup=False)
    result = check_lab(course, laid.lab, ours=True)
    passed = sum(gate.state is State.PASSED for gate in result.gates)
    console.print(f"{passed} of {len(result.gates)} gates are passed already. Not yet:", highlight=False)
    for gate in (gate for gate in result.gates if gate.state is State.FAILED):
        for fault in gate.faults:
            console.print(f"  {gate.number} {gate.name}: {fault}", highlight=False, soft_wrap=True, markup=False)


@app.command()
def answers(
    lab: Annotated[str, typer.Argument(help="A lab, by name or by an id such as 1.3.1.")],
    rounds: Annotated[
        int, typer.Option(min=0, help="Run each test so many times more, with other fresh inputs, to find luck.")
    ] = 0,
    course_dir: CourseDir = Path("."),
    as_json: Json = False,
) -> None:
    """Grade a lab's answer bank: what each answer earns for each graded cell, and what it must."""
    from gradekit.authoring.answer_runs import TEST_S, run_bank
    from gradekit.authoring.show import answers_json, answers_table

    course = Course.open(course_dir)
    runs = run_bank(course, course.lab(lab), rounds=rounds)
    if not runs:
        raise CourseError(f"'{lab}' has no answer bank yet.")
    if as_json:
        print(dump_json(answers_json(runs)))
    else:
        console.print(answers_table(runs))
        if ran := [(len(said), f"{test} with {run.answer.name}") for run in runs for test, said in run.rounds.items()]:
            fewest, where = min(ran)
            line = f"Rounds: {rounds}, or what {TEST_S:g} s allow, at least {fewest} ({where})."
            console.print(line, highlight=False, soft_wrap=True)
        for run in runs:
            for grade_id, surprise in run.surprises.items():
                errors.print(f"{run.answer.path}: {grade_id} {surprise}", style="red", soft_wrap=True, markup=False)
    if any(run.surprises for run in runs):
        raise typer.Exit(1)


@app.command()
def check(
    labs: Annotated[list[str] | None, typer.Argument(help="Labs, by name or id; all when none is given.")] = None,
    changed: Annotated[bool, typer.Option("--changed", help="Leave out labs that have passed as they are.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Run everything, whatever has passed before.")] = False,
    jobs: Annotated[int, typer.Option(help="Labs, or runs of one lab, at a time.")] = 2,
    course_dir: CourseDir = Path("."),
    as_json: Json = False,
) -> None:
    """Bring labs through the twelve gates, and readiness notebooks through theirs; exit 1 when one is not passed."""
    from gradekit.authoring.check import State, chosen
    from gradekit.authoring.check import check as check_labs
    from gradekit.authoring.show import checks_json, checks_table

    course = Course.open(course_dir)
    results = []
    wanted = chosen(course, labs)
    for result in check_labs(course, wanted, jobs=jobs, fresh=fresh):
        if changed and result.known:
            continue
        results.append(result)
    results.sort(key=lambda result: result.lab)
    if as_json:
        print(dump_json(checks_json(results)))
    elif results:
        for kind in (False, True):
            alike = [result for result in results if result.is_readiness is kind]
            if alike:
                console.print(checks_table(alike))
    else:
        console.print("Every lab has passed as it is.")
    for result in results:
        for gate in (gate for gate in result.gates if gate.state is State.FAILED):
            for fault in gate.faults:
                line = f"{result.lab}, gate {gate.number} ({gate.name}): {fault}"
                errors.print(line, soft_wrap=True, markup=False, highlight=False)
    _make_canaries(course, [lab for lab in wanted if not lab.is_readiness], jobs)
    if not all(result.passed for result in results):
        raise typer.Exit(1)


@app.command()
def mutate(
    lab: Annotated[str, typer.Argument(help="A lab, by name or by an id such as 1.3.1.")],
    html: Annotated[Path | None, typer.Option(help="Write a page with every diff here.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Run all mutants, whatever is known.")] = False,
    jobs: Annotated[int, typer.Option(help="Mutants at a time.")] = 2,
    course_dir: CourseDir = Path("."),
    as_json: Json = False,
) -> None:
    """Change the reference solution in many small ways, and see which changes no test notices."""
    from gradekit.authoring.mutation import Fate
    from gradekit.authoring.mutation import mutate as run_mutants
    from gradekit.authoring.mutation_page import page
    from gradekit.authoring.show import mutants_json, mutants_table

    course = Course.open(course_dir)
    report = run_mutants(course, course.lab(lab), jobs=jobs, fresh=fresh)
    if html:
        html.write_text(page(report), encoding="utf-8")
    if as_json:
        print(dump_json(mutants_json(report)))
    else:
        console.print(mutants_table(report))
        for mutant in report.mutants:
            if mutant.fate is Fate.SURVIVED:
                console.print(f"\n{mutant.cell}, line {mutant.line}: {mutant.operator} ({mutant.id})", highlight=False)
                console.print(mutant.diff(report.references[mutant.cell]), markup=False, highlight=False)
        known = f", {report.reused} known from before" if report.reused else ""
        console.print(f"{report.score:.1%} of {len(report.mutants)} noticed in {report.seconds:.1f} s{known}")
    for mistake in report.mistakes:
        errors.print(mistake, style="red", soft_wrap=True, markup=False)
    if report.mistakes or report.count(Fate.SURVIVED):
        raise typer.Exit(1)


@app.command()
def solutions(
    assignment: Annotated[str, typer.Argument(help="The assignment whose solutions are to be published.")],
    before_deadline: Annotated[bool, typer.Option("--before-deadline", help="Even if students may hand in.")] = False,
    course_dir: CourseDir = Path("."),
) -> None:
    """Write solution notebooks: the reference, other right answers measured, wrong ones and what caught them."""
    from gradekit.authoring.solutions import publish

    course = Course.open(course_dir)
    for path in publish(course, assignment, before_deadline=before_deadline):
        console.print(f"wrote {path}", highlight=False, soft_wrap=True, markup=False)


def _called(stem: Path, name: str) -> bool:
    return stem.name == name or stem.name.startswith(f"{name}-")


@app.command()
def status(json: Json = False, course_dir: CourseDir = Path(".")) -> None:
    """Show the syllabus: which labs are written, which are planned, what each builds on, and which gates it passed."""
    from gradekit.authoring.check import passed_before
    from gradekit.syllabus import load, status_rows

    syllabus = load(course_dir / "syllabus.yaml")
    rows = status_rows(syllabus, course_dir)
    gates = {}
    if any(row.status == "written" for row in rows):
        course = Course.open(course_dir)
        ids = {entry.slug: entry.id for entry in syllabus.labs}
        gates = {ids[lab.name]: passed_before(course, lab) for lab in course.labs() if lab.name in ids}
    if json:
        known = {lab: {"passed": passed, "of": of} for lab, (passed, of) in gates.items()}
        print(dump_json([{**vars(row), "gates": known.get(row.lab)} for row in rows]))
        return
    written = sum(row.status == "written" for row in rows)
    table = Table(title=f"{written} of {len(rows)} labs are written")
    for heading in ("lab", "title", "status", "gates", "hours", "hardware", "builds on"):
        justify: Literal["left", "right"] = "right" if heading == "hours" else "left"
        table.add_column(heading, justify=justify, no_wrap=heading == "gates")
    module = None
    for row in rows:
        if module not in (None, row.module):
            table.add_section()
        module = row.module
        style = "bold green" if row.status == "written" else "dim"
        passed, of = gates.get(row.lab, (0, 0))
        so_far = f"{passed}/{of}" if passed else "not checked" if of else ""
        cells = (row.lab, row.title, row.status, so_far, f"{row.hours:g}", row.tier, row.builds_on or "")
        table.add_row(*cells, style=style)
    console.print(table)


@app.command()
def doctor(json: Json = False, course_dir: CourseDir = Path(".")) -> None:
    """Look at everything that the course and its grader stand on; exit 1 when something is in error."""
    from gradekit.doctor import examine

    checks = examine(course_dir)
    failed = any(check.status == "error" for check in checks)
    if json:
        print(dump_json({"ready": not failed, "checks": [vars(check) for check in checks]}))
    else:
        table = Table(box=None, show_header=False, pad_edge=False)
        colours = {"ok": "green", "warning": "yellow", "error": "bold red"}
        for check in checks:
            todo = f"\n-> {check.todo}" if check.todo else ""
            table.add_row(f"[{colours[check.status]}]{check.status}[/]", check.name, f"{check.detail}{todo}")
        console.print(table)
        console.print("Not ready: mend the errors above." if failed else "Ready.")
    if failed:
        raise typer.Exit(1)


@app.command()
def grade(
    assignments: Annotated[list[str] | None, typer.Argument(help="Assignments; all when none is given.")] = None,
    student: Annotated[str, typer.Option(help="Only students whose id matches this glob.")] = "*",
    jobs: Annotated[int, typer.Option(min=0, help="Kernels at a time; 0 is one for each core.")] = 0,
    cluster: Annotated[str | None, typer.Option(help="Grade on this Dask cluster, such as tcp://host:8786.")] = None,
    gpus: Annotated[str, typer.Option(help="Devices, one job at a time on each: all, none, or a list as 0,1.")] = "all",
    force: Annotated[bool, typer.Option("--force", help="Grade again what is graded and unchanged.")] = False,
    json: Json = False,
    course_dir: CourseDir = Path("."),
) -> None:
    """Grade what has been collected and has no current marks; exit 1 when a submission could not be graded."""
    from gradekit.grading.run import Graded
    from gradekit.grading.run import grade as grade_assignment
    from gradekit.reports import held

    course = Course.open(course_dir)
    names = [course.require(name) for name in assignments or course.assignments]
    _log_to(errors, file=course.root / ".gradekit.log")
    results: list[Graded] = []
    with _workers(jobs, cluster, gpus) as grader, _progress(quiet=json) as progress:
        for name in names:
            _make_canaries(course, course.labs(name), jobs or os.cpu_count() or 1)
            task = progress.add_task(name, total=len(course.submissions(name, student)))

            def advance(submission: Submission, state: str, task: int = task) -> None:
                progress.advance(task)  # type: ignore[arg-type]

            results.append(grade_assignment(course, name, grader, students=student, force=force, progress=advance))
    pages = [held.write(course, name) for name in names]
    if json:
        print(dump_json([result.to_json() for result in results]))
    else:
        for result, page in zip(results, pages, strict=True):
            console.print(result.summary(), highlight=False)
            if page:
                console.print(f"  what was found: {page}", highlight=False, soft_wrap=True, markup=False)
    if any(result.failed for result in results):
        raise typer.Exit(1)


@app.command()
def regrade(
    assignment: Annotated[str, typer.Argument(help="An assignment whose tests were mended after its release.")],
    student: Annotated[str, typer.Option(help="Only students whose id matches this glob.")] = "*",
    notebook: Annotated[list[str] | None, typer.Option(help="Only this one; may be given again.")] = None,
    lower: Annotated[bool, typer.Option("--lower", help="Let marks go down, and drop cells that are gone.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change, and write nothing.")] = False,
    jobs: Annotated[int, typer.Option(min=0, help="Kernels at a time; 0 is one for each core.")] = 0,
    cluster: Annotated[str | None, typer.Option(help="Grade on this Dask cluster, such as tcp://host:8786.")] = None,
    gpus: Annotated[str, typer.Option(help="Devices, one job at a time on each: all, none, or a list as 0,1.")] = "all",
    json: Json = False,
    course_dir: CourseDir = Path("."),
) -> None:
    """Grade again with the tests as the source has them now; no mark goes down without --lower."""
    from gradekit.authoring.sync import require_notebooks
    from gradekit.grading.regrade import regrade as regrade_assignment
    from gradekit.reports import held, regraded

    course = Course.open(course_dir)
    require_notebooks(course, assignment)
    _log_to(errors, file=course.root / ".gradekit.log")
    with _workers(jobs, cluster, gpus) as grader, _progress(quiet=json) as progress:
        _make_canaries(course, course.labs(assignment), jobs or os.cpu_count() or 1)
        task = progress.add_task(assignment, total=len(course.submissions(assignment, student)))
        result = regrade_assignment(
            course, assignment, grader, students=student, notebooks=notebook or (), lower=lower, dry_run=dry_run,
            progress=lambda submission, state: progress.advance(task),
        )  # fmt: skip
    if not dry_run:
        held.write(course, assignment)
    if json:
        print(dump_json(result.to_json()))
    else:
        regraded.show(result, console)
    if result.failed:
        raise typer.Exit(1)


@app.command()
def feedback(
    assignments: Annotated[list[str] | None, typer.Argument(help="Assignments; all when none is given.")] = None,
    student: Annotated[str, typer.Option(help="Only students whose id matches this glob.")] = "*",
    force: Annotated[bool, typer.Option("--force", help="Write again what is still current.")] = False,
    course_dir: CourseDir = Path("."),
) -> None:
    """Write the feedback of what was graded since the last time, and release it."""
    from gradekit.reports.feedback import give_feedback

    course = Course.open(course_dir)
    failed = False
    for name in assignments or course.assignments:
        results = give_feedback(course, name, student, force=force)
        written = sum(result.written for result in results)
        console.print(f"{name}: feedback written for {written}, current for {len(results) - written}", highlight=False)
        for result in results:
            if result.error:
                failed = True
                errors.print(f"  {result.submission.student}: {result.error}", highlight=False, markup=False)
    if failed:
        raise typer.Exit(1)


@app.command()
def report(
    assignments: Annotated[list[str] | None, typer.Argument(help="Assignments; all when none is given.")] = None,
    course_dir: CourseDir = Path("."),
) -> None:
    """Write a page on each assignment and one on the class into reports/: marks, questions, late and held work."""
    from gradekit.reports.class_report import write

    course = Course.open(course_dir)
    for page in write(course, assignments or []):
        console.print(f"wrote {page}", highlight=False, soft_wrap=True, markup=False)


@app.command()
def similarity(
    assignment: Annotated[str, typer.Argument(help="The assignment whose submissions are compared.")],
    threshold: Annotated[float, typer.Option(help="The part of an answer's own tokens that two must share.")] = 0.6,
    json: Json = False,
    course_dir: CourseDir = Path("."),
) -> None:
    """Find answers that two students share, side by side in reports/: a lead for a person, never a mark."""
    from gradekit.reports import similarity as pages
    from gradekit.similarity.compare import compare

    course = Course.open(course_dir)
    with _progress(quiet=json) as progress:
        task = progress.add_task(assignment, total=len(course.submissions(assignment)))
        found = compare(course, assignment, threshold=threshold, progress=lambda _: progress.advance(task))
    page = pages.write(course, found)
    if json:
        print(dump_json(pages.to_json(found)))
    else:
        compared = f"{len(found.students)} submissions compared in {found.seconds:.1f} s"
        console.print(f"{assignment}: {compared}, {len(found.leads)} pairs to look at", highlight=False)
        console.print(f"wrote {page}", highlight=False, soft_wrap=True, markup=False)
    for student, why in found.left_out.items():
        errors.print(f"{student}: not compared in full: {why}", highlight=False, soft_wrap=True, markup=False)


@app.command()
def export(
    file_format: Annotated[str, typer.Option("--format", help="canvas, moodle, csv or lti-json.")] = "csv",
    to: Annotated[Path | None, typer.Option(help="The file; by default one in the course's folder.")] = None,
    assignment: Annotated[list[str] | None, typer.Option(help="Only this one; may be given again.")] = None,
    student: Annotated[list[str] | None, typer.Option(help="Only this one; may be given again.")] = None,
    course_dir: CourseDir = Path("."),
) -> None:
    """Write all marks, question by question, for a learning platform or a spreadsheet."""
    from nbgrader.api import Gradebook

    from gradekit import gradebook
    from gradekit.reports.export import FORMATS

    course = Course.open(course_dir)
    if file_format not in FORMATS:
        raise CourseError(f"--format takes {', '.join(FORMATS)}, not '{file_format}'.")
    if not gradebook.exists(course):
        raise CourseError("There is no gradebook yet; it is made when an assignment is released and graded.")
    plugin = FORMATS[file_format](config=course.config)
    plugin.to = str(to or course.root / plugin.default)
    plugin.assignment, plugin.student = assignment or [], student or []
    with Gradebook(course.db_url, course.course_id) as marks:
        plugin.export(marks)
    console.print(f"wrote {plugin.to}", highlight=False, soft_wrap=True, markup=False)


@app.command()
def demo(
    students: Annotated[int, typer.Option(min=1, help="How many students take the course.")] = 12,
    seed: Annotated[int, typer.Option(help="The same seed makes the same class.")] = 1,
    jobs: Annotated[int, typer.Option(help="Kernels at a time; 0 is one for each core.")] = 0,
    course_dir: CourseDir = Path("."),
) -> None:
    """Run the whole course with a class made from the answer bank, and show the marks."""
    from sqlalchemy import make_url

    from gradekit.demo.marks import result_table
    from gradekit.demo.run import run_course

    course = Course.open(course_dir)
    _log_to(errors, logging.ERROR)
    with _progress() as progress:
        marks = run_course(course, students, seed, jobs or os.cpu_count() or 1, progress)
    console.print(result_table(marks))
    gradebook = make_url(course.db_url).render_as_string(hide_password=True).removeprefix("sqlite:///")
    console.print(f"The gradebook is {gradebook}. To look at it as a TA does: make formgrader", soft_wrap=True)
    wrong = [mark for mark in marks if not mark.agrees]
    if wrong:
        errors.print(f"{len(wrong)} marks are not those that the answer bank says; see the table.", style="bold red")
        raise typer.Exit(1)


@app.command()
def redteam(
    attacks: Annotated[list[str] | None, typer.Argument(help="Attacks or families; all when none is given.")] = None,
    corpus: Annotated[Path, typer.Option(help="The folder of the attacks.")] = Path("tooling/tests/attacks"),
    against: Annotated[str, typer.Option(help="both, gradekit or stock.")] = "both",
    jobs: Annotated[int, typer.Option(min=1, help="Submissions at a time.")] = 2,
    as_json: Json = False,
) -> None:
    """Attack stock nbgrader and gradekit with the same submissions; exit 1 when one gets through that is not known."""
    from gradekit.redteam.attack import corpus as read_corpus
    from gradekit.redteam.report import table, to_json, totals
    from gradekit.redteam.run import GRADERS, run

    if against not in GRADERS:
        raise CourseError(f"--against takes {', '.join(GRADERS)}, not '{against}'.")
    chosen = read_corpus(corpus, attacks)
    _log_to(errors, logging.CRITICAL)
    with _progress(quiet=as_json) as progress:
        step = progress.add_task("stock nbgrader", total=sum(attack.runs_against_stock for attack in chosen))
        rows = run(chosen, corpus / "course", against=against, jobs=jobs, progress=lambda _: progress.advance(step))
    if as_json:
        print(dump_json(to_json(rows)))
    else:
        console.print(table(rows))
        console.print(totals(rows))
    if any(row.unexpected for row in rows):
        raise typer.Exit(1)


@bench.command("grading")
def bench_grading(
    only: Annotated[str | None, typer.Argument(help="imports, trivial, compute or growth; all by default.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small classes, rough figures.")] = False,
    json: JsonPath = None,
) -> None:
    """Grade classes with stock nbgrader and with gradekit; equal marks are required."""
    from gradekit.bench.grading import PARTS, run

    if only is not None and only not in PARTS:
        raise CourseError(f"There is no '{only}' to measure. There are: {', '.join(PARTS)}.")
    run(json, quick=quick, only=only)


@bench.command("kernels")
def bench_kernels(json: JsonPath = None) -> None:
    """Start kernels: stock, forked, forked into the sandbox."""
    from gradekit.bench.kernels import run

    run(json)


@bench.command("integrity")
def bench_integrity(json: JsonPath = None, course_dir: CourseDir = Path(".")) -> None:
    """Time what keeps marks honest: the guard for each cell, and the canaries of each lab."""
    from gradekit.bench.integrity import run

    run(Course.open(course_dir), json)


@bench.command("cudasim")
def bench_cudasim(json: JsonPath = None) -> None:
    """Run CUDA kernels on the CPU: labkit.cudasim and numba's simulator."""
    from gradekit.bench.cudasim import run

    run(json)


@bench.command("formgrader")
def bench_formgrader(json: JsonPath = None) -> None:
    """Open the formgrader's pages in a browser with 300 students and 10 assignments: stock, and with gradekit."""
    from gradekit.bench.formgrader import run

    run(json)


@bench.command("gpu")
def bench_gpu(json: JsonPath = None, course_dir: CourseDir = Path(".")) -> None:
    """Run module 1.3 on this machine's GPU: its tests, each kernel at full size, and the module's milestones.

    Exit 1 when a test fails or a milestone is missed, 2 when there is no GPU: then nothing is measured or written.
    """
    from gradekit.bench.gpu import run

    if not run(Course.open(course_dir), json):
        raise typer.Exit(1)


def _workers(jobs: int, cluster: str | None, gpus: str) -> AbstractContextManager[Workers]:
    """Where jobs run: this machine, or a cluster."""
    if cluster:
        if jobs or gpus != "all":
            raise CourseError("--jobs and --gpus are for this machine; a cluster's workers say what they have.")
        from gradekit.grading.cluster import ClusterGrader

        return ClusterGrader(cluster)
    from gradekit.grading.local import LocalGrader, visible_gpus

    named = {"all": visible_gpus(), "none": ()}.get(gpus, tuple(name.strip() for name in gpus.split(",")))
    return LocalGrader(jobs or os.cpu_count() or 1, named)


def _make_canaries(course: Course, labs: list[Lab], jobs: int) -> None:
    """Make the canaries that are missing or stale, and say which tests go without."""
    from gradekit.authoring.canaries import ensure

    for lab, test, why in ensure(course, labs, jobs=jobs):
        where = f"{lab.name}, {test}" if test else lab.name
        errors.print(f"{where}: no canary: {why}", style="yellow", soft_wrap=True, markup=False, highlight=False)


def _progress(quiet: bool = False) -> Progress:
    """A bar with an estimate on stderr."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    return Progress(*columns, TimeRemainingColumn(), console=errors, disable=quiet)


def _log_to(console: Console, level: int = logging.WARNING, file: Path | None = None) -> None:
    """Show gradekit's log on the console, and keep all of it in a file; nbgrader's own loggers stay as they are."""
    handler = RichHandler(console=console, show_path=False, show_time=False, markup=False, rich_tracebacks=False)
    handler.setFormatter(logging.Formatter("%(message)s"))
    handler.setLevel(level)
    log = logging.getLogger("gradekit")
    log.handlers, log.propagate = [handler], False
    log.setLevel(level)
    if file is not None:
        kept = RotatingFileHandler(file, maxBytes=10_000_000, backupCount=1, encoding="utf-8", errors="replace")
        kept.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        log.addHandler(kept)
        log.setLevel(logging.INFO)


def main() -> None:
    """Run the command; what a user can mend is one line on stderr, exit status 2."""
    try:
        app()
    except CourseError as error:
        errors.print(f"gradekit: {error}", style="red", highlight=False, soft_wrap=True, markup=False)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
