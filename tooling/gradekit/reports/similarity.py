"""The page on submissions that share much: answers side by side, as a lead for a person, never a mark."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbgrader.api import Gradebook

from gradekit.course import Course
from gradekit.reports.class_report import write_page
from gradekit.reports.marks import Person
from gradekit.similarity.compare import ENOUGH, Comparison, Lead, Side

#: Pairs that are shown side by side; the table has all of them.
SHOWN = 100
#: Longer answers are cut around what is shared: so many lines are left before and behind it.
AROUND = 3


@dataclass(frozen=True)
class Segment:
    """A piece of an answer; ``shared`` is what the other answer has as well."""

    text: str
    shared: bool


def write(course: Course, comparison: Comparison) -> Path:
    """Write ``reports/similarity-<assignment>.html`` anew. Returns where it lies."""
    with Gradebook(course.db_url, course.course_id) as gradebook:
        people = {s.id: Person(s.id, s.first_name or "", s.last_name or "", s.email or "") for s in gradebook.students}
    for student in comparison.students:
        people.setdefault(student, Person(student, "", "", ""))
    path = course.root / "reports" / f"similarity-{comparison.assignment}.html"
    path.parent.mkdir(exist_ok=True)
    return write_page(
        path, "similarity", course, found=comparison, people=people, segments=segments, shown=SHOWN, enough=ENOUGH
    )


def segments(side: Side) -> Iterator[Segment]:
    """The source of an answer in pieces, shared or not; what is far from anything shared is cut."""
    source, place = side.answer.source, 0
    for start, end in _merged(side.spans):
        yield Segment(_cut(source[place:start], first=place == 0), False)
        yield Segment(source[start:end], True)
        place = end
    yield Segment(_cut(source[place:], last=True), False)


def _merged(spans: tuple[tuple[int, int], ...]) -> Iterator[tuple[int, int]]:
    """Spans in order that do not overlap."""
    last = 0
    for start, end in spans:
        if end > last:
            yield max(start, last), end
            last = end


def _cut(text: str, *, first: bool = False, last: bool = False) -> str:
    lines = text.split("\n")
    before, behind = (0 if first else AROUND), (0 if last else AROUND)
    if len(lines) <= before + behind + 2:
        return text
    dropped = f"... ({len(lines) - before - behind} lines)"
    return "\n".join([*lines[:before], dropped, *(lines[-behind:] if behind else [])])


def to_json(comparison: Comparison) -> dict[str, Any]:
    """The leads as plain data, without the answers themselves."""
    return {
        "assignment": comparison.assignment,
        "threshold": comparison.threshold,
        "students": len(comparison.students),
        "common": comparison.common,
        "seconds": comparison.seconds,
        "left_out": comparison.left_out,
        "leads": [_lead(lead) for lead in comparison.leads],
    }


def _lead(lead: Lead) -> dict[str, Any]:
    matches = [
        {
            "notebooks": [match.left.answer.notebook, match.right.answer.notebook],
            "cells": [match.left.answer.cell, match.right.answer.cell],
            "kind": match.left.answer.kind,
            "shared_tokens": match.shared,
            "shares": [round(match.left.share, 3), round(match.right.share, 3)],
            "longest_run": match.longest,
        }
        for match in lead.matches
    ]
    return {"students": [lead.left, lead.right], "shared_tokens": lead.shared, "answers": matches}
