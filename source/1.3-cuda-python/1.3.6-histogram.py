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
# # Lab 1.3.6: Parallel histogram
#
# | | |
# |---|---|
# | Module | 1.3 CUDA Python and GPU programming |
# | Time | 2 hours |
# | Difficulty | ★★★☆☆ |
# | Hardware | gpu-optional: without a GPU all of it runs in a simulator |
# | Points | 28 automatic, 9 read by a person |
# | Builds on | 1.3.1 (parallel reduction) |
#
# You will count. That is all a histogram does, and it is the first problem of this course in which the *data* decide how fast your kernel is: everybody may want to write to the same place.

# %% [markdown]
# ## What you'll achieve
#
# 1. **See the machine** (objective 1.3.1): say what an atomic costs in global memory and in shared memory, from turns that you counted.
# 2. **Write kernels** (1.3.2): count any number of values into any number of bins, with results equal to NumPy's to the last count.
# 3. **Learn a pattern** (1.3.2): *privatise, then merge*. It returns in every scatter: embedding gradients, expert loads, sparse updates.
# 4. **Meet the production tool** (1.3.3): the private tiles of CUB's `DeviceHistogram`, and the radix select behind `torch.topk`.
# 5. **Weigh a trade-off** (1.3.3): shorter queues against more memory, more zeroing and more merging.

# %% [markdown]
# ## Before you start
#
# | | |
# |---|---|
# | You have built | sums by atomics, by a tree in shared memory, by a grid-stride loop (1.3.1) |
# | What works | every thread knows *where* its result goes before it looks at the data |
# | The gap | in a histogram the value itself says where to write, so you cannot arrange beforehand that nobody meets |
# | This lab | lets them meet, counts what that costs, and makes meetings rare |
#
# ```
# 1.3.1 atomics, barriers, ──→ 1.3.6 histogram ──┬─→ 2.3 language: how often does each token occur?
#       grid-stride loops        (this lab)      └─→ 3.2 quantisation: where to clip the activations?
# ```

# %% [markdown]
# **Check yourself 1.** What is `np.histogram([1, 2, 3], bins=[1, 2, 3])[0]`?
#
# <details><summary>Answer</summary>
#
# `[1, 2]`. Bin `k` holds `edges[k] <= v < edges[k + 1]`, and only the *last* bin takes its right edge too: both 2 and 3 fall into it. Values outside the edges are dropped without a word.
# </details>
#
# **Check yourself 2.** Two threads run `counts[3] += 1` at the same time. Which values may `counts[3]` have risen by?
#
# <details><summary>Answer</summary>
#
# By 1 or by 2. The statement is a read, an addition and a write; if both read before either writes, one addition is lost. `cuda.atomic.add` makes the three steps one.
# </details>
#
# **Check yourself 3.** Shared memory has 32 banks. In which banks do words 5, 261 and 262 lie?
#
# <details><summary>Answer</summary>
#
# Word `w` lies in bank `w % 32`: 5, 5 and 6. Words 5 and 261 are different words of one bank, so a warp that touches both needs two turns.
# </details>

# %% nbgrader={"grade": false, "grade_id": "hist-setup", "locked": true, "schema_version": 3, "solution": false, "task": false}
from labkit import hardware

device = hardware.prepare_cuda()  # before numba.cuda is imported: it may have to simulate

import math

import numpy as np
from labkit import checking, cudasim, insight, launching
from numba import cuda, float32, int32

print(f"Kernels run on: {device}")


# %% [markdown]
# **Ready?** The next cell launches a kernel with an atomic. If it prints what it should, everything you need is here.

# %% nbgrader={"grade": false, "grade_id": "hist-ready", "locked": true, "schema_version": 3, "solution": false, "task": false}
@cuda.jit
def count_even(x, found):
    """Add to found[0] how many elements of x are even, one thread for each."""
    j = cuda.grid(1)
    if j < x.size and x[j] % 2 == 0:
        cuda.atomic.add(found, 0, 1)


# %%
found = np.zeros(1, np.int32)
count_even[2, 8](np.arange(11, dtype=np.int32), found)
print("expected [6], got", found)

# %% [markdown]
# ## Why it matters
#
# Histograms are everywhere around a model, and each of these has been someone's bottleneck:
#
# - **Quantisation.** To store activations in 8 bits you must decide where to clip them. Calibration collects a histogram of `|activation|` with thousands of bins for every layer, over hundreds of batches.
# - **Mixture of experts.** Each token is sent to a few experts, and each GPU has to know how many tokens every expert gets before it can allot memory for them. That is a histogram, in every layer, in every step.
# - **Gradient compression.** To send only the largest 1 % of a gradient you need the threshold. Sorting 8 billion numbers for one of them is absurd; four histograms find it, as you will see.
#
# Done badly it is not a little slow. If one expert is popular, all atomics go to one address and a machine with thousands of lanes does one addition at a time: the kernel gets slower *exactly when the data get interesting*, and no test on uniform random numbers will have shown it.

# %% [markdown]
# ## At the kitchen table
#
# A hundred people have counted votes, each with a stack of slips. On the wall hangs one big tally sheet with a line for each candidate.
#
# - **One sheet on the wall** (global atomics): read a slip, walk to the wall, make a stroke. If everyone votes for the same candidate, everyone queues at one line of the sheet.
# - **A sheet on each table** (privatisation in shared memory): the strokes are made at the table. At the end, one walk to the wall for each line: "table 3 brings 41 for Ada".
# - **Wipe the sheet first** (zeroing), **and wait till all are done** (barriers): whoever makes strokes on a sheet that is still being wiped loses them, and whoever copies it too early brings too few.
# - **Several sheets on a table** (copies): even at a table eight hands want the line of the favourite. Four sheets make four short queues, and a little more to add up.
#
# *Where it breaks:* people queue one by one. A warp's 32 lanes arrive *together*, and the whole warp goes on only when the last of them has made its stroke. So what counts is the longest queue in each warp, not the average one.

# %% [markdown]
# ## Foundations: the semantics, exactly
#
# `bins + 1` edges, in strictly ascending order, make `bins` bins. As NumPy does it:
#
# $$\text{bin}(v) = \begin{cases} k & e_k \le v < e_{k+1} \\ \text{bins} - 1 & v = e_{\text{bins}} \\ \text{none} & \text{otherwise (and for NaN)} \end{cases}$$
#
# With equal widths there is no need to search: $k \approx \lfloor (v - e_0)/(e_{\text{bins}} - e_0) \cdot \text{bins} \rfloor$. The $\approx$ is the trouble. The edges are rounded, and so are the subtraction, the division and the product, so a value at an edge may land one bin too low or too high. Counts are integers: there is no tolerance to hide that in. Cure: take the formula as a *guess* and let the edges decide.

# %%
edges = np.linspace(-1, 1, 11, dtype=np.float32)
values = np.concatenate([edges[:-1], np.nextafter(edges[1:], np.float32(-2))])  # each bin's first and last number
guess = ((values - edges[0]) / (edges[-1] - edges[0]) * 10).astype(int)
right = np.tile(np.arange(10), 2)
print("guessed too low: ", values[guess < right])
print("guessed too high:", values[guess > right])


# %% [markdown]
# ## Foundations: a model of the queue
#
# ```
#   warp 0:  lanes  0  1  2  3  4  5  6  7        keys  2  5  2  2  7  5  2  1
#                   │  │  │  │  │  │  │  │
#   counts:  [0]  [1]←7  [2]←0,2,3,6  [3]  [4]  [5]←1,5  [6]  [7]←4
#             longest queue: 4 lanes at [2]  →  this instruction takes 4 turns
# ```
#
# Two queues matter:
#
# - **Within a warp.** An atomic instruction takes as many *turns* as the most frequent key among its lanes has lanes. Over all warps $w$: $T = \sum_w \max_k m_w(k)$, where $m_w(k)$ counts the lanes of warp $w$ with key $k$.
# - **At an address.** All additions to one address happen one after the other, whoever they come from. If the hottest bin has share $p$ of $n$ values: a queue of $n p$ at one global address.
#
# **In numbers.** A constant input: 32 turns per warp, and all $n$ additions at one address. Uniform keys in 256 bins: on average about 2 turns. With $b$ blocks that count privately, the queue at the hottest *global* address falls from $np$ to $b$, and a queue of about $np/b$ is left in each block's shared memory, where waiting costs a fraction. Their sum $b + np/b$ is smallest at $b = \sqrt{np}$.

# %% nbgrader={"grade": false, "grade_id": "hist-keys", "locked": true, "schema_version": 3, "solution": false, "task": false}
def make_keys(kind, n, bins, seed):
    """n int32 keys: "uniform", "skewed" (the most popular bin has some 40 % of them) or "constant"."""
    rng = np.random.default_rng(seed)
    popularity = {"uniform": np.ones(bins), "skewed": np.arange(1, bins + 1) ** -1.5, "constant": np.eye(bins)[0]}[kind]
    return rng.choice(bins, n, p=popularity / popularity.sum()).astype(np.int32)


def model_turns(keys):
    """T of the model: the longest queue of each 32 neighbouring keys, added up. The length is a multiple of 32."""
    return sum(int(np.bincount(warp).max()) for warp in keys.reshape(-1, 32))


# %%
for kind in ("uniform", "skewed", "constant"):
    print(f"{kind:9} {model_turns(make_keys(kind, 8192, 256, seed=1)) / 256:5.2f} turns for each warp's instruction")


# %% [markdown]
# ### The tools that the tests use
#
# `launching.launch` runs a kernel on copies of its inputs and hands back its output and a *profile*: what the threads did, counted. A data race stops it. Histograms add to what is in the output, so it starts with values of the test's choice. `count` below wraps that; you will see it in every test. The oracle is NumPy.

# %% nbgrader={"grade": false, "grade_id": "hist-tools", "locked": true, "schema_version": 3, "solution": false, "task": false}
def count(kernel, keys, bins, blocks, threads, before=0):
    """Run kernel[blocks, threads](keys, counts) on counts that start at `before`; return counts and profile."""
    run = launching.launch(kernel, blocks, threads, keys, launching.start(np.full(bins, before, np.int32)))
    return run.out, run.profile


def true_counts(keys, bins, before=0):
    """What a histogram of the keys 0 to bins - 1 has to be; all other keys are dropped."""
    valid = keys[(keys >= 0) & (keys < bins)]
    return (np.bincount(valid, minlength=bins) + before).astype(np.int32)


# %% nbgrader={"grade": false, "grade_id": "hist-flushes", "locked": true, "schema_version": 3, "solution": false, "task": false}
def private_atomics(keys, bins, blocks, threads):
    """Atomics of a privatised histogram: one for each valid key, and one for each bin that a block has met."""
    owner = np.arange(keys.size) % (blocks * threads) // threads  # thread g takes the keys g, g + G, ...
    valid = (keys >= 0) & (keys < bins)
    met = sum(np.unique(keys[valid & (owner == block)]).size for block in range(blocks))
    return int(valid.sum()) + met


# %% nbgrader={"grade": false, "grade_id": "hist-mixed", "locked": true, "schema_version": 3, "solution": false, "task": false}
def mixed_keys(n, bins, seed):
    """n keys, most of them valid, some one off either end and some far away."""
    rng = np.random.default_rng(seed)
    keys = rng.integers(0, bins, n)
    strays = rng.choice([-1, bins, -bins, bins + 1, -(2**31), 2**31 - 1], n)
    return np.where(rng.random(n) < 0.2, strays, keys).astype(np.int32)


# %% [markdown]
# ## Part 1: Which bin?
#
# First the question that each value can answer alone, without meeting anyone. One thread for each value; what comes out is a *key*, the number of the bin, or -1 for a value that belongs to none. From then on everything is integers.
#
# **Exercise 1 (4 points).** Write `find_bins`, with NumPy's semantics for every value, those at the edges included.

# %% nbgrader={"grade": false, "grade_id": "hist-bins", "locked": false, "schema_version": 3, "solution": true, "task": false}
@cuda.jit
def find_bins(x, edges, keys):
    """Write the bin of each value: keys[i] = k where edges[k] <= x[i] < edges[k + 1]; the last bin has its right edge.

    Args:
        x: float32, shape (n,), any values: NaN, infinities, numbers outside the edges. Comes out unchanged.
        edges: float32, shape (bins + 1,), bins >= 1, strictly ascending, equally spaced up to rounding; the distance of
            the outermost edges is a finite float32.
        keys: int32, shape (n,). Gets the bin, or -1 for a value that lies in none.

    Launch: [blocks, threads], one-dimensional, with at least n threads; thread i = cuda.grid(1) does x[i]. A thread
    reads at most 8 elements of edges (the plan below needs 4), however many bins there are: it does not search.

    TODO: Guess the bin from the formula, then let the edges correct the guess by one in either direction.

    APPROACH:
        1. Sort out what lies in no bin first, because the formula would make an index of it.
        2. Guess by (v - lowest) / (highest - lowest) * bins, because that costs three operations for any number of bins.
        3. Compare with the guessed bin's own edges, because rounding may have moved the value by one bin.

    EXAMPLE:
        >>> keys = np.zeros(5, np.int32)
        >>> find_bins[1, 32](np.array([0, 1, 3.9, 4, 9], np.float32), np.array([0, 1, 2, 3, 4], np.float32), keys)
        >>> keys
        array([ 0,  1,  3,  3, -1], dtype=int32)

    HINTS:
        1. Every comparison with NaN is false. Ask what is true of a value *inside*, and NaN sorts itself out.
        2. int(...) cuts off towards 0, float32(bins) avoids float64. At the highest edge the formula gives `bins`:
           one bin too many.
        3. Too high if the value lies below the guessed bin's left edge; too low if it reaches the next bin's, unless
           the guessed bin is the last.
    """
    ### BEGIN SOLUTION
    i = cuda.grid(1)
    if i < x.size:
        bins = edges.size - 1
        v = x[i]
        k = -1
        if edges[0] <= v <= edges[bins]:
            k = min(int((v - edges[0]) / (edges[bins] - edges[0]) * float32(bins)), bins - 1)
            if v < edges[k]:
                k -= 1
            elif k < bins - 1 and v >= edges[k + 1]:
                k += 1
        keys[i] = k
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "hist-hard-values", "locked": true, "schema_version": 3, "solution": false, "task": false}
def hard_values(edges, seed):
    """Each edge, both its float32 neighbours, values between and outside, and those that are no number."""
    rng = np.random.default_rng(seed)
    width = edges[-1] - edges[0]
    random = rng.uniform(edges[0] - width / 4, edges[-1] + width / 4, 200)
    odd = [np.nan, np.inf, -np.inf, 0.0, -0.0, 3e38, -3e38]
    near = np.concatenate([edges, np.nextafter(edges, np.float32(np.inf)), np.nextafter(edges, np.float32(-np.inf))])
    return rng.permutation(np.concatenate([near, random, odd]).astype(np.float32))


def true_bins(x, edges):
    """The bins by a search: no formula, no rounding."""
    k = np.searchsorted(edges, x, side="right") - 1
    k[x == edges[-1]] = edges.size - 2
    return np.where((x >= edges[0]) & (x <= edges[-1]), k, -1).astype(np.int32)


# %% nbgrader={"grade": true, "grade_id": "test-hist-bins", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: each value's bin against a search, counts against np.histogram, NaN and infinities, reads of the edges.
# Fails if: the guess is not corrected, the last edge is open, a stray value gets a bin, or each thread searches.
# A pass: integers equal to NumPy's, whatever the number of bins.
def check_bins(x, edges):
    blocks = x.size // 64 + 1
    run = launching.launch(find_bins, blocks, 64, x, edges, launching.out(x.size, np.int32))
    what = f"bins of {x.size} values between {edges.size} edges from {edges[0]:g} to {edges[-1]:g}"
    checking.equal(run.out, true_bins(x, edges), what=what, hint="take the first wrong index and look at x and edges")
    got = np.bincount(run.out[run.out >= 0], minlength=edges.size - 1)
    checking.equal(got, np.histogram(x, edges)[0], what="counts, against np.histogram")
    return run.profile.total


def test_unit_bins():
    credit = checking.Credit(4)
    with credit.check("values inside the bins", points=1, hint="work the formula out by hand for one of them"):
        check_bins(np.array([0.5, 1.5, 1.25, 3.75, 2.5], np.float32), np.arange(5, dtype=np.float32))
        check_bins(np.array([-0.9, 0.9, 0.1], np.float32), np.array([-1, 0, 1], np.float32))
    with credit.check("values at the edges, and the last edge", points=1, hint="let the edges correct the guess"):
        check_bins(np.linspace(0, 1, 11, dtype=np.float32), np.linspace(0, 1, 11, dtype=np.float32))
        ### BEGIN HIDDEN TESTS
        # check: edges and their neighbours, for many widths
        # hint: print the guess for each edge: where is it too low, and where too high?
        seed = checking.secret_seed()
        for low, high, bins in ((0, 1, 100), (-0.7, 2.3, 15), (0.1, 0.7, 4097), (1000, 1001, 333), (-5, -4, 1)):
            edges = np.linspace(low, high, bins + 1, dtype=np.float32)
            x = hard_values(edges, seed)
            check_bins(x[(x >= edges[0]) & (x <= edges[-1])], edges)
        ### END HIDDEN TESTS
    with credit.check("values in no bin, and no values", points=1, hint="what is true of each value that has a bin?"):
        check_bins(hard_values(np.arange(4, dtype=np.float32), seed=2), np.arange(4, dtype=np.float32))
        check_bins(np.zeros(0, np.float32), np.array([0, 1], np.float32))
    with credit.check("no search", points=1, hint="how many edges does one thread read, at most?"):
        x = np.linspace(0, 1, 640, dtype=np.float32)
        loads = check_bins(x, np.linspace(0, 1, 2**14 + 1, dtype=np.float32)).loads
        assert loads <= 9 * x.size, f"{loads / x.size:.1f} loads a value; its own and 8 edges are 9"
    return credit.total()


test_unit_bins()


# %% [markdown]
# ### What just happened?
#
# You made a decision on floating-point numbers that is exact. The division may be wrong in its last place, on another compiler, with another rounding mode: the bin is decided by comparisons, and these do not round. NumPy's own `histogram` works the same way, for the same reason.

# %%
def key_of_each(values, low, high, bins):
    x, edges = np.array(values, np.float32), np.linspace(low, high, bins + 1, dtype=np.float32)
    return launching.launch(find_bins, 1, 32, x, edges, launching.out(x.size, np.int32)).out.tolist()


insight.run(lambda: key_of_each([-1, 0, 0.3, 0.6, 0.7, 1, 1.1, np.nan], 0, 1, 10), needs="Exercise 1 (find_bins)")


# %% [markdown]
# ## Part 2: One sheet on the wall
#
# From here on every kernel counts *keys*: int32 numbers that should be 0 to `bins - 1`. Others are dropped. This is what happens without an atomic, on 32 keys in two bins:

# %%
@cuda.jit
def lossy(keys, counts):
    j = cuda.grid(1)
    if j < keys.size:
        counts[keys[j]] += 1


some, lost = np.arange(32, dtype=np.int32) % 2, np.zeros(2, np.int32)
race = cudasim.run(lossy, 1, 32, some, lost).races[0]
print(race)
print("counted", lost, "where it should be [16 16]")


# %% [markdown]
# One thread for each key is a poor plan for a billion keys: it needs a grid as large as the data. The grid-stride loop of 1.3.1 makes the grid a free choice, and later it will decide how many private histograms there are.
#
# **Exercise 2 (4 points).** Write `global_histogram`. Beware of one thing that Python taught you: an index of -1 is the *last* element in a kernel as well, without any error.

# %% nbgrader={"grade": false, "grade_id": "hist-global", "locked": false, "schema_version": 3, "solution": true, "task": false}
@cuda.jit
def global_histogram(keys, counts):
    """Add to counts[k] how often k occurs among the keys, straight in global memory.

    Args:
        keys: int32, shape (n,), any n, any values; those outside 0 .. bins - 1 are dropped. Comes out unchanged.
        counts: int32, shape (bins,), bins >= 1. Old values count: the histogram is added to them.

    Launch: [blocks, threads], one-dimensional, any numbers. With G threads in the grid, the thread with
    cuda.grid(1) == g owns the keys g, g + G, g + 2 G, ... It reads each once, and does one atomic for each valid key.

    TODO: Let each thread go through its own keys and add 1 to the count of each valid one, atomically.

    APPROACH:
        1. Step through the keys by the size of the grid, because then any grid does any n, and warps read neighbours.
        2. Drop keys below 0 as well as those past the end, because a negative index wraps around to the end.
        3. Add atomically, because any other thread may be adding to the same bin.

    EXAMPLE:
        >>> counts = np.zeros(3, np.int32)
        >>> global_histogram[1, 4](np.array([2, 0, 2, -1, 7, 2], np.int32), counts)
        >>> counts
        array([1, 0, 3], dtype=int32)

    HINTS:
        1. The loop is that of grid_stride_sum in 1.3.1; `cuda.gridsize(1)` is G.
        2. Two comparisons guard the atomic, and `counts.size` is known in the kernel.
        3. The kernel `count_even` above shows an atomic addition to an array at an index.
    """
    ### BEGIN SOLUTION
    for i in range(cuda.grid(1), keys.size, cuda.gridsize(1)):
        k = keys[i]
        if 0 <= k < counts.size:
            cuda.atomic.add(counts, k, 1)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-hist-global", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: counts equal to NumPy's for grids smaller and larger than the data, strays, one read and one atomic a key.
# Fails if: += is not atomic, a negative key wraps around, the stride is the block's, or old counts are overwritten.
# A pass: any grid counts any data, exactly.
def check_global(keys, bins, blocks, threads, before=0):
    got, profile = count(global_histogram, keys, bins, blocks, threads, before)
    what = f"counts of global_histogram[{blocks}, {threads}] on {keys.size} keys in {bins} bins"
    checking.equal(got, true_counts(keys, bins, before), what=what, hint="which keys does a thread own?")
    checking.equal(profile.total.loads, keys.size, what="keys loaded", hint="each key is read once")
    valid = int(((keys >= 0) & (keys < bins)).sum())
    checking.equal(profile.total.atomics, valid, what="atomic additions", hint="one for each valid key")
    return profile.total


def test_unit_global():
    credit = checking.Credit(4)
    with credit.check("any grid, any number of keys", points=2, hint="list by hand the keys of thread 1 of [2, 4]"):
        check_global(make_keys("uniform", 100, 7, seed=1), 7, blocks=4, threads=32)
        check_global(make_keys("skewed", 1000, 16, seed=2), 16, blocks=2, threads=64, before=5)
        ### BEGIN HIDDEN TESTS
        # check: grids far smaller and larger than the data, and odd ones
        # hint: by how much does a thread step, and where does it stop?
        seed = checking.secret_seed()
        for n, blocks, threads in ((0, 1, 32), (1, 3, 5), (31, 1, 1), (97, 2, 33), (4099, 3, 96)):
            check_global(make_keys("uniform", n, 11, seed + n), 11, blocks, threads, before=n)
        ### END HIDDEN TESTS
    with credit.check("keys that are in no bin", points=1, hint="what does an index of -1 mean?"):
        check_global(np.array([0, -1, 3, 2, 4, -4, 1], np.int32), 4, blocks=1, threads=32)
        check_global(mixed_keys(500, 9, seed=3), 9, blocks=2, threads=32)
    with credit.check("neighbours read neighbours", points=1, hint="which threads share a 32-byte sector?"):
        total = check_global(np.full(2048, -1, np.int32), 4, blocks=1, threads=256)
        checking.equal(total.sectors_per_request, 4.0, what="32-byte sectors per load of a warp")
    return credit.total()


test_unit_global()


# %% [markdown]
# ### What just happened?
#
# A right histogram, and one that comes out the *same* each time: unlike float additions, integer additions give the same result in any order. The order of arrival differs from run to run; nobody can tell from the counts.

# %%
def three_grids():
    keys = make_keys("skewed", 1000, 4, seed=5)
    return {grid: count(global_histogram, keys, 4, *grid)[0].tolist() for grid in ((1, 1), (2, 96), (40, 32))}


insight.run(three_grids, needs="Exercise 2 (global_histogram)")


# %% [markdown]
# ### Systems insight 1 of 3: the data decide
#
# *Checkpoint:* one kernel, the same number of keys, the same number of instructions. *Predict before you run:* how many turns does a warp's atomic take on average for uniform keys in 256 bins, for skewed ones, for constant ones? And how many additions queue at the hottest address?

# %%
def turns_by_input(n=8192, bins=256):
    """Turns of a warp's atomic instruction, counted while global_histogram runs and by the model."""
    counted, predicted = {}, {}
    for kind in ("uniform", "skewed", "constant"):
        keys = make_keys(kind, n, bins, seed=1)
        got, profile = count(global_histogram, keys, bins, 8, 128)
        counted[kind] = profile.total.serialised / profile.total.atomic_requests
        predicted[kind] = model_turns(keys) / (n / 32)
        print(f"{kind:9} counted {counted[kind]:5.2f}, model {predicted[kind]:5.2f}; hottest address: {got.max()} of {n}")
    return counted


# %%
turns = insight.run(turns_by_input, needs="Exercise 2 (global_histogram)")
if turns:
    insight.bars(turns, ylabel="turns per warp and atomic", title="8,192 keys in 256 bins, global atomics")

# %% [markdown]
# The count is the model's, to the last turn: the model looks at the same 32 neighbours. From uniform to constant the turns grow 16-fold, and the queue at the hottest address from about 50 to all 8,192.
#
# *In production* this is why a kernel that is fine on random test data stalls on real tokens, of which a handful make up a fifth of any text. Always benchmark a scatter on the most skewed data you can expect.

# %% [markdown]
# ## Part 3: A sheet on each table
#
# Let each block count in its shared memory and bring the result to global memory once. Three phases, with a barrier between each two: *zero* the tile, *count* into it, *flush* it.
#
# Shared memory is small. A block may have some 48 KiB of it, 12,288 counts at most; the vocabulary of a language model has 128,256 entries. So the tile holds a *window* of `MAX_BINS` bins, and for more bins the block makes several *passes* over its keys, one for each window:

# %% nbgrader={"grade": false, "grade_id": "hist-max-bins", "locked": true, "schema_version": 3, "solution": false, "task": false}
MAX_BINS = 512  # of a window; the shape of a shared array has to be a constant

# %%
for bins in (10, 512, 513, 2048, 128_256):
    windows = range(0, bins, MAX_BINS)
    print(f"{bins:7} bins: {len(windows):3} passes, the last window has {bins - windows[-1]} bins")


# %% [markdown]
# **Exercise 3 (7 points).** Write `shared_histogram`. What a block counts in vain costs nothing: a bin that it has not met is not flushed.

# %% nbgrader={"grade": false, "grade_id": "hist-shared", "locked": false, "schema_version": 3, "solution": true, "task": false}
@cuda.jit
def shared_histogram(keys, counts):
    """Add to counts[k] how often k occurs among the keys; each block counts in shared memory, window by window.

    Args:
        keys: int32, shape (n,), any n, any values; those outside 0 .. bins - 1 are dropped. Comes out unchanged.
        counts: int32, shape (bins,), any bins >= 1. Old values count: the histogram is added to them.

    Launch: [blocks, threads], one-dimensional, any numbers. Thread g of G owns the keys g, g + G, g + 2 G, ..., and
    reads each once for every window of MAX_BINS bins. In all, one atomic in shared memory for each valid key, and one
    in global memory for each bin that a block has met.

    TODO: For each window: zero the tile, count the thread's own keys that lie in the window, flush what is not 0.

    APPROACH:
        1. Zero, and flush, with all threads side by side in steps of the block, because bins and threads may differ
           in number either way.
        2. Count with k minus the window's first bin, because the tile begins at 0.
        3. Put a barrier after the zeroing and one after the counting, because each phase reads what others wrote. A third,
           before the next window, is needed unless each slot is wiped by the thread that flushed it.
        4. Flush by an atomic addition, because all the other blocks bring theirs to the same bins.

    EXAMPLE:
        >>> counts = np.zeros(3, np.int32)
        >>> shared_histogram[2, 4](np.array([2, 0, 2, -1, 7, 2], np.int32), counts)
        >>> counts
        array([1, 0, 3], dtype=int32)

    HINTS:
        1. Write it for one window first, with `counts.size` at most MAX_BINS; then put the loop over windows around it.
        2. The last window is narrower than the others: min(MAX_BINS, ...).
        3. Three loops with three different steps: windows by MAX_BINS, keys by the grid, the tile by cuda.blockDim.x.
    """
    tile = cuda.shared.array(MAX_BINS, int32)
    ### BEGIN SOLUTION
    t = cuda.threadIdx.x
    for first in range(0, counts.size, MAX_BINS):
        width = min(MAX_BINS, counts.size - first)
        for b in range(t, width, cuda.blockDim.x):
            tile[b] = 0
        cuda.syncthreads()
        for i in range(cuda.grid(1), keys.size, cuda.gridsize(1)):
            k = keys[i] - first
            if 0 <= k < width:
                cuda.atomic.add(tile, k, 1)
        cuda.syncthreads()
        for b in range(t, width, cuda.blockDim.x):
            if tile[b] != 0:
                cuda.atomic.add(counts, first + b, tile[b])
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "hist-check-shared", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_shared(keys, bins, blocks, threads, before=0):
    """Counts are NumPy's, and no atomic is spent in vain."""
    got, profile = count(shared_histogram, keys, bins, blocks, threads, before)
    what = f"shared_histogram[{blocks}, {threads}] on {keys.size} keys in {bins} bins"
    checking.equal(got, true_counts(keys, bins, before), what=f"counts of {what}", hint="count one window by hand")
    atomics = private_atomics(keys, bins, blocks, threads)
    hint = "one for each valid key, and one for each bin that a block has met"
    checking.equal(profile.total.atomics, atomics, what=f"atomics of {what}", hint=hint)
    return profile.total


# %% nbgrader={"grade": true, "grade_id": "test-hist-shared", "locked": true, "points": 7, "schema_version": 3, "solution": false, "task": false}
# Checks: counts equal to NumPy's for any number of keys, bins and threads, atomics, global traffic, barriers (by races).
# Fails if: a barrier is missing, the flush overwrites, the tile is not zeroed, a window is left out, or atomics are wasted.
# A pass: global memory sees each key once a pass, and a handful of atomics.
def test_unit_shared():
    credit = checking.Credit(7)
    with credit.check("one window", points=2, hint="is every slot zeroed before anyone counts into it?"):
        check_shared(make_keys("uniform", 300, 8, seed=1), 8, blocks=1, threads=32)
        check_shared(make_keys("skewed", 1000, 100, seed=2), 100, blocks=3, threads=64)
        ### BEGIN HIDDEN TESTS
        # check: fewer threads than bins, more threads than keys, and no keys
        # hint: who zeroes slot 40 if a block has 32 threads?
        seed = checking.secret_seed()
        for n, bins, blocks, threads in ((0, 5, 2, 32), (1, 1, 1, 1), (97, 512, 2, 33), (5, 40, 3, 7), (700, 3, 2, 256)):
            check_shared(make_keys("uniform", n, bins, seed + n), bins, blocks, threads)
        ### END HIDDEN TESTS
    with credit.check("strays, and counts that do not start at 0", points=1, hint="what do the other blocks bring?"):
        check_shared(mixed_keys(500, 9, seed=3), 9, blocks=2, threads=32, before=1000)
        ### BEGIN HIDDEN TESTS
        # check: strays beside bins that fill the window
        # hint: which keys belong to the window? Both ends count
        check_shared(mixed_keys(600, 512, checking.secret_seed()), 512, blocks=2, threads=64, before=3)
        ### END HIDDEN TESTS
    with credit.check("several windows", points=2, hint="print first and width of each window for 1,100 bins"):
        check_shared(make_keys("uniform", 2000, 1100, seed=4), 1100, blocks=2, threads=64)
        ### BEGIN HIDDEN TESTS
        # check: window edges: one bin more than a window, two full ones, and strays
        # hint: where does the last window end, and in which window does bin 512 lie?
        for bins in (513, 1024, 1537):
            keys = mixed_keys(900, bins, checking.secret_seed() + bins)
            keys[:3] = 511, 512, bins - 1  # both sides of an edge and the last bin, whatever was drawn
            check_shared(keys, bins, blocks=2, threads=96, before=1)
        ### END HIDDEN TESTS
    with credit.check("global memory: each key once a window, coalesced", points=2, hint="print the profile of a launch"):
        total = check_shared(make_keys("uniform", 4096, 64, seed=5), 64, blocks=2, threads=128)
        checking.equal(total.loads, 4096, what="loads from global memory in one window")
        # 128 warps' loads of 4 sectors; 2 blocks flush 64 bins by 2 instructions of 8 sectors each at most.
        assert total.sectors <= 128 * 4 + 2 * 2 * 8, f"{total.sectors} sectors; 544 are enough. Who counts where?"
        total = check_shared(make_keys("uniform", 4096, 1024, seed=6), 1024, blocks=1, threads=256)
        checking.equal(total.loads, 2 * 4096, what="loads from global memory in two windows")
    return credit.total()


test_unit_shared()


# %% [markdown]
# ### What just happened?
#
# The atomics have moved. There are even a few more of them than before, but nearly all are now in shared memory, where an atomic needs no trip to the L2 cache, and where the blocks cannot get into each other's way. You have seen this shape before: the partial sums of 1.3.1 are a histogram with a single bin.

# %% nbgrader={"grade": false, "grade_id": "hist-split", "locked": true, "schema_version": 3, "solution": false, "task": false}
def atomics_in(profile, space):
    """Atomics in "global" or "shared" memory."""
    sites = {site for (site, _), sample in profile.samples.items() if sample.space == space}
    return sum(profile.sites[site].atomics for site in sites)


# %%
def where_atomics_go():
    keys = make_keys("skewed", 4096, 64, seed=7)
    for kernel in (global_histogram, shared_histogram):
        _, profile = count(kernel, keys, 64, 2, 128)
        print(kernel.py_func.__name__, {space: atomics_in(profile, space) for space in ("global", "shared")})


insight.run(where_atomics_go, needs="Exercises 2 and 3")


# %% [markdown]
# ### Systems insight 2 of 3: how many tables?
#
# *Checkpoint:* private histograms, one for each block. More blocks make shorter queues in shared memory and more flushing. The model says: about $b + np/b$ additions wait for the hottest bin, `b` in global memory and on average `np/b` in a block's tile, with the least at $b = \sqrt{np}$. *Predict before you run:* with 16,384 keys of which some 40 % share a bin, where is the minimum? And how many global atomics does each number of blocks cost?

# %%
def queues_by_blocks(n=16_384, bins=256, grids=(1, 4, 16, 64, 256)):
    """The model's queue at the hottest bin, and the global atomics that your kernel did, counted."""
    keys, rows = make_keys("skewed", n, bins, seed=8), {}
    for blocks in grids:
        got, profile = count(shared_histogram, keys, bins, blocks, 64)
        flushed = atomics_in(profile, "global")
        rows[blocks] = blocks + got.max() / blocks
        print(f"{blocks:3} blocks: {flushed:5} global atomics; hottest bin: about {rows[blocks]:6.0f} additions wait")
    print("the model's best number of blocks:", round(math.sqrt(got.max())))
    return rows


# %%
queues = insight.run(queues_by_blocks, needs="Exercise 3 (shared_histogram)")
if queues:
    label = "additions at the hottest bin"
    insight.bars({f"{b} blocks": q for b, q in queues.items()}, ylabel=label, title="16,384 skewed keys", log=True)

# %% [markdown]
# One block is one long queue; 256 blocks have so few keys each that most of a tile is flushed for one or two strokes. The optimum is flat, so you need not hit it: a few blocks for each multiprocessor are near it for the sizes of practice.
#
# *In production* the grid of a histogram is therefore tied to the machine and not to the data, and the privatised kernel is left alone when there are far more bins than keys for each block: then almost every key is a flush of its own, and global atomics are the better kernel.

# %% [markdown]
# ## Part 4: Several sheets on a table
#
# Constant keys still make all 32 lanes of a warp wait for one slot of the tile. So give a block several copies of its histogram, and let neighbouring lanes use different ones: thread `t` counts in copy `t % COPIES`. With 8 copies a warp's queue has at most 4 lanes.
#
# Where in the tile do the copies lie? Slots of different copies are different words, and words of one *bank* are served one after the other. Three layouts for `bins = 256`; the slot of copy `c` and bin `b` is

# %% nbgrader={"grade": false, "grade_id": "hist-copies", "locked": true, "schema_version": 3, "solution": false, "task": false}
COPIES = 8
SPREAD_BINS = 256  # at most, for spread_histogram
SLOTS = COPIES * (SPREAD_BINS + 1)  # of its tile: some padding is possible

# %%
c, b = np.arange(COPIES), np.arange(32)
for name, by_bin, by_copy in (("256 c + b", 1, 256), ("8 b + c", 8, 1), ("257 c + b", 1, 257)):
    hot = np.bincount(by_copy * c % 32).max()  # all copies of bin 0
    merge = np.bincount(by_bin * b % 32).max()  # 32 threads read 32 bins of copy 0
    print(f"{name:9}: the 8 copies of a bin take {hot} turns, reading 32 bins of a copy takes {merge}")


# %% [markdown]
# The first layout is the obvious one, and in it all copies of a bin share a bank: nothing is gained. The second cures that and makes the merge stumble. A pitch that is *odd* does both.
#
# **Exercise 4 (6 points).** Write `spread_histogram`: as `shared_histogram`, for at most SPREAD_BINS bins (no windows), with COPIES copies.

# %% nbgrader={"grade": false, "grade_id": "hist-spread", "locked": false, "schema_version": 3, "solution": true, "task": false}
@cuda.jit
def spread_histogram(keys, counts):
    """Add to counts[k] how often k occurs among the keys; each block counts in COPIES private histograms.

    Args:
        keys: int32, shape (n,), any n, any values; those outside 0 .. bins - 1 are dropped. Comes out unchanged.
        counts: int32, shape (bins,), 1 <= bins <= SPREAD_BINS. Old values count: the histogram is added to them.

    Launch: [blocks, threads], one-dimensional, any numbers. Thread g of G owns the keys g, g + G, g + 2 G, ...; thread t
    of a block counts in copy t % COPIES. One atomic in shared memory for each valid key, one in global memory for each
    bin that a block has met. For 256 bins the copies of a bin lie in different banks, and no access to shared memory
    outside the atomics has a bank conflict.

    TODO: Zero the copies, count in the thread's own copy, and let one thread for each bin merge and flush.

    APPROACH:
        1. Choose the distance of two copies so that it is odd, because then 32 copies would lie in 32 banks.
        2. Count at the slot of the thread's copy, still atomically, because four lanes of each warp share it.
        3. Add the copies of a bin in a register and flush the total, because a global atomic is the dear one.

    EXAMPLE:
        >>> counts = np.zeros(3, np.int32)
        >>> spread_histogram[2, 32](np.array([2, 0, 2, -1, 7, 2], np.int32), counts)
        >>> counts
        array([1, 0, 3], dtype=int32)

    HINTS:
        1. Start from your shared_histogram without its outermost loop.
        2. Zeroing now covers all copies; which slots do you use in all?
        3. `counts.size | 1` is the size itself if that is odd, and one more if it is even.
    """
    tile = cuda.shared.array(SLOTS, int32)
    ### BEGIN SOLUTION
    t = cuda.threadIdx.x
    bins = counts.size
    pitch = bins | 1
    for slot in range(t, COPIES * pitch, cuda.blockDim.x):
        tile[slot] = 0
    cuda.syncthreads()
    mine = t % COPIES * pitch
    for i in range(cuda.grid(1), keys.size, cuda.gridsize(1)):
        k = keys[i]
        if 0 <= k < bins:
            cuda.atomic.add(tile, mine + k, 1)
    cuda.syncthreads()
    for b in range(t, bins, cuda.blockDim.x):
        total = 0
        for copy in range(COPIES):
            total += tile[copy * pitch + b]
        if total != 0:
            cuda.atomic.add(counts, b, total)
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "hist-check-spread", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_spread(keys, bins, blocks, threads, before=0):
    """Counts are NumPy's, and no atomic is spent in vain."""
    got, profile = count(spread_histogram, keys, bins, blocks, threads, before)
    what = f"spread_histogram[{blocks}, {threads}] on {keys.size} keys in {bins} bins"
    checking.equal(got, true_counts(keys, bins, before), what=f"counts of {what}", hint="are all copies zeroed, and added?")
    atomics = private_atomics(keys, bins, blocks, threads)
    hint = "one for each valid key, and one for each bin that a block has met: merge before you flush"
    checking.equal(profile.total.atomics, atomics, what=f"atomics of {what}", hint=hint)
    return profile


def banks_of_first_warp(profile):
    """Banks of the different slots that the first warp's atomics in shared memory went to."""
    shared = [s for (site, _), s in profile.samples.items() if s.space == "shared" and profile.sites[site].atomics]
    assert shared, "no atomic in shared memory was counted"
    slots = np.unique(shared[0].addresses[shared[0].addresses >= 0] // 4)
    return slots % 32


# %% nbgrader={"grade": true, "grade_id": "test-hist-spread", "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
# Checks: counts equal to NumPy's for any grid, the longest queue of a warp, banks of the copies, banks of the merge.
# Fails if: a copy is not zeroed or not merged, the copies go by warp instead of lane, or their distance is a power of two.
# A pass: the worst input costs a warp 4 turns in place of 32.
def test_unit_spread():
    credit = checking.Credit(6)
    with credit.check("any keys, any grid", points=2, hint="follow one bin through zeroing, counting and merging"):
        check_spread(make_keys("uniform", 300, 8, seed=1), 8, blocks=1, threads=32)
        check_spread(make_keys("skewed", 1000, 100, seed=2), 100, blocks=3, threads=64, before=7)
        ### BEGIN HIDDEN TESTS
        # check: few threads, few bins, the most bins, strays, no keys
        # hint: which slots do you use in all, and who zeroes the last of them?
        seed = checking.secret_seed()
        for n, bins, blocks, threads in ((0, 5, 2, 32), (1, 1, 1, 1), (97, 256, 2, 33), (300, 255, 3, 7), (700, 3, 2, 250)):
            check_spread(mixed_keys(n, bins, seed + n), bins, blocks, threads, before=n)
        ### END HIDDEN TESTS
    constant = make_keys("constant", 4096, 256, seed=3)
    with credit.check("a warp's queue is 32 / COPIES", points=2, hint="which lanes of a warp share a copy?"):
        total = check_spread(constant, 256, blocks=2, threads=128).total
        assert total.contention <= 32 // COPIES, f"{total.contention} lanes of a warp wait for one slot; 4 are enough"
        # 128 warps' instructions take 4 turns each; 2 flushes of one bin take one each.
        assert total.serialised <= 128 * 4 + 2, f"{total.serialised} turns for all atomics; 514 are enough"
    with credit.check("copies of a bin in different banks", points=1, hint="what is the pitch modulo 32?"):
        banks = banks_of_first_warp(check_spread(constant, 256, blocks=1, threads=64))
        assert np.unique(banks).size == banks.size, f"slots of one bin lie in banks {banks.tolist()}"
    with credit.check("zeroing and merging without bank conflicts", points=1, hint="what do 32 neighbours read?"):
        total = check_spread(make_keys("uniform", 512, 256, seed=4), 256, blocks=1, threads=128).total
        checking.equal(total.max_ways, 1, what="turns of the worst load or store in shared memory")
    return credit.total()


test_unit_spread()


# %% [markdown]
# ### What just happened?
#
# You bought shorter queues with memory: eight tiles for one. Each thread does nearly the same work for each key as before, only in another place.

# %%
def slots_and_banks():
    _, profile = count(spread_histogram, make_keys("constant", 64, 256, seed=3), 256, 1, 32)
    return {"banks of bin 0": banks_of_first_warp(profile).tolist(), "bytes of the tile": profile.shared_bytes}


insight.run(slots_and_banks, needs="Exercise 4 (spread_histogram)")


# %% [markdown]
# ### Systems insight 3 of 3: what copies buy, and what they cost
#
# *Checkpoint:* three kernels. *Predict before you run:* turns of all atomics for each kernel on uniform, skewed and constant keys. On which of the three inputs does `spread_histogram` gain too little to pay for its price, zeroing and merging? And how many blocks of 128 threads fit on a multiprocessor of your Spark (100 KiB of shared memory, 48 warps) with each tile?

# %%
def turns_and_memory(n=8192, bins=256, threads=128):
    """Turns of all atomics for three kernels and three inputs, and shared memory: counted while the kernels run."""
    table = {}
    for kernel in (global_histogram, shared_histogram, spread_histogram):
        row = {}
        for kind in ("uniform", "skewed", "constant"):
            _, profile = count(kernel, make_keys(kind, n, bins, seed=1), bins, 8, threads)
            row[kind] = profile.total.serialised
        name, rest = kernel.py_func.__name__, profile.total.shared_requests
        table[name], fit = row, profile.occupancy(cc=(12, 0))
        print(f"{name:16} turns {row}, zeroing and merging {rest} accesses of warps")
        print(f"{'':16} {profile.shared_bytes} bytes a block: {fit['blocks']} blocks fit, limited by {fit['limited_by']}")
    return table


# %%
turns_seen = insight.run(turns_and_memory, needs="Exercises 2 to 4")
if turns_seen:
    worst = {name: row["constant"] for name, row in turns_seen.items()}
    insight.bars(worst, ylabel="turns of all atomics", title="8,192 constant keys, 8 blocks of 128 threads")

# %% [markdown]
# On constant keys copies take seven eighths of the queue away. On uniform ones they save some 200 turns and pay for them with several times as many accesses to zero and merge eight tiles in place of one. A kernel has to choose before it sees the data. NVIDIA's CUB takes another way to the same end: one tile for each block, and each thread first joins runs of equal neighbours (the second challenge below).
#
# *In production* the same choice returns as the *level of privatisation*: one accumulator for each device, block, warp or thread. The hotter the target and the smaller the accumulator, the lower you go. The sum of 1.3.1 went all the way down, to a register for each thread.

# %% [markdown]
# ## Part 5: From a histogram to a threshold
#
# Which gradient entries are the `k` largest? You need one number, the magnitude of the `k`-th largest, and then one comparison for each entry. *Radix select* finds it without sorting:
#
# The bits of a non-negative float32, read as an integer, are in the order of the numbers. So look at the 8 highest bits of each (a *digit*): a histogram of 256 bins. Walk down from digit 255 until `k` numbers are passed: now you know the threshold's first digit, and how many of the `k` remain to be found among the numbers that start with it. Only those stay in the game; look at their next 8 bits. After four rounds all 32 bits are known.

# %%
magnitudes = np.array([0.0, 1e-30, 0.001, 0.5, 1.0, 1.5, 2.0, 3e38], np.float32)
for value in magnitudes:
    print(f"{value:8.1e} = {value.view(np.int32):10} = digits {list(value.byteswap().tobytes())}")

# %% [markdown]
# The kernel that cuts the digits is given. It writes a *key* for each number: the digit, or -1 for a number that is out of the game. Your kernels drop those.

# %% nbgrader={"grade": false, "grade_id": "hist-digits", "locked": true, "schema_version": 3, "solution": false, "task": false}
RADIX = 256
THREADS = 256  # of a block


def blocks_for(n):
    """Blocks of THREADS threads that give each of n elements a thread."""
    return math.ceil(n / THREADS)


@cuda.jit
def digits(words, shift, prefix, keys):
    """keys[j] = the 8 bits of |x[j]| from bit `shift` on, if all bits above them are `prefix`; else -1.

    words: int32, the bits of the float32 numbers x; the sign is ignored. One thread for each.
    """
    j = cuda.grid(1)
    if j < words.size:
        word = words[j] & 0x7FFFFFFF
        keys[j] = (word >> shift) & 255 if word >> (shift + 8) == prefix else -1


# %%
def keys_of(x, shift, prefix):
    words = np.array(x, np.float32).view(np.int32)
    return launching.launch(digits, 1, 32, words, shift, prefix, launching.out(words.size, np.int32)).out.tolist()


print("first digits of 0.5, 1, -1.5, 2:", keys_of([0.5, 1, -1.5, 2], 24, 0))
print("second digits of those with 63: ", keys_of([0.5, 1, -1.5, 2], 16, 63))


# %% [markdown]
# **Exercise 5 (5 points).** Write `kth_largest`, a function on the host. The data stay on the device; only the 256 counts of each round come back.

# %% nbgrader={"grade": false, "grade_id": "hist-select", "locked": false, "schema_version": 3, "solution": true, "task": false}
def kth_largest(x: np.ndarray, k: int) -> float:
    """The k-th largest of |x|, by four rounds of radix select with histograms of 8 bits each, from the top.

    Args:
        x: float32, shape (n,), not necessarily contiguous, without NaN. Comes out unchanged.
        k: 1 for the largest magnitude, n for the smallest; equal magnitudes count as often as they occur.

    Returns:
        The magnitude, exactly, as a Python float.

    Raises:
        ValueError: k is not in 1 .. n.

    In each of the four rounds the kernel `digits` is launched once, and one of your three histogram kernels counts
    all its keys.

    TODO: Fix the threshold's digits from the highest to the lowest, each by a histogram of the numbers still in the game.

    APPROACH:
        1. Copy the bits to the device once, because the bus is slower than any kernel.
        2. In each round count the digits and walk from 255 down until k numbers are passed, because the largest come first.
        3. Take from k what lies above the digit, and append the digit to the prefix, because the next round sees
           only numbers with that prefix.

    EXAMPLE:
        >>> kth_largest(np.array([0.5, -3, 2, 0, 2], np.float32), 3)
        2.0

    HINTS:
        1. np.ascontiguousarray(x).view(np.int32) are the bits; cuda.to_device and cuda.device_array put arrays there.
        2. [blocks_for(x.size), THREADS] launches either kernel. Counts start at 0 in each round.
        3. The prefix grows by 8 bits a round, the new digit lowest. In the end it is the number itself: view its bits.
    """
    ### BEGIN SOLUTION
    if not 1 <= k <= x.size:
        raise ValueError(f"k must be in 1 to {x.size}, not {k}")
    words = cuda.to_device(np.ascontiguousarray(x).view(np.int32))
    keys = cuda.device_array(x.size, np.int32)
    prefix = 0
    for shift in (24, 16, 8, 0):
        digits[blocks_for(x.size), THREADS](words, shift, prefix, keys)
        counts = cuda.to_device(np.zeros(RADIX, np.int32))
        spread_histogram[blocks_for(x.size), THREADS](keys, counts)
        found = counts.copy_to_host()
        for digit in reversed(range(RADIX)):
            if found[digit] >= k:
                break
            k -= int(found[digit])
        prefix = prefix * RADIX + digit
    return float(np.array(prefix, np.int32).view(np.float32))
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "hist-check-select", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_select(x, k):
    """The threshold is that of a sort, and the kernels have counted every candidate of every round."""
    run = launching.call(kth_largest, x, k)
    ranked = np.sort(np.abs(x))[::-1]
    what = f"kth_largest of {x.size} numbers, k = {k}"
    checking.equal(run.result, float(ranked[k - 1]), what=what, hint="print digit and k after each round")
    words, found = ranked.view(np.int32).astype(np.int64), int(ranked.view(np.int32)[k - 1])
    candidates = sum(int((words >> (s + 8) == found >> (s + 8)).sum()) for s in (24, 16, 8, 0))
    assert run.profile.kernels.get("digits") == 4, f"launches: {run.profile.kernels}, and digits should be there 4 times"
    mine = {"global_histogram", "shared_histogram", "spread_histogram"} & run.profile.kernels.keys()
    assert mine, "none of your histogram kernels was launched"
    assert run.profile.total.atomics >= candidates, f"{run.profile.total.atomics} atomics for {candidates} candidates"


# %% nbgrader={"grade": true, "grade_id": "test-hist-select", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
# Checks: the exact k-th largest magnitude for many k, ties, zeros, extremes, and that your kernels counted all rounds.
# Fails if: k is not reduced by what lies above, the sign is kept, counts go on from the last round, or NumPy sorts.
# A pass: four histograms find one number among all.
def gradient_like(n, seed):
    """n float32 of both signs, from 1e-9 to 1e+2, a tenth of them zero."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(n) * 10.0 ** rng.uniform(-9, 2, n) * (rng.random(n) > 0.1)).astype(np.float32)


def test_unit_select():
    credit = checking.Credit(5)
    with credit.check("a handful of numbers", points=2, hint="do the first round by hand, with a pencil"):
        x = np.array([0.5, -3, 2, 0, 2, 1e-20, -1e20], np.float32)
        for k in range(1, 8):
            check_select(x, k)
    with credit.check("many numbers, with ties", points=2, hint="how many of the k are left after a round?"):
        check_select(gradient_like(1000, seed=1), 10)
        ### BEGIN HIDDEN TESTS
        # check: first, last and middle ranks
        # hint: what if the walk ends at the very first digit, or at the very last?
        x = gradient_like(777, checking.secret_seed())
        for k in (1, 2, 77, 389, 776, 777):
            check_select(x, k)
        # check: ties, and numbers that differ in their last bits only
        # hint: a tie is counted as often as it occurs, in the last round as well
        check_select(np.repeat(np.float32([1.5, -1.5, 0.25]), 100), 200)
        close_by = (np.float32(1).view(np.int32) + np.arange(600, dtype=np.int32)).view(np.float32)
        check_select(close_by, 255)
        # check: the largest numbers, infinities, and one number alone
        # hint: an infinity is larger than every number, and its bits say so too
        check_select(np.array([-np.inf, 3e38, -1e-45, np.inf, 0], np.float32), 2)
        check_select(np.array([-2.5], np.float32), 1)
        ### END HIDDEN TESTS
    with credit.check("strides, and a k that cannot be", points=1, hint="which k have an answer?"):
        check_select(gradient_like(100, seed=2)[::3], 5)
        for k in (0, -1, 8):
            checking.raises(ValueError, kth_largest, np.ones(7, np.float32), k, what=f"k = {k} of 7 numbers")
    return credit.total()


test_unit_select()


# %% [markdown]
# ### What just happened?
#
# A threshold among any number of values, by reading each four times, and writing and reading one key for each in every round. A sort would have moved all of them several times. The rounds differ much: a gradient's first digits (its exponents) are crowded into a few bins, a hot spot, while its last digits are as good as random.

# %%
def in_the_game(x, k):
    """How many numbers share the first 0, 1, 2 and 3 digits of the threshold."""
    words, found = np.abs(x).view(np.int32), int(np.float32(kth_largest(x, k)).view(np.int32))
    return [int((words >> bits == found >> bits).sum()) if bits < 32 else x.size for bits in (32, 24, 16, 8)]


insight.run(lambda: in_the_game(gradient_like(5000, seed=1), k=50), needs="Exercise 5 (kth_largest)")


# %% [markdown]
# ## Put it together
#
# Floats in, counts out: `find_bins` and `shared_histogram` are a `np.histogram` for any number of bins. This test earns the last two points, and asks for equality, not for closeness. `test_unit_all` then calls every test of the lab again and says which pass.

# %% nbgrader={"grade": false, "grade_id": "hist-pipeline", "locked": true, "schema_version": 3, "solution": false, "task": false}
def histogram(x, bins, low, high):
    """Counts and edges, as np.histogram(x, bins, (low, high)), by your kernels."""
    edges = np.linspace(low, high, bins + 1, dtype=np.float32)
    blocks = x.size // 128 + 1
    keys = launching.launch(find_bins, blocks, 128, x, edges, launching.out(x.size, np.int32)).out
    return count(shared_histogram, keys, bins, min(blocks, 32), 128)[0], edges


# %% nbgrader={"grade": true, "grade_id": "test-hist-module", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Checks: find_bins and shared_histogram together against np.histogram, in one window and in three.
# Fails if: either is wrong for a value at an edge, a stray, or a bin beyond the first window.
# A pass: equal integers.
def test_module():
    for bins, low, high in ((50, -2.0, 2.0), (1300, 0.0, 1.5)):
        x = np.random.default_rng(bins).standard_normal(2000).astype(np.float32)
        x[:5] = low, high, np.nan, np.inf, -np.inf
        got, edges = histogram(x, bins, low, high)
        checking.equal(got.astype(np.int64), np.histogram(x, bins, (low, high))[0], what=f"counts in {bins} bins")
        ### BEGIN HIDDEN TESTS
        # check: values on a coarse grid, most of them exactly at an edge
        # hint: hold find_bins against a value that is an edge, then look at the last bin
        coarse = np.random.default_rng(checking.secret_seed()).choice(edges, 1500)
        got, want = histogram(coarse, bins, low, high)[0], np.histogram(coarse, bins, (low, high))[0]
        checking.equal(got.astype(np.int64), want, what=f"counts of edges in {bins} bins")
        ### END HIDDEN TESTS


test_module()


# %%
def test_unit_all():
    """Call every test again; say how each one ends."""
    tests = (test_unit_bins, test_unit_global, test_unit_shared, test_unit_spread, test_unit_select, test_module)
    for test in tests:
        try:
            points = test()
            verdict = "passes" if points is None else f"earns {points:g} points"
        except Exception as error:
            verdict = f"fails: {type(error).__name__}"
        print(f"==> {test.__name__} {verdict}")


# %%
test_unit_all()

# %% [markdown]
# ## Use it: send one per cent of a gradient
#
# When several machines train together, they exchange gradients. *Top-k compression* sends only the largest entries and keeps the rest for the next step. Your `kth_largest` finds the threshold; your `histogram` shows what it cuts off. The gradient below is heavy-tailed, as real ones are.

# %%
gradient = np.random.default_rng(9).standard_t(df=2, size=20_000).astype(np.float32) * np.float32(1e-3)


def compress(keep):
    threshold = kth_largest(gradient, int(keep * gradient.size))
    sent = np.abs(gradient) >= threshold
    share = float((gradient[sent].astype(np.float64) ** 2).sum() / (gradient.astype(np.float64) ** 2).sum())
    return threshold, int(sent.sum()), share


# %%
for keep in (0.1, 0.01, 0.001):
    answer = insight.run(lambda keep=keep: compress(keep), needs="Exercise 5 (kth_largest)")
    if answer:
        print(f"keep {keep:5.1%}: threshold {answer[0]:.4f}, {answer[1]} entries, {answer[2]:.0%} of the squared norm")

# %%
import matplotlib.pyplot as plt

shown = insight.run(lambda: (histogram(gradient, 100, -0.03, 0.03), compress(0.01)), needs="Exercises 1, 3 and 5")
if shown:
    (got, edges), (threshold, _, _) = shown
    axes = plt.figure(figsize=(7, 3)).gca()
    axes.stairs(got, edges, fill=True, color="0.7")
    for sign in (-1, 1):
        axes.axvline(sign * threshold, color="tab:orange")
    axes.set(yscale="log", xlabel="gradient", ylabel="entries", title="what lies outside the lines is sent: 1 %")

# %% [markdown]
# ## On your Spark
#
# Now the real size: 2**28 values, 1 GiB, far more than any cache. Your kernels run as they are.
#
# 1. Start the container `nvcr.io/nvidia/pytorch:25.11-py3` with `--gpus all --ipc=host` (lab 1.1.3) and install the course's packages in it; `python -m labkit` should greet your Spark by name.
# 2. CPU and GPU share the 128 GB, and the page cache holds on to what it can. Clear it: `sudo sh -c 'sync; echo 3 > /proc/sys/vm/drop_caches'`.
# 3. Run the next cells. Each histogram counts uniform keys and constant ones; `torch.bincount` does the same beside it, and the roof is a copy measured in the same process.
# 4. Then `ncu --set full -k regex:histogram -c 6 python your_script.py`: compare *L2 atomic throughput* and *shared memory bank conflicts* of the kernels.
#
# Measure: milliseconds and GB/s for each kernel on both inputs, and the ratio constant to uniform. On another GPU do the same. Without one, predict the ratio of each kernel from systems insight 3, and leave the record empty. This section has not yet been measured on a GPU by the authors; your numbers are news.

# %%
from labkit import fullsize, timing


def full_size_bins(x, bins, threads):
    """find_bins on x, beside torch.bucketize. Returns the row, and the keys on the device."""
    import torch

    edges = np.linspace(0, 1, bins + 1, dtype=np.float32)
    keys, there, borders = cuda.device_array(x.size, np.int32), cuda.to_device(x), cuda.to_device(edges)
    blocks = math.ceil(x.size / threads)
    clock = timing.measure(lambda: find_bins[blocks, threads](there, borders, keys), repeats=10)
    sample = slice(0, 2**20)
    assert (keys[sample].copy_to_host() == true_bins(x[sample], edges)).all(), "find_bins is wrong"
    tensor, inner = torch.from_numpy(x).to("cuda"), torch.from_numpy(edges[1:-1].copy()).to("cuda")
    library = timing.measure(lambda: torch.bucketize(tensor, inner, out_int32=True, right=True), repeats=10).median
    return fullsize.Measured("find_bins", clock.median, 8 * x.size, library_s=library), keys


# %%
def full_size_counts(kernel, kind, keys, bins, threads):
    """One kernel on keys that lie on the device, beside np.bincount and torch.bincount."""
    import torch

    blocks = 8 * cuda.get_current_device().MULTIPROCESSOR_COUNT
    host = keys.copy_to_host()
    tensor, counts = torch.from_numpy(host).to("cuda"), cuda.to_device(np.zeros(bins, np.int32))
    kernel[blocks, threads](keys, counts)
    assert (counts.copy_to_host() == np.bincount(host, minlength=bins)).all(), f"{kernel.py_func.__name__} is wrong"
    clock = timing.measure(lambda: kernel[blocks, threads](keys, counts), repeats=10)
    cpu = fullsize.cpu_seconds(lambda: np.bincount(host, minlength=bins), repeats=1)
    library = timing.measure(lambda: torch.bincount(tensor, minlength=bins), repeats=10).median
    name = f"{kernel.py_func.__name__}, {kind}"
    return fullsize.Measured(name, clock.median, 4 * host.size, cpu_s=cpu, library_s=library)


# %%
def full_size(n=2**28, bins=256, threads=256):
    """find_bins on n float32, and each histogram on n uniform keys and on n equal ones."""
    hardware.require_gpu("the full-size run")
    row, uniform = full_size_bins(np.random.default_rng(0).random(n, dtype=np.float32), bins, threads)
    rows, kernels = [row], (global_histogram, shared_histogram, spread_histogram)
    for kind, keys in (("uniform", uniform), ("constant", cuda.to_device(np.zeros(n, np.int32)))):
        rows += [full_size_counts(kernel, kind, keys, bins, threads) for kernel in kernels]
    return rows


# %%
def against_the_roof():
    """GB/s of each kernel and of a copy, from one run."""
    rows, roofs = full_size(), fullsize.roofs()
    fullsize.show(rows, roofs)
    return {"roof (copy)": roofs.bandwidth / 1e9} | {row.kernel: row.nbytes / row.seconds / 1e9 for row in rows}


# %%
if device.simulated:
    print("No GPU here: the simulator is not made for 2**28 keys.")
else:
    speeds = insight.run(against_the_roof, needs="Exercises 1 to 4")
    if speeds:
        insight.bars(speeds, ylabel="GB/s", title=f"2**28 values on {device}", log=True)

# %% [markdown]
# **Record** what you measured: replace each `None`. The cell after it looks at the form; a person looks at the content.

# %%
spark_record = {
    "device": None,                # such as "NVIDIA GB10"
    "keys": None,                  # such as 2**28
    "roof_gb_per_s": None,         # the copy, measured in the same run
    "uniform_ms": {"global_histogram": None, "shared_histogram": None, "spread_histogram": None},
    "constant_ms": {"global_histogram": None, "shared_histogram": None, "spread_histogram": None},
}


# %% nbgrader={"grade": false, "grade_id": "hist-record", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_record(record):
    """Whether the record is complete and possible. Nothing is graded here."""
    times = {f"{kind} {name}": ms for kind in ("uniform_ms", "constant_ms") for name, ms in record[kind].items()}
    missing = [name for name, value in (record | times).items() if value is None]
    if missing:
        return f"Still empty: {', '.join(missing)}. That is fine without a GPU."
    roof = record["roof_gb_per_s"]
    if not 10 < roof < 10_000:
        return f"A roof of {roof} GB/s? Copies on today's GPUs reach 10 to 10,000 GB/s; look at the units."
    least = 4 * record["keys"] / (1.2 * roof * 1e6)  # milliseconds
    too_fast = [name for name, ms in times.items() if ms < least]
    if too_fast:
        return f"Faster than reading the keys: {', '.join(too_fast)}. Was the cache flushed, and n at least 2**26?"
    ratio = {name: ms / record["uniform_ms"][name] for name, ms in record["constant_ms"].items()}
    return f"{record['device']}: constant keys take " + ", ".join(f"{r:.1f} x ({name})" for name, r in ratio.items())


# %%
print(check_record(spark_record))

# %% [markdown]
# ## Common mistakes
#
# **1. `+=` in place of an atomic.** Read, add, write: 32 lanes read the same old count, and one addition survives.
#
# ```python
# counts[k] += 1                                  # wrong
# cuda.atomic.add(the array, the bin, 1)          # right
# ```
#
# **2. A negative key.** An index below 0 counts from the end, in a kernel as in Python, and nothing complains.
#
# ```python
# if k < counts.size: ...          # wrong: -1 goes to the last bin
# both ends are asked for: ...     # right
# ```
#
# **3. No barrier after the zeroing.** A fast warp counts into slots that a slow one wipes a moment later. With one warp in a block it never happens, which is the trouble.
#
# ```python
# zero the tile                        zero the tile
# count                # wrong         wait for all of the block      # right
# ```

# %% [markdown]
# **4. The flush overwrites.** It is right with one block, and the last block wins with two.
#
# ```python
# counts[b] = tile[b]                       # wrong
# an atomic addition of what is in the tile # right: the other blocks bring theirs
# ```
#
# **5. The formula is believed.** `int((v - low) / (high - low) * bins)` is off by one for values at edges. The edges have to decide.
#
# **6. A copy for each warp.** It shortens queues *between* warps. Within one, all 32 lanes still meet.
#
# ```python
# copy = t // 32 % COPIES                   # wrong here: a warp's queue stays 32 long
# copy = the lane, modulo COPIES            # right: at most 4 lanes share a slot
# ```
#
# **7. Copies a power of two apart.** 256 words apart is in the same bank: the queue moves from the slot to the bank.
#
# **8. `k` is not reduced.** After the first round of the select, `k` still counts from the very top, and the second digit is chosen too low.

# %% [markdown]
# ## Reflect
#
# Three questions, read by a person, on your own kernels and measurements. A few sentences and the numbers are enough.

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-histogram-turns", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Question 1: memory (3 points).** Take the turns of *your* three kernels on constant keys from systems insight 3. (a) Derive each of the three numbers from n = 8,192, 8 blocks and COPIES. (b) `global_histogram` and `shared_histogram` take nearly the same number of turns. Why is the second expected to be faster on a GPU all the same? Name two reasons that your counts support. (c) What does 32 copies cost in shared memory for 256 bins, and what for the occupancy? Would you do it?
#
# ### BEGIN SOLUTION
# (a) global: 256 warp instructions of 32 turns, 8,192. shared: the same in the tiles, and each of the 8 blocks flushes one bin: 8,200. spread: 256 instructions of 4 turns and 8 flushes: 1,032. (b) The turns are in another place: shared memory is on the multiprocessor, while a global atomic is done at the L2 cache; and the blocks' queues run side by side in 8 tiles, while all 8,192 global additions wait at one address: the global atomics fall from 8,192 to 8. (c) 32 * 257 * 4 = 32,896 bytes in place of 8,224. A multiprocessor with 100 KiB for shared memory holds 3 such blocks (1 KiB each is reserved) in place of 11: with 128 threads each, 12 warps of 48, which hides little latency. With blocks of 512 threads it is the same memory for 48 warps; only for inputs that are known to be almost constant.
#
# ### BEGIN MARK SCHEME
# - 1 point: all three from n / 32 instructions, lanes per slot and flushes. Half: two of them, or without the flushes.
# - 1 point: two of: nearer memory, parallel queues in the tiles, fewer global atomics (8 in place of 8,192). Half: one.
# - 1 point: about 32 KiB, fewer blocks on a multiprocessor, and a decision with a reason. Other limits of a GPU are fine if named. Half: only the bytes.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-histogram-bins", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Question 2: scale (3 points).** You count the tokens of a batch, n = 2**20 keys, in a vocabulary of 128,256 bins. (a) How many passes does your `shared_histogram` make, and how many bytes of keys does it read? How many does `global_histogram` read? (b) With 384 blocks, about how many keys does a block own, and how many of its bins are flushed for a single stroke if tokens were uniform? What does privatisation then save? (c) Real tokens are skewed: the commonest makes up 4 %. Which kernel would you use, or which mixture? Give its queue at the hottest address.
#
# ### BEGIN SOLUTION
# (a) ceil(128256 / 512) = 251 passes: 251 * 4 MiB, about 1.05 GB, against 4.2 MB for the global kernel. (b) 2,731 keys over 128,256 bins: nearly all are alone in their bin (about 2,731**2 / (2 * 128,256) = 29 pairs meet), so about 2,700 flushes for 2,731 keys. Privatisation saves 1 % of the global atomics, for 251 times the reading. (c) A mixture: the window of the 512 commonest tokens (with ids sorted by frequency the first window) in shared memory, everything else by global atomics, in one pass. The hottest token: 0.04 * 2**20 = 42,000 additions at one global address in the global kernel; in the mixture 384 flushes, and 109 in each tile.
#
# ### BEGIN MARK SCHEME
# - 1 point: 251 passes (or the number for their window) and both volumes. Half: the passes only.
# - 1 point: n / blocks keys, almost all alone in their bin, so that nothing is saved. Half: without numbers.
# - 1 point: a choice with the queue n p (and blocks, n p / blocks for a private part). The global kernel alone is fine with its 42,000 and a reason. Half: no number.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-histogram-production", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Question 3: production (3 points).** Your `kth_largest` is to compress the gradient of 8 billion parameters in every step. (a) Count what it reads and writes in global memory for each element and round, with `digits` and a histogram as separate kernels, and in all four rounds. What would one fused kernel save? (b) A colleague finds that round 1 takes much longer than round 4. Explain from your own kernels and the digits of a gradient. Which kernel do you choose for round 1? (c) Counts are int32. What goes wrong at 8 billion equal digits, how would it show, and what do you change?
#
# ### BEGIN SOLUTION
# (a) digits reads 4 bytes and writes 4, the histogram reads 4: 12 bytes an element and round, 48 in all: 384 GB for 8 billion. Fused, the keys never exist: 4 bytes a round, 16 in all, a third. (b) The first digit is seven bits of the exponent: magnitudes between 1e-6 and 1e-2 share a few digits, so a warp's lanes meet in few bins and turns go up, like my skewed keys. In round 4 most keys are -1 (out of the game) and the rest is spread. For round 1 spread_histogram: at most 4 lanes meet. (c) A bin can pass 2**31 - 1 and wraps around to a negative number: `found[digit] < k` is then true for a bin that should have ended the walk, the digit comes out too low, and far too much is sent. Use int64 counts in global memory (tiles may stay int32 as long as a block owns fewer than 2**31 keys), or histogram parts of the gradient and add the counts on the host.
#
# ### BEGIN MARK SCHEME
# - 1 point: 12 and 48 bytes (or their own count, derived), and what fusing saves. Half: one of the two.
# - 1 point: few first digits so contention, round 4 mostly dropped; a choice. Half: contention without the digits.
# - 1 point: the wrap at 2**31, its effect on the walk or the threshold, and a remedy. Half: "overflow, use int64".
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# | stage | what it fixed |
# |---|---|
# | `find_bins` | floats become integers, exactly as NumPy decides |
# | `global_histogram` | correct for any data and any grid |
# | `shared_histogram` | queues of a block stay in the block; any number of bins by windows |
# | `spread_histogram` | a warp's worst queue is 4 lanes in place of 32, in different banks |
# | `kth_largest` | four histograms in place of a sort |
#
# The next cell repeats, in numbers, what this notebook counted of *your* code.

# %%
if turns:
    print("turns per warp of global_histogram:", {kind: round(value, 2) for kind, value in turns.items()})
if queues:
    print("additions at the hottest bin, by blocks:", {blocks: round(value) for blocks, value in queues.items()})
if turns_seen:
    print("turns on constant keys:", {name: row["constant"] for name, row in turns_seen.items()})

# %% [markdown]
# ## Challenge (optional)
#
# - **One stroke for a warp.** `cuda.match_any_sync` tells each lane who has the same key. Let one lane of each group add the group's size: how many turns are left on constant keys? On uniform ones?
# - **Runs.** Give each thread 16 keys and let it add a run of equal neighbours at once. For which data does that pay, and what happens to coalescing if its 16 keys are neighbours?
# - **Fuse.** Put `find_bins` and `spread_histogram` into one kernel, so that keys never reach global memory.
# - **Equalise.** A histogram's running sum maps pixel values so that all are equally frequent. Write it for an image of 8-bit pixels.
#
# ## Further reading
#
# - Podlozhnyuk, *Histogram calculation in CUDA* (NVIDIA, 2007): private histograms when shared memory had no atomics.
# - Gómez-Luna, González-Linares, Benavides, Guil, *An optimized approach to histogram computation on GPU* (Machine Vision and Applications, 2013): copies, their layout, padding against bank conflicts.
# - Alabi, Blanchard, Gordon, Steinbach, *Fast k-selection algorithms for graphics processing units* (ACM JEA, 2012): radix and bucket select.
# - Lin, Han, Mao, Wang, Dally, *Deep Gradient Compression* (ICLR 2018): what becomes of the entries that were not sent.
#
# ## Clean up

# %%
plt.close("all")
if not device.simulated:
    cuda.current_context().deallocations.clear()  # give the memory of freed arrays back now
print("Done. You can now read and write the kernels of this module: on to module 1.4.")
