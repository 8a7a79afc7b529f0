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
# # Readiness check: module 2.4 Efficient Architectures
#
# Fifteen minutes, no marks, nobody looks. At the end you know whether to start with lab 2.4.1 today, or which hour of rereading makes the next ten easier.

# %% [markdown]
# ## How this works
#
# Each skill has a question, a cell for your answer, a cell that checks it, and the answer, folded; two are only to be thought about. Write, run both cells, and only then unfold. A skill that costs you more than three minutes is one to reread: note it and go on.
#
# Run the next cell first.

# %%
import math

import torch
from labkit import readiness, tiny
from torch import nn

torch.set_num_threads(1)
ready = readiness.Readiness("2.4", {
    "attention": "lab 2.3.1, scaled dot products and the causal mask",
    "a model from its configuration": "lab 2.3.2, the parts of a decoder; the manual on AutoModelForCausalLM",
    "bytes of a model": "lab 2.1.4, what a number costs in each dtype",
    "devices and dtypes": "lab 2.1.1, tensors, devices and conversions",
    "generation": "lab 2.3.6, one token at a time",
    "a linear recurrence": "lab 1.4.4, powers of a matrix and its eigenvalues; lab 2.3.2 for sequences",
    "the best k": "lab 2.3.1, softmax; the manual on torch.topk",
})


# %% [markdown]
# ## From module 2.3: transformers
#
# This module is about what comes in the place of two parts of a transformer: a state of fixed size for attention, and many small networks of which few run for the one large one.

# %% [markdown]
# ### Skill 1: attention
#
# **Can you write causal attention for one head, and say how its cost grows with the length?**

# %%
def attend(q, k, v):
    """Causal attention of one head. q, k: (length, d); v: (length, e). Returns (length, e): row t sees rows 0 to t."""
    raise NotImplementedError()


# %%
with ready.skill("attention"):
    draw = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(6, d, generator=draw, dtype=torch.float64) for d in (4, 4, 3))
    got = attend(q, k, v)
    assert got.shape == (6, 3), "one output for each position, as wide as v"
    assert torch.allclose(got[0], v[0]), "the first position sees only itself: what is its weight?"
    want = nn.functional.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=True)[0]
    assert torch.allclose(got, want), "softmax over the keys up to t, of q @ k / sqrt(d)"


# %% [markdown]
# <details><summary>Answer</summary>
#
# Every position is compared with all before it: n (n + 1) / 2 scores for n tokens, so twice the length is four times the work. One at a time, each new token still reads all keys and values of the past: they are kept (the KV cache), and grow with every token.
#
# ```python
# def attend(q, k, v):
#     scores = q @ k.T / math.sqrt(q.shape[1])
#     future = torch.ones_like(scores, dtype=torch.bool).triu(1)
#     return scores.masked_fill(future, -math.inf).softmax(1) @ v
# ```
# </details>

# %% [markdown]
# ### Skill 2: a model from its configuration
#
# **Can you make a language model of transformers from a configuration, without downloading anything, and count its numbers?** All labs work that way: the architecture is real, the size is small.

# %%
def fresh_model(config, seed):
    """A causal language model of `config` with weights from `seed`, in evaluation mode, and how many numbers it has."""
    raise NotImplementedError()


# %%
with ready.skill("a model from its configuration"):
    config = tiny.llama(0).config
    (one, count), (two, _) = (fresh_model(config, seed) for seed in (3, 3))
    assert not one.training, "a fresh model may be in training mode"
    assert count == sum(p.numel() for p in tiny.llama(0).parameters()), "count numbers, not tensors"
    same = all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert same, "the same seed must give the same weights"


# %% [markdown]
# <details><summary>Answer</summary>
#
# `from_config` knows the architecture by the configuration's type; `from_pretrained` would fetch weights. `parameters()` names a shared matrix once.
#
# ```python
# def fresh_model(config, seed):
#     from transformers import AutoModelForCausalLM
#
#     torch.manual_seed(seed)
#     model = AutoModelForCausalLM.from_config(config).eval()
#     return model, sum(p.numel() for p in model.parameters())
# ```
# </details>

# %% [markdown]
# ### Skill 3: bytes of a model
#
# **Can you say how many bytes a transformer needs to answer one long prompt?** Its weights, and the keys and values of every layer for every token, all in one dtype.

# %%
def inference_bytes(parameters, layers, kv_heads, head_dim, tokens, bytes_each):
    """An int: the weights plus the KV cache of one sequence of `tokens` tokens; `bytes_each` of a number."""
    raise NotImplementedError()


# %%
with ready.skill("bytes of a model"):
    assert inference_bytes(7 * 10**9, 32, 32, 128, 0, 2) == 14 * 10**9, "7 billion numbers of 2 bytes are 14 GB"
    cache = inference_bytes(0, 32, 32, 128, 1, 2)
    assert cache == 524288, f"a token keeps a key and a value in each head of each layer: 524288 bytes here, not {cache}"
    assert inference_bytes(0, 32, 8, 128, 4096, 2) == 512 * 2**20, "8 heads for keys and values, 4096 tokens: 512 MiB"


# %% [markdown]
# <details><summary>Answer</summary>
#
# Two (a key and a value) for each layer, head and component. At 128,000 tokens the first model's cache is 67 GB, nearly five times its weights: that is what module 2.4 is about.
#
# ```python
# def inference_bytes(parameters, layers, kv_heads, head_dim, tokens, bytes_each):
#     return bytes_each * (parameters + 2 * layers * kv_heads * head_dim * tokens)
# ```
# </details>

# %% [markdown]
# ## From module 2.1: PyTorch

# %% [markdown]
# ### Skill 4: devices and dtypes
#
# **Can you bring a batch to where a model is?** Token ids stay integers, whatever the model computes in.

# %%
def to_model(batch, model):
    """A new dict: all tensors on the model's device, those of floating point in the model's dtype too."""
    raise NotImplementedError()


# %%
with ready.skill("devices and dtypes"):
    layer = nn.Linear(2, 2, dtype=torch.bfloat16, device="meta")  # a device without memory: every machine has it
    batch = {"ids": torch.tensor([1, 2]), "x": torch.ones(1, 2)}
    moved = to_model(batch, layer)
    assert {name: (t.device.type, t.dtype) for name, t in moved.items()} == {
        "ids": ("meta", torch.int64), "x": ("meta", torch.bfloat16)}, "device for all, dtype for floats alone"
    assert batch["x"].device.type == "cpu", "a new dict: the old batch stays as it is"


# %% [markdown]
# <details><summary>Answer</summary>
#
# A model has no device of its own, its parameters have. Converting ids to bfloat16 would round every id above 256.
#
# ```python
# def to_model(batch, model):
#     like = next(model.parameters())
#     return {
#         name: t.to(like.device, like.dtype if t.is_floating_point() else t.dtype) for name, t in batch.items()
#     }
# ```
# </details>

# %% [markdown]
# ### Skill 5: generation
#
# **Can you generate with a model that gives you nothing but logits?** Greedily: always the most probable token. Slow is fine here.

# %%
def continue_text(model, ids, count):
    """ids (1, length) and `count` more tokens, each the most probable one after all before it: (1, length + count)."""
    raise NotImplementedError()


# %%
with ready.skill("generation"):
    model, prompt = tiny.llama(1, num_hidden_layers=1), torch.tensor([[65, 66, 67]])
    got = continue_text(model, prompt, 5)
    assert got.shape == (1, 8), "the prompt and five more"
    want = model.generate(prompt, max_new_tokens=5, min_new_tokens=5, do_sample=False, pad_token_id=258)
    assert torch.equal(got, want), "the last row of logits predicts what comes next"


# %% [markdown]
# <details><summary>Answer</summary>
#
# Each round computes the whole prefix again. A KV cache saves that for a transformer, a state of fixed size for Mamba: lab 2.4.1 builds the second and measures both.
#
# ```python
# def continue_text(model, ids, count):
#     with torch.no_grad():
#         for _ in range(count):
#             best = model(input_ids=ids).logits[:, -1:].argmax(-1)
#             ids = torch.cat([ids, best], dim=1)
#     return ids
# ```
# </details>

# %% [markdown]
# ## From module 1.4: the mathematics

# %% [markdown]
# ### Skill 6: a linear recurrence
#
# **Can you run h[t] = A h[t-1] + b x[t], y[t] = c · h[t], from h = 0?** And say for which A an input is ever forgotten?

# %%
def recur(A, b, c, x):
    """All outputs y (length,) for the inputs x (length,). A: (n, n); b, c: (n,)."""
    raise NotImplementedError()


# %%
with ready.skill("a linear recurrence"):
    A = torch.tensor([[0.5, 0.0], [1.0, 0.0]], dtype=torch.float64)
    b, c = torch.tensor([1.0, 0.0], dtype=torch.float64), torch.tensor([0.0, 1.0], dtype=torch.float64)
    pulse = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    got = recur(A, b, c, pulse)
    assert got.shape == (4,), "one output for each input"
    assert torch.allclose(got, torch.tensor([0.0, 1.0, 0.5, 0.25], dtype=torch.float64)), "c sees the state after x[t]"


# %% [markdown]
# <details><summary>Answer</summary>
#
# After t steps a pulse has been multiplied by A to the power t. It fades if all eigenvalues of A are smaller than 1 in size; one above 1 and the state grows without bound. Mamba's A is diagonal, so its eigenvalues stand there to be read.
#
# ```python
# def recur(A, b, c, x):
#     h, outputs = torch.zeros_like(b), []
#     for value in x:
#         h = A @ h + b * value
#         outputs.append(c @ h)
#     return torch.stack(outputs)
# ```
# </details>

# %% [markdown]
# ### Skill 7: the best k
#
# **Can you pick the k largest of n logits and turn them into weights that add up to 1?** A router does nothing else.

# %%
def route(logits, k):
    """Weights (tokens, n) for logits (tokens, n): softmax over the k largest of each row, 0 for the others."""
    raise NotImplementedError()


# %%
with ready.skill("the best k"):
    logits = torch.tensor([[0.0, math.log(3.0), -1.0], [5.0, 4.0, 5.0 - math.log(4.0)]])
    got = route(logits, 2)
    assert torch.allclose(got.sum(1), torch.ones(2)), "the weights of a token add up to 1"
    assert torch.allclose(got[0], torch.tensor([0.25, 0.75, 0.0])), "only the two largest share: 1 to 3"
    assert (got[1] > 0).tolist() == [True, True, False], "which are the two largest?"

# %% [markdown]
# <details><summary>Answer</summary>
#
# Softmax over the chosen ones is the same as softmax over all, cut and divided by its sum: constants drop out. Lab 2.4.4 shows what changes when the division is left out.
#
# ```python
# def route(logits, k):
#     best = logits.topk(k, dim=1)
#     return torch.zeros_like(logits).scatter(1, best.indices, best.values.softmax(1))
# ```
# </details>

# %% [markdown]
# ## From module 1.1: the machine
#
# Only for the full-size parts; nothing that earns points needs them.

# %% [markdown]
# ### Skill 8: a container with the GPU
#
# **Can you start PyTorch's container from NVIDIA with the GPU, your work and your downloaded models inside?** Say the command before you unfold it.

# %% [markdown]
# <details><summary>Answer</summary>
#
# `docker run --gpus all --ipc=host -it --rm -v $HOME/lab:/lab -v $HOME/.cache/huggingface:/models -e HF_HOME=/models -p 8888:8888 nvcr.io/nvidia/pytorch:<tag>`: the GPU, shared memory for the workers of a DataLoader, two folders that outlive the container, a port for Jupyter.
# </details>

# %% [markdown]
# ### Skill 9: what fits
#
# **Which of these fit into 128 GB beside each other, in bfloat16: Mamba-2.8B, DeepSeekMoE-16B, Mixtral 8x7B (47 billion numbers)?**

# %% [markdown]
# <details><summary>Answer</summary>
#
# 5.6, 33 and 93 GB: not all three, and the last two leave 2 GB for caches and everything else. A mixture of experts must hold all experts, though a token runs through few: memory goes by the total, time by the active part.
# </details>

# %% [markdown]
# ## Your machine
#
# The next cell makes a tiny Mamba and a tiny Mixtral and runs each once. Two losses near log(259) = 5.56 mean that all is well. A warning that a fast path is not available is expected on a CPU. If a cell fails, `python -m labkit` says what is missing.

# %%
from transformers import AutoModelForCausalLM, MambaConfig, MixtralConfig

ids = torch.tensor([tiny.ByteTokenizer().encode("ana sees a red cat. ")])
for config in (
    MambaConfig(vocab_size=259, hidden_size=32, num_hidden_layers=1, state_size=8, time_step_rank=4),
    MixtralConfig(vocab_size=259, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
                  num_key_value_heads=1, num_local_experts=4),
):
    loss = AutoModelForCausalLM.from_config(config)(input_ids=ids, labels=ids).loss
    print(f"{type(config).__name__}: a loss of {loss.item():.2f}")

# %% [markdown]
# ## The result

# %%
ready.report()

# %% [markdown]
# ## If you are not ready
#
# | missing | where it is taught |
# |---|---|
# | skills 1 and 2: attention, a model | labs 2.3.1 and 2.3.2; an hour with one head on paper |
# | skill 3: bytes | lab 2.1.4; module 3.2 has more of it |
# | skills 4 and 5: devices, generation | labs 2.1.1 and 2.3.6 |
# | skills 6 and 7: recurrences, the best k | lab 1.4.4; half an hour with three numbers on paper |
# | skills 8 and 9: containers, the machine | module 1.1 |
#
# One gap is no reason to wait: start 2.4.1 and close it on the way. Three are: labs 2.4.1 and 2.4.2 lean on skills 1, 3 and 6, labs 2.4.3 and 2.4.4 on skill 7.

# %% [markdown]
# ## What comes next
#
# Lab 2.4.1 generates with a state of fixed size in the place of a growing cache, and 2.4.2 opens the scan that makes it. 2.4.3 and 2.4.4 split one large network into many small ones and look at who gets which token. 2.4.5 compares them all fairly, and 2.4.6 fine-tunes a Mamba with adapters.
