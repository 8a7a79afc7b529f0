"""A zoo of kernels: buggy ones, whose wrong lines carry `# BUG`, and correct ones.

Each entry: (kernel, grid, block, arguments, what is reported, dynamic shared bytes).
What is reported is an error class, or "race".
"""

# ruff: noqa: C416, SIM105 (the bugs are on purpose)

from __future__ import annotations

import math
from typing import Any

import numpy as np
from labkit import cudasim
from labkit.cudasim import BarrierError, CompileError, DeadlockError, LaunchError, OutOfBoundsError
from numba import float32, int32

cuda = cudasim.enable()

N = 64
TILE = 8
BUGGY: dict[str, tuple] = {}
CORRECT: dict[str, tuple] = {}


def f32(n: int = N, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(n, dtype=np.float32)


def i32(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def zeros(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.zeros(shape, dtype)


def buggy(grid: Any, block: Any, *args: Any, what: Any, shared: int = 0) -> Any:
    def add(fn: Any) -> Any:
        k = cuda.jit(fn)
        BUGGY[fn.__name__] = (k, grid, block, args, what, shared)
        return k

    return add


def correct(grid: Any, block: Any, *args: Any, expect: Any, shared: int = 0) -> Any:
    """`expect(*arguments before the launch)` gives what the last array argument must hold afterwards."""

    def add(fn: Any) -> Any:
        k = cuda.jit(fn)
        CORRECT[fn.__name__] = (k, grid, block, args, expect, shared)
        return k

    return add


# -- races within a block ------------------------------------------------------------------------------------


@buggy(1, N, f32(), zeros(N), what="race")
def reverse_without_barrier(x, out):
    s = cuda.shared.array(N, float32)
    t = cuda.threadIdx.x
    s[t] = x[t]  # BUG
    out[t] = s[N - 1 - t]  # BUG


@buggy(2, N, f32(2 * N), zeros(2), what="race")
def reduce_without_barrier_in_loop(x, out):
    s = cuda.shared.array(N, float32)
    t = cuda.threadIdx.x
    s[t] = x[cuda.grid(1)]
    cuda.syncthreads()
    k = N // 2
    while k > 0:
        if t < k:
            s[t] += s[t + k]  # BUG
        k //= 2
    if t == 0:
        out[cuda.blockIdx.x] = s[0]


@buggy(1, N, f32(), zeros(N), what="race")
def barrier_too_late_for_reuse(x, out):
    s = cuda.shared.array(N, float32)
    t = cuda.threadIdx.x
    acc = float32(0)
    for r in range(3):
        s[t] = x[t] * r  # BUG
        cuda.syncthreads()
        acc += s[(t + 1) % N]  # BUG
    out[t] = acc


@buggy(1, N, f32(), zeros(1), what="race")
def everyone_writes_one_cell(x, out):
    out[0] = x[cuda.threadIdx.x]  # BUG


@buggy(1, N, zeros(1), what="race")
def everyone_writes_the_same_value(out):
    out[0] = 1.0  # BUG


@buggy(1, N, zeros(1, dtype=np.int32), what="race")
def counter_without_atomic(count):
    count[0] += 1  # BUG


@buggy(1, N, i32(*[i % 4 for i in range(N)]), zeros(4, dtype=np.int32), what="race")
def histogram_without_atomic(x, bins):
    b = x[cuda.threadIdx.x]
    bins[b] = bins[b] + 1  # BUG


@buggy(1, N, f32(), what="race")
def shift_in_place(x):
    t = cuda.threadIdx.x
    if t < N - 1:
        x[t] = x[t + 1]  # BUG


@buggy(1, N, zeros(N), what="race")
def prefix_sum_in_one_buffer(x):
    t = cuda.threadIdx.x
    d = 1
    while d < N:
        if t >= d:
            x[t] += x[t - d]  # BUG
        cuda.syncthreads()
        d *= 2


@buggy(1, N, zeros(N), what="race")
def flag_in_shared_memory(out):
    s = cuda.shared.array(1, int32)
    if cuda.threadIdx.x == 0:
        s[0] = 7  # BUG
    out[cuda.threadIdx.x] = s[0]  # BUG


@buggy(1, N, f32(), zeros(N), what="race")
def two_tiles_overlap(x, out):
    s = cuda.shared.array(N + 1, float32)
    t = cuda.threadIdx.x
    s[t] = x[t]  # BUG
    s[t + 1] = x[t]  # BUG
    cuda.syncthreads()
    out[t] = s[t]


@buggy(1, 32, f32(32), zeros(1), what="race")
def warp_reduce_without_syncwarp(x, out):
    s = cuda.shared.array(32, float32)
    t = cuda.threadIdx.x
    s[t] = x[t]  # BUG
    if t < 16:
        s[t] = s[t] + s[t + 16]  # BUG
    if t == 0:
        out[0] = s[0]


@buggy(1, 64, f32(), zeros(64), what="race")
def syncwarp_for_two_warps(x, out):
    s = cuda.shared.array(64, float32)
    t = cuda.threadIdx.x
    s[t] = x[t]  # BUG
    cuda.syncwarp()
    out[t] = s[63 - t]  # BUG


@buggy(1, N, f32(), zeros(1), zeros(1), what="race")
def plain_read_beside_atomic(x, top, seen):
    t = cuda.threadIdx.x
    cuda.atomic.max(top, 0, x[t])  # BUG
    if t == 5:
        seen[0] = top[0]  # BUG


# -- races between blocks ------------------------------------------------------------------------------------


@buggy(4, 32, f32(128), zeros(1), what="race")
def blocks_add_without_atomic(x, out):
    s = cuda.shared.array(1, float32)
    if cuda.threadIdx.x == 0:
        s[0] = 0.0
    cuda.syncthreads()
    cuda.atomic.add(s, 0, x[cuda.grid(1)])
    cuda.syncthreads()
    if cuda.threadIdx.x == 0:
        out[0] += s[0]  # BUG


@buggy(4, 32, zeros(128), zeros(128), what="race")
def syncthreads_is_not_grid_wide(tmp, out):
    i = cuda.grid(1)
    tmp[i] = i  # BUG
    cuda.syncthreads()
    out[i] = tmp[127 - i]  # BUG


@buggy(4, 32, zeros(130), what="race")
def blocks_share_a_border(x):
    i = cuda.grid(1)
    x[i + 1] = 1.0  # BUG
    cuda.syncthreads()
    if cuda.threadIdx.x == 0:
        x[i] = 2.0  # BUG


# -- out of bounds -------------------------------------------------------------------------------------------


@buggy(2, 64, f32(100), zeros(128), what=OutOfBoundsError)
def no_guard(x, out):
    i = cuda.grid(1)
    out[i] = x[i] * 2  # BUG


@buggy(1, 64, f32(), zeros(64), what=OutOfBoundsError)
def guard_off_by_one(x, out):
    i = cuda.grid(1)
    if i <= x.size - 1:
        out[i] = x[i + 1] - x[i]  # BUG


@buggy(1, 64, f32(), zeros(64), what=OutOfBoundsError)
def halo_not_in_tile(x, out):
    s = cuda.shared.array(64, float32)
    t = cuda.threadIdx.x
    s[t] = x[t]
    cuda.syncthreads()
    out[t] = s[t] + s[t + 1]  # BUG


@buggy((2, 2), (8, 8), zeros(16, 12), what=OutOfBoundsError)
def rows_and_columns_swapped(a):
    x, y = cuda.grid(2)
    a[x, y] = 1  # a[y, x] would be right for 12 rows too
    a[y, x] = 2  # BUG


@buggy(1, 32, zeros(32), what=OutOfBoundsError)
def local_array_too_small(out):
    mine = cuda.local.array(4, float32)
    for k in range(5):
        mine[k] = k  # BUG
    out[cuda.threadIdx.x] = mine[3]


@buggy(1, 32, zeros(4, dtype=np.int32), what=OutOfBoundsError)
def atomic_past_the_bins(bins):
    cuda.atomic.add(bins, cuda.threadIdx.x % 5, 1)  # BUG


# -- barriers and warps --------------------------------------------------------------------------------------


@buggy(1, N, zeros(N), what=BarrierError)
def early_return_before_barrier(out):
    t = cuda.threadIdx.x
    if t >= 50:
        return
    cuda.syncthreads()  # BUG
    out[t] = 1


@buggy(1, N, zeros(N), what=BarrierError)
def barrier_inside_if(out):
    t = cuda.threadIdx.x
    if t < 32:
        cuda.syncthreads()  # BUG
    out[t] = 1


@buggy(1, N, zeros(N), what=BarrierError)
def barrier_in_both_branches(out):
    t = cuda.threadIdx.x
    if t % 2 == 0:
        cuda.syncthreads()  # BUG
    else:
        cuda.syncthreads()
    out[t] = 1


@buggy(1, N, zeros(N), what=BarrierError)
def barrier_in_loop_of_different_length(out):
    t = cuda.threadIdx.x
    for _ in range(t % 3):
        cuda.syncthreads()  # BUG
    out[t] = 1


@buggy(1, 32, zeros(32), what=BarrierError)
def shuffle_names_absent_lanes(out):
    t = cuda.threadIdx.x
    v = float32(t)
    if t < 16:
        v += cuda.shfl_down_sync(0xFFFFFFFF, v, 8)  # BUG
    else:
        cuda.syncwarp(0xFFFF0000)
        v = cuda.shfl_sync(0xFFFF0000, v, 16)
    cuda.syncthreads()
    out[t] = v


@buggy(1, 32, zeros(32, dtype=np.int64), what=BarrierError)
def lane_outside_its_own_mask(out):
    out[cuda.threadIdx.x] = cuda.ballot_sync(0x0000FFFF, True)  # BUG


@buggy(1, 64, zeros(1, dtype=np.int32), what=DeadlockError)
def lock_never_released(lock):
    while cuda.atomic.cas(lock, 0, 0, 1) != 0:  # BUG
        pass


# -- what does not compile or launch -------------------------------------------------------------------------


@buggy(1, 32, zeros(32), what=CompileError)
def a_list_in_a_kernel(out):
    acc = [0.0]  # BUG
    acc[0] += 1
    out[cuda.threadIdx.x] = acc[0]


@buggy(1, 32, zeros(32), what=CompileError)
def a_dict_in_a_kernel(out):
    d = {0: 1.0}  # BUG
    out[cuda.threadIdx.x] = d[0]


@buggy(1, 32, zeros(32), what=CompileError)
def a_comprehension_in_a_kernel(out):
    out[cuda.threadIdx.x] = sum([k for k in range(3)])  # BUG


@buggy(1, 32, zeros(32), what=CompileError)
def exceptions_caught(out):
    try:  # BUG
        out[cuda.threadIdx.x] = 1
    except IndexError:
        pass


@buggy(1, 32, zeros(32), what=CompileError)
def an_f_string(out):
    print(f"{cuda.threadIdx.x}")  # BUG


@buggy(1, 32, zeros(32), 32, what=CompileError)
def shared_shape_from_argument(out, n):
    s = cuda.shared.array(n, float32)  # BUG
    s[0] = 1
    out[0] = s[0]


@buggy(1, 32, zeros(32), what=CompileError)
def shared_shape_from_block(out):
    s = cuda.shared.array(cuda.blockDim.x, float32)  # BUG
    s[0] = 1


@buggy(1, 32, zeros(32), what=CompileError)
def numpy_array_in_a_kernel(out):
    tmp = np.zeros(4)  # BUG
    out[cuda.threadIdx.x] = tmp[0]


def _plain(x):
    return x + 1


@buggy(1, 32, zeros(32), what=CompileError)
def plain_function_called(out):
    out[cuda.threadIdx.x] = _plain(1.0)  # BUG


@buggy(1, 32, f32(), zeros(32), what=CompileError)
def float_index(x, out):
    t = cuda.threadIdx.x
    out[t] = x[t / 2]  # BUG


@buggy(1, 2048, zeros(1), what=LaunchError)
def too_many_threads(out):
    pass


@buggy(1, (32, 33), zeros(1), what=LaunchError)
def too_many_threads_in_two_dimensions(out):
    pass


@buggy(1, 32, zeros(1), what=LaunchError)
def too_much_shared_memory(out):
    s = cuda.shared.array(12289, float32)  # BUG
    s[0] = 1


@buggy(1, 32, zeros(1), what=LaunchError)
def dynamic_shared_memory_not_given(out):
    s = cuda.shared.array(0, float32)  # BUG
    s[0] = 1


# -- correct -------------------------------------------------------------------------------------------------


@correct(3, 32, f32(80), f32(80, 1), zeros(80), expect=lambda a, b, c: a + b)
def vector_add(a, b, c):
    i = cuda.grid(1)
    if i < c.size:
        c[i] = a[i] + b[i]


@correct(2, 32, 2.5, f32(1000), zeros(1000), expect=lambda a, x, y: np.float32(2.5) * x)
def grid_stride(a, x, y):
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        y[i] = a * x[i]


@correct(4, N, f32(4 * N), zeros(4), expect=lambda x, out: x.reshape(4, N).sum(axis=1))
def reduce_shared(x, out):
    s = cuda.shared.array(N, float32)
    t = cuda.threadIdx.x
    s[t] = x[cuda.grid(1)]
    cuda.syncthreads()
    k = N // 2
    while k > 0:
        if t < k:
            s[t] += s[t + k]
        cuda.syncthreads()
        k //= 2
    if t == 0:
        out[cuda.blockIdx.x] = s[0]


@correct(2, N, f32(2 * N), zeros(1), expect=lambda x, out: x.sum(keepdims=True))
def reduce_shuffle(x, out):
    v = x[cuda.grid(1)]
    d = 16
    while d > 0:
        v += cuda.shfl_down_sync(0xFFFFFFFF, v, d)
        d //= 2
    if cuda.laneid == 0:
        cuda.atomic.add(out, 0, v)


@correct(1, 32, f32(32), zeros(1), expect=lambda x, out: x.sum(keepdims=True))
def reduce_syncwarp(x, out):
    s = cuda.shared.array(32, float32)
    t = cuda.threadIdx.x
    s[t] = x[t]
    cuda.syncwarp()
    k = 16
    while k > 0:
        if t < k:
            s[t] += s[t + k]
        cuda.syncwarp()
        k //= 2
    if t == 0:
        out[0] = s[0]


@correct((3, 2), (TILE, TILE), f32(24 * 16).reshape(16, 24), zeros(24, 16), expect=lambda a, t: a.T)
def transpose_tile(a, t):
    s = cuda.shared.array((TILE, TILE + 1), float32)
    x, y = cuda.grid(2)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    s[ty, tx] = a[y, x]
    cuda.syncthreads()
    t[cuda.blockIdx.x * TILE + ty, cuda.blockIdx.y * TILE + tx] = s[tx, ty]


@correct(
    (2, 2),
    (TILE, TILE),
    f32(256).reshape(16, 16),
    f32(256, 1).reshape(16, 16),
    zeros(16, 16),
    expect=lambda a, b, c: a @ b,
)
def matmul_tiled(a, b, c):
    sa = cuda.shared.array((TILE, TILE), float32)
    sb = cuda.shared.array((TILE, TILE), float32)
    x, y = cuda.grid(2)
    tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
    acc = float32(0)
    for k in range(a.shape[1] // TILE):
        sa[ty, tx] = a[y, k * TILE + tx]
        sb[ty, tx] = b[k * TILE + ty, x]
        cuda.syncthreads()
        for j in range(TILE):
            acc += sa[ty, j] * sb[j, tx]
        cuda.syncthreads()
    c[y, x] = acc


@correct(1, N, np.arange(N, dtype=np.int32), zeros(N, dtype=np.int32), expect=lambda x, y: np.cumsum(x))
def prefix_sum_double_buffer(x, y):
    s = cuda.shared.array((2, N), int32)
    t = cuda.threadIdx.x
    src = 0
    s[0, t] = x[t]
    cuda.syncthreads()
    d = 1
    while d < N:
        if t >= d:
            s[1 - src, t] = s[src, t] + s[src, t - d]
        else:
            s[1 - src, t] = s[src, t]
        cuda.syncthreads()
        src = 1 - src
        d *= 2
    y[t] = s[src, t]


@correct(
    2,
    32,
    i32(*[i * i % 7 for i in range(64)]),
    zeros(7, dtype=np.int32),
    expect=lambda x, b: np.bincount(x, minlength=7),
)
def histogram_atomic(x, bins):
    cuda.atomic.add(bins, x[cuda.grid(1)], 1)


@correct(
    2,
    32,
    i32(*[i * 5 % 7 for i in range(64)]),
    zeros(7, dtype=np.int32),
    expect=lambda x, b: np.bincount(x, minlength=7),
)
def histogram_privatised(x, bins):
    s = cuda.shared.array(7, int32)
    t = cuda.threadIdx.x
    if t < 7:
        s[t] = 0
    cuda.syncthreads()
    cuda.atomic.add(s, x[cuda.grid(1)], 1)
    cuda.syncthreads()
    if t < 7:
        cuda.atomic.add(bins, t, s[t])


@correct(3, 32, f32(90), zeros(90), expect=lambda x, y: np.convolve(np.pad(x, 1), np.ones(3, np.float32), "valid") / 3)
def stencil_halo(x, y):
    s = cuda.shared.array(34, float32)
    i, t = cuda.grid(1), cuda.threadIdx.x
    n = x.size
    s[t + 1] = x[i] if i < n else 0.0
    if t == 0:
        s[0] = x[i - 1] if i > 0 else 0.0
        s[33] = x[i + 32] if i + 32 < n else 0.0
    cuda.syncthreads()
    if i < n:
        y[i] = (s[t] + s[t + 1] + s[t + 2]) / 3


@correct(4, 32, f32(128), zeros(1), expect=lambda x, m: x.max(keepdims=True))
def atomic_maximum(x, m):
    cuda.atomic.max(m, 0, x[cuda.grid(1)])


@correct(1, 64, zeros(64, dtype=np.int64), expect=lambda out: np.repeat([0x55555555, 0x55555555], 32))
def ballot_even(out):
    t = cuda.threadIdx.x
    out[t] = cuda.ballot_sync(0xFFFFFFFF, t % 2 == 0)


@correct(
    1,
    32,
    i32(*[i // 8 for i in range(32)]),
    zeros(32, dtype=np.int64),
    expect=lambda x, o: np.array([0xFF << 8 * (i // 8) for i in range(32)]),
)
def match_any(x, out):
    t = cuda.threadIdx.x
    out[t] = cuda.match_any_sync(0xFFFFFFFF, x[t])


@correct(1, 32, zeros(32, dtype=np.int32), expect=lambda o: np.r_[np.full(16, 8 * 15), np.full(16, 8 * 47)])
def divergent_halves_shuffle(out):
    t = cuda.threadIdx.x
    v = t
    if t < 16:
        for d in range(4):
            v += cuda.shfl_xor_sync(0x0000FFFF, v, 1 << d)
    else:
        for d in range(4):
            v += cuda.shfl_xor_sync(0xFFFF0000, v, 1 << d)
    out[t] = v


@correct(1, 64, zeros(1, dtype=np.int32), zeros(1, dtype=np.int32), expect=lambda lock, n: np.array([64]))
def spin_lock(lock, n):
    done = False
    while not done:
        if cuda.atomic.cas(lock, 0, 0, 1) == 0:
            cuda.atomic.add(n, 0, 1)
            cuda.threadfence()
            cuda.atomic.exch(lock, 0, 0)
            done = True


@correct(2, 32, zeros(1, dtype=np.int32), zeros(1, dtype=np.int32), expect=lambda lock, n: np.array([64]))
def lock_held_across_statements(lock, n):
    while cuda.atomic.cas(lock, 0, 0, 1) != 0:
        pass
    cuda.atomic.add(n, 0, 1)
    cuda.threadfence()
    cuda.atomic.exch(lock, 0, 0)


@correct(4, 32, zeros(128), zeros(128), expect=lambda tmp, out: np.arange(128)[::-1])
def grid_sync(tmp, out):
    i = cuda.grid(1)
    tmp[i] = i
    cuda.cg.this_grid().sync()
    out[i] = tmp[127 - i]


@correct(1, 32, f32(32), zeros(32), expect=lambda x, y: np.sort(x.reshape(8, 4), axis=1).ravel())
def sort_in_local_memory(x, y):
    mine = cuda.local.array(4, float32)
    t = cuda.threadIdx.x
    if t < 8:
        for k in range(4):
            mine[k] = x[4 * t + k]
        for i in range(3):
            for j in range(3 - i):
                if mine[j] > mine[j + 1]:
                    mine[j], mine[j + 1] = mine[j + 1], mine[j]
        for k in range(4):
            y[4 * t + k] = mine[k]


@cuda.jit(device=True)
def collatz_steps(n):
    steps = 0
    while n != 1:
        if n % 2 == 0:
            n //= 2
        else:
            n = 3 * n + 1
        steps += 1
        if steps > 1000:
            return -1
    return steps


def _collatz(n: int) -> int:
    return 0 if n == 1 else 1 + _collatz(n // 2 if n % 2 == 0 else 3 * n + 1)


@correct(2, 32, zeros(64, dtype=np.int64), expect=lambda out: np.array([_collatz(n) for n in range(1, 65)]))
def device_function_with_loop(out):
    i = cuda.grid(1)
    out[i] = collatz_steps(i + 1)


@correct((2, 2, 2), (4, 4, 4), zeros(8, 8, 8, dtype=np.int64), expect=lambda a: np.arange(512).reshape(8, 8, 8))
def three_dimensions(a):
    x, y, z = cuda.grid(3)
    a[z, y, x] = x + 8 * y + 64 * z


@correct(1, 32, f32(32), zeros(32), expect=lambda x, y: x[::-1], shared=128)
def dynamic_shared(x, y):
    s = cuda.shared.array(0, float32)
    t = cuda.threadIdx.x
    s[t] = x[t]
    cuda.syncthreads()
    y[t] = s[31 - t]


WEIGHTS = np.array([1, 4, 6, 4, 1], np.float32) / 16


@correct(2, 32, f32(64), zeros(64), expect=lambda x, y: np.convolve(x, WEIGHTS, "same"))
def constant_memory(x, y):
    w = cuda.const.array_like(WEIGHTS)
    i = cuda.grid(1)
    acc = 0.0
    for k in range(5):
        j = i + k - 2
        if j >= 0 and j < x.size:
            acc += w[k] * x[j]
    y[i] = acc


@correct(
    2,
    32,
    np.arange(64, dtype=np.float64),
    zeros(64, dtype=np.float64),
    expect=lambda x, y: np.array([math.erf(v) + math.floor(v / 3) + min(v, 9.0) + abs(-v) for v in x]),
)
def functions_of_math(x, y):
    i = cuda.grid(1)
    y[i] = math.erf(x[i]) + math.floor(x[i] / 3) + min(x[i], 9.0) + abs(-x[i])


@correct(2, 32, f32(64), zeros(64), expect=lambda x, y: np.where(x > 0.5, 1, np.where(x > 0.25, 2, 3)))
def nested_branches(x, y):
    i = cuda.grid(1)
    if x[i] > 0.5:
        y[i] = 1
    elif x[i] > 0.25:
        y[i] = 2
    else:
        y[i] = 3


@correct(
    1,
    64,
    i32(*range(64)),
    zeros(64, dtype=np.int32),
    expect=lambda x, y: np.array([next(k for k in range(100) if k * k >= v) for v in x]),
)
def break_and_continue(x, y):
    t = cuda.threadIdx.x
    found = -1
    for k in range(100):
        if k * k < x[t]:
            continue
        found = k
        break
    y[t] = found


@correct(
    1,
    64,
    i32(*[i % 3 for i in range(64)]),
    zeros(1, dtype=np.int32),
    zeros(64, dtype=np.int32),
    expect=lambda x, n, out: np.full(64, 21),
)
def syncthreads_counts(x, n, out):
    t = cuda.threadIdx.x
    out[t] = cuda.syncthreads_count(x[t] == 2)


@correct(
    8,
    32,
    zeros(8, dtype=np.int32),
    zeros(1, dtype=np.int32),
    zeros(1, dtype=np.int32),
    expect=lambda part, ticket, total: np.array([8 * 32]),
)
def last_block_by_ticket(part, ticket, total):
    cuda.atomic.add(part, cuda.blockIdx.x, 1)
    cuda.threadfence()
    cuda.syncthreads()
    if cuda.threadIdx.x == 0 and cuda.atomic.add(ticket, 0, 1) == cuda.gridDim.x - 1:
        for b in range(cuda.gridDim.x):
            cuda.atomic.add(total, 0, cuda.atomic.add(part, b, 0))
