"""What the gates look at: one lab, and the runs of it that several gates share."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from nbformat import NotebookNode

from gradekit.authoring import answers
from gradekit.authoring.answers import Answer
from gradekit.authoring.dependencies import Graph
from gradekit.authoring.release import released
from gradekit.authoring.replay import Variant, replay
from gradekit.authoring.rounds import known_seeds
from gradekit.authoring.run import Execution, in_kernel
from gradekit.course import Cell, Course, Lab, Role
from gradekit.kernels import ForkServer
from gradekit.kernels.preload import choose


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong, where, and what to do about it. ``line`` counts from 1 within the cell."""

    message: str
    cell: str = ""
    line: int | None = None

    def __str__(self) -> str:
        where = self.cell + (f", line {self.line}" if self.line else "")
        return f"{where}: {self.message}" if where else self.message


@dataclass(frozen=True)
class Gate:
    """One rule.

    Attributes:
        check: yields what is wrong with a lab. Whatever it raises is a fault too: a gate that cannot run is not passed.
        variants: the runs that it needs; all gates' are run together.
        everywhere: whether it makes sense for a course that does not keep to docs/authoring.md.
        prose: whether it looks at more than the code and the answers.
    """

    number: int
    name: str
    check: Callable[[Subject], Iterable[Fault]]
    variants: Callable[[Subject], Iterable[Variant]] | None = None
    everywhere: bool = True
    prose: bool = False


@dataclass
class Subject:
    """A lab under examination.

    Attributes:
        ours: whether the lab is in the course's syllabus, and so has to keep every rule.
        gates: whose variants are run together.
        jobs: processes at a time.
        fresh: use no result of an earlier run.
    """

    course: Course
    lab: Lab
    ours: bool
    gates: Iterable[Gate]
    jobs: int = 2
    fresh: bool = False
    _runs: dict[str, Execution] = field(default_factory=dict, init=False)

    @cached_property
    def student(self) -> NotebookNode:
        """The lab as a student gets it."""
        return released(self.course, self.lab)

    @cached_property
    def stub(self) -> NotebookNode:
        """The lab as a student gets it, with the hidden tests."""
        return released(self.course, self.lab, hidden_tests=True)

    @cached_property
    def reference(self) -> NotebookNode:
        """The lab as a student hands it in who typed the reference solution."""
        return answers.apply(self.stub, self.lab, None)

    @cached_property
    def graph(self) -> Graph:
        return Graph(self.reference)

    @cached_property
    def bank(self) -> list[Answer]:
        return answers.bank(self.course, self.lab)

    @cached_property
    def exercises(self) -> list[Cell]:
        """The instructor's solution cells that hold code."""
        return [cell for cell in self.lab.cells if cell.role is Role.EXERCISE and cell.kind == "code"]

    @cached_property
    def libraries(self) -> tuple[str, ...]:
        """The known libraries that the lab imports: imported once for all runs."""
        return choose([self.lab.path])

    @cached_property
    def kernel_run(self) -> Execution:
        """The reference from top to bottom in a fresh sandboxed kernel."""
        return self.run_in_kernel()

    def run_in_kernel(self) -> Execution:
        """The same, run anew."""
        with ForkServer(self.libraries, cores=1) as server:
            return in_kernel(self.course, self.lab, self.reference, server)

    @cached_property
    def runs(self) -> dict[str, Execution]:
        """The gates' variants by name, and under "reference" the cells that tests rest on, all from one replay."""
        variants: dict[str, Variant] = {}
        for gate in self.gates:
            if gate.variants is not None:
                try:
                    variants.update({variant.name: variant for variant in gate.variants(self)})
                except Exception:
                    continue  # its check meets the same error, and reports it
        setup = [f"__import__({name!r});" for name in self.libraries]
        if any("secret_seed" in cell.source for cell in self.lab.cells):
            setup.append(known_seeds())  # a lab passes its gates each time or never: luck is for `gradekit answers`
        trunk, runs = replay(
            self.course,
            self.lab,
            self.reference,
            list(variants.values()),
            jobs=self.jobs,
            setup=setup,
            cells=self.graph.core,
        )
        return {"reference": trunk, **runs}

    def name_of(self, index: int) -> str:
        """How messages call a cell: its grade id, or its number, counted from 1, and its first line."""
        cell = self.lab.notebook.cells[index]
        grade_id = cell.metadata.get("nbgrader", {}).get("grade_id")
        first = next((line for line in cell.source.splitlines() if line.strip()), "")
        return grade_id or f"cell {index + 1} ({first[:40]})"


def parsed(source: str) -> ast.Module:
    """A code cell's syntax tree, with IPython's own syntax turned into calls."""
    from IPython.core.inputtransformer2 import TransformerManager

    return ast.parse(TransformerManager().transform_cell(source))


def errors(run: Execution) -> Iterator[tuple[int, str]]:
    """The index of each cell that ended in an error, and the error."""
    for index, cell in enumerate(run.notebook.cells):
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                yield index, f"{output.ename}: {output.evalue.strip().splitlines()[0] if output.evalue.strip() else ''}"
