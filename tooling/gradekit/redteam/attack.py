"""An attack of the corpus: one file that says what it tries, what counts as success, and what the student hands in.

A file ``<family>/<name>.py`` has a header of comments, a sentence and then ``key: value`` lines, and sections::

    # Patches np.testing.assert_allclose while the test calls the answer, and puts it back before returning.
    # succeeds: points test-softmax

    # %% softmax                 typed into this cell of the released notebook
    # %% before test-softmax     a cell of the student's own, in front of that one
    # %% after test-softmax      ... or behind it
    # %% file notes/torch.py     another file of the submission
    # %% make                    our own Python: changes ``notebook`` (its JSON), fills ``folder``, or sets ``content``

``succeeds`` names one or more of

    points <grade id> ...   a mark above what the answers earn (``earns: test-median 2`` says what they do)
    leak <canary>           a text that is kept from students stands in what their code put out, or in their feedback;
                            of the hidden tests, which a TA sees beside the outputs, in their feedback
    script                  a script, handler or frame of the student's is active in the feedback page
    outside                 the decoy folder beside the course was written to, or a decoy on the machine answered
    disturbs                another submission lost its mark, its files or its feedback, or the run did not end

``known`` marks an attack that gradekit does not stop, and says what would. ``stock: not run: <why>`` leaves it out of
stock nbgrader's column, ``stock: resists: <why>`` says why it comes to nothing there. ``lab`` is ``plain`` or ``deep``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from gradekit.course import CourseError

_SECTION = re.compile(r"^# %%[ \t]+(?P<title>\S.*?)[ \t]*$", re.MULTILINE)
_KEY = re.compile(r"# (?P<key>succeeds|earns|known|stock|lab): (?P<value>.+)")


class Family(StrEnum):
    """What an attack is after; the folder that it lies in."""

    FORGING = "forging"
    READING = "reading"
    OTHERS = "others"
    ESCAPING = "escaping"
    EXHAUSTING = "exhausting"
    KERNELS = "kernels"
    NOTEBOOKS = "notebooks"
    FEEDBACK = "feedback"


TITLES = {
    Family.FORGING: "forging verdicts",
    Family.READING: "reading what is hidden",
    Family.OTHERS: "others' work and the gradebook",
    Family.ESCAPING: "escaping",
    Family.EXHAUSTING: "exhausting",
    Family.KERNELS: "kernel and timing cheats",
    Family.NOTEBOOKS: "bad notebooks",
    Family.FEEDBACK: "malicious feedback content",
}
GOALS = ("points", "leak", "script", "outside", "disturbs")


@dataclass(frozen=True)
class Attack:
    """One attack.

    Attributes:
        tries: what it tries, in a sentence.
        lab: the lab of the small course that it is handed in for.
        goals: goal -> its arguments: grade ids for ``points``, names of canaries for ``leak``.
        earns: grade id -> points that its answers earn honestly; every other cell earns none.
        known: what would stop it, when gradekit does not; else empty.
        stock: ``not run: <why>``, ``resists: <why>``, or empty.
        sections: (title, body), in the order of the file.
    """

    name: str
    family: Family
    tries: str
    lab: str
    goals: dict[str, tuple[str, ...]]
    earns: dict[str, float]
    known: str
    stock: str
    sections: tuple[tuple[str, str], ...]

    @property
    def runs_against_stock(self) -> bool:
        return not self.stock.startswith("not run")

    @property
    def needs_feedback(self) -> bool:
        return "leak" in self.goals or "script" in self.goals

    @property
    def marker(self) -> str:
        """The file in the decoy folder that this attack writes if it gets there."""
        return f"{self.family}-{self.name}"


def load(path: Path) -> Attack:
    """Read one attack.

    Raises:
        CourseError: it is not in the format.
    """
    head, sections = split(path.read_text(encoding="utf-8"))
    sentence: list[str] = []
    keys: dict[str, list[str]] = {}
    current = sentence
    for line in head.strip().splitlines():
        match = _KEY.fullmatch(line)
        if match:
            current = keys.setdefault(match["key"], [])
            current.append(match["value"])
        elif line.startswith("#"):
            current.append(line.removeprefix("#").strip())
        else:
            raise CourseError(f"{path}: '{line}' stands above the first section; only comments may.")
    if path.parent.name not in list(Family):
        raise CourseError(f"{path}: the folder must be one of {', '.join(Family)}.")
    goals = _goals(path, " ".join(keys.get("succeeds", [])))
    if not sentence or not sections:
        raise CourseError(f"{path}: needs a first line that says what it tries, and at least one section.")
    earned = " ".join(keys.get("earns", [])).replace(",", " ").split()
    return Attack(
        name=path.stem,
        family=Family(path.parent.name),
        tries=" ".join(sentence),
        lab="".join(keys.get("lab", ["plain"])),
        goals=goals,
        earns=dict(zip(earned[::2], map(float, earned[1::2]), strict=True)),
        known=" ".join(keys.get("known", [])),
        stock=" ".join(keys.get("stock", [])),
        sections=sections,
    )


def split(text: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The head of a file, and the title and body of each of its sections."""
    head, *bodies = _SECTION.split(text)
    return head, tuple(zip(bodies[::2], (body.strip("\n") + "\n" for body in bodies[1::2]), strict=True))


def _goals(path: Path, text: str) -> dict[str, tuple[str, ...]]:
    goals = {}
    for part in text.split(";"):
        goal, *arguments = part.replace(",", " ").split() or [""]
        if goal not in GOALS:
            raise CourseError(f"{path}: 'succeeds' must name one of {', '.join(GOALS)}, not '{goal}'.")
        goals[goal] = tuple(arguments)
    return goals


def corpus(folder: Path, only: list[str] | None = None) -> list[Attack]:
    """The attacks below a folder, by family and name; ``only`` those whose name, or whose family, is given.

    Raises:
        CourseError: there is none, or one is not in the format.
    """
    found = [load(path) for family in Family for path in sorted((folder / family).glob("*.py"))]
    if only:
        known = {attack.name for attack in found} | {str(attack.family) for attack in found}
        if strangers := [name for name in only if name not in known]:
            raise CourseError(f"There is no attack or family '{strangers[0]}' in {folder}.")
        found = [attack for attack in found if attack.name in only or attack.family in only]
    if not found:
        raise CourseError(f"{folder} holds no attacks. Run this in a checkout of the course, or name the folder.")
    return found
