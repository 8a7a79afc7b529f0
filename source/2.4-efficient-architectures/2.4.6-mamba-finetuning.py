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
# # Lab 2.4.6: Mamba fine-tuning with LoRA
#
# | | |
# |---|---|
# | Module | 2.4 Efficient Architectures |
# | Time | 2 hours |
# | Difficulty | ★★★☆☆ |
# | Hardware | gpu-optional: everything graded runs on a CPU; *On your Spark* is for a large GPU |
# | Points | 30 automatic, 9 read by a person |
# | Builds on | 2.4.2 Mamba architecture study |
#
# LoRA was made for transformers. On Mamba, one of its usual targets is refused by PEFT, one is adapted and never
# learns, and padding gets into the state. You find out why, build adapters that work, and teach a small Mamba a
# dataset of your own.

# %% [markdown]
# ## What you'll achieve
#
# By the end you have
#
# 1. **Systems understanding**: measured which weights of a Mamba block an adapter can reach, and what padding does to
#    its state (objective 2.4.4).
# 2. **Core skill**: written LoRA for linear layers, put it into a model by name, trained it, and merged it
#    (objective 2.4.4).
# 3. **A pattern**: a training step whose result does not depend on how the batch was cut to fit into memory.
# 4. **A tie to production**: agreed with PEFT to rounding where it works, and shown where it does not on Mamba.
# 5. **A trade-off**: compared targets, biases and state parameters by numbers trained and by what they learn
#    (objective 2.4.4).

# %% [markdown]
# ## Before you start
#
# In 2.4.2 you took the selective scan apart: `in_proj` makes the input and its gate, a short convolution mixes
# neighbours, `x_proj` and `dt_proj` make the step, B and C, and the state decays by `exp(dt * A)`. **What works**: a
# Mamba that somebody else has trained. **What is missing**: it knows nothing of *your* data, and to train 2.8 billion
# numbers takes about 50 GB before the first activation. **This lab** trains between one number in eight and one in
# forty; at full size `in_proj` alone is one in two hundred.
#
# ```
# 2.4.1 state and caches ──┐
# 2.4.2 selective scan ────┼──>  2.4.6 LoRA on Mamba  ──>  3.1.1 LoRA in depth, 3.1.6 data sets
# 2.1   autograd ──────────┘
# ```

# %% [markdown]
# ### Skill checks
#
# Answer first, then unfold.
#
# <details><summary>1. In h_t = a_t h_(t-1) + b_t x_t, what must a padded position set so that the state stays as it was?</summary>
#
# The input to 0 *and* the decay to 1. An input of 0 alone lets the state fade; only a state that is 0 has nothing
# to lose. Keep this in mind: it decides on which side you pad.
# </details>
#
# <details><summary>2. B is (64, 4) and A is (4, 32). How many numbers are that, what is the largest rank of BA, and how large is BA?</summary>
#
# 384 numbers, rank 4, and a matrix of 64 by 32, that is 2,048.
# </details>
#
# <details><summary>3. A layer is replaced by an object with another forward(). Who does not notice?</summary>
#
# Whoever never calls it, but reads its `.weight`.
# </details>

# %% nbgrader={"grade": false, "grade_id": "mambaft-given-setup", "locked": true, "schema_version": 3, "solution": false, "task": false}
import copy
import math
import random
import time
import warnings
from collections.abc import Sequence

# %% nbgrader={"grade": false, "grade_id": "mambaft-given-libraries", "locked": true, "schema_version": 3, "solution": false, "task": false}
import torch
from labkit import checking, insight, tiny
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import MambaConfig, MambaForCausalLM
from transformers.utils import logging

warnings.filterwarnings("ignore", category=FutureWarning)  # from inside transformers, nothing to do with you
logging.set_verbosity_error()  # it would say that there are no CUDA kernels here, which is true and no fault
torch.set_num_threads(1)  # with matrices this small, a second thread would mostly wait for the first

# %% [markdown]
# Readiness check: a scan by hand and a product of two thin matrices. It should print `ready`.

# %%
state = 0.0
for x in (1.0, 0.0, 0.0):
    state = 0.5 * state + x
assert state == 0.25
assert int(torch.linalg.matrix_rank(torch.ones(5, 1) @ torch.ones(1, 4))) == 1
print("ready")


# %% [markdown]
# ## Why it matters
#
# A clinic has notes of 60,000 tokens, and one GPU. A Mamba reads them with a state of fixed size (2.4.1); now it must
# learn the clinic's abbreviations. The team adapts `in_proj`, `x_proj`, and `dt_proj` as well,
# because the step size "is what makes Mamba selective". Training runs, the loss falls, and one adapter in three has
# stayed at zero from the first step to the last: transformers reads `dt_proj.weight` and never calls the layer. Nothing
# has warned anybody. A week later answers depend on *how many other prompts were in the batch*, because shorter ones
# were padded on the right, and the state has read the padding.
#
# Both faults are invisible in the loss. Both take one small test to find. You will write the tools that find them.

# %% [markdown]
# ## At the kitchen table
#
# A restaurant's cook keeps to a printed recipe. You may not print it again, but you may clip notes to it.
#
# | kitchen | this lab |
# |---|---|
# | the printed recipe | the frozen weights |
# | a note clipped to a page: "and a little more of this" | an adapter, $s\,BA$ |
# | a cook who asks *you* to read the page out, note and all | a model that calls `layer(x)` |
# | a cook who reads the page over your shoulder | a model that reads `layer.weight` |
# | the pot, to which each guest's order is added | the state |
# | an empty plate put through anyway | padding |
# | printing the recipe with the notes worked in | merging |
#
# **Where it breaks**: a note says a thing in words. An adapter can only add to what is there, in a few directions.

# %% [markdown]
# ## Foundations
#
# LoRA (Hu et al. 2021) keeps $W \in \mathbb{R}^{d_{out}\times d_{in}}$ frozen and trains two thin factors,
#
# $$h = Wx + s\,B(Ax), \qquad A \in \mathbb{R}^{r\times d_{in}},\; B \in \mathbb{R}^{d_{out}\times r},\; s = \alpha / r,$$
#
# $A$ random and $B$ zero at first, so that nothing changes before the first step. That is $r(d_{in}+d_{out})$ numbers in
# place of $d_{in} d_{out}$. One Mamba block as transformers runs it, with its weights and how each is used:
#
# ```
#  x ─> in_proj ─┬─> conv1d ─> SiLU ─> x_proj ─┬─> dt_proj ─> softplus ─> dt ─┐
#       called   │   .weight read     called   │   .weight read              ├─> h = exp(dt A) h + dt B x
#                │   (depthwise)               └─> B, C ─────────────────────┘        │      A_log, D: parameters
#                └─> gate ────────────────────────────────────── * (C h + D x) ───────┴─> out_proj ─> + x
#                                                                                          called
# ```

# %% [markdown]
# **With CUDA kernels it is worse.** When `mamba_ssm` is installed and the model is training, transformers 5.23 hands
# `x_proj.weight`, `dt_proj.weight`, `out_proj.weight` and the convolution's weight to one fused kernel. It calls none of
# these layers, so an adapter on any of them is walked past. Only `in_proj` is called on every path. PEFT 0.21 raises
# an error for `out_proj` and `conv1d` on Mamba, as incompatible; `x_proj` and `dt_proj` it lets through.
#
# **Padding.** A transformer masks padded keys. Mamba has no keys: what comes in changes $h$. With an attention mask
# transformers sets padded inputs to 0, before `in_proj` and after the convolution. Then nothing is added to the state, but
# $h \leftarrow e^{\Delta A} h$ goes on: it fades. Padding in *front* of a text finds $h = 0$, and 0 fades to 0.

# %% [markdown]
# ### One example in numbers
#
# A state of one number, with decay 0.5 and input weight 1, reads 8, 4 and is padded with two positions. Left with
# a mask: 0, 0, 8, 8. Right with a mask: 8, 8, 4, 2. A pad token that counts as an input of 6, on the left: 6, 9, 12.5,
# 10.25. The true state is 8.

# %%
def scan(inputs, decay=0.5):
    h, seen = 0.0, []
    for x in inputs:
        h = decay * h + x
        seen.append(h)
    return seen


padded_ways = {"left, masked": [0, 0, 8, 4], "right, masked": [8, 4, 0, 0], "left": [6, 6, 8, 4]}
for name, inputs in {"alone": [8, 4], **padded_ways}.items():
    print(f"{name:14} {scan(inputs)}")


# %% [markdown]
# ### The model
#
# Two blocks, width 32, four numbers of state per channel: everything of Mamba-2.8B but its size. The helper gives biases
# and the steps some life, so that tests see every weight.

# %% nbgrader={"grade": false, "grade_id": "mambaft-given-model", "locked": true, "schema_version": 3, "solution": false, "task": false}
def mamba(seed: int, **changes: int) -> MambaForCausalLM:
    """An untrained Mamba over bytes, in evaluation mode: 24,128 numbers in float32."""
    fields = {"vocab_size": 259, "hidden_size": 32, "state_size": 4, "num_hidden_layers": 2, "time_step_rank": 4,
              "bos_token_id": 256, "eos_token_id": 257, "pad_token_id": 258}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = MambaForCausalLM(MambaConfig(**{**fields, **changes}))
        for block in model.backbone.layers:
            block.mixer.conv1d.bias.normal_(std=0.5)
            block.mixer.dt_proj.bias.uniform_(-3, 0)  # steps of 0.05 to 0.7: the state remembers 1 to 20 bytes
    return model.eval()


# %%
print(f"{sum(p.numel() for p in mamba(0).parameters()):,} numbers; one block:")
for name, number in mamba(0).backbone.layers[0].mixer.named_parameters():
    print(f"  {name:15} {tuple(number.shape)!s:12} {number.numel():6,}")


# %% [markdown]
# ## Part 1: What an adapter can reach
#
# ### Exercise 1: is it a target?
#
# A config names its targets: `"in_proj"`, `"A_log"`. Before anything is trained, a good engineer asks of each name what
# would become of an adapter there. Your function answers by looking at the model and by *running* it, so that it
# works for models that nobody has made a list for.

# %% nbgrader={"grade": false, "grade_id": "mambaft-verdict", "locked": false, "schema_version": 3, "solution": true, "task": false}
def lora_verdict(model: nn.Module, input_ids: Tensor, name: str) -> str:
    """What would become of LoRA adapters on the layers of this name.

    Args:
        model: any model that can be called as model(input_ids).
        input_ids: something it can run on; it is run at most once, without gradients, in the mode that it is in; an
            error of the model is passed on.
        name: the last part of a path: "in_proj" means all of backbone.layers.*.mixer.in_proj, and not "my_in_proj".

    Returns:
        The first of these that is true of any layer or parameter of that name, and "ok" if none is:
        "parameter": only parameters are called so, no module.
        "not linear": a module is no nn.Linear.
        "shared": its weight has a second path in the model, so merging would change both.
        "bypassed": it was not called in a forward pass, so an adapter would learn nothing.

    Raises:
        ValueError: nothing in the model is called so.

    TODO: Find the modules, look at them, then run the model once without gradients and see which are called.

    APPROACH:
        1. Compare last parts of paths, because "proj" is the end of many names.
        2. Count the paths of each parameter, because tied weights are one object under two names.
        3. Take your hooks off again, also if the model fails, because the model is the caller's.

    EXAMPLE:
        >>> lora_verdict(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), torch.ones(1, 2), "1")
        'not linear'

    HINTS:
        1. model.named_modules() and model.named_parameters() give pairs of a path and an object.
        2. Both take remove_duplicate=False, and then give an object once for each of its paths.
        3. handle = module.register_forward_hook(f) calls f(module, inputs, output); handle.remove() undoes it.
    """
    ### BEGIN SOLUTION
    modules = model.named_modules(remove_duplicate=False)
    layers = [module for path, module in modules if path.rpartition(".")[2] == name]
    everything = list(model.named_parameters(remove_duplicate=False))
    if not layers:
        if any(path.rpartition(".")[2] == name for path, _ in everything):
            return "parameter"
        raise ValueError(name)
    if not all(isinstance(layer, nn.Linear) for layer in layers):
        return "not linear"
    if any(sum(p is layer.weight for _, p in everything) > 1 for layer in layers):
        return "shared"
    called = set()
    handles = [layer.register_forward_hook(lambda layer, *_: called.add(layer)) for layer in layers]
    try:
        with torch.no_grad():
            model(input_ids)
    finally:
        for handle in handles:
            handle.remove()
    return "ok" if called == set(layers) else "bypassed"
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "mambaft-given-toy", "locked": true, "schema_version": 3, "solution": false, "task": false}
class Toy(nn.Module):
    """A model with one layer of each kind; its layers are called as `names` says."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        called, half, read, tied, odd, scale, again = names
        self.limit = 9
        self.first = nn.ModuleDict({key: nn.Linear(6, 6) for key in (called, half, "my_" + read, tied, odd)})
        self.second = nn.ModuleDict({half: nn.Linear(6, 6), read: nn.Linear(6, 6), odd: nn.LayerNorm(6)})
        self.words, head = nn.Embedding(12, 6), nn.Linear(6, 12, bias=False)
        head.weight, self.last = self.words.weight, nn.ModuleDict({tied: head, again: head})
        self.register_parameter(scale, nn.Parameter(torch.ones(6)))
        self.names = list(names)

    def forward(self, ids: Tensor) -> Tensor:
        _, half, read, tied, odd, scale, _ = self.names
        self.with_graph = torch.is_grad_enabled()
        if ids.shape[1] > self.limit:
            raise RuntimeError("too long for this model")
        x = nn.Sequential(*self.first.values())(self.words(ids))
        x = x @ self.second[half].weight @ self.second[read].weight.T * getattr(self, scale)
        return self.last[tied](self.second[odd](x))


# %% nbgrader={"grade": true, "grade_id": "test-mambaft-verdict", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
# Checks: all verdicts on Mamba (2 points), on another model (2); that the model comes back as it was (1).
# Catches: a list of Mamba's names, ends of names, one called layer that speaks for all, hooks left behind.
# A pass prints three lines that begin with "earned".
def test_unit_mambaft_verdict():
    wants = {"in_proj": "ok", "x_proj": "ok", "out_proj": "ok", "dt_proj": "bypassed", "conv1d": "not linear",
             "A_log": "parameter", "D": "parameter", "mixer": "not linear", "lm_head": "shared"}
    names = ["up", "some", "down", "head", "norm", "scale", "same_head"]
    answers = ["ok", "bypassed", "bypassed", "shared", "not linear", "parameter", "shared"]
    toys, ids = [(Toy(names), dict(zip(names, answers, strict=True)))], torch.tensor([[3, 1, 4, 1, 5]])
    other = mamba(0, num_hidden_layers=1)
    ### BEGIN HIDDEN TESTS
    # check: a Mamba whose head has a weight of its own, and a model of other names
    # hint: nothing may depend on what the layers of Mamba happen to be called
    chance = random.Random(checking.secret_seed())
    other, wants = mamba(1, num_hidden_layers=1, tie_word_embeddings=False), wants | {"lm_head": "ok"}
    odd = [f"n{number}" for number in chance.sample(range(10**6), 7)]
    toys.append((Toy(odd), dict(zip(odd, answers, strict=True))))
    ### END HIDDEN TESTS
    credit = checking.Credit(5)
    with credit.check("Mamba's layers", points=2, hint="which of them are called? which weights occur twice?"):
        for name, want in wants.items():
            checking.equal(lora_verdict(other, ids, name), want, what=f"verdict on {name}")
    with credit.check("the layers of other models", points=2, hint="what if one of two layers of a name is called?"):
        for toy, verdicts in toys:
            for name, want in verdicts.items():
                checking.equal(lora_verdict(toy, ids, name), want, what=f"verdict on {name}")
            checking.raises(ValueError, lora_verdict, toy, ids, "own", what="a name that nothing has")
    with credit.check("the model comes back as it was", points=1, hint="what happens when the model raises an error?"):
        for toy, verdicts in toys:
            with checking.unchanged(model=toy):
                called = next(iter(verdicts))
                checking.raises(RuntimeError, lora_verdict, toy, torch.zeros(1, 10).long(), called, what="a failing model")
            hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in toy.modules())
            found = (hooks, all(m.training for m in toy.modules()), toy.with_graph)
            checking.equal(found, (0, True, False), what="(hooks left, training as before, run with gradients)")
    return credit.total()


test_unit_mambaft_verdict()


# %% [markdown]
# ### What just happened?
#
# Nobody told your function about Mamba. Hold it beside PEFT: on `dt_proj` you know more, on `out_proj` PEFT does. A
# verdict holds for the path that was *run*: here `out_proj` is called, in training with CUDA kernels it is not. So ask again
# where the model will train, in the mode in which it will.

# %%
def beside_peft():
    ids = torch.tensor([[3, 1, 4, 1, 5]])
    for name in ("in_proj", "x_proj", "dt_proj", "out_proj", "conv1d", "A_log"):
        try:
            get_peft_model(mamba(0), LoraConfig(r=2, target_modules=[name]))
            says = "accepts"
        except ValueError as error:
            says = f"{type(error).__name__}: {str(error)[:60]}..."
        print(f"{name:9} you: {lora_verdict(mamba(0), ids, name):11} PEFT: {says}")


insight.run(beside_peft, needs="Exercise 1 (lora_verdict)")


# %% [markdown]
# ### Exercise 2: an adapter that cannot be walked past
#
# Now LoRA itself, with one thing more than PEFT's. Its wrapper has a `weight` too: the *frozen* one, and whoever reads
# it loses the adapter. Yours answers honestly: `layer.weight` is $W + s\,BA$, with gradients. `layer(x)` takes the thin
# path, two small products, because forming a matrix as large as $W$ for every batch is what LoRA is there to avoid.

# %% nbgrader={"grade": false, "grade_id": "mambaft-layer", "locked": false, "schema_version": 3, "solution": true, "task": false}
class LoRALinear(nn.Module):
    """A frozen linear layer W x + b with a trained update s B A of low rank."""

    def __init__(self, base: nn.Linear, rank: int, alpha: float) -> None:
        """Take over a linear layer.

        Args:
            base: the layer; it is frozen, bias too, and kept as self.base, not copied.
            rank: r, at least 1.
            alpha: numerator of the scaling.

        Raises:
            ValueError: the rank is below 1.

        TODO: Set self.base, self.scaling = alpha / rank, and the nn.Parameters self.lora_A, (rank, d_in), uniform
            between -1/sqrt(d_in) and 1/sqrt(d_in), and self.lora_B, (d_out, rank), zero; dtype and device as base.weight.

        APPROACH:
            1. Start B at zero, because then the first output is the base layer's.
            2. Start A at random, because with both at zero neither ever gets a gradient.
            3. Give `weight` the update too, because some models read it and never call the layer.

        EXAMPLE:
            >>> layer = LoRALinear(nn.Linear(6, 4), rank=2, alpha=3)
            >>> layer.scaling, [(n, tuple(p.shape)) for n, p in layer.named_parameters() if p.requires_grad]
            (1.5, [('lora_A', (2, 6)), ('lora_B', (4, 2))])

        HINTS:
            1. tensor.new_zeros(shape) and tensor.new_empty(shape) take over dtype and device; uniform_ fills in place.
            2. x @ A.T has r columns. What must it be multiplied by, in which order?
            3. `weight` is one expression: the frozen weight plus scaling times a product of two matrices.
        """
        super().__init__()
        ### BEGIN SOLUTION
        if rank < 1:
            raise ValueError("the rank must be at least 1")
        self.base, self.scaling = base.requires_grad_(False), alpha / rank
        d_out, d_in = base.weight.shape
        bound = 1 / math.sqrt(d_in)
        self.lora_A = nn.Parameter(base.weight.new_empty(rank, d_in).uniform_(-bound, bound))
        self.lora_B = nn.Parameter(base.weight.new_zeros(d_out, rank))
        ### END SOLUTION

    @property
    def weight(self) -> Tensor:
        """W + s B A, (d_out, d_in), differentiable with respect to A and B."""
        ### BEGIN SOLUTION
        return self.base.weight + self.scaling * self.lora_B @ self.lora_A
        ### END SOLUTION

    @property
    def bias(self) -> Tensor | None:
        """The frozen bias."""
        return self.base.bias

    def forward(self, x: Tensor) -> Tensor:
        """(..., d_in) to (..., d_out), without a matrix of the size of W."""
        ### BEGIN SOLUTION
        return self.base(x) + self.scaling * (x @ self.lora_A.T @ self.lora_B.T)
        ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "mambaft-given-lively", "locked": true, "schema_version": 3, "solution": false, "task": false}
def lively(model: nn.Module, seed: int) -> nn.Module:
    """Give every parameter that trains random numbers (standard deviation 0.3), in place."""
    draw = torch.Generator().manual_seed(seed)
    for number in model.parameters():
        if number.requires_grad:
            number.data.copy_(0.3 * torch.randn(number.shape, generator=draw, dtype=number.dtype))
    return model


# %% nbgrader={"grade": false, "grade_id": "mambaft-given-twin", "locked": true, "schema_version": 3, "solution": false, "task": false}
def peft_twin(layer: nn.Module, alpha: float) -> nn.Module:
    """PEFT's LoRA layer with the numbers of yours."""
    config = LoraConfig(r=len(layer.lora_A), lora_alpha=alpha, target_modules=["fc"], lora_dropout=0.0)
    twin = get_peft_model(nn.ModuleDict({"fc": copy.deepcopy(layer.base)}), config).base_model.model["fc"]
    with torch.no_grad():
        twin.lora_A["default"].weight.copy_(layer.lora_A)
        twin.lora_B["default"].weight.copy_(layer.lora_B)
    return twin.eval()


# %% nbgrader={"grade": false, "grade_id": "mambaft-given-check-start", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_start(d_in: int, d_out: int, rank: int, alpha: float, dtype: torch.dtype, bias: bool) -> None:
    """What a new layer is made of, and that it changes nothing yet."""
    base = nn.Linear(d_in, d_out, bias=bias, dtype=dtype)
    layer, bound = LoRALinear(base, rank, alpha), 1 / math.sqrt(d_in)
    trains = {name: (tuple(p.shape), p.dtype) for name, p in layer.named_parameters() if p.requires_grad}
    checking.equal(trains, {"lora_A": ((rank, d_in), dtype), "lora_B": ((d_out, rank), dtype)}, what="what trains")
    checking.equal(layer.base is base, True, what="base is the layer itself, not a copy")
    checking.close(float(layer.scaling), alpha / rank, rtol=1e-12, atol=0, what="scaling")
    checking.equal(layer.lora_B.detach(), torch.zeros(d_out, rank, dtype=dtype), what="lora_B at first")
    low, high = (layer.lora_A.detach().float() / bound).aminmax()
    # Of 64 or more uniform numbers none is in the upper quarter with probability 1e-8; bfloat16 rounds by up to 0.4 %.
    spread = -1.01 < low < -0.5 and 0.5 < high < 1.01
    checking.equal(bool(spread), True, what=f"lora_A is spread between -1 and 1 bounds ({low:.2f} to {high:.2f})")
    x = torch.ones(2, d_in, dtype=dtype)
    # Zeros are added; whoever adds the bias last rounds once more: 4 eps of numbers below 4.
    near = 16 * torch.finfo(dtype).eps
    checking.close(layer(x).detach(), base(x).detach(), rtol=0, atol=near, what="first output", hint="that of the base")


# %% nbgrader={"grade": false, "grade_id": "mambaft-given-check-layer", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_layer(seed: int, shape: tuple[int, ...], d_out: int, rank: int, alpha: float, bias: bool = True) -> None:
    """Outputs and gradients against PEFT, and the two ways to use a layer against each other."""
    layer = lively(LoRALinear(nn.Linear(shape[-1], d_out, bias=bias, dtype=torch.float64), rank, alpha), seed)
    draw = torch.Generator().manual_seed(seed)
    x, up = (torch.randn(*shape[:-1], n, generator=draw, dtype=torch.float64) for n in (shape[-1], d_out))
    x.requires_grad_()
    twin, what = peft_twin(layer, alpha), f"x of shape {shape}, rank {rank}"
    theirs = [x, twin.lora_A["default"].weight, twin.lora_B["default"].weight]
    want, wants = twin(x), torch.autograd.grad((twin(x) * up).sum(), theirs)
    for use, call in {"layer(x)": layer, "layer.weight": lambda x: F.linear(x, layer.weight, layer.bias)}.items():
        with checking.unchanged(x=x, layer=layer):
            got = call(x)
        # float64: sums of 64 products below 1e3, off by 64 * 1e3 * 1.1e-16 = 7e-12.
        checking.close(got.detach(), want.detach(), rtol=1e-10, atol=1e-9, what=f"output by {use}, {what}")
        grads = torch.autograd.grad((got * up).sum(), [x, layer.lora_A, layer.lora_B], allow_unused=True)
        for name, mine, peft in zip(("x", "lora_A", "lora_B"), grads, wants, strict=True):
            mine = torch.zeros_like(peft) if mine is None else mine
            checking.close(mine, peft, rtol=1e-9, atol=1e-9, what=f"gradient of {name} by {use}, {what}")


# %% nbgrader={"grade": true, "grade_id": "test-mambaft-layer", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
# Checks: the start (1 point), outputs and gradients by both ways against PEFT (3), the thin path (1).
# Catches: a scaling upside down, a base that trains, B at random, a `weight` without the update or its gradient.
# A pass prints three lines that begin with "earned".
def test_unit_mambaft_layer():
    starts, runs = [(64, 5, 4, 2.0, torch.float32, True)], [(0, (5, 6), 4, 2, 3.0)]
    ### BEGIN HIDDEN TESTS
    # check: other sizes and dtypes, without a bias
    # hint: are dtype and device taken over from the base? what is base.bias without a bias?
    seed = checking.secret_seed()
    starts += [(67, 3, 1, 5.0, torch.float64, False), (9, 31, 16, 1.0, torch.bfloat16, True)]
    # check: leading axes of any number, a batch of none, one dimension in and out
    # hint: do you transpose the factors, or swap axes of x?
    runs += [(seed, (2, 3, 64), 31, 8, 16.0), (seed + 1, (0, 3), 8, 1, 1.0), (seed + 2, (7,), 5, 3, 2.0, False),
             (seed + 3, (4, 1), 1, 1, -1.0)]
    ### END HIDDEN TESTS
    credit = checking.Credit(5)
    with credit.check("a new layer", points=1):
        for case in starts:
            check_start(*case)
        checking.raises(ValueError, LoRALinear, nn.Linear(2, 2), 0, 1.0, what="a rank of 0")
    with credit.check("equal to PEFT, called or read", points=3, hint="W + s B A, with gradients for A and B"):
        for case in runs:
            check_layer(*case)
    with credit.check("the thin path", points=1, hint="multiply x by A first; the result has r columns"):
        layer, kept = LoRALinear(nn.Linear(48, 64), 4, 8.0), []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
            layer(torch.ones(3, 48, requires_grad=True))
        large = [tuple(t.shape) for t in kept if t.data_ptr() != layer.base.weight.data_ptr() and t.numel() >= 64 * 48]
        checking.equal(large, [], what="matrices as large as W that forward keeps", hint="is B A formed?")
    return credit.total()


test_unit_mambaft_layer()


# %% [markdown]
# ### What just happened?
#
# Called or read, your layer is the same function with the same gradients, and where PEFT's is called it agrees with
# yours. So one object serves `in_proj`, which is called, and `dt_proj`, which is read.

# %% [markdown]
# ### Exercise 3: into the model, by name
#
# A function that puts adapters into a model must do three things well: freeze *everything else*, take exactly the layers
# that were named, and refuse early. A typing error in a target that is only skipped is an adapter fewer, and a loss
# that falls all the same.

# %% nbgrader={"grade": false, "grade_id": "mambaft-adapt", "locked": false, "schema_version": 3, "solution": true, "task": false}
def adapt(model: nn.Module, targets: Sequence[str], rank: int, alpha: float) -> int:
    """Freeze a model and replace its layers of the given names by LoRALinear, in place.

    Args:
        model: any model. A shared layer is the caller's fault: ask lora_verdict first.
        targets: last parts of paths, as in Exercise 1; at least one, all different.
        rank, alpha: of every adapter; the rank is at least 1.

    Returns:
        How many numbers train now.

    Raises:
        ValueError: there is no module of one of the names, or one of them is no nn.Linear, or the rank is below 1. The
            model is then as it was.

    TODO: Find all layers, check them all, freeze the model, then replace each in its parent.

    APPROACH:
        1. Make a list before you replace, because a model must not change while you walk over it.
        2. Refuse before you freeze or replace, because half an adapted model is worse than none.
        3. Freeze first, replace then, because the adapters must train.

    EXAMPLE:
        >>> model = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 4))
        >>> adapt(model, ["0"], rank=2, alpha=4), type(model[0]).__name__, model[1].weight.requires_grad
        (20, 'LoRALinear', False)

    HINTS:
        1. path.rpartition(".") splits "a.b.c" into "a.b", "." and "c".
        2. model.get_submodule(path) finds the parent; get_submodule("") is the model itself.
        3. setattr(parent, name, layer) replaces; count with numel() over what requires a gradient.
    """
    ### BEGIN SOLUTION
    found = {path: layer for path, layer in model.named_modules() if path.rpartition(".")[2] in targets}
    missing = set(targets) - {path.rpartition(".")[2] for path in found}
    wrong = [path for path, layer in found.items() if not isinstance(layer, nn.Linear)]
    if missing or wrong or rank < 1:
        raise ValueError("no such module, no nn.Linear, or a rank below 1", missing, wrong, rank)
    model.requires_grad_(False)
    for path, layer in found.items():
        parent, _, last = path.rpartition(".")
        setattr(model.get_submodule(parent), last, LoRALinear(layer, rank, alpha))
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "mambaft-given-check-adapt", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_adapt(model: nn.Module, ids: Tensor, targets: list[str], rank: int, logits=lambda out: out) -> None:
    """Which layers are replaced, how many numbers train, and that the output is the same."""
    shapes = {path: m.weight.shape for path, m in model.named_modules() if path.split(".")[-1] in targets}
    before = logits(model(ids)).detach()
    got = adapt(model, targets, rank, 2.0 * rank)
    replaced = {path: m.base.weight.shape for path, m in model.named_modules() if type(m) is LoRALinear}
    checking.equal(sorted(replaced), sorted(shapes), what=f"paths of the adapters for {targets}")
    trains = {path for path, p in model.named_parameters() if p.requires_grad}
    wants = {f"{path}.{factor}" for path in shapes for factor in ("lora_A", "lora_B")}
    checking.equal(trains, wants, what=f"what trains with {targets}", hint="everything else is frozen")
    checking.equal(got, rank * sum(map(sum, shapes.values())), what=f"numbers returned for {targets}, {rank=}")
    checking.equal({m.scaling for m in model.modules() if type(m) is LoRALinear}, {2.0}, what="scalings")
    # The same layers, and zeros added: a handful of float32 roundings of numbers below 10 at most.
    checking.close(logits(model(ids)).detach(), before, rtol=0, atol=1e-5, what="output of the adapted model")


# %% nbgrader={"grade": true, "grade_id": "test-mambaft-adapt", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: what is replaced and trains, by closed form (2 points), refusals (1), that all adapters of Mamba live (1).
# Catches: ends of names, a model that is not frozen, a wrong count, half an adapted model, an adapter without gradient.
# A pass prints three lines that begin with "earned".
def test_unit_mambaft_adapt():
    ids, logits = torch.tensor([[3, 1, 4, 1, 5]]), lambda out: out.logits
    cases = [(mamba(0), ids, ["in_proj"], 4, logits), (mamba(0), ids, ["x_proj", "dt_proj"], 2, logits)]
    refusals = [(["out_proj", "A_log"], 2), (["x_proj", "conv1d"], 2), (["in_projj"], 2)]
    ### BEGIN HIDDEN TESTS
    # check: other models and ranks, names that are ends of others
    # hint: is "my_down" a layer called "down"?
    odd = [f"n{k}" for k in random.Random(checking.secret_seed()).sample(range(10**6), 7)]
    cases += [(Toy(odd), ids, [odd[2]], 3), (Toy(odd), ids, odd[:2], 1),
              (mamba(2, num_hidden_layers=3), ids, ["out_proj", "in_proj", "x_proj"], 7, logits)]
    # check: refusals of other names
    # hint: check all targets before you touch the model
    refusals += [(["mixer"], 2), (["in_proj", "proj"], 2), (["dt_proj", "weight"], 2)]
    # check: refusal of a rank
    # hint: LoRALinear refuses it too, but what has been frozen by then?
    refusals += [(["in_proj", "x_proj"], 0)]
    ### END HIDDEN TESTS
    credit = checking.Credit(4)
    with credit.check("the layers that were named, and nothing else", points=2):
        for case in cases:
            check_adapt(*case)
    with credit.check("refusals leave the model as it was", points=1, hint="first all checks, then all changes"):
        for targets, rank in refusals:
            model = mamba(1)
            kinds = [(path, type(m)) for path, m in model.named_modules()]
            checking.raises(ValueError, adapt, model, targets, rank, 4.0, what=f"targets {targets}, {rank=}")
            same = kinds == [(path, type(m)) for path, m in model.named_modules()]
            checking.equal((same, all(p.requires_grad for p in model.parameters())), (True, True),
                           what=f"(same modules, nothing frozen) after {targets}, {rank=}")
    with credit.check("all adapters of Mamba get a gradient", points=1, hint="does layer.weight have the update in it?"):
        model = mamba(0)
        adapt(model, ["in_proj", "x_proj", "dt_proj", "out_proj"], 2, 4.0)
        model(input_ids=ids, labels=ids).loss.backward()
        grads = {path: m.lora_B.grad for path, m in model.named_modules() if type(m) is LoRALinear}
        still = [path for path, grad in grads.items() if grad is None or not grad.any()]
        checking.equal(still, [], what="adapters whose B has no gradient")
    return credit.total()


test_unit_mambaft_adapt()


# %% [markdown]
# ### Systems insight 1 of 3: which adapters are dead?
#
# **Checkpoint**: you can adapt any linear layer. **Predict, and write it down**: with adapters on `in_proj`, `x_proj` and
# `dt_proj`, for how many of PEFT's numbers in each B is the gradient not zero after one backward pass, and for how many
# of yours? Count them.

# %%
def alive(model, part):
    """Numbers in all B of layers called `part` that got a gradient, and how many there are."""
    found = [p for path, p in model.named_parameters() if f".{part}." in path and "lora_B" in path]
    return sum(p.grad.count_nonzero().item() for p in found if p.grad is not None), sum(p.numel() for p in found)


# %%
def living_numbers(parts=("in_proj", "x_proj", "dt_proj")):
    ids, mine = torch.arange(40).reshape(2, 20), mamba(0)
    adapt(mine, parts, 4, 8.0)
    theirs = get_peft_model(mamba(0), LoraConfig(r=4, lora_alpha=8, target_modules=list(parts)))
    start = time.perf_counter()
    for model in (mine, theirs):
        model(input_ids=ids, labels=ids).loss.backward()
    print(f"two backward passes: {time.perf_counter() - start:.2f} s")
    return {f"{who}\n{part}": alive(model, part) for part in parts for who, model in (("yours", mine), ("PEFT", theirs))}


# %%
living = insight.run(living_numbers, needs="Exercises 2 and 3 (LoRALinear, adapt)")
if living:
    insight.bars({name: 100 * some / total for name, (some, total) in living.items()}, ylabel="% of B with a gradient",
                 title="one backward pass, adapters of rank 4")


# %% [markdown]
# **What it means in production.** PEFT's adapter on `dt_proj` is registered, counted, saved to disk and loaded again; it
# is zero for ever. In a config with other targets nothing complains. One backward pass and a look at the gradients of
# all B is a test that costs a second, and it belongs at the start of every fine-tuning run: on a GPU with fused
# kernels it is `x_proj` that you should look at next.

# %% [markdown]
# ## Part 2: Data for a model without attention
#
# ### Exercise 4: a batch, padded on the right side
#
# A prompt and its answer become one row. Only the answer is to be learnt, so labels are -100 elsewhere, which cross
# entropy leaves out. Rows differ in length, so they are padded: in front for generation, behind for training (you are
# about to see why). A mask says what is text; it must not be guessed from the ids, because a text may contain the pad.

# %% nbgrader={"grade": false, "grade_id": "mambaft-collate", "locked": false, "schema_version": 3, "solution": true, "task": false}
def collate(examples: Sequence[tuple[list[int], list[int]]], pad: int, side: str = "right") -> dict[str, Tensor]:
    """Make one batch of prompts and answers.

    Args:
        examples: pairs of token ids: a prompt and an answer. Either may be empty.
        pad: the id to fill up with.
        side: "right" to pad behind the text, "left" to pad in front of it.

    Returns:
        "input_ids", "attention_mask" and "labels", each (rows, longest), int64. The mask is 1 on text and 0 on padding.
        labels are the answer's ids, in the places in which input_ids has them, and -100 on prompt and padding.

    Raises:
        ValueError: there is no example, or the side is neither "left" nor "right".

    TODO: Build each row's ids, mask and labels, padded to the longest, and stack them.

    APPROACH:
        1. Take the longest *sum* of lengths, because a long prompt may have a short answer.
        2. Put the padding on the same side in all three, because they must stay aligned.
        3. Do not shift labels, because the model's loss compares position t with label t + 1 itself.

    EXAMPLE:
        >>> collate([([5, 6], [7]), ([8], [])], pad=0)["labels"]
        tensor([[-100, -100,    7],
                [-100, -100, -100]])

    HINTS:
        1. Lists can be added and multiplied: [0] * 3 + [7].
        2. How many pads does a row need? What fills them in each of the three?
        3. Build three lists of lists, then torch.tensor(...) each, with dtype=torch.int64, for a table may be empty.
    """
    ### BEGIN SOLUTION
    if not examples or side not in ("left", "right"):
        raise ValueError("need examples, and left or right")
    longest = max(len(prompt) + len(answer) for prompt, answer in examples)
    batch = {"input_ids": [], "attention_mask": [], "labels": []}
    for prompt, answer in examples:
        row = (prompt + answer, [1] * len(prompt + answer), [-100] * len(prompt) + answer)
        for rows, text, filler in zip(batch.values(), row, (pad, 0, -100), strict=True):
            padding = [filler] * (longest - len(text))
            rows.append(padding + text if side == "left" else text + padding)
    return {name: torch.tensor(rows, dtype=torch.long) for name, rows in batch.items()}
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "mambaft-given-examples", "locked": true, "schema_version": 3, "solution": false, "task": false}
def random_examples(seed: int, count: int, longest: int = 5) -> list[tuple[list[int], list[int]]]:
    """Pairs of random bytes; prompts have 1 to `longest` ids, answers 1 to 4."""
    chance = random.Random(seed)
    lengths = [(chance.randint(1, longest), chance.randint(1, 4)) for _ in range(count)]
    return [([chance.randrange(256) for _ in range(p)], [chance.randrange(256) for _ in range(a)]) for p, a in lengths]


# %% nbgrader={"grade": false, "grade_id": "mambaft-given-check-batch", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_batch(examples: list, pad: int, side: str) -> None:
    """Every position of a batch, one by one."""
    kept = copy.deepcopy(examples)
    got = collate(examples, pad, side)
    checking.equal(examples, kept, what="the examples afterwards", hint="they must come back as they were")
    checking.equal(list(got), ["input_ids", "attention_mask", "labels"], what="keys")
    width = max(len(p) + len(a) for p, a in examples)
    want = {"input_ids": (pad, lambda p, a: [*p, *a]), "attention_mask": (0, lambda p, a: [1 for _ in [*p, *a]]),
            "labels": (-100, lambda p, a: [-100 for _ in p] + a)}
    for name, (filler, text_of) in want.items():
        table = torch.full((len(examples), width), filler)
        for row, pair in enumerate(examples):
            for place, value in enumerate(text_of(*pair)):
                table[row, place if side == "right" else place + width - len(pair[0]) - len(pair[1])] = value
        checking.equal(got[name], table, what=f"{name}, padded on the {side}")


# %% nbgrader={"grade": true, "grade_id": "test-mambaft-collate", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
# Checks: every position, padded on the right (2 points) and on the left (2); what a Mamba makes of it, and refusals (1).
# Catches: labels on prompt or padding, labels shifted, a mask guessed from the ids, sides mixed up, other lengths.
# A pass prints three lines that begin with "earned".
def test_unit_mambaft_collate():
    batches = [([([5, 6], [7]), ([8], [9, 1, 2]), ([3], [])], 258), ([([1], [2])], 0)]
    seed = 0
    ### BEGIN HIDDEN TESTS
    # check: other batches, texts with the pad in them, empty prompts and answers
    # hint: which of your three rows looks at the ids, and should it?
    seed = checking.secret_seed()
    batches += [(random_examples(seed, 9), 258), (random_examples(seed + 1, 6), 258),
                ([([4, 4], [4, 5]), ([], [4]), ([4], []), ([], [])], 4), ([([], [])], 1)]
    ### END HIDDEN TESTS
    credit = checking.Credit(5)
    for side in ("right", "left"):
        with credit.check(f"padding on the {side}", points=2, hint="print one row of each of the three"):
            for examples, pad in batches:
                check_batch(examples, pad, side)
    with credit.check("the model does not see the padding; refusals", points=1):
        model = mamba(seed, num_hidden_layers=1)
        examples = [([7], [8]), ([9] * 12, [1]), *random_examples(seed + 2, 2)]  # much padding, whatever is drawn
        alone = torch.stack([model(torch.tensor([p + a])).logits[0, -1] for p, a in examples]).detach()
        batch = collate(examples, 258, "left")
        got = model(batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, -1].detach()
        # float32 through one block: logits below 10, hundreds of roundings of 6e-8; another token moves them by 0.1.
        checking.close(got, alone, rtol=0, atol=1e-3, what="last logits of rows padded on the left, with the mask")
        checking.raises(ValueError, collate, [], 258, what="no examples")
        checking.raises(ValueError, collate, examples, 258, "both", what='side "both"')
    return credit.total()


test_unit_mambaft_collate()


# %% [markdown]
# ### Systems insight 2 of 3: what does padding do to the state?
#
# **Checkpoint**: you can pad on either side. **Predict, and write it down**: a text of 12 bytes stands in a batch whose
# longest has up to 76. By how much does its final state change (relative to its size): padded on the left or on the
# right, with the mask or without? Which of the four is 0, and which tends to 100 %?

# %%
def final_state(model, ids, mask=None):
    """All recurrent states after the last position, as one vector."""
    with torch.no_grad():
        cache = model(ids, attention_mask=mask, use_cache=True).cache_params
    return torch.cat([cache.get_recurrent_state(k, state_idx=0).flatten(1) for k in range(len(model.backbone.layers))], 1)


# %%
def state_errors(model, pads=(0, 1, 2, 4, 8, 16, 32, 64), text=b"ana sees a r"):
    """Relative change of the text's final state for each way of padding; counts what collate() put in."""
    alone, errors = final_state(model, torch.tensor([list(text)])), {}
    for side in ("left", "right"):
        for masked in (True, False):
            name = f"{side}, {'with' if masked else 'no'} mask"
            for count in pads:
                batch = collate([(list(text), []), ([0] * (len(text) + count), [])], 258, side)
                state = final_state(model, batch["input_ids"], batch["attention_mask"] if masked else None)[:1]
                errors.setdefault(name, []).append(((state - alone).norm() / alone.norm()).item())
    return pads, errors


# %%
start = time.perf_counter()
padded = insight.run(lambda: state_errors(mamba(0)), needs="Exercise 4 (collate)")
print(f"measured in {time.perf_counter() - start:.2f} s")
if padded:
    insight.lines(*padded, xlabel="pad tokens in the row", ylabel="relative change of the state", title="untrained Mamba")


# %% [markdown]
# **What it means in production.** On the left with a mask nothing changes: the state is 0 until the text begins. On the
# right with a mask the state only fades, towards a change of 100 %. So *generate* from the left. For *training* the right
# is safe even without a mask: logits at the text never see what comes later, and nobody uses the final state. And on
# a GPU the right is the only safe side: the fused training kernel gets a mask before `in_proj` alone, so the convolution's
# bias leaks into the state at every padded position in front.

# %% [markdown]
# ## Part 3: Training and merging
#
# ### Exercise 5: one step, whatever the memory
#
# A batch that does not fit into memory is cut into micro-batches, whose gradients add up. Mostly they are *averaged*, and
# that is a mistake when rows differ: in the mean of means, a token in a micro-batch with few answers counts for more. The
# step that you want does not depend on the cut. Micro-batches without a single label occur as well; a mean over none is NaN.

# %% nbgrader={"grade": false, "grade_id": "mambaft-step", "locked": false, "schema_version": 3, "solution": true, "task": false}
def train_step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: dict[str, Tensor], micro: int) -> float:
    """One optimizer step on the mean cross entropy over all labels of a batch, `micro` rows at a time.

    Args:
        model: called as model(input_ids=..., attention_mask=...), returns something with .logits, (rows, T, V).
        optimizer: of whatever is to be trained.
        batch: as collate() makes it: input_ids, attention_mask, labels, (rows, T).
        micro: how many rows go through the model at once, at least 1; the last micro-batch may be smaller.

    Returns:
        The loss of the whole batch before the step, in nats a label. Position t predicts label t + 1; labels of -100 and
        those in position 0 of the tensor, which nothing predicts, do not count; whether a label follows padding makes
        no difference. The gradients of this step are still in .grad afterwards.

    Raises:
        ValueError: no label counts. Nothing has changed then.

    TODO: For each micro-batch add up the cross entropies, divide by the labels of the whole batch, backward; one step.

    APPROACH:
        1. Count the labels of the whole batch first, because each part needs that number.
        2. Sum in a part and divide by the total, because then the parts add up to the mean, whatever the cut.
        3. Call backward for each part, because this frees its activations before the next one.

    EXAMPLE:
        >>> model, batch = mamba(0), collate([([1, 2], [3, 4]), ([5], [6])], pad=258)
        >>> type(train_step(model, torch.optim.SGD(model.parameters(), lr=0.1), batch, micro=1)).__name__
        'float'

    HINTS:
        1. Which logits and which labels belong together? Cut the last position of one, the first of the other.
        2. F.cross_entropy takes (N, V) and (N,), reduction="sum", and leaves -100 out.
        3. Gradients of an earlier step are still there when you start.
    """
    ### BEGIN SOLUTION
    total = int((batch["labels"][:, 1:] != -100).sum())
    if total == 0:
        raise ValueError("no label counts in this batch")
    optimizer.zero_grad()
    loss = 0.0
    parts = [batch[name].split(micro) for name in ("input_ids", "attention_mask", "labels")]
    for ids, mask, labels in zip(*parts, strict=True):
        logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
        part = F.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten(), reduction="sum") / total
        part.backward()
        loss += part.item()
    optimizer.step()
    return loss
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "mambaft-given-truth", "locked": true, "schema_version": 3, "solution": false, "task": false}
def one_by_one(model: nn.Module, examples: list) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients, by running each example alone and unpadded, and each label on its own."""
    losses = []
    for prompt, answer in examples:
        logps = model(torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
        places = range(max(len(prompt), 1), len(prompt + answer))
        losses += [-logps[place - 1, (prompt + answer)[place]] for place in places]
    loss = torch.stack(losses).mean()
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    grads = torch.autograd.grad(loss, list(trained.values()))
    return loss.item(), dict(zip(trained, grads, strict=True))


# %% nbgrader={"grade": false, "grade_id": "mambaft-given-check-step", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_step(model: nn.Module, examples: list, side: str, micro: int) -> dict[str, Tensor]:
    """Two steps of plain gradient descent against one_by_one, and the sizes of the parts; the second's gradients."""
    optimizer, sizes = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01), []
    handle = model.register_forward_pre_hook(
        lambda module, args, named: sizes.append(len((*args, named.get("input_ids"))[0])), with_kwargs=True)
    batch = collate(examples, 258, side)
    for step in (1, 2):
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        want, grads = one_by_one(model, examples)
        sizes.clear()
        with checking.unchanged(batch=batch):
            got = train_step(model, optimizer, batch, micro)
        what = f"padding on the {side}, {len(examples)} rows, {micro=}, step {step}"
        # float32: each cross entropy is below 20 and off by a few hundred roundings of 6e-8.
        checking.close(float(got), want, rtol=1e-4, atol=1e-5, what=f"loss, {what}")
        checking.equal((max(sizes) <= micro, sum(sizes)), (True, len(examples)), what=f"(parts fit, rows seen), {what}")
        for name, p in model.named_parameters():
            move = (before[name] - p.detach()) / 0.01
            grad = grads.get(name, torch.zeros_like(move))
            # Weights below 4 are rounded: 4 * 6e-8 / 0.01 = 2.4e-5; gradients are off by less than 1e-3 of the largest.
            near = 1e-4 + 1e-3 * grad.abs().max().item()
            checking.close(move, grad, rtol=0, atol=near, what=f"step of {name}, {what}")
    handle.remove()
    return grads


# %% nbgrader={"grade": false, "grade_id": "mambaft-given-adapted", "locked": true, "schema_version": 3, "solution": false, "task": false}
def adapted(seed: int, targets: Sequence[str] = ("in_proj", "x_proj"), **changes: int) -> nn.Module:
    """A small Mamba with your adapters, all numbers in them random."""
    model = mamba(seed, num_hidden_layers=1, **changes)
    adapt(model, targets, 2, 3.0)
    return lively(model, seed)


# %% nbgrader={"grade": true, "grade_id": "test-mambaft-step", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
# Checks: loss and step in one part (1 point), in parts of any size (2), with padding on the left (1), odd batches (1).
# Catches: a mean of means, labels that are not shifted, gradients that pile up, a forgotten mask, a step for each part.
# A pass prints four lines that begin with "earned".
def test_unit_mambaft_step():
    seed = 0
    cut = [(random_examples(1, 5), 1), (random_examples(2, 5), 2)]
    ### BEGIN HIDDEN TESTS
    # check: other batches, and parts of other sizes
    # hint: train the same model with micro=1 and with all rows at once, and compare
    seed = checking.secret_seed()
    cut += [(random_examples(seed, 7), 3), (random_examples(seed + 1, 3), 100)]
    ### END HIDDEN TESTS
    credit = checking.Credit(5)
    with credit.check("all rows at once", points=1, hint="mean over labels t + 1 given position t"):
        check_step(adapted(seed), [([7] * 6, [8]), *random_examples(seed + 3, 3)], "right", 4)
        ### BEGIN HIDDEN TESTS
        # check: what a step leaves in .grad
        # hint: whoever looks for dead adapters reads the gradients after a step: when do you clear them?
        model = adapted(seed)
        for name, grad in check_step(model, random_examples(seed + 6, 4), "right", 4).items():
            left = model.get_parameter(name).grad
            near = 1e-4 + 1e-3 * grad.abs().max().item()  # as in check_step
            checking.close(torch.zeros_like(grad) if left is None else left, grad, rtol=0, atol=near, what=f"{name}.grad")
        ### END HIDDEN TESTS
    with credit.check("the cut does not matter", points=2, hint="sums in the parts, one division by all labels"):
        for examples, micro in cut:
            check_step(adapted(seed), examples, "right", micro)
    with credit.check("padding on the left", points=1, hint="does the model get the mask?"):
        rows = [([7], [8]), ([9] * 12, [1]), ([3], [4, 5, 6, 7, 8]), *random_examples(seed + 4, 1)]
        check_step(adapted(seed), rows, "left", 2)
    with credit.check("rows without labels, and batches without any", points=1, hint="what is a mean over nothing?"):
        check_step(adapted(seed), [([1, 2, 3], []), *random_examples(seed + 5, 2), ([], [9, 8, 7, 6])], "right", 1)
        model, none = adapted(seed), collate([([1, 2], []), ([], [5])], 258)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
        with checking.unchanged(model=model):
            checking.raises(ValueError, train_step, model, optimizer, none, 1, what="a batch in which no label counts")
    return credit.total()


test_unit_mambaft_step()


# %% [markdown]
# ### What just happened?
#
# Each label was predicted from an unpadded row of its own, and the gradients were yours, whatever the cut. Until late
# 2024 the widely used trainers averaged the averages; the difference had been in their loss curves for years.

# %% [markdown]
# ### Exercise 6: merge
#
# A trained adapter is a matrix to be added. Merged, the model is a plain Mamba again: no second product, every kernel
# works, and any program that can load a Mamba can load yours. The price: you cannot take the adapter off again.

# %% nbgrader={"grade": false, "grade_id": "mambaft-merge", "locked": false, "schema_version": 3, "solution": true, "task": false}
def merge(model: nn.Module) -> int:
    """Replace every LoRALinear in a model by an nn.Linear with the update worked in, in place.

    Args:
        model: with any number of adapters, also none; it is not itself a LoRALinear. A shared layer is the caller's
            fault here too.

    Returns:
        How many layers were merged.

    TODO: Give each adapter's base layer the adapted weight, and put it back into the parent.

    APPROACH:
        1. Compute the new weight before you write, because it is made from the old one.
        2. Write without a graph, because a merged layer is made of plain numbers.
        3. Put the base layer back, because its bias, dtype and device are right already.

    EXAMPLE:
        >>> model = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 4))
        >>> _ = adapt(model, ["0", "1"], rank=2, alpha=4)
        >>> merge(model), type(model[0]).__name__, merge(model)
        (2, 'Linear', 0)

    HINTS:
        1. Collect paths and layers first, as in Exercise 3.
        2. `weight` of Exercise 2 is what you need; tensor.copy_ writes in place.
        3. A frozen parameter can be written under torch.no_grad().
    """
    ### BEGIN SOLUTION
    found = [(path, layer) for path, layer in model.named_modules() if isinstance(layer, LoRALinear)]
    for path, layer in found:
        with torch.no_grad():
            layer.base.weight.copy_(layer.weight)
        parent, _, last = path.rpartition(".")
        setattr(model.get_submodule(parent), last, layer.base)
    return len(found)
    ### END SOLUTION


# %% nbgrader={"grade": false, "grade_id": "mambaft-given-cached", "locked": true, "schema_version": 3, "solution": false, "task": false}
@torch.no_grad()
def cached_logits(model: nn.Module, ids: Tensor, prefill: int) -> Tensor:
    """Logits of the last position after `prefill` and after each later one, by single steps with the cache."""
    out = model(ids[:, :prefill], use_cache=True)
    rows = [out.logits[:, -1]]
    for place in range(prefill, ids.shape[1]):
        out = model(ids[:, place : place + 1], cache_params=out.cache_params, use_cache=True)
        rows.append(out.logits[:, -1])
    return torch.stack(rows, 1)


# %% nbgrader={"grade": true, "grade_id": "test-mambaft-merge", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# Checks: logits at once and step by step with the cache, before and after (2 points); what is left behind (2).
# Catches: a forgotten scaling, the update alone, an update in the wrong place, adapters left in, weights with a graph.
# A pass prints two lines that begin with "earned".
def test_unit_mambaft_merge():
    cases = [(adapted(0), 2), (adapted(1, ("dt_proj", "out_proj")), 2), (mamba(0), 0)]
    ids = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6]])
    ### BEGIN HIDDEN TESTS
    # check: other targets, layers with a bias, other texts
    # hint: compare the model's logits before and after, layer by layer
    seed = checking.secret_seed()
    every = ("in_proj", "x_proj", "dt_proj", "out_proj")
    cases += [(adapted(seed, every, use_bias=True), 4), (adapted(seed + 1, ("out_proj",)), 1)]
    ids = torch.tensor([[random.Random(seed + k).randrange(256) for k in range(9)]])
    ### END HIDDEN TESTS
    credit, merged = checking.Credit(4), []
    with credit.check("the same model, at once and with the cache", points=2, hint="W + s B A, under the old name"):
        for model, count in cases:
            what, logits = f"{count} adapters", model(ids).logits.detach()
            was = {name: p.clone() for name, p in model.named_parameters() if "lora_" not in name and ".base." not in name}
            checking.equal(merge(model), count, what=f"layers merged, {what}")
            merged.append(model)
            # float32 through one or two blocks: logits below 30, hundreds of roundings of 6e-8; adapters move them by 1.
            checking.close(model(ids).logits.detach(), logits, rtol=0, atol=2e-3, what=f"logits, {what}")
            checking.close(cached_logits(model, ids, 3), logits[:, 2:], rtol=0, atol=2e-3, what=f"logits by steps, {what}")
            now = dict(model.named_parameters())
            other = [name for name in was if not torch.equal(now[name], was[name])]
            checking.equal(other, [], what="other weights that moved")
    with credit.check("a plain model is left", points=2, hint="type, parameters and gradients of each layer"):
        for model in merged:
            checking.equal(sorted(model.state_dict()), sorted(mamba(0, num_hidden_layers=len(model.backbone.layers),
                           use_bias=model.config.use_bias).state_dict()), what="names of all weights")
            kinds = {type(m) for path, m in model.named_modules() if path.endswith("_proj")}
            checking.equal(kinds == {nn.Linear}, True, what=f"all layers are nn.Linear ({kinds})")
            checking.equal(all(p.is_leaf for p in model.parameters()), True, what="weights are leaves, without a graph")
        checking.equal(len(merged), len(cases), what="models merged")
    return credit.total()


test_unit_mambaft_merge()

# %% [markdown]
# ### A dataset of your own
#
# All tools are there; now something to teach. The base model has learnt sentences such as "ana sees a red cat. ", in
# which any thing can be red. In the new data each adjective has its thing: what is *red* is a fox. A prompt is the
# beginning of a sentence, half of the time with another in front, so lengths differ; the answer is one word. Two of the
# eight people are kept for the exam.

# %%
SUBJECTS = ("ana", "ben", "eva", "kim", "leo", "mia", "sam", "tom")
VERBS = ("draws", "finds", "holds", "likes", "sees", "wants")
THINGS = {"big": "map", "new": "cup", "red": "fox", "shy": "dog", "tan": "hat", "wet": "pen"}


def sentences(count, seed):
    """The course's sentences, with "tan" for "old": each adjective can stand behind "a"."""
    return tiny.sentences(count, seed=seed).replace(" old ", " tan ")


# %%
def my_dataset(count, seed, subjects=SUBJECTS[:6]):
    """Pairs of a prompt and an answer, as ids: (". ana draws a red ", "fox. ")."""
    chance, pairs = random.Random(seed), []
    for _ in range(count):
        chatter = sentences(chance.randrange(2), seed=chance.randrange(10**6))
        what = chance.choice(list(THINGS))
        prompt = f". {chatter}{chance.choice(subjects)} {chance.choice(VERBS)} a {what} "
        pairs.append((list(prompt.encode()), list(f"{THINGS[what]}. ".encode())))
    return pairs


# %%
for prompt, answer in my_dataset(3, seed=0):
    print(repr(bytes(prompt).decode()), "->", repr(bytes(answer).decode()))

# %% [markdown]
# And a base model. It gets 80 batches of plain sentences and learns to spell them. What is red it cannot know.

# %%
start = time.perf_counter()
base_model = mamba(0)
loss = tiny.pretrain(base_model, tiny.windows(sentences(2000, seed=0), count=80, batch=16, length=32, seed=1))
print(f"pretrained in {time.perf_counter() - start:.1f} s: {loss:.2f} nats a byte (a perfect model reaches about 0.4)")


# %%
def exam(model, count=48):
    """Share of right words for people that were never trained on: one batch, padded on the left, greedy, with cache."""
    pairs = my_dataset(count, seed=99, subjects=SUBJECTS[6:])
    batch = collate([(prompt, []) for prompt, _ in pairs], 258, "left")
    said = model.generate(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], max_new_tokens=3,
                          do_sample=False)[:, -3:].tolist()
    return sum(words == answer[:3] for words, (_, answer) in zip(said, pairs, strict=True)) / count


# %%
print(f"the base model guesses {insight.run(lambda: exam(base_model), needs='Exercise 4 (collate)') or 0:.0%} right")


# %%
def fit(model, steps=16, learning_rate=1.5e-2, micro=16):
    """Train what can be trained on my_dataset; losses, and seconds per step."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=learning_rate, weight_decay=0.0)
    start = time.perf_counter()
    losses = [train_step(model, optimizer, collate(my_dataset(16, seed=step), 258), micro) for step in range(steps)]
    return losses, (time.perf_counter() - start) / steps


# %% [markdown]
# ### Systems insight 3 of 3: what moved?
#
# **Checkpoint**: you can train any subset of the linear layers. **Predict, and write it down**: with rank 4 on all four
# projections, which one moves most, relative to the size of its weight? And how many of its four directions does an
# update really use? Roy and Vetterli's *effective rank* counts them: with singular values $\sigma_i$ and
# $p_i = \sigma_i / \sum_j \sigma_j$ it is $e^{H(p)}$, 4 if all are equal, 1 if one does all the work. (On `dt_proj`, a 64
# by 4 matrix, rank 4 is full rank: 272 numbers for 256. Here that is a curiosity; at full size it is 160 wide.)

# %%
def effective_rank(matrix):
    """exp of the entropy of the normalised singular values."""
    values = torch.linalg.svdvals(matrix.double())
    share = values[values > 1e-12 * values.max()] / values.sum()
    return math.exp(-(share * share.log()).sum().item())


# %%
def what_moved(rank=4):
    """Adapters on everything: the trained model, seconds per step, and (relative size, effective rank) of each update."""
    torch.manual_seed(0)
    model = copy.deepcopy(base_model)
    adapt(model, ["in_proj", "x_proj", "dt_proj", "out_proj"], rank, 2.0 * rank)
    losses, seconds = fit(model)
    moved = {}
    for path, layer in model.named_modules():
        if type(layer) is LoRALinear:
            update = (layer.weight - layer.base.weight).detach()
            moved[path.split("layers.")[1].replace(".mixer", "")] = (
                (update.norm() / layer.base.weight.norm()).item(), effective_rank(update))
    print(f"loss {losses[0]:.2f} -> {losses[-1]:.2f} nats a byte of the answer, exam {exam(model):.0%}, {1000 * seconds:.0f} ms a step")
    return model, seconds, moved


# %%
tuned, step_seconds, moved = insight.run(what_moved, needs="Exercises 2 to 5") or (None, 0.0, {})
for name, (size, directions) in moved.items():
    print(f"block {name:11} moved by {size:6.1%} of its size, effective rank {directions:.2f} of 4")
if moved:
    sizes = {name.replace(".", "\n"): 100 * size for name, (size, _) in moved.items()}
    insight.bars(sizes, ylabel="size of the update, %", title="relative to the frozen weight")


# %% [markdown]
# **What it means in production.** Here every layer moves, and no update gets by with a single direction. On a
# real adapter file look for the opposite: a layer that hardly moves wastes its adapter, and an effective rank well below
# the rank says that a smaller one would have done. You need no data for that, nor the training run: it is the cheapest
# review there is. (A *large* move of `dt_proj` deserves a second look. It changes how long the model remembers, for every
# text.)

# %% [markdown]
# ## Put it together
#
# One test of the whole machine: your adapters trained next to PEFT's from the same numbers, step by step, then
# merged, and generating with the cache. It needs Exercises 2 to 6 and comes last, so it is worth little.

# %% nbgrader={"grade": false, "grade_id": "mambaft-given-peft-model", "locked": true, "schema_version": 3, "solution": false, "task": false}
def twins(seed: int, targets: Sequence[str], rank: int, alpha: float) -> tuple[nn.Module, nn.Module]:
    """A small Mamba with your adapters, and PEFT's own around the same numbers."""
    mine = mamba(seed, num_hidden_layers=1)
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=list(targets), lora_dropout=0.0)
    theirs = get_peft_model(copy.deepcopy(mine), config).eval()
    adapt(mine, targets, rank, alpha)
    lively(mine, seed)
    with torch.no_grad():
        for path, layer in mine.named_modules():
            if type(layer) is LoRALinear:
                twin = theirs.base_model.model.get_submodule(path)
                twin.lora_A["default"].weight.copy_(layer.lora_A)
                twin.lora_B["default"].weight.copy_(layer.lora_B)
    return mine, theirs


# %% nbgrader={"grade": true, "grade_id": "test-mambaft-together", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# Checks: a Mamba with your layers takes the losses of PEFT's, step by step, and is the same after merging.
# Catches: pieces that are right alone and do not fit together.
# A pass prints nothing.
def test_unit_mambaft_together():
    def check(seed, targets, rank, alpha, micro):
        mine, theirs = twins(seed, targets, rank, alpha)
        examples = random_examples(seed, 6)
        batch = collate(examples, 258)
        optimizers = [torch.optim.SGD([p for p in m.parameters() if p.requires_grad], lr=0.3) for m in (mine, theirs)]
        for step in range(4):
            optimizers[1].zero_grad()
            loss = theirs(**batch).loss
            loss.backward()
            optimizers[1].step()
            # float32: losses near 6 nats, a few hundred roundings of 6e-8 in each of four steps.
            checking.close(float(train_step(mine, optimizers[0], batch, micro)), loss.item(), rtol=1e-4, atol=0,
                           what=f"loss of step {step}, beside PEFT's")
        ids = batch["input_ids"][:1]
        logits = mine(ids).logits.detach()
        checking.equal(merge(mine), len(targets), what="layers merged")
        checking.close(cached_logits(mine, ids, 2), logits[:, 1:], rtol=0, atol=2e-3, what="logits of the merged model")

    check(0, ["in_proj", "x_proj"], 2, 4.0, 4)
    ### BEGIN HIDDEN TESTS
    # check: other targets, ranks and batches
    # hint: run the cell's parts one by one on a model of your own and see which exercise disagrees
    check(checking.secret_seed(), ["in_proj"], 3, 6.0, 2)
    ### END HIDDEN TESTS


test_unit_mambaft_together()


# %%
def test_unit_all():
    """Every test again, in order; says which exercises are still open."""
    for name in ("verdict", "layer", "adapt", "collate", "step", "merge", "together"):
        print(f"--- {name}")
        insight.run(globals()[f"test_unit_mambaft_{name}"], needs=f"mambaft-{name}")


test_unit_all()


# %% [markdown]
# ## Use it: which part of Mamba should learn?
#
# First the merged model at work: the same exam, as a plain Mamba. Then the question that each team asks. LoRA on one
# projection, or on all? Only the biases of the convolution and the steps (BitFit)? Or what LoRA cannot wrap, the
# parameters `A_log` and `D`, trained as they are? All arms get the same base, the same data and the same number of steps.

# %%
def merged_exam():
    before = exam(tuned)
    print(f"{merge(copy.deepcopy(tuned))} layers to merge; exam with adapters {before:.0%}, ", end="")
    plain = copy.deepcopy(tuned)
    merge(plain)
    print(f"merged {exam(plain):.0%}")


# %%
if tuned:
    insight.run(merged_exam, needs="Exercises 2 to 6")


# %%
def only(model, ends):
    """Train the parameters whose paths end so, as they are, and nothing else."""
    for path, number in model.named_parameters():
        number.requires_grad_(path.endswith(ends))
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


# %%
ARMS = {
    "in_proj": lambda m: adapt(m, ["in_proj"], 4, 8.0),
    "x_proj": lambda m: adapt(m, ["x_proj"], 4, 8.0),
    "dt_proj": lambda m: adapt(m, ["dt_proj"], 4, 8.0),
    "out_proj": lambda m: adapt(m, ["out_proj"], 4, 8.0),
    "biases": lambda m: only(m, ("conv1d.bias", "dt_proj.bias")),
    "A_log, D": lambda m: only(m, ("A_log", ".D")),
    "all four": lambda m: adapt(m, ["in_proj", "x_proj", "dt_proj", "out_proj"], 4, 8.0),
}


# %%
def compare_arms():
    """For each arm: numbers trained, last loss, and share right in the exam."""
    rows = {}
    for name, prepare in ARMS.items():
        torch.manual_seed(0)
        model = copy.deepcopy(base_model)
        numbers = prepare(model)
        losses, _ = fit(model)
        rows[name] = {"numbers": numbers, "loss": sum(losses[-4:]) / 4, "right": exam(model)}
        print(f"{name:9} {numbers:6,} numbers, loss {rows[name]['loss']:.2f}, exam {rows[name]['right']:.0%}")
    return rows


# %%
rows = insight.run(compare_arms, needs="Exercises 1 to 6") or {}
if rows:
    insight.bars({name.replace(" ", "\n"): 100 * row["right"] for name, row in rows.items()}, ylabel="right words, %",
                 title="exam on people never trained on")


# %% [markdown]
# One model, one seed, one task: read it as a hint, not as a law. Here `in_proj` and `out_proj` do the work. The order of
# the rest is chance: with one adjective of the data changed, `x_proj` alone fell behind `A_log` and `D`. At scale others
# also report that the large linear projections matter most (Galim et al. 2024; Yoshimura et al. 2024). The same in PEFT
# takes four lines; its merged model is a plain Mamba, too.

# %%
def by_peft():
    torch.manual_seed(0)
    model = get_peft_model(copy.deepcopy(base_model), LoraConfig(r=4, lora_alpha=8, target_modules=["in_proj", "x_proj"]))
    fit(model)
    plain = model.merge_and_unload()
    print(f"PEFT on in_proj and x_proj, merged: {type(plain).__name__}, exam {exam(plain):.0%}")


if tuned:
    insight.run(by_peft, needs="Exercises 4 and 5")


# %% [markdown]
# ## On your Spark
#
# Full size: Mamba-2.8B in bfloat16, with adapters of rank 16, in 128 GB of unified memory. First the sizes, from
# arithmetic: what each target costs, and what training needs before the first activation (bf16 weights; for each trained
# number a float32 copy, a gradient and two moments of Adam).

# %%
def predict_2_8b(rank=16, layers=64, width=2560, inner=5120, steps=160, states=16, parameters=2_768_345_600):
    shapes = {"in_proj": (width, 2 * inner), "x_proj": (inner, steps + 2 * states), "dt_proj": (steps, inner),
              "out_proj": (inner, width)}
    for name, (d_in, d_out) in shapes.items():
        numbers = layers * rank * (d_in + d_out)
        print(f"LoRA on {name:9} {numbers / 1e6:6.1f} million numbers, {(2 * parameters + 16 * numbers) / 1e9:5.1f} GB")
    print(f"everything        {parameters / 1e6:8.1f} million numbers, {18 * parameters / 1e9:5.1f} GB")


predict_2_8b()

# %% [markdown]
# ```bash
# sync; echo 3 | sudo tee /proc/sys/vm/drop_caches   # unified memory: the file cache would take from the GPU's share
# docker run --gpus all -it --rm --ipc=host -p 8888:8888 -v $PWD:/workspace \
#     -v $HOME/.cache/huggingface:/hf -e HF_HOME=/hf nvcr.io/nvidia/pytorch:25.11-py3
# ```
#
# In the container `pip install "transformers>=5.23" "peft>=0.21"` and the course's package. Run once without and once with
# `mamba_ssm` and `causal_conv1d` installed: how many of your 64 adapters on `x_proj` have a gradient in each case, and how
# many would PEFT's have? (Here adapters are in bf16 too, so the peak may be below the prediction.) Set `RUN_ON_SPARK`. This section has **not yet been measured on a GPU** by the authors: your record is the first.

# %%
RUN_ON_SPARK = False


# %%
def run_on_spark(path="state-spaces/mamba-2.8b-hf", steps=20, length=1024, rows=4):
    """Train your adapters on in_proj and x_proj; returns the record. Needs a GPU with 40 GB free."""
    model = MambaForCausalLM.from_pretrained(path, dtype=torch.bfloat16).to("cuda").train()
    numbers = adapt(model, ["in_proj", "x_proj"], 16, 32.0)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=2e-4, weight_decay=0.0)
    text = sentences(steps * rows * length // 10, seed=0).encode()
    torch.cuda.reset_peak_memory_stats()
    start, losses = time.perf_counter(), []
    for step in range(steps):
        at = [(step * rows + row) * length for row in range(rows)]
        batch = collate([([], list(text[k : k + length])) for k in at], 0)
        losses.append(train_step(model, optimizer, {name: t.cuda() for name, t in batch.items()}, micro=1))
    learnt = {part: sum(bool(layer.lora_B.grad.any()) for name, layer in model.named_modules() if name.endswith(part)
              and layer.lora_B.grad is not None) for part in ("in_proj", "x_proj")}
    seconds, peak = time.perf_counter() - start, torch.cuda.max_memory_allocated() / 1e9
    return {"gpu": torch.cuda.get_device_name(), "numbers": numbers, "seconds_per_step": seconds / steps, "peak_gb": peak,
            "first_loss": losses[0], "last_loss": losses[-1], "alive": learnt}


# %% [markdown]
# (The bytes of the text serve as ids here, so that no tokenizer is needed; use the model's own for data that matters.)
# Record what you measured. `run_on_spark()` fills it in for you. Without such a machine leave it as it is: nothing is lost.

# %%
spark_record = {"gpu": None, "numbers": None, "seconds_per_step": None, "peak_gb": None, "first_loss": None,
                "last_loss": None}

# %%
if RUN_ON_SPARK:
    spark_record = run_on_spark()


# %% nbgrader={"grade": false, "grade_id": "mambaft-given-spark-record", "locked": true, "schema_version": 3, "solution": false, "task": false}
def check_spark_record(record: dict) -> str:
    """Form and plausibility of a record. Nothing here earns points; a person reads it."""
    wanted = {"numbers": (10**5, 10**8), "seconds_per_step": (0.05, 600), "peak_gb": (5, 128), "first_loss": (0.1, 30),
              "last_loss": (0.01, 30)}
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
# **1. A weight without its update.**
#
# ```python
# def weight(self): return self.base.weight                         # wrong: whoever reads it walks past the adapter
# ```
# Everything that *calls* the layer is right, so most tests pass. `dt_proj` never learns.
#
# **2. Both factors at zero.**
#
# ```python
# A = zeros(r, d_in); B = zeros(d_out, r)                           # wrong: B's gradient has A in it, and A's has B
# ```
# The output is right at the start, and it stays so for ever.

# %% [markdown]
# **3. Names by their ends.**
#
# ```python
# if path.endswith("proj"): ...                                     # wrong: takes in_proj, out_proj, and my_proj
# if path.split(".")[-1] == target: ...                             # right
# ```
#
# **4. The mean of means.**
#
# ```python
# (model(**part).loss / parts).backward()                           # wrong: few labels in a part count for more
# (cross_entropy(..., reduction="sum") / all_labels).backward()     # right
# ```
# And with a part that has no labels the whole gradient is NaN.

# %% [markdown]
# **5. A mask from the ids.**
#
# ```python
# mask = (ids != pad).long()                                        # wrong when the pad is also a token, as eos often is
# ```
# The model then never learns to stop, for its own end token is masked, or left out of the labels.
#
# **6. Generating from the right.**
#
# ```python
# collate(prompts, pad)                                             # wrong: the state has faded, the last position is padding
# collate(prompts, pad, "left")                                     # right, together with the mask
# ```

# %% [markdown]
# ## Reflect
#
# Three questions on *your* code and *your* measurements. Five to ten lines each; numbers without a source in this
# notebook earn nothing.

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-mambaft-targets", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Reflection 1: memory and targets (3 points).** You may train 10 million numbers of Mamba-2.8B. Use `rows`, `moved` and the
# prediction of *On your Spark*: which targets do you choose at which rank, and why? What does training all weights need
# in memory, and what of that does LoRA save, and what does it not save?
#
# ### BEGIN SOLUTION
# in_proj costs 13.1 million at rank 16, so 9.8 million at rank 12; x_proj alone 5.4 million at rank 16. (Student's numbers:)
# in `rows` in_proj and out_proj learn most, the state's own parameters and x_proj least; `moved` shows an effective rank
# below 4, so a lower rank on more layers is a good use: in_proj at rank 8 (6.6 million) with out_proj at 6 (2.9 million).
# out_proj only with layers whose weight carries the update, or without fused kernels. All weights: 18 bytes a number,
# 49.8 GB; LoRA: 5.5 GB weights plus 0.2 GB. It saves gradients, moments and copies; it does not save activations, which
# grow with batch and length, nor the forward pass.
#
# ### BEGIN MARK SCHEME
# - 1 point: a choice within 10 million, counted as layers * rank * (d_in + d_out), with `rows` quoted.
# - 1 point: uses effective rank or size of `moved` to argue for the rank.
# - 1 point: 50 GB against about 5.7 GB, AND that activations stay. Only one of the two: half a point.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-mambaft-padding", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Reflection 2: integration (3 points).** Your server generates for 32 prompts of 20 to 20,000 tokens in one batch. From the
# figure of insight 2: what goes wrong with padding on the right, for which prompts most, and does the attention mask help?
# What does padding on the left cost here that a transformer's batch pays too, and what could you do with Mamba's state
# that avoids padding altogether?
#
# ### BEGIN SOLUTION
# On the right the state goes on after the text: without a mask the pads are read (77 % here), with it the
# state fades towards 0 (100 % at 64 pads; the student's numbers). The short prompts lose most, as they have the
# most padding; their answers depend on the longest prompt in the batch. The mask stops the reading, not the fading. Left
# with the mask is exact (0 in the figure), but 31 rows may compute up to 19,980 positions of nothing, as a transformer
# would. Mamba's state has one size whatever the length: prefill each prompt alone (or in groups of like lengths), then
# stack the states into one batch for decoding. No padding at all.
#
# ### BEGIN MARK SCHEME
# - 1 point: right padding: short prompts suffer most, with a number from their own figure.
# - 1 point: distinguishes reading the pads from the fading of the state: the mask prevents only the first.
# - 1 point: prefill apart, stack the states of fixed size; or chunks with carried state. "Sort by length" alone: half.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown] nbgrader={"grade": true, "grade_id": "reflect-mambaft-production", "locked": false, "points": 3, "schema_version": 3, "solution": true, "task": false}
# **Reflection 3: production (3 points).** A colleague hands you a config for a new hybrid model with twelve target names, and a
# run that "works, the loss falls". Which of your functions do you run before you believe it, in which order, and what would
# each catch that the loss does not show? Quote `living`. When would you *not* merge?
#
# ### BEGIN SOLUTION
# (1) lora_verdict for all twelve: bypassed, shared and parameter targets. In training mode on the GPU, since fused kernels
# exist only there. (2) adapt, and compare its count with the closed form: typing errors, too many layers. (3) One backward
# pass and alive() per target: in `living` PEFT's dt_proj has 0 numbers with a gradient, yet in_proj learns, so the loss
# falls. (4) train_step with micro 1 and with all rows: equal losses, or the weighting is wrong. (5) after training the
# sizes of `moved`; merge, and compare logits with the cache. Not merging: several adapters on one base, quantised base,
# adapter still under test, tied weights.
#
# ### BEGIN MARK SCHEME
# - 1 point: verdict before training and a gradient check after one backward pass, quoting `living`.
# - 1 point: at least one more check (count, cut, cached logits) with a fault that the loss hides.
# - 1 point: a valid reason not to merge. "It cannot be undone" alone: half a point.
# ### END MARK SCHEME
# ### END SOLUTION

# %% [markdown]
# ## Summary
#
# What you built, in the numbers of your own run:

# %%
def summary():
    for name, (some, total) in living.items():
        print(f"{name.replace(chr(10), ', ')}: {some / total:.0%} of B with a gradient")
    print("state after 64 pads:", {name: f"{errors[-1]:.1%} changed" for name, errors in padded[1].items()})
    best = max(rows, key=lambda name: rows[name]["right"])
    print(f"best in the exam: {best} with {rows[best]['numbers']:,} numbers, {rows[best]['right']:.0%} right")
    print(f"a step with adapters everywhere took {1000 * step_seconds:.0f} ms")


# %%
insight.run(summary, needs="Exercises 1 to 6")

# %% [markdown]
# ## Challenge (optional)
#
# 1. **LoRA on a parameter**: PEFT's `target_parameters=["A_log"]` can wrap a matrix that belongs to no layer. Write it yourself
#    with `torch.nn.utils.parametrize`. Why does it refuse `D`?
# 2. **A state to begin with**: train nothing but an initial state $h_0$ per layer (initial-state tuning). How many numbers is
#    that, and where does it stand in `rows`? What becomes of it after 1,000 tokens?
# 3. **No padding**: make a batch of states from prompts that were prefilled one by one, and decode them together.
#
# ## Further reading
#
# - E. Hu et al., *LoRA: Low-Rank Adaptation of Large Language Models*, 2021, arXiv:2106.09685.
# - A. Gu and T. Dao, *Mamba: Linear-Time Sequence Modeling with Selective State Spaces*, 2023, arXiv:2312.00752.
# - K. Galim et al., *Parameter-Efficient Fine-Tuning of State Space Models*, 2024, arXiv:2410.09016.
# - M. Yoshimura et al., *MambaPEFT: Exploring Parameter-Efficient Fine-Tuning for Mamba*, 2024, arXiv:2411.03855.
# - E. Ben Zaken et al., *BitFit*, 2021, arXiv:2106.10199; O. Roy and M. Vetterli, *The Effective Rank*, 2007.
# - In PEFT's source, `_check_lora_target_modules_mamba`; in transformers', `MambaMixer.forward`.

# %% [markdown]
# ## Clean up
#
# Drop the models and the figures; on a machine with a GPU this also returns its memory.

# %%
from matplotlib import pyplot

pyplot.close("all")
base_model = tuned = None
if torch.cuda.is_available():
    torch.cuda.empty_cache()
