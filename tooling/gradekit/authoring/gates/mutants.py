"""Gate 7: at least 95 % of the small changes to the reference are noticed by a test."""

from __future__ import annotations

from collections.abc import Iterator

from gradekit.authoring.gates.subject import Fault, Gate, Subject
from gradekit.authoring.mutation import Fate, mutate

KILLED = 0.95


def check(subject: Subject) -> Iterator[Fault]:
    report = mutate(subject.course, subject.lab, jobs=subject.jobs, fresh=subject.fresh)
    for mistake in report.mistakes:
        yield Fault(mistake)
    judged = [m for m in report.mutants if m.fate not in (Fate.EQUIVALENT, Fate.NOT_HERE)]
    survived = [m for m in judged if m.fate is Fate.SURVIVED]
    if judged and 1 - len(survived) / len(judged) < KILLED:
        share = 1 - len(survived) / len(judged)
        yield Fault(
            f"{share:.0%} of {len(judged)} mutants are noticed, at least {KILLED:.0%} are wanted; "
            "for each one below, tighten a test, or list it in equivalent.yaml with the reason"
        )
        for mutant in survived:
            message = f"survives: {mutant.before.strip()}  ->  {mutant.after.strip()}  ({mutant.operator}, {mutant.id})"
            yield Fault(message, mutant.cell, mutant.line)


GATE = Gate(7, "mutants", check)
