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
# # Lab 3.1.7: DPO training
#
# | | |
# |---|---|
# | Module | 3.1 LLM Fine-Tuning |
# | Time | 2 hours |
# | Difficulty | ★★★★☆ |
# | Hardware | gpu-optional: all points can be earned on a CPU; *On your Spark* is for a large GPU |
# | Points | 33 automatic, 9 read by a person |
# | Builds on | 3.1.6 Dataset Preparation, 3.1.1 LoRA from scratch |
#
# You are going to write direct preference optimisation (DPO) from the log-probabilities up, hold your loss against
# trl's `DPOTrainer` on the same batch, and teach a model that says things in two word orders to prefer one of them,
# better than supervised fine-tuning on the good answers alone can.

# %% [markdown]
# ## What you'll achieve
#
# By the end you have
#
# 1. **Systems understanding**: measured what the reference model costs in time and memory, and two ways out
#    (objective 3.1.3).
# 2. **Core skill**: written the log-probability of an answer, the DPO loss and its gradient, label smoothing and
#    the IPO variant (objective 3.1.3).
# 3. **A pattern**: a frozen twin of a model as an anchor, as in distillation and reinforcement learning.
# 4. **A tie to production**: a loss that equals that of trl's trainer, gradients included (objective 3.1.3).
# 5. **A trade-off**: seen how far $\beta$ lets a model run from its reference, and what runs away with it.

# %% [markdown]
# ## Before you start
#
# You have turned conversations into token ids with a mask for the answer (3.1.6), and trained adapters with a
# cross-entropy loss (3.1.1, 3.1.4). **What works**: a model imitates the answers it is shown. **The gap**: imitation
# knows no "rather not". It raises the good answer and, with it, everything that resembles it, the bad answer
# included. **This lab** trains on *pairs*: this one rather than that one.
#
# ```
# 3.1.6 answer masks ─────────┐
# 3.1.4 supervised training ──┼──>  3.1.7 DPO ──┬──>  3.1.8 SimPO and ORPO (no reference)
# 2.3   causal shift ─────────┘                 └──>  3.1.9 KTO (no pairs)
# ```

# %% [markdown]
# ### Skill checks
#
# Answer first, then unfold.
#
# <details><summary>1. Row t of a causal model's logits predicts which token?</summary>
#
# Token t + 1. The logits at the last position predict a token that is not there; the first token is predicted by
# nothing.
# </details>
#
# <details><summary>2. What is log(sigmoid(-200)) in float32, computed as written, and what is it in truth?</summary>
#
# As written -inf: sigmoid(-200) is 1e-87 and rounds to 0. In truth -200. `torch.nn.functional.logsigmoid` gets it
# right.
# </details>
#
# <details><summary>3. Two answers have log-probabilities -12 and -15. How much likelier is the first?</summary>
#
# e^3, about 20 times. Ratios of probabilities are differences of log-probabilities.
# </details>

# %% nbgrader={"grade": false, "grade_id": "dpo-given-setup", "locked": true, "schema_version": 3, "solution": false, "task": false}
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
from torch.nn.functional import log_softmax, logsigmoid

# %% nbgrader={"grade": false, "grade_id": "dpo-given-settings", "locked": true, "schema_version": 3, "solution": false, "task": false}
warnings.filterwarnings("ignore", category=FutureWarning)  # from inside transformers, nothing to do with you
torch.set_num_threads(1)  # with matrices this small, a second thread would mostly wait for the first
tokenizer = tiny.fast_tokenizer()  # a token is a byte; 257 ends a text, 258 fills up

# %% [markdown]
# Readiness check: the first two skills, run. It should print `ready`.

# %%
assert torch.log(torch.sigmoid(torch.tensor(-200.0))) == -math.inf
assert logsigmoid(torch.tensor(-200.0)) == -200
assert log_softmax(torch.zeros(4), dim=0)[2] == -math.log(4)
print("ready")

# %% [markdown]
# ## Why it matters
#
# Zephyr-7B, a small model of 2023, was first fine-tuned on conversations and then, for a few hours on 16 GPUs, by DPO
# on 64 thousand pairs that another model had ranked. It went from 6.6 to 7.3 on MT-Bench and passed Llama 2 Chat with
# 70 billion parameters (Tunstall et al. 2023, table 1), whose makers had collected over a million human judgements and
# trained by reinforcement learning.
#
# In production the pairs are often there already: an answer that was edited before it was sent, a draft that was
# thrown away, two versions in a test. DPO turns them into a loss that trains like any other: no reward model, no
# sampling while training, no critic. What it costs is a second model in memory, and a few traps, two of
# which you will see happen.

# %% [markdown]
# ## At the kitchen table
#
# A friend cooks well and asks how to cook for *you*. You could hand over recipes of dishes that you like (supervised
# fine-tuning). Or you taste two versions of each dish and point: rather this one.
#
# | kitchen | DPO |
# |---|---|
# | how your friend cooked before | the reference model |
# | how your friend cooks now | the policy, the model that is trained |
# | the dish you pointed at, and the other | the chosen and the rejected answer |
# | "more of this than you used to" | the log-ratio of policy to reference |
# | how far your friend may leave the old style | 1 / beta |
#
# **Where it breaks**: a friend who hears "rather the soup" still makes a soup. DPO only widens the *distance* between
# the two: it is content when both get rarer, if the bad one gets rarer faster. You will measure that.

# %% [markdown]
# ## Foundations
#
# An answer $y$ to a prompt $x$ has the log-probability $\log\pi(y|x)=\sum_t \log\pi(y_t\,|\,x,y_{<t})$. People compare
# a chosen answer $y_w$ with a rejected $y_l$; Bradley and Terry (1952) model that as
# $p(y_w \succ y_l)=\sigma(r(x,y_w)-r(x,y_l))$ with a reward $r$. Reinforcement learning would now fit $r$ and look for
# the policy with the highest reward that stays near a reference, $\max_\pi \mathbb{E}[r]-\beta\,\mathrm{KL}(\pi\,\|\,
# \pi_{ref})$. Its solution is known, $\pi^*\propto\pi_{ref}\,e^{r/\beta}$, and can be solved for the reward:
#
# $$r(x,y)=\beta\log\frac{\pi(y|x)}{\pi_{ref}(y|x)}+\beta\log Z(x)$$
#
# In a difference of two rewards of the same prompt $Z(x)$ drops out. What is left is a loss on the policy itself
# (Rafailov et al. 2023, equation 7):
#
# $$L=-\log\sigma(\beta\Delta),\qquad \Delta=\log\frac{\pi(y_w|x)}{\pi_{ref}(y_w|x)}-\log\frac{\pi(y_l|x)}{\pi_{ref}(y_l|x)}$$

# %% [markdown]
# ```
#  prompt + chosen   ──┬──> policy    ──> logits ──> log π(y_w)     ─┐
#  prompt + rejected ──┤              ──> logits ──> log π(y_l)     ─┤
#                      │                                             ├──> Δ ──> -log σ(βΔ)
#                      └──> reference ──> logits ──> log π_ref(y_w) ─┤
#                           (frozen)  ──> logits ──> log π_ref(y_l) ─┘
# ```
#
# ### One example in numbers
#
# The policy gives $(-12, -15)$ to chosen and rejected, the reference $(-13, -14)$, and $\beta=0.1$. The log-ratios
# are $+1$ and $-1$, so $\Delta=2$, $\beta\Delta=0.2$, and $L=-\log\sigma(0.2)=\log(1+e^{-0.2})=0.598$. A policy that
# equals its reference has $\Delta=0$ and $L=\log 2=0.693$, whatever $\beta$ is: every DPO run starts there.

# %%
print(f"{math.log1p(math.exp(-0.1 * ((-12 + 13) - (-15 + 14)))):.3f} and {math.log(2):.3f}")

# %% [markdown]
# ### The data
#
# Pairs of answers to the same prompt, from people who prefer English word order:

# %%
pair = tiny.preferences(1, seed=0)[0]
print(pair)


# %% [markdown]
# ## Part 1: The probability of an answer
#
# ### Exercise 1: a batch of pairs
#
# One forward pass is cheaper than two, so chosen and rejected answers go into *one* batch: first all chosen ones, then
# all rejected ones, padded on the right to the longest. The completion mask says which tokens are the answer. Prompt
# and padding are not: nobody chose them.

# %% nbgrader={"grade": false, "grade_id": "dpo-collate", "locked": false, "schema_version": 3, "solution": true, "task": false}
def collate(pairs: Sequence[Mapping[str, str]]) -> dict[str, Tensor]:
    """Put pairs of answers into one batch: row k is the chosen answer of pair k, row B + k its rejected one.

    Args:
        pairs: B dicts with "prompt", "chosen" and "rejected", all strings.

    Returns:
        "input_ids", "attention_mask" and "completion_mask", each int64 of shape (2 B, L), where L is the length of
        the longest row: prompt, answer and the end token `tokenizer.eos_token_id`. Shorter rows are filled up on the
        right with `tokenizer.pad_token_id`. The attention mask is 1 on all real tokens, the completion mask on
        those of the answer and on its end token.

    Raises:
        ValueError: there is no pair.

    TODO: Tokenize, append the end token, pad, and make both masks.

    APPROACH:
        1. Tokenize prompt and answer apart, because then you know where the answer begins.
        2. Append the end token to the answer, because to stop is a part of answering.
        3. Pad on the right, because a causal model never looks there, so no position shifts.

    EXAMPLE:
        >>> batch = collate([{"prompt": "a:", "chosen": "b", "rejected": "cd"}])
        >>> batch["input_ids"].tolist()
        [[97, 58, 98, 257, 258], [97, 58, 99, 100, 257]]
        >>> batch["completion_mask"].tolist()
        [[0, 0, 1, 1, 0], [0, 0, 1, 1, 1]]

    HINTS:
        1. `tokenizer(text)["input_ids"]` is a list of ids, and lists can be added and multiplied.
        2. Build the three rows of one text in one loop over ("chosen", "rejected"), then pad them all.
        3. The masks of one row are [0] and [1] times the lengths of prompt, answer and padding.
    """
    ### BEGIN SOLUTION
    if not pairs:
        raise ValueError("collate() needs at least one pair")
    rows = []
    for side in ("chosen", "rejected"):
        for pair in pairs:
            prompt = tokenizer(pair["prompt"])["input_ids"]
            rows.append((prompt, tokenizer(pair[side])["input_ids"] + [tokenizer.eos_token_id]))
    longest = max(len(prompt) + len(answer) for prompt, answer in rows)
    batch = {"input_ids": [], "attention_mask": [], "completion_mask": []}
    for prompt, answer in rows:
        p, a = len(prompt), len(answer)
        rest = longest - p - a
        batch["input_ids"].append(prompt + answer + [tokenizer.pad_token_id] * rest)
        batch["attention_mask"].append([1] * (p + a) + [0] * rest)
        batch["completion_mask"].append([0] * p + [1] * a + [0] * rest)
    return {name: torch.tensor(values) for name, values in batch.items()}
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-dpo-collate", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Checks: ids, masks, order of rows, padding on the right, the end token; an empty list is refused.
# Catches: pairs side by side, prompts in the mask, a forgotten end token, padding that is attended to.
# A pass prints nothing.
def test_unit_dpo_collate():
    def check(pairs, what):
        want = {"input_ids": [], "attention_mask": [], "completion_mask": []}
        for side in ("chosen", "rejected"):
            for p in pairs:
                start, end = len(p["prompt"].encode()), len((p["prompt"] + p[side]).encode()) + 1
                text = [*(p["prompt"] + p[side]).encode(), 257]
                length = max(len((q["prompt"] + q[s]).encode()) + 1 for q in pairs for s in ("chosen", "rejected"))
                want["input_ids"].append((text + [258] * length)[:length])
                want["attention_mask"].append([int(t < end) for t in range(length)])
                want["completion_mask"].append([int(start <= t < end) for t in range(length)])
        got = collate(pairs)
        checking.equal(sorted(got), sorted(want), what=f"keys of the batch of {what}")
        for name, rows in want.items():
            checking.equal(got[name], torch.tensor(rows), what=f"{name} of {what}", hint="chosen rows first")

    check([{"prompt": "q: ", "chosen": "yes", "rejected": "no"}], "one pair")
    check(tiny.preferences(3, seed=1), "three pairs")
    ### BEGIN HIDDEN TESTS
    # check: an empty list
    # hint: what should a batch of nothing be? Raise ValueError before you build one.
    checking.raises(ValueError, collate, [], what="collate([])")
    # check: texts of many lengths, empty ones and letters of several bytes
    # hint: count tokens, not characters; an empty answer still has its end token.
    odd = {"prompt": "", "chosen": "ä€", "rejected": ""}, {"prompt": "é", "chosen": "", "rejected": "zz zz zz"}
    check(list(odd), "odd texts")
    seed = checking.secret_seed()
    check(tiny.preferences(5, seed, longer="rejected") + tiny.preferences(4, seed + 1, longer="chosen"), "nine pairs")
    ### END HIDDEN TESTS


test_unit_dpo_collate()


# %% [markdown]
# ### What just happened?
#
# Two rows for each pair, and three views of each. Read a row with its masks:

# %%
def show(row=0):
    batch = collate([pair, {**pair, "rejected": "no."}])
    ids, answer = batch["input_ids"][row], batch["completion_mask"][row].bool()
    print("answer:", repr(tokenizer.decode(ids[answer])), "  all:", repr(tokenizer.decode(ids)))


# %%
for row in range(4):
    insight.run(lambda row=row: show(row), needs="Exercise 1 (collate)")


# %% [markdown]
# ### Exercise 2: log-probabilities of answers
#
# $\log\pi(y|x)$ is a sum over the tokens of the answer. Three things go wrong here, and none of them raises an error:
# the shift by one, the mask (which must shift too), and half precision, in which a sum of a few hundred terms loses
# its third digit. The result feeds a *difference* of such sums, so errors do not cancel.

# %% nbgrader={"grade": false, "grade_id": "dpo-logps", "locked": false, "schema_version": 3, "solution": true, "task": false}
def sequence_logps(logits: Tensor, input_ids: Tensor, completion_mask: Tensor) -> Tensor:
    """Sum the log-probabilities of the answers' tokens, one sum for each row.

    Args:
        logits: (N, L, V), as a causal model returns them; float64, float32, bfloat16 or float16.
        input_ids: (N, L), int64.
        completion_mask: (N, L), int64: 1 on the answer's tokens. A 1 at position 0 does not count: nothing predicts
            the first token.

    Returns:
        Tensor of shape (N,): float64 for float64 logits, else float32. A row whose mask is all 0 sums to 0.

    TODO: Shift, take log_softmax in at least float32, pick the tokens' entries, mask, sum.

    APPROACH:
        1. Drop the last logits and the first token, because row t predicts token t + 1.
        2. Normalise by log_softmax in float32 or better, because a product of probabilities would underflow.
        3. Pick by gather and sum under the shifted mask, because prompt and padding were chosen by nobody.

    EXAMPLE:
        >>> logits = torch.zeros(1, 3, 4)
        >>> round(sequence_logps(logits, torch.tensor([[0, 1, 2]]), torch.tensor([[0, 0, 1]])).item(), 4)
        -1.3863

    HINTS:
        1. Three slices: logits without its last position, ids and mask without their first.
        2. `gather(dim, index)` wants an index with as many axes as the tensor: unsqueeze, then squeeze.
        3. `logits.float()` would make float64 less exact: look at the dtype first.
    """
    ### BEGIN SOLUTION
    if logits.dtype != torch.float64:
        logits = logits.float()
    logps = log_softmax(logits[:, :-1], dim=-1)
    picked = logps.gather(2, input_ids[:, 1:].unsqueeze(2)).squeeze(2)
    return (picked * completion_mask[:, 1:]).sum(dim=1)
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "dpo-given-draw", "locked": true, "schema_version": 3, "solution": false, "task": false}
def draw(seed: int, *shape: int, scale: float = 1.0) -> Tensor:
    """Normal float64 numbers from a seed."""
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# %% nbgrader={"grade": false, "grade_id": "dpo-given-draw-batch", "locked": true, "schema_version": 3, "solution": false, "task": false}
def draw_batch(seed: int, rows: int, length: int, vocab: int, scale: float = 3.0) -> tuple[Tensor, Tensor, Tensor]:
    """Random logits, ids and masks; the mask of a row begins and ends anywhere."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(vocab, (rows, length), generator=generator)
    edges = torch.randint(length + 1, (rows, 2), generator=generator).sort(dim=1).values
    place = torch.arange(length)
    mask = ((place >= edges[:, :1]) & (place < edges[:, 1:])).long()
    return draw(seed, rows, length, vocab, scale=scale), ids, mask


# %% [markdown]
# The oracle of the tests is a loop over tokens in Python floats: no tensors, no shift by slices, nothing in common with
# your code but the definition.

# %% nbgrader={"grade": false, "grade_id": "dpo-given-loop", "locked": true, "schema_version": 3, "solution": false, "task": false}
def token_loop(logits: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
    """What sequence_logps should give, in float64."""
    sums = []
    for row, tokens, answer in zip(logits.tolist(), ids.tolist(), mask.tolist(), strict=True):
        terms = []
        for t in range(1, len(tokens)):
            top = max(row[t - 1])
            norm = top + math.log(math.fsum(math.exp(v - top) for v in row[t - 1]))
            terms += [row[t - 1][tokens[t]] - norm] if answer[t] else []
        sums.append(math.fsum(terms))
    return torch.tensor(sums, dtype=torch.float64)


# %% nbgrader={"grade": false, "grade_id": "dpo-given-check-logps", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_logps(logits: Tensor, ids: Tensor, mask: Tensor, what: str) -> None:
    """Hold sequence_logps against the loop, in float64."""
    with checking.unchanged(logits=logits, input_ids=ids, completion_mask=mask):
        got = sequence_logps(logits, ids, mask)
    # L terms below 100 with a few roundings of 1.1e-16 each: 32 * 100 * 1e-15.
    checking.close(got, token_loop(logits, ids, mask), rtol=0, atol=4e-12, what=what,
                   hint="row t of the logits predicts token t + 1, and the mask belongs to the token")


# %% nbgrader={"grade": true, "grade_id": "test-dpo-logps", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Checks: sums against a loop in float64, masks that begin and end anywhere, and that nothing else matters.
# Catches: no shift, a mask that is not shifted, means for sums, the prompt counted.
# A pass prints nothing.
def test_unit_dpo_logps():
    logits, ids, _ = draw_batch(0, 2, 5, 4)
    check_logps(logits, ids, torch.tensor([[0, 0, 1, 1, 1], [0, 1, 1, 0, 0]]), "two rows")
    check_logps(logits, ids, torch.zeros_like(ids), "rows without an answer")
    ### BEGIN HIDDEN TESTS
    # check: answers that begin and end anywhere
    # hint: a token of the answer is predicted by the position before it, also when that is the prompt's last.
    seed = checking.secret_seed()
    for number, (rows, length, vocab) in enumerate([(7, 9, 5), (1, 2, 3), (16, 32, 11)]):
        check_logps(*draw_batch(seed + number, rows, length, vocab), f"{rows} rows of {length} tokens")
    # check: an answer that begins at the very first token, and a row of one token
    # hint: the first token of a row is predicted by nothing, so it adds nothing.
    logits, ids, mask = draw_batch(seed, 4, 6, 5)
    check_logps(logits, ids, torch.ones_like(mask), "all tokens marked")
    check_logps(logits[:, :1], ids[:, :1], mask[:, :1], "rows of one token")
    # check: what stands under no mark does not matter
    # hint: are prompt and padding really left out, the logits of the last position too?
    changed, keep = logits.clone(), torch.tensor([0, 0, 1, 1, 1, 1]).expand(4, 6)
    changed[:, -1] += 7
    checking.equal(sequence_logps(changed, ids, keep), sequence_logps(logits, ids, keep),
                   what="sums after a change of the last logits")
    ### END HIDDEN TESTS


test_unit_dpo_logps()


# %% [markdown]
# Numbers in real life: half precision, logits of any size, and a gradient that has to come back through all of it.

# %% nbgrader={"grade": true, "grade_id": "test-dpo-logps-numbers", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Checks: float32 sums of float32 and bfloat16 logits, logits of thousands, and the gradient in closed form.
# Catches: half precision that stays, overflow, log(softmax()), a result that is cut off from its graph.
# A pass prints nothing.
def test_unit_dpo_logps_numbers():
    logits, ids, mask = draw_batch(1, 3, 24, 50)
    for kind in (torch.float32, torch.bfloat16):
        low = logits.to(kind)
        # Up to 23 sums of a log and a logit below 20, each off by a few 2**-24 of 20: 23 * 20 * 4 * 6e-8.
        checking.close(sequence_logps(low, ids, mask), token_loop(low.double(), ids, mask).float(), rtol=0, atol=1.2e-4,
                       what=f"sums of {kind} logits", hint="float32 sums, whatever the logits are")
    ### BEGIN HIDDEN TESTS
    # check: logits of thousands
    # hint: exp(1000) overflows; torch has a function that never takes it.
    huge, ids, mask = draw_batch(checking.secret_seed(), 4, 8, 6, scale=1e4)
    huge = huge.float()
    ids[0, 1], mask[0, 1] = huge[0, 0].argmin(), 1  # an unlikely token counts, whatever was drawn
    # Differences of logits up to 1e5 that were rounded to float32: 7 * 1e5 * 2**-23.
    checking.close(sequence_logps(huge, ids, mask), token_loop(huge.double(), ids, mask).float(), rtol=1e-6, atol=0.1,
                   what="sums of huge logits")
    # check: the gradient
    # hint: the result must stay connected to the logits: no detach, no .item(), no new tensor from numbers.
    logits, ids, mask = draw_batch(checking.secret_seed(), 3, 5, 4)
    mask[0, 1] = 1  # a token counts, whatever was drawn
    weights = draw(5, 3)
    (grad,) = torch.autograd.grad((sequence_logps(logits.requires_grad_(), ids, mask) * weights).sum(), logits)
    onehot = nn.functional.one_hot(ids[:, 1:], 4) - torch.softmax(logits.detach()[:, :-1], dim=2)
    want = torch.zeros_like(grad)
    want[:, :-1] = onehot * (weights[:, None] * mask[:, 1:])[:, :, None]
    checking.close(grad, want, rtol=0, atol=1e-13, what="gradient with respect to the logits")
    ### END HIDDEN TESTS


test_unit_dpo_logps_numbers()


# %% [markdown]
# ### What just happened?
#
# One sum a row, whatever stands around the answer. The next helper runs a model on a batch and hands its logits to your
# function. All that follows goes through it.

# %% nbgrader={"grade": false, "grade_id": "dpo-given-pair-logps", "locked": true, "schema_version": 3, "solution": false, "task": false}
def pair_logps(model: nn.Module, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The log-probabilities of the chosen and of the rejected answers of a batch, each (B,). One forward pass."""
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    chosen, rejected = sequence_logps(logits, batch["input_ids"], batch["completion_mask"]).chunk(2)
    return chosen, rejected


# %%
def untrained():
    chosen, rejected = pair_logps(tiny.llama(0), collate([pair]))
    per_token = chosen.item() / (len(pair["chosen"]) + 1)
    print(f"chosen {chosen.item():.2f}, rejected {rejected.item():.2f}: {per_token:.2f} a token, and -log(259) = "
          f"{-math.log(259):.2f}")


# %%
insight.run(untrained, needs="Exercises 1 and 2")


# %% [markdown]
# ### Systems insight 1 of 3: what does a row of logits cost?
#
# **Checkpoint**: you can score answers. **Predict, and write it down**: our vocabulary has 259 entries, Llama 3's has
# 128,256. For a batch of 16 rows of 40 tokens, how many bytes does your `sequence_logps` keep for the backward pass,
# and how many would it keep for Llama 3?

# %%
def bytes_kept(vocab, rows=16, length=40):
    """Bytes that sequence_logps saves for the backward pass, its input left out."""
    logits = torch.zeros(rows, length, vocab, requires_grad=True)
    seen = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        seen.setdefault(storage.data_ptr(), (storage.nbytes(), tensor))  # holding it, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        sequence_logps(logits, torch.zeros(rows, length, dtype=torch.long), torch.ones(rows, length, dtype=torch.long))
    seen.pop(logits.untyped_storage().data_ptr(), None)
    return sum(size for size, _ in seen.values())


# %%
def logits_memory(vocabs=(259, 1024, 4096, 16384)):
    kept = {v: bytes_kept(v) / 2**20 for v in vocabs}
    insight.lines(list(kept), {"saved for backward": list(kept.values())}, xlabel="size of the vocabulary",
                  ylabel="memory [MiB]", logx=True, logy=True)
    at_llama = kept[16384] * 128256 / 16384
    print(f"ours: {kept[259]:.2f} MiB; scaled up to Llama 3's vocabulary: {at_llama:,.0f} MiB, for 640 tokens")
    return kept


kept = insight.run(logits_memory, needs="Exercise 2 (sequence_logps)")


# %% [markdown]
# **What it means in production.** The log-softmax of all logits is kept, as large as the logits themselves in float32:
# half a megabyte a *token* at Llama 3's vocabulary, and DPO has two answers to each prompt. The weights are
# fixed; this grows with every token: some 31,000 tokens in a step weigh as much as an 8B model in bf16. Trainers therefore split the sum over the vocabulary into pieces, or fuse it with the
# last layer, so that the logits never exist as a whole. trl does so since version 1.

# %% [markdown]
# ## Part 2: The loss
#
# ### Exercise 3: DPO, with label smoothing
#
# $L=-\log\sigma(\beta\Delta)$, averaged over the pairs. If a share $\varepsilon$ of the pairs is labelled the wrong way
# round, the expected loss is that of both directions (conservative DPO, Mitchell 2023):
#
# $$L_\varepsilon=-(1-\varepsilon)\log\sigma(\beta\Delta)-\varepsilon\log\sigma(-\beta\Delta)$$
#
# Early in a run $\beta\Delta$ is near 0. Late in one, or with a bug, it may be 1000 or -1000, and the loss must
# still be a number with a gradient.

# %% nbgrader={"grade": false, "grade_id": "dpo-loss", "locked": false, "schema_version": 3, "solution": true, "task": false}
def dpo_loss(
    chosen: Tensor,
    rejected: Tensor,
    ref_chosen: Tensor,
    ref_rejected: Tensor,
    beta: float,
    label_smoothing: float = 0.0,
) -> Tensor:
    """The DPO loss of a batch of pairs (Rafailov et al. 2023, equation 7), with label smoothing.

    Args:
        chosen, rejected: log-probabilities of the answers under the policy, each of shape (B,), in nats.
        ref_chosen, ref_rejected: the same under the reference.
        beta: strength of the pull to the reference, above 0.
        label_smoothing: epsilon, the share of pairs that is labelled the wrong way round; at least 0, below 0.5.

    Returns:
        The mean loss over the pairs, a tensor without axes, of the dtype of the log-probabilities.

    Raises:
        ValueError: beta or label_smoothing is out of its range.

    TODO: Form Delta and average the smoothed -log sigmoid(beta Delta).

    APPROACH:
        1. Take the log-ratio of policy to reference for each answer, because that is what the reward is made of.
        2. Use logsigmoid, because log(sigmoid(z)) is -inf in float32 from about z = -89 on, its gradient NaN.
        3. Weigh both directions by the share of labels that point that way, because then noise is priced in.

    EXAMPLE:
        >>> at = [torch.tensor([v]) for v in (-12.0, -15.0, -13.0, -14.0)]
        >>> round(dpo_loss(*at, beta=0.1).item(), 4), round(dpo_loss(*at, beta=0.1, label_smoothing=0.1).item(), 4)
        (0.5981, 0.6181)

    HINTS:
        1. Delta has four terms, two with a plus. Which raise the policy's margin?
        2. sigma(-z) = 1 - sigma(z), but the logarithm of the right side loses all digits for large z.
        3. With z = beta * Delta there are two terms, logsigmoid(z) and logsigmoid(-z). Mind both minus signs.
    """
    ### BEGIN SOLUTION
    if beta <= 0:
        raise ValueError(f"beta must be above 0, not {beta}")
    if not 0 <= label_smoothing < 0.5:
        raise ValueError(f"label_smoothing must be at least 0 and below 0.5, not {label_smoothing}")
    z = beta * ((chosen - ref_chosen) - (rejected - ref_rejected))
    return (-(1 - label_smoothing) * logsigmoid(z) - label_smoothing * logsigmoid(-z)).mean()
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "dpo-given-logps", "locked": true, "schema_version": 3, "solution": false, "task": false}
def draw_logps(seed: int, pairs: int, scale: float = 3.0) -> list[Tensor]:
    """Log-probabilities (chosen, rejected, ref_chosen, ref_rejected) in float64, each (pairs,)."""
    return [-20 + draw(seed + 1000 * k, pairs, scale=scale) for k in range(4)]


# %% nbgrader={"grade": false, "grade_id": "dpo-given-by-hand", "locked": true, "schema_version": 3, "solution": false, "task": false}
def by_hand(logps: Sequence[Tensor], loss_of_delta) -> float:
    """The mean over the pairs of a function of Delta, in Python's floats."""
    deltas = [(c - rc) - (r - rr) for c, r, rc, rr in zip(*(t.tolist() for t in logps), strict=True)]
    return math.fsum(map(loss_of_delta, deltas)) / len(deltas)


def softplus(z: float) -> float:
    """log(1 + e^z), exact for any z."""
    return max(z, 0.0) + math.log1p(math.exp(-abs(z)))


# %% nbgrader={"grade": false, "grade_id": "dpo-given-check-loss", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_loss(logps: Sequence[Tensor], beta: float, epsilon: float, what: str) -> Tensor:
    """Hold dpo_loss against the formula; returns the loss."""
    got = dpo_loss(*logps, beta, epsilon) if epsilon else dpo_loss(*logps, beta)
    want = by_hand(logps, lambda d: (1 - epsilon) * softplus(-beta * d) + epsilon * softplus(beta * d))
    # float64: roundings of 1.1e-16; torch's softplus goes over to a straight line at 20, which is off by 2.1e-9.
    checking.close(got.detach(), torch.tensor(want, dtype=torch.float64), rtol=1e-12, atol=3e-9, what=what)
    return got


# %% nbgrader={"grade": true, "grade_id": "test-dpo-loss", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: the loss against Python floats, with and without smoothing, its limits, huge margins, and refusals.
# Catches: a sign, a forgotten reference or beta, sums for means, smoothing the wrong way, log(sigmoid()).
# A pass prints what each of two checks earned.
def test_unit_dpo_loss():
    credit = checking.Credit(4)
    with credit.check("the loss", points=3, hint="Delta = policy margin - reference margin"):
        check_loss(draw_logps(0, 4), 0.1, 0.0, "four pairs, beta 0.1")
        check_loss(draw_logps(1, 3), 2.0, 0.25, "three pairs, beta 2, smoothing 0.25")
        same = draw_logps(2, 5)
        start = dpo_loss(same[0], same[1], same[0], same[1], 7.0)
        checking.close(start, torch.tensor(math.log(2), dtype=torch.float64), rtol=1e-12, atol=0,
                       what="the loss of a policy that equals its reference", hint="log 2")
        ### BEGIN HIDDEN TESTS
        # check: many pairs, betas and shares of wrong labels
        # hint: compare with the formula, term by term, for a single pair.
        seed = checking.secret_seed()
        for number, (beta, epsilon) in enumerate([(0.01, 0.0), (0.5, 0.1), (5.0, 0.49), (1.0, 0.0)]):
            check_loss(draw_logps(seed + number, 1 + 8 * number), beta, epsilon, f"beta {beta}, smoothing {epsilon}")
        # check: a beta that is nearly 0
        # hint: what is the loss when beta goes to 0?
        check_loss(draw_logps(seed, 9), 1e-9, 0.0, "beta 1e-9")
        # check: beta and label_smoothing out of their range
        # hint: the docstring says what is refused, and 0 itself is on one side of each limit.
        for beta, epsilon in [(0.0, 0.0), (-0.1, 0.0), (0.1, 0.5), (0.1, -0.01)]:
            checking.raises(ValueError, dpo_loss, *same, beta, epsilon, what=f"beta {beta}, smoothing {epsilon}")
        ### END HIDDEN TESTS
    with credit.check("margins of any size, with a gradient", points=1, hint="logsigmoid, for both directions"):
        for epsilon in (0.0, 0.1):
            logps = [t.requires_grad_() for t in draw_logps(3, 6, scale=2e3)]
            loss = check_loss(logps, 1.0, epsilon, f"margins of thousands, smoothing {epsilon}")
            (grad,) = torch.autograd.grad(loss, logps[0])
            assert bool(torch.isfinite(grad).all()), f"the gradient is not finite: {grad}"
            assert bool((grad.abs() <= 1 / 6 + 1e-12).all()) and bool((grad != 0).any()), f"an odd gradient: {grad}"
    return credit.total()


test_unit_dpo_loss()


# %% [markdown]
# ### What just happened?
#
# A loss of log 2 at the start means "no opinion yet". It is the first thing to look at in a real run: a DPO run whose
# first loss is *not* 0.693 has a policy that differs from its reference, or a bug in front of the loss.
#
# ### Exercise 4: the gradient, without autograd
#
# Differentiate $-\log\sigma(\beta\Delta)$ by hand: the derivative of $-\log\sigma(z)$ is $-\sigma(-z)$. So a pair pulls
# its chosen answer up and pushes the rejected one down *with the same force*, $\beta\,\sigma(-\beta\Delta)$: at most
# $\beta$, and next to nothing when the pair is already told apart. Write it down; you will need it to understand what
# training does. (No smoothing here.)

# %% nbgrader={"grade": false, "grade_id": "dpo-gradient", "locked": false, "schema_version": 3, "solution": true, "task": false}
def dpo_gradient(
    chosen: Tensor, rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, beta: float
) -> tuple[Tensor, Tensor]:
    """Derivatives of the mean DPO loss with respect to the policy's log-probabilities, in closed form.

    Args:
        chosen, rejected, ref_chosen, ref_rejected: (B,), as in `dpo_loss`.
        beta: above 0.

    Returns:
        The derivatives with respect to `chosen` and to `rejected`, each (B,), without a graph.

    TODO: Compute the weight of each pair, divide by the number of pairs, and give it both signs.

    APPROACH:
        1. Form beta Delta for each pair, because the weight depends on nothing else.
        2. Take sigmoid of its negative, because a pair that is already right should weigh little.
        3. Divide by B, because the loss is a mean.

    EXAMPLE:
        >>> at = [torch.tensor([v]) for v in (-12.0, -15.0, -13.0, -14.0)]
        >>> [round(g.item(), 5) for g in dpo_gradient(*at, beta=0.1)]
        [-0.04502, 0.04502]

    HINTS:
        1. A smaller loss wants a larger `chosen`. What sign has its derivative?
        2. The chain rule gives one factor beta.
        3. `torch.sigmoid` is exact for large negative arguments, and 1 - sigmoid is not.
    """
    ### BEGIN SOLUTION
    with torch.no_grad():
        delta = (chosen - ref_chosen) - (rejected - ref_rejected)
        weight = beta * torch.sigmoid(-beta * delta) / len(chosen)
        return -weight, weight
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-dpo-gradient", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Checks: both derivatives against autograd through an independent formula, also where the loss is nearly flat.
# Catches: wrong signs, a missing beta or 1/B, sigma(z) for sigma(-z), 1 - sigmoid without digits.
# A pass prints nothing.
def test_unit_dpo_gradient():
    def check(logps, beta, what, rtol=1e-9):
        policy = [t.clone().requires_grad_() for t in logps[:2]]
        got = dpo_gradient(*policy, *logps[2:], beta)
        delta = (policy[0] - policy[1]) - (logps[2] - logps[3])
        want = torch.autograd.grad(nn.functional.softplus(-beta * delta).mean(), policy)
        for name, mine, theirs in zip(("chosen", "rejected"), got, want, strict=True):
            checking.equal(mine.requires_grad, False, what=f"requires_grad of the derivative by {name}, {what}")
            # beta Delta is rounded to 100 * 1.1e-16, which is the relative error of exp(beta Delta); softplus by torch
            # goes over to a straight line at 20 with an error of 2e-9, which stays below it.
            checking.close(mine, theirs, rtol=rtol, atol=1e-8 * beta, what=f"derivative by {name}, {what}")

    check(draw_logps(0, 4), 0.1, "four pairs")
    check(draw_logps(1, 1), 3.0, "one pair")
    ### BEGIN HIDDEN TESTS
    # check: many pairs and betas
    # hint: divide by the number of pairs once, and multiply by beta once.
    seed = checking.secret_seed()
    for number, beta in enumerate((0.02, 0.7, 4.0)):
        check(draw_logps(seed + number, 3 + 10 * number), beta, f"beta {beta}")
    # check: a pair that the policy tells apart by far
    # hint: is your weight still above 0 when beta times Delta is 50?
    at = [torch.tensor([v], dtype=torch.float64) for v in (0.0, -50.0, 0.0, 0.0)]
    for mine in dpo_gradient(*at, 1.0):
        # exp(-50) to a relative 1e-12; 1 - sigmoid(50) would be exactly 0.
        checking.close(mine.abs(), torch.tensor([math.exp(-50)], dtype=torch.float64), rtol=1e-12, atol=0,
                       what="weight of a pair with a margin of 50")
    ### END HIDDEN TESTS


test_unit_dpo_gradient()


# %% [markdown]
# ### What just happened?
#
# The weight is a *soft selection*: pairs that the policy gets wrong pull with force $\beta$, right ones hardly at all.

# %%
def pull(margins=range(-60, 61, 5)):
    zero = torch.zeros(1)
    ats = [torch.tensor([float(m)]) for m in margins]
    curves = {f"beta = {b}": [-dpo_gradient(at, zero, zero, zero, b)[0].item() / b for at in ats] for b in (0.05, 0.1, 0.5)}
    insight.lines(list(margins), curves, xlabel="Delta [nats]", ylabel="pull on the chosen answer / beta")


# %%
insight.run(pull, needs="Exercise 4 (dpo_gradient)")


# %% [markdown]
# ### Exercise 5: rewards, margins and accuracy
#
# DPO has no reward model, but it has a reward: $\hat r=\beta\,\log(\pi/\pi_{ref})$, up to a constant of the prompt. What
# people watch during training are these *implicit rewards*: their means, the margin, and how often the chosen answer has
# the larger one. A tie is not a win.

# %% nbgrader={"grade": false, "grade_id": "dpo-rewards", "locked": false, "schema_version": 3, "solution": true, "task": false}
def preference_metrics(
    chosen: Tensor, rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, beta: float
) -> dict[str, float]:
    """What to watch during training: implicit rewards, their margin, accuracy, and displacement.

    Args:
        chosen, rejected, ref_chosen, ref_rejected: (B,), as in `dpo_loss`.
        beta: above 0.

    Returns:
        Python floats: "chosen" and "rejected", the mean implicit rewards beta * (policy - reference); "margin", the mean of
        their difference; "accuracy", the share of pairs with the larger reward on the chosen answer, strictly;
        "displaced", the share of pairs whose margin is above 0 although their chosen reward is below 0.

    TODO: Compute both rewards for each pair, and from them the five numbers.

    APPROACH:
        1. Compute rewards for each pair first, because shares cannot be had from means.
        2. Compare strictly, because a policy that equals its reference must not look half trained.
        3. Return Python floats, because metrics that keep a graph keep a whole forward pass in memory.

    EXAMPLE:
        >>> at = [torch.tensor(v) for v in ([-12.0, -9.0], [-15.0, -9.0], [-13.0, -8.0], [-14.0, -5.0])]
        >>> {name: round(value, 3) for name, value in preference_metrics(*at, beta=0.1).items()}
        {'chosen': 0.0, 'rejected': -0.25, 'margin': 0.25, 'accuracy': 1.0, 'displaced': 0.5}

    HINTS:
        1. In the example the rewards are (0.1, -0.1) and (-0.1, -0.4).
        2. A comparison of tensors is a tensor of truth values, and the mean of its floats is a share.
        3. "Displaced" needs two conditions at once, for the same pair: &.
    """
    ### BEGIN SOLUTION
    good = beta * (chosen - ref_chosen)
    bad = beta * (rejected - ref_rejected)
    return {
        "chosen": good.mean().item(),
        "rejected": bad.mean().item(),
        "margin": (good - bad).mean().item(),
        "accuracy": (good > bad).float().mean().item(),
        "displaced": ((good > bad) & (good < 0)).float().mean().item(),
    }
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-dpo-rewards", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Checks: the five numbers against Python floats, ties, and that they are plain floats.
# Catches: beta or the reference forgotten, ties counted as wins, a share of the wrong pairs, tensors with a graph.
# A pass prints nothing.
def test_unit_dpo_rewards():
    def check(logps, beta, what):
        good, bad = ([beta * (p - q) for p, q in zip(logps[k].tolist(), logps[k + 2].tolist(), strict=True)] for k in (0, 1))
        pairs, n = list(zip(good, bad, strict=True)), len(good)
        want = {"chosen": math.fsum(good) / n, "rejected": math.fsum(bad) / n,
                "margin": math.fsum(g - b for g, b in pairs) / n, "accuracy": sum(g > b for g, b in pairs) / n,
                "displaced": sum(b < g < 0 for g, b in pairs) / n}
        got = preference_metrics(*logps, beta)
        checking.equal(sorted(got), sorted(want), what=f"names of the metrics, {what}")
        for name, value in want.items():
            checking.equal(type(got[name]), float, what=f"type of {name!r}", hint=".item() makes a Python float")
            # Sums of at most 64 float64 numbers below 100; shares may have been averaged in float32, 64 * 6e-8.
            checking.close(got[name], value, rtol=0, atol=4e-6 if name in ("accuracy", "displaced") else 1e-11,
                           what=f"{name!r} of {what}")

    check(draw_logps(0, 8), 0.1, "eight pairs")
    tied = draw_logps(1, 4)
    check([tied[0], tied[1], tied[0], tied[1]], 0.5, "a policy that equals its reference")
    ### BEGIN HIDDEN TESTS
    # check: many pairs, with a graph, and a few ties
    # hint: which pairs count for "displaced"? Write the rewards of three pairs down and count by hand.
    logps = draw_logps(checking.secret_seed(), 64)
    for k, rewards in ((0, (0, -0.5, 1, 0, -1, -0.25)), (1, (-1, -0.5, 1, 0, -2, 0.5))):
        logps[k + 2][:6] = -4.0
        logps[k][:6] = -4 + torch.tensor(rewards, dtype=torch.float64)
    logps[0].requires_grad_()
    check(logps, 0.3, "64 pairs")
    # check: one pair
    # hint: shares of one pair are 0.0 or 1.0.
    check([t[:1] for t in draw_logps(4, 3)], 1.0, "one pair")
    ### END HIDDEN TESTS


test_unit_dpo_rewards()


# %% [markdown]
# ### What just happened?
#
# "displaced" counts what the friend at the kitchen table did: the margin grew, and yet the good answer became *rarer*
# than it was. A growing margin looks like success on every dashboard. This number is on none of them.
#
# ### Exercise 6: IPO, which knows when to stop
#
# $-\log\sigma$ is never satisfied: where all labels agree, DPO drives the margin to infinity, and nothing holds the
# policy near its reference any more. IPO (Azar et al. 2023, equation 17) asks for a margin of $1/(2\beta)$ and no more:
#
# $$L_{IPO}=\Bigl(\Delta'-\tfrac{1}{2\beta}\Bigr)^2,\qquad \Delta'=\frac{1}{|y_w|}\log\frac{\pi(y_w|x)}{\pi_{ref}(y_w|x)}-\frac{1}{|y_l|}\log\frac{\pi(y_l|x)}{\pi_{ref}(y_l|x)}$$
#
# The division by the lengths is not in the paper's formula, but its authors confirmed it to trl, which does the same.

# %% nbgrader={"grade": false, "grade_id": "dpo-ipo", "locked": false, "schema_version": 3, "solution": true, "task": false}
def ipo_loss(
    chosen: Tensor, rejected: Tensor, ref_chosen: Tensor, ref_rejected: Tensor, lengths: tuple[Tensor, Tensor], beta: float
) -> Tensor:
    """The IPO loss of a batch of pairs (Azar et al. 2023, equation 17), on averages over the tokens.

    Args:
        chosen, rejected, ref_chosen, ref_rejected: (B,), as in `dpo_loss`.
        lengths: tokens of the chosen and of the rejected answers, two int64 tensors (B,). A length of 0 counts as 1.
        beta: above 0; the margin that is asked for is 1 / (2 beta).

    Returns:
        The mean over the pairs of the squared distance to that margin, a tensor without axes.

    TODO: Divide each log-ratio by its answer's length, subtract, and square the distance to 1 / (2 beta).

    APPROACH:
        1. Average each log-ratio over its own answer, because the two may differ in length.
        2. Guard against a length of 0, because an answer may have been cut away: 0 / 0 would poison the batch.
        3. Square per pair and then average, because the square of a mean is another loss.

    EXAMPLE:
        >>> at = [torch.tensor([v]) for v in (-12.0, -15.0, -13.0, -14.0)]
        >>> round(ipo_loss(*at, (torch.tensor([2]), torch.tensor([4])), beta=1.0).item(), 4)
        0.0625

    HINTS:
        1. In the example: 1 / 2 for the chosen, -1 / 4 for the rejected, 0.75 in all, 0.25 too many.
        2. `clamp(min=1)` leaves lengths of 1 and more alone.
        3. The square has no use for a sign: too large a margin costs as much as too small a one.
    """
    ### BEGIN SOLUTION
    good = (chosen - ref_chosen) / lengths[0].clamp(min=1)
    bad = (rejected - ref_rejected) / lengths[1].clamp(min=1)
    return ((good - bad - 1 / (2 * beta)) ** 2).mean()
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-dpo-ipo", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Checks: the loss against Python floats with answers of unequal lengths, empty answers, and its gradient.
# Catches: sums for averages, one length for both, the square of a mean, 1 / beta, an empty answer that gives NaN.
# A pass prints nothing.
def test_unit_dpo_ipo():
    def check(logps, lengths, beta, what):
        policy = [t.clone().requires_grad_() for t in logps[:2]]
        got = ipo_loss(*policy, *logps[2:], lengths, beta)
        rows = zip(*(t.tolist() for t in logps), *(n.tolist() for n in lengths), strict=True)
        off = [(c - rc) / max(n, 1) - (r - rr) / max(m, 1) - 0.5 / beta for c, r, rc, rr, n, m in rows]
        want = torch.tensor(math.fsum(o * o for o in off) / len(off), dtype=torch.float64)
        # float64: a handful of roundings, 1e-12 is ten thousand of them.
        checking.close(got.detach(), want, rtol=1e-12, atol=1e-12, what=what, hint="average first, then subtract")
        (grad,) = torch.autograd.grad(got, policy[0])
        wanted = torch.tensor([2 * o / max(n, 1) / len(off) for o, n in zip(off, lengths[0].tolist(), strict=True)])
        checking.close(grad, wanted.double(), rtol=1e-6, atol=1e-7, what=f"gradient of {what}")  # `wanted` is float32

    check(draw_logps(0, 3), (torch.tensor([4, 7, 1]), torch.tensor([5, 7, 9])), 0.5, "three pairs")
    ### BEGIN HIDDEN TESTS
    # check: many pairs of unequal lengths
    # hint: each answer is divided by its own length, and each pair is squared by itself.
    seed = checking.secret_seed()
    lengths = torch.randint(1, 40, (2, 33), generator=torch.Generator().manual_seed(seed))
    check(draw_logps(seed, 33), tuple(lengths), 0.05, "33 pairs")
    # check: answers without a token
    # hint: a length of 0 counts as 1.
    check(draw_logps(seed, 2), (torch.tensor([0, 3]), torch.tensor([2, 0])), 1.0, "pairs with an empty answer")
    ### END HIDDEN TESTS


test_unit_dpo_ipo()


# %% [markdown]
# ### What just happened?
#
# Follow both losses along a growing margin: DPO goes on falling, IPO turns round at $1/(2\beta)$.

# %%
def two_losses(margins=range(-10, 31)):
    zero, one = torch.zeros(1), torch.ones(1, dtype=torch.long)
    dpo = [dpo_loss(torch.tensor([float(m)]), zero, zero, zero, 0.1).item() for m in margins]
    ipo = [ipo_loss(torch.tensor([float(m)]), zero, zero, zero, (one, one), 0.05).item() / 100 for m in margins]
    insight.lines(list(margins), {"DPO, beta 0.1": dpo, "IPO / 100, beta 0.05": ipo}, xlabel="margin Delta [nats]",
                  ylabel="loss")


# %%
insight.run(two_losses, needs="Exercises 3 and 6")


# %% [markdown]
# ### Systems insight 2 of 3: what does the reference cost?
#
# **Checkpoint**: you have the loss and its inputs. **Predict, and write it down**: a DPO step runs policy and reference
# forwards, and the policy backwards. By what factor is a step with the reference slower than one in which its
# log-probabilities were computed beforehand? A backward pass takes about twice as long as a forward pass.

# %%
def cost_of_the_reference(rounds=7):
    """Best seconds of a DPO step with the reference in it, and with its log-probabilities ready; policy passes shared."""
    policy, reference = tiny.llama(0), tiny.llama(0)
    batch = collate(tiny.preferences(16, seed=0))
    with torch.no_grad():
        ready = pair_logps(reference, batch)
    best = {"reference in each step": math.inf, "computed beforehand": math.inf}
    for _ in range(rounds):  # taking turns, so that a busy moment hits both alike
        for name in best:
            start = time.perf_counter()
            if name == "computed beforehand":
                anchors = ready
            else:
                with torch.no_grad():
                    anchors = pair_logps(reference, batch)
            dpo_loss(*pair_logps(policy, batch), *anchors, beta=0.1).backward()
            best[name] = min(best[name], time.perf_counter() - start)
    return best


# %%
step_seconds = insight.run(cost_of_the_reference, needs="Exercises 1 to 3")
if step_seconds:
    insight.bars({name: 1e3 * s for name, s in step_seconds.items()}, ylabel="time of a step [ms]")
    with_it, without = step_seconds.values()
    print(f"with the reference in it a step takes {with_it / without:.2f} times as long")


# %% [markdown]
# **What it means in production.** The reference never changes, so each answer needs it once, not once an epoch: compute
# its log-probabilities beforehand, store two numbers a pair, and never load it again. That saves the time you measured
# and a whole model's memory. With LoRA there is a third way: the reference *is* the policy with its adapter switched off.

# %% [markdown]
# ## Part 3: Training
#
# ### Exercise 7: an anchor
#
# The reference is the policy as it was at the start. Three ways to get it wrong: `reference = policy` (both move, and
# $\Delta$ is 0 for ever), a copy that still trains, and a copy in training mode, whose dropout makes the anchor
# wobble.

# %% nbgrader={"grade": false, "grade_id": "dpo-reference", "locked": false, "schema_version": 3, "solution": true, "task": false}
def make_reference(policy: nn.Module) -> nn.Module:
    """A frozen twin of the policy, to be used as the reference.

    Args:
        policy: any module; it is left as it is, its mode and its requires_grad flags included.

    Returns:
        A copy that shares no memory with the policy, in evaluation mode, none of whose parameters wants a gradient.

    TODO: Copy, freeze, and switch to evaluation mode.

    APPROACH:
        1. Copy deeply, because a second name for the same object is no second model.
        2. Freeze the copy, because an optimizer that gets it by mistake should find nothing to train.
        3. Switch to evaluation, because dropout in the anchor is noise in every label.

    EXAMPLE:
        >>> policy = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5))
        >>> reference = make_reference(policy)
        >>> policy.training, reference.training, any(p.requires_grad for p in reference.parameters())
        (True, False, False)

    HINTS:
        1. The standard library has a module for copies; it is imported already.
        2. `requires_grad_` works on a whole module.
        3. `train()` and `eval()` switch a module and everything in it.
    """
    ### BEGIN SOLUTION
    return copy.deepcopy(policy).requires_grad_(False).eval()
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-dpo-reference", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Checks: equal numbers in memory of its own, no gradients, evaluation mode; the policy stays as it was.
# Catches: an alias, a shallow copy, a policy that was frozen with its copy, dropout that is still on.
# A pass prints nothing.
def test_unit_dpo_reference():
    def check(policy, what):
        flags = [p.requires_grad for p in policy.parameters()]
        mode = [m.training for m in policy.modules()]
        with checking.unchanged(policy=policy):
            reference = make_reference(policy)
        checking.equal([p.requires_grad for p in policy.parameters()], flags, what=f"requires_grad of {what} afterwards")
        checking.equal([m.training for m in policy.modules()], mode, what=f"training mode of {what} afterwards")
        checking.equal(any(p.requires_grad for p in reference.parameters()), False, what=f"gradients of the twin of {what}")
        checking.equal(any(m.training for m in reference.modules()), False, what=f"training mode of the twin of {what}")
        ours, twins = policy.state_dict(), reference.state_dict()
        checking.equal(sorted(twins), sorted(ours), what=f"names in the twin of {what}")
        for name, value in ours.items():
            checking.equal(twins[name], value, what=f"{name} in the twin of {what}")
        addresses = {v.data_ptr() for v in ours.values() if v.numel()}
        assert not addresses & {v.data_ptr() for v in twins.values() if v.numel()}, f"the twin of {what} shares its memory"

    check(nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5)).train(), "a small network")
    ### BEGIN HIDDEN TESTS
    # check: a language model, and one of which a part is frozen
    # hint: the policy must come out as it went in: what do your calls return, and what do they change?
    check(tiny.llama(checking.secret_seed() % 1000, num_hidden_layers=1), "a tiny Llama")
    partly = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 1)).eval()
    partly[0].requires_grad_(False)
    partly[1].train()
    check(partly, "a network of which a part is frozen")
    ### END HIDDEN TESTS


test_unit_dpo_reference()


# %% [markdown]
# ### Exercise 8: the training loop
#
# All of it together: for each batch one forward pass of the policy, one of the reference without a graph, the loss, one
# step. Nothing in it is new to you, and a loop is where a good loss is most easily spoilt.

# %% nbgrader={"grade": false, "grade_id": "dpo-train", "locked": false, "schema_version": 3, "solution": true, "task": false}
def train_dpo(
    policy: nn.Module, reference: nn.Module, batches: Sequence[Mapping[str, Tensor]], beta: float, learning_rate: float
) -> list[dict[str, float]]:
    """Train the policy by DPO, in place, one step of AdamW for each batch, without weight decay.

    Args:
        policy: the model to train; in training mode meanwhile, in evaluation mode afterwards.
        reference: from `make_reference`; it comes back unchanged.
        batches: from `collate`.
        beta, learning_rate: above 0.

    Returns:
        For each batch the `preference_metrics` before its step, with one more entry, "loss".

    TODO: For each batch compute the four log-probabilities, the loss and the metrics; step; collect.

    APPROACH:
        1. Use `pair_logps` for both models, because then each runs once a batch.
        2. Run the reference under torch.no_grad(), because its graph would cost as much memory as the policy's.
        3. Clear the gradients in each step, because they add up.

    EXAMPLE:
        >>> policy = tiny.llama(0, num_hidden_layers=1)
        >>> batches = [collate(tiny.preferences(4, seed=0))] * 2
        >>> history = train_dpo(policy, make_reference(policy), batches, beta=0.1, learning_rate=1e-3)
        >>> round(history[0]["loss"], 4), history[1]["loss"] < history[0]["loss"]
        (0.6931, True)

    HINTS:
        1. torch.optim.AdamW has a weight decay unless you say otherwise.
        2. The order of arguments is the same in all your functions: `logps = (*policy's two, *reference's two)`.
        3. `loss.item()` into the metrics; then backward, step, zero_grad.
    """
    ### BEGIN SOLUTION
    optimizer = torch.optim.AdamW(policy.parameters(), lr=learning_rate, weight_decay=0.0)
    history = []
    policy.train()
    for batch in batches:
        with torch.no_grad():
            anchors = pair_logps(reference, batch)
        logps = (*pair_logps(policy, batch), *anchors)
        loss = dpo_loss(*logps, beta)
        history.append({**preference_metrics(*logps, beta), "loss": loss.item()})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    policy.eval()
    return history
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "dpo-given-toy", "locked": true, "schema_version": 3, "solution": false, "task": false}
class Toy(nn.Module):
    """A bigram model: the logits after a token are a row of a table. It notes the mode of each of its passes."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.table = nn.Parameter(draw(seed, 259, 259, scale=0.3))
        self.passes: list[tuple[bool, bool]] = []

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> "Toy":
        self.passes.append((self.training, torch.is_grad_enabled()))
        self.logits = self.table[input_ids]
        return self


# %% [markdown]
# The test writes the whole loop out for this model, in eight lines of its own.

# %% nbgrader={"grade": false, "grade_id": "dpo-given-toy-loop", "locked": true, "schema_version": 3, "solution": false, "task": false}
def toy_loop(table: Tensor, anchor: Tensor, batches: list, beta: float, rate: float) -> list[dict[str, float]]:
    """DPO on bigram tables, written out; trains `table` in place."""
    optimizer, history = torch.optim.AdamW([table], lr=rate, weight_decay=0.0), []
    for batch in batches:
        ids, mask = batch["input_ids"], batch["completion_mask"][:, 1:]
        sums = [(log_softmax(t[ids], 2)[:, :-1].gather(2, ids[:, 1:, None])[:, :, 0] * mask).sum(1).chunk(2)
                for t in (table, anchor)]
        delta = sums[0][0] - sums[0][1] - (sums[1][0] - sums[1][1])
        loss = nn.functional.softplus(-beta * delta).mean()
        history.append({"loss": loss.item(), "margin": beta * delta.mean().item()})
        (table.grad,) = torch.autograd.grad(loss, table)
        optimizer.step()
    return history


# %% nbgrader={"grade": false, "grade_id": "dpo-given-check-train", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_train(seed: int, beta: float, rate: float, count: int) -> tuple[Toy, Toy]:
    """Hold train_dpo against the loop; returns the policy and the reference."""
    batches = [collate(tiny.preferences(3, seed + k, longer="chosen")) for k in range(count)]
    policy, reference, twin = Toy(seed).eval(), Toy(seed + 1).requires_grad_(False).eval(), Toy(seed)
    with checking.unchanged(reference=reference):
        history = train_dpo(policy, reference, batches, beta, rate)
    want = toy_loop(twin.table, reference.table, batches, beta, rate)
    checking.equal(len(history), count, what="number of entries in the history")
    for k, (mine, theirs) in enumerate(zip(history, want, strict=True)):
        for name, value in theirs.items():
            # float64; Adam divides by the root of squares, which makes of 1e-16 some 1e-11 in three steps.
            checking.close(mine[name], value, rtol=1e-7, atol=1e-9, what=f"{name!r} of step {k}, beta {beta}")
    checking.close(policy.table.detach(), twin.table.detach(), rtol=0, atol=1e-6 * rate, what="the trained weights")
    return policy, reference


# %% nbgrader={"grade": true, "grade_id": "test-dpo-train", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
# Checks: three steps against a loop written out, the metrics, the modes, and that the reference stays as it was.
# Catches: gradients that pile up, weight decay, the reference trained or left out, beta forgotten, metrics after the step.
# A pass prints what each of two checks earned.
def test_unit_dpo_train():
    credit = checking.Credit(5)
    with credit.check("the steps are right", points=3, hint="zero_grad, backward, step; weight_decay=0.0"):
        check_train(0, 0.5, 1e-2, 2)
        ### BEGIN HIDDEN TESTS
        # check: three steps, other betas and rates
        # hint: compare the loss of your second step with that of a step from fresh gradients.
        check_train(checking.secret_seed(), 0.1, 1e-3, 3)
        check_train(checking.secret_seed() + 9, 2.0, 3e-2, 3)
        # check: no batch at all
        # hint: an empty list of batches trains nothing and gives an empty history.
        checking.equal(train_dpo(Toy(0), Toy(1), [], 0.1, 1e-3), [], what="history of no batches")
        ### END HIDDEN TESTS
    with credit.check("modes and passes", points=2, hint="each model runs once a batch, the reference without a graph"):
        policy, reference = check_train(3, 0.1, 1e-2, 2)
        checking.equal(policy.passes, [(True, True)] * 2, what="passes of the policy as (training, with a graph)")
        checking.equal(reference.passes, [(False, False)] * 2, what="passes of the reference as (training, with a graph)")
        checking.equal(policy.training, False, what="training mode of the policy afterwards")
    return credit.total()


test_unit_dpo_train()


# %% [markdown]
# ### What just happened?
#
# Your loop takes the same steps as one that was written for a table. On a real model it now has to *prefer*. First a model that has read both orders equally often (what it says need not be even: look at "before"):

# %%
def indifferent_model(steps=180):
    """A tiny Llama that has read prompts with both kinds of answer, each as often as the other."""
    rows = collate(tiny.preferences(2000, seed=1))["input_ids"]  # all chosen answers, then all rejected ones
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[: steps * 32]
    order = order.repeat(-(-steps * 32 // len(order)))[: steps * 32]
    model = tiny.llama(0)
    tiny.pretrain(model, list(rows[order].reshape(steps, 32, -1)))
    return model


base_model = insight.run(indifferent_model, needs="Exercise 1 (collate)")


# %%
def preference_rate(model, batch):
    """Share of held-out pairs whose chosen answer the model finds likelier."""
    with torch.no_grad():
        chosen, rejected = pair_logps(model, batch)
    return (chosen > rejected).float().mean().item()


def run_dpo(beta=0.1, steps=45, learning_rate=1e-4, **kind):
    """Train a copy of the base model; returns it and the history."""
    policy = copy.deepcopy(base_model)
    batches = [collate(tiny.preferences(16, seed=100 + k, **kind)) for k in range(steps)]
    return policy, train_dpo(policy, make_reference(policy), batches, beta, learning_rate)


# %%
def first_run():
    held_out = collate(tiny.preferences(128, seed=2))
    policy, history = run_dpo()
    print(f"preferred before {preference_rate(base_model, held_out):.0%}, after {preference_rate(policy, held_out):.0%}")
    curves = {name: [step[name] for step in history] for name in ("chosen", "rejected", "margin")}
    insight.lines(range(len(history)), curves, xlabel="step", ylabel="implicit reward [nats x beta]")
    return policy, history


trained, history = (insight.run(first_run, needs="Exercises 1 to 8") if base_model else None) or (None, [])


# %% [markdown]
# ### Systems insight 3 of 3: how far does beta let it run?
#
# **Checkpoint**: training works. **Predict, and write it down**: with a ten times smaller beta, does the margin in nats,
# $\Delta$ itself, get larger or smaller? And the share of displaced pairs?

# %%
def run_away(betas=(0.02, 0.2, 2.0)):
    """For each beta: seconds of the run, and Delta and displacement at its end, from your own history."""
    table = {}
    for beta in betas:
        start = time.perf_counter()
        _, steps = run_dpo(beta, steps=40, learning_rate=3e-4)
        last = steps[-5:]
        table[str(beta)] = {"seconds": time.perf_counter() - start,
                            "Delta": sum(s["margin"] for s in last) / 5 / beta,
                            "displaced": sum(s["displaced"] for s in last) / 5}
    return table


# %%
by_beta = insight.run(run_away, needs="Exercises 1 to 8") if base_model else None
if by_beta:
    insight.bars({beta: row["Delta"] for beta, row in by_beta.items()}, ylabel="Delta at the end [nats]", title="by beta")
    for beta, row in by_beta.items():
        print(f"beta {beta:>4}: {row['seconds']:.1f} s, Delta {row['Delta']:5.1f} nats, displaced {row['displaced']:.0%}")


# %% [markdown]
# **What it means in production.** The loss only sees $\beta\Delta$. A small beta asks for a large $\Delta$ before it is
# content, and the way to a large $\Delta$ leads away from the reference: answers get worse in every respect that the pairs
# do not speak of. Beta is therefore chosen by looking at *samples*, not at the loss; 0.1 is where most people start.

# %% [markdown]
# ## Put it together
#
# Your batch, log-probabilities and losses against trl's trainer, on copies of the same two models. trl prepares the
# texts, pads, runs and averages by its own code. What is compared is the loss, and the gradient that it sends into the
# first and the last matrix of the policy.

# %% nbgrader={"grade": false, "grade_id": "dpo-given-trl", "locked": true, "schema_version": 3, "solution": false, "task": false}
def trl_loss(policy: nn.Module, reference: nn.Module, pairs: list[dict[str, str]], **settings) -> tuple[Tensor, dict]:
    """The loss of trl's DPOTrainer on one batch with all pairs, and the gradient of each parameter."""
    from datasets import Dataset, disable_progress_bars
    from trl import DPOConfig, DPOTrainer

    disable_progress_bars()
    logging.getLogger("trl").setLevel(logging.ERROR)
    policy = copy.deepcopy(policy)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        config = DPOConfig(output_dir=folder, report_to=[], use_cpu=True, bf16=False, max_length=None, **settings)
        trainer = DPOTrainer(model=policy, ref_model=copy.deepcopy(reference), args=config,
                             train_dataset=Dataset.from_list(pairs), processing_class=tokenizer)
        batch = trainer.data_collator([trainer.train_dataset[k] for k in range(len(pairs))])
        loss = trainer.compute_loss(policy, batch)
        loss.backward()
    return loss.detach(), {name: p.grad for name, p in policy.named_parameters()}


# %% nbgrader={"grade": false, "grade_id": "dpo-given-check-trl", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_trl(seed: int, pairs: list[dict[str, str]], beta: float, loss_type: str, **settings) -> None:
    """Hold the student's loss and its gradients against trl's."""
    policy, reference = tiny.llama(seed, num_hidden_layers=1), tiny.llama(seed + 1, num_hidden_layers=1)
    want, grads = trl_loss(policy, reference, pairs, beta=beta, loss_type=loss_type, **settings)
    batch = collate(pairs)
    logps = (*pair_logps(policy, batch), *(t.detach() for t in pair_logps(reference, batch)))
    if loss_type == "ipo":
        loss = ipo_loss(*logps, batch["completion_mask"].sum(dim=1).chunk(2), beta)
    else:
        loss = dpo_loss(*logps, beta, settings.get("label_smoothing", 0.0))
    # float32: log-probabilities near 200, their differences off by a few 200 * 6e-8, relative to losses near 1.
    checking.close(loss.detach(), want, rtol=2e-4, atol=2e-5, what=f"trl's {loss_type!r} loss, beta {beta}")
    loss.backward()
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        mine, scale = policy.get_parameter(name).grad, grads[name].abs().max().item()
        checking.close(mine, grads[name], rtol=1e-3, atol=2e-4 * scale, what=f"trl's gradient of {name}")


# %% nbgrader={"grade": true, "grade_id": "test-dpo-module", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
# Checks: DPO, label smoothing and IPO equal trl's on the same pairs, gradients included; training beats its start.
# Catches: pieces that are right alone and do not fit together, such as lengths that count the prompt.
# A pass prints what each of two checks earned.
def test_unit_dpo_module():
    credit = checking.Credit(5)
    with credit.check("the losses are trl's", points=3, hint="does the end token belong to the answer?"):
        check_trl(0, tiny.preferences(4, seed=5, longer="rejected"), 0.3, "sigmoid")
        ### BEGIN HIDDEN TESTS
        # check: DPO, IPO and smoothed pairs by trl
        # hint: the loss is the mean over pairs; IPO divides by tokens of the answer, its end token included.
        seed = checking.secret_seed() % 10**6
        pairs = tiny.preferences(5, seed, longer="chosen") + tiny.preferences(2, seed + 1)
        check_trl(seed, pairs, 0.1, "sigmoid")
        check_trl(seed, pairs, 2.0, "ipo")  # a target of 1/4, beside which the differences between pairs show
        check_trl(seed, pairs[:1], 0.4, "aot", label_smoothing=0.2)  # of a single pair, aot is smoothed DPO
        ### END HIDDEN TESTS
    with credit.check("training makes it prefer", points=2, hint="follow loss and accuracy through the steps"):
        policy = tiny.llama(3, num_hidden_layers=1)
        batches = [collate(tiny.preferences(8, seed=k)) for k in range(20)]
        steps = train_dpo(policy, make_reference(policy), batches, beta=0.1, learning_rate=3e-3)
        checking.close(steps[0]["loss"], math.log(2), rtol=1e-5, atol=0, what="the first loss")
        assert steps[-1]["loss"] < 0.5 and steps[-1]["accuracy"] == 1.0, f"after 20 steps: {steps[-1]}"
    return credit.total()


test_unit_dpo_module()


# %%
def test_unit_all():
    """Every test again, in order; says which exercises are still open."""
    for name in ("collate", "logps", "logps_numbers", "loss", "gradient", "rewards", "ipo", "reference", "train", "module"):
        print(f"--- {name}")
        insight.run(globals()[f"test_unit_dpo_{name}"], needs=f"dpo-{name}")


# %%
test_unit_all()


# %% [markdown]
# ## Use it: against supervised fine-tuning
#
# On clean data both would do. Real labels are not clean: here 30 % of the pairs are turned round. Supervised
# fine-tuning (SFT) sees the chosen answers of the very batches that DPO sees. Each gets two learning rates.

# %%
def run_sft(learning_rate, steps=45, **kind):
    """Cross-entropy on the chosen answers of the batches that DPO gets."""
    model = copy.deepcopy(base_model).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0)
    for k in range(steps):
        batch = collate(tiny.preferences(16, seed=100 + k, **kind))
        chosen, _ = pair_logps(model, batch)
        loss = -chosen.sum() / batch["completion_mask"][:16].sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


# %% [markdown]
# What is judged is what the models *say*: samples to fresh prompts, and how far their log-probabilities drifted from the
# base model's on these samples, an estimate of the KL divergence.

# %%
def said(model, seed=7, prompts=120):
    """Share of sampled answers in English word order, and their mean log-ratio to the base model."""
    pairs = tiny.preferences(prompts, seed=seed)
    ids = tokenizer([p["prompt"] for p in pairs], padding=True, padding_side="left", return_tensors="pt")
    torch.manual_seed(seed)
    out = model.generate(**ids, max_new_tokens=24, do_sample=True, top_k=0)
    texts = tokenizer.batch_decode(out[:, ids["input_ids"].shape[1]:], skip_special_tokens=True)
    good = sum(text.startswith(p["prompt"].split()[0]) for text, p in zip(texts, pairs, strict=True))
    batch = collate([{**p, "chosen": text, "rejected": ""} for text, p in zip(texts, pairs, strict=True)])
    with torch.no_grad():
        drift = (pair_logps(model, batch)[0] - pair_logps(base_model, batch)[0]).mean().item()
    return good / prompts, drift


# %%
def comparison(flipped=0.3):
    held_out, rows = collate(tiny.preferences(128, seed=2)), {}
    makers = {"before": lambda: base_model}
    makers |= {f"SFT, {r:g}": lambda r=r: run_sft(r, flipped=flipped) for r in (3e-4, 1e-3)}
    makers |= {f"DPO, {r:g}": lambda r=r: run_dpo(learning_rate=r, flipped=flipped)[0] for r in (3e-5, 1e-4)}
    for name, make in makers.items():
        model = make()
        share, drift = said(model)
        rows[name] = {"held-out pairs": preference_rate(model, held_out), "samples": share, "KL": drift}
        print(f"{name:10}", "  ".join(f"{key} {value:5.2f}" for key, value in rows[name].items()))
    return rows


# %%
rows = insight.run(comparison, needs="Exercises 1 to 8") if base_model else None
if rows:
    insight.bars({name: row["samples"] for name, row in rows.items()}, ylabel="share of samples in the wanted order",
                 title="30 % of the labels are wrong")


# %% [markdown]
# SFT learns to speak like its data, wrong labels included. DPO *compares*: wrong labels pull back, but the right ones are
# more, and the margin grows past what any single answer in the data would teach.
#
# And one trap, stepped into on purpose: **without a reference** the loss rewards what the base model preferred anyway,
# and nothing holds the policy.

# %%
def no_reference(steps=40):
    """DPO whose reference says 0 for everything."""
    policy, good, losses = copy.deepcopy(base_model), [], []
    optimizer = torch.optim.AdamW(policy.parameters(), lr=3e-4, weight_decay=0.0)
    for k in range(steps):
        chosen, rejected = pair_logps(policy.train(), collate(tiny.preferences(16, seed=100 + k)))
        loss = dpo_loss(chosen, rejected, torch.zeros(16), torch.zeros(16), beta=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        good.append(chosen.mean().item())
        losses.append(loss.item())
    print(f"first loss {losses[0]:.3f}, not {math.log(2):.3f}; log-probability of chosen: {good[0]:.1f} -> {good[-1]:.1f}")
    share, drift = said(policy.eval())
    print(f"samples in the wanted order {share:.0%}, KL {drift:.1f}")


# %%
if base_model:
    insight.run(no_reference, needs="Exercises 1 to 3")


# %% [markdown]
# ## On your Spark
#
# Full size: DPO on Llama 3.1 8B Instruct with LoRA and trl, in bfloat16, in 128 GB of unified memory. No second model:
# with an adapter, the reference is the policy with the adapter off. First what a full second copy *would* cost, and what
# the logits of one batch cost, both from arithmetic that you have done above:

# %%
def predict_8b(pairs=4, length=1024, vocab=128_256, parameters=8_030_261_248):
    return {"weights, bf16": 2 * parameters / 1e9, "a second copy": 2 * parameters / 1e9,
            "logits of a batch, float32": 2 * pairs * length * vocab * 4 / 1e9}


# %%
for what, size in predict_8b().items():
    print(f"{what:28} {size:6.1f} GB")

# %% [markdown]
# ```bash
# sync; echo 3 | sudo tee /proc/sys/vm/drop_caches   # unified memory: the file cache would take from the GPU's share
# docker run --gpus all -it --rm --ipc=host -p 8888:8888 -v $PWD:/workspace \
#     -v $HOME/.cache/huggingface:/hf -e HF_HOME=/hf nvcr.io/nvidia/pytorch:25.11-py3
# ```
#
# In the container `pip install "trl>=1.16" "peft>=0.21"` and the course's package. Model and data (HuggingFaceH4's
# binarized UltraFeedback) need an account at Hugging Face. Then set `RUN_ON_SPARK`. This section has **not yet been
# measured on a GPU** by the authors: your record is the first.

# %%
RUN_ON_SPARK = False


# %%
def run_on_spark(path="meta-llama/Llama-3.1-8B-Instruct", steps=50):
    """Train a LoRA adapter by DPO; returns the record. Needs a GPU with 60 GB free."""
    from datasets import load_dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16, device_map="cuda")
    data = load_dataset("HuggingFaceH4/ultrafeedback_binarized", split=f"train_prefs[:{steps * 8}]")
    config = DPOConfig(output_dir="dpo-8b", max_steps=steps, per_device_train_batch_size=4, gradient_accumulation_steps=2,
                       learning_rate=5e-6, beta=0.1, bf16=True, max_length=1024, logging_steps=1, report_to=[])
    adapter = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = DPOTrainer(model=model, args=config, train_dataset=data, peft_config=adapter,
                         processing_class=AutoTokenizer.from_pretrained(path))
    torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    trainer.train()
    log = [entry for entry in trainer.state.log_history if "rewards/margins" in entry]
    return {"gpu": torch.cuda.get_device_name(), "seconds_per_step": (time.perf_counter() - start) / steps,
            "peak_gb": torch.cuda.max_memory_allocated() / 1e9, "first_loss": log[0]["loss"],
            "last_loss": log[-1]["loss"], "last_margin": log[-1]["rewards/margins"]}


# %% [markdown]
# Record what you measured. `run_on_spark()` fills it in for you; a record by hand is as good. Without such a machine
# leave it as it is: nothing is lost.

# %%
spark_record = {"gpu": None, "seconds_per_step": None, "peak_gb": None, "first_loss": None, "last_loss": None,
                "last_margin": None}

# %%
if RUN_ON_SPARK:
    spark_record = run_on_spark()


# %% nbgrader={"grade": false, "grade_id": "dpo-given-spark-record", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_spark_record(record: dict) -> str:
    """Form and plausibility of a record. Nothing here earns points; a person reads it."""
    wanted = {"seconds_per_step": (0.1, 600), "peak_gb": (16, 128), "first_loss": (0.68, 0.71), "last_loss": (0.01, 2),
              "last_margin": (-5, 20)}
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
# **1. The shift, or half of it.**
#
# ```python
# picked = logps.gather(2, ids[..., None])[..., 0]                  # wrong: row t scored against token t
# (picked_of_next * completion_mask[:, :-1]).sum(1)                 # wrong: tokens shifted, their mask not
# ```
# Both train. The second also scores the prompt's last token and forgets the end.
#
# **2. Means for sums.**
#
# ```python
# (picked * mask).sum(1) / mask.sum(1)                              # wrong in DPO: the KL is about whole answers
# (picked * mask).sum(1)                                            # right
# ```
# It is right in IPO as trl computes it, and in SimPO (3.1.8). There it is a choice, not an accident.

# %% [markdown]
# **3. log(sigmoid()).**
#
# ```python
# -torch.log(torch.sigmoid(z))                                      # wrong: inf from about z = -89 on, gradient NaN
# -logsigmoid(z)                                                    # right
# ```
#
# **4. A reference that is the policy.**
#
# ```python
# reference = policy                                                # wrong: Delta is 0 in every step, the loss log 2
# reference = copy.deepcopy(policy).requires_grad_(False).eval()    # right
# ```
# The gradient is *not* 0, so the model moves, without brakes, while the loss stands still.

# %% [markdown]
# **5. Gradients that pile up.**
#
# ```python
# loss.backward(); optimizer.step()                                 # wrong: every step repeats all earlier ones
# optimizer.zero_grad(); loss.backward(); optimizer.step()          # right
# ```
#
# **6. Smoothing the wrong way round.**
#
# ```python
# -eps * logsigmoid(z) - (1 - eps) * logsigmoid(-z)                 # wrong: believes the labels with probability eps
# ```
# With eps = 0 it trains the model to prefer the bad answers, and every curve looks fine but one: the accuracy.

# %% [markdown]
# ## Reflect
#
# Three questions on *your* code and *your* measurements. Five to ten lines each; numbers without a source in this
# notebook earn nothing.

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-dpo-memory", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Reflection 1: memory and time (3 points).** You want to train an 8B model by DPO, with 4 pairs of 1,024 tokens a step.
# Use `kept`, `step_seconds` and the prediction of *On your Spark*. Which is larger, the second model or the logits? For each
# of these say what it saves, and what it costs: reference log-probabilities computed beforehand; LoRA with the adapter
# switched off as reference; splitting the vocabulary sum.
#
# ### BEGIN SOLUTION
# The second copy takes 16.1 GB in bf16. Logits of 8 rows of 1,024 tokens take 4.2 GB in float32, and `kept` shows that
# sequence_logps saves about as much again for backward, so that with gradients there are two to three times 4.2 GB: of
# the same order, and they grow with batch and length while the copy does not. Beforehand: saves the copy and, as measured,
# about a quarter to a third of a step (the factor from `step_seconds`), costs one pass over the data and two numbers
# a pair, and forbids changing the texts later. Adapter off: saves the copy, costs the same extra pass as before; time is
# not saved. Splitting the sum saves the logits, costs a little recomputation, and changes no number.
#
# ### BEGIN MARK SCHEME
# - 1 point: compares 16 GB with the logits, using their own `kept` to include what backward keeps.
# - 1 point: for at least two of the three, what is saved AND what it costs, with the measured factor of a step.
# - 1 point: sees which part grows with batch and length, and which does not. "Use a smaller batch" alone: half a point.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-dpo-displacement", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Reflection 2: what the loss does not see (3 points).** In your `history` and `by_beta`, does the log-probability of the
# chosen answers rise or fall while the margin grows, and for which betas are pairs displaced? Explain it from
# `dpo_gradient`: what are the two forces of a pair, and why may the chosen answer fall although it is pulled up? Name one
# change to the loss, or to the data, that would prevent it, and what that costs.
#
# ### BEGIN SOLUTION
# (With the student's numbers.) Both forces of a pair have the size beta sigma(-beta Delta) and opposite signs; but chosen
# and rejected answers share words and a model shares weights, so pushing the rejected answer down takes its neighbours
# along. If the push on what both have in common wins, the chosen answer falls while Delta grows. The smaller beta, the
# further the run goes and the more is displaced. Remedies: add a cross-entropy term on the chosen answer (as RPO and ORPO
# do; costs a weight to tune and pulls towards imitation), choose pairs that differ where it matters, stop early, or a larger
# beta (less preference learnt).
#
# ### BEGIN MARK SCHEME
# - 1 point: quotes what their own history shows, chosen and margin, for at least two betas.
# - 1 point: equal and opposite forces on log-probabilities, unequal effect on shared weights and tokens.
# - 1 point: a remedy that acts on the chosen answer's own probability, with its price.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-dpo-production", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Reflection 3: production (3 points).** A support team edits 200 drafts of your model a day; the edited text is "chosen", the
# draft "rejected". Edited texts are on average 30 % shorter. From what you measured here: which length effect do you expect
# from sums of log-probabilities, which of your functions would you change or watch to see it, how would you choose beta, and
# which number would make you stop a run at night?
#
# ### BEGIN SOLUTION
# A longer rejected answer has more terms in its sum, so Delta can be enlarged by making every token of long answers a little
# less likely: the policy learns "shorter" faster than "better". Watch the mean length of samples and the rewards divided by
# length; change to averages as in ipo_loss (or SimPO), or balance lengths in collate's pairs. Beta: a few short runs, judged
# by samples and by the KL from `said`, the smallest drift that reaches the preference rate; 0.1 first. Stop at night when
# "displaced" grows or the mean chosen reward falls below 0 while the margin rises, or when the first loss was not log 2.
#
# ### BEGIN MARK SCHEME
# - 1 point: length enters through the sum, with the direction right for this data.
# - 1 point: beta by samples or drift, not by the loss.
# - 1 point: an alarm on a number that the notebook computes, with a reason. "The loss" alone earns nothing here.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# What you built, in the numbers of your own run:

# %%
def summary():
    print(f"first loss {history[0]['loss']:.4f} (log 2 = {math.log(2):.4f}), last {history[-1]['loss']:.4f}")
    for kind in ("SFT", "DPO"):
        best = max((row for name, row in rows.items() if name.startswith(kind)), key=lambda row: row["samples"])
        print(f"{kind} at its best: {best['samples']:.0%} of samples in the wanted order, KL {best['KL']:.2f}")
    print(f"a step with the reference in it: {with_it / without:.2f} times one without")


# %%
insight.run(summary, needs="Exercises 1 to 8")

# %% [markdown]
# ## Challenge (optional)
#
# 1. **Adapter as reference**: give the policy your LoRA layers of 3.1.1 and compute the reference by setting their
#    scaling to 0 for one pass. Are the losses the same to the last digit?
# 2. **f-divergences**: trl's `f_divergence_type` replaces the log-ratio. Derive the score for the forward KL and compare.
# 3. **A better price for noise**: the "robust" loss divides by $1-2\varepsilon$. Show on noisy labels what that changes in
#    the gradient.
#
# ## Further reading
#
# - R. Rafailov et al., *Direct Preference Optimization: Your Language Model is Secretly a Reward Model*, 2023,
#   arXiv:2305.18290. Sections 4 and 5 are this lab.
# - M. Azar et al., *A General Theoretical Paradigm to Understand Learning from Human Preferences*, 2023, arXiv:2310.12036.
# - E. Mitchell, *A note on DPO with noisy preferences and relationship to IPO*, 2023.
# - L. Tunstall et al., *Zephyr: Direct Distillation of LM Alignment*, 2023, arXiv:2310.16944.
# - N. Razin et al., *Unintentional Unalignment: Likelihood Displacement in DPO*, 2024, arXiv:2410.08847.
# - The documentation of trl on `DPOTrainer`: huggingface.co/docs/trl.

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
