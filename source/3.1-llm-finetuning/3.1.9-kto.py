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
# # Lab 3.1.9: KTO for binary feedback
#
# | | |
# |---|---|
# | Module | 3.1 LLM Fine-Tuning |
# | Time | 2 hours |
# | Difficulty | ★★★★☆ |
# | Hardware | gpu-optional: all points can be earned on a CPU; *On your Spark* is for a large GPU |
# | Points | 29 automatic, 9 read by a person |
# | Builds on | 3.1.7 DPO Training |
#
# Nobody gives you pairs. What users give is a thumb, up or down, on one answer, and mostly none at all. You are going to
# write Kahneman-Tversky optimisation (KTO), which trains on exactly that, hold it against trl's `KTOTrainer`, and teach a
# model from a log in which bad answers are nine in ten and thumbs are noisy.

# %% [markdown]
# ## What you'll achieve
#
# By the end you have
#
# 1. **Systems understanding**: measured what KTO's baseline costs in a step, and how noisy it is (objective 3.1.3).
# 2. **Core skill**: written the KTO loss, its gradient, its baseline, and weights for unequal classes (objective 3.1.3).
# 3. **A pattern**: an estimate that steers a loss and gets no gradient of its own.
# 4. **A tie to production**: a log of ratings turned into training data, and a loss that equals trl's (objective 3.1.3).
# 5. **A trade-off**: what is gained and lost when hopeless examples stop pulling.

# %% [markdown]
# ## Before you start
#
# In 3.1.7 you wrote DPO, which needs two answers to each prompt and a judgement between them. **What works**: preference
# training against a reference. **The gap**: real feedback comes one answer at a time, ten to one in one direction, and
# noisy. **This lab** replaces "better than the other" by "better than you usually do".
#
# ```
# 3.1.7 log-probabilities, reference ──┬──> pairs:  DPO (3.1.7), SimPO and ORPO (3.1.8)
#                                      └──> thumbs: KTO (this lab)
# ```

# %% [markdown]
# ### Skill checks
#
# Answer first, then unfold.
#
# <details><summary>1. What is the derivative of sigma(z), and where is it largest?</summary>
#
# sigma(z) (1 - sigma(z)), largest at z = 0, where it is 1/4, and next to nothing for |z| above 10.
# </details>
#
# <details><summary>2. What is the KL divergence of a policy from a reference, as an expectation?</summary>
#
# The mean of log(policy / reference) over answers that *the policy* gives. It is at least 0; an estimate from a few
# answers need not be.
# </details>
#
# <details><summary>3. A quantity depends on the weights but must not be trained through. What do you call on it?</summary>
#
# `.detach()`, or compute it under `torch.no_grad()`, which also saves its graph.
# </details>

# %% nbgrader={"grade": false, "grade_id": "kto-given-setup", "locked": true, "schema_version": 3, "solution": false, "task": false}
import contextlib
import copy
import io
import logging
import math
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence

import torch
from labkit import checking, insight, tiny
from torch import Tensor, nn
from torch.nn.functional import log_softmax

# %% nbgrader={"grade": false, "grade_id": "kto-given-settings", "locked": true, "schema_version": 3, "solution": false, "task": false}
warnings.filterwarnings("ignore")  # from inside transformers and trl, nothing to do with you
torch.set_num_threads(1)  # with matrices this small, a second thread would mostly wait for the first
tokenizer = tiny.fast_tokenizer()  # a token is a byte; 257 ends a text, 258 fills up

# %% [markdown]
# Readiness check: the skills, run. It should print `ready`.

# %%
z = torch.tensor(0.0, requires_grad=True)
torch.sigmoid(z).backward()
assert z.grad == 0.25
assert not (2 * z).detach().requires_grad
print("ready")

# %% [markdown]
# ## Why it matters
#
# A chat product with a million answers a day gets perhaps ten thousand thumbs, and no pairs. To make pairs of them, one would
# have to ask people to judge second answers: the expensive part of preference training. The authors of KTO turned pairs into
# *unpaired* thumbs and matched or beat DPO from 1B to 30B parameters; with up to 90 % of the thumbs up left out they still did
# (Ethayarajh et al. 2024, section 4).
#
# In production the data is a log with ratings, some of them missing, some by people who always click the same thumb. The first
# exercise is therefore not a loss. A wrong threshold there costs more than any hyperparameter behind it.

# %% [markdown]
# ## At the kitchen table
#
# Your friend cooks, and you say only "good" or "not so good" to single dishes.
#
# | kitchen | KTO |
# |---|---|
# | one thumb for one dish | a label for one answer |
# | how good dinners usually are | the baseline: how far policy and reference differ anyway |
# | "good" means better than usual | the reward of a thumb up is measured from the baseline |
# | losses hurt more than gains please | the two weights, after Kahneman and Tversky |
# | a hopeless dish, which is not cooked again | examples far from the baseline stop pulling |
#
# **Where it breaks**: you know what dinner was like last week. KTO guesses "usual" anew in each batch, from answers to the
# *wrong* questions. You will see how noisy that is.

# %% [markdown]
# ## Foundations
#
# The reward of an answer is DPO's, without $\beta$: $r=\log\pi(y|x)-\log\pi_{ref}(y|x)$. KTO (Ethayarajh et al. 2024,
# equation 8) measures it from a baseline $z_0$ and squeezes it by $\sigma$:
#
# $$v=\begin{cases}\lambda_D\,\sigma(\beta(r-z_0)) & \text{thumb up}\\ \lambda_U\,\sigma(\beta(z_0-r)) & \text{thumb down}\end{cases}\qquad L=\text{mean of }(\lambda-v)$$
#
# $D$ is for desirable, the thumb *up*; $U$ for undesirable, the thumb *down*.
#
# The baseline is the KL divergence of policy from reference. Sampling from the policy in each step would be dear, so it is
# estimated from what is in the batch: every prompt with the answer to *another* prompt, $z_0=\max(0,\text{mean of } r')$,
# and no gradient flows through it.
#
# The derivative of an example's loss with respect to its log-probability is $\mp\lambda\beta\,\sigma(1-\sigma)$: largest near
# the baseline, next to nothing far from it *on both sides*. DPO's pull, $\beta\sigma(-\beta\Delta)$, dies out on one side
# only.

# %% [markdown]
# ```
#  prompt k + answer k      ──> policy, reference ──> r_k ─────────┐
#                                                                  ├──> σ(±β (r_k - z_0)) ──> mean of λ (1 - σ)
#  prompt k + answer k - 1  ──> policy, reference ──> mean, >= 0 ──┘
#                               (no gradient)         z_0
# ```
#
# ### One example in numbers
#
# A batch has a thumb up with $r=2$ and a thumb down with $r=1$; mismatched answers have $r'=(0.5, 0.1)$, so $z_0=0.3$. With
# $\beta=0.5$ and weights 1: $1-\sigma(0.85)=0.299$ and $1-\sigma(-0.35)=0.587$, mean 0.443. At the start of a run all $r$
# are 0, and the loss is exactly one half of the mean weight of the batch.

# %%
sigma = [1 / (1 + math.exp(-0.5 * v)) for v in (2 - 0.3, 0.3 - 1)]
print(f"{1 - sigma[0]:.3f}, {1 - sigma[1]:.3f}, mean {1 - sum(sigma) / 2:.3f}")


# %% [markdown]
# ## Part 1: Data
#
# ### Exercise 1: from a log to feedback
#
# A log has ratings from 1 to 5, and most entries have none. High ratings become a thumb up, low ones a thumb down, what lies
# between is dropped: a 3 is a shrug, not a judgement. Entries with an empty answer are dropped as well.

# %% nbgrader={"grade": false, "grade_id": "kto-feedback", "locked": false, "schema_version": 3, "solution": true, "task": false}
def to_feedback(log: Sequence[Mapping], up: int = 4, down: int = 2) -> list[dict]:
    """Turn a log of rated answers into binary feedback, in the order of the log.

    Args:
        log: dicts with "prompt" and "answer", strings, and "rating", an int from 1 to 5 or None.
        up: the lowest rating that is a thumb up.
        down: the highest rating that is a thumb down; below `up`.

    Returns:
        Dicts with "prompt", "completion" (the answer) and "label" (True for a thumb up, False for a thumb down). Entries
        without a rating, with one between `down` and `up`, or whose answer is empty or only white space are left out.

    Raises:
        ValueError: `down` is not below `up`, or a rating is not from 1 to 5; the message names the rating.

    TODO: Check the thresholds, then go through the log and keep what is a judgement.

    APPROACH:
        1. Refuse thresholds that overlap, because a rating cannot be both thumbs.
        2. Skip what says nothing before you look at its value, because None cannot be compared with a number.
        3. Refuse impossible ratings loudly, because a 0 in a log is more often a bug than an opinion.

    EXAMPLE:
        >>> log = [{"prompt": "p", "answer": "a", "rating": 5}, {"prompt": "p", "answer": "b", "rating": 3}]
        >>> to_feedback(log)
        [{'prompt': 'p', 'completion': 'a', 'label': True}]

    HINTS:
        1. `continue` goes on with the next entry.
        2. `text.strip()` is empty for white space.
        3. The label is a comparison: it is True or False by itself.
    """
    ### BEGIN SOLUTION
    if down >= up:
        raise ValueError(f"down ({down}) must be below up ({up})")
    feedback = []
    for entry in log:
        rating = entry["rating"]
        if rating is None:
            continue
        if not 1 <= rating <= 5:
            raise ValueError(f"a rating must be from 1 to 5, not {rating}")
        if down < rating < up or not entry["answer"].strip():
            continue
        feedback.append({"prompt": entry["prompt"], "completion": entry["answer"], "label": rating >= up})
    return feedback
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "kto-given-entry", "locked": true, "schema_version": 3, "solution": false, "task": false}
def entry(rating: int | None, answer: str = "fine", prompt: str = "how? ") -> dict:
    """An entry of a log."""
    return {"prompt": prompt, "answer": answer, "rating": rating}


# %% nbgrader={"grade": true, "grade_id": "test-kto-feedback", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Checks: labels at and between the thresholds, order, missing ratings, empty answers, refusals, the log left alone.
# Catches: a shrug kept, thresholds off by one, None taken for a thumb down, entries that are lost with a bad neighbour.
# A pass prints nothing.
def test_unit_kto_feedback():
    def check(log, want, what, **thresholds):
        before = copy.deepcopy(log)
        got = to_feedback(log, **thresholds)
        checking.equal(got, want, what=f"feedback of {what}", hint="which ratings are a judgement?")
        checking.equal(log, before, what=f"the log of {what} afterwards")

    up, down = ({"prompt": "how? ", "completion": "fine", "label": label} for label in (True, False))
    check([entry(r) for r in (5, 4, 3, 2, 1, None)], [up, up, down, down], "all ratings")
    check([], [], "an empty log")
    checking.raises(ValueError, to_feedback, [entry(4)], up=3, down=3, what="overlapping thresholds")
    ### BEGIN HIDDEN TESTS
    # check: other thresholds
    # hint: a rating at a threshold is a judgement; only what lies strictly between is none.
    check([entry(r) for r in (1, 2, 3, 4, 5)], [down, up], "ratings with up 5 and down 1", up=5, down=1)
    check([entry(r) for r in (3, 2)], [up, down], "ratings with up 3 and down 2", up=3, down=2)
    # check: empty answers and missing ratings among others
    # hint: what does strip() leave of an answer of blanks? Rated or not, it is no answer.
    log = [entry(5, ""), entry(1, " \n"), entry(None, ""), entry(2, " ok "), entry(5, "x", "")]
    want = [{"prompt": "how? ", "completion": " ok ", "label": False}, {"prompt": "", "completion": "x", "label": True}]
    check(log, want, "a log with gaps")
    # check: impossible ratings
    # hint: 0 and 6 are refused wherever they stand, and the message names them.
    for bad in (0, 6, -1):
        error = checking.raises(ValueError, to_feedback, [entry(5), entry(bad)], what=f"a rating of {bad}")
        assert str(bad) in str(error), f"the message should name the rating {bad}, and says: {error}"
    checking.raises(ValueError, to_feedback, [], up=2, down=4, what="thresholds upside down, even for an empty log")
    ### END HIDDEN TESTS


test_unit_kto_feedback()


# %% [markdown]
# ### What just happened?
#
# A log became data. How much of it is left, and in which direction?

# %%
def shares():
    log = [entry(r) for r in (5, 5, 4, 3, 3, 1, *[None] * 14)]
    labels = [f["label"] for f in to_feedback(log)]
    print(f"{len(log)} answers, {len(labels)} thumbs, {sum(labels)} of them up")


# %%
insight.run(shares, needs="Exercise 1 (to_feedback)")


# %% [markdown]
# ### Exercise 2: a batch with its own control group
#
# Each prompt appears twice: with its own answer, and with that of its neighbour. The second set estimates the baseline. Row
# k gets the answer of row k - 1, the first row that of the last, as trl does it.

# %% nbgrader={"grade": false, "grade_id": "kto-collate", "locked": false, "schema_version": 3, "solution": true, "task": false}
def collate(feedback: Sequence[Mapping]) -> dict[str, Tensor]:
    """Put feedback into a batch, with mismatched answers beside the real ones.

    Args:
        feedback: B dicts with "prompt", "completion" and "label", at least 2 of them.

    Returns:
        "input_ids", "attention_mask", "completion_mask", int64 (B, L): prompt, completion and the end token 257, filled up on
        the right with 258; the completion mask is 1 on the completion and its end token. "KL_input_ids",
        "KL_attention_mask", "KL_completion_mask", int64 (B, L'): the same with the completion of row k - 1 in row k, and that
        of the last row in row 0. "label", bool (B,).

    Raises:
        ValueError: fewer than 2 entries: then there is no other answer.

    TODO: Write one helper that pads a list of (prompt, answer), and use it twice.

    APPROACH:
        1. Tokenize prompts and completions once, because both sets use them.
        2. Rotate the list of completions by one, because then no row has its own.
        3. Pad each set to its own longest row, because the longest prompt may meet a longer answer there.

    EXAMPLE:
        >>> batch = collate([{"prompt": "a", "completion": "b", "label": True},
        ...                  {"prompt": "c", "completion": "de", "label": False}])
        >>> batch["input_ids"].tolist(), batch["label"].tolist()
        ([[97, 98, 257, 258], [99, 100, 101, 257]], [True, False])
        >>> batch["KL_input_ids"].tolist()
        [[97, 100, 101, 257], [99, 98, 257, 258]]

    HINTS:
        1. `tokenizer(text)["input_ids"]` is a list of ids.
        2. A list rotated by one is its last element before all the others.
        3. The helper returns a dict; a second dict can take the same values under names with "KL_" in front.
    """
    ### BEGIN SOLUTION
    if len(feedback) < 2:
        raise ValueError("a batch needs at least 2 entries: each is matched with another's answer")

    def padded(prompts, answers):
        longest = max(len(p) + len(a) for p, a in zip(prompts, answers, strict=True))
        rows = {"input_ids": [], "attention_mask": [], "completion_mask": []}
        for p, a in zip(prompts, answers, strict=True):
            rest = longest - len(p) - len(a)
            rows["input_ids"].append(p + a + [258] * rest)
            rows["attention_mask"].append([1] * len(p + a) + [0] * rest)
            rows["completion_mask"].append([0] * len(p) + [1] * len(a) + [0] * rest)
        return {name: torch.tensor(values) for name, values in rows.items()}

    prompts = [tokenizer(f["prompt"])["input_ids"] for f in feedback]
    answers = [tokenizer(f["completion"])["input_ids"] + [257] for f in feedback]
    batch = padded(prompts, answers)
    batch |= {f"KL_{name}": value for name, value in padded(prompts, answers[-1:] + answers[:-1]).items()}
    return batch | {"label": torch.tensor([f["label"] for f in feedback])}
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "kto-given-thumbs", "locked": true, "schema_version": 3, "solution": false, "task": false}
def thumbs(count: int, seed: int, up: float = 0.5, flipped: float = 0.0) -> list[dict]:
    """Feedback on answers in two word orders: thumbs up for English order, a share `up` of all, `flipped` of them wrong."""
    chance = torch.rand(2, count, generator=torch.Generator().manual_seed(seed))
    feedback = []
    for pair, (first, second) in zip(tiny.preferences(count, seed), chance.T.tolist(), strict=True):
        side = "chosen" if first < up else "rejected"
        label = (side == "chosen") != (second < flipped)
        feedback.append({"prompt": pair["prompt"], "completion": pair[side], "label": label})
    return feedback


# %% nbgrader={"grade": true, "grade_id": "test-kto-collate", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: ids, masks and labels of both sets, who gets whose answer, padding of each set, dtypes, a refusal.
# Catches: answers kept or rotated the wrong way, one length for both sets, prompts in the mask, no end token.
# A pass prints nothing.
def test_unit_kto_collate():
    def rows(prompts, answers):
        texts = [[*p.encode(), *a.encode(), 257] for p, a in zip(prompts, answers, strict=True)]
        length = max(map(len, texts))
        starts = [len(p.encode()) for p in prompts]
        place = range(length)
        return {"input_ids": [(t + [258] * length)[:length] for t in texts],
                "attention_mask": [[int(k < len(t)) for k in place] for t in texts],
                "completion_mask": [[int(s <= k < len(t)) for k in place] for s, t in zip(starts, texts, strict=True)]}

    def check(feedback, what):
        prompts, answers = [f["prompt"] for f in feedback], [f["completion"] for f in feedback]
        others = [answers[k - 1] for k in range(len(answers))]
        want = rows(prompts, answers) | {f"KL_{name}": value for name, value in rows(prompts, others).items()}
        want["label"] = [f["label"] for f in feedback]
        got = collate(feedback)
        checking.equal(sorted(got), sorted(want), what=f"keys of the batch of {what}")
        for name, value in want.items():
            checking.equal(got[name], torch.tensor(value), what=f"{name} of {what}", hint="row k with the answer of row k - 1")

    check(thumbs(2, seed=1), "two thumbs")
    check(thumbs(3, seed=0), "three thumbs")
    ### BEGIN HIDDEN TESTS
    # check: texts of many lengths, empty ones and letters of several bytes
    # hint: the longest row of the mismatched set may be longer than any real one.
    odd = [("", "ä€ and more", True), ("a long prompt: ", "", False), ("é", "x", True)]
    check([dict(zip(("prompt", "completion", "label"), row, strict=True)) for row in odd], "odd texts")
    check(thumbs(2, checking.secret_seed()) + thumbs(7, checking.secret_seed(), up=0.0), "nine thumbs")
    # check: too few entries
    # hint: with one entry there is no other answer: refuse it.
    for few in ([], thumbs(1, seed=0)):
        checking.raises(ValueError, collate, few, what=f"{len(few)} entries")
    ### END HIDDEN TESTS


test_unit_kto_collate()


# %% [markdown]
# ### What just happened?
#
# From 3.1.7 you know how to score an answer. Here it is again, for either set of a batch:

# %% nbgrader={"grade": false, "grade_id": "kto-given-logps", "locked": true, "schema_version": 3, "solution": false, "task": false}
def sequence_logps(model: nn.Module, batch: Mapping[str, Tensor], prefix: str = "") -> Tensor:
    """Log-probabilities (B,) of the completions of a batch, or with prefix "KL_" of the mismatched ones. One pass."""
    ids, attention = batch[f"{prefix}input_ids"], batch[f"{prefix}attention_mask"]
    logps = log_softmax(model(input_ids=ids, attention_mask=attention).logits[:, :-1], dim=2)
    picked = logps.gather(2, ids[:, 1:, None])[:, :, 0]
    return (picked * batch[f"{prefix}completion_mask"][:, 1:]).sum(dim=1)


# %%
def both_sets():
    batch = collate(thumbs(2, seed=0))
    for prefix in ("", "KL_"):
        for row in batch[f"{prefix}input_ids"]:
            print(f"{prefix or 'own':4}", repr(tokenizer.decode(row[row < 256])))


# %%
insight.run(both_sets, needs="Exercise 2 (collate)")


# %% [markdown]
# ## Part 2: The loss
#
# ### Exercise 3: the baseline
#
# One number for the whole batch: the mean log-ratio of the mismatched answers, not below 0, without a gradient.

# %% nbgrader={"grade": false, "grade_id": "kto-baseline", "locked": false, "schema_version": 3, "solution": true, "task": false}
def kl_baseline(policy: Tensor, reference: Tensor) -> Tensor:
    """Estimate how far the policy is from its reference, from mismatched answers.

    Args:
        policy, reference: log-probabilities of the mismatched answers under both models, each (B,).

    Returns:
        The mean of policy - reference, at least 0; a tensor without axes and without a graph.

    TODO: Average the log-ratios, cut off at 0, and cut the graph.

    APPROACH:
        1. Average before you cut off, because max(0, .) of single ratios would be biased upwards.
        2. Cut off at 0, because a KL divergence is never negative, and its estimate can be.
        3. Detach, because the baseline must not be trained: raising "usual" is no way to get better.

    EXAMPLE:
        >>> kl_baseline(torch.tensor([-9.5, -7.9]), torch.tensor([-10.0, -8.0])).item() > 0.29
        True
        >>> kl_baseline(torch.tensor([-11.0, -7.9]), torch.tensor([-10.0, -8.0])).item()
        0.0

    HINTS:
        1. The first example has the ratios 0.5 and 0.1.
        2. `clamp(min=0)` is max(0, .).
        3. A mean of a tensor is a tensor: leave it one.
    """
    ### BEGIN SOLUTION
    return (policy - reference).mean().clamp(min=0).detach()
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "kto-given-draw", "locked": true, "schema_version": 3, "solution": false, "task": false}
def draw(seed: int, *shape: int, scale: float = 1.0) -> Tensor:
    """Normal float64 numbers from a seed."""
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# %% nbgrader={"grade": true, "grade_id": "test-kto-baseline", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Checks: the mean of log-ratios, cut off at 0 once, no graph, type and shape.
# Catches: a cut before the mean, a difference the wrong way round, a sum, a baseline that is trained.
# A pass prints nothing.
def test_unit_kto_baseline():
    def check(policy, reference, what):
        got = kl_baseline(policy.requires_grad_(), reference)
        ratios = [p - q for p, q in zip(policy.tolist(), reference.tolist(), strict=True)]
        want = torch.tensor(max(0.0, math.fsum(ratios) / len(ratios)), dtype=torch.float64)
        checking.equal(got.requires_grad, False, what=f"requires_grad of the baseline of {what}")
        # float64 sums of at most 100 numbers below 100: 100 * 100 * 1.1e-16.
        checking.close(got, want, rtol=0, atol=2e-12, what=f"baseline of {what}", hint="first the mean, then max(0, .)")

    check(draw(0, 4) + 2, draw(1, 4), "four answers that got likelier")
    check(draw(2, 4) - 2, draw(3, 4), "four answers that got rarer")
    ### BEGIN HIDDEN TESTS
    # check: many answers, with ratios on both sides of 0
    # hint: single ratios below 0 count with their sign; only the mean is cut off.
    seed = checking.secret_seed()
    for number, shift in enumerate((0.3, 3.0, -0.3, 0.0)):
        check(draw(seed + number, 50, scale=3.0) + shift, draw(seed + 10 + number, 50, scale=3.0), f"50 answers, {shift:+}")
    check(torch.tensor([1.5], dtype=torch.float64), torch.tensor([1.0], dtype=torch.float64), "one answer")
    ### END HIDDEN TESTS


test_unit_kto_baseline()


# %% [markdown]
# ### What just happened?
#
# The baseline says how much *any* answer gained. A thumb up counts from there. At the start policy and reference are equal,
# and it is 0.
#
# ### Exercise 4: the loss
#
# Each example by its own thumb, all in one mean.

# %% nbgrader={"grade": false, "grade_id": "kto-loss", "locked": false, "schema_version": 3, "solution": true, "task": false}
def kto_loss(
    policy: Tensor,
    reference: Tensor,
    label: Tensor,
    baseline: Tensor,
    beta: float,
    weights: tuple[float, float] = (1.0, 1.0),
) -> Tensor:
    """The KTO loss of a batch (Ethayarajh et al. 2024, equation 8).

    Args:
        policy, reference: log-probabilities of the completions, each (B,).
        label: bool (B,), True for a thumb up. A batch may have only one kind.
        baseline: z_0, a tensor without axes, from `kl_baseline`.
        beta: above 0.
        weights: of a thumb up and of a thumb down, lambda_D and lambda_U.

    Returns:
        The mean over all examples of weight * (1 - sigma(...)), a tensor without axes, of the dtype of `policy`.

    Raises:
        ValueError: beta is not above 0.

    TODO: Measure the log-ratio from the baseline, turn its sign for thumbs down, squeeze, weigh, average.

    APPROACH:
        1. Turn the sign of the argument for thumbs down, because then one formula serves both kinds.
        2. Use sigma(-z) for 1 - sigma(z), because the difference loses its digits when sigma is near 1.
        3. Average over the whole batch, because a mean of two means would change the weights with every batch.

    EXAMPLE:
        >>> at = torch.tensor([-8.0, -9.0]), torch.tensor([-10.0, -10.0]), torch.tensor([True, False])
        >>> round(kto_loss(*at, torch.tensor(0.3), beta=0.5).item(), 4)
        0.443

    HINTS:
        1. The example is the one of the foundations.
        2. `torch.where(label, a, b)` picks for each example, for signs as well as for weights.
        3. One sigmoid is enough for the whole batch.
    """
    ### BEGIN SOLUTION
    if beta <= 0:
        raise ValueError(f"beta must be above 0, not {beta}")
    z = beta * (policy - reference - baseline)
    z = torch.where(label, z, -z)
    weight = torch.where(label, weights[0], weights[1])
    return (weight * torch.sigmoid(-z)).mean()
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "kto-given-draw-batch", "locked": true, "schema_version": 3, "solution": false, "task": false}
def draw_batch(seed: int, count: int, scale: float = 3.0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Float64 log-probabilities under policy and reference, labels, and a baseline."""
    label = torch.rand(count, generator=torch.Generator().manual_seed(seed)) < 0.4
    return draw(seed, count, scale=scale) - 20, draw(seed + 1, count, scale=scale) - 20, label, draw(seed + 2).abs()


# %% nbgrader={"grade": false, "grade_id": "kto-given-by-hand", "locked": true, "schema_version": 3, "solution": false, "task": false}
def sigma_of(z: float) -> float:
    """The sigmoid in Python floats, exact for any z."""
    return 1 / (1 + math.exp(-z)) if z > 0 else math.exp(max(z, -745.0)) / (1 + math.exp(max(z, -745.0)))


def arguments_of(batch: Sequence[Tensor], beta: float) -> list[tuple[bool, float]]:
    """Label and argument of sigma for each example, in Python floats."""
    policy, reference, label, baseline = (t.tolist() for t in batch)
    rows = zip(policy, reference, label, strict=True)
    return [(up, (beta if up else -beta) * (p - q - baseline)) for p, q, up in rows]


# %% nbgrader={"grade": true, "grade_id": "test-kto-loss", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: the loss against Python floats, weights, batches of one kind, its start, far from the baseline, a refusal.
# Catches: one sign for both kinds, a mean of means, weights exchanged, the baseline added, no digits far out.
# A pass prints what each of two checks earned.
def test_unit_kto_loss():
    def check(batch, beta, weights, what):
        got = kto_loss(*batch, beta, weights) if weights else kto_loss(*batch, beta)
        up, down = weights or (1.0, 1.0)
        terms = [(up if label else down) * sigma_of(-z) for label, z in arguments_of(batch, beta)]
        want = torch.tensor(math.fsum(terms) / len(terms), dtype=torch.float64)
        # Signs and weights may be float32: a relative 6e-8 of an argument below 60, which sigma hands on: 4e-6.
        checking.close(got, want, rtol=1e-5, atol=0, what=what, hint="sigma's argument turns its sign with the thumb")

    credit = checking.Credit(4)
    with credit.check("the loss", points=3, hint="weight * (1 - sigma(+-beta (ratio - baseline))), one mean over all"):
        check(draw_batch(0, 6), 0.1, None, "six thumbs, beta 0.1")
        check(draw_batch(1, 5), 0.5, (1.0, 3.0), "five thumbs, weights 1 and 3")
        ### BEGIN HIDDEN TESTS
        # check: many batches, weights and betas
        # hint: which weight belongs to which thumb? Set one of them to 0 and look.
        seed = checking.secret_seed()
        for number, (beta, weights) in enumerate([(0.02, (2.0, 1.0)), (1.0, (1.0, 0.0)), (2.0, (0.0, 1.5)), (0.3, None)]):
            check(draw_batch(seed + number, 1 + 9 * number), beta, weights, f"beta {beta}, weights {weights}")
        # check: batches of one kind, and a policy that equals its reference
        # hint: no thumbs of one kind is no reason for NaN; at the start every sigma is one half.
        policy, reference, label, baseline = draw_batch(seed, 7)
        for kind in (torch.ones_like(label), torch.zeros_like(label)):
            check((policy, reference, kind, baseline), 0.5, (1.0, 2.0), f"seven thumbs, all {bool(kind[0])}")
        check((policy, policy.clone(), label, torch.zeros_like(baseline)), 5.0, (1.5, 1.5), "equal models")
        # check: a beta that is not above 0
        # hint: 0 itself is refused too.
        for beta in (0.0, -0.1):
            checking.raises(ValueError, kto_loss, *draw_batch(0, 2), beta, what=f"beta {beta}")
        ### END HIDDEN TESTS
    with credit.check("far from the baseline", points=1, hint="1 - sigma(z) has no digits left for z = 40; sigma(-z) has"):
        far = (torch.tensor([40.0, 60.0, -50.0]).double(), torch.zeros(3).double(), torch.tensor([True, True, False]))
        check((*far, torch.zeros(()).double()), 1.0, None, "thumbs that are 40 to 60 beyond the baseline")
    return credit.total()


test_unit_kto_loss()


# %% [markdown]
# ### What just happened?
#
# The loss lies between 0 and the larger weight: no single example can cost more, however wrong the policy is about it.
# Logistic losses, DPO's among them, have no such limit.
#
# ### Exercise 5: who pulls?
#
# The derivative by hand, as in 3.1.7. It says which examples teach anything.

# %% nbgrader={"grade": false, "grade_id": "kto-gradient", "locked": false, "schema_version": 3, "solution": true, "task": false}
def kto_gradient(
    policy: Tensor,
    reference: Tensor,
    label: Tensor,
    baseline: Tensor,
    beta: float,
    weights: tuple[float, float] = (1.0, 1.0),
) -> Tensor:
    """Derivative of the KTO loss with respect to each policy log-probability, in closed form.

    Args:
        policy, reference, label, baseline, beta, weights: as in `kto_loss`.

    Returns:
        Tensor of shape (B,), without a graph: below 0 for thumbs up, above 0 for thumbs down.

    TODO: Differentiate weight * sigma(-z) / B with respect to the log-probability in z.

    APPROACH:
        1. See that sigma(z) sigma(-z) is the same for z and -z, because then only the last sign depends on the thumb.
        2. Use the derivative sigma(z) sigma(-z), because 1 - sigma has no digits far out.
        3. Divide by B, because the loss is a mean over all examples.

    EXAMPLE:
        >>> at = torch.tensor([-8.0, -9.0]), torch.tensor([-10.0, -10.0]), torch.tensor([True, False])
        >>> [round(v, 4) for v in kto_gradient(*at, torch.tensor(0.3), beta=0.5).tolist()]
        [-0.0524, 0.0606]

    HINTS:
        1. d sigma(-z) / dz = -sigma(z) sigma(-z).
        2. dz / d policy is beta, or minus beta.
        3. The baseline is a constant here, whatever it was made of.
    """
    ### BEGIN SOLUTION
    with torch.no_grad():
        z = beta * (policy - reference - baseline)
        weight = torch.where(label, -weights[0], weights[1])
        return weight * beta * torch.sigmoid(z) * torch.sigmoid(-z) / len(policy)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-kto-gradient", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Checks: each derivative against Python floats, signs, weights, far from the baseline on both sides.
# Catches: DPO's one-sided pull, a missing beta or 1/B, signs, digits lost far out.
# A pass prints nothing.
def test_unit_kto_gradient():
    def check(batch, beta, weights, what):
        policy = batch[0].clone().requires_grad_()
        got = kto_gradient(policy, *batch[1:], beta, weights)
        checking.equal(got.requires_grad, False, what=f"requires_grad of the derivative, {what}")
        want = [(-weights[0] if up else weights[1]) * beta * sigma_of(z) * sigma_of(-z) / len(policy)
                for up, z in arguments_of(batch, beta)]
        # Signs and weights may be float32: a relative 6e-8 of an argument below 60, which sigma hands on: 4e-6.
        checking.close(got, torch.tensor(want, dtype=torch.float64), rtol=1e-5, atol=0, what=f"derivatives, {what}")

    check(draw_batch(0, 6), 0.1, (1.0, 1.0), "six thumbs")
    check(draw_batch(1, 1), 2.0, (1.0, 2.0), "one thumb")
    ### BEGIN HIDDEN TESTS
    # check: many batches, weights and betas
    # hint: one factor beta, one division by the number of examples, one sign.
    seed = checking.secret_seed()
    for number, (beta, weights) in enumerate([(0.02, (2.0, 1.0)), (0.7, (1.0, 4.0)), (4.0, (0.5, 0.0))]):
        check(draw_batch(seed + number, 2 + 11 * number), beta, weights, f"beta {beta}, weights {weights}")
    # check: thumbs far from the baseline, on either side
    # hint: the pull dies out on both sides, and it is never exactly 0 where sigma(-40) is 4e-18.
    far = (torch.tensor([40.0, -45.0, 40.0, -45.0]).double(), torch.zeros(4).double(), torch.tensor([True, True, False, False]))
    check((*far, torch.zeros(()).double()), 1.0, (1.0, 1.0), "thumbs that are 40 beyond the baseline")
    ### END HIDDEN TESTS


test_unit_kto_gradient()


# %% [markdown]
# ### What just happened?
#
# Compare who pulls in KTO and in DPO:

# %%
def pulls(ratios=range(-60, 61, 4)):
    r = torch.tensor([float(v) for v in ratios])
    zero = torch.zeros_like(r)
    up = -kto_gradient(r, zero, zero == 0, torch.zeros(()), 0.1) * len(r)
    insight.lines(list(ratios), {"KTO, thumb up": up.tolist(), "DPO (as margin)": (0.1 * torch.sigmoid(-0.1 * r)).tolist()},
                  xlabel="log-ratio, or DPO's margin [nats]", ylabel="pull, beta = 0.1")


# %%
insight.run(pulls, needs="Exercise 5 (kto_gradient)")


# %% [markdown]
# ### Systems insight 1 of 3: how many examples still teach?
#
# **Checkpoint**: you know each example's pull. **Predict, and write it down**: log-ratios of 1,000 thumbs up spread normally
# around 0 with 5, 20 or 80 nats. What share of them pulls with at least a tenth of the full force, at beta 0.1 and at 0.5?

# %%
def still_teaching(betas=(0.02, 0.1, 0.5), spreads=(5, 20, 80), count=1000):
    """Share of thumbs up whose pull, by your kto_gradient, is at least a tenth of the largest possible one, beta / 4 / B."""
    shares = {}
    for spread in spreads:
        ratios = draw(0, count, scale=spread)
        for beta in betas:
            pull = kto_gradient(ratios, torch.zeros_like(ratios), torch.ones(count, dtype=torch.bool), torch.zeros(()), beta)
            shares[f"{spread} nats, {beta}"] = int(torch.count_nonzero(-pull >= beta / 40 / count)) / count
    return shares


# %%
shares_by_beta = insight.run(still_teaching, needs="Exercise 5 (kto_gradient)")
if shares_by_beta:
    insight.bars(shares_by_beta, ylabel="share that still pulls", title="spread of log-ratios, beta")


# %% [markdown]
# **What it means in production.** Sums over long answers spread by tens of nats, and a beta of 0.5 then leaves most of the data
# without any effect, wrong labels included. That is KTO's strength with noisy thumbs, and its weakness with hard examples:
# what the model finds hopeless, it never learns.

# %% [markdown]
# ### Exercise 6: nine to one
#
# With nine thumbs down for each thumb up, the loss is about thumbs down. The authors advise weights that make
# $\lambda_D n_D$ and $\lambda_U n_U$ equal, or that of the thumbs up larger by up to a third. Make them equal, with the smaller weight at 1.

# %% nbgrader={"grade": false, "grade_id": "kto-weights", "locked": false, "schema_version": 3, "solution": true, "task": false}
def balanced_weights(label: Tensor) -> tuple[float, float]:
    """Weights that give both kinds of thumb the same total.

    Args:
        label: bool (n,), True for a thumb up.

    Returns:
        The weights of a thumb up and of a thumb down, Python floats: weight times count is the same for both, and the smaller
        of the two weights is 1.0.

    Raises:
        ValueError: there is no thumb of one kind.

    TODO: Count both kinds, and give the rarer one the larger weight.

    APPROACH:
        1. Count over the *whole* data set, because single batches differ, and some have one kind only.
        2. Refuse data with one kind, because no weight repairs that.
        3. Leave the common kind at 1, because then the size of a step stays what the learning rate was found for.

    EXAMPLE:
        >>> balanced_weights(torch.tensor([True] * 10 + [False] * 90))
        (9.0, 1.0)

    HINTS:
        1. `int(label.sum())` counts the thumbs up.
        2. weight_up * up == weight_down * down has one unknown too many: which do you set?
        3. `max(1.0, ...)` on a ratio is 1 for the common kind.
    """
    ### BEGIN SOLUTION
    up = int(label.sum())
    down = len(label) - up
    if not up or not down:
        raise ValueError(f"{up} thumbs up and {down} down: both kinds are needed")
    return max(1.0, down / up), max(1.0, up / down)
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-kto-weights", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Checks: equal totals and a smaller weight of 1 in both directions, plain floats, a refusal.
# Catches: weights exchanged, counts for weights, tensors, a division by 0.
# A pass prints nothing.
def test_unit_kto_weights():
    def check(up, down):
        got = balanced_weights(torch.tensor([True] * up + [False] * down))
        checking.equal([type(w) for w in got], [float, float], what=f"types of the weights for {up} up, {down} down")
        # One division in float64: relative 1.1e-16.
        checking.close(got[0] * up, got[1] * down, rtol=1e-15, atol=0, what=f"totals for {up} up and {down} down")
        checking.equal(min(got), 1.0, what=f"the smaller weight for {up} up and {down} down")

    check(10, 90)
    check(5, 5)
    checking.raises(ValueError, balanced_weights, torch.tensor([True, True]), what="only thumbs up")
    ### BEGIN HIDDEN TESTS
    # check: more up than down, and counts that do not divide
    # hint: the rarer kind has the larger weight, whichever it is.
    check(80, 20)
    check(3, 7)
    check(1 + checking.secret_seed() % 50, 61)
    # check: one kind only, and no thumbs at all
    # hint: what would you divide by?
    for label in (torch.tensor([False] * 3), torch.tensor([], dtype=torch.bool)):
        checking.raises(ValueError, balanced_weights, label, what=f"labels {label.tolist()}")
    ### END HIDDEN TESTS


test_unit_kto_weights()


# %% [markdown]
# ### What just happened?
#
# The weights do not change what a single thumb means, only how loudly. Now all pieces are there but the loop.
#
# ### Systems insight 2 of 3: what does the baseline cost?
#
# **Checkpoint**: batch, baseline, loss. **Predict, and write it down**: the mismatched answers double the forward passes, of
# both models, without a graph. By what factor does that slow a step down?

# %%
def step_cost(rounds=7):
    """Best seconds of a KTO step with its baseline, and with a baseline of 0."""
    policy, reference, batch = tiny.llama(0), tiny.llama(0), collate(thumbs(16, seed=0))
    best = dict.fromkeys(("with the baseline", "without"), math.inf)
    for _ in range(rounds):  # taking turns, so that a busy moment hits both alike
        for name in best:
            start = time.perf_counter()
            with torch.no_grad():
                anchors, baseline = sequence_logps(reference, batch), torch.zeros(())
                if name == "with the baseline":
                    baseline = kl_baseline(sequence_logps(policy, batch, "KL_"), sequence_logps(reference, batch, "KL_"))
            kto_loss(sequence_logps(policy, batch), anchors, batch["label"], baseline, 0.1).backward()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


# %%
seconds = insight.run(step_cost, needs="Exercises 2, 3 and 4")
if seconds:
    insight.bars({name: 1e3 * s for name, s in seconds.items()}, ylabel="time of a step [ms]")
    print(f"the baseline makes a step {seconds['with the baseline'] / seconds['without']:.2f} times as long")


# %% [markdown]
# **What it means in production.** The reference's passes can be had beforehand, as in DPO, if the batches are fixed; the policy's on mismatched answers
# cannot. Some teams set the baseline to 0 and save it (trl's `apo_zero_unpaired` has none). You will see in training whether
# the baseline is far from 0 at all.

# %% [markdown]
# ## Part 3: Training
#
# ### Exercise 7: the loop
#
# For each batch: own and mismatched answers under both models, the baseline, the loss, a step. Only the policy's pass over
# its own answers needs a graph.

# %% nbgrader={"grade": false, "grade_id": "kto-train", "locked": false, "schema_version": 3, "solution": true, "task": false}
def train_kto(
    policy: nn.Module,
    reference: nn.Module,
    batches: Sequence[Mapping[str, Tensor]],
    beta: float,
    learning_rate: float,
    weights: tuple[float, float] = (1.0, 1.0),
) -> list[dict[str, float]]:
    """Train the policy by KTO, in place: one step of AdamW for each batch, without weight decay.

    Args:
        policy: the model to train; in training mode meanwhile, in evaluation mode afterwards.
        reference: a frozen twin in evaluation mode; it comes back unchanged.
        batches: from `collate`.
        beta, learning_rate: above 0.
        weights: of thumbs up and down, as in `kto_loss`.

    Returns:
        For each batch, before its step, Python floats: "loss", "baseline", and "reward", the mean of beta * (policy -
        reference), with a minus for thumbs down.

    TODO: Compute the baseline and the anchors without a graph, then loss, numbers and step.

    APPROACH:
        1. Run everything but one pass under torch.no_grad(), because three graphs would be thrown away.
        2. Compute the baseline anew for each batch, because the policy moves.
        3. Clear the gradients in each step, because they add up.

    EXAMPLE:
        >>> policy = tiny.llama(0, num_hidden_layers=1)
        >>> reference = copy.deepcopy(policy).requires_grad_(False)
        >>> steps = train_kto(policy, reference, [collate(thumbs(4, seed=0))] * 3, beta=0.1, learning_rate=1e-3)
        >>> steps[0]["loss"], steps[0]["baseline"], steps[2]["loss"] < steps[0]["loss"]
        (0.5, 0.0, True)

    HINTS:
        1. `sequence_logps(model, batch, "KL_")` scores the mismatched answers.
        2. torch.optim.AdamW has a weight decay unless you say otherwise.
        3. `torch.where(batch["label"], r, -r).mean()` is the mean with its signs.
    """
    ### BEGIN SOLUTION
    optimizer = torch.optim.AdamW(policy.parameters(), lr=learning_rate, weight_decay=0.0)
    history = []
    policy.train()
    for batch in batches:
        with torch.no_grad():
            anchors = sequence_logps(reference, batch)
            baseline = kl_baseline(sequence_logps(policy, batch, "KL_"), sequence_logps(reference, batch, "KL_"))
        logps = sequence_logps(policy, batch)
        loss = kto_loss(logps, anchors, batch["label"], baseline, beta, weights)
        reward = beta * (logps - anchors)
        signed = torch.where(batch["label"], reward, -reward)
        history.append({"loss": loss.item(), "baseline": baseline.item(), "reward": signed.mean().item()})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    policy.eval()
    return history
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "kto-given-toy", "locked": true, "schema_version": 3, "solution": false, "task": false}
class Toy(nn.Module):
    """A bigram model: the logits after a token are a row of a table. It notes the mode of each of its passes."""

    def __init__(self, seed: int, scale: float = 0.3) -> None:
        super().__init__()
        self.table = nn.Parameter(draw(seed, 259, 259, scale=scale))
        self.passes: list[tuple[bool, bool]] = []

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> "Toy":
        self.passes.append((self.training, torch.is_grad_enabled()))
        self.logits = self.table[input_ids]
        return self


# %% [markdown]
# The test writes the whole loop out for this model.

# %% nbgrader={"grade": false, "grade_id": "kto-given-toy-loop", "locked": true, "schema_version": 3, "solution": false, "task": false}
def toy_loop(table: Tensor, anchor: Tensor, batches: list, beta: float, rate: float, weights: tuple) -> list[dict[str, float]]:
    """KTO on bigram tables, written out; trains `table` in place."""
    optimizer, history = torch.optim.AdamW([table], lr=rate, weight_decay=0.0), []
    for batch in batches:
        ratios = []
        for prefix in ("", "KL_"):
            ids, marks = batch[f"{prefix}input_ids"], batch[f"{prefix}completion_mask"][:, 1:].double()
            sums = [(log_softmax(t[ids], 2)[:, :-1].gather(2, ids[:, 1:, None])[:, :, 0] * marks).sum(1) for t in (table, anchor)]
            ratios.append(sums[0] - sums[1])
        baseline = max(0.0, ratios[1].mean().item())
        up = batch["label"].double()
        good, bad = 1 - torch.sigmoid(beta * (ratios[0] - baseline)), 1 - torch.sigmoid(beta * (baseline - ratios[0]))
        loss = (weights[0] * up * good + weights[1] * (1 - up) * bad).mean()
        reward = (beta * ratios[0] * (2 * up - 1)).mean().item()
        history.append({"loss": loss.item(), "baseline": baseline, "reward": reward})
        (table.grad,) = torch.autograd.grad(loss, table)
        optimizer.step()
    return history


# %% nbgrader={"grade": false, "grade_id": "kto-given-check-train", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_train(
    seed: int, beta: float, rate: float, count: int, weights: tuple[float, float], scale: float = 0.3
) -> tuple[Toy, Toy]:
    """Hold train_kto against the loop; returns policy and reference. A larger scale makes the reference less sure: z_0 > 0."""
    batches = [collate(thumbs(5, seed + k)) for k in range(count)]
    policy, reference, twin = Toy(seed).eval(), Toy(seed + 1, scale).requires_grad_(False).eval(), Toy(seed)
    with checking.unchanged(reference=reference):
        history = train_kto(policy, reference, batches, beta, rate, weights)
    want = toy_loop(twin.table, reference.table, batches, beta, rate, weights)
    checking.equal(len(history), count, what="number of entries in the history")
    for k, (mine, theirs) in enumerate(zip(history, want, strict=True)):
        checking.equal(sorted(mine), sorted(theirs), what=f"names of the numbers of step {k}")
        for name, value in theirs.items():
            # float64; Adam divides by the root of squares, which makes of 1e-16 some 1e-11 in three steps.
            checking.close(mine[name], value, rtol=1e-7, atol=1e-9, what=f"{name!r} of step {k}, beta {beta}")
    checking.close(policy.table.detach(), twin.table.detach(), rtol=0, atol=1e-6 * rate, what="the trained weights")
    return policy, reference


# %% nbgrader={"grade": true, "grade_id": "test-kto-train", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
# Checks: steps and numbers against a loop written out, with weights; modes, passes and graphs.
# Catches: gradients that pile up, weight decay, a baseline that is trained or kept, weights forgotten, extra graphs.
# A pass prints what each of two checks earned.
def test_unit_kto_train():
    credit = checking.Credit(5)
    with credit.check("the steps are right", points=3, hint="a baseline for each batch; zero_grad; weight_decay=0.0"):
        check_train(0, 0.5, 1e-2, 2, (1.0, 1.0))
        ### BEGIN HIDDEN TESTS
        # check: three steps, other betas, rates and weights
        # hint: are the weights handed on, and is the baseline that of this batch under this policy?
        seed = checking.secret_seed()
        check_train(seed, 0.1, 3e-2, 3, (2.0, 1.0), scale=2.0)  # so unsure a reference that z_0 > 0, whatever was drawn
        check_train(seed + 9, 0.5, 1e-3, 3, (1.0, 0.5), scale=1.0)
        # check: no batch at all
        # hint: an empty list of batches trains nothing and gives an empty history.
        checking.equal(train_kto(Toy(0), Toy(1), [], 0.1, 1e-3), [], what="history of no batches")
        ### END HIDDEN TESTS
    with credit.check("modes and graphs", points=2, hint="one pass of the policy has a graph, and no other"):
        policy, reference = check_train(3, 0.1, 1e-2, 2, (1.0, 1.0))
        checking.equal(sorted(policy.passes), [(True, False)] * 2 + [(True, True)] * 2, what="passes (training, with a graph)")
        checking.equal(reference.passes, [(False, False)] * 4, what="passes of the reference as (training, with a graph)")
        checking.equal(policy.training, False, what="training mode of the policy afterwards")
    return credit.total()


test_unit_kto_train()


# %% [markdown]
# ### What just happened?
#
# Your loop takes the same steps as one that was written for a table. Now a model that says everything in both word orders, and
# a log of thumbs that like one of them:

# %%
def indifferent_model(steps=150):
    """A tiny Llama that has read prompts with both kinds of answer, each as often as the other."""
    rows = collate(thumbs(4800, seed=1))["input_ids"]
    model = tiny.llama(0)
    tiny.pretrain(model, list(rows[: steps * 32].reshape(steps, 32, -1)))
    return model


base_model = insight.run(indifferent_model, needs="Exercise 2 (collate)")


# %%
def run_kto(beta=0.1, steps=40, learning_rate=1e-4, weights=(1.0, 1.0), **kind):
    """Train a copy of the base model on batches of 32 thumbs; returns it and the history."""
    policy, reference = copy.deepcopy(base_model), copy.deepcopy(base_model).requires_grad_(False)
    batches = [collate(thumbs(32, seed=100 + k, **kind)) for k in range(steps)]
    return policy, train_kto(policy, reference, batches, beta, learning_rate, weights)


# %%
def first_run():
    policy, history = run_kto()
    curves = {name: [step[name] for step in history] for name in ("loss", "baseline", "reward")}
    insight.lines(range(len(history)), curves, xlabel="step", ylabel="loss; baseline [nats]; reward")
    return policy, history


trained, history = (insight.run(first_run, needs="Exercises 1 to 7") if base_model else None) or (None, [])


# %% [markdown]
# ### Systems insight 3 of 3: how noisy is the baseline?
#
# **Checkpoint**: a trained policy. **Predict, and write it down**: the baseline is a mean over a batch. By what factor does its
# spread between batches shrink from 4 to 64 examples?

# %%
def spread_of_the_baseline(sizes=(4, 16, 64), draws=12):
    """Mean and standard deviation of your baseline between batches, and seconds for a batch, by batch size."""
    table = {}
    for size in sizes:
        start, values = time.perf_counter(), []
        for k in range(draws):
            batch = collate(thumbs(size, seed=1000 + k))
            with torch.no_grad():
                both = [sequence_logps(model, batch, "KL_") for model in (trained, base_model)]
            values.append(kl_baseline(*both))
        values = torch.stack(values)
        table[size] = (values.mean().item(), values.std().item(), (time.perf_counter() - start) / draws)
    return table


# %%
spread = insight.run(spread_of_the_baseline, needs="Exercises 1 to 7") if trained else None
for size, (mean, deviation, each) in (spread or {}).items():
    print(f"batches of {size:2}: baseline {mean:5.2f} +- {deviation:4.2f} nats, {1e3 * each:5.1f} ms a batch")


# %% [markdown]
# **What it means in production.** The baseline moves every example of a batch at once, so its noise does not average out within
# the batch. KTO therefore wants larger batches than DPO; its authors advise a batch of at least 16, in *one*
# pass: accumulating gradients makes no baseline less noisy. A baseline that
# sits at 0 all the time is common: mismatched answers become *rarer* under a policy that learns to answer the question.

# %% [markdown]
# ## Put it together
#
# Your batch, baseline and loss against trl's `KTOTrainer`, on copies of the same two models. trl prepares the texts, rotates
# the answers, pads, runs and averages by its own code.

# %% nbgrader={"grade": false, "grade_id": "kto-given-trl", "locked": true, "schema_version": 3, "solution": false, "task": false}
def trl_loss(policy: nn.Module, reference: nn.Module, feedback: list[dict], **settings) -> tuple[Tensor, dict]:
    """The loss of trl's KTOTrainer on one batch with all feedback, and the gradient of each parameter."""
    from datasets import Dataset, disable_progress_bars
    from trl import KTOConfig, KTOTrainer

    disable_progress_bars()
    logging.getLogger("trl").setLevel(logging.ERROR)
    policy, n = copy.deepcopy(policy), len(feedback)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        config = KTOConfig(output_dir=folder, report_to=[], use_cpu=True, bf16=False, max_length=None,
                           per_device_train_batch_size=n, **settings)
        trainer = KTOTrainer(model=policy, ref_model=copy.deepcopy(reference), args=config,
                             train_dataset=Dataset.from_list(feedback), processing_class=tokenizer)
        batch = trainer.data_collator([trainer.train_dataset[k] for k in range(n)])
        loss = trainer.compute_loss(policy, batch)
        loss.backward()
    return loss.detach(), {name: p.grad for name, p in policy.named_parameters()}


# %% nbgrader={"grade": false, "grade_id": "kto-given-check-trl", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_trl(seeds: tuple[int, int], feedback: list[dict], beta: float, weights: tuple[float, float]) -> None:
    """Hold the student's loss and its gradients against trl's."""
    policy, reference = (tiny.llama(seed, num_hidden_layers=1) for seed in seeds)
    want, grads = trl_loss(policy, reference, feedback, beta=beta, desirable_weight=weights[0], undesirable_weight=weights[1])
    batch = collate(feedback)
    both = [sequence_logps(model, batch, "KL_").detach() for model in (policy, reference)]
    anchors = sequence_logps(reference, batch).detach()
    loss = kto_loss(sequence_logps(policy, batch), anchors, batch["label"], kl_baseline(*both), beta, weights)
    # float32: log-probabilities near 120, their differences off by a few 120 * 6e-8, times beta.
    checking.close(loss.detach(), want, rtol=2e-4, atol=2e-5, what=f"trl's loss, beta {beta}, weights {weights}")
    loss.backward()
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        mine, scale = policy.get_parameter(name).grad, grads[name].abs().max().item()
        checking.close(mine, grads[name], rtol=1e-3, atol=2e-4 * scale, what=f"trl's gradient of {name}")


# %% nbgrader={"grade": true, "grade_id": "test-kto-module", "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
# Checks: the loss equals trl's on the same feedback, gradients included; from log to a model that prefers.
# Catches: pieces that are right alone and do not fit together, such as answers rotated the other way.
# A pass prints what each of two checks earned.
def test_unit_kto_module():
    credit = checking.Credit(6)
    with credit.check("the loss is trl's", points=3, hint="whose answer does row k get, and is the end token scored?"):
        for seeds in ((0, 1), (1, 0)):  # exchanged, so that the mean log-ratio is above 0 once, and once below
            check_trl(seeds, thumbs(6, seed=5), 0.3, (1.0, 1.0))
        ### BEGIN HIDDEN TESTS
        # check: KTO by trl, with weights, and thumbs of one kind
        # hint: the mean goes over all examples, weighted, whatever their kinds.
        seed = checking.secret_seed() % 10**6
        check_trl((seed, seed + 1), thumbs(9, seed, up=0.3), 0.1, (3.0, 1.0))
        check_trl((seed + 7, seed + 8), thumbs(4, seed, up=1.0), 0.5, (1.0, 2.0))
        ### END HIDDEN TESTS
    with credit.check("from a log to a model that prefers", points=3, hint="follow loss and reward through the steps"):
        log = [entry(5 if t["label"] else 1, t["completion"], t["prompt"]) for t in thumbs(320, seed=3, up=0.25)]
        feedback = to_feedback([*log, entry(None), entry(3)])
        checking.equal(len(feedback), 320, what="entries of the log that are feedback")
        weights = balanced_weights(torch.tensor([f["label"] for f in feedback]))
        policy = tiny.llama(3, num_hidden_layers=1)
        batches = [collate(feedback[k : k + 16]) for k in range(0, 320, 16)]
        steps = train_kto(policy, copy.deepcopy(policy).requires_grad_(False), batches, 0.1, 3e-3, weights)
        assert steps[-1]["reward"] > 0.5 and steps[-1]["loss"] < steps[0]["loss"], f"after 20 steps: {steps[-1]}"
    return credit.total()


test_unit_kto_module()


# %%
def test_unit_all():
    """Every test again, in order; says which exercises are still open."""
    for name in ("feedback", "collate", "baseline", "loss", "gradient", "weights", "train", "module"):
        print(f"--- {name}")
        insight.run(globals()[f"test_unit_kto_{name}"], needs=f"kto-{name}")


# %%
test_unit_all()


# %% [markdown]
# ## Use it: one good answer in ten
#
# A log in which 10 % of the answers are good, and 20 % of the thumbs point the wrong way. Three ways to use it, on the same batches:
# imitate what got a thumb up (SFT), KTO with equal weights, KTO with balanced weights.

# %%
def run_sft(learning_rate, steps=40, **kind):
    """Cross-entropy on the answers that got a thumb up."""
    model = copy.deepcopy(base_model).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)
    for k in range(steps):
        liked = [t for t in thumbs(32, seed=100 + k, **kind) if t["label"]]
        if len(liked) < 2:
            continue
        batch = collate(liked)
        loss = -sequence_logps(model, batch).sum() / batch["completion_mask"].sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


# %%
def said(model, seed=7, prompts=120):
    """Share of samples in English word order, and their mean log-ratio to the base model, an estimate of the KL."""
    pairs = tiny.preferences(prompts, seed=seed)
    ids = tokenizer([p["prompt"] for p in pairs], padding=True, padding_side="left", return_tensors="pt")
    torch.manual_seed(seed)
    out = model.generate(**ids, max_new_tokens=24, do_sample=True, top_k=0)
    texts = tokenizer.batch_decode(out[:, ids["input_ids"].shape[1]:], skip_special_tokens=True)
    good = sum(text.startswith(p["prompt"].split()[0]) for text, p in zip(texts, pairs, strict=True))
    batch = collate([{**p, "completion": text, "label": True} for text, p in zip(texts, pairs, strict=True)])
    with torch.no_grad():
        drift = (sequence_logps(model, batch) - sequence_logps(base_model, batch)).mean().item()
    return good / prompts, drift


# %%
def comparison(up=0.1, flipped=0.2):
    labels = [t["label"] for k in range(40) for t in thumbs(32, seed=100 + k, up=up, flipped=flipped)]
    weights = balanced_weights(torch.tensor(labels))
    print(f"{sum(labels)} of {len(labels)} thumbs point up; weights {weights[0]:.2f} and {weights[1]:.2f}")
    makers = {"before": lambda: base_model, "SFT": lambda: run_sft(3e-4, up=up, flipped=flipped)}
    makers["KTO"] = lambda: run_kto(up=up, flipped=flipped)[0]
    makers["KTO, balanced"] = lambda: run_kto(up=up, flipped=flipped, weights=weights)[0]
    rows = {name: said(make()) for name, make in makers.items()}
    for name, (share, drift) in rows.items():
        print(f"{name:15} wanted order {share:4.0%}   KL {drift:5.2f}")
    return rows


# %%
rows = insight.run(comparison, needs="Exercises 1 to 7") if base_model else None
if rows:
    insight.bars({name: share for name, (share, _) in rows.items()}, ylabel="share of samples in the wanted order",
                 title="one good answer in ten, 20 % of the thumbs wrong")


# %% [markdown]
# Imitation has few answers to imitate, and most of those thumbs up are mistakes: of 10 % good and 90 % bad answers, a fifth turned
# round makes 26 % thumbs up, of which two in three are wrong. KTO hears the thumbs *down*, which are mostly right; but with equal
# weights they are nearly all it hears, and a model that is only told what not to say drifts off. Look at its KL.

# %% [markdown]
# ## On your Spark
#
# Full size: KTO on Llama 3.1 8B Instruct with LoRA and trl, bf16. The reference is the policy with its adapter off. First what the
# extra passes cost, in floating-point operations: 2 per weight and token forwards, 4 backwards (LoRA: about 2).

# %%
def operations(parameters=8.03e9, examples=16, tokens=512):
    each = parameters * examples * tokens
    return {"policy, own answers": (2 + 2) * each, "reference, own": 2 * each, "both, mismatched": 2 * 2 * each}


# %%
for what, count in operations().items():
    print(f"{what:22} {count / 1e12:6.0f} TFLOP a step")

# %% [markdown]
# ```bash
# sync; echo 3 | sudo tee /proc/sys/vm/drop_caches   # unified memory: the file cache would take from the GPU's share
# docker run --gpus all -it --rm --ipc=host -p 8888:8888 -v $PWD:/workspace \
#     -v $HOME/.cache/huggingface:/hf -e HF_HOME=/hf nvcr.io/nvidia/pytorch:25.11-py3
# ```
#
# In the container `pip install "trl>=1.16" "peft>=0.21"` and the course's package. Model and data (trl-lib/kto-mix-14k) need an
# account at Hugging Face. Then set `RUN_ON_SPARK`. This section has **not yet been measured on a GPU** by the authors: your
# record is the first.

# %%
RUN_ON_SPARK = False


# %%
def run_on_spark(path="meta-llama/Llama-3.1-8B-Instruct", steps=50):
    """Train a LoRA adapter by KTO; returns the record. Needs a GPU with 60 GB free."""
    from datasets import load_dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import KTOConfig, KTOTrainer

    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16, device_map="cuda")
    data = load_dataset("trl-lib/kto-mix-14k", split=f"train[:{steps * 16}]")
    weights = balanced_weights(torch.tensor(data["label"]))
    config = KTOConfig(output_dir="kto-8b", max_steps=steps, per_device_train_batch_size=16, learning_rate=5e-6, beta=0.1,
                       desirable_weight=weights[0], undesirable_weight=weights[1], bf16=True, max_length=1024,
                       logging_steps=1, report_to=[])
    trainer = KTOTrainer(model=model, args=config, train_dataset=data, processing_class=AutoTokenizer.from_pretrained(path),
                         peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"))
    torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    trainer.train()
    log = [line for line in trainer.state.log_history if "kl" in line]
    return {"gpu": torch.cuda.get_device_name(), "seconds_per_step": (time.perf_counter() - start) / steps,
            "peak_gb": torch.cuda.max_memory_allocated() / 1e9, "first_loss": log[0]["loss"], "last_loss": log[-1]["loss"],
            "last_kl": log[-1]["kl"]}


# %% [markdown]
# Record what you measured. `run_on_spark()` fills it in for you; a record by hand is as good. Without such a machine
# leave it as it is: nothing is lost.

# %%
spark_record = {"gpu": None, "seconds_per_step": None, "peak_gb": None, "first_loss": None, "last_loss": None, "last_kl": None}

# %%
if RUN_ON_SPARK:
    spark_record = run_on_spark()


# %% nbgrader={"grade": false, "grade_id": "kto-given-spark-record", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_spark_record(record: dict) -> str:
    """Form and plausibility of a record. Nothing here earns points; a person reads it."""
    wanted = {"seconds_per_step": (0.1, 600), "peak_gb": (16, 128), "first_loss": (0.3, 5), "last_loss": (0.01, 5),
              "last_kl": (0, 500)}
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
# **1. None is not a thumb down.**
#
# ```python
# label = (rating or 0) >= 4                                    # wrong: silence becomes disapproval, 90 % of the data
# if rating is None: continue                                   # right
# ```
#
# **2. A baseline that is trained.**
#
# ```python
# baseline = (policy_kl - reference_kl).mean().clamp(min=0)             # wrong: its gradient lowers "usual"
# baseline = (policy_kl - reference_kl).mean().clamp(min=0).detach()    # right
# ```
# The loss then falls without a single answer getting better.

# %% [markdown]
# **3. The maximum before the mean.**
#
# ```python
# (policy_kl - reference_kl).clamp(min=0).mean()                # wrong: biased upwards, never 0
# (policy_kl - reference_kl).mean().clamp(min=0)                # right
# ```
#
# **4. A mean for each kind.**
#
# ```python
# up_losses.mean() + down_losses.mean()                         # wrong: weights by accident; NaN for a batch of one kind
# torch.cat([up_losses, down_losses]).mean()                    # right
# ```

# %% [markdown]
# **5. DPO's sigma.**
#
# ```python
# -logsigmoid(z)                                                # wrong: not bounded; that is a logistic regression on thumbs
# torch.sigmoid(-z)                                             # right: hopeless examples stop pulling
# ```
#
# **6. Weights from the batch.**
#
# ```python
# weights = balanced_weights(batch["label"])                    # wrong: another loss in each step, an error for one kind
# weights = balanced_weights(all_labels)                        # right
# ```

# %% [markdown]
# ## Reflect
#
# Three questions on *your* code and *your* measurements. Five to ten lines each; numbers without a source in this
# notebook earn nothing.

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-kto-cost", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Reflection 1: time (3 points).** From `seconds` and the operations of *On your Spark*: what does the baseline cost, and does your
# measured factor agree with counting passes? (Your step trains all weights: 4 for its backward pass, not 2.) With `spread` and `history`: is the baseline worth its price in your run? Name two ways
# to make it cheaper and what each changes.
#
# ### BEGIN SOLUTION
# (With the student's numbers.) A step without it has one forward and backward of the policy (about 3 forward passes) and one of the
# reference: 4; the baseline adds two forwards: factor 1.5, measured a little more or less because of the loss and collate. In the run
# the baseline stays at or near 0, with a spread of the same size, so here it changes little. Cheaper: the reference's log-probabilities
# of mismatched answers computed beforehand (fixed matching, no change otherwise); a baseline every few steps, or a running mean (it
# lags); none at all (the reward then drifts with whatever every answer gains).
#
# ### BEGIN MARK SCHEME
# - 1 point: the factor from `seconds`, compared with a count of passes.
# - 1 point: reads size and spread of the baseline in their own run and judges.
# - 1 point: two ways, each with what it changes. "Smaller model" earns nothing.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-kto-pull", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Reflection 2: who is heard (3 points).** From `shares_by_beta` and `rows`: which examples did KTO stop hearing, and how did that help
# or hurt with 20 % of the thumbs wrong? Explain by `kto_gradient` why DPO would not have stopped. What happens to an answer that
# everybody likes and the reference finds almost impossible?
#
# ### BEGIN SOLUTION
# The pull is beta sigma(z) sigma(-z): below a tenth of its maximum beyond about |z| = 3.6, on both sides. Examples that the policy already
# contradicts strongly, wrong labels in the end among them, stop pulling; with DPO's sigma(-z) they would pull with full force for ever.
# In `rows` KTO reaches the wanted order in spite of wrong thumbs. The price: an answer that all like but that starts at z far below 0
# pulls next to nothing and is not learnt; a smaller beta, or imitation of such answers first, brings it within reach.
#
# ### BEGIN MARK SCHEME
# - 1 point: the two-sided pull, with numbers from `shares_by_beta`.
# - 1 point: connects it with wrong labels, and with DPO's one-sided pull.
# - 1 point: the liked but improbable answer is not learnt; a remedy.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-kto-production", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Reflection 3: production (3 points).** Your product logs 1,000,000 answers a month, 1 % of them rated, nine down for each up; some
# users always press the same thumb. From `to_feedback` to `train_kto`: what would you change in each step, which weights would you start
# with and why, and which two numbers would you watch on a dashboard?
#
# ### BEGIN SOLUTION
# 10,000 thumbs a month, 1,000 up. to_feedback: drop users without variation or centre ratings per user, remove duplicates, keep the model
# version (rewards need the reference that gave the answer). Weights: balanced_weights over all labels, about (9, 1), then down towards the
# paper's range if thumbs down are the more reliable ones. Batches of at least 16, shuffled so that both kinds are in each; never weights
# from a batch. Dashboard: the baseline (drift of everything) and the mean reward by kind of thumb on held-out feedback; also share of
# samples judged blindly each week. The loss alone tells little, since weights and class shares move it.
#
# ### BEGIN MARK SCHEME
# - 1 point: a filter or correction for users who always press the same thumb, at the right place.
# - 1 point: weights from the whole data, with the direction and size reasoned.
# - 1 point: two numbers that the notebook computes, and what each would show.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# What you built, in the numbers of your own run:

# %%
def summary():
    print(f"first loss {history[0]['loss']:.3f} (one half), last {history[-1]['loss']:.3f}, baseline {history[-1]['baseline']:.2f}")
    print(f"the baseline makes a step {seconds['with the baseline'] / seconds['without']:.2f} times as long")
    for name, (share, drift) in rows.items():
        print(f"{name:15} wanted order {share:4.0%}   KL {drift:5.2f}")


# %%
insight.run(summary, needs="Exercises 1 to 7")

# %% [markdown]
# ## Challenge (optional)
#
# 1. **Pairs as thumbs**: make two thumbs of each pair of 3.1.7 and compare KTO with DPO on the same texts.
# 2. **No baseline**: train with 0 in its place. At which batch size does it matter?
# 3. **Prospect theory**: replace sigma by the original value function of Kahneman and Tversky, and see why the authors did not.
#
# ## Further reading
#
# - K. Ethayarajh et al., *KTO: Model Alignment as Prospect Theoretic Optimization*, 2024, arXiv:2402.01306.
# - A. Tversky, D. Kahneman, *Advances in prospect theory: cumulative representation of uncertainty*, 1992.
# - K. D'Oosterlinck et al., *Anchored Preference Optimization*, 2024, arXiv:2408.06266: the variant without a baseline.
# - The documentation of trl on `KTOTrainer`: huggingface.co/docs/trl.

# %% [markdown]
# ## Clean up
#
# Drop the models and the figures; on a machine with a GPU this also returns its memory.

# %%
from matplotlib import pyplot

pyplot.close("all")
base_model = trained = None
if torch.cuda.is_available():
    torch.cuda.empty_cache()
