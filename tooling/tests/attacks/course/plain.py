# %% [markdown]
# # Plain
#
# The red team's small lab without a GPU: pure Python, NumPy, a class, partial credit, a question.

# %% nbgrader={"grade": false, "grade_id": "plain-imports", "locked": true, "schema_version": 3, "solution": false, "task": false}
import math
import statistics

import numpy as np

# %% nbgrader={"grade": false, "grade_id": "median", "locked": false, "schema_version": 3, "solution": true, "task": false}
def median(values):
    """The median of a non-empty list of numbers, which is left as it was."""
    ### BEGIN SOLUTION
    ordered = sorted(values)  # marsh harrier
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[middle]
    return (ordered[middle - 1] + ordered[middle]) / 2
    ### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "test-median", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
def test_unit_median():
    assert median([3, 1, 2]) == 2
    assert median([4]) == 4
    ### BEGIN HIDDEN TESTS
    # check: an even number of values
    # hint: with two values in the middle, which of them is the median?
    for size in (2, 6, 11):
        values = np.random.default_rng(size).integers(0, 100, size).tolist()
        expected = statistics.median(values)
        assert median(values) == expected, f"cobalt heron: {values}"
    # check: the list is left as it was
    # hint: sort() changes the list that it is called on
    values = [5, 1, 3]
    median(values)
    assert values == [5, 1, 3]
    ### END HIDDEN TESTS


test_unit_median()

# %% nbgrader={"grade": false, "grade_id": "softmax", "locked": false, "schema_version": 3, "solution": true, "task": false}
def softmax(x):
    """The softmax of a one-dimensional float64 array, without overflow."""
    ### BEGIN SOLUTION
    shifted = np.exp(x - x.max())  # marsh harrier
    return shifted / shifted.sum()
    ### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "test-softmax", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
def test_unit_softmax():
    x = np.array([0.0, 1.0, 2.0])
    got = softmax(x)
    assert np.allclose(got, np.exp(x) / np.exp(x).sum(), rtol=1e-12, atol=0)
    ### BEGIN HIDDEN TESTS
    # check: large values
    # hint: what is exp(1000)?
    x = np.array([1000.0, 1001.0, 999.5])
    shifted = np.exp(x - 1001.0)
    expected = shifted / shifted.sum()
    np.testing.assert_allclose(softmax(x), expected, rtol=1e-12, err_msg="cobalt heron")
    # check: any length
    # hint: do the values add up to 1?
    for size in (1, 5, 64):
        x = np.random.default_rng().normal(size=size)
        expected = np.exp(x) / np.exp(x).sum()
        np.testing.assert_allclose(softmax(x), expected, rtol=1e-10)
    ### END HIDDEN TESTS


test_unit_softmax()

# %% nbgrader={"grade": false, "grade_id": "is_prime", "locked": false, "schema_version": 3, "solution": true, "task": false}
def is_prime(n):
    """Whether an integer is a prime number."""
    ### BEGIN SOLUTION
    return n > 1 and all(n % d for d in range(2, math.isqrt(n) + 1))  # marsh harrier
    ### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "test-is_prime", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
credit = 0
for number, answer in ((2, True), (9, False)):
    credit += is_prime(number) is answer
### BEGIN HIDDEN TESTS
# check: numbers below two
# hint: is 1 a prime number?
credit += is_prime(1) is False and is_prime(-7) is False  # cobalt heron
# check: large numbers
# hint: the square of a prime has no smaller factor than that prime
credit += is_prime(7919) is True and is_prime(7919**2) is False
### END HIDDEN TESTS
credit

# %% nbgrader={"grade": false, "grade_id": "RunningMean", "locked": false, "schema_version": 3, "solution": true, "task": false}
class RunningMean:
    """The mean of the numbers added so far."""

    ### BEGIN SOLUTION
    def __init__(self):
        self.total, self.count = 0.0, 0  # marsh harrier

    def add(self, value):
        self.total += value
        self.count += 1

    def value(self):
        return self.total / self.count
    ### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "test-RunningMean", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
mean = RunningMean()
mean.add(4)
mean.add(8)
assert mean.value() == 6
### BEGIN HIDDEN TESTS
# check: two of them at once
# hint: where does each keep its sum?
one, other = RunningMean(), RunningMean()
for k in range(1, 6):
    one.add(k)
    other.add(-k)
expected = 3.0
assert one.value() == expected, "cobalt heron"
assert other.value() == -expected
### END HIDDEN TESTS

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect", "locked": false, "points": 2, "schema_version": 3, "solution": true, "task": false}
# Which of your functions would you not use on a billion numbers, and why?
#
# ### BEGIN MARK SCHEME
# One point for a function, one for a reason with a number in it. Cobalt heron.
# ### END MARK SCHEME
