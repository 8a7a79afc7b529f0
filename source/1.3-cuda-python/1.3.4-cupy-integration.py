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
# # Lab 1.3.4: CuPy Integration
#
# | | |
# |---|---|
# | Module | 1.3 CUDA Python and GPU programming |
# | Time | 2 hours |
# | Difficulty | ★★★☆☆ |
# | Hardware | gpu-optional: without a GPU a strict stand-in takes CuPy's place, and kernels run in a simulator |
# | Points | 27 automatic, 9 read by a person |
# | Builds on | 1.2.2 (a preprocessing pipeline in NumPy) |
#
# A pipeline that prepares tables for training runs on the CPU while the GPU waits. You move it over without writing it twice: the same
# functions run on NumPy and on CuPy, data crosses the bus once in each direction, and where a chain of small kernels costs more
# than its arithmetic you put one kernel in its place.

# %% [markdown]
# ## What you'll achieve
#
# 1. **See the machine** (objective 1.3.1): say what a launch, a pass through device memory and a transfer cost, from counts that you took.
# 2. **Write kernels** (1.3.2): one elementwise kernel in C for a chain of six, and a Numba kernel that standardises rows in one launch.
# 3. **Learn a pattern** (1.3.2): array-module-agnostic code, `xp`, as SciPy and scikit-learn use it.
# 4. **Meet the production tool**: `cupy.ElementwiseKernel`, `cupy.RawKernel` and `cupy.fuse`, with CuPy's own rules on what may mix.
# 5. **Weigh a trade-off** (1.3.1): from which size on is the way to the GPU and back worth it?

# %% [markdown]
# ## Before you start
#
# | | |
# |---|---|
# | You have built | a preprocessing pipeline in NumPy (1.2.2), reductions as kernels (1.3.1) |
# | What works | one core prepares a table at a few GB/s at best |
# | The gap | the table is needed on the GPU, whose memory is many times faster; `import cupy as np` looks like the answer |
# | This lab | shows why that is half of it: transfers, launches, hidden waits; and does the other half |
#
# ```
# 1.2.2 pipeline in NumPy ─┐
# 1.3.1 reductions ────────┴─→ 1.3.4 one pipeline, two machines ─→ 1.3.5 profile a training loop
# ```

# %% [markdown]
# **Check yourself 1.** `x` has shape (1000, 16). What are the shapes of `x.mean(axis=0)` and of `x - x.mean(axis=0)`?
#
# <details><summary>Answer</summary>
#
# (16,), one mean a column, and (1000, 16): the (16,) is broadcast over the rows.
# </details>
#
# **Check yourself 2.** Why can `x.sum()` of a million float32 be better in float64, though `x` is float32?
#
# <details><summary>Answer</summary>
#
# Each addition is rounded to the accumulator's precision. `x.sum(dtype=np.float64)` rounds the *steps* to 53 bits; the inputs are exact in it.
# </details>
#
# **Check yourself 3.** A kernel launch returns at once, before the GPU is done. What makes Python wait?
#
# <details><summary>Answer</summary>
#
# Anything that needs a value on the host: a copy back, printing, `float(x)`, `if x.any():`, an array whose length depends on values.
# </details>

# %% nbgrader={"grade": false, "grade_id": "cupy-setup", "locked": true, "schema_version": 3, "solution": false, "task": false}
from labkit import hardware

device = hardware.prepare_cuda()  # before numba.cuda is imported: it may have to simulate

import math
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
from labkit import checking, fullsize, insight, launching, standin, timing
from numba import cuda, float32

print(f"Kernels run on: {device}")

# %% [markdown]
# **Ready?** This should print `ready`, and it shows what the stand-in counts.

# %%
with standin.counting() as counts:
    on_device = standin.asarray(np.arange(6, dtype=np.float32))
    back = standin.asnumpy(on_device * 2)
assert back.tolist() == [0, 2, 4, 6, 8, 10]
print("ready:", counts)

# %% [markdown]
# ## Why it matters
#
# A recommender trains on tables of click logs: a hundred numeric columns with holes, some categories, a few ages and prices to be put into
# buckets. In many such systems more time goes into preparing a batch than into the training step, because the step got a GPU and
# the preparation did not. NVIDIA's NVTabular and RAPIDS exist for that reason.
#
# The naive port is the expensive mistake: copy a column over, standardise it, copy it back, a hundred times. Each copy waits for the
# device, each small operation is a launch of some microseconds, and the port ends up slower than NumPy. What counts is how
# often data crosses, how many kernels run, and how many bytes each of them moves. You can count all of it without a GPU.

# %% [markdown]
# ## At the kitchen table
#
# You cook at home; across the river there is a canteen kitchen, twenty times as fast.
#
# - **The ferry** (a transfer): takes as long for one carrot as for a crate. Send everything at once, fetch the finished dish.
# - **An order slip** (a launch): somebody reads it and starts. Six slips of one step each are slower than one slip with six steps.
# - **The pantry** (device memory): between two slips everything goes back to the shelf. One slip keeps it on the board.
# - **"Is it done?"** (a synchronisation): each call across the river stops the kitchen until you have your answer.
#
# *Where it breaks:* a canteen is faster with every dish; a GPU is slower with small ones. And on a machine with unified memory, such
# as the Spark, the river is narrow: host and device share the memory, and what remains is the copy.

# %% [markdown]
# ## Foundations: what a pipeline costs
#
# ```
#  host memory ──── one transfer ───→ device memory ═══ kernel 1 ═══→ device memory ═══ kernel 2 ═══→ ... ──→ host memory
#                  T + bytes / B_bus                  L + bytes / B_mem
# ```
#
# An elementwise operation does next to no arithmetic for each byte, so its time is a launch plus the bytes that it reads and writes:
#
# $$ t = \underbrace{n_{\text{copies}}\,T + \frac{b_{\text{copies}}}{B_{\text{bus}}}}_{\text{transfers}}
#      + \underbrace{n_{\text{launches}}\,L + \frac{b_{\text{device}}}{B_{\text{mem}}}}_{\text{kernels}} $$
#
# **In numbers.** $y = (x - m)\,s$ with 2**20 float32 in `x`: two kernels, each reads and writes 4 MiB, 16.8 MB in all; as one kernel 8.4 MB.
# At 273 GB/s (a Spark's rated memory) that is 61 µs against 31 µs, plus a launch saved. For 1,024 elements the bytes take 0.03 µs
# against a launch of about 5 µs: then the launches are all there is.

# %% [markdown]
# ### The stand-in
#
# CuPy needs a GPU; its *rules* do not. `labkit.standin` has CuPy's names and NumPy's values, and it is strict where CuPy is strict:
# an array on the device is no NumPy array, does not mix with one, and is never converted unless you say so. Like
# CuPy it makes 0-d arrays where NumPy gives numbers. It is stricter than CuPy where CuPy would wait in silence: `float(x)`, `if x:`.

# %%
on_host, on_device = np.ones(3, np.float32), standin.ones(3, np.float32)
for name, mistake in {
    "mix them": lambda: on_device + on_host,
    "a NumPy function": lambda: np.exp(on_device),
    "a hidden wait": lambda: float(on_device.sum()),
}.items():
    try:
        mistake()
    except TypeError as error:
        print(f"{name:18} TypeError: {str(error)[:90]}")

# %% [markdown]
# What it counts is a model: a function that makes a new array is one launch that reads its inputs and writes its result; views are free;
# a result whose *length* depends on values, such as `x[x > 0]`, sends its length to the host. Real CuPy launches somewhat more for `std`,
# `median` and the like. So counts are a floor, and comparisons of them are fair.

# %%
with standin.counting() as counts:
    y = (on_device - 1) * 2
    z = on_device[1:].reshape(1, 2)
print(counts, z.shape)

# %% [markdown]
# ## Part 1: Which module?
#
# **Exercise 1 (2 points).** Agnostic code asks its arguments where they live and calls that module's functions. `MODULES` lists the modules
# that this notebook knows; on a machine with a GPU CuPy joins them. Each has its array class under the name `ndarray`. CuPy's own
# `get_array_module` lets mixed arguments pass, which only moves the error to a worse place. Yours refuses.

# %% nbgrader={"grade": false, "grade_id": "cupy-modules", "locked": true, "schema_version": 3, "solution": false, "task": false}
MODULES: list[Any] = [np, standin]


# %% nbgrader={"grade": false, "grade_id": "cupy-module", "locked": false, "schema_version": 3, "solution": true, "task": false}
def array_module(*arrays: Any) -> Any:
    """Return the module of MODULES to which all the arrays belong.

    Args:
        arrays: arrays of the modules in MODULES, in any number; Python or NumPy numbers and None may be among them.

    Returns:
        The module; NumPy where there is no array at all.

    Raises:
        TypeError: arrays of different modules, or something that is neither an array of MODULES nor a number nor None.

    TODO: Find the module of each array, and see that there is only one.

    APPROACH:
        1. Pass over numbers and None, because they may go with any module.
        2. Look for the module whose ndarray class the array is of, because that holds for modules added later too.
        3. Refuse a second module at once, because a mixed call fails later, far from where the mistake is.

    EXAMPLE:
        >>> array_module(np.ones(3), 2.0, None) is np
        True
        >>> array_module(standin.ones(3)) is standin
        True

    HINTS:
        1. isinstance(value, module.ndarray) tells whether a value is of a module.
        2. (int, float, np.number, np.bool_) are numbers; bool is an int.
        3. Collect the modules in a list; more than one different module is an error, none means np.
    """
    ### BEGIN SOLUTION
    found = None
    for value in arrays:
        if value is None or isinstance(value, int | float | np.number | np.bool_):
            continue
        owner = next((module for module in MODULES if isinstance(value, module.ndarray)), None)
        if owner is None:
            raise TypeError(f"a {type(value).__name__} is no array of a known module")
        if found not in (None, owner):
            raise TypeError(f"arrays of {found.__name__} and of {owner.__name__} in one call: move one of them")
        found = owner
    return found or np
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-cupy-module", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Checks: both modules, numbers and None between arrays, mixed arrays, things that are no arrays, a module added later.
# Fails if: the first argument decides alone, lists are taken for arrays, or only two modules are known.
# A pass prints nothing but the seed.
def test_unit_module() -> None:
    host, there = np.ones(3), standin.ones(3)
    for module, arrays in ((np, (host,)), (standin, (there, 2.0)), (np, ()), (np, (None, 1)), (standin, (None, there))):
        assert array_module(*arrays) is module, f"wrong module for {arrays}"
    checking.raises(TypeError, array_module, host, there, what="array_module of a host and a device array")
    checking.raises(TypeError, array_module, [1.0, 2.0], what="array_module of a list")
    ### BEGIN HIDDEN TESTS
    # check: mixed arrays in every order
    # hint: does your answer depend on which argument comes first, or on a number between them?
    for arrays in ((there, host), (host, host, there), (there, 1.0, None, host)):
        checking.raises(TypeError, array_module, *arrays, what="array_module of mixed arrays")
    assert array_module(there, np.float32(2), there, True) is standin
    assert array_module(np.bool_(True), host[:0]) is np
    # check: a module that joins MODULES later
    # hint: do you look the modules up in MODULES, and compare with each one's ndarray?
    other = SimpleNamespace(ndarray=type("ndarray", (), {}), __name__="other")
    MODULES.append(other)
    try:
        assert array_module(other.ndarray()) is other, "an array of a third module"
        checking.raises(TypeError, array_module, other.ndarray(), there, what="array_module of a third module and the stand-in")
    finally:
        MODULES.remove(other)
    checking.raises(TypeError, array_module, other.ndarray(), what="array_module of an unknown array")
    ### END HIDDEN TESTS


test_unit_module()


# %% [markdown]
# ### What just happened?
#
# The function looks at types only: no value is read, so nothing waits. SciPy and scikit-learn ask in the same way (`array_namespace` of the
# array API standard).

# %%
def where_is_it():
    return [array_module(x).__name__ for x in (np.ones(2), standin.ones(2), 3)]


insight.run(where_is_it, needs="Exercise 1 (array_module)")


# %% [markdown]
# ## Part 2: Numbers with holes
#
# **Exercise 2 (3 points).** Real tables have holes, stored as NaN. Fill each with the mean of what its column has. A mask keeps every shape
# fixed, so nothing has to wait: `x[~missing]` would have to ask the device how long it is.
#
# From here on, tests run your functions on NumPy and on the stand-in, with the same expectations.

# %% nbgrader={"grade": false, "grade_id": "cupy-both", "locked": true, "schema_version": 3, "solution": false, "task": false}
def on_both(function, *arrays, launches, **options):
    """The function's result on NumPy; on the stand-in it has to be the same, with at most so many launches and no transfer."""
    with checking.unchanged(arrays=list(arrays)):
        want = function(*arrays, **options)
    there = [standin.asarray(array) for array in arrays]
    with standin.counting() as counts:
        got = function(*there, **options)
    assert type(got) is standin.ndarray, f"{function.__name__} of device arrays returned a {type(got).__name__}"
    for array, before in zip(there, arrays, strict=True):
        checking.equal(array.get(), before, what=f"an argument of {function.__name__} after the call")
    moved = counts.to_device + counts.to_host
    assert moved == 0, f"{function.__name__} moves data between host and device, or waits for it, {moved} times"
    assert 1 <= counts.launches <= launches, f"{function.__name__}: {counts.launches} launches, expected 1 to {launches}"
    # The stand-in computes with NumPy: the same steps give the same bits.
    checking.equal(got.get(), want, what=f"{function.__name__} on the device, against NumPy")
    return want


# %% nbgrader={"grade": false, "grade_id": "cupy-table", "locked": true, "schema_version": 3, "solution": false, "task": false}
def numbers(rows, columns, seed, holes=0.2, offset=3.0):
    """float32 columns of different size and offset, some of them NaN."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, columns)) * 2.0 ** rng.integers(-3, 4, columns) + offset * rng.standard_normal(columns)
    return np.where(rng.random((rows, columns)) < holes, np.nan, x).astype(np.float32)


# %% nbgrader={"grade": false, "grade_id": "cupy-fill", "locked": false, "schema_version": 3, "solution": true, "task": false}
def fill_missing(x: Any) -> Any:
    """Return x with each NaN replaced by the mean of the other values in its column.

    Args:
        x: float32 or float64 array of a module in MODULES, shape (n, d); n and d may be 0. Comes out unchanged.

    Returns:
        A new array of the same module, shape and dtype. In a column without any value all become 0.

    TODO: Compute each column's mean over what is there, in float64, and put it into the holes. At most 16 launches.

    APPROACH:
        1. Make a mask and put 0 into the holes, because a sum over zeros is the sum over the rest.
        2. Add up in float64 and divide by the number of values, because float32 sums of long columns lose digits.
        3. Choose by the mask between mean and value, because no shape then depends on values.

    EXAMPLE:
        >>> fill_missing(np.array([[1, np.nan], [3, np.nan], [np.nan, 5]], np.float32))
        array([[1., 5.],
               [3., 5.],
               [2., 5.]], dtype=float32)

    HINTS:
        1. xp.isnan, xp.where, and sums with axis=0 and dtype=xp.float64 are all you need.
        2. A column without values has a count of 0; divide by at least 1 then.
        3. The means are float64: bring them to x.dtype before the last choice, or the result is float64.
    """
    ### BEGIN SOLUTION
    xp = array_module(x)
    missing = xp.isnan(x)
    total = xp.where(missing, 0, x).sum(axis=0, dtype=xp.float64)
    count = xp.maximum((~missing).sum(axis=0), 1)
    return xp.where(missing, (total / count).astype(x.dtype), x)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-cupy-fill", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Checks: means of what is there, empty columns, dtypes, long columns, on both modules, without a wait.
# Fails if: zeros count as values, sums are in float32, the argument is changed, or a loop runs over the columns.
# A pass: the same bits on NumPy and on the stand-in.
def check_fill(x: np.ndarray) -> None:
    want = x.copy()
    for column in want.T:
        there = column[~np.isnan(column)].astype(np.float64)
        column[np.isnan(column)] = there.mean() if there.size else 0.0
    got = on_both(fill_missing, x, launches=16)
    # float64 sums are off by 2**-40 at most here; a mean at a midpoint may round to the other side: one unit, 2**-23.
    unit = 2.0**-23 if x.dtype == np.float32 else 2.0**-40
    checking.close(got, want, rtol=unit, atol=1e-7, what=f"fill_missing of shape {x.shape}", hint="what is divided by what?")


def test_unit_fill() -> None:
    nan = np.nan
    check_fill(np.array([[1, nan], [3, nan], [nan, 5]], np.float32))
    check_fill(np.array([[nan, 2], [nan, 4]], np.float64))  # a column without values
    check_fill(numbers(50, 7, seed=1))
    ### BEGIN HIDDEN TESTS
    # check: other shapes, none and all missing, no rows
    # hint: what does your count say for a column without values, and for a table without rows?
    seed = checking.secret_seed()
    for shape in ((1, 1), (33, 5), (2, 40), (0, 3), (4, 0)):
        for holes in (0.0, 0.3, 1.0):
            check_fill(numbers(*shape, seed, holes=holes))
    # check: float64 tables, and strided ones
    # hint: does the result have the dtype of x?
    check_fill(numbers(64, 6, seed + 1).astype(np.float64))
    check_fill(numbers(40, 8, seed + 2)[::2, ::3])
    # check: a long column far from 0
    # hint: in which precision are the values added up?
    long = np.full((70_001, 2), 16_777.3, np.float32) + np.arange(70_001, dtype=np.float32)[:, None] % 7
    long[::9, 1] = nan
    check_fill(long)
    ### END HIDDEN TESTS


test_unit_fill()


# %% [markdown]
# ### What just happened?
#
# Each step made an array of a shape that was known before, so a GPU could run through all of them while Python is already somewhere else.

# %%
def filled():
    x = standin.asarray(numbers(1000, 16, seed=2))
    with standin.counting() as counts:
        fill_missing(x)
    return f"{counts.launches} launches, {counts.device_bytes / x.nbytes:.1f} times the table's bytes through device memory"


insight.run(filled, needs="Exercise 2 (fill_missing)")


# %% [markdown]
# ## Part 3: One scale for all
#
# **Exercise 3 (4 points).** Columns in euros, years and degrees come to mean 0 and standard deviation 1. Two things go wrong in practice.
# Float32 sums are off when the mean is large against the spread. And a constant column has a standard deviation of 0, or, after
# rounding, of 1e-15, which makes noise of nothing: compare largest and smallest value instead.

# %% nbgrader={"grade": false, "grade_id": "cupy-standardize", "locked": false, "schema_version": 3, "solution": true, "task": false}
def standardize(x: Any) -> Any:
    """Return x with each column brought to mean 0 and (population) standard deviation 1.

    Args:
        x: float32 or float64 array of a module in MODULES, shape (n, d), without NaN. Comes out unchanged.

    Returns:
        A new array of the same module, shape and dtype: (x - mean) / std, computed in float64 and rounded once, at the
        end. A column whose values are all the same becomes 0, exactly.

    Raises:
        ValueError: x has no rows.

    TODO: Compute mean and std of each column in float64, and treat constant columns apart. At most 16 launches.

    APPROACH:
        1. Go to float64 first, because x - mean cancels where the mean is large.
        2. Find constant columns by their extremes, because a computed std of a constant is rounding noise.
        3. Divide by 1 where a column is constant and choose 0 there, because 0 / 0 would be NaN.

    EXAMPLE:
        >>> standardize(np.array([[1, 7], [3, 7]], np.float32))
        array([[-1.,  0.],
               [ 1.,  0.]], dtype=float32)

    HINTS:
        1. x.astype(xp.float64), then mean(axis=0) and std(axis=0).
        2. x.max(axis=0) and x.min(axis=0) are equal where a column is constant.
        3. `if constant.any():` would wait for the device; xp.where does not.
    """
    ### BEGIN SOLUTION
    if x.shape[0] == 0:
        raise ValueError("a table without rows has no mean")
    xp = array_module(x)
    wide = x.astype(xp.float64)
    constant = x.max(axis=0) == x.min(axis=0)
    divisor = xp.where(constant, 1.0, wide.std(axis=0))
    return xp.where(constant, 0.0, (wide - wide.mean(axis=0)) / divisor).astype(x.dtype)
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "cupy-check-standardize", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_standardize(x: np.ndarray) -> None:
    wide = x.astype(np.longdouble)
    spread = np.ptp(wide, axis=0)
    want = np.where(spread == 0, 0, (wide - wide.mean(axis=0)) / np.where(spread == 0, 1, wide.std(axis=0)))
    got = on_both(standardize, x, launches=16)
    # One rounding to float32 and the reference's own: 2**-23. Means are off by n 2**-53 |mean| / std < 1e-8 at most here.
    unit = 2.0**-23 if x.dtype == np.float32 else 1e-9
    checking.close(got, want.astype(x.dtype), rtol=unit, atol=1e-8, what=f"standardize of shape {x.shape}",
                   hint="print mean and std of each column, and in which dtype they are")
    assert not got[:, spread == 0].any(), "a constant column has to become exactly 0"


# %% nbgrader={"grade": true, "grade_id": "test-cupy-standardize", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: mean and std against extended precision, constant columns, large offsets, dtypes, on both modules.
# Fails if: sums are in float32, the sample's std is taken, a constant is found by std == 0, or anything waits.
# A pass: each credit is earned.
def test_unit_standardize() -> float:
    credit = checking.Credit(4)
    with credit.check("mean 0, standard deviation 1", points=2, hint="population or sample: divided by n or n - 1?"):
        check_standardize(np.array([[1, 7], [3, 7]], np.float32))
        check_standardize(numbers(100, 9, seed=1, holes=0))
        checking.raises(ValueError, standardize, np.ones((0, 3), np.float32), what="standardize of no rows")
        ### BEGIN HIDDEN TESTS
        # check: other shapes, float64, strided
        # hint: which dtype does your result have, and is one row a constant column?
        seed = checking.secret_seed()
        for shape in ((1, 3), (2, 2), (97, 11), (3, 0)):
            check_standardize(numbers(*shape, seed, holes=0))
        check_standardize(numbers(31, 5, seed, holes=0).astype(np.float64))
        check_standardize(numbers(64, 12, seed, holes=0)[::3, ::2])
        checking.raises(ValueError, standardize, standin.ones((0, 3)), what="standardize of no rows on the device")
        ### END HIDDEN TESTS
    with credit.check("a large mean, and constants", points=2, hint="in which precision is x - mean, and what is std of 0.1?"):
        check_standardize(np.full((1000, 2), 0.1))
        ### BEGIN HIDDEN TESTS
        # check: columns far from 0
        # hint: how many digits does a float32 mean of 10,000 leave for a spread of 1?
        rng = np.random.default_rng(checking.secret_seed())
        check_standardize((rng.standard_normal((5000, 4)) + 1e4).astype(np.float32))
        # check: constants between other columns
        # hint: print the standard deviation that you get for a column of equal values
        mixed = rng.standard_normal((777, 6)).astype(np.float32)
        mixed[:, 1], mixed[:, 4] = 1 / 3, -1e-3
        check_standardize(mixed)
        check_standardize(mixed.astype(np.float64) * 1.1)
        ### END HIDDEN TESTS
    return credit.total()


test_unit_standardize()


# %% [markdown]
# ### What just happened?
#
# The same function, two machines, the same bits. Look at what the careful version costs in passes through memory: float64 copies are
# twice as large. A kernel of your own keeps float64 in registers, where it is free of traffic; Exercises 5 and 7 go there.

# %%
def passes():
    x = standin.asarray(numbers(1000, 16, seed=2, holes=0))
    with standin.counting() as counts:
        standardize(x)
    return f"{counts.launches} launches, {counts.device_bytes / x.nbytes:.1f} times the table's bytes"


insight.run(passes, needs="Exercise 3 (standardize)")


# %% [markdown]
# ### Systems insight 1 of 3: how fast is NumPy here?
#
# *Checkpoint:* two functions that run anywhere. *Predict before you run:* how many nanoseconds does `standardize` take for each element, and
# is that the same for 1,000 rows as for 100,000? One pass over a float32 at 10 GB/s would take 0.4 ns.

# %%
def numpy_speed(repeats=5):
    """Nanoseconds for each element of a table with 16 columns, by the clock of this machine: the fastest of some runs."""
    cost = {}
    for rows in (2**8, 2**11, 2**14, 2**16):
        x, runs = numbers(rows, 16, seed=3, holes=0), []
        for _ in range(repeats):
            start = time.perf_counter()
            standardize(x)
            runs.append(time.perf_counter() - start)
        cost[rows] = min(runs) * 1e9 / x.size
    return cost


# %%
nanoseconds = insight.run(numpy_speed, needs="Exercises 1 and 3")
if nanoseconds:
    insight.lines(list(nanoseconds), {"standardize": list(nanoseconds.values())}, xlabel="rows of 16 columns",
                  ylabel="ns for each element", title="NumPy on this machine", logx=True, logy=True)


# %% [markdown]
# Small tables pay for Python and NumPy's calls, large ones for memory: the float64 copies no longer fit into the cache. On a GPU the first part
# is worse (a launch costs more than a call) and the second far better.
#
# *In production* this curve is what you hold a port against. Measure it on your sizes before you port anything.

# %% [markdown]
# ## Part 4: Categories
#
# **Exercise 4 (4 points).** An age becomes the number of its bucket, a category a row of zeros with a one in it. Both without a loop over rows. And
# both without asking the device whether a code is valid, since the answer would have to travel: a code out of range
# becomes a row of zeros. Checks belong to where the data is read.

# %% nbgrader={"grade": false, "grade_id": "cupy-encode", "locked": false, "schema_version": 3, "solution": true, "task": false}
def bucketize(x: Any, edges: Any) -> Any:
    """Return for each value how many edges are less than or equal to it.

    Args:
        x: float array of shape (n,), without NaN; n may be 0.
        edges: float array of the same module, shape (m,), strictly ascending.

    Returns:
        int32 array of the same module, shape (n,), from 0 (below all edges) to m.

    Raises:
        TypeError: x and edges belong to different modules, as array_module says.

    TODO: Count the edges up to each value, in at most 4 launches.

    EXAMPLE:
        >>> bucketize(np.array([5.0, 20.0, 99.0]), np.array([20.0, 40.0]))
        array([0, 1, 2], dtype=int32)
    """
    ### BEGIN SOLUTION
    xp = array_module(x, edges)
    return xp.searchsorted(edges, x, side="right").astype(xp.int32)
    ### END SOLUTION


def one_hot(codes: Any, classes: int) -> Any:
    """Return a row of zeros with a 1 at its code for each code.

    Args:
        codes: integer array of shape (n,); n may be 0.
        classes: number of columns, at least 1.

    Returns:
        float32 array of the same module, shape (n, classes). A code below 0, or of `classes` or more, gives zeros only.

    TODO: Compare each code with each class, in at most 4 launches.

    APPROACH:
        1. Make the classes a row on the device (xp.arange), because a list from the host would be a transfer.
        2. Give codes a second axis, because a column compared with a row is a table.
        3. Turn the truth values to float32, because that is what a model eats.

    EXAMPLE:
        >>> one_hot(np.array([1, 0, 7]), 3)
        array([[0., 1., 0.],
               [1., 0., 0.],
               [0., 0., 0.]], dtype=float32)

    HINTS:
        1. For bucketize: searchsorted has a `side`; or compare x as a column with the edges as a row, and add up.
        2. Rows of an identity matrix, taken by code, are one-hot too; what happens to codes out of range?
        3. codes[:, None] has shape (n, 1).
    """
    ### BEGIN SOLUTION
    xp = array_module(codes)
    return (codes[:, None] == xp.arange(classes)).astype(xp.float32)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-cupy-encode", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: values on, below and above edges; codes out of range; dtypes; launches that do not grow with the rows.
# Fails if: a value on an edge falls below it, codes wrap around, or a loop runs over rows or classes.
# A pass: each credit is earned.
def check_buckets(x: np.ndarray, edges: np.ndarray) -> None:
    want = np.array([sum(value >= edge for edge in edges) for value in x], np.int32)
    checking.equal(on_both(bucketize, x, edges, launches=4), want, what=f"bucketize of {x.size} values, {edges.size} edges")


def check_one_hot(codes: np.ndarray, classes: int) -> None:
    want = np.zeros((codes.size, classes), np.float32)
    for row, code in zip(want, codes, strict=True):
        if 0 <= code < classes:
            row[code] = 1
    checking.equal(on_both(one_hot, codes, launches=4, classes=classes), want, what=f"one_hot of {classes} classes")


def test_unit_encode() -> float:
    credit, edges = checking.Credit(4), np.array([18, 30, 65], np.float32)
    with credit.check("buckets", points=2, hint="to which side does a value on an edge belong?"):
        check_buckets(np.array([5, 18, 29.5, 65, 66], np.float32), edges)
        checking.raises(TypeError, bucketize, standin.ones(2), edges, what="bucketize of mixed arrays")
        ### BEGIN HIDDEN TESTS
        # check: many values, values on edges, no values, one edge and many
        # hint: compare with a loop of >= on ten values of your own
        rng = np.random.default_rng(checking.secret_seed())
        for n, m in ((0, 3), (1, 1), (200, 7), (50, 40)):
            some = np.unique(rng.integers(-50, 50, m)).astype(np.float32)
            check_buckets(rng.integers(-60, 60, n).astype(np.float32), some)
        ### END HIDDEN TESTS
    with credit.check("one-hot rows", points=2, hint="what does a negative index do in Python?"):
        check_one_hot(np.array([0, 2, 1, 3, -1]), 3)
        ### BEGIN HIDDEN TESTS
        # check: codes out of range, int32 codes, one class, no rows
        # hint: one-hot of a code that does not exist is zeros only
        rng = np.random.default_rng(checking.secret_seed())
        for n, classes in ((0, 4), (9, 1), (130, 6), (40, 33)):
            check_one_hot(rng.integers(-2, classes + 3, n).astype(np.int32), classes)
        ### END HIDDEN TESTS
    return credit.total()


test_unit_encode()


# %% [markdown]
# ### What just happened?
#
# A comparison of a column with a row is one kernel over all pairs, however many rows there are.

# %%
def growth():
    for rows in (10, 10_000):
        codes = standin.asarray(np.zeros(rows, np.int32))
        with standin.counting() as counts:
            one_hot(codes, 5)
        print(f"{rows:6} rows: {counts.launches} launches")


insight.run(growth, needs="Exercise 4 (one_hot)")


# %% [markdown]
# ## Part 5: One kernel for six
#
# Before a table goes into a model it is scaled by numbers from the training set, holes become 0, and outliers are cut. As array operations:

# %% nbgrader={"grade": false, "grade_id": "cupy-chain", "locked": true, "schema_version": 3, "solution": false, "task": false}
def scale_chain(xp, x, mean, inverse, limit):
    """(x - mean) * inverse, NaN to 0, cut to -limit ... limit: six operations, six kernels."""
    scaled = (x - mean) * inverse
    scaled = xp.where(xp.isnan(scaled), xp.float32(0), scaled)
    return xp.maximum(xp.minimum(scaled, limit), -limit)


# %% [markdown]
# Each kernel writes its result to device memory for the next to read it again. CuPy compiles a kernel from the inside of the loop, in C:

# %%
distance = standin.ElementwiseKernel(
    "float32 x, float32 y",  # inputs, broadcast as in NumPy; one letter, as in "T x", is a type that the arrays decide
    "float32 z",  # outputs: assigned to, once for each element
    "float d = x - y; z = sqrtf(d * d)",  # statements in C; the stand-in knows + - * / < == && ?: and some functions
    "distance",
)
print(distance(standin.arange(4, dtype=np.float32), 1.5))


# %% [markdown]
# **Exercise 5 (4 points).** Write `fused_scale`: one kernel with the result of `scale_chain`, to the last bit. In C, `fminf` and `fmaxf` return the
# number when the other argument is NaN, so a NaN that meets them first is gone. And `0.5` is a double; `0.5f` is a float.

# %% nbgrader={"grade": false, "grade_id": "cupy-fused", "locked": false, "schema_version": 3, "solution": true, "task": false}
def fused_scale(xp: Any) -> Any:
    """Return an xp.ElementwiseKernel that does in one launch what scale_chain does in six.

    Args:
        xp: a module with ElementwiseKernel: the stand-in, or CuPy.

    Returns:
        The kernel. It is called with x (n, d), mean (d,), inverse (d,), all float32 on the device, and limit, a number,
        and returns float32 of shape (n, d).

    TODO: Declare four inputs and one output, and write scale_chain for one element in C.

    APPROACH:
        1. Name the scaled value as a local variable, because it is used twice.
        2. Decide about NaN first, because fminf and fmaxf would make a number of it.
        3. Cut from both sides in the other branch, because there every value is a number, or infinite.

    EXAMPLE:
        >>> one = standin.ones(1, np.float32)
        >>> fused_scale(standin)(standin.asarray(np.array([[1.5], [np.nan], [9]], np.float32)), one, 2 * one, 3.0).get().T
        array([[1., 0., 3.]], dtype=float32)

    HINTS:
        1. The kernel `distance` above has all the parts: types, a local variable, a function.
        2. `condition ? a : b` is C's `a if condition else b`, and isnan(z) a condition.
        3. Both cuts fit into one expression: a minimum inside a maximum, as in scale_chain.
    """
    ### BEGIN SOLUTION
    return xp.ElementwiseKernel(
        "float32 x, float32 mean, float32 inverse, float32 limit",
        "float32 y",
        "float z = (x - mean) * inverse; y = isnan(z) ? 0.0f : fminf(fmaxf(z, -limit), limit)",
        "fused_scale",
    )
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-cupy-fused", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: the chain's bits, one launch, each byte moved once, no transfer; holes, infinities, limits.
# Fails if: NaN meets fmaxf first, a cut is missing, the kernel is called on parts, or double takes the place of float.
# A pass: each credit is earned.
def check_fused(x: np.ndarray, mean: np.ndarray, inverse: np.ndarray, limit: float) -> None:
    with np.errstate(invalid="ignore"):
        want = scale_chain(np, x, mean, inverse, np.float32(limit))
    kernel, held = fused_scale(standin), [standin.asarray(array) for array in (x, mean, inverse)]
    with standin.counting() as counts:
        got = kernel(*held, limit)
    assert type(got) is standin.ndarray, f"the kernel returned a {type(got).__name__}, not one array on the device"
    checking.equal(got.get(), want, what=f"fused_scale of shape {x.shape}, limit {limit}", hint="which elements differ: NaN?")
    checking.equal(counts.launches, 1, what="launches", hint="one ElementwiseKernel does it all")
    least = 2 * x.nbytes + mean.nbytes + inverse.nbytes  # x, mean and inverse are read once, the result is written
    checking.equal((counts.device_bytes, counts.to_device + counts.to_host), (least, 0), what="bytes moved, transfers")


def test_unit_fused() -> float:
    credit, one = checking.Credit(4), np.ones(1, np.float32)
    with credit.check("values, limits and one launch", points=2, hint="write the chain for one number on paper"):
        check_fused(np.array([[1.5], [-2], [9], [-9]], np.float32), one, 2 * one, 3.0)
        ### BEGIN HIDDEN TESTS
        # check: tables with columns of their own scale
        # hint: are mean and inverse read for each column, and is each rounding a float's?
        seed = checking.secret_seed()
        for shape in ((64, 9), (1, 5), (0, 2)):
            x = numbers(*shape, seed, holes=0)
            mean, inverse = np.linspace(-2, 2, shape[1], dtype=np.float32), np.geomspace(0.1, 9, shape[1], dtype=np.float32)
            check_fused(x, mean, inverse, 0.7)
        ### END HIDDEN TESTS
    with credit.check("holes and infinities", points=2, hint="what does fmaxf(NaN, 1) give, and 0 times infinity?"):
        check_fused(np.array([[np.nan], [np.inf], [-np.inf], [2]], np.float32), one, one, 5.0)
        ### BEGIN HIDDEN TESTS
        # check: NaN that comes up on the way
        # hint: is it x that is looked at, or the scaled value?
        check_fused(np.array([[np.inf, 1], [2, -np.inf]], np.float32), np.zeros(2, np.float32), np.zeros(2, np.float32), 2.0)
        check_fused(numbers(40, 3, checking.secret_seed(), holes=0.5), np.zeros(3, np.float32), np.ones(3, np.float32), 1.0)
        ### END HIDDEN TESTS
    return credit.total()


test_unit_fused()


# %% [markdown]
# ### What just happened?
#
# The compiler keeps the intermediate values in registers. `cupy.fuse` writes such a kernel from the Python function; you wrote it by hand and know
# what is in it.

# %% [markdown]
# ### Systems insight 2 of 3: chain against kernel
#
# *Checkpoint:* one result, two ways. *Predict before you run:* how many bytes go through device memory for each float32 element, with six kernels
# and with one? Remember that `isnan` writes one byte for each element. Which saving matters for 1,000 elements, which for 100 million?

# %%
def chain_against_kernel(rows=4096, columns=16):
    """Launches and bytes for each element, counted while both run."""
    x, mean = standin.asarray(numbers(rows, columns, seed=4)), standin.zeros(columns, np.float32)
    inverse, table = standin.ones(columns, np.float32), {}
    ways = {"chain": lambda: scale_chain(standin, x, mean, inverse, 3.0),
            "one kernel": lambda: fused_scale(standin)(x, mean, inverse, 3.0)}
    for name, way in ways.items():
        with standin.counting() as counts:
            way()
        table[name] = (counts.launches, counts.device_bytes / x.size)
    return table


# %%
traffic = insight.run(chain_against_kernel, needs="Exercise 5 (fused_scale)")
for name, (launches, nbytes) in (traffic or {}).items():
    print(f"{name:12} {launches} launches, {nbytes:.2f} bytes for each element")


# %%
def predicted_microseconds(launches, nbytes, launch_us=5.0, gb_per_s=273.0):
    """A model: each launch takes launch_us, bytes pass at the memory's rated speed (a Spark's, if nothing is said)."""
    return launches * launch_us + nbytes / gb_per_s / 1e3


for elements in (10**3, 10**6, 10**8):
    times = {name: predicted_microseconds(k, b * elements) for name, (k, b) in (traffic or {}).items()}
    print(f"{elements:10,} elements:", ", ".join(f"{name} {us:,.0f} µs" for name, us in times.items()))

# %% [markdown]
# Small arrays gain by the launches, large ones by the bytes; both gain by about the same factor here. The 5 µs are a usual order for a launch from
# Python, not a measurement of your machine.
#
# *In production* this is what `torch.compile` does to elementwise chains, and why a layer norm or a GELU is one kernel in every framework.

# %% [markdown]
# ## Part 6: The pipeline
#
# A table for training, as one float32 array: numeric columns with holes, then an age, then a category's code. Below is how a colleague prepared it.

# %% nbgrader={"grade": false, "grade_id": "cupy-make-table", "locked": true, "schema_version": 3, "solution": false, "task": false}
EDGES = (20.0, 40.0, 60.0)  # of ages: four buckets
CLASSES = 5  # of the category


def make_table(rows, columns, seed):
    """float32, shape (rows, columns + 2): numbers with holes, an age, and a code as a float."""
    rng = np.random.default_rng(seed)
    ages, codes = rng.integers(0, 100, (rows, 1)), rng.integers(0, CLASSES, (rows, 1))
    return np.hstack([numbers(rows, columns, seed, offset=1.0), ages, codes]).astype(np.float32)


# %% nbgrader={"grade": false, "grade_id": "cupy-as-it-came", "locked": true, "schema_version": 3, "solution": false, "task": false}
def as_it_came(table):
    """The pipeline as a colleague wrote it: right, and slow."""
    rows, width = len(table), table.shape[1] - 2
    features = np.zeros((rows, width + len(EDGES) + 1 + CLASSES), np.float32)
    for c in range(width):
        column = table[:, c].astype(np.float64)
        known = column[~np.isnan(column)]
        column[np.isnan(column)] = np.float32(known.sum() / known.size) if known.size else 0.0
        if (column != column[0]).any():
            features[:, c] = (column - column.mean()) / column.std()
    for r in range(rows):
        bucket = sum(table[r, width] >= edge for edge in EDGES)
        features[r, width + bucket] = 1
        features[r, width + len(EDGES) + 1 + int(table[r, width + 1])] = 1
    return features


# %% [markdown]
# **Exercise 6 (4 points).** Write `preprocess(table, xp)` from your functions. With a device's module the table goes over once, the features come
# back once, and in between nothing is asked of the device and nothing is sent to it. Watch the edges: made from a Python list they would be a
# second transfer. The stand-in's counters are part of the test.

# %% nbgrader={"grade": false, "grade_id": "cupy-preprocess", "locked": false, "schema_version": 3, "solution": true, "task": false}
def preprocess(table: np.ndarray, xp: Any) -> np.ndarray:
    """Prepare a table for training, with the arithmetic done by the module xp.

    Args:
        table: NumPy float32, shape (n, d + 2), n at least 1: d numeric columns with holes (NaN), an age, and a code
            (a whole number from 0 to CLASSES - 1, stored as a float). Comes out unchanged.
        xp: a module of MODULES.

    Returns:
        NumPy float32, shape (n, d + 4 + CLASSES): the numeric columns filled and standardised, the age as a one-hot of
        its 4 buckets (edges 20, 40, 60), the code as a one-hot. It shares no memory with the table.

    TODO: One transfer to the device (the table), one back (the features), at most 48 launches whatever n and d are.

    APPROACH:
        1. Move the whole table at once, because each transfer costs the same start.
        2. Make the edges on the device (`xp.arange(20, 61, 20)` gives all three), because they would be a transfer otherwise.
        3. Join the parts there and move the result once, because three parts are three transfers.

    EXAMPLE:
        >>> preprocess(np.array([[1, 33, 0], [3, 60, 2]], np.float32), np)
        array([[-1.,  0.,  1.,  0.,  0.,  1.,  0.,  0.,  0.,  0.],
               [ 1.,  0.,  0.,  0.,  1.,  0.,  0.,  1.,  0.,  0.]], dtype=float32)

    HINTS:
        1. NumPy has asarray, but no asnumpy: what is xp's result already where xp is np?
        2. Columns of a device array are views; codes are floats and one_hot wants integers.
        3. xp.concatenate([...], axis=1) joins tables side by side.
    """
    ### BEGIN SOLUTION
    there = xp.asarray(table)
    edges = xp.arange(20, 80, 20, dtype=xp.float32)
    numeric = standardize(fill_missing(there[:, :-2]))
    ages = one_hot(bucketize(there[:, -2], edges), 4)
    kinds = one_hot(there[:, -1].astype(xp.int32), CLASSES)
    features = xp.concatenate([numeric, ages, kinds], axis=1)
    return features if xp is np else xp.asnumpy(features)
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "cupy-check-preprocess", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_preprocess(table: np.ndarray) -> standin.Counts:
    want = as_it_came(table)
    with checking.unchanged(table=table):
        on_numpy = preprocess(table, np)
        with standin.counting() as counts:
            got = preprocess(table, standin)
    # A filled mean, below 4 here, may round to the other side: 2**-23 * 4 over a std of 0.1 is 4.8e-6; four times that.
    for name, features in (("np", on_numpy), ("standin", got)):
        checking.close(features, want, rtol=0, atol=2e-5, what=f"preprocess(table, {name}) of shape {table.shape}")
        assert not np.shares_memory(features, table), "the features share memory with the table"
    return counts


# %% nbgrader={"grade": false, "grade_id": "cupy-check-transfers", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_transfers(counts: standin.Counts, table: np.ndarray) -> None:
    there, back = (counts.to_device, counts.to_device_bytes), (counts.to_host, counts.to_host_bytes)
    size = len(table) * (table.shape[1] - 2 + len(EDGES) + 1 + CLASSES) * 4
    checking.equal(there, (1, table.nbytes), what="transfers to the device, and bytes", hint="edges made of a list are one too")
    checking.equal(back, (1, size), what="transfers to the host, and bytes", hint="x[mask] and item() wait for the device too")


# %% nbgrader={"grade": true, "grade_id": "test-cupy-preprocess", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: the colleague's values on both modules; one transfer each way; launches that do not grow with rows or columns.
# Fails if: parts travel alone, edges or codes are moved, the work is done on the host, or a loop runs over columns.
# A pass: each credit is earned.
def test_unit_preprocess() -> float:
    credit = checking.Credit(4)
    with credit.check("the colleague's features", points=2, hint="compare with as_it_came, column by column"):
        check_preprocess(np.array([[1, 33, 0], [3, 60, 2]], np.float32))
        check_preprocess(make_table(50, 6, seed=1))
        ### BEGIN HIDDEN TESTS
        # check: other tables: one row, one column, no holes to fill in some
        # hint: which of your functions sees a shape or a value here that it has not seen before?
        seed = checking.secret_seed()
        for rows, columns in ((1, 3), (20, 1), (301, 17)):
            check_preprocess(make_table(rows, columns, seed))
        check_preprocess(np.asfortranarray(make_table(64, 5, seed)))
        # check: a column without any value
        # hint: what do fill_missing and standardize make of it, one after the other?
        empty = make_table(9, 3, seed)
        empty[:, 1] = np.nan
        check_preprocess(empty)
        ### END HIDDEN TESTS
    with credit.check("transfers and launches", points=2, hint="count inside preprocess with standin.counting()"):
        table = make_table(40, 8, seed=2)
        check_transfers(check_preprocess(table), table)
        ### BEGIN HIDDEN TESTS
        # check: the same number of launches for a large table, and enough of them
        # hint: does a Python loop run over columns, rows or classes, or does the host do the work?
        seen = []
        for rows, columns in ((10, 4), (500, 4), (500, 40)):
            table = make_table(rows, columns, checking.secret_seed())
            counts = check_preprocess(table)
            check_transfers(counts, table)
            seen.append(counts.launches)
        assert 8 <= seen[0] <= 48 and len(set(seen)) == 1, f"launches for three tables: {seen}"
        ### END HIDDEN TESTS
    return credit.total()


test_unit_preprocess()


# %% [markdown]
# ### What just happened?
#
# A port is not a search-and-replace. You moved the *borders*: where data enters and leaves, and nothing in between knows where it runs.

# %%
def ported(rows=1000, columns=16):
    table = make_table(rows, columns, seed=5)
    with standin.counting() as counts:
        preprocess(table, standin)
    return counts


insight.run(ported, needs="Exercises 1 to 6")


# %% [markdown]
# ### Systems insight 3 of 3: when is the ferry worth it?
#
# *Checkpoint:* a pipeline that runs on both. *Predict before you run:* from how many rows on would a GPU be faster than NumPy on this machine,
# transfers included, over PCIe (about 25 GB/s) and in unified memory (a copy at 100 GB/s, say)? The model takes *your* launches and bytes, and the
# clock takes *your* NumPy time.

# %%
def model_seconds(counts, bus_gb, memory_gb=273.0, launch=5e-6, copy=10e-6):
    """The model of the foundations. Its constants are assumptions; the counts are yours."""
    moved = counts.to_device_bytes + counts.to_host_bytes
    transfers = (counts.to_device + counts.to_host) * copy + moved / (bus_gb * 1e9)
    return transfers + counts.launches * launch + counts.device_bytes / (memory_gb * 1e9)


# %%
def clocked(table, repeats=3):
    """Seconds of the pipeline on NumPy: the fastest of some runs."""
    runs = []
    for _ in range(repeats):
        start = time.perf_counter()
        preprocess(table, np)
        runs.append(time.perf_counter() - start)
    return min(runs)


# %%
def break_even(columns=16):
    """Milliseconds by the clock (NumPy) and by the model (a GPU with PCIe, a GPU with unified memory), by rows."""
    times = {"NumPy, measured": [], "GPU over PCIe, model": [], "GPU, unified memory, model": []}
    sizes = [2**k for k in (4, 7, 10, 13, 15)]
    for rows in sizes:
        table = make_table(rows, columns, seed=6)
        with standin.counting() as counts:
            preprocess(table, standin)
        clock = clocked(table)
        for line, seconds in zip(times.values(), (clock, model_seconds(counts, 25), model_seconds(counts, 100)), strict=True):
            line.append(1e3 * seconds)
    return sizes, times


# %%
evened = insight.run(break_even, needs="Exercises 1 to 6")
if evened:
    insight.lines(*evened, xlabel="rows of 18 columns", ylabel="ms", title="a pipeline, there and back", logx=True, logy=True)

# %% [markdown]
# For small tables the model's line is flat: launches and two starts of a copy, whatever the size. Where the lines cross is your break-even. For large
# ones the bus decides, and with unified memory the kernels.
#
# *In production* the last transfer often falls away: the model that eats the features is on the device too. Then leave them there (CuPy and
# PyTorch share memory by DLPack), and the break-even moves to the left.

# %% [markdown]
# ## Part 7: A kernel of your own
#
# Some things are neither elementwise nor one of CuPy's reductions: to standardise each *row* takes two sums and a pass over the same data. As array
# operations that is seven kernels. As one kernel, a block takes a row, adds up in shared memory (the tree of lab 1.3.1), and writes. In CuPy
# you would write CUDA C++ in a `RawKernel`; Numba compiles the same from Python, and takes CuPy's arrays as they are.
#
# **Exercise 7 (4 points).** Write `rows_kernel`.

# %% nbgrader={"grade": false, "grade_id": "cupy-rows-given", "locked": true, "schema_version": 3, "solution": false, "task": false}
MAX_THREADS = 256  # a block has a power of two of threads, at most this many
EPS = 1e-5  # added to the variance, as in layer norm: a constant row becomes 0 without a special case


# %% nbgrader={"grade": false, "grade_id": "cupy-rows", "locked": false, "schema_version": 3, "solution": true, "task": false}
@cuda.jit
def rows_kernel(x, out):
    """Block b writes (x[b] - mean) / sqrt(var + EPS) of row b to out[b].

    Args:
        x: float32, shape (blocks, d), any d of at least 1, without NaN. Each element is read three times at most.
        out: float32, the shape of x. Each element is written once.

    Launch: [rows, threads] with threads a power of two, at most MAX_THREADS. mean and var (population) are the row's.

    TODO: Two sums in shared memory, one after the other, then one pass that writes. No atomics.

    APPROACH:
        1. Let thread t take columns t, t + threads, ..., because then neighbours read neighbours.
        2. Add up the threads' sums by a tree in shared memory, because registers are private.
        3. Sum the squares of x - mean in a second pass, because sum(x**2) - n mean**2 cancels.

    EXAMPLE:
        >>> out = np.zeros((1, 4), np.float32)
        >>> rows_kernel[1, 2](np.array([[1, 1, 3, 3]], np.float32), out)
        >>> out.round(3)
        array([[-1., -1.,  1.,  1.]], dtype=float32)

    HINTS:
        1. for j in range(t, x.shape[1], cuda.blockDim.x) visits thread t's columns.
        2. After the first tree all threads read tile[0]; a barrier has to stand before anyone writes to the tile again.
        3. float32(...) around counts keeps the arithmetic in float32; math.sqrt works in kernels.
    """
    tile = cuda.shared.array(MAX_THREADS, float32)
    ### BEGIN SOLUTION
    row, t, columns = cuda.blockIdx.x, cuda.threadIdx.x, x.shape[1]
    mean, scale = float32(0), float32(0)
    for which in range(2):
        total = float32(0)
        for j in range(t, columns, cuda.blockDim.x):
            d = x[row, j] - mean
            total += d if which == 0 else d * d
        tile[t] = total
        cuda.syncthreads()
        half = cuda.blockDim.x // 2
        while half > 0:
            if t < half:
                tile[t] += tile[t + half]
            cuda.syncthreads()
            half //= 2
        if which == 0:
            mean = tile[0] / float32(columns)
        else:
            scale = float32(1 / math.sqrt(tile[0] / float32(columns) + float32(EPS)))
        cuda.syncthreads()
    for j in range(t, columns, cuda.blockDim.x):
        out[row, j] = (x[row, j] - mean) * scale
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "cupy-check-rows", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_rows(x: np.ndarray, threads: int):
    """The kernel's rows against float64, within the error that float32 sums of this depth may have."""
    run = launching.launch(rows_kernel, len(x), threads, x, launching.out(x.shape, np.float32))
    wide = x.astype(np.float64)
    centred = wide - wide.mean(axis=1, keepdims=True)
    spread = np.sqrt((centred**2).mean(axis=1, keepdims=True) + EPS)
    # Sums pass ceil(d / threads) + log2(threads) additions, each off by 2**-24; then a division, a difference, a product.
    unit = (math.ceil(x.shape[1] / threads) + math.log2(threads) + 6) * 2.0**-24
    shift = unit * np.abs(wide).max() / spread.min()  # what a wrong mean does
    atol = shift + 2 * (unit + shift**2) * np.abs(centred / spread).max()
    checking.close(run.out, (centred / spread).astype(np.float32), rtol=0, atol=float(atol),
                   what=f"rows_kernel[{len(x)}, {threads}] on rows of {x.shape[1]}", hint="print mean and variance of one row")
    return run.profile.total


# %% nbgrader={"grade": true, "grade_id": "test-cupy-rows", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: rows of any length, offsets, constant rows; reads, coalescing, stores; shared memory, no atomics; races.
# Fails if: a barrier is missing, one thread does the row, columns are taken in chunks, or squares are summed in one pass.
# A pass: each credit is earned.
def test_unit_rows() -> float:
    credit = checking.Credit(4)
    with credit.check("right rows", points=2, hint="which columns does the last thread take, and what if it has none?"):
        check_rows(np.array([[1, 1, 3, 3], [5, 6, 7, 8]], np.float32), 2)
        check_rows(numbers(3, 100, seed=1, holes=0), 32)
        ### BEGIN HIDDEN TESTS
        # check: rows shorter than a block, longer than one, of one column; one thread
        # hint: what is in the tile of a thread without a column?
        seed = checking.secret_seed()
        for rows, columns, threads in ((2, 1, 8), (3, 5, 16), (2, 257, 256), (4, 63, 1), (1, 130, 64)):
            check_rows(numbers(rows, columns, seed, holes=0), threads)
        # check: rows far from 0, and constant rows
        # hint: is the variance a sum of squares of differences?
        check_rows((np.random.default_rng(seed).standard_normal((3, 200)) + 300).astype(np.float32), 64)
        check_rows(np.full((2, 70), 0.1, np.float32), 32)
        ### END HIDDEN TESTS
    with credit.check("coalesced, in shared memory", points=2, hint="neighbouring threads, neighbouring columns"):
        total = check_rows(numbers(4, 256, seed=2, holes=0), 64)
        checking.equal((total.stores, total.atomics), (4 * 256, 0), what="stores to global memory, atomics")
        assert 4 * 256 <= total.loads <= 3 * 4 * 256, f"{total.loads} loads of 1,024 elements: at most three passes"
        checking.equal(32 * total.requests, total.loads + total.stores, what="accesses of full warps", hint="do all threads work?")
        checking.equal(total.sectors, 4 * total.requests, what="32-byte sectors", hint="32 neighbouring float32 are 4 sectors")
        assert total.shared_loads and total.barriers >= 4 * 2, "the threads' sums have to meet in shared memory, twice"
    return credit.total()


test_unit_rows()


# %% [markdown]
# ### What just happened?
#
# Three reads and one write for each element, sixteen bytes, in one launch. A row of up to some thousand columns would even fit into registers; then it is one read.

# %%
def rows_traffic():
    x = numbers(8, 512, seed=3, holes=0)
    total = launching.launch(rows_kernel, 8, 128, x, launching.out(x.shape, np.float32)).profile.total
    return f"{total.bytes_moved / x.size:.1f} bytes for each element, {total.sectors_per_request:.1f} sectors for a request"


insight.run(rows_traffic, needs="Exercise 7 (rows_kernel)")


# %% [markdown]
# ## Put it together
#
# One test of everything: the pipeline on a fresh table, its features scaled by the one kernel, each row standardised by the other.

# %% nbgrader={"grade": true, "grade_id": "test-integration-cupy", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Checks: pipeline, elementwise kernel and row kernel after one another, against float64 on the colleague's features.
# Fails if: pieces that pass alone do not fit together: shapes, dtypes, where an array lives.
# A pass prints nothing.
def test_integration_cupy() -> None:
    features = preprocess(make_table(24, 23, seed=11), standin)
    width = features.shape[1]
    mean, inverse = np.full(width, 0.25, np.float32), np.full(width, 2, np.float32)
    scaled = fused_scale(standin)(*(standin.asarray(array) for array in (features, mean, inverse)), 2.5).get()
    want = scale_chain(np, as_it_came(make_table(24, 23, seed=11)), mean, inverse, np.float32(2.5))
    checking.close(scaled, want, rtol=0, atol=5e-5, what="scaled features")  # twice 2e-5, the pipeline's, and rounding
    check_rows(scaled, 32)


def test_unit_all() -> None:
    for test in (test_unit_module, test_unit_fill, test_unit_standardize, test_unit_encode, test_unit_fused,
                 test_unit_preprocess, test_unit_rows):
        test()


test_integration_cupy()


# %% [markdown]
# Run everything again, if you like: `test_unit_all()`.

# %% [markdown]
# ## Use it: a table for a model
#
# Customers with income, balance, age and region; whether they will buy depends on the first two *together*. A linear model by least squares gets it
# from prepared columns, while on raw ones NaN makes it nothing at all. Your pipeline runs on the stand-in, as it would on a GPU.

# %%
def customers(rows=2000, seed=7):
    """A table for preprocess, and what is to be predicted."""
    rng = np.random.default_rng(seed)
    table = make_table(rows, 4, seed)
    signal = rng.standard_normal((rows, 2))
    table[:, :2] = 40_000 + 9_000 * signal
    table[rng.random(rows) < 0.1, 0] = np.nan
    return table, np.sign(signal.sum(axis=1) + 0.3 * rng.standard_normal(rows))


# %%
def accuracy(module=standin):
    """Of least squares on the prepared columns, on rows that it has not seen."""
    table, target = customers()
    features = preprocess(table, module)
    weights, *_ = np.linalg.lstsq(features[:1500], target[:1500], rcond=None)
    return features, float((np.sign(features[1500:] @ weights) == target[1500:]).mean())


used = insight.run(accuracy, needs="Exercises 1 to 6")
if used:
    print(f"accuracy on 500 unseen rows: {used[1]:.3f}; raw incomes that are NaN: {np.isnan(customers()[0][:, 0]).sum()}")

# %%
import matplotlib.pyplot as plt

if used:
    _, (left, right) = plt.subplots(1, 2, figsize=(8, 2.8), layout="constrained")
    left.hist(customers()[0][:, 0], bins=40, color=insight.COLOURS[0])
    right.hist(used[0][:, 0], bins=40, color=insight.COLOURS[1])
    left.set(title="income, raw", xlabel="euros", ylabel="rows")
    right.set(title="income, prepared", xlabel="standard deviations")

# %% [markdown]
# ## On your Spark
#
# The same functions on real CuPy, at 2**20 rows of 66 columns, beside NumPy on one core. CuPy is in none of the course's requirements; in the
# container:
#
# ```bash
# sync; echo 3 | sudo tee /proc/sys/vm/drop_caches   # unified memory: the file cache would take from the GPU's share
# docker run --gpus all -it --rm --ipc=host -p 8888:8888 -v $PWD:/workspace nvcr.io/nvidia/pytorch:25.11-py3
# pip install cupy-cuda13x                            # in the container, and the course's package
# ```
#
# Measure the pipeline with its transfers, the chain, your kernel, `cupy.fuse` and a `RawKernel`. This section is **not yet measured on a GPU** by
# the authors. Mind that CuPy's first call of each kernel compiles it: `timing.measure` warms up.

# %%
FILL = r"""
extern "C" __global__ void fill_holes(const float* x, const float* mean, float* out, int columns, long long size) {
    long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (i < size) out[i] = isnan(x[i]) ? mean[i % columns] : x[i];
}
"""


# %%
def raw_fill(cupy, x, mean):
    """CUDA C++ in a string: what CuPy compiles, with grid, block and arguments as you know them from Numba."""
    out, kernel = cupy.empty_like(x), cupy.RawKernel(FILL, "fill_holes")
    kernel(((x.size + 255) // 256,), (256,), (x, mean, out, np.int32(x.shape[1]), np.int64(x.size)))
    return out


# %%
def full_size(rows=2**20, columns=64):
    """The pipeline, the elementwise kernel and the row kernel with real CuPy, beside NumPy on one core."""
    hardware.require_gpu("the full-size run")
    import cupy
    import torch

    MODULES.extend([cupy] if cupy not in MODULES else [])
    table = make_table(rows, columns, seed=1)
    features, want = preprocess(table, cupy), preprocess(table, np)
    # Two float64 computations, each rounded once to float32, of values below 16, and two sums of 2**20: 1e-5 is ample.
    assert np.abs(features - want).max() < 1e-5, "preprocess differs between CuPy and NumPy"
    clock = timing.measure(lambda: preprocess(table, cupy), repeats=10)
    cpu = fullsize.cpu_seconds(lambda: preprocess(table, np), repeats=3)
    measured = [fullsize.Measured("preprocess", clock.median, table.nbytes + features.nbytes, cpu_s=cpu)]
    x, mean, inverse = cupy.asarray(table[:, :columns]), cupy.zeros(columns, "float32"), cupy.ones(columns, "float32")
    three, kernel = cupy.float32(3), fused_scale(cupy)
    assert (kernel(x, mean, inverse, three) == scale_chain(cupy, x, mean, inverse, three)).all(), "fused_scale is wrong"
    chain = timing.measure(lambda: scale_chain(cupy, x, mean, inverse, three), repeats=10).median
    clock = timing.measure(lambda: kernel(x, mean, inverse, three), repeats=10)
    measured.append(fullsize.Measured("fused_scale", clock.median, 2 * x.nbytes, library_s=chain))
    wide = torch.randn(rows // 8, 1024, device="cuda")
    source, out = cuda.as_cuda_array(wide), cuda.device_array(wide.shape, np.float32)
    rows_kernel[len(wide), 256](source, out)
    normal = torch.nn.functional.layer_norm
    assert (torch.as_tensor(out, device="cuda") - normal(wide, (1024,))).abs().max() < 1e-4, "rows_kernel is wrong"
    clock = timing.measure(lambda: rows_kernel[len(wide), 256](source, out), repeats=10)
    library = timing.measure(lambda: normal(wide, (1024,)), repeats=10).median
    return [*measured, fullsize.Measured("rows_kernel", clock.median, 8 * wide.numel(), library_s=library)]


# %% [markdown]
# For `fused_scale` the "library" is the chain of six: the factor says what fusing buys. For `rows_kernel` it is torch's layer norm.

# %%
def raw_and_fused(rows=2**20, columns=64):
    """Seconds of cupy.fuse on the chain and of the RawKernel."""
    import cupy

    x, mean = cupy.asarray(numbers(rows, columns, seed=2)), cupy.ones(columns, "float32")
    inverse, fuse = cupy.ones(columns, "float32"), cupy.fuse(lambda *a: scale_chain(cupy, *a))
    return {"cupy.fuse": timing.measure(lambda: fuse(x, mean, inverse, cupy.float32(3)), repeats=10).median,
            "RawKernel": timing.measure(lambda: raw_fill(cupy, x, mean), repeats=10).median}


# %%
def on_your_spark():
    rows = full_size()
    fullsize.show(rows, fullsize.roofs())
    return {row.kernel: row.seconds for row in rows} | raw_and_fused()


seconds = None
if device.simulated:
    print("No GPU here: nothing to measure.")
else:
    seconds = insight.run(on_your_spark, needs="Exercises 1 to 7")

# %% [markdown]
# **Record** what you measured, in milliseconds: replace each `None`. The cell after it looks at the form; a person looks at the content.

# %%
spark_record = {"device": None, "rows": None, "numpy_ms": None, "preprocess_ms": None, "chain_ms": None, "fused_ms": None}


# %% nbgrader={"grade": false, "grade_id": "cupy-record", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_record(record: dict) -> str:
    """Whether the record is complete and possible. Nothing is graded here."""
    missing = [name for name, value in record.items() if value is None]
    if missing:
        return f"Still empty: {', '.join(missing)}. That is fine without a GPU."
    odd = [name for name, value in record.items() if name.endswith("_ms") and not 1e-3 < value < 1e6]
    if odd:
        return f"Milliseconds between 0.001 and a million, please: {', '.join(odd)}"
    speedup, fused = record["numpy_ms"] / record["preprocess_ms"], record["chain_ms"] / record["fused_ms"]
    return f"{record['device']}: {speedup:.1f} times NumPy, transfers included; fusing gains {fused:.1f} times"


# %%
print(check_record(spark_record))


# %% [markdown]
# ## Common mistakes
#
# **1. NumPy inside agnostic code.** It works in every test on the CPU.
#
# ```python
# missing = np.isnan(x)                          # wrong: TypeError on the stand-in; at best a hidden copy elsewhere
# missing = xp.isnan(x)                          # right
# ```
#
# **2. A mask as an index.** The result's length is known to the device only, so Python waits, once for each column.
#
# ```python
# mean = column[~xp.isnan(column)].mean()        # wrong: a wait
# total = xp.where(missing, 0, column).sum()     # right: shapes do not depend on values
# ```
#
# **3. A constant by its standard deviation.**
#
# ```python
# constant = wide.std(axis=0) == 0               # wrong: 0.1, a thousand times, has a std of 1e-15
# constant = largest == smallest                 # right
# ```

# %% [markdown]
# **4. NaN after the cut.** In C, `fmaxf(NAN, -3)` is -3.
#
# ```c
# y = fminf(fmaxf(z, -limit), limit); y = isnan(y) ? 0 : y;     // wrong: NaN is -limit by now
# ```
#
# **5. A transfer in the loop.** Each of the columns crosses alone, and each crossing waits.
#
# ```python
# parts = [xp.asnumpy(standardize(xp.asarray(c))) for c in columns]     # wrong
# there = xp.asarray(all_columns)                                       # right, once
# ```
#
# **6. Squares in one pass.** For a mean of 300 and a spread of 1 float32 keeps two digits of the variance.
#
# ```python
# var = squares / n - mean * mean                # wrong: two large numbers that are nearly the same
# var = sum_of((x - mean) ** 2) / n              # right: a second pass
# ```

# %% [markdown]
# ## Reflect
#
# Three questions on *your* code and *your* measurements, read by a person. Five to ten lines each; numbers need a source in this notebook.

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-cupy-traffic", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Question 1: traffic (3 points).** From `traffic`: (a) derive both numbers of bytes for an element from the code of the chain and of your kernel. (b) Below which
# number of elements do launches dominate in the chain, with 5 µs and 273 GB/s? (c) What would fusing `standardize` in the same way take,
# and why is one elementwise kernel not enough?
#
# ### BEGIN SOLUTION
# (a) Chain: difference and product read and write 4 bytes each (16), isnan reads 4 and writes 1 (5), where reads 1 + 4 and writes 4 (9), minimum and maximum 8 each (16):
# 46 bytes. One kernel: 4 read, 4 written, 8 bytes; the columns' numbers are next to nothing. (b) 6 * 5 µs = 30 µs; 46 n / 273e9 = 30e-6 gives n = 178,000 elements.
# (c) The mean needs all rows before the first result can be written: a reduction, then an elementwise step. So two or three kernels: sums, sums of squared
# differences, scaling; with float64 in registers and float32 in memory that is about 4 + 4 + 8 bytes an element instead of the count that `passes` shows.
#
# ### BEGIN MARK SCHEME
# - 1 point: both numbers derived operation by operation. Half: only the sum of reads and writes of float32, without the mask.
# - 1 point: launches times 5 µs set equal to bytes over bandwidth, solved.
# - 1 point: names the dependence of all rows on the mean, and counts the passes that remain.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-cupy-break-even", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Question 2: break-even (3 points).** From `evened` and `nanoseconds`: (a) where do your lines cross, and which terms of the model decide on either side? (b) Double the launch
# time, then double the bus: which moves the crossing, which the right end? (c) The next step of training is on the GPU. What changes in
# the model, and what in `preprocess`?
#
# ### BEGIN SOLUTION
# (With the student's numbers.) (a) The model's floor is two copies' start, 20 µs, and about 30 launches of 5 µs: 0.17 ms; NumPy is below that up to a few hundred rows of 18
# columns, so the crossing lies between 2**7 and 2**10 rows. Left of it launches decide; right of it bytes: over PCIe those of the bus, in unified
# memory those of device memory, since the float64 steps move many times the table. (b) Twice the launch moves the floor and with it the crossing, hardly the right end; twice the
# bus lowers the right end for PCIe and leaves the crossing. (c) One transfer falls away, bytes by more than half since features are wider than the
# table, and the wait at the end: preprocess returns the device's array, or hands it over by DLPack, and only the caller's borders change.
#
# ### BEGIN MARK SCHEME
# - 1 point: a crossing read from their figure, with the deciding term on each side.
# - 1 point: both effects right, with the term of the model that explains them.
# - 1 point: the transfer and the synchronisation that fall away, and that only the last line changes.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-cupy-production", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Question 3: production (3 points).** Your team runs `preprocess` in training on GPUs and in a service on CPUs, one row at a time. (a) Which of your functions gives a single row
# something else than it gave in training, and what has to be stored? (b) A test on CPUs is green, and on the GPU it fails: name two kinds of
# mistake that the stand-in finds and NumPy does not, from your own attempts or tests. (c) Which one that it cannot find?
#
# ### BEGIN SOLUTION
# (a) fill_missing and standardize take their statistics from the table at hand: a single row is constant in every column and becomes 0. Means, deviations and the constant
# columns of the training set have to be stored and applied, as fused_scale does with mean and inverse. (b) NumPy functions on device arrays, mixed arrays, and
# waits such as float(x), item() or a boolean index, which are counted. (c) Order of summation and so last bits, races in kernels of one's own, memory that runs out, functions whose
# options CuPy lacks, time.
#
# ### BEGIN MARK SCHEME
# - 1 point: names the statistics and where they come from; what is stored. Half: "the results differ".
# - 1 point: two kinds of mistake, tied to a test or an attempt.
# - 1 point: a fault that only real hardware shows, with the reason.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# What you built, in the numbers of your own run:

# %%
def summary():
    print(f"the pipeline for 1,000 rows: {ported()}")
    for name, (launches, nbytes) in traffic.items():
        print(f"{name:12} {launches} launches, {nbytes:.1f} bytes for each element")
    print("NumPy's standardize, ns for each element:", {rows: round(ns, 1) for rows, ns in nanoseconds.items()})
    print("row kernel:", rows_traffic())


insight.run(summary, needs="Exercises 1 to 7")

# %% [markdown]
# ## Challenge (optional)
#
# 1. **Medians.** Fill holes with the column's median. A sort on the device, holes last, and an index for each column: still no wait?
# 2. **Stored statistics.** Split `standardize` into `fit` and `apply`, and let `apply` be your one kernel.
# 3. **One read.** Keep a row of up to 1,024 columns in registers, four for each thread. How many bytes for each element now?
# 4. **No copy at all.** On a Spark, give CuPy managed memory (`cupy.cuda.set_allocator` with `malloc_managed`). What is left of the transfers?
#
# ## Further reading
#
# - R. Okuta et al., *CuPy: A NumPy-Compatible Library for NVIDIA GPU Calculations*, 2017 (LearningSys workshop at NIPS).
# - CuPy's documentation: "User-Defined Kernels", "Differences between CuPy and NumPy", "Performance Best Practices".
# - Python array API standard, and `array-api-compat`: `array_namespace` in SciPy and scikit-learn.
# - T. F. Chan, G. H. Golub, R. J. LeVeque, *Algorithms for Computing the Sample Variance*, The American Statistician, 1983.

# %% [markdown]
# ## Clean up
#
# Close the figures, and on a machine with a GPU give back the memory of arrays that nobody holds.

# %%
plt.close("all")
on_device = used = None
if not device.simulated:
    cuda.current_context().deallocations.clear()
