"""Timing: what is counted, what is not, and that simulated time is called so."""

import time
import types

import numba
import numpy as np
import pytest
from labkit import hardware, timing


@pytest.fixture(autouse=True)
def not_simulating(monkeypatch):
    """Other tests of the same run switch this process to the simulator for good."""
    monkeypatch.setattr(hardware, "simulating", lambda: False)


def test_a_sleep_is_measured_and_making_its_input_is_not():
    def slow_input():
        time.sleep(0.02)
        return (0.002,)

    taken = timing.measure(time.sleep, slow_input, repeats=5, warmup=1, flush=False)
    assert 0.002 <= taken.median < 0.015
    assert len(taken.seconds) == 5 and taken.clock == "perf_counter" and not taken.simulated


def test_each_repetition_gets_fresh_inputs_and_the_warm_up_does_not_count():
    seen = []
    timing.measure(seen.append, lambda: (object(),), repeats=4, warmup=2, flush=False)
    assert len(seen) == 6 and len(set(map(id, seen))) == 6
    assert len(timing.measure(lambda: None, repeats=1, warmup=0).seconds) == 1


def test_the_cache_is_flushed_before_each_repetition(monkeypatch):
    flushed = []
    monkeypatch.setattr(timing, "_flush_cache", lambda: flushed.append(1))
    timing.measure(lambda: None, repeats=3, warmup=1)
    assert len(flushed) == 4
    timing.measure(lambda: None, repeats=3, warmup=1, flush=False)
    assert len(flushed) == 4


def test_flushing_writes_more_than_the_cache():
    before = timing._cpu_buffer()[0]
    timing._flush_cache()
    assert timing._cpu_buffer()[0] == before + 1 and timing._cpu_buffer().nbytes >= 64 * 2**20


def test_simulated_time_is_labelled_and_nothing_is_flushed(monkeypatch):
    monkeypatch.setattr(hardware, "simulating", lambda: True)
    monkeypatch.setattr(timing, "_flush_cache", lambda: pytest.fail("flushed for a simulated kernel"))
    taken = timing.measure(lambda: None, repeats=2)
    assert taken.simulated and "simulated" in str(taken)


def test_median_spread_and_bandwidth():
    taken = timing.Timing((1.0, 2.0, 3.0, 4.0, 100.0), "perf_counter")
    assert (taken.median, taken.iqr, taken.bandwidth(6)) == (3.0, 2.0, 2.0)
    assert str(taken) == "3 s (median of 5, middle half within 2 s; perf_counter)"
    assert str(timing.Timing((2e-6,), "CUDA events")).startswith("2 µs")


@pytest.mark.parametrize(("repeats", "warmup"), [(0, 1), (3, -1)])
def test_nonsense_is_refused(repeats, warmup):
    with pytest.raises(ValueError, match="at least one repetition"):
        timing.measure(lambda: None, repeats=repeats, warmup=warmup)


def test_the_roof_counts_reading_and_writing(monkeypatch):
    monkeypatch.setattr(timing, "_by_perf_counter", lambda call, arguments: call(*arguments) or 0.5)
    assert timing.roof(2**20, repeats=2) == 2 * 2**20 / 0.5


def test_a_gpu_is_timed_by_events(monkeypatch):
    """The GPU's side, on a stand-in for numba.cuda: what is recorded in which order, and milliseconds into seconds."""
    order = []

    class Event:
        def record(self):
            order.append("record")

        def synchronize(self):
            order.append("wait")

    stand_in = types.SimpleNamespace(event=Event, event_elapsed_time=lambda start, end: 250.0)
    monkeypatch.setattr(numba, "cuda", stand_in, raising=False)
    gpu = hardware.GPU("made up", (9, 0), 1, False, "1", (13, 0))
    monkeypatch.setattr(hardware, "machine", lambda: hardware.Machine("", "x86_64", 1, 1, gpu))
    monkeypatch.setattr(hardware, "simulating", lambda: False)
    taken = timing.measure(lambda x: order.append(np.sum(x)), lambda: (np.ones(3),), repeats=2, warmup=0, flush=False)
    assert taken.clock == "CUDA events" and taken.seconds == (0.25, 0.25)
    assert order == ["record", 3.0, "record", "wait"] * 2
