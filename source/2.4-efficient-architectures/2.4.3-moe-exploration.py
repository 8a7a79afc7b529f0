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
# # Lab 2.4.3: MoE exploration
#
# | | |
# |---|---|
# | Module | 2.4 Efficient Architectures |
# | Time | 2 hours |
# | Difficulty | ★★★☆☆ |
# | Hardware | gpu-optional: all points can be earned on a CPU; *On your Spark* is for a large GPU |
# | Points | 28 automatic, 9 read by a person |
# | Builds on | 2.3.2 Transformer block |
#
# You are going to look inside a mixture of experts (MoE): count what it holds and what it uses, record who works on
# which token, test whether experts really divide the subjects among themselves, and switch experts off to see
# who misses them.

# %% [markdown]
# ## What you'll achieve
#
# By the end you have
#
# 1. **Systems understanding**: counted total and active parameters, and measured how many experts a batch reads
#    (objective 2.4.2).
# 2. **Core skill**: recorded the routing of any MoE of transformers with hooks, without changing it (objective 2.4.4).
# 3. **A pattern**: a measure, a chance level made by permutation, and an intervention, before the word *specialist*.
# 4. **A tie to production**: instruments that read Mixtral, Qwen-MoE, DeepSeek-V2 and DeepSeek-V3 alike (objective
#    2.4.4).
# 5. **A trade-off**: memory for all experts against arithmetic for a few (objective 2.4.2).

# %% [markdown]
# ## Before you start
#
# You have built a transformer block with its feed-forward layer (2.3.2). **What works**: every token passes through the
# same weights. **The gap**: in a mixture of experts it passes through a few of many, and which ones is decided anew for
# each token in each layer. **This lab** makes that visible; 2.4.4 then builds the router itself.
#
# ```
# 2.3.2 transformer block ───┐
# 1.x   probability, logs ───┼──>  2.4.3 who works on what?  ──>  2.4.4 how a router decides  ──>  2.4.5 comparison
# 2.1   hooks, no_grad ──────┘
# ```

# %% [markdown]
# ### Skill checks
#
# Answer first, then unfold.
#
# <details><summary>1. What does a forward hook get, and what if it returns something?</summary>
#
# The module, its arguments and its output. What it returns takes the output's place; with None the output stays.
# </details>
#
# <details><summary>2. A fair coin and a fair die are thrown apart. How many bits does one tell about the other?</summary>
#
# None: mutual information is 0 when the joint probability is the product of the two. From few throws an estimate
# still comes out above 0.
# </details>
#
# <details><summary>3. Eight experts, two chosen. Which share of the experts' weights does one token use?</summary>
#
# A quarter. Embeddings, attention, router and norms are used in full.
# </details>

# %% nbgrader={"grade": false, "grade_id": "moe-given-setup", "locked": true, "schema_version": 3, "solution": false, "task": false}
import logging
import math
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from labkit import checking, insight, tiny
from torch import Tensor, nn
from transformers import (
    DeepseekV2Config,
    DeepseekV2ForCausalLM,
    DeepseekV3Config,
    DeepseekV3ForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
)

# %% nbgrader={"grade": false, "grade_id": "moe-given-settings", "locked": true, "schema_version": 3, "solution": false, "task": false}
logging.getLogger("transformers").setLevel(logging.ERROR)  # it would name optional packages that are not installed
torch.set_num_threads(1)  # with matrices this small, a second thread would mostly wait for the first

# %% [markdown]
# Readiness check: a hook, and probabilities that multiply. It should print `ready`.

# %%
seen, layer = [], nn.Linear(3, 2)
handle = layer.register_forward_hook(lambda module, args, output: seen.append(output.shape))
layer(torch.zeros(5, 3))
handle.remove()
layer(torch.zeros(5, 3))
assert seen == [(5, 2)] and abs(math.log2(8) - 3) < 1e-12
print("ready")

# %% [markdown]
# ## Why it matters
#
# Mixtral 8x7B holds 46.7 billion parameters and uses 12.9 billion for a token; DeepSeekMoE-16B holds 16.4 and uses
# 2.8. On a machine with 128 GB of unified memory and modest bandwidth that is the best bargain there is: capacity is
# cheap, reading it for every token is not.
#
# People then make plans from what they *believe* experts do: "keep the code experts, drop the others, and the model
# fits on a laptop". Whether such an expert exists can be measured in an afternoon. Those who did not measure have
# shipped models that lost what nobody had tested. You will build the instruments, with the control experiment that
# keeps them honest.

# %% [markdown]
# ## At the kitchen table
#
# A newspaper has sixty-four writers and an editor at the door who gives each *word* of a story to six of them.
#
# | newspaper | mixture of experts |
# |---|---|
# | the editor, one for each floor | a router, one for each layer |
# | writers on the payroll | total parameters |
# | writers at work on one word | active parameters |
# | the two who see every word | shared experts |
# | "sports goes to Kim, doesn't it?" | specialisation, to be tested |
# | Kim is ill today: which pages suffer? | ablation |
#
# **Where it breaks**: nobody hired Kim for sports. The division of labour was found by gradient descent, it need not
# follow subjects as we name them, and often it follows punctuation.

# %% [markdown]
# ## Foundations
#
# In an MoE layer a router gives token $x$ the $k$ best of $E$ experts, and the layer returns
# $y=\sum_{e\in K(x)} w_e\,\mathrm{FFN}_e(x)$, plus the output of shared experts where a model has them. We record
# $K(x)$ and $w$ for each layer and token:
#
# ```
#   ids (B, S) ──> layer 0: dense ──> layer 1: gate ─> experts ──> layer 2: gate ─> experts ──> logits
#                                       │ hook                       │ hook
#                                       v                            v
#                             experts (L, T, k), weights (L, T, k)   for the T tokens that are no padding
# ```
#
# **Mutual information** of the group $D$ of a token (its domain) and the expert $X$ in one of its places, in bits:
# $I=\sum_{d,e} p(d,e)\log_2\frac{p(d,e)}{p(d)\,p(e)}$. It is 0 when all domains use experts alike, and at most
# $\min(\log_2 D, \log_2 E)$. Estimated from few tokens it is *above* 0 even for a router that throws dice, so it needs
# a chance level.

# %% [markdown]
# ### One example in numbers
#
# Four tokens, k = 1. Domain 0 goes to experts 0, 0; domain 1 to experts 0, 1. The joint shares are 1/2 (domain 0,
# expert 0), 1/4 and 1/4; expert 0 has 3/4, expert 1 has 1/4, each domain has 1/2:
# $I=\tfrac12\log_2\frac{1/2}{3/8}+\tfrac14\log_2\frac{1/4}{3/8}+\tfrac14\log_2\frac{1/4}{1/8}$.

# %%
print([round(0.5 * math.log2(4 / 3), 3), round(0.25 * math.log2(2 / 3), 3), round(0.25 * math.log2(2), 3)], "sum 0.311")


# %% [markdown]
# ### The models
#
# Four families of transformers, tiny and with random weights. All keep the experts of a layer in two large tensors,
# and the router in a module `gate`. What differs: Mixtral's weights sum to 1, those of the others here do not; DeepSeek
# and Qwen have a shared expert and a first layer without experts; DeepSeek-V3 chooses with a bias.

# %% nbgrader={"grade": false, "grade_id": "moe-given-draw", "locked": true, "schema_version": 3, "solution": false, "task": false}
def draw(seed: int, *shape: int, scale: float = 1.0) -> Tensor:
    """Normal float64 numbers from a seed."""
    return scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# %% nbgrader={"grade": false, "grade_id": "moe-given-families", "locked": true, "schema_version": 3, "solution": false, "task": false}
COMMON = {"vocab_size": 259, "hidden_size": 24, "num_attention_heads": 2, "num_key_value_heads": 2}
LATENT = {"kv_lora_rank": 8, "q_lora_rank": None, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8}
SMALL = {"intermediate_size": 20, "moe_intermediate_size": 12}
FAMILIES = {
    "mixtral": (MixtralConfig, MixtralForCausalLM, {"intermediate_size": 12}),
    "qwen": (Qwen2MoeConfig, Qwen2MoeForCausalLM,
             {**SMALL, "shared_expert_intermediate_size": 12, "mlp_only_layers": [0]}),
    "deepseek-v2": (DeepseekV2Config, DeepseekV2ForCausalLM,
                    {**SMALL, **LATENT, "n_shared_experts": 2, "first_k_dense_replace": 1}),
    "deepseek-v3": (DeepseekV3Config, DeepseekV3ForCausalLM,
                    {**SMALL, **LATENT, "n_shared_experts": 1, "first_k_dense_replace": 1, "n_group": 1, "topk_group": 1}),
}


# %% nbgrader={"grade": false, "grade_id": "moe-given-tiny", "locked": true, "schema_version": 3, "solution": false, "task": false}
def tiny_moe(family: str, seed: int, experts: int = 6, k: int = 2, layers: int = 3, **changes) -> nn.Module:
    """A model of one of FAMILIES with random float64 weights, large enough that the choices of tokens differ."""
    config_class, model_class, fields = FAMILIES[family]
    count = {"num_local_experts" if family == "mixtral" else "num_experts" if family == "qwen" else "n_routed_experts": experts}
    config = config_class(**{**COMMON, **fields, **count, "num_experts_per_tok": k, "num_hidden_layers": layers, **changes})
    config._experts_implementation = "eager"
    model = model_class(config).double().eval()
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            if parameter.dim() > 1:
                parameter.copy_(draw(seed + number, *parameter.shape, scale=0.4))
        for number, (name, buffer) in enumerate(model.named_buffers()):
            if name.endswith("e_score_correction_bias"):
                buffer.copy_(draw(seed + number, *buffer.shape, scale=0.3))
    return model


# %% nbgrader={"grade": false, "grade_id": "moe-given-blocks", "locked": true, "schema_version": 3, "solution": false, "task": false}
def moe_blocks(model: nn.Module) -> list[nn.Module]:
    """The MoE layers, first to last: each has `.gate` (with `.top_k`) and `.experts` (with `.num_experts`)."""
    return [module for module in model.modules() if hasattr(module, "gate") and hasattr(module, "experts")]


# %% [markdown]
# What `moe_blocks` finds, and what a gate returns: logits, weights and experts of each row.

# %%
def look():
    for family in FAMILIES:
        blocks = moe_blocks(tiny_moe(family, seed=0))
        logits, weights, experts = blocks[0].gate(draw(0, 1, 5, 24))
        print(f"{family:12} {len(blocks)} MoE layers of 3; logits {tuple(logits.shape)}, weights {tuple(weights.shape)},"
              f" experts {experts[0].tolist()} with weights of sum {weights[0].sum().item():.2f}")


look()


# %% [markdown]
# ## Part 1: What it holds, what it uses
#
# ### Exercise 1: total and active parameters
#
# Which parameters take part in the work on one token? All but the experts that were not asked. And how many experts
# of a layer does a *batch* read? If each of T tokens chose k of E experts evenly and for itself, a given expert
# would be missed by one token with probability $1-k/E$.

# %% nbgrader={"grade": false, "grade_id": "moe-count", "locked": false, "schema_version": 3, "solution": true, "task": false}
def count_parameters(model: nn.Module) -> dict[str, int]:
    """Count what a mixture of experts holds, and what one token uses.

    Args:
        model: any model whose MoE layers `moe_blocks` finds; its parameters may lie on the meta device.

    Returns:
        "total": all parameters; one that is used in two places (tied embeddings) counts once, buffers do not count.
        "routed": those of the routed experts, which are `block.experts` of each MoE layer.
        "active": total without those of the routed experts that a token does not ask. Router, shared experts, dense
            layers, attention, norms and the whole embedding count as active.

    TODO: Count, layer by layer, from the structure of the model.

    APPROACH:
        1. Sum over model.parameters(), because it lists a shared parameter once.
        2. In each MoE layer read k and E from the modules, because layers may differ.
        3. Take the share (E - k) / E of the layer's experts away, because all its experts are of one size.

    EXAMPLE:
        >>> counts = count_parameters(tiny_moe("mixtral", 0, experts=4, k=1, layers=1))
        >>> counts["routed"], counts["total"] - counts["active"]
        (3456, 2592)

    HINTS:
        1. `block.gate.top_k` and `block.experts.num_experts` are numbers.
        2. `numel()` of a parameter needs no data.
        3. The counts are ints: divide with //.
    """
    ### BEGIN SOLUTION
    routed = idle = 0
    for block in moe_blocks(model):
        size = sum(parameter.numel() for parameter in block.experts.parameters())
        routed += size
        idle += size // block.experts.num_experts * (block.experts.num_experts - block.gate.top_k)
    total = sum(parameter.numel() for parameter in model.parameters())
    return {"total": total, "routed": routed, "active": total - idle}
    ### END SOLUTION


def expected_experts(num_experts: int, k: int, tokens: int) -> float:
    """How many experts of a layer at least one of `tokens` tokens asks, on average, when each picks k evenly and alone.

    EXAMPLE:
        >>> expected_experts(8, 2, 1), expected_experts(8, 2, 2), round(expected_experts(8, 2, 32), 3)
        (2.0, 3.5, 7.999)
    """
    ### BEGIN SOLUTION
    return num_experts * (1 - (1 - k / num_experts) ** tokens)
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "moe-given-mixtral-meta", "locked": true, "schema_version": 3, "solution": false, "task": false}
def mixtral_on_meta(layers: int = 32) -> nn.Module:
    """Mixtral 8x7B, or its first layers, without memory for its weights."""
    with torch.device("meta"):
        return MixtralForCausalLM(MixtralConfig(
            vocab_size=32000, hidden_size=4096, intermediate_size=14336, num_hidden_layers=layers,
            num_attention_heads=32, num_key_value_heads=8, num_local_experts=8, num_experts_per_tok=2))


# %% nbgrader={"grade": true, "grade_id": "test-moe-count", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: Mixtral's published size; four families of several sizes; tied embeddings; the expected number of experts.
# Catches: shared experts or dense layers taken for routed ones, tied weights counted twice, tokens multiplied by k.
# A pass prints what each of two checks earned.
def test_unit_moe_count():
    credit = checking.Credit(4)
    with credit.check("parameters", points=3, hint="what of a layer is `block.experts`, and which share of it rests?"):
        # Mistral AI publishes 46.7 and 12.9 billion.
        want = {"total": 46_702_792_704, "routed": 45_097_156_608, "active": 12_879_925_248}
        checking.equal(count_parameters(mixtral_on_meta()), want, what="counts of Mixtral 8x7B")
        ### BEGIN HIDDEN TESTS
        # check: shared experts, dense layers, tied embeddings, one expert of one
        # hint: build such a model with tiny_moe and count one layer by hand from the shapes in named_parameters().
        cases = [("mixtral", 5, 3, 2, {"tie_word_embeddings": True}), ("qwen", 6, 2, 3, {}), ("deepseek-v2", 7, 1, 2, {}),
                 ("deepseek-v3", 8, 5, 4, {"first_k_dense_replace": 2}), ("mixtral", 1, 1, 1, {})]
        for family, experts, k, layers, changes in cases:
            model = tiny_moe(family, 0, experts, k, layers, **changes).requires_grad_(False)
            sizes = {name: p.numel() for name, p in model.named_parameters()}
            routed = sum(size for name, size in sizes.items() if ".mlp.experts." in name)
            total = sum(sizes.values())
            want = {"total": total, "routed": routed, "active": total - routed * (experts - k) // experts}
            checking.equal(count_parameters(model), want, what=f"counts of {family}, k = {k} of {experts}")
        ### END HIDDEN TESTS
    with credit.check("experts of a batch", points=1, hint="how likely is it that T tokens all miss one expert?"):
        cases = [(8, 2, 1), (4, 4, 3), (64, 6, 0)]
        ### BEGIN HIDDEN TESTS
        # check: other sizes
        # hint: do E = 2, k = 1 and two tokens with paper.
        cases += [(2, 1, 2), (64, 6, 100), (16, 3, 7), (256, 8, 1000)]
        ### END HIDDEN TESTS
        for experts, k, tokens in cases:
            want = experts - experts * math.exp(tokens * math.log1p(-k / experts)) if k < experts else float(experts)
            # float64: a power of a number near 1 loses tokens * 1e-16 of it.
            checking.close(expected_experts(experts, k, tokens), want, rtol=1e-11, atol=1e-11,
                           what=f"experts read by {tokens} tokens, k = {k} of {experts}")
    return credit.total()


test_unit_moe_count()


# %% [markdown]
# ### What just happened?
#
# You reproduced a published number from the structure alone, without a byte of weights. "8x7B" is neither 56 nor 7
# billion: attention and embeddings are not copied, and two of eight experts work.
#
# ## Part 2: Who works on what
#
# ### Exercise 2: record the routing
#
# transformers can hand out router *logits*. What was chosen from them differs by family: with a bias or not, summing
# to 1 or not. A hook on the gate sees the decision itself.

# %% nbgrader={"grade": false, "grade_id": "moe-routing", "locked": false, "schema_version": 3, "solution": true, "task": false}
def collect_routing(model: nn.Module, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
    """Record which experts the real tokens of a batch are sent to, and with which weights.

    Args:
        model: in evaluation mode, with at least one MoE layer; all its MoE layers have the same k. It comes back as it
            was, also when its forward raises: no hook and no replaced method is left behind, and hooks of others stay.
        input_ids: (B, S), int64.
        attention_mask: (B, S), int64: 1 for a real token, 0 for padding, which may stand on either side.

    Returns:
        experts: (L, T, k), int64, and weights: (L, T, k), as the gates gave them, for L MoE layers (those that
        `moe_blocks` finds, in its order) and the T real tokens in the order of input_ids[attention_mask.bool()]. The
        order of a token's k places is free, the same in both. Neither has a graph.

    TODO: Let the model read the batch once, with a hook on every gate.

    APPROACH:
        1. Hook each gate, because it alone knows what it chose; a gate returns (logits, weights, experts) by row.
        2. Give the mask to the model too, because a real token must not look at padding.
        3. Remove the hooks in a `finally`, because a model that keeps them keeps every later batch in memory.

    EXAMPLE:
        >>> ids = torch.tensor([[104, 105, 33], [111, 107, 0]])
        >>> mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
        >>> experts, weights = collect_routing(tiny_moe("mixtral", 0), ids, mask)
        >>> tuple(experts.shape), bool((weights.sum(dim=2) - 1).abs().max() < 1e-6)
        ((3, 5, 2), True)

    HINTS:
        1. A gate sees B * S rows: sequences one after the other.
        2. `register_forward_hook` returns a handle that can be removed.
        3. One mask, flattened, picks the rows of all layers at once after `torch.stack`.
    """
    ### BEGIN SOLUTION
    experts, weights = [], []

    def record(module, args, output):
        weights.append(output[1])
        experts.append(output[2])

    handles = [block.gate.register_forward_hook(record) for block in moe_blocks(model)]
    try:
        with torch.no_grad():
            model(input_ids=input_ids, attention_mask=attention_mask)
    finally:
        for handle in handles:
            handle.remove()
    real = attention_mask.bool().flatten()
    return torch.stack(experts)[:, real], torch.stack(weights)[:, real]
    ### END SOLUTION


# %% [markdown]
# The visible test holds you against Mixtral's own router logits, the hidden one against what each gate of four
# families said. `as_table` makes the order of places irrelevant.

# %% nbgrader={"grade": false, "grade_id": "moe-given-batch", "locked": true, "schema_version": 3, "solution": false, "task": false}
def draw_batch(seed: int, lengths: list[int], side: str) -> tuple[Tensor, Tensor]:
    """Random bytes for prompts of the given lengths, padded on the left or right side."""
    width = max(lengths)
    ids = torch.randint(256, (len(lengths), width), generator=torch.Generator().manual_seed(seed))
    mask = (torch.arange(width) < torch.tensor(lengths)[:, None]).long()
    mask = mask.flip(1) if side == "left" else mask
    return ids.masked_fill(mask == 0, tiny.ByteTokenizer.pad_token_id), mask


# %% nbgrader={"grade": false, "grade_id": "moe-given-as-table", "locked": true, "schema_version": 3, "solution": false, "task": false}
def as_table(experts: Tensor, weights: Tensor, num_experts: int) -> Tensor:
    """(L, T, E): the weight of each expert; -1 where it was not chosen."""
    assert experts.shape == weights.shape and experts.dim() == 3, f"shapes {experts.shape} and {weights.shape}, not (L, T, k)"
    empty = torch.full((*experts.shape[:2], num_experts), -1.0, dtype=torch.float64)
    return empty.scatter(2, experts, weights.double())


# %% nbgrader={"grade": false, "grade_id": "moe-given-state", "locked": true, "schema_version": 3, "solution": false, "task": false}
def hooks_of(model: nn.Module) -> int:
    """How many hooks hang on the model's modules; a forward that somebody replaced counts as one."""
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) + ("forward" in vars(module))
               for module in model.modules())


# %% nbgrader={"grade": false, "grade_id": "moe-given-check-routing", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_routing(model: nn.Module, ids: Tensor, mask: Tensor, want: Tensor, what: str) -> None:
    """Hold collect_routing against a table (L, T, E), and look at the model afterwards."""
    hooks, before = hooks_of(model), [parameter.requires_grad for parameter in model.parameters()]
    with checking.unchanged(input_ids=ids, attention_mask=mask):
        experts, weights = collect_routing(model, ids, mask)
    checking.equal((experts.dtype, experts.requires_grad, weights.requires_grad), (torch.int64, False, False),
                   what=f"dtype of experts, graphs, {what}")
    # The gates compute in float32; one prompt at a time in place of a batch rounds otherwise.
    checking.close(as_table(experts, weights, want.shape[2]), want, rtol=1e-4, atol=1e-6, what=f"weights of experts, {what}",
                   hint="which rows of a gate are padding, and does the model know?")
    after = [parameter.requires_grad for parameter in model.parameters()]
    checking.equal((hooks_of(model), model.training, after), (hooks, False, before), what=f"the model afterwards, {what}")


# %% nbgrader={"grade": false, "grade_id": "moe-given-mixtral-table", "locked": true, "schema_version": 3, "solution": false, "task": false}
def mixtral_table(model: nn.Module, ids: Tensor, mask: Tensor) -> Tensor:
    """The table of real tokens from Mixtral's own router logits: a softmax over the k largest alone."""
    with torch.no_grad():
        logits = torch.stack(model(ids, attention_mask=mask, output_router_logits=True).router_logits)
    largest = logits.topk(model.config.num_experts_per_tok, dim=2)
    table = torch.full_like(logits, -1.0).scatter(2, largest.indices, largest.values.softmax(dim=2))
    return table[:, mask.flatten() == 1]


# %% nbgrader={"grade": true, "grade_id": "test-moe-routing", "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
# Checks: experts and weights of each layer and real token; the model comes back as it was, also after an error.
# Catches: padding in the table, a mask kept from the model, a choice made anew from logits, hooks left behind.
# A pass prints what each of three checks earned.
def test_unit_moe_routing():
    credit = checking.Credit(6)
    with credit.check("Mixtral", points=2, hint="rows of a gate: sequences one after the other"):
        model = tiny_moe("mixtral", 0)
        for lengths, side in [([4, 4], "right"), ([5, 2, 3], "right"), ([2, 6], "left")]:
            ids, mask = draw_batch(0, lengths, side)
            check_routing(model, ids, mask, mixtral_table(model, ids, mask), f"Mixtral, lengths {lengths}, padded {side}")
    cases = [("qwen", 0)]
    ### BEGIN HIDDEN TESTS
    # check: dense layers, shared experts, biases, weights that do not sum to 1
    # hint: print what a gate of that family returns, and its sum; which element has the experts?
    cases += [(family, checking.secret_seed()) for family in FAMILIES]
    ### END HIDDEN TESTS
    with credit.check("any family", points=2, hint="ask the gate what it chose and do not choose again"):
        for number, (family, seed) in enumerate(cases):
            model, said = tiny_moe(family, seed, experts=7, k=3, layers=2 + number % 2), []
            ids, mask = draw_batch(seed, [3, 7, 1], ("left", "right")[number % 2])
            gates = [block.gate for block in moe_blocks(model)]
            for gate in gates:
                gate.forward = lambda x, old=gate.forward, said=said: said.append(old(x)) or said[-1]
            with torch.no_grad():
                model(ids, attention_mask=mask)
            for gate in gates:
                del gate.forward
            want = as_table(torch.stack([s[2] for s in said]), torch.stack([s[1] for s in said]), 7)
            check_routing(model, ids, mask, want[:, mask.flatten() == 1], f"{family}, three prompts")
    with credit.check("errors and other hooks", points=2, hint="what is left on the gates when forward raises?"):
        model, calls = tiny_moe("mixtral", 5), []
        moe_blocks(model)[0].gate.register_forward_hook(lambda *_: calls.append(1))
        ids, mask = draw_batch(5, [3], "right")
        check_routing(model, ids, mask, mixtral_table(model, ids, mask), "a model with a hook of its own")
        assert calls, "the model's own hook was never called"
        before = hooks_of(model)
        checking.raises(IndexError, collect_routing, model, ids + 300, mask, what="a token that does not exist")
        checking.equal(hooks_of(model), before, what="hooks after an error")
    return credit.total()


test_unit_moe_routing()


# %% [markdown]
# ### A model to explore
#
# Four kinds of text, written from a seed: sentences, sums, code, and the sentences again in Greek letters (two bytes
# each). A model in DeepSeek's style learns them: the first layer dense, then two layers of eight experts, two chosen,
# one shared. It trains for some seconds, with a small balance loss.

# %%
def sums(count, seed):
    drawn = random.Random(seed)
    pairs = [(drawn.randrange(100), drawn.randrange(100)) for _ in range(count)]
    return "".join(f"{a}+{b}={a + b}; " for a, b in pairs)


def code(count, seed):
    pick = random.Random(seed).choice
    return "".join(f"if {pick('xyz')}[{pick('ijk')}] > {pick('abc')}: {pick(['run', 'add'])}({pick('xyz')})\n"
                   for _ in range(count))


# %%
def greek(count, seed):
    letters = str.maketrans("abcdefghijklmnopqrstuvwxyz", "αβγδεφηχιϊκλμνοπθρστυϋωξψζ")
    return tiny.sentences(count, seed).translate(letters)


DOMAINS = {"words": tiny.sentences, "sums": sums, "code": code, "greek": greek}


# %%
def prompts_of(per_domain, seed, length=40):
    """Windows of the four domains: ids (4 * per_domain, length) and the domain of each."""
    parts = [tiny.windows(write(600, seed), count=1, batch=per_domain, length=length, seed=seed)[0]
             for write in DOMAINS.values()]
    return torch.cat(parts), torch.arange(4).repeat_interleave(per_domain)


# %%
def new_explorer():
    torch.manual_seed(0)
    config = Qwen2MoeConfig(
        vocab_size=259, hidden_size=48, intermediate_size=96, moe_intermediate_size=32,
        shared_expert_intermediate_size=32, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        num_experts=8, num_experts_per_tok=2, mlp_only_layers=[0], output_router_logits=True, router_aux_loss_coef=0.02)
    config._experts_implementation = "eager"
    return Qwen2MoeForCausalLM(config).eval()


# %%
def train_explorer(steps=120, batch=16):
    model, (ids, _) = new_explorer(), prompts_of(steps * batch // 4, seed=0)
    order = torch.randperm(len(ids), generator=torch.Generator().manual_seed(0))
    loss = tiny.pretrain(model, [ids[rows] for rows in order.split(batch)])
    model.config.output_router_logits = False
    print(f"loss after {steps} steps: {loss:.2f} nats a byte, balance loss included")
    return model


explorer = train_explorer()
ids, domains = prompts_of(24, seed=1)  # texts that it has not read
mask = torch.ones_like(ids)


# %% [markdown]
# ### Systems insight 1 of 3: how much of a model does a batch read?
#
# **Checkpoint**: you count parameters and record the routing. **Predict, and write it down**: one token asks 2 of 8
# experts. How many experts of a layer do 4 tokens of one text ask, and how many do 16? Is it more or fewer than
# `expected_experts` says? And is a token of a batch of 64 prompts cheaper or dearer than one of a single prompt?

# %%
def experts_read():
    """For some numbers of neighbouring tokens: distinct experts, expected and measured, and microseconds a token."""
    experts, rows = collect_routing(explorer, ids, mask)[0][0].reshape(*ids.shape, 2), {}
    for count in (1, 2, 4, 8, 16, 40):
        distinct = [len(set(row[:count].flatten().tolist())) for row in experts]
        rows[count] = expected_experts(8, 2, count), sum(distinct) / len(distinct)
    for batch in (1, 8, 64):
        start = time.perf_counter()
        collect_routing(explorer, ids[:batch], mask[:batch])
        print(f"{batch:2} prompts: {(time.perf_counter() - start) / ids[:batch].numel() * 1e6:6.1f} µs a token")
    return rows


# %%
def show_read():
    rows, counts = experts_read(), count_parameters(explorer)
    print(f"{counts['total']:,} parameters, {counts['active']:,} active for a token")
    insight.lines(list(rows), {"if even and alone": [row[0] for row in rows.values()],
                               "measured": [row[1] for row in rows.values()]}, xlabel="tokens", ylabel="experts read, of 8")
    return rows


read = insight.run(show_read, needs="Exercises 1 and 2")


# %% [markdown]
# **What it means in production.** "2.8 billion active" is the price of *one* token: decoding a single stream reads
# that many weights. A prompt, or a batch of users, soon reads them all, and each weight then serves many tokens. Tokens
# of one text are alike, so they meet the same experts again: fewer are read than the even draw says, and caching
# experts near the processor works better than the average suggests.

# %% [markdown]
# ## Part 3: Specialists, or chance?
#
# ### Exercise 3: mutual information, and a permutation test
#
# How much does the domain of a prompt say about the experts of its tokens? And how much would it *seem* to say if the
# domains were dealt out at random? What is dealt out are the prompts, not the tokens: tokens of one prompt share
# its words, and would look like specialisation under any label.

# %% nbgrader={"grade": false, "grade_id": "moe-information", "locked": false, "schema_version": 3, "solution": true, "task": false}
def mutual_information(experts: Tensor, groups: Tensor, num_groups: int, num_experts: int) -> float:
    """Mutual information of a token's group and the expert in one of its places, in bits.

    Args:
        experts: (T, k), int64, from 0 to num_experts - 1; T is at least 1. All T * k places count alike.
        groups: (T,), int64, from 0 to num_groups - 1: the group of each token. Some groups may have no token.

    Returns:
        The sum over pairs with p(g, e) > 0 of p(g, e) * log2(p(g, e) / (p(g) * p(e))), a float, computed in float64 (in
        torch, int64 counts divided by an int are float32).

    TODO: Count the pairs of group and expert, and compare their shares with the product of the margins.

    APPROACH:
        1. Give each place the group of its token, because a token makes k pairs.
        2. Divide counts by T * k in float64, because p(g, e) and the margins must sum to 1.
        3. Sum over pairs that occur, because the others count 0 and their logarithm does not exist.

    EXAMPLE:
        >>> round(mutual_information(torch.tensor([[0], [0], [0], [1]]), torch.tensor([0, 0, 1, 1]), 2, 2), 3)
        0.311

    HINTS:
        1. The pair (g, e) can be one number, g * num_experts + e, and numbers can be counted.
        2. `sum(dim=..., keepdim=True)` of the table gives both margins; their product has the table's shape.
        3. Pick the pairs with a boolean table before taking logarithms.
    """
    ### BEGIN SOLUTION
    pairs = (groups[:, None] * num_experts + experts).flatten()
    joint = pairs.bincount(minlength=num_groups * num_experts).reshape(num_groups, num_experts).double() / len(pairs)
    apart = joint.sum(dim=1, keepdim=True) * joint.sum(dim=0, keepdim=True)
    seen = joint > 0
    return (joint[seen] * (joint[seen] / apart[seen]).log2()).sum().item()
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "moe-given-draw-routing", "locked": true, "schema_version": 3, "solution": false, "task": false}
def draw_routing(seed: int, tokens: int, experts: int, k: int) -> Tensor:
    """(tokens, k): k different experts for each token, at random."""
    return torch.rand(tokens, experts, generator=torch.Generator().manual_seed(seed)).argsort(dim=1)[:, :k]


# %% nbgrader={"grade": false, "grade_id": "moe-given-check-information", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_information(seed: int, tokens: int, num_groups: int, num_experts: int, k: int) -> None:
    """Hold mutual_information against three entropies: I = H(group) + H(expert) - H(group, expert)."""

    def entropy(symbols: list) -> float:
        shares = [symbols.count(symbol) / len(symbols) for symbol in set(symbols)]
        return -math.fsum(share * math.log2(share) for share in shares)

    experts = draw_routing(seed, tokens, num_experts, k)
    groups = torch.randint(num_groups, (tokens,), generator=torch.Generator().manual_seed(seed + 1))
    with checking.unchanged(experts=experts, groups=groups):
        got = mutual_information(experts, groups, num_groups, num_experts)
    # float64: some hundred terms below 1, differences of entropies below 10.
    pairs = [(group, e) for group, row in zip(groups.tolist(), experts.tolist(), strict=True) for e in row]
    want = entropy([group for group, _ in pairs]) + entropy([e for _, e in pairs]) - entropy(pairs)
    checking.close(got, want, rtol=0, atol=1e-10,
                   what=f"bits, {tokens} tokens, {num_groups} groups, k = {k} of {num_experts}",
                   hint="do the worked example of Foundations by hand")


# %% nbgrader={"grade": true, "grade_id": "test-moe-information", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Checks: bits against three entropies, and routings whose information is known.
# Catches: nats for bits, NaN for pairs that never occur, one place of k.
# A pass prints nothing but the seed.
def test_unit_moe_information():
    check_information(0, 12, 2, 3, 1)
    check_information(1, 30, 4, 6, 2)
    ### BEGIN HIDDEN TESTS
    # check: one token, groups and experts that never occur, all experts chosen
    # hint: what is 0 * log(0 / 0), and what should it count?
    seed = checking.secret_seed()
    for number, sizes in enumerate([(1, 3, 4, 2), (5, 40, 9, 3), (200, 3, 64, 6), (17, 2, 4, 4), (9, 1, 5, 1)]):
        check_information(seed + number, *sizes)
    # check: a router that knows the domain
    # hint: with four domains that never share an expert, how many bits?
    places = torch.randperm(8, generator=torch.Generator().manual_seed(seed)).reshape(4, 2)
    domains = torch.arange(4).repeat(5)
    checking.close(mutual_information(places[domains], domains, 4, 8), 2.0, rtol=0, atol=1e-12, what="bits of 4 domains")
    ### END HIDDEN TESTS


test_unit_moe_information()


# %% [markdown]
# Now the chance level. To keep it exact, the shuffles are given to you.

# %% nbgrader={"grade": false, "grade_id": "moe-permutation", "locked": false, "schema_version": 3, "solution": true, "task": false}
def permutation_test(
    experts: Tensor, prompts: Tensor, domains: Tensor, permutations: Tensor, num_experts: int
) -> dict[str, float]:
    """Hold the information about domains against what shuffled labels give.

    Args:
        experts: (T, k), int64.
        prompts: (T,), int64, from 0 to P - 1: the prompt of each token.
        domains: (P,), int64: the domain of each *prompt*, from 0.
        permutations: (R, P), int64: each row r is a permutation of the prompts; in shuffle r, prompt i gets the domain
            of prompt permutations[r, i]. R is at least 1.

    Returns:
        "information": the mutual information of domain and expert, in bits.
        "chance": its mean over the R shuffles.
        "p": (1 + number of shuffles with at least the information of the true domains) / (1 + R). A shuffle within 1e-9
            bits of it counts as equal: sums in another order round otherwise.

    TODO: Measure with the true domains, then once for each shuffle.

    APPROACH:
        1. Look the domain of each token up through its prompt, because a prompt's tokens stay together.
        2. Use your mutual_information for truth and shuffles alike, because its error from few tokens then cancels.
        3. Count the truth among the shuffles in p, because it is one of the ways to deal the labels.

    EXAMPLE:
        >>> test = permutation_test(torch.tensor([[0], [0], [1], [1]]), torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1]),
        ...                         torch.tensor([[0, 1], [1, 0]]), 2)
        >>> test["information"], test["chance"], test["p"]
        (1.0, 1.0, 1.0)

    HINTS:
        1. Indexing twice does it: prompts to domains, and before that domains by a row of permutations.
        2. How many domains there are is the largest number plus 1.
        3. The smallest p that R shuffles allow is 1 / (1 + R).
    """
    ### BEGIN SOLUTION
    count = int(domains.max()) + 1
    true = mutual_information(experts, domains[prompts], count, num_experts)
    shuffled = [mutual_information(experts, domains[order][prompts], count, num_experts) for order in permutations]
    above = sum(value >= true - 1e-9 for value in shuffled)
    return {"information": true, "chance": sum(shuffled) / len(shuffled), "p": (1 + above) / (1 + len(shuffled))}
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "moe-given-check-permutation", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_permutation(seed: int, lengths: list[int], labels: list[int], shuffles: int, experts: Tensor) -> None:
    """Hold permutation_test against a loop over prompts, with counts in Python."""

    def bits(deal: list[int]) -> float:
        pairs = [(deal[p], e) for p, row in zip(prompts.tolist(), experts.tolist(), strict=True) for e in row]
        total, dealt, chosen = 0.0, [d for d, _ in pairs], [e for _, e in pairs]
        for d, e in set(pairs):
            both = pairs.count((d, e)) / len(pairs)
            total += both * math.log2(both * len(pairs) ** 2 / dealt.count(d) / chosen.count(e))
        return total

    generator = torch.Generator().manual_seed(seed)
    permutations = torch.stack([torch.randperm(len(labels), generator=generator) for _ in range(shuffles)])
    prompts, domains = torch.arange(len(labels)).repeat_interleave(torch.tensor(lengths)), torch.tensor(labels)
    num_experts = int(experts.max()) + 2
    deals = [labels] + [[labels[i] for i in order] for order in permutations.tolist()]
    levels = [bits(deal) for deal in deals]
    with checking.unchanged(experts=experts, prompts=prompts, domains=domains, permutations=permutations):
        got = permutation_test(experts, prompts, domains, permutations, num_experts)
    want = {"information": levels[0], "chance": math.fsum(levels[1:]) / shuffles,
            "p": sum(value >= levels[0] - 1e-9 for value in levels) / (1 + shuffles)}
    checking.equal(sorted(got), sorted(want), what="names of the numbers")
    for name, value in want.items():
        checking.close(got[name], value, rtol=0, atol=1e-9, what=f"{name!r}, {len(labels)} prompts, {shuffles} shuffles")


# %% nbgrader={"grade": true, "grade_id": "test-moe-permutation", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Checks: the three numbers of a permutation test against a loop over prompts.
# Catches: tokens shuffled in place of prompts, the inverse permutation, a p of 0, ties that do not count.
# A pass prints nothing but the seed.
def test_unit_moe_permutation():
    check_permutation(0, [2, 3, 1, 2], [0, 0, 1, 1], 5, draw_routing(0, 8, 4, 2))
    check_permutation(1, [1, 1], [0, 1], 3, torch.tensor([[0], [1]]))
    ### BEGIN HIDDEN TESTS
    # check: prompts of many lengths, domains of many sizes, one shuffle
    # hint: follow one token by hand: its prompt, that prompt's place in the shuffle, the domain found there.
    seed = checking.secret_seed()
    check_permutation(seed, [4, 1, 7, 3, 5, 2], [2, 0, 1, 2, 0, 2], 40, draw_routing(seed, 22, 6, 2))
    check_permutation(seed + 1, [3, 2, 6], [1, 0, 0], 1, draw_routing(seed + 1, 11, 3, 1))
    # check: shuffles that are as good as the truth
    # hint: which shuffles count for p, and what does the 1 in it stand for?
    known = torch.tensor([0, 0, 1, 1, 2, 2]).repeat_interleave(3)[:, None]
    check_permutation(seed + 2, [3] * 6, [0, 0, 1, 1, 2, 2], 60, known)
    check_permutation(seed + 3, [3] * 6, [0, 0, 1, 1, 0, 1], 25, torch.zeros(18, 1, dtype=torch.int64))
    ### END HIDDEN TESTS


test_unit_moe_permutation()


# %% [markdown]
# ### What just happened?
#
# A chance level is part of the measurement. The next cell throws dice for 24 prompts of 3 tokens, and for 24 of 300:

# %%
def dice():
    labels, generator = torch.arange(4).repeat_interleave(6), torch.Generator().manual_seed(0)
    deals = torch.stack([torch.randperm(24, generator=generator) for _ in range(100)])
    for length in (3, 30, 300):
        drawn, of_prompt = draw_routing(length, 24 * length, 8, 2), torch.arange(24).repeat_interleave(length)
        test = permutation_test(drawn, of_prompt, labels, deals, 8)
        print(f"{length:3} tokens a prompt:", {name: round(value, 4) for name, value in test.items()})


insight.run(dice, needs="Exercise 3")


# %% [markdown]
# ### Systems insight 2 of 3: does training make specialists?
#
# **Checkpoint**: you have a measure and its chance level. **Predict, and write it down**: before training, router and
# experts are random. Do they tell the domains apart? By how many of the 2 bits that four domains have? And after?

# %%
def specialisation(model, shuffles=60):
    """The permutation test for each MoE layer, and milliseconds for all."""
    generator, start = torch.Generator().manual_seed(0), time.perf_counter()
    deals = torch.stack([torch.randperm(len(domains), generator=generator) for _ in range(shuffles)])
    of_prompt = torch.arange(len(ids)).repeat_interleave(ids.shape[1])
    tests = [permutation_test(layer, of_prompt, domains, deals, 8) for layer in collect_routing(model, ids, mask)[0]]
    return tests, (time.perf_counter() - start) * 1e3


# %%
def before_and_after():
    bars = {}
    for name, model in {"untrained": new_explorer(), "trained": explorer}.items():
        tests, ms = specialisation(model)
        for number, test in enumerate(tests, start=1):
            print(f"{name:9} layer {number}: {test['information']:.3f} bits, by chance {test['chance']:.3f}, "
                  f"p {test['p']:.3f}  ({ms:.0f} ms)")
            bars[f"{name}\nlayer {number}"] = test["information"]
    bars["chance"] = test["chance"]
    insight.bars(bars, ylabel="bits about the domain")
    return bars


learned = insight.run(before_and_after, needs="Exercises 2 and 3")


# %% [markdown]
# **What it means in production.** An untrained router already tells the domains apart, far above chance: digits have
# other embeddings than letters, and a random matrix keeps that. "Significant" (a small p) is cheap; the *size* of the
# information, and what training added to it, is the finding. Many claims about expert specialisation lack
# this very control.

# %% [markdown]
# ## Part 4: Words, or what words are made of?
#
# ### Exercise 4: affinity of tokens, overlap of prompts
#
# A domain is many things at once. Is an expert's "code" really code, or brackets? Compare how often it meets tokens with
# a feature to how often it would if it did not care. And for whole prompts: which share of their experts is common?

# %% nbgrader={"grade": false, "grade_id": "moe-affinity", "locked": false, "schema_version": 3, "solution": true, "task": false}
def affinity(experts: Tensor, features: Tensor, num_experts: int, prior: float = 1.0) -> Tensor:
    """How much more often than by chance an expert works on tokens with a feature, as a logarithm to base 2.

    Args:
        experts: (T, k), int64; T is at least 1.
        features: (T, F), bool: which features each token has; a token may have several, or none.
        prior: above 0, added to both counts, so that rare pairs stay near 0.

    Returns:
        (F, num_experts), float64: log2((n_fe + prior) / (m_fe + prior)). n_fe is the number of places of expert e at
        tokens with feature f; m_fe is the number to expect if e did not care: (places at tokens with feature f) * (places
        of e) / (all T * k places). 1 means twice as often, -1 half as often, 0 as by chance.

    TODO: Count what is, compute what would be, and take the logarithm of the smoothed quotient.

    APPROACH:
        1. Count the places of each expert by token first, because then features and experts meet in one product.
        2. Form the expected counts from the margins, because a busy expert meets everything often.
        3. Add the prior to both, because 0 / 0 shall say "nothing known".

    EXAMPLE:
        >>> letters = torch.tensor([[True], [True], [False], [False]])
        >>> [round(value, 3) for value in affinity(torch.tensor([[0], [0], [1], [1]]), letters, 2)[0].tolist()]
        [0.585, -1.0]

    HINTS:
        1. A (T, E) table with the number of places of each expert at each token helps.
        2. (F, T) @ (T, E) is (F, E).
        3. Do it in float64: counts above 2**24 do not fit float32.
    """
    ### BEGIN SOLUTION
    places = nn.functional.one_hot(experts, num_experts).sum(dim=1).double()
    found = features.T.double() @ places
    expected = found.sum(dim=1, keepdim=True) * places.sum(dim=0) / experts.numel()
    return ((found + prior) / (expected + prior)).log2()
    ### END SOLUTION


def overlap(experts: Tensor, prompts: Tensor, num_prompts: int, num_experts: int) -> Tensor:
    """Which share of their experts two prompts have in common.

    Args:
        experts: (T, k), int64.
        prompts: (T,), int64, from 0 to num_prompts - 1: the prompt of each token; each prompt has at least one token.

    Returns:
        (num_prompts, num_prompts), float64: entry (i, j) is the sum over experts of the smaller of the two shares, where
        a prompt's shares are its places at each expert divided by all its places. 1 for the same shares, 0 for disjoint.

    EXAMPLE:
        >>> overlap(torch.tensor([[0, 1], [1, 2], [3, 4]]), torch.tensor([0, 1, 2]), 3, 5).tolist()
        [[1.0, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    ### BEGIN SOLUTION
    pairs = (prompts[:, None] * num_experts + experts).flatten()
    table = pairs.bincount(minlength=num_prompts * num_experts).reshape(num_prompts, num_experts).double()
    share = table / table.sum(dim=1, keepdim=True)
    return torch.minimum(share[:, None], share).sum(dim=2)
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "moe-given-check-affinity", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_affinity(experts: Tensor, features: Tensor, num_experts: int, prior: float) -> None:
    """Hold affinity against counting in Python."""
    rows, want = experts.tolist(), []
    busy = [sum(row.count(e) for row in rows) for e in range(num_experts)]
    for column in features.T.tolist():
        having = [e for row, has in zip(rows, column, strict=True) if has for e in row]
        expected = [len(having) * count / experts.numel() for count in busy]
        want.append([math.log2((having.count(e) + prior) / (expected[e] + prior)) for e in range(num_experts)])
    with checking.unchanged(experts=experts, features=features):
        got = affinity(experts, features, num_experts, prior)
    # Quotients taken in float32 on the way (of int64 counts, torch makes such) are good for 1e-7 each.
    checking.close(got, torch.tensor(want, dtype=torch.float64), rtol=1e-6, atol=1e-6,
                   what=f"affinity of {features.shape[1]} features, {num_experts} experts, {len(rows)} tokens, prior {prior}",
                   hint="do the example of the docstring by hand: what is, what would be, plus prior")


# %% nbgrader={"grade": false, "grade_id": "moe-given-check-overlap", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_overlap(seed: int, lengths: list[int], num_experts: int, k: int) -> None:
    """Hold overlap against counting in Python; tokens of the prompts are mixed."""
    order = torch.randperm(sum(lengths), generator=torch.Generator().manual_seed(seed))
    prompts = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))[order]
    experts = draw_routing(seed, len(prompts), num_experts, k)
    said = [experts[prompts == p].flatten().tolist() for p in range(len(lengths))]
    want = [[math.fsum(min(a.count(e) / len(a), b.count(e) / len(b)) for e in range(num_experts)) for a in said] for b in said]
    with checking.unchanged(experts=experts, prompts=prompts):
        got = overlap(experts, prompts, len(lengths), num_experts)
    checking.close(got, torch.tensor(want, dtype=torch.float64), rtol=0, atol=1e-6,
                   what=f"overlap of prompts with {lengths} tokens, k = {k} of {num_experts}")


# %% nbgrader={"grade": true, "grade_id": "test-moe-affinity", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: affinities and overlaps against counting in Python.
# Catches: an expected count without the expert's own load, a prior on one side, counts in place of shares.
# A pass prints what each of two checks earned.
def test_unit_moe_affinity():
    credit = checking.Credit(4)
    with credit.check("affinity", points=2, hint="what is, what would be, plus prior"):
        cases = [(0, 9, 3, 1, 2, 1.0), (1, 20, 4, 2, 3, 0.5)]
        ### BEGIN HIDDEN TESTS
        # check: idle experts, features that nobody has, many sizes and priors
        # hint: which value does a pair get that can never occur?
        seed = checking.secret_seed()
        cases += [(seed, 1, 5, 1, 1, 2.0), (seed + 1, 50, 8, 3, 6, 0.01), (seed + 2, 13, 2, 2, 4, 1.0)]
        ### END HIDDEN TESTS
        for number, tokens, num_experts, k, count, prior in cases:
            features = draw(number, tokens, count) > torch.linspace(-1, 1.5, count, dtype=torch.float64)
            features[:, 0] &= tokens != 20  # a feature that nobody has
            check_affinity(draw_routing(number, tokens, num_experts, k), features, num_experts + 1, prior)
    with credit.check("overlap", points=2, hint="shares of each prompt first, then the smaller of two"):
        cases = [(0, [3, 2], 4, 1), (1, [5, 1, 4], 6, 2)]
        ### BEGIN HIDDEN TESTS
        # check: prompts of many lengths
        # hint: does a long prompt have more in common with others, only because it is long?
        seed = checking.secret_seed()
        cases += [(seed, [1, 30, 7, 2, 12], 8, 2), (seed + 1, [4], 3, 1), (seed + 2, [2, 3, 9], 5, 5)]
        ### END HIDDEN TESTS
        for case in cases:
            check_overlap(*case)
    return credit.total()


test_unit_moe_affinity()


# %% [markdown]
# ### What just happened?
#
# Features of bytes for the explorer: what a byte is, and where it stands.

# %%
def byte_features(rows):
    """(T, 6) features of the bytes of (B, S) ids, and their names."""
    before = torch.cat([torch.full_like(rows[:, :1], ord(" ")), rows[:, :-1]], dim=1).flatten()
    flat = rows.flatten()
    letter, greek_half = (flat >= ord("a")) & (flat <= ord("z")), flat >= 128
    starts = letter & (before == ord(" "))
    kinds = {"digit": (flat >= ord("0")) & (flat <= ord("9")), "space": flat == ord(" "), "word begins": starts,
             "word goes on": letter & ~starts, "greek byte": greek_half}
    kinds["other sign"] = ~torch.stack(list(kinds.values())).any(dim=0)
    return torch.stack(list(kinds.values()), dim=1), list(kinds)


# %%
def heat_map(table, rows, title, label, limit, digits=".1f"):
    from matplotlib import pyplot

    _, axes = pyplot.subplots(figsize=(5.5, 0.6 + 0.36 * len(rows)), layout="constrained")
    axes.imshow(table, cmap="PuOr", vmin=-limit, vmax=limit, aspect="auto")
    axes.set(xticks=range(table.shape[1]), yticks=range(len(rows)), yticklabels=rows, xlabel=label, title=title)
    for r in range(table.shape[0]):
        for c in range(table.shape[1]):
            axes.text(c, r, format(table[r, c].item(), digits), ha="center", va="center", fontsize=7,
                      color="white" if abs(table[r, c]) > 0.7 * limit else "black")


# %%
def which_bytes():
    features, names = byte_features(ids)
    for number, layer in enumerate(collect_routing(explorer, ids, mask)[0], start=1):
        heat_map(affinity(layer, features, 8), names, f"layer {number}: log2 of found / expected", "expert", 3)


insight.run(which_bytes, needs="Exercises 2 and 4")


# %% [markdown]
# ## Part 5: Who misses it?
#
# ### Exercise 5: switch an expert off
#
# That an expert meets code does not say that code needs it. An intervention does: take the expert away and measure
# the loss of each domain. Its weight goes to the token's other experts, so that the sum stays what it was.

# %% nbgrader={"grade": false, "grade_id": "moe-ablation", "locked": false, "schema_version": 3, "solution": true, "task": false}
@contextmanager
def without_expert(model: nn.Module, layer: int, expert: int) -> Iterator[None]:
    """Within it, one routed expert of one MoE layer adds nothing.

    Args:
        layer: index in moe_blocks(model), from 0.
        expert: from 0 to the layer's number of experts - 1.

    A token that chose the expert keeps its other experts; their weights grow in proportion, so that the token's weights
    sum to what they were. If it has no other expert (k = 1), nothing of the routed experts remains for it, and no NaN
    comes up. Tokens that did not choose the expert are treated as ever. Outside of it, also after an error within, the
    model is as it was: parameters and hooks. Two of them may be nested (in different layers).

    Raises:
        ValueError: there is no such layer or expert; negative numbers are refused.

    TODO: Change what the gate of the layer returns, for as long as the context lasts.

    APPROACH:
        1. Look at layer and expert first, because a switch that does nothing looks like an expert that nobody needs.
        2. Let a hook return (logits, new weights, experts), because what a hook returns replaces the output.
        3. Remove the hook in a `finally`, because the next measurement wants the whole model.

    EXAMPLE:
        >>> model, row = tiny_moe("mixtral", 0), draw(0, 1, 1, 24)
        >>> gate = moe_blocks(model)[0].gate
        >>> with without_expert(model, 0, int(gate(row)[2][0, 0])):
        ...     gate(row)[1].tolist()
        [[0.0, 1.0]]

    HINTS:
        1. `experts != expert` is a mask over the (rows, k) places.
        2. New weights: the kept ones, times the old sum over the kept sum.
        3. Where the kept sum is 0, any finite factor will do.
    """
    ### BEGIN SOLUTION
    blocks = moe_blocks(model)
    if not 0 <= layer < len(blocks) or not 0 <= expert < blocks[layer].experts.num_experts:
        raise ValueError(f"there is no expert {expert} in an MoE layer {layer}")

    def silence(module, args, output):
        logits, weights, experts = output
        kept = weights * (experts != expert)
        rest = kept.sum(dim=-1, keepdim=True)
        return logits, kept * (weights.sum(dim=-1, keepdim=True) / rest.where(rest > 0, 1)), experts

    handle = blocks[layer].gate.register_forward_hook(silence)
    try:
        yield
    finally:
        handle.remove()
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "moe-losses", "locked": false, "schema_version": 3, "solution": true, "task": false}
def domain_losses(model: nn.Module, input_ids: Tensor, attention_mask: Tensor, domains: Tensor, num_domains: int) -> Tensor:
    """The mean loss of predicting the next token, by domain.

    Args:
        model: in evaluation mode; its output has `.logits`, (B, S, vocabulary).
        input_ids, attention_mask: (B, S), int64; padding (0 in the mask) may stand on either side.
        domains: (B,), int64, from 0 to num_domains - 1: the domain of each prompt.

    Returns:
        (num_domains,), of the dtype of the logits: nats a token, the mean over all pairs of neighbours in the domain's
        prompts of which both are real: the first is read, the second predicted. NaN for a domain without any. No graph.

    TODO: Sum the losses of all pairs that count, and their number, by domain.

    APPROACH:
        1. Shift by one, because position s predicts token s + 1.
        2. Leave out pairs with padding, because the text did not contain them.
        3. Divide sums by counts for a whole domain, because means of prompts would weigh short ones more.

    EXAMPLE:
        >>> ids, mask = draw_batch(0, [4, 3, 2], "right")
        >>> domain_losses(tiny_moe("mixtral", 0), ids, mask, torch.tensor([0, 0, 2]), 3).isnan().tolist()
        [False, True, False]

    HINTS:
        1. `logits[:, :-1]` belongs to `input_ids[:, 1:]`.
        2. `nn.functional.cross_entropy(..., reduction="none")` keeps one loss for each pair.
        3. 0 / 0 of tensors is NaN already.
    """
    ### BEGIN SOLUTION
    with torch.no_grad():
        logits = model(input_ids=input_ids, attention_mask=attention_mask).logits
    losses = nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), input_ids[:, 1:], reduction="none")
    both = (attention_mask[:, 1:] * attention_mask[:, :-1]).to(losses.dtype)
    sums = losses.new_zeros(num_domains).index_add(0, domains, (losses * both).sum(dim=1))
    return sums / both.new_zeros(num_domains).index_add(0, domains, both.sum(dim=1))
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "moe-given-check-ablation", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_ablation(family: str, seed: int, layer: int, token: int, k: int) -> None:
    """Hold the layer without the expert that `token` likes best against the sum over the others, token by token."""
    model = tiny_moe(family, seed, experts=4, k=k, layers=3)
    block, x = moe_blocks(model)[layer], draw(seed, 1, 9, 24)
    with torch.no_grad():
        _, weights, experts = block.gate(x)
        expert = int(experts[token, weights[token].argmax()])
        whole, changed = block(x), weights.clone()
        for t, row in enumerate(experts.tolist()):
            rest = math.fsum(w for w, e in zip(weights[t].tolist(), row, strict=True) if e != expert)
            for place, e in enumerate(row):
                changed[t, place] = 0 if e == expert else weights[t, place] / rest * weights[t].sum()
        want = whole + (block.experts(x[0], experts, changed) - block.experts(x[0], experts, weights))[None]
        with without_expert(model, layer, expert):
            got = block(x)
    what = f"{family}, MoE layer {layer} without expert {expert}, k = {k} of 4"
    # Weights are float32, and what is left of them may be a small difference; a mistake moves outputs by tenths.
    checking.close(got, want, rtol=1e-3, atol=1e-3 * whole.abs().max().item(), what=what,
                   hint="the sum of a token's weights stays; print weights before and after")
    checking.equal(block(x).detach(), whole, what=f"the layer afterwards, {what}")
    checking.equal(hooks_of(model), 0, what="hooks afterwards")


# %% nbgrader={"grade": false, "grade_id": "moe-given-switch", "locked": true, "schema_version": 3, "solution": false, "task": false}
def switch(model: nn.Module, layer: int, expert: int, fail: bool = False) -> None:
    """Enter without_expert, and leave it with an error or without one."""
    with without_expert(model, layer, expert):
        if fail:
            raise KeyError("an error within")


# %% nbgrader={"grade": true, "grade_id": "test-moe-ablation", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Checks: the layer's output without an expert, by family and k; the model afterwards, also after an error.
# Catches: weights that shrink or always sum to 1, NaN for k = 1, a shared expert switched off, negative numbers taken.
# A pass prints what each of two checks earned.
def test_unit_moe_ablation():
    credit = checking.Credit(3)
    with credit.check("the output", points=2, hint="what does each token's weights sum to, before and after?"):
        check_ablation("mixtral", 0, 1, 2, 2)
        check_ablation("qwen", 1, 0, 0, 3)
        ### BEGIN HIDDEN TESTS
        # check: any family, tokens with one expert, tokens with all experts
        # hint: which k leaves a token without any expert? Which family's weights do not sum to 1?
        seed = checking.secret_seed()
        for number, (family, layer, token, k) in enumerate(
                [("mixtral", 2, 3, 1), ("qwen", 1, 1, 2), ("deepseek-v2", 0, 2, 4), ("deepseek-v3", 1, 0, 2)]):
            check_ablation(family, seed + number, layer, token, k)
        ### END HIDDEN TESTS
    with credit.check("errors", points=1, hint="the docstring says what is refused, and what happens after an error"):
        model = tiny_moe("qwen", 0, experts=4)
        checking.raises(KeyError, switch, model, 0, 0, True, what="an error within the context")
        checking.equal(hooks_of(model), 0, what="hooks after an error")
        for layer, expert in [(2, 0), (0, 4), (-1, 0), (0, -1)]:
            checking.raises(ValueError, switch, model, layer, expert, what=f"layer {layer} of 2, expert {expert} of 4")
    return credit.total()


test_unit_moe_ablation()


# %% nbgrader={"grade": false, "grade_id": "moe-given-check-losses", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_losses(seed: int, lengths: list[int], side: str, labels: list[int], count: int) -> None:
    """Hold domain_losses against transformers' loss of each prompt alone, without padding."""
    model, (ids, mask) = tiny_moe("mixtral", seed, layers=1), draw_batch(seed, lengths, side)
    sums, pairs = [0.0] * count, [0] * count
    for row, real, label in zip(ids, mask.bool(), labels, strict=True):
        alone = row[real][None]
        if alone.shape[1] > 1:
            with torch.no_grad():
                sums[label] += model(alone, labels=alone).loss.item() * (alone.shape[1] - 1)
            pairs[label] += alone.shape[1] - 1
    want = torch.tensor([s / n if n else math.nan for s, n in zip(sums, pairs, strict=True)], dtype=torch.float64)
    domains = torch.tensor(labels)
    with checking.unchanged(input_ids=ids, attention_mask=mask, domains=domains):
        got = domain_losses(model, ids, mask, domains, count)
    what = f"losses of {count} domains, lengths {lengths}, padded {side}"
    checking.equal((got.dtype, got.requires_grad), (torch.float64, False), what=f"dtype and graph, {what}")
    # Rotary angles are float32 and depend on where a prompt begins; so do the gates' weights: 1e-6 of logits near 10.
    checking.equal(got.isnan(), want.isnan(), what=f"which are NaN, {what}")
    checking.close(got.nan_to_num(), want.nan_to_num(), rtol=1e-3, atol=1e-3, what=what,
                   hint="which pairs count? Is a domain's mean one over tokens or over prompts?")


# %% nbgrader={"grade": true, "grade_id": "test-moe-losses", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Checks: the mean loss of each domain against transformers' own loss, prompt by prompt.
# Catches: padding that is predicted or read, means of means, a shift the wrong way, 0 for a domain without text.
# A pass prints nothing.
def test_unit_moe_losses():
    check_losses(0, [5, 5], "right", [0, 1], 2)
    check_losses(1, [6, 2, 4], "right", [1, 1, 0], 3)
    check_losses(2, [3, 7], "left", [0, 0], 1)
    ### BEGIN HIDDEN TESTS
    # check: prompts of one token, domains without text, padding on either side
    # hint: a prompt of n tokens has n - 1 pairs, wherever its padding stands.
    seed = checking.secret_seed()
    check_losses(seed, [1, 9, 3, 2], "left", [0, 2, 2, 1], 4)
    check_losses(seed + 1, [8, 1, 5, 5], "right", [3, 3, 0, 3], 5)
    ### END HIDDEN TESTS


test_unit_moe_losses()


# %% [markdown]
# ### What just happened?
#
# With the two together, one expert taken away is one row of an experiment: which domain pays, and how much.

# %% [markdown]
# ### Systems insight 3 of 3: who misses an expert?
#
# **Checkpoint**: you can switch any expert off and measure four losses. **Predict, and write it down**: will one expert
# hurt one domain and leave the others alone? And will an expert's *share* of a domain foretell the damage?

# %%
def ablation_map():
    """For each expert of the explorer: what its absence costs each domain, in nats a byte."""
    whole, rows, start = domain_losses(explorer, ids, mask, domains, 4), {}, time.perf_counter()
    for layer in range(len(moe_blocks(explorer))):
        for expert in range(8):
            with without_expert(explorer, layer, expert):
                rows[layer, expert] = domain_losses(explorer, ids, mask, domains, 4) - whole
    print("whole model:", {name: round(loss, 2) for name, loss in zip(DOMAINS, whole.tolist(), strict=True)})
    print(f"{len(rows)} ablations, {(time.perf_counter() - start) / len(rows) * 1e3:.0f} ms each")
    return rows


# %%
def show_ablation():
    rows, (experts, _) = ablation_map(), collect_routing(explorer, ids, mask)
    for layer in range(len(experts)):
        table = torch.stack([rows[layer, expert] for expert in range(8)], dim=1)
        heat_map(table, list(DOMAINS), f"layer {layer + 1}: nats a byte lost without it", "expert", 0.15, ".2f")
        by_domain = experts[layer].reshape(4, -1)
        share = torch.stack([row.bincount(minlength=8) / row.numel() for row in by_domain])
        both = torch.corrcoef(torch.stack([share.flatten(), table.flatten()]))[0, 1]
        print(f"layer {layer + 1}: correlation of an expert's share of a domain and the damage there: {both:.2f}")
    return rows


damage = insight.run(show_ablation, needs="Exercises 2 and 5")


# %% [markdown]
# **What it means in production.** Share foretells damage in part only: an expert may be asked often and be replaceable,
# or seldom and be needed. Whoever prunes experts to save memory measures losses by domain, on domains that users have,
# and never goes by counts alone. And small damage need not mean an idle expert: the shared one, and the one that takes
# over, may know enough.

# %% [markdown]
# ## Put it together
#
# A model in which the truth is *planted*: tokens of domain $d$ carry coordinate $d$, the router sends coordinate $d$ to
# one secret expert, attention is off. So domain and expert tell each other everything, and an expert that is switched
# off may hurt its own domain only.

# %% nbgrader={"grade": false, "grade_id": "moe-given-planted", "locked": true, "schema_version": 3, "solution": false, "task": false}
def planted(seed: int, owners: list[int], k: int) -> nn.Module:
    """A Mixtral of one layer: tokens 8 * d to 8 * d + 7 go to expert owners[d] first, then to experts of nobody."""
    count = len(owners)
    model = tiny_moe("mixtral", seed, experts=count + k - 1, k=k, layers=1, vocab_size=8 * count)
    block, inner = moe_blocks(model)[0], model.model
    with torch.no_grad():
        inner.layers[0].self_attn.o_proj.weight.zero_()
        inner.embed_tokens.weight.mul_(0.01)[:, -1] = 1.0
        block.gate.weight.zero_()[:, -1] = torch.linspace(1, 0.5, count + k - 1)
        block.gate.weight[owners, -1] = -1.0
        for domain, owner in enumerate(owners):
            inner.embed_tokens.weight[8 * domain:8 * domain + 8, domain] = 1.0
            block.gate.weight[owner, domain] = 4.0
    return model


# %% nbgrader={"grade": false, "grade_id": "moe-given-check-planted", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_planted(seed: int, count: int, k: int) -> None:
    """Routing, information, affinity, overlap and ablation of a planted model."""
    owners = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    model, domains = planted(seed, owners, k), torch.arange(count).repeat_interleave(2)
    ids = torch.randint(8, (len(domains), 6), generator=torch.Generator().manual_seed(seed)) + 8 * domains[:, None]
    mask, of_prompt = torch.ones_like(ids), torch.arange(len(domains)).repeat_interleave(6)
    mask[::2, 4:] = 0
    experts, weights = collect_routing(model, ids, mask)
    of_prompt, first = of_prompt[mask.flatten() == 1], experts[0].gather(1, weights[0].argmax(dim=1, keepdim=True))
    checking.equal(first[:, 0].tolist(), [owners[domains[p]] for p in of_prompt.tolist()], what="the heaviest expert of each token")
    orders = torch.stack([torch.arange(len(domains)), torch.arange(len(domains)).roll(2)])
    test = permutation_test(first, of_prompt, domains, orders, count)
    checking.close(test["information"], math.log2(count), rtol=1e-9, atol=0, what="bits, planted")
    checking.close(test["p"], 1.0, rtol=1e-9, atol=0, what="p when each shuffle only renames the domains")
    alike = overlap(first, of_prompt, len(domains), count)
    checking.close(alike, (domains[:, None] == domains).double(), rtol=0, atol=1e-6, what="overlap of planted prompts")
    liked = affinity(first, domains[of_prompt][:, None] == torch.arange(count), count).argmax(dim=1)
    checking.equal(liked.tolist(), owners, what="the expert with the highest affinity to each domain")
    whole = domain_losses(model, ids, mask, domains, count)
    for domain, owner in enumerate(owners):
        with without_expert(model, 0, owner):
            moved = (domain_losses(model, ids, mask, domains, count) - whole).abs()
        # Weights in float32 may be rounded otherwise, 1e-7 of each; the owner's absence costs tenths of a nat.
        noticed = [value > (1e-7 if d == domain else 1e-5) for d, value in enumerate(moved.tolist())]
        checking.equal(noticed, [d == domain for d in range(count)], what=f"which domains notice that expert {owner} is off")


# %% nbgrader={"grade": true, "grade_id": "test-moe-module", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# Checks: all your instruments on models whose specialists are known.
# Catches: pieces that are right alone and do not fit together.
# A pass prints nothing.
def test_unit_moe_module():
    check_planted(0, 3, 1)
    check_planted(1, 4, 2)
    ### BEGIN HIDDEN TESTS
    # check: fresh plantings
    # hint: the message of the visible test names the instrument; run its own test again.
    seed = checking.secret_seed()
    check_planted(seed, 5, 1)
    check_planted(seed + 1, 6, 3)
    ### END HIDDEN TESTS


test_unit_moe_module()


# %%
def test_unit_all():
    """Every test again, in order; says which exercises are still open."""
    for name in ("count", "routing", "information", "permutation", "affinity", "ablation", "losses", "module"):
        print(f"--- {name}")
        insight.run(globals()[f"test_unit_moe_{name}"], needs=f"moe-{name}")


# %%
test_unit_all()


# %% [markdown]
# ## Use it: read a prompt with the experts
#
# One prompt that changes its subject twice: for each byte the weight of each expert. Where the text turns, the columns
# turn with it, or they do not.

# %%
def read_prompt(text="ana sees a red cat. 12+30=42; if x[i] > a: run(y)"):
    from matplotlib import pyplot

    rows = torch.tensor([list(text.encode())])
    experts, weights = collect_routing(explorer, rows, torch.ones_like(rows))
    _, boxes = pyplot.subplots(len(experts), 1, figsize=(9, 3.4), layout="constrained", sharex=True)
    for number, box in enumerate(boxes):
        box.imshow(as_table(experts, weights, 8)[number].clamp(min=0).T, cmap="cividis", aspect="auto", vmin=0)
        box.set(ylabel=f"layer {number + 1}: expert", yticks=range(8))
    boxes[-1].set_xticks(range(rows.shape[1]), [chr(byte) for byte in rows[0]], fontsize=7)


insight.run(read_prompt, needs="Exercise 2")


# %% [markdown]
# And the deliverable of this lab: which experts activate for which prompts. On the left the share of each expert in each
# domain, on the right what any two of the 96 prompts have in common, prompts of one domain side by side.

# %%
def activation_map():
    from matplotlib import pyplot

    experts, _ = collect_routing(explorer, ids, mask)
    of_prompt = torch.arange(len(ids)).repeat_interleave(ids.shape[1])
    _, boxes = pyplot.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    share = torch.stack([row.bincount(minlength=8) / row.numel() for row in experts[-1].reshape(4, -1)])
    boxes[0].imshow(share, cmap="cividis", vmin=0, vmax=0.5, aspect="auto")
    boxes[0].set(yticks=range(4), yticklabels=DOMAINS, xlabel="expert", title="last layer: share of a domain's places")
    alike = torch.stack([overlap(layer, of_prompt, len(ids), 8) for layer in experts]).mean(dim=0)
    boxes[1].imshow(alike, cmap="cividis", vmin=0, vmax=1)
    boxes[1].set(xlabel="prompt", ylabel="prompt", title="share of experts in common")
    same = domains[:, None] == domains
    inside = alike[same].sum().item() - len(ids)
    return inside / (same.sum().item() - len(ids)), alike[~same].mean().item()


alike = insight.run(activation_map, needs="Exercises 2 and 4")

# %%
if alike:
    print(f"two prompts share {alike[0]:.0%} of their experts within a domain, {alike[1]:.0%} across domains")


# %% [markdown]
# The library's counterpart of your recorder is `output_router_logits=True`. It gives logits, of padding too, and leaves the
# choice to you; for this model the k largest are the choice, so both must agree:

# %%
def beside_transformers():
    with torch.no_grad():
        logits = explorer(ids, attention_mask=mask, output_router_logits=True).router_logits
    theirs = torch.stack([layer.topk(2).indices.sort(dim=1).values for layer in logits])
    mine = collect_routing(explorer, ids, mask)[0].sort(dim=2).values
    print(f"{(theirs == mine).float().mean().item():.1%} of {mine.numel():,} places agree")


insight.run(beside_transformers, needs="Exercise 2")


# %% [markdown]
# ## On your Spark
#
# Full size: DeepSeekMoE-16B, 33 GB in bfloat16. Its files bring Python code for an old transformers, which nobody should
# run unread. Nor need you: its structure is that of the Qwen2Moe class, without the gate on the shared expert. With that
# gate's weights at zero it gives 1/2 always, and a doubled last matrix makes it 1, exactly, also in bfloat16. First
# what your function says about its size (the paper: 16.4 and 2.8 billion):

# %%
def deepseek_moe_config():
    return Qwen2MoeConfig(
        vocab_size=102400, hidden_size=2048, intermediate_size=10944, moe_intermediate_size=1408,
        shared_expert_intermediate_size=2 * 1408, num_hidden_layers=28, num_attention_heads=16, num_key_value_heads=16,
        num_experts=64, num_experts_per_tok=6, norm_topk_prob=False, mlp_only_layers=[0], qkv_bias=False,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, max_position_embeddings=4096)


# %%
def predict_full_size(gb_per_s=273):
    with torch.device("meta"):
        counts = count_parameters(Qwen2MoeForCausalLM(deepseek_moe_config()))
    total, active = counts["total"] / 1e9, counts["active"] / 1e9
    print(f"DeepSeekMoE-16B: {total:.1f} billion parameters, {active:.1f} active")
    for tokens in (1, 8, 64):
        bytes_read = 2 * (total - counts["routed"] / 1e9 * (1 - expected_experts(64, 6, tokens) / 64))
        print(f"{tokens:2} streams read {bytes_read:4.1f} GB a step: at best {gb_per_s / bytes_read:4.0f} steps a second, "
              f"{tokens * gb_per_s / bytes_read:5.0f} tokens a second at {gb_per_s} GB/s")


insight.run(predict_full_size, needs="Exercise 1")

# %% [markdown]
# ```bash
# sync; echo 3 | sudo tee /proc/sys/vm/drop_caches   # unified memory: the file cache would take from the GPU's share
# docker run --gpus all -it --rm --ipc=host -p 8888:8888 -v $PWD:/workspace \
#     -v $HOME/.cache/huggingface:/hf -e HF_HOME=/hf nvcr.io/nvidia/pytorch:25.11-py3
# ```
#
# In the container `pip install "transformers>=5.23"` and the course's package, fetch the files with `hf download
# deepseek-ai/deepseek-moe-16b-base` and pass their folder to `run_on_spark`. This section has **not yet been
# measured on a GPU** by the authors: your record is the first.

# %%
RUN_ON_SPARK = False


# %%
def place(name: str, tensor: Tensor, state: dict[str, Tensor]) -> None:
    """Copy one tensor of DeepSeekMoE's files to where the Qwen2Moe class keeps it."""
    head, _, tail = name.partition(".mlp.experts.")
    if tail:
        expert, kind, _ = tail.split(".")
        stack = state[f"{head}.mlp.experts.{'down_proj' if kind == 'down_proj' else 'gate_up_proj'}"][int(expert)]
        target = stack if kind == "down_proj" else stack.chunk(2)[int(kind == "up_proj")]
    else:
        target = state[name.replace("shared_experts", "shared_expert")]
    target.copy_(tensor * 2 if "shared_experts.down_proj" in name else tensor)


# %%
def load_deepseek_moe(folder, device="cuda"):
    """The weights of the .safetensors files in `folder`, in a model of transformers."""
    from pathlib import Path

    from transformers.modeling_utils import load_state_dict

    with torch.device(device):
        model = Qwen2MoeForCausalLM._from_config(deepseek_moe_config(), dtype=torch.bfloat16).eval()
    state = model.state_dict()
    with torch.no_grad():
        for file in sorted(Path(folder).glob("*.safetensors")):
            for name, tensor in load_state_dict(str(file), map_location="cpu").items():
                place(name, tensor, state)
        for block in moe_blocks(model):
            block.shared_expert_gate.weight.zero_()
    return model


# %%
def spark_tests(model, tokenizer, texts, shuffles=99):
    """The permutation test of each layer; texts: {domain: list of prompts}."""
    prompts = [(number, text) for number, of_domain in enumerate(texts.values()) for text in of_domain]
    batch = tokenizer([text for _, text in prompts], return_tensors="pt", padding=True).to(model.device)
    experts = collect_routing(model, batch["input_ids"], batch["attention_mask"])[0].cpu()
    of_prompt = torch.arange(len(prompts)).repeat_interleave(batch["attention_mask"].sum(dim=1).cpu())
    deals = torch.stack([torch.randperm(len(prompts)) for _ in range(shuffles)])
    labels = torch.tensor([number for number, _ in prompts])
    return [permutation_test(layer, of_prompt, labels, deals, 64) for layer in experts]


# %%
def run_on_spark(folder, texts=None):
    """Read the experts of the real model on prompts of four domains, or of your own; returns the record."""
    from transformers import AutoTokenizer

    model, tokenizer = load_deepseek_moe(folder), AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    texts = texts or {name: [write(10, seed) for seed in range(16)] for name, write in DOMAINS.items()}
    torch.cuda.reset_peak_memory_stats()
    begin = time.perf_counter()
    tests = spark_tests(model, tokenizer, texts)
    best = max(tests, key=lambda test: test["information"])
    return {"gpu": torch.cuda.get_device_name(), "seconds": time.perf_counter() - begin,
            "peak_gb": torch.cuda.max_memory_allocated() / 1e9, "layer": tests.index(best) + 1,
            "bits": best["information"], "chance": best["chance"]}


# %% [markdown]
# Record what you measured: which layer knows most about the domain, by how many bits, and by how many chance would. Then
# give it natural prompts of your own domains. Without such a machine leave it as it is: nothing is lost.

# %%
spark_record = {"gpu": None, "seconds": None, "peak_gb": None, "layer": None, "bits": None, "chance": None}

# %%
if RUN_ON_SPARK:
    spark_record = run_on_spark("/workspace/deepseek-moe-16b-base")


# %% nbgrader={"grade": false, "grade_id": "moe-given-spark-record", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_spark_record(record: dict) -> str:
    """Form and plausibility of a record. Nothing here earns points; a person reads it."""
    wanted = {"seconds": (0.05, 3600), "peak_gb": (30, 128), "layer": (1, 27), "bits": (0, 6), "chance": (0, 6)}
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
# **1. Choosing again from logits.**
#
# ```python
# experts = logits.topk(k).indices            # wrong where a bias chooses (DeepSeek-V3), or groups
# logits, weights, experts = output           # right: what the gate itself returned
# ```
#
# **2. Padding among the tokens.**
#
# ```python
# model(input_ids)                            # wrong: padding is read, and looks like a "specialist" in the table
# ...                                         # right: the mask to the model, and only its rows into the table
# ```
#
# **3. Shuffling tokens.**
#
# ```python
# domains[prompts][torch.randperm(T)]         # wrong: chance looks smaller than it is
# ...                                         # right: whole prompts get other domains
# ```

# %% [markdown]
# **4. An expert that is off, and weights that shrink.**
#
# ```python
# weights.masked_fill(experts == expert, 0)   # wrong: also measures a smaller sum of weights
# ...                                         # right: the others take over its share
# ```
#
# **5. Means of means.**
#
# ```python
# loss_of_prompt.mean()                       # wrong: a prompt of 3 tokens weighs like one of 300
# loss.sum() / loss.numel()                   # right: over all that count in the domain
# ```

# %% [markdown]
# ## Reflect
#
# Three questions on *your* code and *your* measurements. Five to ten lines each; numbers without a source in this
# notebook earn nothing.

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-moe-memory", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Reflection 1: memory and speed (3 points).** From `count_parameters` and `predict_full_size`: what must a machine
# hold for DeepSeekMoE-16B, what does it read for one token, and what for a step of 64 streams? For which use is the
# model cheap, for which is it like a dense one of 16 billion? Where did your `read` differ from `expected_experts`, in
# which direction, and why?
#
# ### BEGIN SOLUTION
# It holds 16.4 billion parameters (33 GB in bfloat16), all the time. One token reads 2.8 billion (5.7 GB). 64 streams
# ask nearly all 64 experts of each layer, so a step reads nearly everything (their number, above 30 GB), but for 64
# tokens. Cheap: one stream on a machine with much memory and little bandwidth, and arithmetic always. Like a dense one:
# memory, and bytes a step of a larger batch. In `read` fewer experts were asked than the even draw says (their numbers at
# 16 tokens), because tokens of one text are alike and the router prefers some experts: choices are neither even nor
# independent.
#
# ### BEGIN MARK SCHEME
# - 1 point: held, one token, 64 streams, with their own numbers.
# - 1 point: single stream against batch, by bytes read; arithmetic may be named too.
# - 1 point: their `read` lies below, with dependence or unevenness as the reason. Full marks need both numbers.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-moe-evidence", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Reflection 2: three kinds of evidence (3 points).** For one expert of your explorer that looks like a specialist:
# what do its share of the domains, `affinity` and `damage` say, and do they agree? What would you have claimed from p
# alone for the *untrained* model, and what does it lack? Why does `permutation_test` shuffle prompts?
#
# ### BEGIN SOLUTION
# (With the student's numbers.) Say expert 3 of layer 2 has 40 % of the places of Greek: affinity shows that it meets
# one of the two Greek bytes, and its absence costs Greek the most and the others hardly anything, or costs little
# because others can do its work. The untrained model has the smallest p that the shuffles allow, so "its experts are
# specialists" would be significant, though nothing was learnt: random projections keep that digits differ from
# letters. The size in bits, and the difference to the trained model, are lacking; and no intervention was made. Tokens of
# a prompt are not independent: they share words and context; shuffled tokens give a chance level that is too low, and
# everything becomes significant.
#
# ### BEGIN MARK SCHEME
# - 1 point: one named expert with numbers of all three kinds, and whether they agree.
# - 1 point: the untrained model is significant too; size or difference to training is what counts.
# - 1 point: dependence of tokens within a prompt, and the direction of the error.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-moe-production", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Reflection 3: production (3 points).** A colleague wants to drop the 16 least used of 64 experts in each layer, so
# that the model fits on a smaller card. Plan the decision with your functions: what is measured, on which texts, with
# which control, and what would make you say no? What does `damage` tell you about going by counts?
#
# ### BEGIN SOLUTION
# Collect routing on texts of all kinds of users, rare ones too (other languages, code, long contexts), held out from
# those on which the choice is made. Candidates by count, but decided by domain_losses without them, all 16 at once, as
# losses of single experts do not add up; per domain, never the mean alone. Control: 16 random experts, and the
# same memory saved by quantising all experts. No, if any domain that matters loses more than agreed, or if the random 16
# do as well (then counts carry no information). In `damage` the correlation of share and loss was (their number), far
# from 1: seldom-asked experts can be needed by a rare domain.
#
# ### BEGIN MARK SCHEME
# - 1 point: losses by domain on held-out texts of real use, with several experts off together.
# - 1 point: a control (random experts, or another way to save the same memory) and a rule for no.
# - 1 point: their own correlation or rows of `damage`, used as an argument.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# What you built, in the numbers of your own run:

# %%
def summary():
    counts = count_parameters(explorer)
    print(f"{counts['active'] / counts['total']:.0%} of the explorer's parameters work on a token")
    print(f"16 tokens of a text ask {read[16][1]:.1f} of 8 experts, {read[16][0]:.1f} if they were even and alone")
    print(f"bits about the domain: {learned['untrained' + chr(10) + 'layer 1']:.2f} before training, "
          f"{learned['trained' + chr(10) + 'layer 1']:.2f} after, {learned['chance']:.2f} by chance")
    (layer, expert), rows = max(damage.items(), key=lambda item: item[1].max())
    print(f"worst loss: {rows.max():.2f} nats a byte of {list(DOMAINS)[rows.argmax()]}, without expert {expert} of layer {layer + 1}")


# %%
if read and learned and damage:
    insight.run(summary, needs="Exercises 1 to 5")

# %% [markdown]
# ## Challenge (optional)
#
# 1. **Paths**: do layers know of each other? Measure the mutual information between a token's expert in one layer and in
#    the next, with a chance level. What would a serving system make of it?
# 2. **Pairs**: switch two experts off at once. Is the damage the sum of the two? Find a pair that replaces each other.
# 3. **Context**: give the same byte in two contexts. How much of the choice is the byte alone? Compare the information
#    about the byte with that about the domain given the byte.
#
# ## Further reading
#
# - A. Jiang et al., *Mixtral of Experts*, 2024, arXiv:2401.04088. Section 5 looks for specialists, and finds syntax.
# - D. Dai et al., *DeepSeekMoE*, 2024, arXiv:2401.06066. Fine-grained and shared experts; ablation of experts.
# - DeepSeek-AI, *DeepSeek-V2*, 2024, arXiv:2405.04434.
# - N. Muennighoff et al., *OLMoE*, 2024, arXiv:2409.02060. Domain and vocabulary specialisation, measured.
# - T. Cover, J. Thomas, *Elements of Information Theory*, 2006. Chapter 2: mutual information.
# - P. Good, *Permutation, Parametric and Bootstrap Tests of Hypotheses*, 2005. What may be exchanged, and what not.

# %% [markdown]
# ## Clean up
#
# Drop the model and the figures; on a machine with a GPU this also returns its memory.

# %%
from matplotlib import pyplot

pyplot.close("all")
explorer = None
if torch.cuda.is_available():
    torch.cuda.empty_cache()
