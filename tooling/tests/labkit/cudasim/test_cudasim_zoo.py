"""Each buggy kernel is reported with the right line, each correct one is right and reported clean, in both engines."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

import numpy as np
import pytest
from labkit import cudasim
from labkit.cudasim.lockstep import Unsupported

sys.path.insert(0, str(Path(__file__).parent))
import cudasim_zoo as zoo


def marked(kernel) -> list[int]:
    lines, first = inspect.getsourcelines(kernel.py_func)
    return [first + k for k, text in enumerate(lines) if "# BUG" in text]


def copies(args):
    return [a.copy() if isinstance(a, np.ndarray) else a for a in args]


def test_the_zoo_is_large_enough():
    assert len(zoo.BUGGY) >= 25
    assert len(zoo.CORRECT) >= 25


@pytest.mark.parametrize("name", zoo.BUGGY)
def test_buggy_kernel_is_reported_at_its_line(name):
    kernel, grid, block, args, what, shared = zoo.BUGGY[name]
    lines = marked(kernel)
    if what == "race":
        for engine in ("auto", "threads"):
            out = cudasim.run(kernel, grid, block, *copies(args), shared=shared, engine=engine)
            assert out.races, f"no race reported by {engine}"
            want = (lines[0], lines[-1])
            assert want in {r.lines for r in out.races}, f"{engine}: {[str(r) for r in out.races]}"
            for r in out.races:
                assert set(r.lines) <= set(lines), str(r)
                assert (r.first.thread, r.first.block) != (r.second.thread, r.second.block)
        return
    messages = set()
    for engine in ("auto", "threads"):
        with pytest.raises(what) as e:
            cudasim.run(kernel, grid, block, *copies(args), shared=shared, engine=engine)
        messages.add(str(e.value))
    assert len(messages) == 1, "the engines must say the same"
    if lines:
        assert f"cudasim_zoo.py line {lines[0]}:" in messages.pop()


@pytest.mark.parametrize("name", [n for n, entry in zoo.BUGGY.items() if entry[4] == "race"])
def test_races_are_the_same_in_both_engines_and_every_schedule(name):
    kernel, grid, block, args, _, shared = zoo.BUGGY[name]
    reports = {
        tuple(
            str(r)
            for r in cudasim.run(kernel, grid, block, *copies(args), shared=shared, engine=engine, seed=seed).races
        )
        for engine in ("auto", "threads")
        for seed in (None, 1, 2)
    }
    assert len(reports) == 1


@pytest.mark.parametrize("name", zoo.CORRECT)
@pytest.mark.parametrize("engine", ["auto", "threads"])
@pytest.mark.parametrize("seed", [None, 3])
def test_correct_kernel_is_right_and_clean(name, engine, seed):
    kernel, grid, block, args, expect, shared = zoo.CORRECT[name]
    mine = copies(args)
    out = cudasim.run(kernel, grid, block, *mine, shared=shared, engine=engine, seed=seed)
    assert out.races == (), [str(r) for r in out.races]
    want = expect(*copies(args))
    # float32 sums of at most 256 terms of at most 1: 256 * 2**-24 relative
    np.testing.assert_allclose(mine[-1], want, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("name", [n for n in zoo.CORRECT if n != "lock_held_across_statements"])
def test_correct_kernel_runs_in_lock_step(name):
    """The fast engine knows all of these; only a lock that lanes of one warp fight for needs threads."""
    kernel, grid, block, args, _, shared = zoo.CORRECT[name]
    assert cudasim.run(kernel, grid, block, *copies(args), shared=shared, engine="lockstep").engine == "lockstep"


def test_a_lock_between_lanes_needs_the_thread_engine():
    kernel, grid, block, args, *_ = zoo.CORRECT["lock_held_across_statements"]
    with pytest.raises(Unsupported):
        cudasim.run(kernel, grid, block, *copies(args), engine="lockstep")
