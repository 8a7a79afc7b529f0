"""A byte-level tokenizer: any text, no training, no unknown token."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

#: "user: hi\nassistant: hello<eos>"; the generation marks let trl train on the assistant's words alone.
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] + ': ' }}{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)


class ByteTokenizer:
    """UTF-8 bytes are the tokens 0 to 255; three specials follow.

    Attributes:
        bos_token_id, eos_token_id, pad_token_id: begin (256), end (257) and padding (258).
        vocab_size: 259.
    """

    bos_token_id = 256
    eos_token_id = 257
    pad_token_id = 258
    vocab_size = 259

    def encode(self, text: str) -> list[int]:
        """The token ids of `text`, without specials."""
        return list(text.encode("utf-8"))

    def decode(self, ids: Iterable[int]) -> str:
        """The text of token ids; specials are dropped, a broken UTF-8 sequence becomes U+FFFD."""
        return bytes(token for token in map(int, ids) if token < 256).decode("utf-8", errors="replace")


def fast_tokenizer() -> PreTrainedTokenizerFast:
    """The tokens of `ByteTokenizer`, in the class that transformers, trl and peft want.

    It adds no specials of its own, pads on the right, and has a chat template: `role: content`, one message a line.
    """
    letters = bytes_to_unicode()
    tokenizer = Tokenizer(models.BPE(vocab={letters[byte]: byte for byte in range(256)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in ("<bos>", "<eos>", "<pad>")])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
    )
