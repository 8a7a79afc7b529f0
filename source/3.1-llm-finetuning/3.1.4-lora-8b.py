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
# # Lab 3.1.4: an 8B fine-tuning run, rehearsed
#
# | | |
# |---|---|
# | Module | 3.1 LLM Fine-Tuning |
# | Time | 3 hours |
# | Difficulty | ★★★☆☆ |
# | Hardware | gpu-optional: all points can be earned on a CPU; *On your Spark* is for a large GPU |
# | Points | 33 automatic, 9 read by a person |
# | Builds on | 3.1.3 NEFTune Magic |
#
# A run on Llama 3.1 8B takes hours, and most that goes wrong in it goes wrong in the first minute: a split that leaks, a batch
# that does not fit, a loss that counts the wrong tokens. You are going to build and test every part of such a run with a model
# that trains in seconds, by the same libraries, so that the script for the large one is the same script with another name in it.

# %% [markdown]
# ## What you'll achieve
#
# By the end you have
#
# 1. **Systems understanding**: predicted the memory of a LoRA run to the byte, and measured it (objective 3.1.2).
# 2. **Core skill**: gradient accumulation that equals the large batch, a schedule, an honest split and evaluation.
# 3. **A pattern**: rehearse small what is dear in full size, with the same code.
# 4. **A tie to production**: PEFT and trl's `SFTTrainer` with LoRA and NEFTune, each setting tested (objectives 3.1.2, 3.1.4).
# 5. **A trade-off**: micro-batch against time and memory, noise against fit, measured.

# %% [markdown]
# ## Before you start
#
# In 3.1.1 you built LoRA, in 3.1.3 NEFTune. **What works**: both, by hand, in a loop of your own. **The gap**: a real run has
# data to be split, batches that do not fit, schedules, logs, checkpoints and a library. **This lab** builds what is left and puts
# it together.
#
# ```
# 3.1.1 LoRA ────┐
# 3.1.3 NEFTune ─┴──> 3.1.4 a whole run (this lab) ──> 3.1.5 in four bits ──> 3.1.10 to Ollama
# ```

# %% [markdown]
# ### Skill checks
#
# Answer first, then unfold.
#
# <details><summary>1. Batches of 2 and 6 tokens have mean losses of 3 and 1. What is the mean over all tokens?</summary>
#
# (2 · 3 + 6 · 1) / 8 = 1.5, not 2.
# </details>
#
# <details><summary>2. What is a gradient of a sum of losses, given the gradients of each?</summary>
#
# Their sum; `backward()` adds to `.grad`, so calling it on each is enough.
# </details>
#
# <details><summary>3. Which parameters have optimizer state in AdamW?</summary>
#
# Those that it was given and that have had a gradient: two tensors of their size each, and a step count.
# </details>

# %% nbgrader={"grade": false, "grade_id": "sft-given-setup", "locked": true, "schema_version": 3, "solution": false, "task": false}
import contextlib
import copy
import hashlib
import io
import logging
import math
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from datasets import Dataset, disable_progress_bars
from labkit import checking, insight, tiny
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from trl import SFTConfig, SFTTrainer

# %% nbgrader={"grade": false, "grade_id": "sft-given-settings", "locked": true, "schema_version": 3, "solution": false, "task": false}
warnings.filterwarnings("ignore")  # from inside transformers and trl, nothing to do with you
logging.getLogger("trl").setLevel(logging.ERROR)
disable_progress_bars()
torch.set_num_threads(1)  # with matrices this small, a second thread would mostly wait for the first
tokenizer = tiny.fast_tokenizer()  # a token is a byte; 257 ends a text, 258 fills up

# %% [markdown]
# Readiness check: the skills, run. It should print `ready`.

# %%
weight = torch.ones(2, requires_grad=True)
for part in (weight[0] * 3, weight[1] * 4):
    part.backward()
assert weight.grad.tolist() == [3, 4]
assert (2 * 3 + 6 * 1) / 8 == 1.5
print("ready")

# %% [markdown]
# ## Why it matters
#
# In October 2024 it turned out that the most used training library averaged the losses of micro-batches as if they had equally many
# tokens. Whoever had used gradient accumulation had trained on another loss than they thought; nobody had noticed for years, because
# the curves looked fine (the account by Unsloth and Hugging Face, *Bugs in gradient accumulation*). A test of ten lines finds it. You
# will write the code and meet the test.
#
# The rehearsal is how such runs are made where they cost money: every part is exercised on a model of a hundred thousand weights
# first, and the numbers that can be predicted are predicted.

# %% [markdown]
# ## At the kitchen table
#
# You are going to cook for three hundred and rehearse with a dinner for three.
#
# | kitchen | run |
# |---|---|
# | the recipe, unchanged | the same script, another model name |
# | guests who taste beforehand do not vote | validation prompts that occur in training do not count |
# | a pot for ten, filled thirty times | micro-batches, one optimizer step |
# | the shopping list | the memory budget |
# | turning up the heat slowly | warm-up |
#
# **Where it breaks**: some things do not scale. Large models want other learning rates, and fit a small data set within one pass.

# %% [markdown]
# ## Foundations
#
# **Loss.** With $T$ answer tokens in the whole batch, $L=\frac1T\sum_t -\log p(y_t|y_{<t},x)$. Cut into micro-batches with $T_k$
# answer tokens and mean losses $L_k$, it is $L=\sum_k \frac{T_k}{T}L_k$, and its gradient is the sum of the gradients of
# $\frac{T_k}{T}L_k$. The mean of the $L_k$ is something else, unless all $T_k$ are equal.
#
# **Schedule.** Linear warm-up over $w$ steps to the peak $\eta$, then half a cosine down to a floor $f$:
#
# $$\eta_t=\begin{cases}\eta\,t/w & t<w\\ f+(\eta-f)\,\tfrac12\left(1+\cos\pi\tfrac{t-w}{n-w}\right) & w\le t\le n\end{cases}$$
#
# The first step, $t=0$, has a rate of 0. With $f=0$ this is transformers' `cosine`.
#
# **Memory.** The frozen weights once; for each adapter value, in float32, 4 bytes, 4 more for its gradient, 8 for AdamW.

# %% [markdown]
# ```
#  examples ─> split by prompt ─┬─> training ─> micro-batches ─> gradients, summed ─> step ─> adapters
#                               └─> validation ──────────────────────────────> loss per answer token
# ```
#
# ### One example in numbers
#
# A peak of 0.01, 4 warm-up steps of 12: step 2 has 0.005, step 4 has 0.01, step 8 half of it, step 12 nothing.

# %%
for step in (2, 4, 8, 12):
    rate = 0.01 * (step / 4 if step < 4 else 0.5 * (1 + math.cos(math.pi * (step - 4) / 8)))
    print(step, round(rate, 6))


# %% [markdown]
# ## Part 1: Data
#
# ### Exercise 1: a split that does not leak
#
# Instruction data has the same prompt many times. If one copy is trained on and another is validated on, validation measures
# memory. So the *prompt* decides the side, by a hash: then the side does not depend on order, on what else is in the data, or on when
# a row was added.

# %% nbgrader={"grade": false, "grade_id": "sft-split", "locked": false, "schema_version": 3, "solution": true, "task": false}
def split_by_prompt(examples: Sequence[Mapping], share: float, seed: int = 0) -> tuple[list, list]:
    """Split examples into training and validation, all copies of a prompt on one side.

    Two prompts are the same if they differ only in upper and lower case and in white space. An example is for validation when
    the first 8 bytes of sha256(f"{seed}:{prompt}"), read as a big-endian whole number, are less than share * 2**64; `prompt`
    here is in lower case, its words joined by single blanks.

    Args:
        examples: dicts with a "prompt".
        share: of the prompts that go to validation, above 0 and below 1.
        seed: another one gives another split.

    Returns:
        The training examples and the validation examples, the same objects in the order they came in.

    Raises:
        ValueError: `share` is out of its range.

    TODO: Write the rule for one example, then sort all of them to a side.

    APPROACH:
        1. Bring the prompt into its plain form first, because "Hi  there" and "hi there" are one prompt.
        2. Hash text, not Python objects, because hash() of a string differs from run to run.
        3. Go through the examples once, because both sides keep their order that way.

    EXAMPLE:
        >>> rows = [{"prompt": "Hi  there"}, {"prompt": "hi there"}, {"prompt": "who?"}, {"prompt": "how?"}]
        >>> [[row["prompt"] for row in side] for side in split_by_prompt(rows, 0.5)]
        [['Hi  there', 'hi there', 'how?'], ['who?']]

    HINTS:
        1. `text.split()` without arguments cuts at any white space and drops what is empty.
        2. `hashlib.sha256(text.encode()).digest()[:8]` are the bytes.
        3. `int.from_bytes(data, "big")`.
    """
    ### BEGIN SOLUTION
    if not 0 < share < 1:
        raise ValueError(f"share must lie between 0 and 1, not {share}")
    train, validation = [], []
    for example in examples:
        plain = " ".join(example["prompt"].lower().split())
        number = int.from_bytes(hashlib.sha256(f"{seed}:{plain}".encode()).digest()[:8], "big")
        (validation if number < share * 2**64 else train).append(example)
    return train, validation
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-sft-split", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: who goes where, by a list worked out beforehand and by the rule; copies; order; what does not matter; refusals.
# Catches: a random split, a split by row, Python's own hash, copies that differ in case or blanks on two sides, lost rows.
# A pass prints nothing.
def test_unit_sft_split():
    def side(prompt, seed):
        text = f"{seed}:{' '.join(prompt.lower().split())}"
        return int(hashlib.sha256(text.encode()).hexdigest()[:16], 16) / 2**64

    def check(prompts, share, seed, what):
        rows = [{"prompt": prompt, "completion": str(k)} for k, prompt in enumerate(prompts)]
        got = split_by_prompt(rows, share, seed)
        want = ([r for r in rows if side(r["prompt"], seed) >= share], [r for r in rows if side(r["prompt"], seed) < share])
        checking.equal([list(part) for part in got], list(want), what=f"split of {what}", hint="by the prompt's plain form")

    check([f"question {k}" for k in range(12)], 0.25, 0, "twelve questions")
    check(["Hi  there", "hi there", " hi\tTHERE ", "why?"], 0.5, 0, "copies in other spellings")
    ### BEGIN HIDDEN TESTS
    # check: other seeds, shares and prompts
    # hint: is the seed in the text that you hash, in front of a colon? Are empty prompts and letters beyond ASCII all right?
    seed = checking.secret_seed()
    prompts = [p["prompt"] for p in tiny.preferences(60, seed)]
    check(prompts, 0.1, seed, "sixty prompts, many twice")
    check(["", "  ", "Äpfel\n?", "äpfel ?", *prompts[:9]], 0.8, seed % 97, "odd prompts")
    # check: shares out of range
    # hint: 0 and 1 leave one side empty: refuse them, and what lies outside.
    for share in (0, 1, -0.1, 1.5):
        checking.raises(ValueError, split_by_prompt, [], share, what=f"a share of {share}")
    ### END HIDDEN TESTS


test_unit_sft_split()


# %% [markdown]
# ### What just happened?
#
# How many validation prompts has a model already seen, with your split and with one by rows?

# %%
def leak():
    rows = [{"prompt": p["prompt"], "completion": p["chosen"]} for p in tiny.preferences(400, seed=0)]
    for name, (train, held) in {"by prompt": split_by_prompt(rows, 0.2), "by row": (rows[80:], rows[:80])}.items():
        seen = {row["prompt"] for row in train}
        print(f"{name}: {len(train)} to train, {len(held)} to validate, of which {sum(r['prompt'] in seen for r in held)} were seen")


# %%
insight.run(leak, needs="Exercise 1 (split_by_prompt)")


# %% [markdown]
# ### Exercise 2: loss per answer token
#
# The number by which runs are compared. The prompt does not count, filling does not count, and a long answer counts for more than
# a short one.

# %% nbgrader={"grade": false, "grade_id": "sft-loss", "locked": false, "schema_version": 3, "solution": true, "task": false}
def answer_loss(model: nn.Module, examples: Sequence[Mapping[str, str]], batch: int = 32) -> float:
    """Mean loss over all answer tokens of all examples, in nats a token.

    A text is prompt, completion and the end token 257. Answer tokens are those of the completion and the end token.

    Args:
        model: called as model(input_ids=..., attention_mask=...), returns an object with `logits` (B, L, V). It is evaluated,
            without gradients, and left in the mode that it was in.
        examples: dicts with "prompt" and "completion", at least one.
        batch: texts to a pass, at least 1. The result does not depend on it, but for rounding.

    TODO: Go through batches, pad, score, add up losses and counts, divide once at the end.

    APPROACH:
        1. Remember the mode before you change it, because evaluation in the middle of training must leave no trace.
        2. Pad on the right with 258 and mark what is an answer, because texts differ in length.
        3. Add sums, not means, because the last batch is smaller.

    EXAMPLE:
        >>> uniform = tiny.llama(0)
        >>> _ = uniform.lm_head.weight.data.zero_()
        >>> round(answer_loss(uniform, [{"prompt": "a", "completion": "bc"}]), 4), round(math.log(259), 4)
        (5.5568, 5.5568)

    HINTS:
        1. The logits at place t are about token t + 1.
        2. `cross_entropy(logits, labels, ignore_index=-100, reduction="sum")` leaves out labels of -100.
        3. `model.training` is the mode, `model.train(mode)` sets it.
    """
    ### BEGIN SOLUTION
    mode, total, count = model.training, 0.0, 0
    model.eval()
    for first in range(0, len(examples), batch):
        texts = []
        for example in examples[first : first + batch]:
            prompt, answer = (tokenizer(example[name])["input_ids"] for name in ("prompt", "completion"))
            texts.append((prompt + answer + [257], [-100] * len(prompt) + answer + [257]))
        longest = max(len(ids) for ids, _ in texts)
        ids = torch.tensor([row + [258] * (longest - len(row)) for row, _ in texts])
        labels = torch.tensor([row + [-100] * (longest - len(row)) for _, row in texts])
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=(ids != 258).long()).logits[:, :-1]
        total += cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), reduction="sum").item()
        count += (labels[:, 1:] != -100).sum().item()
    model.train(mode)
    return total / count
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "sft-given-bigram", "locked": true, "schema_version": 3, "solution": false, "task": false}
class Bigram(nn.Module):
    """A model whose logits after a token are a row of a table. It notes mode and gradient of each pass, and the masks."""

    def __init__(self, seed: int, scale: float = 0.5) -> None:
        super().__init__()
        noise = torch.randn(259, 259, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        self.table = nn.Parameter(scale * noise)
        self.passes: list[tuple[bool, bool, list[int]]] = []

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> "Bigram":
        self.passes.append((self.training, torch.is_grad_enabled(), attention_mask.sum(dim=1).tolist()))
        self.logits = self.table[input_ids]
        return self


# %% nbgrader={"grade": true, "grade_id": "test-sft-loss", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
# Checks: values against a loop over single tokens, over lengths and batch sizes; masks, mode and gradients.
# Catches: prompt or filling counted, no end token, a mean of means, a model left in evaluation mode, a graph that is kept.
# A pass prints nothing.
def test_unit_sft_loss():
    def by_hand(table, rows):
        losses = []
        for row in rows:
            prompt, text = row["prompt"].encode(), [*row["prompt"].encode(), *row["completion"].encode(), 257]
            for place in range(max(len(prompt), 1), len(text)):
                logits = table[text[place - 1]]
                losses.append((torch.logsumexp(logits, 0) - logits[text[place]]).item())
        return math.fsum(losses) / len(losses)

    def check(seed, rows, batch, what, training=True):
        model = Bigram(seed).train(training)
        got = answer_loss(model, rows, batch)
        # float64, sums of at most a few hundred terms.
        checking.close(got, by_hand(model.table.detach(), rows), rtol=1e-9, atol=0, what=f"answer_loss of {what}",
                       hint="which labels are -100?")
        checking.equal(model.training, training, what=f"mode of the model after {what}")
        want = [len((r["prompt"] + r["completion"]).encode()) + 1 for r in rows]
        checking.equal([n for _, _, lengths in model.passes for n in lengths], want, what=f"tokens under the attention mask, {what}")
        checking.equal({(mode, grad) for mode, grad, _ in model.passes}, {(False, False)}, what="passes as (training, with a graph)")

    rows = [{"prompt": "ab", "completion": "c"}, {"prompt": "a", "completion": "long answer"}, {"prompt": "x: ", "completion": ""}]
    check(0, rows, 32, "three examples")
    check(1, rows, 2, "three examples, two at a time")
    ### BEGIN HIDDEN TESTS
    # check: other texts and batch sizes
    # hint: a prompt or an answer may be empty, letters have several bytes; the first token of a text is never predicted.
    seed = checking.secret_seed()
    more = [{"prompt": p["prompt"][: k % 9 + 1], "completion": p["chosen"][k % 5 :] + "é" * (k % 3)}
            for k, p in enumerate(tiny.preferences(11, seed))]
    more.append({"prompt": "", "completion": "no prompt"})
    for batch in (1, 4, 64):
        check(seed % 999 + batch, more, batch, f"twelve examples, {batch} at a time", training=batch != 4)
    ### END HIDDEN TESTS


test_unit_sft_loss()


# %% [markdown]
# ## Part 2: A step that fits
#
# ### Exercise 3: predict the bytes
#
# Before a run is started its memory is added up: from the model alone, before PEFT has touched it.

# %% nbgrader={"grade": false, "grade_id": "sft-memory", "locked": false, "schema_version": 3, "solution": true, "task": false}
def predict_bytes(model: nn.Module, r: int, targets: Sequence[str]) -> dict[str, int]:
    """Bytes of a LoRA run, but for activations.

    Adapters, their gradients and AdamW's two moments are float32, whatever the model is. A linear layer is adapted when the last
    part of its name is in `targets`: "q_proj" stands for "model.layers.0.self_attn.q_proj".

    Args:
        model: with its weights in any dtype, also on the meta device, where tensors have shapes but no memory.
        r: rank of the adapters.
        targets: last parts of names, at least one.

    Returns:
        "weights": all parameters of the model in their own dtype, each once even where layers share it. "adapters",
        "gradients", "optimizer", and "total".

    Raises:
        ValueError: a target names no linear layer; the message has it.

    TODO: Walk the modules once, and count.

    APPROACH:
        1. Collect the linear layers by the last part of their names, because a target stands for one in each block.
        2. Refuse targets that are not found, because a misspelt name trains nothing and says nothing.
        3. Take r * (in + out) values for each, because A and B are thin.

    EXAMPLE:
        >>> predict_bytes(tiny.llama(0), 4, ["q_proj", "v_proj"])
        {'weights': 428800, 'adapters': 7168, 'gradients': 7168, 'optimizer': 14336, 'total': 457472}

    HINTS:
        1. `model.named_modules()` gives names and modules; `name.rpartition(".")[2]` is the last part.
        2. `parameters()` gives a shared one once.
        3. `p.nbytes` works on the meta device, too.
    """
    ### BEGIN SOLUTION
    layers = [(name.rpartition(".")[2], module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    for target in targets:
        if target not in {name for name, _ in layers}:
            raise ValueError(f"no linear layer is called {target!r}")
    values = sum(r * (layer.in_features + layer.out_features) for name, layer in layers if name in targets)
    parts = {"weights": sum(p.nbytes for p in model.parameters()), "adapters": 4 * values, "gradients": 4 * values}
    parts["optimizer"] = 8 * values
    return parts | {"total": sum(parts.values())}
    ### END SOLUTION


# %% [markdown]
# The check lets PEFT and AdamW do it, and counts what they have made.

# %% nbgrader={"grade": false, "grade_id": "sft-given-measure", "locked": true, "schema_version": 3, "solution": false, "task": false}
def measured_bytes(model: nn.Module, r: int, targets: Sequence[str]) -> dict[str, int]:
    """The same, counted in tensors after one step of a real run; the model is left alone."""
    base = sum(p.nbytes for p in model.parameters())
    adapted = get_peft_model(copy.deepcopy(model), LoraConfig(r=r, target_modules=list(targets), task_type="CAUSAL_LM"))
    trained = [p for p in adapted.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained)
    ids = torch.arange(12).view(2, 6)
    adapted(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    moments = [s[name] for s in optimizer.state.values() for name in ("exp_avg", "exp_avg_sq")]
    parts = {"weights": base, "adapters": sum(p.nbytes for p in trained), "gradients": sum(p.grad.nbytes for p in trained),
             "optimizer": sum(m.nbytes for m in moments)}
    return parts | {"total": sum(parts.values())}


# %% nbgrader={"grade": false, "grade_id": "sft-given-8b", "locked": true, "schema_version": 3, "solution": false, "task": false}
def llama_8b(layers: int = 32) -> nn.Module:
    """Llama 3.1 8B in bfloat16 on the meta device: its shapes, without its memory."""
    with torch.device("meta"):
        model = tiny.llama(0, vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=layers,
                           num_attention_heads=32, num_key_value_heads=8, head_dim=128, bos_token_id=128000, eos_token_id=128001,
                           pad_token_id=None)
        return model.to(torch.bfloat16)


ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


# %% nbgrader={"grade": true, "grade_id": "test-sft-memory", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: bytes against PEFT and AdamW after a real step; other shapes, dtypes, shared weights; an 8B model; refusals.
# Catches: adapters in the model's dtype, in * out, optimizer state for all, shared embeddings twice, targets by part of a name.
# A pass prints nothing.
def test_unit_sft_memory():
    def check(model, r, targets, what):
        got, want = predict_bytes(model, r, targets), measured_bytes(model, r, targets)
        checking.equal({name: int(value) for name, value in got.items()}, want, what=f"bytes of {what}")

    check(tiny.llama(0), 4, ["q_proj", "v_proj"], "queries and values, rank 4")
    checking.raises(ValueError, predict_bytes, tiny.llama(0), 4, ["query"], what="a target that is not there")
    ### BEGIN HIDDEN TESTS
    # check: other models, ranks and dtypes
    # hint: which parts depend on the model's dtype? Does everything follow from the layers' own sizes?
    chance = torch.randint(1, 9, (3,), generator=torch.Generator().manual_seed(checking.secret_seed())).tolist()
    check(tiny.llama(0, num_hidden_layers=1, intermediate_size=24 * chance[0]), chance[1], ALL_LINEAR, "all layers")
    check(tiny.llama(0).to(torch.bfloat16), chance[2], ["down_proj", "o_proj"], "a bfloat16 model")
    # check: embeddings that share their weight
    # hint: does anything count a parameter for each module that has it?
    check(tiny.llama(0, tie_word_embeddings=True), 2, ["k_proj"], "tied embeddings")
    # check: the 8B model on the meta device
    # hint: count shapes, not values: there is no memory behind them. A part of a name is no name.
    got = predict_bytes(llama_8b(2), 16, ALL_LINEAR)
    # Two blocks of 218,112,000 weights, 2 x 128256 x 4096 embeddings, a norm; 81,920 values a rank and... 2 bytes each.
    want = 2 * (2 * 218_112_000 + 2 * 128256 * 4096 + 4096)
    checking.equal(int(got["weights"]), want, what="weights of two blocks of the 8B model")
    checking.equal(int(got["adapters"]), 4 * 16 * 2 * 81_920, what="adapters of two blocks of the 8B model")
    checking.raises(ValueError, predict_bytes, tiny.llama(0), 4, ["q_proj", "proj"], what="a part of a name")
    ### END HIDDEN TESTS


test_unit_sft_memory()


# %% [markdown]
# ### Systems insight 1 of 3: what fills the memory?
#
# **Checkpoint**: a prediction that PEFT agrees with. **Predict, and write it down**: Llama 3.1 8B in bfloat16, all linear layers, rank
# 16. How many GB are weights, how many everything else? From which rank on is the rest more than the weights?

# %%
def bytes_by_rank(ranks=(4, 16, 64, 256, 1024)):
    predicted, measured = (count(tiny.llama(0), 8, ALL_LINEAR)["total"] for count in (predict_bytes, measured_bytes))
    print(f"a tiny model, trained for a step: predicted {predicted:,} bytes, measured {measured:,}")
    model = llama_8b()
    parts = {r: predict_bytes(model, r, ALL_LINEAR) for r in ranks}
    series = {name: [parts[r][name] / 1e9 for r in ranks] for name in ("weights", "adapters", "optimizer", "total")}
    insight.lines(ranks, series, xlabel="rank", ylabel="GB", logx=True, title="Llama 3.1 8B, LoRA on all linear layers")
    return parts


# %%
by_rank = insight.run(bytes_by_rank, needs="Exercise 3 (predict_bytes)")
for rank, parts in (by_rank or {}).items():
    print(f"rank {rank:4}:", ", ".join(f"{name} {value / 1e9:.2f} GB" for name, value in parts.items()))


# %% [markdown]
# **What it means in production.** At usual ranks the weights are nearly all of it, before activations; that is what four bits will
# attack in 3.1.5. Full fine-tuning of the same model in the same way would take 16 bytes for each of 8 billion weights.

# %% [markdown]
# ### Exercise 4: one step in pieces
#
# A batch of 64 does not fit; eight times 8 does. The result must be the same step.

# %% nbgrader={"grade": false, "grade_id": "sft-accumulate", "locked": false, "schema_version": 3, "solution": true, "task": false}
def accumulate(model: nn.Module, micro_batches: Sequence[Mapping[str, Tensor]]) -> float:
    """Gradients of the mean loss over all answer tokens of all micro-batches, as if they were one batch.

    Args:
        model: called as model(input_ids=..., attention_mask=...), returns an object with `logits` (B, L, V). Afterwards the
            gradients of its parameters are those of this loss alone; what was in them before is gone.
        micro_batches: dicts of int64 (B, L): "input_ids", "attention_mask", and "labels", which are -100 where a token does not
            count; the first of a row never does, whatever its label. B and L differ; one may have no token that counts.

    Returns:
        The loss, in nats a token.

    Raises:
        ValueError: no token counts in any of them.

    TODO: Count first, then run and go backwards one micro-batch at a time.

    APPROACH:
        1. Count the tokens that count in all micro-batches before the first pass, because each loss is divided by that number.
        2. Call backward() for each before the next is run, because the graphs of all at once are what does not fit.
        3. Use sums of losses divided by the total, because means of parts are not the mean.

    EXAMPLE:
        >>> model = tiny.llama(0)
        >>> ids = torch.arange(8).view(2, 4)
        >>> parts = [{"input_ids": x, "attention_mask": torch.ones_like(x), "labels": x} for x in (ids[:1], ids[1:])]
        >>> loss = accumulate(model, parts)
        >>> abs(loss - model(input_ids=ids, labels=ids).loss.item()) < 1e-5
        True

    HINTS:
        1. The first label of a row is never predicted: `labels[:, 1:]`.
        2. `model.zero_grad()` clears.
        3. cross_entropy with reduction="sum" gives 0 when all labels are -100, the mean is not a number.
    """
    ### BEGIN SOLUTION
    count = sum((part["labels"][:, 1:] != -100).sum().item() for part in micro_batches)
    if count == 0:
        raise ValueError("no token counts in any of the micro-batches")
    model.zero_grad()
    total = 0.0
    for part in micro_batches:
        logits = model(input_ids=part["input_ids"], attention_mask=part["attention_mask"]).logits[:, :-1]
        loss = cross_entropy(logits.flatten(0, 1), part["labels"][:, 1:].flatten(), reduction="sum") / count
        loss.backward()
        total += loss.item()
    return total
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "sft-given-micro", "locked": true, "schema_version": 3, "solution": false, "task": false}
def micro_batches(seed: int, sizes: Sequence[tuple[int, int, int]]) -> list[dict[str, Tensor]]:
    """Random micro-batches of (rows, length, labels that count)."""
    generator, batches = torch.Generator().manual_seed(seed), []
    for rows, length, counted in sizes:
        ids = torch.randint(256, (rows, length), generator=generator)
        places = torch.randperm(rows * (length - 1), generator=generator)[:counted]
        marks = torch.zeros(rows * (length - 1), dtype=torch.bool).index_fill(0, places, True).view(rows, length - 1)
        labels = ids.clone()  # the first label of a row is there, and nobody predicts it
        labels[:, 1:] = torch.where(marks, ids[:, 1:], -100)
        batches.append({"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels})
    return batches


# %% nbgrader={"grade": true, "grade_id": "test-sft-accumulate", "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
# Checks: loss and gradient against the whole batch written out; old gradients; parts without tokens; one graph at a time.
# Catches: the mean of means, gradients on top of old ones, labels not shifted, not a number for an empty part, one big graph.
# A pass prints what each of two checks earned.
def test_unit_sft_accumulate():
    def check(seed, sizes, what):
        model, parts = Bigram(seed), micro_batches(seed, sizes)
        model.table.grad = torch.ones_like(model.table)
        got = accumulate(model, parts)
        table, losses = Bigram(seed).table, []
        for part in parts:
            here = part["labels"][:, 1:] != -100
            logits = table[part["input_ids"][:, :-1][here]]
            losses.append(torch.logsumexp(logits, 1) - logits.gather(1, part["labels"][:, 1:][here][:, None])[:, 0])
        loss = torch.cat(losses).mean()
        loss.backward()  # below: float64, sums of at most a hundred terms
        checking.close(got, loss.item(), rtol=1e-10, atol=0, what=f"loss of {what}", hint="divide by the tokens of all")
        checking.close(model.table.grad, table.grad, rtol=1e-9, atol=1e-14, what=f"gradient of {what}", hint="and of nothing else")
        return model

    credit = checking.Credit(6)
    with credit.check("the same step as the whole batch", points=4, hint="parts have different numbers of tokens"):
        check(0, [(2, 5, 8), (2, 5, 1)], "two parts")
        ### BEGIN HIDDEN TESTS
        # check: other numbers of parts and tokens
        # hint: a part in which nothing counts adds nothing; the lengths differ.
        seed = checking.secret_seed()
        check(seed, [(1, 9, 3), (4, 3, 8), (2, 6, 0), (3, 4, 5)], "four parts, one without tokens")
        check(seed + 1, [(3, 7, 18)], "one part")
        checking.raises(ValueError, accumulate, Bigram(0), micro_batches(0, [(2, 4, 0)]), what="no token")
        ### END HIDDEN TESTS
    with credit.check("one graph at a time", points=2, hint="backward() before the next pass"):
        model, order = Bigram(3), []
        model.table.register_hook(lambda _: order.append("back"))
        model.register_forward_hook(lambda *_: order.append("pass"))
        accumulate(model, micro_batches(3, [(2, 5, 4)] * 3))
        checking.equal(order, ["pass", "back"] * 3, what="order of passes and gradients")
    return credit.total()


test_unit_sft_accumulate()


# %% [markdown]
# ### Systems insight 2 of 3: what a small micro-batch buys
#
# **Checkpoint**: a step in pieces. **Predict, and write it down**: from micro-batches of 32 to micro-batches of 2, by what factor does the
# memory for activations fall, and by what factor does the step get slower?

# %%
def kept_values(model, part):
    """Values that one pass keeps for its backward pass."""
    sizes = []

    def note(tensor):
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        model(input_ids=part["input_ids"], attention_mask=part["attention_mask"])
    return sum(sizes)


# %%
def micro_batch_sizes(sizes=(2, 4, 8, 16, 32), rows=32, repeats=2):
    """MB kept for backward and seconds of a step, by micro-batch."""
    table = {}
    model = tiny.llama(0).train()
    for size in sizes:
        parts = micro_batches(0, [(size, 48, 47 * size)] * (rows // size))
        start = time.perf_counter()
        for _ in range(repeats):
            accumulate(model, parts)
        table[size] = (4 * kept_values(model, parts[0]) / 1e6, (time.perf_counter() - start) / repeats)
    return table


# %%
by_size = insight.run(micro_batch_sizes, needs="Exercise 4 (accumulate)")
for size, (megabytes, seconds) in (by_size or {}).items():
    print(f"micro-batches of {size:2}: {megabytes:6.1f} MB kept, {1e3 * seconds:6.1f} ms for a step of 32 texts")


# %% [markdown]
# **What it means in production.** Activations fall nearly in proportion; time rises only when the pieces are too small to keep the machine
# busy. So take the largest micro-batch that fits, and accumulation for the rest. Checkpointing is the other lever: it keeps one value
# for each token and block, for a third more time.

# %% [markdown]
# ## Part 3: The run
#
# ### Exercise 5: the schedule

# %% nbgrader={"grade": false, "grade_id": "sft-schedule", "locked": false, "schema_version": 3, "solution": true, "task": false}
def learning_rate_at(step: int, total: int, warmup: int, peak: float, floor: float = 0.0) -> float:
    """The learning rate of a step: linear warm-up, then half a cosine from `peak` down to `floor`.

    Args:
        step: from 0 to `total`; beyond `total` the rate stays at `floor`.
        total, warmup: numbers of steps, 0 <= warmup < total.
        peak, floor: rates, 0 <= floor <= peak.

    Raises:
        ValueError: `warmup` is not from 0 to total - 1, or `step` is negative.

    TODO: Check, then warm-up, cosine, floor.

    APPROACH:
        1. Handle the warm-up first, because without one (warmup 0) nothing may be divided by it.
        2. Measure progress from the end of the warm-up, because the cosine starts there.
        3. Limit progress to 1, because trainers ask for one step more than there are.

    EXAMPLE:
        >>> [round(learning_rate_at(step, 12, 4, 0.01), 6) for step in (0, 2, 4, 8, 12, 99)]
        [0.0, 0.005, 0.01, 0.005, 0.0, 0.0]

    HINTS:
        1. `min(1.0, ...)` limits.
        2. The cosine of 0 is 1, of pi it is -1.
        3. A floor of f leaves peak - f to fall.
    """
    ### BEGIN SOLUTION
    if not 0 <= warmup < total or step < 0:
        raise ValueError(f"0 <= warmup < total and step >= 0 are needed: {step=}, {total=}, {warmup=}")
    if step < warmup:
        return peak * step / warmup
    progress = min(1.0, (step - warmup) / (total - warmup))
    return floor + (peak - floor) * 0.5 * (1 + math.cos(math.pi * progress))
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-sft-schedule", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Checks: every step against transformers' schedule and the formula; floors; no warm-up; beyond the end; refusals.
# Catches: a first step that is not 0, a cosine over all steps, a rise after the end, a warm-up to the floor.
# A pass prints nothing.
def test_unit_sft_schedule():
    from transformers import get_cosine_schedule_with_warmup

    def check(total, warmup, peak, floor, what):
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        schedule = get_cosine_schedule_with_warmup(optimizer, warmup, total)
        share = schedule.lr_lambdas[0]
        for step in range(total + 1):
            want = peak * share(step) if step < warmup else floor + (peak - floor) * share(step)
            # A cosine and three products.
            checking.close(learning_rate_at(step, total, warmup, peak, floor), want, rtol=1e-9, atol=1e-12 * peak,
                           what=f"rate of step {step} of {what}")
        checking.close(learning_rate_at(total + 5, total, warmup, peak, floor), floor, rtol=1e-9, atol=1e-12 * peak,
                       what=f"rate after the end of {what}")

    check(12, 4, 0.01, 0.0, "12, 4 of them warm-up")
    check(5, 0, 1.0, 0.1, "5 without warm-up, to a floor of 0.1")
    ### BEGIN HIDDEN TESTS
    # check: other lengths, rates and floors
    # hint: the warm-up starts at 0 and goes to the peak, whatever the floor is.
    chance = torch.rand(2, generator=torch.Generator().manual_seed(checking.secret_seed())).tolist()
    check(31, 30, 1e-4 * (1 + chance[0]), 1e-5 * chance[1], "31, 30 of them warm-up")
    check(1, 0, 2.0, 2.0, "one step at a floor that is the peak")
    # check: refusals
    # hint: a warm-up that is as long as the run, or negative, has no cosine behind it.
    for step, total, warmup in ((0, 4, 4), (0, 4, -1), (-1, 4, 1), (0, 0, 0)):
        checking.raises(ValueError, learning_rate_at, step, total, warmup, 1.0, what=f"{step=}, {total=}, {warmup=}")
    ### END HIDDEN TESTS


test_unit_sft_schedule()


# %% [markdown]
# ### Exercise 6: the same by PEFT and trl
#
# All of it exists in libraries. What is left is to say it right: every argument below is one that runs have failed on.

# %% nbgrader={"grade": false, "grade_id": "sft-run", "locked": false, "schema_version": 3, "solution": true, "task": false}
def fine_tune(
    model: nn.Module, examples: Sequence[Mapping[str, str]], *, steps: int, micro_batch: int, accumulation: int, peak: float,
    warmup: int, r: int, alpha: float, noise: float | None = None, seed: int = 0,
) -> tuple[PeftModel, list[dict]]:  # fmt: skip
    """Fine-tune a copy of a model with LoRA on all linear layers of its blocks, by trl's SFTTrainer, on the CPU.

    Args:
        model: a causal language model of transformers'; it is left as it is, so train a copy.
        examples: dicts with "prompt" and "completion"; only completions (and the end token, which trl adds) count in the loss.
        steps, micro_batch, accumulation: optimizer steps, texts to a pass, passes to a step.
        peak, warmup: of the cosine schedule down to 0 of Exercise 5. Optimizer, weight decay and clipping as SFTConfig has them.
        r, alpha: of the adapters, without dropout.
        noise: NEFTune's alpha, or None for no noise.
        seed: of everything drawn, the first adapter weights included: the same seed gives the same run.

    Returns:
        The adapted model in evaluation mode, and trainer.state.log_history's entries that have a "loss", one for each step.

    TODO: Make the two configurations and the trainer, train, and return.

    APPROACH:
        1. Say what trl should not do as well, because it saves, reports and checkpoints by default.
        2. Work in a temporary folder, because nothing of a rehearsal should stay.
        3. Log each step, because the history is what you check the schedule by.

    EXAMPLE:
        >>> rows = [{"prompt": p["prompt"], "completion": p["chosen"]} for p in tiny.preferences(8, 0)]
        >>> kw = {"micro_batch": 4, "accumulation": 2, "peak": 1e-2, "warmup": 1, "r": 2, "alpha": 4.0}
        >>> tuned, history = fine_tune(tiny.llama(0), rows, steps=2, **kw)
        >>> len(history), round(history[1]["learning_rate"], 4)
        (2, 0.01)

    HINTS:
        1. LoraConfig's target_modules="all-linear" leaves the output head out.
        2. SFTConfig: per_device_train_batch_size, gradient_accumulation_steps, max_steps, lr_scheduler_type="cosine",
           warmup_steps, neftune_noise_alpha, completion_only_loss, use_cpu=True, bf16=False, report_to=[], save_strategy="no".
        3. `Dataset.from_list(...)`; the progress is silenced by disable_tqdm=True, what is printed by redirect_stdout.
    """
    ### BEGIN SOLUTION
    adapters = LoraConfig(r=r, lora_alpha=alpha, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        config = SFTConfig(
            output_dir=folder, max_steps=steps, per_device_train_batch_size=micro_batch, gradient_accumulation_steps=accumulation,
            learning_rate=peak, warmup_steps=warmup, lr_scheduler_type="cosine",
            neftune_noise_alpha=noise, completion_only_loss=True, max_length=None, gradient_checkpointing=False, seed=seed,
            logging_steps=1, save_strategy="no", report_to=[], disable_tqdm=True, use_cpu=True, bf16=False,
        )  # fmt: skip
        torch.manual_seed(seed)
        trainer = SFTTrainer(model=copy.deepcopy(model), args=config, train_dataset=Dataset.from_list(list(examples)),
                             processing_class=tokenizer, peft_config=adapters)
        trainer.train()
    return trainer.model.eval(), [entry for entry in trainer.state.log_history if "loss" in entry]
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "sft-given-rows", "locked": true, "schema_version": 3, "solution": false, "task": false}
def rows(count: int, seed: int) -> list[dict[str, str]]:
    """Examples: say a sentence about who and what, in English word order."""
    return [{"prompt": p["prompt"], "completion": p["chosen"]} for p in tiny.preferences(count, seed)]


# %% nbgrader={"grade": false, "grade_id": "sft-given-check-run", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_run(model: nn.Module, examples: list, what: str, **settings) -> tuple[PeftModel, list[dict]]:
    """Run fine_tune and look at everything that does not depend on what was learnt."""
    with checking.unchanged(model=model):
        tuned, history = fine_tune(model, examples, **settings)
    checking.equal(len(history), settings["steps"], what=f"number of log entries with a loss, {what}")
    for step, entry in enumerate(history):
        want = learning_rate_at(step, settings["steps"], settings["warmup"], settings["peak"])
        checking.close(entry["learning_rate"], want, rtol=1e-6, atol=1e-12, what=f"learning rate of step {step}, {what}")
    config = tuned.peft_config["default"]
    checking.equal((config.r, float(config.lora_alpha), float(config.lora_dropout)),
                   (settings["r"], float(settings["alpha"]), 0.0), what=f"rank, alpha and dropout, {what}")
    trained = [p for p in tuned.parameters() if p.requires_grad]
    want = predict_bytes(model, settings["r"], ALL_LINEAR)["adapters"]
    checking.equal(sum(4 * p.numel() for p in trained), want, what=f"bytes of what was trained, {what}", hint="all-linear")
    checking.equal(tuned.training, False, what=f"training mode of the result, {what}")
    checking.equal(hasattr(tuned.get_input_embeddings(), "neftune_noise_alpha"), False, what=f"noise left behind, {what}")
    return tuned, history


# %% nbgrader={"grade": true, "grade_id": "test-sft-run", "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
# Checks: what is trained, rates of all steps, tokens of each step, first loss, noise and what is left of it, the model given.
# Catches: a model that is trained in place, the prompt in the loss, no accumulation, other targets, a linear schedule, no noise.
# A pass prints what each of two checks earned.
def test_unit_sft_run():
    credit, model = checking.Credit(6), tiny.llama(1, num_hidden_layers=1)
    settings = {"micro_batch": 4, "accumulation": 2, "peak": 1e-2, "r": 2, "alpha": 4.0}
    with credit.check("the run that was ordered", points=4, hint="compare your configuration with the arguments, one by one"):
        data = rows(8, 0)
        tuned, history = check_run(model, data, "8 texts", steps=4, warmup=1, **settings)
        # One step sees all 8 texts; B is 0 and the rate of step 0 too, so two losses are the model's own. float32.
        for step in (0, 1):
            checking.close(history[step]["loss"], answer_loss(model, data), rtol=2e-5, atol=0, what=f"loss of step {step}",
                           hint="only completions count; micro_batch times accumulation texts a step")
        assert answer_loss(tuned, data) < answer_loss(model, data), "after four steps the loss on the same texts is no lower"
        ### BEGIN HIDDEN TESTS
        # check: other settings
        # hint: change one argument of fine_tune at a time. Which one changes nothing?
        seed = checking.secret_seed() % 1000
        _, history = check_run(model, rows(20, seed), "20 texts", steps=5, warmup=2, seed=seed,
                               micro_batch=3, accumulation=1, peak=3e-3, r=3, alpha=3.0)
        tokens = [entry["num_tokens"] for entry in history]
        lengths = sorted(len((r["prompt"] + r["completion"]).encode()) + 1 for r in rows(20, seed))
        assert sum(lengths[:3]) <= tokens[0] <= sum(lengths[-3:]), f"the first step saw {tokens[0]:g} tokens, not 3 texts"
        # check: the same seed, the same run
        # hint: adapters are drawn when the trainer is made: what is seeded before that?
        # The trained numbers, 2,048 of them: one loss of two seeds can agree by chance, or differ by a rounding alone.
        runs = [fine_tune(model, data, steps=3, warmup=1, seed=s, **settings)[0] for s in (seed, seed, seed + 1)]
        first, again, other = (torch.cat([p.detach().flatten() for p in run.parameters() if p.requires_grad]) for run in runs)
        assert torch.equal(first, again), "the same seed twice gave two different adapters"
        assert (first - other).abs().max() > 0.1, "another seed gave the same adapters"
        ### END HIDDEN TESTS
    with credit.check("noise only where it was ordered", points=2, hint="neftune_noise_alpha; seed"):
        losses = {noise: [e["loss"] for e in check_run(model, rows(8, 2), f"noise {noise}", steps=2, warmup=1, noise=noise,
                                                       **settings)[1]] for noise in (None, 30.0)}
        own = answer_loss(model, rows(8, 2))
        checking.close(losses[None][0], own, rtol=2e-5, atol=0, what="first loss without noise")
        # The rate of step 0 is 0: both losses are draws of noise on one model, of which one may come near the loss without.
        assert any(abs(loss - own) > 2e-5 * own for loss in losses[30.0]), "with noise the losses are those without"
    return credit.total()


test_unit_sft_run()


# %% [markdown]
# ### What just happened?
#
# The library's run obeys your schedule, and its first loss is the one that you computed. Now a base model that has read sentences in two
# word orders and has not been told which one is wanted, and a data set for it, split by prompt:

# %%
def indifferent_model(steps=150):
    """A tiny Llama that has read prompts with both kinds of answer, each as often as the other."""
    pairs = tiny.preferences(steps * 16, seed=1)
    texts = [p["prompt"] + p[side] for p in pairs for side in ("chosen", "rejected")]
    ids = torch.tensor([[*text.encode(), *[257] * (40 - len(text))] for text in texts])
    model = tiny.llama(0)
    tiny.pretrain(model, list(ids.view(steps, 32, -1)))
    return model


base_model = indifferent_model()


# %%
def real_run(noise=None, seed=0, steps=24, count=96):
    """Train on the training side of a small data set; returns model, history, training and validation loss."""
    train, held = split_by_prompt(rows(count, seed=50), 0.3)
    tuned, history = fine_tune(base_model, train, steps=steps, micro_batch=8, accumulation=2, peak=1e-2, warmup=4, r=8, alpha=16.0,
                               noise=noise, seed=seed)
    return tuned, history, answer_loss(tuned, train), answer_loss(tuned, held)


# %% [markdown]
# ### Systems insight 3 of 3: does noise help?
#
# **Checkpoint**: a run of which every setting is tested. **Predict, and write it down**: with NEFTune, is the training loss higher or lower?
# The validation loss? Is the difference larger than that between two seeds?

# %%
def noise_or_not(noises=(None, 5.0), seeds=(0, 1)):
    """Training and validation loss for each noise and seed, and seconds of a run."""
    table = {}
    for noise in noises:
        for seed in seeds:
            start = time.perf_counter()
            tuned, history, train, held = real_run(noise, seed)
            table[noise, seed] = (train, held, time.perf_counter() - start, history, tuned)
    return table


# %%
runs = insight.run(noise_or_not, needs="Exercises 1 to 6")
for (noise, seed), (train, held, seconds, *_) in (runs or {}).items():
    print(f"noise {noise!s:4} seed {seed}: training {train:.3f}, validation {held:.3f} nats a token, {seconds:.1f} s")


# %% [markdown]
# **What it means in production.** Here noise raises both losses by more than two seeds of one setting differ: at d = 64 an alpha of 5 is
# strong noise, and a run this short has little to overfit. Two seeds are still too few for the size of the effect. NEFTune's gains were measured in how people and judges like long answers, not in validation loss (Jain et al. 2023, section 4).

# %% [markdown]
# ## Put it together
#
# Predict, split, train, validate, save, load: the whole run, as it will be with the large model.

# %% nbgrader={"grade": true, "grade_id": "test-integration-sft", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
# Checks: a run from rows to a loaded adapter; predicted bytes against the file; validation against the base model.
# Catches: pieces that pass alone and disagree together, an adapter that is not what was trained.
# A pass prints nothing.
def test_integration_sft():
    model = tiny.llama(2)
    train, held = split_by_prompt(rows(40, 7), 0.25)
    tuned, history = fine_tune(model, train, steps=8, micro_batch=5, accumulation=2, peak=3e-2, warmup=2, r=4, alpha=8.0, noise=2.0)
    assert history[-1]["loss"] < history[0]["loss"], "eight steps do not lower the training loss"
    before, after = answer_loss(model, held), answer_loss(tuned, held)
    assert after < before - 0.2, f"validation loss {before:.3f} before and {after:.3f} after eight steps"
    with tempfile.TemporaryDirectory() as folder:
        tuned.save_pretrained(folder)
        size = Path(folder, "adapter_model.safetensors").stat().st_size
        loaded = PeftModel.from_pretrained(copy.deepcopy(model), folder).eval()
    predicted = predict_bytes(model, 4, ALL_LINEAR)["adapters"]
    # A file of safetensors is a header with about 130 bytes for each of 28 tensors, and the values.
    assert predicted <= size <= predicted + 28 * 200, f"the file has {size} bytes, predicted were {predicted}"
    # The same weights by the same code.
    checking.close(answer_loss(loaded, held), after, rtol=1e-6, atol=0, what="validation loss of the loaded adapter")


test_integration_sft()


# %% [markdown]
# ## Use it: before and after
#
# The same prompts, continued by the base model and by the tuned one. A custom data set is a change to one cell: put your own prompts and
# completions into `rows` and run from there.

# %%
def say(model, prompts, seed=0):
    """One sampled answer to each prompt."""
    ids = tokenizer(prompts, padding=True, padding_side="left", return_tensors="pt")
    torch.manual_seed(seed)
    out = model.generate(**ids, max_new_tokens=24, do_sample=True, top_k=0)
    texts = tokenizer.batch_decode(out[:, ids["input_ids"].shape[1] :], skip_special_tokens=True)
    return [text.split("\n")[0] for text in texts]


# %%
def before_and_after(count=64):
    _, held = split_by_prompt(rows(400, seed=50), 0.3)
    prompts, share = [row["prompt"] for row in held[:count]], {}
    for name, model in (("base", base_model), ("tuned", runs[None, 0][-1])):
        answers = say(model, prompts)
        share[name] = sum(a.startswith(p.split()[0]) for a, p in zip(answers, prompts, strict=True)) / len(prompts)
        print(f"{name:6}", *[f"{p}{a!r}" for p, a in zip(prompts[:2], answers, strict=False)])
    insight.bars(share, ylabel="share of answers in the wanted order")
    return share


# %%
shares = insight.run(before_and_after, needs="Exercises 1 to 6") if runs else None

# %% [markdown]
# ## On your Spark
#
# Full size: Llama 3.1 8B with LoRA and NEFTune. The script is `fine_tune` with another model, bf16 and the GPU. Your prediction of the
# memory is in `by_rank`; activations come on top. Unsloth makes the same run faster with kernels of its own: try it second, and compare.
#
# ```bash
# sync; echo 3 | sudo tee /proc/sys/vm/drop_caches   # unified memory: the file cache would take from the GPU's share
# docker run --gpus all -it --rm --ipc=host -p 8888:8888 -v $PWD:/workspace \
#     -v $HOME/.cache/huggingface:/hf -e HF_HOME=/hf nvcr.io/nvidia/pytorch:25.11-py3
# ```
#
# In the container `pip install "trl>=1.16" "peft>=0.21"` and the course's package. The model needs an account at Hugging Face. Then set
# `RUN_ON_SPARK`. This section has **not yet been measured on a GPU** by the authors: your record is the first.

# %%
RUN_ON_SPARK = False


# %%
def run_on_spark(path="meta-llama/Llama-3.1-8B", steps=50):
    """Train adapters on an instruction data set; returns the record. Needs a GPU with 40 GB free."""
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16, device_map="cuda")
    weights = torch.cuda.memory_allocated()
    data = load_dataset("trl-lib/Capybara", split=f"train[:{steps * 16}]")
    config = SFTConfig(output_dir="lora-8b", max_steps=steps, per_device_train_batch_size=4, gradient_accumulation_steps=4,
                       learning_rate=2e-4, warmup_steps=5, lr_scheduler_type="cosine", neftune_noise_alpha=5.0, bf16=True,
                       max_length=2048, gradient_checkpointing=True, logging_steps=1, report_to=[])
    trainer = SFTTrainer(model=model, args=config, train_dataset=data, processing_class=AutoTokenizer.from_pretrained(path),
                         peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"))
    torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - start
    log = [entry for entry in trainer.state.log_history if "loss" in entry]
    return {"gpu": torch.cuda.get_device_name(), "weights_gb": weights / 1e9, "peak_gb": torch.cuda.max_memory_allocated() / 1e9,
            "tokens_per_second": log[-1]["num_tokens"] / seconds, "first_loss": log[0]["loss"], "last_loss": log[-1]["loss"]}


# %% [markdown]
# Record what you measured. `run_on_spark()` fills it in for you; a record by hand is as good. Without such a machine
# leave it as it is: nothing is lost.

# %%
spark_record = {"gpu": None, "weights_gb": None, "peak_gb": None, "tokens_per_second": None, "first_loss": None, "last_loss": None}

# %%
if RUN_ON_SPARK:
    spark_record = run_on_spark()


# %% nbgrader={"grade": false, "grade_id": "sft-given-spark-record", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_spark_record(record: dict) -> str:
    """Form and plausibility of a record. Nothing here earns points; a person reads it."""
    wanted = {"weights_gb": (14, 20), "peak_gb": (16, 120), "tokens_per_second": (10, 200_000), "first_loss": (0.2, 10),
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
# **1. A split by row.**
#
# ```python
# train, held = rows[:900], rows[900:]                          # wrong: copies of a prompt on both sides
# train, held = split_by_prompt(rows, 0.1)                      # right
# ```
#
# **2. The mean of means.**
#
# ```python
# loss = sum(mean_loss(part) for part in parts) / len(parts)    # wrong: short parts count as much as long ones
# loss = sum(sum_loss(part) for part in parts) / all_tokens     # right
# ```

# %% [markdown]
# **3. All graphs at once.**
#
# ```python
# sum(losses).backward()                                        # wrong: every part's activations are kept until here
# for part in parts: loss_of(part).backward()                   # right
# ```
#
# **4. The prompt in the loss.**
#
# ```python
# labels = input_ids.clone()                                    # wrong: most tokens are the prompt's; the model learns to ask
# labels[:, :prompt_length] = -100                              # right
# ```

# %% [markdown]
# **5. Adapters in the model's dtype.**
#
# ```python
# adapters = 2 * r * (fan_in + fan_out)                         # wrong: bf16 loses small updates; PEFT keeps float32
# adapters = 4 * r * (fan_in + fan_out)                         # right
# ```
#
# **6. A model that was trained in place.**
#
# ```python
# trainer = SFTTrainer(model=model, ...)                        # wrong: "before" and "after" are then the same object
# trainer = SFTTrainer(model=copy.deepcopy(model), ...)         # right; with a large model: disable the adapter to compare
# ```

# %% [markdown]
# ## Reflect
#
# Three questions on *your* code and *your* measurements. Five to ten lines each; numbers without a source in this
# notebook earn nothing.

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-sft-memory", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Reflection 1: memory (3 points).** From `by_rank` and `by_size`: what would a run on Llama 3.1 8B at rank 16 take before activations, and
# which part could you not have told from parameter counts alone? From rank 16 to 64: what does it cost, and when is that worth it?
#
# ### BEGIN SOLUTION
# (With the student's numbers.) `by_rank` at 16: weights 16.06 GB, adapters 0.17, gradients 0.17, optimizer 0.34: 16.7 GB. Activations are not in
# it: `by_size` shows that they fall in proportion to the micro-batch, so they depend on texts and code (checkpointing), not on parameters.
# Rank 64 is four times 0.67 = 2.7 GB, 12 % more in all: cheap in memory; worth it when training loss stays high with rank 16 and data is
# plenty, since more capacity also fits small data sets by heart.
#
# ### BEGIN MARK SCHEME
# - 1 point: total before activations, from `by_rank`.
# - 1 point: activations, with `by_size` as the source.
# - 1 point: the price of a larger rank computed, and a condition under which it pays.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-sft-time", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Reflection 2: time (3 points).** From `by_size`: which micro-batch would you use on this machine, and why not the largest that fits? On a GPU
# the curve looks different: how, and what would you measure first? What would the mean of means have changed in your batches?
#
# ### BEGIN SOLUTION
# (With the student's numbers.) On a CPU a step of 32 texts takes about as long in pieces of 8 as in one piece, so 8 costs no time and keeps a
# quarter of the memory; very small pieces pay fixed costs for each pass. On a GPU small pieces leave most of the machine idle, so time falls
# steeply with the micro-batch until it is busy: measure tokens per second over sizes, first at the longest text. The mean of means gives each
# part the same weight: with answers of 5 and 50 tokens in different parts, the short ones' tokens count ten times as much.
#
# ### BEGIN MARK SCHEME
# - 1 point: a choice from their own table, with time and memory.
# - 1 point: the shape of the curve on a GPU and the reason.
# - 1 point: which tokens the mean of means favours, with a number.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-sft-decision", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Reflection 3: judging a run (3 points).** From `runs` and `shares`: did fine-tuning help, did noise? Say what in your numbers is evidence and what
# may be chance, which experiment would settle it, and which two numbers you would demand of anyone who claims that a trick improves
# fine-tuning.
#
# ### BEGIN SOLUTION
# (With the student's numbers.) `shares` rises from about a half to nearly all: with 64 prompts a standard error of about 6 points, so that is
# evidence. Noise: the difference of validation losses in `runs` is of the size of that between seeds; two seeds cannot tell. Settle it: ten
# seeds each on the same splits, paired differences, mean and standard error; also another data size. Demand: the spread over seeds, and
# the validation loss (or judged quality) on prompts that were not trained on, for the same compute and a tuned baseline.
#
# ### BEGIN MARK SCHEME
# - 1 point: reads both comparisons from their own numbers.
# - 1 point: compares with the spread between seeds, or a standard error.
# - 1 point: an experiment that could fail, and two sensible demands.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# What you built, in the numbers of your own run:

# %%
def summary():
    print(f"Llama 3.1 8B at rank 16: {by_rank[16]['total'] / 1e9:.2f} GB before activations")
    print(f"micro-batches of 2 instead of 32: {by_size[32][0] / by_size[2][0]:.0f} times less kept")
    for (noise, seed), (train, held, *_) in runs.items():
        print(f"noise {noise!s:4} seed {seed}: training {train:.3f}, validation {held:.3f}")
    print(f"answers in the wanted order: {shares['base']:.0%} before, {shares['tuned']:.0%} after")


# %%
insight.run(summary, needs="Exercises 1 to 6")

# %% [markdown]
# ## Challenge (optional)
#
# 1. **Your data**: a hundred prompts and answers of your own. What does validation by rows say, and what validation by prompt?
# 2. **LoRA+**: a larger learning rate for B than for A (Hayou et al. 2024). Find the ratio that is best here.
# 3. **Early stopping**: stop when validation has not improved for three evaluations. What does it save, and what can go wrong?
#
# ## Further reading
#
# - E. Hu et al., *LoRA: Low-Rank Adaptation of Large Language Models*, 2021, arXiv:2106.09685.
# - N. Jain et al., *NEFTune: Noisy Embeddings Improve Instruction Finetuning*, 2023, arXiv:2310.05914.
# - J. Schulman and Thinking Machines Lab, *LoRA Without Regret*, 2025: ranks, targets and learning rates that match full fine-tuning.
# - Hugging Face, *Fixing Gradient Accumulation*, 2024; the documentation of trl on `SFTTrainer`.

# %% [markdown]
# ## Clean up
#
# Drop the models and the figures; on a machine with a GPU this also returns its memory.

# %%
from matplotlib import pyplot

pyplot.close("all")
base_model = runs = None
if torch.cuda.is_available():
    torch.cuda.empty_cache()
