"""Gate 12: nothing is fetched from a network.

The run in the sandbox has none; this looks at what was asked for, which an ``except`` may have kept quiet about, and
at commands that fetch.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from gradekit.authoring.gates.subject import Fault, Gate, Subject

FETCHING = re.compile(r"^\s*(?:!|%|%%(?:bash|sh)\b.*)\s*(?:.*\s)?(pip|conda|wget|curl|git\s+clone|apt(?:-get)?)\b")


def check(subject: Subject) -> Iterator[Fault]:
    for cell in subject.lab.cells:
        if cell.kind != "code":
            continue
        for number, line in enumerate(cell.source.splitlines(), 1):
            match = FETCHING.match(line)
            if match:
                message = f"runs {match[1]}, which fetches; declare the dependency or make the data from a seed"
                yield Fault(message, subject.name_of(cell.index), number)
    for index, asked in subject.kernel_run.fetched.items():
        yield Fault(f"asks the network for {asked}; make it from a seed, offline", subject.name_of(index))


GATE = Gate(12, "network", check)
