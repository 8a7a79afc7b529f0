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
# # Lab 2.4.2: Selective scan
#
# | | |
# |---|---|
# | Module | 2.4 Efficient Architectures |
# | Time | 2 hours |
# | Difficulty | ★★★★☆ |
# | Hardware | gpu-optional: all points can be earned on a CPU; the kernel then runs in a simulator |
# | Points | 30 automatic, 9 read by a person |
# | Builds on | 2.4.1 Mamba Inference, 1.3.1 Parallel Reduction |
#
# You are going to build the selective scan, the one idea that makes Mamba both trainable in parallel and cheap to run:
# from the differential equation up, with its gradient, in chunks that fit a small memory, and as a CUDA kernel. At
# the end a whole mixer made of your parts gives what transformers' Mamba gives.

# %% [markdown]
# ## What you'll achieve
#
# By the end you have
#
# 1. **Systems understanding**: counted the steps, the work and the memory of a scan, and said which of them a GPU is
#    short of (objective 2.4.1).
# 2. **Core skill**: turned a continuous state-space model into a recurrence, and made its step, input and output
#    depend on the token (objective 2.4.1).
# 3. **A pattern**: a recurrence as an *associative operator*, so that a tree can compute it; it works for every
#    linear recurrence, and its gradient is the same scan, backwards.
# 4. **A tie to production**: a Mamba mixer equal to transformers' on the same weights (objective 2.4.1).
# 5. **A trade-off**: seen what chunks cost in steps and save in memory.

# %% [markdown]
# ## Before you start
#
# You have run Mamba token by token from a state of fixed size (2.4.1) and added up arrays by trees (1.3.1). **What
# works**: one token after the other. **The gap**: a prompt of 100,000 tokens, or a training batch, would take 100,000
# steps, each far too small for a GPU. **This lab** computes all states at once, without attention.
#
# ```
# 1.3.1 trees, barriers ────────┐
# 2.4.1 one step of a state ────┼──>  2.4.2 selective scan ──┬──>  2.4.5 architectures compared
# 2.3   transformer blocks ─────┘                            └──>  2.4.6 fine-tuning Mamba
# ```

# %% [markdown]
# ### Skill checks
#
# Answer first, then unfold.
#
# <details><summary>1. h follows h' = -2 h and starts at 3. What is it after time t?</summary>
#
# 3 exp(-2 t). A negative coefficient forgets: after t = 0.35 half of it is gone.
# </details>
#
# <details><summary>2. What is (exp(z) - 1) / z in float64, computed as written for z = 1e-16, and what in truth?</summary>
#
# As written 0: exp(z) rounds to 1. In truth 1, to the last digit. `expm1(z)` computes exp(z) - 1 without the loss.
# </details>
#
# <details><summary>3. A tree adds n numbers. How many additions, and how many levels?</summary>
#
# n - 1 additions, like a loop; but only log2(n) levels, and within a level all additions are independent.
# </details>

# %% nbgrader={"grade": false, "grade_id": "scan-given-setup", "locked": true, "schema_version": 3, "solution": false, "task": false}
from labkit import hardware

device = hardware.prepare_cuda()  # before numba.cuda is imported: it may have to simulate

import math
import time

import numpy as np
import torch
from labkit import checking, insight, launching
from numba import cuda, float32
from torch import Tensor, nn
from torch.nn.functional import silu, softplus
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import logging
from transformers.models.mamba import modeling_mamba

# %% nbgrader={"grade": false, "grade_id": "scan-given-settings", "locked": true, "schema_version": 3, "solution": false, "task": false}
torch.set_num_threads(1)  # with tensors this small, a second thread would mostly wait for the first
logging.set_verbosity_error()  # transformers would say that its fast kernels are missing, which is why we are here
print(f"Kernels run on: {device}")

# %% [markdown]
# Readiness check: the first two skills, run. It should print `ready`.

# %%
assert (torch.tensor(1e-16, dtype=torch.float64).exp() - 1) == 0
assert torch.tensor(1e-16, dtype=torch.float64).expm1() == 1e-16
assert abs(3 * math.exp(-2 * math.log(2) / 2) - 1.5) < 1e-12
print("ready")

# %% [markdown]
# ## Why it matters
#
# In a transformer, each new token looks at all tokens before it: the keys and values of a long conversation fill the
# memory, and a prompt of n tokens costs n² comparisons. Mamba-2.8B keeps 16 numbers for each of 5,120 channels (and the
# last few inputs for the convolution), in each of 64 layers, however long the text is. In Gu and Dao's comparison (2023,
# section 4.5) a Mamba generates four to five times as many tokens per second as a transformer of similar size.
#
# Recurrent networks had that advantage in 1990. What they lacked was a way to *train*: thousands of dependent steps keep
# a GPU idle. Two ideas removed the obstacle: a recurrence that is linear in its state can be computed by a tree; and the
# states never have to leave the fast memory of a multiprocessor. Done badly, it is one small call after the other for each
# token, and keeps every state of the sequence: transformers' fallback code does both, and you are about to measure it.

# %% [markdown]
# ## At the kitchen table
#
# A chain of people passes on a pot of soup. Each keeps a share of what arrives and adds something: "keep 0.9 of it, add 2
# carrots". You want to know what each of them had in the pot.
#
# | kitchen | selective scan |
# |---|---|
# | the pot | the state h |
# | what share you keep | a, between 0 (throw away) and 1 (keep all) |
# | what you add | b |
# | two instructions in one: "keep 0.81, add 3.8" | the operator: two steps are a step again |
# | deciding by what you are given | selection: a and b depend on the token |
#
# The last but one line is the trick: nobody has to wait for the pot. Neighbours combine their *instructions*, then
# neighbours of neighbours, and when the pot comes, everything is said.
#
# **Where it breaks**: people could also say "if it is too salty, start again". An instruction that looks at the *pot* is
# not linear in it, and two such instructions are no longer one of the same size: combined beforehand, they would grow and
# grow. Mamba's gates look at the *token* only, never at the state.

# %% [markdown]
# ## Foundations: from a differential equation to a recurrence
#
# Each channel $d$ has $N$ states; each state follows $h'(t) = A\,h(t) + B\,x(t)$ with $A < 0$, and the channel
# shows $y = \sum_n C_n h_n + D x$. A token holds the input for a time $\Delta$ (a *zero-order hold*). Solving
# the equation over that time gives, exactly,
#
# $$h_t = \bar a\,h_{t-1} + \bar b\,x_t,\qquad \bar a = e^{\Delta A},\qquad \bar b = \frac{e^{\Delta A} - 1}{A}\,B .$$
#
# Mamba keeps $\bar a$ and simplifies $\bar b$ to $\Delta B$, the first term of its series: cheaper, and good while
# $\Delta A$ is small (in the code of Gu and Dao 2023; their equation 4 has the exact one).
#
# **Selection.** $\Delta$, $B$ and $C$ are computed from the token, so that a token can say how much of the past it
# erases and how much of itself it writes. $\Delta \to 0$: the state does not notice the token. $\Delta$ large: the past
# is gone and the token takes its place. $A$ and $D$ stay parameters.
#
# ### One example in numbers
#
# $A=-1$, $B=1$, $\Delta=0.5$: $\bar a=e^{-0.5}=0.607$, $\bar b=(0.607-1)/(-1)=0.393$; Mamba's is $0.5$. An input of 1,
# held for ever, leads to $h=\bar b/(1-\bar a)=1$ exactly, as the equation says ($-B/A$); with Mamba's $\bar b$ to 1.27.

# %%
for exact in (True, False):
    level = 0.0
    for _ in range(50):
        level = math.exp(-0.5) * level + (1 - math.exp(-0.5) if exact else 0.5)
    print(f"after 50 steps: {level:.3f}", "(zero-order hold)" if exact else "(Mamba's)")


# %% [markdown]
# ## Foundations: a recurrence as a tree
#
# Write step t as the pair $(a_t, b_t)$: the map $h \mapsto a_t h + b_t$. First $(a_1, b_1)$, then $(a_2, b_2)$ is the
# map $h \mapsto a_2(a_1 h + b_1) + b_2$, a pair again. That composition is associative (maps are), but not commutative. So
# brackets may be set as in a tree, and the *scan* gives all prefixes, that is all states.
#
# ```
# pairs     p1   p2   p3   p4   p5   p6   p7   p8
#            └─p12┘    └─p34┘    └─p56┘    └─p78┘      combine neighbours: half as many
#                 └──p14──┘           └──p58──┘        the scan of these gives p12, p14, p16, p18
#           p1   p12  p13  p14  p15  p16  p17  p18     p13 = p12 and p3, p15 = p14 and p5, ...
# ```
#
# | scan | steps that wait for each other | combinations |
# |---|---|---|
# | a loop | $L$ | $L$ |
# | Hillis and Steele (1986) | $\log_2 L$ | about $L\log_2 L$ |
# | Blelloch (1990), and the tree above | about $2\log_2 L$ | about $2L$ |

# %% [markdown]
# ### The tools that the tests use
#
# `draw` makes random pairs, with some `a` exactly 0. `slow_states` is the oracle: a loop of Python numbers in float64.
# `Recorder` counts the calls of torch and remembers the largest tensor that any of them made.

# %% nbgrader={"grade": false, "grade_id": "scan-given-draw", "locked": true, "schema_version": 3, "solution": false, "task": false}
def draw(seed: int, *shape: int) -> tuple[Tensor, Tensor]:
    """Pairs (a, b) in float64: |a| < 0.95, one in ten exactly 0; b normal."""
    generator = torch.Generator().manual_seed(seed)
    a = 1.9 * torch.rand(shape, generator=generator, dtype=torch.float64) - 0.95
    a[torch.rand(shape, generator=generator) < 0.1] = 0.0
    return a, torch.randn(shape, generator=generator, dtype=torch.float64)


# %% nbgrader={"grade": false, "grade_id": "scan-given-oracle", "locked": true, "schema_version": 3, "solution": false, "task": false}
def slow_states(a: Tensor, b: Tensor, h0: Tensor | None = None) -> Tensor:
    """All states h_t = a_t h_(t-1) + b_t in float64, time along dimension 1, by a loop in NumPy."""
    keep, add = a.detach().double().numpy(), b.detach().double().numpy()
    states, level = np.empty_like(add), 0.0 if h0 is None else h0.detach().double().numpy()
    for t in range(keep.shape[1]):
        level = states[:, t] = keep[:, t] * level + add[:, t]
    return torch.from_numpy(states)


# %% nbgrader={"grade": false, "grade_id": "scan-given-recorder", "locked": true, "schema_version": 3, "solution": false, "task": false}
class Recorder(TorchDispatchMode):
    """Inside `with Recorder() as seen`: seen.calls, calls of torch; seen.largest, elements of the largest tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.largest = 0, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        self.calls += 1
        for value in result if isinstance(result, tuple | list) else [result]:
            if isinstance(value, Tensor):  # memory, not elements: an expanded tensor takes none
                self.largest = max(self.largest, value.untyped_storage().nbytes() // value.element_size())
        return result


# %%
with Recorder() as seen:
    (torch.ones(8, 1) * torch.ones(1, 8)).sum()
print(f"{seen.calls} calls of torch, the largest tensor has {seen.largest} elements")


# %% [markdown]
# ## Part 1: One step
#
# ### Exercise 1: discretise (4 points)
#
# From $\Delta$, $A$ and $B$ to the numbers of the recurrence, for every token, channel and state at once. The formula has a
# hole at $A=0$, where the state remembers for ever, and digits get lost all around the hole.

# %% nbgrader={"grade": false, "grade_id": "scan-discretise", "locked": false, "schema_version": 3, "solution": true, "task": false}
def discretise(delta: Tensor, A: Tensor, B: Tensor, rule: str = "zoh") -> tuple[Tensor, Tensor]:
    """Turn h' = A h + B x into h_t = a_t h_(t-1) + b_t x_t, for an input that is held for the time delta.

    Args:
        delta: steps, (batch, L, D), above 0.
        A: (D, N), at most 0; 0 and numbers as close to it as -1e-300 occur.
        B: (batch, L, N).
        rule: "zoh" for the exact b (zero-order hold), or "mamba" for delta * B. Both have the same a.

    Returns:
        a and b, both (batch, L, D, N), in the dtype of the arguments. With "zoh", b is right to almost all digits
        for every A; where A is 0 it is the limit A -> 0.

    Raises:
        ValueError: rule is neither.

    TODO: Compute exp(delta A), and b by the rule that is asked for.

    APPROACH:
        1. Bring everything to (batch, L, D, N) by new axes, because all four meet in each number.
        2. Write b as B delta f(z) with z = delta A and f(z) = (e^z - 1) / z, because f is harmless: it is near 1.
        3. Deal with z = 0 apart, because there f is 0 / 0 by the formula, and 1 by its limit.

    EXAMPLE:
        >>> a, b = discretise(torch.tensor([[[0.5]]]), torch.tensor([[-1.0]]), torch.tensor([[[1.0]]]))
        >>> print(f"{a.item():.3f} {b.item():.3f}")
        0.607 0.393

    HINTS:
        1. `delta[..., None]` is (batch, L, D, 1). Which new axis does B need?
        2. `torch.expm1` is e^z - 1 without cancellation.
        3. `torch.where(condition, x, y)` chooses element by element; a NaN in the branch not chosen does no harm to
           the value (it would spoil a gradient; only "mamba" gets one here).
    """
    ### BEGIN SOLUTION
    z = delta[..., None] * A
    write = delta[..., None] * B[:, :, None, :]
    if rule == "zoh":
        write = write * torch.where(z == 0, 1.0, torch.expm1(z) / z)
    elif rule != "mamba":
        raise ValueError(f"rule must be 'zoh' or 'mamba', not {rule!r}")
    return torch.exp(z), write
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "scan-given-check-step", "locked": true, "schema_version": 3, "solution": false, "task": false}
def held(delta: float, A: float, B: float) -> tuple[float, float]:
    """a and b of one state by the exact rule, in Python numbers."""
    return math.exp(delta * A), delta * B if delta * A == 0 else math.expm1(delta * A) / A * B


def check_step(delta: Tensor, A: Tensor, B: Tensor, rtol: float) -> None:
    """Hold discretise(..., "zoh") against `held`, number by number."""
    with checking.unchanged(delta=delta, A=A, B=B):
        got = discretise(delta, A, B, "zoh")
    full = torch.broadcast_tensors(delta[..., None].double(), A.double(), B[:, :, None].double())
    pairs = [held(*numbers) for numbers in zip(*(t.flatten().tolist() for t in full), strict=True)]
    want = torch.tensor(pairs, dtype=torch.float64).reshape(*full[0].shape, 2).to(delta.dtype)
    for k, name in enumerate(("a", "b")):
        checking.close(got[k], want[..., k].contiguous(), rtol=rtol, atol=0, what=f"{name} of discretise(..., 'zoh')")


# %% nbgrader={"grade": false, "grade_id": "scan-given-model", "locked": true, "schema_version": 3, "solution": false, "task": false}
def make_inputs(seed: int, batch: int, length: int, channels: int, states: int, dtype=torch.float64) -> dict[str, Tensor]:
    """x, delta, A, B, C and D of a selective scan; delta from 0.01 to 1, A from -4 to -0.1."""
    g = torch.Generator().manual_seed(seed)
    delta = 10 ** (2 * torch.rand(batch, length, channels, generator=g, dtype=torch.float64) - 2)
    A = -0.1 - 3.9 * torch.rand(channels, states, generator=g, dtype=torch.float64)
    x = torch.randn(batch, length, channels, generator=g, dtype=torch.float64)
    B, C = (torch.randn(batch, length, states, generator=g, dtype=torch.float64) for _ in "BC")
    D = torch.randn(channels, generator=g, dtype=torch.float64)
    return {name: t.to(dtype) for name, t in {"x": x, "delta": delta, "A": A, "B": B, "C": C, "D": D}.items()}


# %% nbgrader={"grade": true, "grade_id": "test-scan-discretise", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: both rules against the formula in Python numbers, digits near A = 0 and the limit itself, an unknown rule.
# Catches: e^z - 1 by subtraction, 0 / 0, B on the wrong axis, the two rules mixed up.
# A pass prints what each of four checks earned.
def test_unit_scan_discretise():
    credit, v = checking.Credit(4), make_inputs(0, 2, 5, 3, 4)
    with credit.check("a, and the simplified b", points=1, hint="print the shapes of delta, A and B after the new axes"):
        got = discretise(v["delta"], v["A"], v["B"], "mamba")
        # float64: one product, one exp of |z| <= 4: a few 1e-16.
        checking.close(got[0], torch.einsum("bld,dn->bldn", v["delta"], v["A"]).exp(), rtol=1e-13, atol=0, what="a")
        checking.close(got[1], torch.einsum("bld,bln->bldn", v["delta"], v["B"]), rtol=1e-13, atol=0, what="b, 'mamba'")
    with credit.check("the exact b", points=1, hint="work the example out by hand: e^z - 1, over A, times B"):
        # delta A is above 1e-3 here: e^z - 1 by subtraction would lose three digits of sixteen.
        check_step(v["delta"], v["A"], v["B"], 1e-12)
        ### BEGIN HIDDEN TESTS
        # check: other shapes, and float32
        # hint: which dtype do you return, and does each axis keep its place when all lengths differ?
        seed = checking.secret_seed()
        v = make_inputs(seed, 1, 7, 2, 3)
        check_step(v["delta"], v["A"], v["B"], 1e-12)
        v = make_inputs(seed + 1, 3, 1, 5, 2, torch.float32)
        v["delta"][:2] = 1e-3
        # float32: z is rounded by 6e-8 of at most 4, and e^z with it: 2.4e-7, and a few roundings of 6e-8.
        check_step(v["delta"], v["A"], v["B"], 1e-6)
        # check: two half steps are one step
        # hint: the input is held through both halves; does the b of one half, carried on and added to, give yours?
        a, b = discretise(v["delta"].double(), v["A"].double(), v["B"].double())
        half = discretise(v["delta"].double() / 2, v["A"].double(), v["B"].double())
        checking.close(half[0] ** 2, a, rtol=1e-12, atol=0, what="a of two half steps")
        checking.close(half[0] * half[1] + half[1], b, rtol=1e-12, atol=0, what="b of two half steps")
        ### END HIDDEN TESTS
    with credit.check("A near 0, and 0", points=1, hint="what is (e^z - 1) / z for z = 1e-12, and what do you get?"):
        A = torch.tensor([[0.0, -1e-300, -1e-16, -1e-12, -1e-8, -1e-4, -1.0, -30.0]], dtype=torch.float64)
        # e^z loses up to 30 units in the last place at z = -30: 30 * 1.1e-16 = 3.3e-15.
        check_step(torch.tensor([[[1.0], [0.3]]], dtype=torch.float64), A, torch.ones(1, 2, 8, dtype=torch.float64), 1e-13)
    with credit.check("a rule that does not exist", points=1, hint="raise ValueError for it"):
        v = make_inputs(0, 1, 2, 1, 1)
        checking.raises(ValueError, discretise, v["delta"], v["A"], v["B"], "euler", what="rule 'euler'")
        checking.equal(len(discretise(v["delta"], v["A"], v["B"], "mamba")), 2, what="number of results")
    return credit.total()


test_unit_scan_discretise()


# %% [markdown]
# ### What just happened?
#
# You have a recurrence for every token. How far are the two rules apart, by the size of the step?

# %%
def rules_apart():
    A, B = torch.tensor([[-1.0]]), torch.ones(1, 1, 1)
    for step in (0.001, 0.01, 0.1, 1.0, 5.0):
        exact, simple = (discretise(torch.full((1, 1, 1), step), A, B, rule)[1].item() for rule in ("zoh", "mamba"))
        print(f"step {step:5}: exact {exact:.4f}, Mamba's {simple:.4f}, {simple / exact - 1:6.1%} more")


insight.run(rules_apart, needs="Exercise 1 (discretise)")


# %% [markdown]
# ### Exercise 2: a loop (2 points)
#
# The plain way to all states: one after the other. Slow and right; generation will always be this, and everything faster
# is held against it. It may start from a state that an earlier part of the text has left.

# %% nbgrader={"grade": false, "grade_id": "scan-loop", "locked": false, "schema_version": 3, "solution": true, "task": false}
def sequential_scan(a: Tensor, b: Tensor, h0: Tensor | None = None) -> Tensor:
    """All states of h_t = a_t h_(t-1) + b_t, one after the other.

    Args:
        a, b: (batch, L, ...), of one shape; time runs along dimension 1. L may be 0.
        h0: (batch, ...), the state before the first step; None for zeros. It comes out unchanged, as do a and b.

    Returns:
        A new tensor h of the shape and dtype of b: h[:, t] is the state after step t.

    TODO: Go through time and collect the states.

    APPROACH:
        1. Make room for all states first, because a result of length 0 is then no special case.
        2. Keep the last state in a variable, because it is all that the next step needs.
        3. Write into the new tensor only, because a, b and h0 belong to the caller.

    EXAMPLE:
        >>> sequential_scan(torch.tensor([[0.5, 0.5, 0.0]]), torch.tensor([[4.0, 1.0, 7.0]]))
        tensor([[4., 3., 7.]])

    HINTS:
        1. `torch.empty_like(b)` has the right shape, dtype and device.
        2. Without h0 the state before is zero in the shape of one step, b[:, 0]; but b may have no step at all.
        3. The number 0.0 broadcasts like a tensor of zeros.
    """
    ### BEGIN SOLUTION
    h = torch.empty_like(b)
    state = 0.0 if h0 is None else h0
    for t in range(b.shape[1]):
        state = a[:, t] * state + b[:, t]
        h[:, t] = state
    return h
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-scan-loop", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Checks: states for several shapes, with and without a first state, lengths 0 and 1; arguments unchanged.
# Catches: time on the wrong axis, a first state that is ignored, states written over a, b or h0.
# A pass prints nothing.
def test_unit_scan_loop():
    def check(seed, *shape, first=False):
        a, b = draw(seed, *shape)
        h0 = draw(seed + 1, shape[0], *shape[2:])[1] if first else None
        with checking.unchanged(a=a, b=b, **({"h0": h0} if first else {})):
            got = sequential_scan(a, b, h0)
        # The very same two operations: a rounding apart at most if they are fused. States are below 100.
        checking.close(got, slow_states(a, b, h0), rtol=0, atol=1e-12, what=f"states of {shape}, h0 {first}")

    check(0, 1, 6)
    check(1, 2, 7, 3, first=True)
    ### BEGIN HIDDEN TESTS
    # check: other shapes, lengths 0 and 1
    # hint: what does the loop do when there is no step, and what when there is one?
    seed = checking.secret_seed()
    for shape in ((3, 1, 2), (2, 0, 3, 4), (4, 13, 2, 3), (1, 100)):
        check(seed, *shape)
        check(seed, *shape, first=True)
    ### END HIDDEN TESTS


test_unit_scan_loop()


# %% [markdown]
# ### What just happened?
#
# An impulse goes in, and decays. Two states with a different `a` remember it for a different time:

# %%
def impulse():
    b = torch.zeros(2, 40)
    b[:, 5] = 1.0
    a = torch.tensor([[0.95], [0.6]]).expand(2, 40)
    insight.lines(range(40), {"a = 0.95": sequential_scan(a, b)[0], "a = 0.6": sequential_scan(a, b)[1]},
                  xlabel="token", ylabel="state", title="an impulse at token 5")


insight.run(impulse, needs="Exercise 2 (sequential_scan)")


# %% [markdown]
# ## Part 2: A tree
#
# ### Exercise 3: the operator, and the parallel scan (6 points)
#
# First the composition of two steps, then the tree of the foundations. The scan gets its operator as an argument: the
# tests put a counter there, or another operator altogether. It must use nothing of it but that it is associative.

# %% nbgrader={"grade": false, "grade_id": "scan-parallel", "locked": false, "schema_version": 3, "solution": true, "task": false}
def combine(first, second):
    """The step (a, b) that does what the step `first` and then the step `second` do. Also for plain numbers.

    EXAMPLE:
        >>> combine((2, 3), (5, 7))
        (10, 22)
    """
    ### BEGIN SOLUTION
    return first[0] * second[0], second[0] * first[1] + second[1]
    ### END SOLUTION


def parallel_scan(a: Tensor, b: Tensor, operator=combine) -> tuple[Tensor, Tensor]:
    """All prefixes of the steps (a_0, b_0), (a_1, b_1), ... in few dependent rounds.

    Args:
        a, b: (batch, L, ...), of one shape, of any dtype; time runs along dimension 1. L may be 0. Both come out
            unchanged.
        operator: takes two pairs of tensors (batch, m, ...), the earlier steps first, and combines them element by
            element. It is associative, and need not be commutative; (1, 0) changes nothing, on either side.

    Returns:
        A pair of the shapes of a and b: at t the combination of the steps 0 to t. With `combine` the second tensor holds
        the states from h0 = 0, and the first what is left of an h0.

        At most 2 ceil(log2 L) + 2 calls of the operator, and at most 4 L elements in all of them together. Autograd
        can follow: no tensor that the operator has seen or returned is overwritten.

    TODO: Combine neighbours, scan what comes out, and fill in between.

    APPROACH:
        1. Combine the steps 0 and 1, 2 and 3, ...: one call, and half as many steps are left.
        2. Scan these by calling parallel_scan, because they are steps like all others: that gives the odd places.
        3. An even place is the odd place before it, then one more step: one more call. Place 0 is the first step.

    EXAMPLE:
        >>> parallel_scan(torch.tensor([[0.5, 0.5, 0.0]]), torch.tensor([[4.0, 1.0, 7.0]]))[1]
        tensor([[4., 3., 7.]])

    HINTS:
        1. If L is odd, the last step has no neighbour in round 1: b[:, 0 : L - 1 : 2] and b[:, 1::2] have one length.
        2. Up to which L is there nothing to do?
        3. `torch.empty_like`, then three assignments: place 0, the places 1::2, the places 2::2. Do a and b alike. Give
           the operator the small scan's results, not slices of the tensors that you are filling: autograd needs what
           the operator saw.
    """
    ### BEGIN SOLUTION
    n = a.shape[1]
    if n < 2:
        return a, b
    pairs = operator((a[:, : n - 1 : 2], b[:, : n - 1 : 2]), (a[:, 1::2], b[:, 1::2]))
    odd = parallel_scan(*pairs, operator)
    k = (n - 1) // 2
    even = operator((odd[0][:, :k], odd[1][:, :k]), (a[:, 2::2], b[:, 2::2]))
    scanned = torch.empty_like(a), torch.empty_like(b)
    for whole, start, one, two in zip(scanned, (a, b), odd, even, strict=True):
        whole[:, :1], whole[:, 1::2], whole[:, 2::2] = start[:, :1], one, two
    return scanned
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "scan-given-counting", "locked": true, "schema_version": 3, "solution": false, "task": false}
class Counted:
    """An operator that counts its calls, and the elements that it combines."""

    def __init__(self, operator=None) -> None:
        self.operator, self.calls, self.elements = operator or combine, 0, 0

    def __call__(self, first, second):
        self.calls += 1
        self.elements += max(first[1].shape[1], second[1].shape[1])
        return self.operator(first, second)


def modulo(first, second):
    """Steps in whole numbers modulo 97: associative, exact, and the order matters."""
    return first[0] * second[0] % 97, (second[0] * first[1] + second[1]) % 97


# %% nbgrader={"grade": false, "grade_id": "scan-given-check-tree", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_tree(seed: int, *shape: int) -> None:
    """Hold parallel_scan against the loop, in both of its results."""
    a, b = draw(seed, *shape)
    with checking.unchanged(a=a, b=b):
        got = parallel_scan(a, b)
    # |a| < 0.95: a term that is j steps old has weight 0.95^j and took part in some 2 j + 40 operations of 1.1e-16
    # each; b is below 6. Summed over j: 6 * (2 * 380 + 40 * 20) * 1.1e-16 = 1e-12.
    checking.close(got[1], slow_states(a, b), rtol=0, atol=1e-11, what=f"states of {shape}")
    checking.close(got[0], a.cumprod(dim=1), rtol=0, atol=1e-13, what=f"products of a of {shape}")


def check_followed(seed: int, *shape: int) -> None:
    """Send autograd through parallel_scan, and hold what it finds against finite differences of the loop."""
    a, b = draw(seed, *shape)
    leaves = [t.clone().requires_grad_() for t in (a, b)]
    found = dict(zip("ab", torch.autograd.grad(parallel_scan(*leaves)[1].sum(), leaves), strict=True))
    # Differences of a sum below 100 are good to some 1e-8.
    checking.gradient(lambda a, b: slow_states(a, b).sum(), {"a": a, "b": b}, found, rtol=1e-6, atol=1e-7,
                      what="autograd through parallel_scan", hint="is a tensor overwritten that the operator has seen?")


def check_order(seed: int, length: int, operator=modulo) -> None:
    """Hold parallel_scan against the loop for steps modulo 97, exactly."""
    a, b = torch.randint(0, 97, (2, 1, length), generator=torch.Generator().manual_seed(seed))
    steps = list(zip(a.split(1, dim=1), b.split(1, dim=1), strict=True))
    for t in range(1, length):
        steps[t] = modulo(steps[t - 1], steps[t])
    got = parallel_scan(a, b, operator)
    for k in range(2):
        want = torch.cat([step[k] for step in steps], dim=1)
        checking.equal(got[k], want, what=f"result {k} of {length} steps modulo 97", hint="earlier steps come first")


# %% nbgrader={"grade": true, "grade_id": "test-scan-parallel", "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
# Checks: the operator, states and products for many lengths, another operator, and calls and elements counted.
# Catches: steps in the wrong order, division by products of a, a loop in disguise, log L rounds over all elements,
#   a tensor overwritten that autograd needs.
# A pass prints what each of four checks earned.
def test_unit_scan_parallel():
    credit = checking.Credit(6)
    with credit.check("two steps are one", points=1, hint="do the two steps to a letter h, and read off a and b"):
        checking.equal(combine((3, 1), (-2, 5)), (-6, 3), what="combine((3, 1), (-2, 5))")
        steps = [(2, 3), (-1, 4), (5, -6)]
        left, right = combine(combine(steps[0], steps[1]), steps[2]), combine(steps[0], combine(steps[1], steps[2]))
        checking.equal(left, right, what="two ways to set the brackets")
    with credit.check("all states", points=2, hint="follow it by hand for L = 2 and 3, then print L = 5"):
        for n in (1, 2, 3, 4, 5, 8):
            check_tree(n, 2, n)
        check_followed(5, 2, 5)
        ### BEGIN HIDDEN TESTS
        # check: no step at all, lengths around powers of two, more dimensions
        # hint: which places have no neighbour when the length is odd?
        seed = checking.secret_seed()
        for shape in ((1, 0, 2), (1, 1, 2), (2, 7, 3), (1, 63, 2, 2), (1, 64), (2, 65, 1), (1, 997)):
            check_tree(seed, *shape)
        ### END HIDDEN TESTS
    with credit.check("any operator", points=1, hint="use `operator` only, and hand it the earlier steps first"):
        check_order(0, 6)
        ### BEGIN HIDDEN TESTS
        # check: another operator on many steps
        # hint: does any part of your scan compute products or sums itself, or hand on `combine`?
        for n in (1, 2, 33, 100):
            check_order(checking.secret_seed(), n)
        ### END HIDDEN TESTS
    with credit.check("few rounds, little work", points=2, hint="print calls and elements for L = 8, 16, 32"):
        for n in (900, 1024):
            operator = Counted(modulo)
            check_order(n, n, operator)
            assert operator.calls <= 22, f"{operator.calls} calls for {n} steps; 2 ceil(log2 L) + 2 = 22 are enough"
            assert operator.elements <= 4 * n, f"{operator.elements} elements combined for {n} steps; 4 L are enough"
    return credit.total()


test_unit_scan_parallel()


# %% [markdown]
# ### What just happened?
#
# All states in about twenty rounds, for a thousand steps, without a division. Many people try a shortcut first: with
# $P_t=\prod a$, $h_t = P_t\sum_s b_s/P_s$, a cumulative product and a cumulative sum. On paper it is right. In floating point $P_t$
# underflows:

# %%
def shortcut(length=400):
    a, b = torch.full((1, length), 0.1), torch.ones(1, length)
    for kind in (torch.float32, torch.float64):
        products = a.to(kind).cumprod(dim=1)
        wrong = products * (b.to(kind) / products).cumsum(dim=1)
        first = int((~wrong.isfinite()).int().argmax())
        last = parallel_scan(a.to(kind), b.to(kind))[1][0, -1]
        print(f"{kind}: not finite from step {first} on; by your tree the last state is {last:.4f}")


insight.run(shortcut, needs="Exercise 3 (parallel_scan)")


# %% [markdown]
# ### Systems insight 1 of 3: steps, work, time
#
# **Checkpoint**: a loop and a tree that agree. **Predict, and write it down**: for 4,096 steps, how many rounds does the
# tree need, how many combinations for each step, and is it faster than the loop on *one CPU core*, where nothing happens
# at the same time? Hillis and Steele's scan needs half the rounds: what is its work?

# %%
def rounds_and_work(lengths=(64, 256, 1024, 4096)):
    """For each length: calls and elements of your tree, counted, and the time of both scans."""
    table = {}
    for n in lengths:
        a, b = draw(n, 1, n, 8)
        operator = Counted()
        parallel_scan(a, b, operator)
        start = time.perf_counter()
        parallel_scan(a, b)
        middle = time.perf_counter()
        sequential_scan(a, b)
        table[n] = {"rounds": operator.calls, "work": operator.elements / n, "tree_ms": 1e3 * (middle - start),
                    "loop_ms": 1e3 * (time.perf_counter() - middle)}
    return table


# %%
counted = insight.run(rounds_and_work, needs="Exercises 2 and 3") or {}
for n, row in counted.items():
    rounds, work = math.ceil(math.log2(n)), math.log2(n) - 1 + 1 / n
    print(f"L {n:4}: {row['rounds']:2} rounds, {row['work']:.2f} L combinations, {row['tree_ms']:6.2f} ms; "
          f"loop {row['loop_ms']:6.2f} ms; Hillis and Steele {rounds:2} rounds, {work:5.2f} L")


# %% [markdown]
# The tree wins although one core does everything: a round is some 15 calls of torch on many elements, and a call costs
# more than adding eight numbers. On a GPU the difference is larger, because each call that computes is a kernel launch.
#
# **What it means in production.** Rounds cost *latency*, combinations cost *throughput*. A whole sequence has plenty of
# elements, so work decides and the tree is right. Within a block of threads, where all lanes run anyway and a round ends
# in a barrier, rounds decide: your kernel in part 5 will be Hillis and Steele's.

# %% [markdown]
# ## Part 3: The gradient is a scan
#
# ### Exercise 4: backwards through time (4 points)
#
# Let $G_t=\partial\mathcal L/\partial h_t$ be what arrives at each state from *outside* (from $y_t$). A state also acts
# through its successor, so the whole gradient is $g_t = G_t + a_{t+1}\,g_{t+1}$: a recurrence again, from the end. With
# it, $\partial\mathcal L/\partial b_t = g_t$ and $\partial\mathcal L/\partial a_t = g_t\,h_{t-1}$. Autograd would keep every
# round of the tree for that; you need only $a$ and $h$.

# %% nbgrader={"grade": false, "grade_id": "scan-backward", "locked": false, "schema_version": 3, "solution": true, "task": false}
def scan_backward(a: Tensor, h: Tensor, grad: Tensor, h0: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of a loss with respect to a, b and h0, where h are the states of (a, b) from h0.

    Args:
        a, h, grad: (batch, L, ...), of one shape, L >= 1. grad is the loss's derivative by each state, taken as if
            states did not depend on each other. All come out unchanged.
        h0: (batch, ...); None for zeros. It comes out unchanged, too.

    Returns:
        Gradients of the shapes of a, b and h0 (also if h0 is None), without autograd, by one parallel_scan.

    TODO: Turn time around, scan, turn it back, and multiply by the states before.

    APPROACH:
        1. Move the coefficients by one, because g_t needs the a of the *next* step; nothing comes after the last.
        2. Flip, scan and flip back, because the recurrence runs from the end.
        3. Move the states by one the other way, because a_t met h_(t-1); before the first comes h0.

    EXAMPLE:
        >>> a, h, grad = torch.tensor([[9.0, 0.5]]), torch.tensor([[4.0, 3.0]]), torch.tensor([[1.0, 2.0]])
        >>> scan_backward(a, h, grad)[:2]
        (tensor([[0., 8.]]), tensor([[2., 2.]]))

    HINTS:
        1. `torch.cat([a[:, 1:], something], dim=1)`: what stands at the end is multiplied by nothing. `.flip(1)` turns time.
        2. Which of parallel_scan's two results is it?
        3. The gradient of h0 is what reaches step 0, through its coefficient.
    """
    ### BEGIN SOLUTION
    after = torch.cat([a[:, 1:], torch.zeros_like(a[:, :1])], dim=1)
    g = parallel_scan(after.flip(1), grad.flip(1))[1].flip(1)
    first = torch.zeros_like(h[:, 0]) if h0 is None else h0
    before = torch.cat([first[:, None], h[:, :-1]], dim=1)
    return g * before, g, a[:, 0] * g[:, 0]
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "scan-given-check-backward", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_backward(seed: int, *shape: int, first: bool = True) -> None:
    """Hold scan_backward against autograd through a loop. It runs where autograd is switched off."""
    (a, b), (grad, start) = draw(seed, *shape), draw(seed + 1, *shape)
    leaves = [a, b, start[:, 0].clone() if first else torch.zeros_like(start[:, 0])]
    with torch.enable_grad():
        copies = [leaf.clone().requires_grad_() for leaf in leaves]
        state, loss = copies[2], 0.0
        for t in range(shape[1]):
            state = copies[0][:, t] * state + copies[1][:, t]
            loss = loss + (grad[:, t] * state).sum()
        want = torch.autograd.grad(loss, copies)
    h = slow_states(*leaves)
    with checking.unchanged(a=a, h=h, grad=grad, h0=leaves[2]), torch.inference_mode():
        got = scan_backward(a, h, grad, leaves[2] if first else None)
    for name, mine, theirs in zip(("a", "b", "h0"), got, want, strict=True):
        # As for the states, 1e-12, times states that are below 100.
        checking.close(mine.clone(), theirs, rtol=0, atol=1e-10, what=f"gradient of {name}, {shape}, h0 {first}")


# %% nbgrader={"grade": true, "grade_id": "test-scan-backward", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: all three gradients against autograd through a loop and against finite differences, and the calls of torch.
# Catches: coefficients that are not moved, states that are not moved, a first state forgotten, a loop over time.
# A pass prints what each of three checks earned.
def test_unit_scan_backward():
    credit = checking.Credit(4)
    with credit.check("gradients of a and b", points=2, hint="write g_2, g_1, g_0 out for three steps"):
        for n in (1, 2, 5):
            check_backward(n, 2, n, first=False)
        a, b = draw(5, 1, 5)
        weights = draw(6, 1, 5)[1]
        got = scan_backward(a, slow_states(a, b), weights)[:2]
        # Differences of a sum near 10 are good to some 1e-9.
        checking.gradient(lambda a, b: (weights * slow_states(a, b)).sum(), {"a": a, "b": b},
                          {"a": got[0], "b": got[1]}, rtol=1e-6, atol=1e-7, what="scan_backward")
        ### BEGIN HIDDEN TESTS
        # check: other lengths and shapes
        # hint: compare with autograd through your own sequential_scan, for L = 2
        seed = checking.secret_seed()
        for shape in ((1, 1), (3, 4, 2), (1, 33, 2, 3), (2, 100)):
            check_backward(seed, *shape, first=False)
        ### END HIDDEN TESTS
    with credit.check("with a first state", points=1, hint="which state did a_0 meet, and which numbers did h0 meet?"):
        check_backward(7, 2, 4)
        ### BEGIN HIDDEN TESTS
        # check: a first state, in other shapes
        # hint: the gradient of h0 has the shape of one state
        for shape in ((1, 1), (2, 9, 3), (1, 16, 2, 2)):
            check_backward(checking.secret_seed(), *shape)
        ### END HIDDEN TESTS
    with credit.check("no loop over time", points=1, hint="one parallel_scan, and a handful of calls of torch around it"):
        (a, b), n = draw(8, 1, 4096), 4096
        with Recorder() as seen, torch.inference_mode():
            got = scan_backward(a, b, b)
        assert seen.calls <= n // 2, f"{seen.calls} calls of torch for {n} steps: a tree needs a few hundred"
        want = slow_states(torch.cat([a[:, 1:], a[:, :1]], dim=1).flip(1), b.flip(1)).flip(1)
        checking.close(got[1].clone(), want, rtol=0, atol=1e-10, what="gradient of b")
    return credit.total()


test_unit_scan_backward()


# %% [markdown]
# ### What just happened?
#
# You have both halves of a function that torch does not have. `Scan` makes them one that autograd knows; from here on
# a scan can be trained through.

# %% nbgrader={"grade": false, "grade_id": "scan-given-function", "locked": true, "schema_version": 3, "solution": false, "task": false}
class Scan(torch.autograd.Function):
    """Scan.apply(a, b): the states from zero, by your tree; its gradient by your reverse scan."""

    @staticmethod
    def forward(ctx, a: Tensor, b: Tensor) -> Tensor:
        h = parallel_scan(a, b)[1].clone()
        ctx.save_for_backward(a, h)
        return h

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor]:
        return scan_backward(*ctx.saved_tensors, grad)[:2]


# %%
def kept_for_backward(scan, length=512):
    """What autograd keeps of one scan, in tensors of the size of a."""
    (a, b), kept = draw(0, 1, length, 16), {}

    def keep(t):
        kept[t.untyped_storage().data_ptr()] = t
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        scan(a.requires_grad_(), b.requires_grad_())
    return sum(t.untyped_storage().nbytes() for t in kept.values()) / a.untyped_storage().nbytes()


# %%
for name, scan in (("loop", sequential_scan), ("tree", lambda a, b: parallel_scan(a, b)[1]), ("Scan", Scan.apply)):
    share = insight.run(lambda scan=scan: kept_for_backward(scan), needs="Exercises 2 to 4")
    if share:
        print(f"{name}: {share:.1f} tensors of the size of a are kept for backward")


# %% [markdown]
# The loop keeps no more than `Scan`, but takes $L$ steps; the tree as autograd sees it keeps each round. `Scan` has the
# steps of the tree and the memory of the loop.

# %% [markdown]
# ## Part 4: Selection, in chunks
#
# ### Exercise 5: the selective scan (5 points)
#
# The tensors $\bar a$, $\bar b x$ and $h$ are $N$ times as large as the input (16 times in Mamba), and nobody asks for them:
# only $y$ leaves the layer. So take the sequence in *chunks*: discretise a chunk, scan it, contract the states with $C$, keep
# the last state, forget the rest. Mamba's kernel does the same with the memory of a multiprocessor as the small place.

# %% nbgrader={"grade": false, "grade_id": "scan-selective", "locked": false, "schema_version": 3, "solution": true, "task": false}
def selective_scan(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, chunk: int, h0: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Mamba's scan, chunk by chunk: h_t = exp(delta_t A) h_(t-1) + delta_t B_t x_t,  y_t = C_t h_t + D x_t.

    Args:
        x, delta: (batch, L, D). L may be 0, and need not be a multiple of chunk.
        A: (D, N), below 0.  B, C: (batch, L, N).  D: (D,).
        chunk: how many tokens are scanned at once.
        h0: (batch, D, N), the state before the first token; None for zeros. It comes out unchanged, as do all others.

    Returns:
        y, (batch, L, D), and the last state, (batch, D, N): h0, or zeros, if L is 0. In the dtype of x.

        No tensor in between is larger than one chunk's states (or y). No loop over the tokens of a chunk.

    Raises:
        ValueError: chunk is below 1.

    TODO: For each chunk: discretise by Mamba's rule, scan from the state so far, read out, carry on.

    APPROACH:
        1. Cut all inputs before you discretise, because that is what makes them large.
        2. Scan each chunk from zero, and add what is left of the state before it, because a tree starts without one.
        3. Sum over N right away, because then only y has to be kept.

    EXAMPLE:
        >>> one = torch.ones(1, 3, 1)
        >>> y, last = selective_scan(one, one, torch.tensor([[-1.0]]), one, one, torch.zeros(1), chunk=2)
        >>> print([round(v, 3) for v in y.flatten().tolist()], last.shape)
        [1.0, 1.368, 1.503] torch.Size([1, 1, 1])

    HINTS:
        1. `discretise(..., "mamba")` on the slices; its b still has to meet x[..., None].
        2. What is parallel_scan's first result for? It says what share of an earlier state is left at each token.
        3. (h * C[:, part, None, :]).sum(-1) reads out. Collect the pieces and `torch.cat` them: but of no pieces?
    """
    ### BEGIN SOLUTION
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1, not {chunk}")
    y = torch.empty_like(x)
    state = x.new_zeros(x.shape[0], *A.shape) if h0 is None else h0
    for start in range(0, x.shape[1], chunk):
        part = slice(start, start + chunk)
        a, b = discretise(delta[:, part], A, B[:, part], "mamba")
        left, h = parallel_scan(a, b * x[:, part, :, None])
        h = h + left * state[:, None]
        y[:, part] = (h * C[:, part, None, :]).sum(dim=-1) + D * x[:, part]
        state = h[:, -1].clone()
    return y, state
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "scan-given-check-selective", "locked": true, "schema_version": 3, "solution": false, "task": false}
def slow_selective(x, delta, A, B, C, D, h0=None):
    """The selective scan, token by token, in float64."""
    state = torch.zeros(x.shape[0], *A.shape, dtype=torch.float64) if h0 is None else h0.double()
    rows = []
    for t in range(x.shape[1]):
        step = delta[:, t, :, None].double()
        state = torch.exp(step * A) * state + step * B[:, t, None].double() * x[:, t, :, None]
        rows.append(torch.einsum("bdn,bn->bd", state, C[:, t].double()) + D * x[:, t])
    return torch.stack(rows, dim=1), state


def check_selective(v: dict[str, Tensor], chunk: int, h0: Tensor | None = None) -> None:
    """Hold selective_scan against `slow_selective`."""
    with checking.unchanged(**v, **({} if h0 is None else {"h0": h0})):
        got = selective_scan(**v, chunk=chunk, h0=h0)
    # States are sums with weights that decay by at least exp(-0.01 * 0.1) a token: below 500 for 100 tokens, each
    # term rounded some 200 times: 500 * 200 * 1.1e-16 = 1.1e-11, and N products with C below 5 on top.
    for what, mine, theirs in zip(("y", "the last state"), got, slow_selective(**v, h0=h0), strict=True):
        checking.close(mine, theirs, rtol=0, atol=1e-9, what=f"{what}, {v['x'].shape[1]} tokens, chunk {chunk}")


# %% nbgrader={"grade": false, "grade_id": "scan-given-theirs", "locked": true, "schema_version": 3, "solution": false, "task": false}
def their_scan(x, delta, A, B, C, D):
    """transformers' slow path, which has time last and makes all states of the sequence at once."""
    late = [t.transpose(1, 2) for t in (x, delta, B, C)]
    y, last = modeling_mamba.mamba_selective_scan(late[0], late[1], A, late[2], late[3], D, return_last_state=True)
    return y.transpose(1, 2).contiguous(), last


# %% nbgrader={"grade": false, "grade_id": "scan-given-limits", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_limits(length: int, chunk: int, largest: int, calls: int) -> None:
    """A right answer, within limits on the largest tensor [elements] and on calls of torch."""
    v = make_inputs(3, 1, length, 8, 8)
    with Recorder() as seen:
        y, _ = selective_scan(**v, chunk=chunk)
    checking.close(y, slow_selective(**v)[0], rtol=0, atol=1e-9, what=f"y of {length} tokens in chunks of {chunk}")
    assert seen.largest <= largest, f"a tensor of {seen.largest} elements; {largest} hold a chunk's states, or y"
    assert seen.calls <= calls, f"{seen.calls} calls of torch for {length} tokens in chunks of {chunk}"


# %% nbgrader={"grade": true, "grade_id": "test-scan-selective", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
# Checks: y and the last state against a loop and transformers, for many chunks; two parts are a whole; memory and calls.
# Catches: a state that is not carried on, a forgotten D, all states made at once, a loop over tokens.
# A pass prints what each of four checks earned.
def test_unit_scan_selective():
    credit = checking.Credit(5)
    with credit.check("y and the last state", points=2, hint="start with one chunk that holds everything, then two"):
        for chunk in (6, 100, 3):
            check_selective(make_inputs(0, 2, 6, 3, 4), chunk)
        v = make_inputs(1, 2, 9, 3, 4, torch.float32)
        for mine, theirs in zip(selective_scan(**v, chunk=4), their_scan(**v), strict=True):
            # float32: states below 50, terms rounded some 20 times by 6e-8: 6e-5; sums of 4 with C below 4 on top.
            checking.close(mine, theirs, rtol=0, atol=1e-3, what="against transformers' slow path")
        ### BEGIN HIDDEN TESTS
        # check: lengths that are no multiple of the chunk, single tokens, chunks of one
        # hint: how long is the last chunk, and does it still get the state of the one before?
        seed = checking.secret_seed()
        for length, chunk in ((1, 1), (1, 5), (7, 1), (7, 2), (13, 5), (64, 16), (65, 16)):
            check_selective(make_inputs(seed, 2, length, 3, 2), chunk)
        ### END HIDDEN TESTS
    with credit.check("a first state, and none to scan", points=1, hint="what is the state after no token?"):
        v, h0 = make_inputs(2, 2, 5, 3, 4), draw(0, 2, 3, 4)[1]
        check_selective(v, 2, h0)
        none = {name: t[:, :0] if t.dim() == 3 else t for name, t in v.items()}
        for want, first in ((h0, h0), (torch.zeros_like(h0), None)):
            y, last = selective_scan(**none, chunk=4, h0=first)
            checking.equal(tuple(y.shape), (2, 0, 3), what="shape of y of no tokens")
            checking.equal(last, want, what="the state after no token")
        for chunk in (0, -1):
            checking.raises(ValueError, selective_scan, **v, chunk=chunk, what=f"a chunk of {chunk} tokens")
    with credit.check("memory: a chunk at a time", points=1, hint="which tensor has batch * L * D * N elements?"):
        check_limits(512, 16, largest=512 * 8, calls=10**9)
    with credit.check("no loop over tokens", points=1, hint="the loop runs over chunks, the tree within them"):
        check_limits(2048, 1024, largest=10**9, calls=4096)
    return credit.total()


test_unit_scan_selective()


# %% [markdown]
# ### What just happened?
#
# The size of a chunk changes the rounding, and nothing else. That makes it a free choice, to be made by memory and time:

# %% [markdown]
# ### Systems insight 2 of 3: what does a chunk cost?
#
# **Checkpoint**: the scan never holds more than a chunk. **Predict, and write it down**: with 1,024 tokens, 16 channels and 16
# states, how large is the largest tensor for chunks of 16, 256 and 1,024? Which chunk is the fastest on this CPU?

# %%
def memory_and_time(length=1024, chunks=(16, 64, 256, 1024)):
    """Largest tensor [KiB] and seconds of your selective_scan, and of transformers' slow path."""
    v, table = make_inputs(0, 1, length, 16, 16, torch.float32), {}
    runs = {f"chunk {c}": lambda c=c: selective_scan(**v, chunk=c) for c in chunks}
    for name, run in (runs | {"transformers, slow path": lambda: their_scan(**v)}).items():
        with Recorder() as seen:
            run()
        start = time.perf_counter()
        run()
        table[name] = {"KiB": seen.largest * 4 / 1024, "ms": 1e3 * (time.perf_counter() - start), "calls": seen.calls}
    return table


# %%
by_chunk = insight.run(memory_and_time, needs="Exercises 1, 3 and 5") or {}
for name, row in by_chunk.items():
    print(f"{name:24} largest tensor {row['KiB']:7.0f} KiB, {row['calls']:6} calls, {row['ms']:7.1f} ms")


# %% [markdown]
# The largest tensor grows with the chunk until it is $N$ times as large as the input (for chunks below 64 it is y itself).
# Time falls, as there are fewer calls, until the tensors no longer fit the cache (the sizes here are small; look where
# it turns on your machine).
#
# **What it means in production.** For one layer of Mamba-2.8B (5,120 channels, 16 states) and 8,192 tokens, all states in
# float32 take 2.7 GB, three times over for $\bar a$, $\bar b x$ and $h$; $y$ takes 0.17 GB. So the fused kernel never writes
# them, not even for backward: it computes them *again* there, because reading them would take longer.

# %% [markdown]
# ### Exercise 6: selection (2 points)
#
# Where do $\Delta$, $B$ and $C$ come from? From the token, by one small matrix. $\Delta$ takes a detour through a low *rank*
# (Mamba-2.8B: 160 numbers for 5,120 channels), then gets a bias for each channel and is made positive by softplus,
# $\log(1+e^v)$. The bias decides how long a channel remembers when tokens do not say otherwise.

# %% nbgrader={"grade": false, "grade_id": "scan-select", "locked": false, "schema_version": 3, "solution": true, "task": false}
def select(u: Tensor, x_proj: Tensor, dt_weight: Tensor, dt_bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The step, input and output of each token, as Mamba computes them.

    Args:
        u: (batch, L, D), what goes into the scan.
        x_proj: (R + 2 N, D), a weight as `nn.Linear` keeps it: R rows for the step, N for B, N for C, in this order.
        dt_weight: (D, R).  dt_bias: (D,).

    Returns:
        delta, (batch, L, D), above 0; B and C, both (batch, L, N).

    TODO: Project, split, lift the step to all channels, add its bias, and make it positive.

    APPROACH:
        1. Read R off dt_weight, because x_proj alone does not say where it is to be cut.
        2. Multiply by transposed weights, because nn.Linear keeps (out, in).
        3. Apply softplus last, because a bias after it could make a step negative.

    EXAMPLE:
        >>> u, weight = torch.ones(1, 1, 2), torch.tensor([[1.0, 1.0], [0.0, 3.0], [4.0, 0.0]])
        >>> delta, B, C = select(u, weight, torch.tensor([[0.5], [1.0]]), torch.tensor([-1.0, 0.0]))
        >>> print([round(v, 3) for v in delta.flatten().tolist()], B.item(), C.item())
        [0.693, 2.127] 3.0 4.0

    HINTS:
        1. N is what is left of x_proj's rows, halved.
        2. `torch.split(tensor, [sizes], dim=-1)`.
        3. softplus(-1 + 0.5 * 2) = softplus(0) = log 2 is the first number of the example.
    """
    ### BEGIN SOLUTION
    rank = dt_weight.shape[1]
    states = (x_proj.shape[0] - rank) // 2
    low, B, C = torch.split(u @ x_proj.T, [rank, states, states], dim=-1)
    return softplus(low @ dt_weight.T + dt_bias), B, C
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-scan-select", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Checks: step, B and C for several sizes, against sums written out.
# Catches: B and C exchanged, a cut at the wrong row, a bias after softplus.
# A pass prints nothing.
def test_unit_scan_select():
    def check(seed, channels, rank, states):
        g = torch.Generator().manual_seed(seed)
        shapes = (2, 3, channels), (rank + 2 * states, channels), (channels, rank), (channels,)
        u, x_proj, dt_weight, dt_bias = (torch.randn(shape, generator=g, dtype=torch.float64) for shape in shapes)
        rows = torch.einsum("blc,rc->blr", u, x_proj)
        step = torch.einsum("blr,cr->blc", rows[..., :rank], dt_weight) + dt_bias
        want = torch.logaddexp(step, torch.zeros_like(step)), rows[..., rank : rank + states], rows[..., rank + states :]
        for name, mine, theirs in zip(("delta", "B", "C"), select(u, x_proj, dt_weight, dt_bias), want, strict=True):
            # float64: sums of at most 8 products near 1; torch's softplus is the identity above 20, off by 2e-9.
            checking.close(mine.contiguous(), theirs.contiguous(), rtol=0, atol=1e-8, what=name)

    check(0, 4, 2, 3)
    ### BEGIN HIDDEN TESTS
    # check: other sizes, ranks above and below the number of states
    # hint: print the sizes into which you split
    seed = checking.secret_seed()
    for sizes in ((8, 1, 4), (3, 5, 1), (6, 3, 3)):
        check(seed, *sizes)
    ### END HIDDEN TESTS


test_unit_scan_select()


# %% [markdown]
# ### What just happened?
#
# With `select` and `selective_scan` the heart of Mamba is complete. The rest of a mixer you know: a projection to twice the
# width, a causal convolution over four tokens (2.4.1), SiLU, a gate, a projection back.

# %% nbgrader={"grade": false, "grade_id": "scan-given-mixer", "locked": true, "schema_version": 3, "solution": false, "task": false}
def my_mixer(mixer: nn.Module, hidden: Tensor, chunk: int) -> Tensor:
    """The forward pass of transformers' MambaMixer with your parts in its middle; hidden is (batch, L, width)."""
    u, gate = mixer.in_proj(hidden).chunk(2, dim=-1)
    u = silu(mixer.conv1d(u.transpose(1, 2))[..., : hidden.shape[1]].transpose(1, 2))
    delta, B, C = select(u, mixer.x_proj.weight, mixer.dt_proj.weight, mixer.dt_proj.bias)
    y, _ = selective_scan(u, delta, -mixer.A_log.exp(), B, C, mixer.D, chunk)
    return mixer.out_proj(y * silu(gate))


# %% nbgrader={"grade": false, "grade_id": "scan-given-their-mixer", "locked": true, "schema_version": 3, "solution": false, "task": false}
def their_mixer(seed: int, width: int = 16, states: int = 4) -> nn.Module:
    """A MambaMixer of transformers, tiny, with random weights in place of its usual start."""
    torch.manual_seed(seed)
    config = modeling_mamba.MambaConfig(hidden_size=width, state_size=states, num_hidden_layers=1, vocab_size=8)
    mixer = modeling_mamba.MambaMixer(config, 0).eval()
    for weight in (mixer.A_log, mixer.D, mixer.dt_proj.bias, mixer.x_proj.weight):
        nn.init.normal_(weight, std=0.5)
    return mixer


# %% [markdown]
# ## Part 5: A kernel
#
# ### Exercise 7: the scan on a GPU (5 points)
#
# One block takes one row of pairs, in tiles as long as the block. Within a tile Hillis and Steele's scan: in the round with
# stride $s = 1, 2, 4, \dots$ thread $t \ge s$ puts the step that thread $t - s$ holds *before* its own. After
# $\log_2$ rounds each thread holds all steps of the tile up to its own. The state at the tile's end goes into the next tile.

# %% nbgrader={"grade": false, "grade_id": "scan-given-threads", "locked": true, "schema_version": 3, "solution": false, "task": false}
MAX_THREADS = 128  # per block; the shape of a shared array has to be a constant

# %%
held_by = [f"{t}" for t in range(8)]
for s in (1, 2, 4):
    held_by = [f"{held_by[t - s].split('-')[0]}-{t}" if t >= s else held_by[t] for t in range(8)]
    print(f"after stride {s}:", "  ".join(held_by))


# %% nbgrader={"grade": false, "grade_id": "scan-kernel", "locked": false, "schema_version": 3, "solution": true, "task": false}
@cuda.jit
def scan_rows(a, b, h):
    """The states of each row: h[r, t] = a[r, t] * h[r, t - 1] + b[r, t], with h[r, -1] = 0.

    Args:
        a, b: float32, (rows, L), in global memory, any L >= 1. Each element is read once; both come out unchanged.
        h: float32, (rows, L). Each element is written once.

    Launch: [rows, threads], threads a power of two from 1 to MAX_THREADS. Block r does row r; thread t does the elements
    t, t + threads, t + 2 threads, ...: element t of each tile. Within a tile the threads share the work: a round
    for each stride, in shared memory (or by warp shuffles), without bank conflicts.

    TODO: For each tile: load, scan in rounds, add what the state before has left, store, carry on.

    APPROACH:
        1. Past the end do not leave, because every thread has to come to every barrier: load any harmless step, say (1, 0).
        2. In a round read the neighbour's step, wait, write your own, wait: because somebody else reads your old one.
        3. Combine the tile's steps from zero, and apply the carried state last, because it is known only then.

    EXAMPLE:
        >>> h = np.zeros((1, 3), np.float32)
        >>> scan_rows[1, 2](np.array([[0.5, 0.5, 0]], np.float32), np.array([[4, 1, 7]], np.float32), h)
        >>> h
        array([[4., 3., 7.]], dtype=float32)

    HINTS:
        1. Keep your own step in two variables, and a copy of it in the two arrays for your neighbours.
        2. All threads compute the carried state, each from the last thread's step: one more barrier before
           the next tile is loaded over it.
        3. A thread with t < s meets the step (1, 0), so that there is one formula for all; float32(1), float32(0).
    """
    tile_a = cuda.shared.array(MAX_THREADS, float32)
    tile_b = cuda.shared.array(MAX_THREADS, float32)
    ### BEGIN SOLUTION
    t, row, threads = cuda.threadIdx.x, cuda.blockIdx.x, cuda.blockDim.x
    carry = float32(0)
    for first in range(0, a.shape[1], threads):
        i = first + t
        inside = i < a.shape[1]
        mine_a = a[row, i] if inside else float32(1)
        mine_b = b[row, i] if inside else float32(0)
        s = 1
        while s < threads:
            tile_a[t] = mine_a
            tile_b[t] = mine_b
            cuda.syncthreads()
            if t >= s:
                mine_b += mine_a * tile_b[t - s]
                mine_a *= tile_a[t - s]
            cuda.syncthreads()
            s *= 2
        state = mine_a * carry + mine_b
        if inside:
            h[row, i] = state
        tile_b[t] = state
        cuda.syncthreads()
        carry = tile_b[threads - 1]
        cuda.syncthreads()
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "scan-given-check-rows", "locked": true, "schema_version": 3, "solution": false, "task": false}
def whole_steps(seed: int, rows: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Steps whose states float32 holds exactly: a in {-1, 0, 1}, mostly not 0, and small whole b."""
    rng = np.random.default_rng(seed)
    a = rng.choice([-1, 1, 1, 1, 1, 1, 1, 0], (rows, length))
    return a.astype(np.float32), rng.integers(-50, 50, (rows, length)).astype(np.float32)


def run_rows(a: np.ndarray, b: np.ndarray, threads: int) -> launching.Run:
    """Launch scan_rows, one block for each row."""
    return launching.launch(scan_rows, a.shape[0], threads, a, b, launching.out(a.shape))


def check_rows(seed: int, rows: int, length: int, threads: int) -> None:
    """Hold scan_rows against the loop, exactly."""
    a, b = whole_steps(seed, rows, length)
    want = slow_states(torch.from_numpy(a), torch.from_numpy(b)).numpy().astype(np.float32)
    what = f"h of scan_rows[{rows}, {threads}] on {length} steps"
    checking.equal(run_rows(a, b, threads).out, want, what=what, hint="take the first wrong index: which tile, which t?")


# %% nbgrader={"grade": false, "grade_id": "scan-given-check-traffic", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_traffic(rows: int, length: int):
    """Global memory: two loads and a store for each step, by full warps, four sectors a request. Returns the counts."""
    a, b = whole_steps(9, rows, length)
    run = run_rows(a, b, 128)
    checking.equal(run.out, slow_states(torch.from_numpy(a), torch.from_numpy(b)).float().numpy(), what="h")
    total, n = run.profile.total, rows * length
    checking.equal((total.loads, total.stores), (2 * n, n), what="loads and stores of global memory")
    checking.equal(total.requests, 3 * n // 32, what="requests of warps", hint="do the 32 lanes of a warp load together?")
    checking.equal(total.sectors, 3 * n // 8, what="32-byte sectors", hint="do neighbours load neighbours?")
    return total


# %% nbgrader={"grade": false, "grade_id": "scan-given-check-sharing", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_sharing(total, threads: int, tiles: int) -> None:
    """Shared memory: about 2 loads for each step and round, by many lanes at once, without bank conflicts."""
    assert total is not None, "first get the traffic with global memory right"
    rounds = int(math.log2(threads))
    assert total.shared_loads <= 4 * (rounds + 1) * threads * tiles, (
        f"{total.shared_loads / (threads * tiles):.0f} loads from shared memory for each step; "
        f"2 for each of {rounds} rounds are enough"
    )
    if total.shared_requests:  # with warp shuffles there may be hardly any
        lanes = (total.shared_loads + total.shared_stores) / total.shared_requests
        assert lanes >= 8, f"on average {lanes:.1f} lanes of a warp use shared memory together"
    checking.equal(total.conflicts, 0, what="bank conflicts", hint="neighbouring threads, neighbouring words")


# %% nbgrader={"grade": true, "grade_id": "test-scan-kernel", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
# Checks: exact states for many lengths and block sizes, real-valued ones within bounds, loads, sectors, shared memory.
# Catches: a missing barrier (by races), a lost carry, ragged ends, one thread that does everything, repeated loads.
# A pass prints what each of four checks earned.
def test_unit_scan_kernel():
    credit = checking.Credit(5)
    with credit.check("one tile", points=1, hint="follow the three strides for 8 threads by hand"):
        check_rows(0, 1, 8, 8)
        check_rows(1, 3, 64, 64)
        ### BEGIN HIDDEN TESTS
        # check: other blocks, of one thread too, and steps that do not fill them
        # hint: what does a thread past the end load?
        for rows, length, threads in ((2, 1, 1), (1, 1, 32), (2, 5, 8), (2, 127, 128), (1, 128, 128)):
            check_rows(checking.secret_seed(), rows, length, threads)
        ### END HIDDEN TESTS
    with credit.check("many tiles", points=2, hint="which state does the first thread of the second tile need?"):
        check_rows(2, 2, 48, 16)
        a, b = (t.float().numpy() for t in draw(3, 2, 300))
        # |a| < 0.95: a term j steps old has weight 0.95^j and some 2 j + 20 roundings of 6e-8; b below 6:
        # 6 * (2 * 380 + 20 * 20) * 6e-8 = 4.2e-4 at the very worst, and a hundredth of it as a rule.
        want = slow_states(torch.from_numpy(a), torch.from_numpy(b)).float().numpy()
        checking.close(run_rows(a, b, 64).out, want, rtol=0, atol=5e-4, what="h for real numbers")
        ### BEGIN HIDDEN TESTS
        # check: lengths around multiples of the block
        # hint: print first tile, last tile and what is carried for three tiles
        for rows, length, threads in ((3, 65, 64), (1, 33, 8), (2, 500, 128), (2, 9, 1), (4, 96, 32)):
            check_rows(checking.secret_seed(), rows, length, threads)
        ### END HIDDEN TESTS
    total = None
    with credit.check("each element once, coalesced", points=1, hint="which elements do neighbouring threads load?"):
        total = check_traffic(rows=3, length=512)
    with credit.check("all threads work", points=1, hint="how many rounds, and how many lanes are active in each?"):
        check_sharing(total, threads=128, tiles=3 * 4)
    return credit.total()


test_unit_scan_kernel()

# %% [markdown]
# ### What just happened?
#
# 128 dependent steps became 7 rounds, and each element crossed the memory bus once. Look at the access pattern and the
# rounds of one launch:

# %%
insight.run(lambda: print(run_rows(*whole_steps(0, 4, 256), 128).profile), needs="Exercise 7 (scan_rows)")


# %% [markdown]
# ### Systems insight 3 of 3: what crosses the bus?
#
# **Checkpoint**: a kernel that reads a and b, and writes h. **Predict, and write it down**: for each token of a
# layer with 8 channels and 16 states, how many bytes does it move through global memory? And how many would a kernel move
# that gets $x$, $\Delta$, $B$ and $C$, makes a and b in registers, and writes y only?

# %%
def bytes_per_token(channels=8, states=16, length=256):
    """Bytes of global memory for one token: your kernel, counted; a fused one, from the sizes of what it needs."""
    a, b = whole_steps(0, channels * states, length)
    profile = run_rows(a, b, 128).profile
    fused = 4 * length * (3 * channels + 2 * states)  # x, delta and y have D numbers, B and C have N
    return {"scan_rows": profile.total.bytes_moved / length, "fused": fused / length,
            "barriers of a block": profile.total.barriers / (channels * states)}


# %%
moved = insight.run(bytes_per_token, needs="Exercise 7 (scan_rows)")
if moved:
    insight.bars({name: moved[name] for name in ("scan_rows", "fused")}, ylabel="bytes of global memory per token",
                 title="8 channels with 16 states")
    print(f"{moved['scan_rows'] / moved['fused']:.1f} times as much; {moved['barriers of a block']:.0f} barriers in a block")


# %% [markdown]
# **What it means in production.** The recurrence itself needs two operations for each 12 bytes. Your kernel does some 20
# (count the rounds; the profile counts indices and strides, too), and still a Spark is probably waiting for the bus; "On your
# Spark" tells. Inside a tile only time can be won, no bytes: fusing wins those. With many channels the fused kernel moves $3$
# numbers for a token and channel in place of $3N$. This is what *hardware-aware* means in Mamba's paper, and it is the same thought as
# in flash attention: the large thing in the middle is never written.

# %% [markdown]
# ## Put it together
#
# A mixer made of your parts against transformers' on the same weights; and your kernel on the steps of a real layer against
# your tree. `test_unit_all` then calls every test again.

# %% nbgrader={"grade": false, "grade_id": "scan-given-check-mixer", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_mixer(seed: int, length: int, chunk: int, states: int) -> None:
    """Hold the mixer against transformers', output and gradient."""
    mixer = their_mixer(seed, states=states)
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(2, length, 16, generator=generator)
    want = mixer(hidden)
    got = my_mixer(mixer, hidden, chunk)
    # float32 on both sides, sums over 32 channels in other orders: some 1e-6 of the largest number.
    scale = want.detach().abs().max().item()
    checking.close(got.detach(), want.detach(), rtol=0, atol=1e-4 * scale, what=f"mixer, {length} tokens, chunk {chunk}")
    theirs = torch.autograd.grad(want.square().sum(), [mixer.A_log, mixer.x_proj.weight])
    mine = torch.autograd.grad(got.square().sum(), [mixer.A_log, mixer.x_proj.weight])
    for name, one, other in zip(("A_log", "x_proj"), mine, theirs, strict=True):
        # The gradient is a sum over all tokens, with larger terms that cancel: ten times the tolerance.
        checking.close(one, other, rtol=0, atol=1e-3 * other.abs().max().item(), what=f"gradient of {name}")


# %% nbgrader={"grade": false, "grade_id": "scan-given-check-both", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_kernel_on_layer(seed: int, threads: int) -> None:
    """The kernel on a layer's a and b: one row for each channel and state, held against the tree in float64."""
    v = make_inputs(seed, 1, 50, 4, 3, torch.float32)
    a, b = discretise(v["delta"], v["A"], v["B"], "mamba")
    rows = [t[0].permute(1, 2, 0).reshape(12, 50).contiguous() for t in (a, b * v["x"][..., None])]
    want = parallel_scan(*(row.double() for row in rows))[1].float().numpy()
    got = run_rows(*(row.numpy() for row in rows), threads).out
    # float32: 50 terms below 5 * 5, each rounded at most 120 times by 6e-8: 50 * 25 * 120 * 6e-8 = 9e-3 at the very
    # worst, a hundredth of it as a rule; a missing term is some 0.1.
    checking.close(got, want, rtol=0, atol=9e-3, what=f"states of a layer by scan_rows[12, {threads}]")


# %% nbgrader={"grade": true, "grade_id": "test-scan-module", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Checks: a whole mixer and its gradients equal transformers'; the kernel gives the states of a layer.
# Catches: parts that are right alone and do not fit together, such as a chunk that cuts the gradient's way.
# A pass prints nothing.
def test_unit_scan_module():
    check_mixer(0, 12, 5, states=4)
    check_kernel_on_layer(0, 32)
    ### BEGIN HIDDEN TESTS
    # check: other weights, lengths, chunks and numbers of states
    # hint: does every part keep its axes when batch, length, channels and states all differ?
    seed = checking.secret_seed() % 10**6
    for length, chunk, states in ((1, 4, 3), (9, 3, 5), (20, 64, 2)):
        check_mixer(seed, length, chunk, states)
    # check: the kernel on another layer
    # hint: hold your kernel against sequential_scan for one row of 50 steps
    check_kernel_on_layer(seed, 16)
    ### END HIDDEN TESTS


test_unit_scan_module()


# %%
def test_unit_all():
    """Every test again, in order; says which exercises are still open."""
    for name in ("discretise", "loop", "parallel", "backward", "selective", "select", "kernel", "module"):
        print(f"--- {name}")
        insight.run(globals()[f"test_unit_scan_{name}"], needs=f"scan-{name}")


# %%
test_unit_all()


# %% [markdown]
# ## Use it: what a state remembers
#
# A task that needs selection: a stream of numbers, one in ten of them *marked*; at each token say the number that was marked
# last. One layer, eight states, trained through your `Scan`. What is written depends on the token in both; the step does so
# only in the selective one. In the other it is a parameter, as in S4 (where B and C are, too).

# %%
def stream(seed, batch=16, length=64):
    """(value, mark) for each token, (batch, L, 2), and the value that was marked last, (batch, L)."""
    g = torch.Generator().manual_seed(seed)
    value, mark = torch.randn(batch, length, generator=g), (torch.rand(batch, length, generator=g) < 0.1).float()
    mark[:, 0] = 1.0
    last = torch.arange(length).where(mark > 0, torch.tensor(0)).cummax(dim=1)[0]
    return torch.stack([value, mark], dim=-1), value.gather(1, last)


# %%
class Memory(nn.Module):
    """One channel with eight states: h_t = exp(-delta_t) h_(t-1) + delta_t B_t value_t, and y = C h."""

    def __init__(self, selective, states=8):
        super().__init__()
        self.selective = selective
        self.step, self.write, self.read = nn.Linear(2, states), nn.Linear(2, states), nn.Linear(states, 1)

    def forward(self, tokens):
        seen = tokens if self.selective else torch.zeros_like(tokens)
        self.delta = softplus(self.step(seen))
        self.h = Scan.apply(torch.exp(-self.delta), self.delta * self.write(tokens) * tokens[..., :1])
        return self.read(self.h)[..., 0]


# %%
def remember(selective, steps=200):
    """Train on fresh streams; returns the layer and its squared error on a held-out batch, as a share of the variance."""
    torch.manual_seed(0)
    layer = Memory(selective)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.03)
    for k in range(steps):
        tokens, target = stream(k)
        loss = (layer(tokens) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        tokens, target = stream(10**6, batch=64)
        return layer, ((layer(tokens) - target).square().mean() / target.square().mean()).item()


# %%
layers, errors = {}, {}
for name, selective in (("selective step", True), ("fixed step", False)):
    answer = insight.run(lambda selective=selective: remember(selective), needs="Exercises 3 and 4")
    if answer:
        layers[name], errors[name] = answer
        print(f"{name:15} error {errors[name]:5.1%} of the variance")


# %% [markdown]
# Now the picture: the states of the selective layer over time, with the marked tokens as dotted lines. Find the state that
# has learnt to hold the number: a mark nearly wipes it and writes the new one; between marks its step is small, but not 0:
# can you see it fade?

# %%
def picture(layer, length=64):
    from matplotlib import pyplot

    tokens, target = stream(77, batch=1, length=length)
    with torch.no_grad():
        said = layer(tokens)[0]
    _, (top, middle, low) = pyplot.subplots(3, 1, figsize=(7, 6), sharex=True, layout="constrained")
    largest = layer.h.abs().max().item()
    top.imshow(layer.h[0].T, aspect="auto", cmap="RdBu", vmin=-largest, vmax=largest)
    top.set(ylabel="state n", title="h, the state")
    busiest = layer.h[0].abs().mean(dim=0).argmax().item()
    middle.plot(layer.delta[0, :, busiest].detach())
    middle.set(ylabel=f"step of state {busiest}")
    low.plot(target[0], color="0.6", linewidth=4)
    low.plot(said, color="black")
    low.set(ylabel="marked last: true, said", xlabel="token")
    for axes in (top, middle, low):
        for t in tokens[0, :, 1].nonzero()[:, 0]:
            axes.axvline(t.item(), color="0.3", linestyle=":", linewidth=0.8)


# %%
if "selective step" in layers:
    insight.run(lambda: picture(layers["selective step"]), needs="Exercises 3 and 4")


# %% [markdown]
# And a language model: which tokens does each channel of a Mamba write down, and which does it let pass? `steps_of` listens to
# one mixer and puts your `select` to what it hears. Here on random weights, so the numbers mean nothing yet; on your Spark
# with real ones.

# %%
def steps_of(model, ids, layer):
    """The steps delta, (L, D), of one layer while the model reads ids, (1, L)."""
    mixer, heard = model.backbone.layers[layer].mixer, []
    hook = mixer.x_proj.register_forward_hook(lambda module, inputs, output: heard.append(inputs[0].detach()))
    with torch.no_grad():
        model(ids)
    hook.remove()
    return select(heard[0], mixer.x_proj.weight, mixer.dt_proj.weight, mixer.dt_proj.bias)[0][0].detach().float()


# %%
def tiny_steps():
    torch.manual_seed(0)
    config = modeling_mamba.MambaConfig(hidden_size=16, state_size=4, num_hidden_layers=2, vocab_size=256)
    model = modeling_mamba.MambaForCausalLM(config).eval()
    delta = steps_of(model, torch.tensor([list(b"read me")]), layer=1)
    print(f"steps {tuple(delta.shape)}, the middle one {delta.median():.4f}, from {delta.min():.4f} to {delta.max():.4f}")


insight.run(tiny_steps, needs="Exercise 6 (select)")

# %% [markdown]
# ## On your Spark
#
# Two runs at full size: your kernel on 2²⁶ steps, beside the roof of a copy; and the steps of Mamba-2.8B on a text.
#
# ```bash
# sync; echo 3 | sudo tee /proc/sys/vm/drop_caches   # unified memory: the file cache would take from the GPU's share
# docker run --gpus all -it --rm --ipc=host -p 8888:8888 -v $PWD:/workspace \
#     -v $HOME/.cache/huggingface:/hf -e HF_HOME=/hf nvcr.io/nvidia/pytorch:25.11-py3
# ```
#
# In the container install the course's packages. Mamba-2.8B in bfloat16 takes 5.5 GB. Measure the kernel's rate against the
# roof, and the tokens with the largest and the smallest mean step. Without such a machine predict the kernel's time from the
# bytes that you counted and leave the record empty. This section has **not yet been measured on a GPU** by the authors.

# %%
from labkit import fullsize, timing


def full_size(rows=65_536, length=1024, threads=128):
    """scan_rows on the GPU, and your loop on the CPU."""
    hardware.require_gpu("the full-size run")
    a, b = np.random.default_rng(0).random((2, rows, length), dtype=np.float32)
    there, out = [cuda.to_device(t) for t in (a, b)], cuda.device_array((rows, length), np.float32)
    clock = timing.measure(lambda: scan_rows[rows, threads](*there, out), repeats=10)
    some = slow_states(torch.from_numpy(a[:8]), torch.from_numpy(b[:8])).numpy()
    assert np.allclose(out[:8].copy_to_host(), some, rtol=1e-3, atol=1e-3), "scan_rows is wrong"
    cpu = fullsize.cpu_seconds(lambda: sequential_scan(torch.from_numpy(a), torch.from_numpy(b)), repeats=1)
    return [fullsize.Measured("scan_rows", clock.median, nbytes=12 * rows * length, cpu_s=cpu)]


# %%
if device.simulated:
    print("No GPU here: the simulator is not made for 2**26 steps.")
else:
    insight.run(lambda: fullsize.show(full_size(), fullsize.roofs()), needs="Exercise 7 (scan_rows)")

# %%
RUN_ON_SPARK = False


# %%
def run_on_spark(path="state-spaces/mamba-2.8b-hf", layer=32, text="The capital of France is, as everybody knows, Paris."):
    """The mean step of each token in one layer of the real model."""
    from transformers import AutoTokenizer, MambaForCausalLM

    ids = AutoTokenizer.from_pretrained(path)(text, return_tensors="pt")["input_ids"].to("cuda")
    model = MambaForCausalLM.from_pretrained(path, dtype=torch.bfloat16).to("cuda").eval()
    means = steps_of(model, ids, layer).mean(dim=1).tolist()
    words = AutoTokenizer.from_pretrained(path).convert_ids_to_tokens(ids[0].tolist())
    return sorted(zip(means, words, strict=True))


# %%
if RUN_ON_SPARK:
    for mean, word in run_on_spark():
        print(f"{mean:.4f} {word}")

# %% [markdown]
# **Record** what you measured: replace each `None`. The cell after it looks at the form; a person looks at the content.

# %%
spark_record = {"gpu": None, "kernel_ms": None, "kernel_gb_per_s": None, "roof_gb_per_s": None, "largest_step_token": None,
                "smallest_step_token": None}


# %% nbgrader={"grade": false, "grade_id": "scan-given-spark-record", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_spark_record(record: dict) -> str:
    """Form and plausibility of a record. Nothing here earns points; a person reads it."""
    missing = [key for key, value in record.items() if value is None]
    if missing:
        return f"still empty: {', '.join(missing)}. That is fine without a GPU."
    if not 10 < record["roof_gb_per_s"] < 10_000:
        return "the roof is out of the plausible range: 10 to 10,000 GB/s"
    if record["kernel_gb_per_s"] > 1.2 * record["roof_gb_per_s"]:
        return "faster than a copy: was the kernel's time taken without waiting for the GPU?"
    return f"complete and plausible: {record['kernel_gb_per_s'] / record['roof_gb_per_s']:.0%} of the roof"


# %%
check_spark_record(spark_record)


# %% [markdown]
# ## Common mistakes
#
# **1. The operator the wrong way round.** Additions do not care, steps do: the later `a` multiplies the earlier `b`.
#
# ```python
# b = first[0] * second[1] + first[1]      # wrong: does the second step first
# the later step's a meets the earlier b   # right
# ```
#
# **2. Dividing by cumulative products.** One line, right on paper, and not finite after 40 tokens that forget.
#
# ```python
# P * torch.cumsum(b / P, 1)               # wrong: P underflows, and is 0 where an a is 0
# combine by the operator, never divide    # right
# ```
#
# **3. `(exp(z) - 1) / A` as written.** For small z all digits cancel, and for A = 0 it is 0 / 0.
#
# ```python
# (torch.exp(z) - 1) / A * B               # wrong near 0
# a function for e^z - 1, and the limit    # right
# ```

# %% [markdown]
# **4. The gradient with its own `a`.** $g_t$ receives from $t+1$, through $a_{t+1}$. With $a_t$ shapes and sizes look fine.
#
# **5. Chunks that start from zero.** Each chunk is right alone; everything before it is forgotten.
#
# ```python
# h = the chunk's scan                                  # wrong from the second chunk on
# what is left of the state before has to be added      # right
# ```
#
# **6. One barrier a round.** Thread t overwrites its step while thread t + s still reads the old one. A round needs two.
#
# ```python
# read the neighbour; write; wait          # wrong
# read the neighbour; wait; write; wait    # right
# ```
#
# **7. A bias after softplus.** The step may then be negative, $e^{\Delta A}$ above 1, and the state explodes.

# %% [markdown]
# ## Reflect
#
# Three questions on *your* code and *your* measurements. Five to ten lines each; numbers without a source in this
# notebook earn nothing.

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-scan-work", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Reflection 1: rounds and work (3 points).** Use `counted` and the profile of `scan_rows`. (a) For 4,096 steps, give rounds and
# combinations of your tree and of Hillis and Steele's scan, and derive both of your tree's numbers. (b) Why does the kernel use the
# one that does more work? Name what a round costs there. (c) Your loop does the least work of all. When would you use it?
#
# ### BEGIN SOLUTION
# (a) Tree: 24 rounds and 1.99 L: each level halves the steps, calls the operator twice, and combines n - 1 of n elements: 2 log2 L
# calls, and n + n/2 + n/4 + ... = 2 L. Hillis and Steele: 12 rounds and 11 L. (b) In a block of 128 threads all lanes of a warp issue
# anyway, so lanes that would be idle in the tree's upper levels cost the same as lanes that work: 7 rounds against 14. A round costs two
# barriers and the latency of shared memory. (c) When there is enough parallelism elsewhere (a row for each of 5,120 * 16 states in a batch),
# or for generation, where there is one step only. One thread a row then also needs coalesced access, so another layout.
#
# ### BEGIN MARK SCHEME
# - 1 point: all four numbers (24, about 2 L; 12, about 11 L) and the geometric series. Half: without a derivation.
# - 1 point: idle lanes are not free, half the rounds, barriers or latency as the cost of a round. Half: "it is faster".
# - 1 point: parallelism across channels and states, or generation. Half: "for short sequences" without a reason.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-scan-memory", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Reflection 2: memory (3 points).** A layer of Mamba-2.8B has 5,120 channels with 16 states; you train on 8,192 tokens. (a) Compute the
# bytes of all states in float32, of y, and of the largest tensor of your `selective_scan` with chunks of 64. Check the ratio
# against `by_chunk`. (b) `kept_for_backward` counted what the loop, the tree and `Scan` keep. What would the layer keep with each,
# and what has to be added to `selective_scan` so that training saves as much as the forward pass does? (c) What does that cost in time?
#
# ### BEGIN SOLUTION
# (a) 8,192 * 5,120 * 16 * 4 = 2.7 GB; y 168 MB; a chunk 64 * 5,120 * 16 * 4 = 21 MB, 1/128 of the states as 64 / 8,192; in by_chunk 64
# tokens of 1,024 take 1/16. (b) The loop keeps a and h (its parts), the tree several times that (as counted), Scan a and h: two
# tensors of 2.7 GB. In the chunked scan autograd still keeps every chunk's a, b, left and h, so nothing is saved in training. Keep only the
# states at chunk borders (8,192 / 64 = 128 states of 328 kB: 42 MB) and compute each chunk again in backward, from the last to the first
# (checkpointing), with the reverse scan inside. (c) One more forward scan: about a third more for the layer; the fused kernel of
# Mamba does the same and is faster for it, because reading 2.7 GB takes longer than computing them.
#
# ### BEGIN MARK SCHEME
# - 1 point: 2.7 GB, 0.17 GB, 21 MB, and the ratio by chunk / L. Half: one of them wrong.
# - 1 point: autograd keeps all chunks; keep borders, recompute. Half: "use Scan" with its two tensors.
# - 1 point: one more forward, set against what reading would cost. Half: "slower".
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-scan-selection", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Reflection 3: production (3 points).** (a) Describe from your picture what the selective layer does with step and state at a mark and
# between marks, and why no fixed step can do both; quote your two errors. (b) With fixed step, B and C the whole layer is one long convolution.
# What is lost, besides speed of training, when they depend on the token? Which of your functions shows that nothing else is lost?
# (c) A user pastes 200,000 tokens into your Mamba service and asks for a number on page one. What do you tell them, from what you have seen?
#
# ### BEGIN SOLUTION
# (With the student's numbers.) (a) At a mark delta jumps up: exp(-delta) is small, the state is nearly wiped and the value written;
# between marks delta is near 0, and the state fades slowly. A fixed step is one compromise: small steps never wipe and write little, large ones forget
# within a few tokens; so its error stays near that of an average of the recent marks. (b) The kernel of the convolution would differ at each
# token, so neither FFT nor a precomputed kernel work. parallel_scan still computes all states in 2 log2 L rounds. (c) The state
# has a fixed size: what was not written at the time cannot be looked up later, and each token with a large step erases. The model does not
# know on page one what will be asked. Put the question first, so that selection can act on it, or retrieve, or use a hybrid with
# some attention layers. Memory and time are no problem: they do not grow with the context.
#
# ### BEGIN MARK SCHEME
# - 1 point: both regimes in the picture, with both errors quoted. Half: without numbers.
# - 1 point: no convolution any more; parallel_scan keeps the parallelism. Half: one of the two.
# - 1 point: fixed size against lookup, and a remedy that follows. "The context is too long" earns nothing.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# What you built, in the numbers of your own run:

# %%
def summary():
    print(f"4,096 steps: {counted[4096]['rounds']} rounds, {counted[4096]['work']:.2f} combinations a step")
    for name, row in by_chunk.items():
        print(f"{name}: largest tensor {row['KiB']:.0f} KiB")
    print(f"scan_rows moves {moved['scan_rows'] / moved['fused']:.1f} times the bytes of a fused kernel")
    print("errors:", {name: f"{error:.1%}" for name, error in errors.items()})


# %%
insight.run(summary, needs="Exercises 1 to 7")

# %% [markdown]
# ## Challenge (optional)
#
# 1. **Fuse**: a kernel that gets x, delta, A, B, C, makes a and b in registers, and writes y only; one thread for each state.
# 2. **Backward, fused**: keep the states at tile borders and compute the rest again.
# 3. **Warp shuffles**: `cuda.shfl_up_sync` for the first five rounds. How many barriers are left?
# 4. **Mamba-2**: A is one number for each head. Show that y is then a masked matrix product within a chunk (Dao and Gu 2024).
#
# ## Further reading
#
# - A. Gu and T. Dao, *Mamba: Linear-Time Sequence Modeling with Selective State Spaces*, 2023, arXiv:2312.00752. Section 3 is this lab.
# - G. Blelloch, *Prefix Sums and Their Applications*, 1990: scans, and recurrences as scans.
# - W. D. Hillis and G. L. Steele, *Data parallel algorithms*, Communications of the ACM 29, 1986.
# - E. Martin and C. Cundy, *Parallelizing Linear Recurrent Neural Nets Over Sequence Length*, ICLR 2018.
# - A. Gu, K. Goel and C. Ré, *Efficiently Modeling Long Sequences with Structured State Spaces*, ICLR 2022 (S4).
# - T. Dao and A. Gu, *Transformers are SSMs*, 2024, arXiv:2405.21060 (Mamba-2).

# %% [markdown]
# ## Clean up
#
# Drop the layers and the figures; on a machine with a GPU this also returns its memory.

# %%
from matplotlib import pyplot

pyplot.close("all")
layers.clear()
if not device.simulated:
    cuda.current_context().deallocations.clear()
print("Done. Next: lab 2.4.3, where only a part of the model works on each token.")
