"""Gate 6: trivial outputs lose: zeros, ones, NaN, a constant, the input, and nothing at all.

Each function that a student writes is wrapped so that it runs the reference and gives back something trivial of the
same type, shape and dtype: the strongest trivial answer there is. Tolerances that zeros satisfy are found this way.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from gradekit.authoring.gates.subject import Fault, Gate, Subject, parsed
from gradekit.authoring.release import solution_lines
from gradekit.authoring.replay import Variant, code
from gradekit.authoring.run import Execution
from gradekit.course import Cell
from gradekit.grading.judge import Status

OUTPUTS = ("zeros", "ones", "nan", "constant", "input")
LOST = (Status.FAILED, Status.PARTIAL, Status.ODD)
_WRAP = '''
def _gradekit_wrap(function, how):
    import functools
    import math

    fill = {"zeros": 0, "ones": 1, "nan": math.nan, "constant": 0.5}.get(how)

    def shape(value):
        return getattr(value, "shape", None)

    def trivial(value, given):
        if how == "input":
            alike = [item for item in given if type(item) is type(value) and shape(item) == shape(value)]
            return alike[0] if alike else value
        if type(value) in (list, tuple):
            return type(value)(trivial(item, given) for item in value)
        if type(value) is dict:
            return {key: trivial(item, given) for key, item in value.items()}
        if type(value) in (int, float):
            return type(value)(fill) if type(value) is float or fill == fill else value
        if type(value).__module__.partition(".")[0] not in ("torch", "numpy") or not hasattr(value, "dtype"):
            return value
        real = "float" in str(value.dtype)
        if not real and (fill != fill or fill == 0.5 or "bool" in str(value.dtype) and fill > 1):
            return value
        return value * 0 + fill if real and fill == fill and _finite(value) else _full(value, fill)

    def _finite(value):
        return bool(((value - value) == 0).all())

    def _full(value, fill):
        if type(value).__module__.startswith("torch"):
            import torch
            return torch.full_like(value, fill)
        import numpy
        return numpy.full_like(value, fill)[()]

    def differs(one, other):
        if one is other:  # NaN included
            return False
        if type(one) in (list, tuple):
            return any(differs(*pair) for pair in zip(one, other))
        if type(one) is dict:
            return any(differs(one[key], other[key]) for key in one)
        return bool(getattr(one != other, "any", lambda: one != other)())

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        value = function(*args, **kwargs)
        other = trivial(value, (*args, *kwargs.values()))
        globals()["_gradekit_changed"] = _gradekit_changed or differs(value, other)
        return other

    return wrapped

_gradekit_changed = False
'''


def variants(subject: Subject) -> Iterator[Variant]:
    for cell in subject.exercises:
        tests = subject.graph.tests_of(cell.index)
        if not tests:
            continue
        needed = subject.graph.closure(tests)
        rest = code(subject.reference, cell.index + 1, needed)
        source = subject.reference.cells[cell.index].source
        for name in written(cell):
            for how in OUTPUTS:
                wrapped = f"{source}\n{_WRAP}\n{name} = _gradekit_wrap({name}, {how!r})\n"
                steps = [(cell.index, wrapped), *rest, (-1, "_gradekit_changed")]
                yield Variant(f"{cell.grade_id}: {name} gives {how}", cell.index, steps, stop_early=True, limit=120)
        if solution_lines(cell):
            steps = [(cell.index, nothing(cell)), *rest]
            yield Variant(f"{cell.grade_id}: nothing", cell.index, steps, stop_early=True, limit=120)


def check(subject: Subject) -> Iterator[Fault]:
    for cell in subject.exercises:
        tests = subject.graph.tests_of(cell.index)
        if not tests:
            yield Fault("no test rests on this exercise; write one that calls what it defines", cell.grade_id)
            continue
        for name in written(cell):
            for how in OUTPUTS:
                run = subject.runs[f"{cell.grade_id}: {name} gives {how}"]
                if not loses(run) and run.beside[-1:] == ["True"]:
                    what = "gives its input back" if how == "input" else f"gives nothing but {how}"
                    yield Fault(f"`{name}` {what} and loses no point; tighten a test", cell.grade_id)
        if solution_lines(cell):
            run = subject.runs[f"{cell.grade_id}: nothing"]
            if not loses(run):
                yield Fault("a body that does nothing loses no point; tighten a test", cell.grade_id)


def loses(run: Execution) -> bool:
    """Whether a test noticed, or none of them can be graded on this machine."""
    return bool(run.ended) or any(verdict.status in (*LOST, Status.NOT_HERE) for verdict in run.verdicts.values())


def written(cell: Cell) -> list[str]:
    """The functions and methods of a cell that a student completes: those that a plain call runs, by dotted name."""
    lines = {number for number, _ in solution_lines(cell)} or set(range(1, len(cell.source.splitlines()) + 1))
    found = []
    try:
        tree = parsed(cell.source)
    except SyntaxError:
        return []
    for node in tree.body:
        owner = f"{node.name}." if isinstance(node, ast.ClassDef) else ""
        for member in node.body if isinstance(node, ast.ClassDef) else [node]:
            if not isinstance(member, ast.FunctionDef) or member.name == "__init__" or member.decorator_list:
                continue  # a decorated one is a kernel, a property, a class method: no plain function
            if lines & set(range(member.lineno, (member.end_lineno or member.lineno) + 1)):
                found.append(owner + member.name)
    return found


def nothing(cell: Cell) -> str:
    """The exercise with a body that runs and does nothing."""
    lines, inside = [], False
    for line in cell.source.splitlines():
        if "BEGIN SOLUTION" in line:
            inside = True
            indent = re.match(r"\s*", line)
            lines.append((indent.group() if indent else "") + "pass")
        elif "END SOLUTION" in line:
            inside = False
        elif not inside:
            lines.append(line)
    return "\n".join(lines)


GATE = Gate(6, "trivial answers", check, variants)
