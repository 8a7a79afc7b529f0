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
# # Lab 3.1.10: Integration with Ollama
#
# | | |
# |---|---|
# | Module | 3.1 LLM Fine-Tuning |
# | Time | 2 to 3 hours |
# | Difficulty | ★★★☆☆ |
# | Hardware | gpu-optional: all points can be earned on a CPU; *On your Spark* is for a large GPU |
# | Points | 31 automatic, 9 read by a person |
# | Builds on | 3.1.4 8B Model LoRA Fine-tuning, 3.1.6 Dataset Preparation |
#
# Your adapter is trained. Nobody can use it yet. You are going to merge it, rename and reorder its tensors, quantise them
# to 8 bits, write it all into one GGUF file with its tokenizer and settings, parse that file by hand, and prove that the
# model in the file is the model that you trained.

# %% [markdown]
# ## What you'll achieve
#
# By the end you have
#
# 1. **Systems understanding**: read a model file byte by byte: header, metadata, tensor table, aligned data (objective 3.1.2).
# 2. **Core skill**: brought a fine-tuned model from a training library to a serving one, adapter, tokenizer and all
#    (objective 3.1.2).
# 3. **A pattern**: a converter that is checked by running what it wrote, not by looking at it.
# 4. **A tie to production**: a file that the `gguf` package reads, and the Modelfile for `ollama create`.
# 5. **A trade-off**: bytes against error, tensor by tensor: F32, F16, Q8_0.

# %% [markdown]
# ## Before you start
#
# In 3.1.4 you trained an adapter with peft, in 3.1.6 you rendered conversations in ChatML. **What works**: the model answers,
# inside of Python, with three libraries around it. **The gap**: Ollama and llama.cpp know neither peft nor transformers. They
# read one file, and believe every number in it. **This lab** writes that file.
#
# ```
# 3.1.1 merge ────────┐
# 3.1.4 adapter ──────┼──>  3.1.10 one file  ──>  ollama create, ollama run
# 3.1.6 template ─────┘            └──>  3.2.6 more kinds of quantisation
# ```

# %% [markdown]
# ### Skill checks
#
# Answer first, then unfold.
#
# <details><summary>1. An adapter has A (r x in) and B (out x r). What is the merged weight?</summary>
#
# W + (alpha / r) B A, of shape (out, in). After that, the adapter costs nothing any more.
# </details>
#
# <details><summary>2. What does RoPE do to a query, and why may one reorder its dimensions?</summary>
#
# It rotates pairs of dimensions by an angle that grows with the position. Attention only sees dot products of queries and
# keys, and these do not change when both are reordered alike.
# </details>
#
# <details><summary>3. What is the largest error of rounding a number to multiples of d?</summary>
#
# d / 2.
# </details>

# %% nbgrader={"grade": false, "grade_id": "gguf-given-setup", "locked": true, "schema_version": 3, "solution": false, "task": false}
import contextlib
import copy
import io
import json
import math
import re
import struct
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import gguf
import numpy as np
import torch
from labkit import checking, insight, tiny
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GPT2Tokenizer, PretrainedConfig, PreTrainedTokenizerBase
from transformers.convert_slow_tokenizer import bytes_to_unicode
from transformers.utils.logging import disable_progress_bar

# %% nbgrader={"grade": false, "grade_id": "gguf-given-settings", "locked": true, "schema_version": 3, "solution": false, "task": false}
warnings.filterwarnings("ignore")  # from inside transformers and peft, nothing to do with you
torch.set_num_threads(1)  # with matrices this small, a second thread would mostly wait for the first
disable_progress_bar()

# %% [markdown]
# Readiness check: the skills, run. It should print `ready`.

# %%
A, B = torch.ones(2, 3), torch.ones(4, 2)
assert (B @ A).shape == (4, 3)
assert struct.unpack("<IB", b"\x01\x00\x00\x00\xff") == (1, 255)
assert np.arange(6).reshape(2, 3).swapaxes(0, 1).ravel().tolist() == [0, 3, 1, 4, 2, 5]
print("ready")

# %% [markdown]
# ## Why it matters
#
# A converted model that is wrong does not crash. With the rows of the queries in the wrong order it still writes words, only
# stupid ones. With a rope base that was left at its default it is fine up to some hundred tokens and then forgets. With the
# end token marked as an ordinary word it never stops, and with two begin tokens it is a few percent worse, which nobody notices.
#
# It happens to the best: until spring 2024 GGUF files of Llama 3 did not say how words are split before the merges, runtimes split
# them as GPT-2 does, and files had to be converted anew (llama.cpp, pull request 6920). The cure is cheap: read the file back, run it,
# compare the logits and the ids. In production this check belongs into the pipeline, before anything is uploaded.

# %% [markdown]
# ## At the kitchen table
#
# You move house, and a removal firm that does not speak your language packs everything into one lorry.
#
# | kitchen | GGUF |
# |---|---|
# | the sticker "kitchen, box 3" in the firm's words | `blk.0.attn_q.weight` for `model.layers.0.self_attn.q_proj.weight` |
# | plates packed in the order in which their shelf takes them | the rows of q and k, reordered for the other RoPE |
# | winter clothes in vacuum bags | blocks of 32 weights in 8 bits, with one scale |
# | the list at the lorry's door | header, metadata and tensor table |
# | boxes begin at full metres | alignment: data that can be mapped into memory as it lies |
#
# **Where it breaks**: vacuumed clothes come out as they went in. Quantised weights do not.

# %% [markdown]
# ## Foundations
#
# A GGUF file, version 3, all numbers little-endian:
#
# ```
# "GGUF"  u32 version  u64 tensors  u64 fields                              the header
# key: string   u32 type   value                                            a field, as often as said
# name: string   u32 axes   u64 length of each, the last axis first   u32 type   u64 offset      a tensor's entry
# zeros up to a multiple of the alignment (the field general.alignment, 32 if there is none)
# data of the tensors, each beginning at a multiple of the alignment; offsets count from the first of them
# ```
#
# A string is a u64 with its bytes in UTF-8. Types of values:
#
# | 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 | 11 | 12 |
# |---|---|---|---|---|---|---|---|---|---|---|---|---|
# | u8 | i8 | u16 | i16 | u32 | i32 | f32 | bool, 1 byte | string | array | u64 | i64 | f64 |
#
# An array is a u32 with the type of its elements, a u64 with their number, and the elements. Types of tensors here: 0 is F32,
# 1 is F16, 8 is Q8_0.

# %% [markdown]
# **RoPE, twice.** For a head of width $D$, transformers rotates dimension $i$ with $i+D/2$ (halves); the `llama` architecture of
# GGUF rotates $2i$ with $2i+1$ (neighbours), by the same angle. Therefore the rows of $W_q$ and $W_k$ are reordered, in each head:
#
# $$\text{row } 2i+j \text{ of the file} = \text{row } i+j\,D/2 \text{ of the model},\qquad 0\le i<D/2,\ j\in\{0,1\}$$
#
# **Q8_0.** 32 weights $x$ share a scale $d=\max|x|/127$ and become the integers $q=\mathrm{round}(x/d)$. A block takes $2+32$
# bytes: $d$ as float16, then the $q$ as int8; that is 8.5 bits a weight. The runtime computes $d_{16}\,q$, so the error is
#
# $$|x-d_{16}q|\le \frac d2+127\,|d-d_{16}|\le \max|x|\left(\frac1{254}+2^{-11}\right)$$
#
# as long as $d$ is a normal float16, above $2^{-14}$.
#
# **Tokenizer.** A byte-pair encoding needs its tokens, in order of their ids, and its merges, in order of their rank. (Models in the manner of
# SentencePiece have a *score* for each token in place of merges; ours has none.) A *type* for each token says which are ordinary (1),
# control tokens like the end (3), added by a user (4) or unused (5).

# %% [markdown]
# ### One example in numbers
#
# A block with the largest value 127: then $d=1$, and every weight is rounded to an integer. 2.5 is a tie; C's `roundf`, and so GGUF,
# rounds ties *away from zero*, to 3. NumPy's `round` takes the even neighbour, 2.

# %%
row = np.zeros((1, 32), dtype=np.float32)
row[0, :4] = 127, 2.5, -0.5, 0.4
block = gguf.quants.quantize(row, gguf.GGMLQuantizationType.Q8_0)[0]
print(f"{len(block)} bytes; scale {block[:2].view(np.float16)[0]}, integers {block[2:6].view(np.int8)}; NumPy: {np.round(row[0, :4])}")


# %% [markdown]
# ## Part 1: The tensors
#
# A tiny Llama, with everything unusual that a real one may have: fewer heads for keys, another rope base, norms that are not 1.

# %% nbgrader={"grade": false, "grade_id": "gguf-given-draw-model", "locked": true, "schema_version": 3, "solution": false, "task": false}
def draw_model(seed: int, **changes: Any) -> nn.Module:
    """A small Llama from a seed, with norm weights between 0.5 and 1.5."""
    fields = {"vocab_size": 320, "rms_norm_eps": 1e-5, "rope_parameters": {"rope_theta": 5e4, "rope_type": "default"}}
    model = tiny.llama(seed, **(fields | changes))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.copy_(0.5 + torch.rand(weight.shape, generator=generator))
    return model


# %% nbgrader={"grade": false, "grade_id": "gguf-given-draw-adapter", "locked": true, "schema_version": 3, "solution": false, "task": false}
def with_adapter(model: nn.Module, seed: int, rank: int = 4, alpha: float = 6.0) -> nn.Module:
    """A copy of the model with a random LoRA adapter by peft."""
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return get_peft_model(copy.deepcopy(model), config).eval()


# %%
for name, weight in list(get_peft_model_state_dict(with_adapter(draw_model(0), seed=0)).items())[:4]:
    print(f"{name:72} {tuple(weight.shape)}")


# %% [markdown]
# ### Exercise 1: merge the adapter
#
# An adapter's file names its tensors after the layer that they belong to. Merge it into the model's weights, by name.

# %% nbgrader={"grade": false, "grade_id": "gguf-merge", "locked": false, "schema_version": 3, "solution": true, "task": false}
def merge_adapter(weights: Mapping[str, Tensor], adapter: Mapping[str, Tensor], scaling: float) -> dict[str, Tensor]:
    """Merge a LoRA adapter into the weights of its model.

    Args:
        weights: a model's state dict; a layer's weight (out, in) has a name like "model.layers.0.mlp.up_proj.weight".
        adapter: pairs of matrices, "base_model.model." + layer + ".lora_A.weight" of shape (r, in) and the same with
            ".lora_B.weight" of shape (out, r); the layer's name is that of its weight without ".weight". In any order.
        scaling: alpha / r.

    Returns:
        A new dict with the names of `weights` in their order: W + scaling * B A where there is a pair, computed in float32
        and returned in W's dtype; the other tensors as they are. The arguments stay unchanged.

    Raises:
        ValueError: a matrix has no partner, or its layer's weight is not in `weights`; the message names the layer.

    TODO: Find the layer of each matrix, check that the pair is complete, and add the products.

    APPROACH:
        1. Collect the layers' names from all keys, because a lone B must be noticed as well as a lone A.
        2. Add out of place, because the same base may serve other adapters.
        3. Compute in float32, because bf16 would round the small update before it is added.

    EXAMPLE:
        >>> adapter = {"base_model.model.x.lora_B.weight": torch.ones(2, 1), "base_model.model.x.lora_A.weight": torch.ones(1, 2)}
        >>> merge_adapter({"x.weight": torch.eye(2)}, adapter, scaling=0.5)
        {'x.weight': tensor([[1.5000, 0.5000],
                [0.5000, 1.5000]])}

    HINTS:
        1. `str.removeprefix`, and `str.partition(".lora_")`, take a key apart.
        2. A set of layers visits each pair once.
        3. `adapter.get(...)` is None where a partner is missing.
    """
    ### BEGIN SOLUTION
    merged = dict(weights)
    for layer in {key.removeprefix("base_model.model.").partition(".lora_")[0] for key in adapter}:
        a, b = (adapter.get(f"base_model.model.{layer}.lora_{side}.weight") for side in "AB")
        weight = weights.get(f"{layer}.weight")
        if a is None or b is None or weight is None:
            raise ValueError(f"{layer}: needs lora_A, lora_B and a weight in the model")
        merged[f"{layer}.weight"] = (weight.float() + scaling * (b.float() @ a.float())).to(weight.dtype)
    return merged
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-gguf-merge", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Checks: the merged weights equal peft's own merge; order, dtypes, arguments unchanged, refusals.
# Catches: A B for B A, the scaling left out, changes in place, matrices without a partner.
# A pass prints nothing.
def test_unit_gguf_merge():
    def check(seed, rank, alpha, what):
        model = draw_model(seed)
        adapted, weights = with_adapter(model, seed, rank, alpha), model.state_dict()
        adapter = get_peft_model_state_dict(adapted)
        with checking.unchanged(**{name.replace(".", "_"): t for name, t in (weights | adapter).items()}):
            got = merge_adapter(weights, adapter, alpha / rank)
        want = adapted.merge_and_unload().state_dict()
        checking.equal(list(got), list(want), what=f"names of {what}")
        for name, value in want.items():
            # float32 sums of at most `rank` products below 10: 16 * 10 * 6e-8.
            checking.close(got[name], value, rtol=0, atol=1e-5, what=f"{name} of {what}", hint="W + scaling * B A")

    check(0, 4, 6.0, "an adapter of rank 4")
    ### BEGIN HIDDEN TESTS
    # check: other ranks and scalings
    # hint: which of the two matrices stands on the left, and is the scaling in?
    seed = checking.secret_seed() % 10**6
    check(seed, 1, 16.0, "an adapter of rank 1")
    check(seed + 1, 16, 4.0, "an adapter of rank 16")
    # check: bf16, and no adapter at all
    # hint: the dtype of each weight stays what it was.
    pair = {f"base_model.model.x.lora_{k}.weight": v.bfloat16() for k, v in (("A", torch.full((1, 2), 0.1)), ("B", torch.ones(2, 1)))}
    got = merge_adapter({"x.weight": torch.ones(2, 2, dtype=torch.bfloat16)}, pair, 0.25)["x.weight"]
    checking.equal(got, torch.full((2, 2), 1.025).bfloat16(), what="a merged bf16 weight")
    checking.equal(merge_adapter({"x.weight": got}, {}, 1.0), {"x.weight": got}, what="weights without an adapter")
    # check: matrices without a partner or a layer
    # hint: take one of the two away, or rename the weight: who notices?
    for gone in pair:
        rest = {key: value for key, value in pair.items() if key != gone}
        checking.raises(ValueError, merge_adapter, {"x.weight": got}, rest, 1.0, what=f"an adapter without {gone}")
    error = checking.raises(ValueError, merge_adapter, {"layer.weight": got}, pair, 1.0, what="an adapter without its layer")
    assert "x" in str(error), f"the message should name the layer, and says: {error}"
    ### END HIDDEN TESTS


test_unit_gguf_merge()


# %% [markdown]
# ### What just happened?
#
# The adapter is gone: one matrix for each layer, of the old shape. Serving it costs what serving the base model costs.
#
# ### Exercise 2: names and rows
#
# The other side has names of its own, and another RoPE. Rename every tensor and reorder the rows of queries and keys.

# %% nbgrader={"grade": false, "grade_id": "gguf-tensors", "locked": false, "schema_version": 3, "solution": true, "task": false}
def to_gguf_tensors(weights: Mapping[str, Tensor], heads: int, kv_heads: int) -> dict[str, np.ndarray]:
    """Rename the tensors of a Llama for GGUF, and reorder the rows of its queries and keys.

    Args:
        weights: the model's state dict, of any floating dtype.
        heads, kv_heads: of the queries, and of the keys.

    Returns:
        float32 arrays of the same shapes, in the same order, under these names (N is the number of the layer):
        model.embed_tokens -> token_embd, model.norm -> output_norm, lm_head -> output, and for model.layers.N.:
        input_layernorm -> blk.N.attn_norm, post_attention_layernorm -> blk.N.ffn_norm, self_attn.q_proj -> blk.N.attn_q (k_proj
        and v_proj alike), self_attn.o_proj -> blk.N.attn_output, mlp.gate_proj -> blk.N.ffn_gate (up_proj and down_proj
        alike), each with ".weight" behind it. Rows of attn_q and attn_k are reordered in each head, see the foundations.

    Raises:
        ValueError: a name is none of these; the message names it.

    TODO: Translate each name by a table, and reorder the rows of two kinds of tensors.

    APPROACH:
        1. Take the layer's number out of the name first, because then one table serves all layers.
        2. See the rows as (heads, 2, D / 2), because then the reordering is a swap of two axes.
        3. Use the number of *key* heads for keys, because there are fewer of them, and D is the same.

    EXAMPLE:
        >>> rows = {"model.layers.3.self_attn.q_proj.weight": torch.arange(8.0)[:, None]}
        >>> {name: array.ravel().tolist() for name, array in to_gguf_tensors(rows, heads=2, kv_heads=1).items()}
        {'blk.3.attn_q.weight': [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]}

    HINTS:
        1. A regular expression with two groups, number and rest, or `name.split(".")`.
        2. In the example D is 4: rows 0 1 | 2 3 become 0 2 1 3.
        3. `x.reshape(heads, 2, -1, width).swapaxes(1, 2).reshape(x.shape)`, in NumPy or torch.
    """
    ### BEGIN SOLUTION
    table = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    inner = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.o_proj": "attn_output"}
    inner |= {f"self_attn.{kind}_proj": f"attn_{kind}" for kind in "qkv"}
    inner |= {f"mlp.{kind}_proj": f"ffn_{kind}" for kind in ("gate", "up", "down")}
    tensors = {}
    for name, weight in weights.items():
        found = re.fullmatch(r"model\.layers\.(\d+)\.(.+)\.weight", name)
        short = found[2] if found else name.removesuffix(".weight")
        if short not in (inner if found else table) or not name.endswith(".weight"):
            raise ValueError(f"no name in GGUF for {name}")
        array = weight.float().numpy()
        if short in ("self_attn.q_proj", "self_attn.k_proj"):
            count = heads if short == "self_attn.q_proj" else kv_heads
            array = array.reshape(count, 2, -1, array.shape[1]).swapaxes(1, 2).reshape(array.shape)
        tensors[f"blk.{found[1]}.{inner[short]}.weight" if found else f"{table[short]}.weight"] = array
    return tensors
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "gguf-given-reordered", "locked": true, "schema_version": 3, "solution": false, "task": false}
NAMES = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 13)


def gguf_of(name: str) -> str:
    """The name of a tensor by the gguf package's own table, up to layer 12."""
    return NAMES.get_name(name, try_suffixes=(".weight",))


def reordered(weight: Tensor, heads: int) -> np.ndarray:
    """The rows one by one, by the formula of the foundations."""
    width = len(weight) // heads
    rows = [head * width + i + j * width // 2 for head in range(heads) for i in range(width // 2) for j in (0, 1)]
    return np.stack([weight[r].float().numpy() for r in rows])


# %% nbgrader={"grade": true, "grade_id": "test-gguf-tensors", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: names by the gguf package's table, order, values, rows of queries and keys one by one, unknown names.
# Catches: keys reordered with the number of query heads, values reordered too, layers above 9, dtypes other than float32.
# A pass prints what each of two checks earned.
def test_unit_gguf_tensors():
    def check(weights, heads, kv_heads, what, rows):
        with checking.unchanged(**{name.replace(".", "_"): t for name, t in weights.items()}):
            got = to_gguf_tensors(weights, heads, kv_heads)
        checking.equal(list(got), [gguf_of(name) for name in weights], what=f"names of {what}")
        for name, weight in weights.items():
            if any(kind in name for kind in ("q_proj", "k_proj")) == rows:
                want = reordered(weight, heads if "q_proj" in name else kv_heads) if rows else weight.float().numpy()
                checking.equal(got[gguf_of(name)], want, what=f"{gguf_of(name)} of {what}")

    credit = checking.Credit(4)
    tied = draw_model(1, num_attention_heads=8, num_key_value_heads=1, num_hidden_layers=11).bfloat16().state_dict()
    tied.pop("lm_head.weight")
    deep = {"model.layers.12.self_attn.k_proj.weight": torch.randn(12, 5), "model.norm.weight": torch.ones(5)}
    with credit.check("names and values", points=2, hint="compare your list of names with the docstring"):
        check(draw_model(0).state_dict(), 4, 2, "a model", rows=False)
        ### BEGIN HIDDEN TESTS
        # check: bf16, many layers, no output matrix
        # hint: some models have no lm_head: translate what is there, whatever the number of the layer.
        check(tied, 8, 1, "a model without an output matrix", rows=False)
        # check: names that are not known
        # hint: a bias, an adapter's matrix or an old buffer must not get lost silently.
        odd = ("model.layers.0.self_attn.q_proj.bias", "x.model.norm.weight", "model.layers.0.mlp.weight", "model.norm",
               "model.layers.1.mlp.up_proj.lora_A.weight", "model.layers.x.mlp.up_proj.weight", "self_attn.v_proj.weight")
        for name in odd:
            error = checking.raises(ValueError, to_gguf_tensors, {name: torch.ones(4, 4)}, 1, 1, what=f"the name {name}")
            assert name in str(error), f"the message should name the tensor {name}, and says: {error}"
        ### END HIDDEN TESTS
    with credit.check("rows of queries and keys", points=2, hint="which row of the file holds row 1 of the model?"):
        check(draw_model(0).state_dict(), 4, 2, "a model", rows=True)
        ### BEGIN HIDDEN TESTS
        # check: other numbers of heads
        # hint: the width of a head is the number of rows over the number of *its* heads.
        check(tied, 8, 1, "one key head for eight", rows=True)
        check(deep, 9, 3, "a tensor of layer 12", rows=True)
        ### END HIDDEN TESTS
    return credit.total()


test_unit_gguf_tensors()


# %% [markdown]
# ### What just happened?
#
# Is it still the same model? Ask a runtime that knows only the file's side: forty lines that do what llama.cpp does with a `llama`
# model, with RoPE on neighbours. Read it: everything that it needs to know, it takes from `fields`.

# %% nbgrader={"grade": false, "grade_id": "gguf-given-runtime-parts", "locked": true, "schema_version": 3, "solution": false, "task": false}
def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Root mean square norm over the last axis."""
    return weight * x / (x.square().mean(-1, keepdim=True) + eps).sqrt()


def rotate_neighbours(x: Tensor, base: float) -> Tensor:
    """RoPE on (positions, heads, D): dimensions 2i and 2i + 1 by the angle position * base ** (-2i / D)."""
    count, _, width = x.shape
    rates = base ** (-torch.arange(0, width, 2, dtype=x.dtype) / width)
    angles = (torch.arange(count, dtype=x.dtype)[:, None] * rates)[:, None]
    even, odd = x[..., ::2], x[..., 1::2]
    turned = (even * angles.cos() - odd * angles.sin(), even * angles.sin() + odd * angles.cos())
    return torch.stack(turned, dim=-1).flatten(-2)


# %% nbgrader={"grade": false, "grade_id": "gguf-given-runtime", "locked": true, "schema_version": 3, "solution": false, "task": false}
def runtime_logits(fields: Mapping[str, Any], tensors: Mapping[str, np.ndarray], ids: Sequence[int]) -> Tensor:
    """Logits (tokens, vocabulary) in float64, from what a GGUF file holds and nothing else."""
    w = {name: torch.from_numpy(np.ascontiguousarray(array)).double() for name, array in tensors.items()}
    heads, kv_heads = fields["llama.attention.head_count"], fields["llama.attention.head_count_kv"]
    eps, base = fields["llama.attention.layer_norm_rms_epsilon"], fields["llama.rope.freq_base"]
    x = w["token_embd.weight"][torch.tensor(ids)]
    hidden = torch.ones(len(ids), len(ids), dtype=torch.bool).triu(1)
    for block in range(fields["llama.block_count"]):
        part = {name.split(".")[2]: value for name, value in w.items() if name.startswith(f"blk.{block}.")}
        y = rms_norm(x, part["attn_norm"], eps)
        q, k, v = (y @ part[f"attn_{kind}"].T for kind in "qkv")
        q = rotate_neighbours(q.unflatten(-1, (heads, -1)), base)
        k = rotate_neighbours(k.unflatten(-1, (kv_heads, -1)), base).repeat_interleave(heads // kv_heads, dim=1)
        v = v.unflatten(-1, (kv_heads, -1)).repeat_interleave(heads // kv_heads, dim=1)
        scores = torch.einsum("ihd,jhd->hij", q, k) / math.sqrt(q.shape[-1])
        seen = scores.masked_fill(hidden, -math.inf).softmax(-1)
        x = x + torch.einsum("hij,jhd->ihd", seen, v).flatten(1) @ part["attn_output"].T
        y = rms_norm(x, part["ffn_norm"], eps)
        x = x + (nn.functional.silu(y @ part["ffn_gate"].T) * (y @ part["ffn_up"].T)) @ part["ffn_down"].T
    return rms_norm(x, w["output_norm.weight"], eps) @ w.get("output.weight", w["token_embd.weight"]).T


# %%
def same_model():
    model, ids = draw_model(0), [5, 300, 7, 7, 120, 9]
    fields = {"llama.attention.head_count": 4, "llama.attention.head_count_kv": 2, "llama.block_count": 2,
              "llama.attention.layer_norm_rms_epsilon": 1e-5, "llama.rope.freq_base": 5e4}
    with torch.no_grad():
        want = model(torch.tensor([ids])).logits[0]
    for name, keys in (("reordered", 2), ("keys with the heads of queries", 4)):
        got = runtime_logits(fields, to_gguf_tensors(model.state_dict(), 4, keys), ids)
        print(f"{name:32} largest difference of a logit {(got - want).abs().max():.1e}, logits spread {want.std():.2f}")


# %%
insight.run(same_model, needs="Exercise 2 (to_gguf_tensors)")


# %% [markdown]
# ## Part 2: Eight bits
#
# ### Exercise 3: Q8_0
#
# Blocks of 32 weights, one scale. It must be *exactly* what the gguf package makes, so that files compare equal byte by byte.

# %% nbgrader={"grade": false, "grade_id": "gguf-q8", "locked": false, "schema_version": 3, "solution": true, "task": false}
def quantize_q8_0(x: np.ndarray) -> np.ndarray:
    """Quantise to Q8_0, bit for bit as ggml does.

    Args:
        x: float32, (..., columns); need not be contiguous.

    Returns:
        uint8, (..., columns // 32 * 34): for each 32 columns in a row 2 bytes of d = max|x| / 127 as float16, then 32 int8. d and
        1 / d are computed in float32; the integers are x * (1 / d), with the d *before* it is rounded to float16, rounded to
        the nearest integer, ties away from zero. A block of zeros is 34 zero bytes; it must be had without dividing by zero and without
        casting NaN, which gives other bytes on other processors (the test runs with np.errstate(divide="raise", invalid="raise")).

    Raises:
        ValueError: the number of columns is no multiple of 32, or a value is not finite, or a d is above 65504, the largest
            float16.

    TODO: Cut into blocks, find the scales, round, and join the bytes.

    APPROACH:
        1. Reshape to (blocks, 32), because a block never crosses the end of a row.
        2. Replace d = 0 before you divide, because 1 / 0 is infinite and infinity times 0 is NaN.
        3. Join the bytes with views, because a view changes the type and no bit.

    EXAMPLE:
        >>> block = quantize_q8_0(np.array([[127, 2.5, -0.5] + [0] * 29], dtype=np.float32))
        >>> block.shape, block[0, :5].tolist()
        ((1, 34), [0, 60, 127, 3, 255])

    HINTS:
        1. float16 has 2 bytes: `.astype(np.float16).view(np.uint8)` of a (blocks, 1) array is (blocks, 2).
        2. Away from zero: `np.trunc(y + np.copysign(0.5, y))`.
        3. `np.concatenate([scales, integers], axis=1)`, then back to the leading axes of x.
    """
    ### BEGIN SOLUTION
    if x.shape[-1] % 32:
        raise ValueError("the number of columns is no multiple of 32")
    blocks = np.ascontiguousarray(x).reshape(-1, 32)
    scale = np.abs(blocks).max(axis=1, keepdims=True) / 127
    if not (scale <= 65504).all():
        raise ValueError("a value is not finite, or too large for a float16 scale")
    scaled = blocks * (1 / np.where(scale > 0, scale, 1))
    integers = np.trunc(scaled + np.copysign(0.5, scaled)).astype(np.int8)
    joined = np.concatenate([scale.astype(np.float16).view(np.uint8), integers.view(np.uint8)], axis=1)
    return joined.reshape(*x.shape[:-1], x.shape[-1] // 32 * 34)
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "gguf-given-blocked", "locked": true, "schema_version": 3, "solution": false, "task": false}
Q8_0 = gguf.GGMLQuantizationType.Q8_0


def without_library(x: np.ndarray, errors: str = "raise") -> np.ndarray:
    """Your quantize_q8_0, while the gguf package's own does not work, and 1 / 0 and casts of NaN are errors."""
    def refuse(blocks: np.ndarray) -> np.ndarray:
        raise AssertionError("gguf.quants does not work here: quantise with NumPy alone")

    with mock.patch.object(gguf.quants.Q8_0, "quantize_blocks", refuse), np.errstate(divide=errors, invalid=errors):
        return quantize_q8_0(x)


# %% nbgrader={"grade": true, "grade_id": "test-gguf-q8", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: bytes equal to the gguf package's, ties, zeros, shapes, strides, the error bound, refusals.
# Catches: ties to even, a scale rounded too early, one scale for a row, integers before the scale, 0 / 0.
# A pass prints nothing.
def test_unit_gguf_q8():
    def check(x, what):
        want = gguf.quants.quantize(np.ascontiguousarray(x), Q8_0)
        with checking.unchanged(x=x):
            checking.equal(without_library(x), want, what=f"Q8_0 of {what}", hint="2 bytes of scale, 32 integers, block by block")

    check(np.linspace(-3, 3, 192, dtype=np.float32).reshape(2, 96), "a line in two rows")
    check(np.zeros((1, 32), dtype=np.float32), "zeros")
    checking.raises(ValueError, without_library, np.ones((32, 33), dtype=np.float32), what="33 columns")
    ### BEGIN HIDDEN TESTS
    # check: random weights of many sizes, with outliers
    # hint: is the scale that of the block, and is it rounded to float16 only for storage?
    chance = np.random.default_rng(checking.secret_seed())
    weights = (chance.standard_normal((64, 256)) * 10.0 ** chance.uniform(-3, 3, (64, 1))).astype(np.float32)
    for x in (weights.reshape(-1, 32), weights.T[:, ::2]):  # none just below a half: 0.49999997 + 0.5 is 1 in float32
        x[np.abs(x) * (1 / (np.abs(x).max(axis=1, keepdims=True) / 127)) == np.float32(0.5 - 2**-25)] = 0
    check(weights, "64 rows of different sizes")
    # check: ties
    # hint: half of a step goes away from zero, on both sides.
    ties = np.arange(-127, 128, dtype=np.float32)[:224].reshape(7, 32) / 2
    ties[:, 0] = -127
    check(ties, "multiples of one half")
    # check: other axes, and values that do not lie side by side
    # hint: blocks run along the last axis, whatever the strides.
    check(weights.reshape(4, 4, 1024), "three axes")
    check(weights.T[:, ::2], "every other column of a transposed matrix")
    check(weights[:0], "no rows")
    checking.raises(ValueError, without_library, weights[:0, :33], what="no rows of 33 columns")
    # check: the error bound
    # hint: half a step, and what the float16 of the scale adds.
    got = gguf.quants.dequantize(without_library(weights), Q8_0).reshape(-1, 32)
    largest = np.abs(weights).reshape(-1, 32).max(axis=1, keepdims=True)
    # max|x| * (1 / 254 + 2**-11), and for d below 2**-14 half the distance of float16 there, 127 * 2**-25.
    assert (np.abs(got - weights.reshape(-1, 32)) <= largest * (1 / 254 + 2**-11) * 1.001 + 127 * 2**-25).all(), "the error bound"
    # check: values that cannot be stored
    # hint: infinity, NaN and a scale above 65504 are refused, wherever they stand.
    for value in (np.inf, -np.inf, np.nan, 1e7, 65504 * 127, 65505 * 127):
        x = np.ones((2, 64), dtype=np.float32)
        x[1, 40] = value
        if value == 65504 * 127:
            check(x, "the largest scale")
        else:
            checking.raises(ValueError, without_library, x, "ignore", what=f"the value {value}")
    ### END HIDDEN TESTS


test_unit_gguf_q8()


# %% [markdown]
# ### What just happened?
#
# 8.5 bits a weight, where float32 has 32. One scale for 32 weights keeps an outlier's damage local.
#
# ### Systems insight 1 of 3: what does an outlier cost?
#
# **Checkpoint**: a quantiser. **Predict, and write it down**: one weight in 1,000 is 50 times as large as the others. By what factor does
# the error of *all* weights grow with blocks of 32? And if a whole row of 4,096 shared one scale?

# %%
def cost_of_outliers(rows=64, columns=4096):
    """Relative root mean square errors of your quantiser, and megabytes of weights a second."""
    chance = np.random.default_rng(0)
    plain = chance.standard_normal((rows, columns)).astype(np.float32)
    spiky = plain * np.where(chance.random(plain.shape) < 1e-3, 50, 1).astype(np.float32)
    errors = {}
    for name, x in (("plain", plain), ("with outliers", spiky)):
        start = time.perf_counter()
        got = gguf.quants.dequantize(quantize_q8_0(x), Q8_0)
        seconds = time.perf_counter() - start
        errors[f"{name}, blocks of 32"] = float(np.sqrt(np.mean((got - x) ** 2)) / np.std(plain))
        scale = np.abs(x).max(axis=1, keepdims=True) / 127
        errors[f"{name}, a row"] = float(np.sqrt(np.mean((np.round(x / scale) * scale - x) ** 2)) / np.std(plain))
    print(f"{x.nbytes / seconds / 1e6:,.0f} MB of float32 a second, there and back")
    return errors


# %%
errors = insight.run(cost_of_outliers, needs="Exercise 3 (quantize_q8_0)")
if errors:
    insight.bars(errors, ylabel="error / spread of plain weights", log=True)
    print({name: f"{error:.2%}" for name, error in errors.items()})


# %% [markdown]
# **What it means in production.** Large language models do have outliers, in a few columns above all. Small blocks are the simplest
# defence, at half a bit a weight for the scales. The K-quants that you meet in 3.2.6 go to 4 bits with the same idea on two levels.

# %% [markdown]
# ## Part 3: The file
#
# ### Exercise 4: what a runtime has to know
#
# The tensors are numbers without a meaning. Fields say how many heads they have and how RoPE turns. A runtime has defaults for some of
# them, which makes a forgotten one worse: nothing complains.

# %% nbgrader={"grade": false, "grade_id": "gguf-model", "locked": false, "schema_version": 3, "solution": true, "task": false}
def model_fields(config: PretrainedConfig) -> dict[str, Any]:
    """The fields of a GGUF file that describe a Llama.

    Args:
        config: a LlamaConfig.

    Returns:
        A dict of str, int and float. "general.architecture": "llama". After "llama.": "vocab_size", "context_length",
        "embedding_length" (hidden size), "block_count", "feed_forward_length", "attention.head_count", "attention.head_count_kv",
        "attention.layer_norm_rms_epsilon", "attention.key_length", "attention.value_length" and "rope.dimension_count" (all
        three: the width of a head), "rope.freq_base" (a float, even where the config has an int: a runtime looks at the type).

    Raises:
        ValueError: config.rope_parameters["rope_type"] is not "default".

    TODO: Refuse what the file could not say, then copy the numbers from the config.

    APPROACH:
        1. Refuse scaled RoPE, because without its factors the file would be wrong, and only for long texts.
        2. Take the width of a head from config.head_dim, because it need not be hidden size / heads.
        3. Leave nothing to defaults, because each runtime has its own.

    EXAMPLE:
        >>> fields = model_fields(draw_model(0).config)
        >>> fields["llama.rope.freq_base"], fields["llama.attention.head_count_kv"]
        (50000.0, 2)

    HINTS:
        1. `print(draw_model(0).config)` shows what transformers calls these numbers.
        2. The rope's base is config.rope_parameters["rope_theta"].
        3. Prefix the keys in a second step: {f"llama.{key}": value for ...}.
    """
    ### BEGIN SOLUTION
    rope = config.rope_parameters
    if rope["rope_type"] != "default":
        raise ValueError(f"rope of type {rope['rope_type']!r} needs factors that this file does not carry")
    fields = {
        "vocab_size": config.vocab_size,
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
        "rope.dimension_count": config.head_dim,
        "rope.freq_base": float(rope["rope_theta"]),
    }
    return {"general.architecture": "llama"} | {f"llama.{key}": value for key, value in fields.items()}
    ### END SOLUTION


# %% nbgrader={"grade": true, "grade_id": "test-gguf-model", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Checks: every number against the config, by what the gguf package calls it; scaled RoPE refused.
# Catches: heads and their widths exchanged, a default rope base, a width of heads that is computed.
# A pass prints nothing.
def test_unit_gguf_model():
    def check(config, what):
        keys, got = gguf.Keys, model_fields(config)
        want = {
            keys.General.ARCHITECTURE: "llama", keys.LLM.VOCAB_SIZE: config.vocab_size, keys.LLM.EMBEDDING_LENGTH: config.hidden_size,
            keys.LLM.CONTEXT_LENGTH: config.max_position_embeddings, keys.LLM.BLOCK_COUNT: config.num_hidden_layers,
            keys.LLM.FEED_FORWARD_LENGTH: config.intermediate_size, keys.Attention.HEAD_COUNT: config.num_attention_heads,
            keys.Attention.HEAD_COUNT_KV: config.num_key_value_heads, keys.Attention.LAYERNORM_RMS_EPS: config.rms_norm_eps,
            keys.Attention.KEY_LENGTH: config.head_dim, keys.Attention.VALUE_LENGTH: config.head_dim,
            keys.Rope.DIMENSION_COUNT: config.head_dim, keys.Rope.FREQ_BASE: float(config.rope_parameters["rope_theta"]),
        }
        for key, value in want.items():
            name = key.format(arch="llama")
            checking.equal(got.get(name), value, what=f"{name} of {what}", hint="compare with the docstring, number by number")

    check(draw_model(0).config, "a model")
    ### BEGIN HIDDEN TESTS
    # check: other shapes, heads wider than hidden size / heads, a rope base that is an int
    # hint: config.head_dim is a number of its own, and the base is a float in the file.
    check(draw_model(1, num_attention_heads=8, head_dim=24, num_hidden_layers=1, intermediate_size=96, vocab_size=400).config, "wide heads")
    plain = {"rope_type": "default", "rope_theta": 1000000}
    check(tiny.llama(2, num_key_value_heads=1, rms_norm_eps=1e-6, max_position_embeddings=99, rope_parameters=plain).config, "an int")
    # check: scaled rope
    # hint: whatever the type, if it is not "default", refuse it.
    for rope in ({"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}, {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}):
        checking.raises(ValueError, model_fields, tiny.llama(0, rope_parameters=rope).config, what=f"rope of type {rope['rope_type']}")
    ### END HIDDEN TESTS


test_unit_gguf_model()

# %% [markdown]
# ### What just happened?
#
# Twelve numbers, of which the runtime above used five. Others have a use for all of them.
#
# ### Exercise 5: which id is which text
#
# A tokenizer for the tiny model: byte-pair encoding in the manner of GPT-2, trained on the spot, ChatML with its special tokens. The embedding
# may have more rows than there are tokens, because sizes are rounded up for the hardware.

# %% nbgrader={"grade": false, "grade_id": "gguf-given-tokenizer", "locked": true, "schema_version": 3, "solution": false, "task": false}
SPECIALS = {"bos_token": "<|endoftext|>", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "unk_token": None,
            "additional_special_tokens": ["<|im_start|>"]}
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def train_tokenizer(text: str, size: int) -> PreTrainedTokenizerBase:
    """Byte-pair encoding of `size` tokens, three of them special, with a chat template."""
    letters = {letter: k for k, letter in enumerate(bytes_to_unicode().values())}
    tokenizer = GPT2Tokenizer(vocab=letters, merges=[], **SPECIALS).train_new_from_iterator([text], size, show_progress=False)
    tokenizer.chat_template = CHATML
    return tokenizer


tokenizer = train_tokenizer(tiny.sentences(300, seed=0), 312)

# %%
print(len(tokenizer), "tokens:", tokenizer.convert_ids_to_tokens([0, 1, 2, 70, 311]))
merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
print(len(merges), "merges:", merges[:3])


# %% nbgrader={"grade": false, "grade_id": "gguf-tokenizer", "locked": false, "schema_version": 3, "solution": true, "task": false}
def tokenizer_fields(tokenizer: PreTrainedTokenizerBase, size: int) -> dict[str, Any]:
    """The fields of a GGUF file that describe a byte-pair tokenizer in the manner of GPT-2.

    Args:
        tokenizer: like those of `train_tokenizer`, perhaps with more added tokens.
        size: rows of the model's embedding.

    Returns:
        "tokenizer.chat_template", and after "tokenizer.ggml.": "model": "gpt2", "pre": "gpt-2"; "tokens", a text for each id below
        `size`, "[PAD7]" for an id 7 that the tokenizer does not have; "token_type" (1; 3 special; 4 added, but not special; 5 no such
        token); "merges" ("a b" for each pair, in order); "bos_token_id", "eos_token_id", "padding_token_id"; "add_bos_token", True if
        the tokenizer itself puts the begin token before each text.

    Raises:
        ValueError: the tokenizer has more tokens than the model has rows.

    TODO: Make the lists of tokens, types and merges, and add what a runtime needs around them.

    APPROACH:
        1. Fill up to the model's rows, because a runtime wants a text for each.
        2. Look up added tokens for the types, because only there it is said which are special.
        3. Look at the tokenizer's output for add_bos_token, because what it does counts.

    EXAMPLE:
        >>> fields = tokenizer_fields(tokenizer, 320)
        >>> fields["tokenizer.ggml.tokens"][-1], fields["tokenizer.ggml.token_type"][:4]
        ('[PAD319]', [3, 3, 3, 1])

    HINTS:
        1. `tokenizer.convert_ids_to_tokens(k)` is the text of id k; the cell above finds the merges.
        2. `tokenizer.added_tokens_decoder[k].special`, for the ids that are in that dict.
        3. `tokenizer("x")["input_ids"]` shows what is put in front.
    """
    ### BEGIN SOLUTION
    if len(tokenizer) > size:
        raise ValueError("the tokenizer has more tokens than the model has rows")
    added = {k: 3 if token.special else 4 for k, token in tokenizer.added_tokens_decoder.items()}
    known = range(len(tokenizer))
    pairs = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    fields = {
        "model": "gpt2",
        "pre": "gpt-2",
        "tokens": [tokenizer.convert_ids_to_tokens(k) if k in known else f"[PAD{k}]" for k in range(size)],
        "token_type": [added.get(k, 1) if k in known else 5 for k in range(size)],
        "merges": [" ".join(pair) for pair in pairs],
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "padding_token_id": tokenizer.pad_token_id,
        "add_bos_token": tokenizer("x")["input_ids"][0] == tokenizer.bos_token_id,
    }
    fields = {f"tokenizer.ggml.{key}": value for key, value in fields.items()}
    return fields | {"tokenizer.chat_template": tokenizer.chat_template}
    ### END SOLUTION


# %% [markdown]
# The test knows what the tokenizer was made of, and builds a second one from your lists alone.

# %% nbgrader={"grade": false, "grade_id": "gguf-given-rebuilt", "locked": true, "schema_version": 3, "solution": false, "task": false}
def rebuilt(fields: Mapping[str, Any]) -> PreTrainedTokenizerBase:
    """A tokenizer from what a GGUF file holds and nothing else."""
    ggml = {key.removeprefix("tokenizer.ggml."): value for key, value in fields.items()}
    tokens, kinds = ggml["tokens"], ggml["token_type"]
    special = [text for text, kind in zip(tokens, kinds, strict=True) if kind == 3]
    made = GPT2Tokenizer(
        vocab={text: k for k, text in enumerate(tokens)}, merges=[tuple(pair.split(" ")) for pair in ggml["merges"]],
        bos_token=tokens[ggml["bos_token_id"]], eos_token=tokens[ggml["eos_token_id"]], unk_token=None,
        pad_token=tokens[ggml["padding_token_id"]], additional_special_tokens=special,
    )
    made.add_tokens([text for text, kind in zip(tokens, kinds, strict=True) if kind == 4])
    made.add_bos_token = ggml["add_bos_token"]
    return made


# %% nbgrader={"grade": true, "grade_id": "test-gguf-tokenizer", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: tokens, types and other fields; the same ids by a tokenizer that is rebuilt from them alone; a refusal.
# Catches: missing padding, special tokens as words, added words as special ones, merges out of order, a wrong begin.
# A pass prints what each of two checks earned.
def test_unit_gguf_tokenizer():
    texts = ["ana sees a red cat. ", "<|im_start|>user\nä€  x<|im_end|>\n", "", "it's 3 o'clock <note>, says ben"]

    def check(size, seed, added=(), begin=False, rows=320):
        made = train_tokenizer(tiny.sentences(300, seed), size)
        made.add_tokens(list(added))
        made.add_bos_token = begin
        fields = tokenizer_fields(made, rows)
        words = {k: text for text, k in made.get_vocab().items()}
        want = [words.get(k, f"[PAD{k}]") for k in range(rows)]
        kinds = [5 if k not in words else 3 if k < 3 else 4 if words[k] in added else 1 for k in range(rows)]
        checking.equal(fields["tokenizer.ggml.tokens"], want, what="tokens")
        checking.equal(fields["tokenizer.ggml.token_type"], kinds, what="token types")
        again = rebuilt(fields)
        for text in texts:
            checking.equal(again(text)["input_ids"], made(text)["input_ids"], what=f"ids of {text!r} by the rebuilt tokenizer")
        rest = {"model": "gpt2", "pre": "gpt-2", "bos_token_id": 0, "eos_token_id": 1, "padding_token_id": 0, "add_bos_token": begin}
        checking.equal({key: fields[f"tokenizer.ggml.{key}"] for key in rest}, rest, what="other fields of the tokenizer")
        checking.equal(fields["tokenizer.chat_template"], CHATML, what="chat template")

    credit = checking.Credit(4)
    with credit.check("a tokenizer", points=2, hint="which ids are special, which are added, which do not exist?"):
        check(312, 0)
    with credit.check("other tokenizers", points=2, hint="add a word, set add_bos_token, fill the vocabulary: what changes?"):
        check(300, 1, added=("<note>",))
        ### BEGIN HIDDEN TESTS
        # check: added words, and a begin token
        # hint: an added word is no control token, and some tokenizers put a begin token before each text.
        check(300, checking.secret_seed(), added=("<note>", "ben"), begin=True)
        # check: no room left, and too little
        # hint: as many tokens as rows are fine, one more is not.
        check(320, checking.secret_seed() + 1)
        check(290, 2, rows=290)
        checking.raises(ValueError, tokenizer_fields, tokenizer, 311, what="312 tokens for 311 rows")
        ### END HIDDEN TESTS
    return credit.total()


test_unit_gguf_tokenizer()


# %% nbgrader={"grade": false, "grade_id": "gguf-given-metadata", "locked": true, "schema_version": 3, "solution": false, "task": false}
def metadata(config: PretrainedConfig, words: PreTrainedTokenizerBase) -> dict[str, Any]:
    """All fields of a file, by your two functions."""
    return model_fields(config) | tokenizer_fields(words, config.vocab_size)


# %% [markdown]
# ### What just happened?
#
# A tokenizer was rebuilt from lists in your fields, and gives the same ids. The special tokens are the point: as type 1, `<|im_end|>` would be
# a word of ten letters that users can write and the model never stops at.

# %%
def speak():
    again = rebuilt(tokenizer_fields(tokenizer, 320))
    for text in ("<|im_start|>user", "ana sees a red cat."):
        print([again.decode([k]) for k in again(text)["input_ids"]])


# %%
insight.run(speak, needs="Exercise 5 (tokenizer_fields)")


# %% [markdown]
# ### Exercise 6: write
#
# `gguf.GGUFWriter` knows the bytes. What it does not know is which type each value and each tensor should have. A runtime that looks
# for a bool and finds a number refuses the whole file.

# %% nbgrader={"grade": false, "grade_id": "gguf-given-scratch", "locked": true, "schema_version": 3, "solution": false, "task": false}
@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """The path of a file that does not exist yet; it is removed afterwards."""
    with tempfile.TemporaryDirectory() as place:
        yield Path(place) / "model.gguf"


# %% nbgrader={"grade": false, "grade_id": "gguf-write", "locked": false, "schema_version": 3, "solution": true, "task": false}
def write_gguf(path: Path, fields: Mapping[str, Any], tensors: Mapping[str, np.ndarray], kind: str) -> None:
    """Write a GGUF file.

    Args:
        path: of the file; one that is there is replaced.
        fields: as from `metadata`, with "general.architecture"; written as bool, u32 (int), f32 (float), string and array. Two of u32
            are added: "general.file_type" (0 for F32, 1 for F16, 7 for Q8_0) and "general.quantization_version" (2).
        tensors: float32 arrays by their names in GGUF.
        kind: "F32", "F16" or "Q8_0". Tensors of one axis are always F32; in a Q8_0 file, others whose last axis is no multiple of 32
            are F16.

    Raises:
        ValueError: an unknown kind, or a tensor (named) for F16 has a value beyond 65504 or not finite. Nothing has been written then.

    TODO: Give every field and tensor to a GGUFWriter in the right type, then write.

    APPROACH:
        1. Convert all tensors before you write, because an error must not leave half a file.
        2. Ask for bool before int, because True is an int too.
        3. Hand Q8_0 over as bytes with raw_dtype, because the package then computes the shape from them.

    EXAMPLE:
        >>> with scratch() as path:
        ...     write_gguf(path, {"general.architecture": "llama"}, {"x": np.ones((2, 64), dtype=np.float32)}, "Q8_0")
        ...     print(gguf.GGUFReader(path).tensors[0].tensor_type.name)
        Q8_0

    HINTS:
        1. GGUFWriter(path, "llama") adds the architecture; add_bool, add_uint32, ..., add_array, add_file_type, add_tensor exist.
        2. A float16 array becomes F16, a float32 one F32; `raw_dtype=gguf.GGMLQuantizationType.Q8_0` for your blocks.
        3. At the end: write_header_to_file, write_kv_data_to_file, write_tensors_to_file, close.
    """
    ### BEGIN SOLUTION
    numbers = {"F32": 0, "F16": 1, "Q8_0": 7}
    if kind not in numbers:
        raise ValueError(f"kind is F32, F16 or Q8_0, not {kind!r}")
    ready = {}
    for name, x in tensors.items():
        if x.ndim == 1 or kind == "F32":
            ready[name] = (np.ascontiguousarray(x), None)
        elif kind == "Q8_0" and x.shape[-1] % 32 == 0:
            ready[name] = (quantize_q8_0(x), gguf.GGMLQuantizationType.Q8_0)
        elif (np.abs(x) <= 65504).all():
            ready[name] = (x.astype(np.float16, order="C"), None)
        else:
            raise ValueError(f"{name} has a value that float16 cannot hold")
    writer = gguf.GGUFWriter(path, fields["general.architecture"])
    adders = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
    for key, value in fields.items():
        if key != "general.architecture":
            adders.get(type(value), writer.add_array)(key, value)
    writer.add_file_type(numbers[kind])
    writer.add_quantization_version(2)
    for name, (x, raw) in ready.items():
        writer.add_tensor(name, x, raw_dtype=raw)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "gguf-given-draw-file", "locked": true, "schema_version": 3, "solution": false, "task": false}
def draw_content(seed: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Fields of all kinds, and tensors with odd numbers of columns."""
    chance = np.random.default_rng(seed)
    fields = {"general.architecture": "llama", "a.bool": bool(seed % 2), "a.other_bool": not seed % 2, "a.int": seed % 1000, "a.float": 0.5,
              "a.text": "ä€ ", "a.texts": ["x", "", "z" * 40], "a.numbers": [1, seed % 7, 3], "a.floats": [0.5, -2.0]}
    shapes = {"norm": (40,), "wide": (3, 96), "odd": (5, 33), "tall": (64, 32), "one": (1, 1), "cube": (2, 32, 5)}
    return fields, {name: chance.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


# %% nbgrader={"grade": false, "grade_id": "gguf-given-check-write", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_write(fields: dict[str, Any], tensors: dict[str, np.ndarray], kind: str, number: int) -> None:
    """Hold a file by write_gguf against what the gguf package reads from it."""
    with scratch() as path:
        path.write_bytes(b"what was there before")
        write_gguf(path, fields, tensors, kind)
        reader = gguf.GGUFReader(path)
    found = {key: field for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    want = fields | {"general.file_type": number, "general.quantization_version": 2}
    checking.equal({key: field.contents() for key, field in found.items()}, want, what=f"fields of a file of kind {kind}")
    names = {bool: "BOOL", int: "UINT32", float: "FLOAT32", str: "STRING", list: "ARRAY"}
    types = {key: names[type(value)] for key, value in want.items()}
    checking.equal({key: field.types[0].name for key, field in found.items()}, types, what=f"types of the fields, kind {kind}")
    checking.equal([t.name for t in reader.tensors], list(tensors), what=f"names of the tensors, kind {kind}")
    for tensor in reader.tensors:
        x = tensors[tensor.name]
        blocks = kind == "Q8_0" and x.shape[-1] % 32 == 0
        mine = "F32" if x.ndim == 1 else kind if kind != "Q8_0" or blocks else "F16"
        checking.equal(tensor.tensor_type.name, mine, what=f"type of {tensor.name} in a file of kind {kind}")
        data = gguf.quants.quantize(np.ascontiguousarray(x), gguf.GGMLQuantizationType[mine])
        checking.equal(np.array(tensor.data), data, what=f"data of {tensor.name} in a file of kind {kind}")


# %% nbgrader={"grade": true, "grade_id": "test-gguf-write", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Checks: types and values of all fields and tensors as the gguf package reads them, one file over another, refusals.
# Catches: booleans as numbers, norms in F16, odd columns in blocks, an architecture of its own, half a file after an error.
# A pass prints nothing.
def test_unit_gguf_write():
    check_write(*draw_content(0), "F32", 0)
    check_write(*draw_content(1), "Q8_0", 7)
    ### BEGIN HIDDEN TESTS
    # check: other content, and arrays that do not lie side by side
    # hint: what is the type of True, and what becomes of 33 columns?
    fields, tensors = draw_content(checking.secret_seed())
    for kind, number in (("Q8_0", 7), ("F16", 1)):
        check_write(fields, tensors | {"turned": tensors["tall"].T}, kind, number)
        check_write({"general.architecture": "other"}, {"norm": tensors["norm"] * 1e6}, kind, number)
    # check: unknown kinds, and values beyond float16
    # hint: look before you write; the file that was there is still whole.
    with scratch() as path:
        path.write_bytes(b"kept")
        checking.raises(ValueError, write_gguf, path, fields, tensors, "Q4_0", what="kind Q4_0")
        for value, kind in ((65505, "F16"), (-1e5, "F16"), (np.inf, "F16"), (1e5, "Q8_0"), (np.nan, "F16")):
            bad = tensors["odd"].copy()
            bad[1, 7] = value
            error = checking.raises(ValueError, write_gguf, path, fields, tensors | {"odd": bad}, kind, what=f"{value} in {kind}")
            assert "odd" in str(error), f"the message should name the tensor odd, and says: {error}"
        checking.equal(path.read_bytes(), b"kept", what="the file after errors")
    # check: the largest value of float16
    # hint: 65504 itself can be stored.
    check_write(fields, {"largest": np.full((1, 33), -65504, dtype=np.float32)}, "F16", 1)
    ### END HIDDEN TESTS


test_unit_gguf_write()


# %% [markdown]
# ### What just happened?
#
# Norms stayed in F32: they are a thousandth of the weights here, less in a large model, and touch every activation. Now write a model three times and look at the sizes.
#
# ### Systems insight 2 of 3: where are the bytes, and how long does writing take?
#
# **Checkpoint**: a writer. **Predict, and write it down**: of a file with a million weights and a vocabulary of 320, what share is header
# and fields? By what factor is Q8_0 smaller than F16, and which of the three kinds is the slowest to write?

# %%
def size_and_time(hidden=256):
    """Bytes and seconds of your writer by kind, for a model of about a million weights."""
    model = draw_model(0, hidden_size=hidden, intermediate_size=2 * hidden, head_dim=64)
    fields, tensors = metadata(model.config, tokenizer), to_gguf_tensors(model.state_dict(), 4, 2)
    table = {}
    for kind in ("F32", "F16", "Q8_0"):
        with scratch() as path:
            start = time.perf_counter()
            write_gguf(path, fields, tensors, kind)
            table[kind] = (path.stat().st_size, time.perf_counter() - start, int(gguf.GGUFReader(path).data_offset))
    print(f"{sum(x.size for x in tensors.values()):,} weights")
    return table


# %%
sizes = insight.run(size_and_time, needs="Exercises 2 to 6")
for kind, (nbytes, seconds, start) in (sizes or {}).items():
    print(f"{kind:5} {nbytes:9,} bytes, {start / nbytes:5.1%} of them before the data; written in {1e3 * seconds:5.1f} ms")


# %% [markdown]
# **What it means in production.** The speed of generation is the speed of reading weights: a model of half the bytes answers nearly twice as
# fast on the same memory. That, more than the space on the disk, is why people quantise. Q8_0 is where one begins: its error is small, as you
# are about to measure, and needs no data to tune. What lies below it, and how to judge it, is module 3.2.

# %% [markdown]
# ## Part 4: Trust nothing
#
# ### Exercise 7: read a value
#
# Files come from strangers. A parser that trusts a count of $2^{60}$ allocates all memory; one that trusts an offset reads what is none of
# its business. So read by hand, with `struct` alone. A cursor that never goes past the end is given. First the values.

# %% nbgrader={"grade": false, "grade_id": "gguf-given-cursor", "locked": true, "schema_version": 3, "solution": false, "task": false}
class Cursor:
    """A place in bytes. Both ways to read move it on, and raise ValueError("truncated: ...") at the end of the data."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        left = len(self.data) - self.at
        if count > left:
            raise ValueError(f"truncated: {count} bytes are wanted at {self.at}, and {left} are left")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, code: str) -> Any:
        """The next number, by its letter in `struct`: B b H h I i f ? Q q d, little-endian."""
        return struct.unpack(f"<{code}", self.take(struct.calcsize(code)))[0]


# %% nbgrader={"grade": false, "grade_id": "gguf-value", "locked": false, "schema_version": 3, "solution": true, "task": false}
def read_value(cursor: Cursor, kind: int) -> Any:
    """Read one value of a field.

    Args:
        cursor: stands at the value, and behind it afterwards.
        kind: type of the value, a number of the table in the foundations.

    Returns:
        bool, int, float or str; for an array the list of its elements.

    Raises:
        ValueError: with a message that contains the words in quotes: "value type": the type, or that of an array's elements, is none of
            the 13. "nested": an array of arrays. "truncated": the data ends too early (the cursor says so).

    TODO: Read a number, a string or an array, by the type.

    APPROACH:
        1. Keep the letters of the numbers in a table, because eleven branches would hide the two that matter.
        2. Read an array's elements by this same function, because strings and numbers are read alike there.
        3. Refuse arrays of arrays, because a deep nest would use up the stack.

    EXAMPLE:
        >>> read_value(Cursor(struct.pack("<IQHH", 2, 2, 500, 7)), 9)
        [500, 7]
        >>> read_value(Cursor(b"123"), 4)
        Traceback (most recent call last):
        ...
        ValueError: truncated: 4 bytes are wanted at 0, and 3 are left

    HINTS:
        1. "BbHhIif?" are the letters of types 0 to 7, "Qqd" those of 10 to 12.
        2. A string is a length, `cursor.number("Q")`, and so many bytes to decode.
        3. Loop over an array's count: the cursor stops a lie at the end of the data.
    """
    ### BEGIN SOLUTION
    codes = dict(enumerate("BbHhIif?")) | dict(enumerate("Qqd", 10))
    if kind == 8:
        return cursor.take(cursor.number("Q")).decode()
    if kind == 9:
        inner, count = cursor.number("I"), cursor.number("Q")
        if inner == 9:
            raise ValueError("a nested array")
        return [read_value(cursor, inner) for _ in range(count)]
    if kind not in codes:
        raise ValueError(f"unknown value type {kind}")
    return cursor.number(codes[kind])
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "gguf-given-refuses", "locked": true, "schema_version": 3, "solution": false, "task": false}
def packed(text: str) -> bytes:
    """A string as GGUF has it."""
    return struct.pack("<Q", len(text.encode())) + text.encode()


def refuses(word: str, call: Any, *args: Any, what: str) -> None:
    """Assert that a call raises ValueError, and that its message contains a word."""
    error = checking.raises(ValueError, call, *args, what=what, hint=f"a ValueError that says {word!r}")
    assert word in str(error), f"{what}: the message should contain {word!r}, and says: {error}"


# %% nbgrader={"grade": true, "grade_id": "test-gguf-value", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Checks: each type at its limits, strings of several bytes a letter, arrays, the place afterwards, refusals.
# Catches: signed for unsigned, lengths in letters, elements read as the wrong type, arrays in arrays, lies about lengths.
# A pass prints nothing.
def test_unit_gguf_value():
    def check(data, kind, want, what):
        cursor = Cursor(data + b"rest")
        checking.equal(read_value(cursor, kind), want, what=what)
        checking.equal(cursor.at, len(data), what=f"place of the cursor after {what}")

    check(struct.pack("<I", 4_000_000_000), 4, 4_000_000_000, "a u32")
    check(packed("ä€ x"), 8, "ä€ x", "a string")
    check(struct.pack("<IQ", 8, 2) + packed("a") + packed(""), 9, ["a", ""], "an array of strings")
    ### BEGIN HIDDEN TESTS
    # check: all types of numbers
    # hint: signed and unsigned, small and large: compare your letters with the table.
    limits = {0: ("B", 255), 1: ("b", -128), 2: ("H", 65535), 3: ("h", -32768), 4: ("I", 2**32 - 1), 5: ("i", -(2**31)), 6: ("f", 0.5),
              7: ("?", True), 10: ("Q", 2**64 - 1), 11: ("q", -(2**63)), 12: ("d", 0.1)}
    for kind, (code, value) in limits.items():
        check(struct.pack(f"<{code}", value), kind, value, f"a value of type {kind}")
        check(struct.pack(f"<IQ3{code}", kind, 3, *[value] * 3), 9, [value] * 3, f"an array of type {kind}")
        check(struct.pack("<IQ", kind, 0), 9, [], f"an empty array of type {kind}")
    # check: unknown types, arrays of arrays
    # hint: 13 is not in the table; in an array it is as unknown as outside, if there are elements.
    for kind, data in ((13, bytes(8)), (2**32 - 1, bytes(8)), (9, struct.pack("<IQ", 13, 1) + bytes(8))):
        refuses("value type", read_value, Cursor(data), kind, what=f"a value of type {kind}")
    for count in (0, 1):
        refuses("nested", read_value, Cursor(struct.pack("<IQIQ", 9, count, 9, 0)), 9, what=f"{count} arrays in an array")
    # check: lengths that are lies
    # hint: never allocate what a file claims; read until it ends.
    for data, kind in ((struct.pack("<Q", 2**60), 8), (struct.pack("<IQ", 4, 2**60), 9), (struct.pack("<IQ", 8, 2**63), 9), (b"", 0)):
        refuses("truncated", read_value, Cursor(data + b"x" * (kind > 0)), kind, what=f"a value of type {kind} that ends too early")
    ### END HIDDEN TESTS


test_unit_gguf_value()


# %% [markdown]
# ### What just happened?
#
# Thirteen types, ten lines. Now the whole header.
#
# ### Exercise 8: read the header
#
# Everything but the data, with a plain refusal for whatever is not as the foundations say.

# %% nbgrader={"grade": false, "grade_id": "gguf-header", "locked": false, "schema_version": 3, "solution": true, "task": false}
def read_header(data: bytes) -> dict[str, Any]:
    """Parse all of a GGUF file but the tensors' data.

    Returns:
        "fields": values by key. "tensors": (shape, type, offset) by name, shape a tuple in NumPy's order (the last axis last), offset
        counted from "data_start", the place in the file where data begins.

    Raises:
        ValueError: with a message that contains: "magic" if the first four bytes are not GGUF; "version" if it is not 3; "truncated" if
            the file ends too early, in the header or in a tensor's data; "twice" if a key or a tensor's name comes again; "alignment"
            if general.alignment is no power of two, or no int (nor is True); "tensor type" if it is not 0, 1 or 8; "offset" if it is no multiple of
            the alignment; "block" if a tensor of type 8 has no axes, or a last axis that is no multiple of 32.

    TODO: Read the parts in the order of the foundations, with a check at each.

    APPROACH:
        1. Read keys and names with `read_value`, because they are values of type 8.
        2. Find data_start when all entries are read, because it is the next multiple of the alignment.
        3. Check each tensor against the length of the file after that, because only then data_start is known.

    EXAMPLE:
        >>> read_header(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + packed("k") + struct.pack("<IH", 2, 500))
        {'fields': {'k': 500}, 'tensors': {}, 'data_start': 64}

    HINTS:
        1. `cursor.take(4)`, then one `cursor.number("I")` and two `cursor.number("Q")`.
        2. The file has the last axis first: `[::-1]` turns the lengths round.
        3. The next multiple of a from n on is `-(-n // a) * a`; a power of two is above 0 and has `a & (a - 1) == 0`.
    """
    ### BEGIN SOLUTION
    cursor, fields, tensors = Cursor(data), {}, {}
    if cursor.take(4) != b"GGUF":
        raise ValueError("wrong magic: this is no GGUF file")
    if cursor.number("I") != 3:
        raise ValueError("a version other than 3")
    count, field_count = cursor.number("Q"), cursor.number("Q")
    for _ in range(field_count):
        if (key := read_value(cursor, 8)) in fields:
            raise ValueError(f"key {key!r} comes twice")
        fields[key] = read_value(cursor, cursor.number("I"))
    for _ in range(count):
        if (name := read_value(cursor, 8)) in tensors:
            raise ValueError(f"the tensor {name!r} comes twice")
        lengths = tuple(cursor.number("Q") for _ in range(cursor.number("I")))
        tensors[name] = (lengths[::-1], cursor.number("I"), cursor.number("Q"))
    alignment = fields.get("general.alignment", 32)
    if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
        raise ValueError(f"alignment {alignment!r} is no power of two")
    start = -(-cursor.at // alignment) * alignment
    for name, (shape, kind, offset) in tensors.items():
        if kind not in (0, 1, 8):
            raise ValueError(f"{name}: unknown tensor type {kind}")
        if offset % alignment:
            raise ValueError(f"{name}: offset {offset} is no multiple of {alignment}")
        if kind == 8 and (not shape or shape[-1] % 32):
            raise ValueError(f"{name}: rows of shape {shape} are not made of blocks of 32")
        if start + offset + math.prod(shape) * {0: 128, 1: 64, 8: 34}[kind] // 32 > len(data):  # bytes of 32 values
            raise ValueError(f"truncated: the data of {name} goes on beyond the end of the file")
    return {"fields": fields, "tensors": tensors, "data_start": start}
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "gguf-given-bad-files", "locked": true, "schema_version": 3, "solution": false, "task": false}
def file_of(fields: bytes = b"", count: int = 0, entries: Sequence[tuple] = (), data: int = 0, version: int = 3) -> bytes:
    """A GGUF file byte by byte: packed fields and their number, tensors as (name, lengths, type, offset), bytes of data."""
    head = b"GGUF" + struct.pack("<IQQ", version, len(entries), count) + fields
    for name, lengths, kind, offset in entries:
        head += packed(name) + struct.pack(f"<I{len(lengths)}QIQ", len(lengths), *lengths, kind, offset)
    return head + bytes(-len(head) % 32 + data)


def field_of(key: str, kind: int, code: str, value: Any) -> bytes:
    """A packed field with a number."""
    return packed(key) + struct.pack(f"<I{code}", kind, value)


# %% nbgrader={"grade": false, "grade_id": "gguf-given-written", "locked": true, "schema_version": 3, "solution": false, "task": false}
def written(fields: Mapping[str, Any], tensors: Mapping[str, np.ndarray], alignment: int) -> tuple[bytes, gguf.GGUFReader]:
    """A file by the gguf package alone, and how the package reads it; uint8 tensors are blocks of Q8_0."""
    writer = gguf.GGUFWriter(None, "llama")
    writer.add_custom_alignment(alignment)
    adders = {str: writer.add_string, list: writer.add_array, float: writer.add_float64}
    for key, value in fields.items():
        adders[type(value)](key, value)
    for name, x in tensors.items():
        writer.add_tensor(name, x, raw_dtype=Q8_0 if x.dtype == np.uint8 else None)
    with scratch() as path:
        for step in ("write_header_to_file", "write_kv_data_to_file", "write_tensors_to_file", "close"):
            getattr(writer, step)(*[path] * (step == "write_header_to_file"))
        return path.read_bytes(), gguf.GGUFReader(path)


# %% nbgrader={"grade": true, "grade_id": "test-gguf-header", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Checks: fields, tensors and the begin of the data, in files that the gguf package wrote.
# Catches: axes the wrong way round, a fixed alignment, offsets from the file's begin, a start that is not rounded up.
# A pass prints nothing.
def test_unit_gguf_header():
    def check(fields, tensors, alignment, what):
        data, reader = written(fields, tensors, alignment)
        got = read_header(data)
        want = {"general.architecture": "llama", "general.alignment": alignment} | fields
        checking.equal(got["fields"], want, what=f"fields of {what}")
        start = int(reader.data_offset)
        checking.equal(got["data_start"], start, what=f"data_start of {what}")
        entries = {t.name: (tuple(reversed(t.shape.tolist())), int(t.tensor_type), int(t.data_offset) - start) for t in reader.tensors}
        checking.equal(got["tensors"], entries, what=f"tensors of {what}", hint="NumPy's order of axes; offsets from data_start")

    tensors = {"a": np.ones((2, 3, 5), np.float32), "b": np.ones(7, np.float16), "c": np.zeros((4, 68), np.uint8)}
    check({"x": "ä", "y": [1, 2]}, tensors, 32, "a file with three tensors")
    ### BEGIN HIDDEN TESTS
    # check: other alignments, many fields
    # hint: data_start and the offsets go by general.alignment.
    seed = checking.secret_seed() % 100
    for alignment in (8, 64, 256):
        check({f"k{k}": "v" * k for k in range(1, 2 + seed % 7)} | {"f": 0.1}, tensors, alignment, f"a file aligned to {alignment}")
    # check: no tensors, no fields
    # hint: an empty list of tensors is no error; the data would begin at the next multiple.
    check({}, {}, 32, "a file without tensors")
    checking.equal(read_header(file_of()), {"fields": {}, "tensors": {}, "data_start": 32}, what="header of an empty file")
    eight = b"".join(field_of(key, 4, "I", 7) for key in ("k", "l")) + packed("m") + struct.pack("<I", 8) + packed("x" * 17)
    checking.equal(read_header(file_of(eight, 3))["data_start"], 96, what="data_start behind a header that ends at 96")
    ### END HIDDEN TESTS


test_unit_gguf_header()


# %% nbgrader={"grade": true, "grade_id": "test-gguf-faults", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Checks: a good file cut at each byte, and files with one fault each; every refusal says what it is.
# Catches: faults that are let through, messages that do not say which, sizes that fit by chance.
# A pass prints nothing.
def test_unit_gguf_faults():
    good = file_of(field_of("k", 4, "I", 7), 1, [("t", (32, 2), 8, 0)], data=68)
    checking.equal(read_header(good)["tensors"], {"t": ((2, 32), 8, 0)}, what="tensors of a good file")
    refuses("magic", read_header, b"GGML" + good[4:], what="a file that begins with GGML")
    refuses("version", read_header, file_of(version=2), what="a file of version 2")
    refuses("truncated", read_header, good[:-1], what="a file without its last byte")
    ### BEGIN HIDDEN TESTS
    # check: a good file, cut anywhere
    # hint: whatever is missing, the message says truncated; count the bytes of each tensor's data too.
    for end in [*range(0, len(good), 7), *range(len(good) - 68, len(good), 11)]:
        refuses("truncated", read_header, good[:end], what=f"a good file of {len(good)} bytes cut after {end}")
    for count, kind in ((2, 0), (3, 1), (1, 8)):
        for missing, word in ((1, "truncated"), (0, "")):
            data = file_of(entries=[("t", (32, count), kind, 64)], data=64 + count * (128, 64, 34)[(0, 1, 8).index(kind)] - missing)
            refuses(word, read_header, data, what=f"a tensor of type {kind}") if word else read_header(data)
    # check: versions that come later, and big-endian files
    # hint: only 3 is known.
    for version in (0, 1, 4, 3 << 24):
        refuses("version", read_header, file_of(version=version), what=f"version {version}")
    # check: names that come twice
    # hint: keys as well as tensors; the second one must not replace the first.
    refuses("twice", read_header, file_of(2 * field_of("k", 4, "I", 7), 2), what="a key that comes twice")
    refuses("twice", read_header, file_of(entries=[("t", (1,), 0, 0), ("t", (1,), 0, 32)], data=64), what="a tensor that comes twice")
    # check: alignments and offsets
    # hint: which numbers are powers of two, and what if it is no number? Offsets count in whole alignments.
    for kind, code, value in ((4, "I", 0), (4, "I", 24), (6, "f", 32.0), (7, "?", True), (5, "i", -32)):
        refuses("alignment", read_header, file_of(field_of("general.alignment", kind, code, value), 1), what=f"alignment {value}")
    one = read_header(file_of(field_of("general.alignment", 4, "I", 1), 1))
    checking.equal(one["data_start"], 24 + 8 + 17 + 8, what="data_start with an alignment of 1")
    refuses("offset", read_header, file_of(entries=[("t", (1,), 0, 16)], data=64), what="an offset of 16")
    # check: types and shapes of tensors
    # hint: type 2 exists in other files, not here; a block never crosses the end of a row.
    for kind in (2, 7, 9):
        refuses("tensor type", read_header, file_of(entries=[("t", (32,), kind, 0)], data=999), what=f"a tensor of type {kind}")
    for lengths in ((33, 32), (), (16, 2), (5, 32, 2)):
        refuses("block", read_header, file_of(entries=[("t", lengths, 8, 0)], data=9999), what=f"lengths {lengths} in blocks of 32")
    ### END HIDDEN TESTS


test_unit_gguf_faults()


# %% [markdown]
# ### What just happened?
#
# You can read a model file that you did not write, and say what is wrong with one that somebody else broke. With it, and the package's
# `dequantize`, the runtime gets its tensors from the file alone:

# %% nbgrader={"grade": false, "grade_id": "gguf-given-load", "locked": true, "schema_version": 3, "solution": false, "task": false}
def load(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Fields and dequantised tensors of a file, by your read_header."""
    data = path.read_bytes()
    header = read_header(data)
    tensors = {}
    for name, (shape, kind, offset) in header["tensors"].items():
        block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(kind)]
        start, count = header["data_start"] + offset, math.prod(shape) // block * size
        raw = np.frombuffer(data[start : start + count], dtype=np.uint8).reshape(*shape[:-1], -1)
        tensors[name] = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType(kind)).reshape(shape)
    return header["fields"], tensors


# %%
def first_file():
    model = draw_model(0)
    with scratch() as path:
        write_gguf(path, metadata(model.config, tokenizer), to_gguf_tensors(model.state_dict(), 4, 2), "Q8_0")
        header = read_header(path.read_bytes())
    for name in ("token_embd.weight", "blk.0.attn_norm.weight", "blk.0.attn_q.weight"):
        print(f"{name:24} (shape, type, offset) {header['tensors'][name]}")


# %%
insight.run(first_file, needs="Exercises 2 to 8")


# %% [markdown]
# ### Systems insight 3 of 3: what does the file's kind cost in logits?
#
# **Checkpoint**: written and read back. **Predict, and write it down**: the logits of the model have a spread of 1. How far off are those from the
# file, in F32, F16 and Q8_0? How often does the likeliest next token change?

# %%
def drift(texts=12):
    """Error of the logits from your files by kind, share of positions with another likeliest token, and seconds to read a file."""
    model, table = draw_model(3, hidden_size=128, num_hidden_layers=3), {}
    fields, tensors = metadata(model.config, tokenizer), to_gguf_tensors(model.state_dict(), 4, 2)
    ids = [tokenizer(tiny.sentences(3, seed=k))["input_ids"] for k in range(texts)]
    with torch.no_grad():
        want = torch.cat([model(torch.tensor([row])).logits[0].double() for row in ids])
    for kind in ("F32", "F16", "Q8_0"):
        with scratch() as path:
            write_gguf(path, fields, tensors, kind)
            start = time.perf_counter()
            content = load(path)
            seconds = time.perf_counter() - start
        got = torch.cat([runtime_logits(*content, row) for row in ids])
        changed = (got.argmax(1) != want.argmax(1)).double().mean().item()
        table[kind] = (((got - want).std() / want.std()).item(), changed, seconds)
    return table


# %%
drifts = insight.run(drift, needs="Exercises 2 to 8")
for kind, (error, changed, seconds) in (drifts or {}).items():
    print(f"{kind:5} error {error:.1e} of the spread, another likeliest token {changed:.1%}; read in {1e3 * seconds:.1f} ms")


# %% [markdown]
# **What it means in production.** Compare logits, not texts: two files that answer one prompt alike may differ in a thousand others, and greedy
# text can change for good at a single near-tie. Keep the number of the conversion that you trust, and alarm when a new one drifts further.

# %% [markdown]
# ## Part 5: Serve
#
# ### Exercise 9: the Modelfile
#
# Ollama is told by a Modelfile which file to load, how a conversation becomes a text, and when to stop. Its template language is Go's: `{{ .Prompt }}`
# inserts, `{{ if .System }}` ... `{{ end }}` keeps what stands between them if there is a system message. Generation begins where
# `{{ .Response }}` stands. It must give *exactly* what ChatML gave in training.

# %% nbgrader={"grade": false, "grade_id": "gguf-modelfile", "locked": false, "schema_version": 3, "solution": true, "task": false}
def modelfile(file: str, system: str, stops: Sequence[str], context: int) -> str:
    """Write a Modelfile for a ChatML model.

    Args:
        file: name of the GGUF file, beside the Modelfile.
        system: the default system message; empty for none.
        stops: texts that end an answer.
        context: tokens of the context window.

    Returns:
        The commands, each at the beginning of a line: FROM ./ + file; TEMPLATE and SYSTEM (only if there is one) with their text between
        three double quotes on either side; PARAMETER num_ctx and the number; for each stop PARAMETER stop and the text between double
        quotes. The template has a system message if there is one, the user's prompt if there is one, and the assistant's response,
        each as ChatML renders it, the end of the response included. It uses {{ .System }}, {{ .Prompt }}, {{ .Response }},
        {{ if .X }} and {{ end }} only. The Modelfile ends with a newline.

    Raises:
        ValueError: `system` contains three double quotes or ends with one, a stop contains a double quote or a newline, or `context`
            is below 1.

    TODO: Write the ChatML template in Go's language, and the commands around it.

    APPROACH:
        1. Refuse what would end its own quotes first, because a system message could then add commands.
        2. Put the condition around a whole message, because an empty one has markers too.
        3. Put newlines where ChatML has them and nowhere else, because the model has never seen others.

    EXAMPLE:
        >>> commands = modelfile("m.gguf", "", ["<|im_end|>"], 256).splitlines()
        >>> commands[0], "PARAMETER num_ctx 256" in commands, 'PARAMETER stop "<|im_end|>"' in commands
        ('FROM ./m.gguf', True, True)

    HINTS:
        1. Render a conversation in ChatML and replace the contents by {{ .System }}, {{ .Prompt }} and {{ .Response }}.
        2. The template's own text may hold newlines: three quotes end it, nothing else.
        3. An f-string doubles every brace; joining plain strings spares you that.
    """
    ### BEGIN SOLUTION
    if '"""' in system or system.endswith('"') or any('"' in stop or "\n" in stop for stop in stops):
        raise ValueError("a text that ends its own quotes")
    if context < 1:
        raise ValueError(f"context must be at least 1, not {context}")

    def message(role: str, content: str) -> str:
        return "<|im_start|>" + role + "\n{{ " + content + " }}<|im_end|>\n"

    template = "{{ if .System }}" + message("system", ".System") + "{{ end }}"
    template += "{{ if .Prompt }}" + message("user", ".Prompt") + "{{ end }}" + message("assistant", ".Response")
    lines = [f"FROM ./{file}", f'TEMPLATE """{template}"""', f"PARAMETER num_ctx {context}"]
    lines += [f'SYSTEM """{system}"""'] if system else []
    return "\n".join(lines + [f'PARAMETER stop "{stop}"' for stop in stops]) + "\n"
    ### END SOLUTION


# %% [markdown]
# Ollama is not here. A reader of Modelfiles and of the few words of Go's template language that you need stands in for it.

# %% nbgrader={"grade": false, "grade_id": "gguf-given-commands", "locked": true, "schema_version": 3, "solution": false, "task": false}
def commands_of(text: str) -> list[tuple[str, str]]:
    """The commands of a Modelfile with their arguments, quotes taken off."""
    found = re.findall(r'^(\w+) +(?:"""(.*?)"""|([^\n]*?)) *$', text, flags=re.MULTILINE | re.DOTALL)
    return [(command, long or short) for command, long, short in found]


def render_go(template: str, **values: str) -> str:
    """Render a template of texts, {{ .X }}, {{ if .X }} and {{ end }}; - beside braces takes white space away, as in Go."""
    template = re.sub(r"\s*\{\{-\s", "{{ ", re.sub(r"\s-\}\}\s*", " }}", template))
    out, shown = [], [True]
    for text, action in re.findall(r"(.*?)(?:\{\{\s*(.*?)\s*\}\}|\Z)", template, flags=re.DOTALL):
        out += [text] * shown[-1]
        if action.startswith("if ."):
            shown.append(shown[-1] and bool(values[action[4:]]))
        elif action == "end":
            shown.pop()
        elif action:
            out += [values[action.removeprefix(".")]] * shown[-1]
    return "".join(out)


# %% nbgrader={"grade": true, "grade_id": "test-gguf-modelfile", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Checks: the commands, and the rendered template against transformers' ChatML, with and without a system message; refusals.
# Catches: a newline more or less, no end marker, a system message that is always there, stops without quotes, broken quotes.
# A pass prints nothing.
def test_unit_gguf_modelfile():
    def check(file, system, stops, context, question, answer):
        text = modelfile(file, system, stops, context)
        checking.equal(text[-1:], "\n", what="the last letter of the Modelfile")
        commands = commands_of(text)
        template = dict(commands)["TEMPLATE"]
        ifs, ends = (len(re.findall(rf"\{{\{{-? *{word}\b", template)) for word in ("if", "end"))
        checking.equal(ends, ifs, what="number of {{ end }}, one for each {{ if }}")
        want = [("FROM", f"./{file}"), ("PARAMETER", f"num_ctx {context}")] + [("SYSTEM", system)] * bool(system)
        want += [("PARAMETER", f'stop "{stop}"') for stop in stops]
        got = [(command, value) for command, value in commands if command != "TEMPLATE"]
        checking.equal(sorted(got), sorted(want), what="commands but TEMPLATE")
        messages = [{"role": "system", "content": system}] * bool(system) + [{"role": "user", "content": question}]
        prompt = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        checking.equal(template.count("{{ .Response }}"), 1, what="number of {{ .Response }} in the template")
        values = {"System": system, "Prompt": question, "Response": answer}
        checking.equal(render_go(template.split("{{ .Response }}")[0], **values), prompt, what="text up to the response")
        whole = tokenizer.apply_chat_template([*messages, {"role": "assistant", "content": answer}], tokenize=False)
        checking.equal(render_go(template, **values), whole, what="text with the response")
        alone = render_go(template, System=system, Prompt="", Response=answer)
        checking.equal("user" in alone, False, what="a user's message without a prompt")

    check("tiny.gguf", "", ["<|im_end|>"], 256, "hi", "hello")
    check("tiny.gguf", "Be kind.", ["<|im_end|>"], 256, "hi", "hello")
    ### BEGIN HIDDEN TESTS
    # check: several stops or none, texts of several lines
    # hint: one PARAMETER for each stop; contents come out as they went in.
    number = checking.secret_seed()
    check(f"m{number}.gguf", "Line 1\n\nLine \"2\".", ["<|im_end|>", "<|im_start|>", "a b"], 4096, "x\ny ", "{ä€}")
    check("x.gguf", "", [], 1, f"{number}", "")
    # check: texts that end their own quotes, and no context
    # hint: what would the line behind three quotes be to Ollama?
    for system, stops, context in (('x"""\nFROM other', [], 9), ('say "x"', [], 9), ("", ['"'], 9), ("", ["x", "\n"], 9), ("", [], 0)):
        checking.raises(ValueError, modelfile, "x.gguf", system, stops, context, what=f"{system=}, {stops=}, {context=}")
    ### END HIDDEN TESTS


test_unit_gguf_modelfile()


# %% [markdown]
# ### What just happened?
#
# Print it: this is the whole interface between your model and everybody who uses it.

# %%
def show_modelfile():
    print(modelfile("tiny.gguf", "You put words in order.", ["<|im_end|>"], 256))


# %%
insight.run(show_modelfile, needs="Exercise 9 (modelfile)")


# %% [markdown]
# ## Put it together
#
# From base, adapter and tokenizer to a file; from the file, and nothing else, back to logits and ids.

# %% nbgrader={"grade": false, "grade_id": "gguf-given-convert", "locked": true, "schema_version": 3, "solution": false, "task": false}
def convert(path: Path, base: nn.Module, adapted: nn.Module, kind: str, words: PreTrainedTokenizerBase) -> None:
    """Base, adapter (from peft) and tokenizer to a GGUF file, by your functions."""
    config, lora = base.config, adapted.peft_config["default"]
    merged = merge_adapter(base.state_dict(), get_peft_model_state_dict(adapted), lora.lora_alpha / lora.r)
    tensors = to_gguf_tensors(merged, config.num_attention_heads, config.num_key_value_heads)
    write_gguf(path, metadata(config, words), tensors, kind)


# %% nbgrader={"grade": true, "grade_id": "test-gguf-module", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: logits from files of all kinds against the adapted model in transformers; ids of texts by the file's tokenizer.
# Catches: pieces that are right alone and do not fit together.
# A pass prints nothing.
def test_unit_gguf_module():
    def check(seed, what, **changes):
        base = draw_model(seed, **changes)
        adapted = with_adapter(base, seed)
        texts = [tiny.sentences(2, seed=seed + k) for k in range(2)]
        # Errors over the spread of the logits. float32 in transformers: a few hundred roundings of 6e-8. F16: a weight is off by 1.4e-4
        # (2**-11 / sqrt 12, relative), Q8_0: by 5e-3 (a step of max / 127, a spread of max / 2.2); 16 matrices one after the other
        # make 4 times that. Allowed is 5 times as much again, for models that add less than others.
        for kind, allowed in (("F32", 2e-5), ("F16", 3e-3), ("Q8_0", 1e-1)):
            with scratch() as path:
                convert(path, base, adapted, kind, tokenizer)
                fields, tensors = load(path)
            again = rebuilt(fields)
            for text in texts:
                ids = again(text)["input_ids"]
                checking.equal(ids, tokenizer(text)["input_ids"], what=f"ids of {text!r} by the file of {what}")
                with torch.no_grad():
                    want = adapted(torch.tensor([ids])).logits[0].double()
                got = runtime_logits(fields, tensors, ids)
                error = ((got - want).square().mean().sqrt() / want.std()).item()
                assert error < allowed, f"logits of {what}, kind {kind}: error {error:.1e} of their spread, allowed {allowed:.1e}"

    check(0, "a model")
    ### BEGIN HIDDEN TESTS
    # check: other seeds and shapes
    # hint: convert a model without an adapter, then one with a single layer, and compare logits as in the first part.
    seed = checking.secret_seed() % 10**6
    check(seed, "a model with one key head", num_key_value_heads=1)
    check(seed + 1, "a model with wide heads", head_dim=32, num_hidden_layers=1)
    ### END HIDDEN TESTS


test_unit_gguf_module()


# %% [markdown]
# transformers has a reader of GGUF files too, written by others. It undoes your renaming and reordering, and should find the model:

# %%
def by_transformers():
    base = draw_model(5)
    adapted, ids = with_adapter(base, 5), torch.arange(3, 60)[None]
    for kind in ("F16", "Q8_0"):
        with scratch() as path, torch.no_grad(), contextlib.redirect_stderr(io.StringIO()):
            convert(path, base, adapted, kind, tokenizer)
            found = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name).eval()
            error = (found(ids).logits - adapted(ids).logits).abs().max()
        print(f"{kind:5} largest difference of a logit {error:.1e}; rope {found.config.rope_parameters}")


# %%
insight.run(by_transformers, needs="Exercises 1 to 6")


# %%
def test_unit_all():
    """Every test again, in order; says which exercises are still open."""
    for name in ("merge", "tensors", "q8", "model", "tokenizer", "write", "value", "header", "faults", "modelfile", "module"):
        print(f"--- {name}")
        insight.run(globals()[f"test_unit_gguf_{name}"], needs=f"gguf-{name}")


# %%
test_unit_all()


# %% [markdown]
# ## Use it: a model of your own, from a file
#
# A base model that says things in two word orders; an adapter that teaches it one of them, in ChatML; a file. Then the file answers, without
# transformers.

# %%
def conversations(count, seed, sides):
    """Token ids (count, length) of ChatML conversations; answers take the given sides by turns."""
    texts = [
        tokenizer.apply_chat_template([{"role": "user", "content": pair["prompt"].strip()},
                                       {"role": "assistant", "content": pair[sides[k % len(sides)]]}], tokenize=False)
        for k, pair in enumerate(tiny.preferences(count, seed))
    ]
    return tokenizer(texts, padding=True, return_tensors="pt")["input_ids"]


# %%
def fine_tuned(steps=120):
    """A base that knows both orders, and an adapter for one of them."""
    base = draw_model(0)
    rows = conversations(16 * steps, 1, ("chosen", "rejected"))
    tiny.pretrain(base, list(rows.reshape(steps, 16, -1)))
    config = LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj", "down_proj"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        adapted = get_peft_model(copy.deepcopy(base), config)
    rows = conversations(16 * 40, 2, ("chosen",))
    tiny.pretrain(adapted, list(rows.reshape(40, 16, -1)), peak=2e-2)
    return base, adapted


base, adapted = fine_tuned()


# %%
def answer(content, question, longest=24):
    """A file's greedy answer: prompt by the Modelfile's template, ids by the file's tokenizer, logits by the runtime."""
    fields, tensors = content
    words = rebuilt(fields)
    template = dict(commands_of(modelfile("tiny.gguf", "", ["<|im_end|>"], 256)))["TEMPLATE"]
    prompt = render_go(template.split("{{ .Response }}")[0], System="", Prompt=question)
    ids = words(prompt)["input_ids"]
    start = len(ids)
    while len(ids) < start + longest and fields["tokenizer.ggml.eos_token_id"] not in ids[start:]:
        ids.append(int(runtime_logits(fields, tensors, ids)[-1].argmax()))
    return words.decode(ids[start:], skip_special_tokens=True)


# %%
def ask_the_files():
    """Convert, load and ask; returns what was loaded, and the sizes of the files."""
    questions = [pair["prompt"].strip() for pair in tiny.preferences(4, seed=9)]
    contents, sizes = {}, {}
    for kind in ("F32", "F16", "Q8_0"):
        with scratch() as path:
            convert(path, base, adapted, kind, tokenizer)
            contents[kind], sizes[kind] = load(path), path.stat().st_size
        print(f"{kind}, {sizes[kind]:,} bytes:", "   ".join(f"{q} {answer(contents[kind], q)}" for q in questions[:3]))
    return contents, sizes


# %%
contents, file_sizes = insight.run(ask_the_files, needs="Exercises 1 to 9") or (None, None)


# %% [markdown]
# The order of the words is right, and often the name; which thing it was takes longer to learn than this notebook has time for. All
# files say the same. The picture: how sure the model is of each token, before and after rounding.

# %%
def picture():
    ids = conversations(1, 9, ("chosen",))[0].tolist()
    curves = {kind: runtime_logits(*contents[kind], ids).softmax(-1).max(1).values.tolist() for kind in ("F32", "Q8_0")}
    insight.lines(range(len(ids)), curves, xlabel="token", ylabel="probability of the likeliest")


# %%
if contents:
    picture()


# %% [markdown]
# ## On your Spark
#
# Full size: merge the adapter of 3.1.4, convert Llama 3.1 8B, import, ask. Predict first: bytes in each kind, and tokens a second, if every
# token reads all weights once at 273 GB/s (the specification of a DGX Spark's memory).

# %%
def predicted(parameters=8.03e9, bandwidth=273e9):
    """Gigabytes, and an upper bound of tokens a second, by kind."""
    return {kind: (parameters * bits / 8e9, bandwidth / (parameters * bits / 8)) for kind, bits in (("F16", 16), ("Q8_0", 8.5))}


# %%
for kind, (gigabytes, rate) in predicted().items():
    print(f"{kind:5} {gigabytes:5.1f} GB, at most {rate:4.0f} tokens a second")


# %% [markdown]
# Your functions work on small models. `to_gguf_tensors` makes float32 of everything, which is 32 GB for 8B: it fits into 128 GB, but llama.cpp's
# converter does it tensor by tensor, knows scaled RoPE (Llama 3.1 has it, and yours refuses it), and is what you would use in production:
#
# ```bash
# sync; echo 3 | sudo tee /proc/sys/vm/drop_caches   # unified memory: the file cache would take from the GPU's share
# docker run --gpus all -it --rm --ipc=host -v $PWD:/workspace -v $HOME/.cache/huggingface:/hf -e HF_HOME=/hf \
#     nvcr.io/nvidia/pytorch:25.11-py3
# git clone --depth 1 https://github.com/ggml-org/llama.cpp && pip install -r llama.cpp/requirements.txt
# python llama.cpp/convert_hf_to_gguf.py merged --outtype q8_0 --outfile model.gguf
# ollama create my-model -f Modelfile                  # where Ollama runs, outside of the container
# ollama run my-model --verbose "Say hello."           # --verbose prints tokens a second
# curl -s localhost:11434/api/chat -d '{"model": "my-model", "stream": false, "messages": [{"role": "user", "content": "Say hello."}]}'
# ```
#
# The last line is what the Web UI of 1.1.5 does: choose `my-model` there, and ask it what you asked your fine-tuned model in 3.1.4.
#
# `merged` is what peft's `merge_and_unload()` and `save_pretrained("merged")` wrote before; the Modelfile is yours with Llama 3.1's own template
# and stops. Look at `gguf-dump model.gguf` before you import it. None of this has been **measured on a GPU or run in Ollama** by the authors: your record
# is the first.

# %% [markdown]
# Ollama should load the tiny model too, on any machine. (The authors ran the reference's files of a tiny model, on a CPU, in llama.cpp, on which
# Ollama builds: the same tokens, and log-probabilities off by at most 4e-4 for F32, where llama.cpp keeps keys and values in F16, and 6e-3
# for Q8_0. Ollama itself they have not run.) Does it say what your runtime said? Two files, to be copied to where `ollama create` is:

# %%
def files_for_ollama(target="ollama-tiny"):
    """Write the tiny model and its Modelfile into a folder beside the notebook."""
    place = Path(target)
    place.mkdir(exist_ok=True)
    convert(place / "tiny.gguf", base, adapted, "Q8_0", tokenizer)
    (place / "Modelfile").write_text(modelfile("tiny.gguf", "", ["<|im_end|>"], 256) + "PARAMETER temperature 0\n")
    return sorted(path.name for path in place.iterdir())


WRITE_FILES = False
if WRITE_FILES:
    print(files_for_ollama())

# %% [markdown]
# Record what you measured. Without such a machine leave it as it is: nothing is lost.

# %%
spark_record = {"gpu": None, "file_gb": None, "load_s": None, "tokens_per_second": None, "same_answers": None}


# %% nbgrader={"grade": false, "grade_id": "gguf-given-spark-record", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_spark_record(record: dict) -> str:
    """Form and plausibility of a record. Nothing here earns points; a person reads it."""
    wanted = {"file_gb": (1e-4, 200), "load_s": (0, 3600), "tokens_per_second": (0.1, 1e5), "same_answers": (0, 1)}
    if all(record.get(key) is None for key in ("gpu", *wanted)):
        return "not measured: no record of an import into Ollama"
    odd = [key for key, (low, high) in wanted.items()
           if not isinstance(record.get(key), int | float) or not low <= record[key] <= high]
    odd += [] if isinstance(record.get("gpu"), str) else ["gpu"]
    return f"look again at {', '.join(odd)}: missing or out of the plausible range" if odd else "complete and plausible"


# %%
check_spark_record(spark_record)


# %% [markdown]
# ## Common mistakes
#
# **1. Keys reordered with the number of query heads.**
#
# ```python
# k.reshape(heads, 2, -1, width)       # wrong: with fewer key heads D is another one, and rows of two heads mix
# k.reshape(kv_heads, 2, -1, width)    # right
# ```
# Models without grouped heads hide it.
#
# **2. The scale rounded before it is used.**
#
# ```python
# q = round(x / float16(d))            # wrong here: smaller errors even, but other bytes than ggml's
# q = round(x * (1 / d))               # right: d in float32; only what is stored is rounded
# ```

# %% [markdown]
# **3. True is an int.**
#
# ```python
# if isinstance(value, int): add_uint32(...)        # wrong: add_bos_token becomes a number, and the runtime refuses the file
# if isinstance(value, bool): add_bool(...)         # right: first
# ```
#
# **4. Special tokens as words.**
#
# ```python
# types = [1] * vocab_size                          # wrong: <|im_end|> never ends anything, and users can write it
# types = [3 if special else 1 ...]                 # right
# ```

# %% [markdown]
# **5. Axes as they stand in the file.**
#
# ```python
# shape = tuple(lengths)                            # wrong: GGUF has the last axis first
# shape = tuple(lengths[::-1])                      # right
# ```
# Square matrices hide it.
#
# **6. A template that is nearly right.**
#
# ```python
# "<|im_start|>assistant{{ .Response }}"            # wrong: the newline after the role is missing
# "<|im_start|>assistant\n{{ .Response }}"          # right
# ```

# %% [markdown]
# ## Reflect
#
# Three questions on *your* code and *your* measurements. Five to ten lines each; numbers without a source in this
# notebook earn nothing.

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-gguf-bytes", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Reflection 1: bytes and errors (3 points).** From `sizes`, `errors` and `drifts`: how many bits does a weight take in each kind, and why is it not
# exactly 8.5 for your whole Q8_0 file? What did blocks of 32 buy when there were outliers? Is the drift of Q8_0 worth its bytes for a model that
# you serve, and by which number would you decide?
#
# ### BEGIN SOLUTION
# (With the student's numbers.) 8 x bytes / weights: 32.0, 16.1 and 8.6; the rest are header, vocabulary, norms in F32 and padding, less and less
# important the larger the model. With outliers the error of blocks grew about fourfold (0.5 to 2.3 %), that of rows by twenty (0.9 to 19 %):
# an outlier spoils only its 31 neighbours. Q8_0 moved the logits by about 1 % of their spread and changed 2 % of the likeliest tokens of an
# untrained model, where near-ties are common; for a trained one fewer. Decide by a task's score or the KL divergence of the
# next-token distribution on held-out texts, compared with the gain in speed, nearly two.
#
# ### BEGIN MARK SCHEME
# - 1 point: bits a weight computed from `sizes`, with a reason for the rest.
# - 1 point: both factors from `errors`, and why a block confines an outlier.
# - 1 point: a judgement from `drifts`, with a number that decides.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-gguf-silent", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Reflection 2: silent faults (3 points).** Take three mistakes: a rope base left at its default, keys reordered wrongly, a special token of type 1. For each: which of
# your tests or cells would notice, would the file load, and what would users see? Then name one fault of a conversion that nothing in this
# notebook would notice.
#
# ### BEGIN SOLUTION
# All three files load. Rope base: model_fields' test and the module test's logits; users see fluent short answers and confusion in long ones.
# Keys: the test of to_gguf_tensors, `same_model` (1e-2 in place of 2e-7), the module test; users see poor text at once, if the model has
# grouped heads. Type 1: the test of tokenizer_fields, and ids of the rebuilt tokenizer; answers that never stop, and users who can forge messages.
# Not noticed: a runtime that reads `pre` otherwise than our rebuilt tokenizer; a wrong context_length (the runtime here ignores it);
# Ollama's own reading of the template; big-endian machines.
#
# ### BEGIN MARK SCHEME
# - 1 point: the tests or cells that notice, for all three.
# - 1 point: that all load, with what users see.
# - 1 point: a fault that really escapes this notebook.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-gguf-production", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Reflection 3: production (3 points).** Your team publishes a new adapter every week, for a server that loads files of strangers too. From `merge_adapter` to
# `modelfile`: which checks run before a file is published, with which thresholds from your measurements? What does `read_header` protect the server
# from, and what not? When would you serve the adapter unmerged?
#
# ### BEGIN SOLUTION
# Before publishing: logits of the file against transformers on fixed texts, error below twice what `drifts` shows for the kind (F16 1e-3, Q8_0 3e-2);
# ids of the rebuilt tokenizer equal on a set with special tokens; the template rendered against the training template; stop reached within the
# limit. read_header protects from lies about counts, lengths, offsets and types, so from reading elsewhere and from memory use; not from
# a template that does harm, from weights that were trained to misbehave, or from huge but honest files. Unmerged: many adapters over one
# base in one server, or several tenants; the price is an extra small product in each layer.
#
# ### BEGIN MARK SCHEME
# - 1 point: at least three checks, with thresholds from their own numbers.
# - 1 point: what the parser protects from, and something that it does not.
# - 1 point: a case for unmerged adapters, with its price.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# What you built, in the numbers of your own run:

# %%
def summary():
    for kind, (nbytes, _, _) in sizes.items():
        print(f"{kind:5} {8 * nbytes / 1_344_768:5.2f} bits a weight, logits off by {drifts[kind][0]:.1e} of their spread")
    print("the fine-tuned model:", {kind: f"{nbytes:,} bytes" for kind, nbytes in file_sizes.items()})
    print("full size:", check_spark_record(spark_record))


# %%
insight.run(summary, needs="Exercises 1 to 9")

# %% [markdown]
# ## Challenge (optional)
#
# 1. **Q4_0**: blocks of 32 with 4 bits each, equal to `gguf.quants`. Which of your tests need another tolerance, and by how much?
# 2. **Without float32**: convert tensor by tensor from a safetensors file, so that memory never holds more than one.
# 3. **Scaled RoPE**: write the tensor `rope_freqs.weight` for Llama 3's scaling, and teach the runtime to use it.
# 4. **Importance**: quantise one kind of matrix at a time. Which one moves the logits most?
#
# ## Further reading
#
# - The specification of GGUF: github.com/ggml-org/ggml, docs/gguf.md.
# - The `gguf` package and `convert_hf_to_gguf.py`: github.com/ggml-org/llama.cpp.
# - Ollama's documentation on Modelfiles and on importing models: github.com/ollama/ollama, docs.
# - J. Su et al., *RoFormer: Enhanced Transformer with Rotary Position Embedding*, 2021, arXiv:2104.09864.
# - T. Dettmers et al., *LLM.int8(): 8-bit Matrix Multiplication for Transformers at Scale*, 2022, arXiv:2208.07339: outliers.

# %% [markdown]
# ## Clean up
#
# Drop the models, the files and the figures.

# %%
from matplotlib import pyplot

pyplot.close("all")
base = adapted = contents = None
