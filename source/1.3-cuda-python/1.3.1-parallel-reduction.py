# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Lab 1.3.1: Parallel reduction
#
# | | |
# |---|---|
# | Module | 1.3 CUDA Python and GPU programming |
# | Time | 3 hours |
# | Difficulty | ★★★☆☆ |
# | Hardware | gpu-optional: without a GPU all of it runs in a simulator |
# | Points | 30 automatic, 9 read by a person |
# | Builds on | 1.2.5 (profiling, a first look at Numba) |
#
# You will add up an array. Six times, each time better, until the only thing that limits you is the speed of the memory.

# %% [markdown]
# ## What you'll achieve
#
# 1. **See the machine** (objective 1.3.1): say what registers, shared memory and global memory cost, from counts that you took yourself.
# 2. **Write kernels** (1.3.2): build a correct sum for any length out of threads that know nothing of each other.
# 3. **Learn a pattern** (1.3.2): the tree, the barrier and the grid-stride loop return in softmax, layer norm, attention and every loss.
# 4. **Meet the production tool** (1.3.3): your two-stage sum has the shape of `torch.sum` and of CUB's `DeviceReduce`; at the end you know why.
# 5. **Weigh a trade-off** (1.3.3): more threads against more work per thread, and the order of additions against their rounding error.

# %% [markdown]
# ## Before you start
#
# | | |
# |---|---|
# | You have built | vectorised NumPy code (1.2.1), loops that Numba compiles for the CPU (1.2.5) |
# | What works | one core walks through the array and keeps a running sum |
# | The gap | a GPU has thousands of threads, and a running sum is one chain: each addition waits for the one before |
# | This lab | reorders the additions into a tree, so that thousands can happen at once |
#
# ```
# 1.2.1 broadcasting ──┐                            ┌─→ 1.3.2 tiled matrix product (shared memory again)
# 1.2.5 Numba, timing ─┴─→ 1.3.1 parallel reduction ┼─→ 2.3  softmax and attention (row reductions)
#                                                   └─→ 1.3.5 profiling what you wrote here
# ```

# %% [markdown]
# **Check yourself 1.** A kernel starts with `i = cuda.grid(1)` and runs as `kernel[3, 8](x)`. Which values does `i` take, and what must the kernel do if `x` has 20 elements?
#
# <details><summary>Answer</summary>
#
# 3 blocks of 8 threads: `i = blockIdx.x * blockDim.x + threadIdx.x` takes each of 0 to 23 once. The four threads with `i >= 20` must not touch `x`: on a GPU nothing stops them from reading whatever lies behind it.
# </details>
#
# **Check yourself 2.** In float32, what is `1 + 2**-24`?
#
# <details><summary>Answer</summary>
#
# Exactly 1. A float32 has 24 significant bits, so the next number after 1 is `1 + 2**-23`; halfway cases round to the even neighbour, which is 1. The largest relative error of one rounded addition is therefore `u = 2**-24`, the *unit roundoff*.
# </details>
#
# **Check yourself 3.** What does `cuda.syncthreads()` promise, and to whom?
#
# <details><summary>Answer</summary>
#
# To the threads of *one block*: none goes on before all have arrived, and what any of them wrote before, all can read after. It says nothing about other blocks.
# </details>

# %% nbgrader={"grade": false, "grade_id": "reduce-setup", "locked": true, "schema_version": 3, "solution": false, "task": false}
from labkit import hardware

device = hardware.prepare_cuda()  # before numba.cuda is imported: it may have to simulate

import math

import numpy as np
from labkit import checking, cudasim, insight, timing
from numba import cuda, float32

print(f"Kernels run on: {device}")


# %% [markdown]
# **Ready?** The next cell launches a kernel. If it prints what it should, everything you need is here.

# %% nbgrader={"grade": false, "grade_id": "reduce-ready", "locked": true, "schema_version": 3, "solution": false, "task": false}
@cuda.jit
def double(x, y):
    """y[k] = 2 x[k], one element for each thread."""
    k = cuda.grid(1)
    if k < x.size:
        y[k] = 2 * x[k]


# %%
y = np.zeros(10, np.float32)
double[2, 8](np.arange(10, dtype=np.float32), y)
print("expected [0. 2. 4. ... 18.], got", y)

# %% [markdown]
# ## Why it matters
#
# Every training step of a language model ends in one number, the loss: a mean over all tokens of the batch. On the way there each layer normalises (a mean and a variance per token), each attention row is divided by a sum, and the optimiser clips gradients by their global norm: one sum of squares over *all* parameters. For a model of 8 billion parameters with float32 gradients that norm alone reads 32 GB.
#
# A reduction does one addition per element read. No GPU is short of additions; all are short of bandwidth. So a reduction is as good as the fraction of the memory's speed that it reaches, and a bad one is not 10 % slower: it may be a hundred times slower, while the expensive part of the machine waits.
#
# The second cost is quieter. Float32 sums depend on the order of their additions. A sum that changes from run to run makes a training run impossible to reproduce, and a sum whose error grows with the length of the input goes wrong exactly when you scale up.

# %% [markdown]
# ## At the kitchen table
#
# Sixty-four people each hold a number and want the total.
#
# - **One blackboard** (global memory, an atomic): each walks up, reads the total, adds, writes it. Correct, and 64 people stand in a queue.
# - **Neighbours first** (a tree): you tell your number to the person on your left, who adds it and tells theirs. After six rounds one person knows. Everybody works at once, though in each round half of those who worked sit down.
# - **At your own table** (shared memory): within a table you talk, and only one person a table walks to the board.
# - **"Everybody done?"** (the barrier): nobody starts round two before round one is over, or somebody passes on a number that is not finished.
# - **A stack of notes each** (grid-stride): with a million numbers, each first adds up a stack alone, silently. Talking is the expensive part, so do it last.
#
# *Where it breaks:* people decide for themselves; threads do not. Thirty-two of them (a *warp*) share one instruction stream: when half of a warp has nothing to do, it waits for the other half. And when a warp reads 32 neighbouring numbers, that costs hardly more than reading one. Nothing at a kitchen table behaves like that.

# %% [markdown]
# ## Foundations: the machine
#
# ```
#  grid    ┌────────── block 0 ──────────┐  ┌────────── block 1 ──────────┐
#          │ warp 0: threads 0..31       │  │                             │
#          │ each: registers   (fastest) │  │                             │
#          │ ─────────────────────────── │  │                             │
#          │ shared memory, 32 banks     │  │ shared memory, its own      │
#          └──────────────┬──────────────┘  └──────────────┬──────────────┘
#                         │   32-byte sectors              │
#          ═══════════════╧════ global memory ═════════════╧═══════  (slowest, large, seen by all)
# ```
#
# - **Registers** belong to a thread: no waiting.
# - **Shared memory** belongs to a block. It has 32 *banks*; word `k` lies in bank `k % 32`. A warp's 32 accesses take one turn if they fall into 32 different banks (or onto the same word), and `w` turns if `w` different words share a bank.
# - **Global memory** moves in *sectors* of 32 bytes, 8 float32. A warp that reads 32 neighbours needs 4 sectors: the access is *coalesced*. A warp that reads 32 numbers far apart needs 32 sectors and throws away 7/8 of what it moved.

# %% [markdown]
# ## Foundations: the tree, and its rounding
#
# Addition is associative on paper, so any order gives the sum. A tree over `n` numbers needs `n - 1` additions, like the running sum, but only `log2(n)` *levels*, and within a level all additions are independent.
#
# ```
# neighbours (stride 1, 2, 4)             halves (stride 4, 2, 1)
#  3   1   7   0   4   1   6   3          3   1   7   0   4   1   6   3
#  └─4─┘   └─7─┘   └─5─┘   └─9─┘          └─ 3+4, 1+1, 7+6, 0+3 ─→  7   2  13   3
#  └──11───┘       └──14───┘              └─ 7+13, 2+3 ──────────→ 20   5
#  └──────25───────┘                      └─ 20+5 ───────────────→ 25
# ```
#
# In floating point each addition multiplies by some `(1 + δ)` with `|δ| <= u = 2**-24`. A number that passes through `k` additions collects `k` such factors, and their product lies within `γ_k` of 1 (Higham, *Accuracy and Stability of Numerical Algorithms*, lemma 3.1):
#
# $$\Bigl|\prod_{j=1}^{k}(1+\delta_j) - 1\Bigr| \le \gamma_k = \frac{k\,u}{1-k\,u}, \qquad \text{so} \qquad |\hat s - s| \le \gamma_k \sum_i |x_i| .$$
#
# **In numbers.** One million numbers: a running sum has `k = 999 999`, `γ ≈ 0.063`, a guarantee of about one digit. A tree has `k = 20`, `γ ≈ 1.2e-6`. The same number of additions, in another order.

# %%
tenths = np.full(10**6, 0.1, np.float32)
exact = math.fsum(tenths.tolist())
print("one addition:", np.float32(1) + np.float32(2**-24) == 1)
print("running sum: ", np.cumsum(tenths)[-1], "of", exact)

# %% [markdown]
# And the tree of halves, level by level:

# %%
levels = tenths
while levels.size > 1:
    if levels.size % 2:
        levels = np.append(levels, np.float32(0))
    levels = levels[: levels.size // 2] + levels[levels.size // 2 :]
print("tree of halves:", levels[0], "of", exact)


# %% [markdown]
# ### The tools that the tests use
#
# `launch` runs a kernel on arrays and hands back what it wrote. The output starts full of NaN: a slot that no thread wrote stays visible. You also get a *profile*: loads and stores, sectors, bank conflicts, barriers, atomics, counted by the simulator. On a machine with a GPU the kernel runs twice, in the simulator for the counts and on the GPU for the values. A *data race* (two threads touch one element, one of them writing, and nothing orders them) is an error, even if the values happen to be right.

# %% nbgrader={"grade": false, "grade_id": "reduce-launch", "locked": true, "schema_version": 3, "solution": false, "task": false}
def launch(kernel, x, blocks, threads, out=None):
    """Run kernel[blocks, threads](x, out). Return out, and the profile of what the threads did."""
    if "NotImplementedError" in kernel.py_func.__code__.co_names:
        raise NotImplementedError(f"{kernel.py_func.__name__} is not written yet")
    out = np.full(blocks, np.nan, np.float32) if out is None else out
    arrays = (x, out) if device.simulated else (x.copy(), out.copy())
    with cudasim.profile() as profile:
        races = cudasim.run(kernel, blocks, threads, *arrays).races
    assert not races, f"{kernel.py_func.__name__} has a data race: {races[0]}"
    if not device.simulated:
        kernel[blocks, threads](x, out)
    return out, profile


# %% nbgrader={"grade": false, "grade_id": "reduce-numbers", "locked": true, "schema_version": 3, "solution": false, "task": false}
U = 2.0**-24  # unit roundoff of float32
MAX_THREADS = 256  # per block; the shape of a shared array has to be a constant


def numbers(n, seed):
    """n float32 numbers of both signs and of sizes from 2**-12 to 2**12."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(n) * 2.0 ** rng.integers(-12, 13, n)).astype(np.float32)


# %% [markdown]
# A tree fixes the order of all additions, so its float32 result is fixed to the last bit. That makes a sharp test: `tree_sums` adds in the same order in NumPy, and your kernel has to agree *exactly*.

# %% nbgrader={"grade": false, "grade_id": "reduce-oracles", "locked": true, "schema_version": 3, "solution": false, "task": false}
def tree_sums(x, blocks, threads, pairs):
    """Each block's sum of its own `threads` elements, by a float32 tree. pairs: "neighbours" or "halves"."""
    tiles = np.zeros((blocks, threads), np.float32)
    tiles.flat[: x.size] = x[: tiles.size]
    while tiles.shape[1] > 1:
        half = tiles.shape[1] // 2
        left, right = (np.s_[::2], np.s_[1::2]) if pairs == "neighbours" else (np.s_[:half], np.s_[half:])
        tiles = tiles[:, left] + tiles[:, right]
    return tiles[:, 0]


# %%
example = np.array([3, 1, 7, 0, 4, 1, 6, 3], np.float32)
print("two blocks of 4:", tree_sums(example, 2, 4, "neighbours"), " one of 8:", tree_sums(example, 1, 8, "halves"))


# %% [markdown]
# Three checks on the profile. They are code that you may read: what a test wants is no secret.

# %% nbgrader={"grade": false, "grade_id": "reduce-check-loads", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_loads(counts, n, blocks, threads):
    """Each of n elements is loaded once, one by each thread, by as few instructions and sectors of a warp as can be."""
    checking.equal(counts.loads, n, what="elements loaded from global memory", hint="which elements does a thread own?")
    warps = sum(math.ceil(min(threads, max(0, n - block * threads)) / 32) for block in range(blocks))
    checking.equal(counts.requests, warps, what="load instructions of warps", hint="does one thread do others' work?")
    sectors = sum(math.ceil(min(threads, max(0, n - block * threads)) / 8) for block in range(blocks))
    checking.equal(counts.sectors, sectors, what="32-byte sectors", hint="do neighbours read neighbours?")


# %% nbgrader={"grade": false, "grade_id": "reduce-check-barriers", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_barriers(profile, blocks, at_least):
    """Enough barriers in each block. (One that not all threads reach stops the launch, a race does so too.)"""
    each = profile.total.barriers / blocks
    assert each >= at_least, f"each block came to {each:g} barriers, and needs at least {at_least}"


# %% nbgrader={"grade": false, "grade_id": "reduce-check-tree", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_tree(kernel, x, blocks, threads, pairs, barriers):
    """The partial sums are those of the tree, bit for bit, and no thread ran ahead."""
    want = tree_sums(x, blocks, threads, pairs)
    out, profile = launch(kernel, x, blocks, threads)
    check_barriers(profile, blocks, barriers)
    what = f"partials of {kernel.py_func.__name__}[{blocks}, {threads}] on {x.size} elements"
    checking.equal(out, want, what=what, hint=f"in which order does a tree of {pairs} add?")
    return profile


# %% [markdown]
# ## Part 1: How wrong may a sum be?
#
# Before you test a float32 sum you have to know how far from the truth it may honestly be. "Close enough" is not a number; the bound from the foundations is.
#
# **Exercise 1 (3 points).** Write `rounding_bound`. You will hold every kernel of this lab against it.

# %% nbgrader={"grade": false, "grade_id": "reduce-bound", "locked": false, "schema_version": 3, "solution": true, "task": false}
def rounding_bound(x: np.ndarray, additions: int) -> float:
    """Largest error that a float32 sum of x can have, if no element passes through more than `additions` additions.

    Args:
        x: float32, shape (n,); n may be 0.
        additions: k, at least 0: n - 1 for a running sum, log2(n) for a tree.

    Returns:
        gamma_k * sum(|x_i|), a Python float computed in float64, in the units of x.

    Raises:
        ValueError: k * U >= 1; the bound says nothing then.

    TODO: Evaluate gamma_k = k U / (1 - k U) and multiply it by the sum of absolute values.

    APPROACH:
        1. Refuse k U >= 1, because the formula turns negative there and would pass anything.
        2. Sum |x_i| in float64, because a bound that suffers from rounding itself is worth little.
        3. Multiply by gamma_k, because k U alone is slightly too small to be a guarantee.

    EXAMPLE:
        >>> rounding_bound(np.array([1, -1], np.float32), additions=1) == 2 * U / (1 - U)
        True

    HINTS:
        1. Absolute values first, then the sum. The other way round [1, -1] would be exact by decree.
        2. NumPy's `sum` takes a dtype to add in; that spares you a float64 copy of x.
        3. `float(...)` turns a NumPy scalar into a Python float.
    """
    ### BEGIN SOLUTION
    if additions * U >= 1:
        raise ValueError(f"{additions} additions: gamma is not defined, because k U >= 1")
    gamma = additions * U / (1 - additions * U)
    return float(gamma * np.abs(x).sum(dtype=np.float64))
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-reduce-bound", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Checks: the formula, its limits, and that real float32 sums keep to it.
# Fails if: signs cancel inside the bound, the denominator is missing, or the sum of |x| is rounded to float32.
# A pass: you have a tolerance that you can defend for every kernel below.
from fractions import Fraction


def test_unit_bound():
    # Exact, by fractions: gamma_k = k / (2**24 - k). Yours adds n <= 1000 positive float64: 1000 * 2**-53 < 1e-12.
    for n, k in ((1, 0), (2, 1), (1000, 999), (1000, 2**22)):
        x = numbers(n, seed=n)
        want = float(Fraction(k, 2**24 - k) * sum(abs(Fraction(v)) for v in x.tolist()))
        with checking.unchanged(x=x):
            got = rounding_bound(x, additions=k)
        checking.close(got, want, rtol=1e-12, atol=0, what=f"rounding_bound(x, additions={k}) for {n} elements")
    checking.raises(ValueError, rounding_bound, x, 2**24, what="2**24 additions")
    x = numbers(1000, seed=7)
    error = abs(float(np.cumsum(x)[-1]) - math.fsum(x.tolist()))
    assert error <= rounding_bound(x, additions=999), "a running sum exceeded its bound"
    ### BEGIN HIDDEN TESTS
    # check: an empty sum
    # hint: what is the sum of the absolute values of no numbers?
    checking.equal(rounding_bound(x[:0], additions=5), 0.0, what="the bound of an empty sum")
    # check: more additions than the formula can bear
    # hint: gamma has a denominator: what if it is not positive?
    checking.raises(ValueError, rounding_bound, x, 2**25, what="2**25 additions")
    # check: values near the largest float32
    # hint: in which type do you add up the absolute values?
    huge = np.full(4, 3e38, np.float32)  # overflows if |x| is summed in float32
    want = float(Fraction(2, 2**24 - 2) * 4 * Fraction(float(huge[0])))
    checking.close(rounding_bound(huge, 2), want, rtol=1e-12, atol=0, what="rounding_bound of four times 3e38")
    # check: fresh values, against exact fractions
    # hint: work one small bound out by hand, with u = 2**-24
    x = numbers(997, checking.secret_seed())
    want = float(Fraction(5, 2**24 - 5) * sum(abs(Fraction(v)) for v in x.tolist()))
    checking.close(rounding_bound(x, 5), want, rtol=1e-12, atol=0, what="rounding_bound(x, additions=5)")
    ### END HIDDEN TESTS


test_unit_bound()


# %% [markdown]
# ### What just happened?
#
# You turned "floating point is inexact" into a number. It is a guarantee for the worst case: random signs make errors cancel, so measured ones are usually far smaller. A kernel that exceeds the bound is not unlucky. It is wrong.

# %%
def error_and_bound(x, additions):
    error = abs(float(np.cumsum(x)[-1]) - math.fsum(x.tolist()))
    return f"{x.size:7} elements: error {error:.1e}, bound {rounding_bound(x, additions):.1e}"


for n in (100, 10_000, 1_000_000):
    print(insight.run(lambda n=n: error_and_bound(numbers(n, seed=n), n - 1), needs="Exercise 1 (rounding_bound)"))

# %% [markdown]
# ## Part 2: One total, many threads
#
# The obvious kernel: each thread owns one element and adds it to one shared total. Twenty elements on blocks of eight leave some threads without one:

# %%
for block in range(3):
    print(f"block {block}: elements", [block * 8 + thread for thread in range(8) if block * 8 + thread < 20])


# %% [markdown]
# `out[0] += x[i]` is a trap, because it is three steps (read, add, write) and another thread can get in between. `cuda.atomic.add(array, index, value)` does the three as one.
#
# **Exercise 2 (3 points).** Write `atomic_sum`. The test that catches most first attempts: 20 elements on 3 blocks of 8 threads.

# %% nbgrader={"grade": false, "grade_id": "reduce-atomic", "locked": false, "schema_version": 3, "solution": true, "task": false}
@cuda.jit
def atomic_sum(x, out):
    """Add every element of x to out[0], one thread for each element.

    Args:
        x: float32, shape (n,), in global memory; any n, 0 included. Comes out unchanged.
        out: float32, shape (1,). Its old value counts: the total is added to it.

    Launch: [blocks, threads], one-dimensional. Thread i = cuda.grid(1) owns x[i] and nothing else: elements beyond
    blocks * threads are not added.

    TODO: Let each thread that owns an element add it to out[0] atomically.

    APPROACH:
        1. Find the thread's index in the whole grid, because that is the element it owns.
        2. Do nothing if it is past the end, because the grid is rarely as long as the array.
        3. Add atomically, because another thread may be adding at the same moment.

    EXAMPLE:
        >>> total = np.zeros(1, np.float32)
        >>> atomic_sum[2, 4](np.arange(7, dtype=np.float32), total)
        >>> total
        array([21.], dtype=float32)

    HINTS:
        1. The kernel `double` above has the first two steps.
        2. `x.size` is known inside the kernel.
        3. `cuda.atomic.add(out, 0, ...)`.
    """
    ### BEGIN SOLUTION
    i = cuda.grid(1)
    if i < x.size:
        cuda.atomic.add(out, 0, x[i])
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-reduce-atomic", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Checks: the total for lengths around the block size, what was in out before, and one atomic addition per element.
# Fails if: the guard is missing, out is overwritten, the addition is not atomic, or one thread does others' work.
# A pass: correct on any length. Fast it is not, as you will count in a moment.
def check_atomic(x, blocks, threads, start=0.0):
    with checking.unchanged(x=x):
        out, profile = launch(atomic_sum, x, blocks, threads, out=np.array([start], np.float32))
    mine = x[: blocks * threads]
    # Atomics come in any order: an element passes through up to n additions. 1.01 covers gamma_n against n U.
    atol = 1.01 * mine.size * U * (np.abs(mine).sum(dtype=np.float64) + abs(start))
    what = f"out[0] after atomic_sum[{blocks}, {threads}] on {x.size} elements"
    checking.close(out[0], math.fsum([start, *mine.tolist()]), rtol=0, atol=atol, what=what)
    total = profile.total
    checking.equal(total.atomics, mine.size, what="atomic additions", hint="out[0] += x[i] can be interrupted")
    checking.equal(total.loads, mine.size, what="elements of x that were loaded")
    warps = sum(math.ceil(min(threads, max(0, x.size - block * threads)) / 32) for block in range(blocks))
    checking.equal(total.atomic_requests, warps, what="atomic instructions of warps", hint="one element for each thread")


def test_unit_atomic():
    check_atomic(numbers(16, seed=1), blocks=2, threads=8)
    check_atomic(numbers(20, seed=2), blocks=3, threads=8)
    check_atomic(numbers(20, seed=3), blocks=3, threads=8, start=100.0)
    check_atomic(numbers(1000, seed=4), blocks=4, threads=256)
    ### BEGIN HIDDEN TESTS
    # check: lengths that fill no whole block, and a total that does not start at zero
    # hint: which threads have no element, and does your kernel add to out[0] or overwrite it?
    seed = checking.secret_seed()
    for n in (0, 1, 7, 9, 31):
        check_atomic(numbers(n, seed + n), blocks=max(1, math.ceil(n / 8)), threads=8, start=float(n))
    # check: a grid too small for the array
    # hint: each thread adds one element: what should happen to those that no thread owns?
    check_atomic(numbers(40, seed), blocks=2, threads=8)  # too small a grid: only the first 16 have an owner
    ### END HIDDEN TESTS


test_unit_atomic()


# %% [markdown]
# ### What just happened?
#
# A right answer, by standing in a queue: all additions go to the same address, so the hardware can do no two of them at once. And because the queue forms in a different order each time, the last bits of the total may differ from run to run. The next kernels cure both.

# %%
def queue():
    out, profile = launch(atomic_sum, numbers(100_000, seed=2), 391, 256, out=np.zeros(1, np.float32))
    total = profile.total
    return f"{total.atomics} atomic additions to one address take {total.serialised} turns; out[0] = {out[0]}"


insight.run(queue, needs="Exercise 2 (atomic_sum)")

# %% [markdown]
# ## Part 3: A tree in global memory
#
# One level of the neighbour tree: the threads at positions 0, 2, 4, … add their right neighbour's number to their own. At the next level positions 0, 4, 8, … add the number two to the right; then 0, 8, 16, … This is *interleaved addressing*:

# %%
for s in (1, 2, 4):
    print(f"stride {s}:", [f"work[{t}] += work[{t + s}]" for t in range(8) if t % (2 * s) == 0])


# %% [markdown]
# Each block reduces its own stretch of the array, in place, and writes one *partial sum*. Between two levels stands a barrier. Without it a fast thread picks up a number that a slow one has not finished.
#
# **Exercise 3 (4 points).** Write `interleaved_sum`. `blockDim.x` is a power of two; the length of the array is whatever it likes, so a right neighbour may not exist.

# %% nbgrader={"grade": false, "grade_id": "reduce-interleaved", "locked": false, "schema_version": 3, "solution": true, "task": false}
@cuda.jit
def interleaved_sum(work, partials):
    """Each block sums its blockDim.x elements of `work` by a tree of neighbours, in place, in global memory.

    Args:
        work: float32, shape (n,), scratch: it may be overwritten. Any n.
        partials: float32, shape (blocks,). Block b writes its sum to partials[b]; 0 if all of it lies past the end.

    Launch: [blocks, threads] with threads a power of two, at most 1024.

    TODO: For strides 1, 2, 4, ... below blockDim.x let the right threads add, with a barrier after each level.

    APPROACH:
        1. Loop over strides s = 1, 2, 4, ..., because each level leaves partial sums twice as far apart.
        2. Let thread t add work[i + s] to work[i] if t is a multiple of 2 s, because those positions hold partial sums.
        3. Put the barrier after the if, not into it, because every thread of the block has to reach it.

    EXAMPLE:
        >>> partials = np.zeros(2, np.float32)
        >>> interleaved_sum[2, 4](np.arange(7, dtype=np.float32), partials)
        >>> partials
        array([ 6., 15.], dtype=float32)

    HINTS:
        1. t = cuda.threadIdx.x chooses who works, i = cuda.grid(1) says where.
        2. Two conditions guard the addition: the right thread, and a neighbour that exists (i + s < work.size).
        3. At the end one thread of the block writes work[i] to partials[cuda.blockIdx.x]: 0 if the block has none.
    """
    ### BEGIN SOLUTION
    t = cuda.threadIdx.x
    i = cuda.grid(1)
    s = 1
    while s < cuda.blockDim.x:
        if t % (2 * s) == 0 and i + s < work.size:
            work[i] += work[i + s]
        cuda.syncthreads()
        s *= 2
    if t == 0:
        partials[cuda.blockIdx.x] = work[i] if i < work.size else 0
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-reduce-interleaved", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: every partial sum to the last bit, on full blocks and on ragged ends, and that no thread skips a barrier.
# Fails if: a barrier is missing or inside the if, the strides are off, or a neighbour past the end is read.
# A pass: a tree of log2(threads) levels, in a fixed order, with the same bits each time.
def check_interleaved(n, blocks, threads, seed):
    # log2(threads) levels need a barrier between each two of them; one after the last is allowed.
    barriers = threads.bit_length() - 2
    check_tree(interleaved_sum, numbers(n, seed), blocks, threads, "neighbours", barriers)


def test_unit_interleaved():
    credit = checking.Credit(4)
    with credit.check("full blocks", points=2, hint="write down by hand who adds what for 8 threads"):
        check_interleaved(8, 1, 8, seed=1)
        check_interleaved(32, 2, 16, seed=2)
        ### BEGIN HIDDEN TESTS
        # check: four blocks of 256
        # hint: does each block write its own partial, at its own place?
        check_interleaved(1024, 4, 256, checking.secret_seed())
        ### END HIDDEN TESTS
    with credit.check("any length", points=2, hint="look at the last block: which neighbours exist?"):
        check_interleaved(13, 2, 8, seed=3)
        check_interleaved(16, 3, 8, seed=4)  # block 2 lies past the end
        ### BEGIN HIDDEN TESTS
        # check: lengths that end inside a block, in front of one, or at once
        # hint: print which neighbours exist for the last block, and what an empty block writes
        seed = checking.secret_seed()
        for n, blocks, threads in ((0, 1, 4), (1, 1, 8), (3, 3, 1), (9, 2, 8), (15, 1, 16), (17, 2, 16), (11, 3, 4)):
            check_interleaved(n, blocks, threads, seed + n)
        ### END HIDDEN TESTS
    return credit.total()


test_unit_interleaved()


# %% [markdown]
# ### What just happened?
#
# The queue is gone: in a block of 256, eight levels do the work of 255 turns. But look at what you pay. Every level reads and writes global memory again, the array is destroyed, and at the second level three threads out of four wait for the fourth.

# %%
def in_place():
    work = np.arange(8, dtype=np.float32)
    launch(interleaved_sum, work, 1, 8)
    return work


insight.run(in_place, needs="Exercise 3 (interleaved_sum)")  # what is left of 0, 1, ..., 7


# %% [markdown]
# ## Part 4: The same tree, at your own table
#
# The partial results of a block concern nobody outside it. So keep them in the block's shared memory: read each element of `x` from global memory once, do the tree in the tile, write one number. Same pairs, same bits, another place.
#
# Two new things. The first barrier comes *before* the first level: a thread reads what its neighbour loaded. And the tile starts with garbage in it (in the simulator, with NaN), so a thread past the end has to write the neutral element, 0:

# %%
@cuda.jit
def peek(x, out):
    tile = cuda.shared.array(MAX_THREADS, float32)
    if cuda.threadIdx.x < x.size:
        tile[cuda.threadIdx.x] = x[cuda.threadIdx.x]
    out[cuda.threadIdx.x] = tile[cuda.threadIdx.x]


launch(peek, np.ones(3, np.float32), 1, 8, out=np.zeros(8, np.float32))[0]


# %% [markdown]
# **Exercise 4 (5 points).** Write `shared_sum`.

# %% nbgrader={"grade": false, "grade_id": "reduce-shared", "locked": false, "schema_version": 3, "solution": true, "task": false}
@cuda.jit
def shared_sum(x, partials):
    """Each block sums its blockDim.x elements of x by a tree of neighbours in shared memory.

    Args:
        x: float32, shape (n,), in global memory; any n. Each element is read once, and comes out unchanged.
        partials: float32, shape (blocks,). Block b writes its sum to partials[b]; 0 if all of it lies past the end.

    Launch: [blocks, threads] with threads a power of two, at most MAX_THREADS.

    TODO: Load one element per thread into the tile, then add as in interleaved_sum, inside the tile.

    APPROACH:
        1. Load x[i], or 0 past the end, because shared memory starts with garbage and 0 changes no sum.
        2. Wait, because the first level reads what other threads loaded.
        3. Do the tree with t instead of i, because the tile is the block's own and starts at 0.

    EXAMPLE:
        >>> partials = np.zeros(2, np.float32)
        >>> shared_sum[2, 4](np.arange(7, dtype=np.float32), partials)
        >>> partials
        array([ 6., 15.], dtype=float32)

    HINTS:
        1. With 0 loaded past the end, the tree needs no guard for the length any more.
        2. Python's `a if condition else b` compiles; let both sides be float32: x[i], and float32(0).
        3. Count your barriers: one after the load, one after each level.
    """
    tile = cuda.shared.array(MAX_THREADS, float32)
    ### BEGIN SOLUTION
    t = cuda.threadIdx.x
    i = cuda.grid(1)
    tile[t] = x[i] if i < x.size else float32(0)
    cuda.syncthreads()
    s = 1
    while s < cuda.blockDim.x:
        if t % (2 * s) == 0:
            tile[t] += tile[t + s]
        cuda.syncthreads()
        s *= 2
    if t == 0:
        partials[cuda.blockIdx.x] = tile[0]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-reduce-shared", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
# Checks: partial sums to the last bit, x read once, coalesced, and left alone, one write per block, enough barriers.
# Fails if: the tile is used before it is loaded, threads past the end load nothing, or global memory is the scratch.
# A pass: the traffic to global memory is as small as it can be, n loads and one store per block.
def check_shared(n, blocks, threads, seed):
    x = numbers(n, seed)
    with checking.unchanged(x=x):
        # One barrier after the load and one between each two of the log2(threads) levels.
        return check_tree(shared_sum, x, blocks, threads, "neighbours", barriers=threads.bit_length() - 1)


def test_unit_shared():
    credit = checking.Credit(5)
    with credit.check("full blocks", points=2, hint="is there a barrier between the load and the first level?"):
        check_shared(8, 1, 8, seed=1)
        ### BEGIN HIDDEN TESTS
        # check: four blocks of 256
        # hint: a tile belongs to one block: index it by the thread, not by the element
        check_shared(1024, 4, 256, checking.secret_seed())
        ### END HIDDEN TESTS
    with credit.check("any length", points=2, hint="what is in tile[t] if x[i] does not exist?"):
        check_shared(13, 2, 8, seed=3)
        ### BEGIN HIDDEN TESTS
        # check: lengths that end inside a block, in front of one, or past the grid
        # hint: what does a thread without an element put into the tile?
        seed = checking.secret_seed()
        for n, blocks, threads in ((0, 1, 4), (1, 1, 8), (3, 3, 1), (9, 3, 8), (17, 2, 16), (40, 2, 8)):
            check_shared(n, blocks, threads, seed + n)
        ### END HIDDEN TESTS
    with credit.check("global memory: each element read once, one store per block", points=1):
        total = check_shared(1024, 4, 256, seed=5).total
        checking.equal(total.stores, 4, what="stores to global memory", hint="one partial for each block")
        total.requests, total.sectors = total.requests - 4, total.sectors - 4  # without those stores
        check_loads(total, 1024, blocks=4, threads=256)
    return credit.total()


test_unit_shared()


# %% [markdown]
# ### What just happened?
#
# Nothing, to the bits: the same pairs give the same sums. Only the place has changed.

# %%
def same_bits():
    x = numbers(32, seed=6)
    return launch(interleaved_sum, x.copy(), 2, 16)[0], launch(shared_sum, x, 2, 16)[0]


insight.run(same_bits, needs="Exercises 3 and 4")


# %% [markdown]
# ### Systems insight 1 of 3: what the tree costs in global memory
#
# *Checkpoint:* three kernels, one result. *Predict before you run:* per element of `x`, how many times does each of them touch global memory (reads and writes together, an atomic addition counted as two)? Write three numbers down.

# %%
def traffic_per_element(n=2**14, threads=256):
    """Loads and stores in global memory for each element, counted while your kernels run."""
    counts = {}
    for kernel, slots in ((atomic_sum, 1), (interleaved_sum, n // threads), (shared_sum, n // threads)):
        _, profile = launch(kernel, numbers(n, seed=1), n // threads, threads, out=np.zeros(slots, np.float32))
        total = profile.total
        counts[kernel.py_func.__name__] = (total.loads + total.stores + 2 * total.atomics) / n
    print(profile)  # of shared_sum, line by line
    return counts


# %%
traffic = insight.run(traffic_per_element, needs="Exercises 2 to 4 (atomic_sum, interleaved_sum, shared_sum)")
if traffic:
    insight.bars(traffic, ylabel="global accesses per element", title="16,384 elements, blocks of 256")

# %% [markdown]
# The interleaved tree saves no traffic, it only takes it off the queue. Shared memory takes it down to one access per element plus one per block, and that is the floor: a sum has to read its input.
#
# *In production* this is the whole idea of fused kernels. FlashAttention does not save additions either; it keeps the intermediate result in shared memory and registers, where the next step can have it for nothing.

# %% [markdown]
# ## Part 5: Sequential addressing
#
# In `shared_sum` the working threads are spread thin: at stride 8 threads 0, 16, 32, … work, one or two in each warp, and *every* warp is still busy. Pair by halves instead: at each level the threads `t < s` add `tile[t + s]`, with `s` going from half the block down to 1. The workers stand side by side, whole warps have nothing left to do and retire, and neighbouring threads touch neighbouring words, so no two of them meet in a bank.

# %%
for s in (64, 32, 16, 8):
    spread, packed = {t // 32 for t in range(0, 128, 128 // s)}, {t // 32 for t in range(s)}
    print(f"{s:2} of 128 threads work: neighbours keep {len(spread)} warps busy, halves {len(packed)}")


# %% [markdown]
# **Exercise 5 (4 points).** Write `sequential_sum`. Only the loop differs from Exercise 4. The order of the additions differs too, and the test will see it.

# %% nbgrader={"grade": false, "grade_id": "reduce-sequential", "locked": false, "schema_version": 3, "solution": true, "task": false}
@cuda.jit
def sequential_sum(x, partials):
    """Each block sums its blockDim.x elements of x by a tree of halves in shared memory.

    Args:
        x: float32, shape (n,), in global memory; any n. Comes out unchanged.
        partials: float32, shape (blocks,). Block b writes its sum to partials[b]; 0 if all of it lies past the end.

    Launch: [blocks, threads] with threads a power of two, at most MAX_THREADS.

    TODO: As in shared_sum, but for s = blockDim.x / 2, ..., 2, 1 let the threads t < s add tile[t + s].

    APPROACH:
        1. Load and wait as before, because that part was right.
        2. Start with half of the block and halve, because then the workers are always the first s threads.
        3. Keep the barrier outside of the if, because the idle threads have to reach it as well.

    EXAMPLE:
        >>> partials = np.zeros(2, np.float32)
        >>> sequential_sum[2, 4](np.arange(7, dtype=np.float32), partials)
        >>> partials
        array([ 6., 15.], dtype=float32)

    HINTS:
        1. Draw 8 numbers and fold the sheet of paper in the middle, three times.
        2. `s //= 2` ends at 0, which ends the loop.
        3. `while s > 0:` with s starting at `cuda.blockDim.x // 2`; a block of one thread has no level at all.
    """
    tile = cuda.shared.array(MAX_THREADS, float32)
    ### BEGIN SOLUTION
    t = cuda.threadIdx.x
    i = cuda.grid(1)
    tile[t] = x[i] if i < x.size else float32(0)
    cuda.syncthreads()
    s = cuda.blockDim.x // 2
    while s > 0:
        if t < s:
            tile[t] += tile[t + s]
        cuda.syncthreads()
        s //= 2
    if t == 0:
        partials[cuda.blockIdx.x] = tile[0]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-reduce-sequential", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: the order of the additions to the last bit, any length, warps that retire, no bank conflicts.
# Fails if: the pairs are still neighbours, the first level starts at the wrong stride, or a barrier is missing.
# A pass: the tree that CUB and most textbooks use within a block.
def check_sequential(n, blocks, threads, seed):
    x = numbers(n, seed)
    with checking.unchanged(x=x):
        return check_tree(sequential_sum, x, blocks, threads, "halves", barriers=threads.bit_length() - 1)


def test_unit_sequential():
    credit = checking.Credit(4)
    with credit.check("full blocks", points=2, hint="with 8 threads, level one adds tile[4] to tile[0]"):
        check_sequential(8, 1, 8, seed=1)
        ### BEGIN HIDDEN TESTS
        # check: four blocks of 256
        # hint: write down which threads add at each level, and what they read
        check_sequential(1024, 4, 256, checking.secret_seed())
        ### END HIDDEN TESTS
    with credit.check("any length", points=1, hint="what is in tile[t] if x[i] does not exist?"):
        check_sequential(13, 2, 8, seed=3)
        ### BEGIN HIDDEN TESTS
        # check: lengths that end inside a block, in front of one, or past the grid
        # hint: what does a thread without an element put into the tile?
        seed = checking.secret_seed()
        for n, blocks, threads in ((0, 1, 4), (1, 1, 8), (3, 3, 1), (9, 3, 8), (17, 2, 16), (40, 2, 8)):
            check_sequential(n, blocks, threads, seed + n)
        ### END HIDDEN TESTS
    with credit.check("idle warps retire, and no bank conflicts", points=1, hint="which threads work at each level?"):
        total = check_sequential(256, 1, 256, seed=5).total
        # 8 warps store what they loaded; 4, 2, 1 and five times 1 add (two loads and a store); one reads the end.
        most = 8 + 3 * (4 + 2 + 1 + 5) + 1
        assert total.shared_requests <= most, f"{total.shared_requests} shared accesses of warps; {most} are enough"
        assert total.max_ways == 1, f"bank conflicts: one access takes {total.max_ways} turns"
    return credit.total()


test_unit_sequential()


# %% [markdown]
# ### What just happened?
#
# You changed the order of the additions, and with it the last bits of the sum. Both sums are right: both keep to the same bound.

# %%
def two_orders():
    x = numbers(64, seed=9)
    return [float(launch(kernel, x, 1, 64)[0][0]) for kernel in (shared_sum, sequential_sum)], math.fsum(x.tolist())


insight.run(two_orders, needs="Exercises 4 and 5 (shared_sum, sequential_sum)")


# %% [markdown]
# ### Systems insight 2 of 3: who works, and who waits
#
# *Checkpoint:* two trees with the same number of additions. A tempting third one lets the *first* threads do the neighbour pairs (thread `t` works at `2 * s * t`), so that idle warps retire as well. It has another flaw. *Predict:* at stride 16, into how many different banks do the 8 working threads of a block of 256 write?

# %% nbgrader={"grade": false, "grade_id": "reduce-tempting", "locked": true, "schema_version": 3, "solution": false, "task": false}
@cuda.jit
def tempting(x, out):
    """Only the addresses of the third tree: at stride step, thread k writes to word 2 * step * k."""
    tile = cuda.shared.array(MAX_THREADS, float32)
    for level in range(8):
        word = (2 << level) * cuda.threadIdx.x
        if word < cuda.blockDim.x:
            tile[word] = 0
        cuda.syncthreads()


# %%
def warps_and_banks(threads=256):
    """Shared accesses of warps and the worst bank conflict, counted while the kernels run."""
    requests, ways = {}, {}
    for kernel in (shared_sum, sequential_sum, tempting):
        _, profile = launch(kernel, numbers(threads, seed=1), 1, threads)
        name = kernel.py_func.__name__
        requests[name], ways[name] = profile.total.shared_requests, profile.total.max_ways
    print(profile)  # of tempting, line by line
    profile.picture("tile[word] = 0")
    return requests, ways


# %%
levels_seen = insight.run(warps_and_banks, needs="Exercises 4 and 5 (shared_sum, sequential_sum)")
if levels_seen:
    insight.bars(levels_seen[0], ylabel="shared accesses of warps", title="one block of 256 threads")
    insight.bars(levels_seen[1], ylabel="turns of the worst access", title="bank conflicts (1 = none)")

# %% [markdown]
# `shared_sum` keeps warps busy with nothing, the tempting tree makes threads queue for a bank (its count of accesses is small because it only writes), and `sequential_sum` does neither. With 1,024 threads the conflict grows to 32 ways: at stride 16 a full warp writes to words 0, 32, 64, …, all in bank 0.
#
# *In production* you do not see this in the source but in a profiler: Nsight Compute reports "shared memory bank conflicts" and "active threads per warp" for each kernel. Now you know what you would look for in the code.

# %% [markdown]
# ## Part 6: Let each thread work before it talks
#
# So far each thread loads *one* number and then spends `log2(threads)` barriers talking about it. With more numbers than threads, let each first add many in a register, where nothing has to be waited for.
#
# Which numbers? Thread `g` of a grid of `G` threads takes `g, g + G, g + 2G, …`. At each step the threads of a warp read 32 *neighbours*: four sectors. (On a CPU you would give each thread one contiguous chunk. Here that is the wrong answer: the 32 loads of a warp would lie a chunk apart.) This is the *grid-stride loop*, and it makes the grid's size a free choice: any grid sums any length.

# %%
for g in range(4):
    print(f"thread {g} of 8 owns", list(range(g, 20, 8)))
first_loads = {"grid-stride": np.arange(32), "chunks of 100": 100 * np.arange(32)}
print("sectors of a warp's first load:", {name: len(set(i // 8)) for name, i in first_loads.items()})


# %% [markdown]
# **Exercise 6 (4 points).** Write `grid_stride_sum`.

# %% nbgrader={"grade": false, "grade_id": "reduce-grid-stride", "locked": false, "schema_version": 3, "solution": true, "task": false}
@cuda.jit
def grid_stride_sum(x, partials):
    """Any grid sums any length: each thread adds its elements in a register, then each block reduces by a tree.

    Args:
        x: float32, shape (n,), in global memory; any n, smaller or larger than the grid. Comes out unchanged.
        partials: float32, shape (blocks,). Block b writes the sum of its threads' elements to partials[b].

    Launch: [blocks, threads] with threads a power of two, at most MAX_THREADS. With G threads in the grid, the thread
    with cuda.grid(1) == g owns the elements g, g + G, g + 2 G, ...

    TODO: Add up the thread's own elements in a register, put the total into the tile, reduce the tile as before.

    APPROACH:
        1. Loop from cuda.grid(1) to x.size in steps of the grid, because then a warp always reads 32 neighbours.
        2. Accumulate in a float32 variable, because registers cost nothing and float64 is slow on most GPUs.
        3. Store the total in the tile and go on as in sequential_sum, because from here on it is the same problem.

    EXAMPLE:
        >>> partials = np.zeros(2, np.float32)
        >>> grid_stride_sum[2, 4](np.arange(20, dtype=np.float32), partials)
        >>> partials
        array([114.,  76.], dtype=float32)

    HINTS:
        1. `cuda.gridsize(1)` is the number of threads in the grid.
        2. Python's `range(start, stop, step)` works inside a kernel, and runs zero times if start >= stop.
        3. Start from float32(0); a thread without elements then stores 0 all by itself.
    """
    tile = cuda.shared.array(MAX_THREADS, float32)
    ### BEGIN SOLUTION
    t = cuda.threadIdx.x
    total = float32(0)
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        total += x[i]
    tile[t] = total
    cuda.syncthreads()
    s = cuda.blockDim.x // 2
    while s > 0:
        if t < s:
            tile[t] += tile[t + s]
        cuda.syncthreads()
        s //= 2
    if t == 0:
        partials[cuda.blockIdx.x] = tile[0]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-reduce-grid-stride", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: every partial against an exact sum within the tree's bound, which thread reads what, sectors per request.
# Fails if: threads take contiguous chunks, the stride is the block and not the grid, or one thread adds the whole tile.
# A pass: reads at full width, and a rounding error that grows with n / G and log2(threads), not with n.
def check_grid_stride(x, blocks, threads):
    with checking.unchanged(x=x):
        out, profile = launch(grid_stride_sum, x, blocks, threads)
    check_barriers(profile, blocks, threads.bit_length() - 1)
    owner = np.arange(x.size) % (blocks * threads) // threads
    # At most ceil(n / G) additions in the register, then log2(threads) levels; 1.01 covers gamma_k against k U.
    additions = math.ceil(x.size / (blocks * threads)) + threads.bit_length() - 1
    for b in range(blocks):
        mine = x[owner == b]
        atol = 1.01 * additions * U * np.abs(mine).sum(dtype=np.float64)
        what = f"partials[{b}] of grid_stride_sum[{blocks}, {threads}] on {x.size} elements"
        checking.close(out[b], math.fsum(mine.tolist()), rtol=0, atol=atol, what=what)
    checking.equal(profile.total.loads, x.size, what="elements loaded", hint="which elements does a thread own?")
    return profile


def test_unit_grid_stride():
    credit = checking.Credit(4)
    with credit.check("any grid, any length", points=3, hint="list by hand what thread 1 of [2, 4] reads of 20"):
        check_grid_stride(numbers(20, seed=1), blocks=2, threads=4)
        ### BEGIN HIDDEN TESTS
        # check: lengths shorter and longer than the grid
        # hint: by how much does a thread step, and where does it stop?
        seed = checking.secret_seed()
        for n, blocks, threads in ((0, 2, 4), (1, 1, 1), (3, 2, 8), (64, 2, 8), (97, 3, 8), (31, 1, 16)):
            check_grid_stride(numbers(n, seed + n), blocks, threads)
        # check: small values beside a large one
        # hint: are the threads' sums added in a tree, or one after the other?
        # One, and crumbs of half its last bit: a running sum over the tile loses them all, a tree keeps them.
        check_grid_stride(np.array([1.0] + 31 * [U], np.float32), blocks=1, threads=32)
        # check: a long array
        # hint: a rounding error that grows with the length points to a running sum
        check_grid_stride(numbers(100_003, seed), blocks=16, threads=256)
        ### END HIDDEN TESTS
    with credit.check("a warp's loads coalesce", points=1, hint="neighbouring threads have to read neighbouring elements"):
        total = check_grid_stride(numbers(2048, seed=2), blocks=1, threads=256).total
        total.requests, total.sectors = total.requests - 1, total.sectors - 1  # without the store of the partial
        checking.equal(total.sectors_per_request, 4.0, what="32-byte sectors per load of a warp")
    return credit.total()


test_unit_grid_stride()


# %% [markdown]
# ### What just happened?
#
# The number of barriers no longer depends on the length of the input. Neither does the number of blocks, so you can choose it to fill the machine: a few blocks for each multiprocessor, and every one of them busy to the end.

# %%
def any_grid():
    x = np.arange(1000, dtype=np.float32)
    return {grid: float(launch(grid_stride_sum, x, *grid)[0].sum()) for grid in ((1, 4), (2, 8), (3, 16))}


insight.run(any_grid, needs="Exercise 6 (grid_stride_sum)")  # 499500 for each grid

# %% [markdown]
# ## Part 7: Two stages make a sum
#
# A barrier holds for one block. To make one number of the blocks' partial sums all blocks have to be finished, and the one thing that everybody agrees on is the end of a kernel. So launch twice: the first launch leaves one partial per block, the second sums the partials with a single block. The grid-stride kernel can do both, because any grid sums any length.
#
# What travels is as important as what is computed: `x` goes to the device once, the partials never leave it, and one number comes back.

# %%
on_device = cuda.to_device(np.arange(3, dtype=np.float32))  # host -> device
empty = cuda.device_array(3, np.float32)  # on the device; nothing is copied
print(type(on_device).__name__, empty.shape, "back on the host:", on_device.copy_to_host())


# %% [markdown]
# **Exercise 7 (4 points).** Write `two_stage_sum` for whatever kernel it is given. (The test gives it some that do not even add.)

# %% nbgrader={"grade": false, "grade_id": "reduce-two-stage", "locked": false, "schema_version": 3, "solution": true, "task": false}
def two_stage_sum(kernel, x: np.ndarray, blocks: int, threads: int) -> float:
    """Reduce x to one number with two launches of a grid-stride kernel.

    Args:
        kernel: called as kernel[blocks, threads](input, output), both on the device; such as grid_stride_sum.
        x: float32 on the host, shape (n,); any n, any strides. Comes out unchanged.
        blocks: blocks of the first launch; the second has one block.
        threads: per block, in both launches.

    Returns:
        What the second launch wrote, as a Python float.

    Raises:
        ValueError: threads is not a power of two, before anything is launched.

    TODO: Copy x to the device, launch [blocks, threads] into partials and [1, threads] into total, fetch total.

    APPROACH:
        1. Refuse a block that cannot be halved down to 1, because 96 -> 48 -> 24 -> 12 -> 6 -> 3 -> 1 drops a thread.
        2. Make both outputs on the device, because an array from the host would be copied there and back.
        3. Feed the partials to the same kernel with one block, because the first launch has finished by then.

    EXAMPLE:
        >>> two_stage_sum(grid_stride_sum, np.arange(20, dtype=np.float32), blocks=2, threads=4)
        190.0

    HINTS:
        1. A power of two and the number below it have no bit in common (`&`); 0 is no power of two.
        2. `cuda.to_device` wants contiguous memory; `np.ascontiguousarray` copies only if it has to.
        3. The cell above shows all three: to the device, on the device, and back, which waits for both launches.
    """
    ### BEGIN SOLUTION
    if threads < 1 or threads & (threads - 1):
        raise ValueError(f"a tree needs a power of two of threads, not {threads}")
    source = cuda.to_device(np.ascontiguousarray(x))
    partials = cuda.device_array(blocks, np.float32)
    total = cuda.device_array(1, np.float32)
    kernel[blocks, threads](source, partials)
    kernel[1, threads](partials, total)
    return float(total.copy_to_host()[0])
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "reduce-spy", "locked": true, "schema_version": 3, "solution": false, "task": false}
class Spy:
    """Stands in for a kernel: notes each launch, and reduces what it is given by a rule of its own."""

    def __init__(self, rule):
        self.rule, self.launches, self.arrays = rule, [], []

    def __getitem__(self, configuration):
        def call(source, target):
            for array in (source, target):
                assert hasattr(array, "copy_to_host"), f"launch on device arrays, not on {type(array).__name__}"
            blocks, threads = (int(np.prod(part)) for part in configuration[:2])
            values = source.copy_to_host()
            self.launches.append((blocks, threads, source.size, target.size))
            self.arrays.append((source, target))
            target.copy_to_device(np.array([self.rule(values[b::blocks]) for b in range(blocks)], np.float32))

        return call


# %% nbgrader={"grade": false, "grade_id": "reduce-largest", "locked": true, "schema_version": 3, "solution": false, "task": false}
def largest(values):
    """A reduction that is no sum."""
    return values.max(initial=-np.inf)


# %% nbgrader={"grade": true, "grade_id": "test-reduce-two-stage", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: two launches, of the right size, on device arrays, and that the answer is the kernel's, whatever it computes.
# Fails if: the host adds, the partials travel, the second launch has several blocks, or strides and lengths break it.
# A pass: the host does no arithmetic; it launches twice and reads four bytes.
def check_two_stage(rule, x, blocks, threads):
    spy = Spy(rule)
    with checking.unchanged(x=x):
        got = two_stage_sum(spy, x, blocks, threads)
    parts = np.array([rule(x[b::blocks]) for b in range(blocks)], np.float32)
    checking.equal(got, float(np.float32(rule(parts))), what=f"two_stage_sum of {x.size} elements with {rule.__name__}")
    want = [(blocks, threads, x.size, blocks), (1, threads, blocks, 1)]
    checking.equal(spy.launches, want, what="launches as (blocks, threads, length of input, of output)")
    checking.equal(spy.arrays[0][0].copy_to_host(), np.ascontiguousarray(x), what="input of the first launch")
    assert spy.arrays[1][0] is spy.arrays[0][1], "the second launch has to read the array that the first one wrote"


def test_unit_two_stage():
    credit = checking.Credit(4)
    with credit.check("two launches, and the kernel's answer", points=2):
        check_two_stage(np.sum, np.arange(20, dtype=np.float32), blocks=2, threads=4)
        check_two_stage(largest, numbers(50, seed=1), blocks=3, threads=8)
        ### BEGIN HIDDEN TESTS
        # check: another reduction than a sum
        # hint: which kernel do you launch the second time, and on what?
        check_two_stage(largest, numbers(1000, checking.secret_seed()), blocks=7, threads=256)
        ### END HIDDEN TESTS
    with credit.check("any length and any strides", points=1):
        check_two_stage(np.sum, np.arange(40, dtype=np.float32)[::-3], blocks=2, threads=4)
        ### BEGIN HIDDEN TESTS
        # check: an empty array
        # hint: how many blocks does the first launch get, and what does an idle block write?
        check_two_stage(np.sum, np.zeros(0, np.float32), blocks=1, threads=2)
        # check: more blocks than elements
        # hint: what is the partial of a block without elements?
        check_two_stage(largest, numbers(3, checking.secret_seed()), blocks=5, threads=1)
        ### END HIDDEN TESTS
    with credit.check("threads that are no power of two are refused", points=1):
        spy = Spy(np.sum)
        for threads in (96, 0, 3):
            checking.raises(ValueError, two_stage_sum, spy, numbers(9, 1), 2, threads, what=f"{threads} threads")
        checking.equal(spy.launches, [], what="launches before the refusal")
        check_two_stage(np.sum, np.ones(3, np.float32), blocks=1, threads=1)
    return credit.total()


test_unit_two_stage()


# %% [markdown]
# ### What just happened?
#
# You wrote a complete reduction: any length, a fixed order, an error bound, two launches. `torch.sum` on a GPU has the same two stages (it saves the second launch by letting the last block to finish do it, with an atomic counter).

# %%
def whole():
    x = numbers(500, seed=12)
    error = abs(two_stage_sum(grid_stride_sum, x, blocks=4, threads=16) - math.fsum(x.tolist()))
    return f"error {error:.1e}, bound {rounding_bound(x, additions=8 + 4 + 1 + 4):.1e}"


insight.run(whole, needs="Exercises 1, 6 and 7")


# %% [markdown]
# ## Part 8: Registers talk to registers
#
# The last five levels happen inside one warp, and the threads of a warp can hand each other values directly. `cuda.shfl_down_sync(mask, value, offset)` hands each thread the `value` that the thread `offset` lanes above holds in a *register*: no shared memory, no barrier. Five of them sum a warp; each warp then needs only one slot in shared memory and the block a single barrier.
#
# The mask `0xFFFFFFFF` promises that all 32 lanes take part. The simulator runs shuffles as well, so this is graded with and without a GPU.
#
# **Exercise 8 (3 points).** Write `warp_sum` and `shuffle_sum`.

# %% nbgrader={"grade": false, "grade_id": "reduce-shuffle", "locked": false, "schema_version": 3, "solution": true, "task": false}
@cuda.jit(device=True)
def warp_sum(value):
    """Sum of `value` (float32) over the 32 threads of a warp. Lane 0 returns the sum; other lanes, anything.

    EXAMPLE, with an array in place of the 32 registers:
        >>> lanes = np.arange(32)
        >>> for offset in (16, 8, 4, 2, 1):
        ...     lanes[:-offset] += lanes[offset:]
        >>> int(lanes[0])
        496
    """
    ### BEGIN SOLUTION
    for offset in (16, 8, 4, 2, 1):
        value += cuda.shfl_down_sync(0xFFFFFFFF, value, offset)
    return value
    ### END SOLUTION


@cuda.jit
def shuffle_sum(x, partials):
    """As grid_stride_sum, but the block reduces by shuffles: one barrier, one shared slot per warp.

    Launch: [blocks, threads] with threads a multiple of 32, at most 1024; x and partials as in grid_stride_sum.

    TODO: Grid-stride total in a register, warp_sum, lane 0 to its warp's slot, barrier, warp 0 sums the slots.

    APPROACH:
        1. Let lane 0 of each warp store the warp's sum, because after warp_sum only lane 0 has it.
        2. Place the one barrier, because warp 0 is about to read what other warps stored.
        3. Let all of warp 0 call warp_sum again, because the mask 0xFFFFFFFF promises that all 32 lanes take part.

    HINTS:
        1. t % 32 is the lane, t // 32 the warp.
        2. In warp 0, thread t loads slots[t] if there is a warp t, else 0.
        3. `if t < 32:` around the second step keeps whole warps together.
    """
    slots = cuda.shared.array(32, float32)
    ### BEGIN SOLUTION
    t = cuda.threadIdx.x
    total = float32(0)
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        total += x[i]
    total = warp_sum(total)
    if t % 32 == 0:
        slots[t // 32] = total
    cuda.syncthreads()
    if t < 32:
        total = warp_sum(slots[t] if t < cuda.blockDim.x // 32 else float32(0))
        if t == 0:
            partials[cuda.blockIdx.x] = total
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-reduce-shuffle", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Checks: every partial sum within the bound of its few additions, for one warp, several, and all 32.
# Fails if: a lane is left out, warps overwrite each other's slots, or slots of warps that do not exist are added.
# A pass: a block reduction with a single barrier.
def check_shuffle(n, blocks, threads, seed):
    x = numbers(n, seed)
    with checking.unchanged(x=x):
        out, profile = launch(shuffle_sum, x, blocks, threads)
    assert profile.total.barriers <= blocks, "one barrier for each block is enough"
    owner = np.arange(n) % (blocks * threads) // threads
    # ceil(n / G) additions in the register, 5 in the warp, 5 over the slots; 1.01 covers gamma_k against k U.
    additions = math.ceil(n / (blocks * threads)) + 10
    for b in range(blocks):
        mine = x[owner == b]
        atol = 1.01 * additions * U * np.abs(mine).sum(dtype=np.float64)
        what = f"partials[{b}] of shuffle_sum[{blocks}, {threads}] on {n} elements"
        checking.close(out[b], math.fsum(mine.tolist()), rtol=0, atol=atol, what=what)


def test_unit_shuffle():
    check_shuffle(32, 1, 32, seed=1)
    check_shuffle(1000, 2, 64, seed=2)
    ### BEGIN HIDDEN TESTS
    # check: other lengths, and blocks of one warp to thirty-two
    # hint: how many warps has the block, and what do the lanes without a warp's sum hold at the end?
    seed = checking.secret_seed()
    shapes = (0, 1, 32), (1, 1, 1024), (31, 2, 32), (1023, 1, 1024), (4097, 3, 96), (999, 1, 992), (20_011, 4, 256)
    for n, blocks, threads in shapes:
        check_shuffle(n, blocks, threads, seed)
    ### END HIDDEN TESTS


test_unit_shuffle()


# %% [markdown]
# ### What just happened?
#
# Ten shuffles took the place of up to ten barriers and of nearly all shared memory. PyTorch and CUB reduce a block in the same way. Count it against the tree:

# %%
def barriers_of_both():
    x = numbers(2**13, seed=13)
    kernels = (grid_stride_sum, shuffle_sum)
    return {k.py_func.__name__: launch(k, x, 4, 256)[1].total.barriers // 4 for k in kernels}


insight.run(barriers_of_both, needs="Exercises 6 and 8")  # barriers in each block


# %% [markdown]
# ### Systems insight 3 of 3: the whole staircase, measured
#
# *Checkpoint:* the same 16,384 numbers, summed by five of your kernels. *Predict:* which has the smallest rounding error, and which bound is the tightest? In the simulator, expect the clock to say something about NumPy on your CPU and nothing about GPUs.

# %%
def step(kernel, grid, slots, additions, n=2**14, threads=256):
    """Time, error and your bound of one kernel; an element passes through `additions` additions at most."""
    x = numbers(n, seed=8)
    out, _ = launch(kernel, x, grid, threads, out=np.zeros(slots, np.float32))
    error, source = abs(math.fsum(out.tolist()) - math.fsum(x.tolist())), cuda.to_device(x)
    fresh = lambda: (cuda.to_device(np.zeros(slots, np.float32)),)
    clock = timing.measure(lambda out: kernel[grid, threads](source, out), fresh, repeats=3, warmup=1)
    return clock, error, rounding_bound(x, additions)


# %%
def staircase():
    plans = (
        (atomic_sum, 64, 1, 2**14), (shared_sum, 64, 64, 8), (sequential_sum, 64, 64, 8),
        (grid_stride_sum, 8, 8, 8 + 8), (shuffle_sum, 8, 8, 8 + 10),
    )
    return {plan[0].py_func.__name__: step(*plan) for plan in plans}


measured = insight.run(staircase, needs="Exercises 1, 2, 4, 5, 6 and 8") or {}
for name, (clock, error, bound) in measured.items():
    print(f"{name:16} error {error:7.1e}, bound {bound:7.1e}   {clock}")


# %% [markdown]
# Errors keep to your bounds, and the bounds say what you may promise: the atomic kernel's grows with `n`, the trees' with `log2`, and the grid-stride kernel's in between, set by how much work you give to each thread. Times that the clock calls *simulated* rank the simulator. Your Spark ranks the kernels, further down.
#
# *In production* the same table decides whether a loss is summed in float32 or float64, and whether "deterministic" is a promise or a hope.

# %% [markdown]
# ## Put it together
#
# Three ways to one answer: the module's integration test (no points). `test_unit_all` then calls every test of the lab again and says which pass.

# %%
def test_module():
    """Three ways from x to one number agree within their bounds."""
    x = numbers(200, seed=11)
    exact = math.fsum(x.tolist())
    total, _ = launch(atomic_sum, x, 25, 8, out=np.zeros(1, np.float32))
    partials, _ = launch(sequential_sum, x, 25, 8)
    staged = two_stage_sum(grid_stride_sum, x, blocks=4, threads=8)
    # 200 additions in a queue; 3 levels, and then exactly; ceil(200 / 32) + 3 + 1 + 3 additions in two stages.
    for got, additions in ((float(total[0]), 200), (math.fsum(partials.tolist()), 3), (staged, 14)):
        assert abs(got - exact) <= rounding_bound(x, additions), f"{got} is not {exact} within {additions} additions"
    return "one sum, three ways"


# %%
insight.run(test_module, needs="Exercises 1, 2, 5, 6 and 7")


# %%
def test_unit_all():
    """Call every test again; say how each one ends."""
    for test in (test_unit_bound, test_unit_atomic, test_unit_interleaved, test_unit_shared, test_unit_sequential,
                 test_unit_grid_stride, test_unit_two_stage, test_unit_shuffle):
        try:
            points = test()
            verdict = "passes" if points is None else f"earns {points:g} points"
        except Exception as error:
            verdict = f"fails: {type(error).__name__}"
        print(f"==> {test.__name__} {verdict}")


# %%
test_unit_all()


# %% [markdown]
# ## Use it: layer norm, one block per row
#
# Give each *row* of a matrix to one block and a block sum becomes a row reduction. Layer norm needs two of them per row: the mean, and the mean square of what is left. Below, activations of 8 tokens with 32 features each, some tokens far too loud; your `sequential_sum` supplies both sums. The reference is PyTorch's own.

# %%
def layer_norm(activations, eps=1e-5):
    """(tokens, features) -> the same, each row with mean 0 and variance 1. Features must be a power of two."""
    tokens, features = activations.shape
    sums, _ = launch(sequential_sum, activations.ravel(), tokens, features)
    centred = activations - (sums / features)[:, None]
    squares, _ = launch(sequential_sum, (centred**2).ravel(), tokens, features)
    return centred / np.sqrt(squares / features + eps)[:, None]


# %%
rng = np.random.default_rng(3)
loudness, offset = 4 ** rng.uniform(-2, 2, (8, 1)), rng.normal(0, 3, (8, 1))
before = (loudness * rng.standard_normal((8, 32)) + offset).astype(np.float32)
after = insight.run(lambda: layer_norm(before), needs="Exercise 5 (sequential_sum)")

# %%
import torch

if after is not None:
    reference = torch.nn.functional.layer_norm(torch.from_numpy(before), (32,)).numpy()
    print(f"largest difference from torch's layer_norm: {np.abs(after - reference).max():.1e}")

# %%
import matplotlib.pyplot as plt

if after is not None:
    _, (left, right) = plt.subplots(1, 2, figsize=(8, 2.8))
    for axes, image, title in ((left, before, "before"), (right, after, "after layer norm")):
        axes.imshow(image, cmap="coolwarm", vmin=-8, vmax=8)
        axes.set(title=title, xlabel="feature", ylabel="token")

# %% [markdown]
# ## On your Spark
#
# Now the real size: 2**28 float32, 1 GiB, far more than any cache. Everything you wrote is plain `numba.cuda` and runs as it is.
#
# 1. Start the container `nvcr.io/nvidia/pytorch:25.11-py3` with `--gpus all --ipc=host` (lab 1.1.3) and install the course's packages in it; `python -m labkit` should greet your Spark by name.
# 2. CPU and GPU share the 128 GB, and the page cache holds on to what it can. Clear it: `sudo sh -c 'sync; echo 3 > /proc/sys/vm/drop_caches'`.
# 3. Run the next cell. It measures the *roof* first: a kernel that only copies, in the same run, because clocks move. GB10's memory is rated at 273 GB/s (NVIDIA's data sheet); the copy tells you what is to be had.
# 4. Then profile one launch: `ncu --set full -k regex:grid_stride -c 1 python your_script.py`, and look for *memory throughput* and *sectors per request*.
#
# Measure: milliseconds and GB/s for each kernel, the fraction of the roof, and how many times faster it is than NumPy on the CPU. On another GPU do the same. Without one, read the code, predict the ranking, and leave the record empty. This section has not yet been measured on a GPU by the authors; your numbers are news.

# %%
from labkit import fullsize


def full_size(n=2**28, threads=256):
    """Each kernel on n float32, beside NumPy on one core of the CPU and torch.sum on the GPU."""
    hardware.require_gpu("the full-size run")
    import torch

    numbers = np.random.default_rng(0).standard_normal(n, dtype=np.float32)
    x, tensor = cuda.to_device(numbers), torch.from_numpy(numbers).to("cuda")
    cpu, library = fullsize.cpu_seconds(numbers.sum), timing.measure(tensor.sum, repeats=10).median
    fit, total = 8 * cuda.get_current_device().MULTIPROCESSOR_COUNT, numbers.sum(dtype=np.float64)
    plans = ((atomic_sum, n // threads), (sequential_sum, n // threads), (grid_stride_sum, fit), (shuffle_sum, fit))
    rows = []
    for kernel, blocks in plans:
        out = cuda.to_device(np.zeros(blocks, np.float32))
        kernel[blocks, threads](x, out)
        # In float32 one by one, each of n roundings is below 6e-3 and of either sign: a spread of less than 2**14 * 6e-3 = 98.
        assert abs(out.copy_to_host().sum(dtype=np.float64) - total) < 100, f"{kernel.py_func.__name__} is wrong"
        clock = timing.measure(lambda k=kernel, b=blocks, o=out: k[b, threads](x, o), repeats=10)
        rows.append(fullsize.Measured(kernel.py_func.__name__, clock.median, 4 * n, cpu_s=cpu, library_s=library))
    return rows


# %%
def against_the_roof():
    """GB/s of each kernel and of a copy, from one run."""
    rows, roofs = full_size(), fullsize.roofs()
    fullsize.show(rows, roofs)
    return {"roof (copy)": roofs.bandwidth / 1e9} | {row.kernel: row.nbytes / row.seconds / 1e9 for row in rows}


# %%
if device.simulated:
    print("No GPU here: the simulator is not made for 2**28 elements.")
else:
    speeds = insight.run(against_the_roof, needs="Exercises 2, 5, 6 and 8")
    if speeds:
        insight.bars(speeds, ylabel="GB/s", title=f"2**28 float32 on {device}")

# %% [markdown]
# **Record** what you measured: replace each `None`. The cell after it looks at the form; a person looks at the content.

# %%
spark_record = {
    "device": None,                # such as "NVIDIA GB10"
    "elements": None,              # such as 2**28
    "roof_gb_per_s": None,         # the copy, measured in the same run
    "gb_per_s": {"atomic_sum": None, "sequential_sum": None, "grid_stride_sum": None, "shuffle_sum": None},
}


# %% nbgrader={"grade": false, "grade_id": "reduce-record", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_record(record):
    """Whether the record is complete and possible. Nothing is graded here."""
    speeds = record["gb_per_s"]
    missing = [name for name, value in (record | speeds).items() if value is None]
    if missing:
        return f"Still empty: {', '.join(missing)}. That is fine without a GPU."
    roof = record["roof_gb_per_s"]
    too_fast = [name for name, value in speeds.items() if value > 1.2 * roof]
    if not 10 < roof < 10_000:
        return f"A roof of {roof} GB/s? Copies on today's GPUs reach 10 to 10,000 GB/s; look at the units."
    if too_fast:
        return f"Faster than a copy: {', '.join(too_fast)}. Was the cache flushed, and n at least 2**26?"
    best = max(speeds, key=speeds.get)
    return f"{record['device']}: {best} reaches {speeds[best] / roof:.0%} of the measured roof."


# %%
print(check_record(spark_record))

# %% [markdown]
# ## Common mistakes
#
# **1. The barrier inside the if.** The threads that skip it never arrive: undefined behaviour, often a hang.
#
# ```python
# if adds_at_this_level:               if adds_at_this_level:
#     tile[t] += ...                       tile[t] += ...
#     cuda.syncthreads()   # wrong     cuda.syncthreads()        # right: everybody arrives
# ```
#
# **2. No barrier after the load.** It often comes out right with one warp and small inputs, which is the trouble.
#
# ```python
# tile[t] = ...                        tile[t] = ...
# for each level:      # wrong         cuda.syncthreads()        # right
#     tile[t] += ...                   for each level: ...
# ```
#
# **3. Returning early.** A thread past the end leaves, its slot of the tile stays garbage, and it misses every barrier.
#
# ```python
# if past_the_end:                     tile[t] = 0 if past_the_end else ...   # right: it stays,
#     return           # wrong         # brings the neutral element, and comes to every barrier
# ```

# %% [markdown]
# **4. A contiguous chunk for each thread.** Good for a CPU's cache, ruinous for a warp: 32 loads in 32 sectors.
#
# ```python
# for i in range(g * chunk, (g + 1) * chunk):    # wrong: neighbouring threads are a chunk apart
# for i in range(g, x.size, cuda.gridsize(1)):   # right: neighbouring threads read neighbours
# ```
#
# **5. `+=` in place of an atomic.** Read, add, write: two threads read the same old total, and one addition is lost.
#
# ```python
# out[0] += x[i]                                 # wrong
# cuda.atomic.add(...)                           # right
# ```
#
# **6. A block of 96 threads.** 96 → 48 → 24 → 12 → 6 → 3 → 1: at 3, `t < 1` adds `tile[1]`, and `tile[2]` is forgotten. Refuse it, or round up to a power of two and fill with zeros.

# %% [markdown]
# ## Reflect
#
# Three questions, read by a person, on your own kernels and measurements. A few sentences and the numbers are enough.

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-reduction-bandwidth", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Question 1: memory (3 points).** Take the counts of *your* `interleaved_sum` and `shared_sum` from systems insight 1. (a) Explain both numbers from your code. (b) At 273 GB/s and 4 bytes per access, how long would each take at least for 2**28 elements in blocks of 256? (c) Your `shared_sum` has as little global traffic as a sum can have, and yet `grid_stride_sum` beats it on a GPU. Name what it saves. If you have a GPU, use your record.
#
# ### BEGIN SOLUTION
# (a) `shared_sum` reads each element once and stores once per block of 256: 1 + 1/256 = 1.004. `interleaved_sum` does 255 additions per block, each with two reads and one write in global memory, and a read and a store at the end: (255 * 3 + 2) / 256 = 2.996. (b) 1.004 * 2**28 * 4 bytes / 273e9 = 3.9 ms against 11.8 ms, if no cache helps. (c) It needs one tree per block of the grid instead of one for every 256 elements: fewer barriers, fewer half-idle levels, fewer blocks to start, and longer runs of independent loads in flight.
#
# ### BEGIN MARK SCHEME
# - 1 point: both counts derived from their own code (other counts are fine if their code explains them). Half: the numbers without the derivation of the 2.996.
# - 1 point: accesses * 2**28 * 4 / 273e9 with their counts, in milliseconds. That caches may serve part of the interleaved traffic is a welcome remark, not needed.
# - 1 point: barriers, levels or idle lanes per element, or block start-up; with numbers from the record if there is one. Nothing for "it is coalesced": both are.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-reduction-scaling", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Question 2: scaling (3 points).** You sum 2**30 float32 numbers between 0 and 1 with `two_stage_sum(grid_stride_sum, x, blocks, 256)`. (a) From your own kernel, give the longest chain of additions that an element passes through, as a function of `blocks`. (b) Use `rounding_bound` for the guaranteed *relative* error with 1 block and with 1,024 blocks. (c) More blocks lower the bound. Say what else rises or falls, and which number of blocks you would choose.
#
# ### BEGIN SOLUTION
# (a) Stage one: ceil(2**30 / (256 blocks)) in the register and 8 levels; stage two: ceil(blocks / 256) and 8 levels. (b) All numbers are positive, so the relative error is at most gamma_k. 1 block: k = 2**22 + 8 + 1 + 8, k U = 0.25, gamma = 0.33: not one digit. 1,024 blocks: k = 4096 + 8 + 4 + 8 = 4116, gamma = 2.5e-4. (c) More blocks fill the machine until every multiprocessor has enough warps to hide the latency of its loads; beyond that only partials, start-up of blocks and stage two grow. I would take about 8 blocks for each of GB10's 48 multiprocessors.
#
# ### BEGIN MARK SCHEME
# - 1 point: both stages, with register and levels (one more or less for the addition to the starting 0 is fine). Half: stage one only.
# - 1 point: both numbers, up to rounding, and that the sum of |x| cancels because all x are positive. Half: one number.
# - 1 point: names what saturates and what grows, and a choice tied to the number of multiprocessors. Half: "as many as possible" with a reason.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-reduction-production", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Question 3: production (3 points).** A team's training loss differs in the last digits between two runs with the same seed. Their loss kernel looks like your `atomic_sum`. (a) Explain it by the order of additions, with an example of three float32 numbers. (b) Which of your kernels would you give them, and what exactly does it guarantee? (c) They want `x` spread over 1 to 8 GPUs and the same bits each time. What has to stay fixed that your `two_stage_sum` takes as a parameter?
#
# ### BEGIN SOLUTION
# (a) Atomics are done in the order of arrival, which differs from run to run, and float32 addition is not associative: (1 + 2**-24) + 2**-24 = 1, but 1 + (2**-24 + 2**-24) = 1 + 2**-23. (b) `two_stage_sum` with `grid_stride_sum`: the order of all additions follows from n, blocks and threads alone, so equal inputs give equal bits, and the error stays within gamma_k. (c) The shape of the whole tree: which element goes to which block, blocks, threads, and the order in which partials are combined. For instance always 1,024 virtual blocks, spread over however many GPUs there are, the partials gathered in block order and reduced on one of them.
#
# ### BEGIN MARK SCHEME
# - 1 point: order of arrival, and a correct example. Half: "floating point is not associative" without numbers.
# - 1 point: a kernel with a fixed order, and both guarantees, same bits for the same launch and the bound. Half: only the kernel with one of them.
# - 1 point: independence of the number of GPUs of the assignment to blocks *and* of the combination of partials. Half: "fix blocks and threads".
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# You built six kernels and a host function around them, each for one reason:
#
# | stage | what it fixed |
# |---|---|
# | `atomic_sum` | correct for any length |
# | `interleaved_sum` | no queue: a tree, in a fixed order |
# | `shared_sum` | intermediate results leave global memory |
# | `sequential_sum` | idle warps retire, no bank conflicts |
# | `grid_stride_sum` | many numbers per barrier, coalesced, any grid |
# | `two_stage_sum` | one number, four bytes back to the host |
# | `shuffle_sum` | one barrier per block, registers in place of shared memory |
#
# The next cell repeats, in numbers, what this notebook measured of *your* code.

# %%
if globals().get("traffic") and globals().get("levels_seen"):
    print("global accesses per element:", {name: round(count, 2) for name, count in traffic.items()})
    print("shared accesses of warps:   ", levels_seen[0])
    print("turns of the worst access:  ", levels_seen[1])
for name, (_, error, bound) in measured.items():
    print(f"{name}: error {error:.1e} within {bound:.1e}")

# %% [markdown]
# ## Challenge (optional)
#
# - **Add on the way in.** Let each thread of `sequential_sum` load *two* elements, half a block's work each, so that no thread starts idle. What happens to the bits?
# - **Kahan in a register.** Keep a compensation term in the grid-stride loop. What is the bound now, and what does it cost in instructions? In bandwidth?
# - **arg max.** Reduce pairs (value, index). Ties: which index should win, and does your tree agree?
# - **One launch.** Let the last block to finish do stage two (an atomic counter, `cuda.threadfence()`). Why is the fence needed?
#
# ## Further reading
#
# - Mark Harris, *Optimizing Parallel Reduction in CUDA* (NVIDIA, 2007): the staircase that this lab follows, on a GPU of its time.
# - Justin Luitjens, *Faster Parallel Reductions on Kepler* (NVIDIA developer blog, 2014): shuffles, and a one-launch variant.
# - N. J. Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd ed., chapter 4: the rounding error of summation.
# - NVIDIA, *CUDA C++ Best Practices Guide*, sections on coalesced access and on shared memory and its banks.
#
# ## Clean up

# %%
plt.close("all")
if not device.simulated:
    cuda.current_context().deallocations.clear()  # give the memory of freed arrays back now
print("Done. Next: lab 1.3.2, where a tile of shared memory is read many times.")
