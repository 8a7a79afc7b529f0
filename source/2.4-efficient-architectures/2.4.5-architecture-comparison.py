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
# # Lab 2.4.5: Architecture comparison
#
# | | |
# |---|---|
# | Module | 2.4 Efficient Architectures |
# | Time | 2 hours |
# | Difficulty | ★★★★☆ |
# | Hardware | gpu-optional: all points can be earned on a CPU; *On your Spark* is for a large GPU |
# | Points | 31 automatic, 9 read by a person |
# | Builds on | 2.4.4 MoE Router Analysis, 2.4.1 Mamba Inference |
#
# You are going to build the three ways in which attention is made cheaper, count what a transformer, a mixture of
# experts, a Mamba and a hybrid cost, and let them compete on equal terms: the same budget, the same data in the same
# order, several seeds, and a verdict that may be "undecided".

# %% [markdown]
# ## What you'll achieve
#
# By the end you have
#
# 1. **Systems understanding**: measured memory and time of attention without its matrix, with shared heads, and
#    without a softmax (objective 2.4.3).
# 2. **Core skill**: written the online softmax, grouped-query attention and causal linear attention.
# 3. **A pattern**: a paired experiment, whose differences are measured seed by seed, with an interval.
# 4. **A tie to production**: parameters and FLOPs by formula, equal to what transformers builds and torch counts
#    (objective 2.4.3).
# 5. **A trade-off**: a report of quality against parameters, FLOPs, speed and cache, for four architectures at one
#    budget (objective 2.4.3).

# %% [markdown]
# ## Before you start
#
# You have run Mamba from its caches (2.4.1), written its scan (2.4.2) and a router (2.4.4). **What works**: each part,
# alone. **The gap**: which one should *you* use? Tables in papers compare models of other sizes, other data, other
# tuning. **This lab** builds the rules of a fair comparison, and keeps to them.
#
# ```
# 2.3.2 attention ────────────┐
# 2.4.1 Mamba, caches ────────┼──>  2.4.5 comparison ──┬──>  2.4.6 fine-tuning the one you chose
# 2.4.4 mixture of experts ───┘                        └──>  3.4   serving: what a token costs
# ```

# %% [markdown]
# ### Skill checks
#
# Answer first, then unfold.
#
# <details><summary>1. What is exp(1000) / (exp(1000) + exp(999)) in floating point, as written, and how is it computed
# in practice?</summary>
#
# As written inf / inf: NaN. In practice the largest exponent is subtracted first: 1 / (1 + exp(-1)) = 0.731. A common
# factor of numerator and denominator changes nothing.
# </details>
#
# <details><summary>2. How many FLOPs does a matrix of 100 x 200 take for one token?</summary>
#
# A product and a sum for each of its 20,000 weights: 40,000.
# </details>
#
# <details><summary>3. A beats B by 1, 3 and 2 points in three runs. What is the standard error of the mean
# difference?</summary>
#
# The differences have a standard deviation of 1 (with n - 1), so 1 / sqrt(3) = 0.58.
# </details>

# %% nbgrader={"grade": false, "grade_id": "archcmp-given-setup", "locked": true, "schema_version": 3, "solution": false, "task": false}
import itertools
import logging
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

import torch
from labkit import checking, insight, tiny
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, dropout, elu, scaled_dot_product_attention
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from transformers import JambaConfig, JambaForCausalLM

# %% nbgrader={"grade": false, "grade_id": "archcmp-given-settings", "locked": true, "schema_version": 3, "solution": false, "task": false}
logging.getLogger("transformers").setLevel(logging.ERROR)  # it would say that Mamba's CUDA kernels are not installed
torch.set_num_threads(1)  # with matrices this small, a second thread would mostly wait for the first

# %% [markdown]
# Readiness check: the skills, run. It should print `ready`.

# %%
assert math.isclose(torch.softmax(torch.tensor([1000.0, 999.0]), dim=0)[0], 1 / (1 + math.exp(-1)), rel_tol=1e-6)
assert math.isclose(statistics.stdev([1, 3, 2]) / math.sqrt(3), 0.577, rel_tol=1e-3)
print("ready")

# %% [markdown]
# ## Why it matters
#
# In 2024 a team replaces its 7B transformer by a hybrid: "the paper says three times the throughput". In production it is
# slower. The paper measured 256,000 tokens of context on eight GPUs; the team serves 2,000 on one. The other team
# compares a mixture of experts with a dense model *of the same total size*, finds it worse, and drops it, though it
# needed a quarter of the FLOPs. A third team finds that one model is better by 0.4 points of perplexity, in one run,
# and never learns that another seed would have turned it round.
#
# All three measured correctly. They did not compare fairly: equal *what*, at which length, and against which noise?

# %% [markdown]
# ## At the kitchen table
#
# Four cooks compete. One looks every guest in the face again before each dish (attention), one keeps a small notebook
# (Mamba), one runs a kitchen of eight specialists of whom two work (experts), one does a little of both.
#
# | competition | experiment |
# |---|---|
# | the same money for ingredients | equal parameters |
# | the same time at the stove | equal FLOPs |
# | the same shopping list, in the same order | the same data, the same seeds |
# | the same guests taste all four | paired differences |
# | "I could not tell" | an interval that contains 0 |
#
# **Where it breaks**: cooks know their stove. A Python loop on a CPU is not Mamba's stove, so seconds measured here say
# little about it; perplexity, parameters, FLOPs and bytes do carry over.

# %% [markdown]
# ## Foundations
#
# Attention of one query $q$ over keys $k_j$ and values $v_j$ is $\sum_j e^{s_j}v_j\,/\,\sum_j e^{s_j}$ with
# $s_j=q\cdot k_j/\sqrt{E}$. Three ideas make it cheaper, at three different places:
#
# | idea | what it saves | exact? |
# |---|---|---|
# | online softmax (FlashAttention) | the $L\times S$ matrix, never stored | yes |
# | shared key-value heads (GQA, MQA) | bytes of the KV cache | another model |
# | $e^{q\cdot k}\to\phi(q)\cdot\phi(k)$ (linear attention) | the cache itself: a fixed state | another model |
#
# **The online softmax in numbers.** Scores 1, 3, then 2; values 10, 20, 30. After the first: peak 1, sum 1, output 10.
# The second raises the peak to 3: all that was summed shrinks by $e^{1-3}=0.135$, so sum $0.135+1$, output
# $1.35+20=21.35$. The third: weight $e^{2-3}=0.368$, sum 1.503, output 32.39. In the end $32.39/1.503=21.55$.

# %%
print(f"{(torch.softmax(torch.tensor([1.0, 3.0, 2.0]), dim=0) * torch.tensor([10.0, 20.0, 30.0])).sum():.2f}")


# %% [markdown]
# ```
#            keys and values, block after block
#             ┌──────┬──────┬──────┬──────┐
#  queries ──>│  1   │  2   │  3   │  4   │    scores of ONE block at a time: (L, block)
#             └──┬───┴──┬───┴──┬───┴──┬───┘
#                ▼      ▼      ▼      ▼
#         running peak, running sum, running output  (L, 1), (L, 1), (L, F)
# ```
#
# To see whether a function keeps its promise on memory, the tests watch every tensor that torch makes while it runs:

# %% nbgrader={"grade": false, "grade_id": "archcmp-given-watch", "locked": true, "schema_version": 3, "solution": false, "task": false}
class Watch(TorchDispatchMode):
    """Within it: `largest` is the number of elements of the largest floating-point tensor made, views not counted.

    torch's own attention refuses to run.
    """

    def __init__(self, *inputs: Tensor) -> None:
        super().__init__()
        self.known, self.largest = {x.untyped_storage().data_ptr() for x in inputs}, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if "attention" in str(func):
            raise AssertionError("this is torch's own attention; build it from products, maxima and sums")
        out = func(*args, **(kwargs or {}))
        for value in tree_leaves(out):
            if isinstance(value, Tensor) and value.is_floating_point():
                storage = value.untyped_storage()
                if storage.data_ptr() not in self.known:
                    self.largest = max(self.largest, storage.nbytes() // value.itemsize)
        return out


# %% nbgrader={"grade": false, "grade_id": "archcmp-given-draw", "locked": true, "schema_version": 3, "solution": false, "task": false}
def draw(seed: int, *shape: int, scale: float = 1.0) -> Tensor:
    """Normal float64 numbers from a seed."""
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# %% nbgrader={"grade": false, "grade_id": "archcmp-given-oracle", "locked": true, "schema_version": 3, "solution": false, "task": false}
def torch_attention(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    """torch's own attention in float64; the last query sits at the last key; key-value heads are shared in order."""
    mask = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril(k.shape[2] - q.shape[2]) if causal else None
    k, v = (x.double().repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
    return scaled_dot_product_attention(q.double(), k, v, attn_mask=mask)


# %% [markdown]
# ## Part 1: Attention for less
#
# ### Exercise 1: the online softmax
#
# The heart of FlashAttention (Dao et al. 2022, after Milakov and Gimelshein 2018): one pass over blocks of keys, with a
# running peak, a running sum and a running output. The result is *exact*; what is saved is the matrix of scores.
# Queries may be fewer than keys, as in decoding: the last query then sits at the last key.

# %% nbgrader={"grade": false, "grade_id": "archcmp-online", "locked": false, "schema_version": 3, "solution": true, "task": false}
def online_attention(q: Tensor, k: Tensor, v: Tensor, block: int = 64, causal: bool = True) -> Tensor:
    """Softmax attention in one pass over blocks of keys, with scores q k / sqrt(E).

    Args:
        q: (B, H, L, E), queries; L at least 1; float64, float32 or bfloat16.
        k: (B, H, S, E), keys; S at least 1.
        v: (B, H, S, F), values.
        block: how many keys are scored at a time, at least 1; the last block may be shorter.
        causal: query i sits at position S - L + i and sees the keys up to and including that position.

    Returns:
        (B, H, L, F) in the dtype of q. All arithmetic is done in float32 at least. No floating-point tensor that is made
        on the way has more elements than the largest of: B H L block, B H L max(E, F), B H block max(E, F).

    Raises:
        ValueError: causal, and L is larger than S: then some query would see nothing.

    TODO: Score a block, raise the peak, shrink what was summed before, add the block.

    APPROACH:
        1. Start from a peak of -inf and sums of 0, because exp(-inf) = 0 then needs no special first block.
        2. Subtract the new peak before exp, because no exponent is then above 0.
        3. Divide once, at the end, because the sum is known only then.

    EXAMPLE:
        >>> q, k = torch.ones(1, 1, 1, 1), torch.tensor([1.0, 3.0, 2.0]).reshape(1, 1, 3, 1)
        >>> v = torch.tensor([10.0, 20.0, 30.0]).reshape(1, 1, 3, 1)
        >>> round(online_attention(q, k, v, block=2).item(), 2)
        21.55

    HINTS:
        1. In Foundations: which three numbers are all that is kept of the blocks before?
        2. Slices of k and v are views and cost nothing; converting a whole k does.
        3. Sum and output shrink by the same factor, exp(old peak - new peak).
    """
    ### BEGIN SOLUTION
    (length, width), total = q.shape[2:], k.shape[2]
    if causal and length > total:
        raise ValueError(f"{length} queries at the end of {total} keys: the first would see nothing")
    exact = torch.promote_types(q.dtype, torch.float32)
    scaled = q.to(exact) * width**-0.5
    peak = torch.full((*q.shape[:3], 1), -math.inf, dtype=exact)
    norm = torch.zeros((*q.shape[:3], 1), dtype=exact)
    out = torch.zeros((*q.shape[:3], v.shape[3]), dtype=exact)
    position = torch.arange(total - length, total)[:, None]
    for start in range(0, total, block):
        keys, values = (x[:, :, start : start + block].to(exact) for x in (k, v))
        scores = scaled @ keys.mT
        if causal:
            future = torch.arange(start, start + keys.shape[2]) > position
            scores = scores.masked_fill(future, -math.inf)
        higher = torch.maximum(peak, scores.amax(dim=3, keepdim=True))
        weights, shrink = torch.exp(scores - higher), torch.exp(peak - higher)
        norm = norm * shrink + weights.sum(dim=3, keepdim=True)
        out = out * shrink + weights @ values
        peak = higher
    return (out / norm).to(q.dtype)
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "archcmp-given-check-online", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_online(seed: int, sizes: tuple, block: int, causal: bool = True, scale: float = 1.0, atol: float = 1e-11) -> None:
    """Hold online_attention for sizes (B, H, L, S, E, F) against torch's own, and look at the tensors it makes."""
    B, H, L, S, E, F = sizes
    q, k, v = draw(seed, B, H, L, E, scale=scale), draw(seed + 1, B, H, S, E), draw(seed + 2, B, H, S, F)
    with checking.unchanged(q=q, k=k, v=v), Watch(q, k, v) as watch:
        got = online_attention(q, k, v, block=block, causal=causal)
    what = f"attention of {L} queries, {S} keys in blocks of {block}, causal={causal}"
    # float64: 1e-11 is ten thousand roundings of 1.1e-16 of numbers below 10. With large scores see the caller.
    checking.close(got, torch_attention(q, k, v, causal), rtol=0, atol=atol, what=what,
                   hint="try block=1 and block=S: which of the two is right?")
    limit = B * H * max(L * block, L * max(E, F), block * max(E, F))
    assert watch.largest <= limit, (f"{what}: a tensor with {watch.largest:,} elements was made, {limit:,} are allowed.\n"
                                    "  where to look: what has a size of S that is not a view?")


# %% nbgrader={"grade": true, "grade_id": "test-archcmp-online", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
# Checks: values against torch's attention for many blocks, the largest tensor made, huge scores, bfloat16.
# Catches: the whole matrix, sums that are not shrunk, no peak, a mask that ignores the blocks' places.
# A pass prints what each of three checks earned.
def test_unit_archcmp_online():
    credit = checking.Credit(5)
    with credit.check("values and memory", points=3, hint="what is kept from block to block?"):
        check_online(0, (2, 3, 7, 7, 4, 5), block=3)
        check_online(1, (1, 2, 5, 9, 4, 4), block=2, causal=False)
        checking.raises(ValueError, online_attention, draw(0, 1, 1, 3, 2), draw(1, 1, 1, 2, 2), draw(2, 1, 1, 2, 2),
                        what="three causal queries, two keys")
        ### BEGIN HIDDEN TESTS
        # check: other sizes and blocks
        # hint: at which position does the first query sit when there are more keys than queries?
        seed = checking.secret_seed()
        for number, (L, S, block) in enumerate([(1, 1, 1), (4, 11, 4), (13, 13, 1), (6, 10, 5), (3, 8, 100)]):
            check_online(seed + 9 * number, (2, 2, L, S, 3, 1 + number), block)
            check_online(seed + 9 * number, (1, 3, L, S, 5, 2), block, causal=False)
        # check: more queries than keys, where nothing is causal
        # hint: who says that there are no more queries than keys?
        check_online(seed, (1, 1, 6, 4, 2, 3), block=3, causal=False)
        # check: one query over a long context
        # hint: the largest tensor is as small as your largest block. Is there one with all keys in it?
        check_online(seed, (2, 2, 1, 499, 8, 8), block=16)
        ### END HIDDEN TESTS
    with credit.check("huge scores", points=1, hint="print the largest argument of exp"):
        # Scores to 20,000: each is rounded by 2e4 * 1e-16 times a few, and so is the weight; 1e-8 is ample.
        for seed in range(3):
            check_online(seed, (1, 2, 6, 12, 4, 4), block=4, scale=1e4, atol=1e-8)
            check_online(seed, (1, 2, 6, 12, 4, 4), block=5, scale=-1e4, causal=False, atol=1e-8)
    with credit.check("bfloat16", points=1, hint="convert a block before you multiply"):
        q, k, v = (draw(n, 1, 2, 16, 32).bfloat16() for n in range(3))
        # The result is rounded once: it may differ by one bit of bfloat16 (2**-7), or by float32's rounding near 0.
        checking.close(online_attention(q, k, v, block=2), torch_attention(q, k, v, True).bfloat16(), rtol=2**-7,
                       atol=1e-5, what="attention in bfloat16")
    return credit.total()


test_unit_archcmp_online()


# %% [markdown]
# ### Systems insight 1 of 3: the matrix that is never there
#
# **Checkpoint**: attention in one pass. **Predict, and write it down**: from 128 to 1,024 tokens, how do the largest tensor
# and the seconds grow, with the matrix and without it?

# %%
def with_matrix(q, k, v):
    """Attention as in 2.3.2, for comparison."""
    weights = torch.softmax((q @ k.transpose(2, 3) / q.shape[3] ** 0.5 + future_mask(q.shape[2])), dim=3)
    return torch.matmul(weights, v)


# %%
def future_mask(length):
    return torch.full((length, length), -math.inf).triu(1)


# %%
def measured(function, length):
    """Elements of the largest tensor made, and seconds."""
    q, k, v = (draw(n, 1, 2, length, 16).float() for n in range(3))
    with Watch(q, k, v) as watch:
        function(q, k, v)
    start = time.perf_counter()
    function(q, k, v)
    return watch.largest, time.perf_counter() - start


# %%
def matrix_story(lengths=(128, 256, 512, 1024)):
    table = {"with the matrix": [], "online": []}
    for length in lengths:
        for name, function in zip(table, (with_matrix, online_attention), strict=True):
            table[name].append(measured(function, length))
    insight.lines(lengths, {name: [row[0] for row in rows] for name, rows in table.items()}, xlabel="tokens",
                  ylabel="elements of the largest tensor", logx=True, logy=True)
    for name, rows in table.items():
        print(f"{name:16}", "  ".join(f"{size:9,} elements {1e3 * seconds:6.1f} ms" for size, seconds in rows))
    return table


# %%
matrix_table = insight.run(matrix_story, needs="Exercise 1 (online_attention)")


# %% [markdown]
# **What it means in production.** Memory grows with $L$, time still with $L^2$: no product is saved here (a causal
# kernel skips blocks that lie wholly in the future, nearly half). That FlashAttention is
# *faster* on a GPU is because the blocks stay in fast on-chip memory, and the matrix would have gone to the slow one and
# back. Your Python loop has no such memory to win.

# %% [markdown]
# ### Exercise 2: shared heads
#
# In decoding, every token reads the whole KV cache. Multi-query attention (MQA, Shazeer 2019) lets all query heads share
# *one* key-value head; grouped-query attention (GQA, Ainslie et al. 2023) lets groups share one. The cache shrinks by
# the group's size, but only if nobody writes the copies out again.

# %% nbgrader={"grade": false, "grade_id": "archcmp-grouped", "locked": false, "schema_version": 3, "solution": true, "task": false}
def grouped_attention(q: Tensor, k: Tensor, v: Tensor, block: int = 64, causal: bool = True) -> Tensor:
    """Attention whose query heads share key-value heads: query head h reads key-value head h // G, G = Hq / Hkv.

    Args:
        q: (B, Hq, L, E).
        k: (B, Hkv, S, E). Hkv = Hq is multi-head, Hkv = 1 multi-query attention.
        v: (B, Hkv, S, F).
        block, causal: as in `online_attention`.

    Returns:
        (B, Hq, L, F) in the dtype of q, with the heads in the order of q. No floating-point tensor that is made on the
        way has more elements than the largest of: k, q, the result, B Hq L block, B Hq block max(E, F). So k and v
        are not repeated for every query head.

    Raises:
        ValueError: Hq is no multiple of Hkv; or what `online_attention` refuses.

    TODO: Bring query heads and key-value heads together, with your own online attention.

    APPROACH:
        1. Check the heads first, because a rest would silently be dropped.
        2. Let one query head of every group meet the key-value heads, because then both have Hkv heads.
        3. Write each result to the place of its query heads, because the next layer counts on the order.

    EXAMPLE:
        >>> k = torch.zeros(1, 2, 3, 4)
        >>> v = torch.tensor([10.0, 20.0]).reshape(1, 2, 1, 1).expand(1, 2, 3, 1)
        >>> grouped_attention(torch.zeros(1, 4, 1, 4), k, v).flatten().tolist()
        [10.0, 10.0, 20.0, 20.0]

    HINTS:
        1. With Hq = 6 and Hkv = 2, which query heads are the first of their group?
        2. A slice of heads can have a step, on both sides of an assignment.
        3. There are G calls of online_attention.
    """
    ### BEGIN SOLUTION
    heads, shared = q.shape[1], k.shape[1]
    if heads % shared:
        raise ValueError(f"{heads} query heads cannot share {shared} key-value heads evenly")
    group = heads // shared
    out = q.new_empty((*q.shape[:3], v.shape[3]))
    for member in range(group):
        out[:, member::group] = online_attention(q[:, member::group], k, v, block, causal)
    return out
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "archcmp-given-check-grouped", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_grouped(seed: int, heads: tuple[int, int], sizes: tuple, block: int = 4, causal: bool = True) -> int:
    """Hold grouped_attention for sizes (B, L, S, E, F) against torch's own; returns what was made beyond the limit."""
    B, L, S, E, F = sizes
    q, k, v = draw(seed, B, heads[0], L, E), draw(seed + 1, B, heads[1], S, E), draw(seed + 2, B, heads[1], S, F)
    with checking.unchanged(q=q, k=k, v=v), Watch(q, k, v) as watch:
        got = grouped_attention(q, k, v, block, causal)
    # As in Exercise 1: ten thousand roundings of numbers below 10.
    checking.close(got, torch_attention(q, k, v, causal), rtol=0, atol=1e-11, hint="which key-value head does each read?",
                   what=f"{heads[0]} query heads on {heads[1]} key-value heads, causal={causal}")
    limit = max(k.numel(), q.numel(), B * heads[0] * max(L * F, L * block, block * max(E, F)))
    return max(0, watch.largest - limit)


# %% nbgrader={"grade": true, "grade_id": "test-archcmp-grouped", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: values and order of heads against torch's attention, multi-head to multi-query; the largest tensor in decoding.
# Catches: heads dealt out in turn, the wrong group size, keys repeated in memory, a rest of heads.
# A pass prints what each of two checks earned.
def test_unit_archcmp_grouped():
    credit = checking.Credit(4)
    with credit.check("who reads what", points=3, hint="give each value head a number of its own, as in the example"):
        check_grouped(0, (6, 2), (2, 3, 5, 4, 3))
        check_grouped(1, (4, 1), (1, 4, 4, 2, 2), causal=False)
        checking.raises(ValueError, grouped_attention, draw(0, 1, 5, 1, 2), draw(1, 1, 2, 3, 2), draw(2, 1, 2, 3, 2),
                        what="five query heads on two key-value heads")
        ### BEGIN HIDDEN TESTS
        # check: other heads and sizes
        # hint: write down for six query heads and three key-value heads who reads whom.
        seed = checking.secret_seed()
        for number, heads in enumerate([(3, 3), (6, 3), (8, 2), (5, 1), (1, 1)]):
            check_grouped(seed + 5 * number, heads, (1 + number % 2, 3, 7, 2, 4))
            check_grouped(seed + 5 * number, heads, (1, 2, 6, 3, 1), block=1 + number, causal=False)
        # check: fewer query heads than key-value heads
        # hint: two is no multiple of four.
        checking.raises(ValueError, grouped_attention, draw(0, 1, 2, 1, 2), draw(1, 1, 4, 3, 2), draw(2, 1, 4, 3, 2),
                        what="fewer query heads than key-value heads")
        ### END HIDDEN TESTS
    with credit.check("nothing repeated", points=1, hint="repeat_interleave writes what it repeats, and so does matmul"):
        over = check_grouped(2, (8, 2), (1, 1, 200, 4, 4), block=16) + check_grouped(3, (8, 2), (1, 16, 16, 1, 1), block=1)
        checking.equal(over, 0, what="elements of the largest tensor beyond what is allowed")
    return credit.total()


test_unit_archcmp_grouped()


# %% [markdown]
# ### What just happened?
#
# The same attention reads fewer bytes. For a model of Llama 3's 8B shape (32 layers, 32 query heads of width 128), in
# bfloat16, per token of context:

# %%
def heads_story(layers=32, heads=32, width=128, itemsize=2):
    for shared in (32, 8, 1):
        q, k = torch.zeros(1, heads, 1, width), torch.zeros(1, shared, 64, width)
        start = time.perf_counter()
        grouped_attention(q, k, k)
        print(f"{shared:2} key-value heads: {2 * layers * shared * width * itemsize / 1024:5.0f} KiB a token; your code made "
              f"{heads // shared:2} calls in {1e3 * (time.perf_counter() - start):5.1f} ms")


# %%
insight.run(heads_story, needs="Exercises 1 and 2")


# %% [markdown]
# ### Exercise 3: linear attention
#
# Replace $e^{q\cdot k}$ by $\phi(q)\cdot\phi(k)$ with a positive feature map, here $\phi(x)=\mathrm{elu}(x)+1$
# (Katharopoulos et al. 2020). Then the sum over the past can be taken *before* the query is known:
#
# $$y_t=\frac{\phi(q_t)\,S_t}{\phi(q_t)\cdot z_t}\qquad S_t=\sum_{j\le t}\phi(k_j)\,v_j^\top\qquad z_t=\sum_{j\le t}\phi(k_j)$$
#
# $S$ and $z$ are a state of fixed size: attention has become a recurrence, a cousin of Mamba's. As in 2.4.1 you write
# it for a chunk of any length, with the state going in and coming out.

# %% nbgrader={"grade": false, "grade_id": "archcmp-given-state", "locked": true, "schema_version": 3, "solution": false, "task": false}
class LinearState(NamedTuple):
    """What linear attention knows of the past: `outer` (B, H, E, F), the sum S, and `norm` (B, H, E), the sum z."""

    outer: Tensor
    norm: Tensor


# %% nbgrader={"grade": false, "grade_id": "archcmp-linear", "locked": false, "schema_version": 3, "solution": true, "task": false}
def linear_attention(q: Tensor, k: Tensor, v: Tensor, state: LinearState | None = None) -> tuple[Tensor, LinearState]:
    """Causal linear attention of a chunk, feature map elu(x) + 1 (Katharopoulos et al. 2020, equations 16 to 20).

    Args:
        q, k: (B, H, L, E), float32 or float64; L may be 0 or any length.
        v: (B, H, L, F), in the same dtype.
        state: the sums over all tokens before the chunk; None: there is none.

    Returns:
        (B, H, L, F), where token t sees the state, the tokens before it and itself; and the state after the chunk, all in
        the dtype of q. There is no factor 1 / sqrt(E). The state that was given is unchanged. A state after L = 0 has the
        values of the one before.

    TODO: Map q and k, sum up outer products and keys in order, divide.

    APPROACH:
        1. Map by phi first, because from there on all is sums and products.
        2. Within the chunk use the causal product or a running sum, because both give the same numbers.
        3. Let numerator and denominator both begin from the state, because a ratio forgives no missing half.

    EXAMPLE:
        >>> zero, one = torch.zeros(1, 1, 2, 1), torch.ones(1, 1, 2, 1)
        >>> out, state = linear_attention(zero, zero, torch.tensor([3.0, 5.0]).reshape(1, 1, 2, 1))
        >>> out.flatten().tolist(), state.outer.item(), state.norm.item()  # phi(0) = 1: a mean of the past
        ([3.0, 4.0], 8.0, 2.0)

    HINTS:
        1. The causal form: (phi(q) phi(k)^T, lower triangle with diagonal) times v, plus phi(q) times the state.
        2. The denominator is the same with a v of ones: the triangle's row sums, plus phi(q) . z.
        3. phi(k)^T v sums the outer products of the whole chunk at once.
    """
    ### BEGIN SOLUTION
    a, b = elu(q) + 1, elu(k) + 1
    if state is None:
        state = LinearState(q.new_zeros(*b.mT.shape[:3], v.shape[3]), q.new_zeros(*b.shape[:2], b.shape[3]))
    pairs = (a @ b.mT).tril()
    above = pairs @ v + a @ state.outer
    below = pairs.sum(dim=3) + (a @ state.norm[..., None]).squeeze(3)
    return above / below[..., None], LinearState(state.outer + b.mT @ v, state.norm + b.sum(dim=2))
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "archcmp-given-linear-oracle", "locked": true, "schema_version": 3, "solution": false, "task": false}
def linear_by_weights(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Linear attention from its definition: weights phi(q) . phi(k) for each pair of tokens, normalised row by row."""
    phi_q, phi_k = (torch.where(x > 0, x + 1, x.exp()) for x in (q, k))
    weights = torch.einsum("bhie,bhje->bhij", phi_q, phi_k) * torch.ones(q.shape[2], k.shape[2]).tril()
    return torch.einsum("bhij,bhjf->bhif", weights / weights.sum(3, keepdim=True), v)


# %% nbgrader={"grade": false, "grade_id": "archcmp-given-check-linear", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_linear(seed: int, lengths: list[int], sizes: tuple[int, int, int, int] = (2, 3, 4, 5)) -> None:
    """Chunks of a sequence through linear_attention, sizes (B, H, E, F), against its definition."""
    B, H, E, F = sizes
    q, k, v = draw(seed, B, H, sum(lengths), E), draw(seed + 1, B, H, sum(lengths), E), draw(seed + 2, B, H, sum(lengths), F)
    want, state, end = linear_by_weights(q, k, v), None, 0
    for length in lengths:
        part, end = slice(end, end + length), end + length
        chunk = [x[:, :, part] for x in (q, k, v)]
        with checking.unchanged(chunk=chunk, state=list(state or [])):
            got, state = linear_attention(*chunk, state)
        # float64, weights that sum to 1, values below 10, denominators of at least one positive term of their own sum:
        # 1e-11 is ten thousand roundings.
        checking.close(got, want[:, :, part], rtol=0, atol=1e-11, what=f"tokens {part.start} to {end}, chunks of {lengths}",
                       hint="numerator and denominator: do both take the state along?")
        phi = torch.where(k > 0, k + 1, k.exp())[:, :, :end]
        # Sums of at most 50 terms below 100: 50 * 5000 * 1.1e-16 = 3e-11.
        checking.close(state.outer, phi.mT @ v[:, :, :end], rtol=0, atol=1e-10, what=f"S after {end} tokens")
        checking.close(state.norm, phi.sum(2), rtol=0, atol=1e-10, what=f"z after {end} tokens")


# %% nbgrader={"grade": true, "grade_id": "test-archcmp-linear", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
# Checks: a whole sequence against the definition; any chunks, outputs and state; the state that came in stays.
# Catches: a token that sees the future or not itself, a forgotten denominator, a state that is dropped or changed.
# A pass prints what each of two checks earned.
def test_unit_archcmp_linear():
    credit = checking.Credit(5)
    with credit.check("a whole sequence", points=2, hint="begin with L = 1: the result is v"):
        check_linear(0, [1])
        check_linear(1, [6])
        ### BEGIN HIDDEN TESTS
        # check: other sizes
        # hint: which of your axes is E, which is F?
        seed = checking.secret_seed()
        check_linear(seed, [9], (1, 1, 1, 1))
        check_linear(seed, [13], (3, 2, 6, 2))
        ### END HIDDEN TESTS
    with credit.check("chunk by chunk", points=3, hint="what does the first token of the second chunk have to see?"):
        check_linear(2, [4, 1, 1])
        check_linear(3, [2, 5])
        ### BEGIN HIDDEN TESTS
        # check: token by token, and chunks of other lengths
        # hint: is the state that comes out that of all tokens, or of the last chunk?
        seed = checking.secret_seed()
        check_linear(seed, [1] * 7, (1, 2, 3, 2))
        check_linear(seed, [3, 8, 1], (2, 1, 2, 5))
        # check: chunks of no token
        # hint: feed 0 tokens, first and later. Do the shapes of output and state stay as promised?
        check_linear(seed, [0, 2, 0, 3])
        ### END HIDDEN TESTS
    return credit.total()


test_unit_archcmp_linear()


# %% [markdown]
# ### Systems insight 2 of 3: one more token
#
# **Checkpoint**: you have attention with a growing cache and with a fixed state. **Predict, and write it down**: after 64 and
# after 4,096 tokens, what does one more token cost in each, in bytes held and in milliseconds?

# %%
def next_token(context, heads=4, width=32):
    """(bytes held, seconds of one more token) with keys and values, with a shared head, and with a linear state."""
    q, k, v = (draw(n, 1, heads, context, width).float() for n in range(3))
    one, rows = q[:, :, -1:], {}
    _, state = linear_attention(q[:, :, -64:], k[:, :, -64:], v[:, :, -64:])
    steps = {"4 key-value heads": (lambda: grouped_attention(one, k, v), [k, v]),
             "1 key-value head": (lambda: grouped_attention(one, k[:, :1], v[:, :1]), [k[:, :1], v[:, :1]]),
             "linear attention": (lambda: linear_attention(one, one, one, state), list(state))}
    for name, (step, held) in steps.items():
        start = time.perf_counter()
        step()
        rows[name] = sum(x.nbytes for x in held), time.perf_counter() - start
    return rows


# %%
def token_story(contexts=(64, 512, 4096)):
    table = {}
    for context in contexts:
        for name, row in next_token(context).items():
            table.setdefault(name, []).append(row)
    insight.lines(contexts, {name: [held / 1024 for held, _ in rows] for name, rows in table.items()}, xlabel="context [tokens]",
                  ylabel="held [KiB]", logx=True, logy=True)
    for name, rows in table.items():
        print(f"{name:18}", "  ".join(f"{held / 1024:7,.0f} KiB {1e3 * seconds:6.2f} ms" for held, seconds in rows))
    return table


# %%
token_table = insight.run(token_story, needs="Exercises 1 to 3")

# %% [markdown]
# **What it means in production.** Sharing heads divides the slope, a state removes it. What is lost also differs: a softmax
# can put all its weight on one token of 4,096; a state of $E\times F$ numbers holds about $E$ things apart. That is
# why pure linear attention has mostly been replaced by *gated* states (Mamba, 2.4.2), and why hybrids keep a few layers of
# attention.

# %% [markdown]
# ## Part 2: Equal what?
#
# ### Four architectures from one class
#
# Jamba (Lieber et al. 2024) mixes attention, Mamba and experts, layer by layer. So *one* class of transformers' can build all
# four competitors, with the same norms, embedding and feed-forward. What differs is only what shall differ.

# %% nbgrader={"grade": false, "grade_id": "archcmp-given-architecture", "locked": true, "schema_version": 3, "solution": false, "task": false}
KINDS = {"transformer": {"attn_layer_period": 1, "attn_layer_offset": 0},
         "experts": {"attn_layer_period": 1, "attn_layer_offset": 0, "num_experts": 4, "num_experts_per_tok": 2},
         "mamba": {"attn_layer_period": 9, "attn_layer_offset": 8},  # the first layer of attention would be the ninth
         "hybrid": {"attn_layer_period": 2, "attn_layer_offset": 1}}


# %% nbgrader={"grade": false, "grade_id": "archcmp-given-config", "locked": true, "schema_version": 3, "solution": false, "task": false}
def architecture(kind: str, ff: int = 64, **changes: Any) -> JambaConfig:
    """A tiny config of one of KINDS: two layers of width 32, a feed-forward of width `ff` (of each expert)."""
    sizes = {"vocab_size": 259, "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": ff,
             "num_attention_heads": 4, "num_key_value_heads": 2, "num_experts": 1, "num_experts_per_tok": 1,
             "expert_layer_period": 1, "expert_layer_offset": 0, "mamba_d_state": 8, "mamba_d_conv": 4,
             "mamba_expand": 2, "mamba_dt_rank": 3, "tie_word_embeddings": True, "pad_token_id": 258}
    config = JambaConfig(**sizes | KINDS[kind] | changes)
    config._experts_implementation = "eager"  # plain matrix products, which torch's FLOP counter sees
    return config


# %%
for kind in KINDS:
    config = architecture(kind)
    total = sum(p.numel() for p in JambaForCausalLM(config).parameters())
    print(f"{kind:12} {config.layers_block_type}, experts {config.layers_num_experts}: {total:,} parameters")

# %% [markdown]
# What is in a layer? Here are all tensors of a hybrid with experts, in its first layer (Mamba) and its second (attention).
# Exercise 4 counts them without building them.

# %%
for name, value in JambaForCausalLM(architecture("hybrid", num_experts=4)).named_parameters():
    print(f"{name:48} {tuple(value.shape)}")


# %% [markdown]
# ### Exercise 4: parameters by formula
#
# From the config alone, because nobody builds 52 billion numbers to count them. And twice: in all, and **active**, those that
# take part in one token's way. Of the experts of a layer only `num_experts_per_tok` are active; all else always is.

# %% nbgrader={"grade": false, "grade_id": "archcmp-parameters", "locked": false, "schema_version": 3, "solution": true, "task": false}
def parameters(config: JambaConfig, active: bool = False) -> int:
    """Number of parameters of JambaForCausalLM(config), without building a model.

    Args:
        config: its lists layers_block_type ("attention" or "mamba") and layers_num_experts say what each layer is.
            With one expert a layer has a plain feed-forward and no router. H is hidden_size, a head's width is
            H // num_attention_heads, Mamba's inner width is D = mamba_expand H; further mamba_d_state N,
            mamba_d_conv K, mamba_dt_rank R. The convolution and dt_proj have a bias, nothing else has. Each layer has
            two norms of H, a Mamba three more (R, N and N), the model one at its end. With tie_word_embeddings the
            head is the embedding, and counts once.
        active: leave out the experts that a token does not visit; the router counts, and so does the embedding.

    Returns:
        The number, an int.

    TODO: Add up the shapes.

    APPROACH:
        1. Go through the layers, because a hybrid's are not alike.
        2. Count mixer, feed-forward and norms apart, because each can be checked alone.
        3. Compare with the printed shapes, because a formula that is nearly right looks right.

    EXAMPLE:
        >>> parameters(architecture("transformer", 64)), parameters(architecture("mamba", 64))
        (26880, 37798)
        >>> parameters(architecture("experts", 64)), parameters(architecture("experts", 64), active=True)
        (64000, 39424)

    HINTS:
        1. A feed-forward has three matrices of H x intermediate_size: gate, up and down.
        2. Attention: q and o of H x H, k and v of H x (num_key_value_heads times a head's width).
        3. Mamba: in_proj H x 2 D, conv D K + D, x_proj D (R + 2 N), dt_proj R D + D, A_log D N, D, out_proj D H.
    """
    ### BEGIN SOLUTION
    H, D, N, R = config.hidden_size, config.mamba_expand * config.hidden_size, config.mamba_d_state, config.mamba_dt_rank
    shared = config.num_key_value_heads * (H // config.num_attention_heads)
    mixers = {"attention": 2 * H * H + 2 * H * shared}
    mixers["mamba"] = 2 * H * D + D * (config.mamba_d_conv + 1) + D * (R + 2 * N) + R * D + D + D * N + D + D * H + R + 2 * N
    total = config.vocab_size * H * (1 if config.tie_word_embeddings else 2) + H
    for kind, experts in zip(config.layers_block_type, config.layers_num_experts, strict=True):
        visited = min(experts, config.num_experts_per_tok) if active else experts
        total += mixers[kind] + 2 * H + visited * 3 * H * config.intermediate_size
        if experts > 1:
            total += experts * H
    return total
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "archcmp-given-draw-config", "locked": true, "schema_version": 3, "solution": false, "task": false}
def draw_config(seed: int, kind: str, **changes: Any) -> JambaConfig:
    """A config of one of KINDS whose sizes are drawn, three layers."""
    a, b, c, d, e = (torch.randperm(7, generator=torch.Generator().manual_seed(seed)) + 2).tolist()[:5]
    sizes = {"hidden_size": 4 * a, "mamba_d_state": b, "mamba_d_conv": c, "mamba_dt_rank": d, "vocab_size": 50 + e,
             "num_hidden_layers": 3, "num_key_value_heads": (1, 2, 4)[seed % 3], "tie_word_embeddings": seed % 2 == 0,
             "mamba_expand": 1 + seed % 3, "pad_token_id": 0}
    return architecture(kind, ff=5 + e, **sizes | changes)


# %% nbgrader={"grade": false, "grade_id": "archcmp-given-no-models", "locked": true, "schema_version": 3, "solution": false, "task": false}
def no_models() -> Any:
    """Within it, no module can be built."""
    def refuse(*args, **kwargs):
        raise AssertionError("this builds a model; count from the config alone")

    return mock.patch.object(nn.Module, "__init__", refuse)


# %% nbgrader={"grade": false, "grade_id": "archcmp-given-check-parameters", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_parameters(config: JambaConfig, what: str) -> None:
    """Hold `parameters` against a model that is built."""
    with torch.device("meta"):  # shapes without memory
        shapes = {name: value.numel() for name, value in JambaForCausalLM(config).named_parameters()}
    idle = (config.num_experts - config.num_experts_per_tok) / config.num_experts
    resting = sum(size * idle for name, size in shapes.items() if ".experts." in name)
    with no_models():
        got = parameters(config), parameters(config, active=True)
    total = sum(shapes.values())
    checking.equal(got[0], total, what=f"parameters of {what}", hint="print the shapes, and add them up by hand")
    checking.equal(got[1], round(total - resting), what=f"active parameters of {what}", hint="experts not visited: how many?")


# %% nbgrader={"grade": true, "grade_id": "test-archcmp-parameters", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Checks: parameters in all and active against models that are built, all kinds, head tied or not.
# Catches: a forgotten norm, bias or router, one kind of layer for all, query heads for key-value heads.
# A pass prints what each of two checks earned.
def test_unit_archcmp_parameters():
    credit = checking.Credit(3)
    with credit.check("transformer and Mamba", points=1, hint="count one layer, then the rest"):
        check_parameters(architecture("transformer"), "the transformer")
        check_parameters(architecture("mamba"), "the Mamba")
        ### BEGIN HIDDEN TESTS
        # check: transformers and Mambas of other sizes
        # hint: is a size of the example written into your formula as a number?
        seed = checking.secret_seed()
        for number in range(4):
            check_parameters(draw_config(seed + number, ("transformer", "mamba")[number // 2]), "another model")
        ### END HIDDEN TESTS
    with credit.check("experts and hybrids", points=2, hint="layers_num_experts and layers_block_type, layer by layer"):
        check_parameters(architecture("experts"), "the mixture of experts")
        check_parameters(architecture("hybrid"), "the hybrid")
        ### BEGIN HIDDEN TESTS
        # check: hybrids with experts in some of their layers
        # hint: does a layer with one expert have a router? Does one with several always visit all?
        seed = checking.secret_seed()
        for number in range(3):
            mixed = {"num_experts": 3 + number, "num_experts_per_tok": 1 + number, "expert_layer_period": 1 + number}
            check_parameters(draw_config(seed + number, "hybrid", **mixed), "a hybrid with experts")
            check_parameters(draw_config(seed + number, "experts", num_experts=5), "other experts")
        ### END HIDDEN TESTS
    return credit.total()


test_unit_archcmp_parameters()


# %% [markdown]
# ### Exercise 5: FLOPs for one token
#
# Equal parameters are not equal work: an embedding is looked up, experts rest, and attention works more the longer the
# context is. Count as torch's counter does: two for each product-and-sum in a *matrix product or convolution*. Norms,
# activations and the elementwise part of Mamba's scan are left out, here and there.

# %% nbgrader={"grade": false, "grade_id": "archcmp-flops", "locked": false, "schema_version": 3, "solution": true, "task": false}
def flops_per_token(config: JambaConfig, context: int) -> int:
    """Floating-point operations in matrix products and convolutions for one new token of JambaForCausalLM(config).

    Args:
        config: as in `parameters`.
        context: how many keys the token attends to, itself included; at least 1. Keys and values of earlier tokens are
            cached, so their projections are not computed again.

    Returns:
        2 for each weight that multiplies (each once for a token; the head does, tied or not; the router does, norms,
        biases, A_log and D do not), 2 for each tap of each channel of the convolution, 2 D N for a Mamba's y = C h, and
        for attention the scores and the weighted sum over `context` tokens, for all query heads.

    TODO: Count the matrix products on a token's way.

    APPROACH:
        1. Count products and sums by weights first and double at the end, because each weight is used once for a token.
        2. Take only visited experts, because the others compute nothing.
        3. Add what has no weights, scores and sums over the context, because there the length comes in.

    EXAMPLE:
        >>> flops_per_token(architecture("transformer", 64), context=1)
        53696
        >>> flops_per_token(architecture("mamba", 64), 10) == flops_per_token(architecture("mamba", 64), 10_000)
        True

    HINTS:
        1. The matrices are those of Exercise 4, without embedding, norms, biases, A_log and D, but with the head.
        2. One query head: `context` scores of a head's width each, and as many products with values.
        3. How wide are all query heads together?
    """
    ### BEGIN SOLUTION
    H, D, N, R = config.hidden_size, config.mamba_expand * config.hidden_size, config.mamba_d_state, config.mamba_dt_rank
    kv_width = H // config.num_attention_heads * config.num_key_value_heads
    products = H * config.vocab_size
    for kind, experts in zip(config.layers_block_type, config.layers_num_experts, strict=True):
        if kind == "attention":
            products += 2 * H * (H + kv_width) + 2 * context * H
        else:
            products += D * (3 * H + 2 * R + 3 * N + config.mamba_d_conv)
        products += 3 * H * config.intermediate_size * min(experts, config.num_experts_per_tok)
        products += H * experts if experts > 1 else 0
    return 2 * products
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "archcmp-given-counted", "locked": true, "schema_version": 3, "solution": false, "task": false}
def counted(config: JambaConfig, length: int) -> int:
    """What torch's counter sees in a pass over `length` tokens; its attention computes all length x length scores.

    The convolution's padding is taken off: K - 1 columns more than tokens, 2 K FLOPs each for every channel.
    """
    config._attn_implementation = "eager"
    model = JambaForCausalLM(config).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, length, dtype=torch.long), use_cache=False)
    taps, channels = config.mamba_d_conv, config.mamba_expand * config.hidden_size
    padding = config.layers_block_type.count("mamba") * 2 * channels * taps * (taps - 1)
    return counter.get_total_flops() - padding


# %% nbgrader={"grade": true, "grade_id": "test-archcmp-flops", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Checks: FLOPs by formula against torch's counter on a pass over several tokens, all kinds; growth with the context.
# Catches: resting experts, the embedding's lookup, key-value heads in the scores, a Mamba that grows with the context.
# A pass prints what each of two checks earned.
def test_unit_archcmp_flops():
    def check(config, length, what):
        with no_models():
            got = flops_per_token(config, length)
        checking.equal(got * length, counted(config, length), hint="print counter.get_flop_counts() for one layer",
                       what=f"{length} x FLOPs per token of {what} at a context of {length}")

    credit = checking.Credit(3)
    with credit.check("transformer and Mamba", points=2, hint="first at a context of 1, then at 2: what is added?"):
        check(architecture("transformer"), 3, "the transformer")
        check(architecture("mamba"), 3, "the Mamba")
        ### BEGIN HIDDEN TESTS
        # check: transformers and Mambas of other sizes
        # hint: every size comes from the config; does the head count if it is tied, too?
        seed = checking.secret_seed()
        for number in range(4):
            check(draw_config(seed + number, ("transformer", "mamba")[number // 2]), 4 + number, "another model")
        ### END HIDDEN TESTS
    with credit.check("experts and hybrids", points=1, hint="which matrices does one token meet?"):
        check(architecture("experts"), 2, "the mixture of experts")
        check(architecture("hybrid"), 3, "the hybrid")
        ### BEGIN HIDDEN TESTS
        # check: hybrids with experts in some layers
        # hint: a layer with one expert has neither a router nor a choice.
        seed = checking.secret_seed()
        for number in range(2):
            mixed = {"num_experts": 3 + number, "num_experts_per_tok": 2, "expert_layer_period": 1 + number}
            check(draw_config(seed + number, "hybrid", **mixed), 5, "a hybrid with experts")
        ### END HIDDEN TESTS
    return credit.total()


test_unit_archcmp_flops()


# %% [markdown]
# ### Exercise 6: the same budget for all
#
# Now "equal" can be made true. One dial for each architecture, the width of its feed-forward; turn it until the
# budget is met. What is measured, parameters in all, active ones or FLOPs, is your decision, so it comes as a function. It
# grows with the width, so there is no need to try them all.

# %% nbgrader={"grade": false, "grade_id": "archcmp-match", "locked": false, "schema_version": 3, "solution": true, "task": false}
def match_width(measure: Callable[[int], int], budget: int, widths: range, tolerance: float = 0.02) -> int:
    """The width whose cost is nearest to a budget.

    Args:
        measure: the cost of a width; it grows with every width.
        budget: the wanted cost, above 0.
        widths: the widths to choose from, ascending, at least one.
        tolerance: the largest |cost - budget| / budget that still counts as equal; a cost just there does.

    Returns:
        The width in `widths` with the least |cost - budget|; of two that are equally near the smaller one. `measure` is called
        no more than 2 log2(len(widths)) + 10 times.

    Raises:
        ValueError: no width is within the tolerance.

    TODO: Find where the cost passes the budget, and compare the two neighbours.

    APPROACH:
        1. Halve the range, because the cost grows, and a million widths are then twenty steps.
        2. Look at both sides of the crossing, because the nearer one may lie above the budget.
        3. Refuse a bad match, because a comparison that is not equal must not look so.

    EXAMPLE:
        >>> match_width(lambda ff: 1000 + 96 * ff, budget=5000, widths=range(1, 512))
        42
        >>> match_width(lambda ff: 10 * ff, budget=1005, widths=range(1, 512))
        100

    HINTS:
        1. Keep two indices: below the first all costs are under the budget, from the second on none is.
        2. The candidates are the last width under the budget and the first that is not, where they exist.
        3. `min` takes a key, and returns the first of equals.
    """
    ### BEGIN SOLUTION
    low, high = 0, len(widths)
    while low < high:
        middle = (low + high) // 2
        if measure(widths[middle]) < budget:
            low = middle + 1
        else:
            high = middle
    error, best = min((abs(measure(width) - budget), width) for width in widths[max(low - 1, 0) : low + 1])
    if error > tolerance * budget:
        raise ValueError(f"the nearest width, {best}, misses the budget by {error / budget:.1%}")
    return best
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "archcmp-given-check-match", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_match(cost: Callable[[int], int], budget: int, widths: range, want: int, **tolerance: float) -> None:
    """match_width must find `want`, with few calls."""
    calls = []
    got = match_width(lambda width: calls.append(width) or cost(width), budget, widths, **tolerance)
    checking.equal(got, want, what=f"width for a budget of {budget:,}, widths {widths}", hint="both neighbours; ties")
    allowed = 2 * math.log2(len(widths)) + 10
    assert len(calls) <= allowed, f"measure was called {len(calls)} times, {allowed:.0f} are allowed: halve the range"
    assert all(width in widths for width in calls), "measure was called with a width that is not among those given"


# %% nbgrader={"grade": true, "grade_id": "test-archcmp-match", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Checks: the nearest width, ties, both ends of the range, a million widths with few calls, what is refused.
# Catches: the first width above the budget, trying all, a bad match returned, a step of the range forgotten.
# A pass prints nothing.
def test_unit_archcmp_match():
    check_match(lambda ff: 1000 + 96 * ff, 5000, range(1, 512), 42)
    check_match(lambda ff: ff**2, 10_000, range(4, 1000, 4), 100)
    check_match(lambda ff: 10 * ff, 1005, range(1, 1000), 100)
    checking.raises(ValueError, match_width, lambda ff: 10 * ff, 20_000, range(1, 1000), what="a budget out of reach")
    ### BEGIN HIDDEN TESTS
    # check: random budgets and steps, below and above
    # hint: print cost and budget for the width you return, the one before and the one after.
    generator = torch.Generator().manual_seed(checking.secret_seed())
    for step in (1, 3, 8):
        place, slope, more = torch.randint(60, 900, (3,), generator=generator).tolist()
        widths = range(step, 1001 * step, step)
        for shift in (-(slope // 2 - 1), 0, slope // 2 - 1):
            budget = more + slope * (place + 1) + shift  # nearest to the width number `place`
            check_match(lambda w, m=more, s=slope, d=step: m + s * w // d, budget, widths, widths[place])
    # check: a million widths
    # hint: how often do you call measure? Print it.
    check_match(lambda ff: 7 * ff, 7 * 654_321, range(1, 10**6), 654_321)
    # check: the ends of the range, a single width, and the tolerance
    # hint: there is not always a neighbour on both sides. And a cost just at the tolerance is accepted.
    check_match(lambda ff: 100 * ff, 99, range(1, 50), 1)
    check_match(lambda ff: 100 * ff, 4950, range(1, 50), 49)
    check_match(lambda ff: 100 * ff, 80, range(1, 2), 1, tolerance=0.25)
    checking.raises(ValueError, match_width, lambda ff: 100 * ff, 125, range(1, 2), 0.19, what="a match that is 20 % off")
    checking.raises(ValueError, match_width, lambda ff: 100 * ff, 50, range(1, 9), 0.9, what="a match that is 100 % off")
    checking.raises(ValueError, match_width, lambda ff: 100 * ff, 95, range(1, 9), what="a match that is 5 % off")
    ### END HIDDEN TESTS


test_unit_archcmp_match()

# %% [markdown]
# ### Systems insight 3 of 3: equal parameters, unequal work
#
# **Checkpoint**: you can count and match. **Predict, and write it down**: all four get the parameters of the transformer with a
# feed-forward of 128. Who then needs the fewest FLOPs for a token, at a context of 32, and at 32,768? And does the clock
# agree with the FLOPs?

# %% nbgrader={"grade": false, "grade_id": "archcmp-given-contestants", "locked": true, "schema_version": 3, "solution": false, "task": false}
COSTS = {"parameters": lambda config: parameters(config), "active": lambda config: parameters(config, active=True),
         "flops": lambda config: flops_per_token(config, 32)}


# %% nbgrader={"grade": false, "grade_id": "archcmp-given-equal", "locked": true, "schema_version": 3, "solution": false, "task": false}
def contestants(equal: str = "parameters") -> dict[str, JambaConfig]:
    """The four configs, with equal cost of one of COSTS: that of the transformer with a feed-forward of 128."""
    cost, configs = COSTS[equal], {}
    for kind in KINDS:
        ff = match_width(lambda ff, kind=kind: cost(architecture(kind, ff)), cost(architecture("transformer", 128)), range(1, 512))
        configs[kind] = architecture(kind, ff)
    return configs


# %% nbgrader={"grade": false, "grade_id": "archcmp-given-speed", "locked": true, "schema_version": 3, "solution": false, "task": false}
@torch.no_grad()
def tokens_per_second(model: nn.Module, length: int = 64, batch: int = 8) -> float:
    """Tokens read per second, whole sequences at once (prefill); the better of two passes."""
    ids, times = torch.zeros(batch, length, dtype=torch.long), []
    for _ in range(2):
        start = time.perf_counter()
        model(ids, use_cache=False)
        times.append(time.perf_counter() - start)
    return batch * length / min(times)


# %%
def budget_story(equal="parameters"):
    table = {}
    print(f"equal {equal}:  feed-forward  parameters    active   kFLOPs at 32   at 32,768   tokens/s")
    for kind, config in contestants(equal).items():
        start = time.perf_counter()
        speed, work = tokens_per_second(JambaForCausalLM(config)), [flops_per_token(config, n) for n in (32, 32_768)]
        table[kind] = {"parameters": parameters(config), "flops": work, "speed": speed, "s": time.perf_counter() - start}
        print(f"{kind:17} {config.intermediate_size:12}  {parameters(config):10,} {parameters(config, True):9,} "
              f"{work[0] / 1e3:14,.1f} {work[1] / 1e3:11,.1f} {speed:10,.0f}")
    return table


# %%
budget_table = insight.run(budget_story, needs="Exercises 4 to 6")


# %% [markdown]
# **What it means in production.** At a short context and equal parameters the experts work least, with equal FLOPs they are
# largest: that is all their advantage, and memory is its price. At a long context attention is nearly all of the work; a
# hybrid has half of it, Mamba none.
# And the clock: Mamba's loop over tokens is Python here; its FLOPs are not. Compare seconds only between implementations
# that are equally good.

# %% [markdown]
# ## Part 3: A fair experiment
#
# ### Exercise 7: one number for quality
#
# **Perplexity** is $\exp$ of the mean loss per token, over *all* tokens of the held-out text. The mean of batch means is
# something else as soon as batches differ in size, and the mean of perplexities even more so. You return the loss,
# because differences of losses can be averaged; whoever reports takes exp.

# %% nbgrader={"grade": false, "grade_id": "archcmp-given-bigram", "locked": true, "schema_version": 3, "solution": false, "task": false}
class Bigram(nn.Module):
    """A model that knows one token back: its logits are rows of a table, with dropout in training.

    Ids beyond the table, such as padding, begin again at its first row.
    """

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.table = nn.Parameter(table)

    def forward(self, input_ids: Tensor, use_cache: bool = False) -> SimpleNamespace:
        if torch.is_grad_enabled():
            raise AssertionError("the model was called with gradients on: they cost memory and nobody wants them")
        return SimpleNamespace(logits=dropout(self.table[input_ids % len(self.table)], 0.5, self.training))


# %% nbgrader={"grade": false, "grade_id": "archcmp-loss", "locked": false, "schema_version": 3, "solution": true, "task": false}
def heldout_loss(model: nn.Module, batches: Sequence[Tensor], pad: int = 258) -> float:
    """Mean negative log-likelihood of a predicted token, in nats, over all batches.

    Args:
        model: causal; `model(input_ids=ids, use_cache=False).logits` is (B, L, V): float32, bfloat16 or float64.
        batches: tensors (B, L) of token ids, int64, of any B and of any L of at least 1, filled up on the right with `pad`.
        pad: this id is never a token to predict.

    Returns:
        A float: the sum over all predicted tokens, divided by their number. The first token of a row is predicted by nothing.
        Losses are taken and summed in float32 or better, whatever the logits are in.
        The model is evaluated (dropout off) and without a graph, and left in the mode, training or evaluation, that it was in.

    Raises:
        ValueError: there is no token to predict.

    TODO: Sum losses and tokens over all batches, divide once.

    APPROACH:
        1. Note the model's mode and set it back, because somebody may be in the middle of training.
        2. Take logits but the last against ids but the first, because row t predicts token t + 1.
        3. Sum up, and count, because means of unequal batches have no meaning.

    EXAMPLE:
        >>> model = Bigram(torch.zeros(4, 4))  # every token is as likely as any other: 1 of 4
        >>> round(math.exp(heldout_loss(model, [torch.tensor([[0, 1, 2, 258]])])), 6)
        4.0

    HINTS:
        1. `model.training` is the mode; `model.train(mode)` sets it.
        2. cross_entropy has an `ignore_index`, and a `reduction`.
        3. Count the tokens that differ from pad, in the same slice that is predicted.
    """
    ### BEGIN SOLUTION
    mode, loss, count = model.training, 0.0, 0
    model.eval()
    with torch.no_grad():
        for ids in batches:
            logits, target = model(input_ids=ids, use_cache=False).logits[:, :-1], ids[:, 1:]
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            loss += cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=pad, reduction="sum").item()
            count += (target != pad).sum().item()
    model.train(mode)
    if count == 0:
        raise ValueError("there is no token to predict")
    return loss / count
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "archcmp-given-check-loss", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_loss(table: Tensor, texts: list[list[list[int]]], training: bool = False) -> None:
    """Hold heldout_loss against sums over Python numbers; a text is a row before it is filled up."""
    losses = -torch.log_softmax(table.detach().double(), dim=1)
    pairs = [pair for batch in texts for row in batch for pair in itertools.pairwise(row)]
    want = math.fsum(losses[a, b].item() for a, b in pairs) / len(pairs)
    longest = [max(map(len, batch)) for batch in texts]
    batches = [torch.tensor([row + [258] * (n - len(row)) for row in batch]) for batch, n in zip(texts, longest, strict=True)]
    model = Bigram(table).train(training)
    with checking.unchanged(batches=batches, model=model):
        got = heldout_loss(model, batches)
    checking.equal(type(got), float, what="type of the loss")
    # float32: each loss is rounded by some 6e-8 of numbers below 32, and so are their sums: 20 such roundings.
    checking.close(got, want, rtol=2e-5, atol=2e-5, what=f"loss over batches of {[len(batch) for batch in texts]} rows",
                   hint="how many tokens are predicted in each batch?")
    checking.equal(model.training, training, what="the model's mode afterwards")


# %% nbgrader={"grade": true, "grade_id": "test-archcmp-loss", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Checks: the loss against a sum over Python numbers, with unequal batches, padding, training mode and bfloat16.
# Catches: means of means, padding that is predicted, the shift, dropout left on, a mode not set back.
# A pass prints nothing.
def test_unit_archcmp_loss():
    table = draw(0, 5, 5).float()
    check_loss(table, [[[0, 1, 2, 3], [3, 3]]])
    check_loss(table, [[[0, 1, 2, 3, 4, 0]], [[2, 1], [1, 1]]])
    check_loss(table, [[[4, 2, 0, 1]]], training=True)
    ### BEGIN HIDDEN TESTS
    # check: many batches of unequal rows
    # hint: compare one batch of all rows with the same rows in two batches.
    seed = checking.secret_seed()
    table, generator = draw(seed, 7, 7, scale=2).float(), torch.Generator().manual_seed(seed)
    texts = [[torch.randint(7, (n + 2,), generator=generator).tolist() for n in range(rows)] for rows in (3, 1, 6)]
    check_loss(table, texts)
    check_loss(table, texts, training=True)
    # check: rows of a single token, beside others and alone
    # hint: such a row predicts nothing; it must not count.
    check_loss(table, [[[1]], [[2, 3, 4], [5]]])
    for alone in ([torch.tensor([[3], [4]])], [torch.tensor([[1, 258, 258]])], []):
        checking.raises(ValueError, heldout_loss, Bigram(table), alone, what="nothing to predict")
    # check: logits in half precision
    # hint: convert the logits before you normalise them.
    for number in range(3):
        check_loss(draw(seed + number, 7, 7, scale=2).bfloat16(), texts)
    # check: another id for padding
    # hint: is 258 written into your code?
    uniform = heldout_loss(Bigram(torch.zeros(4, 4)), [torch.tensor([[1, 2, 0, 0], [3, 0, 0, 0]])], pad=0)
    checking.close(uniform, math.log(4), rtol=0, atol=1e-6, what="loss of a uniform model with another padding")
    lopsided = torch.tensor([[3.0, 0.0, -1.0]] * 3)
    want = (cross_entropy(lopsided[0], torch.tensor(2))).item()
    checking.close(heldout_loss(Bigram(lopsided), [torch.tensor([[1, 2, 0]])], pad=0), want, rtol=0, atol=1e-6,
                   what="loss with another padding")
    ### END HIDDEN TESTS


test_unit_archcmp_loss()

# %% [markdown]
# ### Exercise 8: a verdict with an interval
#
# Two architectures, trained with the same seeds: seed 1 gives both the same data in the same order. Some seeds are hard for
# both. The *difference* of the two losses does not have that spread in it: measure it seed by seed, and ask
# whether the interval for its mean contains 0. With few seeds the interval is Student's (1908):
# mean $\pm\,t_{n-1}\,s/\sqrt n$.

# %% nbgrader={"grade": false, "grade_id": "archcmp-given-verdict", "locked": true, "schema_version": 3, "solution": false, "task": false}
# The 97.5 % quantiles of Student's t distribution, by degrees of freedom.
T_975 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


# %% nbgrader={"grade": false, "grade_id": "archcmp-given-verdict-type", "locked": true, "schema_version": 3, "solution": false, "task": false}
class Verdict(NamedTuple):
    """The mean of paired differences, its 95 % interval, and who is better: "first", "second" or "undecided"."""

    mean: float
    low: float
    high: float
    winner: str


# %% nbgrader={"grade": false, "grade_id": "archcmp-verdict", "locked": false, "schema_version": 3, "solution": true, "task": false}
def verdict(first: Sequence[float], second: Sequence[float]) -> Verdict:
    """Compare two models by losses that belong together in pairs: run k of both had the same seed.

    Args:
        first, second: losses in nats, lower is better; 2 to 10 of each, in the order of the seeds.

    Returns:
        Mean and 95 % interval of the differences first - second, by T_975 with n - 1 degrees of freedom. The winner is
        "undecided" if the interval contains 0, its ends included; otherwise the one with the lower losses.

    Raises:
        ValueError: the two differ in length; or there are fewer than 2 or more than 10; or a loss is not finite.

    TODO: Take differences, their mean and its standard error; form the interval; judge.

    APPROACH:
        1. Refuse what cannot be judged, because a run that diverged is a result to report, not a number to average.
        2. Take differences pair by pair, because what both runs share then cancels.
        3. Judge by the interval alone, because a mean without it says nothing.

    EXAMPLE:
        >>> result = verdict([2.0, 3.0, 2.5], [2.2, 3.1, 2.8])
        >>> print(f"{result.mean:.2f} from {result.low:.2f} to {result.high:.2f}: {result.winner}")
        -0.20 from -0.45 to 0.05: undecided

    HINTS:
        1. `statistics.mean` and `statistics.stdev` (which divides by n - 1) take any sequence.
        2. The half width is T_975[n - 1] times stdev / sqrt(n).
        3. A whole interval below 0 means that the first has the lower losses.
    """
    ### BEGIN SOLUTION
    if len(first) != len(second) or not 2 <= len(first) <= 10:
        raise ValueError(f"{len(first)} and {len(second)} losses: 2 to 10 pairs are needed")
    if not all(map(math.isfinite, (*first, *second))):
        raise ValueError("a loss is not finite: report the run that diverged, it has no difference")
    gaps = [a - b for a, b in zip(first, second, strict=True)]
    mean = statistics.mean(gaps)
    half = T_975[len(gaps) - 1] * statistics.stdev(gaps) / math.sqrt(len(gaps))
    winner = "first" if mean + half < 0 else "second" if mean - half > 0 else "undecided"
    return Verdict(mean, mean - half, mean + half, winner)
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "archcmp-given-check-verdict", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_verdict(first: list[float], second: list[float], winner: str) -> None:
    """Hold verdict against torch's mean and standard deviation."""
    got = verdict(first, second)
    gaps = torch.tensor(first, dtype=torch.float64) - torch.tensor(second, dtype=torch.float64)
    mean = gaps.mean().item()
    half = T_975[len(first) - 1] * gaps.std().item() / len(first) ** 0.5
    checking.equal(type(got), Verdict, what="type of the verdict")
    # A few float64 roundings of numbers below 1000, times T_975 below 13: 13 * 1000 * 1e-16 * 10.
    for name, value, want in zip(("mean", "low", "high"), got, (mean, mean - half, mean + half), strict=False):
        checking.close(value, want, rtol=0, atol=2e-11, what=f"{name} for {len(first)} pairs", hint="n - 1, sqrt(n), T_975")
    checking.equal(got.winner, winner, what=f"winner for an interval from {mean - half:.3g} to {mean + half:.3g}",
                   hint="is a low loss good or bad?")


# %% nbgrader={"grade": true, "grade_id": "test-archcmp-verdict", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Checks: mean and interval of paired differences, the three winners, an interval that ends at 0, what is refused.
# Catches: unpaired spread, n for n - 1, no sqrt(n), the winner turned round, a verdict from the mean alone.
# A pass prints nothing.
def test_unit_archcmp_verdict():
    check_verdict([2.0, 3.0, 2.5], [2.2, 3.1, 2.8], "undecided")
    check_verdict([2.0, 9.0, 5.5], [2.2, 9.2, 5.75], "first")
    check_verdict([1.0, 2.0], [1.0, 2.0], "undecided")
    checking.raises(ValueError, verdict, [1.0, 2.0], [1.0, 2.0, 3.0], what="a seed without its partner")
    checking.raises(ValueError, verdict, [1.0, math.nan], [1.0, 2.0], what="a run that diverged")
    ### BEGIN HIDDEN TESTS
    # check: other numbers of seeds, and the second as winner
    # hint: turn the two round: mean and interval change sign, the winner changes places.
    generator = torch.Generator().manual_seed(checking.secret_seed())
    for n in range(2, 11):
        level = (100 * torch.rand(n, generator=generator, dtype=torch.float64)).tolist()
        noise = torch.rand(n, generator=generator, dtype=torch.float64).tolist()
        better = [a - 40 - b for a, b in zip(level, noise, strict=True)]  # by 40 to 41; half widths are below 9
        check_verdict(better, level, "first")
        check_verdict(level, better, "second")
        near = [a + (-1) ** k * (1 + b) for k, (a, b) in enumerate(zip(level, noise, strict=True))]
        check_verdict(level, near, "undecided")
    # check: an interval whose end is 0
    # hint: 0 belongs to the interval, so what can be said?
    check_verdict([0.0, 0.0], [0.0, 0.0], "undecided")
    check_verdict([3.0] * 7, [3.0] * 7, "undecided")
    # check: what cannot be judged
    # hint: one pair has no spread; infinity is no loss; the table ends at ten.
    for bad in ([1.0], [], [1.0, math.inf], [-math.inf, 1.0], [1.0] * 11):
        checking.raises(ValueError, verdict, bad, [0.5] * len(bad), what=f"{len(bad)} first losses that cannot be judged")
        checking.raises(ValueError, verdict, [0.5] * len(bad), bad, what=f"{len(bad)} second losses that cannot be judged")
    ### END HIDDEN TESTS


test_unit_archcmp_verdict()


# %% [markdown]
# ### What just happened?
#
# Why pairs? Ten runs of two imaginary models. The first is better by 0.05 for every seed, the seeds differ by 0.5:

# %%
def pairing(n=10):
    level = 2 + 0.5 * draw(0, n)
    first, second = (level - 0.05 + 0.01 * draw(1, n)).tolist(), (level + 0.01 * draw(2, n)).tolist()
    print("paired:     ", verdict(first, second))
    print("order lost: ", verdict(first, second[1:] + second[:1]))


# %%
insight.run(pairing, needs="Exercise 8 (verdict)")


# %% [markdown]
# ## Put it together
#
# ### Exercise 9: the report
#
# Whoever decides reads a table. Each row has quality *and* costs, quality has its spread, and each difference to the baseline
# is called what it is. A row of measurements looks like this:

# %% nbgrader={"grade": false, "grade_id": "archcmp-given-row", "locked": true, "schema_version": 3, "solution": false, "task": false}
class Measured(NamedTuple):
    """What was measured of one architecture; `losses` by seed, in nats, in the same order for all."""

    losses: list[float]
    parameters: int
    active: int
    flops: int
    tokens_per_second: float
    cache_bytes: int


# %% nbgrader={"grade": false, "grade_id": "archcmp-given-header", "locked": true, "schema_version": 3, "solution": false, "task": false}
HEADER = ("| model | perplexity | lowest | highest | against {} | parameters | active | kFLOPs/token | tokens/s | cache [KiB] |\n"
          "|---|---|---|---|---|---|---|---|---|---|")


# %% nbgrader={"grade": false, "grade_id": "archcmp-report", "locked": false, "schema_version": 3, "solution": true, "task": false}
def report(rows: Mapping[str, Measured], baseline: str) -> str:
    """The comparison as a Markdown table.

    Args:
        rows: by the name of the model; each with the same seeds.
        baseline: the name of the model that the others are compared with.

    Returns:
        HEADER with the baseline's name filled in, then a line for each model, the one with the lowest perplexity first (of
        equals the one that comes first in `rows`), joined by newlines. A line has ten cells between `| ` and ` |`,
        separated by ` | `: the name; perplexity, which is exp of the mean loss; the lowest and the highest perplexity of a
        seed, all three with 2 decimals; "baseline" or, by `verdict` of the model and the baseline, "better", "worse" or
        "undecided"; parameters and active ones with commas between thousands; FLOPs / 1000 with 1 decimal and commas;
        tokens per second with commas and no decimal; bytes / 1024 with 1 decimal and commas.

    Raises:
        ValueError: there is no row with the baseline's name; or what `verdict` refuses.

    TODO: Sort, judge each model against the baseline, format.

    APPROACH:
        1. Average losses before exp, because that is the perplexity over all runs' tokens.
        2. Judge with `verdict`, because a difference of means is no result.
        3. Sort by the number and not by its text, because "10.00" comes before "9.00".

    EXAMPLE:
        >>> small = Measured([1.0, 1.0], 1000, 900, 2500, 12345.6, 2048)
        >>> print(report({"old": small, "new": small._replace(losses=[0.5, 0.5])}, "old").split("\\n", 2)[2])
        | new | 1.65 | 1.65 | 1.65 | better | 1,000 | 900 | 2.5 | 12,346 | 2.0 |
        | old | 2.72 | 2.72 | 2.72 | baseline | 1,000 | 900 | 2.5 | 12,346 | 2.0 |

    HINTS:
        1. `f"{value:,.1f}"` has commas and one decimal.
        2. `sorted` keeps the order of equals.
        3. A dict turns "first", "second" and "undecided" into the words of the table.
    """
    ### BEGIN SOLUTION
    if baseline not in rows:
        raise ValueError(f"there is no row {baseline!r} among {list(rows)}")
    lines = [HEADER.format(baseline)]
    words = {"first": "better", "second": "worse", "undecided": "undecided"}
    for name in sorted(rows, key=lambda name: statistics.mean(rows[name].losses)):
        row = rows[name]
        values = [math.exp(f(row.losses)) for f in (statistics.mean, min, max)]
        word = "baseline" if name == baseline else words[verdict(row.losses, rows[baseline].losses).winner]
        cells = [name, *(f"{value:.2f}" for value in values), word, f"{row.parameters:,}", f"{row.active:,}"]
        cells += [f"{row.flops / 1000:,.1f}", f"{row.tokens_per_second:,.0f}", f"{row.cache_bytes / 1024:,.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "archcmp-given-check-report", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_report(rows: dict[str, Measured], baseline: str, want: list[str]) -> None:
    """The report's lines must be the header's and those of `want`."""
    got = report(rows, baseline)
    checking.equal(type(got), str, what="type of the report")
    checking.equal(got.split("\n"), HEADER.format(baseline).split("\n") + want, what=f"lines of the report on {list(rows)}",
                   hint="compare cell by cell with the docstring")


# %% [markdown]
# `check_everything` builds the four contestants at one budget, untrained, and reports on them:

# %% nbgrader={"grade": false, "grade_id": "archcmp-given-everything", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_everything(seed: int) -> None:
    """Report on four untrained models at equal parameters; cells that can be known are compared."""
    rows, texts = {}, tiny.windows(tiny.sentences(40, seed=0), count=2, batch=2, length=9, seed=seed)
    for kind, config in contestants("parameters").items():
        torch.manual_seed(seed % 2**31)
        model = JambaForCausalLM(config)
        losses = [heldout_loss(model, [ids]) for ids in texts]
        with torch.no_grad():
            logits = [model.eval()(ids, use_cache=False).logits[:, :-1] for ids in texts]
        want = [cross_entropy(z.flatten(0, 1), ids[:, 1:].flatten()).item() for z, ids in zip(logits, texts, strict=True)]
        # float32 losses near 5.6, summed in another order or by another kernel: 1e-4 is 300 roundings.
        checking.close(torch.tensor(losses), torch.tensor(want), rtol=0, atol=1e-4, what=f"losses of the untrained {kind}")
        size = sum(p.numel() for p in model.parameters())
        rows[kind] = Measured(losses, parameters(config), parameters(config, True), flops_per_token(config, 9), 1.0, 0)
        checking.equal(rows[kind].parameters, size, what=f"parameters of the {kind}")
    sizes = [row.parameters for row in rows.values()]
    assert max(sizes) <= 1.04 * min(sizes), f"sizes differ by more than twice 2 %: {sizes}"
    lines = report(rows, "transformer").split("\n")
    names = [line.split(" | ")[0][2:] for line in lines[2:]]
    checking.equal(sorted(names), sorted(rows), what="names in the report")
    means = [statistics.mean(rows[name].losses) for name in names]
    # Nearer than 1e-4, two perplexities may be equal as they are shown.
    assert all(means[k] < means[k + 1] + 1e-4 for k in range(3)), f"order of the report: losses {means}"
    checking.equal([line.count("|") for line in lines], [11] * 6, what="bars in each line")


# %% nbgrader={"grade": true, "grade_id": "test-archcmp-report", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Checks: order, cells and verdicts of tables whose text is known, and a report on four untrained models.
# Catches: exp before the mean, sorting by text, better and worse exchanged, a missing baseline.
# A pass prints what each of two checks earned.
def test_unit_archcmp_report():
    credit = checking.Credit(3)
    with credit.check("tables", points=2, hint="print your table beside the docstring's"):
        one = Measured([2.0, 2.5, 2.4], 1234567, 90000, 1234560, 1234.5678, 1536)
        lower, upper, near = ([x + d for x, d in zip(one.losses, gaps, strict=True)]
                              for gaps in ((-0.5, -0.51, -0.5), (0.7, 0.71, 0.7), (-0.01, 0.05, -0.01)))
        tail = "1,234,567 | 90,000 | 1,234.6 | 1,235 | 1.5 |"
        rows = {"b": one, "c": one._replace(losses=upper), "a": one._replace(losses=lower), "d": one._replace(losses=near)}
        check_report(rows, "b", [f"| a | 6.03 | 4.48 | 7.32 | better | {tail}", f"| b | 9.97 | 7.39 | 12.18 | baseline | {tail}",
                                 f"| d | 10.07 | 7.32 | 12.81 | undecided | {tail}", f"| c | 20.15 | 14.88 | 24.78 | worse | {tail}"])
        checking.raises(ValueError, report, rows, "e", what="a baseline that is not there")
        ### BEGIN HIDDEN TESTS
        # check: equal perplexities, one model, and another baseline
        # hint: which order do equals have in `rows`? Is the baseline always the first of them?
        base = "| {} | 2.72 | 2.72 | 2.72 | {} | 5 | 4 | 0.0 | 1 | 1,000.0 |"
        same = Measured([1.0, 1.0], 5, 4, 3, 0.9, 1024000)
        check_report({"x": same}, "x", [base.format("x", "baseline")])
        check_report({"z": same, "y": same}, "y", [base.format("z", "undecided"), base.format("y", "baseline")])
        checking.raises(ValueError, report, {"z": same, "y": same._replace(losses=[1.0])}, "y", what="unequal seeds")
        ### END HIDDEN TESTS
    with credit.check("everything at once", points=1, hint="do Exercises 4 to 8 pass?"):
        check_everything(0)
        ### BEGIN HIDDEN TESTS
        # check: four other models at one budget
        # hint: run test_unit_all() below: which exercise fails first?
        check_everything(checking.secret_seed())
        ### END HIDDEN TESTS
    return credit.total()


test_unit_archcmp_report()


# %%
def test_unit_all():
    """Every test again, in order; says which exercises are still open."""
    for name in ("online", "grouped", "linear", "parameters", "flops", "match", "loss", "verdict", "report"):
        print(f"--- {name}")
        insight.run(globals()[f"test_unit_archcmp_{name}"], needs=f"archcmp-{name}")


# %%
test_unit_all()


# %% [markdown]
# ## Use it: four architectures, one budget
#
# The experiment. Rules: equal parameters (change `EQUAL` and run again), the same text in the same order for each seed, the
# same optimiser and steps, seeds 0 to 2, all four trained in turn for each seed, so that a busy minute of your machine
# meets them all. What is *not* equal: the learning rate was tuned for none of them.

# %% nbgrader={"grade": false, "grade_id": "archcmp-given-train", "locked": true, "schema_version": 3, "solution": false, "task": false}
def train(config: JambaConfig, seed: int, steps: int = 25) -> nn.Module:
    """A model trained on English-like sentences, in bytes. The data and their order depend on the seed alone."""
    torch.manual_seed(seed)
    model = JambaForCausalLM(config)
    model.config.use_cache = False
    data = tiny.windows(tiny.sentences(2000, seed=seed), count=steps, batch=8, length=24, seed=seed)
    tiny.pretrain(model, data, peak=2e-2)
    return model


# %% nbgrader={"grade": false, "grade_id": "archcmp-given-cache", "locked": true, "schema_version": 3, "solution": false, "task": false}
def cache_bytes(config: JambaConfig, context: int, itemsize: int = 2) -> int:
    """Bytes of a sequence's caches, as in 2.4.1: keys and values, or K - 1 inputs and a float32 state, layer by layer."""
    keys = 2 * context * config.num_key_value_heads * (config.hidden_size // config.num_attention_heads) * itemsize
    inner = config.mamba_expand * config.hidden_size
    memory = inner * ((config.mamba_d_conv - 1) * itemsize + 4 * config.mamba_d_state)
    return sum(keys if kind == "attention" else memory for kind in config.layers_block_type)


# %%
EQUAL = "parameters"  # or "active", or "flops"


# %%
def one_seed(seed, configs):
    """The held-out loss and the speed of each architecture, trained with this seed."""
    heldout, found = tiny.windows(tiny.sentences(300, seed=10**6), count=2, batch=16, length=48, seed=0), {}
    for kind, config in configs.items():
        model = train(config, seed)
        found[kind] = heldout_loss(model, heldout), tokens_per_second(model)
    print(f"seed {seed}:", {kind: f"{math.exp(loss):.2f}" for kind, (loss, _) in found.items()})
    return found


# %% [markdown]
# One cell for each seed: some seconds each.

# %%
configs = insight.run(lambda: contestants(EQUAL), needs="Exercises 4 to 6")
runs = {}
if configs:
    runs[0] = insight.run(lambda: one_seed(0, configs), needs="Exercise 7 (heldout_loss)")

# %%
if configs:
    runs[1] = insight.run(lambda: one_seed(1, configs), needs="Exercise 7 (heldout_loss)")

# %%
if configs:
    runs[2] = insight.run(lambda: one_seed(2, configs), needs="Exercise 7 (heldout_loss)")


# %%
def comparison(context=4096):
    """The report on all seeds, caches at a context of 4,096 tokens."""
    rows = {}
    for kind, config in configs.items():
        losses, speeds = zip(*(found[kind] for found in runs.values()), strict=True)
        rows[kind] = Measured(list(losses), parameters(config), parameters(config, active=True), flops_per_token(config, 24),
                              statistics.median(speeds), cache_bytes(config, context))
    return rows


# %%
rows = insight.run(comparison, needs="Exercises 4 to 9") if all(runs.values()) else None
if rows:
    print(insight.run(lambda: report(rows, "transformer"), needs="Exercise 9 (report)"))


# %% [markdown]
# That is your comparison report: copy it, and write below it, as always, the machine, the text, the steps and the seeds. With
# three seeds the interval is 4.3 standard errors wide on each side: expect "undecided" where models are close.
#
# Two lines to hold the table against: on this text letter frequencies alone reach a perplexity of about 15.7, pairs of
# letters about 5. A model near 15.7 has learned no context yet, so 25 steps show who starts to learn first, not who is
# better in the end. Give each 100 steps at a peak rate of 5e-3 (a minute on a laptop) and look again. And if the hybrid
# leads, ask why before you believe it: one untuned learning rate favours what learns fast, and Jamba's attention has no
# position encoding, so that all order must come from Mamba layers.

# %% [markdown]
# And the pairs: how wide are the intervals, beside the spread of each architecture's own runs?

# %%
def pairs_help():
    for kind in (kind for kind in rows if kind != "transformer"):
        result = verdict(rows[kind].losses, rows["transformer"].losses)
        spread = statistics.stdev(rows[kind].losses)
        print(f"{kind:8} {result.mean:+.3f} nats, from {result.low:+.3f} to {result.high:+.3f}; spread of its runs {spread:.3f}")


# %%
if rows:
    insight.run(pairs_help, needs="Exercise 8 (verdict)")


# %% [markdown]
# And the library's counterpart of Part 1: torch's `scaled_dot_product_attention` chooses a fused kernel with an online softmax
# by itself, and takes shared heads (`enable_gqa=True`). Your code beside it:

# %%
def beside_torch(length=512):
    q, k, v = draw(0, 1, 8, length, 32).float(), draw(1, 1, 2, length, 32).float(), draw(2, 1, 2, length, 32).float()
    start = time.perf_counter()
    mine = grouped_attention(q, k, v)
    middle = time.perf_counter()
    theirs = scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    print(f"largest difference {(mine - theirs).abs().max():.1e}; yours {1e3 * (middle - start):.1f} ms, "
          f"torch {1e3 * (time.perf_counter() - middle):.1f} ms")


# %%
insight.run(beside_torch, needs="Exercises 1 and 2")


# %% [markdown]
# ## On your Spark
#
# Full size: models of different architecture but one size, one data set and one tokenizer are rare. Pythia-2.8B (a
# transformer) and Mamba-2.8B are such a pair; OLMoE-1B-7B (1.3 of 6.9 billion active) is an outsider with another
# tokenizer, so its perplexity *per token* cannot be compared with theirs: bits per byte can. First what your formula says of
# the first Jamba, whose card says 12 of 52 billion are active:

# %%
def jamba_v01():
    config = JambaConfig()  # the defaults are those of Jamba v0.1
    for what, value in {"parameters": parameters(config), "active": parameters(config, active=True)}.items():
        print(f"{what:12} {value / 1e9:6.1f} billion")
    print(f"caches at 262,144 tokens: {cache_bytes(config, 262_144) / 1e9:.1f} GB")


# %%
insight.run(jamba_v01, needs="Exercise 4 (parameters)")

# %% [markdown]
# ```bash
# sync; echo 3 | sudo tee /proc/sys/vm/drop_caches   # unified memory: the file cache would take from the GPU's share
# docker run --gpus all -it --rm --ipc=host -p 8888:8888 -v $PWD:/workspace \
#     -v $HOME/.cache/huggingface:/hf -e HF_HOME=/hf nvcr.io/nvidia/pytorch:25.11-py3
# ```
#
# In the container install transformers, the course's package, and `pip install mamba-ssm causal-conv1d`, without which Mamba is
# a Python loop. Put a long English text that is newer than the models beside the notebook as `text.txt`, and set
# `RUN_ON_SPARK`. This section has **not yet been measured on a GPU** by the authors: your record is the first.

# %%
RUN_ON_SPARK = False


# %%
@torch.no_grad()
def run_on_spark(path, text, length=2048, tokens=64):
    """Bits per byte on a text, generated tokens per second after `length` tokens, and GB at the peak."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16, device_map="cuda").eval()
    ids = torch.tensor(tokenizer(text)["input_ids"], device="cuda")
    windows = ids[: len(ids) // length * length].reshape(-1, length)
    nats = heldout_loss(model, list(windows.split(1)), pad=-100) * windows[:, 1:].numel()
    size = sum(len(tokenizer.decode(row[1:]).encode()) for row in windows)
    times = []
    for new in (2, 2, 2 + tokens):  # the first run warms up; the second is the prefill to subtract
        torch.cuda.synchronize()
        start = time.perf_counter()
        model.generate(windows[:1], max_new_tokens=new, min_new_tokens=new, do_sample=False)
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return {"bits_per_byte": nats / math.log(2) / size, "tokens_per_s": tokens / (times[2] - times[1]),
            "peak_gb": torch.cuda.max_memory_allocated() / 1e9}


# %%
def run_all():
    with open("text.txt", encoding="utf-8") as file:
        text = file.read()
    record = {"gpu": torch.cuda.get_device_name()}
    for name, path in {"pythia": "EleutherAI/pythia-2.8b", "mamba": "state-spaces/mamba-2.8b-hf",
                       "olmoe": "allenai/OLMoE-1B-7B-0924"}.items():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        record |= {f"{name}_{key}": value for key, value in run_on_spark(path, text).items()}
    return record


# %% [markdown]
# Record what you measured. `run_all()` fills it in for you; a record by hand is as good. Without such a machine
# leave it as it is: nothing is lost.

# %%
spark_record = {"gpu": None}
if RUN_ON_SPARK:
    spark_record = run_all()


# %% nbgrader={"grade": false, "grade_id": "archcmp-given-spark-record", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_spark_record(record: dict) -> str:
    """Form and plausibility of a record. Nothing here earns points; a person reads it."""
    ranges = {"bits_per_byte": (0.2, 3), "tokens_per_s": (0.5, 2000), "peak_gb": (4, 120)}
    wanted = {f"{name}_{key}": limits for name in ("pythia", "mamba", "olmoe") for key, limits in ranges.items()}
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
# **1. Sums that are not shrunk.**
#
# ```python
# out = out + weights @ values                    # wrong: summed under an older, smaller peak
# ```
# With a single block, or the peak in the first one, nothing is wrong. Test with blocks of 1.
#
# **2. Heads dealt out in turn.**
#
# ```python
# k.repeat(1, group, 1, 1)                        # wrong: heads 0, 1, 0, 1; GQA wants 0, 0, 1, 1
# ```
# Trained that way it works as well; with the weights of a trained model it is nonsense.

# %% [markdown]
# **3. Only the numerator takes the state along.**
#
# ```python
# below = pairs.sum(3)                            # wrong: from the second chunk on, outputs grow without bound
# ```
#
# **4. Resting experts at work.**
#
# ```python
# products += 3 * H * ff * experts                # wrong: they cost memory, not FLOPs
# ```
#
# **5. Means of means.**
#
# ```python
# statistics.mean(batch_losses)                   # wrong: a token of a short batch counts more
# statistics.mean(map(math.exp, batch_losses))    # worse: the exp of a mean is below the mean of exps
# ```

# %% [markdown]
# **6. Spread without pairs.**
#
# ```python
# s = math.hypot(statistics.stdev(first), statistics.stdev(second))   # wrong here: it is the seeds' spread
# ```
#
# **7. A winner without an interval.**
#
# ```python
# winner = "first" if mean < 0 else "second"      # wrong: somebody always wins
# ```

# %% [markdown]
# ## Reflect
#
# Three questions on *your* code and *your* measurements. Five to ten lines each; numbers without a source in this
# notebook earn nothing.

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-archcmp-attention", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Reflection 1: three ways to cheaper attention (3 points).** From `matrix_table` and `token_table`: which of online softmax,
# shared heads and linear attention saves memory in prefill, which in decoding, and which saves time, and by which factor in
# your numbers? Which could you put into a model that is already trained, without training it again, and what speaks against
# the others?
#
# ### BEGIN SOLUTION
# (With the student's numbers.) The online softmax saves in prefill: from 128 to 1,024 tokens the largest tensor grows 64-fold with
# the matrix and 8-fold online; time grows about 64-fold in both, because no product is saved. In decoding one query has one row of
# scores, so there is nothing to win: bytes are keys and values. Shared heads divide those: 1 of 4 heads holds a quarter at every
# context. Linear attention holds the same few KiB at 64 and 4,096 tokens, and its time does not grow. Online softmax is exact and
# fits any trained model. GQA changes the weights: heads can be merged, but need some training (Ainslie et al.); linear
# attention replaces the softmax and needs more. So without training only the first, in any model that already has GQA.
#
# ### BEGIN MARK SCHEME
# - 1 point: prefill and decoding told apart, with factors from their own tables.
# - 1 point: says that the online softmax saves no FLOPs, or that time grows with the square in both.
# - 1 point: exact against another model; sees that only the online softmax goes with trained weights as they are.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-archcmp-fair", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Reflection 2: is it fair? (3 points).** From `budget_table`, your report and its verdicts: does the order of the four change
# with what is held equal (run `EQUAL = "flops"`, or argue from the table)? Which verdicts are "undecided", and how many seeds
# would decide them, by your intervals? Name two things in this experiment that favour one architecture, and the
# change that would remove each.
#
# ### BEGIN SOLUTION
# (With the student's numbers.) At equal parameters the experts have the fewest active parameters and FLOPs; at equal FLOPs they
# get the most parameters. Where the interval of differences is -0.2 to 0.3 around 0.05, its half width must shrink fivefold: t
# falls from 4.3 to about 2, and the standard error with sqrt(n), so some 18 to 20 seeds. Favours: one learning rate for all
# (tune each on other seeds); sequences of 24 tokens, where a state loses nothing (train at longer ones); 25 steps, so the
# fastest learner wins, not the best (train to equal compute, longer); attention without positions, as in Jamba, with only two
# layers; speed on a Python loop (compare with kernels).
#
# ### BEGIN MARK SCHEME
# - 1 point: equal parameters against equal FLOPs with numbers from their tables.
# - 1 point: an estimate of the seeds that uses sqrt(n) and their own interval.
# - 1 point: two biases, each with direction and remedy. "Too small" alone: half a point.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-archcmp-production", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Reflection 3: production (3 points).** A machine with 128 GB shall serve (a) chat with 2,000 tokens of context for 200 users at
# once, (b) contracts of 200,000 tokens, one at a time, with questions about single clauses, (c) short classifications at the
# lowest cost per request, few at a time. Choose an architecture for each from parameters, active parameters, FLOPs, cache and
# what it can look up. Use your functions for at least two numbers.
#
# ### BEGIN SOLUTION
# (a) Weights are shared by 200 users, and nearly all experts are used by some of them: a mixture of experts saves FLOPs, and with
# GQA the caches of 200 x 2,000 tokens fit (a number from cache_bytes); a hybrid does as well. (b) The cache of a transformer at
# 200,000 tokens, and FLOPs dominated by attention (flops_per_token at 200,000 beside 2,000); pure Mamba has a constant
# cache, but clauses must be looked up: a hybrid, with few layers of attention (Jamba v0.1: 4.3 GB at 262,144). (c) Few
# requests: decoding is bound by weights read; a small dense model, or experts if memory is free, since only the active ones
# are read for a token; Mamba's advantage does not exist at short contexts.
#
# ### BEGIN MARK SCHEME
# - 1 point: (b) weighs the cache against looking up, with a number from cache_bytes or flops_per_token.
# - 1 point: (a) and (c) told apart by batch: memory for all experts, work for the active.
# - 1 point: at least two numbers computed with their own functions, and a choice that could have come out otherwise.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# What you built, in the numbers of your own run:

# %%
def summary():
    dense, online = (matrix_table[name][-1] for name in ("with the matrix", "online"))
    print(f"1,024 tokens: largest tensor {dense[0]:,} elements with the matrix, {online[0]:,} online")
    held = {name: values[-1][0] / 1024 for name, values in token_table.items()}
    print("held after 4,096 tokens [KiB]:", {name: round(size) for name, size in held.items()})
    best = min(rows, key=lambda kind: statistics.mean(rows[kind].losses))
    print(f"lowest perplexity at equal {EQUAL}: {best}; against the transformer:",
          {kind: verdict(row.losses, rows["transformer"].losses).winner for kind, row in rows.items() if kind != "transformer"})


# %%
insight.run(summary, needs="Exercises 1 to 9")

# %% [markdown]
# ## Challenge (optional)
#
# 1. **Merging online softmaxes**: two halves of the keys, each with peak, sum and output, can be joined. Write the operator, show
#    that it is associative, and compare it with the scan of 2.4.2. (Split keys are how long contexts are decoded.)
# 2. **A learning rate for each**: tune it on seeds 10 to 12, then compare on seeds 0 to 2. Does a verdict change?
# 3. **Looking up**: train all four on "key value ... key ?" tasks of growing length. Where does the Mamba fail, and is one
#    layer of attention enough?
#
# ## Further reading
#
# - T. Dao et al., *FlashAttention: Fast and Memory-Efficient Exact Attention with IO-Awareness*, 2022, arXiv:2205.14135.
# - M. Milakov and N. Gimelshein, *Online normalizer calculation for softmax*, 2018, arXiv:1805.02867.
# - J. Ainslie et al., *GQA: Training Generalized Multi-Query Transformer Models from Multi-Head Checkpoints*, 2023,
#   arXiv:2305.13245. N. Shazeer, *Fast Transformer Decoding: One Write-Head is All You Need*, 2019, arXiv:1911.02150.
# - A. Katharopoulos et al., *Transformers are RNNs*, 2020, arXiv:2006.16236.
# - O. Lieber et al., *Jamba: A Hybrid Transformer-Mamba Language Model*, 2024, arXiv:2403.19887.
# - R. Waleffe et al., *An Empirical Study of Mamba-based Language Models*, 2024, arXiv:2406.07887: this comparison at 8B.

# %% [markdown]
# ## Clean up
#
# Drop the models and the figures; on a machine with a GPU this also returns its memory.

# %%
from matplotlib import pyplot

pyplot.close("all")
configs = runs = rows = None
if torch.cuda.is_available():
    torch.cuda.empty_cache()
