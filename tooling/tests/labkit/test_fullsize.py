"""What is made of measured times; the measuring itself needs a GPU."""

from __future__ import annotations

import pytest
from labkit import fullsize, hardware
from labkit.fullsize import Measured, Roofs

ROOFS = Roofs(bandwidth=200e9, flops=20e12)


def test_a_rate_and_a_share_are_of_what_limits_the_kernel() -> None:
    moved = Measured("sum", 0.01, nbytes=10**9)
    assert (moved.rate, moved.share(ROOFS)) == ("100 GB/s", 0.5)
    computed = Measured("product", 0.5, flops=10**12)
    assert (computed.rate, computed.share(ROOFS)) == ("2.00 TFLOP/s", 0.1)


@pytest.mark.parametrize(("seconds", "nbytes", "flops"), [(0.0, 8, 0), (1.0, 0, 0), (1.0, 8, 8), (1.0, -8, 0)])
def test_a_time_and_one_thing_that_limits(seconds: float, nbytes: int, flops: int) -> None:
    with pytest.raises(ValueError, match="either bytes or operations"):
        Measured("kernel", seconds, nbytes, flops)


def test_factors_are_shown_where_they_were_measured(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [Measured("sum", 0.01, nbytes=10**9), Measured("product", 0.5, flops=10**12, cpu_s=50.0, library_s=0.4)]
    fullsize.show(rows, ROOFS)
    first, second = capsys.readouterr().out.splitlines()
    assert first == "sum                         10.000 ms       100 GB/s  50% of the roof"
    assert "100.0 x CPU" in second and "1.25 x the library's time" in second


def test_a_cpus_time_leaves_the_first_run_out() -> None:
    calls: list[int] = []
    assert fullsize.cpu_seconds(lambda: calls.append(1), repeats=3) >= 0
    assert len(calls) == 4


@pytest.mark.skipif(hardware.machine().gpu is not None, reason="there is a GPU")
def test_without_a_gpu_no_roof_is_made_up() -> None:
    with pytest.raises(hardware.NotGradedHere):
        fullsize.roofs()
