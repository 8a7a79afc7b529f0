"""Gate 8: no cell over 10 s, no notebook over 30 s, 2 GB at most, without a GPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from gradekit.authoring.gates.subject import Fault, Gate, Subject

CELL_S, NOTEBOOK_S, PEAK_BYTES = 10.0, 30.0, 2e9


def check(subject: Subject) -> Iterator[Fault]:
    run = subject.kernel_run
    seconds = run.seconds
    if _is_slow(seconds):  # a machine's other work and a cold disk only ever add: the lesser of two runs counts
        again = subject.run_in_kernel().seconds
        seconds = {index: min(took, again.get(index, took)) for index, took in seconds.items()}
    for index, took in seconds.items():
        if took > CELL_S:
            yield Fault(f"takes {took:.1f} s, at most {CELL_S:g} are allowed; use less data", subject.name_of(index))
    total = sum(seconds.values())
    if total > NOTEBOOK_S:
        slow = sorted(seconds, key=lambda index: -seconds[index])[:3]
        names = ", ".join(f"{subject.name_of(index)} {seconds[index]:.1f} s" for index in slow)
        yield Fault(f"the notebook takes {total:.1f} s, at most {NOTEBOOK_S:g} are allowed; the slowest: {names}")
    if run.peak > PEAK_BYTES:
        yield Fault(f"the notebook takes {run.peak / 1e9:.2f} GB, at most {PEAK_BYTES / 1e9:g} are allowed")
    if not run.peak:
        yield Fault("its memory was not measured: the kernel ended before it could say")


def _is_slow(seconds: Mapping[int, float]) -> bool:
    return sum(seconds.values()) > NOTEBOOK_S or max(seconds.values(), default=0.0) > CELL_S


GATE = Gate(8, "cost", check)
