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
# # Lab 3.1.1: LoRA from scratch
#
# | | |
# |---|---|
# | Module | 3.1 LLM Fine-Tuning |
# | Time | 2 hours |
# | Difficulty | ★★★☆☆ |
# | Hardware | cpu; one section, *On your Spark*, is for a large GPU and is optional |
# | Points | 33 automatic, 9 read by a person |
# | Builds on | 2.3.1 Attention from Scratch, 2.5.5 LoRA Introduction |
#
# You are going to build low-rank adaptation (LoRA) out of two small matrices, put it into a language model, teach
# that model a new word order while 97 of every 100 of its numbers stay frozen, and load what you trained into
# PEFT, the library that everybody uses.

# %% [markdown]
# ## What you'll achieve
#
# By the end you have
#
# 1. **Systems understanding**: measured where the memory of fine-tuning goes, and which part of it LoRA removes
#    (objective 3.1.1).
# 2. **Core skill**: written `LoRALinear`, its initialisation, forward pass, merge and unmerge (objective 3.1.1).
# 3. **A pattern**: model surgery, that is, replacing chosen layers of a network that you did not write.
# 4. **A tie to production**: exported an adapter that PEFT loads and agrees with (objectives 2.5.4 and 3.1.2).
# 5. **A trade-off**: seen what a rank can and cannot express, against the singular values of a real update
#    (objective 3.1.1).

# %% [markdown]
# ## Before you start
#
# You have built attention from `nn.Linear` layers (2.3.1) and have called `get_peft_model` once (2.5.5). **What
# works**: you can fine-tune a small model. **The gap**: PEFT was a black box, and full fine-tuning of an 8B model
# in float32 takes 16 bytes a parameter, 128 GB before the first activation. **This lab** opens the box.
#
# ```
# 2.3.1 q_proj, k_proj, v_proj, o_proj ──┐
# 2.1   autograd, optimizers ────────────┼──>  3.1.1 LoRA  ──>  3.1.2 DoRA  ──>  3.1.4 8B  ──>  3.1.5 70B QLoRA
# 2.5.5 PEFT as a black box ─────────────┘
# ```

# %% [markdown]
# ### Skill checks
#
# Answer first, then unfold.
#
# <details><summary>1. A linear layer maps 64 features to 32. What shape has its <code>weight</code>?</summary>
#
# `(32, 64)`: out first. `nn.Linear` computes `x @ weight.T + bias`. Half of the mistakes in this lab are a
# missing `.T`.
# </details>
#
# <details><summary>2. B is (32, 4) and A is (4, 64). What is the largest rank that B A can have?</summary>
#
# 4. Every row of the product is a combination of the 4 rows of A.
# </details>
#
# <details><summary>3. AdamW trains one float32 number. How many bytes does that number occupy, all in all?</summary>
#
# 16: the weight (4), its gradient (4), and Adam's running mean and running mean square (4 + 4).
# </details>

# %% nbgrader={"grade": false, "grade_id": "lora-given-setup", "locked": true, "schema_version": 3, "solution": false, "task": false}
import copy
import math
import time
import warnings
from collections.abc import Callable, Sequence
from types import SimpleNamespace

import torch
from labkit import checking, insight, tiny
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

warnings.filterwarnings("ignore", category=FutureWarning)  # from inside transformers, nothing to do with you
torch.set_num_threads(1)  # with matrices this small, a second thread would mostly wait for the first

# %% [markdown]
# Readiness check: the first two skills, run. It should print `ready`.

# %%
layer = nn.Linear(64, 32)
assert layer.weight.shape == (32, 64)
assert torch.linalg.matrix_rank(torch.randn(32, 4) @ torch.randn(4, 64)) == 4
print("ready")

# %% [markdown]
# ## Why it matters
#
# The authors of LoRA adapted GPT-3, with its 175 billion parameters. Fully fine-tuned, each task needed 1.2 TB of
# GPU memory to train and a checkpoint of 350 GB to keep. With LoRA of rank 4 on the query and value projections,
# training took 350 GB and a checkpoint 35 MB (Hu et al. 2021, section 4.2).
#
# What that means in production: a company that serves a hundred customers with a hundred fine-tuned models of 16
# GB each stores 1.6 TB and can keep few of them in memory. With adapters it holds **one** model and a hundred
# files of a few megabytes, and can answer all customers from the same GPU. At the end of this lab you will have
# computed these sizes for an 8B model with your own code.

# %% [markdown]
# ## At the kitchen table
#
# You own a thick, printed cookbook and want to cook for a friend who eats no salt. You could have the book
# reprinted (full fine-tuning). Or you stick a strip of notes on some pages: "halve the salt, add lemon".
#
# | kitchen | LoRA |
# |---|---|
# | the printed book | the frozen weight W |
# | the strip of notes | the two factors A and B |
# | how wide the strip is | the rank r |
# | how loudly you follow the notes | the scaling alpha / r |
# | pencilling the notes into the book | merging |
# | a blank strip on the first day | B = 0: at the start the model is unchanged |
#
# **Where it breaks**: notes speak of single recipes. A low-rank update touches *every* number of W at once; what
# is limited is not how many numbers it moves, but in how many independent directions.

# %% [markdown]
# ## Foundations
#
# A linear layer computes $h = W x$ with $W \in \mathbb{R}^{d_{out} \times d_{in}}$. Fine-tuning finds an update
# $\Delta W$. LoRA keeps $W$ frozen and writes the update as a product of two thin matrices:
#
# $$h = W x + \tfrac{\alpha}{r}\, B A x, \qquad A \in \mathbb{R}^{r \times d_{in}},\quad B \in \mathbb{R}^{d_{out} \times r},\quad r \ll \min(d_{in}, d_{out})$$
#
# It trains $r\,(d_{in} + d_{out})$ numbers in place of $d_{in}\, d_{out}$. The factor $\alpha / r$ is meant to keep the
# size of the update about the same when you change $r$; how far that holds, you measure in 3.1.2.
#
# ```
#         ┌──────────────  W  (frozen, d_out x d_in) ──────────────┐
#  x ─────┤                                                        +────> h
#  (d_in) └── A (r x d_in) ──> r numbers ── B (d_out x r) ── * α/r ─┘
#              random at first              zero at first
# ```
#
# With $g = \partial L/\partial h$ the gradients are $\partial L/\partial B = \frac{\alpha}{r}\, g\,(Ax)^\top$ and
# $\partial L/\partial A = \frac{\alpha}{r}\, B^\top g\, x^\top$. If **both** were zero at first, both gradients
# would be zero for ever.

# %% [markdown]
# ### One example in numbers
#
# $W = \begin{pmatrix}1&0\\0&1\end{pmatrix}$, $A = (1\;\;2)$, $B = \begin{pmatrix}3\\0\end{pmatrix}$, $\alpha =
# 2$, $r = 1$, $x = \begin{pmatrix}1\\1\end{pmatrix}$.
#
# The thin way: $Ax = 3$, then $B \cdot 3 = (9, 0)^\top$, times $\alpha/r = 2$ gives $(18, 0)^\top$, plus $Wx =
# (1, 1)^\top$: $h = (19, 1)^\top$.
#
# The merged way: $W + 2BA = \begin{pmatrix}7&12\\0&1\end{pmatrix}$, times $x$: $(19, 1)^\top$. The same, and this
# is the test that you will use most.

# %%
W, A, B = torch.eye(2), torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0], [0.0]])
x = torch.ones(2)
print("thin:  ", W @ x + 2 * (B @ (A @ x)))
print("merged:", (W + 2 * B @ A) @ x)


# %% [markdown]
# The tests need layers whose numbers are known and that do not depend on your code. This helper makes them.

# %% nbgrader={"grade": false, "grade_id": "lora-given-parts", "locked": true, "schema_version": 3, "solution": false, "task": false}
def parts(seed: int, d_in: int, d_out: int, rank: int, scaling: float = 1.5, bias: bool = True) -> SimpleNamespace:
    """The pieces of a LoRA layer in float64, with random factors: base (frozen), lora_A, lora_B, scaling, merged."""
    draw = torch.Generator().manual_seed(seed)
    base = nn.Linear(d_in, d_out, bias=bias, dtype=torch.float64).requires_grad_(False)
    for number in base.parameters():
        number.copy_(torch.randn(number.shape, generator=draw, dtype=torch.float64))
    lora_A = nn.Parameter(torch.randn(rank, d_in, generator=draw, dtype=torch.float64))
    lora_B = nn.Parameter(torch.randn(d_out, rank, generator=draw, dtype=torch.float64))
    return SimpleNamespace(base=base, lora_A=lora_A, lora_B=lora_B, scaling=scaling, merged=False)


# %% [markdown]
# ## Part 1: One layer
#
# ### Exercise 1: two factors that change nothing yet
#
# Fine-tuning must start *at* the pretrained model, so $BA$ must be zero at first; and it must be able to leave,
# so not both factors may be zero. PEFT, like the authors, draws $A$ at random and sets $B$ to zero. It draws $A$
# uniformly from $[-b, b]$ with $b = 1/\sqrt{d_{in}}$, the same bound that `nn.Linear` uses.

# %% nbgrader={"grade": false, "grade_id": "lora-init", "locked": false, "schema_version": 3, "solution": true, "task": false}
def lora_init(
    in_features: int, out_features: int, rank: int, generator: torch.Generator | None = None
) -> tuple[nn.Parameter, nn.Parameter]:
    """Make the two factors of a LoRA update that is zero at the start.

    Args:
        in_features, out_features: d_in and d_out of the linear layer.
        rank: r, from 1 to min(in_features, out_features).
        generator: source of all random numbers, for reproducible runs.

    Returns:
        lora_A of shape (rank, in_features) and lora_B of shape (out_features, rank): float32 parameters.

    Raises:
        ValueError: the rank is out of its range.

    TODO: Return a uniform lora_A in [-b, b] with b = 1 / sqrt(in_features), and a zero lora_B.

    APPROACH:
        1. Check the rank, because a rank above min(d_in, d_out) costs memory and can express nothing more.
        2. Fill lora_A from the generator, because a random A makes the gradient of B differ from zero.
        3. Leave lora_B at zero, because then the first forward pass is the pretrained model's.

    EXAMPLE:
        >>> lora_A, lora_B = lora_init(64, 32, rank=4)
        >>> lora_A.shape, lora_B.shape, bool((lora_B == 0).all())
        (torch.Size([4, 64]), torch.Size([32, 4]), True)

    HINTS:
        1. A tensor becomes trainable when you wrap it in nn.Parameter.
        2. torch.empty(...).uniform_(low, high, generator=generator) fills a tensor in place.
        3. The bound is one over math.sqrt of in_features; torch.zeros makes the other factor.
    """
    ### BEGIN SOLUTION
    if not 1 <= rank <= min(in_features, out_features):
        raise ValueError(f"rank must be from 1 to {min(in_features, out_features)}, not {rank}")
    bound = 1 / math.sqrt(in_features)
    lora_A = torch.empty(rank, in_features).uniform_(-bound, bound, generator=generator)
    lora_B = torch.zeros(out_features, rank)
    return nn.Parameter(lora_A), nn.Parameter(lora_B)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-lora-init", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Checks: shapes, a zero B, a uniform A with the right bound, drawn from the generator; ranks out of range are refused.
# Catches: swapped shapes, a random B (the model changes at once), a zero A (nothing ever learns), another distribution.
# A pass prints nothing.
def test_unit_lora_init():
    def check(d_in, d_out, rank, seed):
        lora_A, lora_B = lora_init(d_in, d_out, rank, torch.Generator().manual_seed(seed))
        what = f"lora_init({d_in}, {d_out}, rank={rank})"
        checking.equal(lora_B, nn.Parameter(torch.zeros(d_out, rank)), what=f"{what}: lora_B", hint="B starts at zero")
        kind = (type(lora_A), lora_A.shape, lora_A.dtype, lora_A.requires_grad, lora_B.requires_grad)
        checking.equal(kind, (nn.Parameter, (rank, d_in), torch.float32, True, True),
                       what=f"{what}: (type, shape, dtype of lora_A, requires_grad of both)", hint="r rows, d_in long")
        largest = lora_A.detach().abs().max().item()
        bound = 1 / math.sqrt(d_in) * (1 + 1e-6)  # in float32 the bound itself may be rounded up, by 6e-8 of it
        assert 0 < largest <= bound, f"{what}: the largest |A| is {largest}, b is {1 / math.sqrt(d_in)}"
        return lora_A.detach()

    for d_in, d_out, rank in [(64, 32, 4), (5, 3, 1), (3, 7, 3)]:
        check(d_in, d_out, rank, seed=0)
    checking.raises(ValueError, lora_init, 8, 4, 5, what="rank above min(d_in, d_out)", hint="refuse it")
    ### BEGIN HIDDEN TESTS
    # check: ranks that make no sense
    # hint: a rank is at least 1 and at most the smaller of the two sizes
    for rank in (0, -1, 9):
        checking.raises(ValueError, lora_init, 8, 12, rank, what=f"lora_init(8, 12, {rank})", hint="1 <= rank <= min")
    # check: shapes, dtypes and a B of zeros at a larger size
    # hint: print the shapes for a layer that is not square
    seed = checking.secret_seed()
    A = check(400, 300, 64, seed)
    # check: the spread, mean and bound of lora_A
    # hint: print the largest absolute value and compare it with the bound in the text: a uniform law is wanted
    # 25,600 draws: the standard deviation of a uniform law, b / sqrt(3), is known to a relative 0.28 % (one sigma,
    # sqrt(0.2 / n)) and the mean to b / sqrt(3 n) = 0.36 % of b; six sigma are 1.7 % and 2.2 %. The largest of them
    # lies within 0.1 % of b but for exp(-25).
    checking.close(A.std().item(), 1 / math.sqrt(3 * 400), rtol=0.017, atol=0, what="standard deviation of lora_A")
    checking.close(A.mean().item(), 0.0, rtol=0, atol=0.022 / math.sqrt(400), what="mean of lora_A")
    checking.close(A.abs().max().item(), 1 / math.sqrt(400), rtol=1e-3, atol=0, what="largest |A|")
    # check: independent rows
    # hint: is each row drawn anew?
    checking.equal(int(torch.linalg.matrix_rank(A)), 64, what="number of independent rows of lora_A")
    # check: the generator decides
    # hint: is every random number drawn from the generator that you were given?
    checking.equal(check(400, 300, 64, seed), A, what="A again from the same seed", hint="use the generator")
    assert not torch.equal(check(400, 300, 64, seed + 1), A), "another seed gave the same lora_A: use the generator"
    ### END HIDDEN TESTS


test_unit_lora_init()


# %% [markdown]
# ### What just happened?
#
# $BA$ is zero although $A$ is not. In the first step only $B$ receives a gradient; from the second step on, both
# learn. Look:

# %%
def first_gradients():
    lora_A, lora_B = lora_init(8, 8, rank=2, generator=torch.Generator().manual_seed(0))
    (torch.ones(8) @ lora_A.T @ lora_B.T).sum().backward()
    print(f"first step: |dL/dA| = {lora_A.grad.norm():.3f}   |dL/dB| = {lora_B.grad.norm():.3f}")


insight.run(first_gradients, needs="Exercise 1 (lora_init)")


# %% [markdown]
# ### Exercise 2: the forward pass
#
# $h = W x + b + s\,BAx$ for any number of leading axes. Mathematics lets you bracket $BAx$ in two ways; the
# machine does not. With $n$ tokens, $(BA)x$ first builds a matrix as large as $W$ and then multiplies by it,
# while $B(Ax)$ costs $2nr(d_{in}+d_{out})$ floating-point operations and never holds more than $n \times r$
# numbers in between. One point is for the cheap way.

# %% nbgrader={"grade": false, "grade_id": "lora-forward", "locked": false, "schema_version": 3, "solution": true, "task": false}
def lora_forward(x: Tensor, base: nn.Linear, lora_A: Tensor, lora_B: Tensor, scaling: float) -> Tensor:
    """Apply a linear layer and its low-rank update: base(x) + scaling * B A x.

    Args:
        x: input of shape (..., d_in), any number of leading axes, also none.
        base: the frozen layer, weight (d_out, d_in), with or without bias.
        lora_A: (r, d_in), of the dtype of x.
        lora_B: (d_out, r), of the dtype of x.
        scaling: alpha / r.

    Returns:
        Tensor of shape (..., d_out), of the dtype of x.

    TODO: Add the scaled low-rank path to base(x), without ever forming the (d_out, d_in) product B A.

    APPROACH:
        1. Run the base layer as it is, because its bias is counted once.
        2. Go down to r numbers a token first, because r is small.
        3. Go up to d_out and scale, because the update has its own size.

    EXAMPLE:
        >>> base = nn.Linear(2, 2, bias=False)
        >>> _ = base.weight.data.copy_(torch.eye(2))
        >>> lora_forward(torch.ones(2), base, torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0], [0.0]]), 2.0).tolist()
        [19.0, 1.0]

    HINTS:
        1. x has its features last, so every matrix comes from the right, transposed.
        2. x @ lora_A.T has shape (..., r).
        3. From there a second product, with lora_B, gives (..., d_out). Scale it, and let base do its own part.
    """
    ### BEGIN SOLUTION
    down = x @ lora_A.T
    return base(x) + scaling * (down @ lora_B.T)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-lora-forward", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: the result equals a dense layer with W + scaling * B A (3 points), at the cost of the thin way (1 point).
# Catches: a missing transpose, bias counted twice, no scaling, wrong leading axes, detached factors; the dense product.
# A pass prints two lines that begin with "earned".
def test_unit_lora_forward():
    def check(p, x, what):
        with checking.unchanged(x=x, base=p.base, lora_A=p.lora_A, lora_B=p.lora_B):
            h = lora_forward(x, p.base, p.lora_A, p.lora_B, p.scaling)
        want = nn.functional.linear(x, p.base.weight + p.scaling * p.lora_B @ p.lora_A, p.base.bias)
        # float64: sums of 64 terms below 1e3 are off by 64 * 1e3 * 1.1e-16 = 7e-12; gradients, below 1e4, ten times that.
        checking.close(h, want.detach(), rtol=1e-10, atol=1e-10, what=what, hint="base(x) + scaling * B (A x)")
        return h, want

    credit = checking.Credit(4)
    with credit.check("the result is that of the merged layer", points=3):
        for shape in [(3, 6), (2, 3, 6)]:
            check(parts(0, 6, 4, 2), torch.ones(shape, dtype=torch.float64), f"x of shape {shape}")
        ### BEGIN HIDDEN TESTS
        # check: other shapes, scalings and biases, with gradients
        # hint: leading axes can be any: which axis is the feature axis, and is anything detached?
        draw = torch.Generator().manual_seed(checking.secret_seed())
        for shape, d_out, rank, scaling, bias in [((7,), 5, 3, 0.25, True), ((0, 7), 5, 1, 2.0, True),
                                                  ((2, 1, 3, 64), 31, 17, -1.0, False), ((4, 1), 1, 1, 3.0, True)]:
            p = parts(int(torch.randint(2**31, (), generator=draw)), shape[-1], d_out, rank, scaling, bias)
            x = torch.randn(shape, generator=draw, dtype=torch.float64, requires_grad=True)
            h, want = check(p, x, f"x of shape {shape}, d_out {d_out}, rank {rank}, scaling {scaling}, bias {bias}")
            up = torch.randn(h.shape, generator=draw, dtype=torch.float64)
            got, expected = (torch.autograd.grad((out * up).sum(), (p.lora_A, p.lora_B, x)) for out in (h, want))
            for name, mine, theirs in zip(("lora_A", "lora_B", "x"), got, expected, strict=True):
                checking.close(mine, theirs, rtol=1e-9, atol=1e-9, what=f"gradient of {name}, x of shape {shape}")
        # check: an input that is not contiguous
        # hint: does the result depend on how x lies in memory?
        check(parts(2, 6, 4, 2), torch.randn(6, 5, generator=draw, dtype=torch.float64).T, "a transposed x")
        ### END HIDDEN TESTS
    with credit.check("it costs 2 n (d_in d_out + r (d_in + d_out)) operations", points=1, hint="B (A x), not (B A) x"):
        p, x = parts(3, 48, 40, 2), torch.ones(5, 48, dtype=torch.float64)
        with FlopCounterMode(display=False) as counter:
            h = lora_forward(x, p.base, p.lora_A, p.lora_B, p.scaling)
        checking.equal(h.shape, (5, 40), what="shape of the result")
        spent, base, enough = counter.get_total_flops(), 2 * 5 * 48 * 40, 2 * 5 * (48 * 40 + 2 * (48 + 40))
        assert base < spent <= enough, f"{spent} operations were counted, {enough} are enough"
    return credit.total()


test_unit_lora_forward()


# %% [markdown]
# ### What just happened?
#
# The oracle in the test is the *merged* layer, computed in float64: one dense matrix, no LoRA at all. Agreement
# of two routes that share no code is the strongest cheap test there is. The second check counted operations with
# PyTorch's own counter. No clock was involved, so it gives the same verdict on every machine. Here it counts your
# function on the layer that you will adapt later:

# %%
def operations(n=48, d=64, r=8):
    base, lora_A, lora_B = nn.Linear(d, d), torch.ones(r, d), torch.ones(d, r)
    with FlopCounterMode(display=False) as counter:
        lora_forward(torch.ones(n, d), base, lora_A, lora_B, 2.0)
    print(f"base layer: {2 * n * d * d:,}   with your low-rank path: {counter.get_total_flops():,}")
    print(f"with a dense update it would be {2 * (2 * n * d * d) + 2 * d * d * r:,}")


insight.run(operations, needs="Exercise 2 (lora_forward)")


# %% [markdown]
# ### Exercise 3: a layer that knows what to train
#
# Now make it a module. What a module holds as `nn.Parameter`, an optimizer can find, `state_dict` saves and
# `.to(device)` moves. What has `requires_grad=False` gets no gradient and no Adam state: *this*, not the small
# product, is where the memory is saved. The base layer is kept, not copied: it can be gigabytes.

# %% nbgrader={"grade": false, "grade_id": "lora-layer", "locked": false, "schema_version": 3, "solution": true, "task": false}
class LoRALinear(nn.Module):
    """A frozen linear layer with a trainable low-rank update."""

    def __init__(self, base: nn.Linear, lora_A: nn.Parameter, lora_B: nn.Parameter, alpha: float) -> None:
        """Take over a linear layer.

        Args:
            base: the layer to adapt; it is frozen and kept, not copied.
            lora_A, lora_B: the factors, (r, d_in) and (d_out, r).
            alpha: numerator of the scaling; the rank r is read off lora_A.

        TODO: Set self.base, self.lora_A, self.lora_B, self.scaling (alpha / r, a float) and self.merged (False).

        APPROACH:
            1. Freeze the base layer, bias too, because frozen parameters need no gradient and no optimizer state.
            2. Assign base and factors to self, because nn.Module registers modules and parameters at assignment.
            3. Keep alpha / r, because merging needs the same number as the forward pass.

        EXAMPLE:
            >>> layer = LoRALinear(nn.Linear(6, 4), nn.Parameter(torch.ones(2, 6)), nn.Parameter(torch.zeros(4, 2)), 3)
            >>> layer.scaling, layer.merged, [name for name, p in layer.named_parameters() if p.requires_grad]
            (1.5, False, ['lora_A', 'lora_B'])

        HINTS:
            1. Everything is an assignment to self, but for the freezing.
            2. A module has requires_grad_ too; it freezes weight and bias together.
            3. r is the number of rows of lora_A; use / and not //.
        """
        super().__init__()
        ### BEGIN SOLUTION
        base.requires_grad_(False)
        self.base = base
        self.lora_A = lora_A
        self.lora_B = lora_B
        self.scaling = alpha / lora_A.shape[0]
        self.merged = False
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        """(..., d_in) to (..., d_out); a merged layer is its base and nothing else."""
        if self.merged:
            return self.base(x)
        return lora_forward(x, self.base, self.lora_A, self.lora_B, self.scaling)


# %% nbgrader={"grade": true, "grade_id": "test-lora-layer", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Checks: what is registered and trainable, and that the base is the very same module (2 points); the scaling (1 point).
# Catches: a base that still trains, factors that the optimizer cannot see, a copied base, alpha without the division.
# A pass prints two lines that begin with "earned".
def test_unit_lora_layer():
    credit = checking.Credit(3)
    with credit.check("the factors train, the base does not", points=2, hint="requires_grad_, nn.Parameter"):
        for bias in (True, False):
            base = nn.Linear(6, 4, bias=bias)
            lora_A, lora_B = nn.Parameter(torch.ones(2, 6)), nn.Parameter(torch.ones(4, 2))
            with checking.unchanged(weight=base.weight, lora_A=lora_A, lora_B=lora_B):
                layer = LoRALinear(base, lora_A, lora_B, alpha=8)
            trains = {name: p.requires_grad for name, p in layer.named_parameters()}
            frozen = {"base.weight": False, **({"base.bias": False} if bias else {})}
            checking.equal(trains, {**frozen, "lora_A": True, "lora_B": True}, what="requires_grad by name")
            checking.equal(set(layer.state_dict()), set(trains), what="names in the state_dict")
            for name, given in [("base", base), ("lora_A", lora_A), ("lora_B", lora_B)]:
                checking.equal(getattr(layer, name) is given, True, what=f"layer.{name} is what was passed in")
            checking.equal(layer.merged, False, what="merged at the start")
            layer.merged, x = True, torch.ones(3, 6)
            checking.equal(layer(x).detach(), base(x).detach(), what="output of a merged layer")
    with credit.check("scaling is alpha / r", points=1, hint="r is the number of rows of lora_A"):
        cases = [(2, 8, 4.0), (4, 6, 1.5), (3, 1, 1 / 3)]
        ### BEGIN HIDDEN TESTS
        # check: other ranks and alphas
        # hint: compute alpha / r for one of your own, with r taken from the shape of lora_A
        cases += [(5, 16, 3.2), (7, 3.5, 0.5), (1, 32, 32.0)]
        ### END HIDDEN TESTS
        for rank, alpha, want in cases:
            lora_A, lora_B = nn.Parameter(torch.ones(rank, 9)), nn.Parameter(torch.zeros(8, rank))
            scaling = LoRALinear(nn.Linear(9, 8), lora_A, lora_B, alpha).scaling
            checking.equal(scaling, want, what=f"scaling with alpha {alpha} and rank {rank}")
    return credit.total()


test_unit_lora_layer()


# %% [markdown]
# ### What just happened?
#
# `LoRALinear` has everything it needs. From here on one call makes an adapter for any linear layer, on its device
# and in its dtype:

# %% nbgrader={"grade": false, "grade_id": "lora-given-wrap", "locked": true, "schema_version": 3, "solution": false, "task": false}
def with_lora(base: nn.Linear, rank: int = 8, alpha: float = 16, seed: int = 0) -> LoRALinear:
    """Your LoRALinear around `base`, with your initialisation; alpha = 2 r is the usual choice."""
    factors = lora_init(base.in_features, base.out_features, rank, torch.Generator().manual_seed(seed))
    lora_A, lora_B = (nn.Parameter(factor.detach().to(base.weight)) for factor in factors)
    return LoRALinear(base, lora_A, lora_B, alpha)


# %%
insight.run(lambda: print(with_lora(nn.Linear(64, 32), rank=4)), needs="Exercises 1 and 3")


# %% [markdown]
# ### Systems insight 1 of 3: what does a rank cost?
#
# **Checkpoint**: you can run a LoRA layer. **Predict, and write it down**: a layer of 512 by 512 gets an adapter
# of rank 8, then of rank 256. By what factor does each slow down the forward pass? The operations say 1 + r (d_in
# + d_out) / (d_in d_out): 1.03 and 2.0.

# %%
def cost_of_rank(ranks=(1, 8, 32, 128, 256), rounds=9):
    """Best time of your lora_forward for each rank, over the best time of the base layer alone, in the same run."""
    base, x = nn.Linear(512, 512).requires_grad_(False), torch.randn(256, 512)
    factors = {r: (torch.randn(r, 512), torch.randn(512, r)) for r in ranks}
    calls = {0: lambda: base(x), **{r: lambda f=f: lora_forward(x, base, *f, 2.0) for r, f in factors.items()}}
    best = dict.fromkeys(calls, math.inf)
    for _ in range(rounds):  # taking turns, so that a busy moment hits all ranks alike
        for r, call in calls.items():
            start = time.perf_counter()
            call()
            best[r] = min(best[r], time.perf_counter() - start)
    return {r: best[r] / best[0] for r in ranks}


# %%
slowdown = insight.run(cost_of_rank, needs="Exercise 2 (lora_forward)")
if slowdown:
    counted = [1 + r * 1024 / 512**2 for r in slowdown]
    insight.lines(list(slowdown), {"measured": list(slowdown.values()), "operations": counted},
                  xlabel="rank r", ylabel="time / time of base alone", logx=True)


# %% [markdown]
# **What it means in production.** On most machines the measured curve lies above the counted one at small ranks:
# two thin products, an addition and a scaling are four more calls and two more passes over memory, and they cost
# time although they compute almost nothing. An unmerged adapter therefore costs latency even at rank 1. That is
# why adapters are *merged* when a server has only one of them, and kept apart when it has hundreds.

# %% [markdown]
# ## Part 2: Merging
#
# ### Exercise 4: merge and unmerge
#
# For serving one adapter, add $s\,BA$ to $W$ once, and the layer costs no more than it did. To serve another one,
# subtract it again. Both work *in place*: the optimizer, the `state_dict` and other modules hold on to this very
# parameter. Both must be safe to call twice, because in a large program someone will.

# %% nbgrader={"grade": false, "grade_id": "lora-merge", "locked": false, "schema_version": 3, "solution": true, "task": false}
def merge(layer: LoRALinear) -> None:
    """Add the update into the base weight, in place; merging a merged layer does nothing.

    Args:
        layer: has base, lora_A, lora_B, scaling and merged. The factors may have another dtype than the base.

    TODO: Add scaling * B A to layer.base.weight and set layer.merged, unless it is merged already.

    APPROACH:
        1. Return at once if merged, because adding twice would double the update.
        2. Work under torch.no_grad(), because this sum is no step of a computation to differentiate.
        3. Add in place with +=, because others hold this parameter; a new one would leave them behind.

    EXAMPLE:
        >>> p = SimpleNamespace(base=nn.Linear(2, 1, bias=False), lora_A=torch.tensor([[1.0, 2.0]]),
        ...                     lora_B=torch.tensor([[3.0]]), scaling=0.5, merged=False)
        >>> _ = p.base.weight.data.fill_(1)
        >>> merge(p); merge(p); p.base.weight.tolist(), p.merged
        ([[2.5, 4.0]], True)

    HINTS:
        1. The shapes fit only one way: (d_out, r) @ (r, d_in).
        2. The flag is yours to keep: read it first, write it last.
        3. Inside with torch.no_grad(): a += on layer.base.weight does it.
    """
    ### BEGIN SOLUTION
    if layer.merged:
        return
    with torch.no_grad():
        layer.base.weight += layer.scaling * (layer.lora_B @ layer.lora_A)
    layer.merged = True
    ### END SOLUTION


def unmerge(layer: LoRALinear) -> None:
    """Undo merge, in place; unmerging a layer that is not merged does nothing."""
    ### BEGIN SOLUTION
    if not layer.merged:
        return
    with torch.no_grad():
        layer.base.weight -= layer.scaling * (layer.lora_B @ layer.lora_A)
    layer.merged = False
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-lora-merge", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: merged weights, in place and only once (2 points); unmerging gives back the old weights, only once (2 points).
# Catches: a second merge that adds again, a new parameter, a weight that starts to train, changed factors, no scaling.
# A pass prints two lines that begin with "earned".
def test_unit_lora_merge():
    def check(seed, d_in, d_out, rank, scaling, bias, back):
        p = parts(seed, d_in, d_out, rank, scaling, bias)
        weight, before = p.base.weight, p.base.weight.detach().clone()
        added = before + scaling * (p.lora_B @ p.lora_A).detach()
        frozen = {"lora_A": p.lora_A, "lora_B": p.lora_B, **({"bias": p.base.bias} if bias else {})}
        steps = [(merge, added), (merge, added)]
        if back:
            steps = [(unmerge, before), (merge, added), (unmerge, before), (unmerge, before), (merge, added)]
        for number, (step, want) in enumerate(steps, 1):
            what = f"base.weight after step {number} of {' '.join(s.__name__ for s, _ in steps)}"
            with checking.unchanged(**frozen):
                step(p)
            checking.equal(p.base.weight is weight, True, what=f"{what}: it is still the same parameter")
            # float64: five additions and sums of five products, each off by 1e-16 of numbers below 1e2.
            checking.close(p.base.weight, want, rtol=0, atol=1e-11, what=what, hint="W plus or minus scaling * B A")
            checking.equal((weight.requires_grad, p.merged), (False, step is merge), what="(requires_grad, merged)")

    credit = checking.Credit(4)
    with credit.check("merge adds the update, once", points=2, hint="look at layer.merged first"):
        check(0, 6, 4, 2, 1.5, True, back=False)
        ### BEGIN HIDDEN TESTS
        # check: another layer without a bias, and a negative scaling
        # hint: merge a 1 x 1 layer by hand and compare
        check(checking.secret_seed(), 7, 31, 5, -0.25, False, back=False)
        # check: a base layer in bfloat16
        # hint: what is the dtype of the weight before and after?
        p = parts(1, 8, 8, 2)
        p.base.to(torch.bfloat16)
        merge(p)
        checking.equal(p.base.weight.dtype, torch.bfloat16, what="dtype of a bfloat16 base after merge")
        ### END HIDDEN TESTS
    with credit.check("unmerge takes it away, once", points=2, hint="merged is False again afterwards"):
        check(0, 6, 4, 2, 1.5, True, back=True)
        ### BEGIN HIDDEN TESTS
        # check: another layer, there and back
        # hint: unmerge is merge with the sign turned around
        check(checking.secret_seed(), 13, 3, 3, 2.0, False, back=True)
        ### END HIDDEN TESTS
    return credit.total()


test_unit_lora_merge()

# %%
LoRALinear.merge, LoRALinear.unmerge = merge, unmerge  # from now on also layer.merge() and layer.unmerge()


# %% [markdown]
# ### What just happened?
#
# Merged and unmerged are two ways to store the same function. In float64 you could hardly tell them apart. In the
# two bytes of bfloat16 you can, and this is the next insight.

# %% [markdown]
# ### Systems insight 2 of 3: what does merging buy, and what does it lose?
#
# **Checkpoint**: your layer merges. bfloat16 keeps 8 significant bits: next to a weight $w$, changes smaller than
# $|w| / 512$ are always rounded away. **Predict, and write it down**: an update is 1000 times smaller than the
# weights. Which share of the weights of a bfloat16 layer does not change *at all* when you merge it? And in
# float32?

# %%
def count_lost(size, dtype):
    """Share of the weights that your merge leaves exactly as they were, for an update `size` times the weights."""
    layer = with_lora(nn.Linear(256, 256, bias=False, dtype=dtype))
    layer.lora_A.data, layer.lora_B.data = torch.randn(8, 256), torch.randn(256, 8)
    layer.scaling = size * layer.base.weight.float().norm().item() / (layer.lora_B @ layer.lora_A).norm().item()
    before = layer.base.weight.clone()
    merge(layer)
    return torch.count_nonzero(layer.base.weight == before).item() / before.numel()


# %%
def time_merged(rounds=15):
    """Best seconds of a forward pass of your layer, before and after your merge, taking turns."""
    layer, x, best = with_lora(nn.Linear(512, 512)), torch.randn(64, 512), {"unmerged": math.inf, "merged": math.inf}
    for _ in range(rounds):
        for state, switch in (("unmerged", unmerge), ("merged", merge)):
            switch(layer)
            start = time.perf_counter()
            layer(x)
            best[state] = min(best[state], time.perf_counter() - start)
    return best


# %%
def merging():
    sizes = [10.0**-k for k in range(5)]
    lost = {str(d)[6:]: [count_lost(s, d) for s in sizes] for d in (torch.float32, torch.bfloat16)}
    axes = insight.lines(sizes, lost, xlabel="size of update / size of weights", ylabel="share of weights unchanged")
    axes.set_xscale("log")
    seconds = time_merged()
    print(f"unmerged forward / merged forward: {seconds['unmerged'] / seconds['merged']:.2f}")
    print(f"lost in bfloat16 at 1/1000: {lost['bfloat16'][3]:.0%}, in float32: {lost['float32'][3]:.0%}")
    return lost


merge_losses = insight.run(merging, needs="Exercises 1 to 4")


# %% [markdown]
# **What it means in production.** With a small learning rate, an update can well be a thousand times smaller than
# the weights. Merge it into a bfloat16 checkpoint and much of what you trained is rounded away, unevenly; and
# `unmerge` cannot bring the original back. So: merge once, from a pristine copy, in float32, and convert last;
# and keep the adapter file, it is a few megabytes.

# %% [markdown]
# ## Part 3: A whole model
#
# ### Exercise 5: model surgery
#
# A transformer from a library does not know about LoRA. You replace chosen layers from outside.
# `model.named_modules()` lists every module with its dotted path, such as `model.layers.0.self_attn.q_proj`. The
# last part of the path is the attribute; everything before it is the parent. `setattr(parent, "q_proj", new)`
# operates.
#
# Which layer to build is the caller's choice, so it is an argument: a function from `nn.Linear` to a module.

# %% nbgrader={"grade": false, "grade_id": "lora-inject", "locked": false, "schema_version": 3, "solution": true, "task": false}
def inject_lora(model: nn.Module, targets: Sequence[str], make_layer: Callable[[nn.Linear], nn.Module]) -> list[str]:
    """Replace the linear layers that bear one of the names in `targets`, in place.

    Args:
        model: any module; its layers may sit at any depth, also directly in the model.
        targets: last parts of paths, such as ["q_proj", "v_proj"]; they must match exactly.
        make_layer: called once with each layer that is replaced; returns what takes its place.

    Returns:
        The dotted paths of the replaced layers, in the order of model.named_modules().

    Raises:
        ValueError: no linear layer bears any of these names.

    TODO: Replace every nn.Linear whose last path component is in targets by make_layer(it).

    APPROACH:
        1. List all modules before you change any, because you are about to change what you walk through.
        2. Compare the last component exactly, because "proj" is part of "q_proj" and means another layer.
        3. Refuse when nothing matched, because a misspelt target would otherwise train nothing, silently.

    EXAMPLE:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
        >>> inject_lora(net, ["2"], lambda linear: nn.Identity()), net[2]
        (['2'], Identity())

    HINTS:
        1. path.rpartition(".") returns (parent path, ".", last component); for a path without dots the first is "".
        2. model.get_submodule("") is the model itself.
        3. setattr takes the parent module, the last component, and what make_layer returned.
    """
    ### BEGIN SOLUTION
    replaced = []
    for path, module in list(model.named_modules()):
        parent, _, last = path.rpartition(".")
        if last in targets and isinstance(module, nn.Linear):
            setattr(model.get_submodule(parent), last, make_layer(module))
            replaced.append(path)
    if not replaced:
        raise ValueError(f"no linear layer is named {', '.join(targets)}")
    return replaced
    ### END SOLUTION


# %% [markdown]
# The test operates on a body with traps in it: a name that contains another one, a layer that has the right name
# and is not linear, layers in a list, and one right at the top.

# %% nbgrader={"grade": false, "grade_id": "lora-given-body", "locked": true, "schema_version": 3, "solution": false, "task": false}
class Box(nn.Module):
    """Stands in for an adapter: holds the layer that it replaced."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base


class Body(nn.Module):
    def __init__(self, depth: int = 1) -> None:
        super().__init__()
        self.proj, self.norm = nn.Linear(2, 2), nn.LayerNorm(2)
        block = {"q_proj": nn.Linear(2, 2), "proj": nn.Identity()}
        self.blocks = nn.ModuleList(nn.ModuleDict(copy.deepcopy(block)) for _ in range(depth))
        self.old_q_proj, self.head = nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))


# %% nbgrader={"grade": true, "grade_id": "test-lora-inject", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: exactly the right layers are replaced, each by its own wrapper (3 points); no match is refused (1 point).
# Catches: names matched by a part, layers at the top forgotten, modules that are not linear, one wrapper for all.
# A pass prints two lines that begin with "earned".
def test_unit_lora_inject():
    def check(targets, want, depth):
        body, seen = Body(depth), []
        before = dict(body.named_modules())
        replaced = inject_lora(body, targets, lambda linear: seen.append(linear) or Box(linear))
        what = f"inject_lora(body, {targets})"
        checking.equal(replaced, want, what=what, hint="the whole last component, not a part of it")
        checking.equal(len(seen), len(want), what=f"{what}: number of calls of make_layer")
        for path, old in before.items():
            new = body.get_submodule(path)
            if path in want:
                checking.equal(type(new) is Box and new.base is old, True, what=f"{what}: {path} is a box of its layer")
            else:
                checking.equal(new is old, True, what=f"{what}: {path} was left alone")

    credit = checking.Credit(4)
    with credit.check("exactly the named linear layers are replaced", points=3, hint="look at the last component"):
        check(["q_proj"], ["blocks.0.q_proj"], depth=1)
        check(["proj"], ["proj"], depth=2)
        ### BEGIN HIDDEN TESTS
        # check: names that contain each other, and numbers as names
        # hint: compare whole components between dots, not parts of a string
        check(["old_q_proj", "1"], ["old_q_proj", "head.1"], depth=3)
        # check: several targets in a deep body, some of which fit nothing
        # hint: one target that fits is enough; is a layer inside a layer found?
        check(("q_proj", "proj", "k_proj"), ["proj", *(f"blocks.{i}.q_proj" for i in range(11))], depth=11)
        ### END HIDDEN TESTS
    with credit.check("a target that fits nothing is refused", points=1, hint="raise ValueError at the end"):
        for wrong in (["k_proj"], ["norm"], ["proj_"]):
            with checking.unchanged(body=(body := Body())):
                checking.raises(ValueError, inject_lora, body, wrong, Box, what=f"targets {wrong}")
        inject_lora(body, ["proj"], Box)
        ### BEGIN HIDDEN TESTS
        # check: more targets that fit nothing
        # hint: when is it known that nothing was replaced?
        for wrong in (["q"], [], ["blocks.0.q_proj"], ["proj"]):
            checking.raises(ValueError, inject_lora, body, wrong, Box, what=f"targets {wrong}")
        ### END HIDDEN TESTS
    return credit.total()


test_unit_lora_inject()


# %% [markdown]
# ### What just happened?
#
# You changed a network that you did not write, and its `forward` never noticed. Quantisation, DoRA, LoRA on
# mixture-of-experts layers: all of them are this pattern with another `make_layer`. On a real Llama, small as it
# is:

# %%
def operate():
    patient = tiny.llama(0)
    print(inject_lora(patient, ["q_proj", "v_proj"], with_lora))
    print(patient.model.layers[0].self_attn)


insight.run(operate, needs="Exercises 1, 3 and 5")


# %% [markdown]
# ### Exercise 6: freeze everything else
#
# The injected layers froze their own bases. Embeddings, norms and all other layers still train. Freeze them, and
# make sure that the factors *do* train, whatever someone did before.

# %% nbgrader={"grade": false, "grade_id": "lora-freeze", "locked": false, "schema_version": 3, "solution": true, "task": false}
def freeze_base(model: nn.Module) -> tuple[int, int]:
    """Let the LoRA factors train, and nothing else.

    Args:
        model: has parameters whose last path component is lora_A or lora_B.

    Returns:
        (trainable, total): how many numbers train, and how many there are; shared parameters count once.

    TODO: Set requires_grad of every parameter by its name, and count.

    APPROACH:
        1. Walk through named_parameters(), because the name says what a parameter is, and shared ones come once.
        2. Compare the last component of the name exactly, because a module may be called "lora_A_norm".
        3. Set True as well as False, because the factors may have been frozen before.

    EXAMPLE:
        >>> net = nn.Module()
        >>> net.fc, net.lora_A = nn.Linear(3, 2), nn.Parameter(torch.ones(1, 3))
        >>> freeze_base(net), net.fc.weight.requires_grad
        ((3, 11), False)

    HINTS:
        1. for name, parameter in model.named_parameters(): ...
        2. You took the last component of a path in Exercise 5.
        3. parameter.requires_grad_(condition), and parameter.numel() to count.
    """
    ### BEGIN SOLUTION
    trainable = total = 0
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.rpartition(".")[2] in ("lora_A", "lora_B"))
        total += parameter.numel()
        trainable += parameter.numel() if parameter.requires_grad else 0
    return trainable, total
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-lora-freeze", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Checks: which parameters train afterwards, and both counts, on a model with shared weights and misleading names.
# Catches: names matched by a part of them, factors that stay frozen, shared weights counted twice, counts of tensors.
# A pass prints nothing.
def test_unit_lora_freeze():
    def check(width, rank):
        model, inner = nn.Module(), nn.Module()
        model.embed, model.head = nn.Embedding(11, width), nn.Linear(width, 11, bias=False)
        model.head.weight = model.embed.weight  # tied, as in many language models
        model.lora_A_norm, model.lora_B, model.block = nn.LayerNorm(width), nn.Parameter(torch.ones(width, rank)), inner
        inner.lora_A, inner.old_lora_A = nn.Parameter(torch.ones(rank, width)), nn.Parameter(torch.ones(width))
        model.requires_grad_(False)
        inner.old_lora_A.requires_grad_(True)
        with checking.unchanged(model=model):
            counts = freeze_base(model)
        trains = sorted(name for name, p in model.named_parameters() if p.requires_grad)
        checking.equal(trains, ["block.lora_A", "lora_B"], what="names of what trains", hint="the whole last component")
        checking.equal(counts, (2 * rank * width, 11 * width + 2 * width + 2 * rank * width + width),
                       what="freeze_base(model)", hint="numbers, not tensors; shared weights once")

    check(width=6, rank=2)
    checking.equal(freeze_base(nn.Linear(3, 2)), (0, 8), what="counts of a model without adapters")
    ### BEGIN HIDDEN TESTS
    # check: another width and rank
    # hint: count the numbers of each tensor by hand for a small layer; are shared weights counted once?
    draw = torch.Generator().manual_seed(checking.secret_seed())
    width, rank = (int(torch.randint(low, 60, (), generator=draw)) for low in (7, 1))
    check(width, rank)
    ### END HIDDEN TESTS


test_unit_lora_freeze()


# %%
def share_that_trains(rank):
    model = tiny.llama(0)
    inject_lora(model, ["q_proj", "v_proj"], lambda linear: with_lora(linear, rank))
    trainable, total = freeze_base(model)
    print(f"rank {rank:2}: {trainable:5,} of {total:,} numbers train, {trainable / total:.1%}")


for rank in (1, 8, 32):
    insight.run(lambda rank=rank: share_that_trains(rank), needs="Exercises 1, 3, 5 and 6")


# %% [markdown]
# ### Exercise 7: what does training occupy?
#
# Three things stay in memory from step to step: the **weights** (all of them), the **gradients** (of what trains)
# and **Adam's moments** (two numbers for each one that trains, in the dtype of the parameter). The fourth,
# activations, comes and goes; you will count it in the next insight.

# %% nbgrader={"grade": false, "grade_id": "lora-memory", "locked": false, "schema_version": 3, "solution": true, "task": false}
def training_memory(model: nn.Module) -> dict[str, int]:
    """Bytes that training with AdamW keeps from step to step.

    Args:
        model: parameters of any dtype, some with requires_grad=False, some shared.

    Returns:
        {"weights": ..., "gradients": ..., "adam": ...} in bytes; a shared parameter counts once.

    TODO: Sum the bytes of all weights, of the gradients, and of Adam's two moments.

    APPROACH:
        1. Ask each parameter for its own element size, because a model may mix bfloat16 and float32.
        2. Count weights for all, the rest only where requires_grad, because frozen parameters have neither.
        3. Count two moments for each trained number, because Adam keeps a mean and a mean square.

    EXAMPLE:
        >>> net = nn.Linear(4, 2)
        >>> _ = net.bias.requires_grad_(False)
        >>> training_memory(net)
        {'weights': 40, 'gradients': 32, 'adam': 64}

    HINTS:
        1. model.parameters() gives every parameter once.
        2. p.numel() numbers of p.element_size() bytes each.
        3. With t the bytes of what trains: gradients are t, Adam is 2 t.
    """
    ### BEGIN SOLUTION
    weights = trained = 0
    for parameter in model.parameters():
        size = parameter.numel() * parameter.element_size()
        weights += size
        trained += size if parameter.requires_grad else 0
    return {"weights": weights, "gradients": trained, "adam": 2 * trained}
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-lora-memory", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Checks: your prediction against what one real AdamW step leaves behind, tensor by tensor.
# Catches: frozen parameters counted in Adam, one moment instead of two, 4 bytes assumed, shared weights counted twice.
# A pass prints nothing.
def test_unit_lora_memory():
    def check(model, what):
        """Run a real step, then look at what is there."""
        got = training_memory(model)
        weights = {p.data_ptr(): p.nbytes for p in model.parameters()}
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(trained, lr=0.0)
        sum(p.float().sum() for p in trained).backward()
        optimizer.step()
        moments = [state[key].nbytes for state in optimizer.state.values() for key in ("exp_avg", "exp_avg_sq")]
        gradients = sum(p.grad.nbytes for p in trained)
        want = {"weights": sum(weights.values()), "gradients": gradients, "adam": sum(moments)}
        checking.equal(got, want, what=what, hint="bytes, not numbers; only what trains has a gradient")

    net = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3).requires_grad_(False))
    check(net, "training_memory of a half frozen network")
    check(nn.Linear(3, 2).to(torch.bfloat16), "training_memory in bfloat16")
    ### BEGIN HIDDEN TESTS
    # check: several dtypes in one model
    # hint: each tensor has its own number of bytes, and Adam keeps its states in the parameter's dtype
    draw = torch.Generator().manual_seed(checking.secret_seed())
    a, b = (int(torch.randint(2, 90, (), generator=draw)) for _ in range(2))
    mixed = nn.Sequential(nn.Linear(a, b).to(torch.bfloat16), nn.Linear(b, a).double(), nn.BatchNorm1d(a))
    mixed[0].weight.requires_grad_(False)
    check(mixed, f"training_memory of mixed dtypes, {a} and {b} wide")
    # check: weights that two layers share
    # hint: how often does model.parameters() name a shared tensor?
    tied = nn.Sequential(nn.Embedding(7, a), nn.Linear(a, 7), nn.Linear(b, b).requires_grad_(False))
    tied[1].weight = tied[0].weight
    check(tied, f"training_memory with tied weights, {a} and {b} wide")
    # check: nothing that trains
    # hint: what has neither gradient nor optimizer state?
    frozen = training_memory(nn.Linear(a, b).requires_grad_(False))
    checking.equal(frozen, {"weights": 4 * (a * b + b), "gradients": 0, "adam": 0}, what="all frozen")
    ### END HIDDEN TESTS


test_unit_lora_memory()

# %% [markdown]
# ### What just happened?
#
# Your formula met the optimizer: the test ran a real step and added up the tensors that it found. So you can
# trust it on a model too large to try:

# %%
insight.run(lambda: print(training_memory(nn.Linear(100_000, 100_000, device="meta"))), needs="Exercise 7")

# %% [markdown]
# 40 GB of weights, counted on the *meta* device, which has shapes and no memory. Now a model worth adapting. This
# cell trains one from scratch, in a few seconds, to speak in the order subject, verb, object: "ana sees a red
# cat".

# %% nbgrader={"grade": false, "grade_id": "lora-given-pretrained", "locked": true, "schema_version": 3, "solution": false, "task": false}
tokenizer = tiny.ByteTokenizer()
base_model = tiny.llama(seed=0)
loss = tiny.pretrain(base_model, tiny.windows(tiny.sentences(2000, seed=0), count=100, batch=16, length=48, seed=1))
print(f"pretrained: {loss:.2f} nats a byte (a perfect model of these sentences reaches about 0.4)")


# %% [markdown]
# ### Exercise 8: train the adapter
#
# A training loop like the ones that you wrote in module 2.1, with one difference that matters: the optimizer is
# given the trainable parameters only. The model computes its own loss when it gets `labels`; it shifts them
# itself.

# %% nbgrader={"grade": false, "grade_id": "lora-train", "locked": false, "schema_version": 3, "solution": true, "task": false}
def finetune(model: nn.Module, batches: Sequence[Tensor], learning_rate: float) -> list[float]:
    """Train whatever has requires_grad, one AdamW step a batch, without weight decay.

    Args:
        model: a causal language model: model(input_ids=ids, labels=ids).loss is a scalar tensor.
        batches: token ids, each of shape (batch, length), on the model's device.
        learning_rate: AdamW's, held constant.

    Returns:
        The loss of each batch, taken before its step, as Python floats. The model is left in evaluation mode.

    Raises:
        ValueError: nothing in the model is trainable.

    TODO: Write the loop: loss, fresh gradients, step; in training mode, and back in evaluation mode at the end.

    APPROACH:
        1. Collect the trainable parameters first, because an empty list means a mistake upstream: refuse it.
        2. Clear the gradients in every step, because backward() adds to what is there.
        3. Keep loss.item(), because keeping the tensor would keep its whole graph in memory.

    EXAMPLE:
        >>> ids = torch.tensor(tiny.ByteTokenizer().encode("to be or not to be")).repeat(4, 1)
        >>> losses = finetune(tiny.llama(0), [ids] * 5, learning_rate=1e-3)
        >>> len(losses), losses[0] > losses[-1]
        (5, True)

    HINTS:
        1. The order in a step: forward, zero_grad, backward, step.
        2. torch.optim.AdamW takes a list of parameters, lr and weight_decay; the default decay is not zero.
        3. model.train() before the loop, model.eval() after it.
    """
    ### BEGIN SOLUTION
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trainable:
        raise ValueError("nothing to train: no parameter has requires_grad=True")
    optimizer = torch.optim.AdamW(trainable, lr=learning_rate, weight_decay=0.0)
    losses = []
    model.train()
    for ids in batches:
        loss = model(input_ids=ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    return losses
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-lora-train", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Checks: the losses before each step, that only what should train does, the modes, and (hidden) every step to 1e-6.
# Catches: gradients that pile up, the default weight decay, a loss taken after the step, frozen weights that move.
# A pass prints nothing.
def test_unit_lora_train():
    def patient(seed):
        model = tiny.llama(seed, hidden_size=16, intermediate_size=16, num_hidden_layers=1).double()
        model.requires_grad_(False)
        model.lm_head.requires_grad_(True)
        model.model.layers[0].self_attn.q_proj.requires_grad_(True)
        return model

    model, batches = patient(0), tiny.windows(tiny.sentences(9, seed=1), count=8, batch=2, length=12, seed=2)
    first = model(input_ids=batches[0], labels=batches[0]).loss.item()
    modes, frozen = [], {n.replace(".", "_"): p for n, p in model.named_parameters() if not p.requires_grad}
    model.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    with checking.unchanged(batches=batches, **frozen):
        losses = finetune(model, batches, learning_rate=1e-2)
    checking.equal(([type(x) for x in losses], modes, model.training), ([float] * 8, [True] * 8, False),
                   what="(types of the losses, training mode in each step, training mode afterwards)")
    checking.close(losses[0], first, rtol=1e-9, atol=0, what="first loss", hint="take the loss before the step")
    assert losses[-1] < losses[0], f"the loss did not fall: {losses}"
    checking.raises(ValueError, finetune, model.requires_grad_(False), batches, 1e-2, what="a model that is all frozen")
    ### BEGIN HIDDEN TESTS
    # check: every loss, against a loop of ours
    # hint: is zero_grad called in each step, is weight decay off, and is the loss taken before the step?
    seed = checking.secret_seed()
    mine, batches = patient(seed), tiny.windows(tiny.sentences(9, seed=seed), count=6, batch=3, length=10, seed=seed)
    theirs, want = copy.deepcopy(mine), []
    optimizer = torch.optim.AdamW([p for p in theirs.parameters() if p.requires_grad], lr=3e-2, weight_decay=0.0)
    for ids in batches:
        want.append(theirs(input_ids=ids, labels=ids).loss)
        optimizer.zero_grad()
        want[-1].backward()
        optimizer.step()
    # float64 and the same arithmetic: rounding differs by 1e-15 a step at most, Adam's division raises it to 1e-8.
    for step, (got, loss) in enumerate(zip(finetune(mine, batches, 3e-2), want, strict=True)):
        checking.close(got, loss.item(), rtol=1e-6, atol=0, what=f"loss of step {step}", hint="zero_grad, weight_decay")
    # check: the weights after the last step
    # hint: how often does your loop step?
    checking.close(mine.lm_head.weight, theirs.lm_head.weight, rtol=0, atol=1e-6, what="weights after the last step")
    ### END HIDDEN TESTS


test_unit_lora_train()

# %% [markdown]
# ### What just happened?
#
# The hidden test compares with a second loop in float64, step by step: weight decay changes a loss by less than
# one in a thousand, and no plot would ever show it. Now the adapter meets the language. The new one puts the
# object first: "a red cat ana sees".

# %%
new_order = tiny.windows(tiny.sentences(500, seed=3, order="osv"), count=60, batch=16, length=48, seed=2)
held_out = tiny.windows(tiny.sentences(200, seed=4, order="osv"), count=1, batch=64, length=48, seed=5)[0]


def adapt(rank, targets=("q_proj", "v_proj")):
    """A copy of the base model with adapters of this rank, trained on the new word order; and its losses."""
    model = copy.deepcopy(base_model)
    inject_lora(model, targets, lambda linear: with_lora(linear, rank, alpha=2 * rank))
    freeze_base(model)
    return model, finetune(model, new_order, learning_rate=1e-2)


# %%
def first_adapter():
    start = time.perf_counter()
    model, losses = adapt(rank=8)
    print(f"loss {losses[0]:.2f} -> {losses[-1]:.2f} in {time.perf_counter() - start:.1f} s")
    return model, losses


adapted, lora_losses = insight.run(first_adapter, needs="Exercises 1 to 8") or (None, [])


# %% [markdown]
# ### Systems insight 3 of 3: where does the memory go?
#
# **Checkpoint**: an adapter trains. **Predict, and write it down**: of weights, gradients, Adam's moments and
# activations, which shrink with LoRA, and to what share?
#
# Activations are what the forward pass saves for the backward pass. PyTorch lets us look at each tensor as it is
# saved; we count every piece of memory once, and leave out the parameters, which are there anyway.

# %%
def saved_bytes(model, ids):
    """Bytes of activations that one forward pass of `model` keeps for the backward pass."""
    parameters, seen = {p.untyped_storage().data_ptr() for p in model.parameters()}, {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        seen.setdefault(storage.data_ptr(), (storage.nbytes(), tensor))  # holding it, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(input_ids=ids, labels=ids)
    return sum(size for address, (size, _) in seen.items() if address not in parameters)


# %%
def where_the_memory_goes():
    models = {"full": copy.deepcopy(base_model), "LoRA r=8": copy.deepcopy(base_model)}
    inject_lora(models["LoRA r=8"], ["q_proj", "v_proj"], with_lora)
    freeze_base(models["LoRA r=8"])
    return {name: {**training_memory(m), "activations": saved_bytes(m, new_order[0])} for name, m in models.items()}


# %%
memory = insight.run(where_the_memory_goes, needs="Exercises 1 to 7")
for name, kinds in (memory or {}).items():
    insight.bars({kind: size / 2**10 for kind, size in kinds.items()}, ylabel="memory [KiB]", title=name, log=True)
    print(name, {kind: f"{size / 2**10:,.0f} KiB" for kind, size in kinds.items()})


# %% [markdown]
# **What it means in production.** Gradients and Adam's moments all but vanish. The weights stay, and this is what
# QLoRA attacks, by storing them in 4 bits (lab 3.1.5). The activations shrink far less: a frozen layer need not
# keep its input, but the backward pass still runs through every block down to the first adapter, and keeps what
# it needs for that. Here *they* are the largest part by far, and the remedy is not a smaller rank but gradient
# checkpointing or a smaller batch.

# %% [markdown]
# ## Part 4: What a rank can express
#
# ### Exercise 9: the best adapter there is
#
# Suppose that you know the true update $\Delta W$, from full fine-tuning. Which adapter of rank $r$ comes
# closest? The singular value decomposition $\Delta W = U \Sigma V^\top$ knows: keep the $r$ largest singular
# values and drop the rest. No matrix of rank $r$ is closer (Eckart and Young 1936), and what is left over has the
# Frobenius norm $\sqrt{\sigma_{r+1}^2 + \sigma_{r+2}^2 + \dots}$. Practitioners use exactly this to *extract*
# adapters from fine-tuned checkpoints.

# %% nbgrader={"grade": false, "grade_id": "lora-svd", "locked": false, "schema_version": 3, "solution": true, "task": false}
def best_adapter(delta: Tensor, rank: int, scaling: float) -> tuple[Tensor, Tensor]:
    """The factors whose scaled product is the best approximation of `delta` of this rank.

    Args:
        delta: the update to approximate, (d_out, d_in), float32 or float64.
        rank: r, from 1 to min(d_in, d_out).
        scaling: the number that LoRA multiplies B A by; not zero, may be negative.

    Returns:
        lora_A (r, d_in) and lora_B (d_out, r), of the dtype of delta: scaling * lora_B @ lora_A is the truncated
        singular value decomposition of delta.

    TODO: Split the truncated SVD of delta into two factors.

    APPROACH:
        1. Decompose delta, because its leading singular vectors span the best subspace of every dimension.
        2. Cut all three parts at r, because singular values come sorted, largest first.
        3. Divide by scaling in one factor, because the layer will multiply by it.

    EXAMPLE:
        >>> lora_A, lora_B = best_adapter(torch.diag(torch.tensor([3.0, 2.0, 1.0])), rank=2, scaling=0.5)
        >>> (0.5 * lora_B @ lora_A).diag().abs()
        tensor([3., 2., 0.])

    HINTS:
        1. torch.linalg.svd with full_matrices=False returns U, S and V, the last one already transposed.
        2. You want the first r columns of U, and the first r rows of the transposed V.
        3. One factor can take all of S: multiplying a matrix by a vector scales its columns.
    """
    ### BEGIN SOLUTION
    U, S, Vh = torch.linalg.svd(delta, full_matrices=False)
    return Vh[:rank], U[:, :rank] * S[:rank] / scaling
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-lora-svd", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Checks: the shapes, and that the error is the one that Eckart and Young prove to be the smallest possible.
# Catches: singular values forgotten or used twice, the smallest kept, V instead of its transpose, scaling forgotten.
# A pass prints nothing.
def test_unit_lora_svd():
    def check(delta, rank, scaling):
        what = f"best_adapter of a {tuple(delta.shape)} update, rank {rank}, scaling {scaling}"
        with checking.unchanged(delta=delta):
            lora_A, lora_B = best_adapter(delta, rank, scaling)
        shapes = ((rank, delta.shape[1]), (delta.shape[0], rank))
        checking.equal((lora_A.shape, lora_B.shape), shapes, what=f"{what}: shapes of (lora_A, lora_B)")
        missing = (delta - scaling * lora_B @ lora_A).norm()
        tail = torch.linalg.svdvals(delta)[rank:].norm()
        # Both norms are good to a few eps of |delta|: 1e-12 of it in float64, with room for hundreds of roundings.
        checking.close(missing, tail, rtol=0, atol=1e-12 * float(delta.norm()), what=f"{what}: what is left over",
                       hint="the square root of the sum of the squared singular values after the first r")

    check(torch.diag(torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64)), 1, 1.0)
    check(torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 7.0]], dtype=torch.float64), 1, 0.5)
    ### BEGIN HIDDEN TESTS
    # check: other shapes, ranks and scalings
    # hint: what must B A be multiplied by to give the truncated SVD? Try a scaling that is not 1
    draw = torch.Generator().manual_seed(checking.secret_seed())
    cases = [(9, 5, 3, 2.0), (5, 9, 5, -0.25), (31, 17, 1, 16.0), (1, 6, 1, 1.0), (8, 8, 7, 1.5)]
    for d_out, d_in, rank, scaling in cases:
        check(torch.randn(d_out, d_in, generator=draw, dtype=torch.float64), rank, scaling)
        check(torch.randn(d_in, d_out, generator=draw, dtype=torch.float64).T, rank, scaling)
    # check: an update of zeros
    # hint: is anything divided by a singular value?
    lora_A, lora_B = best_adapter(torch.zeros(4, 3), 2, 1.0)
    checking.equal(lora_B @ lora_A, torch.zeros(4, 3), what="the best adapter of a zero float32 update")
    ### END HIDDEN TESTS


test_unit_lora_svd()


# %% [markdown]
# ### What just happened?
#
# The test never looks at your factors, only at what they leave over, because the split is not unique: for any
# invertible $M$, $(B M^{-1})(M A)$ is the same update. That freedom is also why you must never average the $A$s
# and $B$s of two adapters. Here is one update and its best adapters:

# %%
def shrinking_error():
    delta = torch.randn(32, 4, generator=torch.Generator().manual_seed(0)) @ torch.randn(4, 64)  # rank 4 by construction
    for rank in (1, 2, 4, 8):
        lora_A, lora_B = best_adapter(delta, rank, 1.0)
        print(f"rank {rank}: {(delta - lora_B @ lora_A).norm() / delta.norm():.1e} of the update is left over")


insight.run(shrinking_error, needs="Exercise 9 (best_adapter)")


# %% [markdown]
# ### Exercise 10: hand it to PEFT
#
# PEFT saves an adapter as a dictionary of tensors. Its names follow one rule: `base_model.model.`, then the path
# of the factor in the original model, then `.weight`. So `model.layers.0.self_attn.q_proj.lora_A` becomes
# `base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight`. The shapes are those that you have been using
# all along.

# %% nbgrader={"grade": false, "grade_id": "lora-export", "locked": false, "schema_version": 3, "solution": true, "task": false}
def export_adapter(model: nn.Module) -> dict[str, Tensor]:
    """The LoRA factors of a model, under the names that PEFT expects.

    Args:
        model: has parameters whose last path component is lora_A or lora_B.

    Returns:
        Tensors by PEFT's names: detached copies, so that training on does not change what was exported.

    TODO: Collect a detached copy of every lora_A and lora_B under its PEFT name.

    APPROACH:
        1. Select by the last component, because the base weights do not belong into an adapter file.
        2. Rename by PEFT's rule, because it finds the layers by name.
        3. Copy, because a view of a parameter goes on changing with it.

    EXAMPLE:
        >>> net = nn.Module()
        >>> net.fc, net.lora_A = nn.Linear(3, 2), nn.Parameter(torch.ones(1, 3))
        >>> export_adapter(net)
        {'base_model.model.lora_A.weight': tensor([[1., 1., 1.]])}

    HINTS:
        1. You selected the same parameters in Exercise 6.
        2. The new name is the old one between a prefix and a suffix: an f-string.
        3. detach() leaves the graph, clone() makes a copy; you need both.
    """
    ### BEGIN SOLUTION
    return {
        f"base_model.model.{name}.weight": parameter.detach().clone()
        for name, parameter in model.named_parameters()
        if name.rpartition(".")[2] in ("lora_A", "lora_B")
    }
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "lora-given-peft", "locked": true, "schema_version": 3, "solution": false, "task": false}
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict


def peft_twin(model: nn.Module, rank: int, alpha: float, targets: Sequence[str]) -> nn.Module:
    """PEFT's own LoRA around a copy of `model`, in evaluation mode."""
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(targets), lora_dropout=0.0)
    return get_peft_model(copy.deepcopy(model), config).eval()


# %% nbgrader={"grade": true, "grade_id": "test-lora-export", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Checks: PEFT itself recognises every name, and the tensors are copies with the right values.
# Catches: wrong names, base weights in the file, tensors that still belong to the graph or share memory with the model.
# A pass prints nothing.
def test_unit_lora_export():
    def check(seed, rank, targets):
        plain, twin = (tiny.llama(seed, num_hidden_layers=1) for _ in range(2))
        twin = peft_twin(twin, rank, 2 * rank, targets)
        for path, linear in list(plain.named_modules()):
            if path.rpartition(".")[2] in targets:  # factors hung onto bare layers: this needs no other exercise
                linear.lora_A = nn.Parameter(torch.randn(rank, linear.in_features))
                linear.lora_B = nn.Parameter(torch.randn(linear.out_features, rank))
        plain.lora_A_old = nn.Parameter(torch.ones(2))
        with checking.unchanged(model=plain):
            adapter = export_adapter(plain)
        checking.equal(set(adapter), set(get_peft_model_state_dict(twin)), what="names in the adapter",
                       hint="base_model.model. + path + .weight")
        for name, tensor in adapter.items():
            source = plain.get_parameter(name.removeprefix("base_model.model.").removesuffix(".weight"))
            checking.equal(tensor, source.detach(), what=name)
            checking.equal((tensor.requires_grad, tensor.data_ptr() == source.data_ptr()), (False, False),
                           what=f"{name}: (requires_grad, shares memory with the model)", hint="detach().clone()")

    check(0, rank=2, targets=["q_proj"])
    ### BEGIN HIDDEN TESTS
    # check: other targets, and another rank
    # hint: print your names beside those that PEFT writes for the same model
    check(checking.secret_seed(), rank=3, targets=["v_proj", "down_proj", "o_proj"])
    ### END HIDDEN TESTS


test_unit_lora_export()

# %%
if adapted:
    adapter = insight.run(lambda: export_adapter(adapted), needs="Exercise 10 (export_adapter)") or {}
    for name, tensor in list(adapter.items())[:2]:
        print(name, tuple(tensor.shape))


# %% [markdown]
# ## Put it together
#
# One test of the whole machine: your factors, layer, surgery, freezing, training, export and merge on a small
# Llama, against PEFT on the same Llama. It needs all ten exercises but the ninth, so it comes last and is worth
# little.

# %% nbgrader={"grade": true, "grade_id": "test-lora-module", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Checks: adapters change nothing at first, train while the rest stays, agree with PEFT, and merge without a trace.
# Catches: pieces that are right alone and do not fit together, such as two ideas of scaling.
# A pass prints nothing.
def test_unit_lora_module():
    def check(seed, rank, alpha, targets):
        model = tiny.llama(seed, num_hidden_layers=1).double()
        ids = tiny.windows(tiny.sentences(40, seed), count=1, batch=4, length=16, seed=seed)[0]
        twin, before = peft_twin(model, rank, alpha, targets), model(ids).logits.detach()
        original = {path.replace(".", "_"): weight for path, weight in model.named_parameters()}
        inject_lora(model, targets, lambda linear: with_lora(linear, rank, alpha, seed))
        # float64 through one block and one head: a few thousand roundings of 1e-16, of logits of size 1.
        same = {"rtol": 1e-8, "atol": 1e-9}
        checking.close(model(ids).logits.detach(), before, **same, what="logits after injection", hint="B = 0")
        trainable, total = freeze_base(model)
        memory = training_memory(model)
        checking.equal((memory["weights"], memory["adam"]), (8 * total, 16 * trainable), what="(weights, adam)")
        with checking.unchanged(**original):
            losses = finetune(model, [ids] * 10, learning_rate=1e-2)
        assert min(losses[1:]) < losses[0], f"the loss did not fall: {losses}"
        adapted = model(ids).logits.detach()
        set_peft_model_state_dict(twin, export_adapter(model))
        checking.close(twin(ids).logits.detach(), adapted, **same, what="logits of PEFT with your adapter")
        for change in (merge, unmerge):
            for layer in model.modules():
                if type(layer) is LoRALinear:
                    change(layer)
            checking.close(model(ids).logits.detach(), adapted, **same, what=f"logits after {change.__name__}")

    check(0, rank=4, alpha=6, targets=["q_proj", "v_proj"])
    ### BEGIN HIDDEN TESTS
    # check: other targets, and another alpha
    # hint: run the cell's parts one by one on a model of your own and see which exercise disagrees
    check(checking.secret_seed(), rank=3, alpha=12, targets=["o_proj", "gate_proj", "lm_head"])
    ### END HIDDEN TESTS


test_unit_lora_module()


# %%
def test_unit_all():
    """Every test again, in order; says which exercises are still open."""
    names = ("init", "forward", "layer", "merge", "inject", "freeze", "memory", "train", "svd", "export", "module")
    for name in names:
        print(f"--- {name}")
        insight.run(globals()[f"test_unit_lora_{name}"], needs=f"lora-{name}")


test_unit_all()


# %% [markdown]
# ## Use it
#
# The question of this part: **is the update that fine-tuning wants really of low rank?** First fine-tune a copy
# of the base model in full, on the same batches as the adapter, with your own loop.

# %%
def full_finetune():
    model = copy.deepcopy(base_model)
    losses = finetune(model, new_order, learning_rate=3e-3)
    before, after = base_model.state_dict(), model.state_dict()
    return losses, {path: after[path] - before[path] for path in before if path.endswith("_proj.weight")}


full_losses, updates = insight.run(full_finetune, needs="Exercise 8 (finetune)") or ([], {})

# %%
if full_losses and lora_losses:
    insight.lines(range(len(full_losses)), {"all weights": full_losses, "LoRA, r = 8": lora_losses},
                  xlabel="step", ylabel="loss [nats / byte]", title="learning a new word order")


# %% [markdown]
# The adapter learns more slowly and gets most of the way (a perfect model would reach 0.4). What has it learnt to say? The models continue a prompt;
# decoding is greedy and the model tiny, so some words come out broken.

# %%
def speak(model, prompt=". a red cat"):
    ids = torch.tensor([tokenizer.encode(prompt)])
    out = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=40, do_sample=False)
    return tokenizer.decode(out[0])


print("before:", speak(base_model))
if adapted:
    print("after: ", speak(adapted))

# %% [markdown]
# Now the picture behind the words *low rank*: the singular values of the true updates. The steeper a curve falls,
# the better a small rank serves.

# %%
picked = [path for path in updates if ".q_proj" in path or ".v_proj" in path or ".gate_proj" in path]
if updates:
    spectra = {path[13:-7]: torch.linalg.svdvals(updates[path])[:32] for path in picked}
    insight.lines(range(1, 33), {name: (s / s[0]).tolist() for name, s in spectra.items()},
                  xlabel="number of the singular value", ylabel="relative to the first", logy=True)


# %%
def left_over(ranks=(1, 2, 4, 8, 16, 32)):
    """Relative error of your best adapter for each update and rank."""
    errors = {}
    for path in picked:
        delta = updates[path]
        pairs = [best_adapter(delta, rank, 2.0) for rank in ranks]
        errors[path[13:-7]] = [((delta - 2.0 * B @ A).norm() / delta.norm()).item() for A, B in pairs]
    insight.lines(ranks, errors, xlabel="rank r", ylabel="|update - best adapter| / |update|", logx=True)
    return errors


# %%
errors = insight.run(left_over, needs="Exercise 9 (best_adapter)") if updates else None


# %% [markdown]
# At rank 8, a good part of the update is left over in every layer. And yet the adapter of rank 8 learnt the task!
# Both are true: full fine-tuning moves the weights in many directions, of which the task needs few. How few?
# Train adapters of several ranks and look at a loss on sentences that none of them has seen:

# %%
def loss_by_rank(ranks=(1, 4, 16)):
    held = {}
    for rank in ranks:
        model, _ = adapt(rank)
        with torch.no_grad():
            held[str(rank)] = model(input_ids=held_out, labels=held_out).loss.item()
    insight.bars(held, ylabel="held-out loss [nats / byte]", title="rank of the adapter")
    return held


# %%
rank_losses = insight.run(loss_by_rank, needs="Exercises 1 to 8")


# %% [markdown]
# ## On your Spark
#
# The same functions, full size: Llama 3.1 8B in bfloat16 on a DGX Spark with its 128 GB of unified memory. First
# the prediction, which needs no GPU: on PyTorch's *meta* device a model has shapes and dtypes and no memory. Your
# own code counts what the real one will occupy.

# %%
def predict_8b():
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32,
                         num_attention_heads=32, num_key_value_heads=8, dtype=torch.bfloat16)
    with torch.device("meta"):
        model = LlamaForCausalLM(config).to(torch.bfloat16)
    full = training_memory(model)
    inject_lora(model, ["q_proj", "v_proj"], lambda linear: with_lora(linear, rank=16, alpha=32))
    counts = freeze_base(model)
    return {"full": full, "LoRA r=16": training_memory(model)}, counts


# %%
predicted, counts_8b = insight.run(predict_8b, needs="Exercises 1, 3, 5, 6 and 7") or ({}, (0, 0))
for name, kinds in predicted.items():
    print(f"{name:10}", {kind: f"{size / 1e9:.2f} GB" for kind, size in kinds.items()})
if predicted:
    print(f"{counts_8b[0]:,} of {counts_8b[1]:,} train; the adapter file: {2 * counts_8b[0] / 1e6:.1f} MB")

# %% [markdown]
# To run it, on the Spark:
#
# ```bash
# sync; echo 3 | sudo tee /proc/sys/vm/drop_caches   # unified memory: the file cache would take from the GPU's share
# docker run --gpus all -it --rm --ipc=host -p 8888:8888 -v $PWD:/workspace \
#     -v $HOME/.cache/huggingface:/hf -e HF_HOME=/hf nvcr.io/nvidia/pytorch:25.11-py3
# ```
#
# In the container: `pip install transformers peft accelerate` and the course's package, `jupyter lab --ip=0.0.0.0
# --allow-root`, then this notebook with `RUN_ON_SPARK = True`. The weights (16 GB) need an account at Hugging
# Face that has accepted Meta's licence. This section has **not yet been measured on a GPU** by the authors: your
# record is the first.

# %%
RUN_ON_SPARK = False


# %%
def run_on_spark(path="meta-llama/Llama-3.1-8B", steps=50):
    """Fine-tune the 8B model with your code; returns the record. Needs a GPU with 30 GB free."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    start = time.perf_counter()
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16, device_map="cuda")  # no second copy
    loaded = time.perf_counter() - start
    inject_lora(model, ["q_proj", "v_proj"], lambda linear: with_lora(linear, rank=16, alpha=32))
    trainable, _ = freeze_base(model)
    ids = torch.tensor(AutoTokenizer.from_pretrained(path)(tiny.sentences(20_000, seed=0, order="osv")).input_ids)
    batches = list(ids[: steps * 4 * 256].reshape(steps, 4, 256).to("cuda"))
    torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    losses = finetune(model, batches, learning_rate=2e-4)
    torch.cuda.synchronize()
    seconds = (time.perf_counter() - start) / steps
    return {"gpu": torch.cuda.get_device_name(), "load_seconds": loaded, "trainable": trainable,
            "seconds_per_step": seconds, "peak_gb": torch.cuda.max_memory_allocated() / 1e9,
            "first_loss": losses[0], "last_loss": losses[-1]}


# %% [markdown]
# Record what you measured here. `run_on_spark()` fills it in for you; a record by hand is as good. Without such a
# machine leave it as it is: nothing is lost.

# %%
spark_record = {"gpu": None, "load_seconds": None, "trainable": None, "seconds_per_step": None,
                "peak_gb": None, "first_loss": None, "last_loss": None}
if RUN_ON_SPARK:
    spark_record = run_on_spark()


# %% nbgrader={"grade": false, "grade_id": "lora-given-spark-record", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_spark_record(record: dict) -> str:
    """Form and plausibility of a record. Nothing here earns points; a person reads it."""
    wanted = {"load_seconds": (1, 3600), "trainable": (6_815_744, 6_815_744), "seconds_per_step": (0.01, 600),
              "peak_gb": (16, 128), "first_loss": (0.01, 15), "last_loss": (0.001, 15)}
    if all(record.get(key) is None for key in ("gpu", *wanted)):
        return "not measured: no record of a full-size run"
    odd = [key for key, (low, high) in wanted.items()
           if not isinstance(record.get(key), int | float) or not low <= record[key] <= high]
    odd += [] if isinstance(record.get("gpu"), str) else ["gpu"]
    return f"look again at {', '.join(odd)}: missing or out of the plausible range" if odd else "complete and plausible"


# %%
check_spark_record(spark_record)


# %% [markdown]
# ## Common mistakes
#
# **1. Both factors at zero (or both at random).**
#
# ```python
# lora_A = torch.zeros(rank, d_in);           lora_B = torch.zeros(d_out, rank)   # wrong: no gradient, ever
# lora_A = torch.empty(...).uniform_(-b, b);  lora_B = torch.zeros(d_out, rank)   # right
# ```
# Each gradient contains the other factor. With both at random the model is spoilt before the first step.
#
# **2. Forgetting the rank in the scaling.**
#
# ```python
# self.scaling = alpha                       # wrong: rank 64 learns 64 times as hard as rank 1
# self.scaling = alpha / r                   # right
# ```
# It trains all the same, at another learning rate, and an exported adapter is wrong by the factor r in PEFT.

# %% [markdown]
# **3. Building the big product.**
#
# ```python
# h = x @ (scaling * B @ A).T                # wrong: d_out x d_in numbers and operations, in every pass, for nothing
# h = scaling * B (A x), from right to left  # right
# ```
# The numbers agree, so no test of values notices. A count of operations does.
#
# **4. Merging twice.**
#
# ```python
# layer.base.weight += scaling * B @ A                        # wrong: the second call adds the update again
# if not layer.merged: ...; layer.merged = True               # right
# ```

# %% [markdown]
# **5. Matching names by a part of them.**
#
# ```python
# if any(target in path for target in targets): ...           # wrong: "proj" hits q_proj, up_proj and old_proj_norm
# if path.split(".")[-1] in targets: ...                      # right
# ```
#
# **6. Counting Adam for what is frozen.**
#
# ```python
# adam = 2 * sum(p.nbytes for p in model.parameters())                      # wrong: 32 GB too much at 8B
# adam = 2 * sum(p.nbytes for p in model.parameters() if p.requires_grad)   # right
# ```

# %% [markdown]
# ## Reflect
#
# Three questions on *your* code and *your* measurements. Five to ten lines each; numbers without a source in this
# notebook earn nothing.

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-lora-memory", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Reflection 1: memory (3 points).** Take the numbers of insight 3 (`memory`) and of `predicted`. Which of the
# four kinds of memory did LoRA shrink in your tiny model, by which factors, and which will be the largest for the
# 8B model with LoRA? Say what in `freeze_base` and `finetune` causes the saving, and what you would do next if
# the 8B model still did not fit.
#
# ### BEGIN SOLUTION
# Gradients and Adam's moments shrink by the ratio total / trainable (tiny model: 107,200 trained numbers against
# 3,584, a factor of 30). Weights do not shrink; they grow by the factors. Activations shrink only in part: frozen
# layers need not keep their input, but the backward pass still runs through all layers. At 8B the weights, 16 GB
# in bfloat16, are the largest, unless sequences are long. The saving comes from `requires_grad=False`: backward
# makes no gradient for these parameters, and AdamW, which gets only the trainable ones, allocates no moments for
# them. Next: 4-bit base weights (QLoRA) against the weights, checkpointing or a smaller batch against the
# activations; a smaller rank would not help.
#
# ### BEGIN MARK SCHEME
# - 1 point: names the kinds that shrink and those that do not, with the factors measured in this notebook.
# - 1 point: traces the saving to code: no gradient for frozen parameters, no moments because the optimizer never
#   sees them.
# - 1 point: a next step that attacks the part that is really the largest, with the reason. A smaller rank earns
#   nothing here.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-lora-rank", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Reflection 2: rank (3 points).** Compare your `errors` (what the best adapter of a rank leaves over) with your
# `rank_losses` (what a trained adapter of a rank reaches). Do they agree on the rank that this task needs?
# Explain the difference, using what `best_adapter` minimises and what `finetune` minimises. Which of the two
# would you look at to choose a rank for a new task, and how would you get it cheaply?
#
# ### BEGIN SOLUTION
# They disagree. The best rank-8 adapter leaves a large part of the full update over, while the trained adapter of
# rank 4 or 16 reaches nearly the loss of full fine-tuning. `best_adapter` minimises the Frobenius distance to one
# particular update, in which every direction counts alike; `finetune` minimises the loss, which is flat in most
# of them, and chooses its own update, which need not resemble the full one. For a new task the loss counts: train
# a few ranks briefly on a small share of the data and take the smallest rank beyond which the held-out loss stops
# falling. The spectrum needs a full fine-tuning first, which is what we wanted to avoid.
#
# ### BEGIN MARK SCHEME
# - 1 point: quotes their own numbers for at least two ranks from both measurements and sees that they disagree.
# - 1 point: the two objectives: distance to one update in weight space against loss; many updates have the same
#   loss.
# - 1 point: a choice by held-out loss with a workable procedure; also full marks for the spectrum if the cost of
#   obtaining it is discussed.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-lora-serving", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Reflection 3: production (3 points).** You serve one 8B base model and 200 adapters made by your
# `export_adapter`, for 200 customers. With insights 1 and 2, decide for each case whether you would merge: (a)
# one customer sends 95 % of the requests; (b) all customers send about the same. Give the memory of both designs
# in GB, from `predicted` and `counts_8b`, and name one thing that can go wrong when `merge` and `unmerge` are
# used to switch between customers in bfloat16.
#
# ### BEGIN SOLUTION
# (a) A merged copy for the large customer, which then pays no extra latency (insight 1: an unmerged adapter costs
# time even at rank 1), and an unmerged base for the rest: 2 x 16 GB plus 199 x 13.6 MB = 2.7 GB, about 35 GB. (b)
# Not merged: 16 GB plus 200 x 13.6 MB = 2.7 GB, about 19 GB, against 200 x 16 GB = 3.2 TB with merged copies. A
# batch may then mix customers, as the base product is common. Switching by merge and unmerge in bfloat16 rounds
# twice each time (insight 2): the weights drift away from the base, part of each update is lost, and rests of one
# customer's adapter stay in the next one's model. Keep a pristine copy, or do not merge.
#
# ### BEGIN MARK SCHEME
# - 1 point: merges in (a), not in (b), with the latency measured in insight 1 as the reason.
# - 1 point: memory of both designs, right to 20 %, from the counts in this notebook.
# - 1 point: drift, or lost updates, from rounding in bfloat16, tied to the measured share in insight 2. "It takes
#   time" alone: half a point.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# What you built, in the numbers of your own run:

# %%
def summary():
    trainable, total = freeze_base(copy.deepcopy(adapted))
    print(f"trained {trainable:,} of {total:,} numbers ({trainable / total:.1%})")
    print(f"loss in the new order: {lora_losses[0]:.2f} -> {lora_losses[-1]:.2f}; all weights: {full_losses[-1]:.2f}")
    for kind, size in memory["full"].items():
        print(f"{kind:12} full / LoRA: {size / memory['LoRA r=8'][kind]:6.1f}")


insight.run(summary, needs="Exercises 1 to 9")

# %% [markdown]
# ## Challenge (optional)
#
# 1. **rsLoRA** scales by alpha / sqrt(r) in place of alpha / r. Train ranks 1, 4, 16 and 64 with both and compare
#    the losses.
# 2. **Any adapter in one batch**: let `lora_forward` take a tensor of factors `(k, r, d_in)` and an index for
#    each row of x, so that each row uses an adapter of its own.
# 3. **Start from the SVD**: take the factors from `best_adapter(W, r, s)` of the *weight* itself and freeze the
#    rest (PiSSA). Does the loss fall faster?
#
# ## Further reading
#
# - E. Hu et al., *LoRA: Low-Rank Adaptation of Large Language Models*, 2021, arXiv:2106.09685. Sections 4 and 7
#   are this lab.
# - D. Kalajdzievski, *A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA*, 2023, arXiv:2312.03732.
# - D. Biderman et al., *LoRA Learns Less and Forgets Less*, 2024, arXiv:2405.09673. What low rank costs on hard
#   tasks.
# - S.-Y. Liu et al., *DoRA: Weight-Decomposed Low-Rank Adaptation*, 2024, arXiv:2402.09353. The next lab.
# - F. Meng et al., *PiSSA: Principal Singular Values and Singular Vectors Adaptation*, 2024, arXiv:2404.02948.
# - The documentation of PEFT on `LoraConfig`: huggingface.co/docs/peft.

# %% [markdown]
# ## Clean up
#
# Drop the models and the figures; on a machine with a GPU this also returns its memory.

# %%
from matplotlib import pyplot

pyplot.close("all")
base_model = adapted = updates = None
if torch.cuda.is_available():
    torch.cuda.empty_cache()
