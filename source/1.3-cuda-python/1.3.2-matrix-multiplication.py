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
# # Lab 1.3.2: Matrix multiplication
#
# | | |
# |---|---|
# | Module | 1.3 CUDA Python and GPU programming |
# | Time | 3 hours |
# | Difficulty | ★★★★☆ |
# | Hardware | gpu-optional: without a GPU all of it runs in a simulator |
# | Points | 30 automatic, 9 read by a person |
# | Builds on | 1.3.1 (parallel reduction: shared memory, barriers, coalescing) |
#
# You will multiply two matrices. The arithmetic never changes; you change only how often a number is fetched: anew for every multiplication, or once for 128 of them. It is the difference between a hundredth of a GPU and most of it.

# %% [markdown]
# ## What you'll achieve
#
# 1. **See the machine** (objective 1.3.1): predict from bytes, operations and shared memory which part of a GPU holds a kernel up, and check the prediction by counting.
# 2. **Write kernels** (1.3.2): a matrix product for any shape, first naive, then tiled in shared memory, then tiled in registers.
# 3. **Learn a pattern** (1.3.3): stage a tile, wait, use it many times, wait. Convolution, attention and every GEMM library are built on it.
# 4. **Meet the production tool** (1.3.2): `torch.matmul` hands your problem to cuBLAS; you write the host side that checks shapes, looks at layouts and picks a kernel, and set it beside the library.
# 5. **Weigh a trade-off** (1.3.3): a larger tile reuses more and leaves room for fewer blocks; padding costs memory and buys back turns.

# %% [markdown]
# ## Before you start
#
# | | |
# |---|---|
# | You have built | sums in shared memory with barriers in the right places, coalesced loads, an error bound that you can defend (1.3.1) |
# | What works | each element is read once, so the memory's speed is the limit, and you reach it |
# | The gap | in a product each element is needed *many* times, and reading it from global memory every time wastes nearly all of the GPU |
# | This lab | keeps what is needed again close by: first in shared memory, then in registers |
#
# ```
#                                             ┌─→ 1.3.3 embedding lookup (rows, coalesced)
# 1.2.1 arrays, strides ────┐                 │
# 1.3.1 shared memory ──────┴─→ 1.3.2 matmul ─┼─→ 2.3 attention: Q K^T is Exercise 3
#                                             └─→ 1.3.5 profiling
# ```

# %% [markdown]
# **Check yourself 1.** `cuda.grid(2)` returns `(x, y)`. Threads of a warp have consecutive `threadIdx.x`. In a C-ordered (row-major) matrix, should `x` be the row or the column?
#
# <details><summary>Answer</summary>
#
# The column. Elements of one row lie side by side in memory, so a warp that runs along a row touches neighbours: 32 float32 in 4 sectors of 32 bytes. Down a column they would be a row's length apart, in 32 sectors.
# </details>
#
# **Check yourself 2.** `b` has shape (5, 7), float32, C order. What are its strides, and those of `b.T`? What did `b.T` copy?
#
# <details><summary>Answer</summary>
#
# `b.strides == (28, 4)` and `b.T.strides == (4, 28)`, in bytes. Nothing is copied: a transpose is the same memory read by other strides.
# </details>
#
# **Check yourself 3.** A block writes its tile of shared memory, reads it, and then writes the next tile over it. How many barriers does each round need?
#
# <details><summary>Answer</summary>
#
# Two. One after writing, so that nobody reads what is not there yet. One after reading, so that nobody overwrites what a slower thread still needs.
# </details>

# %% nbgrader={"grade": false, "grade_id": "matmul-setup", "locked": true, "schema_version": 3, "solution": false, "task": false}
from labkit import hardware

device = hardware.prepare_cuda()  # before numba.cuda is imported: it may have to simulate

from typing import NamedTuple

import numpy as np
from labkit import checking, cudasim, insight, launching, timing
from numba import cuda, float32

print(f"Kernels run on: {device}")


# %% [markdown]
# **Ready?** The next cell launches a two-dimensional kernel. If it prints a 2 × 3 table of `10 * row + column`, everything you need is here.

# %% nbgrader={"grade": false, "grade_id": "matmul-ready", "locked": true, "schema_version": 3, "solution": false, "task": false}
@cuda.jit
def where_am_i(out):
    """out[row, column] = 10 row + column."""
    across, down = cuda.grid(2)
    if down < out.shape[0] and across < out.shape[1]:
        out[down, across] = 10 * down + across


# %%
table = np.zeros((2, 3), np.int64)
where_am_i[(2, 1), (2, 2)](table)  # 2 blocks across, 1 down, each of 2 x 2 threads
print(table)

# %% [markdown]
# ## Why it matters
#
# Nearly all of the work of a language model is matrix products. One token's way through a model of 8 billion parameters is about 16 billion floating-point operations, and all but a percent or so of them are inside `x @ W.T`. Training does three times as many per token: one product forward and two backward.
#
# A modern GPU can do a hundred operations or more in the time in which its memory delivers one number. A kernel that fetches two numbers for each multiplication therefore leaves more than 99 % of the machine idle, however many threads it starts. That is not a detail for specialists: it decides whether a training run takes a day or a season, and it is why the same idea comes back under other names: tiling, blocking, fusion, FlashAttention.
#
# The second cost is quieter. `W.T` is free as a view, and ruinous as an access pattern for a kernel that was written for `W`. Production code that "just transposes first" moves gigabytes to no purpose on every step.

# %% [markdown]
# ## At the kitchen table
#
# Sixteen cooks make sixteen dishes each. The ingredients are in a cellar, down a long staircase (global memory).
#
# - **Naive:** every cook walks down for every single ingredient of every dish. The stairs are full; the stoves are cold.
# - **Tiled:** the cooks agree on the next sixteen ingredients, each fetches *one* crate, and all put theirs on one table (shared memory). Everybody cooks from the table; each crate is used sixteen times.
# - **"All back?"** (first barrier): nobody cooks before the last crate is there. **"All done?"** (second barrier): nobody clears the table while somebody still cooks from it.
# - **Register-tiled:** each cook keeps eight pans going and takes a pinch of everything into the hand (registers). One reach to the table now feeds eight pans.
# - **Crowding at the table** (bank conflicts): the table has 32 drawers. Sixteen hands in sixteen drawers is one move, sixteen hands in one drawer are sixteen.
#
# *Where it breaks:* cooks could fetch the next crates while the pans simmer. Your threads cannot unless you write it so (the challenge at the end), because after a barrier all of them do the same thing.

# %% [markdown]
# ## Foundations: who needs what
#
# $C = AB$ with $A$ of shape $(m, k)$ and $B$ of shape $(k, n)$: $\; c_{ij} = \sum_{p<k} a_{ip}\, b_{pj}$. That is $mnk$ multiply-adds, $2mnk$ operations (*FLOPs*), on $mk + kn$ numbers. Each $a_{ip}$ is needed $n$ times, each $b_{pj}$ $m$ times.
#
# ```
#                      B  (k, n)                        one block of threads, tile by tile
#                    ┌────┬────┬────┐
#                    │    │ B0 │    │   first  = 0        C tile  = A0 B0 + A1 B1 + A2 B2
#                    ├────┼────┼────┤
#                    │    │ B1 │    │   first += TILE     each element of A0 is loaded once by the
#                    ├────┼────┼────┤                     block and used by all TILE threads of
#                    │    │ B2 │    │   first += TILE     its row: loads fall by the factor TILE
#                    └────┴────┴────┘
#  ┌────┬────┬────┐  ┌────┬────┬────┐
#  │ A0 │ A1 │ A2 │→ │    │ C  │    │   the tile of C that this block owns
#  ├────┼────┼────┤  ├────┼────┼────┤
#  │    │    │    │  │    │    │    │   threadIdx.x runs along the columns,
#  └────┴────┴────┘  └────┴────┴────┘   threadIdx.y along the rows
#    A  (m, k)          C  (m, n)
# ```
#
# **In numbers.** $m = n = k = 4096$: naively $2 \cdot 4096^3 = 1.4 \cdot 10^{11}$ loads, 550 GB, for matrices of 67 MB each. With tiles of 16: 34 GB. With tiles of 128: 4.3 GB.

# %% [markdown]
# ## Foundations: the roofline
#
# A kernel that does $F$ operations and moves $Q$ bytes on a machine with $P$ operations and $W$ bytes per second needs at least $\max(F/P,\ Q/W)$ seconds. Its *arithmetic intensity* is $I = F/Q$, and where $I$ equals the machine's *ridge point* $P/W$ the two limits meet (Williams, Waterman and Patterson, 2009).
#
# ```
#  FLOP/s                 ridge
#   P ┤ ─ ─ ─ ─ ─ ─ ─ ─ ─ ─┌──────────────  compute-bound: more reuse of data does not help
#     │                  ╱ │
#     │               ╱    │                slope W: each byte fetched feeds I operations
#     │            ╱  memory-bound
#     └─────────┴──────────┴──────────────→  I, FLOP per byte  (both axes logarithmic)
# ```
#
# **In numbers.** 30 TFLOP/s and 273 GB/s give a ridge of 110 FLOP/byte. The naive kernel has $I = 2/8 = 0.25$: without a cache it could reach 0.07 TFLOP/s. A square tile of $T$ has about $2T^2/(4 \cdot 2T) = T/4$: 4 for $T = 16$, 32 for $T = 128$. (Caches help, the second-level cache above all: it serves blocks that need the same tiles at the same time.)

# %% [markdown]
# ## Foundations: how wrong a product may be
#
# Each $c_{ij}$ is a sum of $k$ products, added one after the other in float32. A term passes through at most $k$ roundings (one for its product, $k-1$ for the sums after the first), so with $u = 2^{-24}$, as in lab 1.3.1 (Higham, *Accuracy and Stability of Numerical Algorithms*, section 3.5):
#
# $$|\hat c_{ij} - c_{ij}| \;\le\; \gamma_k \sum_p |a_{ip}||b_{pj}|, \qquad \gamma_k = \frac{k\,u}{1 - k\,u}.$$
#
# It holds in any order of the additions, and all the more when the GPU rounds product and sum together (*fused multiply-add*). You hold every kernel to this bound, element by element, against a product in float64.

# %% nbgrader={"grade": false, "grade_id": "matmul-bound", "locked": true, "schema_version": 3, "solution": false, "task": false}
U = 2.0**-24  # unit roundoff of float32


def product_bound(a, b):
    """gamma_k |A| |B| in float64, shape (m, n): how far a float32 product may be from the exact one."""
    k = a.shape[1]
    gamma = k * U / (1 - k * U)
    return gamma * (np.abs(a).astype(np.float64) @ np.abs(b).astype(np.float64))


def numbers(rows, columns, seed):
    """A float32 matrix of both signs and of sizes from 2**-6 to 2**6."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((rows, columns)) * 2.0 ** rng.integers(-6, 7, (rows, columns))).astype(np.float32)


# %%
a, b = numbers(3, 500, seed=1), numbers(500, 2, seed=2)
print("error of NumPy's float32 product:", np.abs(a @ b - a.astype(np.float64) @ b.astype(np.float64)).max())
print("what the bound allows:           ", product_bound(a, b).max())


# %% [markdown]
# ### The tools that the tests use
#
# `launching.launch(kernel, blocks, threads, *arguments)` runs a kernel on copies of its inputs. `launching.out(shape)` makes an output full of NaN, so that what no thread wrote is seen. Back come `run.out` and `run.profile`: loads, sectors, shared accesses, bank conflicts and barriers, counted by the simulator. A data race, an index out of bounds, or a barrier that some threads miss, is an error.

# %% nbgrader={"grade": false, "grade_id": "matmul-tools", "locked": true, "schema_version": 3, "solution": false, "task": false}
def cover(m, n, rows, columns):
    """Blocks (across, down) that cover an m x n result, where each block makes rows x columns of it."""
    return -(-n // columns), -(-m // rows)


def multiply(kernel, a, b, n, blocks, threads):
    """Launch kernel[blocks, threads](a, b, c) for a result of shape (len(a), n)."""
    return launching.launch(kernel, blocks, threads, a, b, launching.out((len(a), n), np.float32))


def check_product(got, a, b, what):
    """Each element of got is that of a @ b within the bound of a float32 sum."""
    want, bound = a.astype(np.float64) @ b.astype(np.float64), 1.01 * product_bound(a, b)  # 1.01: float64 rounds too
    bad = np.argwhere(~(np.abs(got - want) <= bound))
    if len(bad):
        row, col = bad[0]
        raise AssertionError(
            f"{what}: {len(bad)} of {got.size} elements are wrong, the first at row {row}, column {col}:\n"
            f"  expected {want[row, col]:.9g} within {bound[row, col]:.1e}, got {got[row, col]:.9g}"
        )


# %% [markdown]
# And one test that has nothing to do with large matrices. A running sum that is float64 without your noticing costs nothing here and up to a factor of 64 on a GPU: a Spark has 2 float64 units for every 128 of float32. In float32 $2^{30} + 1 - 2^{30}$ is 0, because $2^{30} + 1$ has no room for the 1. In float64 it is 1.

# %% nbgrader={"grade": false, "grade_id": "matmul-float32", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_float32(kernel, transposed=False):
    """The running sum is float32, and takes the products in the order of k. All 16 x 16 results are the same sum."""
    a, b = np.zeros((16, 16), np.float32), np.zeros((16, 16), np.float32)
    a[:, :3], b[:3] = [2**15, 1, -(2**15)], [[2**15], [1], [2**15]]
    got = multiply(kernel, a, b.T.copy() if transposed else b, 16, (1, 1), (16, 16)).out
    hint = "to Numba `0` is an integer and `0.0` a float64: which type does your running sum have?"
    checking.equal(got, np.zeros((16, 16), np.float32), what="2**30 + 1 - 2**30 with a float32 sum", hint=hint)


# %%
print("float32:", np.float32(2**30) + np.float32(1) - np.float32(2**30), " float64:", 2.0**30 + 1 - 2.0**30)


# %% [markdown]
# ## Part 1: One thread for each element
#
# The direct translation: thread $(x, y)$ of the grid owns one element of $C$, walks along a row of $A$ and down a column of $B$, and keeps the sum in a register. Nothing is shared, nobody waits. All there is to decide is which of `x` and `y` is the row.
#
# **Exercise 1 (4 points).** Write `naive_matmul`.

# %% nbgrader={"grade": false, "grade_id": "matmul-naive", "locked": false, "schema_version": 3, "solution": true, "task": false}
@cuda.jit
def naive_matmul(a, b, c):
    """c = a @ b, one thread for each element of c.

    Args:
        a: float32, shape (m, k), in global memory, any strides; k may be 0.
        b: float32, shape (k, n), any strides.
        c: float32, shape (m, n), C order. Every element is written once; what was in it does not count.

    Launch: [blocks, threads], both two-dimensional and of any size. Threads with neighbouring threadIdx.x own
    neighbours in a row of c. The grid may reach past both edges of c.

    TODO: Let each thread that owns an element of c sum up its k products in float32, in the order of k, and store.

    APPROACH:
        1. Find row and column from the grid, with x along the columns, because a warp then reads neighbours of b.
        2. Keep the sum in a float32 variable, because a register costs nothing and `c[...] +=` goes to memory.
        3. Store once at the end, because c may hold anything before.

    EXAMPLE:
        >>> c = np.zeros((2, 2), np.float32)
        >>> naive_matmul[(1, 1), (4, 2)](np.eye(2, dtype=np.float32), np.array([[1, 2], [3, 4]], np.float32), c)
        >>> c
        array([[1., 2.],
               [3., 4.]], dtype=float32)

    HINTS:
        1. `where_am_i` above has the indices and the guard.
        2. `float32(0)` is a zero of the right type.
        3. a.shape[1] is k.
    """
    ### BEGIN SOLUTION
    col, row = cuda.grid(2)
    if row < c.shape[0] and col < c.shape[1]:
        total = float32(0)
        for p in range(a.shape[1]):
            total += a[row, p] * b[p, col]
        c[row, col] = total
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-matmul-naive", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: every element within the bound for shapes that fit no block, a float32 sum, and neighbours that read neighbours.
# Fails if: a guard is missing, the sum is kept in c or in float64, or x runs down the rows.
# A pass: right everywhere, and as good as a kernel can be that remembers nothing.
def check_naive(m, n, k, threads, seed):
    a, b = numbers(m, k, seed), numbers(k, n, seed + 1)
    side = -(-max(m, n) // min(threads))  # a grid that covers c whichever way it is walked
    run = multiply(naive_matmul, a, b, n, (side, side), threads)
    check_product(run.out, a, b, what=f"naive_matmul of {m} x {k} and {k} x {n} in blocks of {threads}")
    return run.profile.total


def test_unit_naive():
    credit = checking.Credit(4)
    with credit.check("the product, for any shape", points=2, hint="which threads own no element of c?"):
        check_naive(8, 8, 4, (4, 4), seed=1)
        check_naive(5, 9, 3, (4, 2), seed=3)
        check_float32(naive_matmul)
        ### BEGIN HIDDEN TESTS
        # check: tall, flat, and prime shapes
        # hint: draw c and the grid for a shape with more rows than columns: which guard protects which edge?
        seed = checking.secret_seed()
        for m, n, k in ((1, 1, 1), (1, 17, 5), (23, 1, 7), (37, 13, 31), (3, 40, 64)):
            check_naive(m, n, k, (8, 4), seed + m)
        # check: no products to add
        # hint: what is an empty sum, and is it stored?
        check_naive(3, 4, 0, (4, 4), seed)
        ### END HIDDEN TESTS
    with credit.check("neighbours read neighbours", points=2, hint="which index do 32 threads of a warp differ in?"):
        m, n, k = 16, 64, 24
        total = check_naive(m, n, k, (32, 8), seed=5)
        checking.equal(total.loads, 2 * m * n * k, what="elements loaded", hint="one of a and one of b a product")
        checking.equal(total.stores, m * n, what="elements stored", hint="is the sum kept in c?")
        # A warp is 32 columns of one row. For each product: one sector for the element of a that all share, and
        # 32 * 4 / 32 = 4 sectors of b. At the end 4 for c.
        sectors = m * n // 32 * (k * (1 + 4) + 4)
        checking.equal(total.sectors, sectors, what="32-byte sectors", hint="x along the columns, y along the rows")
    return credit.total()


test_unit_naive()


# %% [markdown]
# ### What just happened?
#
# The two operands are read in two ways at once. All 32 threads of a warp want the *same* element of `a`: one sector, broadcast. They want 32 *neighbours* of `b`: four sectors. Now hand the same kernel a `b` that is stored by columns (Fortran order). The values are the same; the neighbours are no longer neighbours.

# %%
def sectors_by_layout(m=32, n=64, k=32):
    counts = {}
    for layout in ("C", "F"):
        a, b = numbers(m, k, seed=1), np.array(numbers(k, n, seed=2), order=layout)
        total = multiply(naive_matmul, a, b, n, cover(m, n, 8, 32), (32, 8)).profile.total
        counts[f"b in {layout} order"] = total.sectors / (m * n * k / 32)
    return counts


by_layout = insight.run(sectors_by_layout, needs="Exercise 1 (naive_matmul)")  # sectors for each product of a warp
by_layout

# %% [markdown]
# From 5 sectors to 33 for the same product: 32 columns of `b` are now 32 rows of memory. Keep that number in mind for Exercise 3.
#
# ## Part 2: Tiles in shared memory
#
# Within a block of 16 × 16 threads, 16 threads read the same row of `a` and 16 the same column of `b`. So let the block fetch a tile of each *once*, each thread one element of both, and multiply from shared memory.

# %% nbgrader={"grade": false, "grade_id": "matmul-tile", "locked": true, "schema_version": 3, "solution": false, "task": false}
TILE = 16  # a block of the next two kernels has TILE x TILE threads and makes TILE x TILE elements of c

# %% [markdown]
# The staging is where the indices go wrong. For the second tile (`first = 16`) of the block at `blockIdx = (1, 0)`, thread `(x, y)` fetches two elements that have nothing to do with each other:

# %%
for x, y in ((0, 0), (3, 0), (0, 3)):
    print(f"thread x={x}, y={y} stages a[{0 * TILE + y}, {16 + x}] and b[{16 + y}, {1 * TILE + x}]")


# %% [markdown]
# Shapes are seldom multiples of 16. A thread whose element of `a` or `b` does not exist stages a *zero*, which changes no sum, and stays: it has to come to every barrier, and it may be needed to stage the other operand.
#
# **Exercise 2 (6 points).** Write `tiled_matmul`.

# %% nbgrader={"grade": false, "grade_id": "matmul-tiled", "locked": false, "schema_version": 3, "solution": true, "task": false}
@cuda.jit
def tiled_matmul(a, b, c):
    """c = a @ b, each block making a TILE x TILE part of c from tiles of a and b in shared memory.

    Args:
        a: float32, shape (m, k), in global memory, any strides; k may be 0.
        b: float32, shape (k, n), any strides.
        c: float32, shape (m, n), C order. Every element is written once.

    Launch: [(ceil(n / TILE), ceil(m / TILE)), (TILE, TILE)]. threadIdx.x runs along the columns of c.

    TODO: For each TILE of k: stage a tile of a and one of b, wait, add TILE products in float32, in order, wait.

    APPROACH:
        1. Let each thread stage one element of each, or 0 where there is none, because tiles reach past the edges.
        2. Wait before the products, because they need what other threads staged.
        3. Wait after them too, because a fast thread would stage the next tile over what a slow one still reads.

    EXAMPLE:
        >>> c = np.zeros((2, 2), np.float32)
        >>> tiled_matmul[(1, 1), (TILE, TILE)](np.eye(2, dtype=np.float32), np.array([[1, 2], [3, 4]], np.float32), c)
        >>> c
        array([[1., 2.],
               [3., 4.]], dtype=float32)

    HINTS:
        1. Outside of the loop over tiles: the thread's own row and column of c, and a running sum in a register.
        2. In the tile use the indices in the block (y, x); in global memory those in the matrix.
        3. Three guards, not one: for a (row and p), for b (p and column), for c (row and column).
    """
    tile_a = cuda.shared.array((TILE, TILE), float32)
    tile_b = cuda.shared.array((TILE, TILE), float32)
    ### BEGIN SOLUTION
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    col, row = cuda.grid(2)
    m, n, k = c.shape[0], c.shape[1], a.shape[1]
    total = float32(0)
    for first in range(0, k, TILE):
        tile_a[y, x] = a[row, first + x] if row < m and first + x < k else float32(0)
        tile_b[y, x] = b[first + y, col] if col < n and first + y < k else float32(0)
        cuda.syncthreads()
        for p in range(TILE):
            total += tile_a[y, p] * tile_b[p, x]
        cuda.syncthreads()
    if row < m and col < n:
        c[row, col] = total
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "matmul-check-tiles", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_traffic(profile, m, n, k, rows, columns):
    """Blocks that make rows x columns of c read each tile once, coalesced; shapes are multiples of 16.

    A row of blocks reads all of b, a column of blocks all of a; every sector carries eight elements that are used.
    """
    loads = m * k * -(-n // columns) + k * n * -(-m // rows)
    checking.equal(profile.total.loads, loads, what="elements loaded", hint="does each thread stage only its own?")
    checking.equal(profile.total.stores, m * n, what="elements stored", hint="where is the running sum kept?")
    hint = "which index of a, and which of b, do neighbours in x differ in?"
    checking.equal(profile.total.sectors, (loads + m * n) // 8, what="32-byte sectors", hint=hint)


# %% nbgrader={"grade": true, "grade_id": "test-matmul-tiled", "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
# Checks: the product for multiples of TILE and for other shapes, no race, loads that fall by TILE, no bank conflicts.
# Fails if: a barrier or a guard is missing, threads leave early, or a tile is used by fewer than TILE threads.
# A pass: the kernel that made GPUs useful for linear algebra.
def check_tiled(m, n, k, seed):
    a, b = numbers(m, k, seed), numbers(k, n, seed + 1)
    run = multiply(tiled_matmul, a, b, n, cover(m, n, TILE, TILE), (TILE, TILE))
    check_product(run.out, a, b, what=f"tiled_matmul of {m} x {k} and {k} x {n}")
    return run.profile


def test_unit_tiled():
    credit = checking.Credit(6)
    with credit.check("multiples of TILE", points=2, hint="work out what thread (3, 0) stages, and when it waits"):
        check_tiled(16, 16, 16, seed=1)
        check_tiled(16, 48, 32, seed=3)
        check_float32(tiled_matmul)
    with credit.check("any shape", points=2, hint="what is in the tile where a or b has no element?"):
        check_tiled(5, 20, 18, seed=5)
        ### BEGIN HIDDEN TESTS
        # check: shapes of 1, one beside a multiple, and primes
        # hint: three edges, three guards: leave them out one by one on paper and see which shape goes wrong
        seed = checking.secret_seed()
        for m, n, k in ((1, 1, 1), (17, 15, 16), (16, 33, 31), (37, 2, 53), (2, 41, 1)):
            check_tiled(m, n, k, seed + m)
        # check: no products to add
        # hint: how often does your loop over tiles run, and what is stored then?
        check_tiled(3, 4, 0, seed)
        ### END HIDDEN TESTS
    with credit.check("loads fall by TILE, and stay coalesced", points=1):
        # 2 m n k / TILE: a is read n / TILE times, b m / TILE times.
        check_traffic(check_tiled(32, 48, 64, seed=7), 32, 48, 64, TILE, TILE)
    with credit.check("no bank conflicts, two barriers for a tile", points=1):
        total = check_tiled(32, 64, 48, seed=7).total
        checking.equal(total.conflicts, 0, what="extra turns at shared memory", hint="which word does each x read?")
        # 2 x 4 blocks, 48 / 16 = 3 tiles each, 2 barriers for a tile.
        assert total.barriers <= 8 * 3 * 2, f"{total.barriers} barriers; {8 * 3 * 2} are enough"
    return credit.total()


test_unit_tiled()


# %% [markdown]
# ### What just happened?
#
# Each element that is staged is used by 16 threads, so the loads fell to one sixteenth. The multiplications still take two reads each, but from shared memory. And there are no bank conflicts: in `tile_b` a warp reads neighbours, in `tile_a` two words that sixteen threads each share.

# %% [markdown]
# ### Systems insight 1 of 3: what a multiplication costs to feed
#
# *Checkpoint:* two kernels, equal results. *Predict before you run:* for a product of 64 × 64 × 64, how many bytes from global memory does each kernel move for one multiply-add, and how many shared loads does it need? Write four numbers down.

# %%
def feeding(m=64, n=64, k=64):
    """Bytes moved from and to global memory, and shared loads, for each multiply-add of your kernels."""
    plans = {"naive": (naive_matmul, cover(m, n, 8, 32), (32, 8)),
             "tiled": (tiled_matmul, cover(m, n, TILE, TILE), (TILE, TILE))}
    fed = {}
    for name, (kernel, blocks, threads) in plans.items():
        profile = multiply(kernel, numbers(m, k, 1), numbers(k, n, 2), n, blocks, threads).profile
        fed[name] = profile.total.bytes_moved / (m * n * k), profile.total.shared_loads / (m * n * k)
    return fed


# %%
fed = insight.run(feeding, needs="Exercises 1 and 2 (naive_matmul, tiled_matmul)")
if fed:
    for name, (nbytes, shared) in fed.items():
        print(f"{name}: {nbytes:.2f} bytes and {shared:.2f} shared loads for each multiply-add")
    insight.bars({name: nbytes for name, (nbytes, _) in fed.items()}, ylabel="bytes moved per multiply-add")

# %% [markdown]
# The naive kernel's 5 sectors for 32 multiply-adds are 5 bytes each: coalescing and broadcast already save something, and a cache would save more. Tiles take it to 0.5 and a little for `c`. But now every multiply-add waits for two *shared* loads, and shared memory serves a warp's request in one turn while the arithmetic units could take four. The bottleneck has moved; it has not gone.
#
# *In production* that is why a profiler's "memory-bound" has to be asked: which memory?

# %% [markdown]
# ## Part 3: An operand that is stored the other way
#
# `nn.Linear` stores its weight as `(out, in)` and computes `x @ W.T`. Attention scores are `Q @ K.T`. You could copy the transpose; that reads and writes the whole matrix to change nothing but an order. Instead, read `b` as it lies, with shape `(n, k)`, and turn it round in shared memory.
#
# Two indices decide. Going *into* the tile, neighbours in `x` have to differ in the *last* index of `b`. Coming *out of* it, neighbours in `x` are different columns of `c`, so they are different *rows* of `b`: the tile is read down its columns. With 16 words in a row, word `(x, p)` lies in bank `(16 x + p) % 32`:

# %%
for words in (16, 17):
    banks = [(words * x + 5) % 32 for x in range(16)]
    print(f"{words} words in a row: banks {banks}, at most {max(map(banks.count, banks))} in one")


# %% [markdown]
# Sixteen threads in two banks take eight turns. One word of *padding* in each row, never used, spreads them over sixteen.
#
# **Exercise 3 (5 points).** Write `transposed_matmul`. You declare the tiles yourself this time.

# %% nbgrader={"grade": false, "grade_id": "matmul-transposed", "locked": false, "schema_version": 3, "solution": true, "task": false}
@cuda.jit
def transposed_matmul(a, b, c):
    """c = a @ b.T without a copy of b, in tiles, coalesced, and with no bank conflicts when the tiles are read.

    Args:
        a: float32, shape (m, k), in global memory, C order; k may be 0.
        b: float32, shape (n, k), C order.
        c: float32, shape (m, n), C order. Every element is written once.

    Launch: [(ceil(n / TILE), ceil(m / TILE)), (TILE, TILE)]. threadIdx.x runs along the columns of c.

    TODO: As tiled_matmul, but stage tiles of b as they lie in memory and read them the other way.

    APPROACH:
        1. Stage b with x along its last axis, because that is where neighbours are in memory.
        2. Read the tile with x and y exchanged, because a column of c belongs to a row of b.
        3. Pad the rows of the tile, because a column of a 16-word-wide tile lies in two banks.

    EXAMPLE:
        >>> c = np.zeros((2, 2), np.float32)
        >>> one = np.eye(2, dtype=np.float32)
        >>> transposed_matmul[(1, 1), (TILE, TILE)](one, np.array([[1, 2], [3, 4]], np.float32), c)
        >>> c
        array([[1., 3.],
               [2., 4.]], dtype=float32)

    HINTS:
        1. The row of b that a thread stages is not the column of c that it owns: it depends on y, not on x.
        2. On a GPU Numba takes numbers and global names as the shape of a shared array, but does no arithmetic there:
           write the padded width as a number, or give it a name outside the kernel.
        3. For thread (x, y): which row of b does the block start with, and how far down is y?
    """
    ### BEGIN SOLUTION
    tile_a = cuda.shared.array((TILE, TILE), float32)
    tile_b = cuda.shared.array((TILE, 17), float32)  # TILE + 1: Numba does no arithmetic here
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    col, row = cuda.grid(2)
    source = cuda.blockIdx.x * TILE + y
    m, n, k = c.shape[0], c.shape[1], a.shape[1]
    total = float32(0)
    for first in range(0, k, TILE):
        tile_a[y, x] = a[row, first + x] if row < m and first + x < k else float32(0)
        tile_b[y, x] = b[source, first + x] if source < n and first + x < k else float32(0)
        cuda.syncthreads()
        for p in range(TILE):
            total += tile_a[y, p] * tile_b[x, p]
        cuda.syncthreads()
    if row < m and col < n:
        c[row, col] = total
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-matmul-transposed", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
# Checks: a @ b.T for all shapes, b read coalesced and once per block, and shared memory without queues.
# Fails if: b is staged down its columns, the tile is not padded, or a guard looks at the wrong index.
# A pass: nn.Linear's product, on the weight as it is stored.
def check_transposed(m, n, k, seed):
    a, b = numbers(m, k, seed), numbers(n, k, seed + 1)
    run = multiply(transposed_matmul, a, b, n, cover(m, n, TILE, TILE), (TILE, TILE))
    check_product(run.out, a, b.T, what=f"transposed_matmul of {m} x {k} and {n} x {k}")
    return run.profile


def test_unit_transposed():
    credit = checking.Credit(5)
    with credit.check("the product, for any shape", points=3, hint="who stages b[n - 1, k - 1]?"):
        check_transposed(16, 32, 48, seed=1)
        check_transposed(5, 20, 18, seed=3)
        check_float32(transposed_matmul, transposed=True)
        ### BEGIN HIDDEN TESTS
        # check: shapes of 1, one beside a multiple, primes, and no products
        # hint: write down for one thread: the row of b that it stages, the column of c that it owns, and each guard
        seed = checking.secret_seed()
        for m, n, k in ((1, 1, 1), (17, 15, 16), (16, 33, 31), (37, 2, 53), (2, 41, 1), (3, 4, 0)):
            check_transposed(m, n, k, seed + m)
        ### END HIDDEN TESTS
    with credit.check("b is read as it lies, once for each block", points=1):
        check_traffic(check_transposed(32, 64, 48, seed=5), 32, 64, 48, TILE, TILE)
    with credit.check("no queues at shared memory", points=1, hint="in which bank is word (x, p) of your tile?"):
        total = check_transposed(32, 64, 48, seed=5).total
        # Rows of 17 words: when a warp stages two of them, words 0 and 32 share a bank: one extra turn for each store
        # of tile_b. 8 blocks * 3 tiles * 8 warps = 192. Reading costs none. (No padding: 7 extra turns at each read.)
        assert total.conflicts <= 192, f"{total.conflicts} extra turns at shared memory; 192 with one word of padding"
    return credit.total()


test_unit_transposed()


# %% [markdown]
# ### What just happened?
#
# The naive kernel needed 33 sectors where `b` was stored by columns. Yours needs the same few as `tiled_matmul`. Shared memory is where data change their order: coalesced on the way in, any order on the way out.

# %%
def turns(kernel, b):
    total = multiply(kernel, numbers(32, 48, 1), b, 64, cover(32, 64, TILE, TILE), (TILE, TILE)).profile.total
    return {"sectors": total.sectors, "extra turns": total.conflicts}


w = numbers(64, 48, seed=2)
print("tiled, b a view w.T:", insight.run(lambda: turns(tiled_matmul, w.T), needs="Exercise 2 (tiled_matmul)"))
print("transposed, b = w:  ", insight.run(lambda: turns(transposed_matmul, w), needs="Exercise 3"))


# %% [markdown]
# ## Part 4: A roofline of your own
#
# Before you build the next kernel, predict whether it is worth it. You need two numbers for it: the time that bytes and operations take at least, and how many blocks fit on a multiprocessor at once. The second matters because a multiprocessor hides the waiting of one block behind the work of another.

# %% nbgrader={"grade": false, "grade_id": "matmul-gpu", "locked": true, "schema_version": 3, "solution": false, "task": false}
class GPU(NamedTuple):
    """What a roofline needs to know. The last four are limits of one multiprocessor."""

    flops: float  # float32 operations per second
    bandwidth: float  # bytes per second
    shared: int  # bytes of shared memory
    threads: int
    blocks: int
    registers: int


class Prediction(NamedTuple):
    """What a roofline says of one product."""

    flops: int  # operations
    nbytes: int  # bytes between global memory and the multiprocessors
    intensity: float  # operations per byte
    bound: str  # "memory" or "compute"
    seconds: float


# %% [markdown]
# The numbers for the GB10 of a DGX Spark: 48 multiprocessors with 128 float32 units, two operations each at about 2.4 GHz (computed; the clock moves), 273 GB/s (NVIDIA's data sheet), and the limits of compute capability 12.x from the CUDA programming guide.

# %% nbgrader={"grade": false, "grade_id": "matmul-spark", "locked": true, "schema_version": 3, "solution": false, "task": false}
SPARK = GPU(flops=48 * 128 * 2 * 2.4e9, bandwidth=273e9, shared=100 * 1024, threads=1536, blocks=24, registers=65536)
print(f"{SPARK.flops / 1e12:.1f} TFLOP/s, ridge at {SPARK.flops / SPARK.bandwidth:.0f} FLOP/byte")


# %% [markdown]
# **Exercise 4 (5 points).** Write `roofline` and `resident_blocks`.

# %% nbgrader={"grade": false, "grade_id": "matmul-roofline", "locked": false, "schema_version": 3, "solution": true, "task": false}
def roofline(m: int, n: int, k: int, rows: int, columns: int, gpu: GPU) -> Prediction:
    """Predict a float32 product of (m, k) and (k, n) in which each block makes rows x columns of the result.

    Args:
        m, n, k: sizes, at least 1.
        rows, columns: of a block's part of c; (1, 1) describes the naive kernel without a cache.
        gpu: rates per second.

    Returns:
        flops: 2 m n k. nbytes: what all blocks together load of a and b (each what it needs once, and only what exists)
        and c, stored once. intensity: flops / nbytes. bound: "memory" if the intensity is below the ridge point, else
        "compute". seconds: the larger of the two least times.

    Raises:
        ValueError: m, n, k, rows or columns is less than 1.

    TODO: Count operations and bytes, then compare with what the GPU does in a second.

    APPROACH:
        1. Count how often all of a is read, because each column of blocks reads it once; likewise b.
        2. Take integers as far as possible, because counts are exact.
        3. Take the larger of two times, because loads and arithmetic overlap on a GPU.

    EXAMPLE:
        >>> roofline(32, 32, 32, 16, 16, SPARK)[:2]
        (65536, 20480)

    HINTS:
        1. -(-n // columns) is n / columns, rounded up.
        2. A column of blocks reads all m k elements of a; how many columns of blocks are there?
        3. The ridge point is flops per second over bytes per second.
    """
    ### BEGIN SOLUTION
    if any(size < 1 for size in (m, n, k, rows, columns)):
        raise ValueError(f"all sizes must be at least 1: {m=}, {n=}, {k=}, {rows=}, {columns=}")
    flops = 2 * m * n * k
    nbytes = 4 * (m * k * -(-n // columns) + k * n * -(-m // rows) + m * n)
    bound = "memory" if flops / nbytes < gpu.flops / gpu.bandwidth else "compute"
    return Prediction(flops, nbytes, flops / nbytes, bound, max(flops / gpu.flops, nbytes / gpu.bandwidth))
    ### END SOLUTION


def resident_blocks(threads: int, shared: int, registers: int, gpu: GPU) -> tuple[int, str]:
    """Blocks that fit on one multiprocessor at once, and what limits them.

    A block takes whole warps: threads rounded up to a multiple of 32. Each of *these* threads takes `registers` (not 0),
    rounded up to a multiple of 8; the block takes `shared` bytes and 1024 more that the system keeps. The limits are "blocks", "threads", "shared memory" and
    "registers"; at a tie take the one named first here. 0 blocks if none fits.

    EXAMPLE:
        >>> resident_blocks(256, 48 * 1024, 32, SPARK)
        (2, 'shared memory')
    """
    ### BEGIN SOLUTION
    rounded = -(-threads // 32) * 32
    limits = {"blocks": gpu.blocks, "threads": gpu.threads // rounded, "shared memory": gpu.shared // (shared + 1024)}
    limits["registers"] = gpu.registers // (-(-registers // 8) * 8 * rounded)
    tightest = min(limits, key=limits.get)
    return limits[tightest], tightest
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "matmul-check-roofline", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_roofline(m, n, k, rows, columns, gpu):
    """Against an oracle that counts block by block what exists of each block's rows and columns."""
    corners = [(r, q) for r in range(0, m, rows) for q in range(0, n, columns)]
    loads = sum(k * (min(rows, m - r) + min(columns, n - q)) for r, q in corners)
    flops, nbytes = 2 * m * n * k, 4 * (loads + m * n)
    got = roofline(m, n, k, rows, columns, gpu)
    what = f"of {m} x {n} x {k} in parts of {rows} x {columns}"
    checking.equal(got.flops, flops, what=f"flops {what}")
    checking.equal(got.nbytes, nbytes, what=f"nbytes {what}", hint="add up by hand what each of four blocks loads")
    # One or two operations in float64, each within 2**-53 = 1.1e-16: 1e-15 leaves room for another order.
    checking.close(got.intensity, flops / nbytes, rtol=1e-15, atol=0, what=f"intensity {what}")
    seconds = max(flops / gpu.flops, nbytes / gpu.bandwidth)
    checking.close(got.seconds, seconds, rtol=1e-15, atol=0, what=f"seconds {what}", hint="loads and work overlap")
    below = flops / nbytes < gpu.flops / gpu.bandwidth
    checking.equal(got.bound, "memory" if below else "compute", what=f"bound {what}")


# %% nbgrader={"grade": false, "grade_id": "matmul-check-resident", "locked": true, "schema_version": 3, "solution": false, "task": false}
HOPPER = SPARK._replace(shared=228 * 1024, threads=2048, blocks=32)  # compute capability 9.0


def check_resident(threads, shared, registers):
    """Against the simulator's occupancy, for two kinds of multiprocessor."""
    for gpu, capability in ((SPARK, (12, 0)), (HOPPER, (9, 0))):
        want = cudasim.occupancy(threads, shared, registers, capability)
        got = resident_blocks(threads, shared, registers, gpu)
        what = f"resident_blocks({threads}, {shared}, {registers}) with {gpu.threads} threads at most"
        checking.equal(got, (want["blocks"], want["limited_by"]), what=what, hint="compute all four limits")


# %% nbgrader={"grade": true, "grade_id": "test-matmul-roofline", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
# Checks: operations and bytes to the last one, ragged edges included, the bound on both sides of the ridge, residency.
# Fails if: edges are rounded up to whole tiles, c is forgotten, the two times are added, or a limit is missing.
# A pass: you know before you write a kernel what it can reach.
def test_unit_roofline():
    toy = SPARK._replace(flops=1000.0, bandwidth=500.0)  # a ridge of 2 FLOP/byte
    credit = checking.Credit(5)
    with credit.check("roofline: operations, bytes, time, bound", points=3, hint="count for 2 x 2 blocks by hand"):
        check_roofline(32, 32, 32, 16, 16, toy)
        check_roofline(64, 64, 64, 16, 16, SPARK)
        check_roofline(5, 7, 3, 1, 1, SPARK)
        check_roofline(20, 33, 7, 16, 16, toy)
        checking.raises(ValueError, roofline, 4, 4, 0, 16, 16, SPARK, what="a product with k = 0")
        ### BEGIN HIDDEN TESTS
        # check: both sides of the ridge, and on it
        # hint: which of the two applies where intensity and ridge are equal?
        check_roofline(4096, 4096, 4096, 128, 128, toy)
        check_roofline(16, 16, 8, 16, 16, toy)  # 4096 operations on 2048 bytes: the ridge itself
        # check: parts that are not square, and edges of every kind
        # hint: rows decides how often b is read, columns how often a is
        rng = np.random.default_rng(checking.secret_seed())
        for m, n, k, rows, columns in rng.integers(1, 50, (20, 5)).tolist():
            check_roofline(m, n, k, rows, columns, toy)
        # check: every size that may not be zero or negative
        # hint: which of the five numbers do you look at?
        for place in range(5):
            sizes = [-place % 2 - 1 if place == other else 3 for other in range(5)]
            checking.raises(ValueError, roofline, *sizes, SPARK, what=f"sizes {sizes}")
        ### END HIDDEN TESTS
    with credit.check("resident_blocks", points=2, hint="four limits, then the smallest"):
        for threads, shared, registers in ((256, 2048, 32), (256, 48 * 1024, 32), (1024, 8192, 32), (32, 0, 8)):
            check_resident(threads, shared, registers)
        ### BEGIN HIDDEN TESTS
        # check: blocks that are no whole number of warps, registers that are no multiple of 8, blocks that do not fit
        # hint: what does a block of 33 threads take, and what do 33 registers round up to?
        check_resident(33, 0, 100)
        rng = np.random.default_rng(checking.secret_seed())
        for _ in range(20):
            check_resident(*rng.integers(1, (1025, 2**17, 33)).tolist())
            check_resident(*rng.integers(1, (1025, 2**12, 256)).tolist())
        # check: another kind of multiprocessor
        # hint: are all four limits taken from gpu?
        for shared, registers, want in ((8192, 2100, (4, "shared memory")), (8191, 2100, (3, "shared memory")),
                                        (10240, 3000, (5, "blocks"))):
            toy = GPU(flops=1.0, bandwidth=1.0, shared=shared, threads=640, blocks=5, registers=registers)
            checking.equal(resident_blocks(64, 1024, 8, toy), want, what=f"resident blocks on {toy}")
        ### END HIDDEN TESTS
    return credit.total()


test_unit_roofline()


# %% [markdown]
# ### What just happened?
#
# You can now ask before you build. For `n = 4096`, what would larger tiles bring on a Spark?

# %%
def what_if(n=4096):
    for side in (1, 16, 32, 64, 128):
        seen = roofline(n, n, n, side, side, SPARK)
        least = f"{1e3 * seen.seconds:7.1f} ms"
        print(f"parts of {side:3} x {side:3}: {seen.intensity:5.2f} FLOP/byte, {seen.bound}-bound, {least}")
    for threads, registers, side in ((256, 32, 16), (1024, 32, 32), (256, 128, 128)):
        blocks, why = resident_blocks(threads, 2 * side * 16 * 4, registers, SPARK)
        print(f"{threads} threads with {registers} registers: {blocks} resident blocks, limited by {why}")


insight.run(what_if, needs="Exercise 4 (roofline, resident_blocks)")

# %% [markdown]
# Tiles of 128 × 128 have 8 times the intensity of 16 × 16. With one thread for each element they would need 16,384 threads, and a block has at most 1,024. So each thread has to make *several* elements.
#
# ## Part 5: A tile in registers
#
# Give each of the 16 × 16 threads 8 × 8 elements of `c`, in 64 registers. For each `p` it reads 8 words of the `a` tile and 8 of the `b` tile, and does 64 multiply-adds with them: 16 / 64 = 0.25 shared loads each, where `tiled_matmul` needs 2.
#
# *Which* 64? Not eight neighbours: in `tile_b` sixteen threads would then read words 8 apart, four in a bank. Thread `(x, y)` takes columns `x, x + 16, x + 32, …` and rows `y, y + 16, …`, so that neighbouring threads touch neighbouring words, in shared memory and in `c`.

# %% nbgrader={"grade": false, "grade_id": "matmul-micro", "locked": true, "schema_version": 3, "solution": false, "task": false}
MICRO = 8  # each thread makes MICRO x MICRO elements of c
BLOCK = MICRO * TILE  # so a block of TILE x TILE threads makes BLOCK x BLOCK
PADDED = BLOCK + TILE  # words in a row of the tile of b

# %%
print("rows and columns of thread 3:", [3 + TILE * i for i in range(MICRO)])
for name, step, start in (("x + 16 j", 1, 16), ("8 x + j", 8, 1)):
    banks = [(step * x + start) % 32 for x in range(16)]
    print(f"word {name} for j = 1: at most {max(map(banks.count, banks))} threads in one bank")


# %% [markdown]
# `cuda.local.array` makes an array of a thread's own. If its indices are known when the kernel is compiled (loops over constants are unrolled), the compiler keeps it in registers. It starts with garbage, as all GPU memory does.
#
# **Exercise 5 (5 points).** Write `register_matmul`. The tiles are declared for you: 128 rows of `a`, 16 deep, and 16 rows of `b`, 128 wide, with 16 words of padding, so that two rows that a warp stages at once fall into different halves of the banks.

# %% nbgrader={"grade": false, "grade_id": "matmul-register", "locked": false, "schema_version": 3, "solution": true, "task": false}
@cuda.jit
def register_matmul(a, b, c):
    """c = a @ b, each block making BLOCK x BLOCK of c and each thread MICRO x MICRO of that, in registers.

    Args:
        a, b, c: float32, shapes (m, k), (k, n) and (m, n), as in tiled_matmul. Every element of c is written once.

    Launch: [(ceil(n / BLOCK), ceil(m / BLOCK)), (TILE, TILE)]. In the block's part of c thread (x, y) owns rows
    y + TILE i and columns x + TILE j, for i, j = 0 ... MICRO - 1.

    TODO: As tiled_matmul, but stage MICRO elements of each operand per thread, and add to MICRO x MICRO sums.

    APPROACH:
        1. Set all sums to 0, because a local array starts with garbage.
        2. For each p read MICRO words of tile_a into `left`, because each of them is used MICRO times.
        3. Store with a guard for each element, because a thread may own some that exist and some that do not.

    EXAMPLE:
        >>> c = np.zeros((1, 20), np.float32)
        >>> register_matmul[(1, 1), (TILE, TILE)](np.ones((1, 3), np.float32), np.ones((3, 20), np.float32), c)
        >>> c[0, 15:]
        array([3., 3., 3., 3., 3.], dtype=float32)

    HINTS:
        1. Name the thread's first row and column of c; the others are TILE i below and TILE j to the right.
        2. One loop over i stages both: tile_a[y + TILE i, x] and tile_b[y, x + TILE i].
        3. Two barriers, where they were. Inside: for each p, 2 MICRO shared loads and MICRO**2 multiply-adds.
    """
    tile_a = cuda.shared.array((BLOCK, TILE), float32)
    tile_b = cuda.shared.array((TILE, PADDED), float32)
    sums = cuda.local.array((MICRO, MICRO), float32)
    left = cuda.local.array(MICRO, float32)
    ### BEGIN SOLUTION
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    top, side = cuda.blockIdx.y * BLOCK + y, cuda.blockIdx.x * BLOCK + x
    m, n, k = c.shape[0], c.shape[1], a.shape[1]
    for i in range(MICRO):
        for j in range(MICRO):
            sums[i, j] = 0
    for first in range(0, k, TILE):
        for i in range(MICRO):
            row, col, p, q = top + TILE * i, side + TILE * i, first + x, first + y
            tile_a[y + TILE * i, x] = a[row, p] if row < m and p < k else float32(0)
            tile_b[y, x + TILE * i] = b[q, col] if q < k and col < n else float32(0)
        cuda.syncthreads()
        for p in range(TILE):
            for i in range(MICRO):
                left[i] = tile_a[y + TILE * i, p]
            for j in range(MICRO):
                right = tile_b[p, x + TILE * j]
                for i in range(MICRO):
                    sums[i, j] += left[i] * right
        cuda.syncthreads()
    for i in range(MICRO):
        row = top + TILE * i
        for j in range(MICRO):
            col = side + TILE * j
            if row < m and col < n:
                c[row, col] = sums[i, j]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-matmul-register", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
# Checks: the product over block edges and inside them, a quarter of a shared load per multiply-add, no bank conflicts.
# Fails if: sums start as garbage, a thread's own edge is not guarded, or it owns neighbours in place of strides.
# A pass: the shape of the kernel that cuBLAS runs, before its last factor of two.
def check_register(m, n, k, seed):
    a, b = numbers(m, k, seed), numbers(k, n, seed + 1)
    run = multiply(register_matmul, a, b, n, cover(m, n, BLOCK, BLOCK), (TILE, TILE))
    check_product(run.out, a, b, what=f"register_matmul of {m} x {k} and {k} x {n}")
    return run.profile


def test_unit_register():
    credit = checking.Credit(5)
    with credit.check("the product, for any shape", points=3, hint="for m = n = 20, what does thread (3, 5) store?"):
        check_register(20, 24, 3, seed=1)
        check_register(130, 5, 18, seed=3)  # two blocks, one below the other, and two tiles
        check_float32(register_matmul)
        ### BEGIN HIDDEN TESTS
        # check: one element, one row of blocks, one column of blocks, odd edges
        # hint: which elements does the second block own, and from which row and column does it stage?
        seed = checking.secret_seed()
        for m, n, k in ((1, 1, 1), (2, 131, 5), (47, 70, 17), (3, 4, 0)):
            check_register(m, n, k, seed + m)
        ### END HIDDEN TESTS
    m, n, k = 128, 128, 32  # one block, two tiles
    with credit.check("global memory: each tile read once, coalesced", points=1):
        check_traffic(check_register(m, n, k, seed=5), m, n, k, BLOCK, BLOCK)
    with credit.check("shared memory: a quarter of a load for each multiply-add, no queues", points=1):
        k = 16  # one block, one tile
        total = check_register(m, n, k, seed=5).total
        # Each thread, for each p: MICRO + MICRO loads for MICRO * MICRO multiply-adds, 16 / 64.
        most = m * n * k // 4
        assert total.shared_loads <= most, f"{total.shared_loads} shared loads; {most} are enough"
        checking.equal(total.conflicts, 0, what="extra turns at shared memory", hint="which words do neighbours read?")
        assert total.barriers <= 2, f"{total.barriers} barriers; two for each tile are enough"
    return credit.total()


test_unit_register()


# %% [markdown]
# ### What just happened?
#
# The loop between the barriers now does 64 multiply-adds for 16 loads. That is the ratio at which arithmetic and shared memory keep pace with each other on current GPUs: a warp's 16 loads take at least 16 turns, its 64 multiply-adds 16 turns of four units.
#
# ### Systems insight 2 of 3: your kernels on your roofline
#
# *Checkpoint:* three ways to do one product. *Predict:* where on the intensity axis do the *counted* bytes of each kernel put it, and which of them lie right of the ridge of a Spark?

# %%
def intensities(m=128, n=128, k=32):
    """FLOP per byte that the simulator counted, and the rate that this intensity allows on a Spark."""
    plans = {"naive": (naive_matmul, cover(m, n, 8, 32), (32, 8)),
             "tiled": (tiled_matmul, cover(m, n, TILE, TILE), (TILE, TILE)),
             "register": (register_matmul, cover(m, n, BLOCK, BLOCK), (TILE, TILE))}
    seen = {}
    for name, (kernel, blocks, threads) in plans.items():
        profile = multiply(kernel, numbers(m, k, 1), numbers(k, n, 2), n, blocks, threads).profile
        intensity = 2 * m * n * k / profile.total.bytes_moved
        seen[name] = intensity, min(SPARK.flops, intensity * SPARK.bandwidth) / 1e12
    predicted = roofline(m, n, k, BLOCK, BLOCK, SPARK).intensity
    print(f"register: {seen['register'][0]:.2f} FLOP/byte counted, {predicted:.2f} predicted by your roofline")
    return seen


# %%
placed = insight.run(intensities, needs="Exercises 1, 2, 4 and 5")

# %%
import matplotlib.pyplot as plt

if placed:
    axis = np.logspace(-1, 3, 50)
    _, axes = plt.subplots(figsize=(5.5, 3.2), layout="constrained")
    axes.loglog(axis, np.minimum(SPARK.flops, axis * SPARK.bandwidth) / 1e12, color=insight.COLOURS[0])
    for marker, (name, (intensity, rate)) in zip("os^", placed.items(), strict=True):
        axes.loglog(intensity, rate, marker, color=insight.COLOURS[3], label=f"{name}: {intensity:.2f} FLOP/byte")
    axes.set(xlabel="FLOP per byte", ylabel="TFLOP/s at most", title="counted traffic under a Spark's roofline")
    axes.legend()


# %% [markdown]
# With `k` as small as here, two thirds of the register kernel's bytes are the stores of `c`; at `k = 4096` your `what_if` put it at 31.5. Even there it lies left of a Spark's ridge, if every byte came from DRAM. What saves it is the second-level cache: blocks that run at the same time share rows of `a` and columns of `b`, so that DRAM delivers each number far less often than the multiprocessors ask for it. A roofline has one slope for each level of memory; you counted the traffic of the level below the multiprocessors.
#
# *In production* the levels are why GEMM libraries choose tile sizes and the order of blocks for each shape, and why a small or a thin matrix never reaches the rate of a large square one.

# %% [markdown]
# ## Part 6: The host side
#
# What a user calls is not a kernel. It is a function that looks at shapes, types and layouts, refuses what it cannot do in words that help, picks a kernel and a grid, and hands back an array. `torch.matmul` does just that in front of cuBLAS.
#
# Your rules: `b` stored by columns (such as `w.T`) goes to `transposed_matmul`, without a copy. Results of at least 128 in both directions are worth `register_matmul`; smaller ones would fill one of its blocks by a corner, so they go to `tiled_matmul`.
#
# **Exercise 6 (5 points).** Write `matmul`.

# %% nbgrader={"grade": false, "grade_id": "matmul-host", "locked": false, "schema_version": 3, "solution": true, "task": false}
def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a @ b by your kernels: checked, laid out, launched once, and copied back.

    Args:
        a: float32, shape (m, k), any strides. Comes back unchanged.
        b: float32, shape (k, n), any strides. Comes back unchanged.

    Returns:
        A new float32 array in host memory, C order, shape (m, n). Zeros, without a launch, if m, n or k is 0.

    Raises:
        TypeError: a or b is not float32; the message names both dtypes, such as "float64".
        ValueError: a or b is not two-dimensional, or the inner sizes differ; the message names both shapes as Python
            writes them, such as "(3, 4)".

    TODO: Refuse what cannot be multiplied, choose kernel and grid, copy to the device, launch, copy back.

    APPROACH:
        1. Check dtype, then dimensions, then inner sizes, because a kernel cannot complain.
        2. If b is not C-contiguous and b.T is, launch transposed_matmul on a and b.T, because b.T costs no copy;
           else register_matmul if m and n are both at least BLOCK, else tiled_matmul.
        3. Copy only what is not C-contiguous, because to_device refuses gaps, the kernels read rows, and copies cost traffic.

    EXAMPLE:
        >>> matmul(np.array([[1, 2]], np.float32), np.array([[3], [4]], np.float32))
        array([[11.]], dtype=float32)

    HINTS:
        1. b.flags.c_contiguous; np.ascontiguousarray copies only if it has to.
        2. cuda.to_device(array), cuda.device_array(shape, np.float32), and .copy_to_host() of what comes back.
        3. cover(m, n, rows, columns) gives the grid for parts of rows x columns.
    """
    ### BEGIN SOLUTION
    if a.dtype != np.float32 or b.dtype != np.float32:
        raise TypeError(f"matmul takes float32 and float32, not {a.dtype} and {b.dtype}; convert with astype")
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[0]:
        raise ValueError(f"matmul needs shapes (m, k) and (k, n), not {a.shape} and {b.shape}")
    m, n, k = a.shape[0], b.shape[1], a.shape[1]
    if 0 in (m, n, k):
        return np.zeros((m, n), np.float32)
    kernel, part = (register_matmul, BLOCK) if m >= BLOCK and n >= BLOCK else (tiled_matmul, TILE)
    if not b.flags.c_contiguous and b.T.flags.c_contiguous:
        kernel, part, b = transposed_matmul, TILE, b.T
    left, right = (cuda.to_device(np.ascontiguousarray(matrix)) for matrix in (a, b))
    product = cuda.device_array((m, n), np.float32)
    kernel[cover(m, n, part, part), (TILE, TILE)](left, right, product)
    return product.copy_to_host()
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "matmul-check-host", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_host(a, b, kernel, part, rows=slice(None), columns=slice(None)):
    """matmul(a[rows], b[:, columns]) is, to the last bit, what this kernel of yours computes in one launch.

    The grid just covers the result. `rows` and `columns` with a step make views with gaps in memory.
    """
    run = launching.call(lambda a, b: matmul(a[rows], b[:, columns]), a, b)
    a, b = a[rows], b[:, columns]
    what = f"matmul of {a.shape}, strides {a.strides}, and {b.shape}, strides {b.strides}"
    checking.equal(run.profile.kernels, {kernel.py_func.__name__: 1}, what=f"kernels launched by {what}")
    grid = cover(len(a), b.shape[1], part, part)
    checking.equal(tuple(run.profile.geometry.grid[:2]), grid, what=f"blocks across and down, {what}")
    operand = b.T if kernel is transposed_matmul else b
    tidy = multiply(kernel, np.ascontiguousarray(a), np.ascontiguousarray(operand), b.shape[1], grid, (TILE, TILE))
    checking.equal(run.result, tidy.out, what=what, hint="the result has to be what the kernel wrote, copied back")
    assert run.result.flags.c_contiguous, f"{what}: the result is not in C order"


# %% nbgrader={"grade": false, "grade_id": "matmul-impostor", "locked": true, "schema_version": 3, "solution": false, "task": false}
@cuda.jit
def impostor(a, b, c):
    """Has the arguments of tiled_matmul, and writes 100 row + column."""
    across, down = cuda.grid(2)
    if down < c.shape[0] and across < c.shape[1]:
        c[down, across] = 100 * down + across


def check_impostor():
    """With another kernel in the place of tiled_matmul, matmul returns what that one writes: nobody else works."""
    names = globals()
    mine, names["tiled_matmul"] = tiled_matmul, impostor
    try:
        run = launching.call(matmul, numbers(20, 3, 1), numbers(3, 18, 2))
    finally:
        names["tiled_matmul"] = mine
    if "impostor" in run.profile.kernels:  # not if you hold the kernel by another name than tiled_matmul
        want = (100 * np.arange(20)[:, None] + np.arange(18)).astype(np.float32)
        checking.equal(run.result, want, what="matmul with a kernel that writes 100 row + column")


# %% nbgrader={"grade": false, "grade_id": "matmul-check-refusals", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_empty(m, n, k):
    """matmul gives zeros of the right shape, without a launch."""
    run = launching.call(matmul, numbers(m, k, 1), numbers(k, n, 2))
    checking.equal(run.result, np.zeros((m, n), np.float32), what=f"matmul of {m} x {k} and {k} x {n}")
    checking.equal(run.profile.kernels, {}, what="kernels launched for an empty product")


def check_refusal(kind, a, b, *words):
    """matmul(a, b) raises `kind`, and the message helps."""
    message = str(checking.raises(kind, matmul, a, b, what=f"{a.dtype} {a.shape} times {b.dtype} {b.shape}"))
    for word in words:
        assert word in message, f"the message should name {word}; it says: {message}"


# %% nbgrader={"grade": true, "grade_id": "test-matmul-host", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
# Checks: which kernel runs, on which grid, for which layout; that its result comes back; empty products; refusals.
# Fails if: NumPy does the work, a view is read as if it had no gaps, grid directions are exchanged, an error is vague.
# A pass: a function that others can call without knowing what a block is.
def test_unit_host():
    credit = checking.Credit(5)
    with credit.check("the right kernel on the right grid", points=2, hint="blocks go across first, then down"):
        check_host(numbers(5, 40, 1), numbers(40, 37, 2), tiled_matmul, TILE)
        check_host(numbers(128, 3, 3), numbers(3, 128, 4), register_matmul, BLOCK)
        check_impostor()
        ### BEGIN HIDDEN TESTS
        # check: one beside the size at which the kernel changes, in both directions
        # hint: what does your rule say when only one of m and n is large?
        seed = checking.secret_seed()
        for m, n, kernel in (127, 128, tiled_matmul), (128, 127, tiled_matmul), (128, 129, register_matmul):
            check_host(numbers(m, 3, seed), numbers(3, n, seed + 1), kernel, TILE if min(m, n) < 128 else BLOCK)
        ### END HIDDEN TESTS
    with credit.check("any layout", points=1, hint="print flags and strides of the arrays that you hand over"):
        check_host(numbers(20, 6, 5), numbers(9, 6, 6).T, transposed_matmul, TILE)
        check_host(numbers(12, 10, 7), numbers(10, 9, 8), tiled_matmul, TILE, slice(0, 12, 2), slice(9, None, -2))
        ### BEGIN HIDDEN TESTS
        # check: large and stored by columns, both transposed, and gaps in a transpose
        # hint: which comes first, the layout of b or the size of the result? What are the strides of a reversed view?
        seed = checking.secret_seed()
        check_host(numbers(130, 4, seed), numbers(129, 4, seed).T, transposed_matmul, TILE)
        check_host(numbers(5, 18, seed).T, numbers(19, 5, seed).T, transposed_matmul, TILE)
        check_host(numbers(6, 5, seed), numbers(34, 5, seed).T, tiled_matmul, TILE, slice(5, 0, -3), slice(0, 34, 2))
        ### END HIDDEN TESTS
    with credit.check("empty products", points=1, hint="a grid must have at least one block"):
        for m, n, k in ((0, 3, 2), (3, 0, 2), (2, 3, 0)):
            check_empty(m, n, k)
    with credit.check("refusals that help", points=1, hint="check before anything is copied or launched"):
        a, b = numbers(3, 4, 1), numbers(5, 2, 2)
        check_refusal(ValueError, a, b, "(3, 4)", "(5, 2)")
        check_refusal(TypeError, a, a.T.astype(np.float64), "float32", "float64")
        ### BEGIN HIDDEN TESTS
        # check: vectors, stacks, and other types
        # hint: what does a.shape[1] do for a vector? Which of the two arrays do you look at?
        check_refusal(ValueError, a[0], a.T, "(4,)", "(4, 3)")
        check_refusal(ValueError, a, a.T[:, :, None], "(3, 4)", "(4, 3, 1)")
        check_refusal(TypeError, a.astype(np.int32), a.T, "int32", "float32")
        ### END HIDDEN TESTS
    return credit.total()


test_unit_host()


# %% [markdown]
# ### What just happened?
#
# You have a matrix product that can be handed to others. Two of its lines are worth a second look: the copy of a layout that no kernel is made for (cheap: $mk$ numbers moved for $mnk$ multiply-adds), and the one that is *not* made, for `b.T`.

# %%
def layouts():
    x, w = numbers(20, 30, seed=1), numbers(12, 30, seed=2)
    for name, right in (("w.T", w.T), ("a copy of w.T", np.ascontiguousarray(w.T))):
        profile = launching.call(matmul, x, right).profile
        print(f"{name:14} -> {', '.join(profile.kernels)}, {profile.total.sectors_per_request:.1f} sectors per request")


insight.run(layouts, needs="Exercises 2, 3, 5 and 6")


# %% [markdown]
# ### Systems insight 3 of 3: against the library
#
# *Checkpoint:* your `matmul`, any shape. *Predict:* as `k` grows from 16 to 512, how does the largest error grow in parts of your bound, yours and the library's? And how many times slower is the simulator than NumPy's BLAS?

# %%
def library(a, b):
    """The product by cuBLAS if there is a GPU, else by NumPy."""
    if device.simulated:
        return a @ b
    import torch

    return torch.matmul(torch.from_numpy(a).cuda(), torch.from_numpy(b).cuda()).cpu().numpy()


def share_of_bound(product, a, b):
    exact = a.astype(np.float64) @ b.astype(np.float64)
    return float((np.abs(product - exact) / product_bound(a, b)).max())


# %%
def against_library(size=64, lengths=(16, 64, 256, 512)):
    """Largest error, in parts of the bound, and seconds, of your matmul and of the library."""
    errors = {"yours": [], "library": []}
    for k in lengths:
        a, b = numbers(size, k, seed=k), numbers(k, size, seed=k + 1)
        errors["yours"].append(share_of_bound(matmul(a, b), a, b))
        errors["library"].append(share_of_bound(library(a, b), a, b))
    fresh = lambda: (numbers(size, 64, 1), numbers(64, size, 2))
    clocks = {name: timing.measure(one, fresh, repeats=5, warmup=1) for name, one in
              (("yours", matmul), ("library", library))}
    return lengths, errors, clocks


# %%
compared = insight.run(against_library, needs="Exercises 2 and 6 (tiled_matmul, matmul)")
if compared:
    insight.lines(compared[0], compared[1], xlabel="k", ylabel="largest error / bound", logx=True)
    for name, clock in compared[2].items():
        print(f"{name:8} {clock}")


# %% [markdown]
# Both stay far inside the bound, and the share falls with `k`: errors of either sign cancel, the bound assumes that they never do. For short `k` yours and the library's may be equal to the last bit; for long ones the library adds up in parts, which is another honest order. Times that the clock calls *simulated* tell you about NumPy on a CPU and nothing about a GPU; a GPU's stand under "On your Spark".
#
# *In production* nobody asks for equal bits from two GEMM libraries. They ask for a tolerance with a reason, and now you have one.

# %% [markdown]
# ## Put it together
#
# All kernels, one product, one bound: the module's integration test (no points). `test_unit_all` then calls every test of the lab again and says which pass.

# %%
def test_module():
    """Every kernel and the host function agree with float64 within the bound, and the tile does not matter."""
    m, n, k = 45, 37, 29
    a, b = numbers(m, k, seed=1), numbers(k, n, seed=2)
    products = {"naive": multiply(naive_matmul, a, b, n, cover(m, n, 8, 32), (32, 8)).out, "matmul": matmul(a, b)}
    plans = (tiled_matmul, b, TILE), (transposed_matmul, b.T.copy(), TILE), (register_matmul, b, BLOCK)
    for kernel, right, part in plans:
        name = kernel.py_func.__name__
        products[name] = multiply(kernel, a, right, n, cover(m, n, part, part), (TILE, TILE)).out
    for name, product in products.items():
        check_product(product, a, b, what=name)
    return f"{len(products)} products agree"


# %%
insight.run(test_module, needs="Exercises 1, 2, 3, 5 and 6")


# %%
def test_unit_all():
    """Call every test again; say how each one ends."""
    for test in (test_unit_naive, test_unit_tiled, test_unit_transposed, test_unit_roofline, test_unit_register,
                 test_unit_host):
        try:
            verdict = f"earns {test():g} points"
        except Exception as error:
            verdict = f"fails: {type(error).__name__}"
        print(f"==> {test.__name__} {verdict}")


# %%
test_unit_all()


# %% [markdown]
# ## Use it: attention, by your own products
#
# Attention is two products with a softmax between them: $\mathrm{softmax}(QK^\top/\sqrt{d})\,V$. The first has its second operand transposed, which is where `transposed_matmul` earns its keep; the second has not. Below, 48 tokens; each looks for tokens whose key resembles its query, and keys repeat with a period of 12.

# %%
def attention(q, k, v):
    """(tokens, d) each -> the mixed values, and the weights (tokens, tokens)."""
    scores = matmul(q, k.T) / np.float32(np.sqrt(q.shape[1]))
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    return matmul(weights, v), weights


# %%
rng = np.random.default_rng(4)
tokens, width = 48, 32
pattern = rng.standard_normal((12, width)).astype(np.float32)
keys = pattern[np.arange(tokens) % 12] + 0.3 * rng.standard_normal((tokens, width)).astype(np.float32)
queries, values = 1.5 * keys[::-1], rng.standard_normal((tokens, width)).astype(np.float32)
attended = insight.run(lambda: attention(queries, keys, values), needs="Exercises 2, 3 and 6")

# %%
import torch

torch.set_num_threads(1)
if attended is not None:
    inputs = [torch.from_numpy(np.ascontiguousarray(part)) for part in (queries, keys, values)]
    reference = torch.nn.functional.scaled_dot_product_attention(*inputs).numpy()
    print(f"largest difference from torch's attention: {np.abs(attended[0] - reference).max():.1e}")

# %%
if attended is not None:
    _, axes = plt.subplots(figsize=(4, 3.4), layout="constrained")
    axes.imshow(attended[1], cmap="viridis")
    axes.set(xlabel="key", ylabel="query", title="who looks at whom")

# %% [markdown]
# ## On your Spark
#
# Now the real size: 4096 × 4096, 137 billion operations for each product. Everything you wrote is plain `numba.cuda` and runs as it is.
#
# 1. Start the container `nvcr.io/nvidia/pytorch:25.11-py3` with `--gpus all --ipc=host` (lab 1.1.3) and install the course's packages in it; `python -m labkit` should greet your Spark by name.
# 2. CPU and GPU share the 128 GB, and the page cache holds on to what it can. Clear it: `sudo sh -c 'sync; echo 3 > /proc/sys/vm/drop_caches'`.
# 3. Run the next cells. The roof is cuBLAS itself in float32, without TF32 (which would round the operands to 10 bits of mantissa and is another product), measured in the same run.
# 4. Then profile one launch: `ncu --set full -k regex:register_matmul -c 1 python your_script.py`. Look for *registers per thread* (over 128, only one block fits), *shared memory bank conflicts*, and local memory traffic: any at all means that `sums` did not stay in registers. (The authors' kernel, compiled by numba-cuda 0.30 and ptxas 12.9 but not run, takes 128 registers for compute capability 9.0, 125 for 12.1, and no local memory.)
#
# Measure: milliseconds and TFLOP/s for each kernel, and its time in parts of cuBLAS's. The aim of the module is a tiled product within two times of cuBLAS. This section has not yet been measured on a GPU by the authors; your numbers are news. Without a GPU, predict the ranking and leave the record empty.

# %%
from labkit import fullsize


def full_size(n=4096):
    """Each kernel on two n x n float32 matrices, beside NumPy on the CPU and cuBLAS on the GPU."""
    hardware.require_gpu("the full-size run")
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    left, right = np.random.default_rng(0).standard_normal((2, n, n), dtype=np.float32)
    a, b, c = cuda.to_device(left), cuda.to_device(right), cuda.device_array((n, n), np.float32)
    x, w = torch.from_numpy(left).cuda(), torch.from_numpy(right).cuda()
    cpu = fullsize.cpu_seconds(lambda: left @ right, repeats=2)
    rows = []
    for kernel, (tall, wide), threads in ((naive_matmul, (8, 32), (32, 8)), (tiled_matmul, (TILE, TILE), (TILE, TILE)),
                                          (transposed_matmul, (TILE, TILE), (TILE, TILE)),
                                          (register_matmul, (BLOCK, BLOCK), (TILE, TILE))):
        grid, other = cover(n, n, tall, wide), w.T if kernel is transposed_matmul else w
        kernel[grid, threads](a, b, c)
        error = (torch.from_numpy(c.copy_to_host()).cuda() - x.double() @ other.double()).abs()
        allowed = 1.01 * n * U / (1 - n * U) * (x.abs().double() @ other.abs().double())
        assert (error <= allowed).all(), f"{kernel.py_func.__name__} is wrong"
        clock = timing.measure(lambda k=kernel, g=grid, t=threads: k[g, t](a, b, c), repeats=10)
        cublas = timing.measure(lambda o=other: torch.mm(x, o), repeats=10).median
        name = kernel.py_func.__name__
        rows.append(fullsize.Measured(name, clock.median, flops=2 * n**3, cpu_s=cpu, library_s=cublas))
    return rows


# %%
def against_the_roof():
    """TFLOP/s of each kernel and of cuBLAS, from one run."""
    rows, roofs = full_size(), fullsize.roofs()
    fullsize.show(rows, roofs)
    return {"roof (cuBLAS)": roofs.flops / 1e12} | {row.kernel: row.flops / row.seconds / 1e12 for row in rows}


# %%
if device.simulated:
    print("No GPU here: the simulator is not made for 137 billion operations.")
else:
    rates = insight.run(against_the_roof, needs="Exercises 1, 2, 3 and 5")
    if rates:
        insight.bars(rates, ylabel="TFLOP/s", title=f"4096 x 4096 float32 on {device}")

# %% [markdown]
# **Record** what you measured: replace each `None`. The cell after it looks at the form; a person looks at the content.

# %%
spark_record = {
    "device": None,                # such as "NVIDIA GB10"
    "n": None,                     # such as 4096
    "cublas_tflop_per_s": None,    # the roof, measured in the same run
    "tflop_per_s": {"naive_matmul": None, "tiled_matmul": None, "transposed_matmul": None, "register_matmul": None},
}


# %% nbgrader={"grade": false, "grade_id": "matmul-record", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_record(record):
    """Whether the record is complete and possible. Nothing is graded here."""
    rates = record["tflop_per_s"]
    missing = [name for name, value in (record | rates).items() if value is None]
    if missing:
        return f"Still empty: {', '.join(missing)}. That is fine without a GPU."
    roof = record["cublas_tflop_per_s"]
    too_fast = [name for name, value in rates.items() if value > 1.1 * roof]
    if not 0.5 < roof < 200:
        return f"cuBLAS at {roof} TFLOP/s in float32? Today's GPUs reach 1 to 100; look at the units, and at TF32."
    if too_fast:
        return f"Faster than cuBLAS: {', '.join(too_fast)}. Are both float32, and is the result right?"
    best = max(rates, key=rates.get)
    gain = rates[best] / rates["naive_matmul"]
    return f"{record['device']}: {best} takes {roof / rates[best]:.2f} x cuBLAS's time, {gain:.0f} x faster than naive."


# %%
print(check_record(spark_record))

# %% [markdown]
# ## Common mistakes
#
# **1. One barrier in place of two.** A fast thread stages the next tile while a slow one still reads this one. With a single tile nothing goes wrong, so small tests pass.
#
# ```python
# ...wait, multiply, next tile           # wrong
# ...wait, multiply, wait, next tile     # right
# ```
#
# **2. Leaving early.** A thread without an element of `c` returns, and with it the elements of `a` and `b` that it had to stage; the barrier waits for it.
#
# ```python
# if row >= m or col >= n: return        # wrong
# stage 0 where there is nothing, stay, and guard the store        # right
# ```
#
# **3. `x` down the rows.** Correct, and each load of `b` by a warp is one sector, each of `a` is 32.
#
# ```python
# row, col = (position in the grid)      # wrong: x, the fast index, is the row
# col, row = (position in the grid)      # right: x runs along a row of memory
# ```

# %% [markdown]
# **4. A sum that starts as `0.0`.** Numba makes it float64, and the multiply-adds with it, on units of which a multiprocessor of a Spark has 2, beside 128 for float32 (CUDA programming guide, compute capability 12.x).
#
# ```python
# total = 0.0                            # wrong
# total = float32(…)                     # right
# ```
#
# **5. A tile without padding, read down its columns.** Sixteen threads in two banks: eight turns for each read. One more word in each row mends it. (Write the number: `TILE + 1` as part of a shape passes in the simulator, and Numba's compiler for GPUs refuses it.)
#
# **6. One guard for two operands.** At the right edge of `c` a thread has no column of `b`, but it does have an element of `a` to stage, which its neighbours need.
#
# ```python
# both tiles guarded by row < m and col < n                  # wrong
# a by its row and p, b by its p and column, each alone      # right
# ```
#
# **7. A thread that owns eight neighbours.** It reads nicely in the source and badly in the banks: words 8 apart, four threads in one bank. Let it own every 16th.

# %% [markdown]
# ## Reflect
#
# Three questions, read by a person, on your own kernels and measurements. A few sentences and the numbers are enough.

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-matmul-memory", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Question 1: which memory? (3 points).** (a) Systems insight 1 printed bytes for each multiply-add of *your* naive and tiled kernels. Derive both numbers from your code. (b) Your `register_matmul` moves fewer bytes *and* needs fewer shared loads than `tiled_matmul`. By how much each, and which constant of the code sets which? (c) Somebody wants `MICRO = 16`. Use `resident_blocks` and a count of registers to say what happens.
#
# ### BEGIN SOLUTION
# (a) Naive, warps of 32 columns: 1 sector of a and 4 of b for 32 multiply-adds, 5 * 32 / 32 = 5 bytes, and 4 bytes of c for each 64 multiply-adds, 0.06: 5.06. Tiled: each multiply-add needs two loads, each shared by 16: 2 * 4 / 16 = 0.5, and again 0.06 for c: 0.56. (b) Bytes fall by BLOCK / TILE = 8, because each element that is staged serves BLOCK rows or columns. Shared loads fall from 2 to 2 / MICRO = 0.25, also by 8, because each word read serves MICRO products. (c) 256 sums and 16 words of left and addresses: more than the 255 registers that a thread can have, so sums spill to local memory, which is global memory. Even 255 registers, rounded up to 256, for 256 threads are all 65,536: resident_blocks(256, 34 * 1024, 255, SPARK) gives one block, with nobody to work while it waits.
#
# ### BEGIN MARK SCHEME
# - 1 point: both numbers derived from their code, with the part of c. Half: without c, or one of the two.
# - 1 point: the factor 8 twice, by BLOCK / TILE and by MICRO. Half: one of them.
# - 1 point: registers over the limit (spill) or one resident block, with the count. Half: "too many registers" without numbers.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-matmul-integration", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Question 2: integration (3 points).** A linear layer has `x` of shape (tokens, 4096) and `W` of shape (4096, 4096), stored as (out, in). (a) Which of your kernels does `matmul(x, W.T)` launch, and what would it cost in bytes to copy the transpose first? (b) Use your `roofline` for 1 token and for 1,024 tokens on a Spark with parts of 128 × 128: intensity, bound, least time. Explain the difference. (c) For one token, what does your kernel waste, and what would you build instead?
#
# ### BEGIN SOLUTION
# (a) transposed_matmul; a copy reads and writes 2 * 4096 * 4096 * 4 = 134 MB, at 273 GB/s half a millisecond on every step. (b) roofline(1, 4096, 4096, 128, 128, SPARK): 0.50 FLOP/byte, memory-bound, 0.25 ms. 1,024 tokens: 31.5 FLOP/byte, still memory-bound in this count (without the second-level cache), 4.0 ms; so 1,024 tokens take 16 times as long as one. With one token each weight is used once, so the weights' 67 MB set the time whatever the kernel does. (c) A block of 16 x 16 threads makes 16 rows of c, of which one exists: 15 of 16 threads multiply zeros. A matrix-vector kernel: one warp for each row of W, coalesced along it, with a shuffle reduction as in lab 1.3.1; it is limited by bandwidth and reaches it. Or batch several requests.
#
# ### BEGIN MARK SCHEME
# - 1 point: the kernel, and bytes read and written. Half: one of them.
# - 1 point: four or more of the six figures right (up to rounding), and reuse of weights over tokens as the reason. Half: figures without the reason.
# - 1 point: the idle rows of the tile, and a reduction along k or batching. Half: only "small matrices are slow".
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-matmul-production", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Question 3: production (3 points).** After a library update, a team's test `assert (new == old).all()` on a float32 product of k = 4096 fails. The largest difference is 3e-5. (a) Name two honest changes inside a GEMM that alter the last bits, pointing at a line of your kernels that they would change. (b) Use `product_bound` (or its formula) to write the assertion that they should have, with the tolerance's arithmetic; how do two *computed* results change it? (c) Would a bug such as your Common mistake 6, in the last tile only, be caught by your assertion? By which shapes would you make sure?
#
# ### BEGIN SOLUTION
# (a) Another order of the sums: a different depth of tile with a sum for each tile, or k split over blocks, changes `total +=` (or sums[i, j] +=). Fused multiply-add in place of product and sum: the same line. (TF32 would change far more.) (b) |new - old| <= 2 gamma_k |A||B|, elementwise, with gamma_4096 = 4096 * 2**-24 / (1 - 4096 * 2**-24) = 2.4e-4: each is within gamma_k |A||B| of the exact product, so they are within twice that of each other. (c) Only if a shape has an edge inside a tile: for multiples of the tile the guard is never used. Then whole terms are missing, errors of the size of |a||b|, far above the bound unless the last values happen to be tiny. Shapes: one beside multiples of 16 and 128 in m, n and k separately, 1, and primes, with values of similar size in all places.
#
# ### BEGIN MARK SCHEME
# - 1 point: two changes, each tied to a line of their code. Half: one, or both without a line.
# - 1 point: elementwise bound with |A||B| and the factor 2 with its reason. Half: without the factor, or a scalar tolerance with arithmetic.
# - 1 point: says that multiples of the tile never reach the guard, and names edges in all three sizes. Half: "test more shapes".
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# You built four kernels, a prediction and a host function, each for one reason:
#
# | stage | what it fixed |
# |---|---|
# | `naive_matmul` | correct for any shape; x along the columns |
# | `tiled_matmul` | each element loaded by a block once, used 16 times |
# | `transposed_matmul` | the other layout, coalesced, without a copy; padding against bank conflicts |
# | `roofline`, `resident_blocks` | says beforehand what a kernel can reach, and why |
# | `register_matmul` | each word read from shared memory used 8 times |
# | `matmul` | shapes, types, layouts and grids are nobody's problem any more |
#
# The next cell repeats, in numbers, what this notebook measured of *your* code.

# %%
if globals().get("fed"):
    print("bytes per multiply-add:", {name: round(nbytes, 2) for name, (nbytes, _) in fed.items()})
if globals().get("placed"):
    print("FLOP per byte:", {name: round(intensity, 2) for name, (intensity, _) in placed.items()})
if globals().get("compared"):
    print("largest error in parts of the bound:", {name: f"{max(values):.2g}" for name, values in compared[1].items()})

# %% [markdown]
# ## Challenge (optional)
#
# - **The last conflict.** With one word of padding `transposed_matmul` still takes an extra turn when it stages. Find a stride and an order of the tile's indices that need none, in either direction. (17 is not the only number.)
# - **Fetch ahead.** Load the next tile into registers before you multiply this one, and store it after the barrier. What does it hide, and what does it cost in `resident_blocks`?
# - **Split k.** For a tall-and-thin times a thin-and-wide product few blocks exist. Let several blocks share one part of `c`, each over a part of `k`, and add their results. Which guarantee do you lose if you add by atomics?
# - **Rows of eight.** Change the order in which blocks take parts of `c` so that those that run together share more. Count what changes (nothing in the simulator) and measure what does (the second-level cache).
#
# ## Further reading
#
# - S. Williams, A. Waterman, D. Patterson, *Roofline: an insightful visual performance model for multicore architectures*, CACM 52 (2009).
# - NVIDIA, *CUDA C++ Programming Guide*, the section on shared memory, whose tiled product is the ancestor of Exercise 2.
# - NVIDIA, *CUTLASS: fast linear algebra in CUDA C++* (developer blog, 2017): blocks, warps and threads, each with its tile.
# - V. Volkov, *Better performance at lower occupancy* (GTC 2010): why registers beat resident warps.
# - N. J. Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd ed., section 3.5.
#
# ## Clean up

# %%
plt.close("all")
if not device.simulated:
    cuda.current_context().deallocations.clear()  # give the memory of freed arrays back now
print("Done. Next: lab 1.3.3, where rows are looked up instead of multiplied.")
