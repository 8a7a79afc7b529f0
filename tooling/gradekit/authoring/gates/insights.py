"""Gate 10: insights call the student's code and a clock, an allocator or a counter, and bear unfinished code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from gradekit.authoring.gates.subject import Fault, Gate, Subject, errors, parsed
from gradekit.authoring.gates.untouched import variants
from gradekit.course import Role

WANTED = 3
#: What measures, as code calls it.
CLOCKS = {"Event", "elapsed_time", "measure", "monotonic", "perf_counter", "perf_counter_ns", "process_time", "timeit"}
ALLOCATORS = {
    *("element_size", "get_traced_memory", "getrusage", "getsizeof", "itemsize", "max_memory_allocated"),
    *("mem_get_info", "memory_allocated", "memory_info", "memory_reserved", "memory_stats", "nbytes", "numel"),
    *("saved_tensors_hooks", "tracemalloc", "untyped_storage"),
}
COUNTERS = {
    *("FlopCounterMode", "count_nonzero", "cudasim"),
    *("get_total_flops", "loads", "profile", "stores"),
}
METERS = CLOCKS | ALLOCATORS | COUNTERS
_HEADING = re.compile(r"^### Systems insight (\d) of 3\b", re.MULTILINE)


def check(subject: Subject) -> Iterator[Fault]:
    regions = dict(insights(subject))
    if sorted(number for number, _ in regions.values()) != list(range(1, WANTED + 1)):
        got = ", ".join(str(number) for number, _ in regions.values()) or "none"
        yield Fault(f"there must be '### Systems insight 1 of 3' to '3 of 3'; there are: {got}")
    failed = dict(errors(subject.runs["untouched"]))
    for heading, (_, cells) in regions.items():
        where = subject.name_of(heading)
        if not cells:
            yield Fault("has no code that measures; add a function that does, and call it", where)
            continue
        needed = subject.graph.closure(cells)
        if not any(subject.graph.roles[index] is Role.EXERCISE for index in needed):
            yield Fault("measures nothing that the student wrote; let it call the student's functions", where)
        given = (i for i in needed if subject.graph.roles[i] not in (Role.EXERCISE, Role.TEST))
        if not any(METERS & identifiers(subject.reference.cells[index].source) for index in given):
            yield Fault("reads no clock, allocator or counter; measure what it claims", where)
        for index in cells:
            if index in failed:
                message = f"fails on unfinished code ({failed[index]}); run it by insight.run"
                yield Fault(message, subject.name_of(index))


def insights(subject: Subject) -> Iterator[tuple[int, tuple[int, list[int]]]]:
    """For the heading cell of each insight: its number, and the code cells up to the next heading."""
    heading, number, cells = None, 0, []
    for index, cell in enumerate(subject.lab.notebook.cells):
        if cell.cell_type == "code":
            cells.append(index)
        elif re.search(r"^##", cell.source, re.MULTILINE):
            if heading is not None:
                yield heading, (number, cells)
            match = _HEADING.search(cell.source)
            heading, number, cells = (index, int(match[1]), []) if match else (None, 0, [])
    if heading is not None:
        yield heading, (number, cells)


def identifiers(source: str) -> set[str]:
    """The names and attributes that a cell uses, those that it only imports left out."""
    found = set()
    for node in ast.walk(parsed(source)):
        if isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.Name):
            found.add(node.id)
    return found


GATE = Gate(10, "insights", check, variants, everywhere=False, prose=True)
