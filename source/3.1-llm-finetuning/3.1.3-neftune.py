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
# # Lab 3.1.3: NEFTune
#
# | | |
# |---|---|
# | Module | 3.1 LLM Fine-Tuning |
# | Time | 1 hour |
# | Difficulty | ★★☆☆☆ |
# | Hardware | gpu-optional: all points can be earned on a CPU; *On your Spark* is for a large GPU |
# | Points | 28 automatic, 9 read by a person |
# | Builds on | 3.1.1 LoRA from scratch |
#
# You are going to write NEFTune, five lines that add noise to a model's embeddings while it is fine-tuned, take the same
# steps with it as trl's `SFTTrainer`, and then find out, with several seeds and a spread, when it helps and when it hurts.

# %% [markdown]
# ## What you'll achieve
#
# By the end you have
#
# 1. **Systems understanding**: measured what the noise costs in time and memory, and how large it is beside an embedding
#    (objective 3.1.4).
# 2. **Core skill**: written the noise scale, the noise, and a hook that adds it in training and nowhere else (objective
#    3.1.4).
# 3. **A pattern**: changing a finished model from outside, by a forward hook that can be taken away again.
# 4. **A tie to production**: the losses and weights of trl's `neftune_noise_alpha`, number for number (objective 3.1.4).
# 5. **A trade-off**: seen the same noise lower the held-out loss in one setting and raise it in another.

# %% [markdown]
# ## Before you start
#
# You have fine-tuned a model with few trained numbers (3.1.1). **What works**: the loss on the examples goes down. **The
# gap**: with a few hundred examples and several epochs it goes down because the model learns them by heart, and what was
# not among them gets worse. **This lab** makes learning by heart harder: the model never sees the same example twice.
#
# ```
# 3.1.1 fine-tuning ───────┐
# 2.3   embeddings ────────┼──>  3.1.3 NEFTune  ──>  3.1.4 8B fine-tuning with LoRA and NEFTune
# 2.1   training, hooks ───┘
# ```

# %% [markdown]
# ### Skill checks
#
# Answer first, then unfold.
#
# <details><summary>1. A number is uniform between -b and b. What are its mean and its variance?</summary>
#
# 0 and b²/3.
# </details>
#
# <details><summary>2. What happens to the value that a forward hook returns?</summary>
#
# It takes the place of the module's output. A hook that returns None leaves the output as it is.
# </details>
#
# <details><summary>3. A batch has 3 answer tokens with a mean loss of 1.0, another has 9 with 2.0. What is the mean loss of a token?</summary>
#
# (3 · 1.0 + 9 · 2.0) / 12 = 1.75, and not 1.5.
# </details>

# %% nbgrader={"grade": false, "grade_id": "neftune-given-setup", "locked": true, "schema_version": 3, "solution": false, "task": false}
import contextlib
import copy
import io
import itertools
import logging
import math
import tempfile
import time
import warnings

# %% nbgrader={"grade": false, "grade_id": "neftune-given-libraries", "locked": true, "schema_version": 3, "solution": false, "task": false}
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import SimpleNamespace

import torch
from labkit import checking, insight, tiny
from torch import Tensor, nn
from transformers.integrations import activate_neftune, neftune_post_forward_hook

warnings.filterwarnings("ignore", category=FutureWarning)  # from inside transformers, nothing to do with you
torch.set_num_threads(1)  # with matrices this small, a second thread would mostly wait for the first
tokenizer = tiny.fast_tokenizer()  # a token is a byte; 257 ends a text, 258 fills up

# %% [markdown]
# Readiness check: the first two skills, run. It should print `ready`.

# %%
draws = torch.empty(10**5).uniform_(-3, 3)
assert abs(draws.var().item() - 9 / 3) < 0.1
layer = nn.Identity()
handle = layer.register_forward_hook(lambda module, args, output: output + 5)
assert layer(torch.zeros(1)).item() == 5
handle.remove()
print("ready")

# %% [markdown]
# ## Why it matters
#
# The authors of NEFTune fine-tuned LLaMA-2-7B on the 52 thousand examples of Alpaca. On AlpacaEval, where a model compares
# answers with those of a reference model, it won 29.8 % of the time; with noise on the embeddings and nothing else changed,
# 64.7 % (Jain et al. 2023, abstract). Its answers got longer; on exams such as MMLU next to nothing changed.
#
# In production it is one word: `neftune_noise_alpha=5`. It costs no time that you would notice and no memory, which is
# why people leave it on. It is also a word that one can get wrong without an error message: five-line versions that go
# around draw normal noise, leave out a factor, or forget to stop when the model answers. And whether it helps *you* is a
# question that no paper answers for your data. You will build the means to answer it.

# %% [markdown]
# ## At the kitchen table
#
# A child learns to read from ten pages. After a week it "reads" them with closed eyes. So you smudge the pages a little,
# differently each evening: now it has to look.
#
# | kitchen | NEFTune |
# |---|---|
# | the ten pages | the few examples of a fine-tuning |
# | reading with closed eyes | overfitting |
# | smudges, new ones each evening | uniform noise on the embeddings, drawn anew in each step |
# | how dirty a page is | alpha |
# | clean pages in the exam | no noise in evaluation |
#
# **Where it breaks**: smudges hide letters for good, this noise has mean zero and hides nothing on average. And a child
# with a thousand pages needs no smudges: they only make reading harder. You will measure that as well.

# %% [markdown]
# ## Foundations
#
# A text of $L$ tokens becomes embeddings $X \in \mathbb{R}^{L \times d}$. In training, and only there, NEFTune adds
#
# $$X' = X + \frac{\alpha}{\sqrt{L\,d}}\;\varepsilon, \qquad \varepsilon_{td} \sim \mathrm{Uniform}(-1, 1)$$
#
# with fresh, independent $\varepsilon$ each time (Jain et al. 2023, algorithm 1; $\alpha$ from 5 to 15). Why this scale? A
# uniform number has variance $1/3$, so the whole noise matrix has the expected squared norm
#
# $$\mathbb{E}\,\lVert X' - X\rVert^2 = L\,d\,\frac{\alpha^2}{L\,d}\cdot\frac13 = \frac{\alpha^2}{3},$$
#
# whatever the length and the width: $\alpha$ alone says how far a *text* is moved. A single token in a long text is
# moved less than one in a short text.

# %% [markdown]
# ```
#  ids ──> embedding ──> X ──(+)──> X' ──> block 1 ──> ... ──> logits ──> loss
#              ^              ^
#           weights     noise, if training: a constant for autograd,
#        (unchanged)    so dL/dX = dL/dX', and the weights get their gradient as ever
# ```
#
# ### One example in numbers
#
# $L = 100$ tokens, $d = 64$, $\alpha = 5$: the bound is $5/\sqrt{6400} = 0.0625$, the standard deviation
# $0.0625/\sqrt 3 = 0.036$. In Llama 3.1 8B, $d = 4096$: with 1,000 tokens the bound is $5 / \sqrt{4{,}096{,}000} = 0.0025$.
#
# And **padding**? A batch is as long as its longest text. Is $L$ the length of the text, or that of the batch? The
# formula says the text. In Exercise 3 you will see what the library says.

# %%
print(5 / math.sqrt(100 * 64), 5 / math.sqrt(1000 * 4096))


# %% [markdown]
# ### The data
#
# A prompt names who and what, and the answer is a sentence. The labels count for the answer alone; padding and prompt are
# -100, which the loss leaves out.

# %% nbgrader={"grade": false, "grade_id": "neftune-given-data", "locked": true, "schema_version": 3, "solution": false, "task": false}
def to_batch(pairs: Sequence[Mapping[str, str]]) -> dict[str, Tensor]:
    """input_ids, attention_mask and labels, (B, L) each, padded on the right, of prompts with their chosen answers."""
    rows = [(tokenizer(p["prompt"])["input_ids"], tokenizer(p["chosen"])["input_ids"] + [257]) for p in pairs]
    length = max(len(prompt) + len(answer) for prompt, answer in rows)
    rest = [length - len(prompt) - len(answer) for prompt, answer in rows]
    ids = [prompt + answer + [258] * n for (prompt, answer), n in zip(rows, rest, strict=True)]
    labels = [[-100] * len(prompt) + answer + [-100] * n for (prompt, answer), n in zip(rows, rest, strict=True)]
    mask = [[1] * (length - n) + [0] * n for n in rest]
    return {name: torch.tensor(v) for name, v in (("input_ids", ids), ("attention_mask", mask), ("labels", labels))}


# %%
pair = tiny.preferences(1, seed=0)[0]
print(pair["prompt"], "->", pair["chosen"])
print({name: tuple(tensor.shape) for name, tensor in to_batch([pair]).items()})


# %% [markdown]
# ## Part 1: The noise
#
# ### Exercise 1: how much noise
#
# $\alpha/\sqrt{L\,d}$, for each text of a batch, with its *own* $L$: the attention mask knows which positions are tokens.
# Whoever wants the batch's length instead (you will meet somebody) passes a mask of ones.

# %% nbgrader={"grade": false, "grade_id": "neftune-bounds", "locked": false, "schema_version": 3, "solution": true, "task": false}
def noise_bounds(attention_mask: Tensor, dim: int, alpha: float) -> Tensor:
    """The bound alpha / sqrt(L d) of the noise for each text of a batch (Jain et al. 2023, algorithm 1).

    Args:
        attention_mask: (B, L), int64 or bool, 1 on tokens and 0 on padding.
        dim: d, the width of the embeddings.
        alpha: the noise scale, at least 0.

    Returns:
        (B,), float32. A text without any token has the bound 0.

    Raises:
        ValueError: alpha is negative.

    TODO: Count the tokens of each row and put the counts into the formula.

    APPROACH:
        1. Refuse a negative alpha, because its noise would look right and hide a mistake in a config file.
        2. Count along the positions, because each text has a length of its own.
        3. Treat rows without tokens apart, because alpha / sqrt(0) is infinite and its noise NaN.

    EXAMPLE:
        >>> noise_bounds(torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]]), dim=4, alpha=6.0)
        tensor([1.5000, 3.0000, 0.0000])

    HINTS:
        1. In the example the first row has 4 tokens of 4 numbers: sqrt(16) = 4.
        2. The sum of a mask is a count; which axis are the positions?
        3. torch.where takes one of two values; clamp(min=1) keeps a division finite.
    """
    ### BEGIN SOLUTION
    if alpha < 0:
        raise ValueError(f"alpha must be at least 0, not {alpha}")
    tokens = attention_mask.sum(dim=1)
    bounds = alpha / torch.sqrt(tokens.clamp(min=1) * dim)
    return torch.where(tokens > 0, bounds, 0.0)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-neftune-bounds", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Checks: the bounds against Python floats for masks of several shapes, rows without tokens, and a refused alpha.
# Catches: the length of the batch for that of the text, a forgotten d, a forgotten root, 1 / 0, a sum over the batch.
# A pass prints nothing.
def test_unit_neftune_bounds():
    def check(mask, dim, alpha, what):
        with checking.unchanged(mask=mask):
            got = noise_bounds(mask, dim, alpha)
        want = [alpha / math.sqrt(sum(row) * dim) if sum(row) else 0.0 for row in mask.int().tolist()]
        # float32: a product, a root and a quotient, each off by 6e-8 at most.
        checking.close(got, torch.tensor(want), rtol=3e-7, atol=0, what=f"bounds of {what}, d = {dim}, alpha = {alpha}")

    check(torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0]]), 4, 6.0, "two texts")
    check(torch.ones(1, 100, dtype=torch.long), 64, 5.0, "one text of 100 tokens")
    ### BEGIN HIDDEN TESTS
    # check: many lengths and widths, masks of truth values, an alpha of 0
    # hint: compute one row by hand: its own tokens, times d, under the root
    draw = torch.Generator().manual_seed(checking.secret_seed())
    for rows, length, dim, alpha in [(7, 33, 5, 15.0), (3, 1, 1, 0.5), (31, 64, 4096, 5.0), (2, 9, 3, 0.0)]:
        mask = (torch.rand(rows, length, generator=draw) < 0.6).long()
        check(mask, dim, alpha, "a random mask")
        check(mask.bool(), dim, alpha, "a mask of truth values")
    # check: texts without a token
    # hint: what does the docstring say of them? Is your number finite?
    check(torch.tensor([[0, 0, 0], [0, 1, 1]]), 8, 5.0, "an empty text beside one of two tokens")
    check(torch.ones(2, 0, dtype=torch.long), 8, 5.0, "texts of no positions")
    # check: a negative alpha
    # hint: the docstring names the exception
    checking.raises(ValueError, noise_bounds, torch.ones(1, 1), 1, -0.5, what="a negative alpha")
    ### END HIDDEN TESTS


test_unit_neftune_bounds()


# %% [markdown]
# ### What just happened?
#
# You have the one formula of the paper. Look how it falls with length, while the norm of the whole noise would stay:

# %%
def bounds_by_length():
    for length in (10, 40, 160, 640):
        bound = noise_bounds(torch.ones(1, length, dtype=torch.long), 64, 5.0).item()
        print(f"L = {length:3}: bound {bound:.4f}, expected norm {math.sqrt(length * 64 * bound**2 / 3):.3f}")


insight.run(bounds_by_length, needs="Exercise 1 (noise_bounds)")


# %% [markdown]
# ### Exercise 2: the noise
#
# Uniform, independent for every number of every token of every text, new at each call, and a constant for autograd. All
# of it is drawn at once, padding included, and padding is set to zero afterwards: so the noise depends on the seed and
# the shape alone, and can be compared with the library's.
#
# Draw in float32 whatever the model runs in: then a seed means the same noise in every dtype, up to rounding.

# %% nbgrader={"grade": false, "grade_id": "neftune-noise", "locked": false, "schema_version": 3, "solution": true, "task": false}
def neftune_noise(embeddings: Tensor, attention_mask: Tensor, alpha: float) -> Tensor:
    """Draw NEFTune's noise for a batch of embeddings.

    Args:
        embeddings: (B, L, d), any floating dtype; only shape, dtype and device are used.
        attention_mask: (B, L), int64 or bool, 1 on tokens and 0 on padding.
        alpha: the noise scale, at least 0.

    Returns:
        (B, L, d), of the dtype and device of embeddings, without a graph. On row i uniform between plus and minus its
        bound from Exercise 1, and 0 on padding. Drawn in float32 by one call of `uniform_` or `torch.rand` for all
        B L d numbers in order, from torch's global generator.

    TODO: Draw uniform numbers between -1 and 1, scale each row by its bound, clear the padding.

    APPROACH:
        1. Draw for the full shape, because every number of every text needs noise of its own.
        2. Multiply by bound and mask, because a row has one bound and a position is a token or not.
        3. Convert at the end, because a draw in another dtype uses the seed differently.

    EXAMPLE:
        >>> _ = torch.manual_seed(0)
        >>> noise = neftune_noise(torch.zeros(1, 3, 4), torch.tensor([[1, 1, 0]]), alpha=2.0)
        >>> noise.shape, noise[0, :2].abs().max() <= 2 / math.sqrt(8), noise[0, 2].abs().max()
        (torch.Size([1, 3, 4]), tensor(True), tensor(0.))

    HINTS:
        1. torch.empty(shape).uniform_(-1, 1); torch.rand knows 0 to 1, which can be stretched and shifted.
        2. bounds[:, None, None] has the shape (B, 1, 1), mask[:, :, None] has (B, L, 1).
        3. tensor.to(other.dtype) converts; a new tensor that no parameter went into has no graph.
    """
    ### BEGIN SOLUTION
    noise = torch.empty(embeddings.shape, device=embeddings.device).uniform_(-1, 1)
    bounds = noise_bounds(attention_mask, embeddings.shape[-1], alpha)
    return (noise * bounds[:, None, None] * attention_mask[:, :, None]).to(embeddings.dtype)
    ### END SOLUTION


# %% [markdown]
# Random numbers are tested by their statistics. Each bound below is six standard deviations of what it bounds, so that
# right noise fails once in 500 million tests. The helpers know the formula for one text, and no more.

# %% nbgrader={"grade": false, "grade_id": "neftune-given-ragged", "locked": true, "schema_version": 3, "solution": false, "task": false}
def ragged(lengths: Sequence[int]) -> Tensor:
    """An attention mask for texts of these lengths, padded on the right."""
    return (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()


# %% nbgrader={"grade": false, "grade_id": "neftune-given-units", "locked": true, "schema_version": 3, "solution": false, "task": false}
def units(noise: Tensor, mask: Tensor, alpha: float, what: str) -> list[Tensor]:
    """The noise of each text in units of its bound, (tokens, d) in float64; asserts the bound, and zeros on padding."""
    found = []
    for number, (row, real) in enumerate(zip(noise.double(), mask.bool(), strict=True)):
        checking.equal(row[~real], torch.zeros_like(row[~real]), what=f"noise on the padding of text {number}, {what}")
        scaled = row[real] * math.sqrt(row[real].numel()) / alpha
        most = scaled.abs().max().item()
        # A float32 product is off by 1e-7 of the bound. None of n numbers in the last 40 / n: exp(-40).
        assert most <= 1 + 1e-6, f"text {number}, {what}: noise of {most:.4f} bounds, at most 1 is allowed"
        assert most >= 1 - 40 / scaled.numel(), f"text {number}, {what}: never above {most:.4f} of its bound"
        found.append(scaled)
    return found


# %% nbgrader={"grade": false, "grade_id": "neftune-given-moments", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_uniform(scaled: Tensor, what: str) -> None:
    """Mean, variance and fourth moment of uniform numbers between -1 and 1, each to six standard deviations."""
    n = scaled.numel()
    moments = {1: (0.0, 1 / 3), 2: (1 / 3, 1 / 5 - 1 / 9), 4: (1 / 5, 1 / 9 - 1 / 25)}  # value, variance of a draw
    for power, (value, variance) in moments.items():
        got = (scaled**power).mean().item()
        checking.close(got, value, rtol=0, atol=6 * math.sqrt(variance / n), what=f"mean of u ** {power}, {what}")


def check_independent(first: Tensor, second: Tensor, what: str) -> None:
    """That two sets of uniform numbers vary, and vary independently: the mean product is 0, to six deviations."""
    for side in (first, second):
        assert side.std() > 0.4, f"the numbers hardly vary, {what}"
    checking.close((first * second).mean().item(), 0.0, rtol=0, atol=2 / math.sqrt(first.numel()), what=f"mean product, {what}")


# %% nbgrader={"grade": false, "grade_id": "neftune-given-library-noise", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_library_noise(seed: int, shape: tuple[int, int, int], alpha: float) -> None:
    """The same numbers as those of transformers' own hook after the same seed, where nothing is padding."""
    module = SimpleNamespace(training=True, neftune_noise_alpha=alpha)
    torch.manual_seed(seed)
    want = neftune_post_forward_hook(module, (), torch.zeros(shape))
    torch.manual_seed(seed)
    got = neftune_noise(torch.zeros(shape), torch.ones(shape[:2]).long(), alpha)
    # float32: stretching, shifting and scaling in another order, each off by 6e-8 of the bound.
    near = 1e-6 * alpha / math.sqrt(shape[1] * shape[2])
    checking.close(got, want, rtol=0, atol=near, what=f"noise of shape {shape}, beside transformers'")


# %% nbgrader={"grade": false, "grade_id": "neftune-given-dtypes", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_dtypes(seed: int, alpha: float) -> None:
    """Noise for embeddings in float64 and bfloat16 that train: dtype, no graph, the numbers of float32 after rounding."""
    mask, found = ragged([50, 20, 50]), {}
    for kind in (torch.float32, torch.float64, torch.bfloat16):
        torch.manual_seed(seed)
        found[kind] = neftune_noise(torch.zeros(3, 50, 64, dtype=kind, requires_grad=True), mask, alpha)
        checking.equal((found[kind].dtype, found[kind].requires_grad), (kind, False), what="(dtype, requires_grad)")
        # bfloat16 keeps 8 bits; two roundings at most, of numbers up to the bound of the short text.
        near = 2**-7 * alpha / math.sqrt(20 * 64)
        checking.close(found[kind].float(), found[torch.float32], rtol=0, atol=near, what=f"noise in {kind}, beside float32")
    nothing = neftune_noise(torch.zeros(2, 3, 4), ragged([3, 0]), 0.0)
    checking.equal(nothing, torch.zeros(2, 3, 4), what="noise for an alpha of 0")


# %% nbgrader={"grade": true, "grade_id": "test-neftune-noise", "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
# Checks: bounds and padding (2 points), a uniform distribution (1), independence (2), the library's noise and dtype (1).
# Catches: normal noise, one-sided noise, one draw for the whole batch, noise on padding, a seed that is set inside.
# A pass prints four lines that begin with "earned".
def test_unit_neftune_noise():
    cases = [([40, 9, 1], 64, 5.0), ([25, 25], 512, 1.0)]
    ### BEGIN HIDDEN TESTS
    # check: other lengths, widths and alphas
    # hint: take one text without padding first; then a short one beside a long one
    draw = torch.Generator().manual_seed(checking.secret_seed())
    cases += [(torch.randint(5, 60, (5,), generator=draw).tolist(), 128, 15.0), ([3], 4096, 0.01)]
    ### END HIDDEN TESTS
    drawn = []
    for lengths, dim, alpha in cases:
        mask, x, what = ragged(lengths), torch.ones(len(lengths), max(lengths), dim), f"lengths {lengths}, d = {dim}"
        with checking.unchanged(mask=mask, x=x):
            drawn.append(([neftune_noise(x, mask, alpha) for _ in range(2)], mask, alpha, what))
    credit = checking.Credit(6)
    with credit.check("within the bound of each text, zero on padding", points=2, hint="each row has its own bound"):
        for calls, mask, alpha, what in drawn:
            units(calls[0], mask, alpha, what)
    with credit.check("uniform", points=1, hint="between -1 and 1, not normal, not one-sided"):
        for calls, mask, alpha, what in drawn:
            check_uniform(torch.cat([u.flatten() for u in units(calls[1], mask, alpha, what)]), what)
    with credit.check("independent in all directions", points=2, hint="one fresh number for each element"):
        for calls, mask, alpha, what in drawn:
            once, again = (torch.cat(units(call, mask, alpha, what)) for call in calls)
            check_independent(once, again, f"two calls, {what}")
            check_independent(once[:, 1:], once[:, :-1], f"neighbours in a token, {what}")
            check_independent(once[1:], once[:-1], f"neighbours in a text, {what}")
        same = neftune_noise(torch.zeros(2, 40, 64), torch.ones(2, 40).long(), 5.0)
        check_independent(*units(same, torch.ones(2, 40), 5.0, "two texts"), "two texts of a batch")
    with credit.check("the library's numbers, any dtype, no graph", points=1, hint="in float32, by one call"):
        check_library_noise(0, (2, 7, 16), 5.0)
        ### BEGIN HIDDEN TESTS
        # check: the numbers of transformers' own hook, and other dtypes
        # hint: draw everything with one call in float32, padding too; convert the product at the end
        seed = checking.secret_seed()
        check_library_noise(seed, (3, 17, 33), 15.0)
        check_dtypes(seed, 2.0)
        ### END HIDDEN TESTS
    return credit.total()


test_unit_neftune_noise()


# %% [markdown]
# ### What just happened?
#
# The test knew none of your numbers, only what they must look like together: their largest, three of their moments, and
# the products of neighbours. Then it took one seed and found the very numbers of the library.

# %% [markdown]
# ### Systems insight 1 of 3: how large is it, beside what it is added to?
#
# **Checkpoint**: you can draw the noise. **Predict, and write it down**: an embedding of our tiny model has numbers of
# size 0.02 (their root mean square) before training. For $\alpha = 5$, $d = 64$ and texts of 8 to 512 tokens: how large are
# the noise's numbers, and how long is the noise of a whole text? What changes with $d = 4096$?

# %%
def noise_beside_embeddings(lengths=(8, 32, 128, 512), dims=(64, 4096), alpha=5.0):
    """By d and L: numbers drawn, their root mean square, and the norm of all noise of a text."""
    table = {}
    for dim, length in itertools.product(dims, lengths):
        noise = neftune_noise(torch.zeros(1, length, dim), torch.ones(1, length).long(), alpha)
        table[dim, length] = (noise.numel(), noise.square().mean().sqrt().item(), noise.norm().item())
    return table


# %%
noise_table = insight.run(noise_beside_embeddings, needs="Exercises 1 and 2") or {}
for (dim, length), (count, rms, norm) in noise_table.items():
    print(f"d = {dim:4}, L = {length:3}: {count:9,} numbers, root mean square {rms:.4f}, norm {norm:.3f}")
if noise_table:
    sizes = {f"d = {d}": [rms for (e, _), (_, rms, _) in noise_table.items() if e == d] for d in (64, 4096)}
    insight.lines([8, 32, 128, 512], sizes, xlabel="tokens", ylabel="noise, root mean square", logx=True, logy=True)


# %% [markdown]
# **What it means in production.** The norm is $\alpha/\sqrt3 = 2.9$ in every row: the formula keeps it there. But a *token*
# of a short text is moved eight times as far as one of a text 64 times as long. So alpha means something else on chat
# snippets than on long documents, and something else again after packing, when $L$ is the length of the pack.
# The authors' 5 to 15 were found on models with $d \geq 4096$; at $d = 64$ the same alpha is noise as large as the embeddings
# and larger. Look at this ratio before you copy an alpha.

# %% [markdown]
# ## Part 2: The hook
#
# ### Exercise 3: noise on, noise off
#
# A model is finished code, and you want to change what its embedding returns. A *forward hook* does that without touching
# class or weights: it gets (module, arguments, output), and what it returns takes the output's place. Registering it
# returns a handle, whose `remove()` takes it away.
#
# The hook sees the ids, but not the attention mask. So padding is known by its id, if you are told it.

# %% nbgrader={"grade": false, "grade_id": "neftune-attach", "locked": false, "schema_version": 3, "solution": true, "task": false}
def attach_neftune(
    model: nn.Module, alpha: float, pad_token_id: int | None = None
) -> torch.utils.hooks.RemovableHandle:
    """From now on, add NEFTune's noise to the output of the model's input embedding, whenever it is in training mode.

    Args:
        model: has `get_input_embeddings()`, as all models of transformers; its embedding is called as embedding(ids)
            with ids of shape (B, L).
        alpha: the noise scale, at least 0.
        pad_token_id: positions with this id are padding. None: every position counts as a token, as in transformers.

    Returns:
        A handle; after handle.remove() the embedding is what it was. Nothing else of the model changes, its weights,
        state_dict and other hooks included.

    TODO: Register a hook that returns the output plus neftune_noise, in training; in evaluation the output alone.

    APPROACH:
        1. Hook the embedding and not the model, because the noise belongs between embedding and first block.
        2. Ask for the mode inside the hook, because the mode changes after the hook was registered.
        3. Make the mask from the ids, because the embedding is not given the attention mask.

    EXAMPLE:
        >>> model, ids = tiny.llama(0), torch.tensor([[104, 105]])
        >>> embed, handle = model.get_input_embeddings(), attach_neftune(model, alpha=5.0)
        >>> torch.equal(embed(ids), embed.weight[ids]), torch.equal(embed.train()(ids), embed.weight[ids])
        (True, False)
        >>> handle.remove()
        >>> torch.equal(embed(ids), embed.weight[ids])
        True

    HINTS:
        1. module.register_forward_hook(f) returns the handle. f may be a function defined inside yours.
        2. In the hook: module.training is the mode, args[0] are the ids.
        3. ids != pad_token_id is a mask; torch.ones_like(ids) is the one for None.
    """
    ### BEGIN SOLUTION
    def add_noise(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if not module.training:
            return output
        ids = args[0]
        mask = torch.ones_like(ids) if pad_token_id is None else ids != pad_token_id
        return output + neftune_noise(output, mask, alpha)

    return model.get_input_embeddings().register_forward_hook(add_noise)
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "neftune-given-ids", "locked": true, "schema_version": 3, "solution": false, "task": false}
def draw_ids(seed: int, lengths: Sequence[int]) -> Tensor:
    """Random texts of these lengths, (B, L): ids below 257, each ended by 257, padded on the right."""
    ids = torch.randint(257, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(seed))
    ids[torch.arange(len(lengths)), torch.tensor(lengths) - 1] = 257
    return ids.where(ragged(lengths).bool(), 258)


def noise_on(model: nn.Module, ids: Tensor) -> Tensor:
    """What is added to the embeddings of ids."""
    embedding = model.get_input_embeddings()
    return (embedding(ids) - embedding.weight[ids]).detach()


# %% nbgrader={"grade": false, "grade_id": "neftune-given-noisy", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_noisy(model: nn.Module, ids: Tensor, lengths: Sequence[int], alpha: float, what: str) -> None:
    """That in training the right noise is added, new in each call, and nothing to what lies beyond the lengths."""
    model.train()
    once, again = (torch.cat(units(noise_on(model, ids), ragged(lengths), alpha, what)) for _ in range(2))
    check_uniform(once, what)
    check_independent(once, again, f"two calls, {what}")


def check_clean(model: nn.Module, ids: Tensor, what: str) -> None:
    """That nothing is added at all."""
    noise = noise_on(model, ids)
    checking.equal(noise, torch.zeros_like(noise), what=f"what is added {what}")


# %% nbgrader={"grade": false, "grade_id": "neftune-given-gradients", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_weights(model: nn.Module, ids: Tensor) -> None:
    """That a training pass leaves the state alone and brings the embedding its usual gradient."""
    embedding, names = model.get_input_embeddings(), list(model.state_dict())
    up = torch.randn((*ids.shape, embedding.embedding_dim), dtype=torch.float64)
    up[ids == 258] = 0  # the model's embedding of padding does not train
    with checking.unchanged(model=model):
        (got,) = torch.autograd.grad((embedding(ids) * up).sum(), embedding.weight)
        model(ids)
    (want,) = torch.autograd.grad((embedding.weight[ids] * up).sum(), embedding.weight)
    # float64: the same sums of a few normal numbers, perhaps in another order.
    checking.close(got, want, rtol=0, atol=1e-12, what="gradient of the embedding", hint="the noise is a constant")
    checking.equal(list(model.state_dict()), names, what="names in the state_dict")


# %% nbgrader={"grade": false, "grade_id": "neftune-given-attached", "locked": true, "schema_version": 3, "solution": false, "task": false}
def attached(seed: int, lengths: Sequence[int], alpha: float, tied: bool) -> SimpleNamespace:
    """A small Llama in float64 with your noise on it, its handle, ids for it; checks that there is noise."""
    model = tiny.llama(seed % 1000, num_hidden_layers=1, tie_word_embeddings=tied).double()
    ids = draw_ids(seed, lengths)
    handle = attach_neftune(model, alpha, pad_token_id=258)
    check_noisy(model, ids, lengths, alpha, f"lengths {lengths}, alpha {alpha}")
    return SimpleNamespace(model=model, handle=handle, ids=ids)


# %% nbgrader={"grade": false, "grade_id": "neftune-given-handle", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_handle(seed: int, lengths: Sequence[int], alpha: float) -> None:
    """That the handle takes the noise away and nothing else, and that other models never had any."""
    calls, a = [], attached(seed, lengths, alpha, tied=False)
    other = tiny.llama(1, num_hidden_layers=1).train()
    check_clean(other, a.ids, "to the embeddings of another model")
    a.model.get_input_embeddings().register_forward_hook(lambda *_: calls.append(1))
    a.handle.remove()
    check_clean(a.model, a.ids, "in training, after handle.remove()")
    checking.equal(len(calls), 1, what="calls of a hook that somebody else registered")
    again = attach_neftune(a.model, alpha, pad_token_id=258)
    check_noisy(a.model, a.ids, lengths, alpha, "attached a second time")
    again.remove()


# %% nbgrader={"grade": true, "grade_id": "test-neftune-attach", "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
# Checks: noise in training, sized by each text (2 points), none in evaluation (2), weights (1), the handle (1).
# Catches: a mode asked for too early, noise in the weights, padding counted, a class patched, a handle that does nothing.
# A pass prints four lines that begin with "earned".
def test_unit_neftune_attach():
    cases, every = [(0, [30, 12, 5], 5.0, False)], [(0, (2, 40), 5.0)]
    ### BEGIN HIDDEN TESTS
    # check: other models and texts, with input and output embeddings tied
    # hint: are the weights what they were after a pass in training?
    seed = checking.secret_seed()
    cases += [(seed, [8, 50, 21, 2], 15.0, True), (seed + 1, [17], 0.5, True)]
    # check: without an id for padding
    # hint: every position is a token then, those with id 258 too
    every += [(seed + 2, (3, 23), 10.0)]
    ### END HIDDEN TESTS
    credit = checking.Credit(6)
    with credit.check("noise in training, sized by each text", points=2, hint="the mask comes from the ids"):
        for case in cases:
            attached(*case)
        for number, (rows, length), alpha in every:
            model, ids = tiny.llama(0, num_hidden_layers=1).double(), draw_ids(number, [length, 1] + [2] * (rows - 2))
            attach_neftune(model, alpha)
            check_noisy(model, ids, [length] * rows, alpha, "without a pad_token_id")
    with credit.check("no noise in evaluation", points=2, hint="ask module.training inside the hook"):
        for case in cases:
            a = attached(*case)
            check_clean(a.model.eval(), a.ids, "in evaluation")
            check_noisy(a.model, a.ids, case[1], case[2], "in training once more")
    with credit.check("weights and gradients as ever", points=1, hint="change the output, not the weights"):
        for case in cases:
            a = attached(*case)
            check_weights(a.model, a.ids)
    with credit.check("the handle takes it away", points=1, hint="register_forward_hook returns the handle"):
        for number, lengths, alpha, _ in cases:
            check_handle(number, lengths, alpha)
    return credit.total()


test_unit_neftune_attach()


# %% [markdown]
# ### What just happened?
#
# Among the models was one with *tied* embeddings, whose output layer uses the same matrix. Noise in the weights would have
# reached the logits there; noise on the output does not.

# %% [markdown]
# ### Systems insight 2 of 3: who pays for padding?
#
# **Checkpoint**: your hook knows padding, if it is told the id. transformers' own hook (in `transformers/integrations/
# neftune.py`; `Trainer.train` attaches it, and trl's trainers inherit that) sees the output alone and takes the batch's
# length for $L$. **Predict, and write it down**: texts of 16 and 256 tokens are in one batch. By what factor is the short
# one's noise too small there? What share of all noise falls on padding, where nobody looks?

# %%
def padding_pays(lengths=(16, 256), alpha=5.0):
    """For both conventions: root mean square of the noise on each text's tokens, and the share of noise on padding."""
    mask, x, found = ragged(lengths).bool(), torch.zeros(len(lengths), max(lengths), 64), {}
    for name, used in (("length of the batch", torch.ones_like(mask)), ("length of the text", mask)):
        noise = neftune_noise(x, used, alpha)
        on_padding = torch.count_nonzero(noise[~mask]).item() / torch.count_nonzero(noise).item()
        sizes = [row[real].square().mean().sqrt().item() for row, real in zip(noise, mask, strict=True)]
        found[name] = {"share on padding": on_padding, **dict(zip(lengths, sizes, strict=True))}
    return found


# %%
by_convention = insight.run(padding_pays, needs="Exercises 1 and 2") or {}
for name, row in by_convention.items():
    print(f"{name:20}", ", ".join(f"{key}: {value:.4f}" for key, value in row.items()))


# %% [markdown]
# **What it means in production.** With the library, how much noise a text gets depends on its neighbours in the batch: on
# batch size, on sorting by length, on packing. A short text beside a long one gets a quarter, here, of what the formula
# says. Nobody notices, since nothing fails. It also means that two runs with the same alpha and another batch size
# are not the same experiment.

# %% [markdown]
# ## Part 3: Training and measuring
#
# ### Exercise 4: fine-tuning with noise
#
# A training loop that borrows the noise: attached at the start, gone at the end, *also when something goes wrong in
# between*. (transformers' Trainer takes its hook away after the last step. An interrupted cell never gets there, and the
# next call attaches a second one.) With `alpha=0` it is plain fine-tuning: the arm to compare with.

# %% nbgrader={"grade": false, "grade_id": "neftune-train", "locked": false, "schema_version": 3, "solution": true, "task": false}
def train_sft(
    model: nn.Module,
    batches: Iterable[Mapping[str, Tensor]],
    learning_rate: float,
    alpha: float = 0.0,
    pad_token_id: int | None = None,
) -> list[float]:
    """Fine-tune a model in place, one step of AdamW for each batch, with NEFTune's noise in training.

    Args:
        model: of transformers; model(**batch).loss is the loss. Parameters with requires_grad train.
        batches: each is asked for when the one before it has been trained on, never earlier.
        learning_rate: of AdamW, without weight decay.
        alpha: the noise scale; 0 attaches nothing and draws no random number.
        pad_token_id: as in attach_neftune.

    Returns:
        The loss of each batch before its step, as floats. However it ends, by an error too, the noise is gone and the
        model in evaluation mode.

    TODO: Attach, train in training mode, detach and switch to evaluation in any case.

    APPROACH:
        1. Attach for this call alone, because a hook left behind is noise in the next run.
        2. Clear the gradients in each step, because they add up.
        3. Clean up in `finally`, because runs are interrupted more often than they end.

    EXAMPLE:
        >>> model, batch = tiny.llama(0), to_batch(tiny.preferences(4, seed=0))
        >>> losses = train_sft(model, [batch] * 3, learning_rate=1e-2, alpha=5.0)
        >>> len(losses), losses[2] < losses[0], model.training
        (3, True, False)

    HINTS:
        1. try: ... finally: ... runs the second part whatever happens in the first.
        2. torch.optim.AdamW has a weight decay unless you say otherwise.
        3. model.train(), then for each batch: loss, zero_grad, backward, step, loss.item() into the list.
    """
    ### BEGIN SOLUTION
    handle = attach_neftune(model, alpha, pad_token_id) if alpha else None
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=learning_rate, weight_decay=0.0)
    losses = []
    model.train()
    try:
        for batch in batches:
            loss = model(**batch).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    finally:
        if handle is not None:
            handle.remove()
        model.eval()
    return losses
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "neftune-given-library-loop", "locked": true, "schema_version": 3, "solution": false, "task": false}
def library_loop(model: nn.Module, rows: Sequence[Mapping[str, Tensor]], rate: float, alpha: float) -> list[float]:
    """The losses of steps with transformers' own hook."""
    if alpha:
        activate_neftune(model.train(), alpha)
    steps, found = torch.optim.AdamW(model.parameters(), rate, weight_decay=0.0), []
    for some in rows:
        steps.zero_grad()
        out = model(**some)
        out.loss.backward()
        steps.step()
        found.append(out.loss.item())
    return found


# %% nbgrader={"grade": false, "grade_id": "neftune-given-check-train", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_train(seed: int, alpha: float, rate: float, padded: int = 0) -> None:
    """Hold train_sft against the library's noise; `padded` positions of padding follow each text, all of 24 tokens."""
    ids = [draw_ids(seed + k, [24] * 4) for k in range(4)]
    rows = [{"input_ids": nn.functional.pad(i, (0, padded), value=258), "labels": nn.functional.pad(i, (0, padded), value=-100)}
            for i in ids]
    mine, twin = (tiny.llama(seed % 1000, num_hidden_layers=1) for _ in range(2))
    start = mine.get_input_embeddings().weight.detach().clone()
    torch.manual_seed(seed)
    got = train_sft(mine, rows, rate, alpha, 258 if padded else None)
    torch.manual_seed(seed)
    # The library divides by all 24 + padded positions: a larger alpha makes up for it. A causal model never looks there.
    want = library_loop(twin, rows, rate, alpha * math.sqrt((24 + padded) / 24))
    checking.equal([type(loss) for loss in got], [float] * len(want), what="types of the losses")
    # float32 losses near 5.5: three ways of writing the step were off by 1.7e-7 at most in 130 draws.
    # A padding id that is not handed on moves them by 2e-4: at 3e-5 all four would agree in 1 of 10,000 draws.
    checking.close(torch.tensor(got), torch.tensor(want), rtol=3e-6, atol=0, what=f"losses, alpha {alpha}, {padded=}")
    unused = ~torch.isin(torch.arange(259), torch.cat(ids))
    checking.equal(mine.get_input_embeddings().weight[unused].detach(), start[unused], what="embeddings of unused ids",
                   hint="without a gradient nothing moves them, but weight decay")


# %% nbgrader={"grade": false, "grade_id": "neftune-given-after", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_after(model: nn.Module, what: str) -> None:
    """That a model is as train_sft must leave it."""
    checking.equal(model.training, False, what=f"training mode {what}")
    check_clean(model.train(), draw_ids(0, [9, 4]), f"in training mode {what}")
    model.eval()


def breaking(batch: Mapping[str, Tensor]) -> Iterator[Mapping[str, Tensor]]:
    """A stream of batches that ends in an error."""
    yield batch
    raise KeyError("the disk is gone")


# %% nbgrader={"grade": true, "grade_id": "test-neftune-train", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
# Checks: four steps against the library's noise (3 points), and what is left behind, after errors too (2 points).
# Catches: gradients that pile up, weight decay, a padding id that is not handed on, a hook that stays, batches read ahead.
# A pass prints two lines that begin with "earned".
def test_unit_neftune_train():
    cases = [(0, 5.0, 1e-2, 0)]
    ### BEGIN HIDDEN TESTS
    # check: other alphas and rates, padding, and no noise at all
    # hint: compare the second loss with that of a step from fresh gradients; is pad_token_id handed on?
    seed = checking.secret_seed()
    cases += [(seed, 15.0, 3e-3, 0), (seed + 1, 10.0, 3e-3, 24), (seed + 2, 0.0, 1e-2, 0)]
    ### END HIDDEN TESTS
    credit = checking.Credit(5)
    with credit.check("the steps", points=3, hint="zero_grad, backward, step; weight_decay=0.0"):
        for case in cases:
            check_train(*case)
    with credit.check("nothing is left behind", points=2, hint="try and finally"):
        model, batch = tiny.llama(0, num_hidden_layers=1), {"input_ids": (ids := draw_ids(0, [9, 4])), "labels": ids}
        train_sft(model, [batch], 1e-3, 5.0)
        check_after(model, "after training")
        checking.raises(KeyError, train_sft, model, breaking(batch), 1e-3, 5.0, what="an error in the stream of batches")
        check_after(model, "after an error")
        ### BEGIN HIDDEN TESTS
        # check: batches are taken one at a time, and an alpha of 0 draws nothing
        # hint: what does your loop do before it trains on the first batch?
        state, before, met = torch.get_rng_state(), model.lm_head.weight.detach().clone(), []
        spied = (met.append(torch.equal(model.lm_head.weight, before)) or batch for _ in range(2))
        checking.equal(len(train_sft(model, spied, 1e-3)), 2, what="number of losses")
        checking.equal(met, [True, False], what="whether the weights were fresh when a batch was asked for")
        checking.equal(torch.get_rng_state(), state, what="state of the random numbers after alpha = 0")
        checking.equal(train_sft(model, [], 1e-3, 5.0), [], what="losses of no batches")
        ### END HIDDEN TESTS
    return credit.total()


test_unit_neftune_train()


# %% [markdown]
# ### What just happened?
#
# With the same seed your loop and the library's hook take the same steps. For the padded batches the test used what you
# know: the library's $L$ is too long there, and an alpha that is larger by $\sqrt{L_{batch}/L_{text}}$ makes up for it.
#
# ### Exercise 5: a loss that can be compared
#
# The losses of a noisy run are losses *with* noise: of course they are higher. To compare runs, measure both without, on
# the same texts, and weigh every token alike: batches with few answer tokens must not count as much as those with many.

# %% nbgrader={"grade": false, "grade_id": "neftune-loss", "locked": false, "schema_version": 3, "solution": true, "task": false}
def clean_loss(model: nn.Module, batches: Iterable[Mapping[str, Tensor]]) -> float:
    """The mean loss per labelled token, in evaluation mode.

    Args:
        model: of transformers; model(**batch).loss is the mean over the batch's labelled tokens, in nats. It comes back
            as it was, its mode (training or evaluation) included.
        batches: dicts with "labels" (B, L), -100 on what does not count. The label at position 0 never counts, since
            nothing predicts the first token. A batch without labels counts for nothing.

    Returns:
        The mean over all labelled tokens of all batches.

    Raises:
        ValueError: there is no labelled token at all.

    TODO: Average the batches' losses, weighed by their numbers of labelled tokens, without noise and without a graph.

    APPROACH:
        1. Note the mode and switch to evaluation, because noise and dropout are on in training.
        2. Weigh each batch by its labels behind position 0, because its loss is a mean over those.
        3. Put the mode back, because a training loop may be waiting for it.

    EXAMPLE:
        >>> model, batch = tiny.llama(0), to_batch(tiny.preferences(4, seed=0))
        >>> loss = clean_loss(model, [batch, batch])
        >>> abs(loss - model(**batch).loss.item()) < 1e-5, model.training
        (True, False)

    HINTS:
        1. model.training is the mode, model.train(mode) sets it.
        2. (labels[:, 1:] != -100).sum() counts. The loss of a batch without labels is NaN, and 0 * NaN is NaN.
        3. Sum up count * loss and count, divide at the end; torch.no_grad() around the passes.
    """
    ### BEGIN SOLUTION
    mode = model.training
    model.eval()
    total, tokens = 0.0, 0
    with torch.no_grad():
        for batch in batches:
            count = int((batch["labels"][:, 1:] != -100).sum())
            if count:
                total += count * model(**batch).loss.item()
                tokens += count
    model.train(mode)
    if not tokens:
        raise ValueError("no batch has a labelled token")
    return total / tokens
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "neftune-given-nats", "locked": true, "schema_version": 3, "solution": false, "task": false}
def nats(model: nn.Module, batch: Mapping[str, Tensor]) -> list[float]:
    """The loss of every labelled token of a batch, from the logits."""
    log_p = model(input_ids=batch["input_ids"]).logits.detach().double().log_softmax(dim=2)
    return [-log_p[i, t - 1, label].item() for i, row in enumerate(batch["labels"].tolist())
            for t, label in enumerate(row) if t and label != -100]


# %% nbgrader={"grade": true, "grade_id": "test-neftune-loss", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: the mean over tokens from logits, with noise attached; no graph; the mode and weights afterwards; no labels.
# Catches: means of means, noise in the measurement, a mode that is not put back, the first label counted, NaN.
# A pass prints nothing.
def test_unit_neftune_loss():
    def batch_of(seed, lengths, kept):
        ids = draw_ids(seed, lengths)
        chosen = torch.rand(ids.shape, generator=torch.Generator().manual_seed(seed)) < kept
        return {"input_ids": ids, "labels": ids.where(chosen & (ids != 258), -100)}

    def check(seed, batches, mode, what):
        model, graphs = tiny.llama(seed % 1000, num_hidden_layers=1), []
        want = [loss for batch in batches for loss in nats(model, batch)]
        activate_neftune(model, 15.0)
        model.register_forward_pre_hook(lambda *_: graphs.append(torch.is_grad_enabled()))
        with checking.unchanged(model=model):
            got = clean_loss(model.train(mode), iter(batches))
        checking.equal(any(graphs), False, what=f"whether a graph was built, {what}", hint="torch.no_grad()")
        checking.equal(model.training, mode, what=f"training mode afterwards, {what}")
        # float32 losses near 5.5, each off by 3e-6 at most.
        checking.close(got, math.fsum(want) / len(want), rtol=2e-6, atol=0, what=what, hint="weigh by tokens")

    check(0, [batch_of(0, [30, 20], 0.9), batch_of(1, [9, 4], 0.3)], True, "two batches, training")
    check(1, [to_batch(tiny.preferences(3, seed=0))], False, "one batch, evaluation")
    ### BEGIN HIDDEN TESTS
    # check: many batches with few and many labels, and some without any
    # hint: sum all tokens' losses and divide once; what is the loss of a batch without labels?
    seed = checking.secret_seed()
    many = [batch_of(seed + k, [3 + 9 * k, 5], 0.2 * k) for k in range(5)]
    check(seed, many, True, "five batches")
    # check: a label on the first token
    # hint: nothing predicts the first token; is it in your count?
    first = batch_of(seed, [4, 4], 1.0)
    check(seed, [first, batch_of(seed + 1, [40], 1.0)], False, "labels on every token")
    # check: nothing to measure
    # hint: no batches, or labels of -100 alone: the docstring names the exception
    for nothing in ([], [batch_of(seed, [5], 0.0)]):
        checking.raises(ValueError, clean_loss, tiny.llama(0, num_hidden_layers=1), nothing, what="no labelled token")
    ### END HIDDEN TESTS


test_unit_neftune_loss()


# %% [markdown]
# ### What just happened?
#
# A measurement that does not disturb: the noise stays attached, the mode comes back, and the training goes on as if
# nobody had looked. So you can look in the middle of a run:

# %%
def losses_with_and_without(steps=20):
    model, batch = tiny.llama(0), to_batch(tiny.preferences(16, seed=0))
    torch.manual_seed(0)
    noisy = train_sft(model, [batch] * steps, learning_rate=1e-2, alpha=5.0, pad_token_id=258)
    print(f"after {steps} steps: with noise {noisy[-1]:.3f}, without {clean_loss(model, [batch]):.3f}")


insight.run(losses_with_and_without, needs="Exercises 1 to 5")


# %% [markdown]
# ### Systems insight 3 of 3: is it free?
#
# **Checkpoint**: training runs with and without noise. **Predict, and write it down**: what share of a step's time is the
# noise, and how many bytes does it keep for the backward pass? And where would you look for its cost in an 8B model?

# %%
def bytes_kept(alpha, rows=16, length=32):
    """Bytes that a training pass keeps for the backward pass, parameters left out."""
    model, ids, kept = tiny.llama(0).train(), draw_ids(0, [length] * rows), {}
    ours = {p.untyped_storage().data_ptr() for p in model.parameters()}
    handle = attach_neftune(model, alpha) if alpha else contextlib.nullcontext()

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = (tensor.untyped_storage().nbytes(), tensor)
        return tensor

    with handle, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(input_ids=ids, labels=ids).loss  # alive until the counting is done
    return sum(size for address, (size, _) in kept.items() if address not in ours and loss.isfinite())


# %%
def cost_of_noise(rounds=6):
    """Best seconds per step, taking turns, and KiB kept, for alpha 0 and 5."""
    batch, best = to_batch(tiny.preferences(16, seed=0)), {0.0: math.inf, 5.0: math.inf}
    for _, alpha in itertools.product(range(rounds), best):
        model = tiny.llama(0)
        start = time.perf_counter()
        train_sft(model, [batch] * 4, 1e-3, alpha, 258)
        best[alpha] = min(best[alpha], (time.perf_counter() - start) / 4)
    return best, {alpha: bytes_kept(alpha) / 1024 for alpha in best}


# %%
step_seconds, kept_kib = insight.run(cost_of_noise, needs="Exercises 1 to 4") or ({}, {})
if step_seconds:
    insight.bars({f"alpha = {a:g}": 1e3 * s for a, s in step_seconds.items()}, ylabel="time of a step [ms]")
    print(f"with noise: {step_seconds[5.0] / step_seconds[0.0]:.2f} x the time; kept: {kept_kib[0.0]:,.0f} and {kept_kib[5.0]:,.0f} KiB")


# %% [markdown]
# **What it means in production.** The addition needs neither of its inputs for the backward pass, so nothing is kept. The
# time is $d$ random numbers a token, against some six operations for each *parameter* and token in the rest: next to
# nothing, and less the larger the model. "Free" it is, in the currency of machines. What it may cost in loss is the next question.

# %% [markdown]
# ## Put it together
#
# Everything against trl: `SFTTrainer` with `neftune_noise_alpha` prepares the texts, attaches its hook and trains. A
# forward pre-hook notes the batches that come by and sets the seed before each pass; your loop then gets the same
# model, batches and seeds.

# %% nbgrader={"grade": false, "grade_id": "neftune-given-seeded", "locked": true, "schema_version": 3, "solution": false, "task": false}
def seeded(model: nn.Module, seed: int, seen: list | None = None) -> None:
    """Before the model's n-th pass, set the seed to seed + n, and note the batch in `seen`."""
    numbers = itertools.count(seed)

    def before(module, args, kwargs):
        torch.manual_seed(next(numbers))
        if seen is not None:
            seen.append({name: kwargs[name].clone() for name in ("input_ids", "attention_mask", "labels")})

    model.register_forward_pre_hook(before, with_kwargs=True)


# %% nbgrader={"grade": false, "grade_id": "neftune-given-trl", "locked": true, "schema_version": 3, "solution": false, "task": false}
def trl_losses(model: nn.Module, pairs: Sequence[Mapping[str, str]], alpha: float, rate: float) -> list[float]:
    """Fine-tune the model by trl's SFTTrainer, four pairs a step; the loss of each step."""
    from datasets import Dataset, disable_progress_bars
    from trl import SFTConfig, SFTTrainer

    disable_progress_bars()
    logging.getLogger("trl").setLevel(logging.ERROR)
    data = Dataset.from_list([{"prompt": p["prompt"], "completion": p["chosen"]} for p in pairs])
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        config = SFTConfig(output_dir=folder, report_to=[], use_cpu=True, bf16=False, disable_tqdm=True, logging_steps=1,
                           neftune_noise_alpha=alpha, learning_rate=rate, lr_scheduler_type="constant", max_grad_norm=0.0,
                           per_device_train_batch_size=4, num_train_epochs=2, save_strategy="no")
        trainer = SFTTrainer(model=model, args=config, train_dataset=data, processing_class=tokenizer)
        with contextlib.redirect_stdout(io.StringIO()):
            trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


# %% nbgrader={"grade": true, "grade_id": "test-neftune-module", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: the losses of each step equal those of trl's SFTTrainer with its own noise; the clean loss falls.
# Catches: pieces that are right alone and do not fit together, such as a seed used up by something else.
# A pass prints nothing.
def test_unit_neftune_module():
    def check(seed, alpha, rate):
        pairs = tiny.preferences(4, seed, longer="chosen") + tiny.preferences(4, seed + 1)
        seen, theirs, mine = [], tiny.llama(seed % 1000), tiny.llama(seed % 1000)
        seeded(theirs, seed, seen)
        want = trl_losses(theirs, pairs, alpha, rate)
        before = clean_loss(mine, seen)
        seeded(mine, seed)
        got = train_sft(mine, seen, rate, alpha)
        # float32 losses near 5, off by 1e-6 each, and Adam's steps, which carry that on in four steps.
        checking.close(torch.tensor(got), torch.tensor(want), rtol=1e-4, atol=0, what=f"losses beside trl's, alpha {alpha}")
        assert clean_loss(mine, seen) < before, "the clean loss did not fall"

    check(0, 5.0, 3e-3)
    ### BEGIN HIDDEN TESTS
    # check: another model, other texts, another alpha
    # hint: run train_sft with the seed set before each step: is anything else in it drawing random numbers?
    check(checking.secret_seed() % 10**6, 15.0, 3e-3)
    ### END HIDDEN TESTS


test_unit_neftune_module()


# %%
def test_unit_all():
    """Every test again, in order; says which exercises are still open."""
    for name in ("bounds", "noise", "attach", "train", "loss", "module"):
        print(f"--- {name}")
        insight.run(globals()[f"test_unit_neftune_{name}"], needs=f"neftune-{name}")


test_unit_all()

# %% [markdown]
# ## Use it: does it help?
#
# First a fair trial. Both arms start from the same pretrained model and see the same batches in the same order, with the
# same optimizer, rate and number of steps; only the noise differs. Several seeds, each with its own data. The prompts are
# split: training, validation and exam have none in common. All losses are clean ones.
#
# Two worlds: **few** (12 examples, again and again) and **many** (12 new ones in each step).

# %%
base_model = tiny.llama(seed=0)
loss = tiny.pretrain(base_model, tiny.windows(tiny.sentences(2000, seed=0), count=100, batch=16, length=48, seed=1))
print(f"pretrained on sentences without prompts: {loss:.2f} nats a byte")


# %%
def part_of(prompt):
    """Half of all prompts are for training, a quarter each for validation and exam."""
    return ("train", "validation", "train", "exam")[sum(prompt.encode()) % 4]


def draw_part(name, count, seed):
    """`count` examples of one part."""
    pool = [p for p in tiny.preferences(8 * count, seed) if part_of(p["prompt"]) == name]
    return to_batch(pool[:count])


# %%
TESTS = {name: [draw_part(name, 48, seed=10**6)] for name in ("validation", "exam")}
STEPS, MARKS = 24, (8, 16, 24)


def trial(seed, alpha, world):
    """The clean losses of one run at each mark: a list of dicts with train, validation and exam."""
    model, found = copy.deepcopy(base_model), []
    batches = [draw_part("train", 12, 1000 * seed + (k if world == "many" else 0)) for k in range(STEPS)]

    def stream():  # looks at the model as it goes by
        for step, batch in enumerate([*batches, None]):
            if step in MARKS:
                found.append({name: clean_loss(model, rows) for name, rows in {"train": batches[:1], **TESTS}.items()})
            if batch:
                yield batch

    torch.manual_seed(seed)
    train_sft(model, stream(), 3e-3, alpha, pad_token_id=258)
    return found


# %%
def run_trials(world, seeds):
    """runs[arm][seed], for both arms."""
    return {name: [trial(seed, alpha, world) for seed in seeds] for name, alpha in (("plain", 0.0), ("NEFTune", 5.0))}


few = insight.run(lambda: run_trials("few", range(6)), needs="Exercises 1 to 5")

# %%
many = insight.run(lambda: run_trials("many", range(4)), needs="Exercises 1 to 5")


# %% [markdown]
# The curves are means over the seeds. The gap between exam and training loss is the overfitting.

# %%
def mean_curve(runs, name):
    return [sum(run[k][name] for run in runs) / len(runs) for k in range(len(MARKS))]


for world, runs in (("12 examples", few), ("new examples in each step", many)):
    if runs:
        curves = {f"{arm}, {name}": mean_curve(runs[arm], name) for arm in runs for name in ("train", "exam")}
        insight.lines(MARKS, curves, xlabel="step", ylabel="clean loss [nats a token]", title=world)


# %% [markdown]
# Curves of means hide the spread. So take the difference of the arms seed by seed, and give its mean with its standard
# error and the seeds that noise has won. Three questions: after all steps; *if each run stops where its validation loss is
# lowest*, which is what one would really do; and with many examples. (All take the same exam, so this spread is that of
# training data and noise.)

# %%
def differences(runs, stop):
    """Exam loss of NEFTune minus plain, seed by seed; `stop` chooses the mark of a run."""
    picked = {arm: [run[stop(run)]["exam"] for run in runs[arm]] for arm in runs}
    return [noisy - plain for plain, noisy in zip(picked["plain"], picked["NEFTune"], strict=True)]


def summary_of(values):
    """Mean, standard error of the mean, and how many are below 0."""
    mean, n = sum(values) / len(values), len(values)
    error = math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1) / n)
    return {"mean": mean, "error": error, "won": f"{sum(v < 0 for v in values)} of {n}"}


# %%
def last(run):
    return len(run) - 1


def stopped_early(run):
    return min(range(len(run)), key=lambda k: run[k]["validation"])


verdicts = {}
for name, runs, stop in (("few, all steps", few, last), ("few, stopped early", few, stopped_early), ("many", many, last)):
    if runs:
        verdicts[name] = summary_of(differences(runs, stop))
        print(f"{name:18}: {verdicts[name]['mean']:+.3f} +- {verdicts[name]['error']:.3f}, noise won {verdicts[name]['won']}")


# %% [markdown]
# Read the three lines against each other. Where a run overfits, noise is worth much; a part of that can be had by
# stopping earlier, for nothing; and where there is nothing to overfit, noise is in the way. The task, the model and
# $\alpha$ are tiny and not tuned, $d = 64$ makes this alpha a strong one (insight 1), and the paper's gain is one of *judged
# answers*, not of loss. So the numbers are no verdict on NEFTune. The procedure is how you reach one for your data.

# %% [markdown]
# ## On your Spark
#
# The same trial at full size: Llama 3.1 8B in bfloat16 with LoRA, by trl, on a DGX Spark with 128 GB of unified memory. First
# what can be known without it, by your own function: the noise of a batch with the library's convention.

# %%
def predict_8b(length=1024, alpha=5.0):
    mask = ragged([length, 128])
    return dict(zip(("long text", "short text"), noise_bounds(mask, 4096, alpha).tolist(), strict=True))


# %%
predicted = insight.run(predict_8b, needs="Exercise 1") or {}
print({name: f"{bound:.4f}" for name, bound in predicted.items()}, "and the library takes the first for both")

# %% [markdown]
# ```bash
# sync; echo 3 | sudo tee /proc/sys/vm/drop_caches   # unified memory: the file cache would take from the GPU's share
# docker run --gpus all -it --rm --ipc=host -p 8888:8888 -v $PWD:/workspace \
#     -v $HOME/.cache/huggingface:/hf -e HF_HOME=/hf nvcr.io/nvidia/pytorch:25.11-py3
# ```
#
# In the container `pip install "trl>=1.16" "peft>=0.21"` and the course's package. The model needs an account at Hugging
# Face that has accepted Meta's licence. Then set `RUN_ON_SPARK`. This section has **not yet been measured on a GPU** by the
# authors: your record is the first.

# %%
RUN_ON_SPARK = False


# %%
def spark_arm(alpha, path="meta-llama/Llama-3.1-8B", steps=100, seed=0):
    """Fine-tune a LoRA adapter on 500 examples of Alpaca; returns seconds per step, peak GB and the held-out loss."""
    from datasets import load_dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16, device_map="cuda")
    rows = load_dataset("tatsu-lab/alpaca", split="train").shuffle(seed=seed).select(range(700)).select_columns(["text"])
    config = SFTConfig(output_dir="neftune-8b", max_steps=steps, per_device_train_batch_size=8, learning_rate=2e-4, bf16=True,
                       neftune_noise_alpha=alpha, seed=seed, max_length=512, report_to=[], save_strategy="no")
    trainer = SFTTrainer(model=model, args=config, train_dataset=rows.select(range(500)),
                         eval_dataset=rows.select(range(500, 700)), processing_class=AutoTokenizer.from_pretrained(path),
                         peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"))
    torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    trainer.train()
    return {"seconds_per_step": (time.perf_counter() - start) / steps,
            "peak_gb": torch.cuda.max_memory_allocated() / 1e9, "held_out_loss": trainer.evaluate()["eval_loss"]}


# %% [markdown]
# Record what you measured here, at least three seeds for each arm if you have the time; a record by hand is as good.
# Without such a machine leave it as it is: nothing is lost.

# %%
spark_record = {"gpu": None, "plain": {}, "neftune": {}}
if RUN_ON_SPARK:
    spark_record = {"gpu": torch.cuda.get_device_name(), "plain": spark_arm(None), "neftune": spark_arm(5.0)}


# %% nbgrader={"grade": false, "grade_id": "neftune-given-spark-record", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_spark_record(record: dict) -> str:
    """Form and plausibility of a record. Nothing here earns points; a person reads it."""
    wanted = {"seconds_per_step": (0.05, 600), "peak_gb": (16, 128), "held_out_loss": (0.3, 5)}
    if not any(record.values()):
        return "not measured: no record of a full-size run"
    odd = [f"{arm}.{key}" for arm in ("plain", "neftune") for key, (low, high) in wanted.items()
           if not isinstance(record[arm].get(key), int | float) or not low <= record[arm][key] <= high]
    odd += [] if isinstance(record.get("gpu"), str) else ["gpu"]
    return f"look again at {', '.join(odd)}: missing or out of the plausible range" if odd else "complete and plausible"


# %%
check_spark_record(spark_record)


# %% [markdown]
# ## Common mistakes
#
# **1. The five lines that go around.**
#
# ```python
# noise = torch.randn_like(x) * alpha / x.size(1) ** 0.5            # wrong: normal, and no d: sqrt(3 d) times too large
# noise = torch.empty(x.shape).uniform_(-1, 1) * alpha / (L * d) ** 0.5                          # right
# ```
# At $d = 4096$ it is 111 times too large. The loss still falls, slowly, and everybody says that NEFTune does not work.
#
# **2. Noise in evaluation.**
#
# ```python
# def hook(module, args, output): return output + noise             # wrong: the model answers noisily, too
# if module.training: ...                                           # right, and asked inside the hook
# ```

# %% [markdown]
# **3. Noise in the weights.**
#
# ```python
# embedding.weight.data += noise                                    # wrong: it stays, and adds up step by step
# ```
# With tied embeddings it is in the output layer as well.
#
# **4. One draw for all.**
#
# ```python
# noise = torch.empty(L, d).uniform_(-bound, bound)                 # wrong: broadcast, the same smudge on every page
# noise = torch.empty(B, L, d).uniform_(-1, 1)                      # right
# ```
# Every moment of it is right; only the product of two texts' noise shows it.

# %% [markdown]
# **5. A hook that stays.** Without `finally` an interrupted run leaves its hook on the model, and the next one adds a second:
# the noise is then $\sqrt 2$ times as large, in a run whose config says otherwise.
#
# **6. A mean of means.**
#
# ```python
# sum(losses) / len(losses)                                         # wrong: a batch of two tokens counts like one of 200
# ```
#
# **7. Comparing training losses.** The noisy arm's are measured under noise. Compare clean with clean.
#
# **8. pad = eos.** Many tokenizers have no padding token, and people take the end token for it. Then `ids != pad_token_id`
# also calls the *real* ends padding: no noise there, and an $L$ that is too small. Give padding an id of its own.

# %% [markdown]
# ## Reflect
#
# Three questions on *your* code and *your* measurements. Five to ten lines each; numbers without a source in this
# notebook earn nothing.

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-neftune-cost", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Reflection 1: cost and size (3 points).** Use `noise_table`, `step_seconds` and `kept_kib`. Why does your noise keep no
# memory for the backward pass, and how does its share of a step change from the tiny model to one of 8B with $d = 4096$?
# Which entry of the table would you look at before choosing an alpha for your own data, and why not at alpha itself?
#
# ### BEGIN SOLUTION
# The noise is added: the derivative of a sum does not depend on its summands, so autograd keeps neither, and kept_kib is
# the same for 0 and 5. It draws B L d numbers; the rest of a step costs about 6 B L operations for each parameter. For the
# tiny model that is 64 draws against 107,200 parameters a token, for 8B 4,096 against 8 billion: the share (a few percent
# in step_seconds) falls by a factor of a thousand. I would look at the root mean square for my L and d and divide it by that
# of the embeddings: alpha fixes the norm of a whole text, and the same alpha gave 0.13 a number at L = 8, d = 64 and 0.002 at
# L = 512, d = 4096.
#
# ### BEGIN MARK SCHEME
# - 1 point: a sum needs no saved inputs, with their own kept_kib.
# - 1 point: draws grow with d, the rest with the parameters, with their own ratio of step_seconds.
# - 1 point: size per number beside the embeddings', with two entries of the table. "alpha 5 is recommended": nothing.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-neftune-padding", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Reflection 2: padding and scale (3 points).** A team fine-tunes with trl, alpha 5 and a batch size of 4, and gets a
# gain. With a batch size of 64 on more GPUs the gain is gone. Use `by_convention` to explain how that can be. What exactly
# would you change, with your functions or in the data pipeline, to make both runs the same experiment, and what stays
# different even then?
#
# ### BEGIN SOLUTION
# transformers' hook takes the batch's length for L. The longest of 64 texts is longer than the longest of 4, so nearly
# every text is divided by a larger L: in by_convention a text of 16 tokens beside one of 256 had a quarter of its
# noise, and 47 % of all noise fell on padding. Remedy: attach_neftune with pad_token_id, so that L is each text's own, or
# batches sorted by length, or packing to one fixed length with alpha adapted to it. What stays different: number of steps
# and size of the gradient noise, since 64 texts are averaged; the learning rate must be looked at as well.
#
# ### BEGIN MARK SCHEME
# - 1 point: the maximum of more texts is longer, so L grows with the batch size.
# - 1 point: quotes their own factor or share from by_convention.
# - 1 point: a remedy that fixes L for each text, and one thing that it does not fix. A larger alpha alone: half a point.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-neftune-verdict", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Reflection 3: production (3 points).** Report `verdicts` to your team in three sentences, each with mean and error, that
# nobody can misread. Why is the "stopped early" line the one to act on, and what would be unfair about the "all steps"
# line in a paper? Then say how you would decide for your own data: arms, what is tuned for whom, seeds, and the measure.
#
# ### BEGIN SOLUTION
# For example: "With 12 examples and 24 steps noise lowered the exam loss by x +- e in 6 of 6 seeds. When both arms may stop
# where validation is lowest, the difference is y +- f. With new data in every step noise raised it by z +- g." Acting means
# choosing between the best versions of both, and stopping early is free; comparing after 24 steps compares with a
# baseline that was run too long, so that any regulariser wins. My trial: plain and NEFTune with alpha from three values,
# each arm with the same number of settings tried on validation (steps, rate), at least six seeds, a fresh exam set used once,
# and a measure that users would notice, such as judged answers of equal length, since the paper's gain is of that kind and
# longer answers please judges.
#
# ### BEGIN MARK SCHEME
# - 1 point: three statements with their own means and errors, none stronger than its numbers.
# - 1 point: an overtrained baseline makes every regulariser win; early stopping is the fair opponent.
# - 1 point: equal tuning for both arms, several seeds, exam data untouched by tuning, a measure beyond training loss.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# What you built, in the numbers of your own run:

# %%
def summary():
    print(f"a step with noise takes {step_seconds[5.0] / step_seconds[0.0]:.2f} times as long as one without")
    print(f"noise of 16 tokens beside 256: {by_convention['length of the batch'][16] / by_convention['length of the text'][16]:.2f} of the formula's")
    for name, verdict in verdicts.items():
        print(f"exam loss, {name}: {verdict['mean']:+.3f} +- {verdict['error']:.3f} with noise")


insight.run(summary, needs="Exercises 1 to 5")

# %% [markdown]
# ## Challenge (optional)
#
# 1. **A fair alpha.** Run `trial` for alpha in (1, 2, 5, 10), choose by validation, and compare with plain fine-tuning at the
#    same number of tries.
# 2. **Is it the shape?** Normal noise of the same variance: is there a difference beyond the spread?
# 3. **What is left of it?** Add the noise behind the first block in place of the embedding. Does it still help?
#
# ## Further reading
#
# - N. Jain et al., *NEFTune: Noisy Embeddings Improve Instruction Finetuning*, 2023, arXiv:2310.05914. Read the section on
#   overfitting and that on length beside your curves.
# - C. Zhu et al., *FreeLB: Enhanced Adversarial Training for Natural Language Understanding*, 2019, arXiv:1909.11764. Where
#   the scale comes from.
# - C. Bishop, *Training with Noise is Equivalent to Tikhonov Regularization*, Neural Computation, 1995.
# - The documentation of trl on `SFTTrainer`: huggingface.co/docs/trl.

# %% [markdown]
# ## Clean up
#
# Drop the models and the figures; on a machine with a GPU this also returns its memory.

# %%
from matplotlib import pyplot

pyplot.close("all")
base_model = few = many = None
if torch.cuda.is_available():
    torch.cuda.empty_cache()
