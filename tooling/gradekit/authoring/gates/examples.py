"""Gate 9: the examples in the docstrings run, and are true."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator

from gradekit.authoring.gates.subject import Fault, Gate, Subject, parsed
from gradekit.authoring.replay import Variant
from gradekit.course import Cell

_RUN = '''
def _gradekit_examples(name, text, names):
    import doctest
    said = []
    test = doctest.DocTestParser().get_doctest(text, names, name, None, 0)
    doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test, out=said.append)
    return "".join(said)
'''


def docstrings(cell: Cell) -> dict[str, tuple[int, str]]:
    """The first line and the text of each docstring of a cell that has examples, by the name of what it documents."""
    found = {}
    for node in ast.walk(parsed(cell.source)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            text = ast.get_docstring(node)
            if text and ">>>" in text:
                found[node.name] = (node.body[0].lineno, text)
    return found


def variants(subject: Subject) -> Iterator[Variant]:
    core = sorted(subject.graph.core)
    for cell in subject.exercises:
        behind = next((index for index in core if index > cell.index), None)
        steps = [(-1, _RUN)]
        for name, (_, text) in docstrings(cell).items():
            steps.append((-1, f"_gradekit_examples({name!r}, {json.dumps(text)}, globals())"))
        yield Variant(f"{cell.grade_id}: examples", behind, steps)


def check(subject: Subject) -> Iterator[Fault]:
    for cell in subject.exercises:
        texts = docstrings(cell)
        if subject.ours and not texts:
            yield Fault("its docstring has no EXAMPLE with >>>; add one that runs", cell.grade_id)
        run = subject.runs[f"{cell.grade_id}: examples"]
        if run.ended:
            yield Fault(f"its examples did not come to an end: {run.ended}", cell.grade_id)
        for (line, _), said in zip(texts.values(), run.beside[1:], strict=False):
            text = said if not said.startswith(("'", '"')) else ast.literal_eval(said)
            if text:
                yield Fault(f"an example is not true:\n{_shown(text)}", cell.grade_id, line)


def _shown(text: str) -> str:
    """doctest's report without its frame of stars and its file name."""
    lines = [line for line in text.splitlines() if not line.startswith(("***", "File ", "Line "))]
    return "\n".join(f"    {line}" for line in lines)


GATE = Gate(9, "examples", check, variants)
