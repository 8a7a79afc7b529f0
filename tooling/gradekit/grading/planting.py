"""Plant canaries in a kernel that has run a notebook, and judge what its tests say to them.

Cells go to the kernel as the notebook's own do and leave nothing in it: their outputs are read here and thrown away.
"""

from __future__ import annotations

import copy
import math
import statistics
import time
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
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
        under_way: the step that is being taken; it stays when the kernel ends at it.
        puzzling: test -> why plants have said nothing about it.
        stale: tests that do not pass a second time behind the last cell, whatever is planted.
        seconds: what has been spent on plants.
        beside: what each plant took beside its test's share.
    """

    plants: Sequence[Plant]
    earned: Mapping[str, tuple[int, Verdict, float]]
    of: float
    budget: float
    under_way: Step | None = None
    evidence: list[Evidence] = field(default_factory=list)
    rejected: set[str] = field(default_factory=set)
    puzzling: dict[str, str] = field(default_factory=dict)
    stale: set[str] = field(default_factory=set)
    planted: int = 0
    seconds: float = 0.0
    beside: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.took = {test: seconds for test, (_, _, seconds) in self.earned.items()}
        self.full = [test for test, (_, verdict, _) in self.earned.items() if verdict.score == verdict.points]
        self.options = canaries.usable(self.plants, self.earned, self.full)

    def choose(self) -> list[Step]:
        """What to do behind the last cell."""
        return canaries.choose(self.plants, self.took, self.full, self.budget, self._plant_s)

    def again(self) -> dict[int, list[Step]]:
        """What to do in a kernel that runs the notebook once more: index of the cell behind which -> steps.

        The step at which a kernel ended is taken again at the end. A test that has gone stale is run again, and
        planted, in its place, where the notebook has not yet moved on from what it rests on.
        """
        plan = {self.earned[test][0]: canaries.in_place(self.options.get(test, ())) for test in self.stale}
        if self.under_way:
            plan[-1] = [self.under_way]
        self.budget = math.inf
        self.stale, self.under_way = set(), None
        return plan

    def affords(self, step: Step, waiting: Iterable[Step]) -> bool:
        """Whether there is time for a step, and after it for a plant of each test that none has been put to yet."""
        price = self._cost(step)
        asked = self.rejected | self.held | self.stale | self.puzzling.keys()
        due: dict[str, float] = {}
        for other in waiting:
            if other.plant and other.test not in asked:
                first = self._cost(other)
                due[other.test] = min(first, due.get(other.test, first))
        if step.plant and step.test not in asked and price <= due.get(step.test, price):
            due.clear()  # it is this test's turn
        return self.seconds + price + sum(due.values()) <= self.budget

    def count(self, step: Step, seconds: float) -> None:
        """Count a step, so that the next are priced by what plants cost in this notebook."""
        self.seconds += seconds
        if step.plant:
            self.beside.append(seconds - canaries.cost(step.plant, self.took[step.test], beside=0.0))

    def _cost(self, step: Step) -> float:
        return canaries.cost(step.plant, self.took[step.test], self._plant_s)

    @property
    def _plant_s(self) -> float:
        if self.beside:
            return max(0.0, statistics.median(self.beside))
        # What is only supposed keeps no plant out of a short notebook.
        return min(canaries.PLANT_S, self.budget / (2 * max(1, len(self.options))))

    @property
    def held(self) -> set[str]:
        return {one.cell for one in self.evidence if one.holds}

    @property
    def uncovered(self) -> dict[str, str]:
        """The tests that gave points and that no plant was rejected by, and why."""
        return {
            test: self.puzzling.get(test) or ("there was no time" if test in self.options else "there is no plant")
            for test in self.earned
            if test not in self.held and (test in self.puzzling or test not in self.rejected)
        }


class Planter:
    """Takes the steps of a garden in one kernel."""

    def __init__(self, client: SandboxedNotebookClient, guard: Guard, garden: Garden) -> None:
        self.client, self.guard, self.garden = client, guard, garden
        self.bed = Bed()
        self.repeats: dict[str, Answer | None] = {}  # what a test says to the student's own; None when it passes

    async def work(self, steps: Iterable[Step]) -> None:
        """Take steps, as far as the budget goes, and put the student's own back.

        Raises:
            DeadKernelError: the kernel ended, at the step that is under way.
        """
        garden = self.garden
        waiting = deque(steps)
        while waiting:
            step = waiting.popleft()
            if step.test in garden.held | garden.stale or not garden.affords(step, waiting):
                continue
            start, garden.under_way = time.monotonic(), step
            try:
                waiting += await self._take(step)
            finally:
                garden.count(step, time.monotonic() - start)
            garden.under_way = None
        if undo := self.bed.undo():
            await self._run(new_code_cell(undo), 0, graded=False)

    async def _take(self, step: Step) -> list[Step]:
        """Take one step; returns what it makes necessary."""
        garden, test, plant = self.garden, step.test, step.plant
        if plant is None:
            await self._passes_again(test)
            return []
        answer = await self._answer(plant)
        verdict = canaries.rejected(plant, answer)
        if verdict is False:  # once more: a test on random inputs may miss a wrong answer once
            again = await self._answer(plant)
            if canaries.rejected(plant, again) is False:
                self._hold(test, f"gave {again.score:g} of {{points:g}} points to {_said(plant)}")
        elif verdict:
            garden.rejected.add(test)
            if not plant.is_stub:
                garden.puzzling.pop(test, None)
        elif await self._passes_again(test):
            if plant.is_stub:
                how = answer.error or "no error"
                self._hold(test, f"ended with {how} where it should have rejected {_said(plant)}")
            elif test not in garden.rejected:
                garden.puzzling[test] = f"a plant made it fail for another reason: {answer.error or 'other points'}"
                return [Step(test, other) for other in garden.options[test] if other.is_stub]
        return []

    async def _passes_again(self, test: str) -> bool:
        """Whether the test passes once more with the student's own answer; if not, nothing can be said about plants."""
        garden = self.garden
        if test not in self.repeats:
            own = await self._own(test)
            self.repeats[test] = own if own.score < (garden.earned[test][1].score or 0) else None
        failed = self.repeats[test]
        if failed:
            garden.stale.add(test)
            garden.puzzling[test] = f"its own answer fails when the test is run again: {failed.error or 'fewer points'}"
        return failed is None

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
            await self._run(new_code_cell(undo), 0, graded=False)
        return await self._ask(test)

    async def _ask(self, test: str) -> Answer:
        index = self.garden.earned[test][0]
        cell = fresh(self.client.nb.cells[index])
        await self._run(cell, index, graded=True)
        verdict = judge(cell)
        error = next((str(output.ename) for output in cell.outputs if output.output_type == "error"), "")
        if verdict.status not in GRADED:
            return Answer(str(verdict.status), 0.0)
        return Answer(error, verdict.score or 0.0)

    async def _run(self, cell: NotebookNode, index: int, *, graded: bool) -> None:
        with self.client.aside(cell, index):
            found = await guarded(self.client, self.guard, cell, index, graded=graded, locked=True)
        # What a failing test sets in motion, as the first import of what formats an error, is not the student's doing.
        self.garden.evidence += [one for one in found if one.kind == "cut"]


def fresh(cell: NotebookNode) -> NotebookNode:
    """A copy without outputs."""
    return NotebookNode({k: [] if k == "outputs" else copy.deepcopy(v) for k, v in cell.items()})


async def guarded(
    client: SandboxedNotebookClient,
    guard: Guard,
    cell: NotebookNode,
    index: int,
    *,
    graded: bool,
    locked: bool,
    gives: Collection[str] = (),
) -> list[Evidence]:
    """Run a cell between the guard's two looks, and return what these saw.

    Args:
        gives: see ``Guard.before``.

    Raises:
        DeadKernelError: the kernel ended.
    """
    guard.before(index, graded, locked=locked, gives=gives)
    await client.async_execute_cell(cell, index, store_history=False)
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
