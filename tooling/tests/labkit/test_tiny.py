"""labkit.tiny: the same from the same seed, offline, and learnable in seconds."""

import math
import socket

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from labkit import tiny


@given(st.text())
def test_any_text_survives_the_tokenizer(text):
    tokenizer = tiny.ByteTokenizer()
    ids = tokenizer.encode(text)
    assert all(0 <= token < 256 for token in ids)
    assert tokenizer.decode([tokenizer.bos_token_id, *ids, tokenizer.eos_token_id, tokenizer.pad_token_id]) == text


def test_a_broken_sequence_decodes_to_a_replacement():
    assert tiny.ByteTokenizer().decode(torch.tensor([0xE2, 0x82])) == "\ufffd"


def test_both_orders_tell_the_same_stories():
    assert tiny.sentences(0, seed=1) == ""
    plain, turned = tiny.sentences(50, seed=1), tiny.sentences(50, seed=1, order="osv")
    assert plain != tiny.sentences(50, seed=2)
    assert [sorted(s.split()) for s in plain.split(". ")] == [sorted(s.split()) for s in turned.split(". ")]
    subject, verb, a, adjective, noun = plain.split(". ")[0].split()
    assert turned.startswith(f"{a} {adjective} {noun} {subject} {verb}. ")
    with pytest.raises(ValueError, match="vos"):
        tiny.sentences(1, seed=1, order="vos")


def test_windows_are_pieces_of_the_text_to_its_last_byte():
    text = "0123456789"
    batches = tiny.windows(text, count=40, batch=8, length=4, seed=3)
    assert [tuple(b.shape) for b in batches] == [(8, 4)] * 40
    pieces = {tiny.ByteTokenizer().decode(row) for b in batches for row in b}
    assert pieces == {text[i : i + 4] for i in range(7)}
    assert torch.equal(torch.stack(batches), torch.stack(tiny.windows(text, count=40, batch=8, length=4, seed=3)))
    assert tiny.windows(text, count=1, batch=1, length=10, seed=0)[0].shape == (1, 10)
    with pytest.raises(ValueError, match="10 bytes"):
        tiny.windows(text, count=1, batch=1, length=11, seed=0)


def test_a_model_is_its_seed_and_touches_nothing_else(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a tiny model reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    torch.manual_seed(7)
    first = tiny.llama(1)
    after = torch.rand(1)
    torch.manual_seed(7)
    assert torch.equal(torch.rand(1), after)
    assert all(map(torch.equal, first.parameters(), tiny.llama(1).parameters()))
    assert not torch.equal(first.lm_head.weight, tiny.llama(2).lm_head.weight)
    assert sum(p.numel() for p in first.parameters()) == 107_200
    assert not first.training
    assert tiny.llama(1, num_hidden_layers=1).config.num_hidden_layers == 1


def test_pretraining_learns_the_grammar():
    model = tiny.llama(0)
    loss = tiny.pretrain(model, tiny.windows(tiny.sentences(2000, seed=0), count=80, batch=16, length=48, seed=1))
    assert loss < 1.5 < 0.5 * math.log(tiny.ByteTokenizer.vocab_size)
    assert not model.training
    assert all(p.grad is None for p in model.parameters())
