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
# # Lab 2.4.4: MoE router analysis
#
# | | |
# |---|---|
# | Module | 2.4 Efficient Architectures |
# | Time | 2 hours |
# | Difficulty | ★★★☆☆ |
# | Hardware | cpu: everything runs on a laptop; *On your Spark* reads the router of a real model |
# | Points | 30 automatic, 9 read by a person |
# | Builds on | 2.4.3 MoE Exploration, 2.3.2 Transformer block |
#
# You are going to build the part of a mixture of experts (MoE) that decides: who works on which token, what happens
# when an expert is full, and three ways to keep the work spread. Then you train small routers with and without
# balancing, and look at what they chose.

# %% [markdown]
# ## What you'll achieve
#
# By the end you have
#
# 1. **Systems understanding**: measured what an idle expert costs, and what a full one costs (objective 2.4.2).
# 2. **Core skill**: written top-k gating, dispatch, capacity, the balance and z losses, and bias balancing (objective
#    2.4.2).
# 3. **A pattern**: a hard choice that is trained through the soft weight beside it.
# 4. **A tie to production**: a router that equals those of transformers' Mixtral, DeepSeek-V3 and Switch (objective
#    2.4.2).
# 5. **A trade-off**: balance against quality, in pictures of your own routers.

# %% [markdown]
# ## Before you start
#
# You have run a mixture of experts and seen *that* experts differ (2.4.3), and written the feed-forward layer that
# they replace (2.3.2). **What works**: a library routes, and you count. **The gap**: why does the choice come out as it
# does, and why do some experts get nothing? **This lab** builds the router itself.
#
# ```
# 2.3.2 feed-forward layer ───┐
# 2.4.3 who was chosen? ──────┼──>  2.4.4 the router ──>  2.4.5 architectures compared
# 2.1   softmax, its gradient ┘
# ```

# %% [markdown]
# ### Skill checks
#
# Answer first, then unfold.
#
# <details><summary>1. What does adding 5 to every logit change in a softmax?</summary>
#
# Nothing: numerator and denominator both get the factor e^5. A loss on the probabilities cannot see it, and a loss that
# is to keep logits small has to look at something else.
# </details>
#
# <details><summary>2. Does argmax have a gradient?</summary>
#
# None that is of use: it is constant almost everywhere. What is chosen can only be trained through something soft that
# the choice is multiplied with.
# </details>
#
# <details><summary>3. Eight experts, two for each token, 1,000 tokens. How many rows does an expert work on?</summary>
#
# 250 on average: 1,000 * 2 / 8. Nothing so far says that it gets the average.
# </details>

# %% nbgrader={"grade": false, "grade_id": "router-given-setup", "locked": true, "schema_version": 3, "solution": false, "task": false}
import math
import statistics
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from labkit import checking, insight, tiny
from torch import Tensor, nn

# %% nbgrader={"grade": false, "grade_id": "router-given-settings", "locked": true, "schema_version": 3, "solution": false, "task": false}
warnings.filterwarnings("ignore", category=FutureWarning)  # from inside transformers, nothing to do with you
torch.set_num_threads(1)  # with matrices this small, a second thread would mostly wait for the first

# %% [markdown]
# Readiness check: the first two skills, run. It should print `ready`.

# %%
shift = torch.softmax(torch.tensor([1.0, 2.0]) + 5, dim=0) - torch.softmax(torch.tensor([1.0, 2.0]), dim=0)
assert float(shift.abs().max()) < 1e-6
assert not torch.tensor([1.0, 2.0], requires_grad=True).argmax().requires_grad
print("ready")

# %% [markdown]
# ## Why it matters
#
# Mixtral 8x7B has 47 billion parameters and uses 13 billion of them for a token; DeepSeek-V3 has 671 billion and uses
# 37. That bargain holds only while the work is spread. In training, experts live on different GPUs, and a step takes as
# long as the *fullest* one: a router that sends a quarter of all tokens to one of eight experts makes everybody wait
# twice as long.
#
# Left alone, routers do that. An expert that is chosen more often learns more, gets better, and is chosen more often.
# Switch Transformer fought it with a loss and with a limit on what an expert takes (tokens beyond it are dropped);
# DeepSeek-V3 does most of it with a number per expert that no gradient touches. You will build both, and see that
# neither is free.

# %% [markdown]
# ## At the kitchen table
#
# A canteen has eight counters, and a host at the door who looks at each guest and names two counters.
#
# | canteen | mixture of experts |
# |---|---|
# | the host | the router, one linear layer |
# | two counters, a bit more from the first | top-k gating with weights |
# | portions a counter has cooked | the capacity |
# | a guest who finds nothing left | a dropped token: only the residual goes on |
# | the manager frowning at long queues | the balance loss |
# | a sign "shorter queue here" | the bias that shifts the choice |
# | the salad bar that everybody passes | shared experts |
#
# **Where it breaks**: counters stay what they are, while an expert *becomes* what it is sent. A host who sends all
# guests to counter 3 makes counter 3 the only good one.

# %% [markdown]
# ## Foundations
#
# A router has one row $w_e$ for each of $E$ experts. For a token $x$ it forms logits $l_e=w_e\cdot x$ and probabilities
# $p=\mathrm{softmax}(l)$, takes the set $K$ of the $k$ largest, and returns $y=\sum_{e\in K} g_e\,\mathrm{FFN}_e(x)$
# with weights $g$ made from $p$. $K$ has no gradient; $g$ has one, and all that the router learns comes through it.
#
# ```
#          ┌─> router ─> logits (T, E) ─> top-k ─> indices (T, k), weights (T, k)
#  x (T,d) ┤                                          │
#          ├─> expert 3: the rows that chose 3  ──┐   │
#          ├─> expert 5: the rows that chose 5  ──┼── weighted, added at their rows ──> + ──> y (T, d)
#          └─> shared expert: all rows  ─────────────────────────────────────────────────┘
# ```

# %% [markdown]
# ### One example in numbers
#
# Logits (2.0, 1.0, 0.1, -1.0) and k = 2. The softmax over all is (0.638, 0.235, 0.095, 0.032). Keep the two largest as
# they are: (0.638, 0.235), a sum of 0.873. Renormalised: (0.731, 0.269). And a softmax over the two chosen logits
# alone: $1/(1+e^{-1})=0.731$, the same.

# %%
for chosen in ([2.0, 1.0, 0.1, -1.0], [2.0, 1.0]):
    print([round(value, 3) for value in torch.softmax(torch.tensor(chosen), dim=0).tolist()])


# %% [markdown]
# ## Part 1: Choose and mix
#
# ### Exercise 1: top-k gating
#
# Mixtral's paper takes the softmax *after* the choice, its code before it and renormalises. Switch (k = 1) and
# Qwen1.5-MoE take it before and do not renormalise. Write all of them, and find out which are the same.

# %% nbgrader={"grade": false, "grade_id": "router-gate", "locked": false, "schema_version": 3, "solution": true, "task": false}
def top_k_gate(
    logits: Tensor, k: int, softmax: Literal["before", "after"] = "before", renormalise: bool = True
) -> tuple[Tensor, Tensor]:
    """Choose k experts for each token, and weigh them.

    Args:
        logits: (T, E), the router's; float64, float32, bfloat16 or float16. T may be 0.
        k: how many experts a token gets.
        softmax: "before" takes the probabilities over all E experts and chooses among them; "after" chooses first and
            takes the softmax over the k chosen logits alone.
        renormalise: with "before", divide the k weights by their sum; with "after" it changes nothing.

    Returns:
        weights and indices, each (T, k), a token's heaviest expert first. Weights are float64 for float64 logits, else
        float32; they have a gradient. Indices are int64. Between equal logits either may be chosen.

    Raises:
        ValueError: k is not between 1 and E, or `softmax` is neither "before" nor "after".

    TODO: Choose the k largest of each row and turn their logits into weights.

    APPROACH:
        1. Widen the logits first, because in bfloat16 a softmax has two to three digits.
        2. Choose with topk, because it returns values (with a gradient) and places (without) at once.
        3. Divide by the sum of the chosen only where it is asked for, because what was not chosen counts otherwise.

    EXAMPLE:
        >>> weights, indices = top_k_gate(torch.tensor([[0.1, 2.0, -1.0, 1.0]]), k=2)
        >>> indices.tolist(), [round(w, 3) for w in weights[0].tolist()]
        ([[1, 3]], [0.731, 0.269])

    HINTS:
        1. Over which axis do the weights of a token sum to 1?
        2. `topk` works on logits as well as on probabilities: softmax keeps their order.
        3. `keepdim=True` keeps a sum of (T, k) over its last axis divisible into (T, k).
    """
    ### BEGIN SOLUTION
    if not 1 <= k <= logits.shape[1]:
        raise ValueError(f"k must be from 1 to the number of experts, not {k}")
    if softmax not in ("before", "after"):
        raise ValueError(f'softmax is "before" or "after", not {softmax!r}')
    wide = logits if logits.dtype == torch.float64 else logits.float()
    if softmax == "after":
        values, indices = wide.topk(k)
        return values.softmax(dim=1), indices
    weights, indices = wide.softmax(dim=1).topk(k)
    return (weights / weights.sum(dim=1, keepdim=True) if renormalise else weights), indices
    ### END SOLUTION


# %% [markdown]
# The tests draw logits whose order is never in doubt: in each row a shuffled ladder, with steps of at least 0.3.

# %% nbgrader={"grade": false, "grade_id": "router-given-draw", "locked": true, "schema_version": 3, "solution": false, "task": false}
def draw(seed: int, *shape: int, scale: float = 1.0) -> Tensor:
    """Normal float64 numbers from a seed."""
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# %% nbgrader={"grade": false, "grade_id": "router-given-draw-logits", "locked": true, "schema_version": 3, "solution": false, "task": false}
def draw_logits(seed: int, tokens: int, experts: int) -> Tensor:
    """Router logits (tokens, experts) in float64; no two of a row are closer than 0.3."""
    generator = torch.Generator().manual_seed(seed)
    ladder = torch.rand(tokens, experts, generator=generator).argsort(dim=1)
    return 0.6 * ladder + 0.3 * torch.rand(tokens, experts, generator=generator, dtype=torch.float64) - 0.3 * experts


# %% nbgrader={"grade": false, "grade_id": "router-given-gate-loop", "locked": true, "schema_version": 3, "solution": false, "task": false}
def gate_loop(logits: Tensor, k: int, softmax: str, renormalise: bool) -> tuple[Tensor, Tensor]:
    """What top_k_gate should give, in Python's floats."""
    weights, indices = [], []
    for row in logits.tolist():
        places = sorted(range(len(row)), key=lambda e: -row[e])[:k]
        counted = row if softmax == "before" and not renormalise else [row[e] for e in places]
        norm = math.fsum(math.exp(value - max(row)) for value in counted)
        weights.append([math.exp(row[e] - max(row)) / norm for e in places])
        indices.append(places)
    shape = (len(weights), k)
    return torch.tensor(weights, dtype=torch.float64).reshape(shape), torch.tensor(indices).long().reshape(shape)


# %% nbgrader={"grade": false, "grade_id": "router-given-kinds", "locked": true, "schema_version": 3, "solution": false, "task": false}
KINDS = [("before", True), ("before", False), ("after", True), ("after", False)]  # softmax, renormalise


# %% nbgrader={"grade": false, "grade_id": "router-given-check-gate", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_gate(logits: Tensor, k: int, softmax: str, renormalise: bool, rtol: float = 1e-12) -> None:
    """Hold top_k_gate against the loop. A softmax of logits below 60 loses some 60 * 1.1e-16 in float64: 1e-12."""
    what = f"k = {k} of {logits.shape[1]} experts, softmax {softmax!r}, renormalise={renormalise}"
    with checking.unchanged(logits=logits):
        weights, indices = top_k_gate(logits, k, softmax, renormalise)
    want, places = gate_loop(logits.double(), k, softmax, renormalise)
    checking.equal(indices, places, what=f"indices, {what}", hint="the largest logits, the heaviest first")
    kind = torch.float64 if logits.dtype == torch.float64 else torch.float32
    checking.close(weights.detach(), want.to(kind), rtol=rtol, atol=0, what=f"weights, {what}",
                   hint="over which experts do the weights sum to 1?")


# %% nbgrader={"grade": true, "grade_id": "test-router-gate", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: weights and indices of all four kinds against a loop, sizes, half precision, the gradient, refusals.
# Catches: the wrong axis, weights that are not renormalised (or always), a softmax in bfloat16, a lost graph.
# A pass prints what each of two checks earned.
def test_unit_router_gate():
    credit = checking.Credit(4)
    with credit.check("weights and indices", points=3, hint="do the worked example of Foundations by hand"):
        for kind in KINDS:
            check_gate(draw_logits(0, 3, 4), 2, *kind)
            check_gate(draw_logits(1, 2, 5), 5, *kind)
        same = [top_k_gate(draw_logits(2, 6, 8), 3, *kind)[0] for kind in (KINDS[0], KINDS[2])]
        checking.close(*same, rtol=1e-12, atol=0, what="renormalised weights and those of a softmax after the choice")
        ### BEGIN HIDDEN TESTS
        # check: one expert, one choice, all experts, no tokens
        # hint: which of the four kinds give the weight 1 when k is 1?
        seed = checking.secret_seed()
        for number, (tokens, experts, k) in enumerate([(9, 16, 1), (5, 1, 1), (0, 4, 2), (33, 7, 6), (1, 2, 2)]):
            for kind in KINDS:
                check_gate(draw_logits(seed + number, tokens, experts), k, *kind)
        # check: logits in the thousands
        # hint: exp(1000) overflows; torch's softmax does not.
        for kind in KINDS:
            check_gate(draw_logits(seed, 5, 6) + 3000, 2, *kind)
        # check: arguments that make no sense
        # hint: the docstring says what is refused.
        for k, kind in [(0, "before"), (5, "before"), (5, "after"), (2, "during"), (2, "")]:
            checking.raises(ValueError, top_k_gate, draw_logits(0, 3, 4), k, kind, what=f"k = {k}, softmax {kind!r}")
        ### END HIDDEN TESTS
    with credit.check("half precision and the gradient", points=1, hint="widen first; keep the weights in the graph"):
        for kind in KINDS:
            for low in (torch.float32, torch.bfloat16):  # eight float32 roundings of logits below 5: 8 * 5 * 6e-8
                check_gate(draw_logits(3, 4, 8).to(low), 2, *kind, rtol=4e-6)
            at = {"logits": draw_logits(4, 2, 4)}
            checking.gradient(lambda logits, kind=kind: (top_k_gate(logits, 2, *kind)[0] ** 2).sum(), at, rtol=1e-6,
                              atol=1e-9, what=f"the weights, softmax {kind[0]!r}, renormalise={kind[1]}")
    return credit.total()


test_unit_router_gate()


# %% [markdown]
# ### What just happened?
#
# "before" with renormalisation *is* "after": the denominator of the first softmax cancels. Without renormalisation the
# sum of the weights says how sure the router is. And for k = 1 a renormalised weight is always 1. What does
# that do to learning?

# %%
def router_gradients(k):
    for softmax, renormalise in KINDS[:3]:
        logits = draw_logits(5, 64, 8).requires_grad_()
        weights, _ = top_k_gate(logits, k, softmax, renormalise)
        (grad,) = torch.autograd.grad((weights**2).sum(), logits)
        print(f"k = {k}, softmax {softmax}, renormalise={renormalise!s:5}: largest gradient {grad.abs().max():.3f}")


# %%
for k in (1, 2):
    insight.run(lambda k=k: router_gradients(k), needs="Exercise 1 (top_k_gate)")


# %% [markdown]
# With k = 1 and renormalised weights the router gets **no gradient at all from the language loss** and stays what
# chance made it. That is why Switch keeps the probability as it is.
#
# ### Exercise 2: dispatch and combine
#
# Each expert gets *one* call with *only* the rows that chose it; its results are weighted and added at their rows. That
# is all the saving there is: an expert that nobody chose is not called. Shared experts (DeepSeekMoE) see every token,
# with weight 1, so that the others need not all learn what all tokens need. A place with index -1 is one that found no
# room (Exercise 3): nothing happens there.

# %% nbgrader={"grade": false, "grade_id": "router-mix", "locked": false, "schema_version": 3, "solution": true, "task": false}
def mix_experts(
    x: Tensor,
    weights: Tensor,
    indices: Tensor,
    experts: Sequence[Callable[[Tensor], Tensor]],
    shared: Sequence[Callable[[Tensor], Tensor]] = (),
) -> Tensor:
    """Run each expert on the tokens that chose it, and add up what they say.

    Args:
        x: (T, d), the tokens. T may be 0.
        weights: (T, k), of any float dtype.
        indices: (T, k), int64: the expert of each place, or -1 for a dropped place; a token never has an expert twice.
        experts: E functions from (n, d) to (n, d), of the dtype of x.
        shared: functions of the same kind that see all tokens, with weight 1.

    Returns:
        (T, d), of the dtype of x. A token with no place and no shared expert gets zeros. Gradients flow into x, the
        weights and the experts. Each routed expert is called at most once, with exactly the rows that chose it, and
        not at all when there is none; each shared expert is called once, with all rows. Where dtypes differ, round
        once, to the dtype of x, before adding or after it; float32 weights times bfloat16 results may be formed in
        either.

    TODO: For each expert, gather its rows, run it, weigh the result, and add it at the rows' places.

    APPROACH:
        1. Start from zeros, because a token may have lost all its places.
        2. Find the (token, place) pairs of one expert at a time, because it is to be called once.
        3. Add at the tokens' rows, because other experts have added there too.

    EXAMPLE:
        >>> x, half = torch.tensor([[1.0], [10.0]]), torch.full((2, 2), 0.5)
        >>> experts = [lambda rows: rows + 1, lambda rows: -rows, lambda rows: 3 * rows]
        >>> mix_experts(x, half, torch.tensor([[0, 1], [2, -1]]), experts).tolist()
        [[0.5], [15.0]]

    HINTS:
        1. `torch.where` on a mask of (T, k) gives two vectors: the tokens and their places.
        2. `weights[tokens, places]` has shape (n,), the expert's result (n, d).
        3. Look at `Tensor.index_add`. It wants one dtype on both sides.
    """
    ### BEGIN SOLUTION
    out = torch.zeros_like(x)
    for number, expert in enumerate(experts):
        token, place = torch.where(indices == number)
        if len(token):
            out = out.index_add(0, token, (weights[token, place, None] * expert(x[token])).to(x.dtype))
    for expert in shared:
        out = out + expert(x)
    return out
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "router-given-expert", "locked": true, "schema_version": 3, "solution": false, "task": false}
class Expert(nn.Module):
    """A linear map with a bend, which notes the rows of each of its calls."""

    def __init__(self, seed: int, width: int) -> None:
        super().__init__()
        self.matrix = nn.Parameter(draw(seed, width, width, scale=width**-0.5))
        self.calls: list[Tensor] = []

    def forward(self, rows: Tensor) -> Tensor:
        self.calls.append(rows.detach())
        return torch.tanh(rows @ self.matrix.to(rows.dtype)) + 0.25


# %% nbgrader={"grade": false, "grade_id": "router-given-mix-case", "locked": true, "schema_version": 3, "solution": false, "task": false}
def mix_case(seed: int, tokens: int, experts: int, k: int, shared: int, dropped: float):
    """x, weights, indices, experts and shared experts; a share of the places is dropped."""
    width = 6
    indices = torch.rand(tokens, experts, generator=torch.Generator().manual_seed(seed)).argsort(dim=1)[:, :k]
    away = torch.rand(tokens, k, generator=torch.Generator().manual_seed(seed + 1)) < dropped
    team = [Expert(seed + e, width) for e in range(experts + shared)]
    x, weights = draw(seed, tokens, width), draw(seed + 2, tokens, k)
    return x, weights, indices.masked_fill(away, -1), team[:experts], team[experts:]


# %% nbgrader={"grade": false, "grade_id": "router-given-mix-dense", "locked": true, "schema_version": 3, "solution": false, "task": false}
def mix_dense(x: Tensor, weights: Tensor, indices: Tensor, team: Sequence[Expert], shared: Sequence[Expert]) -> Tensor:
    """What mix_experts should give: every expert on every token, most of it multiplied by 0."""
    share = torch.stack([(weights * (indices == e)).sum(dim=1) for e in range(len(team))], dim=1)
    said = [torch.tanh(x @ expert.matrix) + 0.25 for expert in (*team, *shared)]
    share = torch.cat([share, share.new_ones(len(x), len(shared))], dim=1)
    return torch.einsum("te,etd->td", share, torch.stack(said))


# %% nbgrader={"grade": false, "grade_id": "router-given-check-mix", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_mix(case, what: str) -> None:
    """Values, gradients and calls of mix_experts on one case."""
    x, weights, indices, team, shared = case
    leaves = [x.requires_grad_(), weights.requires_grad_(), *(e.matrix for e in (*team, *shared))]
    want = mix_dense(x, weights, indices, team, shared)
    with checking.unchanged(x=x, weights=weights, indices=indices):
        got = mix_experts(x, weights, indices, team, shared)
    # Sums of 6 * E products near 1 in float64: 100 * 1.1e-16, with room.
    checking.close(got.detach(), want.detach(), rtol=0, atol=1e-12, what=f"output, {what}")
    for e, expert in enumerate((*team, *shared)):
        rows = x.detach()[(indices == e).any(dim=1) | (e >= len(team))]
        checking.equal(len(expert.calls), int(e >= len(team) or len(rows) > 0), what=f"calls of expert {e}, {what}",
                       hint="one call with all its rows, none when nobody chose it")
        for call in expert.calls:
            order = [t[t[:, 0].argsort()] for t in (call, rows)]
            checking.equal(*order, what=f"rows of expert {e} (in any order), {what}")
    grads = [torch.autograd.grad(out.square().sum() + 0 * x.sum(), leaves, allow_unused=True, materialize_grads=True)
             for out in (got, want)]  # 0 * x: a sum of nothing has no graph of its own
    for mine, theirs in zip(*grads, strict=True):
        checking.close(mine, theirs, rtol=0, atol=1e-10, what=f"a gradient of shape {tuple(theirs.shape)}, {what}")


# %% nbgrader={"grade": true, "grade_id": "test-router-mix", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: outputs, gradients and calls against every expert on every token; dropped places, no tokens, dtypes.
# Catches: experts on all rows, overwriting instead of adding, weights of another place, -1 as the last expert.
# A pass prints nothing.
def test_unit_router_mix():
    check_mix(mix_case(0, 5, 3, 2, 0, 0.0), "5 tokens, 2 of 3 experts")
    check_mix(mix_case(1, 5, 3, 2, 1, 0.0), "with a shared expert")
    check_mix(mix_case(2, 8, 3, 2, 0, 0.5), "with dropped places")
    ### BEGIN HIDDEN TESTS
    # check: many sizes, shared experts and dropped places
    # hint: compare with a loop over tokens and places that handles one row at a time.
    seed = checking.secret_seed()
    for number, sizes in enumerate([(17, 8, 3, 2, 0.3), (4, 5, 5, 0, 0.2), (9, 1, 1, 1, 0)]):
        check_mix(mix_case(seed + 100 * number, *sizes), "{} tokens, {} experts, k = {}, {} shared".format(*sizes[:4]))
    # check: experts that nobody chose
    # hint: an expert without rows must not be called, also when it is the last one or all are dropped.
    check_mix(mix_case(seed, 2, 16, 1, 0, 0.0), "more experts than tokens")
    check_mix(mix_case(seed, 6, 4, 2, 1, 1.1), "all places dropped, one shared expert")
    check_mix(mix_case(seed, 6, 4, 2, 0, 1.1), "all places dropped")
    # check: no tokens
    # hint: zeros of the shape of x are right for any number of rows.
    check_mix(mix_case(seed, 0, 3, 2, 0, 0.0), "no tokens")
    # check: tokens in bfloat16, weights in float32
    # hint: the result has the dtype of x; which dtype has a product of both?
    x, weights, indices, team, shared = mix_case(seed, 7, 4, 2, 1, 0.2)
    got = mix_experts(x.bfloat16(), weights.float(), indices, team, shared).detach()
    # Each of 3 terms is below 5 and gets a few bfloat16 roundings of 2**-9; inputs were rounded too.
    want = mix_dense(x, weights, indices, team, shared).detach()
    checking.close(got, want.bfloat16(), rtol=0, atol=0.4, what="output in bfloat16")
    ### END HIDDEN TESTS


test_unit_router_mix()


# %% [markdown]
# ### What just happened?
#
# Every expert worked on its own rows and on nothing else. See it for one small case:

# %%
def rows_by_expert():
    x, weights, indices, team, _ = mix_case(7, 12, 4, 2, 0, 0.0)
    mix_experts(x, weights, indices, team)
    print("rows of each expert:", [sum(len(call) for call in expert.calls) for expert in team], "of 12 tokens")


insight.run(rows_by_expert, needs="Exercise 2 (mix_experts)")


# %% [markdown]
# ### Systems insight 1 of 3: what does an idle expert cost?
#
# **Checkpoint**: you can choose and mix. **Predict, and write it down**: with 8 experts of which k are chosen, how do
# parameters, floating-point operations and seconds of your layer grow from k = 1 to k = 8? And from 8 to 32 experts at
# k = 2?

# %%
def feed_forward(width, seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))


# %%
def layer_cost(experts, k, tokens=512, width=64):
    """Parameters held, operations a token and milliseconds, of your gate and mix with k of E experts."""
    from torch.utils.flop_counter import FlopCounterMode

    team = [feed_forward(width, seed) for seed in range(experts)]
    x, logits = draw(0, tokens, width).float(), draw(1, tokens, experts).float()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        mix_experts(x, *top_k_gate(logits, k), team)
    times = []
    with torch.no_grad():
        for _ in range(20):
            begin = time.perf_counter()
            mix_experts(x, *top_k_gate(logits, k), team)
            times.append(time.perf_counter() - begin)
    held = sum(p.numel() for expert in team for p in expert.parameters())
    return {"parameters": held, "operations a token": counter.get_total_flops() / tokens,
            "ms": statistics.median(times) * 1e3}


# %%
def cost_table():
    table = {(experts, k): layer_cost(experts, k) for experts, k in [(8, 1), (8, 2), (8, 4), (8, 8), (32, 2)]}
    for (experts, k), row in table.items():
        print(f"{experts:2} experts, k = {k}: {row['parameters']:8,} parameters, "
              f"{row['operations a token']:9,.0f} operations a token, {row['ms']:6.2f} ms")
    insight.bars({f"{e} / {k}": row["operations a token"] for (e, k), row in table.items()},
                 ylabel="operations a token", title="operations grow with k").set_xlabel("experts / k")
    return table


costs = insight.run(cost_table, needs="Exercises 1 and 2")


# %% [markdown]
# **What it means in production.** Operations follow k, parameters follow E. That is the bargain: knowledge of a large
# model at the arithmetic of a small one. Memory does not take part in it: all experts must lie somewhere, and at batch
# size 1 each token reads the weights of its k experts. The seconds follow neither: with matrices this small, much of the
# time goes to the calls, one for each chosen expert. Grouped kernels exist for that.

# %% [markdown]
# ## Part 2: When an expert is full
#
# ### Exercise 3: capacity and dropped tokens
#
# Hardware likes fixed shapes: GShard and Switch give each expert a buffer of $C=\lceil \text{factor}\cdot T k /
# E\rceil$ rows. What comes later is *dropped*: its place adds nothing, and only the residual connection carries the
# token on. GShard's order (without its random second choice): all *first* choices, token by token, then all second
# choices, and so on, for a second choice weighs less.

# %% nbgrader={"grade": false, "grade_id": "router-capacity", "locked": false, "schema_version": 3, "solution": true, "task": false}
def expert_capacity(tokens: int, k: int, num_experts: int, factor: float) -> int:
    """Rows that an expert takes at most: factor times the average load, rounded up.

    Computed as factor * tokens * k / num_experts in floats; the last rounding is not tested.

    EXAMPLE:
        >>> expert_capacity(tokens=100, k=2, num_experts=8, factor=1.25)
        32
    """
    ### BEGIN SOLUTION
    return math.ceil(factor * tokens * k / num_experts)
    ### END SOLUTION


def keep_within(indices: Tensor, num_experts: int, capacity: int) -> Tensor:
    """Which places find room when each expert takes at most `capacity` of them.

    Lepikhin et al. 2020, algorithm 1 (without its random second choice).

    Args:
        indices: (T, k), int64, from 0 to num_experts - 1; column 0 holds the first choices. T may be 0.
        num_experts: E.
        capacity: rows an expert takes, at least 0.

    Returns:
        Bool, (T, k): True where the place is kept. First choices go before second ones, and so on; within one column,
        earlier tokens go first.

    TODO: Number the places of each expert in the order in which they come, and keep those up to the capacity.

    APPROACH:
        1. Put the places into one row in their order of arrival, because then there is one queue.
        2. Count along the queue for each expert, because that gives each place its number.
        3. Compare with the capacity and undo the order, because the caller wants (T, k) again.

    EXAMPLE:
        >>> keep_within(torch.tensor([[0, 1], [0, 1], [1, 0]]), num_experts=2, capacity=2).tolist()
        [[True, True], [True, False], [True, False]]

    HINTS:
        1. In which order does `indices.T.flatten()` list the places?
        2. One-hot rows of (T k, E), summed cumulatively, count the arrivals at each expert so far.
        3. Of each row of these counts only one entry is of interest; multiply by the one-hot rows, and sum.
    """
    ### BEGIN SOLUTION
    tokens, k = indices.shape
    arrivals = nn.functional.one_hot(indices.T.flatten(), num_experts)
    number = (arrivals.cumsum(dim=0) * arrivals).sum(dim=1)
    return (number <= capacity).reshape(k, tokens).T
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "router-given-choices", "locked": true, "schema_version": 3, "solution": false, "task": false}
def draw_choices(seed: int, tokens: int, experts: int, k: int, skew: float = 0.0) -> Tensor:
    """Indices (tokens, k); with a skew, the first experts are chosen more often."""
    liking = draw(seed, tokens, experts) - skew * torch.arange(experts)
    return liking.argsort(dim=1, descending=True)[:, :k]


# %% nbgrader={"grade": false, "grade_id": "router-given-queue", "locked": true, "schema_version": 3, "solution": false, "task": false}
def queue_loop(indices: Tensor, num_experts: int, capacity: int) -> Tensor:
    """What keep_within should give: one place after the other knocks at the door."""
    room, kept = [capacity] * num_experts, torch.zeros(indices.shape, dtype=torch.bool)
    for place in range(indices.shape[1]):
        for token, expert in enumerate(indices[:, place].tolist()):
            kept[token, place] = room[expert] > 0
            room[expert] -= 1
    return kept


# %% nbgrader={"grade": true, "grade_id": "test-router-capacity", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: the size of the buffer, and who finds room, against a queue in Python.
# Catches: rounding down, a forgotten k, second choices before first ones, one place too many, a queue for all.
# A pass prints what each of two checks earned.
def test_unit_router_capacity():
    credit = checking.Credit(4)
    with credit.check("the size of the buffer", points=1, hint="k places a token, rounded up at the end"):
        for *sizes, want in [(8, 1, 4, 1.0, 2), (9, 1, 4, 1.0, 3), (9, 2, 4, 1.5, 7), (0, 2, 4, 1.0, 0)]:
            checking.equal(expert_capacity(*sizes), want, what=f"expert_capacity{tuple(sizes)}")
        ### BEGIN HIDDEN TESTS
        # check: other sizes and factors
        # hint: do it on paper for one token more than fits.
        for *sizes, want in [(1, 1, 64, 1.25, 1), (1000, 2, 8, 1.25, 313), (64, 4, 16, 0.5, 8)]:
            checking.equal(expert_capacity(*sizes), want, what=f"expert_capacity{tuple(sizes)}")
        ### END HIDDEN TESTS
    with credit.check("who finds room", points=3, hint="all first choices before any second one; earlier tokens first"):
        cases = [(0, 6, 2, 2, 3), (1, 8, 3, 1, 2), (2, 7, 4, 3, 4)]
        ### BEGIN HIDDEN TESTS
        # check: long queues, one expert, no tokens, no room
        # hint: follow one expert through the queue; where is it when its buffer is full?
        seed = checking.secret_seed()
        cases += [(seed, 61, 8, 2, 12), (seed + 1, 40, 16, 4, 9), (seed + 2, 5, 1, 1, 3), (seed + 3, 0, 4, 2, 1)]
        cases += [(seed + 4, 9, 3, 2, 0), (seed + 5, 30, 5, 5, 7), (seed + 6, 30, 5, 2, 60)]
        ### END HIDDEN TESTS
        for number, tokens, experts, k, capacity in cases:
            indices = draw_choices(number, tokens, experts, k, skew=0.3)
            with checking.unchanged(indices=indices):
                got = keep_within(indices, experts, capacity)
            what = f"{tokens} tokens, k = {k} of {experts} experts, capacity {capacity}"
            checking.equal(got, queue_loop(indices, experts, capacity), what=what)
    return credit.total()


test_unit_router_capacity()


# %% [markdown]
# ### What just happened?
#
# A dropped token is not an error message but a silent 0. With your `mix_experts` it costs the token its expert:

# %%
def one_full_expert():
    indices = torch.zeros(4, 1, dtype=torch.long)  # all four tokens want expert 0
    kept = keep_within(indices, 2, expert_capacity(4, 1, 2, factor=1.0))
    print(mix_experts(torch.ones(4, 1), torch.ones(4, 1), indices.masked_fill(~kept, -1), [lambda r: 5 * r] * 2).T)


insight.run(one_full_expert, needs="Exercises 2 and 3")


# %% [markdown]
# ### Systems insight 2 of 3: dropped or padded?
#
# **Checkpoint**: experts have buffers. **Predict, and write it down**: with 8 experts, k = 2 and factor 1.25, what
# share of places does a balanced router lose, and what share a skewed one? How much of the buffers stays empty?

# %%
def dropped_and_empty(factor, skew, tokens=512, experts=8, k=2):
    """Shares of dropped places and of empty buffer rows, counted on your own mask."""
    capacity = expert_capacity(tokens, k, experts, factor)
    kept = int(keep_within(draw_choices(0, tokens, experts, k, skew), experts, capacity).count_nonzero())
    return 1 - kept / (tokens * k), 1 - kept / (experts * capacity)


# %%
def capacity_curves(factors=(0.5, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0)):
    curves = {}
    for name, skew in (("balanced", 0.0), ("skewed", 0.4)):
        pairs = [dropped_and_empty(factor, skew) for factor in factors]
        curves |= {f"{name}: dropped": [pair[0] for pair in pairs], f"{name}: empty": [pair[1] for pair in pairs]}
    insight.lines(factors, curves, xlabel="capacity factor", ylabel="share")
    for name, values in curves.items():
        print(f"{name:18} at 1.25: {values[2]:.1%}")
    return curves


drops = insight.run(capacity_curves, needs="Exercise 3 (expert_capacity, keep_within)")


# %% [markdown]
# **What it means in production.** The factor trades lost tokens for rows of padding that are computed and
# thrown away; balance improves both. Switch trained with factors of 1 to 1.25 and reports that with its balance loss
# fewer than 1 % of tokens are typically dropped. Newer systems ("dropless": MegaBlocks, and most inference engines)
# have buffers of any length instead. Then nothing is lost, and the fullest expert sets the pace.

# %% [markdown]
# ## Part 3: Losses that spread the work
#
# ### Exercise 4: the balance loss
#
# Let $f_e$ be the share of all places that went to expert e, and $P_e$ the mean probability that the router gave it.
# Switch (Fedus et al. 2021, equations 4 to 6) adds a multiple of
#
# $$L=E\sum_e f_e\,P_e$$
#
# to the loss: 1 when both are uniform, near $E/k$ when the same k experts get every token and all of the probability
# ($E$ for k = 1). $f$ is a count and has no gradient; $P$ has one, and is pushed down most where $f$ is large. Padding
# is routed too, and must not count.

# %% nbgrader={"grade": false, "grade_id": "router-balance", "locked": false, "schema_version": 3, "solution": true, "task": false}
def balance_loss(logits: Tensor, indices: Tensor, mask: Tensor | None = None) -> Tensor:
    """The load-balancing loss of Switch Transformer, for k choices a token.

    Args:
        logits: (T, E), the router's; float64, float32, bfloat16 or float16.
        indices: (T, k), int64: who was chosen.
        mask: (T,), int64: 1 for real tokens, 0 for padding; None when all are real. At least one is real.

    Returns:
        E * sum of f_e * P_e over all experts, without axes; float64 for float64 logits, else float32. f_e is e's
        share of the k places of all real tokens (so f sums to 1), P_e its mean probability over the real tokens.

    TODO: Count f, average P, and multiply.

    APPROACH:
        1. Drop the padded rows first, because then nothing behind can count them.
        2. Count every place of the choice, because second choices are work too.
        3. Average the softmax over all E experts, because those that were not chosen should be pulled up.

    EXAMPLE:
        >>> logits = torch.tensor([[2.0, 1.0, 0.1, -1.0]] * 3)
        >>> round(balance_loss(logits, torch.zeros(3, 1, dtype=torch.long)).item(), 3)
        2.552

    HINTS:
        1. A bool mask as an index picks rows of logits and of indices alike.
        2. `torch.bincount` counts; `minlength` keeps the experts that nobody chose.
        3. `bincount` takes one axis only: flatten, and divide by the number of elements.
    """
    ### BEGIN SOLUTION
    wide = logits if logits.dtype == torch.float64 else logits.float()
    if mask is not None:
        wide, indices = wide[mask.bool()], indices[mask.bool()]
    share = indices.flatten().bincount(minlength=logits.shape[1]) / indices.numel()
    return logits.shape[1] * (share * wide.softmax(dim=1).mean(dim=0)).sum()
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "router-given-balance-loop", "locked": true, "schema_version": 3, "solution": false, "task": false}
def balance_loop(logits: Tensor, indices: Tensor, mask: Tensor) -> Tensor:
    """What balance_loss should give, with the counts and the real rows in Python; keeps the graph."""
    real = [t for t, is_real in enumerate(mask.tolist()) if is_real]
    experts, places = logits.shape[1], [e for t in real for e in indices[t].tolist()]
    terms = [places.count(e) / len(places) * sum(logits[t].exp()[e] / logits[t].exp().sum() for t in real) / len(real)
             for e in range(experts)]
    return experts * sum(terms)


# %% nbgrader={"grade": false, "grade_id": "router-given-check-balance", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_balance(seed: int, tokens: int, experts: int, k: int, padded: int) -> None:
    """Hold balance_loss and its gradient against the loop; `padded` tokens, anywhere, are padding."""
    logits, indices = draw(seed, tokens, experts).requires_grad_(), draw_choices(seed + 1, tokens, experts, k, skew=0.5)
    mask = (draw(seed + 2, tokens).argsort() >= padded).long()
    what = f"{tokens} tokens, {padded} of them padding, k = {k} of {experts} experts"
    with checking.unchanged(logits=logits, indices=indices, mask=mask):
        got = balance_loss(logits, indices, mask) if padded else balance_loss(logits, indices)
    want = balance_loop(logits, indices, mask)
    # Counts may be float32, of 6e-8 relative each; sums of positive terms keep that.
    checking.close(got.detach(), want.detach(), rtol=1e-6, atol=0, what=f"loss, {what}")
    grads = [torch.autograd.grad(loss, logits)[0] for loss in (got, want)]
    checking.close(*grads, rtol=0, atol=1e-6 * experts / (tokens - padded), what=f"gradient, {what}")


# %% nbgrader={"grade": true, "grade_id": "test-router-balance", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: the loss and its gradient against a loop, padding, 1 when even, E for k = 1 and one expert, half precision.
# Catches: means over padding, first choices only, f without experts that nobody chose, P of the chosen only.
# A pass prints nothing.
def test_unit_router_balance():
    even = torch.arange(8).reshape(4, 2) % 4
    one = torch.tensor(1.0, dtype=torch.float64)
    checking.close(balance_loss(draw(0, 1, 4).expand(4, 4) * 0, even), one, rtol=1e-6, atol=0,
                   what="loss of a uniform router with even choices", hint="1, whatever k is: f sums to 1")
    check_balance(1, 5, 3, 1, 0)
    check_balance(2, 6, 4, 2, 2)
    ### BEGIN HIDDEN TESTS
    # check: one expert gets everything
    # hint: f and P are 1 for one expert, and 0 for all others.
    logits = torch.zeros(6, 5, dtype=torch.float64)
    logits[:, 1] = 60
    checking.close(balance_loss(logits, torch.ones(6, 1, dtype=torch.long)), 5 * one, rtol=1e-6, atol=0,
                   what="loss when one of five experts gets all")
    # check: many sizes, with padding anywhere
    # hint: is a padded row left out of the counts and of the means, and of what both are divided by?
    seed = checking.secret_seed()
    for number, sizes in enumerate([(11, 4, 1, 0), (9, 8, 3, 4), (7, 2, 2, 6), (1, 6, 2, 0), (13, 1, 1, 1)]):
        check_balance(seed + 10 * number, *sizes)
    # check: half precision
    # hint: the softmax belongs into float32, and so does the result.
    for k, low in enumerate((torch.float32, *3 * [torch.bfloat16])):  # one wrong sum may round to the right one
        logits, indices = draw(seed + k, 40, 8).to(low), draw_choices(seed + k, 40, 8, 2)
        want = balance_loop(logits.double(), indices, torch.ones(40)).float()
        # float32: a softmax and sums of 40 positive terms, some 40 * 6e-8.
        checking.close(balance_loss(logits, indices), want, rtol=5e-6, atol=0, what=f"loss of {low} logits")
    ### END HIDDEN TESTS


test_unit_router_balance()


# %% [markdown]
# ### What just happened?
#
# The loss cannot see *which* tokens go where, only how many. And it is not a distance: below 1 is possible, when the
# router likes best what it chooses least. Its gradient is what counts; look at its direction:

# %%
def pushed_down():
    logits = torch.zeros(100, 4).requires_grad_()
    indices = torch.tensor([0] * 70 + [1] * 20 + [2] * 10)[:, None]
    (grad,) = torch.autograd.grad(balance_loss(logits, indices), logits)
    insight.bars({f"expert {e}": -value * 100 for e, value in enumerate(grad[0].tolist())},
                 ylabel="push on the logit x 100", title="shares 70, 20, 10 and 0 %")


insight.run(pushed_down, needs="Exercise 4 (balance_loss)")


# %% [markdown]
# ### Exercise 5: the z loss
#
# A softmax does not notice when all logits grow together, bfloat16 does: at 300 its steps are 2 wide. ST-MoE
# (Zoph et al. 2022, equation 5) adds, with a weight of 0.001,
#
# $$L_z=\frac1T\sum_t\Big(\log\sum_e e^{l_{te}}\Big)^2$$

# %% nbgrader={"grade": false, "grade_id": "router-z", "locked": false, "schema_version": 3, "solution": true, "task": false}
def z_loss(logits: Tensor, mask: Tensor | None = None) -> Tensor:
    """The router z loss: the mean square of the log of the softmax's denominator.

    Args:
        logits: (T, E), float64, float32, bfloat16 or float16.
        mask: (T,), int64: 1 for real tokens, 0 for padding; None when all are real. At least one is real.

    Returns:
        A tensor without axes; float64 for float64 logits, else float32. It is finite for logits in the thousands.

    TODO: Average the squared log-sum-exp over the real tokens.

    APPROACH:
        1. Widen, because squares of bfloat16 numbers have two digits.
        2. Take the log-sum-exp in one call, because exp(1000) overflows.
        3. Average over the real tokens, because the loss must not depend on the padding.

    EXAMPLE:
        >>> round(z_loss(torch.tensor([[2.0, 1.0, 0.1, -1.0]])).item(), 3)
        5.999

    HINTS:
        1. torch has a function for log-sum-exp. Over which axis?
        2. The square is outside of the logarithm, and inside of the mean.
        3. Drop padded rows as in Exercise 4.
    """
    ### BEGIN SOLUTION
    wide = logits if logits.dtype == torch.float64 else logits.float()
    if mask is not None:
        wide = wide[mask.bool()]
    return wide.logsumexp(dim=1).square().mean()
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "router-given-check-z", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_z(logits: Tensor, mask: Tensor | None, what: str, rtol: float = 1e-12) -> None:
    """Hold z_loss against Python's floats. The float64 log-sum-exp is good to a few 1.1e-16, its square too."""
    squares = []
    for t, row in enumerate(logits.tolist()):
        if mask is None or mask[t]:
            squares.append((max(row) + math.log(math.fsum(math.exp(v - max(row)) for v in row))) ** 2)
    want = torch.tensor(math.fsum(squares) / len(squares), dtype=torch.float64)
    want = want if logits.dtype == torch.float64 else want.float()
    checking.close(z_loss(logits) if mask is None else z_loss(logits, mask), want, rtol=rtol, atol=1e-12, what=what)


# %% nbgrader={"grade": true, "grade_id": "test-router-z", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Checks: the loss against Python's floats, padding, huge logits, half precision, the gradient.
# Catches: overflow, the square in the wrong place, sums for means, padding that counts.
# A pass prints nothing.
def test_unit_router_z():
    check_z(draw(0, 4, 3), None, "four tokens")
    check_z(draw(1, 3, 5), torch.tensor([1, 0, 1]), "one of three tokens is padding")
    ### BEGIN HIDDEN TESTS
    # check: huge logits
    # hint: exp(1000) overflows; there is a function that never takes it.
    seed = checking.secret_seed()
    logits = draw(seed, 5, 4, scale=3000.0)
    logits[0, 0] = 3000.0  # one overflows, whatever was drawn
    check_z(logits, None, "logits in the thousands")
    # check: many sizes, padding, half precision
    # hint: the mean is taken over the real tokens, in float32 or better.
    check_z(draw(seed, 17, 8), (draw(seed + 1, 17).argsort() >= 5).long(), "five of 17 tokens are padding")
    check_z(draw(seed, 1, 1), torch.ones(1).long(), "one token, one expert")
    for low in (torch.float32, torch.bfloat16):  # float32: log-sum-exp above 2 and a mean of 40, some 40 * 6e-8
        check_z((draw(seed, 40, 16) + 2).to(low), None, f"{low} logits", rtol=5e-6)
    # check: the gradient
    # hint: the result must stay connected to the logits.
    checking.gradient(z_loss, {"logits": draw(seed, 3, 4)}, rtol=1e-6, atol=1e-8, what="z_loss")
    ### END HIDDEN TESTS


test_unit_router_z()


# %% [markdown]
# ### What just happened?
#
# The z loss does not balance anything; it keeps the router's numbers where low precision can tell them apart:

# %%
def z_by_offset():
    row = torch.tensor([[2.0, 1.0, 0.1, -1.0]])
    for offset in (0, 30, 300):
        low = (row + offset).bfloat16()
        weights = [round(w, 3) for w in top_k_gate(low, 2)[0][0].tolist()]
        print(f"logits + {offset:3}: z loss {z_loss(low).item():9.1f}, weights after bfloat16 {weights}")


insight.run(z_by_offset, needs="Exercises 1 and 5")


# %% [markdown]
# ## Part 4: A bias in place of a loss
#
# ### Exercise 6: gate with a bias, and move the bias
#
# A balance loss pulls at the same weights as the language loss, in another direction. DeepSeek-V3 balances without
# gradients (Wang et al. 2024): scores $s_e=\sigma(l_e)$, a bias $b_e$ that is added *for the choice only*, weights from
# the scores alone; and after each step $b_e$ goes up by $u$ where an expert had less than the average, down where
# it had more.

# %% nbgrader={"grade": false, "grade_id": "router-bias", "locked": false, "schema_version": 3, "solution": true, "task": false}
def biased_gate(logits: Tensor, bias: Tensor, k: int, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """Choose k experts by sigmoid score plus bias; weigh them by their scores alone.

    Args:
        logits: (T, E), float32 or float64.
        bias: (E,), of the same dtype.
        k: from 1 to E.
        scale: factor of all weights (DeepSeek-V3: 2.5).

    Returns:
        weights and indices, each (T, k); the weights of a token sum to `scale` and have a gradient with respect to the
        logits, none with respect to the bias. The order of a token's k places is free.

    TODO: Choose with the bias, weigh without.

    APPROACH:
        1. Take the sigmoid of each logit, because scores then do not compete before the choice.
        2. Choose by score plus bias, because the bias is there to move tokens.
        3. Gather the plain scores of the chosen, because the bias must not change how much an expert's answer counts.

    EXAMPLE:
        >>> weights, indices = biased_gate(torch.tensor([[1.0, 0.0, -1.0]]), torch.tensor([0.0, 0.0, 9.0]), k=1)
        >>> indices.item(), weights.item()
        (2, 1.0)

    HINTS:
        1. You need two tensors of (T, E): one to choose by, one to weigh by.
        2. `gather(1, indices)` picks from one what was chosen by the other.
        3. Divide by the sum of the k picked scores, then multiply by the scale.
    """
    ### BEGIN SOLUTION
    scores = logits.sigmoid()
    indices = (scores + bias).topk(k).indices
    picked = scores.gather(1, indices)
    return scale * picked / picked.sum(dim=1, keepdim=True), indices
    ### END SOLUTION


def update_bias(bias: Tensor, counts: Tensor, rate: float) -> Tensor:
    """The bias after a step: up by `rate` for experts below the average load, down above it, as it was at the average.

    Args:
        bias: (E,).
        counts: (E,), int64: places that each expert got in this step.
        rate: u, above 0 (DeepSeek-V3: 0.001).

    Returns:
        A new tensor of the shape and dtype of `bias`; `bias` itself stays as it was.

    EXAMPLE:
        >>> update_bias(torch.zeros(3), torch.tensor([5, 3, 1]), rate=0.5).tolist()
        [-0.5, 0.0, 0.5]
    """
    ### BEGIN SOLUTION
    return bias + rate * (counts.sum() - len(counts) * counts).sign()
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "router-given-check-bias", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_biased(seed: int, tokens: int, experts: int, k: int, scale: float, spread: float) -> None:
    """Hold biased_gate against Python's floats, places in any order."""
    logits, bias = draw(seed, tokens, experts), draw(seed + 1, experts, scale=spread)
    what = f"k = {k} of {experts} experts, scale {scale}, a bias of about {spread}"
    with checking.unchanged(logits=logits, bias=bias):
        weights, indices = biased_gate(logits, bias, k, scale)
    want = torch.zeros(tokens, experts, dtype=torch.float64)
    for t, row in enumerate(logits.tolist()):
        scores = [1 / (1 + math.exp(-value)) for value in row]
        chosen = sorted(range(experts), key=lambda e: -scores[e] - bias[e].item())[:k]
        for e in chosen:
            want[t, e] = scale * scores[e] / math.fsum(scores[c] for c in chosen)
    checking.equal((weights.shape, indices.shape, indices.dtype), ((tokens, k), (tokens, k), torch.int64),
                   what=f"shapes of weights and indices, dtype of indices, {what}")
    got = torch.zeros(tokens, experts, dtype=weights.dtype).scatter(1, indices, weights.detach())
    # Quotients of positive float64 numbers, a few 1.1e-16 each.
    checking.close(got, want, rtol=1e-12, atol=0, what=f"weight of each expert (0: not chosen), {what}",
                   hint="the bias chooses; the weights are made of plain scores")


# %% nbgrader={"grade": true, "grade_id": "test-router-bias", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: choice and weights against Python's floats, the gradient, the step of the bias and its standstill.
# Catches: a bias in the weights, softmax for sigmoid, a forgotten scale, the bias pushed the wrong way or by amounts.
# A pass prints what each of two checks earned.
def test_unit_router_bias():
    credit = checking.Credit(4)
    with credit.check("the gate", points=2, hint="one tensor to choose by, another to weigh by"):
        check_biased(0, 4, 3, 1, 1.0, 0.0)
        check_biased(1, 5, 6, 2, 2.5, 0.5)
        ### BEGIN HIDDEN TESTS
        # check: other sizes, large biases
        # hint: print scores, bias and choice of one token, and the sum of its weights.
        seed = checking.secret_seed()
        for number, sizes in enumerate([(9, 8, 3, 1, 0.3), (20, 16, 4, 2.5, 5), (1, 4, 4, 0.5, 1), (3, 1, 1, 1, 1)]):
            check_biased(seed + number, *sizes)
        # check: the gradient
        # hint: weights follow the logits; neither detach them nor let the bias in.
        logits, bias = draw(seed, 3, 5), torch.tensor([2.0, -2.0, 2.0, -2.0, 2.0], dtype=torch.float64)
        checking.gradient(lambda logits: (biased_gate(logits, bias, 3)[0] ** 2).sum(), {"logits": logits}, rtol=1e-6,
                          atol=1e-9, what="the weights")
        got = biased_gate(logits, bias.requires_grad_(), 2)[0].requires_grad
        checking.equal(got, False, what="a gradient to the bias")
        ### END HIDDEN TESTS
    with credit.check("the step of the bias", points=2, hint="only the sign counts, against the average"):
        cases = [([5, 3, 1], 0.5, [-1, 0, 1]), ([0, 0, 4, 0], 0.001, [1, 1, -1, 1])]
        ### BEGIN HIDDEN TESTS
        # check: even loads, averages between two numbers, one expert
        # hint: what is the average of 3 and 4, and who is above it? Who stays put?
        cases += [([3, 4], 0.25, [1, -1]), ([7, 7, 7], 1.0, [0, 0, 0]), ([9], 1.0, [0])]
        cases += [([2, 1, 1, 9, 2], 0.1, [1, 1, 1, -1, 1])]
        ### END HIDDEN TESTS
        for counts, rate, signs in cases:
            bias = draw(0, len(counts)).float()
            with checking.unchanged(bias=bias):
                got = update_bias(bias, torch.tensor(counts), rate)
            # float32: one product and one sum of values below 4, 4 * 6e-8 each.
            checking.close(got, bias + rate * torch.tensor(signs, dtype=torch.float32), rtol=0, atol=1e-6,
                           what=f"bias after loads of {counts}")
    return credit.total()


test_unit_router_bias()


# %% [markdown]
# ### What just happened?
#
# A controller, the simplest there is: bang-bang, like a thermostat. It reacts to the sign only, so a rate that is too
# large never settles.

# %% [markdown]
# ### Systems insight 3 of 3: how fast does a bias balance?
#
# **Checkpoint**: gate and update work. **Predict, and write it down**: a router prefers some of 16 experts, fixed.
# After how many steps is the fullest at most 30 % above the average, for rates of 0.001, 0.01 and 0.1?

# %%
def imbalance(rate, steps=200, experts=16, k=2):
    """How far the fullest expert is above the average, step by step; and milliseconds a step, drawing included."""
    liking, bias, curve = torch.linspace(-1, 1, experts), torch.zeros(experts), []
    begin = time.perf_counter()
    for step in range(steps):
        logits = draw(step, 2048, experts).float() + liking
        counts = biased_gate(logits, bias, k)[1].flatten().bincount(minlength=experts)
        curve.append(counts.max().item() * experts / counts.sum().item() - 1)
        bias = update_bias(bias, counts, rate)
    return curve, (time.perf_counter() - begin) / steps * 1e3


# %%
def controller(rates=(0.001, 0.01, 0.1)):
    runs = {rate: imbalance(rate) for rate in rates}
    insight.lines(range(200), {f"u = {rate}": curve for rate, (curve, _) in runs.items()}, xlabel="step",
                  ylabel="fullest expert above average")
    for rate, (curve, ms) in runs.items():
        there = next((step for step, value in enumerate(curve) if value <= 0.3), None)
        print(f"u = {rate:5}: within 30 % at step {there}, {sum(curve[-50:]) / 50:.2f} at the end, {ms:.2f} ms a step")
    return runs


by_rate = insight.run(controller, needs="Exercise 6 (biased_gate, update_bias)")


# %% [markdown]
# **What it means in production.** A small rate is slow but smooth, a large one keeps swinging and moves
# tokens between experts at random. DeepSeek-V3 took 0.001 for 14.3 trillion tokens and then 0: routing should stand
# still at the end. A step costs nothing next to a loss term, but the counts must be summed over *all* GPUs, or each
# balances for itself.

# %% [markdown]
# ## Part 5: Look at the choice
#
# ### Exercise 7: selection patterns
#
# Two views of a router: who chooses whom (a table of token groups by experts, to be drawn as a heat map), and how even
# the load is, in one number each. The entropy of the shares, divided by its maximum $\log E$, is 1 for an even load
# and 0 when one expert gets everything.

# %% nbgrader={"grade": false, "grade_id": "router-look", "locked": false, "schema_version": 3, "solution": true, "task": false}
def selection_table(indices: Tensor, groups: Tensor, num_groups: int, num_experts: int) -> Tensor:
    """Which group of tokens goes to which expert.

    Args:
        indices: (T, k), int64; -1 for a dropped place, which does not count.
        groups: (T,), int64: the group of each token, from 0 to num_groups - 1.

    Returns:
        (num_groups, num_experts), float32: row g holds each expert's share of the kept places of group g. It sums to 1,
        or is all 0 when the group has no kept place.

    TODO: Count the pairs of group and expert, and divide each row by its sum.

    APPROACH:
        1. Give each place its token's group, because a token of group g makes k pairs.
        2. Leave out dropped places, because nobody worked there.
        3. Divide by the row's sum or 1, because an empty group should give zeros and not NaN.

    EXAMPLE:
        >>> selection_table(torch.tensor([[0, 1], [0, -1], [2, 1]]), torch.tensor([0, 0, 2]), 3, 3).tolist()[::2]
        [[0.6666666865348816, 0.3333333432674408, 0.0], [0.0, 0.5, 0.5]]

    HINTS:
        1. `groups[:, None].expand_as(indices)` has a group for each place.
        2. A pair (g, e) can be one number, g * E + e, and numbers can be counted.
        3. `clamp(min=1)` makes a sum of 0 harmless.
    """
    ### BEGIN SOLUTION
    kept = indices >= 0
    pairs = (groups[:, None] * num_experts + indices)[kept]
    table = pairs.bincount(minlength=num_groups * num_experts).reshape(num_groups, num_experts)
    return table / table.sum(dim=1, keepdim=True).clamp(min=1)
    ### END SOLUTION


def load_stats(counts: Tensor) -> dict[str, float]:
    """How even a load is.

    Args:
        counts: (E,), int64: places of each expert; E is at least 2, at least one place was given.

    Returns:
        "entropy": that of the shares, divided by log E, from 0 to 1; an expert with nothing adds 0.
        "max_violation": how far the fullest is above the average, as a share of the average (Wang et al. 2024).
        "idle": the share of experts that got nothing.

    EXAMPLE:
        >>> {name: round(value, 3) for name, value in load_stats(torch.tensor([2, 1, 1, 0])).items()}
        {'entropy': 0.75, 'max_violation': 1.0, 'idle': 0.25}
    """
    ### BEGIN SOLUTION
    share = counts / counts.sum()
    entropy = torch.special.entr(share).sum() / math.log(len(counts))
    violation = share.max() * len(counts) - 1
    return {"entropy": entropy.item(), "max_violation": violation.item(), "idle": (counts == 0).float().mean().item()}
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "router-given-check-table", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_table(seed: int, tokens: int, experts: int, k: int, group_count: int, dropped: float) -> None:
    """Hold selection_table against counts in Python."""
    away = torch.rand(tokens, k, generator=torch.Generator().manual_seed(seed)) < dropped
    indices = draw_choices(seed, tokens, experts, k, skew=0.2).masked_fill(away, -1)
    groups = torch.randint(group_count, (tokens,), generator=torch.Generator().manual_seed(seed + 1))
    want = torch.zeros(group_count, experts)
    for g in range(group_count):
        places = [e for t in range(tokens) for e in indices[t].tolist() if groups[t] == g and e >= 0]
        for e in places:
            want[g, e] = places.count(e) / len(places)
    with checking.unchanged(indices=indices, groups=groups):
        got = selection_table(indices, groups, group_count, experts)
    what = f"{tokens} tokens, k = {k} of {experts} experts, {group_count} groups"
    checking.close(got, want, rtol=1e-6, atol=0, what=what, hint="one quotient, rounded to float32")


# %% nbgrader={"grade": true, "grade_id": "test-router-look", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: shares of each group against counts in Python, dropped places, empty groups; the three numbers of a load.
# Catches: NaN for empty groups, columns for rows, -1 as the last expert, logarithms of 0.
# A pass prints what each of two checks earned.
def test_unit_router_look():
    credit = checking.Credit(4)
    with credit.check("the table", points=2, hint="rows are groups and sum to 1, or to 0"):
        cases = [(0, 9, 3, 1, 2, 0.0), (1, 20, 4, 2, 3, 0.3)]
        ### BEGIN HIDDEN TESTS
        # check: groups without tokens, all places dropped, no tokens, one group
        # hint: what is 0 / 0, and what should stand there?
        seed = checking.secret_seed()
        cases += [(seed, 7, 5, 2, 12, 0.2), (seed + 1, 6, 3, 2, 2, 1.1), (seed + 2, 0, 4, 2, 3, 0.0)]
        cases += [(seed + 3, 50, 8, 3, 1, 0.1), (seed + 4, 1, 3, 1, 2, 0.0)]
        ### END HIDDEN TESTS
        for case in cases:
            check_table(*case)
    with credit.check("the numbers", points=2, hint="0 * log 0 counts as 0; the largest entropy is log E"):
        loads = [[3, 3, 3], [8, 0, 0, 0], [4, 2, 1, 1]]
        ### BEGIN HIDDEN TESTS
        # check: other loads
        # hint: do it by hand for two experts that share 3 to 1.
        generator = torch.Generator().manual_seed(checking.secret_seed())
        for busy, idle in [(6, 2), (2, 0), (17, 7)]:
            loads.append(torch.randint(1, 50, (busy,), generator=generator).tolist() + [0] * idle)
        ### END HIDDEN TESTS
        for load in loads:
            total, got = sum(load), load_stats(torch.tensor(load))
            entropy = -math.fsum(c / total * math.log(c / total) for c in load if c) / math.log(len(load))
            want = {"entropy": entropy, "max_violation": max(load) * len(load) / total - 1}
            want["idle"] = load.count(0) / len(load)
            checking.equal(sorted(got), sorted(want), what="names of the numbers")
            for name, value in want.items():  # float32: sums of 24 terms below 1, and differences of values below 24
                checking.close(got[name], value, rtol=0, atol=1e-5, what=f"{name!r} of the load {load}")
    return credit.total()


test_unit_router_look()


# %% [markdown]
# ### What just happened?
#
# Two numbers for one load need not agree. Entropy hardly notices one expert that gets double; the time of a step does,
# because all wait for the fullest. One heat map of a made-up router shows the rest:

# %%
def heat_map(table, rows, title=""):
    from matplotlib import pyplot

    highest = 0.5  # with k = 2 an expert has half of a row's places at most
    _, axes = pyplot.subplots(figsize=(5.5, 0.5 + 0.4 * len(rows)), layout="constrained")
    axes.imshow(table, cmap="cividis", vmin=0, vmax=highest, aspect="auto")
    axes.set(xticks=range(table.shape[1]), yticks=range(len(rows)), yticklabels=rows, xlabel="expert", title=title)
    for g, e in torch.nonzero(table >= 0.05).tolist():
        colour = "white" if table[g, e] < highest / 2 else "black"
        axes.text(e, g, f"{table[g, e]:.0%}", ha="center", va="center", fontsize=7, color=colour)


# %%
def made_up():
    indices = torch.cat([draw_choices(0, 100, 8, 2, skew=0.5), draw_choices(1, 100, 8, 2)])
    groups = torch.arange(200) // 100
    heat_map(selection_table(indices, groups, 2, 8), ["skewed", "even"])
    for g, name in enumerate(["skewed", "even"]):
        print(name, load_stats(indices[groups == g].flatten().bincount(minlength=8)))


insight.run(made_up, needs="Exercise 7")


# %% [markdown]
# ## Put it together
#
# Your pieces in place of three libraries' routers: Mixtral's whole block, DeepSeek-V3's with its shared experts and
# bias, and Switch's queue; and transformers' balance loss, which counts places per token where you count shares: it is
# k times yours. These helpers read transformers' weights.

# %% nbgrader={"grade": false, "grade_id": "router-given-slices", "locked": true, "schema_version": 3, "solution": false, "task": false}
def slices(experts: nn.Module) -> list[Callable[[Tensor], Tensor]]:
    """One function for each expert of a transformers block, which keeps all their weights in two tensors."""

    def run(rows: Tensor, e: int) -> Tensor:
        gate, up = (rows @ experts.gate_up_proj[e].T).chunk(2, dim=1)
        return (nn.functional.silu(gate) * up) @ experts.down_proj[e].T

    return [lambda rows, e=e: run(rows, e) for e in range(experts.num_experts)]


# %% nbgrader={"grade": false, "grade_id": "router-given-clear-cut", "locked": true, "schema_version": 3, "solution": false, "task": false}
def clear_cut(scores: Tensor) -> Tensor:
    """Rows whose scores are all at least 1e-3 apart, so that rounding changes no choice."""
    return scores.sort(dim=1).values.diff(dim=1).amin(dim=1) > 1e-3


# %% nbgrader={"grade": false, "grade_id": "router-given-check-mixtral", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_mixtral(seed: int, k: int, experts: int) -> None:
    """top_k_gate and mix_experts against Mixtral's block, balance_loss against transformers'."""
    from transformers import MixtralConfig
    from transformers.models.mixtral import modeling_mixtral as mixtral

    config = MixtralConfig(hidden_size=16, intermediate_size=24, num_local_experts=experts, num_experts_per_tok=k)
    config._experts_implementation = "eager"
    block = mixtral.MixtralSparseMoeBlock(config).requires_grad_(False).eval()
    for number, parameter in enumerate(block.parameters()):
        parameter.copy_(draw(seed + number, *parameter.shape, scale=0.3))
    x = draw(seed, 40, 16).float()
    x = x[clear_cut(x @ block.gate.weight.T)]
    logits = x @ block.gate.weight.T
    weights, indices = top_k_gate(logits, k)
    # float32: sums of 24 products near 1, then of k experts: 24 * 6e-8 * 10.
    checking.close(mix_experts(x, weights, indices, slices(block.experts)), block(x[None])[0], rtol=1e-4, atol=2e-5,
                   what=f"Mixtral's block, k = {k} of {experts} experts")
    mask = (draw(seed, len(x)) > -0.5).long()
    want = mixtral.load_balancing_loss_func((logits,), experts, k, mask[None])
    checking.close(k * balance_loss(logits, indices, mask), want, rtol=1e-5, atol=0, what="k times your balance loss")


# %% nbgrader={"grade": false, "grade_id": "router-given-check-deepseek", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_deepseek(seed: int, k: int, experts: int) -> None:
    """biased_gate and mix_experts with a shared expert against DeepSeek-V3's block."""
    from transformers import DeepseekV3Config
    from transformers.models.deepseek_v3 import modeling_deepseek_v3 as deepseek

    config = DeepseekV3Config(hidden_size=16, moe_intermediate_size=24, n_routed_experts=experts, n_shared_experts=1,
                              num_experts_per_tok=k, n_group=1, topk_group=1, routed_scaling_factor=2.5)
    config._experts_implementation = "eager"
    block = deepseek.DeepseekV3MoE(config).requires_grad_(False).eval()
    for number, parameter in enumerate(block.parameters()):
        parameter.copy_(draw(seed + number, *parameter.shape, scale=0.3))
    bias = block.gate.e_score_correction_bias.copy_(draw(seed + 99, experts, scale=0.5))
    x = draw(seed, 40, 16).float()
    x = x[clear_cut((x @ block.gate.weight.T).sigmoid() + bias)]
    weights, indices = biased_gate(x @ block.gate.weight.T, bias, k, scale=2.5)
    got = mix_experts(x, weights, indices, slices(block.experts), [block.shared_experts])
    # float32, as for Mixtral, times 2.5.
    checking.close(got, block(x[None])[0], rtol=1e-4, atol=5e-5, what=f"DeepSeek-V3's block, k = {k} of {experts}")


# %% nbgrader={"grade": false, "grade_id": "router-given-check-switch", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_switch(seed: int, tokens: int, experts: int, capacity: int) -> None:
    """top_k_gate without renormalisation and keep_within against Switch's router."""
    from transformers import SwitchTransformersConfig
    from transformers.models.switch_transformers import modeling_switch_transformers as switch

    config = SwitchTransformersConfig(d_model=16, num_experts=experts, expert_capacity=capacity)
    router = switch.SwitchTransformersTop1Router(config).requires_grad_(False).eval()
    router.classifier.weight.copy_(draw(seed, experts, 16, scale=0.3))
    x = draw(seed + 1, tokens, 16).float()
    x = x[clear_cut(router.classifier(x))]
    chosen, probability, logits = router(x[None])
    weights, indices = top_k_gate(logits[0], 1, renormalise=False)
    checking.close(weights, probability[0], rtol=1e-5, atol=0, what="Switch's probabilities")
    kept = keep_within(indices, experts, capacity)
    checking.equal(kept[:, 0], chosen[0].any(dim=1), what=f"who finds room in Switch's router, capacity {capacity}")


# %% nbgrader={"grade": true, "grade_id": "test-router-module", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: your pieces against Mixtral, DeepSeek-V3 and Switch as transformers has them, and the bias at work.
# Catches: pieces that are right alone and do not fit together.
# A pass prints what each of two checks earned.
def test_unit_router_module():
    credit = checking.Credit(4)
    with credit.check("the blocks are transformers'", points=3, hint="which exercise does the message name?"):
        check_mixtral(0, 2, 4)
        check_deepseek(0, 2, 6)
        check_switch(0, 30, 4, 6)
        ### BEGIN HIDDEN TESTS
        # check: fresh weights and other sizes
        # hint: run the failing exercise alone on the sizes that its own test draws.
        seed = checking.secret_seed()
        check_mixtral(seed, 3, 8)
        check_deepseek(seed, 3, 8)
        check_switch(seed, 50, 8, 4)
        ### END HIDDEN TESTS
    with credit.check("the bias balances a router", points=1, hint="less than average: up; the bias moves the choice"):
        bias, logits = torch.zeros(8), draw(1, 400, 8).float() + torch.linspace(-2, 2, 8)
        loads = []
        for _ in range(300):
            counts = biased_gate(logits, bias, 2)[1].flatten().bincount(minlength=8)
            loads.append(load_stats(counts))
            bias = update_bias(bias, counts, 0.01)
        assert loads[0]["max_violation"] > 0.8, f"before: {loads[0]}"
        assert loads[-1]["max_violation"] < 0.3 and loads[-1]["entropy"] > 0.97, f"after 300 steps: {loads[-1]}"
    return credit.total()


test_unit_router_module()


# %%
def test_unit_all():
    """Every test again, in order; says which exercises are still open."""
    for name in ("gate", "mix", "capacity", "balance", "z", "bias", "look", "module"):
        print(f"--- {name}")
        insight.run(globals()[f"test_unit_router_{name}"], needs=f"router-{name}")


# %%
test_unit_all()

# %% [markdown]
# ## Use it: collapse, and three remedies
#
# A tiny language model that reads eight letters and guesses the ninth, with your mixture of eight experts in its
# middle. It is trained several times from the same start, on the same batches. What differs is k and the balancing.

# %%
CORPUS = torch.tensor(list(tiny.sentences(1500, seed=0).encode())).unfold(0, 9, 1)  # windows of nine letters


# %%
class TinyMoE(nn.Module):
    """Eight letters in, logits of the ninth out; the middle layer is a mixture of experts."""

    def __init__(self, k, bias_rate=0.0, experts=8, width=32):
        super().__init__()
        torch.manual_seed(0)
        self.k, self.bias_rate = k, bias_rate
        self.letters, self.inner = nn.Embedding(128, 16), nn.Linear(8 * 16, width)
        self.router = nn.Linear(width, experts, bias=False)
        nn.init.normal_(self.router.weight, std=width**-0.5)
        self.experts = nn.ModuleList(feed_forward(width, seed=e + 1) for e in range(experts))
        self.head = nn.Linear(width, 128)
        self.register_buffer("bias", torch.zeros(experts))

    def route(self, letters):
        hidden = nn.functional.rms_norm(self.inner(self.letters(letters).flatten(1)), (32,))
        logits = self.router(hidden)
        if self.bias_rate:
            return hidden, logits, *biased_gate(logits, self.bias, self.k)
        return hidden, logits, *top_k_gate(logits, self.k, renormalise=self.k > 1)

    def forward(self, letters):
        hidden, logits, weights, indices = self.route(letters)
        return self.head(mix_experts(hidden, weights, indices, self.experts)), logits, indices


# %%
def train_moe(k=2, coefficient=0.0, bias_rate=0.0, z=0.0, steps=150):
    """Train one arm; returns the model and, for each step, the loss in nats and the load of each expert."""
    model, history = TinyMoE(k, bias_rate), []
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        batch = CORPUS[torch.randint(len(CORPUS), (256,), generator=generator)]
        guess, logits, indices = model(batch[:, :8])
        nats = nn.functional.cross_entropy(guess, batch[:, 8])
        loss = nats + coefficient * balance_loss(logits, indices) + z * z_loss(logits)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        counts = indices.flatten().bincount(minlength=8)
        if bias_rate:
            model.bias = update_bias(model.bias, counts, bias_rate)
        history.append({"nats": nats.item(), "counts": counts})
    return model, history


# %% [markdown]
# What is judged is the end of each run: the loss on the language, how even the load is, and what would be dropped at a
# capacity factor of 1.25.

# %%
ARMS = {"k=1, nothing": {"k": 1}, "k=1, loss 0.3": {"k": 1, "coefficient": 0.3}, "k=2, nothing": {},
        "k=2, loss 0.01": {"coefficient": 0.01}, "k=2, loss 0.3": {"coefficient": 0.3}, "k=2, bias": {"bias_rate": 0.01}}


# %%
def judge(model, history):
    letters = CORPUS[torch.randint(len(CORPUS), (2048,), generator=torch.Generator().manual_seed(1))][:, :8]
    with torch.no_grad():
        _, logits, _, indices = model.route(letters)
    kept = keep_within(indices, 8, expert_capacity(2048, model.k, 8, 1.25))
    nats = sum(step["nats"] for step in history[-20:]) / 20
    row = {"nats": nats, **load_stats(indices.flatten().bincount(minlength=8))}
    return row | {"dropped": 1 - kept.float().mean().item(), "z": z_loss(logits).item()}


# %%
def all_arms():
    runs, rows = {name: train_moe(**settings) for name, settings in ARMS.items()}, {}
    for name, run in runs.items():
        rows[name] = judge(*run)
        print(f"{name:14}", "  ".join(f"{key} {value:5.2f}" for key, value in rows[name].items()))
    return runs, rows


runs, rows = insight.run(all_arms, needs="Exercises 1 to 7") or (None, None)


# %% [markdown]
# The collapse as it happens: the share of each expert, step by step. A bright line is an expert that takes over; a dark
# one has died. Compare the first two above all, k = 1 without and with a balance loss: same start, same batches.

# %%
def collapse(names=("k=1, nothing", "k=1, loss 0.3", "k=2, nothing", "k=2, loss 0.3", "k=2, bias")):
    from matplotlib import pyplot

    _, boxes = pyplot.subplots(1, len(names), figsize=(12, 2.4), layout="constrained", sharey=True)
    for box, name in zip(boxes, names, strict=True):
        loads = torch.stack([step["counts"] for step in runs[name][1]]).T
        box.imshow(loads / loads.sum(dim=0), cmap="cividis", vmin=0, vmax=0.5, aspect="auto")
        box.set(title=name, xlabel="step", yticks=range(8))
    boxes[0].set_ylabel("expert")


if runs:
    collapse()

# %% [markdown]
# And what do experts specialise in? Group the tokens by the letter that stands last, as the router sees it:

# %%
KINDS_OF_LETTER = ["space", "full stop", "word begins", "word goes on"]


def kind_of_letter(letters):
    """Group of each window by its last letter."""
    last, before = letters[:, -1], letters[:, -2]
    return torch.where(last == ord(" "), 0, torch.where(last == ord("."), 1, torch.where(before == ord(" "), 2, 3)))


# %%
def patterns(names=("k=2, nothing", "k=2, loss 0.3", "k=2, bias")):
    letters = CORPUS[:4000, :8]
    for name in names:
        with torch.no_grad():
            indices = runs[name][0].route(letters)[3]
        heat_map(selection_table(indices, kind_of_letter(letters), 4, 8), KINDS_OF_LETTER, title=name)


if runs:
    patterns()


# %% [markdown]
# Rows that differ mean specialists. Here they could only divide kinds of letters, for we grouped by nothing else.
# Mixtral's authors also looked for subjects, found little trace of them, and clear ones of syntax.
#
# The same functions read any model of transformers that hands out its router logits:

# %%
def read_router(model, ids, k):
    """For each MoE layer: the load's numbers and the z loss, from a model's own router logits."""
    with torch.no_grad():
        layers = model(input_ids=ids, output_router_logits=True).router_logits
    rows = []
    for logits in layers:
        logits = logits.cpu()
        counts = top_k_gate(logits, k)[1].flatten().bincount(minlength=logits.shape[1])
        rows.append({**load_stats(counts), "z": z_loss(logits).item()})
    return rows


# %%
def read_tiny_mixtral():
    from transformers import MixtralConfig, MixtralForCausalLM

    torch.manual_seed(0)
    model = MixtralForCausalLM(MixtralConfig(
        vocab_size=259, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, num_local_experts=8, num_experts_per_tok=2)).eval()
    ids = torch.tensor([list(tiny.sentences(20, seed=3).encode())])
    for number, row in enumerate(read_router(model, ids, 2)):
        print(f"layer {number}:", {name: round(value, 2) for name, value in row.items()})


insight.run(read_tiny_mixtral, needs="Exercises 1, 5 and 7")

# %% [markdown]
# ## On your Spark
#
# Full size: the router of Qwen1.5-MoE-A2.7B (14.3 billion parameters, 2.7 active; 60 experts, 4 chosen, a shared one)
# in bfloat16: 29 GB of the 128 GB of unified memory. transformers hands out its router logits, so your functions do the
# rest.
#
# ```bash
# sync; echo 3 | sudo tee /proc/sys/vm/drop_caches   # unified memory: the file cache would take from the GPU's share
# docker run --gpus all -it --rm --ipc=host -p 8888:8888 -v $PWD:/workspace \
#     -v $HOME/.cache/huggingface:/hf -e HF_HOME=/hf nvcr.io/nvidia/pytorch:25.11-py3
# ```
#
# In the container `pip install "transformers>=5.23" accelerate` and the course's package, then set `RUN_ON_SPARK`. This
# section has **not yet been measured on a GPU** by the authors: your record is the first.

# %%
RUN_ON_SPARK = False


# %%
def run_on_spark(path="Qwen/Qwen1.5-MoE-A2.7B", text=None):
    """Read the routers of the real model on a text of your own; returns the record. Needs a GPU with 32 GB free."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16, device_map="cuda").eval()
    text = text or tiny.sentences(400, seed=0)
    ids = AutoTokenizer.from_pretrained(path)(text, return_tensors="pt")["input_ids"].to("cuda")
    torch.cuda.reset_peak_memory_stats()
    begin = time.perf_counter()
    layers = read_router(model, ids, model.config.num_experts_per_tok)
    seconds = time.perf_counter() - begin
    return {"gpu": torch.cuda.get_device_name(), "tokens": ids.numel(), "seconds": seconds,
            "peak_gb": torch.cuda.max_memory_allocated() / 1e9,
            "lowest_entropy": min(row["entropy"] for row in layers),
            "highest_violation": max(row["max_violation"] for row in layers)}


# %% [markdown]
# Record what you measured, once on the text above and once on one of your own; which layer is least even?
# `run_on_spark()` fills the record in for you; one by hand is as good. Without such a machine leave it as it is:
# nothing is lost.

# %%
spark_record = {"gpu": None, "tokens": None, "seconds": None, "peak_gb": None, "lowest_entropy": None,
                "highest_violation": None}

# %%
if RUN_ON_SPARK:
    spark_record = run_on_spark()


# %% nbgrader={"grade": false, "grade_id": "router-given-spark-record", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_spark_record(record: dict) -> str:
    """Form and plausibility of a record. Nothing here earns points; a person reads it."""
    wanted = {"tokens": (100, 100_000), "seconds": (0.01, 600), "peak_gb": (28, 128), "lowest_entropy": (0, 1),
              "highest_violation": (0, 14)}
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
# **1. Renormalised weights with k = 1.**
#
# ```python
# w, i = p.topk(1); w = w / w.sum(1, keepdim=True)       # wrong for k = 1: always 1, and the router never learns
# w, i = p.topk(1)                                       # right: the probability itself
# ```
#
# **2. The bias in the weights.**
#
# ```python
# w, i = (s + b).topk(k)                                 # wrong: the bias changes how much an answer counts
# i = (s + b).topk(k).indices; w = s.gather(1, i)        # right: it only moves the choice
# ```

# %% [markdown]
# **3. A queue row by row.**
#
# ```python
# order = indices.flatten()                              # wrong: second choices of early tokens come too soon
# order = indices.T.flatten()                            # right: column by column
# ```
#
# **4. Padding that is balanced.**
#
# ```python
# probabilities.mean(0)                                  # wrong: padding looks alike, goes to the same experts
# probabilities[mask.bool()].mean(0)                     # right
# ```
#
# **5. Assigning where adding is meant.**
#
# ```python
# out[token] = weight * said                             # wrong: the second expert of a token erases the first
# out = out.index_add(0, token, weight * said)           # right
# ```

# %% [markdown]
# ## Reflect
#
# Three questions on *your* code and *your* measurements. Five to ten lines each; numbers without a source in this
# notebook earn nothing.

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-router-cost", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Reflection 1: memory and time (3 points).** From `costs`: what do 32 experts at k = 2 cost in parameters, operations
# and milliseconds against 8 at k = 2, and why? Which of them decides whether it fits, which how fast a long prompt is
# read? And what, of none of the three columns, decides how fast single tokens are written? From `drops`: which capacity
# factor would you choose for the skewed router, and what do you pay?
#
# ### BEGIN SOLUTION
# Parameters grow four times (their numbers), operations a token not at all, milliseconds by a factor of their own: the
# matrices are small, and much of the time goes to the calls, 32 in place of 8. Fit: parameters, for all experts must be
# held. Long prompts: operations, for all experts' weights are read once for many rows. Single tokens: the bytes of the
# k active experts' weights, which each token reads anew, neither the total nor the arithmetic. Skewed: at 1.25 a
# third is dropped (their number); to lose next to nothing takes a factor of about 3, and then two thirds of the buffers
# are empty: three times the arithmetic. Balance first, or go dropless.
#
# ### BEGIN MARK SCHEME
# - 1 point: their own three ratios, with a reason for the milliseconds (calls, one for each chosen expert).
# - 1 point: at least two of the three cases answered rightly (parameters, operations, bytes of the active experts).
# - 1 point: a factor with both prices, dropped and empty, from `drops`. "A larger one" without numbers: nothing.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-router-balance", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Reflection 2: balance and quality (3 points).** From `rows` and `by_rate`: which arm is most even, which has the
# lowest loss on the language, and is one run of each enough to say so? Explain from `balance_loss` and `update_bias`
# where each of the two acts on the router, and why the loss with 0.01 does less than with 0.3. Compare "k=1, nothing"
# with "k=1, loss 0.3": what went wrong without the loss, why does it feed itself, and what did the loss change?
#
# ### BEGIN SOLUTION
# (With the student's numbers.) The bias is most even (entropy near 1), the large loss comes next; differences of a few
# hundredths of a nat between arms are within what another seed would change, so one run does not rank them. The loss
# acts through the gradient of P on the router's weights (and on everything below), against the language gradient; the
# bias moves the choice only and leaves weights and gradients alone. With 0.01 its gradient is small next to that of the
# language loss, and 150 steps are few; real runs are a thousand times longer. k = 1, nothing: a few experts get most
# tokens and many are idle; who is chosen is trained, gets better and its probability rises, who is not gets no gradient
# from the language. With 0.3: no expert idle, entropy near 1, hardly anything dropped, at about the same loss (their
# numbers), for the gradient of P pushes down whoever has much and pulls up those that nobody chose.
#
# ### BEGIN MARK SCHEME
# - 1 point: their own numbers for evenness and loss, with doubt about single runs.
# - 1 point: the loss works by gradients in the weights, the bias on the choice only, without gradient.
# - 1 point: the loop of being chosen and getting better, and what broke it, tied to both k = 1 arms ("idle", entropy or
#   their `collapse` picture).
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-router-production", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Reflection 3: production (3 points).** Your team serves a model with 64 experts on 8 GPUs, 8 experts on each. Users
# are suddenly all programmers, and latency rises by half. Which numbers of `load_stats` and which picture of this lab
# would you look at, in which grouping? Name two remedies that do not retrain the model, one of which uses a function of
# yours, and what each may break.
#
# ### BEGIN SOLUTION
# max_violation for each layer, summed by GPU (8 experts each), because the fullest one sets the pace; entropy may look
# fine. selection_table with kinds of requests as groups, before and after: do code tokens share experts? Remedies:
# place or replicate experts anew (hot ones twice, spread over GPUs; costs memory and a reload); lower capacity with
# keep_within (bounds the time, drops tokens: answers get worse silently); update_bias at serving time (evens the load,
# but sends tokens to experts that were not trained for them, so quality must be watched).
#
# ### BEGIN MARK SCHEME
# - 1 point: max_violation (not entropy alone), per layer and per GPU.
# - 1 point: the table grouped by kind of request, compared over time.
# - 1 point: two remedies without training, each with what it may break.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# What you built, in the numbers of your own run:

# %%
def summary():
    for name in ("k=1, nothing", "k=1, loss 0.3", "k=2, nothing", "k=2, bias"):
        row = rows[name]
        print(f"{name:13}: entropy {row['entropy']:.2f}, idle {row['idle']:.0%}, dropped {row['dropped']:.0%}, "
              f"{row['nats']:.2f} nats")
    print(f"32 experts against 8: {costs[32, 2]['parameters'] / costs[8, 2]['parameters']:.1f} times the parameters, "
          f"{costs[32, 2]['operations a token'] / costs[8, 2]['operations a token']:.1f} times the operations")


# %%
insight.run(summary, needs="Exercises 1 to 7")

# %% [markdown]
# ## Challenge (optional)
#
# 1. **Expert choice**: let each expert choose its C tokens instead (Zhou et al. 2022). Perfect balance by construction;
#    why can a causal language model not use it as it is?
# 2. **Groups**: DeepSeek-V3 first chooses 4 of 8 groups of experts by the sum of their two best scores, so that a token
#    travels to few machines. Extend `biased_gate` and compare with transformers' router.
# 3. **Noise**: multiply x by a random number near 1 before the router, in training only (Switch's jitter). Does
#    it delay the collapse?
#
# ## Further reading
#
# - W. Fedus et al., *Switch Transformers*, 2021, arXiv:2101.03961. Capacity and the balance loss.
# - D. Lepikhin et al., *GShard*, 2020, arXiv:2006.16668. Top-2 gating and the order of the queue.
# - B. Zoph et al., *ST-MoE*, 2022, arXiv:2202.08906. The z loss, and what makes routers unstable.
# - A. Jiang et al., *Mixtral of Experts*, 2024, arXiv:2401.04088. Section 5 looks at what experts choose.
# - D. Dai et al., *DeepSeekMoE*, 2024, arXiv:2401.06066. Shared and fine-grained experts.
# - L. Wang et al., *Auxiliary-Loss-Free Load Balancing Strategy for Mixture-of-Experts*, 2024, arXiv:2408.15664.
# - DeepSeek-AI, *DeepSeek-V3 Technical Report*, 2024, arXiv:2412.19437.

# %% [markdown]
# ## Clean up
#
# Drop the models and the figures; on a machine with a GPU this also returns its memory.

# %%
from matplotlib import pyplot

pyplot.close("all")
runs = None
if torch.cuda.is_available():
    torch.cuda.empty_cache()
