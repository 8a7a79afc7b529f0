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
# # Lab 1.3.3: Custom embedding lookup
#
# | | |
# |---|---|
# | Module | 1.3 CUDA Python and GPU programming |
# | Time | 2 hours |
# | Difficulty | ★★★☆☆ |
# | Hardware | gpu-optional: without a GPU all of it runs in a simulator |
# | Points | 32 automatic, 9 read by a person |
# | Builds on | 1.3.2 (matrix multiplication) |
#
# Every language model begins with the same step: token 4711 becomes row 4711 of a table. It computes nothing, it only moves memory, and so it is the purest exercise in moving memory well. You write the step, its gradient in two ways, and put both under PyTorch's autograd.

# %% [markdown]
# ## What you'll achieve
#
# 1. **See the machine** (objective 1.3.3): say from counts why the same copy moves eight times the memory in one layout of threads.
# 2. **Write kernels** (1.3.2): gather rows, scatter gradients with atomics, and sum sorted segments without.
# 3. **Learn a pattern** (1.3.2): gather forward, scatter-add backward. It returns in graph networks, mixtures of experts and paged attention.
# 4. **Meet the production tool** (1.3.3): your function computes what `torch.nn.functional.embedding` computes, gradient and padding included, and stands in its place in a training loop.
# 5. **Weigh a trade-off** (1.3.3): atomics that queue against sorting that costs a pass, and which of the two gives the same bits twice.

# %% [markdown]
# ## Before you start
#
# | | |
# |---|---|
# | You have built | a reduction (1.3.1) and a tiled product (1.3.2): barriers, atomics, two-dimensional indexing |
# | What works | kernels whose threads know from their own index where to read |
# | The gap | here the *data* says where to read: `table[tokens[n]]`, and repeated tokens send their gradients to the same place |
# | This lab | orders the threads so that rows are read side by side, and gives colliding gradients an order |
#
# ```
# 1.3.1 atomics, grid-stride loop ─┐                         ┌─→ 2.3  the first layer of your transformer
# 1.3.2 rows and columns ──────────┼─→ 1.3.3 embedding lookup┼─→ 2.1  custom autograd functions
# 1.2.5 profiling ─────────────────┘                         └─→ 3.4  paged KV caches: a lookup, too
# ```

# %% [markdown]
# **Check yourself 1.** A warp reads 32 neighbouring float32 numbers, starting at a multiple of 32 bytes. How many sectors of 32 bytes is that, and how many if the numbers lie 400 bytes apart?
#
# <details><summary>Answer</summary>
#
# 4, since 32 numbers of 4 bytes are 128 bytes. Far apart, each number lies in a sector of its own: 32 sectors, of which 7/8 is thrown away.
# </details>
#
# **Check yourself 2.** `table` is a C-ordered `(V, D)` array. How far apart are `table[5, 0]` and `table[5, 1]`, and how far `table[5, 0]` and `table[6, 0]`?
#
# <details><summary>Answer</summary>
#
# 1 element and D elements. Neighbouring columns are neighbours in memory, neighbouring rows are not.
# </details>
#
# **Check yourself 3.** What is the derivative of `y = table[7]` with respect to `table`, if the gradient of the loss with respect to `y` is `g`?
#
# <details><summary>Answer</summary>
#
# A table full of zeros with `g` in row 7. If row 7 was read twice, the two gradients add up there.
# </details>

# %% nbgrader={"grade": false, "grade_id": "embed-setup", "locked": true, "schema_version": 3, "solution": false, "task": false}
from labkit import hardware

device = hardware.prepare_cuda()  # before numba.cuda is imported: it may have to simulate

import math
from contextlib import contextmanager

import numpy as np
import torch
from labkit import checking, insight, launching, timing, tiny
from numba import cuda, float32

torch.set_num_threads(1)
print(f"Kernels run on: {device}")


# %% [markdown]
# **Ready?** The next cell launches a kernel. If it prints what it should, everything you need is here.

# %% nbgrader={"grade": false, "grade_id": "embed-ready", "locked": true, "schema_version": 3, "solution": false, "task": false}
@cuda.jit
def backwards(x, order, y):
    """y[k] = x[order[k]]: a gather, one element for each thread."""
    k = cuda.grid(1)
    if k < y.size:
        y[k] = x[order[k]]


# %%
y = np.zeros(5, np.float32)
backwards[1, 8](np.arange(5, dtype=np.float32), np.array([4, 3, 2, 1, 0]), y)
print("expected [4. 3. 2. 1. 0.], got", y)

# %% [markdown]
# ## Why it matters
#
# The table of Llama 3 has 128,256 rows of 4,096 bfloat16 numbers: 1.05 GB. A training batch of 8 sequences of 4,096 tokens reads 32,768 of those rows, 268 MB, and writes as much. No arithmetic at all. A GPU that is rated at a petaflop does this step exactly as fast as its memory allows, or, with the wrong layout of threads, eight times slower.
#
# The gradient is worse. Text repeats itself: in English a space or a "the" may be every tenth token, so thousands of gradient rows want to be added to the same row at the same time. With atomics they queue, and the order of the queue, so also the last bits of the sum, is another one each time. "Why does my loss differ between two runs with the same seed?" often has this answer: PyTorch's documentation lists `index_add`, which is this very pattern, among the operations that are not deterministic on a GPU unless you ask for it.
#
# And a token id past the end of the table reads memory that belongs to somebody else. On a GPU that is no tidy exception; it is a crashed context, or silently somebody else's numbers.

# %% [markdown]
# ## At the kitchen table
#
# A cook has a shelf with 128,256 recipe cards, and a list of 32 numbers to copy out.
#
# - **A card for each helper** (one thread per row): 32 helpers stand at 32 places of the shelf, and all copy the first word, then the second. Each step touches 32 places.
# - **A card for all helpers** (one thread per element): they gather around one card, and each copies one word. One place, all words at once, and then the next card.
# - **Two words at a glance** (wide loads): whoever can take in two words at once needs half as many glances. It works only if the card is cut at an even number of words.
# - **Corrections** (the gradient): each guest hands in slips for the cards. *Queue at the card* (atomics), or *sort the slips by card first* and let one helper add up each pile (segment sums).
# - **The blank card** (padding) fills up short lists. Nobody corrects it.
#
# *Where it breaks:* a helper with a wrong card number sees that there is no such card. A thread does not.

# %% [markdown]
# ## Foundations: gather and scatter
#
# Tokens $t \in \{0..V-1\}^{N}$, a table $E \in \mathbb{R}^{V\times D}$, the output $Y \in \mathbb{R}^{N\times D}$:
#
# $$Y_{n,c} = E_{t_n,\,c}, \qquad\qquad \frac{\partial L}{\partial E_{v,c}} = \sum_{n:\,t_n=v,\; v\ne p} G_{n,c}, \qquad G = \frac{\partial L}{\partial Y}.$$
#
# Forward is a *gather*: every output has one source. Backward is a *scatter-add*: an entry of the table has as many sources as its token has occurrences, and none if the token is the *padding index* $p$, which is to stay what it is.
#
# ```
#  tokens   2   0   2   1            E: 0 ─ a a a a          Y:  c c c c
#           │   │   │   │               1 ─ b b b b   ─→         a a a a
#           └───┼───┴───┼── row 2       2 ─ c c c c              c c c c
#               └───────┼── row 0                                b b b b
#                       └── row 1
#                                    dE: 0 ─ G[1]       1 ─ G[3]       2 ─ G[0] + G[2]
# ```

# %% [markdown]
# ## Foundations: which thread copies what
#
# **In numbers.** 32 tokens, D = 64, float32: 2,048 numbers to read and as many to write.
#
# | | one thread per row | one thread per element |
# |---|---|---|
# | one load instruction of a warp reads | 32 rows, one number of each | 32 neighbours of one row |
# | sectors for it | 32 | 4 |
# | sectors to read and write all | 2 × 64 × 32 = 4,096 | 2 × 64 × 4 = 512 |
#
# The caches soften this on a real GPU, but what they have to carry is the same. A third way, one *word* of 8 bytes per thread, moves the same 512 sectors with half as many instructions.

# %%
lanes = np.arange(32)
for name, places in (("thread per row", lanes * 64 * 4), ("thread per element", lanes * 4)):
    print(f"{name:18}: {np.unique(places // 32).size} sectors for one load of a warp")

# %% [markdown]
# ### The tools that the tests use
#
# `launching.launch(kernel, blocks, threads, ...)` runs a kernel on copies and gives back what it wrote (`out`; full of poison at first) and a *profile*: loads, stores, sectors, requests (instructions of warps), atomics. `launching.call(function, ...)` does the same for a function that launches kernels itself. On a machine with a GPU, kernels run in the simulator for the counts and on the GPU for the values.
#
# Kernels take arrays, PyTorch has tensors. `on_device` gives a kernel the tensor's own memory: what the kernel writes, the tensor holds.

# %% nbgrader={"grade": false, "grade_id": "embed-on-device", "locked": true, "schema_version": 3, "solution": false, "task": false}
WHERE = "cpu" if device.simulated else "cuda"  # where tensors have to be, so that kernels reach them
THREADS = 128  # per block


def on_device(tensor):
    """The memory of a contiguous tensor as an array that a kernel takes; nothing is copied."""
    assert tensor.is_contiguous(), "a kernel would read the elements in another order: call .contiguous() first"
    tensor = tensor.detach()
    return tensor.numpy() if device.simulated else cuda.as_cuda_array(tensor)


# %% nbgrader={"grade": false, "grade_id": "embed-data", "locked": true, "schema_version": 3, "solution": false, "task": false}
def make_table(rows, columns, seed):
    """A (rows, columns) float32 array of both signs."""
    return np.random.default_rng(seed).standard_normal((rows, columns)).astype(np.float32)


def make_tokens(shape, rows, seed, dtype=np.int64):
    """Token ids below `rows`, as text has them: few are frequent, most are rare (Zipf's law)."""
    chances = 1 / np.arange(1, rows + 1)
    return np.random.default_rng(seed).choice(rows, shape, p=chances / chances.sum()).astype(dtype)


# %%
print(make_tokens((2, 12), rows=50, seed=0))


# %% [markdown]
# The fewest sectors that a gather can do with are a matter of addresses. This function takes them from the definition: 32 neighbouring elements form a warp, and the sectors of an instruction are the different multiples of 32 bytes among its addresses.

# %% nbgrader={"grade": false, "grade_id": "embed-fewest", "locked": true, "schema_version": 3, "solution": false, "task": false}
def fewest(tokens, columns, width=4, token_loads=1):
    """(requests, sectors) of a gather in which thread g owns element g, of `width` bytes, of the output.

    Each element takes three accesses: it loads its token (`token_loads` times), loads from the table, stores.
    """
    element = np.arange(tokens.size * columns)
    row, column = np.divmod(element, columns)
    source = (tokens[row].astype(np.int64) * columns + column) * width
    sectors = 0
    for address in (*[row * tokens.itemsize] * token_loads, source, element * width):
        sectors += np.unique(element // 32 * 2**40 + address // 32).size
    return (2 + token_loads) * math.ceil(element.size / 32), sectors


# %%
print("2 tokens of int32, D = 32:", fewest(np.array([3, 1], np.int32), 32))


# %% [markdown]
# ## Part 1: One thread for each row
#
# The obvious kernel first: a token for each thread, and the thread copies the whole row. It is correct, short, and what you will measure everything else against.
#
# **Exercise 1 (3 points).** Write `lookup_by_row`. More threads than tokens are the rule.

# %% nbgrader={"grade": false, "grade_id": "embed-by-row", "locked": false, "schema_version": 3, "solution": true, "task": false}
@cuda.jit
def lookup_by_row(tokens, table, out):
    """out[n] = table[tokens[n]], a whole row for each thread.

    Args:
        tokens: int32 or int64, shape (N,), each at least 0 and below V; N may be 0. Comes out unchanged.
        table: float32, shape (V, D); any D. Comes out unchanged.
        out: float32, shape (N, D). Every element is written.

    Launch: [blocks, threads], one-dimensional, with at least N threads. Thread n = cuda.grid(1) owns row n of out.

    TODO: Let each thread that owns a row copy it, column by column.

    APPROACH:
        1. Find the thread's row and leave if there is none, because the last block is rarely full.
        2. Read the token, because it says which row of the table is wanted.
        3. Loop over the columns, because the thread copies all of the row itself.

    EXAMPLE:
        >>> out = np.zeros((2, 3), np.float32)
        >>> lookup_by_row[1, 4](np.array([1, 0]), np.array([[1, 2, 3], [4, 5, 6]], np.float32), out)
        >>> out
        array([[4., 5., 6.],
               [1., 2., 3.]], dtype=float32)

    HINTS:
        1. `backwards` above does this for rows of one element.
        2. `tokens.size` and `table.shape[1]` are known inside the kernel.
        3. Two-dimensional arrays take two indices: `out[n, column]`.
    """
    ### BEGIN SOLUTION
    n = cuda.grid(1)
    if n < tokens.size:
        token = tokens[n]
        for column in range(table.shape[1]):
            out[n, column] = table[token, column]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-embed-by-row", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Checks: all rows for several N, V and D, both integer types, and that a thread copies a whole row.
# Fails if: threads past the end write, a row is left unfinished, or the work is cut in another way.
# A pass: a correct lookup. Its price is counted in the next part.
def check_by_row(n, rows, columns, seed, dtype=np.int64):
    tokens, table = make_tokens(n, rows, seed, dtype), make_table(rows, columns, seed)
    blocks = max(1, math.ceil(n / 32))
    run = launching.launch(lookup_by_row, blocks, 32, tokens, table, launching.out((n, columns)))
    what = f"lookup_by_row of {n} tokens in a table of {rows} x {columns}"
    checking.equal(run.out, table[tokens], what=what, hint="print the first row of out, and the row of its token")
    # A warp loads from the table and stores to out, one column after the other, and tokens once or each time.
    warps, requests = math.ceil(n / 32), run.profile.total.requests
    assert 2 * warps * columns <= requests <= 3 * warps * columns + warps, (
        f"{requests} accesses of warps; a row for each thread takes {2 * warps * columns + warps}"
    )


def test_unit_by_row():
    check_by_row(4, 10, 3, seed=1)
    check_by_row(33, 50, 8, seed=2, dtype=np.int32)
    ### BEGIN HIDDEN TESTS
    # check: numbers of tokens around a full block, and rows of any length
    # hint: which threads have no token, and what do they do?
    seed = checking.secret_seed()
    for n, columns in ((1, 1), (31, 5), (32, 7), (65, 2), (33, 33)):
        check_by_row(n, 40, columns, seed + n)
    # check: no tokens, and a table of one row
    # hint: what does each thread do if tokens.size is 0?
    check_by_row(0, 3, 4, seed)
    check_by_row(9, 1, 6, seed, dtype=np.int32)
    ### END HIDDEN TESTS


test_unit_by_row()


# %% [markdown]
# ### What just happened?
#
# Right, and wasteful: at each step of the loop the 32 threads of a warp read column `c` of 32 different rows, and write to 32 different rows. The profile shows it line by line; look at *sectors/req* of the line that copies, of which 4 would be the best.

# %%
def different_tokens(n, rows, seed):
    """n token ids below `rows`, none twice: no two threads share a row by chance."""
    return np.random.default_rng(seed).permutation(rows)[:n].astype(np.int32)


# %%
def profile_by_row():
    tokens, table = different_tokens(32, 50, seed=3), make_table(50, 64, seed=3)
    return launching.launch(lookup_by_row, 1, 32, tokens, table, launching.out((32, 64))).profile


# %%
print(insight.run(profile_by_row, needs="Exercise 1 (lookup_by_row)"))

# %% [markdown]
# ## Part 2: One thread for each element
#
# Number the elements of the output 0, 1, 2, … row by row, as they lie in memory, and deal *those* out to the threads. Neighbouring threads then own neighbouring columns of the same row, whatever D is:

# %%
D = 5
for thread in (0, 4, 5, 9, 10):
    print(f"thread {thread:2} owns element {thread:2} = row {thread // D}, column {thread % D}")


# %% [markdown]
# A grid need not have as many threads as there are elements: in a *grid-stride loop* (1.3.1) thread `g` also takes `g + gridsize`, `g + 2 gridsize`, and so on. Nothing in the kernel depends on what an element *is*; that will pay in Part 3.
#
# **Exercise 2 (5 points).** Write `lookup_by_element`.

# %% nbgrader={"grade": false, "grade_id": "embed-by-element", "locked": false, "schema_version": 3, "solution": true, "task": false}
@cuda.jit
def lookup_by_element(tokens, table, out):
    """out[n] = table[tokens[n]], dealt out to the threads element by element.

    Args:
        tokens: int32 or int64, shape (N,), each at least 0 and below V. Comes out unchanged.
        table: shape (V, D), C-ordered, of any type; any D. Comes out unchanged.
        out: shape (N, D), of the type of table. Every element is written, each of them once.

    Launch: [blocks, threads], one-dimensional, any size. With the elements of out numbered row by row, thread
    g = cuda.grid(1) owns the elements g, g + gridsize, g + 2 gridsize, ...

    TODO: For each element that the thread owns find row and column, and copy it.

    APPROACH:
        1. Loop from cuda.grid(1) in steps of cuda.gridsize(1), because the grid may be smaller than out.
        2. Divide by D, because the quotient is the row of the element and the remainder its column.
        3. Copy one element, because the neighbours are copied by the neighbouring threads.

    EXAMPLE:
        >>> out = np.zeros((2, 3), np.float32)
        >>> lookup_by_element[1, 4](np.array([1, 0]), np.array([[1, 2, 3], [4, 5, 6]], np.float32), out)
        >>> out
        array([[4., 5., 6.],
               [1., 2., 3.]], dtype=float32)

    HINTS:
        1. `out.size` is N times D.
        2. `range` takes a start, an end and a step in a kernel, too.
        3. `//` and `%` by `table.shape[1]`.
    """
    ### BEGIN SOLUTION
    columns = table.shape[1]
    for element in range(cuda.grid(1), out.size, cuda.gridsize(1)):
        row, column = element // columns, element % columns
        out[row, column] = table[tokens[row], column]
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "embed-check-element", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_by_element(n, columns, blocks, threads, seed, dtype=np.float32):
    """All values are right and each is stored once. Gives the tokens and the counts."""
    tokens, table = make_tokens(n, 40, seed, np.int32), (100 * make_table(40, columns, seed)).astype(dtype)
    run = launching.launch(lookup_by_element, blocks, threads, tokens, table, launching.out((n, columns), dtype))
    what = f"lookup_by_element[{blocks}, {threads}] of {n} tokens, D = {columns}"
    checking.equal(run.out, table[tokens], what=what, hint="which thread owns the first element that is wrong?")
    checking.equal(run.profile.total.stores, n * columns, what=f"stores of {what}", hint="one thread for each element")
    return tokens, run.profile.total


# %% nbgrader={"grade": false, "grade_id": "embed-check-coalesced", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_coalesced(n, columns, blocks, threads, seed):
    """No gather of the same tokens needs fewer sectors."""
    tokens, total = check_by_element(n, columns, blocks, threads, seed)
    requests, sectors = fewest(tokens, columns)
    what = f"for {n} tokens, D = {columns}; neighbours in out belong to neighbouring threads"
    assert total.requests <= requests, f"{total.requests} accesses of warps where {requests} are enough {what}"
    assert total.sectors <= sectors, f"{total.sectors} sectors where {sectors} are enough {what}"


# %% nbgrader={"grade": true, "grade_id": "test-embed-by-element", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
# Checks: all elements on grids of any size and for any type, and that no gather needs fewer sectors.
# Fails if: a small grid leaves elements out, two threads do the same, or neighbours do not read neighbours.
# A pass: the memory moves what it has to, and no byte more.
def test_unit_by_element():
    credit = checking.Credit(5)
    with credit.check("a grid as large as the output", points=2, hint="work out row and column of element 7 by hand"):
        check_by_element(4, 3, 1, 32, seed=1)
        ### BEGIN HIDDEN TESTS
        # check: other widths of a row, and other types
        # hint: is D taken from the table's shape, and does the kernel depend on the type anywhere?
        seed = checking.secret_seed()
        for n, columns, dtype in ((1, 1, np.float32), (9, 7, np.float32), (5, 64, np.int64), (33, 4, np.float64)):
            check_by_element(n, columns, math.ceil(n * columns / 32), 32, seed, dtype)
        ### END HIDDEN TESTS
    with credit.check("a smaller grid", points=1, hint="which elements come after cuda.grid(1)?"):
        check_by_element(10, 33, 2, 32, seed=3)
        ### BEGIN HIDDEN TESTS
        # check: grids that divide nothing, down to a single thread
        # hint: by how much does a thread go on, and is it the number of all threads of the grid?
        for n, columns, blocks, threads in ((7, 5, 1, 1), (13, 9, 3, 7), (11, 10, 2, 24)):
            check_by_element(n, columns, blocks, threads, checking.secret_seed())
        ### END HIDDEN TESTS
    with credit.check("coalesced", points=2, hint="which element does the thread next to yours take?"):
        check_coalesced(16, 64, 8, 128, seed=4)
        ### BEGIN HIDDEN TESTS
        # check: coalesced for any D, and on small grids
        # hint: count the accesses for one element: its token, the table, the output; is any of them done twice?
        for n, columns, blocks in ((50, 7, 11), (20, 33, 2), (100, 1, 1)):
            check_coalesced(n, columns, blocks, 32, checking.secret_seed())
        ### END HIDDEN TESTS
    return credit.total()


test_unit_by_element()

# %% [markdown]
# ### What just happened?
#
# The same loads and stores, dealt out otherwise. Each thread pays for it with a division and a remainder; a GPU has time for those while it waits for memory. And every thread of a row reads the same token: 32 lanes on one address cost one sector, so that is nearly free.

# %% [markdown]
# ### Systems insight 1 of 3: bytes moved for each byte wanted
#
# *Checkpoint:* two kernels with the same result. *Predict before you run:* for D = 1, 8 and 64, how many bytes does each move for each byte that has to be read or written? Where do the two meet, and why there?

# %%
WIDTHS = (1, 2, 4, 8, 16, 32, 64)


def waste(kernel, columns, n=64):
    """Bytes that the kernel moves for each byte of the rows read and written, counted in sectors."""
    tokens, table = different_tokens(n, 1000, seed=5), make_table(1000, columns, seed=5)
    run = launching.launch(kernel, math.ceil(n * columns / 64), 64, tokens, table, launching.out((n, columns)))
    return run.profile.total.bytes_moved / (2 * n * columns * 4)


# %%
def both_layouts():
    return {kernel.py_func.__name__: [waste(kernel, d) for d in WIDTHS] for kernel in (lookup_by_row, lookup_by_element)}


# %%
wasted = insight.run(both_layouts, needs="Exercises 1 and 2 (lookup_by_row, lookup_by_element)")
if wasted:
    insight.lines(WIDTHS, wasted, xlabel="D, elements of a row", ylabel="bytes moved per byte wanted", logx=True)

# %% [markdown]
# With one thread per row every access of 4 bytes moves a sector of 32: a factor of 8 for reads and for writes, from D = 8 on. With one thread per element the factor goes to 1; what is left above it are the tokens and, for narrow rows, the rest of the sectors that random rows drag along. At D = 1 the two kernels are the same kernel.
#
# *In production* the rows have thousands of columns and the second layout is the only one you will meet. But the first is what comes out of "one thread per item" by reflex, and it is found in many a hand-written kernel for features, positions or routing tables, where D is 8 or 16.

# %% [markdown]
# ## Part 3: Two numbers at a glance, and a door in front
#
# A GPU's load instruction can carry 4, 8 or 16 bytes per thread. Fewer, wider instructions leave more room for loads in flight. CUDA C++ has `float4` for it. In Python a *view* does it: a copy does not care what the bits mean, so look at pairs of float32 as one int64, and let your kernel copy those:

# %%
two_rows = torch.tensor([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]])
print(two_rows.shape, "->", two_rows.view(torch.int64).shape, "in the same memory")
print("and back:", two_rows.view(torch.int64).view(torch.float32)[1])

# %% [markdown]
# Two conditions. A row needs an even number of columns, or its words would reach into the next row. And a word of 8 bytes has to lie at an address that is a multiple of 8: a GPU refuses others with *misaligned address*. A tensor's memory begins at a good address, but a slice of it need not:

# %%
store = torch.arange(9.0)
for part in (store[:8].view(2, 4), store[1:].view(2, 4)):
    print("begins at a multiple of 8:", part.data_ptr() % 8 == 0, " contiguous:", part.is_contiguous())


# %% [markdown]
# The door: no kernel checks ids, because a check costs each thread and has nobody to tell. So the host looks at all of them once, before the launch. `-1` must not pass either: Python would take the last row, a GPU takes what lies in front of the table.
#
# **Exercise 3 (6 points).** Write `lookup`, the host's side: refuse what is wrong, choose the word, launch `lookup_by_element`.

# %% nbgrader={"grade": false, "grade_id": "embed-lookup", "locked": false, "schema_version": 3, "solution": true, "task": false}
def lookup(tokens: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """table[tokens], copied by one launch of lookup_by_element in the widest word that fits.

    Args:
        tokens: int32 or int64, shape (B, T), on WHERE; B and T may be 0; not always contiguous.
        table: float32, shape (V, D), on WHERE; not always contiguous; may require gradients.

    Returns:
        A new contiguous float32 tensor of shape (B, T, D), without gradients. Without elements nothing is launched.

    Raises:
        TypeError: tokens are of another type than int32 or int64.
        ValueError: tokens are not two-dimensional.
        IndexError: an id is below 0 or not below V. The message holds the first such id (row by row) and its
            position as (b, t): "token 99 at (0, 3) is outside of a table of 50 rows".

    TODO: Check the tokens, look at table and output as int64 if that can be, and launch with THREADS a block.

    APPROACH:
        1. Look for wrong ids first, because afterwards nothing can be caught any more.
        2. Use int64 words if D is even and the contiguous table begins at a multiple of 8 bytes, because PyTorch
           refuses such a view of others, and a GPU such an address; else words of 4 bytes.
        3. Launch one thread for each word of the output, because wider words leave fewer of them.

    EXAMPLE:
        >>> table = torch.arange(6.0, device=WHERE).view(3, 2)
        >>> lookup(torch.tensor([[2, 0]], device=WHERE), table).cpu()
        tensor([[[4., 5.],
                 [0., 1.]]])

    HINTS:
        1. `bad.nonzero()` gives the positions of what is True, row by row; `.tolist()` makes Python numbers of them.
        2. The kernel wants flat tokens and two-dimensional, contiguous arrays: reshape, contiguous, on_device.
        3. Take `table.detach()` first. `view(torch.int64)` of table and output, `math.ceil` for the blocks.
    """
    ### BEGIN SOLUTION
    if tokens.dtype not in (torch.int32, torch.int64):
        raise TypeError(f"tokens are int32 or int64, not {tokens.dtype}")
    if tokens.ndim != 2:
        raise ValueError(f"tokens have the shape (B, T), not {tuple(tokens.shape)}")
    bad = (tokens < 0) | (tokens >= table.shape[0])
    if bad.any():
        b, t = bad.nonzero()[0].tolist()
        raise IndexError(f"token {tokens[b, t].item()} at ({b}, {t}) is outside of a table of {table.shape[0]} rows")
    source = table.detach().contiguous()
    out = torch.empty(tokens.numel(), table.shape[1], dtype=torch.float32, device=table.device)
    fits = table.shape[1] % 2 == 0 and source.data_ptr() % 8 == 0
    word = torch.int64 if fits else torch.int32
    arrays = [on_device(a) for a in (tokens.reshape(-1), source.view(word), out.view(word))]
    if out.numel():
        lookup_by_element[math.ceil(arrays[2].size / THREADS), THREADS](*arrays)
    return out.view(*tokens.shape, table.shape[1])
    ### END SOLUTION


# %% [markdown]
# What the test takes for right: all bits, those of NaN and of -0.0 too, and as few instructions as the word allows. `cut` makes the slice, the transposed tokens or whatever else is looked up, out of fresh memory.

# %% nbgrader={"grade": false, "grade_id": "embed-check-lookup", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_lookup(tokens, memory, word, cut=lambda tokens, memory: (tokens, memory)):
    """lookup(*cut(tokens, memory)) gives the rows bit for bit, by `lookup_by_element` in words of `word` bytes."""
    wanted, table = cut(tokens, memory)
    want = table.detach()[wanted.long()].contiguous()
    run = launching.call(lambda tokens, memory: lookup(*cut(tokens, memory)), tokens, memory)
    what = f"lookup of tokens {tuple(wanted.shape)} in a table {tuple(table.shape)}"
    checking.equal(run.result, want, what=what, hint="is each row the row of its token?")
    assert not run.result.requires_grad and run.result.is_contiguous(), f"{what}: contiguous, without gradients"
    checking.equal(run.result.view(torch.int32), want.view(torch.int32), what=f"the bits of {what}")
    launches = {"lookup_by_element": 1} if want.numel() else {}
    checking.equal(run.profile.kernels, launches, what=f"launches for {what}", hint="nothing else may do the copying")
    ids = wanted.long().reshape(-1).cpu().numpy()  # an int32 may have become an int64 on the way
    requests, sectors = fewest(ids, table.shape[1] * 4 // word, word)
    total = run.profile.total
    assert total.requests <= requests, f"{what}: {total.requests} accesses of warps, {requests} of {word} bytes will do"
    assert total.sectors <= sectors, f"{what}: {total.sectors} sectors, {sectors} are enough"


# %% nbgrader={"grade": false, "grade_id": "embed-tensors", "locked": true, "schema_version": 3, "solution": false, "task": false}
def tensors(shape, rows, columns, seed, dtype=np.int64):
    """Tokens and a table on WHERE."""
    tokens, table = make_tokens(shape, rows, seed, dtype), make_table(rows, columns, seed)
    return torch.from_numpy(tokens).to(WHERE), torch.from_numpy(table).to(WHERE)


def table_at(offset, rows, columns):
    """A `cut`: the table begins `offset` float32 behind the beginning of the memory."""
    return lambda tokens, memory: (tokens, memory.reshape(-1)[offset : offset + rows * columns].view(rows, columns))


# %% [markdown]
# A launch alone proves little. So the test also puts another kernel into the place of yours, one that copies the rows in reversed order, and looks whether `lookup` returns what *that* one wrote.

# %% nbgrader={"grade": false, "grade_id": "embed-instead", "locked": true, "schema_version": 3, "solution": false, "task": false}
@contextmanager
def instead_of(name, kernel):
    """While it lasts, your kernel's name stands for another kernel."""
    yours = globals()[name]
    globals()[name] = kernel
    try:
        yield
    finally:
        globals()[name] = yours


@cuda.jit
def gather_reversed(tokens, table, out):
    """The last row first."""
    for n in range(cuda.grid(1), tokens.size, cuda.gridsize(1)):
        for c in range(table.shape[1]):
            out[n, c] = table[tokens[tokens.size - 1 - n], c]


# %% nbgrader={"grade": true, "grade_id": "test-embed-lookup", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: the rows for any table and shape of tokens, and words of 8 bytes wherever they fit.
# Fails if: slices are read as if they were contiguous, or words reach over the end of a row.
# A pass: a lookup that you could give to somebody else, once the next test passes too.
def test_unit_lookup():
    credit = checking.Credit(4)
    with credit.check("values", points=2, hint="what does a kernel see of a tensor that is not contiguous?"):
        check_lookup(*tensors((2, 5), 20, 3, seed=1), word=4)
        ### BEGIN HIDDEN TESTS
        # check: int32 tokens, transposed tokens, nothing at all
        # hint: try tokens.T, and a batch of no sequences: a grid cannot have 0 blocks
        tokens, table = tensors((7, 3), 30, 9, checking.secret_seed(), np.int32)
        check_lookup(tokens, table, word=4)
        for part in (lambda t: t.T, lambda t: t[:, :0], lambda t: t[:0], lambda t: t[::2, 1:]):
            check_lookup(tokens, table, 4, cut=lambda tokens, memory, part=part: (part(tokens), memory))
        # check: a table that is a slice of a wider one, or requires gradients, or holds NaN
        # hint: what is contiguous about a slice of columns?
        check_lookup(tokens, table, 4, cut=lambda tokens, memory: (tokens, memory[:, 2:7]))
        table[:, 1], table[:, 2] = math.nan, -0.0
        check_lookup(tokens, table, 4, cut=lambda tokens, memory: (tokens, memory.clone().requires_grad_()))
        # check: what the kernel wrote is what comes back
        # hint: return the tensor that lookup_by_element filled, and nothing else
        with instead_of("lookup_by_element", gather_reversed):
            got = lookup(tokens, table)
        want = table[tokens.reshape(-1).flip(0).long()].view(7, 3, 9)
        checking.equal(got.view(torch.int32), want.view(torch.int32), what="lookup with another kernel in its place")
        ### END HIDDEN TESTS
    with credit.check("two numbers at a glance", points=2, hint="is D even, and where does the table begin?"):
        check_lookup(*tensors((2, 8), 20, 64, seed=2), word=8)
        ### BEGIN HIDDEN TESTS
        # check: words of 8 bytes where they fit, and only there
        # hint: D even or odd; the address of the contiguous table a multiple of 8 or not: four cases
        tokens, memory = tensors((3, 11), 13, 40, checking.secret_seed())
        for columns, offset, word in ((6, 0, 8), (34, 2, 8), (34, 1, 4), (7, 0, 4), (2, 3, 4)):
            check_lookup(tokens, memory, word, cut=table_at(offset, 13, columns))
        # check: a slice of an even number of columns that begins at an odd one
        # hint: the words are read from the contiguous copy: where does that begin?
        check_lookup(tokens, memory, 8, cut=lambda tokens, memory: (tokens, memory[:, 1:7]))
        ### END HIDDEN TESTS
    return credit.total()


test_unit_lookup()


# %% [markdown]
# And the door:

# %% nbgrader={"grade": true, "grade_id": "test-embed-refusals", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Checks: ids outside of the table, and tokens that are no tokens, are refused with an error that helps.
# Fails if: one end of the range is open, or the message does not say which id, and where.
# A pass: whoever feeds wrong ids reads which one, instead of "an illegal memory access was encountered".
def check_refused(kind, tokens, rows=50, words=()):
    tokens, table = torch.as_tensor(tokens, device=WHERE), torch.ones(rows, 4, device=WHERE)
    error = checking.raises(kind, lookup, tokens, table, what=f"lookup in {rows} rows of {tokens.tolist()}")
    for word in words:
        assert word in str(error), f"the message {str(error)!r} does not say {word!r}"


def test_unit_refusals():
    check_refused(IndexError, [[3, 49, 7, 50]], words=("50", "(0, 3)"))
    check_refused(TypeError, [[1.0, 2.0]])
    ### BEGIN HIDDEN TESTS
    # check: ids below 0 and beyond the table, the first of several named with its position
    # hint: which ids may a table of V rows be asked for? In which order are positions looked at?
    check_refused(IndexError, [[0, 4], [-1, 77]], rows=5, words=("-1", "(1, 0)"))
    check_refused(IndexError, torch.tensor([[0, 1, 33], [61, 0, 0]], dtype=torch.int32), rows=33, words=("33", "(0, 2)"))
    # check: other types and shapes
    # hint: which two types are allowed, and how many dimensions?
    for kind, tokens in ((TypeError, [[True]]), (TypeError, torch.zeros(1, 1, dtype=torch.int16)), (ValueError, [1])):
        check_refused(kind, tokens)
    # check: the last row may be asked for
    # hint: the largest id of a table of V rows is V - 1
    checking.equal(lookup(torch.tensor([[4]], device=WHERE), torch.ones(5, 4, device=WHERE)).cpu(),
                   torch.ones(1, 1, 4), what="the last of 5 rows")
    ### END HIDDEN TESTS


test_unit_refusals()

# %% [markdown]
# ### What just happened?
#
# The kernel did not change: it took another view of the same memory. The check costs one pass over the tokens, which are tiny beside the rows, but on a GPU also a wait, since the host has to see its result. That is why PyTorch checks ids on a GPU inside the kernel, by an assertion that stops the device without saying which id it was. You have the better message, and pay for it with a synchronisation.

# %% [markdown]
# ### Systems insight 2 of 3: what a view saves
#
# *Checkpoint:* a lookup that chooses its word. *Predict:* for D = 64, 65 and 66, and for D = 64 in a table that begins 4 bytes later: how many instructions of warps does it take to copy a row? And the sectors: do they change?

# %%
CASES = {"D = 64": (64, 0), "D = 65": (65, 0), "D = 66": (66, 0), "D = 64, 4 bytes off": (64, 1)}


def cost_of_a_row(columns, offset, rows=200):
    """Instructions of warps and sectors for each row that your lookup copies."""
    tokens, memory = tensors((4, 32), rows, columns + 1, seed=6, dtype=np.int32)
    cut = table_at(offset, rows, columns)
    total = launching.call(lambda tokens, memory: lookup(*cut(tokens, memory)), tokens, memory).profile.total
    return total.requests / tokens.numel(), total.sectors / tokens.numel()


# %%
row_costs = insight.run(
    lambda: {name: cost_of_a_row(*case) for name, case in CASES.items()}, needs="Exercises 2 and 3 (lookup)"
)
for name, (requests, sectors) in (row_costs or {}).items():
    print(f"{name:20} {requests:5.2f} instructions of warps, {sectors:5.2f} sectors for a row")
if row_costs:
    insight.bars({name: requests for name, (requests, _) in row_costs.items()}, ylabel="instructions per row")


# %% [markdown]
# Half the instructions, nearly the same sectors: wide words do not move less, they ask less often. One column more, or a table that begins in the wrong place, and the saving is gone.
#
# *In production* this is why dimensions are multiples of 8 or 64, why vocabularies are padded to a round number, and why allocators align to 256 bytes: so that nobody ever has to ask. In bfloat16 a word of 8 bytes holds four numbers, and your kernel would not notice.

# %% [markdown]
# ## Part 4: The gradient, by a queue
#
# Backward each row of `G` is added to the row of the table that it came from. A token that occurs twice sends two rows to one place, so the additions have to be atomic. `cuda.atomic.add(array, (row, column), value)` takes two indices as a tuple.
#
# Padding has no gradient: its row is to stay what it is, and thousands of padded positions would form the longest queue of all.
#
# **Exercise 4 (5 points).** Write `scatter_add`. Deal out the elements of the gradient as in Exercise 2.

# %% nbgrader={"grade": false, "grade_id": "embed-scatter", "locked": false, "schema_version": 3, "solution": true, "task": false}
@cuda.jit
def scatter_add(tokens, grad, padding, table_grad):
    """table_grad[tokens[n]] += grad[n] for all n whose token is not `padding`, by atomic additions.

    Args:
        tokens: int32 or int64, shape (N,), each at least 0 and below V. Comes out unchanged.
        grad: float32, shape (N, D). Comes out unchanged.
        padding: an integer, the token without a gradient; -1 if there is none.
        table_grad: float32, shape (V, D). Its old values count: they are added to.

    Launch: [blocks, threads], one-dimensional, any size. Elements of grad are dealt out as those of out are in
    lookup_by_element.

    TODO: Add each element of grad to its place in table_grad, unless its token is the padding.

    APPROACH:
        1. Deal out the elements row by row in a grid-stride loop, because then neighbours read and add to neighbours.
        2. Look at the token before you load anything else, because padding costs nothing then.
        3. Add atomically, because another thread may hold the same token.

    EXAMPLE:
        >>> table_grad = np.zeros((3, 2), np.float32)
        >>> grad = np.array([[1, 2], [10, 20], [100, 200]], np.float32)
        >>> scatter_add[1, 8](np.array([2, 0, 2]), grad, -1, table_grad)
        >>> table_grad
        array([[ 10.,  20.],
               [  0.,   0.],
               [101., 202.]], dtype=float32)

    HINTS:
        1. Row and column of an element are found as before; D is `grad.shape[1]`.
        2. `!= padding`: -1 differs from every token, so there is no special case.
        3. The index of the atomic addition is the tuple (token, column).
    """
    ### BEGIN SOLUTION
    for element in range(cuda.grid(1), grad.size, cuda.gridsize(1)):
        row, column = element // grad.shape[1], element % grad.shape[1]
        token = tokens[row]
        if token != padding:
            cuda.atomic.add(table_grad, (token, column), grad[row, column])
    ### END SOLUTION


# %% [markdown]
# The oracle: PyTorch's own `embedding`, in float64, differentiated by autograd.

# %% nbgrader={"grade": false, "grade_id": "embed-true-gradient", "locked": true, "schema_version": 3, "solution": false, "task": false}
U = 2.0**-24  # unit roundoff of float32


def true_gradient(tokens, grad, rows, padding):
    """What torch.nn.functional.embedding gives in float64: (V, D), and a bound for the error of any float32 sum."""
    table = torch.zeros(rows, grad.shape[1], dtype=torch.float64, requires_grad=True)
    found = torch.nn.functional.embedding(torch.from_numpy(tokens).long(), table, padding)
    found.backward(torch.from_numpy(grad).double(), retain_graph=True)
    want, table.grad = table.grad, None
    found.backward(torch.from_numpy(grad).double().abs())
    # A sum of k numbers in any order errs by at most gamma_k times the sum of |g| (1.3.1); 1.01 covers gamma_k / (k U).
    most = np.bincount(tokens, minlength=1).max() if tokens.size else 0
    return want.numpy(), 1.01 * (most + 1) * U * float(table.grad.max())


# %% nbgrader={"grade": false, "grade_id": "embed-check-scatter", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_scatter(tokens, rows, columns, padding=None, blocks=2, threads=64, seed=0):
    """The gradient is right whatever the table's gradient was before. Gives the counts."""
    grad, before = make_table(tokens.size, columns, seed), np.round(make_table(rows, columns, seed + 1))
    number = -1 if padding is None else padding
    run = launching.launch(scatter_add, blocks, threads, tokens, grad, number, launching.start(before))
    want, atol = true_gradient(tokens, grad, rows, padding)
    what = f"scatter_add[{blocks}, {threads}] of {tokens.size} gradients, D = {columns}, padding {padding}"
    atol += 1.01 * (tokens.size + 1) * U * 8  # |before| is below 8, and each addition to it may round
    checking.close(run.out, (want + before).astype(np.float32), rtol=U, atol=atol, what=what)
    kept = int((tokens != number).sum()) * columns
    checking.equal(run.profile.total.atomics, kept, what=f"atomic additions of {what}", hint="one for each element kept")
    checking.equal(run.profile.total.stores, 0, what=f"plain stores of {what}", hint="another thread may add, too")
    return run.profile.total


# %% nbgrader={"grade": true, "grade_id": "test-embed-scatter", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
# Checks: sums against PyTorch's gradient, repeated tokens, padding, what was there before, and coalescing.
# Fails if: additions are lost, padding gets a gradient, or neighbours do not read neighbours.
# A pass: a right gradient. Its last bits are for the queue to decide.
def test_unit_scatter():
    credit = checking.Credit(5)
    with credit.check("sums", points=2, hint="follow one row of grad by hand: which row of the table gets it?"):
        check_scatter(np.array([2, 0, 2, 1]), 4, 3)
        ### BEGIN HIDDEN TESTS
        # check: many repeated tokens, other widths, no tokens, grids of any size
        # hint: which elements does a thread own beyond its first?
        seed = checking.secret_seed()
        for n, columns, blocks, threads in ((0, 4, 1, 8), (1, 1, 1, 1), (90, 5, 3, 7), (64, 33, 2, 32)):
            check_scatter(make_tokens(n, 20, seed, np.int32), 20, columns, None, blocks, threads, seed)
        check_scatter(np.full(50, 3), 5, 2, seed=seed)
        ### END HIDDEN TESTS
    with credit.check("padding has no gradient", points=1, hint="which threads may skip, and what do they compare?"):
        check_scatter(np.array([2, 0, 2, 1]), 4, 3, padding=2)
        ### BEGIN HIDDEN TESTS
        # check: padding that is frequent, is the last row, or is all there is
        # hint: compare the token itself, not its position
        tokens = np.append(make_tokens(80, 6, checking.secret_seed()), 5)  # the last row occurs, whatever was drawn
        for some, padding in ((tokens, 0), (tokens, 5), (np.full(9, 3), 3)):
            check_scatter(some, 6, 4, padding)
        ### END HIDDEN TESTS
    with credit.check("coalesced", points=2, hint="which element does the thread next to yours take?"):
        for n, columns in ((16, 64), (30, 7)):
            tokens = make_tokens(n, 40, seed=n, dtype=np.int32)
            # Compare the token, load from grad, load the token once more, add: a gather mirrored, as many accesses.
            requests, sectors = fewest(tokens, columns, token_loads=2)
            total = check_scatter(tokens, 40, columns, blocks=4)
            assert total.requests <= requests and total.sectors <= sectors, (
                f"D = {columns}: {total.requests} accesses and {total.sectors} sectors; {requests} and {sectors} will do"
            )
    return credit.total()


test_unit_scatter()


# %% [markdown]
# ### What just happened?
#
# You wrote what `index_add_` does on a GPU by default. It is short, it needs no extra memory, and it has the two weaknesses of all atomics: a frequent token makes a queue, and the queue's order is nobody's decision.

# %% [markdown]
# ## Part 5: The gradient, by sorting
#
# Sort the *positions* by their token. All occurrences of a token then stand side by side, as a *segment*, and one thread can add up a column of it alone: no atomics, one store, and an order that depends on the data only. The sort must be *stable*, so that positions with equal tokens stay in their order.
#
# ```
#  position   0   1   2   3   4            order    1  4 │ 3 │ 0  2
#  token      2   0   2   1   0      ─→    ids       0   │ 1 │  2
#                                          starts   0      2   3      5
# ```
#
# Segment `s` belongs to token `ids[s]`, and its positions are `order[starts[s]]` up to, not with, `order[starts[s + 1]]`.
#
# **Exercise 5 (3 points).** Write `segments`. PyTorch may sort and count for you; padding gets no segment.

# %% nbgrader={"grade": false, "grade_id": "embed-segments", "locked": false, "schema_version": 3, "solution": true, "task": false}
def segments(tokens: torch.Tensor, padding: int | None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Where each token occurs.

    Args:
        tokens: int32 or int64, of any shape, without elements too. Positions are those of the flattened tokens.
        padding: the token to leave out, or None.

    Returns:
        Three contiguous one-dimensional int64 tensors on the tokens' device:
        ids, (S,): the different tokens but padding, ascending.
        starts, (S + 1,): where each segment of `order` starts, and at the end the length of `order`.
        order, (M,): the positions of ids[0], ascending, then those of ids[1], ..., padding's left out.

    TODO: Sort the positions by token, stably, and find where the token changes.

    APPROACH:
        1. Sort the flattened tokens, as int64, stably and keep the permutation, because it is what the kernel walks along.
        2. Drop what belongs to the padding, because it has no gradient.
        3. Count runs of equal tokens and sum the counts up, because a segment starts where those before it end.

    EXAMPLE:
        >>> segments(torch.tensor([[2, 0, 2, 1, 0]]), padding=1)
        (tensor([0, 2]), tensor([0, 2, 4]), tensor([1, 4, 0, 2]))

    HINTS:
        1. `torch.sort(x, stable=True)` returns the values and the permutation.
        2. A mask keeps values and permutation together: `values[mask]`, `order[mask]`.
        3. `torch.unique_consecutive` can count; `cumsum` with a 0 in front gives starts.
    """
    ### BEGIN SOLUTION
    values, order = torch.sort(tokens.reshape(-1).long(), stable=True)
    if padding is not None:
        kept = values != padding
        values, order = values[kept], order[kept]
    ids, counts = torch.unique_consecutive(values, return_counts=True)
    starts = torch.zeros(ids.numel() + 1, dtype=torch.int64, device=ids.device)
    starts[1:] = counts.cumsum(0)
    return ids, starts, order
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-embed-segments", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Checks: what ids, starts and order must fulfil; together it leaves one answer.
# Fails if: the sort is not stable, padding has a segment, or the last end is missing.
# A pass: the bookkeeping is done; what is left is to add.
def check_segments(tokens, padding):
    with checking.unchanged(tokens=tokens):
        got = segments(tokens, padding)
    what, flat = f"{tuple(tokens.shape)} tokens, padding {padding}", tokens.reshape(-1).tolist()
    checking.equal(len(got), 3, what="what segments returns: ids, starts, order")
    for name, part in zip(("ids", "starts", "order"), got, strict=True):
        checking.equal((part.dtype, part.ndim, part.device.type), (torch.int64, 1, WHERE), what=f"{name} of {what}")
        assert part.is_contiguous(), f"{name} of {what}: a kernel needs it contiguous"
    ids, starts, order = (part.tolist() for part in got)
    checking.equal(ids, sorted({*flat} - {padding}), what=f"ids of {what}")
    checking.equal(len(starts), len(ids) + 1, what=f"length of starts of {what}")
    checking.equal(len(order), sum(token != padding for token in flat), what=f"length of order of {what}")
    checking.equal((starts[0], starts[-1]), (0, len(order)), what=f"the first and the last of starts of {what}")
    for number, begin, end in zip(ids, starts, starts[1:], strict=False):
        mine = order[begin:end]
        assert mine, f"{what}: the segment of token {number} is empty"
        checking.equal({flat[k] for k in mine}, {number}, what=f"tokens at the positions of segment {number} of {what}")
        checking.equal(mine, sorted({*mine}), what=f"positions of token {number} in {what}", hint="is the sort stable?")


def test_unit_segments():
    check_segments(torch.tensor([[2, 0, 2, 1, 0]], device=WHERE), padding=None)
    check_segments(torch.tensor([[2, 0, 2, 1, 0]], device=WHERE), padding=1)
    ### BEGIN HIDDEN TESTS
    # check: many tokens of few kinds, either type, transposed
    # hint: is the sort stable? Its default is not
    tokens, _ = tensors((40, 9), 7, 1, checking.secret_seed(), np.int32)
    for some, padding in ((tokens, 0), (tokens.T, 6), (tokens.long(), None), (tokens, 99)):
        check_segments(some, padding)
    # check: one token, padding only, nothing
    # hint: starts has one element more than ids, even then
    for some, padding in ((tokens[:1, :1], None), (torch.full_like(tokens, 4), 4), (tokens[:0], None)):
        check_segments(some, padding)
    ### END HIDDEN TESTS


test_unit_segments()


# %% [markdown]
# ### What just happened?
#
# The data's order became the threads' order: which row adds to which is now known before the launch. The sort is the price, N log N comparisons or, as GPUs do it, a few passes of a radix sort over 8 bytes a token. The rows that follow have thousands of bytes each, so it is paid easily.
#
# **Exercise 6 (5 points).** Write `segment_sum`: one thread for each column of each segment. Here the *order* of the additions is part of the task: in float32, from 0, in the order in which the positions stand. Then every machine gives the same bits.

# %% nbgrader={"grade": false, "grade_id": "embed-segment-sum", "locked": false, "schema_version": 3, "solution": true, "task": false}
@cuda.jit
def segment_sum(ids, starts, order, grad, table_grad):
    """table_grad[ids[s]] = the sum of the rows of grad at the positions of segment s, added in their order.

    Args:
        ids, starts, order: int64, shapes (S,), (S + 1,), (M,), as `segments` gives them. Come out unchanged.
        grad: float32, shape (N, D). Comes out unchanged.
        table_grad: float32, shape (V, D). Rows in ids are overwritten, all others are left as they are.

    Launch: [blocks, threads], one-dimensional, any size. The S x D sums are numbered row by row, and thread
    g = cuda.grid(1) owns the sums g, g + gridsize, ...

    TODO: Let each thread add up its sums in a float32 register, and store each once.

    APPROACH:
        1. Deal out the sums as you dealt out elements before, because neighbours then read neighbouring columns.
        2. Walk through the segment from its start to the next one's, because its positions stand there in order.
        3. Keep the sum in a float32 that starts at 0, because a float64 would round elsewhere and give other bits.

    EXAMPLE:
        >>> table_grad = np.zeros((3, 1), np.float32)
        >>> grad = np.array([[1], [2], [4], [8], [16]], np.float32)
        >>> ids, starts, order = np.array([0, 2]), np.array([0, 2, 4]), np.array([1, 4, 0, 2])
        >>> segment_sum[1, 4](ids, starts, order, grad, table_grad)
        >>> table_grad
        array([[18.],
               [ 0.],
               [ 5.]], dtype=float32)

    HINTS:
        1. There are `ids.size * grad.shape[1]` sums.
        2. `for k in range(starts[s], starts[s + 1])`, and the row of grad is `order[k]`.
        3. `float32(0)`: a plain 0.0 is a float64 in a kernel.
    """
    ### BEGIN SOLUTION
    columns = grad.shape[1]
    for place in range(cuda.grid(1), ids.size * columns, cuda.gridsize(1)):
        segment, column = place // columns, place % columns
        total = float32(0)
        for k in range(starts[segment], starts[segment + 1]):
            total += grad[order[k], column]
        table_grad[ids[segment], column] = total
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "embed-check-segment-sum", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_segment_sum(lengths, rows, columns, blocks=2, threads=64, seed=0):
    """Bit for bit the sums of segments of these lengths, in order; rows without a segment stay. Gives the counts."""
    rng, used, n = np.random.default_rng(seed), sum(lengths), sum(lengths) + 5  # 5 positions are padding
    ids = np.sort(rng.choice(rows, len(lengths), replace=False))
    starts, order = np.cumsum([0, *lengths]), rng.permutation(n)[:used]
    grad, before = make_table(n, columns, seed), make_table(rows, columns, seed + 1)
    grad *= np.float32(2) ** (np.arange(n) % 23 - 11)[:, None].astype(np.float32)  # so that order matters
    run = launching.launch(segment_sum, blocks, threads, ids, starts, order, grad, launching.start(before))
    want = before.copy()
    want[ids] = 0
    np.add.at(want, np.repeat(ids, lengths), grad[order])  # one after the other, in float32
    what = f"segment_sum[{blocks}, {threads}] of segments of {lengths} rows, D = {columns}"
    checking.equal(run.out, want, what=what, hint="float32 from the first addition on, in the order of `order`?")
    checking.equal(run.profile.total.atomics, 0, what=f"atomic additions of {what}")
    checking.equal(run.profile.total.stores, ids.size * columns, what=f"stores of {what}", hint="one for each sum")
    return run.profile.total


# %% nbgrader={"grade": true, "grade_id": "test-embed-segment-sum", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
# Checks: the bits of all sums for any grid, that other rows stay, no atomics, one store a sum, coalescing.
# Fails if: sums are kept in float64 or another order, stored at each step, or a thread takes a whole row.
# A pass: the same bits on every run and every machine.
def test_unit_segment_sum():
    credit = checking.Credit(5)
    with credit.check("the bits of the sums", points=3, hint="in which type is the running sum, and where does it start?"):
        check_segment_sum([1, 1, 3], 4, 3)
        ### BEGIN HIDDEN TESTS
        # check: long and short segments on grids of any size
        # hint: print segment, column and the positions that a thread walks through
        seed = checking.secret_seed()
        for columns, blocks, threads in ((1, 1, 1), (5, 3, 7), (33, 2, 32), (8, 40, 32)):
            lengths = np.random.default_rng(seed + columns).integers(1, 12, 13).tolist()
            check_segment_sum([*lengths, 60], 20, columns, blocks, threads, seed)
        # check: a single segment, and none
        # hint: how many sums are there if there are no segments?
        for lengths in ([50], []):
            check_segment_sum(lengths, 5, 3, seed=seed)
    ### END HIDDEN TESTS
    with credit.check("coalesced", points=2, hint="which column does the thread next to yours add up?"):
        total = check_segment_sum([4] * 16, 16, 32, blocks=16, threads=32)
        # A warp has one segment of 4 positions: ids, two starts (the second perhaps each time), 4 times a position
        # (1 sector) and a row (4), the store of a row (4).
        most = 16 * (1 + 2 + 4 + 4 * (1 + 4) + 4)
        assert total.sectors <= most, f"{total.sectors} sectors where {most} are enough"
    return credit.total()


test_unit_segment_sum()


# %% [markdown]
# ### What just happened?
#
# No thread waits for another, no address is written twice. What you gave up is balance: the thread that has the segment of the most frequent token walks through all of its positions while its neighbours have long finished. PyTorch's own gradient of `embedding` sorts, too, and cuts long segments into parts for that reason; the parts are added in a second launch, in a fixed order again.

# %% [markdown]
# ### Systems insight 3 of 3: who waits, and whose bits
#
# *Checkpoint:* two gradients. *Predict:* of 512 tokens with D = 8, a warp adds four rows at once. How many passes does an atomic instruction take if all tokens are different, if they are frequent and rare as in text, if they are all the same? And how many different sums does each gradient produce if the additions arrive in another order each time?

# %%
def texts(n=512):
    return {"all different": np.arange(n), "as in text": make_tokens(n, n, seed=7), "all the same": np.full(n, 7)}


def passes(tokens, columns=8):
    """Passes for each atomic instruction of a warp, and the longest queue at one address."""
    grad, table_grad = make_table(tokens.size, columns, seed=8), np.zeros((tokens.size, columns), np.float32)
    start = launching.start(table_grad)
    total = launching.launch(scatter_add, 32, 128, tokens, grad, -1, start).profile.total
    return total.serialised / total.atomic_requests, np.bincount(tokens).max()


# %%
queues = insight.run(lambda: {name: passes(tokens) for name, tokens in texts().items()}, needs="Exercise 4 (scatter_add)")
for name, (turns, longest) in (queues or {}).items():
    print(f"{name:14} {turns:.2f} passes for an atomic of a warp, at most {longest} additions to one address")


# %% [markdown]
# Within a warp it is at most four here, D being 8. Between warps the queue is as long as the token is frequent. Now the bits: 30 orders of arrival for the atomics, 30 launches of other shapes for the segments. (The simulator adds in a fixed order, a GPU in any; shuffling what arrives stands in for that.)

# %%
def different_sums(trials=30, n=300):
    """How many different results each gradient has for the same 300 gradients of one token."""
    rng, tokens, grad = np.random.default_rng(9), np.zeros(n, np.int64), make_table(n, 4, seed=9)
    queued, sorted_ = set(), set()
    index = [part.numpy() for part in segments(torch.from_numpy(tokens), None)]
    for trial in range(trials):
        start = launching.start(np.zeros((1, 4), np.float32))
        arrival = rng.permutation(n)
        queued.add(launching.launch(scatter_add, 2, 64, tokens, grad[arrival], -1, start).out.tobytes())
        sorted_.add(launching.launch(segment_sum, 1 + trial, 8, *index, grad, start).out.tobytes())
    return {"atomics": len(queued), "sorting": len(sorted_)}


# %%
sums_seen = insight.run(different_sums, needs="Exercises 4 to 6 (scatter_add, segments, segment_sum)")
if sums_seen:
    insight.bars(sums_seen, ylabel="different results in 30 runs", title="300 gradients for one token")


# %% [markdown]
# All of them are within the bound of 1.3.1, and all are "right". But a training run that multiplies small differences for a hundred thousand steps ends elsewhere each time, and a bug that you chase does not come back.
#
# *In production* `torch.use_deterministic_algorithms(True)` chooses an algorithm with a fixed order where there is one, and raises an error where there is none. PyTorch sorts for large batches of `embedding` anyway: text is exactly the distribution at which atomics do badly.

# %% [markdown]
# ## Part 6: A layer that trains
#
# PyTorch does not see through your kernels, so it cannot differentiate them. `torch.autograd.Function` is the seam: you say what forward computes, what to keep, and how a gradient of the output becomes one of each input.
#
# Three things to get right. Keep the *tokens* for backward, not the table: all that the gradient needs of the table is its shape, and a table that was kept must not be changed in place before backward, which is what optimizers do. Return one gradient for each argument of forward, `None` for what has none. And the gradient that arrives may have strides that you did not expect: that of `out.sum()` is a single number that pretends to be a tensor.
#
# **Exercise 7 (5 points).** Write `EmbeddingLookup`, with `lookup` forward and `segment_sum` backward.

# %% nbgrader={"grade": false, "grade_id": "embed-function", "locked": false, "schema_version": 3, "solution": true, "task": false}
class EmbeddingLookup(torch.autograd.Function):
    """EmbeddingLookup.apply(tokens, table, padding_idx): table[tokens], with a gradient for the table.

    Args of apply:
        tokens: int32 or int64, shape (B, T), on WHERE.
        table: float32, shape (V, D), on WHERE.
        padding_idx: int of at least 0, the token whose row gets no gradient, or None. Forward it is a row like any other.

    Returns:
        What lookup returns, part of autograd's graph. Backward gives the table a contiguous float32 gradient of its
        shape: segment_sum's, zero in all rows without a segment; other arguments None. If no token has a gradient,
        segment_sum is not launched. Only tokens are kept as a tensor for backward.

    Raises:
        TypeError, ValueError, IndexError: as lookup does.

    TODO: Write forward and backward.

    APPROACH:
        1. Call lookup in forward, and keep the tokens and the table's number of rows, because backward needs them.
        2. Flatten the gradient to (N, D) and make it contiguous, because the kernel reads it row by row.
        3. Fill a table of zeros with one launch of segment_sum, because its bits do not depend on the launch.

    EXAMPLE:
        >>> table = torch.ones(3, 2, device=WHERE, requires_grad=True)
        >>> EmbeddingLookup.apply(torch.tensor([[2, 0, 2]], device=WHERE), table, 0).sum().backward()
        >>> table.grad.cpu()
        tensor([[0., 0.],
                [0., 0.],
                [2., 2.]])

    HINTS:
        1. `ctx.save_for_backward(...)` for tensors, attributes of ctx for numbers and shapes.
        2. `grad.reshape(-1, D).contiguous()`; then `on_device` for all five arguments of the kernel.
        3. Backward returns three values: only the one in the middle is a tensor.
    """

    @staticmethod
    def forward(ctx, tokens: torch.Tensor, table: torch.Tensor, padding_idx: int | None) -> torch.Tensor:
        ### BEGIN SOLUTION
        ctx.save_for_backward(tokens)
        ctx.rows, ctx.padding_idx = table.shape[0], padding_idx
        return lookup(tokens, table)
        ### END SOLUTION

    @staticmethod
    def backward(ctx, grad: torch.Tensor) -> tuple[None, torch.Tensor, None]:
        ### BEGIN SOLUTION
        (tokens,) = ctx.saved_tensors
        table_grad = torch.zeros(ctx.rows, grad.shape[2], device=grad.device)
        rows = grad.reshape(-1, grad.shape[2]).contiguous()
        index = segments(tokens, ctx.padding_idx)
        sums = index[0].numel() * grad.shape[2]
        if sums:
            segment_sum[math.ceil(sums / THREADS), THREADS](*map(on_device, (*index, rows, table_grad)))
        return None, table_grad, None
        ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "embed-check-function", "locked": true, "schema_version": 3, "solution": false, "task": false}
def differentiate(tokens, table, weights, padding):
    """The output, and the table's gradient of (output * weights).sum()."""
    leaf = table.clone().requires_grad_()
    out = EmbeddingLookup.apply(tokens, leaf, padding)
    (out * weights).sum().backward()
    return out.detach().clone(), leaf.grad


def check_function(tokens, table, padding, seed):
    """Output and gradient are those of torch's embedding, by the two kernels, and the same bits twice."""
    weights = torch.from_numpy(make_table(tokens.numel(), table.shape[1], seed)).to(WHERE).view(*tokens.shape, table.shape[1])
    run = launching.call(lambda *arguments: differentiate(*arguments, padding), tokens, table, weights)
    out, gradient = run.result
    flat, rows = tokens.reshape(-1).cpu().numpy(), weights.reshape(-1, table.shape[1]).cpu().numpy()
    want, atol = true_gradient(flat, rows, table.shape[0], padding)
    what = f"of {tuple(tokens.shape)} tokens, table {tuple(table.shape)}, padding {padding}"
    checking.equal(out, torch.nn.functional.embedding(tokens.long(), table), what=f"EmbeddingLookup {what}")
    checking.close(gradient.cpu(), torch.from_numpy(want).float(), rtol=U, atol=atol, what=f"gradient {what}")
    in_order = np.zeros(want.shape, np.float32)
    np.add.at(in_order, flat[flat != padding], rows[flat != padding])
    checking.equal(gradient.cpu().numpy(), in_order, what=f"the bits of the gradient {what}")
    for kernel, wanted in (("lookup_by_element", tokens.numel()), ("segment_sum", (flat != padding).sum())):
        checking.equal(run.profile.kernels.get(kernel, 0), int(wanted > 0), what=f"launches of {kernel} {what}")


# %% nbgrader={"grade": false, "grade_id": "embed-last-row", "locked": true, "schema_version": 3, "solution": false, "task": false}
@cuda.jit
def keep_the_last(ids, starts, order, grad, table_grad):
    """In the place of segment_sum: each segment's last row, where the sum would be."""
    for s in range(cuda.grid(1), ids.size, cuda.gridsize(1)):
        for c in range(grad.shape[1]):
            table_grad[ids[s], c] = grad[order[starts[s + 1] - 1], c]


def check_kernel_decides(tokens, table):
    """The gradient is what the kernel called segment_sum writes, whatever that is."""
    weights = torch.arange(1.0, tokens.numel() * table.shape[1] + 1, device=WHERE).view(*tokens.shape, table.shape[1])
    with instead_of("segment_sum", keep_the_last):
        _, got = differentiate(tokens, table, weights, None)
    want = torch.zeros_like(table)
    for token, row in zip(tokens.reshape(-1).tolist(), weights.reshape(-1, table.shape[1]), strict=True):
        want[token] = row
    checking.equal(got, want, what="the gradient with another kernel in the place of segment_sum")


# %% nbgrader={"grade": false, "grade_id": "embed-given-kept", "locked": true, "schema_version": 3, "solution": false, "task": false}
def kept_for_backward(out):
    """Elements of the tensors of floating-point numbers that the function keeps."""
    held = [*out.grad_fn.saved_tensors, *vars(out.grad_fn).values()]
    return sum(t.numel() for t in held if isinstance(t, torch.Tensor) and t.is_floating_point())


# %% nbgrader={"grade": true, "grade_id": "test-embed-function", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
# Checks: output and gradient against torch's embedding, padding, the launches, what is kept, odd gradients.
# Fails if: a gradient with strides is read as if it had none, padding learns, or the table is kept.
# A pass: your kernels can stand in a model.
def test_unit_function():
    credit = checking.Credit(5)
    with credit.check("output and gradient", points=3, hint="compare one row of the gradient with a sum by hand"):
        check_function(*tensors((2, 5), 7, 4, seed=1), padding=None, seed=2)
        check_function(*tensors((2, 5), 7, 4, seed=1), padding=0, seed=2)
        ### BEGIN HIDDEN TESTS
        # check: other shapes, int32 tokens, and batches with nothing to learn from
        # hint: what is launched if all tokens are padding, or there are none?
        seed = checking.secret_seed()
        tokens, table = tensors((6, 11), 9, 5, seed, np.int32)
        for some, padding in ((tokens, 8), (tokens[:1, :1], None), (tokens[:0], None), (torch.full_like(tokens, 3), 3)):
            check_function(some, table, padding, seed)
        # check: what the kernel wrote is the gradient
        # hint: return the tensor that segment_sum filled, and nothing else
        check_kernel_decides(tokens, table)
        ### END HIDDEN TESTS
    with credit.check("gradients with strides", points=1, hint="what do the strides of out.sum()'s gradient say?"):
        tokens, table = tensors((3, 4), 6, 3, seed=3)
        table.requires_grad_()
        EmbeddingLookup.apply(tokens, table, None).sum().backward()
        counts = torch.bincount(tokens.reshape(-1).cpu(), minlength=6).float()
        checking.equal(table.grad.cpu(), counts[:, None].repeat(1, 3), what="gradient of the sum: counts of the tokens")
        ### BEGIN HIDDEN TESTS
        # check: a transposed gradient
        # hint: make the flattened gradient contiguous before a kernel reads it
        table.grad, weights = None, torch.arange(36.0, device=WHERE).view(3, 4, 3)
        (EmbeddingLookup.apply(tokens, table, None).permute(2, 1, 0) * weights).sum().backward()
        want, _ = true_gradient(tokens.reshape(-1).cpu().numpy(), weights.permute(2, 1, 0).reshape(-1, 3).cpu().numpy(), 6, None)
        checking.equal(table.grad.cpu().numpy(), want.astype(np.float32), what="gradient behind a transposition")
        ### END HIDDEN TESTS
    with credit.check("only tokens are kept", points=1, hint="what of the table does backward need?"):
        tokens, table = tensors((2, 3), 5, 4, seed=4)
        out = EmbeddingLookup.apply(tokens, table.requires_grad_(), None)
        checking.equal(kept_for_backward(out), 0, what="numbers of the table or of the output that are kept")
    return credit.total()


test_unit_function()


# %% [markdown]
# ### What just happened?
#
# Two kernels became a layer. The gradient is a whole table, zeros mostly: for Llama 3 in float32 2.1 GB, of which a batch touches a few percent. PyTorch's `sparse=True` keeps only ids and sums, which you have in `segments` already; the challenge takes that up.
#
# ## Put it together
#
# One model's worth of everything: padded batches, both gradients, PyTorch as the judge.

# %%
def test_module():
    """Both gradients agree with PyTorch's, through a loss that is no plain sum."""
    tokens, table = tensors((4, 16), 40, 6, seed=10)
    table.requires_grad_()
    EmbeddingLookup.apply(tokens, table, 0).tanh().square().mean().backward()
    mine, table.grad = table.grad, None
    found = torch.nn.functional.embedding(tokens, table, padding_idx=0)
    found.retain_grad()
    found.tanh().square().mean().backward()
    rows = found.grad.reshape(-1, 6).cpu().numpy()
    start = launching.start(np.zeros((40, 6), np.float32))
    queued = launching.launch(scatter_add, 2, 64, tokens.reshape(-1).cpu().numpy(), rows, 0, start).out
    # 65 additions of gradients whose absolute values sum to less than 1 (each is below 1/384 here): 66 U = 3.9e-6.
    for name, got in (("segment_sum", mine.cpu().numpy()), ("scatter_add", queued)):
        checking.close(got, table.grad.cpu().numpy(), rtol=0, atol=4e-6, what=f"the gradient by {name}")
    return "three gradients, one table"


# %%
insight.run(test_module, needs="Exercises 3 to 7")


# %%
def test_unit_all():
    """Call every test again; say how each one ends."""
    for test in (test_unit_by_row, test_unit_by_element, test_unit_lookup, test_unit_refusals, test_unit_scatter,
                 test_unit_segments, test_unit_segment_sum, test_unit_function):
        try:
            points = test()
            verdict = "passes" if points is None else f"earns {points:g} points"
        except Exception as error:
            verdict = f"fails: {type(error).__name__}"
        print(f"==> {test.__name__} {verdict}")


# %%
test_unit_all()

# %% [markdown]
# ## Use it: letters that learn from their neighbours
#
# A tiny language model: from the four letters before it, guess the next. Each letter is a row of 12 numbers in your table; four rows side by side go through one matrix. Text is generated (`labkit.tiny`); places before the beginning of a window are padded with 0, which is no letter.

# %%
text = tiny.sentences(60, seed=1)
CONTEXT, WIDTH, LETTERS = 4, 12, 128
codes = torch.tensor([0] * CONTEXT + list(text.encode()), device=WHERE)
contexts = codes.unfold(0, CONTEXT + 1, 1)  # (places, 5): four letters and the one to guess
print(text[:44], "...", tuple(contexts.shape))


# %%
def train(embed, steps=50, batch=64):
    """Losses of a few steps of plain gradient descent, and the table at the end."""
    generator = torch.Generator().manual_seed(0)
    table = (0.3 * torch.randn(LETTERS, WIDTH, generator=generator)).to(WHERE).requires_grad_()
    matrix = (0.1 * torch.randn(CONTEXT * WIDTH, LETTERS, generator=generator)).to(WHERE).requires_grad_()
    losses = []
    for _ in range(steps):
        chosen = contexts[torch.randint(len(contexts), (batch,), generator=generator).to(WHERE)]
        logits = embed(chosen[:, :CONTEXT], table).flatten(1) @ matrix
        loss = torch.nn.functional.cross_entropy(logits, chosen[:, CONTEXT])
        gradients = torch.autograd.grad(loss, (table, matrix))
        with torch.no_grad():
            for parameter, gradient in zip((table, matrix), gradients, strict=True):
                parameter -= 1.5 * gradient
        losses.append(loss.item())
    return losses, table.detach().cpu()


# %%
mine = insight.run(lambda: train(lambda t, table: EmbeddingLookup.apply(t, table, 0)), needs="Exercises 3 to 7")
theirs = train(lambda t, table: torch.nn.functional.embedding(t, table, padding_idx=0))
if mine:
    gap = np.abs(np.subtract(mine[0], theirs[0])).max()
    print(f"loss {mine[0][0]:.2f} -> {mine[0][-1]:.2f}; largest difference from torch's embedding in 50 steps: {gap:.1e}")
    insight.lines(range(50), {"your kernels": mine[0], "torch": theirs[0]}, xlabel="step", ylabel="loss, nats per letter")

# %%
import matplotlib.pyplot as plt

if mine:
    letters = sorted(set(text) - {" ", "."})
    rows = torch.nn.functional.normalize(mine[1][[ord(letter) for letter in letters]], dim=1)
    figure, axes = plt.subplots(figsize=(4.6, 4.2))
    axes.imshow(rows @ rows.T, cmap="coolwarm", vmin=-1, vmax=1)
    axes.set(title="cosine of the rows of two letters", xticks=range(len(letters)), yticks=range(len(letters)))
    axes.set(xticklabels=letters, yticklabels=letters)

# %% [markdown]
# The two curves lie on each other: your layer is PyTorch's, to rounding. After 50 steps the rows are still mostly what chance made of them; after 500, letters that occur in similar places have similar rows. Try it, if you have the minute.

# %% [markdown]
# ## On your Spark
#
# The table of Llama 3: 128,256 x 4,096. In bfloat16 a word of 8 bytes holds four numbers, and `lookup_by_element` copies words. Table and output take 1.3 GB, the float32 gradient 2.1 GB: small beside 128 GB, and far beyond every cache. All of the run together takes about 6 GB.
#
# 1. Start the container `nvcr.io/nvidia/pytorch:25.11-py3` with `--gpus all --ipc=host` (lab 1.1.3) and install the course's packages in it.
# 2. CPU and GPU share one memory, and the page cache holds on to what it can. Clear it: `sudo sh -c 'sync; echo 3 > /proc/sys/vm/drop_caches'`.
# 3. Run the next cells. They measure each kernel beside PyTorch's own, with the bytes that it has to read and write at least (a row that is wanted often counts once, the caches may keep it), and the roof, a plain copy, in the same run.
# 4. `ncu --set full -k regex:lookup -c 1 python your_script.py`: look at *sectors per request* and compare with what you counted. Is the wide load one instruction (`LDG.E.64` in the SASS view)?
#
# Record GB/s of each gather, and milliseconds of the gradients. Then give `make_tokens` uniform chances: which of the gradients minds? Without a GPU, predict the ranking and leave the record empty. This section has not yet been measured on a GPU by the authors.

# %%
from labkit import fullsize


# %%
def llama_batch(n=32_768, rows=128_256, columns=4096):
    """Token ids as in text, and a table in bfloat16."""
    tokens = torch.from_numpy(make_tokens(n, rows, seed=0)).to(WHERE)
    return tokens, torch.randn(rows, columns, device=WHERE, dtype=torch.bfloat16)


# %%
def gathers(tokens, table):
    """Each gather of a bfloat16 table, beside torch's embedding on the GPU and on one core of the CPU."""
    look_up = torch.nn.functional.embedding
    want, (cpu_tokens, cpu_table) = look_up(tokens, table), (tokens.cpu(), table.cpu())
    cpu = fullsize.cpu_seconds(lambda: look_up(cpu_tokens, cpu_table), repeats=2)
    library = timing.measure(lambda: look_up(tokens, table), repeats=10).median
    nbytes = tokens.nbytes + want.nbytes + tokens.unique().numel() * table.shape[1] * 2  # each row once: caches may help
    rows = []
    for kernel, word in ((lookup_by_row, torch.int16), (lookup_by_element, torch.int16), (lookup_by_element, torch.int64)):
        out, name = torch.full_like(want, math.nan), f"{kernel.py_func.__name__}, {word.itemsize} bytes"
        arrays = [on_device(a) for a in (tokens, table.view(word), out.view(word))]
        threads = tokens.numel() if kernel is lookup_by_row else arrays[2].size
        launch = kernel[math.ceil(threads / THREADS), THREADS]
        clock = timing.measure(lambda k=launch, a=arrays: k(*a), repeats=10)
        assert torch.equal(out, want), f"{name}: wrong rows"
        rows.append(fullsize.Measured(name, clock.median, nbytes, cpu_s=cpu, library_s=library))
    return rows


# %%
def gradients(tokens, rows, columns):
    """Both gradients, zeroing and sorting included, beside torch's gradient of embedding on the GPU."""
    # Small whole numbers: float32 adds them exactly, so every order gives the same sum.
    grad = torch.randint(-8, 9, (tokens.numel(), columns), device=WHERE).float()
    table_grad = torch.full((rows, columns), math.nan, device=WHERE)
    backward = torch.ops.aten.embedding_dense_backward
    want = backward(grad, tokens, rows, 0, False)
    library = timing.measure(lambda: backward(grad, tokens, rows, 0, False), repeats=10).median

    def by_atomics():
        arrays = [on_device(a) for a in (tokens, grad, table_grad.zero_())]
        scatter_add[math.ceil(grad.numel() / THREADS), THREADS](arrays[0], arrays[1], 0, arrays[2])

    def by_sorting():
        arrays = [on_device(a) for a in (*segments(tokens, 0), grad, table_grad.zero_())]
        segment_sum[math.ceil(arrays[0].size * columns / THREADS), THREADS](*arrays)

    found = []
    for name, call in (("scatter_add", by_atomics), ("segments + segment_sum", by_sorting)):
        clock = timing.measure(call, repeats=10)
        assert torch.equal(table_grad, want), f"{name}: a wrong gradient"
        nbytes = tokens.nbytes + grad.nbytes + table_grad.nbytes
        found.append(fullsize.Measured(name, clock.median, nbytes, library_s=library))
    return found


# %%
def full_size(n=32_768, rows=128_256, columns=4096):
    """Gathers of bfloat16 rows, and gradients in float32, for n tokens of a (rows, columns) table."""
    hardware.require_gpu("the full-size run")
    tokens, table = llama_batch(n, rows, columns)
    forward = gathers(tokens, table)
    del table  # a gigabyte, before the gradients take five
    return forward + gradients(tokens, rows, columns)


def against_the_roof():
    """GB/s of each kernel and of a copy, from one run."""
    rows, roofs = full_size(), fullsize.roofs()
    fullsize.show(rows, roofs)
    return {"roof (copy)": roofs.bandwidth / 1e9} | {row.kernel: row.nbytes / row.seconds / 1e9 for row in rows}


# %%
if device.simulated:
    print("No GPU here: the simulator is not made for a table of 525 million numbers.")
else:
    speeds = insight.run(against_the_roof, needs="Exercises 1, 2, 4, 5 and 6")
    if speeds:
        insight.bars(speeds, ylabel="GB/s", title=f"32,768 rows of 4,096 on {device}")

# %% [markdown]
# **Record** what you measured: replace each `None`. The cell after it looks at the form; a person looks at the content.

# %%
spark_record = {
    "device": None,                # such as "NVIDIA GB10"
    "roof_gb_per_s": None,         # the copy, measured in the same run
    "gb_per_s": {"by row": None, "by element": None, "words of 8 bytes": None},
    "gradient_ms": {"atomics": None, "sorting": None, "torch": None},
}


# %% nbgrader={"grade": false, "grade_id": "embed-record", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_record(record):
    """Whether the record is complete and possible. Nothing is graded here."""
    speeds, times = record["gb_per_s"], record["gradient_ms"]
    missing = [name for name, value in (record | speeds | times).items() if value is None]
    if missing:
        return f"Still empty: {', '.join(missing)}. That is fine without a GPU."
    roof = record["roof_gb_per_s"]
    if not 10 < roof < 10_000:
        return f"A roof of {roof} GB/s? Copies on today's GPUs reach 10 to 10,000 GB/s; look at the units."
    if max(speeds.values()) > 1.2 * roof:
        return "Faster than a copy: was the cache flushed, and was each row that is read counted once only?"
    best = max(speeds, key=speeds.get)
    return f"{record['device']}: {best} reaches {speeds[best] / roof:.0%} of the measured roof."


# %%
print(check_record(spark_record))

# %% [markdown]
# ## Common mistakes
#
# **1. A row for each thread, because it is a row for each token.** Right values, eight times the traffic.
#
# ```python
# for column in range(D):              # wrong: 32 threads stand in 32 rows
#     ...
# row, column = element // D, ...      # right: neighbours copy neighbours
# ```
#
# **2. Ids checked at one end.** `tokens >= V` alone lets -1 through, and a GPU reads what lies in front of the table.
#
# **3. Words over the end of a row.** With D odd, a pair begins in one row and ends in the next; with a slice that begins at 4 bytes, a GPU stops with *misaligned address*. Look at D *and* at the address.
#
# **4. `+=` in place of the atomic.** Repeated tokens lose gradients, silently, and only where tokens repeat: with a batch of different tokens the test of your own was green.

# %% [markdown]
# **5. Padding skipped forward instead of backward.** Its row is read like any other; it just must not learn.
#
# **6. A sort that is not stable.** Positions with equal tokens change places, and with them the last bits.
#
# **7. The gradient taken for contiguous.** `out.sum()` sends back a tensor with all strides 0.
#
# ```python
# rows = grad.view(-1, D)                       # wrong: an error, or memory in another order
# rows = grad.reshape(-1, D).contiguous()       # right: what the kernel reads lies row by row
# ```
#
# **8. The table kept for backward.** It needs no value of it, and autograd then refuses the optimizer's change in place.

# %% [markdown]
# ## Reflect
#
# Three questions, read by a person, on your own kernels and measurements. A few sentences and the numbers are enough.

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-embed-memory", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Question 1: memory (3 points).** Take the curves of systems insight 1 and the costs of systems insight 2. (a) Explain the value of *your* `lookup_by_row` at D = 64 from what a warp touches, and why it is smaller at D = 2. (b) Your `lookup` with D = 65 needs about twice the instructions of D = 64, but not twice the sectors. Explain both. (c) Your model has D = 100 in float32 and somebody proposes to store each row in 104 numbers. What is gained, what does it cost, and by which of your counts would you decide?
#
# ### BEGIN SOLUTION
# (a) At each step of the loop 32 lanes read 4 bytes in 32 different rows, so 32 sectors of 32 bytes for 128 bytes wanted: a factor of 8, and the same for the stores; the token adds a little. At D = 2 four neighbouring rows of the output lie in one sector, so a store of a warp touches 8 sectors instead of 32. (b) With D odd the words have 4 bytes, so twice as many loads and stores. The bytes are almost the same (65 against 64 columns), so are the sectors, plus one where a row does not begin at a sector's edge. (c) Rows of 416 bytes begin at multiples of 32, so each row takes 13 sectors instead of up to 14 (400 bytes that begin anywhere at a multiple of 16). It costs 4 % memory and, if the padding is copied too, traffic. I would decide by sectors per row; 8-byte words fit either way.
#
# ### BEGIN MARK SCHEME
# - 1 point: 32 sectors for 128 bytes, and that narrow rows share sectors. Half: only "not coalesced" with the number 8.
# - 1 point: the word falls to 4 bytes because D is odd; sectors follow bytes. Half: one of the two.
# - 1 point: alignment of rows to sectors against memory, decided by sectors (or bytes moved). Half: only "aligned is faster". That D = 100 already allows 8-byte words must not be claimed as a gain of 104.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-embed-scaling", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Question 2: scaling (3 points).** Your two gradients, on a batch of 32,768 tokens of English with D = 4,096, in which the most frequent token makes up 5 %. (a) How long is the longest queue of your `scatter_add` at one address, and how many addresses have it? (b) How many additions does one thread of your `segment_sum` do for that token, while a thread of a rare token does one? What does that mean for the warps and for the whole launch? (c) Sketch how you would cut long segments so that the bits are still the same on each run.
#
# ### BEGIN SOLUTION
# (a) 5 % of 32,768 are 1,638 additions to each of the 4,096 addresses of that row. (b) 1,638 against 1. All lanes of a warp have the same segment at D = 4,096 (4,096 is a multiple of 32), so no lane waits for another; but 128 warps walk 1,638 steps while the others are long done: the launch lasts as long as the longest segment. (c) Cut each segment into pieces of at most, say, 64 positions, sum each piece by one thread into a scratch row, and add the scratch rows of a segment in their order in a second launch. Pieces and their order follow from the data and the constant 64, so the bits are fixed (other bits than those of one long sum).
#
# ### BEGIN MARK SCHEME
# - 1 point: 1,638 at each of D addresses (half: the number without the addresses).
# - 1 point: imbalance between warps, not within one, at this D; the tail of the launch. Half: "one thread has more work".
# - 1 point: pieces of fixed size and a fixed order of combining. Half: atomics at the end, which give up the bits.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-embed-production", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Question 3: production (3 points).** Your `EmbeddingLookup` is to go into a service that trains on customers' texts. (a) A new tokenizer produces an id that is one too large, once in a million batches. Say what happens with your `lookup`, and what would happen with your kernel without the check. (b) The check makes the host wait for the GPU in each step. When would you accept that, and how would you keep the protection without the wait? (c) Two runs with the same seed have to give the same model. Which of your kernels may be used, and name one thing outside of your code that has to be fixed too.
#
# ### BEGIN SOLUTION
# (a) lookup raises an IndexError with id and position before anything is launched, so the batch can be named and left out. Without it the kernel reads the memory behind the table: other tensors' numbers become an embedding, silently, or the context dies with an illegal access that appears at some later call; in training scatter_add would even write there. (b) In inference with short sequences, or while data pipelines are new. Otherwise check on the host in the data loader, where tokens are made and no GPU is waited for, or count wrong ids in the kernel into a flag that is read every hundred steps. (c) segment_sum, not scatter_add; lookup either way. Outside: the order of the data (seeds of loader workers), number of GPUs, versions of libraries, other kernels of the model that use atomics.
#
# ### BEGIN MARK SCHEME
# - 1 point: the error before the launch; silent garbage or a dead context without it. Half: one side.
# - 1 point: a case for it, and a way without waiting (data loader, flag read later, assertion on the device). Half: one of them.
# - 1 point: segment_sum because its order is fixed, and one outside source of differences. Half: one of them.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# | you built | what it showed |
# |---|---|
# | `lookup_by_row` | right, and eight times the traffic |
# | `lookup_by_element` | the same loads, side by side |
# | `lookup` | words of 8 bytes by a view, and a door for wrong ids |
# | `scatter_add` | a gradient by atomics: short, queued, other bits each time |
# | `segments`, `segment_sum` | a gradient by sorting: one store a sum, the same bits each time |
# | `EmbeddingLookup` | both under autograd, equal to `torch.nn.functional.embedding` |
#
# The next cell repeats, in numbers, what this notebook measured of *your* code.

# %%
if globals().get("wasted"):
    print("bytes moved per byte wanted, D = 64:", {name: round(curve[-1], 2) for name, curve in wasted.items()})
if globals().get("row_costs"):
    print("instructions per row:", {name: round(requests, 2) for name, (requests, _) in row_costs.items()})
if globals().get("sums_seen"):
    print("different sums in 30 runs:", sums_seen)
if mine:
    print(f"training: loss {mine[0][0]:.2f} -> {mine[0][-1]:.2f}")

# %% [markdown]
# ## Challenge (optional)
#
# - **Sixteen bytes.** View float32 rows with D divisible by 4 as complex128. Does the simulator count one request for 16 bytes? On a GPU, does the compiler make `LDG.E.128` of it?
# - **A sparse gradient.** Return ids and sums instead of a whole table: `torch.sparse_coo_tensor`. What does an optimizer with momentum do with it?
# - **A warp for a row.** Let each warp take a row and its lanes the columns, 32 at a time. No division any more; for which D do lanes idle?
# - **Mean pooling.** `embedding_bag` adds up the rows of a sentence while it reads them. Write it without ever storing (B, T, D).
#
# ## Further reading
#
# - NVIDIA, *CUDA C++ Best Practices Guide*, on coalesced access to global memory; *CUDA C++ Programming Guide*, on the alignment of built-in vector types.
# - PyTorch's documentation of `torch.nn.functional.embedding`, *Extending PyTorch* (autograd functions) and *Reproducibility*.
# - Naumov et al., *Deep Learning Recommendation Model for Personalization and Recommendation Systems* (2019): where tables are most of the model.
#
# ## Clean up

# %%
plt.close("all")
if not device.simulated:
    torch.cuda.empty_cache()
    cuda.current_context().deallocations.clear()  # give the memory of freed arrays back now
print("Done. Next: lab 1.3.4, where whole NumPy pipelines move to the GPU.")
