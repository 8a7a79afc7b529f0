"""Kernels at full size on a GPU, beside a CPU and a library: what "On your Spark" measures.

A kernel lab has a function `full_size()` that returns one `Measured` for each kernel. Roofs are measured in the same
process, because they move with clocks, temperature and neighbours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

from labkit import hardware, timing


@dataclass(frozen=True)
class Measured:
    """One kernel on the GPU, and who did the same work beside it.

    Attributes:
        kernel: its name.
        seconds: the median of its runs, by CUDA events.
        nbytes: what it has to read and write at least; 0 if bytes are not what limits it.
        flops: its floating-point operations; 0 if they are not what limits it.
        cpu_s: seconds of the same work on the CPU; None if it was not measured.
        library_s: seconds of the same work by the library's kernel on the GPU; None if it was not measured.
    """

    kernel: str
    seconds: float
    nbytes: int = 0
    flops: int = 0
    cpu_s: float | None = None
    library_s: float | None = None

    def __post_init__(self) -> None:
        if not self.seconds > 0 or self.nbytes < 0 or self.flops < 0 or bool(self.nbytes) == bool(self.flops):
            raise ValueError(f"{self.kernel}: a time above 0, and either bytes or operations, not {self}")

    def share(self, roofs: Roofs) -> float:
        """The part of the roof that it reaches: of the copy's bandwidth, or of the matrix product's rate."""
        return self.nbytes / self.seconds / roofs.bandwidth if self.nbytes else self.flops / self.seconds / roofs.flops

    @property
    def rate(self) -> str:
        """Bandwidth or arithmetic rate, with its unit."""
        if self.nbytes:
            return f"{self.nbytes / self.seconds / 1e9:.0f} GB/s"
        return f"{self.flops / self.seconds / 1e12:.2f} TFLOP/s"


@dataclass(frozen=True)
class Roofs:
    """What this GPU reached in this process: bytes per second of a copy, float32 operations per second of a product."""

    bandwidth: float
    flops: float


def roofs(n: int = 8192) -> Roofs:
    """Measure both roofs: `labkit.timing.roof`, and cuBLAS on two n x n float32 matrices without TF32.

    Raises:
        NotGradedHere: there is no GPU.
    """
    hardware.require_gpu("the roofs")
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    a, b = torch.randn(n, n, device="cuda"), torch.randn(n, n, device="cuda")
    product = timing.measure(lambda: torch.mm(a, b), repeats=10)
    return Roofs(timing.roof(), 2 * n**3 / product.median)


def cpu_seconds(call: Callable[[], Any], repeats: int = 5) -> float:
    """The median of `repeats` runs on the CPU, after one that does not count. `call` must not leave work to a GPU."""
    call()
    seconds = []
    for _ in range(repeats):
        start = perf_counter()
        call()
        seconds.append(perf_counter() - start)
    return median(seconds)


def show(rows: Sequence[Measured], against: Roofs) -> None:
    """Print one line for each kernel: time, rate, share of its roof, and factors against CPU and library."""
    for row in rows:
        cpu = f"{row.cpu_s / row.seconds:7.1f} x CPU" if row.cpu_s else ""
        library = f"{row.seconds / row.library_s:6.2f} x the library's time" if row.library_s else ""
        share = f"{row.share(against):4.0%} of the roof"
        print(f"{row.kernel:24} {1e3 * row.seconds:9.3f} ms {row.rate:>14} {share}  {cpu} {library}".rstrip())
