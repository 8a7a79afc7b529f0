"""Run one job in the sandbox and judge it: sanitised notebook in, outcome out.

A cell that kills or hangs the kernel costs itself. A fresh kernel replays the cells before it, without it, and goes on
behind it, so that one fatal cell does not take the rest of the notebook's points with it.
"""

from __future__ import annotations

import asyncio
import copy
import json
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import nbformat
from nbclient.exceptions import DeadKernelError
from nbformat import NotebookNode
from nbgrader.preprocessors import LimitOutput

from gradekit.course import Role, role_of
from gradekit.grading.holding import comments, hold
from gradekit.grading.job import Job, Outcome
from gradekit.grading.judge import Status, Verdict, judge
from gradekit.grading.planting import Garden, Planter, earned, fresh, guarded
from gradekit.integrity.canaries import KIND, SHARE, Coverage, Step
from gradekit.integrity.evidence import Evidence
from gradekit.integrity.findings import scan
from gradekit.integrity.given import given_names
from gradekit.integrity.guard import Guard
from gradekit.kernels import Death, ForkServer, KernelRequest, SandboxedNotebookClient
from gradekit.kernels.manager import SandboxedKernelManager

#: Fresh kernels that one notebook may ask for: an honest one asks for none.
MAX_RESTARTS = 3


class KernelLost(RuntimeError):
    """A kernel ended for no reason of its own: its server, or somebody outside the sandbox, took it away."""


#: nbgrader's own, for tests that ask whether they are being graded.
ENVIRONMENT = {"NBGRADER_EXECUTION": "autograde"}


@dataclass
class _Run:
    """The state of one notebook's execution. ``died`` maps the index of a fatal cell to what it did."""

    notebook: NotebookNode
    seconds: dict[int, float] = field(default_factory=dict)
    died: dict[int, str] = field(default_factory=dict)
    evidence: list[Evidence] = field(default_factory=list)
    garden: Garden | None = None
    started: float = field(default_factory=time.monotonic)
    ended: str = ""
    sandbox: str = ""


def execute(job: Job, server: ForkServer, gpu: str | None = None) -> Outcome:
    """Run a job on a fork server and judge every graded cell.

    Args:
        gpu: the value of CUDA_VISIBLE_DEVICES for the job; None lets no GPU in.

    Raises:
        SandboxError: no sandboxed kernel could be had; no student code was run.
        KernelLost: its kernels were taken away twice.
    """
    start = time.monotonic()
    findings = list(job.findings)
    held: dict[str, list[Evidence]] = {}
    coverage = Coverage()
    if job.unreadable:
        run = _Run(_notebook(job))
        verdicts = tuple(
            Verdict(cell.grade_id, Status.UNREADABLE, 0.0, cell.points, job.unreadable) for cell in job.target.graded
        )
    else:
        with tempfile.TemporaryDirectory(prefix="gradekit-job-") as folder:
            _unpack(job.files, Path(folder))
            static = scan(_notebook(job), job.target)
            run = _run_twice(job, server, KernelRequest(Path(folder), job.limits, ENVIRONMENT, gpu, server.cores))
        order = [_name(cell, index) for index, cell in enumerate(run.notebook.cells)]
        own = _verdicts(run, job)
        coverage = _coverage(run, job, own)
        run.evidence = list(dict.fromkeys([*static, *(_named(one, order) for one in run.evidence)]))
        verdicts, held = hold(own, run.evidence, order)
        findings += [f"cell {_name(run.notebook.cells[i], i)}: {why}" for i, why in sorted(run.died.items())]
        if run.ended:
            findings.append(run.ended)
        findings += [f"cell {v.grade_id}: {v.reason}" for v in verdicts if v.status is Status.ODD]
    return Outcome(
        student=job.student,
        assignment=job.target.assignment,
        name=job.target.notebook,
        notebook=_written(run.notebook, job, findings),
        verdicts=verdicts,
        seconds={_name(run.notebook.cells[i], i): round(s, 4) for i, s in sorted(run.seconds.items())},
        comments=_comments(job, verdicts, held),
        findings=tuple(findings),
        evidence=tuple(run.evidence),
        canaries=coverage,
        sandbox=run.sandbox,
        gpu=gpu or "",
        wall_s=time.monotonic() - start,
    )


def _notebook(job: Job) -> NotebookNode:
    return nbformat.from_dict(json.loads(job.notebook))


def _unpack(files: dict[str, bytes], folder: Path) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _run_twice(job: Job, server: ForkServer, request: KernelRequest) -> _Run:
    """Run a notebook, and once more if a kernel was taken from it: no student pays for what the machine did.

    A kernel that is killed for no limit that is ours could also have killed itself, so the second time counts.
    """
    for last in (False, True):
        run = _Run(_notebook(job))
        try:
            asyncio.run(_run(run, job, server, request, taken_counts=last))
        except KernelLost:
            if last:
                raise
        else:
            return run
    raise AssertionError("unreachable")


async def _run(run: _Run, job: Job, server: ForkServer, request: KernelRequest, *, taken_counts: bool) -> None:
    """Run all code cells, in as many kernels as it takes."""
    first = 0
    for _ in range(1 + MAX_RESTARTS):
        with server.kernel(request) as manager:
            fatal = await _run_from(run, job, manager, first)
            death = manager.death
        if fatal is None:
            if run.garden and (run.garden.under_way or run.garden.stale):
                await _plant_again(run, run.garden, job, server, request, taken_counts)
            return
        _check_not_lost(death, taken_counts)
        first = fatal + 1
        if time.monotonic() - run.started > job.limits.doubled().wall_s:
            run.ended = f"its kernels took more than twice {job.limits.wall_s:g} s; the rest was not run"
            break
    else:
        run.ended = f"{1 + MAX_RESTARTS} kernels died in this notebook; the rest was not run"
    for index in range(first, len(run.notebook.cells)):
        run.died.setdefault(index, run.ended)


async def _plant(run: _Run, garden: Garden, client: SandboxedNotebookClient, guard: Guard) -> None:
    """Plant canaries behind the last cell. A kernel that ends at one leaves it under way."""
    run.garden = garden
    if steps := garden.choose():
        with suppress(DeadKernelError):
            await Planter(client, guard, garden).work(steps)


async def _plant_again(
    run: _Run, garden: Garden, job: Job, server: ForkServer, request: KernelRequest, taken_counts: bool
) -> None:
    """Run the notebook once more for what could not be planted: a kernel ended at it, or its test had gone stale.

    The notebook itself ran through within its limits, so within twice these nothing honest ends a kernel.
    """
    ended_at = garden.under_way
    again = _Run(copy.deepcopy(run.notebook), died=dict(run.died), garden=garden)
    with server.kernel(replace(request, limits=job.limits.doubled())) as manager:
        fatal = await _run_from(again, job, manager, len(run.notebook.cells), garden.again())
        death = manager.death
    run.evidence += again.evidence
    if fatal is not None or garden.under_way:
        _check_not_lost(death, taken_counts)
        if step := garden.under_way or ended_at:
            what = "twice the kernel ended when a known wrong answer was planted for this test"
            garden.evidence.append(Evidence(KIND, step.test, f"{what}: {death.reason if death else ''}", True))


def _check_not_lost(death: Death | None, taken_counts: bool) -> None:
    """Raises KernelLost for an end that nobody inside is to blame for, or not yet."""
    if death is None or _server_died(death) or (_taken(death) and not taken_counts):
        raise KernelLost(death.reason if death else "the kernel ended without a trace")


def _server_died(death: Death) -> bool:
    return death.limit is None and death.status is None


def _taken(death: Death) -> bool:
    """Whether it was killed from outside, as by the machine's own out-of-memory killer."""
    return death.limit is None and "SIGKILL" in death.reason


async def _run_from(
    run: _Run, job: Job, manager: SandboxedKernelManager, first: int, plan: Mapping[int, list[Step]] | None = None
) -> int | None:
    """Replay the cells before ``first``, run the others, and plant canaries.

    Args:
        plan: what to plant behind which cell, -1 being the last; by default it is drawn when the last one has run.

    Returns:
        The index of the cell that was fatal, or None.
    """
    # A replayed cell has its outputs and its verdict already: what it shows now goes into a copy.
    shown = NotebookNode(run.notebook, cells=[fresh(c) if i < first else c for i, c in enumerate(run.notebook.cells)])
    client = SandboxedNotebookClient(
        shown,
        km=manager,
        timeout=job.cell_timeout,
        allow_errors=True,
        store_widget_state=False,
        on_cell_executed=_show_silent_error,
    )
    async with client.async_setup_kernel(cleanup_kc=True):
        run.sandbox = manager.process.level
        guard = manager.guard
        here: dict[int, NotebookNode] = {}
        seconds: dict[int, float] = {}
        planter = Planter(client, guard, run.garden) if run.garden and plan else None
        students = _students_names(job)
        count = 0  # the kernel keeps no history, which could show a test's source to the cells after it
        for index, cell in enumerate(shown.cells):
            if cell.cell_type != "code" or not cell.source.strip() or index in run.died:
                continue
            here[index] = cell
            count += 1
            start = time.monotonic()
            graded, locked = role_of(cell) is Role.TEST, cell.metadata.get("nbgrader", {}).get("locked", False)
            gives = given_names(cell.source, students) if locked else ()
            try:
                run.evidence += await guarded(client, guard, cell, index, graded=graded, locked=locked, gives=gives)
                for output in cell.outputs:
                    if output.output_type == "execute_result":
                        output.execution_count = count
                if index in client.timed_out:
                    _show_error(cell, "CellTimeoutError", f"it ran for more than {job.cell_timeout:g} s")
                if planter and plan:
                    await planter.work(plan.get(index, ()))
            except DeadKernelError as error:
                death = manager.death
                why = death.reason if death else str(error)
                run.died[index] = f"the kernel ended here: {why}"
                _show_error(run.notebook.cells[index], "KernelDied", why)
                return max(index, first - 1)
            finally:
                seconds[index] = time.monotonic() - start
                if index >= first:
                    run.seconds[index] = seconds[index]
        if planter and plan:
            with suppress(DeadKernelError):
                await planter.work(plan.get(-1, ()))
        else:
            own = time.monotonic() - run.started
            await _plant(run, Garden(job.plants, earned(here, seconds), own, SHARE * own), client, guard)
        run.evidence += guard.close()
    return None


def _students_names(job: Job) -> frozenset[str]:
    """What exercises are to define: a locked cell may have defined the same before."""
    exercises = [source for cell in job.target.cells if cell.solution for source in (cell.source, cell.released)]
    return frozenset().union(*map(given_names, exercises), *(plant.binds for plant in job.plants))


def _written(notebook: NotebookNode, job: Job, findings: list[str]) -> str:
    """The executed notebook as text, its outputs cut to nbgrader's limits and all of them such as nbformat allows."""
    lines, traceback = job.output_lines
    LimitOutput(max_lines=lines, max_traceback=traceback).preprocess(notebook, {})
    try:
        nbformat.validate(notebook)
    except nbformat.ValidationError:  # the kernel sent what no kernel sends
        for index, cell in enumerate(notebook.cells):
            for output in list(cell.get("outputs", [])):
                try:
                    nbformat.validate(output, ref="output", version=4)
                except nbformat.ValidationError:
                    cell.outputs.remove(output)
                    findings.append(f"cell {_name(cell, index)}: an output was malformed and was left out")
    return nbformat.v4.writes(notebook)


def _show_error(cell: NotebookNode, name: str, why: str) -> None:
    """Leave the reason where the student and the TA look for it: under the cell."""
    cell.outputs = [output for output in cell.get("outputs", []) if output.output_type == "stream"]
    cell.outputs.append(nbformat.v4.new_output("error", ename=name, evalue=why, traceback=[f"{name}: {why}"]))


def _show_silent_error(cell: NotebookNode, cell_index: int, execute_reply: dict[str, Any]) -> None:
    """An error that the kernel reports, but that student code kept from being shown, is an error all the same."""
    reply = execute_reply["content"]
    if reply["status"] == "error" and not any(output.output_type == "error" for output in cell.outputs):
        _show_error(cell, str(reply.get("ename", "Error")), str(reply.get("evalue", "")))


def _verdicts(run: _Run, job: Job) -> list[Verdict]:
    by_id = {}
    for index, cell in enumerate(run.notebook.cells):
        if role_of(cell) in (Role.TEST, Role.MANUAL):
            grade_id = cell.metadata["nbgrader"]["grade_id"]
            by_id[grade_id] = judge(
                cell,
                ran=index not in run.died,
                changed=grade_id not in job.unchanged,
                why_not_run=run.died.get(index, ""),
            )
    return [by_id[cell.grade_id] for cell in job.target.graded]


def _coverage(run: _Run, job: Job, verdicts: list[Verdict]) -> Coverage:
    """What the canaries said. A test whose points come from a kernel that ended was not covered, which is a finding."""
    garden = run.garden or Garden((), {}, 0.0, 0.0)
    run.evidence += garden.evidence
    run.evidence += [Evidence(KIND, test, f"not covered: {why}", False) for test, why in garden.puzzling.items()]
    tests = [cell.grade_id for cell in job.target.cells if cell.role is Role.TEST]
    lost = [v.grade_id for v in verdicts if v.score and v.grade_id in tests and v.grade_id not in garden.earned]
    ended = "the kernel in which it passed ended before anything could be planted"
    if job.plants:
        run.evidence += [Evidence(KIND, test, f"not covered: {ended}", False) for test in lost]
    uncovered = garden.uncovered | dict.fromkeys(lost, ended)
    return Coverage(garden.planted, round(garden.seconds, 4), round(garden.of, 4), uncovered)


def _comments(job: Job, verdicts: tuple[Verdict, ...], held: dict[str, list[Evidence]]) -> dict[str, str]:
    """nbgrader's automatic comment on what was left as released, and why points are held."""
    if job.unreadable:
        return {}
    untouched = {
        cell.grade_id: "No response."
        for cell in job.target.cells
        if cell.solution and cell.grade_id in job.unchanged
    }
    return untouched | comments(job.target, verdicts, held)


def _named(one: Evidence, order: list[str]) -> Evidence:
    """Evidence with its cell called by its grade id, if it has one."""
    index = one.cell.removeprefix("cell ")
    return replace(one, cell=order[int(index)]) if index.isdecimal() and int(index) < len(order) else one


def _name(cell: NotebookNode, index: int) -> str:
    return cell.metadata.get("nbgrader", {}).get("grade_id") or f"cell {index}"
