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
# # Readiness check: module 3.1 LLM Fine-Tuning
#
# Fifteen minutes, no marks, nobody looks. At the end you know whether to start with lab 3.1.1 today, or which hour of rereading makes the next twenty easier.

# %% [markdown]
# ## How this works
#
# Each skill has a question, a cell for your answer, a cell that checks it, and the answer, folded. Write, run both cells, and only then unfold. A skill that costs you more than three minutes is one to reread: note it and go on.
#
# Run the next cell first.

# %%
import math

import torch
from labkit import readiness, tiny
from torch import nn

torch.set_num_threads(1)
ready = readiness.Readiness("3.1", {
    "freezing a part": "lab 2.1.1, parameters and requires_grad",
    "a step of training": "lab 2.1.2, the training loop; lab 2.1.3, where gradients are kept",
    "looking inside": "lab 2.1.3, hooks",
    "probabilities in logarithms": "lab 1.4.1, logarithms of sums; the manual on torch.logsumexp",
    "rank": "lab 1.4.4, singular values",
    "the causal shift": "lab 2.3.2, which row of logits predicts which token",
    "masked means": "lab 2.3.2, masks; lab 2.1.2, padded batches",
    "bytes of a run": "lab 2.1.4, what a training step keeps",
})


# %% [markdown]
# ## From module 2.1: modules and gradients
#
# Fine-tuning is mostly a matter of *which* numbers may move, and of nothing else moving.

# %% [markdown]
# ### Skill 1: freezing a part
#
# **Can you freeze everything but the biases of a model, and say how many numbers are left to train?**

# %%
def only_biases(model):
    """Freeze all parameters of `model` whose name does not end in "bias". Returns the number of trainable numbers."""
    raise NotImplementedError()


# %%
with ready.skill("freezing a part"):
    model = nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))
    assert only_biases(model) == 5, "3 + 2 biases: numbers are counted, not tensors"
    assert [p.requires_grad for p in model.parameters()] == [False, True, False, True], "which ones may still move?"


# %% [markdown]
# <details><summary>Answer</summary>
#
# `named_parameters` walks through all submodules. What has `requires_grad=False` gets no gradient, so an optimizer leaves it alone.
#
# ```python
# def only_biases(model):
#     for name, parameter in model.named_parameters():
#         parameter.requires_grad_(name.endswith("bias"))
#     return sum(p.numel() for p in model.parameters() if p.requires_grad)
# ```
# </details>

# %% [markdown]
# ### Skill 2: a step of training
#
# **Can you write one step so that calling it twice makes two equal steps?** Plain gradient descent, without an optimizer object.

# %%
def descend(model, loss_of, rate):
    """One step p <- p - rate * gradient for every parameter of `model`; `loss_of(model)` computes the loss. Returns it as a float."""
    raise NotImplementedError()


# %%
with ready.skill("a step of training"):
    line = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        line.weight.fill_(1.0)
    losses = [descend(line, lambda m: 3.0 * m.weight.sum(), rate=0.1) for _ in range(2)]
    assert losses[0] == 3.0 and type(losses[0]) is float, "return the loss before the step, as a float"
    assert abs(line.weight.item() - 0.4) < 1e-6, f"two steps of 0.3 from 1.0 end at 0.4, not {line.weight.item():.2f}"
    assert line.weight.requires_grad and line.weight.is_leaf, "the parameter must be the same trainable one as before"


# %% [markdown]
# <details><summary>Answer</summary>
#
# Gradients add up until they are cleared, so a second step would otherwise repeat the first. The step itself is no computation to differentiate.
#
# ```python
# def descend(model, loss_of, rate):
#     model.zero_grad()
#     loss = loss_of(model)
#     loss.backward()
#     with torch.no_grad():
#         for parameter in model.parameters():
#             parameter -= rate * parameter.grad
#     return loss.item()
# ```
# </details>

# %% [markdown]
# ### Skill 3: looking inside
#
# **Can you change what a layer returns without touching its class, and undo it?** Lab 3.1.3 adds noise that way.

# %%
def doubled(layer, x):
    """layer(x) with its output doubled by a forward hook, which is gone again afterwards."""
    raise NotImplementedError()


# %%
with ready.skill("looking inside"):
    layer, x = nn.Linear(3, 2), torch.ones(3)
    plain = layer(x)
    assert torch.equal(doubled(layer, x), 2 * plain), "a forward hook's result replaces the output"
    assert torch.equal(layer(x), plain), "the hook is still there"


# %% [markdown]
# <details><summary>Answer</summary>
#
# A hook that returns something replaces the output. What `register_forward_hook` returns knows how to take it off again.
#
# ```python
# def doubled(layer, x):
#     handle = layer.register_forward_hook(lambda module, inputs, output: 2 * output)
#     try:
#         return layer(x)
#     finally:
#         handle.remove()
# ```
# </details>

# %% [markdown]
# ## From module 1.4: the mathematics

# %% [markdown]
# ### Skill 4: probabilities in logarithms
#
# **Can you compute the log-probabilities of logits of any size?** Without `torch.log_softmax`, and without overflow at logits of 1000.

# %%
def log_probabilities(logits):
    """A tensor of the shape of `logits` (n,): the logarithm of softmax(logits)."""
    raise NotImplementedError()


# %%
with ready.skill("probabilities in logarithms"):
    for logits in (torch.tensor([0.0, 0.0]), torch.tensor([1000.0, 999.0, -1000.0])):
        got = log_probabilities(logits)
        assert torch.isfinite(got).all(), "exp(1000) overflows: what may be subtracted from all logits?"
        assert torch.allclose(got, torch.log_softmax(logits, 0), rtol=1e-5, atol=1e-6), "do the probabilities add up to 1?"


# %% [markdown]
# <details><summary>Answer</summary>
#
# A constant that is subtracted from all logits drops out of softmax; the largest logit makes every exponent at most 0. `torch.logsumexp` does the same inside.
#
# ```python
# def log_probabilities(logits):
#     shifted = logits - logits.max()
#     return shifted - shifted.exp().sum().log()
# ```
# </details>

# %% [markdown]
# ### Skill 5: rank
#
# **Can you find the matrix of rank r that is closest to W?** It is what an adapter of rank r could do at best.

# %%
def closest(W, r):
    """The best approximation of W (m, n) by a matrix of rank r, in the Frobenius norm."""
    raise NotImplementedError()


# %%
with ready.skill("rank"):
    W = torch.diag(torch.tensor([3.0, 2.0, 1.0]))
    assert torch.allclose(closest(W, 2), torch.diag(torch.tensor([3.0, 2.0, 0.0])), rtol=0, atol=1e-5), "keep the largest"
    tall = torch.randn(7, 4, generator=torch.Generator().manual_seed(0))
    assert torch.linalg.matrix_rank(closest(tall, 1), tol=1e-4) == 1, "for r = 1 the rank should be 1"
    assert torch.allclose(closest(tall, 4), tall, rtol=0, atol=1e-5), "with the full rank nothing may be lost"


# %% [markdown]
# <details><summary>Answer</summary>
#
# The singular value decomposition orders directions by size. Cutting after r of them is optimal (Eckart and Young 1936).
#
# ```python
# def closest(W, r):
#     U, S, Vh = torch.linalg.svd(W, full_matrices=False)
#     return U[:, :r] * S[:r] @ Vh[:r]
# ```
# </details>

# %% [markdown]
# ## From module 2.3: language models

# %% [markdown]
# ### Skill 6: the causal shift
#
# **Can you compute the loss of a causal language model from its logits?** The mean cross-entropy in nats over all tokens that are predicted.

# %%
def next_token_loss(logits, ids):
    """A tensor without axes. logits: (batch, length, vocabulary); ids: (batch, length)."""
    raise NotImplementedError()


# %%
with ready.skill("the causal shift"):
    model = tiny.llama(0, num_hidden_layers=1)
    ids = torch.tensor([tiny.ByteTokenizer().encode("ana sees a red cat. ")])
    out = model(input_ids=ids, labels=ids)
    mine = next_token_loss(out.logits, ids)
    assert mine.shape == (), "one number for all"
    assert abs(mine.item() - out.loss.item()) < 1e-4, f"transformers says {out.loss.item():.4f}: what does row t predict?"


# %% [markdown]
# <details><summary>Answer</summary>
#
# Row t of the logits predicts token t + 1, so the last row and the first token have no partner.
#
# ```python
# def next_token_loss(logits, ids):
#     return nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
# ```
# </details>

# %% [markdown]
# ### Skill 7: masked means
#
# **Can you average the losses of a padded batch, over real tokens only?** Every token counts alike, whichever row it stands in.

# %%
def masked_mean(losses, mask):
    """A tensor without axes. losses: (batch, length); mask: the same shape, 1 for real tokens. 0 if there are none."""
    raise NotImplementedError()


# %%
with ready.skill("masked means"):
    losses = torch.tensor([[1.0, 2.0, 50.0], [3.0, 70.0, 90.0]])
    assert masked_mean(losses, torch.tensor([[1, 1, 0], [1, 0, 0]])) == 2.0, "a mean of row means would be 2.25"
    assert masked_mean(losses, torch.zeros(2, 3)) == 0.0, "0 / 0 is NaN: guard the divisor"


# %% [markdown]
# <details><summary>Answer</summary>
#
# Sum everything, divide once. A mean of means would let a short row weigh as much as a long one.
#
# ```python
# def masked_mean(losses, mask):
#     return (losses * mask).sum() / mask.sum().clamp(min=1)
# ```
# </details>

# %% [markdown]
# ### Skill 8: bytes of a run
#
# **Can you say how many bytes AdamW training keeps from step to step, if only some parameters are trained?** All in the dtype of the parameter: weights, gradients, two moments.

# %%
def kept_bytes(model):
    """An int: weights of all parameters; gradients and two moments of the trainable ones."""
    raise NotImplementedError()


# %%
with ready.skill("bytes of a run"):
    model = nn.Sequential(nn.Linear(10, 10, bias=False), nn.Linear(10, 5, bias=False))
    assert kept_bytes(model) == 16 * 150, "float32, everything trained: 16 bytes a number"
    model[0].requires_grad_(False)
    assert kept_bytes(model) == 4 * 150 + 12 * 50, "what is frozen has neither a gradient nor moments"
    assert kept_bytes(model.to(torch.bfloat16)) == 2 * 150 + 6 * 50, "ask the parameter how many bytes it has"

# %% [markdown]
# <details><summary>Answer</summary>
#
# LoRA removes the second sum almost entirely; the first stays, and QLoRA attacks that one.
#
# ```python
# def kept_bytes(model):
#     weights = sum(p.nbytes for p in model.parameters())
#     return weights + 3 * sum(p.nbytes for p in model.parameters() if p.requires_grad)
# ```
# </details>

# %% [markdown]
# ## Your machine
#
# The next cell makes a tiny Llama, lets PEFT put an adapter into it, and runs it once. It should print a share of about 3 %. If it does not, `python -m labkit` says what is missing.

# %%
from peft import LoraConfig, get_peft_model

adapted = get_peft_model(tiny.llama(0), LoraConfig(r=8, target_modules=["q_proj", "v_proj"]))
trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
print(f"{trained / sum(p.numel() for p in adapted.parameters()):.1%} of the numbers would train; loss "
      f"{adapted(input_ids=ids, labels=ids).loss.item():.2f}, and log(259) = {math.log(259):.2f}")

# %% [markdown]
# ## The result

# %%
ready.report()

# %% [markdown]
# ## If you are not ready
#
# | missing | where it is taught |
# |---|---|
# | skills 1 to 3: freezing, a step, hooks | labs 2.1.1 to 2.1.3; an hour with a network of two layers |
# | skills 4 and 5: logarithms, rank | labs 1.4.1 and 1.4.4 |
# | skills 6 and 7: shift, masks | lab 2.3.2; half an hour with one sentence and its logits on paper |
# | skill 8: bytes | lab 2.1.4, then this page again |
#
# One gap is no reason to wait: start 3.1.1 and close it on the way. Three are: labs 3.1.1 to 3.1.5 lean on skills 1, 5 and 8, and 3.1.6 to 3.1.9 on skills 4, 6 and 7.

# %% [markdown]
# ## What comes next
#
# Lab 3.1.1 builds LoRA from two small matrices. After it come better adapters (3.1.2), noise that helps (3.1.3), a whole training run (3.1.4), four bits under an adapter (3.1.5), data (3.1.6), three ways to train on what people prefer (3.1.7 to 3.1.9), and a file that a phone could run (3.1.10).
