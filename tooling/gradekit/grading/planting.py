"""Plant canaries in a kernel that has run a notebook, and judge what its tests say to them.

Cells go to the kernel as the notebook's own do and leave nothing in it: their outputs are read here and thrown away.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

from gradekit.course import Role, role_of
from gradekit.grading.judge import Status, Verdict, judge
from gradekit.integrity import canaries
from gradekit.integrity.canaries import Answer, Bed, Plant, Step
from gradekit.integrity.evidence import Evidence
from gradekit.integrity.guard import Guard
from gradekit.kernels import SandboxedNotebookClient

GRADED = (Status.PASSED, Status.PARTIAL, Status.FAILED)


@dataclass
class Garden:
    """The state of the canaries of one notebook.

    Attributes:
        earned: test -> (index of its cell, verdict, seconds) in the kernel that plants are put into.
        of: seconds that the notebook took until here.
        budget: seconds; none of it is taken for granted, see ``canaries.choose``.
        waiting: steps that have not been taken; the first is under way when the kernel dies.
        puzzling: test -> why a plant said nothing about it.
        seconds: what has been spent on plants.
    """

    plants: Sequence[Plant]
    earned: Mapping[str, tuple[int, Verdict, float]]
    of: float
    budget: float
    waiting: list[Step] = field(init=False)
    evidence: list[Evidence] = field(default_factory=list)
    rejected: set[str] = field(default_factory=set)
    puzzling: dict[str, str] = field(default_factory=dict)
    planted: int = 0
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.took = {test: seconds for test, (_, _, seconds) in self.earned.items()}
        self.full = [test for test, (_, verdict, _) in self.earned.items() if verdict.score == verdict.points]
        self.options = canaries.usable(self.plants, self.earned, self.full)
        self.waiting = canaries.choose(self.plants, self.took, self.full, self.budget)

    @property
    def held(self) -> set[str]:
        return {one.cell for one in self.evidence if one.holds}

    @property
    def uncovered(self) -> dict[str, str]:
        """The tests that gave points and that no plant was rejected by, and why."""
        return {
            test: self.puzzling.get(test) or ("there was no time" if test in self.options else "there is no plant")
            for test in self.earned
            if test not in self.rejected | self.held
        }


class Planter:
    """Takes the steps of a garden in one kernel."""

    def __init__(self, client: SandboxedNotebookClient, guard: Guard, garden: Garden) -> None:
        self.client, self.guard, self.garden = client, guard, garden
        self.cells = client.nb.cells
        # An output that addresses an earlier one by its display id changes this copy.
        client.nb = copy.deepcopy(client.nb)
        self.bed = Bed()

    async def work(self) -> None:
        """Take the steps that wait, as far as the budget goes.

        Raises:
            DeadKernelError: the kernel ended; the step that ended it is the first that waits.
        """
        garden = self.garden
        while garden.waiting:
            step = garden.waiting[0]
            if step.test not in garden.held and self._affordable(step):
                await self._timed(step)
            garden.waiting.pop(0)

    def _affordable(self, step: Step) -> bool:
        took = self.garden.took
        price = canaries.cost(step.plant, took) if step.plant else canaries.own_cost(took[step.test])
        return self.garden.seconds + price <= self.garden.budget

    async def _timed(self, step: Step) -> None:
        start = time.monotonic()
        try:
            await (self._try(step.plant) if step.plant else self._own(step.test))
        finally:
            self.garden.seconds += time.monotonic() - start

    async def _try(self, plant: Plant) -> None:
        garden, test = self.garden, plant.test
        answer = await self._answer(plant)
        verdict = canaries.rejected(plant, answer)
        if verdict is False:  # once more: a test on random inputs may miss a wrong answer once
            again = await self._answer(plant)
            if canaries.rejected(plant, again) is False:
                self._hold(test, f"gave {again.score:g} of {{points:g}} points to {_said(plant)}")
                return
        elif verdict is None and plant.is_stub:
            own = await self._own(test)
            if own.score >= (garden.earned[test][1].score or 0):
                what = f"failed with {answer.error or 'no error'} where it should have rejected {_said(plant)}"
                self._hold(test, what)
                return
            garden.puzzling[test] = f"it cannot be run a second time in this notebook ({own.error or 'other points'})"
        if verdict:
            garden.rejected.add(test)
        elif test not in garden.rejected:
            garden.puzzling.setdefault(test, f"a plant made it fail for another reason: {answer.error}")
            stub = next((p for p in garden.options[test] if p.is_stub and p is not plant), None)
            if stub and all(step.plant is not stub for step in garden.waiting):
                garden.waiting.append(Step(test, stub))

    def _hold(self, test: str, what: str) -> None:
        points = self.garden.earned[test][1].points
        said = f"planted after the notebook had run, the test {what.format(points=points)}; so it did not test any more"
        self.garden.evidence.append(Evidence(canaries.KIND, test, said, True))

    async def _answer(self, plant: Plant) -> Answer:
        self.garden.planted += 1
        index = self.garden.earned[plant.test][0]
        await self._run(new_code_cell(self.bed.plant(plant)), index, graded=False)
        return await self._ask(plant.test)

    async def _own(self, test: str) -> Answer:
        if undo := self.bed.undo():
            await self._run(new_code_cell(undo), self.garden.earned[test][0], graded=False)
        return await self._ask(test)

    async def _ask(self, test: str) -> Answer:
        index = self.garden.earned[test][0]
        cell = copy.deepcopy(self.cells[index])
        cell.outputs = []
        await self._run(cell, index, graded=True)
        verdict = judge(cell)
        error = next((str(output.ename) for output in cell.outputs if output.output_type == "error"), "")
        if verdict.status not in GRADED:
            return Answer(str(verdict.status), 0.0)
        return Answer(error, verdict.score or 0.0)

    async def _run(self, cell: NotebookNode, index: int, *, graded: bool) -> None:
        self.garden.evidence += await guarded(self.client, self.guard, cell, index, graded=graded, locked=True)


async def guarded(
    client: SandboxedNotebookClient,
    guard: Guard,
    cell: NotebookNode,
    index: int,
    *,
    graded: bool,
    locked: bool,
    finish: Callable[[NotebookNode], None] = lambda cell: None,
) -> list[Evidence]:
    """Run a cell between the guard's two looks, and return what these saw.

    Args:
        finish: completes the cell's outputs before it is looked at whether it failed.

    Raises:
        DeadKernelError: the kernel ended.
    """
    guard.before(index, graded, locked=locked)
    guard.sent(cell.source)
    await client.async_execute_cell(cell, index, store_history=False)
    finish(cell)
    shown = [output.data.get("text/plain", "") for output in cell.outputs if output.output_type == "execute_result"]
    guard.saw(any(output.output_type == "error" for output in cell.outputs), shown)
    return guard.after(index)


def _said(plant: Plant) -> str:
    shadow = ", behind which the student's own function was called first" if plant.shadowed else ""
    return f"a wrong answer to {plant.exercise} ({plant.what}){shadow}, which it rejects with the reference"


def earned(cells: Mapping[int, NotebookNode], seconds: Mapping[int, float]) -> dict[str, tuple[int, Verdict, float]]:
    """The tests among executed cells that gave points: test -> (index, verdict, seconds)."""
    found = {}
    for index, cell in cells.items():
        if role_of(cell) is Role.TEST:
            verdict = judge(cell)
            if verdict.score:
                found[verdict.grade_id] = (index, verdict, seconds[index])
    return found
