"""Canaries: wrong answers that a test is known to reject, planted after a notebook has run.

A test that passes a planted wrong answer does not test any more: something has been done to the process it runs in.
Each plant was tried beforehand against the reference and every right answer at hand (``gradekit.authoring.canaries``).
A shadowed plant first calls the student's own function on copies of its arguments, so that what it does to the world
when the test calls it is done, and then answers wrongly all the same.

What is planted, how often and in which order cannot be foretold from inside: it is drawn on the trusted side.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

KIND = "canary"
#: Of the time that the notebook has taken by itself, what canaries may take. The last plant may take longer than was
#: foreseen, and all of them must stay under 30 %.
SHARE = 0.25
#: Seconds of a plant beside its test's, until some have been seen: the cells around it, and a failure put into words.
#: So the median of 20 labs.
PLANT_S = 0.06


@dataclass(frozen=True)
class Plant:
    """A wrong answer to one exercise, and what one test is known to say to it.

    Attributes:
        test, exercise: grade ids.
        what: the change to the reference, in a line.
        source: the whole cell that stands in the exercise's place.
        binds: the global names that it binds.
        errors: the types of error that the test ends with; ``""`` when it ends with a score.
        score: the most points that the test gives it.
        share: its test's seconds as a share of those that the same test takes with the reference.
        shadowed: whether the student's own functions are called first.
        needs: tests that must have given all their points, since the plant, or the test, also rests on their answers;
            without that, a wrong answer elsewhere could make up for this one.
    """

    test: str
    exercise: str
    what: str
    source: str
    binds: tuple[str, ...]
    errors: tuple[str, ...]
    score: float
    share: float
    shadowed: bool = False
    needs: tuple[str, ...] = ()

    @property
    def is_stub(self) -> bool:
        """Whether it is the exercise as released. It rests on nothing else in the notebook."""
        return self.what == STUB


#: What a plant is that answers nothing.
STUB = "the exercise as it was released"


@dataclass(frozen=True)
class Canaries:
    """The plants of one notebook.

    Attributes:
        digest: of the cells that they were made for, see ``digest_of``.
        context: of all that they rest on; when it changes they are made again.
        uncovered: tests for which there is no plant -> why.
    """

    digest: str
    context: str
    plants: tuple[Plant, ...]
    uncovered: Mapping[str, str]

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".new")
        unfinished.write_text(json.dumps(asdict(self), indent=1), encoding="utf-8")
        unfinished.replace(path)

    @classmethod
    def load(cls, path: Path) -> Canaries | None:
        """What ``save`` wrote; None when there is nothing, or nothing of this version."""
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            lists = ("binds", "errors", "needs")
            plants = tuple(Plant(**(p | {key: tuple(p[key]) for key in lists})) for p in raw.pop("plants"))
            return cls(plants=plants, **raw)
        except (OSError, ValueError, TypeError, KeyError):
            return None


def place(root: Path, assignment: str, notebook: str) -> Path:
    """Where a course keeps the canaries of a notebook, beside the answer banks: no student and no kernel sees them."""
    home = root / "tooling" if (root / "tooling").is_dir() else root
    return home / "canaries" / assignment / f"{notebook}.json"


def digest_of(cells: Mapping[str, str]) -> str:
    """The fingerprint of a notebook's cells with a grade id, as nbgrader keeps them: grade id -> source."""
    return hashlib.sha256(json.dumps(sorted(cells.items())).encode()).hexdigest()[:20]


@dataclass(frozen=True)
class Answer:
    """What a test said to a plant: the type of its error, empty without one, and the points that it gave."""

    error: str
    score: float


def rejected(plant: Plant, answer: Answer) -> bool | None:
    """Whether the test rejected the plant as it is known to; None when its failure says nothing about the plant.

    A mutant may fail for a name that this notebook has not, before the test could look at what it answers.
    """
    if answer.score > plant.score:
        return False
    return True if answer.error in (*plant.errors, "AssertionError") else None


@dataclass(frozen=True)
class Coverage:
    """What canaries said about one notebook.

    Attributes:
        planted: how many plants were put in place.
        seconds: that they took.
        of: the seconds that the notebook took without them, its kernels' start included.
        uncovered: tests with points that no plant was rejected by -> why.
    """

    planted: int = 0
    seconds: float = 0.0
    of: float = 0.0
    uncovered: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """One thing to do: put a plant in its place and run a test; without a plant, run it as the student answered."""

    test: str
    plant: Plant | None


def choose(
    plants: Sequence[Plant], passed: Mapping[str, float], full: Collection[str], budget: float, beside: float
) -> list[Step]:
    """What to do within a budget, in an order of its own.

    As many tests as the budget allows get a plant, the cheapest first; what is left of it goes into dearer plants in
    their place, more plants, and runs of the student's own answer, as chance has it.

    Args:
        passed: test -> seconds that it took in this notebook.
        full: tests that have given all their points.
        budget: seconds.
        beside: seconds of a plant beside its test's.
    """
    rng = random.SystemRandom()
    options = usable(plants, passed, full)
    cheapest = {test: min(options[test], key=lambda p: cost(p, passed[test], beside)) for test in options}
    chosen: dict[str, list[Plant]] = {}
    left = budget
    for test in sorted(options, key=lambda test: (cost(cheapest[test], passed[test], beside), rng.random())):
        price = cost(cheapest[test], passed[test], beside)
        if price <= left:
            left -= price
            chosen[test] = [cheapest[test]]
    for test in rng.sample(list(chosen), len(chosen)):
        other = rng.choice(options[test])
        if other.is_stub and len(options[test]) > 1:  # the weakest: it fails whatever was done to the helpers
            other = rng.choice([p for p in options[test] if not p.is_stub])
        more = cost(other, passed[test], beside) - cost(chosen[test][0], passed[test], beside)
        if more <= left:
            left -= more
            chosen[test] = [other]
    steps = [Step(test, plant) for test, kept in chosen.items() for plant in kept]
    extra = [Step(p.test, p) for test in chosen for p in options[test] if p not in chosen[test]]
    extra += [Step(test, None) for test in chosen]
    for step in rng.sample(extra, len(extra)):
        price = cost(step.plant, passed[step.test], beside)
        if price <= left and rng.random() < 0.5:
            left -= price
            steps.append(step)
    rng.shuffle(steps)
    return steps


def in_place(options: Sequence[Plant]) -> list[Step]:
    """What to do right behind a test, in a run of the notebook that is for this alone: two plants and the student's."""
    if not options:
        return []
    rng = random.SystemRandom()
    strong = [plant for plant in options if not plant.is_stub] or list(options)
    drawn = rng.sample(strong, min(2, len(strong)))
    return rng.sample(steps := [Step(plant.test, plant) for plant in drawn] + [Step(drawn[0].test, None)], len(steps))


def usable(plants: Sequence[Plant], passed: Collection[str], full: Collection[str]) -> dict[str, list[Plant]]:
    """The plants whose rejection can be counted on in a notebook, by test; see ``choose``."""
    found: dict[str, list[Plant]] = {}
    for plant in plants:
        if plant.test in passed and (plant.is_stub or all(test in full for test in plant.needs)):
            found.setdefault(plant.test, []).append(plant)
    return found


def cost(plant: Plant | None, seconds: float, beside: float) -> float:
    """The seconds that a plant will take, or None, the student's own answer, where its test took ``seconds``.

    Args:
        beside: seconds of a plant beside its test's.
    """
    return beside + seconds * (plant.share + plant.shadowed) if plant else seconds


class Bed:
    """The cells that put plants into a kernel's namespace, and the student's own names back."""

    def __init__(self) -> None:
        self._rng = random.SystemRandom()
        self._undo = ""

    def plant(self, plant: Plant) -> str:
        """A cell that puts the student's own names back and then the plant in their place."""
        kept, name = self._name(), self._name()
        binds = list(plant.binds)
        lines = [self.undo(), f"{kept} = {{{name}: globals()[{name}] for {name} in {binds!r} if {name} in globals()}}"]
        lines.append(plant.source if plant.shadowed else self._with_source(plant.source))
        if plant.shadowed:
            wrap = self._name()
            lines.append(_SHADOW.replace("_wrap", wrap))
            lines += [f"{name} = {wrap}({kept}[{name!r}], {name})" for name in binds]
            lines.append(f"del {wrap}")
        undo = [
            f"globals().update({kept})",
            f"[globals().pop({name}, None) for {name} in {binds!r} if {name} not in {kept}]",
        ]
        if plant.shadowed:
            back = self._name()
            undo += [_UNSHADOW.replace("_back", back), f"[*map({back}, {kept}.values())]", f"del {back}"]
        self._undo = "\n".join([*undo, f"del {kept}"])
        return "\n".join(lines).lstrip()

    def _with_source(self, source: str) -> str:
        """Code that runs a plant's and leaves its text for ``inspect``.

        A locked cell's own text is out of reach, and a kernel without it takes the simulator's slow way.
        """
        name = f"/tmp/{self._name()}/{self._name()}.py"
        kept = (len(source), None, source.splitlines(keepends=True), name)
        return (
            f"__import__('linecache').cache[{name!r}] = {kept!r}\n"
            f"exec(compile({source!r}, {name!r}, 'exec'), globals())"
        )

    def undo(self) -> str:
        """A cell that puts the student's own names back; empty when they are there."""
        undo, self._undo = self._undo, ""
        return undo

    def _name(self) -> str:
        return "".join(self._rng.choices("abcdefghijklmnopqrstuvwxyz", k=10))


#: Calls one function on copies of the arguments for what it does, another for what it answers. Where it can, it does so
#: behind the face of the first, whose code is exchanged: an answer may ask whether it is still what a test calls. A
#: call from within one of the two, as of itself, stays with that one.
_SHADOW = """\
def _wrap(own, wrong):
    import functools, types
    def shadow(*args, _own, _wrong, _within, **kwargs):
        from copy import deepcopy
        if _within:
            return _within[-1](*args, **kwargs)
        _within.append(_own)
        try:
            _own(*deepcopy(args), **deepcopy(kwargs))
        except Exception:
            pass
        _within[:] = [_wrong]
        try:
            return _wrong(*args, **kwargs)
        finally:
            _within.clear()
    if type(own) is not types.FunctionType or own.__code__.co_freevars:
        return functools.wraps(wrong)(functools.partial(shadow, _own=own, _wrong=wrong, _within=[]))
    twin = types.FunctionType(own.__code__, own.__globals__, own.__name__, own.__defaults__)
    twin.__kwdefaults__ = own.__kwdefaults__
    own.__code__, own.__defaults__ = shadow.__code__, None
    own.__kwdefaults__ = {"_own": twin, "_wrong": wrong, "_within": []}
    return own"""

#: Undoes it in one of the student's own objects.
_UNSHADOW = """\
def _back(own):
    twin = (getattr(own, "__kwdefaults__", None) or {}).get("_own")
    if twin:
        own.__code__, own.__defaults__, own.__kwdefaults__ = twin.__code__, twin.__defaults__, twin.__kwdefaults__"""
