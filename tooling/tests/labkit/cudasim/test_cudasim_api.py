"""What a notebook and a lab's tests use: enabling, the profile's counts, checks, launches, events."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import warnings

import numpy as np
import pytest
from labkit import cudasim
from numba import float32, float64

cuda = cudasim.enable()


def python(code: str) -> str:
    out = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120)
    assert out.returncode == 0, out.stderr[-3000:]
    return out.stdout


DOUBLE = """
    import sys
    def use(cuda):
        import linecache, numpy as np
        text = "def double(x):\\n    i = cuda.grid(1)\\n    x[i] *= 2\\n"
        linecache.cache["<cell-1>"] = (len(text), None, text.splitlines(True), "<cell-1>")
        space = {"cuda": cuda}
        exec(compile(text, "<cell-1>", "exec"), space)
        k = cuda.jit(space["double"])
        assert type(k).__module__ == "labkit.cudasim.host", type(k)
        x = np.ones(64)
        k[2, 32](x)
        assert x.sum() == 128
"""


@pytest.mark.parametrize("before", ["", "import numba", "from numba import cuda as early", "import numba.cuda, torch"])
def test_enable_works_before_and_after_numba(before):
    python(
        DOUBLE
        + f"""
    {before}
    from labkit import cudasim
    cudasim.enable()
    cudasim.enable()
    from numba import cuda
    use(cuda)
    if "early" in globals():
        assert early is cuda
        use(early)
    """
    )


def test_enable_works_after_a_fork_of_a_process_that_has_numba():
    python(
        DOUBLE
        + """
    import os, numba
    pid = os.fork()
    if pid == 0:
        from labkit import cudasim
        cudasim.enable()
        from numba import cuda
        use(cuda)
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
    """
    )


def test_import_adds_little_to_numba():
    times = []
    for _ in range(3):
        times.append(
            float(
                python("""
            import numba, time
            t = time.process_time()
            from labkit import cudasim
            print(time.process_time() - t)
        """)
            )
        )
    assert min(times) < 0.3


def test_there_is_no_gpu_and_it_says_so():
    assert not cuda.is_available()
    assert cudasim.is_enabled()
    assert cuda.get_current_device().compute_capability == (9, 0)


@cuda.jit
def strided(x, out, step):
    i = cuda.grid(1)
    out[i] = x[i * step]


@pytest.mark.parametrize(("step", "sectors"), [(1, 4), (2, 8), (4, 16), (8, 32), (32, 32)])
def test_sectors_of_a_strided_read(step, sectors):
    """32 lanes of 4 bytes, `step` elements apart: ceil(32 * 4 * step / 32) sectors, at most one a lane."""
    x, out = np.arange(64 * step, dtype=np.float32), np.zeros(64, np.float32)
    with cudasim.profile() as p:
        strided[1, 64](x, out, step)
    c = p.line("out[i] = x[i * step]")
    assert (c.loads, c.stores, c.requests) == (64, 64, 4)
    assert c.sectors == 2 * sectors + 2 * 4
    assert c.efficiency == pytest.approx(512 / (32 * c.sectors))
    np.testing.assert_array_equal(out, x[::step])


@cuda.jit
def misaligned(x, out):
    i = cuda.grid(1)
    out[i] = x[i + 1]


def test_a_shift_by_one_element_costs_one_sector_more():
    with cudasim.profile() as p:
        misaligned[1, 32](np.zeros(33, np.float32), np.zeros(32, np.float32))
    assert p.total.sectors == 5 + 4


@cuda.jit
def columns(out, pitch):
    s = cuda.shared.array(32 * 33, float32)
    t = cuda.threadIdx.x
    for k in range(32):
        s[k * pitch + t] = k
    cuda.syncthreads()
    acc = float32(0)
    for k in range(32):
        acc += s[t * pitch + k]
    out[t] = acc


@pytest.mark.parametrize(("pitch", "ways"), [(32, 32), (33, 1)])
def test_bank_conflicts_of_a_column(pitch, ways):
    with cudasim.profile() as p:
        columns[1, 32](np.zeros(32, np.float32), pitch)
    read = p.line("acc += s[t * pitch + k]")
    assert (read.shared_requests, read.ways, read.max_ways) == (32, ways, ways)
    assert read.conflicts == 32 * (ways - 1)
    assert p.line("s[k * pitch + t] = k").conflicts == 0
    assert p.total.barriers == 1


@cuda.jit
def wide(out):
    s = cuda.shared.array(64, float64)
    t = cuda.threadIdx.x
    s[t] = t
    cuda.syncthreads()
    out[t] = s[0] + s[t]


def test_eight_byte_elements_take_two_passes_and_a_broadcast_has_no_conflict():
    with cudasim.profile() as p:
        wide[1, 32](np.zeros(32))
    c = p.line("out[t] = s[0] + s[t]")
    assert (c.shared_requests, c.conflicts) == (2, 0)
    assert p.line("s[t] = t").wavefronts == 2


@cuda.jit
def odd_even(x, hits):
    t = cuda.threadIdx.x
    if t % 2 == 0:
        x[t] = 1
    if t < 32:
        x[t] = 2
    cuda.atomic.add(hits, t // 16, 1)


def test_divergence_and_contention():
    with cudasim.profile() as p:
        odd_even[1, 64](np.zeros(64, np.float32), np.zeros(4, np.int32))
    assert (p.line("if t % 2").branches, p.line("if t % 2").divergent) == (2, 2)
    assert (p.line("if t < 32").branches, p.line("if t < 32").divergent) == (2, 0)
    c = p.line("cuda.atomic.add")
    assert (c.atomics, c.atomic_requests, c.contention, c.serialised) == (64, 2, 16, 32)


def test_the_profile_is_a_table_and_a_picture():
    import matplotlib

    matplotlib.use("Agg")
    with cudasim.profile() as p:
        strided[1, 64](np.zeros(128, np.float32), np.zeros(64, np.float32), 2)
    assert "out[i] = x[i * step]" in str(p)
    ax = p.picture("x[i * step]")
    assert ax.get_xlabel() == "lane of the warp"
    assert len(ax.collections[0].get_offsets()) == 32
    matplotlib.pyplot.close(ax.figure)


def test_occupancy_names_what_limits_it():
    assert cudasim.occupancy(256, 0, 0, (9, 0)) == {"blocks": 8, "warps": 64, "fraction": 1.0, "limited_by": "threads"}
    assert cudasim.occupancy(128, 48 * 1024, 0, (9, 0))["limited_by"] == "shared memory"
    assert cudasim.occupancy(256, 0, 255, (12, 0))["limited_by"] == "registers"


@cuda.jit
def racy(out):
    out[0] = cuda.threadIdx.x


def test_races_are_warned_of_raised_or_collected():
    with pytest.warns(cudasim.RaceWarning, match=r"out\[0\]"):
        racy[1, 64](np.zeros(1))
    try:
        cudasim.enable(races="raise")
        with pytest.raises(cudasim.RaceError) as e:
            racy[1, 64](np.zeros(1))
        assert e.value.races[0].index == (0,)
        cudasim.enable(races="off")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            racy[1, 64](np.zeros(1))
    finally:
        cudasim.enable()
    with cudasim.racecheck() as found:
        racy[1, 64](np.zeros(1))
    assert [r.lines for r in found] == [(found[0].first.line,) * 2]


def test_check_leaves_its_arguments_alone_and_names_what_depends_on_the_order():
    out = np.zeros(1)
    verdict = cudasim.check(racy, 1, 64, out)
    assert out[0] == 0
    assert not verdict.ok
    assert verdict.unstable == ("out",)
    with pytest.raises(cudasim.RaceError):
        verdict.raise_if_bad()
    x = np.arange(64, dtype=np.float32)
    verdict = cudasim.check(strided.py_func, 1, 64, x, np.zeros(64, np.float32), 1)
    assert verdict.ok, str(verdict)
    np.testing.assert_array_equal(verdict.outputs["out"], x)


def test_device_arrays_streams_events_forall_and_reduce():
    x = cuda.to_device(np.arange(100, dtype=np.float32))
    y = cuda.device_array(100, np.float32)
    start, end = cuda.event(), cuda.event()
    start.record()
    strided.forall(100)
    strided[4, 25, cuda.stream()](x, y, 1)
    end.record()
    assert (
        cuda.event_elapsed_time(start, end) >= 0
        if hasattr(cuda, "event_elapsed_time")
        else start.elapsed_time(end) >= 0
    )
    assert start.simulated
    np.testing.assert_array_equal(y.copy_to_host(), np.arange(100))
    assert cuda.reduce(lambda a, b: a + b)(np.arange(10)) == 45


def test_a_cell_is_named_as_a_cell():
    from labkit.cudasim.source import where

    assert where("/tmp/ipykernel_4711/123456.py", 3) == "cell line 3"
    assert where("/home/someone/kernels.py", 3) == "kernels.py line 3"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: strided[1, 32](np.zeros(32)), "takes 3 arguments"),
        (lambda: strided[1, 32]([1, 2], np.zeros(2), 1), "is a list"),
        (lambda: strided[0, 32](np.zeros(32), np.zeros(32), 1), "at least 1"),
        (lambda: strided[1, 32, 0, 300000](np.zeros(32), np.zeros(32), 1), "dynamic shared memory"),
        (lambda: strided[1, (1, 1, 65)](np.zeros(65), np.zeros(65), 1), "at most 64"),
    ],
)
def test_a_wrong_launch_is_refused_in_words(call, message):
    with pytest.raises(cudasim.LaunchError, match=message):
        call()


def test_a_failed_launch_leaves_host_arrays_alone():
    x = np.arange(8, dtype=np.float32)
    out = np.full(16, 5, np.float32)
    with pytest.raises(cudasim.OutOfBoundsError):
        strided[1, 16](x, out, 1)
    np.testing.assert_array_equal(out, 5)


@cuda.jit
def types_of(x, out):
    i = cuda.grid(1)
    out[i] = x[i] + 1.0 / 3.0


@pytest.mark.parametrize("engine", ["lockstep", "threads"])
def test_a_float_literal_is_double_precision_as_on_the_gpu(engine):
    x, out = np.ones(4, np.float32), np.zeros(4)
    cudasim.run(types_of, 1, 4, x, out, engine=engine)
    np.testing.assert_array_equal(out, 1 + 1 / 3)


def test_a_profile_in_the_thread_engine_says_what_it_did_not_count():
    points = np.zeros(4, np.dtype([("x", np.float32), ("n", np.int32)]))

    @cuda.jit
    def fields(p):
        p[cuda.grid(1)].x = 1

    with cudasim.profile() as p:
        fields[1, 4](points)
    assert p.total.stores == 4
    assert "were not counted" in str(p)
