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
# # Lab 2.4.1: Mamba inference
#
# | | |
# |---|---|
# | Module | 2.4 Efficient Architectures |
# | Time | 2 hours |
# | Difficulty | ★★★☆☆ |
# | Hardware | gpu-optional: all points can be earned on a CPU; *On your Spark* is for a large GPU |
# | Points | 30 automatic, 9 read by a person |
# | Builds on | 2.3.6 GPT Text Generation |
#
# You are going to run Mamba by hand: take the weights of a model of transformers' and write what happens to a token on
# its way through them, with a memory that never grows. Then you measure what that memory costs beside the KV cache of a
# transformer of the same size.

# %% [markdown]
# ## What you'll achieve
#
# By the end you have
#
# 1. **Systems understanding**: measured what one more token costs in bytes and in time, with a state and with a KV cache
#    (objective 2.4.3).
# 2. **Core skill**: written the two memories of a Mamba layer, the layer, the model, and the loop that generates
#    (objective 2.4.4).
# 3. **A pattern**: one function for prefill and decoding, which takes a cache and returns a new one.
# 4. **A tie to production**: logits that equal those of `MambaForCausalLM`, from its own weights (objective 2.4.4).
# 5. **A trade-off**: a constant memory is cheap because it forgets; you know from which context on it is cheaper, and
#    what precision it needs (objective 2.4.3).

# %% [markdown]
# ## Before you start
#
# You have generated text with a GPT and its KV cache (2.3.6). **What works**: each new token attends to the keys and
# values of all earlier ones, so nothing is computed twice. **The gap**: all of them must be *kept* and *read again* for
# every token. At 100,000 tokens of context that is what fills the memory. **This lab** runs a model that keeps a summary
# instead.
#
# ```
# 2.3.2 attention ────────────┐
# 2.3.6 generation, KV cache ─┼──>  2.4.1 Mamba inference ──┬──>  2.4.2 how the scan is computed in parallel
# 2.1   convolutions ─────────┘                             ├──>  2.4.5 Mamba, transformer and MoE compared
#                                                           └──>  2.4.6 fine-tuning
# ```

# %% [markdown]
# ### Skill checks
#
# Answer first, then unfold.
#
# <details><summary>1. How many bytes does a KV cache take, per token, in a model with 32 layers, 8 key-value heads of
# width 128, in bfloat16?</summary>
#
# 2 (keys and values) x 32 x 8 x 128 x 2 bytes = 131,072 bytes: 128 KiB for each token of each sequence.
# </details>
#
# <details><summary>2. What makes a convolution causal, and what depthwise?</summary>
#
# Causal: output t sees inputs up to t and none after it, by padding on the left alone. Depthwise: each channel has its
# own filter and sees no other channel (`groups` equals the number of channels).
# </details>
#
# <details><summary>3. h = 0.5 h + x, with x = 1 in every step and h = 0 at first. Where does h go?</summary>
#
# 1, 1.5, 1.75, ... towards x / (1 - 0.5) = 2. An input of k steps ago still counts 0.5 to the k.
# </details>

# %% nbgrader={"grade": false, "grade_id": "mambainf-given-setup", "locked": true, "schema_version": 3, "solution": false, "task": false}
import itertools
import logging
import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple
from unittest import mock

import torch
from labkit import checking, insight, tiny
from torch import Tensor
from torch.nn.functional import conv1d, silu, softplus
from transformers import LlamaConfig, LlamaForCausalLM, MambaConfig, MambaForCausalLM
from transformers.models.mamba import modeling_mamba

# %% nbgrader={"grade": false, "grade_id": "mambainf-given-settings", "locked": true, "schema_version": 3, "solution": false, "task": false}
logging.getLogger("transformers").setLevel(logging.ERROR)  # it would say that Mamba's CUDA kernels are not installed
torch.set_num_threads(1)  # with matrices this small, a second thread would mostly wait for the first

# %% [markdown]
# Readiness check: the last two skills, run. It should print `ready`.

# %%
smooth = conv1d(torch.tensor([[[0.0, 0.0, 1.0, 2.0]]]), torch.tensor([[[1.0, 10.0, 100.0]]]))
assert smooth.tolist() == [[[100.0, 210.0]]]  # the filter is not turned round: its last weight meets the newest input
assert math.isclose(sum(0.5**k for k in range(50)), 2)
print("ready")

# %% [markdown]
# ## Why it matters
#
# A service reads contracts of 100,000 tokens with a 7B transformer: 32 layers, 32 key-value heads of width 128, in
# bfloat16. Its KV cache takes 0.5 MB for each token, 52 GB for one contract: four times the weights, and for *one*
# user. And to say one word it reads all of it.
#
# Attention with fewer key-value heads divides that by four or eight; the growth stays. Mamba (Gu and Dao 2023) has no
# such cache: its memory of the past has the same few dozen megabytes after ten tokens and after ten million. The paper
# reports five times the generation throughput of a transformer of the same size, because the freed memory goes into
# larger batches. You can run the numbers for your own machine at the end of this lab.

# %% [markdown]
# ## At the kitchen table
#
# Two people follow a long radio play and are asked about it at any time. One keeps the full transcript and leafs through
# all of it before each answer. The other keeps one page of notes: with every sentence some lines are rubbed out
# a little, some are added.
#
# | radio play | model |
# |---|---|
# | the transcript | the KV cache: one row more for each token |
# | the page of notes | the state of the SSM: always one page |
# | the last sentence, still in the ear | the cache of the convolution: the last 3 inputs |
# | how hard this sentence makes you rub | the step size $\Delta_t$, which depends on the input |
# | what you write, and what you look up | $B_t$ and $C_t$, which also do |
#
# **Where it breaks**: a person notices that something does not fit on the page. The state does not; what was
# rubbed out is gone, and nothing says so.

# %% [markdown]
# ## Foundations
#
# A state-space model (SSM) carries a state $h$ from token to token. For one channel with input $x_t$, state
# $h_t\in\mathbb{R}^N$ and a fixed negative $A\in\mathbb{R}^N$ (Mamba paper, equations 2 and 4, with the simplified
# $\bar B$ that all implementations use):
#
# $$h_t=e^{\Delta_t A}\odot h_{t-1}+\Delta_t B_t\,x_t\qquad\qquad y_t=C_t\cdot h_t+D\,x_t$$
#
# **Selective** means that $\Delta_t, B_t, C_t$ are computed from the token: a large $\Delta_t$ forgets the past and
# takes the input in, a small one lets the token pass by. $A$ is stored as $\log(-A)$, so that it stays negative and the
# state cannot blow up.
#
# **In numbers**: $N=1$, $A=-1$, $B=C=1$, $D=0$. At $h=4$ comes $x=10$ with $\Delta=0.693$: $h=0.5\cdot4+0.693\cdot10
# =8.93$. With $\Delta=0.01$ instead: $h=0.99\cdot4+0.1=4.06$. The same input, all but ignored.

# %%
for delta in (0.693, 0.01):
    print(f"step {delta}: h = {math.exp(-delta) * 4 + delta * 10:.2f}")


# %% [markdown]
# ### A Mamba layer
#
# ```
# hidden (B, L, H)
#    │ in_proj
#    ├──────────────> gate ─────────────> silu ─────────────────────────┐
#    └─> x ─> causal conv ─> silu ─┬───────────> x ──┬────> D x ───┐    │
#             │      ▲             │                 ▼             ▼    ▼
#             ▼      │             │  Δ, B, C ─> recurrence ─────> + ─> × ─> out_proj ─> (B, L, H)
#          [last K-1 inputs]       │               │     ▲
#           cache 1: (B, D, K-1)   │               ▼     │
#                                  │             [state h]  cache 2: (B, D, N), float32
#                                  │
#                                  └─> x_proj ─┬─> B, C
#                                              └─> Δ-input ─> dt_proj ─> softplus ─> Δ
# ```
#
# Two things remember: the convolution its last $K-1$ inputs, the recurrence its state. Both have a fixed size. All the
# rest looks at one token alone. So the *whole* past of a layer is a pair of tensors. (In shapes B is the batch and D the
# number of inner channels; in formulas $B_t$ and $D$ are parameters.)

# %% nbgrader={"grade": false, "grade_id": "mambainf-given-cache", "locked": true, "schema_version": 3, "solution": false, "task": false}
class LayerCache(NamedTuple):
    """What a Mamba layer knows of the past: `conv` (B, D, K - 1) and `ssm` (B, D, N), for D inner channels."""

    conv: Tensor
    ssm: Tensor


# %% nbgrader={"grade": false, "grade_id": "mambainf-given-empty-caches", "locked": true, "schema_version": 3, "solution": false, "task": false}
def empty_caches(model: MambaForCausalLM, batch: int) -> list[LayerCache]:
    """The caches of all layers before the first token: zeros. The state is float32, or float64 in a float64 model."""
    config, weight = model.config, model.lm_head.weight
    exact = torch.float64 if weight.dtype == torch.float64 else torch.float32
    conv = weight.new_zeros(batch, config.intermediate_size, config.conv_kernel - 1)
    ssm = weight.new_zeros(batch, config.intermediate_size, config.state_size, dtype=exact)
    return [LayerCache(conv, ssm) for _ in range(config.num_hidden_layers)]


# %% [markdown]
# ## Part 1: Two small memories
#
# ### Exercise 1: a convolution that remembers
#
# For a whole sequence, a causal convolution is one that is padded with $K-1$ zeros on the left. In generation the sequence
# comes in **chunks**: the prompt in one or several, then token by token. Output $t$ of a chunk needs the $K-1$ inputs before it, which may
# lie in an earlier chunk. So the function takes them as `state`, and returns those that the next chunk will need. With zeros
# as the first state that is the padded convolution.

# %% nbgrader={"grade": false, "grade_id": "mambainf-conv", "locked": false, "schema_version": 3, "solution": true, "task": false}
def conv_chunk(x: Tensor, state: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """A causal depthwise convolution of one chunk of a sequence: y[t] = bias + sum over k of weight[k] x[t - K + 1 + k].

    Args:
        x: (B, D, L), the chunk; L may be 0 or 1 or any length, shorter than K too.
        state: (B, D, K - 1), the inputs just before the chunk, oldest first.
        weight: (D, K), a filter for each channel; its last column meets the newest input. K is at least 1.
        bias: (D,).

    Returns:
        y of shape (B, D, L), and the state for the next chunk, (B, D, K - 1), in memory of its own: not a view
        of a larger tensor, and none of the arguments is changed.

    Raises:
        ValueError: `state` has not the shape (B, D, K - 1).

    TODO: Convolve the state followed by the chunk, and keep its last K - 1 columns.

    APPROACH:
        1. Check the shape of the state, because broadcasting would hide a wrong one.
        2. Join state and chunk along time, because then every output finds its inputs in one tensor.
        3. Copy what is kept, because a view would keep the whole chunk in memory as long as the cache lives.

    EXAMPLE:
        >>> weight, bias = torch.tensor([[1.0, 10.0, 100.0]]), torch.zeros(1)
        >>> y, state = conv_chunk(torch.tensor([[[1.0, 2.0]]]), torch.zeros(1, 1, 2), weight, bias)
        >>> y.tolist(), state.tolist()
        ([[[100.0, 210.0]]], [[[1.0, 2.0]]])
        >>> conv_chunk(torch.tensor([[[3.0]]]), state, weight, bias)[0].tolist()
        [[[321.0]]]

    HINTS:
        1. What is the length of state and chunk joined, and how many windows of K fit into it?
        2. Either a sum of K shifted slices, each times one column of the weight, or `conv1d` with `groups`; that one
           refuses an empty chunk (L = 0), so treat it apart.
        3. A slice `[-(K - 1):]` takes everything when K is 1; a slice from L on does not. `.clone()` always copies;
           `.contiguous()` only if it must.
    """
    ### BEGIN SOLUTION
    if state.shape != (x.shape[0], x.shape[1], weight.shape[1] - 1):
        raise ValueError(f"the state must be (B, D, K - 1), not {tuple(state.shape)}")
    length = x.shape[2]
    joined = torch.cat([state, x], dim=2)
    y = bias[:, None].expand(x.shape)
    for k in range(weight.shape[1]):
        y = y + weight[:, k, None] * joined[:, :, k : k + length]
    return y, joined[:, :, length:].clone()
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "mambainf-given-draw", "locked": true, "schema_version": 3, "solution": false, "task": false}
def draw(seed: int, *shape: int, scale: float = 1.0) -> Tensor:
    """Normal float64 numbers from a seed."""
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# %% nbgrader={"grade": false, "grade_id": "mambainf-given-pieces", "locked": true, "schema_version": 3, "solution": false, "task": false}
def pieces(seed: int, length: int) -> list[int]:
    """Lengths from 0 up whose sum is `length`; one of them is 0, one is 1 where that is possible (used by the hidden tests)."""
    places = torch.randint(length + 1, (4,), generator=torch.Generator().manual_seed(seed)).tolist()
    edges = sorted([0, *places, places[0], max(places[0] - 1, 0), length])
    return [end - start for start, end in itertools.pairwise(edges)]


# %% nbgrader={"grade": false, "grade_id": "mambainf-given-check-conv", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_conv(seed: int, lengths: list[int], taps: int, batch: int = 2, channels: int = 5) -> None:
    """Hold conv_chunk, chunk after chunk, against one padded convolution in float64."""
    x = draw(seed, batch, sum(lengths), channels).transpose(1, 2)  # not contiguous, as it comes from a linear layer
    weight, bias = draw(seed + 1, channels, taps), draw(seed + 2, channels)
    want = conv1d(torch.cat([torch.zeros(batch, channels, taps - 1), x], 2), weight[:, None], bias, groups=channels)
    state, start = torch.zeros(batch, channels, taps - 1, dtype=torch.float64), 0
    for length in lengths:
        y, state = conv_chunk(x[:, :, start : start + length], state, weight, bias)
        # K + 1 terms below 40 (normal numbers and their products), each sum off by 1.1e-16 of that: 8 * 8 * 40 * 1.1e-16.
        checking.close(y, want[:, :, start : start + length], rtol=0, atol=3e-13, hint="which K inputs meet output t?",
                       what=f"outputs {start} to {start + length} of {sum(lengths)}, K = {taps}, chunks of {lengths}")
        start += length
        if start < sum(lengths):
            held = torch.cat([torch.zeros(batch, channels, taps - 1), x[:, :, :start]], 2)[:, :, start:]
            checking.equal(state, held, what=f"state after {start} inputs, K = {taps}", hint="the last K - 1 inputs")


# %% nbgrader={"grade": false, "grade_id": "mambainf-given-check-conv-memory", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_conv_memory(seed: int, length: int, taps: int, batch: int = 2, channels: int = 5) -> None:
    """The state that conv_chunk returns must keep its own bytes alive and no others, and no argument may change."""
    x, state = draw(seed, batch, length, channels).transpose(1, 2), draw(seed + 1, batch, channels, taps - 1)
    weight, bias = draw(seed + 2, channels, taps), draw(seed + 3, channels)
    with checking.unchanged(x=x, state=state, weight=weight, bias=bias):
        _, new = conv_chunk(x, state, weight, bias)
    checking.equal(new.untyped_storage().nbytes(), new.numel() * 8, hint="a slice is a view of the whole chunk: copy it",
                   what=f"bytes that the state keeps alive, {batch} x {channels} channels, {length} inputs")


# %% nbgrader={"grade": true, "grade_id": "test-mambainf-conv", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Checks: a whole sequence and chunks of any length against one padded convolution; what the state holds; errors.
# Catches: the filter turned round, zeros instead of the state, a window one too wide, empty chunks, a view for a cache.
# A pass prints what each of three checks earned.
def test_unit_mambainf_conv():
    credit = checking.Credit(3)
    with credit.check("a whole sequence", points=1, hint="write down the K products in output 0 and in output K"):
        check_conv(0, [7], taps=4)
        ### BEGIN HIDDEN TESTS
        # check: filters of other lengths
        # hint: does your code name the number 4 or 3 anywhere?
        seed = checking.secret_seed()
        for taps, length in [(2, 9), (5, 3), (6, 1)]:
            check_conv(seed + taps, [length], taps, batch=taps, channels=7 - taps)
        ### END HIDDEN TESTS
    with credit.check("chunk by chunk", points=1, hint="the state of one chunk goes into the next, empty ones too"):
        check_conv(1, [5, 1, 1, 1], taps=4)
        check_conv(2, [3, 0, 2], taps=4)
        ### BEGIN HIDDEN TESTS
        # check: chunks shorter than the filter, and empty ones
        # hint: feed 1 input, then 0, then 1, and print the state after each: where do the older inputs go?
        seed = checking.secret_seed()
        check_conv(seed, [1, 0, 1, 2, 0, 3], taps=4)
        check_conv(seed, pieces(seed, 11), taps=3, batch=1)
        # check: a filter of length 1
        # hint: then the state has no columns. What does your slice give when K - 1 is 0?
        check_conv(seed, [3, 1], taps=1)
        ### END HIDDEN TESTS
    with credit.check("memory and errors", points=1, hint="the docstring says what may be kept, and which state is refused"):
        check_conv_memory(3, 6, taps=4)
        check_conv_memory(4, 6, taps=4, batch=1, channels=1)
        ### BEGIN HIDDEN TESTS
        # check: a state of the wrong shape
        # hint: the docstring says which shape it has, and what happens otherwise.
        x, weight, bias = draw(0, 2, 3, 4), draw(1, 3, 4), draw(2, 3)
        for wrong in [(2, 3, 4), (2, 3, 2), (1, 3, 3), (2, 1, 3)]:
            checking.raises(ValueError, conv_chunk, x, draw(3, *wrong), weight, bias, what=f"a state of shape {wrong}")
        ### END HIDDEN TESTS
    return credit.total()


test_unit_mambainf_conv()


# %% [markdown]
# ### What just happened?
#
# Prefill and decoding are the same function: a prompt is a long chunk, a token is a chunk of 1. And the state has
# $K-1$ columns whatever came before:

# %%
def conv_story():
    weight, state = torch.tensor([[1.0, 10.0, 100.0, 1000.0]]), torch.zeros(1, 1, 3)
    for chunk in ([1.0, 2.0, 3.0, 4.0, 5.0], [6.0], [7.0]):
        y, state = conv_chunk(torch.tensor([[chunk]]), state, weight, torch.zeros(1))
        print(f"chunk {chunk}: outputs {y[0, 0].tolist()}, state {state[0, 0].tolist()}")


# %%
insight.run(conv_story, needs="Exercise 1 (conv_chunk)")


# %% [markdown]
# ### Exercise 2: one step of the recurrence
#
# The second memory. All channels of all sequences take one step of
#
# $$h\leftarrow e^{\Delta A}\odot h+\Delta\,x\,B\qquad\qquad y=C\cdot h+D\,x$$
#
# Each channel has its own $\Delta$ and its own row of $A$; $B$ and $C$ are shared by all channels of a sequence.
# Activations are usually in bfloat16, the state in float32: it is added to at every step, and errors add up with it.

# %% nbgrader={"grade": false, "grade_id": "mambainf-step", "locked": false, "schema_version": 3, "solution": true, "task": false}
def ssm_step(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """One token through the discretised recurrence (Gu and Dao 2023, equation 2a, with B-bar = delta B).

    Args:
        x: (batch, channels), the inputs of this token; batch may be 0.
        delta: (batch, channels), the step sizes, above 0.
        A: (channels, N), negative.
        B, C: (batch, N).
        D: (channels,).
        state: (batch, channels, N), the state before this token.

    Returns:
        y of shape (batch, channels) in the dtype of `x`, and the new state in the dtype of `state`. All arithmetic
        is done in the dtype of `state`, whatever the others have. No argument is changed.

    TODO: Decay the state, add the input, read the output from the new state.

    APPROACH:
        1. Bring the arguments to the state's dtype first, because a product rounded to bfloat16 cannot be repaired.
        2. Give each argument the axes (batch, channels, N), because then the formula is one line.
        3. Read y from the new state, because this token must be able to answer for itself.

    EXAMPLE:
        >>> one = torch.ones(1, 1)
        >>> y, h = ssm_step(10 * one, 0.5 * one, -one, one, 2 * one, 3 * one[0], state=torch.zeros(1, 1, 1))
        >>> y.item(), h.item()  # h = 0.5 * 10, y = 2 h + 3 * 10
        (40.0, 5.0)

    HINTS:
        1. `delta[:, :, None] * A` has the shape of the state. Which axis do B and C lack?
        2. delta, x and B make an outer product for each sequence: (batch, channels, 1) times (batch, 1, N).
        3. The output sums over the last axis of the state; D x comes on top.
    """
    ### BEGIN SOLUTION
    kind = x.dtype
    x, delta, A, B, C, D = (value.to(state.dtype) for value in (x, delta, A, B, C, D))
    state = torch.exp(delta[:, :, None] * A) * state + (delta * x)[:, :, None] * B[:, None, :]
    y = (state * C[:, None, :]).sum(dim=2) + D * x
    return y.to(kind), state
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "mambainf-given-step-by-hand", "locked": true, "schema_version": 3, "solution": false, "task": false}
def step_by_hand(x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, state: Tensor) -> tuple:
    """What ssm_step should give, number by number in Python's floats; float64 tensors."""
    y, h = torch.zeros(x.shape, dtype=torch.float64), torch.zeros(state.shape, dtype=torch.float64)
    for b, c in torch.cartesian_prod(torch.arange(x.shape[0]), torch.arange(x.shape[1])).reshape(-1, 2).tolist():
        rate, value = delta[b, c].item(), x[b, c].item()
        row = [math.exp(rate * a) * old + rate * value * w
               for a, old, w in zip(A[c].tolist(), state[b, c].tolist(), B[b].tolist(), strict=True)]
        h[b, c] = torch.tensor(row, dtype=torch.float64)
        y[b, c] = math.fsum([D[c].item() * value, *(r * w for r, w in zip(row, C[b].tolist(), strict=True))])
    return y, h


# %% nbgrader={"grade": false, "grade_id": "mambainf-given-draw-step", "locked": true, "schema_version": 3, "solution": false, "task": false}
def draw_step(seed: int, batch: int, channels: int, n: int) -> dict[str, Tensor]:
    """Random arguments of ssm_step in float64, step sizes from 0.01 to 2."""
    delta = 0.01 + 1.99 * torch.rand(batch, channels, generator=torch.Generator().manual_seed(seed)).double()
    return {"x": draw(seed, batch, channels), "delta": delta, "A": -draw(seed + 1, channels, n).exp(),
            "B": draw(seed + 2, batch, n), "C": draw(seed + 3, batch, n), "D": draw(seed + 4, channels),
            "state": draw(seed + 5, batch, channels, n)}


# %% nbgrader={"grade": false, "grade_id": "mambainf-given-check-step", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_step(given: dict[str, Tensor], what: str, rtol: float = 0.0, atol: float = 1e-12) -> Tensor:
    """Hold ssm_step against Python's floats, to `rtol` in y and `atol` in both; returns the new state."""
    with checking.unchanged(**given):
        y, state = ssm_step(**given)
    want_y, want_state = step_by_hand(**given)
    # float64, N + 1 terms below 1000 with a few roundings of 1.1e-16 each: 10 * 1000 * 1e-16.
    checking.close(state, want_state.to(given["state"].dtype), rtol=0, atol=atol, what=f"the new state of {what}",
                   hint="decay by exp(delta A), then add delta x B")
    checking.close(y, want_y.to(given["x"].dtype), rtol=rtol, atol=atol, what=f"y of {what}",
                   hint="y reads the NEW state, and D x is added")
    return state


# %% nbgrader={"grade": true, "grade_id": "test-mambainf-step", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: state and output against loops over Python floats; bfloat16 inputs with a float32 state.
# Catches: the old state read, a decay that grows, D or delta left out, B and C mixed up, rounding to bfloat16.
# A pass prints what each of two checks earned.
def test_unit_mambainf_step():
    credit = checking.Credit(4)
    with credit.check("one step", points=3, hint="print the shape of each factor"):
        check_step(draw_step(0, 2, 3, 4), "two sequences, three channels, N = 4")
        ### BEGIN HIDDEN TESTS
        # check: other shapes, sizes of 1 among them, and no sequence at all
        # hint: with equal sizes a wrong axis still broadcasts. Which of your axes is the channel?
        seed = checking.secret_seed()
        for number, (batch, channels, n) in enumerate([(4, 4, 4), (1, 7, 3), (3, 1, 1), (0, 2, 3)]):
            check_step(draw_step(seed + 10 * number, batch, channels, n), f"sizes {batch}, {channels}, {n}")
        # check: step after step
        # hint: feed your new state back in. Is it the same object as the old one, changed in place?
        given = draw_step(seed, 2, 3, 5)
        for k in range(6):
            given = {**given, "x": draw(seed + k, 2, 3), "state": check_step(given, f"step {k}")}
        ### END HIDDEN TESTS
    with credit.check("bfloat16 inputs, float32 state", points=1, hint="convert before you multiply, not after"):
        low = {name: value.bfloat16() for name, value in draw_step(3, 2, 5, 6).items()}
        low |= {"A": low["A"].float(), "state": low["state"].float()}
        # The state: float32 roundings of numbers below 32, 4 * 32 * 6e-8; y is rounded to bfloat16: 2**-8.
        check_step(low, "bfloat16 inputs", rtol=2**-8, atol=8e-6)
    return credit.total()


test_unit_mambainf_step()


# %% [markdown]
# ### What just happened?
#
# The page of notes at work: one channel, $N=1$. An input of 1 arrives at step 0; then only zeros. How long it is
# remembered is decided by $\Delta$, token by token.

# %%
def forgetting(steps=40):
    one, curves = torch.ones(1, 1), {}
    for delta in (0.5, 0.1, 0.02):
        state, seen = ssm_step(one, delta * one, -one, one / delta, one, 0 * one[0], torch.zeros(1, 1, 1))[1], []
        for _ in range(steps):
            y, state = ssm_step(0 * one, delta * one, -one, one, one, 0 * one[0], state)
            seen.append(y.item())
        curves[f"delta = {delta}"] = seen
    insight.lines(range(1, steps + 1), curves, xlabel="tokens since the input", ylabel="what is left of it")


# %%
insight.run(forgetting, needs="Exercise 2 (ssm_step)")


# %% [markdown]
# ### Systems insight 1 of 3: how many bits does a memory need?
#
# **Checkpoint**: you have the recurrence, and it computes in the dtype of the state. **Predict, and write it down**: a state
# in bfloat16 takes half the bytes. After 1,000 tokens, how large is its relative error: 0.4 % (one rounding), or more? Here
# $\Delta$ is 0.001: at each token the state is multiplied by 0.984 to 0.999 and a little is added. All arithmetic is float32;
# only what is stored is rounded. bfloat16 has 8 bits for the digits.

# %%
def drift(kind, steps=1000, channels=64, n=16):
    """Relative error of the state after each tenth of the steps, and its bytes, for a state stored in dtype `kind`."""
    A, errors = -torch.arange(1, n + 1.0).expand(channels, n), []
    delta, state = torch.full((1, channels), 0.001), torch.zeros(1, channels, n, dtype=kind)
    exact = state.double()
    for k in range(steps):
        x, B = (1 + draw(k, 1, channels)).float(), (1 + 0.1 * draw(k + 7, 1, n)).float()
        given = (x, delta, A, B, B, torch.ones(channels))
        (_, new), (_, exact) = ssm_step(*given, state.float()), ssm_step(*given, exact)
        state = new.to(kind)
        if (k + 1) % (steps // 10) == 0:
            errors.append(((state - exact).norm() / exact.norm()).item())
    return errors, state.nbytes


# %%
def bits_of_memory(steps=1000):
    measured = {str(kind)[6:]: drift(kind, steps) for kind in (torch.float32, torch.float16, torch.bfloat16)}
    insight.lines(range(steps // 10, steps + 1, steps // 10), {name: e for name, (e, _) in measured.items()},
                  xlabel="tokens", ylabel="relative error of the state", logy=True)
    for name, (errors, size) in measured.items():
        print(f"{name:9} {size:6,} bytes, error after {steps} tokens {errors[-1]:.1e}")
    return measured


# %%
state_error = insight.run(bits_of_memory, needs="Exercise 2 (ssm_step)")


# %% [markdown]
# **What it means in production.** An update that is smaller than half a unit of the last digit is rounded away, every
# time. A KV cache in bfloat16 is rounded once, when it is written; a state is rounded at every token, and the error stays
# in it. So weights and activations go into bfloat16 or below, and the state is kept in float32. It is small enough.

# %% [markdown]
# ## Part 2: The layer and the model
#
# ### The weights
#
# A Mamba model of transformers', tiny and untrained. Its usual initialisation has zero biases and gains of one, so a
# forgotten bias would change nothing; here all of them are drawn at random.

# %% nbgrader={"grade": false, "grade_id": "mambainf-given-tiny", "locked": true, "schema_version": 3, "solution": false, "task": false}
def tiny_mamba(seed: int, **changes: Any) -> MambaForCausalLM:
    """A Mamba of two layers (width 12, 24 inner channels, N = 5, K = 4) with random weights, in evaluation mode."""
    sizes = {"vocab_size": 61, "hidden_size": 12, "state_size": 5, "num_hidden_layers": 2, "time_step_rank": 3}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = MambaForCausalLM(MambaConfig(**sizes | changes)).eval()
        for name, value in model.named_parameters():
            if name.endswith("dt_proj.bias"):
                value.uniform_(-3, 0)  # step sizes from 0.05 to 0.7
            elif value.ndim == 1 or name.endswith("A_log"):
                value.add_(0.3 * torch.randn_like(value))
            else:
                value.normal_(std=value[0].numel() ** -0.5)
    return model


# %%
example = tiny_mamba(0)
for name, value in example.backbone.layers[0].mixer.named_parameters():
    print(f"{name:16} {tuple(value.shape)}")


# %% [markdown]
# ### Exercise 3: a Mamba layer, chunk by chunk
#
# transformers calls it the *mixer*. Put the diagram of Foundations into code, with your two functions as its memories.
# The mixer's own `forward` has no part in it: the tests switch it off. Its submodules are yours to call.

# %% nbgrader={"grade": false, "grade_id": "mambainf-mixer", "locked": false, "schema_version": 3, "solution": true, "task": false}
def mixer_chunk(
    mixer: modeling_mamba.MambaMixer, hidden: Tensor, cache: LayerCache
) -> tuple[Tensor, LayerCache]:
    """A chunk of a sequence through a Mamba layer (Gu and Dao 2023, figure 3 and algorithm 2).

    Args:
        mixer: has the modules in_proj, conv1d, x_proj, dt_proj and out_proj, and the parameters A_log and D.
            in_proj gives x (the first D channels) and the gate (the others); conv1d.weight is (D, 1, K), conv1d.bias
            (D,), never None here; the activation is silu; x_proj gives, in this order, dt_proj's input
            (mixer.time_step_rank), B and C (mixer.ssm_state_size each); A = -exp(A_log) in the dtype of the state.
        hidden: (batch, L, H), the chunk; L may be 0.
        cache: what came before the chunk.

    Returns:
        The layer's output (batch, L, H), and the cache after the chunk. The cache that was given is unchanged.

    TODO: Project, convolve, take L steps of the recurrence, gate, project back.

    APPROACH:
        1. Use `conv_chunk` and `ssm_step`, because they carry all of the past and the rest knows one token only.
        2. Apply silu after the convolution and to the gate, because without it the two branches would stay linear.
        3. Make step sizes by softplus and A by -exp, because the first must be positive and the second negative.

    EXAMPLE:
        >>> model = tiny_mamba(0)
        >>> out, cache = mixer_chunk(model.backbone.layers[0].mixer, torch.ones(2, 7, 12), empty_caches(model, 2)[0])
        >>> out.shape, cache.conv.shape, cache.ssm.shape
        (torch.Size([2, 7, 12]), torch.Size([2, 24, 3]), torch.Size([2, 24, 5]))

    HINTS:
        1. conv_chunk wants (batch, D, L), linear layers want the channels last: `.mT` exchanges the last two axes.
        2. softplus(dt_proj(...)) gives delta; dt_proj has a bias, so call the module.
        3. Collect the outputs in a tensor made by torch.empty_like: torch.stack of nothing fails when L is 0.
    """
    ### BEGIN SOLUTION
    x, gate = mixer.in_proj(hidden).chunk(2, dim=2)
    x, conv = conv_chunk(x.mT, cache.conv, mixer.conv1d.weight.squeeze(1), mixer.conv1d.bias)
    x = silu(x).mT
    sizes = [mixer.time_step_rank, mixer.ssm_state_size, mixer.ssm_state_size]
    low_rank, B, C = mixer.x_proj(x).split(sizes, dim=2)
    delta, A = softplus(mixer.dt_proj(low_rank)), -torch.exp(mixer.A_log.to(cache.ssm.dtype))
    y, state = torch.empty_like(x), cache.ssm
    for t in range(x.shape[1]):
        y[:, t], state = ssm_step(x[:, t], delta[:, t], A, B[:, t], C[:, t], mixer.D, state)
    return mixer.out_proj(y * silu(gate)), LayerCache(conv, state)
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "mambainf-given-own-work", "locked": true, "schema_version": 3, "solution": false, "task": false}
def own_work() -> Any:
    """Within it, transformers' forward of a Mamba layer refuses to run."""
    def refuse(*args, **kwargs):
        raise AssertionError("this is the forward of transformers; build it from its modules and your own functions")

    return mock.patch.object(modeling_mamba.MambaMixer, "forward", refuse)


# %% nbgrader={"grade": false, "grade_id": "mambainf-given-run-chunks", "locked": true, "schema_version": 3, "solution": false, "task": false}
@torch.no_grad()
def run_chunks(mixer: modeling_mamba.MambaMixer, hidden: Tensor, cache: LayerCache, lengths: list[int]) -> tuple:
    """The outputs of mixer_chunk, chunk after chunk, joined; and the last cache. No cache may change."""
    outputs = []
    for chunk in hidden.split(lengths, dim=1):
        with own_work(), checking.unchanged(hidden=chunk, conv=cache.conv, ssm=cache.ssm, mixer=mixer):
            out, cache = mixer_chunk(mixer, chunk, cache)
        outputs.append(out)
    return torch.cat(outputs, dim=1), LayerCache(*cache)


# %% nbgrader={"grade": false, "grade_id": "mambainf-given-check-mixer", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_mixer(seed: int, batch: int, length: int, **changes: Any) -> None:
    """Hold mixer_chunk on a whole sequence against transformers' own forward."""
    model = tiny_mamba(seed, **changes)
    mixer, hidden = model.backbone.layers[1].mixer, draw(seed, batch, length, model.config.hidden_size).float()
    got, _ = run_chunks(mixer, hidden, empty_caches(model, batch)[1], [length])
    with torch.no_grad():
        want = mixer(hidden)
    # float32 sums of some ten to fifty terms in another order, several one after the other: 1000 * 6e-8 of the largest.
    checking.close(got, want, rtol=0, atol=6e-5 * max(1.0, want.abs().max().item()),
                   what=f"a layer's outputs for {batch} sequences of {length} tokens",
                   hint="compare with the diagram: is silu, softplus, the gate or D x missing, or are B and C exchanged?")


# %% nbgrader={"grade": false, "grade_id": "mambainf-given-check-chunks", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_chunks(seed: int, lengths: list[int], **changes: Any) -> None:
    """Chunks must give what the whole gives, outputs and cache, in float64."""
    model, length = tiny_mamba(seed, **changes).double(), sum(lengths)
    mixer, hidden, start = model.backbone.layers[0].mixer, draw(seed, 2, length, 12), empty_caches(model, 2)[0]
    want, last = run_chunks(mixer, hidden, start, [length])
    got, cache = run_chunks(mixer, hidden, start, lengths)
    # The same sums in float64, perhaps in another order: a million roundings of 1.1e-16 of the largest number.
    for name, mine, theirs in (("outputs", got, want), ("conv", cache.conv, last.conv), ("ssm", cache.ssm, last.ssm)):
        checking.close(mine, theirs, rtol=0, atol=1e-10 * max(1.0, theirs.abs().max().item()),
                       what=f"{name} after chunks of {lengths}, beside one of {length}",
                       hint="does the second chunk begin with the cache that the first one returned?")


# %% nbgrader={"grade": true, "grade_id": "test-mambainf-mixer", "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
# Checks: a whole sequence equals transformers' forward; any chunks equal the whole; caches come back unchanged.
# Catches: a forgotten silu, bias, gate, D or softplus; B and C exchanged; a chunk that starts from zero.
# A pass prints what each of two checks earned.
def test_unit_mambainf_mixer():
    credit = checking.Credit(6)
    with credit.check("a whole sequence", points=3, hint="begin with L = 1: no recurrence, a single product"):
        check_mixer(0, 2, 1)
        check_mixer(0, 2, 9)
        ### BEGIN HIDDEN TESTS
        # check: other weights, lengths and sizes of the layer
        # hint: take every size from the mixer or from a shape; none is a number in your code.
        seed = checking.secret_seed()
        check_mixer(seed, 3, 14)
        check_mixer(seed + 1, 1, 6, conv_kernel=2, state_size=3, time_step_rank=1)
        check_mixer(seed + 2, 2, 5, hidden_size=7, expand=3, state_size=9, time_step_rank=4)
        ### END HIDDEN TESTS
    with credit.check("chunk by chunk", points=3, hint="both memories go in and both come out"):
        check_chunks(1, [5, 1, 1])
        ### BEGIN HIDDEN TESTS
        # check: chunks of any length, empty ones too
        # hint: an empty chunk gives an empty output and leaves both memories as they are.
        seed = checking.secret_seed()
        check_chunks(seed, [0, 1, 2, 0, 3])
        check_chunks(seed, pieces(seed, 13), conv_kernel=3)
        # check: a cache that somebody else filled
        # hint: does the first step of a chunk start from cache.ssm, and the convolution from cache.conv?
        model = tiny_mamba(seed)
        full = LayerCache(draw(seed, 1, 24, 3).float(), draw(seed, 1, 24, 5).float())
        one, _ = run_chunks(model.backbone.layers[0].mixer, draw(seed, 1, 2, 12).float(), full, [2])
        zero, _ = run_chunks(model.backbone.layers[0].mixer, draw(seed, 1, 2, 12).float(), empty_caches(model, 1)[0], [2])
        assert bool((one - zero).abs().max() > 1e-4), "the outputs do not depend on the cache"
        ### END HIDDEN TESTS
    return credit.total()


test_unit_mambainf_mixer()


# %% [markdown]
# ### What just happened?
#
# Your layer continues wherever it was left. That is not a matter of course: does transformers' layer? Its own model reads
# 12 tokens at once, then in two chunks of 6 with its cache, then token by token.

# %%
@torch.no_grad()
def second_chunk(seed=0):
    model, ids = tiny_mamba(seed), torch.randint(61, (1, 12), generator=torch.Generator().manual_seed(seed))
    whole, size = model(ids).logits[:, -1], model(ids).logits[:, -1].abs().max()
    for name, lengths in {"two chunks of 6": [6, 6], "6 tokens, then one by one": [6, 1, 1, 1, 1, 1, 1]}.items():
        cache = None
        for chunk in ids.split(lengths, dim=1):
            out = model(chunk, cache_params=cache, use_cache=True)
            cache = out.cache_params
        print(f"transformers, {name}: last logits off by {(out.logits[:, -1] - whole).abs().max() / size:.1e}")


# %%
second_chunk()


# %% [markdown]
# If the first number is not tiny, your version of transformers starts the recurrence of a second chunk from zeros: its
# scan takes a state along for single tokens only, and says nothing. (That is so in version 5.23, which this lab was
# written with.) No error, only answers that have forgotten the first half of the prompt. Comparing chunks with the whole is
# the test that finds it.

# %% [markdown]
# ### Exercise 4: the model
#
# A model is an embedding, layers with a norm before and a sum around each, a last norm, and the head. For generation
# only the *last* position's logits are of use: at a vocabulary of 50,000 those of a long prompt would weigh more than the
# caches. And no graph must be built: a cache that remembers how it was made keeps every tensor of the past alive.

# %% nbgrader={"grade": false, "grade_id": "mambainf-model", "locked": false, "schema_version": 3, "solution": true, "task": false}
def model_chunk(
    model: MambaForCausalLM, ids: Tensor, caches: list[LayerCache]
) -> tuple[Tensor, list[LayerCache]]:
    """A chunk of tokens through a Mamba model: logits for the token after it, and the caches after it.

    Args:
        model: has backbone.embeddings, backbone.layers (each with norm and mixer), backbone.norm_f and lm_head.
        ids: (batch, L), int64, L at least 1.
        caches: one for each layer, as it was before the chunk. The list and its tensors are left as they are.

    Returns:
        Logits of the last position, (batch, vocabulary), and a new list of caches. Neither has a gradient graph.
        lm_head is given the last position of each sequence and no other.

    TODO: Embed, run the layers with residual sums, take the last position to the head.

    APPROACH:
        1. Work under torch.no_grad(), because a graph in a cache grows with every token.
        2. Add a layer's output to its input before the norm, because that is the residual path.
        3. Cut the last position out before lm_head, because the logits of the others are not needed.

    EXAMPLE:
        >>> model = tiny_mamba(0)
        >>> logits, caches = model_chunk(model, torch.tensor([[1, 2, 3]]), empty_caches(model, 1))
        >>> logits.shape, len(caches), logits.requires_grad
        (torch.Size([1, 61]), 2, False)

    HINTS:
        1. zip the layers with their caches, and append each new cache to a fresh list.
        2. block.norm goes in front of mixer_chunk; the sum takes what was in front of block.norm.
        3. hidden[:, -1] is all that norm_f and lm_head have to see.
    """
    ### BEGIN SOLUTION
    after = []
    with torch.no_grad():
        hidden = model.backbone.embeddings(ids)
        for block, cache in zip(model.backbone.layers, caches, strict=True):
            out, new = mixer_chunk(block.mixer, block.norm(hidden), cache)
            hidden = hidden + out
            after.append(new)
        return model.lm_head(model.backbone.norm_f(hidden[:, -1])), after
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "mambainf-given-check-model", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_model(seed: int, lengths: list[int], batch: int = 2, **changes: Any) -> None:
    """Hold model_chunk, chunk after chunk, against transformers' logits on the whole text."""
    model = tiny_mamba(seed, **changes)
    ids = torch.randint(61, (batch, sum(lengths)), generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        want = model(ids, use_cache=False).logits
    caches, end = empty_caches(model, batch), 0
    for chunk in ids.split(lengths, dim=1):
        end += chunk.shape[1]
        with own_work():
            logits, caches = model_chunk(model, chunk, caches)
        # As in a layer, 1000 * 6e-8 of the largest, and twice that for the layers behind it.
        checking.close(logits, want[:, end - 1], rtol=0, atol=2e-4 * max(1.0, want.abs().max().item()),
                       what=f"logits after {end} tokens in chunks of {lengths}", hint="norm, mixer, sum; each in its place")
        checking.equal(len(caches), len(model.backbone.layers), what="number of caches")


# %% nbgrader={"grade": false, "grade_id": "mambainf-given-check-model-memory", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_model_memory(seed: int, batch: int, length: int) -> None:
    """model_chunk must build no graph, change nothing that it was given, and give lm_head one position a sequence."""
    model, rows = tiny_mamba(seed), []
    model.lm_head.register_forward_hook(lambda head, given, out: rows.append(out.numel() // out.shape[-1]))
    ids, before = torch.randint(61, (batch, length)), empty_caches(model, batch)
    with own_work(), checking.unchanged(ids=ids, caches=before, model=model):
        logits, after = model_chunk(model, ids, before)
    kept = [logits, *(value for cache in after for value in cache)]
    checking.equal([value.requires_grad for value in kept], [False] * len(kept), what="requires_grad of what comes out")
    checking.equal(max(rows, default=batch), batch, hint="cut the last position out before the head, not after it",
                   what=f"positions that lm_head was given at once, for {batch} sequences of {length} tokens")


# %% nbgrader={"grade": true, "grade_id": "test-mambainf-model", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: the logits of the last position equal transformers', chunk by chunk; no graph, no change, no needless logits.
# Catches: a missing norm or residual sum, the wrong position, one cache for all layers, caches with a graph.
# A pass prints what each of two checks earned.
def test_unit_mambainf_model():
    credit = checking.Credit(4)
    with credit.check("logits", points=3, hint="print the shapes after the embedding, a layer and the head"):
        check_model(0, [6])
        check_model(1, [4, 1, 1])
        ### BEGIN HIDDEN TESTS
        # check: other weights, sizes and chunks
        # hint: does each layer get its own cache back?
        seed = checking.secret_seed()
        check_model(seed, [1, 3, 1, 2], batch=1)
        check_model(seed + 1, [5, 4], batch=3, num_hidden_layers=3, state_size=2)
        check_model(seed + 2, [7], num_hidden_layers=1, conv_kernel=3, expand=1)
        ### END HIDDEN TESTS
    with credit.check("memory", points=1, hint="what would grow with the context, or change under a snapshot?"):
        check_model_memory(2, 3, 5)
    return credit.total()


test_unit_mambainf_model()


# %% [markdown]
# ### What just happened?
#
# You can run any Mamba of transformers with the usual settings, from its weights. One that has learnt something, from some
# seven hundred short windows of English-like sentences:

# %% nbgrader={"grade": false, "grade_id": "mambainf-given-trained", "locked": true, "schema_version": 3, "solution": false, "task": false}
def trained_mamba(steps: int = 42) -> MambaForCausalLM:
    """A small Mamba on bytes, trained for some seconds by transformers' own forward."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 259, "hidden_size": 48, "state_size": 8, "num_hidden_layers": 2, "use_cache": False}
    model = MambaForCausalLM(MambaConfig(**sizes))
    text = tiny.sentences(2000, seed=0)
    loss = tiny.pretrain(model, tiny.windows(text, count=steps, batch=16, length=40, seed=0), peak=2e-2)
    print(f"loss after {steps} steps: {loss:.2f} nats a byte")
    return model


# %%
start = time.perf_counter()
speaker = trained_mamba()
print(f"{time.perf_counter() - start:.1f} s")

# %% [markdown]
# ## Part 3: Generation
#
# ### Exercise 5: prefill, then decode
#
# The loop does not know what a Mamba is. It gets a function `step(ids, caches)` that returns the logits after `ids` and
# new caches, and that takes `None` for the caches of a new text. So the same loop will run a transformer. It reads the prompt
# in pieces (**prefill**; in pieces, so that only one piece's activations are in memory at a time), then feeds back one token
# at a time (**decode**).

# %% nbgrader={"grade": false, "grade_id": "mambainf-given-steps", "locked": true, "schema_version": 3, "solution": false, "task": false}
Step = Callable[[Tensor, Any], tuple[Tensor, Any]]


# %% nbgrader={"grade": false, "grade_id": "mambainf-given-mamba-step", "locked": true, "schema_version": 3, "solution": false, "task": false}
def mamba_step(model: MambaForCausalLM) -> Step:
    """Your model as a step."""
    return lambda ids, caches: model_chunk(model, ids, empty_caches(model, len(ids)) if caches is None else caches)


# %% nbgrader={"grade": false, "grade_id": "mambainf-given-llama-step", "locked": true, "schema_version": 3, "solution": false, "task": false}
def llama_step(model: LlamaForCausalLM) -> Step:
    """A transformer with its KV cache as a step."""
    @torch.no_grad()
    def step(ids, caches):
        out = model(ids, past_key_values=caches, use_cache=True, logits_to_keep=1)
        return out.logits[:, -1], out.past_key_values

    return step


# %% nbgrader={"grade": false, "grade_id": "mambainf-generate", "locked": false, "schema_version": 3, "solution": true, "task": false}
def generate(step: Step, prompt: Tensor, count: int, stop: int | None = None, piece: int = 512) -> Tensor:
    """The likeliest next tokens, one by one (greedy decoding).

    Args:
        step: `step(ids, caches)` returns logits (batch, vocabulary) for the token after `ids` (batch, L), and new
            caches; caches are None for a new text.
        prompt: (batch, L), int64, L at least 1.
        count: how many tokens to generate at most; at least 0.
        stop: a token that ends a row; None: none does.
        piece: the prompt is read in pieces of this many tokens, the last one may be shorter; at least 1.

    Returns:
        The new tokens, int64 of shape (batch, T), without the prompt. After its `stop` a row has only `stop`.
        T is `count`, or less if all rows have stopped before: then the last column is the one in which the last row
        still running says its first `stop`.
        A `stop` in the prompt ends nothing. `step` is called for each piece and for each new token but the last; for
        count = 0 not at all. Of equally likely tokens the one that argmax gives.

    Raises:
        ValueError: the prompt has no token (also for count = 0).

    TODO: Read the prompt piece by piece, then choose a token and feed it back, until it is enough.

    APPROACH:
        1. Keep the logits of the last piece, because the first new token comes from them.
        2. Feed only the new token, because all that came before is in the caches.
        3. Call step no more than needed, because the logits after the last token are used by nobody.

    EXAMPLE:
        >>> def count_up(ids, caches):  # a model that says the next number, up to 4
        ...     return torch.nn.functional.one_hot((ids[:, -1] + 1).clamp(max=4), 6).float(), None
        >>> generate(count_up, torch.tensor([[0], [2]]), count=5, stop=4).tolist()
        [[1, 2, 3, 4], [3, 4, 4, 4]]

    HINTS:
        1. `prompt.split(piece, dim=1)` gives the pieces.
        2. With a boolean `done` for each row, torch.where chooses between `stop` and argmax.
        3. For count tokens there are count - 1 calls after the prompt; for count = 0 not even the prompt is read.
    """
    ### BEGIN SOLUTION
    if prompt.shape[1] == 0:
        raise ValueError("the prompt has no token, so nothing can be predicted from it")
    chosen, caches, done = [prompt[:, :0]], None, torch.zeros(len(prompt), dtype=torch.bool)
    pending = prompt.split(piece, dim=1)
    for _ in range(count):
        if done.all():
            break
        for ids in pending:
            logits, caches = step(ids, caches)
        token = logits.argmax(dim=1)
        if stop is not None:
            token = torch.where(done, stop, token)
            done = token == stop
        chosen.append(token[:, None])
        pending = chosen[-1:]
    return torch.cat(chosen, dim=1)
    ### END SOLUTION


# %% [markdown]
# The tests use a machine that is no neural network: its next token depends on *all* tokens that it has seen and on their
# order, and it writes down what it was fed.

# %% nbgrader={"grade": false, "grade_id": "mambainf-given-machine", "locked": true, "schema_version": 3, "solution": false, "task": false}
class Machine:
    """A step whose cache is a number for each row; `calls` has the shape of each call, and whether it was new."""

    def __init__(self, vocab: int = 11) -> None:
        self.vocab, self.calls = vocab, []

    def __call__(self, ids: Tensor, caches: Tensor | None) -> tuple[Tensor, Tensor]:
        self.calls.append((tuple(ids.shape), caches is None))
        total = torch.zeros(len(ids), dtype=torch.long) if caches is None else caches
        for token in ids.T:
            total = (31 * total + token + 1) % 10007
        logits = torch.zeros(len(ids), self.vocab)
        logits[torch.arange(len(ids)), total % self.vocab] = 1.0
        return logits, total


# %% nbgrader={"grade": false, "grade_id": "mambainf-given-check-generate", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_generate(prompt: Tensor, count: int, stop: int | None = None, **piece: int) -> None:
    """Hold generate against lists of Python numbers, tokens and calls."""
    rows = [row.tolist() for row in prompt]
    new = [[] for _ in rows]
    while len(new[0]) < count and not all(stop in row for row in new):
        for row, said in zip(rows, new, strict=True):
            total = 0
            for token in row + said:
                total = (31 * total + token + 1) % 10007
            said.append(stop if stop in said else total % 11)
    machine, length = Machine(), prompt.shape[1]
    with checking.unchanged(prompt=prompt):
        got = generate(machine, prompt, count, stop, **piece)
    what = f"{count} tokens after {length}, stop={stop}, {piece or ''}"
    checking.equal(got, torch.tensor(new, dtype=torch.long).reshape(len(rows), -1), what=what,
                   hint="what does the machine get to see, in which order?")
    size = piece.get("piece", 512)
    fed = [min(size, length - k) for k in range(0, length, size)] + [1] * (got.shape[1] - 1)
    want = [((len(rows), n), k == 0) for k, n in enumerate(fed)] if got.shape[1] else []
    checking.equal(machine.calls, want, what=f"calls of step, (shape, new text?), for {what}",
                   hint="the prompt once, in pieces; then one token at a time, and no call too many")


# %% nbgrader={"grade": true, "grade_id": "test-mambainf-generate", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: tokens and calls of step against lists; pieces of a prompt, rows that stop, nothing to do.
# Catches: the prompt read again, a token fed twice, caches forgotten between pieces, rows that go on after their end.
# A pass prints what each of two checks earned.
def test_unit_mambainf_generate():
    credit = checking.Credit(4)
    with credit.check("tokens and calls", points=2, hint="print the shapes that step is called with"):
        check_generate(torch.tensor([[1, 2, 3], [3, 2, 1]]), 5)
        check_generate(torch.tensor([[1, 2, 3, 4, 5]]), 3, piece=2)
        for count in (3, 0):
            checking.raises(ValueError, generate, Machine(), torch.zeros(2, 0, dtype=torch.long), count, what="an empty prompt")
        ### BEGIN HIDDEN TESTS
        # check: prompts, counts and pieces of other sizes
        # hint: what happens when the prompt is as long as a piece, or when one token, or none, is asked for?
        generator = torch.Generator().manual_seed(checking.secret_seed())
        for rows, length, count, piece in [(1, 1, 1, 1), (3, 8, 0, 4), (2, 8, 6, 4), (4, 9, 7, 100), (2, 7, 1, 3)]:
            check_generate(torch.randint(11, (rows, length), generator=generator), count, piece=piece)
        check_generate(torch.randint(11, (1, 513), generator=generator), 2)
        ### END HIDDEN TESTS
    with credit.check("rows that stop", points=2, hint="a row that has ended stays ended, the others go on"):
        for stop in range(3):
            check_generate(torch.tensor([[5, 1], [2, 2], [0, 7]]), 50, stop=stop)
        ### BEGIN HIDDEN TESTS
        # check: rows that stop at once, late, or never
        # hint: when may the whole loop end early, and when only a row?
        generator = torch.Generator().manual_seed(checking.secret_seed())
        for stop in range(11):
            check_generate(torch.randint(11, (2, 3), generator=generator), 9, stop=stop, piece=2)
        check_generate(torch.tensor([[stop, 4]]), 40, stop=stop)
        ### END HIDDEN TESTS
    return credit.total()


test_unit_mambainf_generate()

# %% [markdown]
# ### What just happened?
#
# The same loop, two kinds of model: yours, and a transformer with its KV cache. The trained Mamba goes on with a sentence:

# %%
tokenizer = tiny.fast_tokenizer()  # a token is a byte


def say(prompt, count=60):
    return tokenizer.decode(generate(mamba_step(speaker), torch.tensor([tokenizer(prompt)["input_ids"]]), count)[0])


# %%
insight.run(lambda: print("ana sees" + say("ana sees")), needs="Exercises 1 to 5")


# %% [markdown]
# ### Systems insight 2 of 3: what does the next token cost?
#
# **Checkpoint**: you generate from caches. **Predict, and write it down**: after 64 tokens and after 2,048 tokens, how long
# does *one more* take: from your caches; without caches, reading everything again; and for a transformer with a KV cache?

# %% nbgrader={"grade": false, "grade_id": "mambainf-given-same-size", "locked": true, "schema_version": 3, "solution": false, "task": false}
def same_size() -> tuple[MambaForCausalLM, LlamaForCausalLM]:
    """A Mamba and a transformer of nearly the same number of parameters, untrained."""
    torch.manual_seed(0)
    mamba = MambaConfig(vocab_size=259, hidden_size=64, num_hidden_layers=4)
    llama = LlamaConfig(vocab_size=259, hidden_size=64, num_hidden_layers=2, intermediate_size=256,
                        num_attention_heads=8, num_key_value_heads=8, max_position_embeddings=4096)
    return MambaForCausalLM(mamba).eval(), LlamaForCausalLM(llama).eval()


# %%
pair = same_size()
print([sum(value.numel() for value in model.parameters()) for model in pair])


# %%
def seconds_per_token(step, ids, tokens=5):
    """Median seconds of one more token after `ids`."""
    _, caches = step(ids, None)
    times = []
    for _ in range(tokens):
        start = time.perf_counter()
        _, caches = step(ids[:, -1:], caches)
        times.append(time.perf_counter() - start)
    return sorted(times)[tokens // 2]


# %%
def seconds_again(step, ids):
    """Seconds of reading all of `ids`."""
    start = time.perf_counter()
    step(ids, None)
    return time.perf_counter() - start


# %%
def next_token(contexts=(64, 256, 1024, 2048)):
    mamba, llama = mamba_step(pair[0]), llama_step(pair[1])
    table = {"Mamba, from its caches": [], "Mamba, read again": [], "transformer, KV cache": []}
    for context in contexts:
        ids = torch.randint(259, (1, context), generator=torch.Generator().manual_seed(context))
        row = seconds_per_token(mamba, ids), seconds_again(mamba, ids), seconds_per_token(llama, ids)
        for seconds, values in zip(row, table.values(), strict=True):
            values.append(1e3 * seconds)
    insight.lines(contexts, table, xlabel="context [tokens]", ylabel="one more token [ms]", logx=True, logy=True)
    return table


# %%
token_ms = insight.run(next_token, needs="Exercises 1 to 5")
for name, values in (token_ms or {}).items():
    print(f"{name:24}", "  ".join(f"{value:8.2f} ms" for value in values))


# %% [markdown]
# **What it means in production.** From caches the time does not depend on the context. Reading again costs time in
# proportion to it: that is prefill, which a GPU does in parallel (2.4.2) and your Python loop does not. At this size the
# transformer's line is nearly flat too: its cache is 2 MB at 2,048 tokens, and Python's own time covers the reading. At full size
# decoding is bound by *bytes read*: weights and caches, once for each token. So the next part counts bytes.

# %% [markdown]
# ## Part 4: Bytes
#
# ### Exercise 6: how large is a cache?
#
# One function for both kinds of model, from the config alone: nobody wants to load a model to learn that it does not fit. A
# transformer may have fewer key-value heads than query heads (grouped-query attention, GQA), and heads whose width is not
# the hidden size divided by their number.

# %% nbgrader={"grade": false, "grade_id": "mambainf-bytes", "locked": false, "schema_version": 3, "solution": true, "task": false}
def cache_bytes(config: MambaConfig | LlamaConfig, length: int, batch: int = 1, itemsize: int = 2) -> int:
    """Bytes of the caches of a model after `length` tokens.

    Args:
        config: of a Mamba, with model_type "mamba", intermediate_size (D), conv_kernel (K), state_size (N); or of a
            transformer, with num_key_value_heads and head_dim. Both have num_hidden_layers.
        length: tokens of context in each sequence, at least 0.
        batch: sequences.
        itemsize: bytes of a number in the transformer's cache, and in the convolution's. A Mamba's states are float32,
            whatever itemsize says.

    Returns:
        Bytes. A Mamba's caches are there from the start, so they count for length = 0 too: `LayerCache` as above.

    TODO: Count the numbers that each layer keeps, and multiply.

    APPROACH:
        1. Tell the two by config.model_type, because that is what transformers itself goes by.
        2. Count K - 1 inputs and N states for each inner channel, because that is all of a Mamba's past.
        3. Count keys and values for key-value heads, because query heads are not kept.

    EXAMPLE:
        >>> cache_bytes(MambaConfig(hidden_size=8, num_hidden_layers=3, state_size=16, conv_kernel=4), length=1000)
        3360
        >>> cache_bytes(LlamaConfig(hidden_size=8, num_attention_heads=4, num_hidden_layers=3), length=1000)
        96000

    HINTS:
        1. In the example above: 3 layers of 16 inner channels, each with 3 inputs of 2 bytes and 16 states of 4 bytes.
        2. In which of the two does `length` appear at all?
        3. `config.head_dim` is there, also where it is not hidden_size / num_attention_heads.
    """
    ### BEGIN SOLUTION
    if config.model_type == "mamba":
        per_channel = (config.conv_kernel - 1) * itemsize + config.state_size * 4
        return config.num_hidden_layers * batch * config.intermediate_size * per_channel
    return 2 * config.num_hidden_layers * batch * length * config.num_key_value_heads * config.head_dim * itemsize
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "mambainf-given-measured", "locked": true, "schema_version": 3, "solution": false, "task": false}
def held_bytes(caches: Any) -> int:
    """Bytes of the tensors of a real cache: a list of LayerCache, or a transformer's cache of keys and values."""
    if isinstance(caches, list):
        return sum(value.nbytes for cache in caches for value in cache)
    return sum(layer.keys.nbytes + layer.values.nbytes for layer in caches.layers)


# %% nbgrader={"grade": false, "grade_id": "mambainf-given-configs", "locked": true, "schema_version": 3, "solution": false, "task": false}
def draw_config(seed: int, kind: type) -> MambaConfig | LlamaConfig:
    """A config with sizes that are all different (used by the hidden tests)."""
    a, b, c, d = (torch.randperm(5, generator=torch.Generator().manual_seed(seed)) + 2).tolist()[:4]
    if kind is MambaConfig:
        return MambaConfig(vocab_size=9, hidden_size=4 * a, num_hidden_layers=b, state_size=c, conv_kernel=d, expand=3)
    return LlamaConfig(vocab_size=9, hidden_size=4 * a * c, num_hidden_layers=b, num_attention_heads=2 * c,
                       num_key_value_heads=c, head_dim=2 * d, intermediate_size=8)


# %% nbgrader={"grade": false, "grade_id": "mambainf-given-check-bytes", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_bytes(config: MambaConfig | LlamaConfig, length: int, batch: int) -> None:
    """Hold cache_bytes against the tensors of a real, untrained model."""
    ids = torch.zeros(batch, length, dtype=torch.long)
    if isinstance(config, MambaConfig):
        model = MambaForCausalLM(config)
        want = {kind: held_bytes(empty_caches(model.to(kind), batch)) for kind in (torch.float32, torch.bfloat16)}
    else:
        model = LlamaForCausalLM(config).eval()
        want = {kind: held_bytes(llama_step(model.to(kind))(ids, None)[1]) for kind in (torch.float32, torch.bfloat16)}
    for kind, size in want.items():
        checking.equal(cache_bytes(config, length, batch, kind.itemsize), size,
                       what=f"bytes of a {config.model_type}'s caches, {batch} x {length} tokens in {kind}",
                       hint="print the shape of every tensor of a real cache and multiply")


# %% nbgrader={"grade": true, "grade_id": "test-mambainf-bytes", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Checks: bytes by formula against the tensors of real caches, in float32 and bfloat16, with and without GQA.
# Catches: query heads counted, hidden_size for D, K for K - 1, a state in half precision, a Mamba that grows.
# A pass prints nothing.
def test_unit_mambainf_bytes():
    check_bytes(MambaConfig(vocab_size=9, hidden_size=8, num_hidden_layers=3), 6, 2)
    check_bytes(LlamaConfig(vocab_size=9, hidden_size=8, num_hidden_layers=3, num_attention_heads=4), 6, 2)
    checking.equal(cache_bytes(LlamaConfig(), 0), 0, what="bytes of a KV cache without tokens")
    ### BEGIN HIDDEN TESTS
    # check: Mambas of other sizes
    # hint: write down the shape of both tensors of a LayerCache, and the bytes of one number in each.
    seed = checking.secret_seed()
    for number in range(2):
        check_bytes(draw_config(seed + number, MambaConfig), 1 + number, 3 - number)
    # check: transformers with fewer key-value heads, and heads of any width
    # hint: what is kept of a token: queries, keys or values? Of how many heads, each how wide?
    for number in range(2):
        check_bytes(draw_config(seed + number, LlamaConfig), 3 - number, 1 + number)
    ### END HIDDEN TESTS


test_unit_mambainf_bytes()


# %% [markdown]
# ### Exercise 7: how long may a text be?
#
# The question that is asked in practice is the inverse: this many bytes are left beside the weights; how many tokens of context
# fit into them? For a Mamba the answer is all, or none.

# %% nbgrader={"grade": false, "grade_id": "mambainf-context", "locked": false, "schema_version": 3, "solution": true, "task": false}
def longest_context(config: MambaConfig | LlamaConfig, budget: int, batch: int = 1, itemsize: int = 2) -> float:
    """The longest context, in tokens for each of `batch` sequences, whose caches take no more than `budget` bytes.

    Args:
        config, batch, itemsize: as in `cache_bytes`; batch is at least 1.
        budget: bytes, at least 0.

    Returns:
        A whole number of tokens as an int; for a Mamba math.inf if its caches fit, else 0.

    TODO: Invert `cache_bytes`.

    APPROACH:
        1. Ask what one token adds, because that is the difference of two lengths, whatever the model.
        2. Treat a model to which a token adds nothing apart, because one cannot divide by 0.
        3. Divide whole numbers by //, because floats lose the last digits of large budgets.

    EXAMPLE:
        >>> longest_context(LlamaConfig(hidden_size=8, num_attention_heads=4, num_hidden_layers=3), budget=1000)
        10
        >>> longest_context(MambaConfig(hidden_size=8, num_hidden_layers=3), budget=1000)
        0

    HINTS:
        1. At which lengths would you ask `cache_bytes`, and how few of them are enough?
        2. Do the caches of no token fit already?
        3. A budget that is met exactly is kept.
    """
    ### BEGIN SOLUTION
    empty, one = (cache_bytes(config, length, batch, itemsize) for length in (0, 1))
    if one == empty:
        return math.inf if empty <= budget else 0
    return budget // one
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-mambainf-context", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Checks: the length found fits and one more does not; exact budgets, huge ones, none; Mambas that fit or do not.
# Catches: rounding up, a budget that must not be met exactly, float division, the batch left out.
# A pass prints nothing.
def test_unit_mambainf_context():
    def check(config, length, batch, itemsize):
        one = 2 * config.num_hidden_layers * batch * config.num_key_value_heads * config.head_dim * itemsize
        for budget, want in [(one * length, length), (one * length + one - 1, length), (one * length - 1, length - 1)]:
            checking.equal(longest_context(config, budget, batch, itemsize), want,
                           hint="whole-number division? the batch counted? a met budget kept?",
                           what=f"tokens in {budget:,} bytes, {one} bytes a token")

    check(LlamaConfig(), 1000, 1, 2)
    mamba = MambaConfig(hidden_size=8, num_hidden_layers=3, state_size=16, conv_kernel=4)  # 3,360 bytes, as above
    checking.equal(longest_context(mamba, 3359), 0, what="a budget that is a byte too small for a Mamba")
    checking.equal(longest_context(mamba, 3360), math.inf, what="a budget that a Mamba fits into")
    ### BEGIN HIDDEN TESTS
    # check: other transformers, batches and dtypes, and budgets of many digits
    # hint: is your division exact for numbers beyond 2 to the 53?
    seed = checking.secret_seed()
    check(draw_config(seed, LlamaConfig), 7, 5, 4)
    check(draw_config(seed + 1, LlamaConfig), 10**17 + 1, 3, 1)
    # check: Mambas with a batch
    # hint: every sequence has caches of its own.
    for batch in (2, 7):
        checking.equal(longest_context(mamba, 3360 * batch - 1, batch), 0, what=f"a byte too few for a batch of {batch}")
        checking.equal(longest_context(mamba, 3360 * batch, batch), math.inf, what=f"enough for a batch of {batch}")
    ### END HIDDEN TESTS


test_unit_mambainf_context()


# %% [markdown]
# ### Systems insight 3 of 3: where do the two curves cross?
#
# **Checkpoint**: you can say what caches take, from a config. **Predict, and write it down**: the pair of Insight 2 has the
# same number of parameters. From which context on does the transformer hold more bytes than the Mamba: 20 tokens, 200, or
# 2,000? And with an eighth of its key-value heads?

# %%
def crossover(mamba, transformer, itemsize=2):
    """The shortest context whose KV cache takes more bytes than a Mamba's caches."""
    return longest_context(transformer, cache_bytes(mamba, 0, itemsize=itemsize), itemsize=itemsize) + 1


# %%
def measured_caches(contexts=(8, 32, 128, 512)):
    """KiB of the tensors in the caches of both models, after real tokens."""
    grown = {"Mamba": [], "transformer": []}
    for context in contexts:
        ids = torch.zeros(1, context, dtype=torch.long)
        for values, step in zip(grown.values(), (mamba_step(pair[0]), llama_step(pair[1])), strict=True):
            values.append(held_bytes(step(ids, None)[1]) / 1024)
    return list(contexts), grown


# %%
def cache_story():
    contexts, grown = measured_caches()
    mamba, llama = pair[0].config, pair[1].config
    few = LlamaConfig(**{**llama.to_dict(), "num_key_value_heads": 1})
    grown["one key-value head, by formula"] = [cache_bytes(few, n, itemsize=4) / 1024 for n in contexts]
    insight.lines(contexts, grown, xlabel="context [tokens]", ylabel="caches [KiB]", logx=True, logy=True)
    crossed = {"8 key-value heads": crossover(mamba, llama, 4), "1 key-value head": crossover(mamba, few, 4)}
    print("the transformer holds more from here on:", crossed)
    return grown, crossed


# %%
cache_growth = insight.run(cache_story, needs="Exercises 1 to 7")


# %% [markdown]
# **What it means in production.** The crossing lies at a few hundred tokens or fewer: any real conversation is beyond it.
# But bytes are not answers. The Mamba's few kilobytes must stand for everything it read; what a transformer
# can look up word by word, such as a phone number 5,000 tokens ago, a state may no longer hold (Jelassi et al. 2024).
# Hybrids such as Jamba keep one attention layer in eight for that, and an eighth of the cache.

# %% [markdown]
# ## Put it together
#
# Your loop over your model against transformers' own `generate`. Two likeliest tokens may be as good as equal, and rounding
# then decides; so the test reads what you generated by transformers' forward and asks that each token *was* the likeliest,
# up to rounding.

# %% nbgrader={"grade": false, "grade_id": "mambainf-given-check-module", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_module(seed: int, batch: int, length: int, count: int, piece: int) -> None:
    """Generate from a random Mamba; every token must be the likeliest by transformers' forward over the whole text."""
    model = tiny_mamba(seed)
    prompt = torch.randint(61, (batch, length), generator=torch.Generator().manual_seed(seed))
    with own_work():
        new = generate(mamba_step(model), prompt, count, piece=piece)
    checking.equal(tuple(new.shape), (batch, count), what="shape of what was generated")
    with torch.no_grad():
        logits = model(torch.cat([prompt, new], dim=1), use_cache=False).logits[:, length - 1 : -1].double()
    best = logits.amax(dim=2)
    # The tolerance of the logits in Exercise 4, on both sides of the comparison.
    checking.close(logits.gather(2, new[:, :, None])[:, :, 0], best, rtol=0, atol=4e-4 * best.abs().max().item(),
                   what=f"logits of the generated tokens beside the largest, prompt read in pieces of {piece}")


# %% nbgrader={"grade": false, "grade_id": "mambainf-given-check-branches", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_branches(seed: int) -> None:
    """Two texts continued from one snapshot must be what they are alone, and the snapshot must have the bytes promised."""
    model = tiny_mamba(seed)
    prefix, *rest = (torch.randint(61, (1, n), generator=torch.Generator().manual_seed(seed)) for n in (7, 3, 4))
    _, snapshot = mamba_step(model)(prefix, None)
    checking.equal(held_bytes(snapshot), cache_bytes(model.config, 7, itemsize=4), what="bytes of the caches after a prefix")
    for question in rest:
        branch, _ = mamba_step(model)(question, snapshot)
        alone, _ = mamba_step(model)(torch.cat([prefix, question], dim=1), None)
        # As in Exercise 4, on both sides.
        checking.close(branch, alone, rtol=0, atol=4e-4 * max(1.0, alone.abs().max().item()),
                       what="logits from a snapshot beside those of the whole text",
                       hint="does a question change the snapshot that the next one starts from?")


# %% nbgrader={"grade": true, "grade_id": "test-mambainf-module", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: what you generate is what transformers would; two branches from one snapshot do not disturb each other.
# Catches: pieces that are right alone and do not fit together, caches that are changed in place.
# A pass prints what each of two checks earned.
def test_unit_mambainf_module():
    credit = checking.Credit(4)
    with credit.check("generation", points=2, hint="compare the logits after the prompt, then after one more token"):
        check_module(0, 2, 6, 8, piece=4)
        ### BEGIN HIDDEN TESTS
        # check: other models, prompts and pieces
        # hint: read the prompt in one piece, then in several: are the first tokens the same?
        seed = checking.secret_seed()
        check_module(seed, 3, 1, 6, piece=512)
        check_module(seed + 1, 1, 9, 5, piece=1)
        ### END HIDDEN TESTS
    with credit.check("branches", points=2, hint="caches are returned new, the old ones stay good"):
        check_branches(0)
        ### BEGIN HIDDEN TESTS
        # check: branches of other models
        # hint: keep the caches after a prefix, ask two questions, and ask the first one again.
        check_branches(checking.secret_seed())
        ### END HIDDEN TESTS
    return credit.total()


test_unit_mambainf_module()


# %%
def test_unit_all():
    """Every test again, in order; says which exercises are still open."""
    for name in ("conv", "step", "mixer", "model", "generate", "bytes", "context", "module"):
        print(f"--- {name}")
        insight.run(globals()[f"test_unit_mambainf_{name}"], needs=f"mambainf-{name}")


# %%
test_unit_all()


# %% [markdown]
# ## Use it: a system prompt that is read once
#
# A service puts the same long text in front of every question. With your caches that text is read once; each
# question starts from the *snapshot*. A transformer can do the same with its keys and values, but must keep them all. Here the
# trained Mamba has read 100 sentences, and three "users" begin the next one.

# %%
def ask(questions, prefix):
    """Answers from a snapshot of the prefix, and by reading everything again; seconds of both."""
    step, encode = mamba_step(speaker), lambda text: torch.tensor([tokenizer(text)["input_ids"]])
    start = time.perf_counter()
    again = [tokenizer.decode(generate(step, encode(prefix + text), 40)[0]) for text in questions]
    middle = time.perf_counter()
    _, snapshot = step(encode(prefix), None)
    quick = []
    for text in questions:
        first = generate(lambda ids, caches: step(ids, snapshot if caches is None else caches), encode(text), 40)
        quick.append(tokenizer.decode(first[0]))
    seconds = {"read again": middle - start, "snapshot": time.perf_counter() - middle}
    return quick, again, seconds, held_bytes(snapshot)


# %%
def service():
    prefix = tiny.sentences(100, seed=5)
    quick, again, seconds, size = ask(["ana ", "ben finds ", "a red "], prefix)
    for text, same in zip(quick, again, strict=True):
        print(f"{text.split('. ')[0]!r}, as without a snapshot: {text == same}")
    print(f"a prefix of {len(prefix)} tokens, kept in {size:,} bytes: {size / len(prefix):.1f} bytes a token")
    insight.bars(seconds, ylabel="three answers [s]")
    return seconds


# %%
snapshot_seconds = insight.run(service, needs="Exercises 1 to 5")


# %% [markdown]
# And the library's counterpart: `generate` of transformers keeps the same two tensors in a cache object of its own. Compare
# tokens and bytes. (It keeps one column of the convolution more than it needs: K instead of K - 1.)

# %%
@torch.no_grad()
def beside_transformers(count=40):
    ids = torch.tensor([tokenizer("ana sees a ")["input_ids"]])
    start = time.perf_counter()
    theirs = speaker.generate(ids, max_new_tokens=count, do_sample=False, use_cache=True, eos_token_id=None,
                              pad_token_id=258)
    middle = time.perf_counter()
    mine = generate(mamba_step(speaker), ids, count)
    print(f"same tokens: {torch.equal(theirs[:, ids.shape[1]:], mine)}; transformers {middle - start:.2f} s, "
          f"yours {time.perf_counter() - middle:.2f} s")
    layer = speaker(ids, use_cache=True).cache_params.layers[0]
    print("its cache of a layer:", tuple(layer.conv_states[0].shape), tuple(layer.recurrent_states[0].shape))


# %%
insight.run(beside_transformers, needs="Exercises 1 to 5")


# %% [markdown]
# ## On your Spark
#
# Full size: Mamba-2.8B beside Pythia-2.8B, a transformer of the same size, trained on the same data with the same tokenizer. In
# bfloat16 both have 5.6 GB of weights. First what your functions say about their caches:

# %%
def predict_full_size(budget=100 * 10**9, weights=5_600_000_000):
    mamba = MambaConfig(hidden_size=2560, num_hidden_layers=64)
    pythia = LlamaConfig(hidden_size=2560, num_hidden_layers=32, num_attention_heads=32)
    print(f"Mamba-2.8B  {cache_bytes(mamba, 0) / 1e6:8.1f} MB, for any context")
    for length in (2048, 32_768, 131_072):
        print(f"Pythia-2.8B {cache_bytes(pythia, length) / 1e6:8,.0f} MB for {length:,} tokens")
    print(f"crossing at {crossover(mamba, pythia)} tokens; {budget / 1e9:.0f} GB, weights included, hold "
          f"{longest_context(pythia, budget - weights):,} tokens of Pythia's")


# %%
insight.run(predict_full_size, needs="Exercises 6 and 7")

# %% [markdown]
# ```bash
# sync; echo 3 | sudo tee /proc/sys/vm/drop_caches   # unified memory: the file cache would take from the GPU's share
# docker run --gpus all -it --rm --ipc=host -p 8888:8888 -v $PWD:/workspace \
#     -v $HOME/.cache/huggingface:/hf -e HF_HOME=/hf nvcr.io/nvidia/pytorch:25.11-py3
# ```
#
# In the container install transformers, the course's package, and Mamba's CUDA kernels: `pip install mamba-ssm
# causal-conv1d`. Without these the prompt is read by a Python loop. Pythia was trained on 2,048 tokens: beyond that its text is
# worthless, its bytes and seconds are not. Then set `RUN_ON_SPARK`. This section has **not yet been measured on a
# GPU** by the authors: your record is the first.

# %%
RUN_ON_SPARK = False


# %%
def run_on_spark(path, contexts=(1024, 8192, 32_768), tokens=32):
    """Prefill and decode a model at full size; returns GB beside the weights and tokens per second, by context."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16, device_map="cuda").eval()
    record, weights = {}, torch.cuda.memory_allocated()
    for context in contexts:
        ids = torch.randint(50_000, (1, context), device="cuda")
        for new in (2, 2, 2 + tokens):  # the first run only warms up; the second is the prefill to subtract
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            start = time.perf_counter()
            model.generate(ids, max_new_tokens=new, min_new_tokens=new, do_sample=False)
            torch.cuda.synchronize()
            record[context, new] = time.perf_counter() - start
        seconds = record.pop((context, 2 + tokens)) - record.pop((context, 2))
        record[context] = {"gb": (torch.cuda.max_memory_allocated() - weights) / 1e9, "tokens_per_s": tokens / seconds}
    return record


# %% [markdown]
# Record what you measured, for both models at 32,768 tokens. `gb` includes the activations of the prefill, so it will be far
# above the 23 MB predicted for Mamba; say by how much. Without such a machine leave it as it is: nothing is lost.

# %%
spark_record = {"gpu": None, "mamba_gb": None, "mamba_tokens_per_s": None, "pythia_gb": None, "pythia_tokens_per_s": None}

# %%
if RUN_ON_SPARK:
    spark_record["gpu"] = torch.cuda.get_device_name()
    for name, path in {"mamba": "state-spaces/mamba-2.8b-hf", "pythia": "EleutherAI/pythia-2.8b"}.items():
        for key, value in run_on_spark(path)[32_768].items():
            spark_record[f"{name}_{key}"] = value


# %% nbgrader={"grade": false, "grade_id": "mambainf-given-spark-record", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_spark_record(record: dict) -> str:
    """Form and plausibility of a record. Nothing here earns points; a person reads it."""
    wanted = {"mamba_gb": (0.02, 60), "mamba_tokens_per_s": (0.5, 2000), "pythia_gb": (5, 100),
              "pythia_tokens_per_s": (0.5, 2000)}
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
# **1. A cache that is a view.**
#
# ```python
# return y, joined[:, :, length:]                 # wrong: three columns keep the whole prompt alive
# ```
# Nothing fails, but memory grows with the context: what Mamba was chosen to avoid.
#
# **2. The sign of A.**
#
# ```python
# A = torch.exp(mixer.A_log)                      # wrong: exp(delta A) > 1, the state explodes after some tokens
# ```
# For a single token from an empty state the result is the same. Test with more than one.

# %% [markdown]
# **3. The old state read.**
#
# ```python
# y = (state * C[:, None, :]).sum(2)              # wrong before the update: the token cannot see itself
# ```
#
# **4. A state in bfloat16.**
#
# ```python
# state = state.to(x.dtype)                       # wrong: small updates are rounded away, token by token
# ```
#
# **5. The prompt again.**
#
# ```python
# step(torch.cat([prompt, *new], 1), caches)      # wrong: it has been read; now it counts twice
# ```

# %% [markdown]
# **6. Caches changed in place.**
#
# ```python
# cache.ssm.copy_(state)                          # wrong here: two branches from a snapshot now share one memory
# ```
# transformers does it on purpose, for CUDA graphs, and pays by copying a cache before it branches.
#
# **7. Query heads for key-value heads.**
#
# ```python
# 2 * layers * length * config.num_attention_heads * head_dim * itemsize   # wrong with GQA: up to 8 times too much
# ```

# %% [markdown]
# ## Reflect
#
# Three questions on *your* code and *your* measurements. Five to ten lines each; numbers without a source in this
# notebook earn nothing.

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-mambainf-memory", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Reflection 1: memory and time (3 points).** From `cache_growth`, `token_ms` and the prediction for Mamba-2.8B: how do bytes and
# seconds of one more token depend on the context in the two models, and where do they cross? Why was the transformer's time
# nearly flat in your measurement, and what will make it rise at full size? Estimate it for 131,072 tokens, at 273 GB/s.
#
# ### BEGIN SOLUTION
# (With the student's numbers.) Mamba's caches have the same bytes at every context; the transformer's grow in proportion, and pass
# Mamba's at `crossed` tokens (a few hundred in the tiny pair, 70 for 2.8B). A token from Mamba's caches takes the same time at 64
# and at 2,048; reading again grows in proportion. The tiny KV cache has some 2 MB, read in far less time than Python needs for
# the calls. At full size decoding is bound by bytes: 5.6 GB of weights take 21 ms at 273 GB/s; Pythia's cache at 131,072 tokens
# is 43 GB, 157 ms more; Mamba adds 23 MB, 0.1 ms. So about 5.6 tokens a second beside 48.
#
# ### BEGIN MARK SCHEME
# - 1 point: both growths, bytes and time, quoted from their own measurement, with the crossing.
# - 1 point: overhead of calls hides the reading at this size; at full size bytes read per token decide.
# - 1 point: an estimate of weights plus cache over bandwidth, within a factor of two. Cache alone: half a point.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-mambainf-state", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Reflection 2: what a state is (3 points).** Use `state_error`, the picture of forgetting, and your `ssm_step`. Why does a KV cache
# bear bfloat16, and a state does not? What values of $\Delta$ and $A$ let a channel remember a
# token for 10,000 steps, and what becomes of the rounding then? Why can your functions be split at any place, and what in
# `second_chunk` showed that this must be tested?
#
# ### BEGIN SOLUTION
# A key is written once and read; its rounding error stays one rounding. A state is multiplied and added to at every token, so
# rounding happens each time; `state_error` shows bfloat16 off by 6.6 % after 1,000 tokens, float32 by some 4e-6. To
# remember for 10,000 steps exp(delta A) must be above 1 - 1e-4, that is delta |A| below 1e-4: what decays in a step is then less than
# half a unit of the last digit in bfloat16 (2**-9 to 2**-8 of the number) and is rounded away: the channel forgets nothing any more, and
# small inputs never get in; float32 bears it. It can be split anywhere because conv inputs and state are all that the future needs. transformers' second chunk started from a zero state without
# an error: only comparing with the whole shows it.
#
# ### BEGIN MARK SCHEME
# - 1 point: written once against updated at every token, with the measured errors.
# - 1 point: delta times A small, and compares it with the unit of the last digit.
# - 1 point: the two caches are the complete past; chunked against whole as the test, with their own number.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-mambainf-production", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Reflection 3: production (3 points).** You run (a) a chat with a system prompt of 4,000 tokens and thousands of sessions of some 200
# further tokens, and (b) a search for order numbers in logs of 100,000 tokens. For each: Mamba, transformer with GQA, or a hybrid?
# Argue with `snapshot_seconds`, `longest_context` and what a state forgets; say how many sessions fit in 100 GB beside the weights,
# for the models of *On your Spark* (GQA: 4 of the 32 heads). What the system prompt leaves in a cache may be stored once where the
# model allows it. Name one measurement that you would make before deciding.
#
# ### BEGIN SOLUTION
# Mamba-2.8B takes 23 MB a session whatever its length: 100 GB hold about 4,360 in (a) and in (b). The prompt is read once; its snapshot
# saves the time (`snapshot_seconds`), not the bytes: each session needs a state of its own. Pythia with 4 of 32 heads takes 41 kB a
# token. (a) The prompt's 164 MB are stored once, 200 tokens a session take 8.2 MB: about 12,200 sessions; stored for each session
# 172 MB: 580. Mamba holds more only beyond some 560 further tokens a session; so short sessions speak for the transformer in bytes,
# long ones for Mamba, if its answers are as good. (b) 4.1 GB a session: 24 (a hybrid with an eighth of the attention: some 190). But exact
# look-up of a string long ago is what a state of fixed size is worst at, so transformer with GQA or hybrid all the same. Before:
# recall of inserted order numbers as a function of their distance, on our logs.
#
# ### BEGIN MARK SCHEME
# - 1 point: (a) bytes a session by their functions, with and without one stored prompt for the transformer, and numbers of sessions.
#   "Mamba always holds more" is wrong here: half a point.
# - 1 point: (b) sees that exact recall speaks against a pure state, whatever the bytes say.
# - 1 point: a measurement of quality on their own data, not of speed only.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# What you built, in the numbers of your own run:

# %%
def summary():
    print(f"one more token after 2,048: {token_ms['Mamba, from its caches'][-1]:.1f} ms from caches, "
          f"{token_ms['Mamba, read again'][-1]:.0f} ms by reading again")
    print(f"caches: Mamba {cache_growth[0]['Mamba'][-1]:.0f} KiB at any context, transformer "
          f"{cache_growth[0]['transformer'][-1]:.0f} KiB at 512 tokens; crossings {cache_growth[1]}")
    print(f"error of a state after 1,000 tokens: float32 {state_error['float32'][0][-1]:.0e}, bfloat16 "
          f"{state_error['bfloat16'][0][-1]:.0e}")
    print(f"three answers: {snapshot_seconds['read again']:.2f} s, from a snapshot {snapshot_seconds['snapshot']:.2f} s")


# %%
insight.run(summary, needs="Exercises 1 to 7")

# %% [markdown]
# ## Challenge (optional)
#
# 1. **Sampling**: give `generate` a temperature and top-p, with a generator for each row, so that a row's text does not
#    depend on its neighbours.
# 2. **Speculation**: let a small Mamba propose four tokens and the large one check them in one chunk. What must you
#    keep to take back the tokens that were refused?
# 3. **Mamba-2**: read `Mamba2Mixer` in transformers. Its N is 128 instead of 16, and its convolution runs over B and C too.
#    Where is the crossing now?
#
# ## Further reading
#
# - A. Gu and T. Dao, *Mamba: Linear-Time Sequence Modeling with Selective State Spaces*, 2023, arXiv:2312.00752. Section 3 is
#   this lab; section 4.5 has the throughput.
# - T. Dao and A. Gu, *Transformers are SSMs*, 2024, arXiv:2405.21060: Mamba-2.
# - S. Jelassi et al., *Repeat After Me: Transformers are Better than State Space Models at Copying*, 2024, arXiv:2402.01032.
# - O. Lieber et al., *Jamba: A Hybrid Transformer-Mamba Language Model*, 2024, arXiv:2403.19887.
# - J. Ainslie et al., *GQA: Training Generalized Multi-Query Transformer Models*, 2023, arXiv:2305.13245.

# %% [markdown]
# ## Clean up
#
# Drop the models and the figures; on a machine with a GPU this also returns its memory.

# %%
from matplotlib import pyplot

pyplot.close("all")
speaker = pair = example = None
if torch.cuda.is_available():
    torch.cuda.empty_cache()
