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
# # Lab 3.1.5: QLoRA, a 70B model on one machine
#
# | | |
# |---|---|
# | Module | 3.1 LLM Fine-Tuning |
# | Time | 4 hours |
# | Difficulty | ★★★★☆ |
# | Hardware | gpu-optional: all points can be earned on a CPU; *On your Spark* is for 128 GB of unified memory |
# | Points | 33 automatic, 9 read by a person |
# | Builds on | 3.1.4 8B Model LoRA Fine-tuning |
#
# The weights of a 70B model take 141 GB in 16 bits: more than the machine has. You are going to store them in a little over
# four bits each, in a format made for numbers that look like weights, and train adapters through them without ever holding
# more than one matrix in full. At the end you say to the gigabyte what a 70B run needs, before anybody starts one.

# %% [markdown]
# ## What you'll achieve
#
# By the end you have
#
# 1. **Systems understanding**: a memory budget for a 70B run, line by line, and what each line pays for (objective 3.1.2).
# 2. **Core skill**: NF4 from scratch: code book, blocks, packed bytes, double quantisation (objective 3.1.2).
# 3. **A pattern**: store small, compute large: recompute in the backward pass what would be too big to keep.
# 4. **A tie to production**: a layer with the roles of `bnb_4bit_quant_type="nf4"` and `bnb_4bit_use_double_quant`.
# 5. **A trade-off**: bits per weight against error, by format and block size, measured.

# %% [markdown]
# ## Before you start
#
# In 3.1.1 you froze a layer and trained a thin pair of matrices beside it. **What works**: gradients and optimizer state
# shrink to almost nothing. **The gap**: the frozen weights are still there, two bytes each. **This lab** stores them in
# 4.13 bits.
#
# ```
# 3.1.1 LoRA: little to train ──> 3.1.4 8B in 16 bits ──> 3.1.5 70B in 4 bits (this lab) ──> 3.1.10 GGUF
# ```

# %% [markdown]
# ### Skill checks
#
# Answer first, then unfold.
#
# <details><summary>1. Which bytes does an AdamW step keep for each float32 parameter that it trains?</summary>
#
# 4 for the weight, 4 for its gradient, 8 for the two moments: 16.
# </details>
#
# <details><summary>2. What does a linear layer need for the gradient of its input, and what for that of its weight?</summary>
#
# For the input: the weight. For the weight: the input. A frozen weight needs no gradient, so its input need not be kept.
# </details>
#
# <details><summary>3. What is the 0.975 quantile of a standard normal distribution?</summary>
#
# 1.96: 97.5 % of all draws lie below it. `NormalDist().inv_cdf(0.975)` says so too.
# </details>

# %% nbgrader={"grade": false, "grade_id": "qlora-given-setup", "locked": true, "schema_version": 3, "solution": false, "task": false}
import copy
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import torch
from labkit import checking, insight, tiny
from torch import Tensor, nn
from torch.nn.functional import linear

# %% nbgrader={"grade": false, "grade_id": "qlora-given-settings", "locked": true, "schema_version": 3, "solution": false, "task": false}
warnings.filterwarnings("ignore")  # from inside transformers, nothing to do with you
torch.set_num_threads(1)  # with matrices this small, a second thread would mostly wait for the first

# %% [markdown]
# Readiness check: the skills, run. It should print `ready`.

# %%
assert abs(NormalDist().inv_cdf(0.975) - 1.96) < 1e-2
assert (7 << 4 | 9) == 121
assert (121 >> 4, 121 & 15) == (7, 9)
print("ready")

# %% [markdown]
# ## Why it matters
#
# QLoRA (Dettmers et al. 2023) fine-tuned a 65B model on one GPU of 48 GB, where 16-bit training had needed more than 780 GB.
# Its authors trained more than a thousand models that way and found no loss against 16-bit LoRA on their benchmarks (their
# section 4). Since then "fine-tune it in four bits" is the default on every machine that is not a data centre.
#
# For the DGX Spark the curriculum expects 45 to 55 GB for a 70B run. Whether that is right, and what it turns into with longer
# texts, is arithmetic; you will do it in the last exercise, because a run that dies after four hours of loading is dearer
# than ten minutes with a calculator.

# %% [markdown]
# ## At the kitchen table
#
# You write down the heights of a thousand children, and may use sixteen words only.
#
# | heights | weights |
# |---|---|
# | sixteen words | a code book of 16 values: 4 bits |
# | words close together where most children are | quantiles of a normal distribution: NF4 |
# | "tall for this class" | each block of 64 is scaled by its own largest value |
# | the tallest child of each class, written in full | one float32 scale for each block: half a bit more per weight |
# | those heights in words, too | double quantisation: the scales in 8 bits |
#
# **Where it breaks**: one giant makes all others of the class "short". In a block with an outlier the rest loses its
# resolution. You will measure how much.

# %% [markdown]
# ## Foundations
#
# **Code book.** Weights of a trained layer are close to normal. NF4 (section 3 of the paper) takes values at which a normal
# distribution has equal shares between neighbours, so that codes are used more evenly than with even steps. It takes 8 quantiles for the
# positive half, 7 for the negative one, and an exact 0, because padding and pruned weights must stay 0:
#
# $$p^+=\text{the first 8 of 9 evenly spaced from } o \text{ to } \tfrac12,\qquad p^-=\text{the first 7 of 8 from } o \text{ to } \tfrac12,\qquad q=\{\Phi^{-1}(p^+)\}\cup\{0\}\cup\{-\Phi^{-1}(p^-)\}$$
#
# divided by the largest. The last step of each, at ½, would be a second and third 0 and is left out. The outermost quantile is
# $o=0.9677083$, since that of 1 would be infinite.
#
# **Blocks.** $n$ weights are cut into blocks of $B=64$. With $a$ the largest absolute value of a block, each weight is
# stored as the code nearest to $w/a$, and read as $\hat w=a\,q_k$. The widest gap between codes is 0.304, so
# $|w-\hat w|\le 0.152\,a$.
#
# **Double quantisation.** A float32 $a$ for 64 weights costs 0.5 bits a weight. Stored in 8 bits, with a float32 scale for 256
# of them, it costs $8/64+32/(64\cdot256)=0.127$.

# %% [markdown]
# ```
#  W (16 bits) ─> blocks of 64 ─> w / a ─> nearest of 16 codes ─> two codes in a byte      4     bits
#                      └─> a, float32 ─> a - mean ─> 8 bits, blocks of 256                 0.127 bits
#
#  forward:   codes ─> Ŵ ─> x Ŵᵀ ─> drop Ŵ          + (α/r) B A x
#  backward:  codes ─> Ŵ ─> g Ŵ  ─> drop Ŵ            gradients of A and B only
# ```
#
# ### One example in numbers
#
# A block holds $(0.5, -0.1, 0)$: $a=0.5$, scaled $(1, -0.2, 0)$. The nearest codes are 1.0 (number 15), $-0.1848$ (number 5)
# and 0 (number 7). Read back: $(0.5, -0.0924, 0)$.

# %%
print([0.5 * q for q in (1.0, -0.18477343, 0.0)])


# %% [markdown]
# ## Part 1: Four bits
#
# ### Exercise 1: a code book of quantiles
#
# Sixteen numbers, worth a table of constants in every library. Derive them. The same recipe gives books of other sizes.

# %% nbgrader={"grade": false, "grade_id": "qlora-codebook", "locked": false, "schema_version": 3, "solution": true, "task": false}
def normal_codebook(bits: int = 4, outermost: float = 0.9677083) -> Tensor:
    """The NormalFloat code book: quantiles of a standard normal, with an exact 0, scaled to [-1, 1].

    Args:
        bits: 2 to 8. The book has 2**bits values: 2**(bits - 1) positive ones, a 0, and the rest negative.
        outermost: probability of the outermost quantile, above 0.5 and below 1.

    Returns:
        float64 (2**bits,), increasing. The largest value is 1; the smallest is -1.

    Raises:
        ValueError: `bits` or `outermost` is out of its range.

    TODO: Take the quantiles of both halves, join them with the 0, sort, scale.

    APPROACH:
        1. Take 2**(bits - 1) + 1 evenly spaced probabilities from `outermost` to 0.5 without the last, because that is 0.
        2. Do the same with one step less for the negative half, because the 0 takes one code.
        3. Divide by the largest value at the end, because the scale of the block stands for it.

    EXAMPLE:
        >>> [round(v, 2) for v in normal_codebook(2).tolist()]
        [-1.0, 0.0, 0.34, 1.0]
        >>> round(normal_codebook()[5].item(), 4)
        -0.1848

    HINTS:
        1. `torch.linspace(a, b, n, dtype=torch.float64)[:-1]` are the steps without the last.
        2. `NormalDist().inv_cdf(p)` or `torch.special.ndtri` is the quantile function.
        3. For 4 bits the halves have 8 and 7 values; the outermost one of both is the same quantile.
    """
    ### BEGIN SOLUTION
    if not 2 <= bits <= 8:
        raise ValueError(f"bits must be from 2 to 8, not {bits}")
    if not 0.5 < outermost < 1:
        raise ValueError(f"outermost must lie between 0.5 and 1, not {outermost}")
    half = 2 ** (bits - 1)
    positive = torch.linspace(outermost, 0.5, half + 1, dtype=torch.float64)[:-1]
    negative = torch.linspace(outermost, 0.5, half, dtype=torch.float64)[:-1]
    zero = torch.zeros(1, dtype=torch.float64)
    values = torch.cat([torch.special.ndtri(positive), zero, -torch.special.ndtri(negative)]).sort().values
    return values / values.max()
    ### END SOLUTION


# %% [markdown]
# The table of the paper's appendix E, to hold yours against:

# %% nbgrader={"grade": false, "grade_id": "qlora-given-table", "locked": true, "schema_version": 3, "solution": false, "task": false}
NF4 = (-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
       -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
       0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0)  # fmt: skip


# %% nbgrader={"grade": true, "grade_id": "test-qlora-codebook", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: the published table; other sizes and outermost quantiles against the definition; refusals.
# Catches: a book without a 0 or with two, halves of equal size, one half scaled by itself, unsorted values.
# A pass prints nothing.
def test_unit_qlora_codebook():
    def check(bits, outermost, what):
        half, quantile = 2 ** (bits - 1), NormalDist().inv_cdf
        want = [quantile(outermost + (0.5 - outermost) * k / half) for k in range(half)] + [0.0]
        want += [-quantile(outermost + (0.5 - outermost) * k / (half - 1)) for k in range(half - 1)]
        want = torch.tensor(sorted(want), dtype=torch.float64) / max(want)
        # Two float64 quantile functions agree to about 1e-14 here.
        checking.close(normal_codebook(bits, outermost), want, rtol=1e-10, atol=1e-12, what=f"code book {what}",
                       hint="2**(bits-1) positive values, one 0, and one negative value less")

    # The table was made in float32 with quantiles of a few digits less.
    checking.close(normal_codebook(), torch.tensor(NF4, dtype=torch.float64), rtol=0, atol=1e-6, what="normal_codebook()")
    check(3, 0.96, "of 3 bits, outermost 0.96")
    ### BEGIN HIDDEN TESTS
    # check: other numbers of bits and outermost quantiles
    # hint: which number in your code stands for the size, and does it follow from `bits` everywhere?
    chance = torch.rand(3, generator=torch.Generator().manual_seed(checking.secret_seed())).tolist()
    for bits, share in zip((2, 5, 8), chance, strict=True):
        check(bits, 0.9 + 0.09 * share, f"of {bits} bits")
    # check: refusals
    # hint: 1 and 9 bits, and quantiles at 0.5 and 1, have no code book.
    for bits, outermost in ((1, 0.97), (9, 0.97), (4, 0.5), (4, 1.0)):
        checking.raises(ValueError, normal_codebook, bits, outermost, what=f"{bits} bits, outermost {outermost}")
    ### END HIDDEN TESTS


test_unit_qlora_codebook()

# %% [markdown]
# ### What just happened?
#
# Normal numbers should use the codes more evenly than even steps do, though not equally: the largest value of a block lies further
# out than the book assumes (Yoshida 2023).

# %% nbgrader={"grade": false, "grade_id": "qlora-given-books", "locked": true, "schema_version": 3, "solution": false, "task": false}
EVEN = torch.linspace(-1, 1, 15, dtype=torch.float64)
EVEN = torch.cat([EVEN, EVEN[-1:]])  # 15 even steps with a 0 among them, as int4 has; the last code is there twice


# %%
def use_of_codes(block=64):
    """How often each code is the nearest one, for normal numbers in blocks scaled by their largest."""
    draws = torch.randn(4000, block, generator=torch.Generator().manual_seed(0))
    scaled = draws / draws.abs().amax(dim=1, keepdim=True)
    counts = {}
    for name, book in (("NF4", normal_codebook()), ("even steps", EVEN[:15])):
        nearest = (scaled[..., None] - book).abs().argmin(dim=-1)
        counts[name] = (torch.bincount(nearest.flatten(), minlength=len(book)) / nearest.numel()).tolist()
    return counts


# %%
used = insight.run(use_of_codes, needs="Exercise 1 (normal_codebook)")

# %%
for name, shares in (used or {}).items():
    print(f"{name:10}", " ".join(f"{share:4.0%}" for share in shares))


# %% [markdown]
# ### Exercise 2: codes in bytes
#
# Cut into blocks, scale, find the nearest code, pack two into a byte. What comes out is held in this:

# %% nbgrader={"grade": false, "grade_id": "qlora-given-quantized", "locked": true, "schema_version": 3, "solution": false, "task": false}
@dataclass(frozen=True)
class Quantized:
    """A tensor in four bits a value. `codes`: uint8, two in a byte; `absmax`: float32 (blocks,); `shape` of the original."""

    codes: Tensor
    absmax: Tensor
    shape: tuple[int, ...]
    block: int

    @property
    def nbytes(self) -> int:
        return self.codes.nbytes + self.absmax.nbytes


# %% nbgrader={"grade": false, "grade_id": "qlora-quantize", "locked": false, "schema_version": 3, "solution": true, "task": false}
def quantize(weight: Tensor, codebook: Tensor, block: int = 64) -> Quantized:
    """Store a tensor as the nearest codes, blockwise scaled.

    Args:
        weight: any shape and strides, any floating dtype, finite, not empty. Read row by row; the last block is filled up
            with zeros.
        codebook: float64 (16,), not decreasing, with -1, 0 and 1 in it.
        block: values to a block, even and at least 2.

    Returns:
        `absmax`: float32 (blocks,), the largest absolute value of each block. `codes`: uint8 (blocks * block / 2,): the number
        of the code that is nearest to value / absmax; the first of two in the *high* four bits. In a block of zeros every
        value gets the code of 0. Of two codes that are equally near, either will do. `weight` is left alone; of a parameter the result has
        no graph.

    Raises:
        ValueError: `block` is odd or below 2, or a value is not finite.

    TODO: Check, cut into blocks, scale, look up, pack.

    APPROACH:
        1. Work on a flat float32 copy that is padded with zeros, because the last block must be full.
        2. Divide by 1 instead of by 0 in blocks of zeros, because 0 / 0 is not a number.
        3. Find the nearest code by the midpoints between codes, because comparing with all 16 takes 16 times the memory.

    EXAMPLE:
        >>> stored = quantize(torch.tensor([0.5, -0.1, 0.0]), normal_codebook(), block=4)
        >>> stored.codes.tolist(), stored.absmax.tolist(), stored.shape
        ([245, 119], [0.5], (3,))

    HINTS:
        1. `torch.bucketize(x, boundaries)` counts, for each x, how many boundaries lie below it.
        2. There are 15 midpoints: `(book[1:] + book[:-1]) / 2`.
        3. `high << 4 | low` packs two codes; cast to uint8 first.
    """
    ### BEGIN SOLUTION
    if block < 2 or block % 2:
        raise ValueError(f"block must be even and at least 2, not {block}")
    flat = weight.detach().reshape(-1).float()
    if not flat.isfinite().all():
        raise ValueError("the weight has values that are not finite")
    blocks = nn.functional.pad(flat, (0, -len(flat) % block)).view(-1, block)
    absmax = blocks.abs().amax(dim=1)
    scaled = blocks / torch.where(absmax > 0, absmax, torch.ones_like(absmax))[:, None]
    midpoints = ((codebook[1:] + codebook[:-1]) / 2).float()
    numbers = torch.bucketize(scaled, midpoints).to(torch.uint8).view(-1, 2)
    return Quantized(numbers[:, 0] << 4 | numbers[:, 1], absmax, tuple(weight.shape), block)
    ### END SOLUTION


# %% [markdown]
# The checks unpack your bytes and ask of each value whether a nearer code would have been there.

# %% nbgrader={"grade": false, "grade_id": "qlora-given-draw", "locked": true, "schema_version": 3, "solution": false, "task": false}
def draw(seed: int, *shape: int, scale: float = 1.0) -> Tensor:
    """Normal float32 numbers from a seed."""
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# %% nbgrader={"grade": false, "grade_id": "qlora-given-some-book", "locked": true, "schema_version": 3, "solution": false, "task": false}
def some_book(seed: int) -> Tensor:
    """An increasing code book of 16 values with -1, 0 and 1 in it, from a seed."""
    inner = torch.rand(13, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 1.9 - 0.95
    return torch.cat([inner, torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)]).sort().values


# %% nbgrader={"grade": false, "grade_id": "qlora-given-check-quantize", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_quantize(weight: Tensor, book: Tensor, block: int, what: str) -> None:
    """Hold quantize against its description."""
    with checking.unchanged(weight=weight, codebook=book):
        got = quantize(weight, book, block)
    checking.equal((got.shape, got.block), (tuple(weight.shape), block), what=f"shape and block of {what}")
    count = -(-weight.numel() // block)
    values = torch.zeros(count * block)
    values[: weight.numel()] = weight.detach().reshape(-1).float()
    largest = values.view(count, block).abs().amax(dim=1)
    checking.equal(got.absmax, largest, what=f"absmax of {what}", hint="one for each block, read row by row")
    checking.equal((got.codes.dtype, tuple(got.codes.shape)), (torch.uint8, (count * block // 2,)), what=f"codes of {what}")
    codes = torch.stack([got.codes >> 4, got.codes & 15], dim=1).view(count, block).long()
    scaled = (values.view(count, block) / torch.where(largest > 0, largest, 1.0)[:, None]).double()
    mine = (scaled - book[codes]).abs()
    best = (scaled[..., None] - book).abs().amin(dim=-1)
    # A value within one float32 rounding, 2**-24, of a midpoint may go either way.
    checking.close(mine, best, rtol=0, atol=2e-7, what=f"distance of each value of {what} from its code",
                   hint="the nearest code; the first of two in the high four bits")


# %% nbgrader={"grade": true, "grade_id": "test-qlora-quantize", "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
# Checks: scales, codes and packing over shapes, strides, dtypes, block sizes and code books; zeros; refusals.
# Catches: halves of a byte swapped, one scale for all, a short last block, NaN for zeros, the next code instead of the nearest.
# A pass prints what each of two checks earned.
def test_unit_qlora_quantize():
    credit, book = checking.Credit(6), torch.tensor(NF4, dtype=torch.float64)
    with credit.check("codes, scales and packing", points=4, hint="print the codes of a block of 4"):
        check_quantize(draw(0, 8, 16), book, 64, "an 8 x 16 matrix")
        check_quantize(book.float(), book, 16, "the code book itself")
        ### BEGIN HIDDEN TESTS
        # check: other shapes, blocks and code books
        # hint: is the last block filled up, and does anything in your code know that the block is 64?
        seed = checking.secret_seed()
        for k, (shape, block) in enumerate((((3, 5), 4), ((1,), 2), ((130,), 64), ((2, 3, 7), 32))):
            check_quantize(draw(seed + k, *shape), some_book(seed + k), block, f"{shape} in blocks of {block}")
        # check: transposed weights and other dtypes
        # hint: what order are the values of a transposed matrix read in? Which dtype do the scales have?
        check_quantize(draw(seed, 6, 10).T, book, 8, "a transposed matrix")
        check_quantize(draw(seed, 4, 10).bfloat16(), book, 8, "a bfloat16 matrix")
        check_quantize(draw(seed, 4, 10).double(), book, 8, "a float64 matrix")
        check_quantize(nn.Linear(6, 4).weight, book, 8, "a parameter")
        ### END HIDDEN TESTS
    with credit.check("zeros and refusals", points=2, hint="0 / 0; an odd block; not a number"):
        check_quantize(torch.cat([torch.zeros(8), draw(1, 8)]), book, 8, "a block of zeros")
        checking.raises(ValueError, quantize, draw(0, 6), book, 3, what="an odd block")
        ### BEGIN HIDDEN TESTS
        # check: values that are not finite, and blocks of nothing
        # hint: one infinite value would make a whole block 0; refuse it, as well as a block of 0.
        for bad in (math.nan, math.inf, -math.inf):
            checking.raises(ValueError, quantize, torch.tensor([1.0, bad]), book, 2, what=f"a weight of {bad}")
        checking.raises(ValueError, quantize, draw(0, 6), book, 0, what="a block of 0")
        check_quantize(torch.zeros(3, 3), book, 4, "zeros alone")
        check_quantize(draw(2, 4, 4, scale=1e-30), book, 4, "tiny weights")
        ### END HIDDEN TESTS
    return credit.total()


test_unit_qlora_quantize()


# %% [markdown]
# ### Exercise 3: and back
#
# What a layer does before each use: bytes to weights.

# %% nbgrader={"grade": false, "grade_id": "qlora-dequantize", "locked": false, "schema_version": 3, "solution": true, "task": false}
def dequantize(stored: Quantized, codebook: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Read a stored tensor: code times scale.

    Args:
        stored: from `quantize`.
        codebook: the one it was stored with, float64 (16,).
        dtype: of the result. The product is taken in float32 and then rounded to it.

    Returns:
        A tensor of `stored.shape`, contiguous. `stored` is left alone.

    TODO: Unpack, look up, scale, cut the filling off, shape.

    APPROACH:
        1. Put the two halves of each byte side by side, because the first value is in the high one.
        2. Index the code book with all codes at once, because a loop over 70 billion weights takes a while.
        3. Cut before you shape, because the last block may be longer than what is left.

    EXAMPLE:
        >>> stored = quantize(torch.tensor([0.5, -0.1, 0.0]), normal_codebook(), block=4)
        >>> [round(v, 4) for v in dequantize(stored, normal_codebook()).tolist()]
        [0.5, -0.0924, 0.0]

    HINTS:
        1. `torch.stack([high, low], dim=1)` puts them in the order of the values.
        2. An index must be int64; `codebook.float()[...]` is float32.
        3. `math.prod(shape)` is the number of values.
    """
    ### BEGIN SOLUTION
    numbers = torch.stack([stored.codes >> 4, stored.codes & 15], dim=1).long()
    values = codebook.float()[numbers].view(-1, stored.block) * stored.absmax[:, None]
    return values.view(-1)[: math.prod(stored.shape)].view(stored.shape).to(dtype)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-qlora-dequantize", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Checks: values by hand, from bytes that quantize did not make; shapes, dtypes; the error bound on the way there and back.
# Catches: halves swapped, a scale of the wrong block, filling that stays, a lookup in half precision.
# A pass prints nothing.
def test_unit_qlora_dequantize():
    def check(seed, shape, block, dtype, what):
        count, book = -(-math.prod(shape) // block), some_book(seed)
        numbers = torch.randint(16, (count * block,), generator=torch.Generator().manual_seed(seed))
        stored = Quantized((numbers[0::2] * 16 + numbers[1::2]).to(torch.uint8), draw(seed, count).abs(), shape, block)
        with checking.unchanged(codes=stored.codes, absmax=stored.absmax, codebook=book):
            got = dequantize(stored, book, dtype)
        want = (book.float()[numbers] * stored.absmax.repeat_interleave(block))[: math.prod(shape)].view(shape).to(dtype)
        # One product in float32, then rounded: the same, but for a last bit of float32.
        checking.close(got, want, rtol=2e-7, atol=0, what=f"dequantize of {what}", hint="high half first")

    check(0, (4, 8), 8, torch.float32, "a 4 x 8 matrix")
    check(1, (3, 3), 4, torch.float32, "a 3 x 3 matrix in blocks of 4")
    ### BEGIN HIDDEN TESTS
    # check: other shapes and dtypes
    # hint: where is the filling cut off, and when is the dtype changed?
    seed = checking.secret_seed()
    check(seed, (1,), 2, torch.float32, "one value")
    # 300 values: among 30, early rounding changed none in 1 of 100 draws.
    check(seed + 1, (5, 20, 3), 16, torch.bfloat16, "three dimensions in bfloat16")
    check(seed + 2, (70,), 64, torch.float64, "70 values in float64")
    # check: there and back again
    # hint: no value may be further from what it was than half the widest gap of the book times the scale.
    weight, book = draw(seed + 3, 32, 32), torch.tensor(NF4, dtype=torch.float64)
    stored = quantize(weight, book)
    share = ((dequantize(stored, book) - weight).view(-1, 64).abs() / stored.absmax[:, None]).max().item()
    assert share <= book.diff().max() / 2 + 1e-6, f"an error of {share:.3f} times the largest value of its block"
    ### END HIDDEN TESTS


test_unit_qlora_dequantize()


# %% [markdown]
# ### Systems insight 1 of 3: bits against error
#
# **Checkpoint**: you can store and read any tensor. **Predict, and write it down**: by what factor does the error (root of the
# mean square) of normal weights grow from blocks of 16 to blocks of 1024? And with one weight in a thousand ten times as large?

# %%
def error_by_block(sizes=(16, 64, 256, 1024)):
    """Root mean square error of your quantizer, relative to the weights', by block size, for three kinds of input."""
    book, even = normal_codebook(), EVEN.clone()
    even[-1] = 1 + 1e-9
    weight = draw(0, 512, 512)
    outliers = torch.where(torch.rand(512, 512, generator=torch.Generator().manual_seed(1)) < 1e-3, 10 * weight, weight)
    cases = {"NF4": (weight, book), "even steps": (weight, even), "NF4, outliers": (outliers, book)}
    table = {}
    for name, (values, codes) in cases.items():
        errors = [dequantize(quantize(values, codes, size), codes) - values for size in sizes]
        table[name] = [(error.square().mean() / weight.square().mean()).sqrt().item() for error in errors]
    insight.lines(sizes, table, xlabel="block size", ylabel="relative error (RMS)", logx=True)
    return sizes, table


# %%
measured = insight.run(error_by_block, needs="Exercises 1 to 3")

# %%
if measured:
    sizes, errors = measured
    for size, *row in zip(sizes, *errors.values(), strict=True):
        parts = (f"{n} {e:.3f}" for n, e in zip(errors, row, strict=True))
        print(f"blocks of {size:4}, {4 + 32 / size:5.2f} bits:", ", ".join(parts))


# %% [markdown]
# **What it means in production.** Small blocks are the cheapest insurance against outliers there is: half a bit at 64. The other
# remedy is to leave layers with outliers alone: libraries skip the output head, and so will you.

# %% [markdown]
# ## Part 2: The scales, too
#
# ### Exercise 4: double quantisation
#
# Scales are all positive and much alike, so their mean is taken off first; what is left is small and has both signs.

# %% nbgrader={"grade": false, "grade_id": "qlora-given-scales", "locked": true, "schema_version": 3, "solution": false, "task": false}
@dataclass(frozen=True)
class Scales:
    """Scales in 8 bits. `codes`: int8 (n,); `factors`: float32, one for each group; `mean`: float32, no dimensions."""

    codes: Tensor
    factors: Tensor
    mean: Tensor
    group: int

    @property
    def nbytes(self) -> int:
        return self.codes.nbytes + self.factors.nbytes + self.mean.nbytes


# %% nbgrader={"grade": false, "grade_id": "qlora-scales", "locked": false, "schema_version": 3, "solution": true, "task": false}
def quantize_scales(absmax: Tensor, group: int = 256) -> Scales:
    """Store the scales of blocks in 8 bits.

    Args:
        absmax: float32 (n,), n at least 1; it is left alone.
        group: scales to a group, at least 1. The last group may be shorter.

    Returns:
        `mean` of all n scales; `factors`, for each group the largest |absmax - mean| in it, divided by 127; `codes`, the
        whole number nearest to (absmax - mean) / factor, from -127 to 127, and 0 where the factor is 0.

    Raises:
        ValueError: `group` is below 1.

    TODO: Centre, group, scale, round. Then write the way back below.

    APPROACH:
        1. Take the mean over all scales, because one number for a whole matrix costs nothing.
        2. Pad the centred scales with zeros to full groups, because a zero changes no maximum.
        3. Round before you cast, because a cast cuts off towards 0.

    EXAMPLE:
        >>> stored = quantize_scales(torch.tensor([1.0, 2.0, 3.0]), group=2)
        >>> stored.codes.tolist(), stored.mean.item(), restore_scales(stored).tolist()
        ([-127, 0, 127], 2.0, [1.0, 2.0, 3.0])

    HINTS:
        1. `torch.nn.functional.pad(x, (0, k))` appends k zeros.
        2. `-n % group` is what is missing to the next multiple.
        3. Divide by 1 where a factor is 0.
    """
    ### BEGIN SOLUTION
    if group < 1:
        raise ValueError(f"group must be at least 1, not {group}")
    mean = absmax.mean()
    groups = nn.functional.pad(absmax - mean, (0, -len(absmax) % group)).view(-1, group)
    factors = groups.abs().amax(dim=1) / 127
    whole = (groups / torch.where(factors > 0, factors, torch.ones_like(factors))[:, None]).round()
    return Scales(whole.to(torch.int8).view(-1)[: len(absmax)], factors, mean, group)
    ### END SOLUTION


def restore_scales(stored: Scales) -> Tensor:
    """Read the scales: float32 (n,), code times factor plus mean. `stored` is left alone."""
    ### BEGIN SOLUTION
    factors = stored.factors.repeat_interleave(stored.group)[: len(stored.codes)]
    return stored.codes * factors + stored.mean
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-qlora-scales", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: mean, factors and codes by the definition, over sizes and groups; the way back from other codes; its error bound.
# Catches: no mean, one factor for all, cut instead of rounded, a mean over padding, factors of 128 or of 255 steps.
# A pass prints nothing.
def test_unit_qlora_scales():
    def check(seed, count, group, what):
        absmax = 2 + draw(seed, count).abs()
        with checking.unchanged(absmax=absmax):
            got = quantize_scales(absmax, group)
        # A mean of n values in [2, 7] is good to n * 2**-24 * 7 < 3e-4 at worst for 600, in practice to 1e-6.
        checking.close(got.mean, absmax.double().mean().float(), rtol=1e-5, atol=0, what=f"mean of {what}")
        centred = absmax - got.mean
        want = torch.stack([part.abs().max() / 127 for part in centred.split(group)])
        # The mean may be rounded before it is taken off, or after: 2**-23 / 127 = 1e-9, much of a group of one near the mean.
        checking.close(got.factors, want, rtol=1e-6, atol=4e-9, what=f"factors of {what}", hint="one for each group; 127 steps")
        exact = centred.double() / want.double().repeat_interleave(group)[:count]
        checking.equal((got.codes.dtype, tuple(got.codes.shape)), (torch.int8, (count,)), what=f"codes of {what}")
        # The nearest whole number is within a half; a rounding of the quotient adds 127 * 2**-22.
        checking.close(got.codes.double(), exact, rtol=0, atol=0.5 + 1e-4, what=f"codes of {what}", hint="round, then cast")
        back = restore_scales(got)
        bound = want.repeat_interleave(group)[:count] * 0.501 + 1e-6
        assert bool(((back - absmax).abs() <= bound).all()), f"{what}: read back, a scale is off by more than half a step"

    check(0, 6, 4, "six scales in groups of 4")
    checking.close(restore_scales(Scales(torch.tensor([-3, 5, 7], dtype=torch.int8), torch.tensor([0.5, 2.0]), torch.tensor(1.0), 2)),
                   torch.tensor([-0.5, 3.5, 15.0]), rtol=1e-6, atol=0, what="restore_scales of three codes")
    ### BEGIN HIDDEN TESTS
    # check: other sizes and groups
    # hint: a last group that is shorter; a group longer than all; groups of one.
    seed = checking.secret_seed()
    for k, (count, group) in enumerate(((600, 256), (5, 8), (7, 1), (64, 16))):
        check(seed + k, count, group, f"{count} scales in groups of {group}")
    # check: equal scales, and a group of nothing
    # hint: with equal scales every factor is 0, and the way back is exact.
    checking.equal(restore_scales(quantize_scales(torch.full((5,), 0.5))), torch.full((5,), 0.5), what="equal scales, read back")
    checking.raises(ValueError, quantize_scales, torch.ones(3), 0, what="a group of 0")
    ### END HIDDEN TESTS


test_unit_qlora_scales()


# %% [markdown]
# ### What just happened?
#
# What a weight costs now, and what it cost in accuracy:

# %%
def cost_of_scales():
    """Bits a weight and relative error, with scales in float32 and in 8 bits."""
    book, weight = normal_codebook(), draw(0, 1024, 1024, scale=0.02)
    stored = quantize(weight, book)
    small = quantize_scales(stored.absmax)
    again = Quantized(stored.codes, restore_scales(small), stored.shape, stored.block)
    for name, kept, size in (("float32", stored, stored.absmax.nbytes), ("8 bits", again, small.nbytes)):
        error = (dequantize(kept, book) - weight).norm() / weight.norm()
        print(f"scales in {name:7}: {8 * (stored.codes.nbytes + size) / weight.numel():.3f} bits a weight, error {error:.4f}")


# %%
insight.run(cost_of_scales, needs="Exercises 1 to 4")


# %% [markdown]
# ## Part 3: Training through it
#
# ### Exercise 5: use it and drop it
#
# `x @ W.T` keeps W for the backward pass. Kept for every layer, the full-size weights would all be in memory at once, and nothing
# would be won. So compute with a weight that is made on demand, and make it again on the way back.

# %% nbgrader={"grade": false, "grade_id": "qlora-recompute", "locked": false, "schema_version": 3, "solution": true, "task": false}
class OnDemandLinear(torch.autograd.Function):
    """y = x Wᵀ with a frozen W that is made when it is needed and never kept.

    `OnDemandLinear.apply(x, make_weight)` takes x (..., in), floating, and a function without arguments that returns W
    (out, in) in the dtype of x; it gives y (..., out).

    TODO: Write forward and backward.

    APPROACH:
        1. Keep `make_weight` itself on ctx in forward, because functions are small.
        2. Save no tensor at all, because a frozen W has no gradient, and only that one would need x.
        3. Return one gradient for each argument of apply, None for the function, because autograd counts them.

    EXAMPLE:
        >>> x = torch.ones(1, 2, requires_grad=True)
        >>> y = OnDemandLinear.apply(x, lambda: torch.tensor([[1.0, 2.0]]))
        >>> y.backward()
        >>> y.item(), x.grad.tolist()
        (3.0, [[1.0, 2.0]])

    HINTS:
        1. The gradient of x is `g @ W`: no transpose there.
        2. `ctx.anything = value` keeps what is not a tensor.
        3. `torch.nn.functional.linear` takes any number of dimensions in front, and so does @.
    """

    @staticmethod
    def forward(ctx, x: Tensor, make_weight: Callable[[], Tensor]) -> Tensor:
        ### BEGIN SOLUTION
        ctx.make_weight = make_weight
        return linear(x, make_weight())
        ### END SOLUTION

    @staticmethod
    def backward(ctx, g: Tensor) -> tuple[Tensor | None, None]:
        ### BEGIN SOLUTION
        return g @ ctx.make_weight(), None
        ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "qlora-given-kept", "locked": true, "schema_version": 3, "solution": false, "task": false}
def kept_elements(compute: Callable[[], Tensor]) -> tuple[Tensor, list[int]]:
    """The result of a computation, and the number of elements of each tensor that it keeps for its backward pass."""
    sizes: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        result = compute()
    return result, sizes


# %% nbgrader={"grade": false, "grade_id": "qlora-given-tally", "locked": true, "schema_version": 3, "solution": false, "task": false}
class Tally:
    """Makes a weight, and counts how often; the weight is spoiled when the next one is made."""

    def __init__(self, weight: Tensor) -> None:
        self.weight, self.count, self._last = weight, 0, None

    def __call__(self) -> Tensor:
        if self._last is not None:
            self._last.fill_(math.nan)
        self.count, self._last = self.count + 1, self.weight.clone()
        return self._last


# %% nbgrader={"grade": true, "grade_id": "test-qlora-recompute", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: values and gradients in float64, over dimensions; nothing kept for the backward pass; one weight made each way.
# Catches: a weight that is saved, the transpose in backward, a gradient for the weight, graphs through make_weight.
# A pass prints nothing.
def test_unit_qlora_recompute():
    def check(seed, shape, out, what):
        x = draw(seed, *shape).double().requires_grad_()
        make = Tally(draw(seed + 1, out, shape[-1]).double())
        y, kept = kept_elements(lambda: OnDemandLinear.apply(x, make))
        checking.equal((make.count, kept), (1, []), what=f"weights made and elements kept in forward, {what}")
        # Sums of at most 9 products in float64.
        checking.close(y.detach(), x.detach() @ make.weight.T, rtol=1e-12, atol=1e-12, what=f"values, {what}")
        g = draw(seed + 2, *y.shape).double()
        y.backward(g)
        checking.equal(make.count, 2, what=f"weights made after backward, {what}")
        checking.close(x.grad, g @ make.weight, rtol=1e-12, atol=1e-12, what=f"gradient, {what}", hint="g @ W")

    check(0, (2, 3), 4, "x of shape (2, 3)")
    ### BEGIN HIDDEN TESTS
    # check: other dimensions
    # hint: x may have one dimension or three; only the last one is summed over.
    seed = checking.secret_seed()
    for k, (shape, out) in enumerate((((5,), 2), ((2, 3, 9), 4), ((1, 1), 1), ((4, 2, 2, 3), 7))):
        check(seed + 7 * k, shape, out, f"x of shape {shape}")
    # check: no gradient asked for
    # hint: without requires_grad there is no backward pass, and one weight is made.
    make = Tally(draw(seed, 2, 3))
    got = OnDemandLinear.apply(draw(seed + 1, 4, 3), make)
    checking.equal((got.requires_grad, make.count), (False, 1), what="requires_grad and weights made without a gradient")
    ### END HIDDEN TESTS


test_unit_qlora_recompute()


# %% [markdown]
# ### Exercise 6: the layer
#
# Four-bit base, float32 adapter: everything so far in one module.

# %% nbgrader={"grade": false, "grade_id": "qlora-layer", "locked": false, "schema_version": 3, "solution": true, "task": false}
class QLoRALinear(nn.Module):
    """A linear layer stored in four bits, with an adapter beside it.

    Args:
        base: the layer to store; it is read, not kept. Weight (out, in), bias (out,) or None.
        r: rank, at least 1.
        alpha: the adapter's output is scaled by alpha / r.
        codebook, block, group: of `quantize` and `quantize_scales`.

    Attributes that tests read:
        A (r, in), B (out, r): the only parameters, float32. A is uniform on [-1/sqrt(in), 1/sqrt(in)], B is 0.
        stored, scales: a `Quantized` whose `absmax` is empty (0 elements), and the `Scales` that hold it.
        bias: a float32 copy that is not trained, or None. But for the code book no other tensor is kept.

    TODO: Store the base, make the adapter, and write `weight` and `forward`.

    APPROACH:
        1. Quantize the weight, then its scales, and keep no float32 scale, because that is what group is for.
        2. Make the weight from what is stored in a method of its own, because OnDemandLinear wants such a function.
        3. Run the adapter from the right, A first, because B A is as large as W.

    EXAMPLE:
        >>> layer = QLoRALinear(nn.Linear(64, 32), 4, 8.0, normal_codebook())
        >>> layer(torch.zeros(2, 64)).shape, layer.weight().shape, sum(p.numel() for p in layer.parameters())
        (torch.Size([2, 32]), torch.Size([32, 64]), 384)

    HINTS:
        1. `dataclasses.replace` or a new Quantized changes one field.
        2. A tensor that is an attribute, but no nn.Parameter, is not trained.
        3. `linear(linear(x, A), B)` is x Aᵀ Bᵀ.
    """

    def __init__(self, base: nn.Linear, r: int, alpha: float, codebook: Tensor, block: int = 64, group: int = 256) -> None:
        super().__init__()
        ### BEGIN SOLUTION
        full = quantize(base.weight, codebook, block)
        self.scales = quantize_scales(full.absmax, group)
        self.stored = Quantized(full.codes, full.absmax[:0].clone(), full.shape, block)
        self.bias = None if base.bias is None else base.bias.detach().float().clone()
        self.codebook, self.scaling = codebook, alpha / r
        limit = base.in_features**-0.5
        self.A = nn.Parameter(torch.empty(r, base.in_features).uniform_(-limit, limit))
        self.B = nn.Parameter(torch.zeros(base.out_features, r))
        ### END SOLUTION

    def weight(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The stored weight (out, in), in `dtype`, made anew at each call."""
        ### BEGIN SOLUTION
        stored = self.stored
        full = Quantized(stored.codes, restore_scales(self.scales), stored.shape, stored.block)
        return dequantize(full, self.codebook, dtype)
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        """x (..., in) to (..., out), both float32: stored base, bias, adapter. No full-size weight is kept for backward."""
        ### BEGIN SOLUTION
        y = OnDemandLinear.apply(x, self.weight) + self.scaling * linear(linear(x, self.A), self.B)
        return y if self.bias is None else y + self.bias
        ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "qlora-given-check-layer", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_layer(seed: int, shape: tuple[int, int], r: int, alpha: float, block: int, bias: bool, what: str) -> QLoRALinear:
    """Hold the layer against its description; returns it."""
    book, base = some_book(seed), nn.Linear(*shape, bias=bias)
    base.weight.data.copy_(draw(seed, shape[1], shape[0]))
    with checking.unchanged(base=base):
        layer = QLoRALinear(base, r, alpha, book, block, 4)
    parameters = {name: tuple(p.shape) for name, p in layer.named_parameters() if p.requires_grad}
    checking.equal(parameters, {"A": (r, shape[0]), "B": (shape[1], r)}, what=f"trained parameters, {what}")
    checking.equal(bool(layer.B.detach().any()), False, what=f"whether B has anything but zeros at first, {what}")
    stored = quantize(base.weight, book, block)
    want = Quantized(stored.codes, restore_scales(quantize_scales(stored.absmax, 4)), stored.shape, block)
    # The same functions in the same order.
    checking.close(layer.weight().detach(), dequantize(want, book), rtol=1e-6, atol=1e-7, what=f"weight(), {what}")
    layer.B.data.copy_(draw(seed + 1, shape[1], r))
    x = draw(seed + 2, 3, shape[0])
    full = layer.weight().detach() + alpha / r * layer.B.detach() @ layer.A.detach()
    # Sums of up to 40 float32 products in two orders.
    checking.close(layer(x).detach(), linear(x, full, base.bias).detach(), rtol=1e-4, atol=1e-4, what=f"forward, {what}")
    return layer


# %% nbgrader={"grade": true, "grade_id": "test-qlora-layer", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
# Checks: what is trained, what is stored, values, gradients of the adapter, what is kept for the backward pass.
# Catches: a trained base, float32 scales kept, no bias or a doubled one, alpha without 1 / r, B A multiplied out, a saved weight.
# A pass prints what each of two checks earned.
def test_unit_qlora_layer():
    credit = checking.Credit(5)
    with credit.check("values and parameters", points=3, hint="what are named_parameters(), and what is weight()?"):
        check_layer(0, (8, 6), 2, 4.0, 16, True, "8 to 6")
        ### BEGIN HIDDEN TESTS
        # check: other shapes, ranks and blocks
        # hint: does everything follow from the arguments? A layer without a bias has none.
        seed = checking.secret_seed()
        check_layer(seed, (5, 9), 1, 1.0, 4, False, "5 to 9 without a bias")
        layer = check_layer(seed + 1, (40, 7), 3, 12.0, 64, True, "40 to 7")
        limit = 40**-0.5
        assert layer.A.detach().abs().max() <= limit * 1.000001, "A leaves [-1/sqrt(in), 1/sqrt(in)]"
        assert layer.A.detach().abs().max() > limit / 2, "A is nowhere near 1/sqrt(in)"
        # check: nothing is stored twice
        # hint: after the scales are stored in 8 bits, absmax has no elements left.
        checking.equal((layer.stored.absmax.numel(), layer.scales.codes.dtype), (0, torch.int8), what="absmax kept; dtype of the scales")
        ### END HIDDEN TESTS
    with credit.check("the backward pass", points=2, hint="OnDemandLinear; A before B"):
        layer = check_layer(3, (32, 24), 2, 2.0, 16, True, "32 to 24")
        x = draw(4, 5, 32).requires_grad_()
        y, kept = kept_elements(lambda: layer(x))
        assert max(kept, default=0) < 32 * 24, f"a tensor of {max(kept)} elements is kept, as large as the weight"
        y.square().sum().backward()
        full = layer.weight().detach() + layer.B.detach() @ layer.A.detach()
        g = 2 * y.detach()
        # Sums of up to 160 float32 products of size 100.
        checking.close(x.grad, g @ full, rtol=1e-3, atol=1e-2, what="gradient of x")
        checking.close(layer.B.grad, g.T @ (x.detach() @ layer.A.detach().T), rtol=1e-3, atol=1e-2, what="gradient of B")
    return credit.total()


test_unit_qlora_layer()


# %% [markdown]
# ### Systems insight 2 of 3: what is kept
#
# **Checkpoint**: a layer that trains. **Predict, and write it down**: for a 1024 x 1024 layer and 16 tokens, how many bytes are kept
# between forward and backward with your function, and how many with `linear(x, layer.weight())`? What is the price in time?

# %%
def kept_and_time(width=1024, tokens=16, repeats=5):
    """MB kept for backward, and seconds for forward and backward, your way and the plain one."""
    layer = QLoRALinear(nn.Linear(width, width, bias=False), 4, 4.0, normal_codebook())
    x = draw(0, tokens, width).requires_grad_()
    ways = {"on demand": lambda: layer(x), "kept": lambda: linear(x, layer.weight()) + linear(linear(x, layer.A), layer.B)}
    table = {}
    for name, way in ways.items():
        _, kept = kept_elements(way)
        start = time.perf_counter()
        for _ in range(repeats):
            way().sum().backward()
        table[name] = (4 * sum(kept) / 1e6, (time.perf_counter() - start) / repeats)
    stored = layer.stored.nbytes + layer.scales.nbytes
    print(f"stored: {stored / 1e6:.2f} MB of {4 * width * width / 1e6:.2f} MB")
    return table


# %%
kept = insight.run(kept_and_time, needs="Exercises 1 to 6")

# %%
for name, (megabytes, seconds) in (kept or {}).items():
    print(f"{name:10} keeps {megabytes:6.2f} MB, {1e3 * seconds:6.1f} ms")


# %% [markdown]
# **What it means in production.** The weight is made twice in each step, three times with checkpointing. On a GPU that is a kernel that reads half a byte and
# writes two for each weight: bound by memory, and small beside the product when a batch has thousands of tokens. With one token at a
# time, as in generation, it is most of the time: merge, or use a kernel that never writes the weight out.

# %% [markdown]
# ## Part 4: 70 billion
#
# ### Exercise 7: the budget
#
# Before a run is started, its memory is added up. The shape of a Llama is seven numbers:

# %% nbgrader={"grade": false, "grade_id": "qlora-given-shape", "locked": true, "schema_version": 3, "solution": false, "task": false}
@dataclass(frozen=True)
class LlamaShape:
    """What decides the memory of a Llama; input and output embeddings are two matrices."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    vocab: int


# %% nbgrader={"grade": false, "grade_id": "qlora-given-70b", "locked": true, "schema_version": 3, "solution": false, "task": false}
LLAMA_70B = LlamaShape(layers=80, hidden=8192, intermediate=28672, heads=64, kv_heads=8, vocab=128256)


# %% nbgrader={"grade": false, "grade_id": "qlora-budget", "locked": false, "schema_version": 3, "solution": true, "task": false}
def memory_budget(
    shape: LlamaShape, *, r: int, batch: int, length: int, block: int = 64, group: int = 256
) -> dict[str, float]:
    """Bytes that a QLoRA run needs, by what they are for.

    Adapters of rank r stand beside all seven linear layers of each block (q, k, v, o, gate, up, down). Checkpointing keeps
    the input of each block and computes the block again on the way back.

    Args:
        shape: of the model. A head has hidden / heads columns; k and v have kv_heads of them.
        r, batch, length: rank, texts to a step, tokens to a text.
        block, group: of the quantized layers; each group costs a float32 factor, the one mean a matrix nothing.

    Returns:
        "base": the linear layers at 4 + 8 / block + 32 / (block * group) bits a weight. "rest": embeddings, output head and
        norms (two in each block, one at the end) at 2 bytes. "adapters" and "gradients": float32. "optimizer": AdamW on the
        adapters, 8 bytes a value. "checkpoints": the inputs of the blocks, 2 bytes a value. "block": 2 bytes for each of
        8 * hidden + 4 * intermediate values a token, while one block is computed again. "logits": float32, and as much for
        their gradient. "weight": the largest linear layer at 2 bytes, while it is used. "total": all of it.

    TODO: Count the weights of a block, then the bytes of each line.

    APPROACH:
        1. List (in, out) of the seven layers, because weights, adapters and the largest all follow from it.
        2. Count an adapter as r * (in + out), because A and B are thin.
        3. Add the total up from the lines, because a budget whose lines do not add up convinces nobody.

    EXAMPLE:
        >>> small = LlamaShape(layers=1, hidden=4, intermediate=8, heads=2, kv_heads=1, vocab=10)
        >>> budget = memory_budget(small, r=1, batch=1, length=2)
        >>> budget["rest"], budget["adapters"], budget["logits"]
        (184.0, 256.0, 160.0)

    HINTS:
        1. k and v are hidden x (kv_heads * hidden / heads).
        2. A bit is an eighth of a byte.
        3. `sum(lines.values())` before "total" is put in.
    """
    ### BEGIN SOLUTION
    hidden, wide = shape.hidden, shape.intermediate
    narrow = shape.kv_heads * hidden // shape.heads
    linears = [(hidden, hidden), (hidden, narrow), (hidden, narrow), (hidden, hidden)]
    linears += [(hidden, wide), (hidden, wide), (wide, hidden)]
    weights = shape.layers * sum(a * b for a, b in linears)
    adapters = shape.layers * sum(r * (a + b) for a, b in linears)
    tokens = batch * length
    lines = {
        "base": weights * (4 + 8 / block + 32 / (block * group)) / 8,
        "rest": 2.0 * (2 * shape.vocab * hidden + (2 * shape.layers + 1) * hidden),
        "adapters": 4.0 * adapters,
        "gradients": 4.0 * adapters,
        "optimizer": 8.0 * adapters,
        "checkpoints": 2.0 * shape.layers * tokens * hidden,
        "block": 2.0 * tokens * (8 * hidden + 4 * wide),
        "logits": 8.0 * tokens * shape.vocab,
        "weight": 2.0 * max(a * b for a, b in linears),
    }
    return lines | {"total": sum(lines.values())}
    ### END SOLUTION


# %% [markdown]
# The check counts parameters on a real model of transformers', built without memory on the `meta` device, and adapters with PEFT.

# %% nbgrader={"grade": false, "grade_id": "qlora-given-count", "locked": true, "schema_version": 3, "solution": false, "task": false}
def count_parameters(shape: LlamaShape, r: int) -> tuple[int, int, int, int]:
    """Weights of the blocks' linear layers, all other weights, adapter weights by PEFT, the largest linear layer."""
    from peft import LoraConfig, get_peft_model

    with torch.device("meta"):
        model = tiny.llama(0, num_hidden_layers=shape.layers, hidden_size=shape.hidden, intermediate_size=shape.intermediate,
                           num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads, vocab_size=shape.vocab,
                           head_dim=shape.hidden // shape.heads, bos_token_id=0, eos_token_id=0, pad_token_id=0)
        sizes = [m.weight.numel() for name, m in model.named_modules() if isinstance(m, nn.Linear) and name != "lm_head"]
        rest = sum(p.numel() for p in model.parameters()) - sum(sizes)
        adapted = get_peft_model(model, LoraConfig(r=r, target_modules="all-linear", task_type="CAUSAL_LM"))
        trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    return sum(sizes), rest, trained, max(sizes)


# %% nbgrader={"grade": false, "grade_id": "qlora-given-check-budget", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_budget(shape: LlamaShape, r: int, batch: int, length: int, block: int, group: int, what: str) -> None:
    """Hold a budget against counted parameters."""
    got = memory_budget(shape, r=r, batch=batch, length=length, block=block, group=group)
    weights, rest, trained, largest = count_parameters(shape, r)
    tokens = batch * length
    want = {
        "base": weights * 0.5 + weights / block + 4 * weights / (block * group),
        "rest": 2.0 * rest, "adapters": 4.0 * trained, "gradients": 4.0 * trained, "optimizer": 8.0 * trained,
        "checkpoints": 2.0 * shape.layers * tokens * shape.hidden,
        "block": tokens * (16.0 * shape.hidden + 8.0 * shape.intermediate),
        "logits": 8.0 * tokens * shape.vocab, "weight": 2.0 * largest,
    }  # fmt: skip
    checking.equal(sorted(got), sorted([*want, "total"]), what=f"lines of the budget of {what}")
    for name, value in want.items():
        # Sums and products of whole numbers below 2**53; the bits are rounded once or twice.
        checking.close(float(got[name]), value, rtol=1e-9, atol=0, what=f"{name!r} of {what}", hint=f"what is {name!r} for?")
    checking.close(float(got["total"]), sum(want.values()), rtol=1e-9, atol=0, what=f"total of {what}")


# %% nbgrader={"grade": true, "grade_id": "test-qlora-budget", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: each line against a model of transformers' and adapters of PEFT's; the curriculum's range for 70B.
# Catches: k and v as wide as q, one embedding, norms forgotten, bits taken for bytes, optimizer state for the base.
# A pass prints nothing.
def test_unit_qlora_budget():
    check_budget(LlamaShape(2, 16, 40, 4, 2, 50), 2, 3, 5, 64, 256, "a small model")
    total = memory_budget(LLAMA_70B, r=16, batch=1, length=2048)["total"] / 1e9
    assert 45 < total < 55, f"a 70B run at rank 16 and 2,048 tokens takes {total:.1f} GB by your budget, not 45 to 55"
    ### BEGIN HIDDEN TESTS
    # check: other shapes
    # hint: change one field of the shape at a time and see which lines move.
    chance = torch.randint(1, 6, (6,), generator=torch.Generator().manual_seed(checking.secret_seed())).tolist()
    kv, groups, layers, r, batch, length = chance
    check_budget(LlamaShape(layers, 8 * kv * groups, 24, kv * groups, kv, 40 + r), r, batch, length, 64, 256, "another model")
    check_budget(LlamaShape(1, 64, 16, 2, 2, 30), 3, 2, 4, 32, 128, "a model that is narrow inside, in other blocks")
    ### END HIDDEN TESTS


test_unit_qlora_budget()


# %% [markdown]
# ### Systems insight 3 of 3: what fills 128 GB?
#
# **Checkpoint**: a budget. **Predict, and write it down**: at which length does what depends on the tokens outweigh the weights? How
# long may texts be on a machine with 128 GB, of which 110 are free?

# %%
def budget_by_length(lengths=(512, 2048, 8192, 16384, 32768)):
    """GB by what they are for, and by length, for the 70B model at rank 16."""
    groups = {"base and rest": ("base", "rest", "weight"), "adapters, gradients, optimizer": ("adapters", "gradients", "optimizer"),
              "activations": ("checkpoints", "block", "logits")}
    table = {name: [] for name in (*groups, "total")}
    for length in lengths:
        lines = memory_budget(LLAMA_70B, r=16, batch=1, length=length)
        for name, parts in groups.items():
            table[name].append(sum(lines[part] for part in parts) / 1e9)
        table["total"].append(lines["total"] / 1e9)
    insight.lines(lengths, table, xlabel="tokens in a text", ylabel="GB", logx=True, title="QLoRA, 70B, rank 16")
    return lengths, table


# %%
budgets = insight.run(budget_by_length, needs="Exercise 7 (memory_budget)")

# %%
if budgets:
    for length, *row in zip(budgets[0], *budgets[1].values(), strict=True):
        print(f"{length:6} tokens:", ", ".join(f"{name} {gb:.1f} GB" for name, gb in zip(budgets[1], row, strict=True)))


# %% [markdown]
# **What it means in production.** The four-bit base is a floor of about 40 GB. Above some 15,000 tokens the activations outweigh it,
# the logits of a vocabulary of 128,000 among them: libraries compute the loss in pieces for that reason. A smaller rank saves
# almost nothing.

# %% [markdown]
# ## Put it together
#
# A whole model: every linear layer of every block becomes yours, the output head stays. It must say what a model with the same
# rounded weights says, and train its adapters alone.

# %% nbgrader={"grade": false, "grade_id": "qlora-given-convert", "locked": true, "schema_version": 3, "solution": false, "task": false}
def convert(model: nn.Module, r: int = 8, alpha: float = 16.0, codebook: Tensor | None = None) -> nn.Module:
    """A copy of a model whose blocks' linear layers are QLoRALinear; nothing but adapters is trained."""
    model = copy.deepcopy(model).requires_grad_(False)
    book = normal_codebook() if codebook is None else codebook
    torch.manual_seed(0)
    for block in model.model.layers:
        for part in (block.self_attn, block.mlp):
            for name, layer in list(part.named_children()):
                if isinstance(layer, nn.Linear):
                    setattr(part, name, QLoRALinear(layer, r, alpha, book))
    return model


def rounded(model: nn.Module) -> nn.Module:
    """A copy of a model whose blocks' linear layers hold rounded weights, in float32, by another route than yours."""
    model, book = copy.deepcopy(model), torch.tensor(NF4, dtype=torch.float64)
    for layer in model.model.layers.modules():
        if isinstance(layer, nn.Linear):
            blocks = layer.weight.data.view(-1, 64)
            scale = blocks.abs().amax(dim=1, keepdim=True)
            spread = (scale - scale.mean()).abs().amax() / 127  # fewer than 256 blocks: one group
            small = ((scale - scale.mean()) / spread).round() * spread + scale.mean()
            codes = (blocks[..., None] / scale[..., None] - book).abs().argmin(dim=-1)
            layer.weight.data = (book[codes] * small).float().view_as(layer.weight)
    return model


# %% nbgrader={"grade": true, "grade_id": "test-integration-qlora", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Checks: a converted Llama against one with rounded weights; which parameters train; that a step changes nothing else.
# Catches: pieces that pass alone and disagree together, a base that moves, adapters that get no gradient.
# A pass prints nothing.
def test_integration_qlora():
    model = tiny.llama(5)
    mine, want = convert(model), rounded(model)
    ids = torch.randint(256, (2, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        got, right = mine(input_ids=ids).logits, want(input_ids=ids).logits
    # A few values at a midpoint may go the other way; everything else is float32 rounding. Logits here are below 1.
    checking.close(got, right, rtol=0, atol=2e-3, what="logits of the converted model", hint="compare weight() layer by layer")
    trained = {name.rsplit(".", 1)[1] for name, p in mine.named_parameters() if p.requires_grad}
    checking.equal(trained, {"A", "B"}, what="names of what is trained")
    optimizer = torch.optim.AdamW([p for p in mine.parameters() if p.requires_grad], lr=1e-2)
    before = [m.weight().clone() for m in mine.modules() if isinstance(m, QLoRALinear)]
    losses = []
    for _ in range(4):
        loss = mine(input_ids=ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0], f"four steps on one batch do not lower the loss: {losses}"
    after = [m.weight().clone() for m in mine.modules() if isinstance(m, QLoRALinear)]
    checking.equal(all(torch.equal(a, b) for a, b in zip(before, after, strict=True)), True, what="whether the base stayed")
    checking.equal(len(before), 14, what="number of converted layers")


test_integration_qlora()


# %% [markdown]
# ## Use it: what do four bits cost?
#
# A tiny Llama that has learnt English word order is taught another one, four times: with its weights in float32 and LoRA beside them,
# with NF4, with NF4 and one scale for a whole matrix, and with a code book of four values. The losses are on text that none has seen.

# %%
def base():
    """A tiny Llama that has read English word order."""
    model = tiny.llama(0)
    tiny.pretrain(model, tiny.windows(tiny.sentences(3000, seed=1), count=100, batch=16, length=64, seed=2))
    return model


base_model = base()


# %%
def held_out(model, order="osv"):
    """Loss on unseen sentences, in nats a byte."""
    batches = tiny.windows(tiny.sentences(400, seed=9, order=order), count=4, batch=32, length=64, seed=3)
    with torch.no_grad():
        return sum(model(input_ids=ids, labels=ids).loss.item() for ids in batches) / len(batches)


# %%
def train_adapters(model, steps=30, learning_rate=5e-3):
    """Train what can be trained on the other word order; returns the model."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=learning_rate, weight_decay=0.0)
    for ids in tiny.windows(tiny.sentences(2000, seed=4, order="osv"), count=steps, batch=16, length=64, seed=5):
        loss = model(input_ids=ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


# %%
class Plain(nn.Module):
    """A frozen float32 layer with the same adapter: LoRA as in 3.1.1."""

    def __init__(self, layer: nn.Linear, quantized: QLoRALinear) -> None:
        super().__init__()
        self.base, self.A, self.B, self.scaling = layer, quantized.A, quantized.B, 2.0

    def forward(self, x):
        return self.base(x) + self.scaling * linear(linear(x, self.A), self.B)


# %%
def plain_lora(model):
    """LoRA in float32, from the same first adapters as the converted model's."""
    twin, model = convert(model), copy.deepcopy(model).requires_grad_(False)
    for block, other in zip(model.model.layers, twin.model.layers, strict=True):
        for part, quantized in ((block.self_attn, other.self_attn), (block.mlp, other.mlp)):
            for name, layer in list(part.named_children()):
                if isinstance(layer, nn.Linear):
                    setattr(part, name, Plain(layer, getattr(quantized, name)))
    return model


# %%
def one_scale(model):
    """NF4 with one block for each matrix: the largest weight of all sets the resolution of all."""
    model, book = copy.deepcopy(model).requires_grad_(False), normal_codebook()
    for layer in model.model.layers.modules():
        if isinstance(layer, nn.Linear):
            layer.weight.copy_(dequantize(quantize(layer.weight, book, layer.weight.numel()), book))
    return plain_lora(model)


# %%
def comparison():
    """Held-out loss before and after training, for each way to keep the base."""
    two_bits = normal_codebook(2).repeat_interleave(4)  # four values in the place of 16
    makers = {"LoRA, float32": lambda: plain_lora(base_model), "QLoRA, NF4": lambda: convert(base_model),
              "NF4, one scale": lambda: one_scale(base_model), "QLoRA, 2 bits": lambda: convert(base_model, codebook=two_bits)}
    rows = {}
    for name, make in makers.items():
        model = make()
        rows[name] = (held_out(model, "svo"), held_out(model), held_out(train_adapters(model)))
    return rows


# %%
rows = insight.run(comparison, needs="Exercises 1 to 6")

# %%
for name, (english, before, after) in (rows or {}).items():
    print(f"{name:18} English {english:.3f}; other order before {before:.3f}, after training {after:.3f} nats a byte")

# %% [markdown]
# The first column is what rounding costs before anything is trained; the last is what is left of it after the adapters have had a say.
# Adapters that train see the *rounded* layer, so they make up for part of its error; adapters that were trained
# beside 16 bits have never met it.

# %% [markdown]
# ## On your Spark
#
# Full size: QLoRA on Llama 3.1 70B with bitsandbytes, PEFT and trl, the configuration of the curriculum, memory predicted by *your*
# budget. The model is a download of 141 GB that is quantised while it loads; loading takes far longer than the first step.
#
# ```bash
# sync; echo 3 | sudo tee /proc/sys/vm/drop_caches   # unified memory: the file cache would take from the GPU's share
# docker run --gpus all -it --rm --ipc=host -p 8888:8888 -v $PWD:/workspace \
#     -v $HOME/.cache/huggingface:/hf -e HF_HOME=/hf nvcr.io/nvidia/pytorch:25.11-py3
# ```
#
# In the container `pip install "trl>=1.16" "peft>=0.21" bitsandbytes` and the course's package. The model needs an account at Hugging
# Face. Then set `RUN_ON_SPARK`. This section has **not yet been measured on a GPU** by the authors: your record is the first.

# %%
RUN_ON_SPARK = False


# %%
def run_on_spark(path="meta-llama/Llama-3.1-70B-Instruct", steps=20, length=2048):
    """Train adapters through a 4-bit base; returns the record."""
    from datasets import load_dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
    from trl import SFTConfig, SFTTrainer

    four_bits = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16,
                                   bnb_4bit_use_double_quant=True)
    model = AutoModelForCausalLM.from_pretrained(path, quantization_config=four_bits, device_map="cuda")
    loaded = torch.cuda.memory_allocated() / 1e9
    data = load_dataset("trl-lib/Capybara", split=f"train[:{steps * 4}]")
    config = SFTConfig(output_dir="qlora-70b", max_steps=steps, per_device_train_batch_size=1, max_length=length, packing=True,
                       learning_rate=1e-4, gradient_checkpointing=True, bf16=True, logging_steps=1, report_to=[])
    adapters = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = SFTTrainer(model=model, args=config, train_dataset=data, peft_config=adapters,
                         processing_class=AutoTokenizer.from_pretrained(path))
    torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    trainer.train()
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    return {"gpu": torch.cuda.get_device_name(), "loaded_gb": loaded, "peak_gb": torch.cuda.max_memory_allocated() / 1e9,
            "seconds_per_step": (time.perf_counter() - start) / steps, "first_loss": losses[0], "last_loss": losses[-1]}


# %% [markdown]
# Record what you measured. `run_on_spark()` fills it in for you; a record by hand is as good. Without such a machine
# leave it as it is: nothing is lost.

# %%
spark_record = {"gpu": None, "loaded_gb": None, "peak_gb": None, "seconds_per_step": None, "first_loss": None, "last_loss": None}

# %%
if RUN_ON_SPARK:
    spark_record = run_on_spark()


# %% nbgrader={"grade": false, "grade_id": "qlora-given-spark-record", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_spark_record(record: dict) -> str:
    """Form and plausibility of a record. Nothing here earns points; a person reads it."""
    wanted = {"loaded_gb": (35, 60), "peak_gb": (40, 120), "seconds_per_step": (0.5, 3600), "first_loss": (0.2, 10),
              "last_loss": (0.05, 10)}
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
# **1. Two halves of equal size.** 8 positive and 8 negative values leave no code for 0.
#
# ```python
# q = ndtri(linspace(1 - o, o, 16))                             # wrong: no 0; padding and zeros become -0.04
# q = cat([ndtri(p_plus), zeros(1), -ndtri(p_minus)])           # right
# ```
#
# **2. The low half first.**
#
# ```python
# first, second = codes & 15, codes >> 4                        # wrong: neighbours change places
# first, second = codes >> 4, codes & 15                        # right
# ```

# %% [markdown]
# **3. One scale for all.**
#
# ```python
# absmax = weight.abs().max()                                   # wrong: one outlier takes the resolution of all
# absmax = blocks.abs().amax(dim=1)                             # right
# ```
#
# **4. A cast for a rounding.**
#
# ```python
# codes = ((absmax - mean) / factor).to(torch.int8)             # wrong: cuts off towards 0, twice the error
# codes = ((absmax - mean) / factor).round().to(torch.int8)     # right
# ```

# %% [markdown]
# **5. A weight that stays.**
#
# ```python
# y = linear(x, self.weight())                                  # wrong: autograd keeps the full weight until backward
# y = OnDemandLinear.apply(x, self.weight)                      # right: the function, not its result
# ```
#
# **6. Optimizer state for frozen weights.**
#
# ```python
# optimizer = 8 * (weights + adapters)                          # wrong: 547 GB that nobody needs
# optimizer = 8 * adapters                                      # right
# ```

# %% [markdown]
# ## Reflect
#
# Three questions on *your* code and *your* measurements. Five to ten lines each; numbers without a source in this
# notebook earn nothing.

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-qlora-format", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Reflection 1: the format (3 points).** From `used`, `errors` and `rows`: what does NF4 buy over even steps, and where does it lose?
# Explain with block sizes and outliers why the block is 64 and not 1024, and what each halving of it costs in bits.
#
# ### BEGIN SOLUTION
# (With the student's numbers.) `used`: NF4 uses its codes far more evenly, while even steps spend many codes on rare large values; `errors`
# at 64: about 0.09 against about 0.12. With large blocks the maximum of a block lies further out, so all other values are scaled into fewer
# codes: the error grows, for NF4 as for even steps, and with outliers most. A halving of the block doubles the cost of scales: 32/B bits
# in float32, 8/B with double quantisation: 0.125 at 64, 0.25 at 32. NF4 loses where values are not normal: blocks with outliers, and
# uniform values, where even steps are best. `rows`: four bits cost next to nothing here, even
# with one scale; two bits cost about 0.2 nats before training, and the adapters make up for most of that.
#
# ### BEGIN MARK SCHEME
# - 1 point: compares the formats with numbers from `errors` or `used` and says why.
# - 1 point: outliers and block size, with the mechanism (the scale is the maximum).
# - 1 point: bits for a halving, computed.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-qlora-time", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Reflection 2: time and memory (3 points).** From `kept`: what does recomputation save and cost in your run? Count the bytes that move and
# the operations for one 8192 x 28672 layer with 2,048 tokens and with 1 token, and say for which of both dequantisation matters.
#
# ### BEGIN SOLUTION
# (With the student's numbers.) Kept: the 4.2 MB of the weight against next to nothing; time rises since the weight is made a second time.
# For 8192 x 28672 = 235M weights: dequantisation reads 0.12 GB and writes 0.47 GB. The product does 2 x 235M x tokens operations: with 2,048
# tokens 0.96 TFLOP, tens of milliseconds at the tens of TFLOP/s of such a machine, against about 2 ms for 0.6 GB at 273 GB/s: a few
# per cent. With one token it does 0.47 GFLOP, well below a millisecond of arithmetic: moving the weight is everything, and writing it out in
# 16 bits makes it worse by a factor of about 9 against a kernel that reads the four bits directly (0.12 + 0.47 + 0.47 against 0.12 GB).
#
# ### BEGIN MARK SCHEME
# - 1 point: own numbers for what is saved and what it costs.
# - 1 point: operations and bytes for both cases, right within a factor of two.
# - 1 point: the conclusion for training and for generation.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-qlora-plan", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Reflection 3: a plan (3 points).** Your team wants to fine-tune a 70B model on texts of 32,768 tokens, on 128 GB. From `budgets`: does it
# fit? Name three changes, each with the line of the budget that it lowers and by how much, in the order in which you would make them.
#
# ### BEGIN SOLUTION
# From `budgets` at 32,768: 40.0 GB of weights, 3.3 GB for the adapters and 88 GB of activations: about 132 GB in all, and 110 GB are
# free: it does not fit. Changes: (1) the loss in pieces: logits 33.6 GB to under 1 GB, no change of results; that alone suffices, barely;
# (2) checkpoints moved off or only every second block kept: 43 GB to half, more time; (3) 8-bit or paged optimizer: optimizer 1.7 GB to 0.4;
# or a rank of 8: adapters, gradients, optimizer to half, 1.7 GB: little. Shorter texts, if the data allows, lower all three activation lines.
# Order: by bytes saved for what they cost in time and quality.
#
# ### BEGIN MARK SCHEME
# - 1 point: the total from `budgets`, compared with what is free.
# - 1 point: three changes, each with its line and its size.
# - 1 point: an order with reasons; sees that the rank is not where the memory is.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# What you built, in the numbers of your own run:

# %%
def summary():
    lines = memory_budget(LLAMA_70B, r=16, batch=1, length=2048)
    print(f"a 70B run: {lines['total'] / 1e9:.1f} GB, of which {lines['base'] / 1e9:.1f} GB are the four-bit base")
    print(f"error of NF4 in blocks of 64: {errors['NF4'][1]:.3f} of the weights' size")
    print(f"kept for backward: {kept['on demand'][0]:.2f} MB instead of {kept['kept'][0]:.2f} MB")
    for name, (_, before, after) in rows.items():
        print(f"{name:18} {before:.3f} -> {after:.3f} nats a byte")


# %%
insight.run(summary, needs="Exercises 1 to 7")

# %% [markdown]
# ## Challenge (optional)
#
# 1. **Other books**: the best 16 codes for *these* weights by k-means (Lloyd's algorithm). How much better than NF4?
# 2. **FP4**: the code book of a float with 1 sign, 2 exponent and 1 mantissa bits, as Blackwell computes with. Where does it stand?
# 3. **LoftQ**: start A and B from the rounding error's SVD instead of from zero. What changes at step 0?
#
# ## Further reading
#
# - T. Dettmers et al., *QLoRA: Efficient Finetuning of Quantized LLMs*, 2023, arXiv:2305.14314: sections 3 and 4, appendix E.
# - T. Dettmers et al., *8-bit Optimizers via Block-wise Quantization*, 2022, arXiv:2110.02861.
# - D. Yoshida, *NF4 Isn't Information Theoretically Optimal (and that's Good)*, 2023, arXiv:2306.06965.
# - Y. Li et al., *LoftQ: LoRA-Fine-Tuning-Aware Quantization*, 2023, arXiv:2310.08659.

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
