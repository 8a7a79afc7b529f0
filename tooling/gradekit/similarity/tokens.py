"""What of a student's cell is compared: tokens in which names, literals, comments and layout make no difference.

Code is read by Pygments' lexer, which takes whatever a student left: half a function, a magic, no Python at all.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache

from pygments.lexers import PythonLexer
from pygments.token import Comment, Keyword, Name, Number, Operator, Punctuation, String, Text, Whitespace, _TokenType

_CALLABLE = frozenset(name for name in dir(builtins) if not name.startswith("_"))
_MAGIC = re.compile(r"^([ \t]*)[%!?].*$", re.MULTILINE)
_WORD = re.compile(r"[^\W_]+")
_BLOCK = re.compile(r"^(?: {0,4}|\t?)(?:async\s+def\b|def\b|class\b|@)")


@dataclass(frozen=True)
class Token:
    """A token as it is compared, and its place in the cell's source, in characters."""

    symbol: str
    start: int
    end: int


def code_blocks(source: str, own: Collection[str] = ()) -> list[list[Token]]:
    """The tokens of each function, and of each stretch of statements between functions: what can change its order.

    Args:
        own: attributes that the notebook defines itself; see ``own_attributes``.
    """
    tokens = list(code_tokens(source, own))
    blocks: list[list[Token]] = []
    starts = iter([*_block_starts(source), len(source) + 1])
    end = next(starts)
    for token in tokens:
        if token.start >= end or not blocks:
            while token.start >= end:
                end = next(starts)
            blocks.append([])
        blocks[-1].append(token)
    return blocks


def code_tokens(source: str, own: Collection[str] = ()) -> Iterator[Token]:
    """The tokens of Python code.

    A name stands for any other, unless it is an attribute that the notebook does not define itself (``.einsum``) or a
    call of a builtin. A number stands for any number, a string for any string. Comments, docstrings, magics and
    trailing commas are left out.
    """
    lexed = _lex(source)
    previous = ""
    for index, (start, kind, text) in enumerate(lexed):
        after = lexed[index + 1][2] if index + 1 < len(lexed) else ""
        if kind == "string":
            if previous == "S":
                continue
            symbol = "S"
        elif kind == "number" or text in ("True", "False"):
            symbol = "N"
        elif kind == "name":
            is_attribute = previous == "." and text not in own
            is_call = after == "(" and text in _CALLABLE
            symbol = f"n {text}" if is_attribute or is_call else "V"
        elif text == "," and after in (")", "]", "}"):
            continue
        else:
            symbol = text if kind == "sign" else "V"
        previous = symbol
        yield Token(symbol, start, start + len(text))


def own_attributes(sources: Iterable[str]) -> frozenset[str]:
    """What code defines or assigns as an attribute: a copy may call it otherwise."""
    own = set()
    for source in sources:
        texts = [text for _, _, text in _lex(source)]
        for before, name, after in zip(["", *texts], texts, [*texts[1:], ""], strict=False):
            if before in ("def", "class") or (before == "." and after in ("=", ":")):
                own.add(name)
    return frozenset(own)


def words(text: str) -> list[Token]:
    """The words of a written answer, whatever their case and what stands between them."""
    return [Token(f"w {match[0].casefold()}", match.start(), match.end()) for match in _WORD.finditer(text)]


@lru_cache(maxsize=512)  # a cell is read for what it defines, and then for its tokens
def _lex(source: str) -> list[tuple[int, str, str]]:
    """Place, kind and text of what counts."""
    source = _MAGIC.sub(lambda match: match[1] + "#" * (len(match[0]) - len(match[1])), source)
    lexed = ((start, _kind(token), text) for start, token, text in PythonLexer().get_tokens_unprocessed(source))
    return [(start, kind, text) for start, kind, text in lexed if kind and not text.isspace()]


@cache
def _kind(token: _TokenType) -> str:
    """``string``, ``number``, ``name``, ``sign`` (a keyword too), ``other``, or nothing for what does not count."""
    kinds = {
        "": (Comment, Text, Whitespace, String.Doc),
        "sign": (Keyword, Operator, Punctuation, String.Interpol, Name.Decorator),
        "string": (String,),
        "number": (Number,),
        "name": (Name,),
    }
    return next((kind for kind, types in kinds.items() if any(token in one for one in types)), "other")


def _block_starts(source: str) -> Iterator[int]:
    """Where a function, a class or a stretch of other top-level statements begins."""
    place, inside, decorated = 0, False, False
    for line in source.splitlines(keepends=True):
        if _BLOCK.match(line):
            if not decorated:
                yield place
            inside, decorated = True, line.lstrip().startswith("@")
        elif inside and line.strip() and line[0] not in " \t)]}#":
            yield place
            inside = decorated = False
        place += len(line)
