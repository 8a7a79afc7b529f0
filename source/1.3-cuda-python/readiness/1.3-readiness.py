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
# # Readiness check: module 1.3 CUDA Python & GPU Programming
#
# Fifteen minutes, no marks, nobody looks. At the end you know whether to start with lab 1.3.1 today, or which hour of rereading makes the next twelve easier.

# %% [markdown]
# ## How this works
#
# Each skill has a question, a cell for your answer, a cell that checks it, and the answer, folded. Write, run both cells, and only then unfold. A skill that costs you more than three minutes is one to reread: note it and go on.
#
# Run the next cell first.

# %%
from labkit import hardware, readiness

device = hardware.prepare_cuda()

import numpy as np
from numba import cuda, njit

ready = readiness.Readiness("1.3", {
    "broadcasting": "lab 1.2.1, broadcasting rules and the axis argument",
    "where an element lies": "lab 1.2.1, row-major order and strides",
    "a view or a copy": "lab 1.2.1, views; the NumPy manual on ndarray.base",
    "cleaning without a loop": "lab 1.2.2, missing values",
    "a compiled loop": "lab 1.2.5, Numba's njit",
    "where the float ends": "lab 1.2.5, float32 and summation; Goldberg (1991), section 1",
    "dividing work": "lab 1.2.1, slicing into chunks; Python's // and %",
    "bytes and bandwidth": "lab 1.1.2, memory bandwidth",
})


# %% [markdown]
# ## From module 1.2: arrays
#
# A kernel is a loop body without its loop. Who cannot take the loop out of NumPy code will not find the body.

# %% [markdown]
# ### Skill 1: broadcasting
#
# **Can you normalise every row of a table without a loop?** Each row minus its own mean, divided by its own largest absolute value (after the subtraction).

# %%
def normalise_rows(table):
    """A new array of the shape of `table` (rows, columns), float64."""
    raise NotImplementedError()


# %%
with ready.skill("broadcasting"):
    table = np.array([[1.0, 2.0, 6.0], [4.0, 4.0, 10.0]])
    got = normalise_rows(table)
    assert got.shape == (2, 3), f"the shape became {got.shape}: did the mean keep its axis?"
    assert np.allclose(got, [[-2 / 3, -1 / 3, 1], [-0.5, -0.5, 1]], rtol=1e-12, atol=0), "by rows, or by columns?"
    assert table[0, 0] == 1.0, "the table itself was changed"


# %% [markdown]
# <details><summary>Answer</summary>
#
# `keepdims` leaves a column of shape (rows, 1), which broadcasts against (rows, columns). A mean of shape (rows,) would line up with the *columns*.
#
# ```python
# def normalise_rows(table):
#     centred = table - table.mean(axis=1, keepdims=True)
#     return centred / np.abs(centred).max(axis=1, keepdims=True)
# ```
# </details>

# %% [markdown]
# ### Skill 2: where an element lies
#
# **How many bytes after the first element does element (i, j) of a C-contiguous float32 matrix with `columns` columns begin?** All of coalescing is this sum.

# %%
def byte_offset(i, j, columns):
    """An int, in bytes."""
    raise NotImplementedError()


# %%
with ready.skill("where an element lies"):
    grid = np.zeros((5, 7), np.float32)
    for i, j in ((0, 0), (0, 6), (1, 0), (4, 3)):
        want = grid[i:, j:].__array_interface__["data"][0] - grid.__array_interface__["data"][0]
        assert byte_offset(i, j, 7) == want, f"wrong for element ({i}, {j}) of 7 columns: which index jumps a whole row?"


# %% [markdown]
# <details><summary>Answer</summary>
#
# Rows lie one after the other. Neighbours in `j` are 4 bytes apart, neighbours in `i` a whole row.
#
# ```python
# def byte_offset(i, j, columns):
#     return 4 * (i * columns + j)
# ```
# </details>

# %% [markdown]
# ### Skill 3: a view or a copy
#
# **Which of `x.T`, `x[::2]`, `x[[0, 2]]`, `x.reshape(-1)` and `x.astype(np.float32)` share the memory of `x`, a C-contiguous float32 matrix?** Return the five answers as a list of bools, in this order.

# %%
def shares_memory():
    """[x.T, x[::2], x[[0, 2]], x.reshape(-1), x.astype(np.float32)]: True where the memory is that of x."""
    raise NotImplementedError()


# %%
with ready.skill("a view or a copy"):
    x = np.ones((4, 3), np.float32)
    made = {"x.T": x.T, "x[::2]": x[::2], "x[[0, 2]]": x[[0, 2]], "x.reshape(-1)": x.reshape(-1), "astype": x.astype(x.dtype)}
    truth = [np.shares_memory(x, one) for one in made.values()]
    answer = shares_memory()
    assert len(answer) == 5, "five answers are wanted"
    wrong = [name for name, mine, true in zip(made, answer, truth, strict=True) if mine is not true]
    assert not wrong, f"look again at {', '.join(wrong)}"


# %% [markdown]
# <details><summary>Answer</summary>
#
# Transposing, slicing and (of a contiguous array) reshaping only make new strides. Indexing with a list gathers, and `astype` copies by default even if the type stays. `np.shares_memory` tells.
#
# ```python
# def shares_memory():
#     return [True, True, False, True, False]
# ```
# </details>

# %% [markdown]
# ### Skill 4: cleaning without a loop
#
# **Can you replace each NaN by the mean of its column, taken over the values that are there?** Lab 1.3.4 moves such a pipeline to the GPU.

# %%
def fill_missing(table):
    """A new array of the shape of `table` (rows, columns) without NaN; each column has at least one value."""
    raise NotImplementedError()


# %%
with ready.skill("cleaning without a loop"):
    holes = np.array([[1.0, np.nan], [3.0, 5.0], [np.nan, 7.0]])
    assert np.array_equal(fill_missing(holes), [[1.0, 6.0], [3.0, 5.0], [2.0, 7.0]]), "the mean of which axis?"
    assert np.isnan(holes[0, 1]), "the table itself was changed"


# %% [markdown]
# <details><summary>Answer</summary>
#
# The means have shape (columns,), which lines up with the last axis: `np.where` broadcasts them.
#
# ```python
# def fill_missing(table):
#     return np.where(np.isnan(table), np.nanmean(table, axis=0), table)
# ```
# </details>

# %% [markdown]
# ## From module 1.2: compiled and measured

# %% [markdown]
# ### Skill 5: a compiled loop
#
# **Can you write a loop that Numba compiles?** The largest sum of `k` neighbours in `x`, in one pass: each step adds one value and takes one away.

# %%
@njit
def largest_window(x, k):
    """The largest sum of k neighbours of the float64 array x; 1 <= k <= len(x)."""
    raise NotImplementedError()


# %%
with ready.skill("a compiled loop"):
    x = np.array([3.0, -1.0, 4.0, 1.0, -5.0, 9.0, 2.0])
    for k in (1, 2, 3, 7):
        want = max(x[i : i + k].sum() for i in range(len(x) - k + 1))
        assert abs(largest_window(x, k) - want) < 1e-12, f"wrong for k = {k}: which window comes last?"
    assert largest_window.signatures, "decorate it with @njit"


# %% [markdown]
# <details><summary>Answer</summary>
#
# The first call compiles for the types that it sees, which is why a first call is never timed.
#
# ```python
# @njit
# def largest_window(x, k):
#     total = 0.0
#     for i in range(k):
#         total += x[i]
#     best = total
#     for i in range(k, len(x)):
#         total += x[i] - x[i - k]
#         best = max(best, total)
#     return best
# ```
# </details>

# %% [markdown]
# ### Skill 6: where the float ends
#
# **A loop adds 1.0 to a float32 that began at 0, again and again. At which value does it stop growing?**

# %%
def where_counting_stops():
    """A float: the value n, reached by counting, for which n + 1 == n in float32."""
    raise NotImplementedError()


# %%
with ready.skill("where the float ends"):
    n = np.float32(where_counting_stops())
    assert n + np.float32(1) == n, "this number can still be counted on: how many bits has a float32's significand?"
    assert n - np.float32(1) + np.float32(1) == n and n - np.float32(1) != n, "counting stopped earlier"


# %% [markdown]
# <details><summary>Answer</summary>
#
# A float32 has 24 significant bits, so from 2**24 on neighbours are 2 apart, and the halfway case rounds back to the even neighbour. A histogram or a sum in float32 stops growing there, without an error. Many partial sums, added at the end, do not.
#
# ```python
# def where_counting_stops():
#     return 2.0**24
# ```
# </details>

# %% [markdown]
# ### Skill 7: time, honestly
#
# **A function took 80 ms when you timed it, then 2.1 ms, 2.0 ms and 2.6 ms. What do you report, and why not the mean?**
#
# <details><summary>Answer</summary>
#
# The first call paid for something that happens once: compilation, allocation, a cold cache. It is warm-up and does not count. Of the rest, report the median and the spread (2.1 ms, from 2.0 to 2.6 ms): run times have a long tail to the right, and one interruption moves a mean and leaves a median where it is. To reread: lab 1.2.5.
# </details>

# %% [markdown]
# ## From module 1.1: work and bytes
#
# A kernel is planned with two sums on the back of an envelope.

# %% [markdown]
# ### Skill 8: dividing work
#
# **How many blocks of `size` threads are needed so that each of `n` elements has a thread, and how many threads then have nothing to do?**

# %%
def blocks_and_idle(n, size):
    """(blocks, idle threads), both int; no block at all for n = 0."""
    raise NotImplementedError()


# %%
with ready.skill("dividing work"):
    for n, size, want in ((1000, 256, (4, 24)), (1024, 256, (4, 0)), (1, 32, (1, 31)), (0, 64, (0, 0))):
        assert blocks_and_idle(n, size) == want, f"wrong for {n} elements in blocks of {size}: round up, not down"


# %% [markdown]
# <details><summary>Answer</summary>
#
# Rounding up without a float: `-(-n // size)`, or `(n + size - 1) // size`. The idle threads must be kept from reading past the end: every kernel of this module has an `if` for them.
#
# ```python
# def blocks_and_idle(n, size):
#     blocks = -(-n // size)
#     return blocks, blocks * size - n
# ```
# </details>

# %% [markdown]
# ### Skill 9: bytes and bandwidth
#
# **What is the least time in which `z = x + y` can run for `n` float32, if memory moves `gb_per_s` gigabytes (1e9 bytes) a second and nothing is in a cache?**

# %%
def least_seconds(n, gb_per_s):
    """A float, in seconds."""
    raise NotImplementedError()


# %%
with ready.skill("bytes and bandwidth"):
    got = least_seconds(2**28, 273)
    assert abs(got / (3 * 2**30 / 273e9) - 1) < 1e-9, "count what is read and what is written, in bytes"


# %% [markdown]
# <details><summary>Answer</summary>
#
# Two arrays are read and one is written, 4 bytes an element: 12 bytes for one addition. For 2**28 elements on a DGX Spark (273 GB/s by its data sheet) that is 11.8 ms, however fast it adds. A measured time far above it is worth a question; one below it is a mistake of the measurement.
#
# ```python
# def least_seconds(n, gb_per_s):
#     return 3 * 4 * n / (gb_per_s * 1e9)
# ```
# </details>

# %% [markdown]
# ## Your machine
#
# The next cell runs a kernel: on your GPU if there is one, else in the simulator. It should print the squares from 0 to 81. If it does not, `python -m labkit` says what is missing.

# %%
@cuda.jit
def square(x, y):
    k = cuda.grid(1)
    if k < x.size:
        y[k] = x[k] * x[k]


y = np.zeros(10, np.float32)
square[2, 8](np.arange(10, dtype=np.float32), y)
print(hardware.greeting(), f"\nKernels run on: {device}\n{y}")

# %% [markdown]
# ## The result

# %%
ready.report()

# %% [markdown]
# ## If you are not ready
#
# | missing | where it is taught |
# |---|---|
# | skills 1 to 3: broadcasting, strides, views | lab 1.2.1; half an hour with `np.lib.stride_tricks` and `arr.strides` |
# | skill 4: missing values | lab 1.2.2 |
# | skills 5 to 7: Numba, float32, timing | lab 1.2.5 |
# | skills 8 and 9: rounding up, bytes | lab 1.1.2, then this page again |
#
# One gap is no reason to wait: start 1.3.1 and close it on the way. Three are: every lab of this module leans on skills 2, 5 and 8.

# %% [markdown]
# ## What comes next
#
# Lab 1.3.1 adds up an array six times, each time better. After it come the tiled matrix product (1.3.2), the embedding table of a language model (1.3.3), a pipeline that runs on either side (1.3.4), a training loop that is slower than it looks (1.3.5) and a histogram in which everybody wants to write to the same place (1.3.6).
