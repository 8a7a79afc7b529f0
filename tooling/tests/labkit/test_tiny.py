"""labkit.tiny: the same from the same seed, offline, and learnable in seconds."""

import math
import socket

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from labkit import tiny

FAST = tiny.fast_tokenizer()


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


@given(st.text())
def test_the_fast_tokenizer_has_the_same_tokens(text):
    plain, fast = tiny.ByteTokenizer(), FAST
    assert fast(text)["input_ids"] == plain.encode(text)
    assert fast.decode(plain.encode(text), skip_special_tokens=True) == text
    assert fast("<eos>")["input_ids"] == [plain.eos_token_id] and fast.pad_token_id == plain.pad_token_id
    assert fast.bos_token_id == plain.bos_token_id and len(fast) == plain.vocab_size


def test_a_chat_is_a_line_for_each_message_and_marks_what_the_assistant_said():
    chat = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    assert FAST.apply_chat_template(chat, tokenize=False) == "user: hi\nassistant: hello<eos>"
    asked = FAST.apply_chat_template(chat[:1], tokenize=False, add_generation_prompt=True)
    assert asked == "user: hi\nassistant: "
    out = FAST.apply_chat_template(chat, tokenize=True, return_dict=True, return_assistant_tokens_mask=True)
    said = [t for t, mine in zip(out["input_ids"], out["assistant_masks"], strict=True) if mine]
    assert FAST.decode(said) == "hello<eos>"


def test_preferences_differ_in_what_was_asked_for_and_in_nothing_else():
    assert tiny.preferences(0, seed=1) == []
    plain = tiny.preferences(200, seed=1)
    assert plain == tiny.preferences(200, seed=1) != tiny.preferences(200, seed=2)
    for pair in plain:
        subject, adjective, noun = pair["prompt"].removesuffix(": ").split()
        assert pair["chosen"].startswith(f"{subject} ") and pair["rejected"].startswith(f"a {adjective} {noun} ")
        assert sorted(pair["chosen"][:-1].split()) == sorted(pair["rejected"][:-1].split())
    for side, other in (("chosen", "rejected"), ("rejected", "chosen")):
        longer = tiny.preferences(200, seed=1, longer=side)
        assert [p[other] for p in longer] == [p[other] for p in plain]
        assert all(len(p[side]) == len(p[other]) + len(" and so on") for p in longer)
    noisy = tiny.preferences(200, seed=1, flipped=0.3)
    turned = [{**p, "chosen": p["rejected"], "rejected": p["chosen"]} for p in plain]
    assert all(got in either for got, *either in zip(noisy, plain, turned, strict=True))
    assert 30 < sum(got == other for got, other in zip(noisy, turned, strict=True)) < 90
    with pytest.raises(ValueError, match="both"):
        tiny.preferences(1, seed=1, longer="both")
