"""A byte-level tokenizer: any text, no training, no unknown token."""

from __future__ import annotations

from collections.abc import Iterable


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
