"""Item analysis: what a class's marks say about each graded cell, and what they say about the class."""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gradekit.grading.judge import Status
from gradekit.reports.marks import Marks, Person, Question, Sheet, Work

#: Fewer answers than this say nothing about how well a question tells students apart.
ENOUGH = 8
#: Below this discrimination a question is worth a look (Ebel, Essentials of Educational Measurement, 1972).
WEAK = 0.2
#: Below this one, those who do well elsewhere do worse here.
BACKWARD = -0.1
REASONS = 3
#: Numbers in a test's message: fresh inputs give other ones to everybody.
_NUMBER = re.compile(r"\d[\d_]*(?:\.\d+)?(?:e[+-]?\d+)?")


@dataclass(frozen=True)
class Item:
    """One question, as a class has answered it.

    Attributes:
        answers: how many students handed it in; the other figures are of these.
        difficulty: the mean share of its points that was earned, 0 to 1: easy questions are near 1.
        discrimination: the correlation of its points with the rest of the assignment's, -1 to 1 (the corrected
            item-total correlation); None with fewer than ``ENOUGH`` answers, or when either does not vary.
        full, zero: shares of students with all and with none of its points.
        reasons: what the test said most often, numbers left out, and to how many.
        blank: the share of answers left as they were released, or resting on one that is; None when no run is recorded.
        seconds: the median time of its cell; None when no run is recorded.
        waiting: answers that a person has still to look at.
    """

    question: Question
    answers: int
    difficulty: float | None
    discrimination: float | None
    full: float
    zero: float
    reasons: tuple[tuple[str, int], ...]
    blank: float | None
    seconds: float | None
    waiting: int

    @property
    def doubts(self) -> list[str]:
        """What a question's author would look at, in words."""
        found = []
        if self.answers >= ENOUGH and self.full == 1:
            found.append("never failed")
        if self.answers >= ENOUGH and self.zero == 1:
            found.append("never earned")
        if self.discrimination is not None and self.discrimination < BACKWARD:
            found.append("strong students do worse")
        elif self.discrimination is not None and self.discrimination < WEAK:
            found.append("tells students hardly apart")
        return found


def items(found: Marks, sheet: Sheet, records: Mapping[str, Mapping[str, Any]]) -> list[Item]:
    """The items of an assignment, in the order of its questions.

    Args:
        records: student -> what grading kept beside the notebooks; see ``gradekit.grading.record``.
    """
    works = {student: work for (student, assignment), work in found.works.items() if assignment == sheet.name}
    told = _told(records)
    return [_item(one, works, told.get((one.notebook, one.name), _Told())) for one in sheet.questions]


@dataclass(frozen=True)
class LabItems:
    """One notebook of an assignment: its questions, and what they come to together.

    Attributes:
        difficulty: the mean share of its points that was earned.
        blank: the mean of its questions'.
        seconds: the time of all its tests, each its median; None when no run is recorded.
    """

    name: str
    items: tuple[Item, ...]

    @property
    def points(self) -> float:
        return sum(item.question.points for item in self.items)

    @property
    def difficulty(self) -> float | None:
        known = [item for item in self.items if item.difficulty is not None]
        points = sum(item.question.points for item in known)
        return sum((item.difficulty or 0) * item.question.points for item in known) / points if points else None

    @property
    def blank(self) -> float | None:
        known = [item.blank for item in self.items if item.blank is not None]
        return statistics.fmean(known) if known else None

    @property
    def seconds(self) -> float | None:
        known = [item.seconds for item in self.items if item.seconds is not None]
        return sum(known) if known else None

    @property
    def waiting(self) -> int:
        return sum(item.waiting for item in self.items)


def by_lab(found: Sequence[Item]) -> list[LabItems]:
    """Items by the notebook that they are in, in their order."""
    names = dict.fromkeys(item.question.notebook for item in found)
    return [LabItems(name, tuple(item for item in found if item.question.notebook == name)) for name in names]


@dataclass
class _Told:
    """What the records say of one question."""

    reasons: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    answers: int = 0
    blank: int = 0


def _item(question: Question, works: Mapping[str, Work], told: _Told) -> Item:
    key = (question.notebook, question.name)
    graded = [(work.scores[key], work.raw) for work in works.values() if key in work.scores and key not in work.waiting]
    shares = [score / question.points for score, _ in graded] if question.points else []
    return Item(
        question,
        answers=len(graded),
        difficulty=statistics.fmean(shares) if shares else None,
        discrimination=_discrimination(graded),
        full=_share(shares, lambda share: share >= 1),
        zero=_share(shares, lambda share: share <= 0),
        reasons=tuple(told.reasons.most_common(REASONS)),
        blank=told.blank / told.answers if told.answers else None,
        seconds=statistics.median(told.seconds) if told.seconds else None,
        waiting=sum(key in work.waiting for work in works.values()),
    )


def _share(shares: Sequence[float], holds: Any) -> float:
    return sum(map(holds, shares)) / len(shares) if shares else 0.0


def _discrimination(graded: Sequence[tuple[float, float]]) -> float | None:
    """Pearson's correlation of a question's points with the sum of all others."""
    if len(graded) < ENOUGH:
        return None
    own, rest = [score for score, _ in graded], [total - score for score, total in graded]
    if max(own) - min(own) < 1e-9 or max(rest) - min(rest) < 1e-9:
        return None
    return statistics.correlation(own, rest)


def _told(records: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, str], _Told]:
    """(notebook, question) -> what grading recorded of it."""
    told: dict[tuple[str, str], _Told] = {}
    for record in records.values():
        for notebook in record["notebooks"]:
            for verdict in notebook["verdicts"]:
                of = told.setdefault((notebook["name"], verdict["grade_id"]), _Told())
                of.answers += 1
                of.blank += verdict["status"] == Status.BLANK or verdict["reason"].startswith("NotImplementedError")
                if verdict["grade_id"] in notebook["seconds"]:
                    of.seconds.append(notebook["seconds"][verdict["grade_id"]])
                if verdict["status"] in (Status.FAILED, Status.PARTIAL, Status.NOT_RUN) and verdict["reason"]:
                    line = verdict["reason"].strip().splitlines()[0]
                    of.reasons[_NUMBER.sub("#", line)[:160]] += 1
    return told


def cronbach(found: Marks, sheet: Sheet) -> float | None:
    """Cronbach's alpha of an assignment over those who handed it in whole; None when there are too few.

    alpha = k / (k - 1) (1 - sum of the questions' variances / variance of the totals); Psychometrika 16, 1951, eq. 2.
    """
    keys = [(question.notebook, question.name) for question in sheet.questions]
    rows = [
        [work.scores[key] for key in keys]
        for (_, assignment), work in found.works.items()
        if assignment == sheet.name and all(key in work.scores for key in keys)
    ]
    if len(rows) < ENOUGH or len(keys) < 2:
        return None
    total = statistics.variance(map(math.fsum, rows))
    if total < 1e-12:
        return None
    parts = math.fsum(statistics.variance(column) for column in zip(*rows, strict=True))
    return len(keys) / (len(keys) - 1) * (1 - parts / total)


@dataclass(frozen=True)
class Concern:
    """A student to look after, and why."""

    person: Person
    reasons: tuple[str, ...]


def concerns(found: Marks, started: Sequence[str]) -> list[Concern]:
    """Students who handed in nothing where most did, or are far behind; the most pressing first.

    Args:
        started: the assignments that count: those that somebody has handed in.
    """
    sheets = [sheet for sheet in found.sheets if sheet.name in started and sheet.points]
    shares = {
        (person.id, sheet.name): work.total / sheet.points
        for person in found.people
        for sheet in sheets
        if (work := found.works.get((person.id, sheet.name)))
    }
    middles = {s.name: statistics.median(v for (_, name), v in shares.items() if name == s.name) for s in sheets}
    listed = []
    for person in found.people:
        missing = [sheet.name for sheet in sheets if (person.id, sheet.name) not in shares]
        behind = [s.name for s in sheets if shares.get((person.id, s.name), 1.0) < 0.5 * middles[s.name]]
        reasons = []
        if missing:
            reasons.append(f"nothing handed in for {', '.join(missing)}")
        if behind:
            reasons.append(f"less than half of the middle mark in {', '.join(behind)}")
        if reasons:
            listed.append((-len(missing) - len(behind), Concern(person, tuple(reasons))))
    return [concern for _, concern in sorted(listed, key=lambda pair: pair[0])]
