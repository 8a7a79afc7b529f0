"""The trace of a simulated kernel, against what can be counted by hand."""

import json
import subprocess
import sys

import pytest

# In a process of its own: there numba.cuda is a simulator, whatever the other tests have made of it here.
SCRIPT = """
from labkit import hardware
hardware.prepare_cuda()
import json
import numpy as np
from numba import cuda, float32, int32
from labkit import simtrace

@cuda.jit
def copy(x, y, step):
    i = cuda.grid(1)
    if i * step < x.size:
        y[i] = x[i * step]

@cuda.jit
def add(x, out):
    cuda.atomic.add(out, 0, x[cuda.grid(1)])

@cuda.jit
def fold(x, out, wait):
    tile, other = cuda.shared.array(64, float32), None
    other = cuda.shared.array(64, int32)
    t = cuda.threadIdx.x
    tile[t] = x[t]
    other[t] = t
    if wait:
        cuda.syncthreads()
    if t < 32:
        tile[t] += tile[t + 32]
    if t == 0:
        out[0] = tile[0]

@cuda.jit
def conflict(x, out):
    tile = cuda.shared.array(1024, float32)
    tile[cuda.threadIdx.x * 16] = 1

@cuda.jit
def garbage(x, out):
    tile = cuda.shared.array(4, float32)
    if cuda.threadIdx.x == 0 and cuda.blockIdx.x == 0:
        tile[3] = 1
    out[cuda.blockIdx.x] = tile[3]

@cuda.jit
def some_wait(x, out):
    if cuda.threadIdx.x < 2:
        cuda.syncthreads()

x = np.arange(64, dtype=np.float32)
found = {}
y = np.zeros(64, np.float32)
trace = simtrace.launch(copy, 2, 32, x, y, 1)
found["copied"] = bool((y == x).all())
found["loads"] = [list(access) for access in sorted(trace.loads[0])[:33:32]]
found["coalesced"] = trace.sectors_per_request(0)
found["strided"] = simtrace.launch(copy, 1, 32, x, y, 2).sectors_per_request(0)
out = np.zeros(1, np.float32)
trace = simtrace.launch(add, 2, 32, x, out)
found["added"], found["adds"], found["stores"] = float(out[0]), trace.atomic_adds, len(trace.stores[1])
trace = simtrace.launch(fold, 1, 64, x, out, True)
found["folded"], found["races"], found["warps"] = float(out[0]), trace.races(), trace.active_warps()
found["barriers"] = sorted(set(trace.barriers.values()))
found["racing"] = len(simtrace.launch(fold, 1, 64, x, out, False).races())
found["ways"] = simtrace.launch(conflict, 1, 64, x, out).conflict_ways()
out = np.zeros(2, np.float32)
simtrace.launch(garbage, 2, 2, x, out)
found["garbage"] = [float(v) if v == v else "nan" for v in out]
found["some"] = sorted(set(simtrace.launch(some_wait, 1, 4, x, out).barriers.values()))
try:
    simtrace.launch(lambda x: x, 1, 1, x)
except TypeError as error:
    found["not a kernel"] = str(error)
from numba.cuda.simulator.kernel import BlockThread
found["put back"] = BlockThread.syncthreads.__qualname__
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_traced_kernel_does_what_it_did(found):
    assert found["copied"] and found["added"] == 2016 and found["folded"] == 32


def test_loads_name_block_thread_phase_and_element(found):
    assert found["loads"] == [[0, 0, 0, 0], [1, 0, 0, 32]]


def test_sectors_per_request(found):
    # 32 neighbours of 4 bytes are 4 sectors of 32 bytes; every second one, 8.
    assert (found["coalesced"], found["strided"]) == (4, 8)


def test_atomic_additions_are_counted_once(found):
    assert (found["adds"], found["stores"]) == (64, 64)


def test_a_missing_barrier_is_a_race_and_two_arrays_are_not(found):
    # With the barrier none, though both arrays use the elements 0 to 63; without it 32 pairs of threads meet.
    assert found["races"] == [] and found["racing"] == 32


def test_barriers_and_working_warps(found):
    assert found["barriers"] == [1] and found["warps"] == {"0": 2, "1": 1}
    assert found["some"] == [0, 1]


def test_bank_conflicts(found):
    # Words 0, 16, 32, ... of a warp fall into 2 banks, 16 into each.
    assert found["ways"] == {"0": 16}


def test_shared_memory_starts_as_garbage_in_every_block(found):
    assert found["garbage"][1] == "nan"


def test_only_kernels_are_launched_and_the_simulator_is_left_as_it_was(found):
    assert "expected a kernel" in found["not a kernel"] and found["put back"] == "BlockThread.syncthreads"
