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
# # Lab 3.1.8: SimPO vs ORPO
#
# | | |
# |---|---|
# | Module | 3.1 LLM Fine-Tuning |
# | Time | 2 hours |
# | Difficulty | ★★★★☆ |
# | Hardware | gpu-optional: all points can be earned on a CPU; *On your Spark* is for a large GPU |
# | Points | 28 automatic, 9 read by a person |
# | Builds on | 3.1.7 DPO Training |
#
# DPO needs a second model. You are going to write two losses that do not: SimPO, which replaces the reference by an
# average and a margin, and ORPO, which replaces it by an odds ratio next to plain imitation. Then you measure what they
# save, what they cost, and how each of them treats long answers.

# %% [markdown]
# ## What you'll achieve
#
# By the end you have
#
# 1. **Systems understanding**: counted the bytes of training with and without a reference model (objective 3.1.3).
# 2. **Core skill**: written both losses, stable from probabilities near 1 down to e^-700 (objective 3.1.3).
# 3. **A pattern**: log(1 - e^x) and its relatives, the arithmetic of probabilities that live in logarithms.
# 4. **A tie to production**: losses and gradients that equal those of trl's `CPOTrainer` and `ORPOTrainer`
#    (objective 3.1.3).
# 5. **A trade-off**: quality, drift and length of answers, from one model, one data set and one budget.

# %% [markdown]
# ## Before you start
#
# In 3.1.7 you wrote `sequence_logps` and a DPO training loop. **What works**: pairs of answers train a model. **The gap**:
# the reference doubled the weights in memory and added a third to each step, and a *sum* of log-probabilities makes every
# long answer look bad. **This lab** removes the reference, twice, in different ways.
#
# ```
#                                ┌── SimPO: average log-probability, margin gamma
# 3.1.7 DPO, with a reference ───┤
#                                └── ORPO: odds ratio + imitation, one stage
# ```

# %% [markdown]
# ### Skill checks
#
# Answer first, then unfold.
#
# <details><summary>1. An answer of 10 tokens has log-probability -5. What is the geometric mean of its tokens' probabilities?</summary>
#
# e^(-5 / 10) = 0.61. The average log-probability is the logarithm of that mean.
# </details>
#
# <details><summary>2. What are the odds of an event of probability 0.8, and their logarithm?</summary>
#
# 0.8 / 0.2 = 4, and log 4 = 1.39. The sigmoid is the way back.
# </details>
#
# <details><summary>3. What is 1 - exp(-1e-9) in float32, as written?</summary>
#
# 0: exp(-1e-9) rounds to 1. `torch.expm1` gives -1e-9 for exp(x) - 1, with all digits.
# </details>

# %% nbgrader={"grade": false, "grade_id": "simpo-given-setup", "locked": true, "schema_version": 3, "solution": false, "task": false}
import contextlib
import copy
import io
import logging
import math
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence

import torch
from labkit import checking, insight, tiny
from torch import Tensor, nn
from torch.nn.functional import log_softmax, logsigmoid

# %% nbgrader={"grade": false, "grade_id": "simpo-given-settings", "locked": true, "schema_version": 3, "solution": false, "task": false}
warnings.filterwarnings("ignore")  # from inside transformers and trl, nothing to do with you
torch.set_num_threads(1)  # with matrices this small, a second thread would mostly wait for the first
tokenizer = tiny.fast_tokenizer()  # a token is a byte; 256 begins a text, 257 ends it, 258 fills up

# %% [markdown]
# Readiness check: the skills, run. It should print `ready`.

# %%
assert math.isclose(math.exp(-5 / 10), 0.6065, abs_tol=1e-4)
assert math.isclose(1 / (1 + math.exp(-math.log(4))), 0.8)
assert 1 - torch.exp(torch.tensor(-1e-9)) == 0 and torch.expm1(torch.tensor(-1e-9)) < 0
print("ready")

# %% [markdown]
# ## Why it matters
#
# After DPO became common, people noticed that tuned models *talk*. Llama 3 8B Instruct, tuned by DPO, wins 40.3 % of
# AlpacaEval 2 once length is controlled for, and SimPO from the same start 44.7 %, with answers that are no longer (Meng et
# al. 2024, table 4). The cause is small: a sum grows with the number of its terms, and a loss on sums can be satisfied by
# length.
#
# The other cost is plain. DPO on a 32B model in bf16 holds a second copy of 64 GB, which only ever runs forwards. ORPO goes
# further than SimPO and needs no supervised stage before it: one run, one model, one learning rate (Hong et al. 2024). On a
# machine with 128 GB, two copies fill it before the first activation; one copy and an adapter leave half of it free.

# %% [markdown]
# ## At the kitchen table
#
# Your friend cooks again, and you compare dishes.
#
# | kitchen | here |
# |---|---|
# | judging a menu by the sum of its courses | the log-probability of a whole answer: more courses, worse sum |
# | judging it by the average course | SimPO's average log-probability |
# | "better by at least a whole grade" | SimPO's margin gamma |
# | cooking along with a good recipe while you judge | ORPO's imitation term |
# | "four to one I'd take this one" | ORPO's odds |
#
# **Where it breaks**: nobody at this table remembers how your friend used to cook. DPO's reference did. Without it nothing
# but the learning rate says "not too far".

# %% [markdown]
# ## Foundations
#
# Write $s(y)=\frac{1}{|y|}\sum_t\log\pi(y_t|x,y_{<t})$ for the *average* log-probability of an answer.
#
# **SimPO** (Meng et al. 2024, equation 6) takes it as the reward, scaled by $\beta$, and asks for a margin $\gamma$:
#
# $$L_{SimPO}=-\log\sigma\bigl(\beta\,(s(y_w)-s(y_l))-\gamma\bigr)$$
#
# **ORPO** (Hong et al. 2024, equations 6 and 7) takes $p=e^{s(y)}$ as a probability with odds $p/(1-p)$, and adds the ratio of
# the odds to the cross-entropy of the chosen text:
#
# $$L_{ORPO}=L_{NLL}-\lambda\log\sigma\Bigl(\log\frac{odds(y_w)}{odds(y_l)}\Bigr),\qquad \log odds=s-\log(1-e^{s})$$

# %% [markdown]
# ```
#             ┌─────────────── SimPO ──────────────┐
#  policy ──> log π(y_t) ──> averages s_w, s_l ────┤──> -log σ(β (s_w - s_l) - γ)
#             │                                    │
#             │                                    └──> -λ log σ(log odds_w - log odds_l) ─┐
#             └──> cross-entropy of prompt + chosen ───────────────────────────────────────┴──> ORPO
# ```
#
# ### One example in numbers
#
# A chosen answer of 4 tokens has log-probability -2, a rejected one of 10 tokens -4. By sums the chosen one leads by 2. By
# averages, -0.5 against -0.4, it *trails*. SimPO with $\beta=2$, $\gamma=1$: $-\log\sigma(2\cdot(-0.1)-1)=1.46$. The odds are
# $0.607/0.393=1.54$ and $0.670/0.330=2.03$; the ORPO term is $-\log\sigma(\log(1.54/2.03))=0.84$.

# %%
s_w, s_l = -2 / 4, -4 / 10
odds = [math.exp(s) / (1 - math.exp(s)) for s in (s_w, s_l)]
print(f"SimPO {math.log1p(math.exp(-(2 * (s_w - s_l) - 1))):.2f}   ORPO {math.log1p(odds[1] / odds[0]):.2f}")


# %% [markdown]
# ### From the last lab
#
# `collate` puts pairs into a batch, as you wrote it in 3.1.7: chosen rows first, then rejected ones. Here every text also
# begins with a begin token, because trl's trainers for these two losses add one.

# %% nbgrader={"grade": false, "grade_id": "simpo-given-collate", "locked": true, "schema_version": 3, "solution": false, "task": false}
def collate(pairs: Sequence[Mapping[str, str]]) -> dict[str, Tensor]:
    """input_ids, attention_mask and completion_mask, each (2 B, L): row k chosen, row B + k rejected."""
    rows = [([256, *p["prompt"].encode()], [*p[side].encode(), 257]) for side in ("chosen", "rejected") for p in pairs]
    longest = max(len(prompt) + len(answer) for prompt, answer in rows)
    fill = [longest - len(prompt) - len(answer) for prompt, answer in rows]
    table = list(zip(rows, fill, strict=True))
    return {
        "input_ids": torch.tensor([p + a + [258] * n for (p, a), n in table]),
        "attention_mask": torch.tensor([[1] * len(p + a) + [0] * n for (p, a), n in table]),
        "completion_mask": torch.tensor([[0] * len(p) + [1] * len(a) + [0] * n for (p, a), n in table]),
    }


# %%
print(tiny.preferences(1, seed=0, longer="rejected")[0])


# %% [markdown]
# ## Part 1: The average and the margin
#
# ### Exercise 1: average log-probabilities
#
# One division away from 3.1.7, and one trap further: an answer of which truncation has left nothing.

# %% nbgrader={"grade": false, "grade_id": "simpo-averages", "locked": false, "schema_version": 3, "solution": true, "task": false}
def average_logps(logits: Tensor, input_ids: Tensor, mask: Tensor) -> Tensor:
    """Average the log-probabilities of the marked tokens of each row.

    Args:
        logits: (N, L, V), float32 or float64, as a causal model returns them.
        input_ids: (N, L), int64.
        mask: (N, L), int64: 1 on the tokens that count. A 1 at position 0 counts neither as a term nor in the number
            of terms: nothing predicts the first token.

    Returns:
        Tensor of shape (N,), of the dtype of the logits: for each row the sum over its terms divided by their number,
        and 0 for a row without any.

    TODO: Shift, pick the log-probability of each token, and average under the shifted mask.

    APPROACH:
        1. Shift logits, ids and mask against each other, because row t predicts token t + 1.
        2. Count the terms after the shift, because the first token of a text is no term.
        3. Keep the divisor from being 0, because one empty answer would turn the whole batch into NaN.

    EXAMPLE:
        >>> logits = torch.zeros(2, 3, 4)
        >>> ids, mask = torch.tensor([[0, 1, 2], [3, 3, 3]]), torch.tensor([[0, 1, 1], [0, 0, 0]])
        >>> [round(value, 4) for value in average_logps(logits, ids, mask).tolist()]
        [-1.3863, 0.0]

    HINTS:
        1. Take your own sequence_logps as a start.
        2. The number of terms is a sum of the shifted mask.
        3. `clamp(min=1)` changes a divisor of 0 and no other.
    """
    ### BEGIN SOLUTION
    logps = log_softmax(logits[:, :-1], dim=-1)
    picked = logps.gather(2, input_ids[:, 1:].unsqueeze(2)).squeeze(2)
    terms = mask[:, 1:]
    return (picked * terms).sum(dim=1) / terms.sum(dim=1).clamp(min=1)
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "simpo-given-draw", "locked": true, "schema_version": 3, "solution": false, "task": false}
def draw(seed: int, *shape: int, scale: float = 1.0) -> Tensor:
    """Normal float64 numbers from a seed."""
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# %% nbgrader={"grade": false, "grade_id": "simpo-given-loop", "locked": true, "schema_version": 3, "solution": false, "task": false}
def mean_loop(logits: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    """What average_logps should give, by a loop over tokens."""
    means = []
    for row, tokens, marks in zip(logits.tolist(), ids.tolist(), mask.tolist(), strict=True):
        terms = []
        for t in range(1, len(tokens)):
            top = max(row[t - 1])
            norm = top + math.log(math.fsum(math.exp(v - top) for v in row[t - 1]))
            terms += [row[t - 1][tokens[t]] - norm] if marks[t] else []
        means.append(math.fsum(terms) / max(len(terms), 1))
    return torch.tensor(means, dtype=torch.float64)


# %% nbgrader={"grade": false, "grade_id": "simpo-given-check-averages", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_averages(seed: int, mask: Tensor, vocab: int, what: str) -> None:
    """Hold average_logps against the loop, and its gradient against a closed form."""
    ids = torch.randint(vocab, mask.shape, generator=torch.Generator().manual_seed(seed))
    logits = draw(seed, *mask.shape, vocab, scale=3.0).requires_grad_()
    with checking.unchanged(logits=logits, input_ids=ids, mask=mask):
        got = average_logps(logits, ids, mask)
    # float64: up to 40 terms below 100 with a few roundings of 1.1e-16 each: 40 * 100 * 1e-15.
    checking.close(got.detach(), mean_loop(logits.detach(), ids, mask), rtol=0, atol=4e-12, what=f"averages of {what}")
    (grad,) = torch.autograd.grad(got.sum(), logits)
    terms = mask[:, 1:] / mask[:, 1:].sum(dim=1, keepdim=True).clamp(min=1)
    want = torch.zeros_like(grad)
    rest = nn.functional.one_hot(ids[:, 1:], vocab) - torch.softmax(logits.detach()[:, :-1], dim=2)
    want[:, :-1] = rest * terms.double()[:, :, None]
    # `terms` was divided in float32: a relative 6e-8 of values up to 1.
    checking.close(grad, want, rtol=1e-6, atol=1e-7, what=f"gradient of the averages of {what}")


# %% nbgrader={"grade": true, "grade_id": "test-simpo-averages", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Checks: averages and gradients against loops, masks that begin and end anywhere, rows without an answer.
# Catches: sums, the length of the row for the number of terms, no shift, NaN for an empty answer.
# A pass prints nothing.
def test_unit_simpo_averages():
    check_averages(0, torch.tensor([[0, 0, 1, 1, 1], [0, 1, 1, 0, 0]]), 4, "two rows")
    check_averages(1, torch.tensor([[0, 0, 0], [0, 1, 0]]), 3, "a row without an answer")
    ### BEGIN HIDDEN TESTS
    # check: answers that begin and end anywhere
    # hint: divide by the number of terms, which is neither the length of the row nor that of the batch.
    seed = checking.secret_seed()
    edges = torch.randint(41, (12, 2), generator=torch.Generator().manual_seed(seed)).sort(dim=1).values
    place = torch.arange(40)
    check_averages(seed, ((place >= edges[:, :1]) & (place < edges[:, 1:])).long(), 7, "twelve rows of 40 tokens")
    # check: rows whose first token is marked
    # hint: the first token is predicted by nothing: no term, and no part of the count.
    check_averages(seed + 1, torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1]]), 5, "rows marked from the start")
    ### END HIDDEN TESTS


test_unit_simpo_averages()


# %% [markdown]
# ### What just happened?
#
# The average does not care how long an answer is, and the sum does. The next helper runs a model on a batch, and the cell
# after it shows both numbers for one answer, repeated:

# %% nbgrader={"grade": false, "grade_id": "simpo-given-pair-averages", "locked": true, "schema_version": 3, "solution": false, "task": false}
def pair_averages(model: nn.Module, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Averages of the chosen and of the rejected answers, each (B,), and the cross-entropy of the chosen texts.

    The cross-entropy is the mean over all tokens of prompts and chosen answers, as in trl's ORPOTrainer.
    """
    ids, attention = batch["input_ids"], batch["attention_mask"]
    logits = model(input_ids=ids, attention_mask=attention).logits
    chosen, rejected = average_logps(logits, ids, batch["completion_mask"]).chunk(2)
    half, terms = len(ids) // 2, attention[: len(ids) // 2, 1:].sum(dim=1)
    texts = average_logps(logits[:half], ids[:half], attention[:half])
    return chosen, rejected, -(texts * terms).sum() / terms.sum()


# %%
def repeated():
    model = tiny.llama(0)
    for times in (1, 2, 4):
        answer = "ana sees a cat. " * times
        batch = collate([{"prompt": "", "chosen": answer, "rejected": ""}])
        with torch.no_grad():
            average = pair_averages(model, batch)[0].item()
        print(f"{times} times: average {average:6.2f}   sum {average * (len(answer) + 1):8.1f}")


# %%
insight.run(repeated, needs="Exercise 1 (average_logps)")


# %% [markdown]
# ### Exercise 2: SimPO
#
# A margin makes the loss unsatisfied with a narrow lead. In the formula it stands *outside* of $\beta$; trl keeps
# $\gamma/\beta$ inside, which is the same.

# %% nbgrader={"grade": false, "grade_id": "simpo-loss", "locked": false, "schema_version": 3, "solution": true, "task": false}
def simpo_loss(chosen: Tensor, rejected: Tensor, beta: float, gamma: float) -> Tensor:
    """The SimPO loss of a batch of pairs (Meng et al. 2024, equation 6).

    Args:
        chosen, rejected: average log-probabilities of the answers, each (B,), in nats a token.
        beta: scale of the reward, above 0; 2 to 10 is usual, because averages are small numbers.
        gamma: the margin that is asked for, at least 0, in units of the scaled reward.

    Returns:
        The mean loss over the pairs, a tensor without axes.

    Raises:
        ValueError: beta or gamma is out of its range.

    TODO: Average -log sigmoid of the scaled difference less the margin.

    APPROACH:
        1. Refuse what is out of range, because a gamma below 0 rewards losing by a little.
        2. Scale the difference before the margin is taken off, because gamma is not scaled by beta.
        3. Use logsigmoid, because beta = 10 makes large numbers of small differences.

    EXAMPLE:
        >>> round(simpo_loss(torch.tensor([-0.5]), torch.tensor([-0.4]), beta=2.0, gamma=1.0).item(), 4)
        1.4633

    HINTS:
        1. The example is the one of the foundations.
        2. A larger gamma makes the loss larger: what sign does it have inside of sigma?
        3. The mean goes last.
    """
    ### BEGIN SOLUTION
    if beta <= 0:
        raise ValueError(f"beta must be above 0, not {beta}")
    if gamma < 0:
        raise ValueError(f"gamma must be at least 0, not {gamma}")
    return -logsigmoid(beta * (chosen - rejected) - gamma).mean()
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "simpo-given-softplus", "locked": true, "schema_version": 3, "solution": false, "task": false}
def softplus(z: float) -> float:
    """log(1 + e^z) in Python floats, exact for any z."""
    return max(z, 0.0) + math.log1p(math.exp(-abs(z)))


def draw_averages(seed: int, pairs: int, scale: float = 0.7) -> tuple[Tensor, Tensor]:
    """Two float64 tensors (pairs,) of average log-probabilities, all below 0."""
    return -draw(seed, pairs, scale=scale).abs() - 1e-3, -draw(seed + 1, pairs, scale=scale).abs() - 1e-3


# %% nbgrader={"grade": true, "grade_id": "test-simpo-loss", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Checks: the loss and its gradient against Python floats, without a margin too, large differences, refusals.
# Catches: gamma scaled by beta or of the wrong sign, a sum for the mean, log(sigmoid()).
# A pass prints nothing.
def test_unit_simpo_loss():
    def check(averages, beta, gamma, what):
        policy = [t.clone().requires_grad_() for t in averages]
        got = simpo_loss(*policy, beta, gamma)
        z = [beta * (win - lose) - gamma for win, lose in zip(*(t.tolist() for t in averages), strict=True)]
        want = torch.tensor(math.fsum(softplus(-v) for v in z) / len(z), dtype=torch.float64)
        # float64: roundings of 1.1e-16; torch's softplus goes over to a straight line at 20, which is off by 2.1e-9.
        checking.close(got.detach(), want, rtol=1e-12, atol=3e-9, what=what, hint="beta * difference - gamma")
        pull = torch.tensor([-beta / (1 + math.exp(min(v, 700.0))) / len(z) for v in z], dtype=torch.float64)
        for mine, theirs in zip(torch.autograd.grad(got, policy), (pull, -pull), strict=True):
            checking.close(mine, theirs, rtol=3e-9, atol=1e-12, what=f"gradient of {what}")

    check(draw_averages(0, 4), 2.0, 1.0, "four pairs, beta 2, gamma 1")
    check(draw_averages(1, 3), 2.5, 0.0, "three pairs without a margin")
    checking.raises(ValueError, simpo_loss, *draw_averages(0, 2), 2.0, -0.1, what="gamma below 0")
    ### BEGIN HIDDEN TESTS
    # check: many pairs, betas and margins
    # hint: set gamma to 0 first, then see what gamma = 1 changes for a single pair.
    seed = checking.secret_seed()
    for number, (beta, gamma) in enumerate([(0.5, 0.3), (10.0, 5.0), (1.0, 1.6)]):
        check(draw_averages(seed + number, 1 + 10 * number), beta, gamma, f"beta {beta}, gamma {gamma}")
    # check: differences of hundreds
    # hint: log(sigmoid(-1000)) is not -inf.
    chosen, rejected = draw_averages(seed, 6, scale=300.0)
    chosen[0] = rejected[0] - 200  # one is far behind, whatever was drawn
    check((chosen, rejected), 10.0, 2.0, "large differences")
    # check: a beta that is not above 0
    # hint: 0 itself is refused too.
    for beta in (0.0, -1.0):
        checking.raises(ValueError, simpo_loss, *draw_averages(0, 2), beta, 1.0, what=f"beta {beta}")
    ### END HIDDEN TESTS


test_unit_simpo_loss()


# %% [markdown]
# ### What just happened?
#
# With a margin the loss at a tie is not log 2, and pairs that lead by less than gamma / beta still pull hard:

# %%
def margins(differences=tuple(k / 20 for k in range(-20, 41))):
    zero = torch.zeros(1)
    curves = {f"gamma = {g}": [simpo_loss(torch.tensor([d]), zero, 2.0, g).item() for d in differences] for g in (0.0, 0.5, 1.5)}
    insight.lines(list(differences), curves, xlabel="lead of the chosen answer [nats a token]", ylabel="loss, beta = 2")


# %%
insight.run(margins, needs="Exercise 2 (simpo_loss)")


# %% [markdown]
# ### Systems insight 1 of 3: what does the average do to long answers?
#
# **Checkpoint**: both kinds of score are there. **Predict, and write it down**: an untrained model scores 200 pairs whose
# rejected answer is 10 tokens longer. In which share of the pairs does the chosen answer win by sums, and by averages?

# %%
def who_wins():
    """Share of pairs won by the chosen answer, for your averages and for sums, and how many terms were counted."""
    model, wins = tiny.llama(0), {}
    for longer in ("chosen", "", "rejected"):
        batch = collate(tiny.preferences(200, seed=0, longer=longer))
        with torch.no_grad():
            chosen, rejected, _ = pair_averages(model, batch)
        lengths = batch["completion_mask"].sum(dim=1)
        sums = chosen * lengths[:200] > rejected * lengths[200:]
        wins[longer or "neither"] = (int(torch.count_nonzero(sums)) / 200, int(torch.count_nonzero(chosen > rejected)) / 200)
    return wins


# %%
wins = insight.run(who_wins, needs="Exercise 1 (average_logps)")
for longer, (by_sum, by_average) in (wins or {}).items():
    print(f"longer answer: {longer:9} chosen wins by sums {by_sum:4.0%}, by averages {by_average:4.0%}")


# %% [markdown]
# **What it means in production.** An untrained model has tastes too: it likes some bytes better than others, and one word order
# wins by them. But the texts are the same in all three rows but for their length, and by sums the *shorter* answer wins
# whatever it says. Averages mostly keep their opinion: it weakens, but does not turn round. In DPO the reference's sum takes most of that off again, because both models are
# biased alike, as long as they have not moved apart. SimPO does not need that luck.

# %% [markdown]
# ## Part 2: The odds
#
# ### Exercise 3: log-odds of an average
#
# $\log odds=s-\log(1-e^{s})$ with $s<0$. Near 0, where training drives the chosen answer, $e^s$ rounds to 1 and the
# logarithm of nothing is -inf. Far below 0, $e^s$ underflows, and $\log(1-0)=0$ is right. Two formulas, each exact on its
# side (Mächler 2012): $\log(-\mathrm{expm1}(s))$ above $-\log 2$, $\mathrm{log1p}(-e^{s})$ below.

# %% nbgrader={"grade": false, "grade_id": "simpo-odds", "locked": false, "schema_version": 3, "solution": true, "task": false}
def log_odds(average: Tensor) -> Tensor:
    """The logarithm of the odds of e^average, elementwise.

    Args:
        average: average log-probabilities, any shape, float32 or float64, all below 0.

    Returns:
        average - log(1 - e^average), of the shape and dtype of `average`, good to a few roundings of its dtype
        (absolute near -log 2, where it passes 0). Its gradient is finite too.

    TODO: Compute log(1 - e^average) by the formula that is exact on each side of -log 2, and subtract it.

    APPROACH:
        1. Near 0 use expm1, because 1 - exp(s) loses all digits there.
        2. Far from 0 use log1p, because log(1 - tiny) loses them there.
        3. Choose elementwise with torch.where, because a batch has both kinds.

    EXAMPLE:
        >>> [round(v, 4) for v in log_odds(torch.tensor([-1e-6, -math.log(2), -50.0])).tolist()]
        [13.8155, 0.0, -50.0]

    HINTS:
        1. torch.where(condition, a, b) computes both, and takes one.
        2. log(1 - e^s) is log(-expm1(s)), and it is log1p(-exp(s)).
        3. Where s is -1e-6, the odds are a million to one.
    """
    ### BEGIN SOLUTION
    near = torch.log(-torch.expm1(average))
    far = torch.log1p(-torch.exp(average))
    return average - torch.where(average > -math.log(2), near, far)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-simpo-odds", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Checks: values from -1e-7 to -700 against Python floats, in float32 and float64, and gradients without NaN.
# Catches: log(1 - exp()) near 0, log(-expm1()) with its sign lost, a wrong branch, NaN from the branch not taken.
# A pass prints nothing.
def test_unit_simpo_odds():
    def exact(s):
        return s - (math.log(-math.expm1(s)) if s > -0.6931 else math.log1p(-math.exp(s)))

    def check(values, dtype, rtol, what):
        s = torch.tensor(values, dtype=dtype).requires_grad_()
        got = log_odds(s)
        want = torch.tensor([exact(v) for v in s.tolist()], dtype=dtype)
        # A handful of roundings; near -log 2 the result passes through 0, so its error is that of s itself.
        checking.close(got.detach(), want, rtol=rtol, atol=2 * rtol, what=f"log_odds of {what}", hint="both ends matter")
        (grad,) = torch.autograd.grad(got.sum(), s)
        slope = torch.tensor([-1 / math.expm1(v) for v in s.tolist()], dtype=dtype)
        checking.close(grad, slope, rtol=20 * rtol, atol=0, what=f"slope of log_odds of {what}", hint="1 / (1 - e^s)")

    check([-0.1, -0.5, -1.0, -3.0, -20.0], torch.float64, 1e-14, "moderate values")
    check([-1e-6, -0.6931, -0.7, -50.0], torch.float32, 1e-6, "float32 values")
    ### BEGIN HIDDEN TESTS
    # check: averages very near 0 and very far from it
    # hint: print exp(s) for s = -1e-12 and s = -700: which formula survives which?
    check([-1e-7, -1e-12, -1e-15, -100.0, -700.0], torch.float64, 1e-14, "extreme values")
    check([-1e-5, -1e-7, -80.0, -100.0], torch.float32, 1e-6, "extreme float32 values")
    # check: many values on both sides of -log 2
    # hint: the formulas change places at -log 2, and both are good there.
    values = (-draw(checking.secret_seed(), 200).exp()).tolist()
    check(values, torch.float64, 1e-13, "200 values")
    ### END HIDDEN TESTS
    checking.equal(log_odds(torch.full((2, 3), -1.0)).shape, (2, 3), what="shape for input of shape (2, 3)")


test_unit_simpo_odds()


# %% [markdown]
# ### What just happened?
#
# The slope of the log-odds is $1/(1-p)$: an answer that the model is already sure of is pushed *harder*, not less;
# in the loss that counts while the rejected answer is as likely, since the sigma before it falls just as fast. This is what ORPO's ratio has and a plain difference of log-probabilities has not.

# %%
def slopes(points=tuple(-(10 ** (k / 10)) for k in range(-30, 11))):
    s = torch.tensor(points, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(log_odds(s).sum(), s)
    insight.lines([math.exp(p) for p in points], {"d log odds / ds": grad.tolist()}, xlabel="probability p = e^s",
                  ylabel="slope", logy=True)


# %%
insight.run(slopes, needs="Exercise 3 (log_odds)")


# %% [markdown]
# ### Exercise 4: ORPO
#
# Imitation and preference in one loss. The weight $\lambda$ is small (0.1 is usual): the cross-entropy does the work, the
# odds ratio says "and not the other one".

# %% nbgrader={"grade": false, "grade_id": "simpo-orpo", "locked": false, "schema_version": 3, "solution": true, "task": false}
def orpo_loss(chosen: Tensor, rejected: Tensor, nll: Tensor, weight: float) -> Tensor:
    """The ORPO loss of a batch of pairs (Hong et al. 2024, equations 6 and 7).

    Args:
        chosen, rejected: average log-probabilities of the answers, each (B,), all below 0.
        nll: cross-entropy of the chosen texts, a tensor without axes.
        weight: lambda, at least 0; with 0 the loss is plain imitation.

    Returns:
        nll - weight * mean of log sigmoid(log odds ratio), a tensor without axes.

    Raises:
        ValueError: weight is below 0.

    TODO: Form the log odds ratio of each pair, and add its weighted penalty to the cross-entropy.

    APPROACH:
        1. Use your log_odds for both answers, because their ratio is a difference of logarithms.
        2. Use logsigmoid, because a ratio of 1e-400 is no float.
        3. Average before you weigh and add, because nll is a mean already.

    EXAMPLE:
        >>> at = torch.tensor([-0.5]), torch.tensor([-0.4])
        >>> round(orpo_loss(*at, torch.tensor(2.0), weight=0.0).item(), 4)
        2.0
        >>> round(orpo_loss(*at, torch.tensor(2.0), weight=1.0).item(), 4)
        2.8411

    HINTS:
        1. The second example is the first one plus the 0.84 of the foundations.
        2. log(a / b) is a difference.
        3. -log sigmoid is never below 0, so the loss is never below nll.
    """
    ### BEGIN SOLUTION
    if weight < 0:
        raise ValueError(f"weight must be at least 0, not {weight}")
    ratio = log_odds(chosen) - log_odds(rejected)
    return nll - weight * logsigmoid(ratio).mean()
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-simpo-orpo", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Checks: the loss and all its gradients against Python floats, a weight of 0, sure and hopeless answers, a refusal.
# Catches: log-probabilities for log-odds, the ratio upside down, a sum for the mean, the cross-entropy weighted too.
# A pass prints nothing.
def test_unit_simpo_orpo():
    def check(averages, nll, weight, what):
        leaves = [t.clone().requires_grad_() for t in (*averages, torch.tensor(nll, dtype=torch.float64))]
        got = orpo_loss(*leaves, weight)
        odds = [[s - math.log(-math.expm1(s)) for s in t.tolist()] for t in averages]
        ratios = [win - lose for win, lose in zip(*odds, strict=True)]
        want = torch.tensor(nll + weight * math.fsum(softplus(-r) for r in ratios) / len(ratios), dtype=torch.float64)
        # float64; log_odds is exact to 1e-14 of values below 1e3.
        checking.close(got.detach(), want, rtol=1e-11, atol=1e-11, what=what, hint="nll - weight * mean log sigma(ratio)")
        down = [weight / (1 + math.exp(min(r, 700.0))) / len(ratios) for r in ratios]
        wants = [[sign * d / math.expm1(s) for d, s in zip(down, t.tolist(), strict=True)]
                 for sign, t in zip((1, -1), averages, strict=True)]
        grads = torch.autograd.grad(got, leaves, allow_unused=True)
        for name, mine, theirs in zip(("chosen", "rejected"), grads, wants, strict=False):
            theirs = torch.tensor(theirs, dtype=torch.float64)
            checking.close(mine, theirs, rtol=1e-8, atol=1e-11, what=f"gradient by {name} of {what}")
        checking.close(grads[2].item(), 1.0, rtol=0, atol=0, what=f"gradient by nll of {what}")

    check(draw_averages(0, 4), 1.5, 0.1, "four pairs, weight 0.1")
    check(draw_averages(1, 1), 0.5, 0.0, "one pair, weight 0")
    ### BEGIN HIDDEN TESTS
    # check: many pairs and weights
    # hint: the cross-entropy is not multiplied by anything.
    seed = checking.secret_seed()
    check(draw_averages(seed, 21), 2.25, 0.7, "21 pairs, weight 0.7")
    # check: answers the model is sure of, and hopeless ones
    # hint: use log_odds and logsigmoid; there is no exp and no division left to write.
    check((torch.tensor([-1e-13, -600.0]).double(), torch.tensor([-600.0, -1e-13]).double()), 0.0, 1.0, "extreme pairs")
    # check: a weight below 0
    # hint: the docstring says what is refused.
    checking.raises(ValueError, orpo_loss, *draw_averages(0, 2), torch.tensor(1.0), -0.1, what="weight -0.1")
    ### END HIDDEN TESTS


test_unit_simpo_orpo()


# %% [markdown]
# ### What just happened?
#
# Two losses without a reference. Here is how hard each pulls at a pair of two equally likely answers, as they become likelier:

# %%
def pull(points=tuple(-(10 ** (k / 10)) for k in range(-20, 11))):
    curves = {"SimPO, beta 2": [], "ORPO, weight 1": []}
    for s in points:
        for name, loss in (("SimPO, beta 2", lambda a, b: simpo_loss(a, b, 2.0, 0.0)),
                           ("ORPO, weight 1", lambda a, b: orpo_loss(a, b, torch.zeros(()), 1.0))):
            chosen = torch.tensor([s], dtype=torch.float64, requires_grad=True)
            (grad,) = torch.autograd.grad(loss(chosen, torch.tensor([s], dtype=torch.float64)), chosen)
            curves[name].append(-grad.item())
    insight.lines([math.exp(s) for s in points], curves, xlabel="probability of both answers", ylabel="pull", logy=True)


# %%
insight.run(pull, needs="Exercises 2, 3 and 4")


# %% [markdown]
# ## Part 3: Training, and what it costs
#
# ### Exercise 5: bytes of a training run
#
# What a run keeps in memory all the time: weights, gradients and Adam's two moments for what is trained, and the weights of
# a reference if there is one.

# %% nbgrader={"grade": false, "grade_id": "simpo-memory", "locked": false, "schema_version": 3, "solution": true, "task": false}
def training_bytes(policy: nn.Module, reference: nn.Module | None = None) -> dict[str, int]:
    """Bytes that training by AdamW keeps from step to step.

    Args:
        policy: the model to train; parameters without requires_grad are frozen.
        reference: a frozen second model, or None. Parameters that are the very tensors of the policy (the same memory)
            cost nothing.

    Returns:
        Bytes as int: "weights" (of the policy), "gradients" and "adam" (of what is trained; two moments in the dtype of
        the parameter), "reference", and "total", their sum.

    TODO: Add up the bytes of both models' parameters, by kind.

    APPROACH:
        1. Ask each parameter for its own bytes, because a model may mix dtypes.
        2. Count gradients and moments for what is trained only, because nothing else has any.
        3. Recognise shared memory by its address, because with an adapter the reference is the policy itself.

    EXAMPLE:
        >>> policy = nn.Linear(10, 10, bias=False)
        >>> training_bytes(policy, nn.Linear(10, 10, bias=False))["total"], training_bytes(policy, policy)["total"]
        (2000, 1600)

    HINTS:
        1. `parameter.nbytes` is an int.
        2. Adam keeps two numbers for each one that is trained.
        3. `data_ptr()` is the address of a tensor's first element.
    """
    ### BEGIN SOLUTION
    trained = sum(p.nbytes for p in policy.parameters() if p.requires_grad)
    own = {p.data_ptr() for p in policy.parameters()}
    kinds = {
        "weights": sum(p.nbytes for p in policy.parameters()),
        "gradients": trained,
        "adam": 2 * trained,
        "reference": sum(p.nbytes for p in reference.parameters() if p.data_ptr() not in own) if reference else 0,
    }
    return kinds | {"total": sum(kinds.values())}
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-simpo-memory", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Checks: each kind on models of mixed dtypes, frozen parts, shared parts, and against a real optimizer's state.
# Catches: 4 bytes for everything, moments of frozen parameters, one moment, a reference that is counted though shared.
# A pass prints nothing.
def test_unit_simpo_memory():
    def check(policy, reference, want, what):
        got = training_bytes(policy, reference) if reference is not None else training_bytes(policy)
        checking.equal(got, want | {"total": sum(want.values())}, what=f"bytes of {what}")

    policy = nn.Linear(10, 10, bias=False)
    check(policy, None, {"weights": 400, "gradients": 400, "adam": 800, "reference": 0}, "a layer")
    check(policy, copy.deepcopy(policy), {"weights": 400, "gradients": 400, "adam": 800, "reference": 400}, "a layer and its twin")
    check(policy, policy, {"weights": 400, "gradients": 400, "adam": 800, "reference": 0}, "a layer that is its own reference")
    ### BEGIN HIDDEN TESTS
    # check: mixed dtypes, a frozen part, and a reference that shares one layer
    # hint: ask each parameter whether it is trained, how many bytes it has, and where it lies.
    frozen = nn.Linear(7, 3, bias=True).to(torch.bfloat16).requires_grad_(False)
    policy = nn.Sequential(frozen, nn.Linear(3, 5, dtype=torch.float64))
    reference = nn.Sequential(frozen, nn.Linear(3, 5).requires_grad_(False))
    check(policy, reference, {"weights": 48 + 160, "gradients": 160, "adam": 320, "reference": 80}, "a mixed model")
    # check: what an optimizer really keeps
    # hint: AdamW keeps two tensors of the parameter's size for each parameter that it trains.
    model = tiny.llama(0, num_hidden_layers=1)
    optimizer = torch.optim.AdamW(model.parameters())
    sum(p.sum() for p in model.parameters()).backward()
    optimizer.step()
    kept = sum(t.nbytes for state in optimizer.state.values() for name, t in state.items() if name != "step")
    checking.equal(training_bytes(model)["adam"], kept, what="bytes of Adam's moments of a tiny Llama")
    ### END HIDDEN TESTS


test_unit_simpo_memory()


# %% [markdown]
# ### Systems insight 2 of 3: memory and time without a reference
#
# **Checkpoint**: losses, and an account of bytes. **Predict, and write it down**: which share of the bytes of a DPO run
# belongs to the reference, if everything is trained in float32? And if only an adapter is trained, in bf16, at 8B?

# %%
def step_cost(rounds=7):
    """Best seconds of one SimPO step, of one ORPO step, and of a SimPO step with a reference pass added, as DPO has."""
    policy, reference = tiny.llama(0), tiny.llama(0)
    batch = collate(tiny.preferences(16, seed=0))
    best = dict.fromkeys(("SimPO", "ORPO", "with a reference pass"), math.inf)
    for _ in range(rounds):  # taking turns, so that a busy moment hits all alike
        for name in best:
            start = time.perf_counter()
            if name == "with a reference pass":
                with torch.no_grad():
                    pair_averages(reference, batch)
            chosen, rejected, nll = pair_averages(policy, batch)
            loss = orpo_loss(chosen, rejected, nll, 0.1) if name == "ORPO" else simpo_loss(chosen, rejected, 2.0, 1.0)
            loss.backward()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


# %%
def memory_cost():
    policy = tiny.llama(0)
    full = {"DPO": training_bytes(policy, copy.deepcopy(policy)), "SimPO, ORPO": training_bytes(policy)}
    for name, kinds in full.items():
        print(name, {kind: f"{size / 2**10:,.0f} KiB" for kind, size in kinds.items()})
    return {name: kinds["total"] / 2**10 for name, kinds in full.items()}


# %%
seconds = insight.run(step_cost, needs="Exercises 1, 2 and 4")
bytes_kept = insight.run(memory_cost, needs="Exercise 5 (training_bytes)")
if seconds and bytes_kept:
    insight.bars({name: 1e3 * s for name, s in seconds.items()}, ylabel="time of a step [ms]")
    insight.bars(bytes_kept, ylabel="kept from step to step [KiB]")


# %% [markdown]
# **What it means in production.** When everything is trained in float32, the reference is one part in five: weights, gradients
# and two moments are the other four. When only an adapter is trained, gradients and moments all but vanish, and a second
# copy *doubles* what is kept: then it hurts. That is also the case in which a reference can be had for nothing, by
# switching the adapter off. So the memory argument for SimPO and ORPO is strongest for full training of large models, and
# the simplicity argument holds always.

# %% [markdown]
# ### Exercise 6: one loop for both
#
# The loop takes the loss as a function, so that both methods, and whatever you invent, train by the same code. A fair
# comparison begins here.

# %% nbgrader={"grade": false, "grade_id": "simpo-train", "locked": false, "schema_version": 3, "solution": true, "task": false}
def train_pairs(
    policy: nn.Module,
    batches: Sequence[Mapping[str, Tensor]],
    loss: Callable[[Tensor, Tensor, Tensor], Tensor],
    learning_rate: float,
) -> list[dict[str, float]]:
    """Train the policy on pairs, in place: one step of AdamW for each batch, without weight decay.

    Args:
        policy: the model to train; in training mode meanwhile, in evaluation mode afterwards.
        batches: from `collate`.
        loss: takes chosen averages, rejected averages and the cross-entropy of a batch, as `pair_averages` returns them.
        learning_rate: above 0.

    Returns:
        For each batch, before its step, Python floats: "loss", "accuracy" (share of pairs whose chosen average is the
        larger, strictly), "chosen" and "rejected" (mean averages).

    TODO: For each batch call pair_averages once, the loss, and the optimizer; collect the numbers.

    APPROACH:
        1. Make the optimizer once, because Adam's moments must live through all steps.
        2. Hand the three tensors to the loss as they are, because it decides what it uses.
        3. Clear the gradients in each step, because they add up.

    EXAMPLE:
        >>> policy, batch = tiny.llama(0, num_hidden_layers=1), collate(tiny.preferences(4, seed=0))
        >>> steps = train_pairs(policy, [batch] * 3, lambda win, lose, nll: simpo_loss(win, lose, 2.0, 0.5), 1e-3)
        >>> sorted(steps[0]), steps[2]["loss"] < steps[0]["loss"]
        (['accuracy', 'chosen', 'loss', 'rejected'], True)

    HINTS:
        1. torch.optim.AdamW has a weight decay unless you say otherwise.
        2. `loss(*pair_averages(policy, batch))` would do, but you need the averages for the numbers too.
        3. The order that never fails: forward, numbers, zero_grad, backward, step.
    """
    ### BEGIN SOLUTION
    optimizer = torch.optim.AdamW(policy.parameters(), lr=learning_rate, weight_decay=0.0)
    history = []
    policy.train()
    for batch in batches:
        chosen, rejected, nll = pair_averages(policy, batch)
        value = loss(chosen, rejected, nll)
        history.append({
            "loss": value.item(),
            "accuracy": (chosen > rejected).float().mean().item(),
            "chosen": chosen.mean().item(),
            "rejected": rejected.mean().item(),
        })
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    policy.eval()
    return history
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "simpo-given-toy", "locked": true, "schema_version": 3, "solution": false, "task": false}
class Toy(nn.Module):
    """A bigram model: the logits after a token are a row of a table. It notes the mode of each of its passes."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.table = nn.Parameter(draw(seed, 259, 259, scale=0.3))
        self.passes: list[bool] = []

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> "Toy":
        self.passes.append(self.training)
        self.logits = self.table[input_ids]
        return self


# %% [markdown]
# The test writes the whole loop out for this model, with losses of its own.

# %% nbgrader={"grade": false, "grade_id": "simpo-given-toy-loop", "locked": true, "schema_version": 3, "solution": false, "task": false}
def toy_loop(table: Tensor, batches: list, loss: Callable, rate: float) -> list[dict[str, float]]:
    """Training on pairs by bigram tables, written out; trains `table` in place."""
    optimizer, history = torch.optim.AdamW([table], lr=rate, weight_decay=0.0), []
    for batch in batches:
        ids, attention = batch["input_ids"], batch["attention_mask"][:, 1:].double()
        marks, half = batch["completion_mask"][:, 1:].double(), len(batch["input_ids"]) // 2
        logps = log_softmax(table[ids], 2)[:, :-1].gather(2, ids[:, 1:, None])[:, :, 0]
        chosen, rejected = ((logps * marks).sum(1) / marks.sum(1)).chunk(2)
        value = loss(chosen, rejected, -(logps * attention)[:half].sum() / attention[:half].sum())
        entry = {"loss": value.item(), "accuracy": (chosen > rejected).double().mean().item(),
                 "chosen": chosen.mean().item(), "rejected": rejected.mean().item()}
        history.append(entry)
        (table.grad,) = torch.autograd.grad(value, table)
        optimizer.step()
    return history


# %% nbgrader={"grade": false, "grade_id": "simpo-given-losses", "locked": true, "schema_version": 3, "solution": false, "task": false}
def hinge(chosen: Tensor, rejected: Tensor, nll: Tensor) -> Tensor:
    """A loss of the tests' own."""
    return torch.relu(0.3 - (chosen - rejected)).mean() + 0.1 * nll


# %% nbgrader={"grade": true, "grade_id": "test-simpo-train", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
# Checks: steps and numbers against a loop written out, with two losses; modes and passes.
# Catches: gradients that pile up, weight decay, a new optimizer in each step, numbers after the step, a fixed loss.
# A pass prints what each of two checks earned.
def test_unit_simpo_train():
    def check(seed, loss, rate, count, tied=False):
        pairs = [tiny.preferences(3, seed + k, longer="chosen") for k in range(count)]
        if tied:
            pairs[0][0]["rejected"] = pairs[0][0]["chosen"]
        batches, policy, twin = list(map(collate, pairs)), Toy(seed).eval(), Toy(seed)
        history, want = train_pairs(policy, batches, loss, rate), toy_loop(twin.table, batches, loss, rate)
        checking.equal(len(history), count, what="number of entries in the history")
        for k, (mine, theirs) in enumerate(zip(history, want, strict=True)):
            checking.equal(sorted(mine), sorted(theirs), what=f"names of the numbers of step {k}")
            for name, value in theirs.items():
                # float64, but a share may be averaged in float32: 6e-8. Adam makes of 1e-16 some 1e-11 in three steps.
                checking.close(mine[name], value, rtol=1e-7, atol=1e-7, what=f"{name!r} of step {k}")
        checking.close(policy.table.detach(), twin.table.detach(), rtol=0, atol=1e-6 * rate, what="the trained weights")
        return policy

    credit = checking.Credit(5)
    with credit.check("the steps are right", points=3, hint="one optimizer, zero_grad in each step, weight_decay=0.0"):
        check(0, hinge, 1e-2, 2)
        ### BEGIN HIDDEN TESTS
        # check: other losses, rates and ties
        # hint: is the loss that you were given the one that you train? A tie is not a win.
        seed = checking.secret_seed()
        check(seed, lambda win, lose, nll: (lose - win).mean().exp() + nll**2, 3e-3, 3, tied=True)
        check(seed + 9, hinge, 3e-2, 3)
        # check: no batch at all
        # hint: an empty list of batches trains nothing and gives an empty history.
        checking.equal(train_pairs(Toy(0), [], hinge, 1e-3), [], what="history of no batches")
        ### END HIDDEN TESTS
    with credit.check("modes and passes", points=2, hint="one pass a batch, in training mode"):
        policy = check(3, hinge, 1e-2, 2)
        checking.equal(policy.passes, [True, True], what="training mode in each pass of the policy")
        checking.equal(policy.training, False, what="training mode of the policy afterwards")
    return credit.total()


test_unit_simpo_train()


# %% [markdown]
# ### Exercise 7: does the score follow the length?
#
# Before you trust a score, correlate it with the length of what it scores. Pearson's coefficient
# $r=\frac{\sum(x-\bar x)(y-\bar y)}{\sqrt{\sum(x-\bar x)^2\sum(y-\bar y)^2}}$ is enough; where either does not vary, say 0.

# %% nbgrader={"grade": false, "grade_id": "simpo-length", "locked": false, "schema_version": 3, "solution": true, "task": false}
def length_correlation(scores: Sequence[float], lengths: Sequence[int]) -> float:
    """Pearson's correlation of scores and lengths.

    Args:
        scores: n numbers.
        lengths: n numbers.

    Returns:
        A Python float from -1 to 1; 0.0 if either of them does not vary, or if n is below 2.

    Raises:
        ValueError: they are not of one length.

    TODO: Compute the coefficient from deviations from the means.

    APPROACH:
        1. Subtract the means first, because sums of squares of large numbers cancel badly.
        2. Ask whether all are equal before you divide, because rounding leaves dust where there should be a 0.
        3. Return a float, because this goes into a table.

    EXAMPLE:
        >>> round(length_correlation([1.0, 2.0, 2.5], [10, 20, 30]), 4), length_correlation([1.0, 2.0], [5, 5])
        (0.982, 0.0)

    HINTS:
        1. math.fsum adds without loss.
        2. The product of the two sums of squares stands under one root.
        3. `zip` can refuse two lists of different lengths, and an empty list has no mean.
    """
    ### BEGIN SOLUTION
    n = max(len(scores), 1)
    x = [s - math.fsum(scores) / n for s in scores]
    y = [v - math.fsum(lengths) / n for v in lengths]
    product = math.fsum(a * b for a, b in zip(x, y, strict=True))
    spread = math.fsum(a * a for a in x) * math.fsum(b * b for b in y)
    return product / math.sqrt(spread) if spread else 0.0
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-simpo-length", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Checks: against torch.corrcoef in float64, far from 0 too, constants, short lists, a refusal.
# Catches: means not subtracted, a covariance, a missing root, NaN for equal lengths.
# A pass prints nothing.
def test_unit_simpo_length():
    def check(scores, lengths, want, what):
        got = length_correlation(scores, lengths)
        checking.equal(type(got), float, what=f"type of the correlation of {what}")
        # Deviations of numbers up to 1e6 keep ten digits.
        checking.close(got, want, rtol=0, atol=1e-8, what=f"correlation of {what}")

    check([1.0, 2.0, 3.0], [10, 20, 30], 1.0, "a straight line")
    check([3.0, 2.0, 1.0], [10, 20, 30], -1.0, "a falling line")
    check([1.0, 2.0, 3.0], [7, 7, 7], 0.0, "equal lengths")
    ### BEGIN HIDDEN TESTS
    # check: many scores and lengths
    # hint: compare with torch.corrcoef on a list of your own.
    seed = checking.secret_seed()
    scores, noise = draw(seed, 50), draw(seed + 1, 50)
    lengths = ((scores + noise) * 9).round().int() + 40
    want = torch.corrcoef(torch.stack([scores, lengths.double()]))[0, 1].item()
    check(scores.tolist(), lengths.tolist(), want, "50 pairs")
    check((scores + 1e6).tolist(), lengths.tolist(), want, "50 pairs, the scores a million higher")
    # check: lists that are too short, equal scores, lists of two lengths
    # hint: what is left to divide by?
    for scores, lengths in (([], []), ([1.0], [3]), ([2.0, 2.0], [3, 4])):
        check(scores, lengths, 0.0, f"{scores} and {lengths}")
    checking.raises(ValueError, length_correlation, [1.0, 2.0], [1], what="two scores and one length")
    ### END HIDDEN TESTS


test_unit_simpo_length()


# %% [markdown]
# ### Systems insight 3 of 3: which score follows the length?
#
# **Checkpoint**: a measure. **Predict, and write it down**: for an untrained model and 300 answers of 5 to 60 tokens, what is the
# correlation of length with the sum of log-probabilities, with the average, and with the log-odds of the average?

# %%
def scores_and_lengths():
    start = time.perf_counter()
    model, table = tiny.llama(0), {}
    texts = [tiny.sentences(1 + k % 3, seed=k)[: 5 + k % 56] for k in range(300)]
    batch = collate([{"prompt": "say: ", "chosen": text, "rejected": ""} for text in texts])
    with torch.no_grad():
        averages, _, _ = pair_averages(model, batch)
    lengths = batch["completion_mask"][:300].sum(dim=1)
    for name, scores in (("sum", averages * lengths), ("average", averages), ("log-odds", log_odds(averages))):
        table[name] = length_correlation(scores.tolist(), lengths.tolist())
    print(f"{time.perf_counter() - start:.2f} s for 300 answers")
    insight.bars({name: abs(r) for name, r in table.items()}, ylabel="|correlation| with the length")
    return table


# %%
correlations = insight.run(scores_and_lengths, needs="Exercises 1, 3 and 7")


# %% [markdown]
# **What it means in production.** A score that follows the length is a length detector. Check it on the *untrained* model,
# where there is nothing else to detect, and again on the trained one.

# %% [markdown]
# ## Put it together
#
# Your losses against trl's `CPOTrainer` (with `loss_type="simpo"`) and `ORPOTrainer`, on a copy of the same model. In trl 1.16
# both live in `trl.experimental`: their authors may still change them.

# %% nbgrader={"grade": false, "grade_id": "simpo-given-trl", "locked": true, "schema_version": 3, "solution": false, "task": false}
def trl_loss(method: str, policy: nn.Module, pairs: list[dict[str, str]], **settings) -> tuple[Tensor, dict]:
    """The loss of one of trl's trainers on one batch with all pairs, and the gradient of each parameter."""
    from datasets import Dataset, disable_progress_bars

    if method == "orpo":
        from trl.experimental.orpo import ORPOConfig as Config
        from trl.experimental.orpo import ORPOTrainer as Trainer
    else:
        from trl.experimental.cpo import CPOConfig as Config
        from trl.experimental.cpo import CPOTrainer as Trainer
        settings |= {"loss_type": "simpo", "cpo_alpha": 0.0}
    disable_progress_bars()
    logging.getLogger("trl").setLevel(logging.ERROR)
    policy = copy.deepcopy(policy)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        config = Config(output_dir=folder, report_to=[], use_cpu=True, bf16=False, max_length=250,
                        remove_unused_columns=False, **settings)
        trainer = Trainer(model=policy, args=config, train_dataset=Dataset.from_list(pairs), processing_class=tokenizer)
        batch = trainer.data_collator([trainer.train_dataset[k] for k in range(len(pairs))])
        loss, _ = trainer.get_batch_loss_metrics(policy, batch)
        loss.backward()
    return loss.detach(), {name: p.grad for name, p in policy.named_parameters()}


# %% nbgrader={"grade": false, "grade_id": "simpo-given-check-trl", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_trl(seed: int, pairs: list[dict[str, str]], method: str, **settings) -> None:
    """Hold the student's loss and its gradients against trl's."""
    policy = tiny.llama(seed, num_hidden_layers=1)
    want, grads = trl_loss(method, policy, pairs, **settings)
    chosen, rejected, nll = pair_averages(policy, collate(pairs))
    if method == "orpo":
        loss = orpo_loss(chosen, rejected, nll, settings["beta"])
    else:
        loss = simpo_loss(chosen, rejected, settings["beta"], settings["simpo_gamma"])
    # float32: averages near 5.6, off by a few 5.6 * 6e-8, times beta.
    checking.close(loss.detach(), want, rtol=2e-5, atol=2e-5, what=f"trl's {method} loss with {settings}")
    loss.backward()
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        mine, scale = policy.get_parameter(name).grad, grads[name].abs().max().item()
        checking.close(mine, grads[name], rtol=1e-3, atol=2e-4 * scale, what=f"trl's gradient of {name}, {method}")


# %% nbgrader={"grade": true, "grade_id": "test-simpo-module", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
# Checks: both losses equal trl's on the same pairs, gradients included; both train a model to prefer.
# Catches: pieces that are right alone and do not fit together.
# A pass prints what each of two checks earned.
def test_unit_simpo_module():
    credit = checking.Credit(5)
    with credit.check("the losses are trl's", points=3, hint="averages over the tokens of the answer, end token included"):
        check_trl(0, tiny.preferences(4, seed=5, longer="rejected"), "simpo", beta=2.0, simpo_gamma=0.5)
        ### BEGIN HIDDEN TESTS
        # check: SimPO and ORPO by trl
        # hint: the margin is not scaled by beta; the odds are those of the average.
        seed = checking.secret_seed() % 10**6
        pairs = tiny.preferences(5, seed, longer="chosen") + tiny.preferences(2, seed + 1)
        check_trl(seed, pairs, "simpo", beta=3.5, simpo_gamma=1.2)
        check_trl(seed, pairs, "orpo", beta=5.0)  # so large that the odds show beside the cross-entropy
        ### END HIDDEN TESTS
    with credit.check("both make it prefer", points=2, hint="follow loss and accuracy through the steps"):
        batches = [collate(tiny.preferences(8, seed=k)) for k in range(30)]
        for loss in (lambda win, lose, nll: simpo_loss(win, lose, 2.0, 0.5), lambda win, lose, nll: orpo_loss(win, lose, nll, 1.0)):
            steps = train_pairs(tiny.llama(3, num_hidden_layers=1), batches, loss, 3e-3)
            assert steps[-1]["loss"] < steps[0]["loss"] and steps[-1]["accuracy"] == 1.0, f"after 30 steps: {steps[-1]}"
            assert steps[-1]["chosen"] > steps[0]["chosen"], f"the chosen answer became rarer: {steps[-1]}"
    return credit.total()


test_unit_simpo_module()


# %%
def test_unit_all():
    """Every test again, in order; says which exercises are still open."""
    for name in ("averages", "loss", "odds", "orpo", "memory", "train", "length", "module"):
        print(f"--- {name}")
        insight.run(globals()[f"test_unit_simpo_{name}"], needs=f"simpo-{name}")


# %%
test_unit_all()


# %% [markdown]
# ## Use it: the same model, the same pairs, twice
#
# The base model says everything in both word orders. The pairs prefer one order, and in them the rejected answer is always
# the *longer* one. Quality is the share of samples in the wanted order; what else changes is their length.

# %%
def indifferent_model(steps=150):
    """A tiny Llama that has read prompts with both kinds of answer, short and long."""
    pairs = tiny.preferences(1200, seed=1) + tiny.preferences(1200, seed=2, longer="rejected")
    pairs += tiny.preferences(1200, seed=3, longer="chosen")
    rows = collate(pairs)["input_ids"]
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[: steps * 32]
    model = tiny.llama(0)
    tiny.pretrain(model, list(rows[order].reshape(-1, 32, rows.shape[1])))
    return model


base_model = indifferent_model()


# %%
def said(model, seed=7, prompts=80):
    """Share of samples in English word order, and their mean length in tokens."""
    pairs = tiny.preferences(prompts, seed=seed)
    texts = ["<bos>" + p["prompt"] for p in pairs]
    ids = tokenizer(texts, padding=True, padding_side="left", return_tensors="pt")
    torch.manual_seed(seed)
    out = model.generate(**ids, max_new_tokens=36, do_sample=True, top_k=0)
    answers = tokenizer.batch_decode(out[:, ids["input_ids"].shape[1]:], skip_special_tokens=True)
    good = sum(a.startswith(p["prompt"].split()[0]) for a, p in zip(answers, pairs, strict=True))
    return good / prompts, sum(map(len, answers)) / prompts


# %%
METHODS = {
    "imitation only": lambda win, lose, nll: nll,
    "ORPO, weight 0.3": lambda win, lose, nll: orpo_loss(win, lose, nll, 0.3),
    "SimPO, beta 2, gamma 0.5": lambda win, lose, nll: simpo_loss(win, lose, 2.0, 0.5),
}


def compare(rates=(3e-5, 1e-4), steps=40, flipped=0.3):
    """Each method at each learning rate, on the same batches; 30 % of the labels are wrong."""
    batches = [collate(tiny.preferences(16, seed=100 + k, longer="rejected", flipped=flipped)) for k in range(steps)]
    rows = {("before", 0.0): said(base_model)}
    for name, loss in METHODS.items():
        for rate in rates:
            model = copy.deepcopy(base_model)
            train_pairs(model, batches, loss, rate)
            rows[name, rate] = said(model)
    return rows


# %%
rows = insight.run(compare, needs="Exercises 1 to 6")
for (name, rate), (share, length) in (rows or {}).items():
    print(f"{name:25} {rate:7.0e}   wanted order {share:4.0%}   mean length {length:5.1f}")

# %%
if rows:
    insight.bars({f"{name.split(',')[0]}, {rate:g}": share for (name, rate), (share, _) in rows.items()},
                 ylabel="share of samples in the wanted order", title="30 % of the labels are wrong")


# %% [markdown]
# One seed and a tiny model: a tendency, not a law. Look at both columns before you name a winner, and at the learning rates:
# with no reference, the rate is the brake.

# %% [markdown]
# ## On your Spark
#
# Full size: Llama 3.1 8B (the *base* model for ORPO, which needs no stage before it), bf16, LoRA, trl's trainers. First the
# account, by your own function, on PyTorch's meta device:

# %%
def predict_8b():
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32,
                         num_attention_heads=32, num_key_value_heads=8, dtype=torch.bfloat16)
    with torch.device("meta"):
        policy = LlamaForCausalLM(config).to(torch.bfloat16)
    alone = training_bytes(policy)
    return {"SimPO or ORPO, all weights": alone["total"], "DPO, all weights": alone["total"] + alone["weights"]}


# %%
for name, size in (insight.run(predict_8b, needs="Exercise 5 (training_bytes)") or {}).items():
    print(f"{name:28} {size / 1e9:6.1f} GB, before the first activation")

# %% [markdown]
# ```bash
# sync; echo 3 | sudo tee /proc/sys/vm/drop_caches   # unified memory: the file cache would take from the GPU's share
# docker run --gpus all -it --rm --ipc=host -p 8888:8888 -v $PWD:/workspace \
#     -v $HOME/.cache/huggingface:/hf -e HF_HOME=/hf nvcr.io/nvidia/pytorch:25.11-py3
# ```
#
# In the container `pip install "trl==1.16.0" "peft>=0.21"` and the course's package. Model and data need an account at Hugging
# Face. Then set `RUN_ON_SPARK`. This section has **not yet been measured on a GPU** by the authors: your record is the first.

# %%
RUN_ON_SPARK = False


# %%
def run_on_spark(method, path="meta-llama/Llama-3.1-8B", steps=50):
    """Train a LoRA adapter by "orpo" or "simpo"; returns the record. Needs a GPU with 60 GB free."""
    from datasets import load_dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl.experimental.cpo import CPOConfig, CPOTrainer
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    common = {"output_dir": f"{method}-8b", "max_steps": steps, "per_device_train_batch_size": 4, "bf16": True,
              "learning_rate": 5e-6, "max_length": 1024, "logging_steps": 1, "report_to": []}
    own = {"orpo": (ORPOTrainer, ORPOConfig(beta=0.1, **common)),
           "simpo": (CPOTrainer, CPOConfig(loss_type="simpo", cpo_alpha=0.0, beta=2.5, simpo_gamma=1.4, **common))}
    trainer_class, config = own[method]
    trainer = trainer_class(
        model=AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16, device_map="cuda"), args=config,
        train_dataset=load_dataset("HuggingFaceH4/ultrafeedback_binarized", split=f"train_prefs[:{steps * 4}]"),
        processing_class=AutoTokenizer.from_pretrained(path), peft_config=LoraConfig(r=16, task_type="CAUSAL_LM"))
    torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    trainer.train()
    log = [entry for entry in trainer.state.log_history if "rewards/accuracies" in entry]
    return {"gpu": torch.cuda.get_device_name(), "seconds_per_step": (time.perf_counter() - start) / steps,
            "peak_gb": torch.cuda.max_memory_allocated() / 1e9, "first_loss": log[0]["loss"], "last_loss": log[-1]["loss"],
            "last_accuracy": log[-1]["rewards/accuracies"]}


# %% [markdown]
# Record what you measured, for both methods. `run_on_spark()` fills it in for you; a record by hand is as good. Without such a
# machine leave it as it is: nothing is lost.

# %%
EMPTY = {"gpu": None, "seconds_per_step": None, "peak_gb": None, "first_loss": None, "last_loss": None, "last_accuracy": None}
spark_records = {"simpo": dict(EMPTY), "orpo": dict(EMPTY)}

# %%
if RUN_ON_SPARK:
    spark_records = {method: run_on_spark(method) for method in spark_records}


# %% nbgrader={"grade": false, "grade_id": "simpo-given-spark-record", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_spark_record(record: dict) -> str:
    """Form and plausibility of a record. Nothing here earns points; a person reads it."""
    wanted = {"seconds_per_step": (0.1, 600), "peak_gb": (16, 128), "first_loss": (0.1, 10), "last_loss": (0.01, 10),
              "last_accuracy": (0, 1)}
    if all(record.get(key) is None for key in ("gpu", *wanted)):
        return "not measured: no record of a full-size run"
    odd = [key for key, (low, high) in wanted.items()
           if not isinstance(record.get(key), int | float) or not low <= record[key] <= high]
    odd += [] if isinstance(record.get("gpu"), str) else ["gpu"]
    return f"look again at {', '.join(odd)}: missing or out of the plausible range" if odd else "complete and plausible"


# %%
{method: check_spark_record(record) for method, record in spark_records.items()}


# %% [markdown]
# ## Common mistakes
#
# **1. Dividing by the wrong length.**
#
# ```python
# sums / input_ids.shape[1]                        # wrong: padding counts, and the batch decides about the reward
# sums / mask.sum(1)                               # wrong by one if the first token is marked; NaN for no token
# sums / mask[:, 1:].sum(1).clamp(min=1)           # right
# ```
#
# **2. Scaling the margin.**
#
# ```python
# -logsigmoid(beta * (s_w - s_l - gamma))          # wrong: with beta = 10 a margin of 1 becomes one of 10
# -logsigmoid(beta * (s_w - s_l) - gamma)          # right; trl writes beta * (s_w - s_l - gamma / beta)
# ```

# %% [markdown]
# **3. One formula for log(1 - e^s).**
#
# ```python
# torch.log(1 - torch.exp(s))                      # wrong near 0: -inf for s = -1e-8 in float32
# torch.log1p(-torch.exp(s))                       # no better there
# ```
# It fails late in training, when the model has become sure of the chosen answer: the log odds
# become +inf, the penalty 0, so the loss looks perfect; its gradient is NaN, and after the next step so are the weights.
#
# **4. A difference of log-probabilities for ORPO.**
#
# ```python
# ratio = chosen - rejected                        # wrong: that is SimPO with beta 1 and no margin
# ratio = log_odds(chosen) - log_odds(rejected)    # right
# ```

# %% [markdown]
# **5. A new optimizer in each step.**
#
# ```python
# for batch in batches: optimizer = AdamW(...)     # wrong: Adam without memory is a sign descent
# ```
#
# **6. Counting moments for everything.**
#
# ```python
# adam = 2 * sum(p.nbytes for p in model.parameters())                      # wrong: frozen parameters have none
# adam = 2 * sum(p.nbytes for p in model.parameters() if p.requires_grad)   # right
# ```

# %% [markdown]
# ## Reflect
#
# Three questions on *your* code and *your* measurements. Five to ten lines each; numbers without a source in this
# notebook earn nothing.

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-simpo-memory", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Reflection 1: memory (3 points).** From `bytes_kept`, `seconds` and the prediction of *On your Spark*: which share of memory and
# of time does dropping the reference save, in your tiny run and at 8B with all weights trained? Then the same with LoRA: what does
# `training_bytes(policy, policy)` say, and what remains of the argument for SimPO and ORPO?
#
# ### BEGIN SOLUTION
# Tiny, float32: the reference is 1 of 5 equal parts, 20 % of what is kept, and a pass of about a quarter to a third of a step
# (ratio from `seconds`). At 8B in bf16: 80.3 GB with the reference, 64.2 GB without, again 20 %; both before activations, so
# 80 GB plus logits will not fit beside anything else on 128 GB, 64 may. With LoRA gradients and moments vanish, a second copy
# would be half of everything; but the reference is the policy with its adapter off, and training_bytes(policy, policy) counts
# 0 for it: only the extra forward pass remains. What is left of the argument: that pass, the simplicity of one model, no stage
# before it (ORPO), and the length behaviour, which is not about memory at all.
#
# ### BEGIN MARK SCHEME
# - 1 point: 20 % of the kept bytes, derived from weights, gradients and two moments, with the student's own numbers.
# - 1 point: the share of a step's time, measured, and that it is the reference's forward pass.
# - 1 point: sees that an adapter makes the reference free in memory and not in time.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-simpo-length", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Reflection 2: length (3 points).** In `wins`, sums and averages disagree; in `correlations` too. Explain both from
# `average_logps`. In `rows`, what happened to the mean length under each method given that most rejected answers were the long
# ones, and why? Name a data set on which *averages* would be the wrong choice.
#
# ### BEGIN SOLUTION
# (With the student's numbers.) Every term is negative, near -log 259 a token for an untrained model, so sums fall in proportion to
# length and the shorter answer always wins; the average divides that out and is left with chance. The correlation of sums with
# length is near -1, that of averages near 0, log-odds follow averages. In training, the pairs say "short" as well as "English
# order": lengths fall under methods that push rejected answers down, most where the push is hardest, and little by imitation alone.
# Averages are wrong where length itself is a merit or a fault that people judge, e.g. summaries: an answer that pads with easy,
# likely tokens raises its average.
#
# ### BEGIN MARK SCHEME
# - 1 point: all terms are negative, so a sum measures length; numbers of `wins` and `correlations` are quoted.
# - 1 point: reads the lengths in `rows` and connects them with what pairs and loss say.
# - 1 point: a case in which averages mislead, with the mechanism (likely filler raises the average).
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-simpo-production", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Reflection 3: production (3 points).** You have 20,000 pairs, one Spark for a weekend, and an 8B base model that has never been
# instruction-tuned. Decide between SFT then DPO, SFT then SimPO, and ORPO alone. Use your measurements of time, memory and quality,
# say which two short runs you would make first, which number decides between them, and what would tell you on Saturday night that
# the run has gone wrong.
#
# ### BEGIN SOLUTION
# A base model needs imitation first, so SimPO and DPO need two stages; ORPO does both in one and saves a stage and a model. With
# noisy labels, ORPO stayed near imitation in `rows` and SimPO moved further (quote). Two short runs, e.g. ORPO with weight 0.1 and
# SFT + SimPO at two learning rates on 1,000 pairs; decided by samples judged blindly, with mean length beside them, not by the
# loss, which is not comparable between methods. Alarm: the mean chosen average falls while accuracy rises (for SimPO nothing holds
# it), mean sample length drifts, a loss of NaN from log_odds. Keep checkpoints.
#
# ### BEGIN MARK SCHEME
# - 1 point: sees that a base model needs the imitation stage and counts stages and models for each choice.
# - 1 point: decides by samples of two short runs, not by comparing different losses.
# - 1 point: an alarm on a number from `train_pairs` or `said`, with a reason.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# What you built, in the numbers of your own run:

# %%
def summary():
    dpo, alone = bytes_kept["DPO"], bytes_kept["SimPO, ORPO"]
    print(f"kept without the reference: {alone / dpo:.0%} of the bytes with it")
    print(f"a step without its pass: {seconds['SimPO'] / seconds['with a reference pass']:.0%} of the time with it")
    print("correlation with the length:", {name: round(r, 2) for name, r in correlations.items()})
    best = max((share, name, rate) for (name, rate), (share, _) in rows.items())
    print(f"most samples in the wanted order: {best[0]:.0%}, by {best[1]} at {best[2]:g}")


# %%
insight.run(summary, needs="Exercises 1 to 7")

# %% [markdown]
# ## Challenge (optional)
#
# 1. **CPO**: add `cpo_alpha` times the cross-entropy to SimPO. Does it stop the chosen average from falling?
# 2. **The margin as data**: let gamma depend on how sure the annotators were. What changes in the gradient?
# 3. **Length as a feature**: regress `scores` on lengths, and train on the residuals. Is it SimPO?
#
# ## Further reading
#
# - Y. Meng, M. Xia, D. Chen, *SimPO: Simple Preference Optimization with a Reference-Free Reward*, 2024, arXiv:2405.14734.
# - J. Hong, N. Lee, J. Thorne, *ORPO: Monolithic Preference Optimization without Reference Model*, 2024, arXiv:2403.07691.
# - M. Mächler, *Accurately Computing log(1 - exp(-|a|))*, 2012: the note behind `log_odds`.
# - R. Park et al., *Disentangling Length from Quality in Direct Preference Optimization*, 2024, arXiv:2403.19159.
# - The documentation of trl on `CPOTrainer` and `ORPOTrainer`: huggingface.co/docs/trl.

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
