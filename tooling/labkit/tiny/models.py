"""Tiny language models: transformers' own classes, from a config and a seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from labkit.tiny.tokenizer import ByteTokenizer


def llama(seed: int, **changes: Any) -> LlamaForCausalLM:
    """An untrained Llama of 107,200 float32 parameters on the CPU, in evaluation mode.

    Two blocks, width 64, four query heads over two key-value heads, so that q_proj (64 to 64) and v_proj (64 to 32)
    differ in shape as they do in the large models. The global random state is left as it was.

    Args:
        seed: of the weights.
        changes: any field of `transformers.LlamaConfig`, such as `num_hidden_layers=4`.
    """
    fields: dict[str, Any] = {
        "vocab_size": ByteTokenizer.vocab_size,
        "bos_token_id": ByteTokenizer.bos_token_id,
        "eos_token_id": ByteTokenizer.eos_token_id,
        "pad_token_id": ByteTokenizer.pad_token_id,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "tie_word_embeddings": False,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(LlamaConfig(**{**fields, **changes})).eval()


def pretrain(model: LlamaForCausalLM, batches: Sequence[Tensor], *, peak: float = 1e-2) -> float:
    """Train every parameter once over `batches` (token ids), in place: AdamW, one cycle of the learning rate, clipping.

    Returns:
        The loss of the last batch, in nats a token. The model is left in evaluation mode, its gradients cleared.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, peak, total_steps=len(batches))
    model.train()
    for ids in batches:
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.eval()
    return loss.item()
