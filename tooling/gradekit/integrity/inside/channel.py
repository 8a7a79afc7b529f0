"""Messages between the guard's two halves: one datagram each, authenticated, never interpreted as anything but text.

The kernel's end lies in a process of hostile code, which can write to it, close it or put another file in its place. It
cannot make a message that is believed, because each carries a keyed digest, and cannot make one vanish, because each
has to be answered.
"""

from __future__ import annotations

from _blake2 import blake2b

_MAC = 16
_FIELD, _ROW = "\x1f", "\x1e"
LONGEST = 1 << 16


def pack(key: bytes, way: bytes, number: int, rows: list[list[str]]) -> bytes:
    """A message. ``way`` says who speaks and of what, so that no message can be sent back as another."""
    text = _ROW.join([_FIELD.join([_clean(x) for x in row]) for row in [[str(number)], *rows]])
    body = text.encode("utf-8", "replace")[: LONGEST - _MAC]
    return blake2b(way + body, key=key, digest_size=_MAC).digest() + body


def unpack(key: bytes, way: bytes, data: bytes) -> tuple[int, list[list[str]]] | None:
    """Number and rows of a message; None when it is not one, or not from the other half."""
    digest, body = data[:_MAC], data[_MAC:]
    if blake2b(way + body, key=key, digest_size=_MAC).digest() != digest:
        return None
    head, *rows = [row.split(_FIELD) for row in body.decode("utf-8", "replace").split(_ROW)]
    return int(head[0]), rows


def digest(text: str) -> str:
    """A short name for a text."""
    return blake2b(text.encode("utf-8", "replace"), digest_size=_MAC).hexdigest()


def _clean(text: str) -> str:
    return text.replace(_FIELD, " ").replace(_ROW, " ")[:500]
