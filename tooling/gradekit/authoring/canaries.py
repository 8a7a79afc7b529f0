"""Make the canaries of a lab: wrong answers that its tests are known to reject, tried as grading will plant them.

A plant comes after the last cell of a notebook that has run, in the place of the exercise that a test calls last: what
the test calls before that can then not depend on it. It is kept when the test, run again, rejects it each time, with
the reference around it and with every right answer of the bank, and passes again when it is taken away.
"""

from __future__ import annotations

import ast
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from nbformat import NotebookNode

from gradekit.authoring import answers, cache, mutation
from gradekit.authoring.dependencies import Graph, names
from gradekit.authoring.release import released
from gradekit.authoring.replay import ReplayError, Variant, replay, variant
from gradekit.authoring.run import Execution
from gradekit.course import Course, CourseError, Lab, Role
from gradekit.grading.judge import number
from gradekit.integrity.canaries import STUB, Bed, Canaries, Plant, digest_of, place

#: Mutants of each exercise that are tried, and plants of each kind that are kept for each test.
TRIED, KEPT = 10, 4
#: Seconds for one plant, and for all plants with one right answer, one after the other.
ONE_S, ALL_S = 30.0, 1800.0


@dataclass(frozen=True)
class Spot:
    """Where the plants of one test stand: its cell, that of the exercise, and the tests of what else it rests on."""

    test: int
    exercise: int
    needs: tuple[str, ...]


def ensure(course: Course, labs: Iterable[Lab], *, jobs: int = 2) -> Iterator[tuple[Lab, str, str]]:
    """Make the canaries of labs that have none, or whose content has changed.

    Yields:
        What was newly found to have none: the lab, a test (empty for all of the lab), and why.
    """
    for lab in labs:
        path = place(course.root, lab.assignment, lab.name)
        try:
            kept, now = Canaries.load(path), context(course, lab)
            if kept is not None and kept.context == now:
                continue
            made = make(course, lab, jobs=jobs)
        except (CourseError, ReplayError) as error:
            yield lab, "", str(error)
            continue
        made.save(path)
        for test, why in made.uncovered.items():
            yield lab, test, why


def context(course: Course, lab: Lab) -> str:
    """The fingerprint of all that the canaries of a lab rest on."""
    cells = [(cell.grade_id, cell.role, cell.source) for cell in lab.cells if cell.kind == "code"]
    sources = [source for _, _, source in cells]
    bank = cache.files(answers.folder(course, lab).glob("correct_*.py"))
    stub = str(course.config.ClearSolutions)
    return cache.digest(cells, stub, cache.library(sources), cache.rules(Path(__file__)), cache.data_of(lab), bank)


def make(course: Course, lab: Lab, *, jobs: int = 2) -> Canaries:
    """Try plants for every test of a lab and keep those that are known to be rejected.

    Raises:
        CourseError: nbgrader refuses the lab, or its answer bank is not in the format.
        ReplayError: the reference's own run died.
    """
    stubs = released(course, lab, hidden_tests=True)
    reference = answers.apply(stubs, lab, None)
    graph = Graph(reference)
    uncovered: dict[str, str] = {}
    spots = list(_spots(graph, uncovered))
    tried = [plant for spot in spots for plant in _candidates(lab, stubs, reference, spot)]
    kept = _tried(course, lab, reference, spots, tried, jobs, uncovered) if tried else []
    kept = _confirmed(course, lab, stubs, reference, spots, kept, jobs) if kept else []
    covered = {plant.test for plant in kept}
    for spot in spots:
        test = _id(reference, spot.test)
        if test not in covered:
            uncovered.setdefault(test, "no planted wrong answer is sure to be rejected")
    cells = {_id(stubs, i): cell.source for i, cell in enumerate(stubs.cells) if _id(stubs, i)}
    return Canaries(digest_of(cells), context(course, lab), tuple(kept), uncovered)


def _id(notebook: NotebookNode, index: int) -> str:
    return notebook.cells[index].metadata.get("nbgrader", {}).get("grade_id", "")


def _spots(graph: Graph, uncovered: dict[str, str]) -> Iterator[Spot]:
    """For each test the last exercise that it calls itself, or through given cells."""
    owners: dict[int, list[str]] = defaultdict(list)
    spots: list[Spot] = []
    beside: dict[int, set[int]] = {}
    for test in (index for index in graph.code if graph.roles[index] is Role.TEST):
        called, waiting = set(), [test]
        seen = {test}
        while waiting:
            for need in graph.needs[waiting.pop()] - seen:
                seen.add(need)
                if graph.roles[need] is Role.EXERCISE:
                    called.add(need)
                elif graph.roles[need] in (Role.GIVEN, Role.TEST):
                    waiting.append(need)
        if not called:
            uncovered[_id(graph.notebook, test)] = "it calls no exercise"
            continue
        spots.append(Spot(test, max(called), ()))
        owners[max(called)].append(_id(graph.notebook, test))
        rests = graph.closure([test]) - {max(called)}
        beside[test] = {index for index in rests if graph.roles[index] is Role.EXERCISE}
    for spot in spots:
        yield replace(spot, needs=tuple(sorted({name for index in beside[spot.test] for name in owners[index]})))


def _candidates(lab: Lab, stubs: NotebookNode, reference: NotebookNode, spot: Spot) -> Iterator[Plant]:
    """The stub, and a few mutants from all over the exercise."""
    test, exercise = _id(reference, spot.test), _id(reference, spot.exercise)
    cell = next(cell for cell in lab.cells if cell.index == spot.exercise)

    def plant(source: str, what: str) -> Plant:
        return Plant(test, exercise, what, source, tuple(sorted(names(source).binds)), (), 0.0, 0.0, False, spot.needs)

    stub, own = stubs.cells[spot.exercise].source, reference.cells[spot.exercise].source
    sources = [] if stub == own else [(stub, STUB)]
    mutants = mutation.candidates(cell, own) if _body(own) else []
    chance = random.Random(test)  # the same lab gives the same plants
    chance.shuffle(mutants)
    seen: dict[int, int] = defaultdict(int)
    ranks = []
    for mutant in mutants:  # one of each line before a second one of any
        ranks.append(seen[mutant.line])
        seen[mutant.line] += 1
    for n in sorted(range(len(mutants)), key=ranks.__getitem__)[:TRIED]:
        change = f"{_short(mutants[n].before)} -> {_short(mutants[n].after)}"
        sources.append((mutants[n].source, f"line {mutants[n].line}, {change}"))
    called = [node.name for node in _body(own) if isinstance(node, ast.FunctionDef)]
    sources += [(own + _OFF.format(name=called[-1]), f"one is added to what {called[-1]} returns")] if called else []
    for source, what in sources:
        if not source.lstrip().startswith("%%") and "__future__" not in source and names(source).known:
            yield plant(source, what)


#: The reference, and yet wrong: for functions that return numbers or arrays.
_OFF = """

{name} = (lambda own: __import__("functools").wraps(own)(lambda *args, **kwargs: own(*args, **kwargs) + 1))({name})"""


def _body(source: str) -> list[ast.stmt]:
    try:
        return ast.parse(source).body
    except SyntaxError:  # magics
        return []


def _short(text: str) -> str:
    text = " ".join(text.split())
    return (text if len(text) <= 60 else text[:59] + "…") or "(nothing)"


def _steps(notebook: NotebookNode, spot: Spot, plants: Sequence[Plant]) -> list[tuple[int, str]]:
    """The test by itself; then for each plant: plant, test, undo; the test by itself."""
    test = (-1, notebook.cells[spot.test].source)
    steps, bed = [test], Bed()
    for plant in plants:
        steps += [(-1, bed.plant(plant)), test, (-1, bed.undo())]
    return [*steps, test]


@dataclass(frozen=True)
class _Said:
    """What a run of ``_steps`` showed: whether the test passed by itself, and what it said to each plant."""

    passes: bool
    seconds: float
    errors: Sequence[str]
    scores: Sequence[float | None]
    shares: Sequence[float]


def _said(run: Execution, first: int, plants: int, points: float) -> _Said:
    end = first + 3 * plants + 2
    texts, seconds = run.beside[first:end], run.beside_s[first:end]
    if len(texts) < 3 * plants + 2:
        return _Said(False, 0.0, (), (), ())
    said = [_answer(text, points) for text in texts[2 : 2 + 3 * plants : 3]]
    own = max(seconds[0], 1e-3)
    passes = texts[0] == texts[-1] and _answer(texts[0], points) == ("", points)
    return _Said(passes, own, [e for e, _ in said], [s for _, s in said], [s / own for s in seconds[2::3]][:plants])


def _answer(text: str, points: float) -> tuple[str, float | None]:
    """The type of error and the points of a test run beside the notebook; no points where they cannot be told."""
    if not text:
        return "", points
    if (score := number(text)) is not None:
        return "", score if 0 <= score <= points else None
    error = text.partition(":")[0]
    return (error, 0.0) if error.isidentifier() and error != "CellTimeoutError" else ("", None)


def _points(reference: NotebookNode, spot: Spot) -> float:
    return float(reference.cells[spot.test].metadata.nbgrader.get("points", 0))


def _tried(
    course: Course,
    lab: Lab,
    reference: NotebookNode,
    spots: Sequence[Spot],
    plants: Sequence[Plant],
    jobs: int,
    uncovered: dict[str, str],
) -> list[Plant]:
    """Those that the test rejects with the reference around them: the stub, and mutants that a comparison catches."""
    here = {_id(reference, spot.test): spot for spot in spots}
    variants = [
        Variant(f"{n}", None, _steps(reference, here[plant.test], [plant]), cell_limit=ONE_S)
        for n, plant in enumerate(plants)
    ]
    _, runs = replay(course, lab, reference, variants, jobs=jobs)
    found: dict[str, list[Plant]] = defaultdict(list)
    for n, plant in enumerate(plants):
        points = _points(reference, here[plant.test])
        said = _said(runs[f"{n}"], 0, 1, points)
        if not said.passes:
            first = (runs[f"{n}"].beside or ["it did not come to an end"])[0]
            uncovered.setdefault(plant.test, f"a second run of it with the reference does not pass: {first or 'later'}")
        elif said.scores[0] is not None and said.scores[0] < points:
            uncovered.pop(plant.test, None)
            found[plant.test].append(
                replace(plant, errors=(said.errors[0],), score=said.scores[0], share=said.shares[0])
            )
    kept = []
    for some in found.values():
        stub = [plant for plant in some if plant.is_stub]
        compared = [plant for plant in some if not plant.is_stub and plant.errors[0] in ("", "AssertionError")]
        kept += [*stub, *compared[-1:], *compared[: KEPT - 1]] if len(compared) > KEPT else [*stub, *compared]
    return kept


def _confirmed(
    course: Course,
    lab: Lab,
    stubs: NotebookNode,
    reference: NotebookNode,
    spots: Sequence[Spot],
    plants: Sequence[Plant],
    jobs: int,
) -> list[Plant]:
    """Those that are rejected again, one after the other, with the reference and with every right answer.

    Plants whose exercise consists of plain functions also get a shadowed form, if that is rejected as surely.
    """
    plants = [*plants, *(replace(p, shadowed=True) for p in plants if not p.is_stub and _functions(p))]
    by_test = {_id(reference, s.test): (s, [p for p in plants if p.test == _id(reference, s.test)]) for s in spots}
    by_test = {test: pair for test, pair in by_test.items() if pair[1]}
    right = [a for a in answers.bank(course, lab) if a.kind is answers.Kind.CORRECT]
    variants, core = [], Graph(reference).core
    for name, answer in [("reference", None), ("again", None), *((a.name, a) for a in right)]:
        notebook = answers.apply(stubs, lab, answer)
        tail = [step for spot, some in by_test.values() for step in _steps(notebook, spot, some)]
        changed = variant(name, reference, notebook, core)
        variants.append(replace(changed, steps=[*changed.steps, *tail], limit=ALL_S, cell_limit=ONE_S))
    _, runs = replay(course, lab, reference, variants, jobs=jobs)
    kept, first = [], 0
    for spot, some in by_test.values():
        points = _points(reference, spot)
        said = [_said(run, first, len(some), points) for run in runs.values()]
        first += 3 * len(some) + 2
        if not said[0].passes:
            continue
        said = [one for one in said if one.passes]
        for n, plant in enumerate(some):
            scores = [one.scores[n] for one in said]
            if any(score is None or score >= points for score in scores):
                continue
            kept.append(
                replace(
                    plant,
                    errors=tuple(sorted({*plant.errors, *(one.errors[n] for one in said)})),
                    score=max(plant.score, *(score for score in scores if score is not None)),
                    share=round(median(one.shares[n] for one in said), 3),
                )
            )
    return kept


def _functions(plant: Plant) -> bool:
    """Whether all that a plant binds are plain functions: a shadow can stand before them."""
    body = _body(plant.source)
    functions = {node.name for node in body if isinstance(node, ast.FunctionDef) and not node.decorator_list}
    return functions == set(plant.binds)
