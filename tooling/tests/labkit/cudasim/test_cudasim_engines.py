"""The two engines agree on generated programs, under shuffled schedules, and with NumPy."""

from __future__ import annotations

import linecache
from itertools import count

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from labkit import cudasim
from labkit.cudasim.lockstep import Unsupported

cuda = cudasim.enable()
_number = count()


def kernel_from(text: str):
    """A kernel as a notebook cell defines it: source in linecache only."""
    filename = f"<cell-{next(_number)}>"
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    space: dict = {"cuda": cuda, "np": np}
    exec(compile(text, filename, "exec"), space)
    return space["kernel"]


NAMES = ("a", "b", "c")
atoms = st.sampled_from([*NAMES, "t", "i", "x[i]", "cuda.blockIdx.x", "1", "2", "3", "7", "-1"])
exprs = st.recursive(
    atoms,
    lambda e: st.one_of(
        st.tuples(e, st.sampled_from(["+", "-", "*", "&", "|", "^", "//", "%"]), e).map(
            lambda p: f"({p[0]} {p[1]} {p[2]})"
        ),
        st.tuples(e, e, e).map(lambda p: f"({p[0]} if {p[1]} > {p[2]} else {p[0]} + 1)"),
        st.tuples(e, e).map(lambda p: f"min({p[0]}, {p[1]})"),
        st.tuples(e, e).map(lambda p: f"max({p[0]}, {p[1]})"),
        e.map(lambda p: f"abs({p})"),
    ),
    max_leaves=5,
)
comparisons = st.tuples(exprs, st.sampled_from(["<", "<=", "==", "!=", ">"]), exprs).map(" ".join)
chains = st.tuples(st.sampled_from([" and ", " or "]), st.lists(comparisons, min_size=3, max_size=4))
conditions = st.one_of(
    comparisons,
    chains.map(lambda p: p[0].join(p[1])),
    st.tuples(exprs, exprs).map(lambda p: f"{p[0]} > 0 and x[({p[1]}) % x.size] < 5"),
    st.tuples(exprs, exprs).map(lambda p: f"not ({p[0]} > 2) or {p[1]} == 1"),
)


def test_a_lane_that_an_early_term_settled_stays_settled() -> None:
    """A later term that holds for all lanes that are left says nothing about the others."""
    for term in ("y < 3 and x < 4 and x < 2", "not (y >= 3 or x >= 4 or x >= 2)"):
        head = "@cuda.jit\ndef kernel(c):\n    x, y = cuda.threadIdx.x, cuda.threadIdx.y\n"
        kernel = kernel_from(f"{head}    if {term}:\n        c[y, x] = 1\n")
        written = np.zeros((4, 4), np.int32)
        kernel[1, (4, 4)](written)
        assert written.sum() == 6 and written[:3, :2].all()


@st.composite
def blocks(draw, depth: int, loop: bool) -> list[str]:
    lines: list[str] = []
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["assign", "assign", "aug", "store", "if", "for", "while", "leave", "local"]))
        if kind == "assign":
            lines.append(f"{draw(st.sampled_from(NAMES))} = {draw(exprs)}")
        elif kind == "aug":
            lines.append(f"{draw(st.sampled_from(NAMES))} {draw(st.sampled_from(['+', '-', '^']))}= {draw(exprs)}")
        elif kind == "store":
            lines.append(f"out[i] = {draw(exprs)}")
        elif kind == "local":
            lines.append(f"m[({draw(exprs)}) % 3] += {draw(exprs)}")
        elif kind == "leave" and loop:
            lines += [f"if {draw(conditions)}:", f"    {draw(st.sampled_from(['break', 'continue']))}"]
        elif kind == "leave":
            lines += [f"if {draw(conditions)}:", "    out[i] += 1", "    return"]
        elif depth:
            body = ["    " + s for s in draw(blocks(depth - 1, loop or kind in ("for", "while")))]
            if kind == "if":
                lines += [f"if {draw(conditions)}:", *body]
                if draw(st.booleans()):
                    lines += ["else:", *["    " + s for s in draw(blocks(depth - 1, loop))]]
            elif kind == "for":
                bound = draw(st.sampled_from(["3", "t % 4", "abs(a) % 3", "1, 6, 2", "3, t % 3, -1"]))
                lines += [f"for k{depth} in range({bound}):", *body]
                if draw(st.booleans()):
                    lines += ["else:", "    b += 5"]
            else:
                n = f"n{depth}"
                lines += [f"{n} = 0", f"while {n} < 1 + t % 3:", f"    {n} += 1", *body]
    return lines or ["pass"]


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(body=blocks(2, False), seed=st.integers(0, 99))
def test_generated_programs_give_the_same_in_both_engines(body, seed):
    text = "\n".join(
        [
            "def kernel(x, out):",
            "    i = cuda.grid(1)",
            "    t = cuda.threadIdx.x",
            "    a = 0",
            "    b = 1",
            "    c = t",
            "    m = cuda.local.array(3, np.int64)",
            "    for j in range(3):",
            "        m[j] = j",
            *["    " + s for s in body],
            "    out[i] += a * 3 + b * 5 + c * 7 + m[0] + m[1] * 2 + m[2] * 3",
            "",
        ]
    )
    kernel = kernel_from(text)
    x = np.random.default_rng(seed).integers(-9, 10, 2 * 37)
    results = []
    for engine, order in (("lockstep", None), ("lockstep", 5), ("threads", None), ("threads", 6)):
        out = np.zeros(2 * 37, np.int64)
        outcome = cudasim.run(kernel, 2, 37, x.copy(), out, engine=engine, seed=order)
        assert outcome.races == (), text
        results.append(out)
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other, err_msg=text)


@st.composite
def sharing(draw) -> list[str]:
    """Straight-line programs on a shared array, with barriers here and there: races or not."""
    lines = []
    for _ in range(draw(st.integers(2, 6))):
        at = draw(st.sampled_from(["t", "(t + 1) % 40", "39 - t", "t // 2", "0", "t % 32"]))
        lines.append(
            draw(
                st.sampled_from(
                    [
                        f"s[{at}] = t",
                        f"v += s[{at}]",
                        f"s[{at}] += 1",
                        f"cuda.atomic.add(s, {at}, 1)",
                        "cuda.syncthreads()",
                        "cuda.syncwarp()",
                        f"if t < 20:\n        v += s[{at}]",
                        f"if t == 3:\n        s[{at}] = 1",
                        f"g[{at}] = v",
                        f"v += g[{at}]",
                    ]
                )
            )
        )
    return lines


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(body=sharing())
def test_both_engines_report_the_same_races(body):
    text = "\n".join(
        [
            "def kernel(g, out):",
            "    s = cuda.shared.array(40, np.int64)",
            "    t = cuda.threadIdx.x",
            "    v = 0",
            "    s[t] = 0",
            "    cuda.syncthreads()",
            *["    " + s for s in body],
            "    out[cuda.grid(1)] = v",
            "",
        ]
    )
    kernel = kernel_from(text)
    reports = []
    for engine, order in (("lockstep", None), ("threads", None), ("lockstep", 1), ("threads", 2)):
        g, out = np.zeros(40, np.int64), np.zeros(80, np.int64)
        reports.append([str(r) for r in cudasim.run(kernel, 2, 40, g, out, engine=engine, seed=order).races])
    for other in reports[1:]:
        assert reports[0] == other, text


def brute_force_races(body: list[str]) -> bool:
    """Whether two threads of one block touch a cell of s without a barrier between, one writing: by definition."""
    accesses: list[tuple[int, int, int, bool]] = []  # cell, thread, interval, writes
    interval = 0
    for line in body:
        if line == "cuda.syncthreads()":
            interval += 1
            continue
        cell = line[line.index("[") + 1 : line.index("]")]
        for t in range(40):
            accesses.append((eval(cell, {"t": t}), t, interval, line.startswith("s[")))
    return any(p[0] == q[0] and p[2] == q[2] and p[1] < q[1] and (p[3] or q[3]) for p in accesses for q in accesses)


@settings(max_examples=40, deadline=None)
@given(
    body=st.lists(
        st.sampled_from(
            [
                "s[t] = t",
                "v += s[(t + 1) % 40]",
                "v += s[39 - t]",
                "s[t // 2] = 1",
                "v += s[t]",
                "cuda.syncthreads()",
                "cuda.syncthreads()",
            ]
        ),
        min_size=1,
        max_size=5,
    )
)
def test_races_are_those_of_the_definition(body):
    text = "\n".join(
        [
            "def kernel(out):",
            "    s = cuda.shared.array(40, np.int64)",
            "    t = cuda.threadIdx.x",
            "    v = 0",
            *["    " + s for s in body],
            "    out[t] = v",
            "",
        ]
    )
    found = cudasim.run(kernel_from(text), 1, 40, np.zeros(40, np.int64)).races
    assert bool(found) == brute_force_races(body), text


@settings(max_examples=10, deadline=None)
@given(n=st.integers(1, 150), threads=st.sampled_from([7, 32, 33, 64]), seed=st.integers(0, 1000))
def test_reduction_and_scan_agree_with_numpy_under_shuffled_schedules(n, threads, seed):
    text = """
def kernel(x, total, running):
    s = cuda.shared.array(64, np.int64)
    t = cuda.threadIdx.x
    i = cuda.grid(1)
    s[t] = x[i] if i < x.size else 0
    cuda.syncthreads()
    d = 1
    while d < cuda.blockDim.x:
        v = s[t - d] if t >= d else 0
        cuda.syncthreads()
        s[t] += v
        cuda.syncthreads()
        d *= 2
    if i < x.size:
        running[i] = s[t]
    if t == cuda.blockDim.x - 1:
        cuda.atomic.add(total, 0, s[t])
""".lstrip()
    x = np.random.default_rng(seed).integers(-50, 50, n)
    grid = -(-n // threads)
    for engine in ("lockstep", "threads"):
        total, running = np.zeros(1, np.int64), np.zeros(n, np.int64)
        out = cudasim.run(kernel_from(text), grid, threads, x, total, running, engine=engine, seed=seed)
        assert out.races == ()
        assert total[0] == x.sum()
        want = np.concatenate([np.cumsum(x[k : k + threads]) for k in range(0, n, threads)])
        np.testing.assert_array_equal(running, want)


@settings(max_examples=25, deadline=None)
@given(
    values=st.lists(st.integers(-1000, 1000), min_size=64, max_size=64),
    mask=st.sampled_from([0xFFFFFFFF, 0x0000FFFF]),
    lane=st.integers(0, 40),
)
def test_warp_primitives_give_the_same_in_both_engines(values, mask, lane):
    text = f"""
def kernel(x, out):
    i = cuda.grid(1)
    if cuda.laneid < {16 if mask == 0xFFFF else 32}:
        out[i, 0] = cuda.shfl_sync({mask}, x[i], {lane})
        out[i, 1] = cuda.shfl_up_sync({mask}, x[i], {lane})
        out[i, 2] = cuda.shfl_down_sync({mask}, x[i], {lane})
        out[i, 3] = cuda.shfl_xor_sync({mask}, x[i], {lane % 32})
        out[i, 4] = cuda.ballot_sync({mask}, x[i] > 0)
        out[i, 5] = cuda.all_sync({mask}, x[i] > -900)
        out[i, 6] = cuda.any_sync({mask}, x[i] > 900)
        out[i, 7] = cuda.match_any_sync({mask}, x[i] % 3)
        b, p = cuda.match_all_sync({mask}, x[i] // 2000)
        out[i, 8] = b + p
        out[i, 9] = cuda.popc(x[i]) + 100 * cuda.clz(x[i]) + 10000 * cuda.ffs(x[i]) + cuda.brev(x[i])
        out[i, 10] = cuda.lanemask_lt()
""".lstrip()
    kernel, results = kernel_from(text), []
    for engine, seed in (("lockstep", None), ("lockstep", 3), ("threads", None)):
        out = np.zeros((64, 11), np.int64)
        cudasim.run(kernel, 2, 32, np.array(values), out, engine=engine, seed=seed)
        results.append(out)
    np.testing.assert_array_equal(results[0], results[2])
    np.testing.assert_array_equal(results[1], results[2])


@settings(max_examples=25, deadline=None)
@given(
    op=st.sampled_from(["add", "sub", "max", "min", "and_", "or_", "xor", "exch", "inc", "dec"]),
    used=st.booleans(),
    seed=st.integers(0, 99),
)
def test_atomics_give_the_same_in_both_engines(op, used, seed):
    call = f"cuda.atomic.{op}(a, x[i] % 5, x[i])"
    text = f"def kernel(x, a, old):\n    i = cuda.grid(1)\n    {'old[i] = ' if used else ''}{call}\n"
    kernel, results = kernel_from(text), []
    x = np.random.default_rng(seed).integers(0, 20, 70).astype(np.uint32)
    for engine in ("lockstep", "threads"):
        a, old = np.arange(5, dtype=np.uint32) * 3, np.zeros(70, np.uint32)
        cudasim.run(kernel, 2, 35, x, a, old, engine=engine)
        results.append((a, old))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])


def test_what_lock_step_does_not_know_still_runs():
    points = np.zeros(4, np.dtype([("x", np.float32), ("n", np.int32)]))
    kernel = kernel_from("def kernel(p):\n    i = cuda.grid(1)\n    p[i].x = i * 0.5\n    p[i].n += i\n")
    try:
        cudasim.run(kernel, 1, 4, points.copy(), engine="lockstep")
        raise AssertionError("lock step knows records now: test another thing")
    except Unsupported:
        pass
    out = cudasim.run(kernel, 1, 4, points)
    assert out.engine == "threads"
    assert out.why_threads
    np.testing.assert_array_equal(points["x"], np.arange(4) * 0.5)
    np.testing.assert_array_equal(points["n"], np.arange(4))
