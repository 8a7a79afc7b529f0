"""Points that evidence speaks against are held: zero until a person has read it and gives points.

Evidence at a cell without points of its own (an exercise, a cell that the student added) holds every test behind it:
whatever was done there was done to the process in which they ran.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from gradekit.course import Role
from gradekit.grading.job import Target
from gradekit.grading.judge import Status, Verdict
from gradekit.integrity.evidence import Evidence

TODO = (
    "To do: read the answer and its tests, run them by hand if in doubt, and give the points that it has earned; "
    "no points are given until then."
)


def hold(
    verdicts: Iterable[Verdict], evidence: Iterable[Evidence], order: Sequence[str]
) -> tuple[tuple[Verdict, ...], dict[str, list[Evidence]]]:
    """Verdicts in which points are held, and what each is held for.

    Args:
        evidence: of all kinds; that which does not hold is passed over.
        order: the names of the notebook's cells, as evidence calls them.
    """
    verdicts = tuple(verdicts)
    points = {verdict.grade_id: verdict for verdict in verdicts}
    place = {name: index for index, name in enumerate(order)}
    held: dict[str, list[Evidence]] = {}
    for one in evidence:
        if not one.holds:
            continue
        concerned = [one.cell] if one.cell in points else [
            grade_id for grade_id in points if place.get(grade_id, 0) >= place.get(one.cell, 0)
        ]
        for grade_id in concerned:
            if points[grade_id].score:  # nothing was earned, or only a person can say
                held.setdefault(grade_id, []).append(one)
    out = []
    for verdict in verdicts:
        if reasons := held.get(verdict.grade_id):
            why = "; ".join(dict.fromkeys(one.what for one in reasons))
            verdict = replace(verdict, status=Status.HELD, score=0.0, would_be=verdict.score, reason=why)
        out.append(verdict)
    return tuple(out), held


def comments(target: Target, verdicts: Iterable[Verdict], held: Mapping[str, list[Evidence]]) -> dict[str, str]:
    """What a person reads at the answer above a held test, where the formgrader shows comments; by grade id."""
    by_id = {verdict.grade_id: verdict for verdict in verdicts}
    notes: dict[str, list[str]] = {}
    for grade_id, answer in answer_above(target).items():
        if grade_id in held:
            notes.setdefault(answer, []).append(_note(by_id[grade_id], held[grade_id]))
    return {grade_id: "\n\n".join([*texts, TODO]) for grade_id, texts in notes.items()}


def answer_above(target: Target) -> dict[str, str]:
    """Grade id of each cell -> that of the answer at which a comment on it is shown: its own exercise, or the last."""
    above = {}
    answer = next((cell.grade_id for cell in target.cells if cell.solution), "")
    for cell in target.cells:
        if cell.solution and cell.role is Role.EXERCISE:
            answer = cell.grade_id
        if answer:
            above[cell.grade_id] = answer
    return above


def _note(verdict: Verdict, evidence: Sequence[Evidence]) -> str:
    found = "\n".join(f"- {what}" for what in dict.fromkeys(f"{one.kind}, {one.cell}: {one.what}" for one in evidence))
    return f"Held for a person: {verdict.grade_id}, {verdict.would_be:g} of {verdict.points:g} points. Found:\n{found}"
