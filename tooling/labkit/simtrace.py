"""What each thread of a simulated kernel did to memory, and when it waited.

Works with Numba's own simulator, which runs a kernel as Python: the arrays that it is given note who touches them.
Counts, unlike times, are the same on every machine, so a test may rest on them. Elements are taken to be 4 bytes wide.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from labkit import hardware

WARP = 32  # threads
BANKS = 32  # shared memory, one 4-byte word wide each (CUDA C++ Programming Guide, compute capability 5.x and later)
SHARED_STEP = 2**20  # between the first elements of two shared arrays; a multiple of BANKS
SECTOR = 8  # elements of 4 bytes: global memory moves in units of 32 bytes (CUDA C++ Best Practices Guide, 13.2.1)


class Access(NamedTuple):
    """One element read or written: by which thread of which block, after how many barriers, at which index."""

    block: int
    thread: int
    phase: int
    element: int


@dataclass
class Trace:
    """What happened in one launch.

    Attributes:
        loads: for each argument (by position) that is an array, its reads, in each thread's own order.
        stores: likewise its writes. An atomic operation counts as both.
        shared_loads, shared_stores: the same for shared memory; its arrays lie 2**20 elements apart.
        barriers: number of `cuda.syncthreads()` reached, by (block, thread).
        atomic_adds: number of `cuda.atomic.add()`.
    """

    loads: dict[int, list[Access]] = field(default_factory=lambda: defaultdict(list))
    stores: dict[int, list[Access]] = field(default_factory=lambda: defaultdict(list))
    shared_loads: list[Access] = field(default_factory=list)
    shared_stores: list[Access] = field(default_factory=list)
    barriers: dict[tuple[int, int], int] = field(default_factory=dict)
    atomic_adds: int = 0

    def sectors_per_request(self, argument: int) -> float:
        """Mean number of 32-byte sectors that one load of a warp touches; 4 is best for 32 threads and float32."""
        requests = _requests(self.loads[argument])
        return sum(len({element // SECTOR for element in r}) for r in requests.values()) / len(requests)

    def conflict_ways(self) -> dict[int, int]:
        """By phase, how many turns the worst shared-memory request of a warp takes; 1 is free of bank conflicts."""
        ways: dict[int, int] = {}
        for accesses in (self.shared_loads, self.shared_stores):
            for (_, _, phase, _), elements in _requests(accesses).items():
                busiest = max(Counter(element % BANKS for element in set(elements)).values())
                ways[phase] = max(busiest, ways.get(phase, 0))
        return dict(sorted(ways.items()))

    def races(self) -> list[str]:
        """Elements that two threads of a block touch with no barrier between, at least one of them writing.

        Looks at shared memory and at the array arguments; an atomic operation counts as a plain access.
        """
        memories = [("shared memory", self.shared_loads, self.shared_stores)]
        memories += [(f"argument {place}", self.loads[place], self.stores[place]) for place in sorted(self.loads)]
        found = []
        for name, loads, stores in memories:
            users = defaultdict(set)
            for block, thread, phase, element in [*loads, *stores]:
                users[block, phase, element].add(thread)
            written = sorted({(block, phase, element) for block, _, phase, element in stores})
            for block, phase, element in written:
                if len(threads := users[block, phase, element]) > 1:
                    where = f"element {element % SHARED_STEP} of {name}"
                    who = ", ".join(map(str, sorted(threads)))
                    found.append(f"threads {who} of block {block} touch {where} after {phase} barriers, one writing")
        return found

    def active_warps(self) -> dict[int, int]:
        """By phase, in how many warps at least one thread wrote to shared memory."""
        warps = {(access.block, access.thread // WARP, access.phase) for access in self.shared_stores}
        return dict(sorted(Counter(phase for _, _, phase in warps).items()))


def launch(kernel: Any, blocks: int, threads: int, *arguments: Any) -> Trace:
    """Run `kernel[blocks, threads](*arguments)` in the simulator, and return what its threads did.

    Args:
        kernel: made by `@cuda.jit`.
        blocks, threads: a one-dimensional grid of one-dimensional blocks.
        arguments: one-dimensional NumPy arrays, which the kernel may change, and scalars.

    Raises:
        RuntimeError: kernels do not run in the simulator in this process.
        TypeError: `kernel` is not a kernel.
    """
    if not hardware.simulating():
        raise RuntimeError("kernels do not run in the simulator here: call hardware.prepare_cuda() first")
    from numba.cuda.simulator.kernel import FakeCUDAKernel

    if type(kernel) is not FakeCUDAKernel:
        raise TypeError(f"expected a kernel made by @cuda.jit, got {type(kernel).__name__}")
    trace = Trace()
    watched = [
        _watch(value, trace.loads[place], trace.stores[place]) if isinstance(value, np.ndarray) else value
        for place, value in enumerate(arguments)
    ]
    trace.barriers.update({(block, thread): 0 for block in range(blocks) for thread in range(threads)})
    with _watching_blocks(trace):
        kernel[blocks, threads](*watched)
    return trace


def _requests(accesses: Iterable[Access]) -> dict[tuple[int, int, int, int], list[int]]:
    """Elements that a warp touches at once: the k-th access of each of its threads since the last barrier.

    Exact where the threads of a warp run the same instructions; keyed by (block, warp, phase, k).
    """
    turn: Counter[tuple[int, int, int]] = Counter()
    requests = defaultdict(list)
    for block, thread, phase, element in accesses:
        requests[block, thread // WARP, phase, turn[block, thread, phase]].append(element)
        turn[block, thread, phase] += 1
    return requests


class _Watched(np.ndarray):
    """An array that notes each element read or written by a simulated thread, in lists that belong to its class.

    The simulator copies its arguments and keeps their class, but not their attributes.
    """

    loads: list[Access]
    stores: list[Access]
    first: int

    def __getitem__(self, index: Any) -> Any:
        if not self._note(self.loads, index):
            return np.asarray(self)[index]
        return super().__getitem__(index)

    def __setitem__(self, index: Any, value: Any) -> None:
        self._note(self.stores, index)
        super().__setitem__(index, value)

    def _note(self, accesses: list[Access], index: Any) -> bool:
        """Note the access if it is one element's; slices are not followed."""
        me: Any = threading.current_thread()
        if not hasattr(me, "threadIdx") or not isinstance(index, int | np.integer):
            return False
        element = self.first + int(index) % max(self.size, 1)
        accesses.append(Access(me.blockIdx.x, me.threadIdx.x, getattr(me, "barriers", 0), element))
        return True


def _watch(array: np.ndarray, loads: list[Access], stores: list[Access], first: int = 0) -> np.ndarray:
    return array.view(type("_Watched", (_Watched,), {"loads": loads, "stores": stores, "first": first}))


@contextmanager
def _watching_blocks(trace: Trace) -> Iterator[None]:
    """Count barriers and atomic additions, and hand out watched shared arrays, until the block is left."""
    from numba.cuda.np import numpy_support
    from numba.cuda.simulator import kernel, kernelapi
    from numba.cuda.types import Type  # type: ignore[attr-defined]

    thread_class: Any = kernel.BlockThread
    shared_class: Any = kernelapi.FakeCUDAShared
    atomic_class: Any = kernelapi.FakeCUDAAtomic
    wait, allocate, add = thread_class.syncthreads, shared_class.array, atomic_class.add
    arrays: dict[tuple[Any, ...], np.ndarray] = {}
    numbers: dict[tuple[Any, ...], int] = {}
    one_at_a_time = threading.Lock()

    def counted_wait(me: Any) -> None:
        me.barriers = getattr(me, "barriers", 0) + 1
        trace.barriers[me.blockIdx.x, me.threadIdx.x] = me.barriers
        wait(me)

    def counted_add(me: Any, *args: Any) -> Any:
        with one_at_a_time:
            trace.atomic_adds += 1
        return add(me, *args)

    def watched_array(me: Any, shape: Any, dtype: Any) -> np.ndarray:
        """One array for each block and line of code, full of NaN: on a GPU, too, nobody promises zeros."""
        thread: Any = threading.current_thread()
        line = sys._getframe(1)
        key = (line.f_code, line.f_lineno, thread.blockIdx.x)
        with one_at_a_time:
            if key not in arrays:
                array = np.empty(shape, numpy_support.as_dtype(dtype) if isinstance(dtype, Type) else dtype)
                array.view(np.uint8)[...] = 0xFF  # NaN, or -1 for integers
                first = SHARED_STEP * numbers.setdefault(key[:2], len(numbers))
                arrays[key] = _watch(array, trace.shared_loads, trace.shared_stores, first)
            return arrays[key]

    thread_class.syncthreads, shared_class.array, atomic_class.add = counted_wait, watched_array, counted_add
    try:
        yield
    finally:
        thread_class.syncthreads, shared_class.array, atomic_class.add = wait, allocate, add
