"""Corpora from a seed: small enough to learn in seconds, structured enough that a model has something to learn."""

from __future__ import annotations

import random
from typing import Literal

import torch
from torch import Tensor

from labkit.tiny.tokenizer import ByteTokenizer

_SUBJECTS = ("ana", "ben", "eva", "kim", "leo", "mia", "sam", "tom")
_VERBS = ("draws", "finds", "holds", "likes", "sees", "wants")
_ADJECTIVES = ("big", "new", "old", "red", "shy", "wet")
_NOUNS = ("bee", "cat", "cup", "dog", "fox", "hat", "map", "pen")


def sentences(count: int, seed: int, order: Literal["svo", "osv"] = "svo") -> str:
    """Sentences of one clause, in one of two word orders.

    Args:
        count: how many, at least 0.
        seed: the same seed gives the same people, deeds and things in either order.
        order: "svo" as English has it, "ana sees a red cat. "; "osv", "a red cat ana sees. ".

    Returns:
        The text, each sentence ended by ". ". An ideal model of it has a loss of ln(8 * 6 * 6 * 8) = 7.7 nats a
        sentence, about 0.38 a byte: the choice of the four words, and nothing else.
    """
    if order not in ("svo", "osv"):
        raise ValueError(f'order is "svo" or "osv", not {order!r}')
    chance = random.Random(seed)
    text = []
    for _ in range(count):
        subject, verb, adjective, noun = map(chance.choice, (_SUBJECTS, _VERBS, _ADJECTIVES, _NOUNS))
        thing = f"a {adjective} {noun}"
        text.append(f"{subject} {verb} {thing}. " if order == "svo" else f"{thing} {subject} {verb}. ")
    return "".join(text)


def preferences(
    count: int, seed: int, *, longer: Literal["", "chosen", "rejected"] = "", flipped: float = 0.0
) -> list[dict[str, str]]:
    """Pairs of answers of which people like one better: they prefer English word order.

    Args:
        count: how many pairs, at least 0.
        seed: the same seed gives the same prompts and answers, whatever the other arguments.
        longer: which answer goes on, " and so on", and is 10 characters longer; else both are of one length.
        flipped: probability that the two answers of a pair change places, as by a mistake of the annotator.

    Returns:
        Dicts of "prompt" ("ana red cat: "), "chosen" ("ana sees a red cat.") and "rejected" ("a red cat ana sees.").
    """
    if longer not in ("", "chosen", "rejected"):
        raise ValueError(f'longer is "", "chosen" or "rejected", not {longer!r}')
    chance, mistakes = random.Random(seed), random.Random(seed + 1)
    pairs = []
    for _ in range(count):
        subject, verb, adjective, noun = map(chance.choice, (_SUBJECTS, _VERBS, _ADJECTIVES, _NOUNS))
        thing = f"a {adjective} {noun}"
        answers = {"chosen": f"{subject} {verb} {thing}", "rejected": f"{thing} {subject} {verb}"}
        answers = {side: text + (" and so on." if side == longer else ".") for side, text in answers.items()}
        if mistakes.random() < flipped:
            answers = {"chosen": answers["rejected"], "rejected": answers["chosen"]}
        pairs.append({"prompt": f"{subject} {adjective} {noun}: ", **answers})
    return pairs


def windows(text: str, *, count: int, batch: int, length: int, seed: int) -> list[Tensor]:
    """Batches for a causal language model: windows of `text`, in bytes, that begin at random places.

    Args:
        text: at least `length` bytes in UTF-8.
        count: number of batches.
        batch, length: shape of each, in windows and tokens.
        seed: of the places.

    Returns:
        `count` int64 tensors of shape (batch, length); a causal model shifts the labels itself.
    """
    tokens = torch.tensor(ByteTokenizer().encode(text))
    if len(tokens) < length:
        raise ValueError(f"the text has {len(tokens)} bytes, a window needs {length}")
    generator = torch.Generator().manual_seed(seed)
    starts = torch.randint(len(tokens) - length + 1, (count, batch, 1), generator=generator)
    return list(tokens[starts + torch.arange(length)])
