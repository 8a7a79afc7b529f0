"""Launches that tests can trust: honest kernels pass with their values, each way of cheating is caught."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

SETUP = """
from labkit import hardware
hardware.prepare_cuda()
import numpy as np
import torch
from labkit import launching
from numba import cuda

@cuda.jit
def double(x, y):
    i = cuda.grid(1)
    if i < x.size:
        y[i] = 2 * x[i]

x = np.arange(1, 11, dtype=np.float32)

def twice(x):
    y = np.empty_like(x)
    double[2, 8](x, y)
    return y
"""


def run(code: str) -> str:
    """What a notebook's process prints, or the last line of its traceback."""
    done = subprocess.run(
        [sys.executable, "-c", SETUP + textwrap.dedent(code)], capture_output=True, text=True, timeout=120
    )
    return done.stdout.strip() if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


def test_a_launch_gives_values_counts_and_names() -> None:
    said = run("""
        run = launching.launch(double, 2, 8, x, launching.out(10))
        assert (run.out == 2 * x).all() and run.profile.total.loads == 10 and run.profile.kernels == {"double": 1}
        added = launching.launch(double, 2, 8, x.reshape(1, 10)[0, ::1], launching.start(np.ones(10, np.float32)))
        print(added.outs[0].sum(), x.sum())
    """)
    assert said == "110.0 55.0"


def test_what_no_thread_wrote_is_poison_of_any_type() -> None:
    said = run("""
        half = lambda kind: launching.launch(double, 1, 4, x.astype(kind), launching.out(10, kind)).out
        print(np.isnan(half(np.float64)).sum(), (half(np.int32) == -2**31).sum(), (half(np.uint8) == 255).sum())
        print(np.isnan(launching.out((2, 3), np.complex64).begins).sum())
    """)
    assert said.splitlines() == ["6 6 6", "6"]


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("launching.out(3, bool)", "cannot be poisoned"),
        ("launching.launch(lambda x, y: None, 1, 1, x, launching.out(10))", "expected a @cuda.jit kernel"),
        ("launching.launch(double, 2, 8, launching.start(x), launching.out(10)).out", "2 outputs"),
        ("launching.call(twice, np.arange(3))", "needs decoys"),
        (
            "@cuda.jit\ndef stub(x, y):\n    raise NotImplementedError()\n"
            "launching.launch(stub, 1, 1, x, launching.out(1))",
            "stub is not written yet",
        ),
        (
            "@cuda.jit\ndef clobber(x, y):\n    i = cuda.grid(1)\n    if i < x.size:\n        y[i] = x[i]\n"
            "        x[i] = 0\nlaunching.launch(clobber, 2, 8, x, launching.out(10))",
            "make a new tensor or work on a copy",
        ),
        (
            "@cuda.jit\ndef racy(x, y):\n    y[0] = x[cuda.grid(1)]\nlaunching.launch(racy, 1, 8, x, launching.out(1))",
            "racy has a data race",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(code: str, says: str) -> None:
    assert says in run(code)


def test_a_host_function_is_run_on_copies_and_its_kernels_named() -> None:
    said = run("""
        run = launching.call(twice, x)
        assert (run.result == 2 * x).all() and (x == np.arange(1, 11)).all()
        t = torch.arange(4.0)
        assert torch.equal(launching.call(lambda t: t * 2, t).result, t * 2)
        print(run.profile.kernels, launching.call(lambda x: 2 * x, x).profile.kernels)
    """)
    assert said == "{'double': 1} {}"


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("def f(x):\n    x *= 1.5\n    return x.copy()", "make a new tensor or work on a copy"),
        ("def f(x):\n    return x[::-1]", "returned the memory of an input"),
        ("kept = np.zeros(10, np.float32)\ndef f(x):\n    kept[:] = twice(x)\n    return kept", "an earlier call"),
        (
            "kept = {}\ndef f(x):\n    key = x.__array_interface__['data'][0], x.shape\n"
            "    if key not in kept:\n        kept[key] = twice(x)\n    return kept[key].copy()",
            "[ 1.  2.  3.  4.  5.  6.  7.  8.  9. 10.]",
        ),
    ],
    ids=["changes an input", "aliases an input", "reuses a result", "cached by address"],
)
def test_a_host_function_that_cheats_is_caught(function: str, says: str) -> None:
    assert says in run(function + "\nprint(launching.call(f, x).result)")
