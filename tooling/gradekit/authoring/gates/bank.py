"""Gate 5: every ``correct_*`` earns full marks, every ``wrong_*`` loses exactly what it names."""

from __future__ import annotations

from collections.abc import Iterator

from gradekit.authoring import answers
from gradekit.authoring.answer_runs import graded
from gradekit.authoring.answers import Kind
from gradekit.authoring.gates.subject import Fault, Gate, Subject
from gradekit.authoring.replay import Variant, variant

WANTED = {Kind.CORRECT: 2, Kind.WRONG: 5}


def variants(subject: Subject) -> Iterator[Variant]:
    for answer in subject.bank:
        typed = answers.apply(subject.stub, subject.lab, answer)
        yield variant(answer.name, subject.reference, typed, subject.graph.core)


def check(subject: Subject) -> Iterator[Fault]:
    for kind, wanted in WANTED.items():
        there = sum(answer.kind is kind for answer in subject.bank)
        if subject.ours and there < wanted:
            place = answers.folder(subject.course, subject.lab)
            yield Fault(f"the bank has {there} {kind}_*.py, at least {wanted} are wanted; add them in {place}")
    for answer in subject.bank:
        result = graded(subject.lab, answer, subject.runs[answer.name])
        if result.ended:
            yield Fault(f"{answer.name}: its run ended early: {result.ended}")
        for grade_id, surprise in result.surprises.items():
            yield Fault(f"{answer.name} {surprise}; mend the test or the answer", grade_id)


GATE = Gate(5, "answers", check, variants)
