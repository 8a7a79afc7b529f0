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
# # Lab 3.1.2: DoRA comparison
#
# | | |
# |---|---|
# | Module | 3.1 LLM Fine-Tuning |
# | Time | 2 hours |
# | Difficulty | ★★★☆☆ |
# | Hardware | gpu-optional: everything graded runs on a CPU; *On your Spark* is for a large GPU |
# | Points | 31 automatic, 9 read by a person |
# | Builds on | 3.1.1 LoRA from scratch |
#
# DoRA splits each weight matrix into how long its rows are and where they point, and lets LoRA turn only the
# direction. You build it, hold it against PEFT, and then do what is harder: compare it with LoRA so fairly that you
# would believe the result whichever way it came out.

# %% [markdown]
# ## What you'll achieve
#
# By the end you have
#
# 1. **Systems understanding**: measured what DoRA's norm costs in memory and time, and what leaving it out of the
#    backward pass saves (objective 3.1.1).
# 2. **Core skill**: written the decomposition, the layer with the gradient of the paper's section 4.3, merge and
#    unmerge (objective 3.1.1).
# 3. **A pattern**: the fair comparison: same start, same data, same budget, several seeds, differences taken in pairs.
# 4. **A tie to production**: agreed with PEFT's `use_dora` and `use_rslora`, in outputs, gradients and merged weights.
# 5. **A trade-off**: seen how the step of an adapter shrinks as its rank grows, and what the scaling of rsLoRA changes
#    about it (objective 3.1.1).

# %% [markdown]
# ## Before you start
#
# You have built LoRA (3.1.1): a frozen $W$, two factors, a scaling. **What works**: it trains with a hundredth of the
# numbers. **The gap**: it does not move weights the way full fine-tuning does. The authors of DoRA saw that full
# fine-tuning can change the *direction* of a weight much and its *length* little, or the other way round, while LoRA
# changes both in step. **This lab** gives the length a parameter of its own.
#
# ```
# 3.1.1 LoRA: W + s B A ────────┐
# 1.4   norms, projections ─────┼──>  3.1.2 DoRA, rsLoRA  ──>  3.1.4 8B fine-tuning  ──>  3.1.5 QLoRA
# 2.1   autograd, detach ───────┘
# ```

# %% [markdown]
# ### Skill checks
#
# Answer first, then unfold.
#
# <details><summary>1. A row of a weight matrix is multiplied by 3. What happens to its length and its direction?</summary>
#
# The length triples, the direction stays. So length and direction are two independent ways to change a row.
# </details>
#
# <details><summary>2. <code>y = w / w.norm().detach()</code>. What does autograd take the derivative of y by w to be?</summary>
#
# One over the norm, times the identity: to autograd the detached norm is a number that fell from the sky. Without
# `detach` there is a second term, which removes the part of the gradient along w.
# </details>
#
# <details><summary>3. Two methods are run with seeds 0 to 5. Why is it better to subtract seed by seed than to subtract the means and add up the variances?</summary>
#
# A seed that is hard for one method is often hard for the other. In the difference that common part cancels, and what
# is left shows the methods.
# </details>

# %% nbgrader={"grade": false, "grade_id": "dora-given-setup", "locked": true, "schema_version": 3, "solution": false, "task": false}
import copy
import itertools
import math
import random
import statistics
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from types import SimpleNamespace

# %% nbgrader={"grade": false, "grade_id": "dora-given-libraries", "locked": true, "schema_version": 3, "solution": false, "task": false}
import torch
from labkit import checking, insight, tiny
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn import functional as F

warnings.filterwarnings("ignore", category=FutureWarning)  # from inside transformers, nothing to do with you
torch.set_num_threads(1)  # with matrices this small, a second thread would mostly wait for the first

# %% [markdown]
# Readiness check: norms along an axis, and a detached factor. It should print `ready`.

# %%
rows = torch.tensor([[3.0, 4.0], [0.0, 2.0]])
assert torch.linalg.vector_norm(rows, dim=1).tolist() == [5.0, 2.0]
w = torch.tensor([3.0, 4.0], requires_grad=True)
(w / w.norm().detach()).sum().backward()
assert torch.allclose(w.grad, torch.tensor([0.2, 0.2]), rtol=1e-6, atol=0)
print("ready")

# %% [markdown]
# ## Why it matters
#
# On eight commonsense benchmarks the authors of DoRA measured 78.4 % for LLaMA-7B against 74.7 % with LoRA; at *half*
# LoRA's rank, 77.5 % (Liu et al. 2024, section 5.1). The price is one number per output of each layer, about a
# hundredth of a percent of the model, and nothing at all in serving: it merges.
#
# In production, `use_dora=True` is one word in a config file. Somebody has to decide whether to write it. That person
# needs two things which no config file gives: to know what the word costs in memory and time per step, and a
# comparison in which a difference is the method's and not the seed's. Teams regularly ship "improvements" that are
# one lucky seed. You will build both.

# %% [markdown]
# ## At the kitchen table
#
# You season a soup. What you can change is *what it tastes of* (more cumin, less salt) and *how strong it is* (more
# water or less).
#
# | kitchen | DoRA |
# |---|---|
# | the soup | one row of a weight matrix, that is, what one output listens to |
# | the proportions of the spices | its direction |
# | how strong the soup is | its magnitude |
# | LoRA: adding spice mixtures | changes proportions *and* strength together |
# | DoRA: add mixtures, boil down or dilute to the old strength, then set the strength by a dial | direction by $BA$, magnitude by $m$ |
#
# **Where it breaks**: a cook tastes one soup at a time. All rows of a matrix share the same $r$ mixtures (the rows of
# $A$), and only the amounts (a row of $B$) are their own.

# %% [markdown]
# ## Foundations
#
# Write each row $w_i$ of $W \in \mathbb{R}^{d_{out} \times d_{in}}$ as its length $m_i = \lVert w_i \rVert_2$ times its
# direction $v_i = w_i / m_i$. DoRA trains the lengths, and the directions by LoRA:
#
# $$W' = m \odot \frac{W + s\,BA}{\lVert W + s\,BA \rVert}, \qquad \lVert\cdot\rVert \text{ taken row by row},\qquad
# m = \lVert W \rVert \text{ at first.}$$
#
# (The paper writes "column-wise" because its formulas have an input per row; its code, PEFT's and `nn.Linear` have one
# *output* per row. What is normalised is the same: the weights into one output.)
#
# ```
#                 W  (frozen) ──────┐
#  A, B ── s B A ───────────────────+──> V ──┬── row norms (a constant in backward) ──┐
#                                            └───────────── V x ──────────────── * m / norm ──> h
#  m (one number per output) ─────────────────────────────────────────────────────────┘
# ```

# %% [markdown]
# **The gradient.** Let $V = W + sBA$, $n = \lVert V \rVert$, $f = m / n$ and $G = \partial L / \partial W'$. Then for
# each row $\partial L/\partial m_i = G_i \cdot V_i / n_i$, and exactly
#
# $$\frac{\partial L}{\partial V_i} = f_i \Bigl(G_i - \frac{G_i \cdot V_i}{n_i^2}\,V_i\Bigr),$$
#
# the gradient with its part along $V_i$ removed. To compute it, autograd must keep $V$, as large as $W$, for every
# layer. Section 4.3 of the paper therefore counts $n$ as a *constant* in the backward pass: what is left is
# $\partial L/\partial V_i = f_i G_i$. The authors measured 24.4 % less memory for LLaMA, and no loss of accuracy to speak
# of. PEFT does the same, and so will you.
#
# **The scaling.** LoRA multiplies $BA$ by $s = \alpha / r$. rsLoRA (Kalajdzievski 2023) takes $s = \alpha/\sqrt{r}$. Why,
# you will measure in Exercise 5.

# %% [markdown]
# ### One example in numbers
#
# One row $w = (3, 4)$, so $m = 5$. LoRA adds $sBA = (1, -1)$: $V = (4, 3)$, which happens to have length 5 again; the
# direction has turned by $\arccos(24/25) = 16°$. If instead LoRA adds $(3, 4)$, $V = (6, 8)$ has length 10, and DoRA
# divides by 10 and multiplies by $m = 5$: $W' = (3, 4)$, as before. What points along the old row changes *nothing*
# in DoRA: only $m$ can make a row longer.

# %%
for update in ([1.0, -1.0], [3.0, 4.0]):
    V = torch.tensor([3.0, 4.0]) + torch.tensor(update)
    print(f"update {update}: LoRA {V.tolist()}, DoRA {(5 * V / V.norm()).tolist()}")


# %% [markdown]
# The tests need layers whose numbers are known and that do not depend on your code. This helper makes them.

# %% nbgrader={"grade": false, "grade_id": "dora-given-parts", "locked": true, "schema_version": 3, "solution": false, "task": false}
def parts(seed: int, d_in: int, d_out: int, rank: int, scaling: float = 1.5, bias: bool = True) -> SimpleNamespace:
    """The pieces of a DoRA layer in float64: base (frozen), random lora_A, lora_B, lora_magnitude (0.5 to 2)."""
    draw = torch.Generator().manual_seed(seed)
    base = nn.Linear(d_in, d_out, bias=bias, dtype=torch.float64).requires_grad_(False)
    for number in base.parameters():
        number.copy_(torch.randn(number.shape, generator=draw, dtype=torch.float64))
    lora_A = nn.Parameter(torch.randn(rank, d_in, generator=draw, dtype=torch.float64))
    lora_B = nn.Parameter(torch.randn(d_out, rank, generator=draw, dtype=torch.float64))
    magnitude = nn.Parameter(0.5 + 1.5 * torch.rand(d_out, generator=draw, dtype=torch.float64))
    return SimpleNamespace(base=base, lora_A=lora_A, lora_B=lora_B, lora_magnitude=magnitude, scaling=scaling,
                           merged=False, factor=None)


# %% nbgrader={"grade": false, "grade_id": "dora-given-constant-norm", "locked": true, "schema_version": 3, "solution": false, "task": false}
def by_rows(p: SimpleNamespace, norm: Tensor | None = None) -> Tensor:
    """The merged weight of DoRA, one row at a time; with `norm` given, divided by these numbers instead."""
    rows = p.base.weight + p.scaling * p.lora_B @ p.lora_A
    if norm is None:
        norm = torch.stack([(row.detach() ** 2).sum() ** 0.5 for row in rows])
    return torch.stack([m * row / n for m, row, n in zip(p.lora_magnitude, rows, norm, strict=True)])


# %% [markdown]
# ## Part 1: Length and direction
#
# ### Exercise 1: take a matrix apart
#
# Everything stands on this split. Each row becomes a length and a vector of length 1; their product gives the matrix
# back. One trap: pruned models and padded vocabularies have rows of zeros, which point nowhere. They get a length and
# a direction of zeros, and no NaN.

# %% nbgrader={"grade": false, "grade_id": "dora-decompose", "locked": false, "schema_version": 3, "solution": true, "task": false}
def decompose(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Split a weight matrix into the lengths of its rows and their directions.

    Args:
        weight: (d_out, d_in), float32 or float64, one output per row.

    Returns:
        magnitude: (d_out,), the Euclidean length of each row.
        direction: (d_out, d_in), rows of length 1; a row of zeros has a direction of zeros.

    TODO: Return the row norms, and the rows divided by them.

    APPROACH:
        1. Take the norm along the inputs, because an output's weights are a row.
        2. Replace norms of 0 before you divide, because 0 / 0 is NaN and spreads.
        3. Return the norms as they were, because 0 is the right length of a row of zeros.

    EXAMPLE:
        >>> decompose(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        (tensor([5., 0.]), tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]]))

    HINTS:
        1. Which axis of nn.Linear's weight are the inputs?
        2. torch.linalg.vector_norm takes the axis to sum over as dim.
        3. tensor.masked_fill(mask, value) replaces chosen elements; magnitude[:, None] is a column.
    """
    ### BEGIN SOLUTION
    magnitude = torch.linalg.vector_norm(weight, dim=1)
    return magnitude, weight / magnitude.masked_fill(magnitude == 0, 1)[:, None]
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-dora-decompose", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Checks: lengths and directions against a sum of squares in float64, that they multiply back, and rows of zeros.
# Catches: columns for rows, a squared length, a norm of the whole matrix, NaN for a row of zeros.
# A pass prints nothing.
def test_unit_dora_decompose():
    def check(weight, what):
        with checking.unchanged(weight=weight):
            magnitude, direction = decompose(weight)
        length = [math.sqrt(math.fsum(v * v for v in row)) for row in weight.double().tolist()]
        want = torch.tensor(length, dtype=torch.float64).to(weight.dtype)
        # A sum of up to 67 squares and a root: relative (67 + 2) eps / 2; eps is 1.2e-7 or 2.2e-16.
        eps = torch.finfo(weight.dtype).eps
        checking.close(magnitude.detach(), want, rtol=35 * eps, atol=0, what=f"lengths of {what}")
        rows = weight.double() / want.double().where(want > 0, 1)[:, None]
        checking.close(direction.detach(), rows.to(weight.dtype), rtol=36 * eps, atol=0, what=f"directions of {what}")

    check(torch.tensor([[3.0, 4.0], [0.0, 0.0], [-5.0, 12.0]]), "three rows, one of zeros")
    check(torch.tensor([[1.0, 2.0, 2.0]], dtype=torch.float64), "one row in float64")
    ### BEGIN HIDDEN TESTS
    # check: other shapes, tiny and large rows
    # hint: compare the shape of your magnitude with d_out for a matrix that is not square
    draw = torch.Generator().manual_seed(checking.secret_seed())
    # Rows of 1e-8: an epsilon of 1e-12 beside the norm shows, whatever was drawn.
    for shape, scale in [((5, 67), 1.0), ((31, 2), 1e-8), ((1, 1), 1e6), ((64, 63), 3.0), ((0, 4), 1.0)]:
        check(scale * torch.randn(shape, generator=draw), f"a {shape} matrix of size {scale}")
    # check: a matrix that is not contiguous
    # hint: does the result depend on how the matrix lies in memory?
    check(torch.randn(7, 9, generator=draw, dtype=torch.float64).T, "a transposed matrix")
    ### END HIDDEN TESTS


test_unit_dora_decompose()


# %% [markdown]
# ### What just happened?
#
# You have the coordinates in which DoRA thinks. Look at a layer before and after one of them is changed: scaling a row
# moves only the first, turning it moves only the second.

# %%
def two_ways_to_change():
    rows = torch.tensor([[3.0, 4.0]])
    for name, changed in {"as it was": rows, "twice as long": 2 * rows, "turned": rows @ torch.tensor([[0.0, 1], [-1, 0]])}.items():
        magnitude, direction = decompose(changed)
        print(f"{name:13}: length {magnitude.tolist()}, direction {direction.tolist()}")


insight.run(two_ways_to_change, needs="Exercise 1 (decompose)")


# %% [markdown]
# ### Exercise 2: the factor of each row
#
# DoRA's row $i$ is $f_i\,(W + sBA)_i$ with $f_i = m_i / \lVert (W + sBA)_i \rVert$. This factor is all that DoRA adds to
# LoRA, so it gets a function: forward pass, merge and analysis will all call it.
#
# In the backward pass the norm is a constant (section 4.3 of the paper): gradients flow through $f$ into $m$, and into
# nothing else. A row of norm 0 is divided by 1.

# %% nbgrader={"grade": false, "grade_id": "dora-factor", "locked": false, "schema_version": 3, "solution": true, "task": false}
def dora_factor(weight: Tensor, lora_A: Tensor, lora_B: Tensor, scaling: float, magnitude: Tensor) -> Tensor:
    """The number that DoRA multiplies each row of W + scaling * B A by.

    Args:
        weight: W, (d_out, d_in).
        lora_A, lora_B: (r, d_in) and (d_out, r), of the dtype of weight.
        scaling: s, any number.
        magnitude: m, (d_out,).

    Returns:
        magnitude / norm, (d_out,), where norm holds the lengths of the rows of W + s B A; a norm of 0 counts as 1.
        Differentiable with respect to magnitude only: the norm is a constant.

    TODO: Divide the magnitude by the detached row norms of the adapted weight.

    APPROACH:
        1. Form W + s B A without a graph, because a graph would keep a matrix of the size of W for the backward pass.
        2. Take the row norms and make zeros ones, because a NaN in one row spoils the whole model.
        3. Divide with the graph switched on, because magnitude has to learn.

    EXAMPLE:
        >>> A, B = torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0]])
        >>> dora_factor(torch.tensor([[3.0, 4.0]]), A, B, 1.0, torch.tensor([5.0]))
        tensor([0.5000])

    HINTS:
        1. Exercise 1 gives lengths; which of its two results do you need?
        2. What is computed under torch.no_grad() has no graph. What must not be in that block?
        3. Inside the block: adapted weight, norms, masked_fill. Outside: the division.
    """
    ### BEGIN SOLUTION
    with torch.no_grad():
        norm, _ = decompose(weight + scaling * lora_B @ lora_A)
        norm = norm.masked_fill(norm == 0, 1)
    return magnitude / norm
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "dora-given-factor", "locked": true, "schema_version": 3, "solution": false, "task": false}
def factor_of(p: SimpleNamespace) -> Tensor:
    """What dora_factor says of `p`, and that it leaves it alone."""
    with checking.unchanged(base=p.base, lora_A=p.lora_A, lora_B=p.lora_B, m=p.lora_magnitude):
        return dora_factor(p.base.weight, p.lora_A, p.lora_B, p.scaling, p.lora_magnitude)


def norms_of(p: SimpleNamespace) -> Tensor:
    """The row norms of W + s B A, by Python floats; 1 for a row of zeros."""
    rows = (p.base.weight + p.scaling * p.lora_B.detach() @ p.lora_A.detach()).tolist()
    return torch.tensor([math.sqrt(math.fsum(v * v for v in row)) or 1.0 for row in rows], dtype=torch.float64)


# %% nbgrader={"grade": false, "grade_id": "dora-given-check-factor", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_factor_gradient(p: SimpleNamespace, what: str) -> None:
    """That a gradient flows into the magnitude, of the right size, and into nothing else."""
    p.base.weight.requires_grad_(True)
    sources = [p.lora_magnitude, p.lora_A, p.lora_B, p.base.weight]
    got, *others = torch.autograd.grad(factor_of(p).sum(), sources, allow_unused=True)
    checking.close(got, 1 / norms_of(p), rtol=1e-11, atol=0, what=f"gradient of the magnitude, {what}")
    for name, grad in zip(("lora_A", "lora_B", "weight"), others, strict=True):
        flows = grad is not None and bool((grad != 0).any())
        checking.equal(flows, False, what=f"a gradient flows into {name}, {what}", hint="the norm is a constant")


# %% nbgrader={"grade": true, "grade_id": "test-dora-factor", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: the factors against a loop over rows (2 points); a gradient for the magnitude and for nothing else (2 points).
# Catches: norms of W alone or of B A alone, columns, no scaling, a graph through the norm, a magnitude that is cut off.
# A pass prints two lines that begin with "earned".
def test_unit_dora_factor():
    cases = {"4 rows": parts(0, 6, 4, 2), "a scaling of 0.25": parts(1, 3, 5, 1, 0.25)}
    ### BEGIN HIDDEN TESTS
    # check: other shapes and scalings
    # hint: compute one row by hand; are W, the scaling and both factors in it?
    seed = checking.secret_seed()
    cases |= {"31 rows": parts(seed, 64, 31, 8, 2.0), "a negative scaling": parts(seed + 1, 3, 2, 1, -1.0)}
    # check: a row that the update cancels, to zero
    # hint: 0 / 0 is NaN; what does the docstring say of a norm of 0?
    zero = cases["a row of zeros"] = parts(seed + 2, 5, 4, 1, 0.5)
    zero.base.weight[2], zero.lora_B.data[2] = 0, 0
    ### END HIDDEN TESTS
    credit = checking.Credit(4)
    with credit.check("the factors", points=2, hint="magnitude over the row norms of W + s B A"):
        for what, p in cases.items():
            # float64: entries are sums of at most 8 products, relative 1e-15; cancellation may cost a factor of 1e3.
            checking.close(factor_of(p).detach(), p.lora_magnitude.detach() / norms_of(p), rtol=1e-11, atol=0, what=what)
    with credit.check("the norm is a constant, the magnitude is not", points=2, hint="what is inside no_grad?"):
        for what, p in cases.items():
            check_factor_gradient(p, what)
    return credit.total()


test_unit_dora_factor()


# %% [markdown]
# ### What just happened?
#
# The test took the gradient with respect to *four* tensors and wanted one. A wrong `detach` never raises an error: the
# model trains on, a little differently or a little dearer. Only a test that looks at the gradient sees it.

# %% [markdown]
# ## Part 2: The layer
#
# ### Exercise 3: the DoRA layer
#
# Now the module, as in 3.1.1 with one parameter more. Two decisions are new. The output is $f \odot (Wx + sBAx)$ and
# then the bias, which belongs to the base layer and is *not* scaled. And the scaling can be LoRA's $\alpha / r$ or
# rsLoRA's $\alpha/\sqrt r$.

# %% nbgrader={"grade": false, "grade_id": "dora-layer", "locked": false, "schema_version": 3, "solution": true, "task": false}
class DoRALinear(nn.Module):
    """A frozen linear layer whose direction is adapted by LoRA, and whose row lengths are trained."""

    def __init__(self, base: nn.Linear, lora_A: nn.Parameter, lora_B: nn.Parameter, alpha: float,
                 rank_stabilized: bool = False) -> None:
        """Take over a linear layer.

        Args:
            base: the layer to adapt; it is frozen and kept, not copied.
            lora_A, lora_B: the factors, (r, d_in) and (d_out, r), used as they are; lora_B is zero at first.
            alpha: numerator of the scaling.
            rank_stabilized: scale by alpha / sqrt(r) in place of alpha / r.

        TODO: Set self.base, self.lora_A, self.lora_B, self.lora_magnitude (an nn.Parameter, (d_out,), the row lengths
            of base.weight), self.scaling (a float), self.merged (False) and self.factor (None); write forward.

        APPROACH:
            1. Freeze the base, bias too, because only adapter and magnitude are to train.
            2. Start the magnitude at the row lengths, because then the first output is the base layer's.
            3. Add the bias last, because the factor belongs to the weight alone.

        EXAMPLE:
            >>> layer = DoRALinear(nn.Linear(6, 4), nn.Parameter(torch.ones(9, 6)), nn.Parameter(torch.zeros(4, 9)), 3, True)
            >>> layer.scaling, [(n, tuple(p.shape)) for n, p in layer.named_parameters() if p.requires_grad]
            (1.0, [('lora_A', (9, 6)), ('lora_B', (4, 9)), ('lora_magnitude', (4,))])

        HINTS:
            1. `decompose` gives the start of the magnitude; detach it, so that it is a leaf.
            2. F.linear(x, weight) without a third argument leaves the bias out.
            3. forward: the thin path of 3.1.1 added to W x, times dora_factor(...), plus the bias if there is one.
        """
        super().__init__()
        ### BEGIN SOLUTION
        base.requires_grad_(False)
        self.base = base
        self.lora_A = lora_A
        self.lora_B = lora_B
        self.lora_magnitude = nn.Parameter(decompose(base.weight)[0])
        rank = lora_A.shape[0]
        self.scaling = alpha / (math.sqrt(rank) if rank_stabilized else rank)
        self.merged = False
        self.factor = None
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        """(..., d_in) to (..., d_out); a merged layer is its base and nothing else."""
        if self.merged:
            return self.base(x)
        ### BEGIN SOLUTION
        factor = dora_factor(self.base.weight, self.lora_A, self.lora_B, self.scaling, self.lora_magnitude)
        h = F.linear(x, self.base.weight) + self.scaling * (x @ self.lora_A.T @ self.lora_B.T)
        return factor * h if self.base.bias is None else factor * h + self.base.bias
        ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "dora-given-peft", "locked": true, "schema_version": 3, "solution": false, "task": false}
def peft_layer(p: SimpleNamespace, alpha: float, rank_stabilized: bool = False) -> nn.Module:
    """PEFT's own DoRA layer in float64, with the numbers of `p` copied in; its only layer is called `fc`."""
    config = LoraConfig(r=p.lora_A.shape[0], lora_alpha=alpha, target_modules=["fc"], use_dora=True,
                        use_rslora=rank_stabilized, lora_dropout=0.0)
    layer = get_peft_model(nn.ModuleDict({"fc": copy.deepcopy(p.base)}), config).base_model.model["fc"]
    with torch.no_grad():
        layer.lora_A["default"].weight.copy_(p.lora_A)
        layer.lora_B["default"].weight.copy_(p.lora_B)
        layer.lora_magnitude_vector["default"].weight.copy_(p.lora_magnitude)
    return layer.eval()


# %% nbgrader={"grade": false, "grade_id": "dora-given-build", "locked": true, "schema_version": 3, "solution": false, "task": false}
def layer_of(p: SimpleNamespace, alpha: float, stabilized: bool = False) -> nn.Module:
    """Your layer with the numbers of `p`; leaves its scaling in p."""
    layer = DoRALinear(p.base, p.lora_A, p.lora_B, alpha, rank_stabilized=stabilized)
    layer.lora_magnitude.data.copy_(p.lora_magnitude)
    p.scaling = alpha / (math.sqrt(len(p.lora_A)) if stabilized else len(p.lora_A))
    return layer


# %% nbgrader={"grade": false, "grade_id": "dora-given-noise", "locked": true, "schema_version": 3, "solution": false, "task": false}
def noise(seed: int, *shape: int) -> Tensor:
    """Standard normal numbers in float64."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# %% nbgrader={"grade": false, "grade_id": "dora-given-check-start", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_start(p: SimpleNamespace) -> None:
    """What is registered, what trains, and that a fresh layer changes nothing."""
    p.lora_B.data.zero_()
    p.base.requires_grad_(True)  # as in a model that was trained before
    layer = DoRALinear(p.base, p.lora_A, p.lora_B, 4)
    trains = {name for name, q in layer.named_parameters() if q.requires_grad}
    checking.equal(trains, {"lora_A", "lora_B", "lora_magnitude"}, what="names of what trains")
    kept = [getattr(layer, name) is getattr(p, name) for name in ("base", "lora_A", "lora_B")]
    checking.equal((kept, layer.merged, layer.factor), ([True] * 3, False, None), what="(kept, merged, factor)")
    checking.equal(layer.lora_magnitude.is_leaf, True, what="lora_magnitude is a leaf", hint="detach it")
    checking.equal(layer.lora_magnitude.shape, (p.base.out_features,), what="shape of lora_magnitude")
    x = noise(0, 3, p.base.in_features)
    # Each row is divided by its norm and multiplied by the same number: a few roundings of 1e-16, of terms below 1e2.
    checking.close(layer(x).detach(), p.base(x), rtol=1e-12, atol=1e-12, what="first output", hint="that of the base")
    layer.merged = True
    checking.equal(layer(x).detach(), p.base(x), what="output of a merged layer")


# %% nbgrader={"grade": false, "grade_id": "dora-given-check-outputs", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_outputs(p: SimpleNamespace, alpha: float, stabilized: bool, shape: tuple[int, ...]) -> None:
    """Outputs against dense rows and against PEFT."""
    layer, x, what = layer_of(p, alpha, stabilized), noise(1, *shape), f"x of shape {shape}, {alpha=}, {stabilized=}"
    with checking.unchanged(x=x, layer=layer):
        got = layer(x).detach()
    # float64: sums of 64 terms below 1e3, off by 64 * 1e3 * 1.1e-16 = 7e-12, times factors below 10.
    near = {"rtol": 1e-10, "atol": 1e-9}
    checking.close(got, F.linear(x, by_rows(p), p.base.bias).detach(), **near, what=f"output, {what}")
    checking.close(got, peft_layer(p, alpha, stabilized)(x).detach(), **near, what=f"output of PEFT, {what}")


# %% nbgrader={"grade": false, "grade_id": "dora-given-check-gradients", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_gradients(p: SimpleNamespace, alpha: float, stabilized: bool, shape: tuple[int, ...]) -> None:
    """Gradients against the paper's formula, by dense rows with a constant norm, and against PEFT."""
    layer, x, what = layer_of(p, alpha, stabilized), noise(2, *shape).requires_grad_(), f"x of shape {shape}, {alpha=}"
    up = noise(3, *shape[:-1], p.base.out_features)
    got = torch.autograd.grad((layer(x) * up).sum(), [layer.lora_A, layer.lora_B, layer.lora_magnitude, x])
    dense = F.linear(x, by_rows(p), p.base.bias)
    paper = torch.autograd.grad((dense * up).sum(), [p.lora_A, p.lora_B, p.lora_magnitude, x])
    twin = peft_layer(p, alpha, stabilized)
    theirs = [getattr(twin, name)["default"].weight for name in ("lora_A", "lora_B", "lora_magnitude_vector")]
    wants = torch.autograd.grad((twin(x) * up).sum(), [*theirs, x])
    for name, mine, formula, peft in zip(("A", "B", "magnitude", "x"), got, paper, wants, strict=True):
        # As for the outputs, with one more product of numbers below 10.
        checking.close(mine, formula, rtol=1e-9, atol=1e-8, what=f"gradient of {name} by the formula, {what}")
        checking.close(mine, peft, rtol=1e-9, atol=1e-8, what=f"gradient of {name} by PEFT, {what}")


# %% nbgrader={"grade": true, "grade_id": "test-dora-layer", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
# Checks: what trains (1 point), both scalings (1), outputs against dense rows and PEFT (2), gradients against both (1).
# Catches: a base that trains, a scaled bias, alpha / r for rsLoRA, a magnitude of B A, an exact gradient of the norm.
# A pass prints four lines that begin with "earned".
def test_unit_dora_layer():
    starts, scalings = [parts(0, 6, 4, 2)], [(4, 8, False, 2.0), (4, 8, True, 4.0)]
    runs = [(parts(1, 6, 4, 2), 3, False, (5, 6))]
    ### BEGIN HIDDEN TESTS
    # check: layers without a bias
    # hint: is there anything to add when base.bias is None?
    seed = checking.secret_seed()
    starts += [parts(seed, 5, 9, 3, bias=False)]
    # check: other alphas and ranks, and a rank that is no square
    # hint: compute alpha / r and alpha / sqrt(r) by hand for one of your own
    scalings += [(3, 1, False, 1 / 3), (9, 6, True, 2.0), (2, 1, True, 1 / math.sqrt(2)), (1, 7, True, 7.0)]
    # check: other shapes and leading axes, with and without rank stabilisation
    # hint: leading axes can be any; is the bias outside of the factor?
    runs += [(parts(seed + 1, 64, 31, 8), 16, False, (2, 3, 64)), (parts(seed + 3, 3, 8, 1), 1, False, (0, 3)),
             (parts(seed + 2, 7, 5, 5, bias=False), 2, True, (1, 7))]
    ### END HIDDEN TESTS
    credit = checking.Credit(5)
    with credit.check("adapter and magnitude train, the base does not, and at first nothing changes", points=1):
        for p in starts:
            check_start(p)
    with credit.check("the scalings of LoRA and rsLoRA", points=1, hint="r is the number of rows of lora_A"):
        for rank, alpha, stabilized, want in scalings:
            scaling = layer_of(parts(0, 9, 9, rank), alpha, stabilized).scaling
            # One division and one root: relative 3e-16.
            checking.close(scaling, want, rtol=4e-16, atol=0, what=f"scaling, alpha {alpha}, r {rank}, {stabilized=}")
    with credit.check("outputs equal to dense rows and to PEFT", points=2, hint="factor * (W x + s B A x) + bias"):
        for case in runs:
            check_outputs(*case)
    with credit.check("gradients equal to the paper's and PEFT's", points=1, hint="nothing but the norm is constant"):
        for case in runs:
            check_gradients(*case)
    return credit.total()


test_unit_dora_layer()


# %% [markdown]
# ### What just happened?
#
# Two oracles that share no code with each other agreed with you, in outputs and in gradients: dense rows built from
# the formula, and PEFT with your numbers copied in. From here on one call makes an adapter for any layer; the plain
# LoRA beside it is that of 3.1.1, so that comparisons have two sides.

# %% nbgrader={"grade": false, "grade_id": "dora-given-adapters", "locked": true, "schema_version": 3, "solution": false, "task": false}
class LoRALinear(nn.Module):
    """The layer of lab 3.1.1: W x + scaling * B A x."""

    def __init__(self, base: nn.Linear, lora_A: nn.Parameter, lora_B: nn.Parameter, alpha: float,
                 rank_stabilized: bool = False) -> None:
        super().__init__()
        self.base, self.lora_A, self.lora_B = base.requires_grad_(False), lora_A, lora_B
        self.scaling = alpha / (math.sqrt(len(lora_A)) if rank_stabilized else len(lora_A))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.scaling * (x @ self.lora_A.T @ self.lora_B.T)


# %% nbgrader={"grade": false, "grade_id": "dora-given-adapter", "locked": true, "schema_version": 3, "solution": false, "task": false}
def adapter(kind: str, base: nn.Linear, rank: int, alpha: float, rank_stabilized: bool = False) -> nn.Module:
    """A "lora" or "dora" layer around `base`: A uniform as in 3.1.1, from the global generator; B zero."""
    bound = 1 / math.sqrt(base.in_features)
    lora_A = nn.Parameter(torch.empty(rank, base.in_features, dtype=base.weight.dtype).uniform_(-bound, bound))
    lora_B = nn.Parameter(torch.zeros(base.out_features, rank, dtype=base.weight.dtype))
    layer = {"lora": LoRALinear, "dora": DoRALinear}[kind]
    return layer(base, lora_A, lora_B, alpha, rank_stabilized)


# %%
def count_numbers(d_in=64, d_out=64, ranks=(1, 8, 9)):
    for rank in ranks:
        layers = {kind: adapter(kind, nn.Linear(d_in, d_out), rank, 16) for kind in ("lora", "dora")}
        numbers = {kind: sum(p.numel() for p in layer.parameters() if p.requires_grad) for kind, layer in layers.items()}
        print(f"rank {rank}: {numbers}, the difference is d_out: {numbers['dora'] - numbers['lora'] == d_out}")


insight.run(count_numbers, needs="Exercises 1 to 3")


# %% [markdown]
# One more rank of LoRA costs $d_{in} + d_{out}$ numbers, DoRA's magnitudes cost $d_{out}$. So DoRA of rank $r$ always
# lies between LoRA of rank $r$ and of rank $r + 1$. Remember this for the comparison: against LoRA of rank $r + 1$ DoRA
# is the *smaller* one, and nobody can say that it won by its size.

# %% [markdown]
# ### Systems insight 1 of 3: what does the norm cost?
#
# **Checkpoint**: your layer runs and differentiates. **Predict, and write it down**: a layer of 512 by 512 with rank 8
# sees a batch of 64 tokens. How many KiB does one forward pass keep for the backward pass in LoRA, in your DoRA, and in
# a DoRA whose norm is differentiated too? ($512 \times 512$ floats are 1,024 KiB.) And how much slower is DoRA?

# %%
class ExactDoRALinear(nn.Module):
    """Your layer's parameters, with a norm that is differentiated as well."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        p = self.layer
        adapted = p.base.weight + p.scaling * p.lora_B @ p.lora_A
        return F.linear(x, p.lora_magnitude[:, None] * adapted / adapted.norm(dim=1, keepdim=True), p.base.bias)


# %%
def kept_kib(layer, x):
    """KiB that one forward pass keeps for the backward pass, parameters left out."""
    parameters, kept = {p.untyped_storage().data_ptr() for p in layer.parameters()}, {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = (storage.nbytes(), tensor)  # holding it, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        layer(x).sum()
    return sum(size for address, (size, _) in kept.items() if address not in parameters) / 1024


# %%
def cost_of_the_norm(rounds=7):
    x, dora = torch.randn(64, 512, requires_grad=True), adapter("dora", nn.Linear(512, 512), 8, 16)
    layers = {"LoRA": adapter("lora", nn.Linear(512, 512), 8, 16), "DoRA": dora, "DoRA, exact": ExactDoRALinear(dora)}
    kept, best = {name: kept_kib(layer, x) for name, layer in layers.items()}, dict.fromkeys(layers, math.inf)
    for _ in range(rounds):  # taking turns, so that a busy moment hits all alike
        for name, layer in layers.items():
            start = time.perf_counter()
            layer(x).sum().backward()
            best[name] = min(best[name], time.perf_counter() - start)
    return kept, {name: seconds / best["LoRA"] for name, seconds in best.items()}


# %%
norm_kib, norm_slowdown = insight.run(cost_of_the_norm, needs="Exercises 1 to 3") or ({}, {})
if norm_kib:
    insight.bars(norm_kib, ylabel="kept for backward [KiB]")
    print({name: f"{ratio:.2f} x the time of LoRA" for name, ratio in norm_slowdown.items()})


# %% [markdown]
# **What it means in production.** The constant norm keeps no matrix of the size of $W$; what it adds over LoRA are
# activations (the output before the factor, needed for $\partial L/\partial m$). At 8B with all linear layers adapted, the
# exact gradient would hold $W + sBA$ and its pieces in every layer at once, tens of GB. The *time* remains: every
# forward pass forms $BA$ and reads $W$ once more for the norm. That cost does not depend on the batch, so DoRA is
# relatively dearest in small batches. Merged, it costs nothing.

# %% [markdown]
# ### Exercise 4: merge and unmerge
#
# For serving, the row of $W$ becomes $f_i (W + sBA)_i$. The way back has a trap that LoRA does not have: after the merge,
# the norm of the base weight is $m$, and the old norm can no longer be computed from it. So `merge` leaves the factor it
# used in `layer.factor`, and `unmerge` divides by it. A factor of 0 would erase a row for ever; `merge` refuses
# it *before* anything is changed.

# %% nbgrader={"grade": false, "grade_id": "dora-merge", "locked": false, "schema_version": 3, "solution": true, "task": false}
def merge(layer: DoRALinear) -> None:
    """Write the adapted weight into the base layer, in place; merging a merged layer does nothing.

    Args:
        layer: has base, lora_A, lora_B, lora_magnitude, scaling, merged and factor.

    Raises:
        ValueError: a factor is 0, so that unmerge could not undo this; the layer is left as it was.

    TODO: Make base.weight factor * (W + scaling * B A) row by row, and keep the factor in layer.factor.

    APPROACH:
        1. Return at once if merged, because a second merge would take the merged weight for W.
        2. Compute the factor first and look for zeros, because an error must leave the layer as it was.
        3. Add, then multiply, in place, because optimizer and other modules hold this parameter.

    EXAMPLE:
        >>> p = SimpleNamespace(base=nn.Linear(2, 1, bias=False), lora_A=torch.tensor([[3.0, 4.0]]), factor=None,
        ...                     lora_B=torch.ones(1, 1), lora_magnitude=torch.tensor([5.0]), scaling=1.0, merged=False)
        >>> _ = p.base.weight.data.copy_(torch.tensor([[3.0, 4.0]]))
        >>> merge(p); merge(p); p.base.weight.tolist(), p.factor.tolist(), p.merged
        ([[3.0, 4.0]], [0.5], True)

    HINTS:
        1. Everything happens under torch.no_grad().
        2. dora_factor needs the old weight, so call it before you change the weight.
        3. weight += ..., then weight *= a column: factor[:, None].
    """
    ### BEGIN SOLUTION
    if layer.merged:
        return
    with torch.no_grad():
        weight = layer.base.weight
        factor = dora_factor(weight, layer.lora_A, layer.lora_B, layer.scaling, layer.lora_magnitude)
        if (factor == 0).any():
            raise ValueError("a magnitude is 0: its row would be erased and could not be unmerged")
        weight += layer.scaling * layer.lora_B @ layer.lora_A
        weight *= factor[:, None]
    layer.factor, layer.merged = factor, True
    ### END SOLUTION


def unmerge(layer: DoRALinear) -> None:
    """Undo merge, in place, by the factor it kept; unmerging a layer that is not merged does nothing."""
    ### BEGIN SOLUTION
    if not layer.merged:
        return
    with torch.no_grad():
        weight = layer.base.weight
        weight /= layer.factor[:, None]
        weight -= layer.scaling * layer.lora_B @ layer.lora_A
    layer.factor, layer.merged = None, False
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "dora-given-check-merge", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_merge(p: SimpleNamespace, *steps: Callable) -> None:
    """Take the steps, each merge or unmerge, and look at the base weight after each."""
    weight, before = p.base.weight, p.base.weight.detach().clone()
    frozen = {"lora_A": p.lora_A, "lora_B": p.lora_B, "m": p.lora_magnitude}
    frozen |= {} if p.base.bias is None else {"bias": p.base.bias}
    wants = {merge: by_rows(p).detach(), unmerge: before}
    for number, step in enumerate(steps, 1):
        what = f"base.weight after step {number} of {' '.join(s.__name__ for s in steps)}"
        with checking.unchanged(**frozen):
            step(p)
        checking.equal(p.base.weight is weight, True, what=f"{what}: it is still the same parameter")
        # float64: sums of five products below 1e2, a factor between 1e-3 and 1e3 and its inverse: 1e2 * 1e3 * 1e-16.
        checking.close(weight, wants[step], rtol=1e-11, atol=1e-10, what=what)
        checking.equal((weight.requires_grad, p.merged), (False, step is merge), what="(requires_grad, merged)")


# %% nbgrader={"grade": true, "grade_id": "test-dora-merge", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: merged weights, in place and once (2 points); the way back, repeatedly (1); a magnitude of 0 is refused (1).
# Catches: a factor from the merged weight, a second merge, a new parameter, a changed adapter, a half-done merge.
# A pass prints three lines that begin with "earned".
def test_unit_dora_merge():
    there, back, zero = [parts(0, 6, 4, 2)], [parts(1, 6, 4, 2)], [(parts(2, 5, 3, 1), 1)]
    ### BEGIN HIDDEN TESTS
    # check: another layer without a bias, and a negative scaling
    # hint: merge a 1 x 2 layer by hand and compare
    seed = checking.secret_seed()
    there += [parts(seed, 7, 31, 5, -0.25, False)]
    # check: another layer, there and back several times
    # hint: is the factor of the last merge the one that you divide by?
    back += [parts(seed + 1, 13, 3, 3, 2.0)]
    # check: a magnitude of 0 in another row
    # hint: print base.weight after the error; is it what it was?
    zero += [(parts(seed + 2, 4, 6, 2), 5)]
    ### END HIDDEN TESTS
    credit = checking.Credit(4)
    with credit.check("merge writes the adapted rows, once", points=2, hint="factor * (W + s B A); look at merged first"):
        for p in there:
            check_merge(p, merge, merge)
    with credit.check("unmerge brings W back, once", points=1, hint="divide by the factor that merge kept"):
        for p in back:
            check_merge(p, unmerge, merge, unmerge, unmerge, merge, merge, unmerge)
    with credit.check("a magnitude of 0 is refused, and nothing has changed", points=1):
        for p, row in zero:
            p.lora_magnitude.data[row] = 0
            with checking.unchanged(base=p.base):
                checking.raises(ValueError, merge, p, what="merge with a magnitude of 0")
            checking.equal(p.merged, False, what="merged after a refused merge")
    return credit.total()


test_unit_dora_merge()


# %% [markdown]
# ### What just happened?
#
# A served DoRA model is a plain model: same shapes, same speed. In bfloat16 the rounding that you saw in 3.1.1 hits
# harder, because here *every* weight is multiplied, also where $BA$ is zero. Merge in float32, from a pristine copy.

# %% [markdown]
# ## Part 3: Rank and scaling
#
# ### Exercise 5: how far does one step go?
#
# Start at $B = 0$ and take one step of gradient descent, with learning rate $\eta$ and upstream gradient $g$: $B$ becomes
# $-\eta s\, g (Ax)^\top$, so the output for the same $x$ moves by
#
# $$s B A x = -\eta\, s^2\, \lVert Ax \rVert^2\, g .$$
#
# $\lVert Ax\rVert^2$ is a sum over $r$ rows of $A$: it grows like $r$. So the step grows like $s^2 r$: with $s =
# \alpha/r$ it *dies out* as $\alpha^2/r$, with $s = \alpha/\sqrt r$ it stays. That is the argument for rsLoRA. Write the
# function that measures it, for any layer.

# %% nbgrader={"grade": false, "grade_id": "dora-one-step", "locked": false, "schema_version": 3, "solution": true, "task": false}
def one_step(layer: nn.Module, x: Tensor, gradient: Tensor, learning_rate: float) -> float:
    """How far one step of gradient descent moves the output of a layer.

    Args:
        layer: any module; its parameters with requires_grad train, the others do not. It comes back as it was.
        x: its input.
        gradient: of the shape of layer(x): the gradient of the loss with respect to the output.
        learning_rate: of plain gradient descent, parameter - learning_rate * its gradient.

    Returns:
        The root mean square of layer(x) after the step minus layer(x) before, a float.

    TODO: Take one step on a copy of the layer and measure how much its output moved.

    APPROACH:
        1. Work on a deep copy, because a measurement should not train the layer.
        2. Differentiate sum(layer(x) * gradient), because its gradient with respect to the output is `gradient`.
        3. Change the trained parameters under no_grad and run again, because the second output shows the step.

    EXAMPLE:
        >>> line = nn.Linear(1, 1, bias=False)
        >>> round(one_step(line, torch.tensor([[2.0]]), torch.tensor([[3.0]]), 0.1), 4)
        1.2

    HINTS:
        1. copy.deepcopy copies a module with its parameters.
        2. torch.autograd.grad takes a scalar and a list of parameters, and leaves .grad alone.
        3. Root mean square: square(), mean(), sqrt(), item().
    """
    ### BEGIN SOLUTION
    trial = copy.deepcopy(layer)
    trained = [p for p in trial.parameters() if p.requires_grad]
    before = trial(x)
    steps = torch.autograd.grad((before * gradient).sum(), trained)
    with torch.no_grad():
        for parameter, step in zip(trained, steps, strict=True):
            parameter -= learning_rate * step
        return (trial(x) - before).square().mean().sqrt().item()
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-dora-one-step", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Checks: the distance against closed forms for a linear layer and for a LoRA layer with B = 0, and what stays untouched.
# Catches: a step up, a mean of absolutes, frozen parameters that move, a layer that was trained by the measurement.
# A pass prints nothing.
def test_unit_dora_one_step():
    def check_lora(seed, n, d_in, d_out, rank, scaling, eta):
        p = parts(seed, d_in, d_out, rank)
        layer = LoRALinear(p.base, p.lora_A, nn.Parameter(torch.zeros(d_out, rank).double()), scaling * rank)
        x, up = noise(seed + 1, n, d_in), noise(seed + 2, n, d_out)
        with checking.unchanged(layer=layer, x=x, up=up):
            got = one_step(layer, x, up, eta)
        assert all(q.grad is None for q in layer.parameters()), "the layer came back with gradients in .grad"
        z = x @ p.lora_A.detach().T
        want = (eta * scaling**2 * z @ z.T @ up).square().mean().sqrt().item()
        # float64: differences of outputs below 1e3 lose 1e-13, relative to steps above 1e-3.
        checking.close(got, want, rtol=1e-8, atol=0, what=f"LoRA, {rank=}, {scaling=}, learning rate {eta}")

    def check_linear(seed, n, d_in, d_out, eta):
        layer, x, up = parts(seed, d_in, d_out, 1).base, noise(seed, n, d_in), noise(seed + 1, n, d_out)
        layer.bias.requires_grad_(True)
        want = (eta * up.sum(0)).square().mean().sqrt().item()
        with checking.unchanged(layer=layer):
            checking.close(one_step(layer, x, up, eta), want, rtol=1e-8, atol=0, what="a linear layer, bias trained alone")

    check_lora(0, 1, 6, 4, 2, 1.5, 0.1)
    check_linear(1, 5, 3, 4, 0.1)
    pair = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
    for layer in pair:
        layer.weight.data.fill_(1)
    # 1 - (1 - 0.1)**2 in float32; a step up gives 1.1**2 - 1 = 0.21, where one layer alone gives the same.
    checking.close(one_step(pair, torch.ones(1, 1), torch.ones(1, 1), 0.1), 0.19, rtol=1e-5, atol=0, what="two layers in a row")
    ### BEGIN HIDDEN TESTS
    # check: LoRA layers of other ranks, scalings and learning rates
    # hint: compute the step by hand for one token and rank 1
    seed = checking.secret_seed()
    check_lora(seed, 7, 33, 5, 8, 0.5, 0.3)
    check_lora(seed + 9, 3, 8, 9, 1, 2.0, 0.01)
    # check: a layer of which only a part trains
    # hint: which parameters does your step change?
    check_linear(seed + 20, 4, 7, 2, 0.5)
    ### END HIDDEN TESTS


test_unit_dora_one_step()


# %% [markdown]
# ### What just happened?
#
# The oracle was the formula of the lead-in for a whole batch: with $z = Ax$, token $t$ moves by $-\eta s^2 \sum_u (z_t
# \cdot z_u)\,g_u$. Your function knows nothing of it, so it also measures layers for which nobody has a formula.

# %% [markdown]
# ### Systems insight 2 of 3: which ranks learn at all?
#
# **Checkpoint**: you can measure a step. **Predict, and write it down**: with $\alpha = 16$ fixed, the rank goes from 4
# to 256. By what factor does the first step change with $s = \alpha / r$, and with $s = \alpha/\sqrt r$? Is DoRA like
# LoRA here? And what does a step cost in numbers trained?

# %%
def steps_by_rank(ranks=(4, 16, 64, 256), d=256, draws=20):
    """RMS of the first step, mean over draws of A, by kind of layer and scaling; prints the numbers that train."""
    torch.manual_seed(0)
    base, x, up = nn.Linear(d, d), torch.randn(1, d), torch.randn(1, d)
    arms = {"LoRA, alpha / r": ("lora", False), "LoRA, alpha / sqrt(r)": ("lora", True),
            "DoRA, alpha / r": ("dora", False), "DoRA, alpha / sqrt(r)": ("dora", True)}
    moved = {name: [] for name in arms}
    for rank in ranks:
        for name, (kind, stabilized) in arms.items():
            steps = []
            for _ in range(draws):
                layer = adapter(kind, base, rank, 16, stabilized)
                if kind == "dora":
                    layer.lora_magnitude.requires_grad_(False)  # the step of the direction alone
                steps.append(one_step(layer, x, up, 1e-5))
            moved[name].append(sum(steps) / draws)
        print(f"rank {rank}: {sum(p.numel() for p in layer.parameters() if p.requires_grad):,} numbers train")
    return moved


# %%
rank_curves = insight.run(steps_by_rank, needs="Exercises 1, 2, 3 and 5") or {}
if rank_curves:
    insight.lines([4, 16, 64, 256], rank_curves, xlabel="rank r", ylabel="RMS of the first step", logx=True, logy=True)
    print({name: f"last / first: {steps[-1] / steps[0]:.3f}" for name, steps in rank_curves.items()})


# %% [markdown]
# **What it means in production.** With plain gradient descent, $\alpha/r$ and a fixed $\alpha$, a rank of 256 hardly moves: people then report
# that "higher ranks do not help", when they have only turned the learning rate down. With $\alpha/\sqrt r$ the first
# step is of one size at all ranks, so that a learning rate found at rank 8 is a good guess at 256. The habit $\alpha = 2r$
# keeps $s$ at 2, and then this step *grows* like $r$. All of this is about plain gradient descent, as in the argument:
# Adam divides the size of the gradient out, and one factor of $s$ with it (see the Challenge). In PEFT:
# `use_rslora=True`.

# %% [markdown]
# ## Part 4: What moved, and who is better
#
# ### Exercise 6: change of length, change of direction
#
# How does an adapter change a weight? The authors of DoRA measure two numbers for each matrix (section 3.2): how much the
# lengths of its rows changed, and how far the rows turned:
#
# $$\Delta M = \frac{1}{d_{out}} \sum_i \bigl|\, m'_i - m_i \bigr|, \qquad
# \Delta D = \frac{1}{d_{out}} \sum_i \bigl(1 - \cos(w'_i, w_i)\bigr).$$

# %% nbgrader={"grade": false, "grade_id": "dora-drift", "locked": false, "schema_version": 3, "solution": true, "task": false}
def drift(before: Tensor, after: Tensor) -> tuple[float, float]:
    """How much the lengths and the directions of the rows of a weight changed.

    Args:
        before, after: (d_out, d_in) each, float32 or float64; d_out is at least 1.

    Returns:
        The mean absolute change of the row lengths, and the mean of 1 - cosine of the angle between old and new rows.
        A row that is zero in either has cosine 0.

    TODO: Take both matrices apart and compare lengths with lengths, directions with directions.

    APPROACH:
        1. Decompose both, because directions have length 1 and zeros are taken care of.
        2. Average absolute changes, because growth of one row must not cancel shrinkage of another.
        3. Sum products along the rows, because the product of two directions is the cosine.

    EXAMPLE:
        >>> drift(torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([[6.0, 8.0], [0.0, 1.0]]))
        (2.5, 0.5)

    HINTS:
        1. Exercise 1, twice.
        2. The cosine of each row: multiply elementwise, then sum over dim=1.
        3. .mean().item() makes a float of a tensor.
    """
    ### BEGIN SOLUTION
    (old_length, old), (new_length, new) = decompose(before), decompose(after)
    cosine = (old * new).sum(dim=1)
    return (new_length - old_length).abs().mean().item(), (1 - cosine).mean().item()
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-dora-drift", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Checks: both numbers against Python floats, that scaling changes one and turning the other, and rows of zeros.
# Catches: signed changes that cancel, a relative change, one norm for the whole matrix, the cosine itself, columns.
# A pass prints nothing.
def test_unit_dora_drift():
    def by_hand(before, after):
        lengths = [[math.sqrt(sum(v * v for v in row)) for row in m.tolist()] for m in (before, after)]
        dots = [sum(a * b for a, b in zip(x, y, strict=True)) for x, y in zip(before.tolist(), after.tolist(), strict=True)]
        turned = [1 - (dot / (m * n) if m * n else 0.0) for dot, m, n in zip(dots, *lengths, strict=True)]
        moved = [abs(n - m) for m, n in zip(*lengths, strict=True)]
        return sum(moved) / len(moved), sum(turned) / len(turned)

    def check(before, after, what):
        with checking.unchanged(before=before, after=after):
            got = drift(before, after)
        checking.equal([type(v) for v in got], [float, float], what=f"types, {what}")
        for name, mine, want in zip(("lengths", "directions"), got, by_hand(before, after), strict=True):
            # float64: sums of at most 33 products of numbers below 30: 33 * 1e3 * 1.1e-16 = 4e-12.
            checking.close(mine, want, rtol=0, atol=1e-11, what=f"change of {name}, {what}")

    check(torch.tensor([[3.0, 4.0], [1.0, 0.0]]).double(), torch.tensor([[6.0, 8.0], [0.0, 1.0]]).double(), "two rows")
    check(noise(0, 4, 3), -noise(0, 4, 3), "a weight turned around")
    ### BEGIN HIDDEN TESTS
    # check: rows that grow and rows that shrink
    # hint: can a growing and a shrinking row cancel?
    seed = checking.secret_seed()
    rows = noise(seed, 6, 5)
    check(rows, rows * torch.tensor([[2.0], [0.5], [3.0], [0.1], [1.0], [-1.0]]), "scaled rows")
    # check: other shapes
    # hint: mean over the rows, sum over the inputs
    check(noise(seed + 1, 33, 2), noise(seed + 2, 33, 2), "33 rows of 2")
    check(noise(seed + 3, 1, 33), noise(seed + 4, 1, 33), "one row of 33")
    # check: a row of zeros before, and one after
    # hint: what is the direction of a row of zeros by Exercise 1?
    before, after = noise(seed + 5, 4, 3), noise(seed + 6, 4, 3)
    before[1], after[2] = 0, 0
    check(before, after, "rows of zeros")
    ### END HIDDEN TESTS


test_unit_dora_drift()

# %% [markdown]
# ### What just happened?
#
# Two numbers say what an update of 4,096 did. To look at a real one you need a model and a task. The model: a small Llama
# that has learnt sentences such as "ana sees a red cat. ". The task, on which both methods will be compared: in a new
# world each verb has its thing (whoever *draws*, draws a cat). The labels count for that last word alone, everything
# else is -100, which the loss leaves out. Two of the eight people are kept for the benchmark.

# %% nbgrader={"grade": false, "grade_id": "dora-given-world", "locked": true, "schema_version": 3, "solution": false, "task": false}
SUBJECTS, ADJECTIVES = ("ana", "ben", "eva", "kim", "leo", "mia", "sam", "tom"), ("big", "new", "old", "red", "shy", "wet")
NOUNS = ("bee", "cat", "cup", "dog", "fox", "hat", "map", "pen")
THINGS = {"draws": "cat", "finds": "dog", "holds": "pen", "likes": "map", "sees": "hat", "wants": "cup"}
tokenizer = tiny.ByteTokenizer()


# %% nbgrader={"grade": false, "grade_id": "dora-given-prompts", "locked": true, "schema_version": 3, "solution": false, "task": false}
def prompts(count: int, seed: int, subjects: Sequence[str] = SUBJECTS[:6]) -> list[tuple[str, str]]:
    """Pairs of a prompt, ". ana sees a red ", and the word that must follow, all nouns of three letters."""
    chance = random.Random(seed)
    picked = [(chance.choice(subjects), chance.choice(list(THINGS)), chance.choice(ADJECTIVES)) for _ in range(count)]
    return [(f". {who} {does} a {what} ", THINGS[does]) for who, does, what in picked]


# %% nbgrader={"grade": false, "grade_id": "dora-given-batches", "locked": true, "schema_version": 3, "solution": false, "task": false}
def to_batch(texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Token ids, padded on the left to one length, and labels: the last three letters, -100 elsewhere."""
    length = max(map(len, texts))
    ids = torch.tensor([tokenizer.encode(text.rjust(length, " ")) for text in texts])
    return ids, ids.masked_fill(torch.arange(length) < length - 3, -100)


def batches_of(seed: int, count: int = 40, size: int = 16) -> list[tuple[Tensor, Tensor]]:
    """Training data from a seed."""
    texts = [before + word for before, word in prompts(count * size, seed)]
    return [to_batch(texts[at : at + size]) for at in range(0, len(texts), size)]


# %% nbgrader={"grade": false, "grade_id": "dora-given-training", "locked": true, "schema_version": 3, "solution": false, "task": false}
def train(model: nn.Module, batches: Sequence[tuple[Tensor, Tensor]], learning_rate: float = 1e-2) -> None:
    """One AdamW step per batch for everything that trains."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=learning_rate, weight_decay=0.0)
    model.train()
    for ids, labels in batches:
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()


# %% nbgrader={"grade": false, "grade_id": "dora-given-adapt", "locked": true, "schema_version": 3, "solution": false, "task": false}
def adapt(model: nn.Module, kind: str, rank: int, targets: Sequence[str] = ("q_proj", "v_proj", "up_proj", "down_proj")) -> None:
    """Freeze the model and put adapters with scaling 2 around its target layers, in place."""
    model.requires_grad_(False)
    for path, module in list(model.named_modules()):
        parent, _, last = path.rpartition(".")
        if last in targets:
            setattr(model.get_submodule(parent), last, adapter(kind, module, rank, alpha=2 * rank))


# %% nbgrader={"grade": false, "grade_id": "dora-given-base-model", "locked": true, "schema_version": 3, "solution": false, "task": false}
base_model = tiny.llama(seed=0)
loss = tiny.pretrain(base_model, tiny.windows(tiny.sentences(2000, seed=0), count=100, batch=16, length=48, seed=1))
print(f"pretrained: {loss:.2f} nats a byte (a perfect model of these sentences reaches about 0.4)")


# %% [markdown]
# ### Systems insight 3 of 3: length against direction
#
# **Checkpoint**: you can build, train and measure. **Predict, and write it down**: over the layers and steps of a
# fine-tuning, do rows that turn more also change their length more? The paper found a correlation of -0.62 for full
# fine-tuning of a vision-language model, 0.83 for LoRA and -0.31 for DoRA. Which signs will this tiny task show? And how
# much longer does a step of DoRA take?

# %%
def adapted_weight(layer):
    """The weight that a layer of any kind applies."""
    if type(layer) is DoRALinear:
        factor = dora_factor(layer.base.weight, layer.lora_A, layer.lora_B, layer.scaling, layer.lora_magnitude)
        return factor[:, None] * (layer.base.weight + layer.scaling * layer.lora_B @ layer.lora_A)
    if type(layer) is LoRALinear:
        return layer.base.weight + layer.scaling * layer.lora_B @ layer.lora_A
    return layer.weight


# %%
def drifts(model, origin, targets=("q_proj", "v_proj", "up_proj", "down_proj")):
    """(change of length, change of direction) of each target layer."""
    paths = [path for path, _ in origin.named_modules() if path.rpartition(".")[2] in targets]
    with torch.no_grad():
        return [drift(origin.get_submodule(p).weight, adapted_weight(model.get_submodule(p))) for p in paths]


# %%
def length_against_direction(stages=4, steps=10):
    """For each arm: the drifts at each stage, and seconds per step."""
    found, seconds = {}, {}
    for name, kind, rate in (("all weights", None, 3e-3), ("LoRA", "lora", 1e-2), ("DoRA", "dora", 1e-2)):
        torch.manual_seed(0)
        model = copy.deepcopy(base_model)
        if kind:
            adapt(model, kind, rank=8)
        found[name], start = [], time.perf_counter()
        for stage in range(stages):
            train(model, batches_of(stage, count=steps), rate)
            found[name] += drifts(model, base_model)
        seconds[name] = (time.perf_counter() - start) / (stages * steps)
    return found, seconds


# %%
moved, step_seconds = insight.run(length_against_direction, needs="Exercises 1, 2, 3 and 6") or ({}, {})
correlations = {name: torch.corrcoef(torch.tensor(points).T)[0, 1].item() for name, points in moved.items()}
if moved:
    fewest = min(step_seconds.values())
    print({name: f"correlation {correlations[name]:+.2f}, {step_seconds[name] / fewest:.2f} x time" for name in moved})


# %%
def draw_drifts():
    from matplotlib import pyplot

    _, axes = pyplot.subplots(figsize=(5.5, 3.2), layout="constrained")
    for (name, points), colour, marker in zip(moved.items(), insight.COLOURS, "osD", strict=False):
        lengths, turns = zip(*points, strict=True)
        axes.scatter(turns, lengths, label=name, color=colour, marker=marker, s=18)
    axes.set(xlabel="change of direction, 1 - cos", ylabel="change of length", title="a point: one layer at one time")
    axes.legend(frameon=False)


draw_drifts()


# %% [markdown]
# **What it means in production.** Whatever signs you found: they come from one tiny model, one task and dependent points,
# and the paper's from others. Plots like this one *suggest* a method; they do not show that it is better. For that you
# need scores, and a comparison in which nothing differs but the method. The step time is a fact that you can act on: it
# is what each training run pays for the option.

# %% [markdown]
# ### Exercise 7: a fair trial
#
# Most unfair comparisons are accidents. The second arm starts from the model that the first has trained; it sees other
# data; its seed is whatever the first arm left behind. Write the loop that makes these impossible: for each seed, every
# arm gets a fresh copy of the same model, the same batches, and the same random state.
#
# A method also draws random numbers of its own while it sets up, and a different number of them per method. So the state
# is set twice: before the adapters are made, and again before training.

# %% nbgrader={"grade": false, "grade_id": "dora-fair-trial", "locked": false, "schema_version": 3, "solution": true, "task": false}
def fair_trial(
    base: nn.Module,
    arms: Mapping[str, Callable[[nn.Module], None]],
    seeds: Sequence[int],
    make_batches: Callable[[int], list],
    train: Callable[[nn.Module, list], None],
    score: Callable[[nn.Module], float],
) -> dict[str, dict[int, float]]:
    """Train every arm under every seed from the same start, on the same data, and score it.

    Args:
        base: the model that all start from; it is never changed.
        arms: by name, functions that prepare a model in place, such as putting adapters in.
        seeds: all different.
        make_batches: the training data for a seed; called once for each seed.
        train: trains a model in place on such data.
        score: of a trained model.

    Returns:
        scores[name of the arm][seed].

    Raises:
        ValueError: a seed occurs twice, which would count one run as two.

    TODO: For each seed and arm: copy base, seed, prepare, seed again, train on the seed's batches, score.

    APPROACH:
        1. Make the batches once per seed, because all arms of a seed must see the same data.
        2. Copy the base for every run, because training and preparing change a model.
        3. Call torch.manual_seed(seed) before preparing and before training, because arms draw differently.

    EXAMPLE:
        >>> arms = {"as it is": lambda model: None, "zero": lambda model: nn.init.zeros_(model.weight)}
        >>> fair_trial(nn.Linear(1, 1), arms, [3], lambda seed: [], lambda m, b: None, lambda m: float(m.weight == 0))
        {'as it is': {3: 0.0}, 'zero': {3: 1.0}}

    HINTS:
        1. Two loops; which is the outer one, if batches are made once per seed?
        2. Make the dictionary of empty dictionaries first, then fill it.
        3. len(set(seeds)) tells whether all are different.
    """
    ### BEGIN SOLUTION
    if len(set(seeds)) != len(seeds):
        raise ValueError(f"seeds must differ: {list(seeds)}")
    scores = {name: {} for name in arms}
    for seed in seeds:
        batches = make_batches(seed)
        for name, prepare in arms.items():
            model = copy.deepcopy(base)
            torch.manual_seed(seed)
            prepare(model)
            torch.manual_seed(seed)
            train(model, batches)
            scores[name][seed] = score(model)
    return scores
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "dora-given-spies", "locked": true, "schema_version": 3, "solution": false, "task": false}
def spied_trial(seeds: Sequence[int], names: Sequence[str]) -> tuple[dict, list, list, nn.Module]:
    """A trial whose parts write down what they saw: its scores, the log, the seeds of the batches, and the base."""
    base, log, made = nn.Linear(2, 1, dtype=torch.float64), [], []

    def prepare(name):
        def inside(model):
            log.append((name, "prepare", model.weight.tolist(), torch.rand(()).item()))
            torch.rand(len(name))  # each arm draws another number of times
            model.weight.data.add_(len(name))

        return inside

    def batches(seed):
        made.append(seed)
        return [seed, torch.rand(()).item()]

    def train(model, data):
        log.append(("train", tuple(data), torch.rand(()).item()))
        model.weight.data.add_(data[0])

    scores = fair_trial(base, {n: prepare(n) for n in names}, seeds, batches, train, lambda m: m.weight.sum().item())
    return scores, log, made, base


# %% nbgrader={"grade": true, "grade_id": "test-dora-fair-trial", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: scores by arm and seed (1 point), a fresh copy each time (1), the same data (1), the same random states (1).
# Catches: a model that is handed on, batches made per arm, a seed set once, a base that was trained, doubled seeds.
# A pass prints four lines that begin with "earned".
def test_unit_dora_fair_trial():
    cases = [([1, 2], ["a", "bbb"])]
    ### BEGIN HIDDEN TESTS
    # check: other seeds and three arms
    # hint: run it with functions that print what they are given
    seed = 1 + checking.secret_seed() % 1000
    cases += [([seed, 0, seed + 7], ["x", "yy", "zzzz"]), ([seed], ["alone"]), ([], ["none"])]
    ### END HIDDEN TESTS
    trials = []
    for seeds, names in cases:
        state = torch.get_rng_state()
        trials.append((seeds, names, *spied_trial(seeds, names)))
        torch.set_rng_state(state)
    credit = checking.Credit(4)
    with credit.check("scores by arm and seed; doubled seeds are refused", points=1, hint="scores[name][seed]"):
        for seeds, names, scores, _, _, base in trials:
            start = base.weight.sum().item()
            want = {name: {s: round(start + 2 * (len(name) + s), 3) for s in seeds} for name in names}
            got = {name: {s: round(v, 3) for s, v in of.items()} for name, of in scores.items()}
            checking.equal(got, want, what=f"scores for the seeds {seeds}", hint="prepare, then train, then score")
        checking.raises(ValueError, fair_trial, nn.Linear(1, 1), {}, [4, 5, 4], list, print, float, what="doubled seeds")
    with credit.check("every run starts from the same model", points=1, hint="copy.deepcopy(base)"):
        for seeds, names, _, log, _, base in trials:
            starts = [entry[2] for entry in log if entry[1] == "prepare"]
            checking.equal(starts, [base.weight.tolist()] * (len(seeds) * len(names)), what="weights before prepare")
    with credit.check("all arms of a seed see the same data", points=1, hint="make the batches once per seed"):
        for seeds, names, _, log, made, _ in trials:
            checking.equal(made, list(seeds), what="seeds for which batches were made")
            counts = [sum(entry[1] == data for entry in log) for data in {e[1] for e in log if e[0] == "train"}]
            checking.equal(counts, [len(names)] * len(seeds), what="arms that saw the same batches")
    with credit.check("prepare and train begin in the random state of the seed", points=1, hint="set it twice"):
        for seeds, names, _, log, _, _ in trials:
            wants = [torch.rand((), generator=torch.Generator().manual_seed(s)).item() for s in seeds for _ in names]
            drawn = {what: sorted(e[-1] for e in log if what in e[:2]) for what in ("train", "prepare")}
            checking.equal(drawn, {"train": sorted(wants), "prepare": sorted(wants)}, what="first draws")
    return credit.total()


test_unit_dora_fair_trial()


# %% [markdown]
# ### What just happened?
#
# The test put spies in all five places and compared their notes. This is also how you audit somebody else's
# comparison: log what each run was given, and look whether two columns are the same.
#
# ### Exercise 8: is the difference real?
#
# Six seeds, two scores each. Take the six differences. If the methods were equally good, each difference could as well
# have had the other sign. So flip signs in all $2^6 = 64$ ways: the share of sign patterns whose mean is at least as far
# from zero as yours is the *exact* p-value of the sign-flip test. No table, no normal distribution, and an honest limit:
# six seeds can never give less than 2/64.

# %% nbgrader={"grade": false, "grade_id": "dora-compare", "locked": false, "schema_version": 3, "solution": true, "task": false}
def compare(first: Mapping[int, float], second: Mapping[int, float]) -> dict[str, float]:
    """A paired comparison of the scores of two methods under the same seeds.

    Args:
        first, second: score by seed, in any order; the same seeds, at least 2 and at most 16.

    Returns:
        difference: the mean of second minus first;
        deviation: the standard deviation of the differences, with n - 1 in the denominator;
        error: of the mean, deviation / sqrt(n);
        p_value: the share of all 2**n choices of signs for which |mean| >= |difference|, up to rounding (1e-12).

    Raises:
        ValueError: the seeds of the two differ, or there are fewer than 2.

    TODO: Pair the scores by seed and summarise the differences, with an exact sign-flip test.

    APPROACH:
        1. Compare the sets of seeds, because a pair needs both halves.
        2. Subtract by key, because the order of a dictionary is an accident.
        3. Go through all sign patterns, because for so few seeds the exact answer is cheap.

    EXAMPLE:
        >>> compare({0: 0.5, 1: 0.5, 2: 0.25}, {2: 0.5, 1: 1.0, 0: 0.75})["difference"]
        0.3333333333333333
        >>> compare({0: 0.5, 1: 0.5, 2: 0.25}, {2: 0.5, 1: 1.0, 0: 0.75})["p_value"]
        0.25

    HINTS:
        1. first.keys() == second.keys() compares as sets.
        2. itertools.product((1, -1), repeat=n) yields all sign patterns.
        3. Compare |mean| with |difference| - 1e-12, so that rounding loses no tie. sum() of truth values counts them.
    """
    ### BEGIN SOLUTION
    if first.keys() != second.keys() or len(first) < 2:
        raise ValueError(f"two methods need the same seeds, two at least: {sorted(first)} and {sorted(second)}")
    differences = [second[seed] - first[seed] for seed in first]
    n = len(differences)
    mean = sum(differences) / n
    deviation = math.sqrt(sum((d - mean) ** 2 for d in differences) / (n - 1))
    flipped = [sum(s * d for s, d in zip(signs, differences, strict=True)) / n for signs in itertools.product((1, -1), repeat=n)]
    extreme = sum(abs(value) >= abs(mean) - 1e-12 for value in flipped)
    return {"difference": mean, "deviation": deviation, "error": deviation / math.sqrt(n), "p_value": extreme / len(flipped)}
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "dora-given-check-compare", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_compare(first: dict[int, float], second: dict[int, float]) -> None:
    """Hold compare against exact fractions."""
    got = compare(first, second)
    exact = [Fraction(str(second[s])) - Fraction(str(first[s])) for s in first]
    sums = [Fraction(0)]
    for d in exact:
        sums = [value + sign * d for value in sums for sign in (1, -1)]
    deviation = statistics.stdev(map(float, exact))
    want = {"difference": float(sum(exact) / len(exact)), "deviation": deviation,
            "error": deviation / len(exact) ** 0.5, "p_value": sum(abs(v) >= abs(sum(exact)) for v in sums) / len(sums)}
    checking.equal(set(got), set(want), what="entries of the result")
    for name, value in want.items():
        # Differences of scores below 10, in tenths: rounded by 1e-15 each.
        checking.close(got[name], value, rtol=1e-12, atol=1e-13, what=f"{name} of {first} and {second}")


# %% nbgrader={"grade": true, "grade_id": "test-dora-compare", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Checks: all four numbers against statistics and a count of our own (2 points); what is refused (1 point).
# Catches: pairs by order, first minus second, n for n - 1, one-sided tests, ties lost to rounding, unequal seeds.
# A pass prints two lines that begin with "earned".
def test_unit_dora_compare():
    credit = checking.Credit(3)
    with credit.check("the four numbers", points=2, hint="pair by seed; second minus first; n - 1; both tails"):
        check_compare({0: 0.5, 1: 0.5, 2: 0.25}, {2: 0.5, 1: 1.0, 0: 0.75})
        check_compare({4: 0.1, 7: 0.2}, {4: 0.3, 7: 0.1})
        ### BEGIN HIDDEN TESTS
        # check: more seeds, scores in tenths with many ties
        # hint: 0.1 + 0.2 is not 0.3: does rounding decide about a tie?
        chance = random.Random(checking.secret_seed())
        for n in (2, 5, 9):
            first = {s: chance.randrange(10) / 10 for s in range(n)}
            second = {s: chance.randrange(10) / 10 for s in reversed(range(n))}
            first[0], second[0], second[1] = 0.1, 0.8, first[1]  # two differences differ, whatever was drawn
            check_compare(first, second)
        # 0.1 + 0.2 - 0.3 is not 0: without room for rounding two of ten ties are lost.
        check_compare({0: 0.0, 1: 0.0, 2: 0.3, 3: 0.0}, {0: 0.1, 1: 0.2, 2: 0.0, 3: 0.4})
        # check: a second method that is always worse
        # hint: the test looks at both tails
        check_compare(dict.fromkeys(range(6), 0.9), {s: 0.1 * s for s in range(6)})
        # check: no difference at all
        # hint: what is the share of patterns at least as extreme as 0?
        check_compare(dict.fromkeys(range(4), 0.3), dict.fromkeys(range(4), 0.3))
        ### END HIDDEN TESTS
    with credit.check("other seeds, or too few, are refused", points=1, hint="ValueError"):
        refused = [({0: 1.0, 1: 0.5}, {0: 1.0, 2: 0.5}), ({0: 1.0}, {0: 0.5})]
        ### BEGIN HIDDEN TESTS
        # check: one seed more on either side, and no seeds
        # hint: compare the two sets of keys
        refused += [({0: 1.0, 1: 1.0}, {0: 1.0, 1: 1.0, 2: 1.0}), ({0: 1.0, 1: 1.0, 2: 1.0}, {0: 1.0, 1: 1.0}), ({}, {})]
        ### END HIDDEN TESTS
        for first, second in refused:
            checking.raises(ValueError, compare, first, second, what=f"compare({first}, {second})")
    return credit.total()


test_unit_dora_compare()


# %% [markdown]
# ### What just happened?
#
# You have a test that assumes nothing but pairs. Its smallest possible result is part of what it tells you:

# %%
def smallest_p_values():
    for n in (2, 4, 5, 6, 8, 10):
        print(f"{n:2} seeds, always better: p = {compare(dict.fromkeys(range(n), 0.0), dict.fromkeys(range(n), 1.0))['p_value']:.4f}")


insight.run(smallest_p_values, needs="Exercise 8 (compare)")


# %% [markdown]
# With fewer than six seeds, no result can be called significant at the usual 5 %, however large the difference.

# %% [markdown]
# ## Put it together
#
# One test of the whole machine on a small Llama: your layers trained next to PEFT's, step by step, then merged. It
# needs Exercises 1 to 4 and comes last, so it is worth little.

# %% nbgrader={"grade": false, "grade_id": "dora-given-twins", "locked": true, "schema_version": 3, "solution": false, "task": false}
def twins(seed: int, rank: int, alpha: float, stabilized: bool, targets: Sequence[str]) -> tuple[nn.Module, nn.Module]:
    """A small Llama in float64 with your layers, and PEFT's own around the same numbers."""
    mine = tiny.llama(seed, num_hidden_layers=1).double().requires_grad_(False)
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(targets), use_dora=True, use_rslora=stabilized)
    theirs = get_peft_model(copy.deepcopy(mine), config).eval()
    for path, layer in list(theirs.base_model.model.named_modules()):
        parent, _, last = path.rpartition(".")
        if last in targets:
            lora_A = nn.Parameter(layer.lora_A["default"].weight.detach().clone())
            lora_B = nn.Parameter(layer.lora_B["default"].weight.detach().clone())
            own = DoRALinear(mine.get_submodule(path), lora_A, lora_B, alpha, stabilized)
            setattr(mine.get_submodule(parent), last, own)
    return mine, theirs


# %% nbgrader={"grade": true, "grade_id": "test-dora-module", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Checks: a Llama with your layers takes the same losses as PEFT's, step by step, and is the same after merge and unmerge.
# Catches: pieces that are right alone and do not fit together, and gradients that are nearly right.
# A pass prints nothing.
def test_unit_dora_module():
    def check(seed, rank, alpha, stabilized, targets):
        mine, theirs = twins(seed, rank, alpha, stabilized, targets)
        ids = tiny.windows(tiny.sentences(40, seed), count=1, batch=4, length=16, seed=seed)[0]
        losses = {}
        for name, model in (("yours", mine), ("PEFT", theirs)):
            optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
            losses[name] = []
            for _ in range(6):
                loss = model(input_ids=ids, labels=ids).loss
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses[name].append(loss.item())
        for step, (got, want) in enumerate(zip(losses["yours"], losses["PEFT"], strict=True)):
            # float64 through one block: thousands of roundings of 1e-16, six steps, each doubling them at worst.
            checking.close(got, want, rtol=1e-9, atol=0, what=f"loss of step {step}, beside PEFT's")
        assert losses["yours"][-1] < losses["yours"][0], f"the loss did not fall: {losses['yours']}"
        logits = mine(ids).logits.detach()
        for change in (merge, unmerge):
            for layer in mine.modules():
                if type(layer) is DoRALinear:
                    change(layer)
            checking.close(mine(ids).logits.detach(), logits, rtol=1e-8, atol=1e-8, what=f"logits after {change.__name__}")

    check(0, 4, 6, False, ["q_proj", "v_proj"])
    ### BEGIN HIDDEN TESTS
    # check: other layers, with rank stabilisation
    # hint: run the cell's parts one by one on a model of your own and see which exercise disagrees
    check(checking.secret_seed(), 3, 5, True, ["o_proj", "down_proj", "lm_head"])
    ### END HIDDEN TESTS


test_unit_dora_module()


# %%
def test_unit_all():
    """Every test again, in order; says which exercises are still open."""
    for name in ("decompose", "factor", "layer", "merge", "one_step", "drift", "fair_trial", "compare", "module"):
        print(f"--- {name}")
        insight.run(globals()[f"test_unit_dora_{name}"], needs=f"dora-{name.replace('_', '-')}")


test_unit_all()


# %% [markdown]
# ## Use it: LoRA against DoRA
#
# The benchmark is built like the commonsense benchmarks of the paper: a beginning, four ways to go on, and the model
# chooses the one to which it gives the highest probability. All questions are about the two people whom no training
# batch mentions. Guessing gets 25 %.

# %% nbgrader={"grade": false, "grade_id": "dora-given-benchmark", "locked": true, "schema_version": 3, "solution": false, "task": false}
def questions() -> list[tuple[str, list[str]]]:
    """Every sentence about the two people that were kept: its beginning, and four words, the right one first."""
    chance, found = random.Random(0), []
    for who, (does, thing), what in itertools.product(SUBJECTS[6:], THINGS.items(), ADJECTIVES):
        others = chance.sample([noun for noun in NOUNS if noun != thing], 3)
        found.append((f". {who} {does} a {what} ", [thing, *others]))
    return found


# %% nbgrader={"grade": false, "grade_id": "dora-given-accuracy", "locked": true, "schema_version": 3, "solution": false, "task": false}
@torch.no_grad()
def accuracy(model: nn.Module) -> float:
    """Share of the questions for which the right word has the highest probability of the four."""
    asked = questions()
    ids, labels = to_batch([beginning + word for beginning, words in asked for word in words])
    log_p = model(input_ids=ids).logits[:, -4:-1].log_softmax(-1).gather(-1, labels[:, -3:, None]).sum((1, 2))
    return (log_p.reshape(len(asked), 4).argmax(1) == 0).double().mean().item()


print(f"{len(questions())} questions; before fine-tuning {accuracy(base_model):.0%} are answered rightly")

# %% [markdown]
# Two arms: DoRA of rank 8, and LoRA of rank 9, which has a few numbers *more*. Both: the same layers, scaling 2, 30
# steps of the same batches, AdamW with the same learning rate. Six seeds, each with its own data and its own $A$.

# %%
ARMS = {"LoRA r=9": lambda model: adapt(model, "lora", rank=9), "DoRA r=8": lambda model: adapt(model, "dora", rank=8)}


# %%
def run_the_trial(seeds=range(6), steps=30):
    """Scores by arm and seed, and the numbers that each arm trains."""
    numbers = {}
    for name, prepare in ARMS.items():
        prepare(model := copy.deepcopy(base_model))
        numbers[name] = sum(p.numel() for p in model.parameters() if p.requires_grad)
    scores = fair_trial(base_model, ARMS, seeds, lambda seed: batches_of(seed, count=steps), train, accuracy)
    return scores, numbers


# %%
scores, numbers = insight.run(run_the_trial, needs="Exercises 1, 2, 3 and 7") or ({}, {})
for name, by_seed in scores.items():
    print(f"{name}: {numbers[name]:,} numbers;", " ".join(f"{score:.0%}" for score in by_seed.values()))


# %%
def judge_the_trial():
    verdict = compare(*scores.values())
    print({name: round(value, 4) for name, value in verdict.items()})
    axes = insight.lines(list(scores["DoRA r=8"]), {name: list(s.values()) for name, s in scores.items()},
                         xlabel="seed", ylabel="accuracy", title="one pair per seed")
    axes.set_ylim(0, 1)
    return verdict


verdict = insight.run(judge_the_trial, needs="Exercises 7 and 8 (fair_trial, compare)") if scores else None

# %% [markdown]
# Read the picture by columns, then the numbers: difference, its standard error, p. Whether DoRA "wins" here depends on
# the task, the learning rate and the length of the training, and with six seeds only large differences can be told
# from luck. That is the honest result of most small comparisons, and no reason to be disappointed: a method that needs
# no more than this to decide would not need statistics. What this trial *did* show for certain: both arms learn, from
# the same start, at the same budget.

# %% [markdown]
# ## On your Spark
#
# The same question at full size: Llama 3.1 8B in bfloat16 on a DGX Spark with 128 GB of unified memory, LoRA and DoRA by
# PEFT, which your layers agree with. First what can be known without a GPU: how many numbers each arm trains, counted on
# PyTorch's *meta* device, where a model has shapes and no memory.

# %%
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def count_8b():
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=1,
                         num_attention_heads=32, num_key_value_heads=8)
    counts = {}
    for name, kind, rank in (("LoRA r=16", "lora", 16), ("DoRA r=16", "dora", 16), ("LoRA r=17", "lora", 17)):
        with torch.device("meta"):
            adapt(model := LlamaForCausalLM(config), kind, rank, TARGETS)
        counts[name] = 32 * sum(p.numel() for p in model.parameters() if p.requires_grad)  # 32 blocks, all alike
    return counts


# %%
numbers_8b = insight.run(count_8b, needs="Exercises 1 to 3") or {}
for name, number in numbers_8b.items():
    print(f"{name}: {number:,} numbers, {2 * number / 1e6:.0f} MB in bfloat16")

# %% [markdown]
# To run it, on the Spark:
#
# ```bash
# sync; echo 3 | sudo tee /proc/sys/vm/drop_caches   # unified memory: the file cache would take from the GPU's share
# docker run --gpus all -it --rm --ipc=host -p 8888:8888 -v $PWD:/workspace \
#     -v $HOME/.cache/huggingface:/hf -e HF_HOME=/hf nvcr.io/nvidia/pytorch:25.11-py3
# ```
#
# In the container: `pip install transformers peft accelerate` and the course's package, then this notebook with
# `RUN_ON_SPARK = True`. The weights (16 GB) need an account at Hugging Face that has accepted Meta's licence. This
# section has **not yet been measured on a GPU** by the authors: your record is the first.

# %%
RUN_ON_SPARK = False


# %%
def spark_arm(kind, rank, path="meta-llama/Llama-3.1-8B", steps=40):
    """Train one arm by PEFT; returns seconds per step, peak memory in GB and the last loss."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16, device_map="cuda")
    model = get_peft_model(model, LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=TARGETS, use_dora=kind == "dora"))
    texts = [before + word for before, word in prompts(steps * 8, seed=0)]
    ids = torch.tensor(AutoTokenizer.from_pretrained(path)("".join(texts)).input_ids)
    ids = ids[: len(ids) // (4 * steps) * 4 * steps].reshape(steps, 4, -1).to("cuda")
    torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    train(model, [(batch, batch) for batch in ids], learning_rate=1e-4)
    torch.cuda.synchronize()
    seconds = (time.perf_counter() - start) / steps
    with torch.no_grad():
        loss = model(input_ids=ids[-1], labels=ids[-1]).loss.item()
    return {"seconds_per_step": seconds, "peak_gb": torch.cuda.max_memory_allocated() / 1e9, "last_loss": loss}


# %% [markdown]
# Record what you measured here; the code fills it in, a record by hand is as good. Without such a machine leave it as
# it is: nothing is lost.

# %%
spark_record = {"gpu": None, "lora": {}, "dora": {}}
if RUN_ON_SPARK:
    spark_record = {"gpu": torch.cuda.get_device_name(), "lora": spark_arm("lora", 17), "dora": spark_arm("dora", 16)}


# %% nbgrader={"grade": false, "grade_id": "dora-given-spark-record", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_spark_record(record: dict) -> str:
    """Form and plausibility of a record. Nothing here earns points; a person reads it."""
    wanted = {"seconds_per_step": (0.01, 600), "peak_gb": (16, 128), "last_loss": (0.001, 15)}
    if not any(record.values()):
        return "not measured: no record of a full-size run"
    odd = [f"{arm}.{key}" for arm in ("lora", "dora") for key, (low, high) in wanted.items()
           if not isinstance(record[arm].get(key), int | float) or not low <= record[arm][key] <= high]
    odd += [] if isinstance(record.get("gpu"), str) else ["gpu"]
    return f"look again at {', '.join(odd)}: missing or out of the plausible range" if odd else "complete and plausible"


# %%
check_spark_record(spark_record)


# %% [markdown]
# ## Common mistakes
#
# **1. Differentiating the norm.**
#
# ```python
# norm = (W + s * B @ A).norm(dim=1)                           # wrong here: keeps a matrix of the size of W per layer
# with torch.no_grad(): norm = ...; factor = m / norm          # right: the norm is a constant
# ```
# Values agree, gradients do not; no loss curve tells you which one you run.
#
# **2. Cutting off the magnitude too.**
#
# ```python
# with torch.no_grad(): factor = m / norm                      # wrong: m never learns, and this is LoRA with a clamp
# ```

# %% [markdown]
# **3. Scaling the bias.**
#
# ```python
# h = factor * (base(x) + s * B A x)                           # wrong: base(x) already contains the bias
# h = factor * (W x + s * B A x) + bias                        # right
# ```
# It cannot be seen at first, when all factors are 1, nor in Llama, whose layers have no bias.
#
# **4. Norms along the wrong axis.**
#
# ```python
# W.norm(dim=0)                                                # wrong: one number per input
# W.norm(dim=1)                                                # right: one per output, as PEFT and the paper's code
# ```
# For square layers every shape fits.

# %% [markdown]
# **5. Unmerging with a fresh factor.**
#
# ```python
# W /= dora_factor(W, ...)[:, None]; W -= s * B @ A            # wrong: W is merged, its norm is m already
# W /= layer.factor[:, None]; W -= s * B @ A                   # right: the factor of the merge
# ```
#
# **6. Seeding once.**
#
# ```python
# torch.manual_seed(0)                                         # wrong: the second arm starts where the first stopped
# for arm in arms: torch.manual_seed(seed); prepare(...)       # right, and again before train
# ```
#
# **7. Pairing by position.** Two dictionaries with the same keys can have them in another order; subtract by key.

# %% [markdown]
# ## Reflect
#
# Three questions on *your* code and *your* measurements. Five to ten lines each; numbers without a source in this
# notebook earn nothing.

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-dora-cost", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Reflection 1: cost (3 points).** Take `norm_kib`, `norm_slowdown` and `step_seconds`. What does your `dora_factor` cost
# in memory and in time beside LoRA, and which of its lines causes which cost? What would change in both if you removed
# `no_grad`, and what if the batch were 64 times larger? When does none of it matter?
#
# ### BEGIN SOLUTION
# In `norm_kib` DoRA keeps only some activations more than LoRA (the output before the factor), while the exact variant
# keeps W + sBA and its normalised copies, several times 1,024 KiB. Time: forming B A and its row norms reads and writes
# matrices of the size of W in every forward pass; a step took 1.2 to 1.3 times LoRA's in `step_seconds`. Without
# `no_grad` the memory of the exact variant comes back and the backward pass goes through the norm as well. With a batch 64
# times larger the cost of the norm is unchanged while everything else grows, so the time ratio falls towards 1; the
# activations grow for both. After `merge` none of it matters: the layer is a plain linear layer.
#
# ### BEGIN MARK SCHEME
# - 1 point: memory and time with their own numbers, exact variant included.
# - 1 point: traces them to code: B A and the norm for time, no_grad for memory.
# - 1 point: the norm's cost does not depend on the batch, so the ratio falls; nothing matters once merged. Half a point
#   for one of the two.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-dora-rank", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Reflection 2: rank (3 points).** A colleague trained LoRA with PEFT's defaults (`lora_alpha=16`) at ranks 8 and 256,
# found no difference and concluded that the task needs no more than rank 8. Use `rank_curves` to say what is wrong with
# that experiment, and write down the experiment that you would run with your `fair_trial` and `compare`: arms, what is
# held equal, what is tuned and for whom.
#
# ### BEGIN SOLUTION
# With alpha fixed, s = alpha / r: the first step at rank 256 was about 1/64 of that at rank 4 in `rank_curves`, so at
# rank 256 the learning rate was in effect turned down by 32 against rank 8. What was compared is rank *and* step size.
# Better: arms (r = 8, 256) x (alpha/r, alpha/sqrt(r)), or rank-stabilised alone, each with its learning rate chosen from
# the same three values on validation data and other seeds than those of the comparison; same base, batches, number of
# steps, target layers; six or more seeds through `fair_trial`, then `compare` of the two ranks. With fewer than six seeds
# p cannot fall below 5 %.
#
# ### BEGIN MARK SCHEME
# - 1 point: the step shrinks like 1 / r at fixed alpha, with their own ratio from rank_curves.
# - 1 point: an experiment that separates rank from step size (rsLoRA, or a tuned learning rate per arm).
# - 1 point: fairness: what is equal, the same tuning budget for each arm, seeds enough and not those used for tuning.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-dora-verdict", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Reflection 3: production (3 points).** Your team must decide whether `use_dora=True` becomes the default. Give your
# `verdict` in one sentence that a manager cannot misread, with difference, error and p-value. How many seeds would you
# need to see a difference of two points of accuracy, judging by your `deviation`? Then decide, counting in what
# `step_seconds` and `merge` say about cost, and name one thing that your trial cannot tell you about the 8B model.
#
# ### BEGIN SOLUTION
# For example: "Over six paired runs DoRA scored x points more than LoRA with about the same number of trained weights,
# give or take e; differences of this size arise by chance in p of the cases, so we do not know which is better." To see
# 0.02 at two standard errors: error = deviation / sqrt(n) <= 0.01, so n = (deviation / 0.01)^2; with a deviation of 0.1 that
# is 100 seeds. Decision: keep LoRA as default, because DoRA's step costs a quarter more time here and the gain is not
# shown; offer DoRA for low ranks, where the paper sees most, since `merge` makes serving free. Not told: how it behaves on
# tasks and models of another size, at a learning rate tuned for each arm.
#
# ### BEGIN MARK SCHEME
# - 1 point: a verdict with all three numbers that claims no more than they say.
# - 1 point: n from deviation / sqrt(n), with their own deviation.
# - 1 point: a decision that weighs step time against serving, and a real limit of the trial (task, size, tuning). "It is
#   tiny" alone: half a point.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# What you built, in the numbers of your own run:

# %%
def summary():
    print(f"kept for backward by the layer of insight 1: {', '.join(f'{n} {k:,.0f} KiB' for n, k in norm_kib.items())}")
    print(f"first step, rank 256 over rank 4: {', '.join(f'{n}: {c[-1] / c[0]:.3f}' for n, c in rank_curves.items())}")
    for name, by_seed in scores.items():
        print(f"{name}: mean accuracy {sum(by_seed.values()) / len(by_seed):.1%}, {numbers[name]:,} numbers trained")
    print(f"DoRA minus LoRA: {verdict['difference']:+.3f} with error {verdict['error']:.3f}, p = {verdict['p_value']:.3f}")


insight.run(summary, needs="Exercises 1 to 8")

# %% [markdown]
# ## Challenge (optional)
#
# 1. **The norm without the matrix.** $\lVert w_i + s\,b_i A\rVert^2 = \lVert w_i\rVert^2 + 2s\, b_i\cdot(A w_i) + s^2\,
#    b_i (AA^\top) b_i^\top$. Compute all row norms this way, without any matrix of $d_{out} \times d_{in}$ beyond $W$ itself.
#    How many operations does it take, and when does cancellation spoil it?
# 2. **Adam and rsLoRA.** Let `one_step` take one step of sign descent (what Adam's first step is). Which power of $r$
#    does the step follow now, for both scalings?
# 3. **Tuned arms.** Give each arm three learning rates and choose on seeds 100 to 102; then compare on seeds 0 to 5.
#    Does the verdict change?
#
# ## Further reading
#
# - S.-Y. Liu et al., *DoRA: Weight-Decomposed Low-Rank Adaptation*, 2024, arXiv:2402.09353. Sections 3, 4.3 and 5.1.
# - D. Kalajdzievski, *A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA*, 2023, arXiv:2312.03732.
# - T. Salimans and D. Kingma, *Weight Normalization*, 2016, arXiv:1602.07868. Where the split comes from.
# - R. Dror et al., *The Hitchhiker's Guide to Testing Statistical Significance in Natural Language Processing*, 2018.
# - The documentation of PEFT on `LoraConfig`: huggingface.co/docs/peft.

# %% [markdown]
# ## Clean up
#
# Drop the models and the figures; on a machine with a GPU this also returns its memory.

# %%
from matplotlib import pyplot

pyplot.close("all")
base_model = None
if torch.cuda.is_available():
    torch.cuda.empty_cache()
