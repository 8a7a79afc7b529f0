"""Tiny models, tokenizers and corpora, made on the spot from a seed, offline.

Small enough for a laptop's processor, and otherwise the real thing: the model is transformers' Llama, so what is
written for it runs unchanged on one of eight billion parameters.
"""

from labkit.tiny.corpora import preferences, sentences, windows
from labkit.tiny.models import llama, pretrain
from labkit.tiny.tokenizer import ByteTokenizer, fast_tokenizer

__all__ = ["ByteTokenizer", "fast_tokenizer", "llama", "preferences", "pretrain", "sentences", "windows"]
