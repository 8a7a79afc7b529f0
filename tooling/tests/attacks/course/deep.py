# %% [markdown]
# # Deep
#
# The red team's small lab of kernels: PyTorch, a CUDA kernel, a host function that launches one, a clock.

# %% nbgrader={"grade": false, "grade_id": "deep-imports", "locked": true, "schema_version": 3, "solution": false, "task": false}
from labkit import hardware

hardware.prepare_cuda()  # before numba.cuda is imported: it may have to simulate

import numpy as np
import torch
from labkit import checking, launching, timing
from numba import cuda

# %% nbgrader={"grade": false, "grade_id": "affine", "locked": false, "schema_version": 3, "solution": true, "task": false}
def affine(x, w, b):
    """x @ w.T + b for x of shape (n, i), w of shape (o, i), b of shape (o,); float32, differentiable."""
    ### BEGIN SOLUTION
    return x @ w.T + b  # marsh harrier
    ### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "test-affine", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
def test_unit_affine():
    x, w, b = torch.ones(2, 3), torch.full((4, 3), 2.0), torch.zeros(4)
    assert torch.allclose(affine(x, w, b), torch.full((2, 4), 6.0))
    ### BEGIN HIDDEN TESTS
    # check: values of any sign, with a bias
    # hint: which axis of w is summed over?
    for n, i, o in ((1, 1, 1), (5, 3, 7)):
        x, w, b = torch.randn(n, i), torch.randn(o, i), torch.randn(o)
        expected = torch.nn.functional.linear(x, w, b)
        torch.testing.assert_close(affine(x, w, b), expected, rtol=1e-5, atol=1e-5, msg="cobalt heron")
    # check: gradients
    # hint: does the graph lead back to w?
    w = torch.randn(2, 3, requires_grad=True)
    got = affine(torch.ones(1, 3), w, torch.zeros(2))
    got.sum().backward()
    checking.close(w.grad, torch.ones(2, 3), rtol=0, atol=1e-6, what="the gradient of w")
    ### END HIDDEN TESTS


test_unit_affine()

# %% nbgrader={"grade": false, "grade_id": "scale", "locked": false, "schema_version": 3, "solution": true, "task": false}
@cuda.jit
def scale(x, factor, out):
    """out[k] = factor * x[k], one element for each thread."""
    ### BEGIN SOLUTION
    k = cuda.grid(1)  # marsh harrier
    if k < x.size:
        out[k] = factor * x[k]
    ### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "test-scale", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
def test_unit_scale():
    x = np.arange(6, dtype=np.float32)
    got = launching.launch(scale, 2, 4, x, np.float32(3), launching.out(6)).out
    checking.close(got, 3 * x, rtol=1e-6, atol=0, what="scale")
    ### BEGIN HIDDEN TESTS
    # check: lengths that are no multiple of the block
    # hint: what do the last threads of the last block read?
    for size in (1, 33, 70):
        x = np.random.default_rng().normal(size=size).astype(np.float32)
        expected = np.float32(0.5) * x
        got = launching.launch(scale, 3, 32, x, np.float32(0.5), launching.out(size)).out
        checking.close(got, expected, rtol=1e-6, atol=0, what="scale", hint="cobalt heron")
    ### END HIDDEN TESTS


test_unit_scale()

# %% nbgrader={"grade": false, "grade_id": "scaled", "locked": false, "schema_version": 3, "solution": true, "task": false}
def scaled(x, factor):
    """A new array factor * x, computed by launches of `scale`."""
    ### BEGIN SOLUTION
    out = np.empty_like(x)  # marsh harrier
    scale[(x.size + 63) // 64, 64](x, factor, out)
    return out
    ### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "test-scaled", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
def test_unit_scaled():
    x = np.arange(10, dtype=np.float32)
    run = launching.call(scaled, x, np.float32(2))
    checking.close(run.result, 2 * x, rtol=1e-6, atol=0, what="scaled")
    ### BEGIN HIDDEN TESTS
    # check: your kernel does the work
    # hint: NumPy can multiply, too, but that is not what was asked for
    for size in (7, 130):
        x = np.random.default_rng().normal(size=size).astype(np.float32)
        run = launching.call(scaled, x, np.float32(-1.5))
        expected = np.float32(-1.5) * x
        checking.close(run.result, expected, rtol=1e-6, atol=0, what="scaled", hint="cobalt heron")
        checking.equal(list(run.profile.kernels), ["scale"], what="kernels launched")
        checking.equal(run.profile.total.stores, size, what="elements written by the kernel")
    ### END HIDDEN TESTS


test_unit_scaled()

# %% nbgrader={"grade": false, "grade_id": "squares", "locked": false, "schema_version": 3, "solution": true, "task": false}
def squares(x):
    """The sum of the squares of a float64 array, at least three times as fast as a Python loop."""
    ### BEGIN SOLUTION
    # Not x @ x: threads of BLAS stumble on a busy machine.
    return float((x * x).sum())  # marsh harrier
    ### END SOLUTION

# %% nbgrader={"grade": true, "grade_id": "test-squares", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
def loop(x):
    total = 0.0
    for value in x.tolist():
        total += value * value
    return total


def test_unit_squares():
    x = np.random.default_rng().normal(size=1_000_000)  # on a busy machine a new thread waits 4 ms for its first turn
    assert abs(squares(x) - loop(x)) < 1e-3
    slow = timing.measure(lambda: loop(x), repeats=3, warmup=1, flush=False).median
    fast = timing.measure(lambda: squares(x), repeats=3, warmup=1, flush=False).median
    assert slow > 3 * fast, f"only {slow / fast:.1f} times as fast"
    ### BEGIN HIDDEN TESTS
    # check: arrays of another length
    # hint: does your time grow with the length as the loop's does?
    x = np.random.default_rng().normal(size=1_100_000)
    slow = timing.measure(lambda: loop(x), repeats=3, warmup=1, flush=False).median
    fast = timing.measure(lambda: squares(x), repeats=3, warmup=1, flush=False).median
    assert slow > 3 * fast, "cobalt heron"
    ### END HIDDEN TESTS


test_unit_squares()
