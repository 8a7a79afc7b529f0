"""Honest timing: warmed up, on fresh inputs, with a cold cache, and never a single number without its spread.

Times are in seconds, sizes in bytes, bandwidths in bytes per second (1 GB/s = 1e9 bytes per second, as on data sheets).
Median and interquartile range are reported and not mean and standard deviation, because run times are skewed to the
right (Hoefler and Belli, "Scientific Benchmarking of Parallel Computing Systems", SC 2015, rules 5 to 8).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from time import perf_counter
from typing import Any, Literal

import numpy as np

from labkit import hardware

Clock = Literal["CUDA events", "perf_counter", "perf_counter around a simulated kernel"]


@dataclass(frozen=True)
class Timing:
    """What `measure` measured.

    Attributes:
        seconds: one entry per repetition, in the order in which they ran.
        clock: what took them. Seconds around a simulated kernel say how long the simulator took, nothing of a GPU.
    """

    seconds: tuple[float, ...]
    clock: Clock

    @property
    def simulated(self) -> bool:
        return self.clock == "perf_counter around a simulated kernel"

    @property
    def median(self) -> float:
        """Seconds."""
        return float(np.median(self.seconds))

    @property
    def iqr(self) -> float:
        """Interquartile range: the width, in seconds, of the middle half of the repetitions."""
        low, high = np.percentile(self.seconds, (25, 75))
        return float(high - low)

    def bandwidth(self, nbytes: int) -> float:
        """Bytes per second, at the median, if `nbytes` were read and written in each repetition."""
        return nbytes / self.median

    def __str__(self) -> str:
        scale, unit = next((s, u) for s, u in ((1, "s"), (1e3, "ms"), (1e6, "µs")) if self.median * s >= 1 or u == "µs")
        return (
            f"{self.median * scale:.3g} {unit} (median of {len(self.seconds)}, middle half within "
            f"{self.iqr * scale:.2g} {unit}; {self.clock})"
        )


def measure(
    call: Callable[..., Any],
    fresh: Callable[[], tuple[Any, ...]] = tuple,
    *,
    repeats: int = 20,
    warmup: int = 3,
    flush: bool = True,
) -> Timing:
    """Time `call(*fresh())`, with new inputs made outside the clock for each repetition.

    Fresh inputs keep a result from being remembered, and keep an in-place kernel from working on its own output.

    Args:
        call: what to time. On a GPU only what it launches on the default stream is timed.
        fresh: makes the arguments of one repetition; without it `call` takes none.
        repeats: repetitions that count.
        warmup: repetitions before them that do not: compilation, allocation, clocks going up.
        flush: before each repetition write more memory than the last-level cache holds, so that the inputs come from
            memory. Skipped in the simulator.

    Raises:
        ValueError: repeats is less than 1, or warmup is negative.
    """
    if repeats < 1 or warmup < 0:
        raise ValueError(f"at least one repetition, and no negative warm-up: {repeats=}, {warmup=}")
    clock, time_one = _clock()
    seconds = []
    for repetition in range(warmup + repeats):
        arguments = fresh()
        if flush and clock != "perf_counter around a simulated kernel":
            _flush_cache()
        elapsed = time_one(call, arguments)
        if repetition >= warmup:
            seconds.append(elapsed)
    return Timing(tuple(seconds), clock)


def roof(nbytes: int = 2**28, *, repeats: int = 10) -> float:
    """The measured bandwidth of a plain copy, in bytes per second: what a kernel that only moves data could reach.

    A copy reads `nbytes` and writes `nbytes`; both count (McCalpin's STREAM, "Copy"). Measure it in the run whose
    kernels are held against it: it moves with clocks, temperature and neighbours. On a machine without a GPU it is
    the CPU's.
    """
    if hardware.machine().gpu is None or hardware.simulating():
        source = np.ones(nbytes // 4, dtype=np.float32)
        target = np.empty_like(source)
        return measure(np.copyto, lambda: (target, source), repeats=repeats).bandwidth(2 * nbytes)
    return _gpu_roof(nbytes, repeats)


def _gpu_roof(nbytes: int, repeats: int) -> float:
    from numba import cuda

    copy = _copy_kernel()
    source = cuda.to_device(np.ones(nbytes // 4, dtype=np.float32))
    target = cuda.device_array_like(source)
    blocks = 8 * cuda.get_current_device().MULTIPROCESSOR_COUNT
    return measure(lambda: copy[blocks, 256](source, target), repeats=repeats).bandwidth(2 * nbytes)


def _clock() -> tuple[Clock, Callable[[Callable[..., Any], tuple[Any, ...]], float]]:
    if hardware.simulating():
        return "perf_counter around a simulated kernel", _by_perf_counter
    if hardware.machine().gpu is None:
        return "perf_counter", _by_perf_counter
    return "CUDA events", _by_events


def _by_perf_counter(call: Callable[..., Any], arguments: tuple[Any, ...]) -> float:
    start = perf_counter()
    call(*arguments)
    return perf_counter() - start


def _by_events(call: Callable[..., Any], arguments: tuple[Any, ...]) -> float:
    """Seconds between two events on the default stream, which is torch's and CuPy's default stream too."""
    from numba import cuda

    start, end = cuda.event(), cuda.event()
    start.record()
    call(*arguments)
    end.record()
    end.synchronize()
    return cuda.event_elapsed_time(start, end) / 1e3


def _flush_cache() -> None:
    """Write a buffer of twice the size of the last-level cache, on the side that is timed."""
    if _clock()[0] == "CUDA events":
        buffer = _gpu_buffer()
        _copy_kernel()[256, 256](buffer, buffer)
    else:
        _cpu_buffer()[:] += 1


@cache
def _cpu_buffer() -> np.ndarray:
    # Not every machine tells; 64 MiB is more than most have.
    size = os.sysconf("SC_LEVEL3_CACHE_SIZE") if "SC_LEVEL3_CACHE_SIZE" in os.sysconf_names else 0
    return np.zeros(2 * max(size, 32 * 2**20), dtype=np.uint8)


@cache
def _gpu_buffer() -> Any:
    from numba import cuda

    size = cuda.get_current_device().L2_CACHE_SIZE
    return cuda.to_device(np.zeros(2 * size // 4, dtype=np.float32))


@cache
def _copy_kernel() -> Any:
    from numba import cuda

    @cuda.jit
    def copy(source: Any, target: Any) -> None:
        for i in range(cuda.grid(1), source.size, cuda.gridsize(1)):  # type: ignore[call-arg]
            target[i] = source[i]

    return copy
