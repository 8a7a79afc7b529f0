"""A code cell as Python: IPython's magics and shell lines are calls like any other once they are translated."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from IPython.core.inputtransformer2 import TransformerManager

#: IPython translates one magic at a time and reads the cell again after each.
MAX_MAGICS = 100
#: Magics whose text is Python that runs here.
PYTHON_MAGICS = frozenset({"capture", "memit", "mprun", "lprun", "prun", "time", "timeit"})
_TRANSLATED = ("run_line_magic", "run_cell_magic", "system", "getoutput")


class Unreadable(Exception):
    """The cell is not Python, even after its magics have been translated."""


@dataclass(frozen=True)
class Magic:
    """One magic or shell line: ``%name text`` or ``%%name text``, ``!text`` with the name ``!``."""

    line: int
    name: str
    text: str


@dataclass(frozen=True)
class Code:
    """A syntax tree, whose lines count from the start of the cell, and the magics that stand in it."""

    tree: ast.Module
    magics: tuple[Magic, ...]


def parse(source: str) -> Iterator[Code]:
    """The Python of a cell, and of the magics in it that run Python.

    Raises:
        Unreadable: it has a syntax error, or more than ``MAX_MAGICS`` magics.
    """
    yield from _parse(source, 1, nested=2)


def _parse(source: str, first: int, nested: int) -> Iterator[Code]:
    try:
        tree, magics = _tree(source), []
        if tree is None:
            tree = _tree(_translate(source))
            if tree is None:
                raise Unreadable("a syntax error")
            taker = _MagicTaker(source, first)
            tree = taker.visit(tree)
            magics = taker.magics
        ast.increment_lineno(tree, first - 1)
    except (RecursionError, MemoryError, ValueError) as error:  # nested too deeply, or a null byte
        raise Unreadable(str(error) or type(error).__name__) from None
    yield Code(tree, tuple(magics))
    for magic in magics:
        if magic.name in PYTHON_MAGICS and nested:
            # What is timed, without the magic's own options (-n 10 -r 3); a cell's body starts on the next line.
            statement, _, body = magic.text.partition("\n")
            words = statement.split()
            while words and words[0].startswith("-"):
                words = words[1:] if len(words[0]) > 2 or len(words) < 2 or not words[1].isdigit() else words[2:]
            for text, line in ((" ".join(words), magic.line), (body, magic.line + 1)):
                with suppress(Unreadable):
                    yield from _parse(text, line, nested - 1)


def _tree(source: str) -> ast.Module | None:
    try:
        return ast.parse(source)
    except SyntaxError:
        return None


def _translate(source: str) -> str:
    starts = sum("%" in line or "!" in line or "?" in line for line in source.splitlines())
    if starts > MAX_MAGICS and not source.lstrip().startswith("%%"):
        raise Unreadable(f"{starts} lines that may be magics")
    try:
        return TransformerManager().transform_cell(source)
    except Exception as error:  # IPython raises what its tokenizer does
        raise Unreadable(str(error)) from None


class _MagicTaker(ast.NodeTransformer):
    """Takes the calls that stand for magics out of a tree: what is left calls ``get_ipython`` in the author's words."""

    def __init__(self, source: str, first: int) -> None:
        self.lines, self.first = source.splitlines(), first
        self.magics: list[Magic] = []

    def visit_Call(self, node: ast.Call) -> ast.AST:
        said = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
        if not self._translated(node) or len(said) != len(node.args):
            return self.generic_visit(node)
        words = [str(word) for word in said]
        shell = isinstance(node.func, ast.Attribute) and node.func.attr in ("system", "getoutput")
        name, text = ("!", words) if shell else (words[0], words[1:])
        self.magics.append(Magic(self.first + node.lineno - 1, name, "\n".join(text)))
        return ast.copy_location(ast.Constant(None), node)

    def _translated(self, node: ast.Call) -> bool:
        if not (isinstance(node.func, ast.Attribute) and node.func.attr in _TRANSLATED):
            return False
        ask = node.func.value
        asks = isinstance(ask, ast.Call) and isinstance(ask.func, ast.Name) and ask.func.id == "get_ipython"
        return asks and "get_ipython" not in self.lines[min(node.lineno, len(self.lines)) - 1]
