"""What of a cell is compared: a copy that is renamed, reordered or reformatted gives the same tokens."""

from __future__ import annotations

import ast
import builtins
import keyword
from functools import cache
from pathlib import Path

import pytest
from gradekit.authoring import answers
from gradekit.course import Course
from gradekit.similarity.tokens import code_blocks, code_tokens, own_attributes, words
from hypothesis import given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parents[4]


def symbols(source: str) -> list[str]:
    return [token.symbol for token in code_tokens(source, own_attributes([source]))]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("total = a + 1", "s=b+22.5  # sum"),
        ("def f(x):\n    '''Docs.'''\n    return x", "def g(y): return y"),
        ("print('a', \"b\",)", 'print("""c""", \'d\')'),
        ("%timeit f(x)\nx = 1", "y = 2\n!ls"),
        ("import torch as t\nt.einsum(s, t)", "import torch as u\nu.einsum(a, b)"),
        ("class A:\n    def go(self): self.n = 1\nA().go()", "class B:\n    def run(this): this.m = 1\nB().run()"),
        ("def f(input):\n    return input.sum()", "def f(x):\n    return x.sum()"),
        ("f(a, b)", "f(\n    a,\n    b,\n)"),
        ("x = f'{a} and {b}'", "y = f'{c} or {d}'"),
    ],
)
def test_what_makes_no_difference(one: str, other: str) -> None:
    assert symbols(one) == symbols(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x + y", "x - y"),
        ("torch.einsum(x)", "torch.matmul(x)"),
        ("sum(x)", "max(x)"),
        ("for x in y: pass", "while x in y: pass"),
        ("f(x)", "f('x')"),
    ],
)
def test_what_makes_a_difference(one: str, other: str) -> None:
    assert symbols(one) != symbols(other)


@pytest.mark.parametrize(
    "source", ["def f(x:", "'''never closed", "((((", "x = = 3", "\x00\ud800", "¿qué?", "`a` <> b", ""]
)
def test_what_is_no_python_is_compared_all_the_same(source: str) -> None:
    for token in code_tokens(source):
        assert 0 <= token.start < token.end <= len(source)
    assert symbols(f"x = 1\n{source}")[:3] == ["V", "=", "N"]


def test_places_are_those_of_the_source() -> None:
    source = "%matplotlib inline\nvalue = torch.add(one, 2)  # sum\n"
    assert [source[t.start : t.end] for t in code_tokens(source)] == [
        "value", "=", "torch", ".", "add", "(", "one", ",", "2", ")",
    ]  # fmt: skip


def test_blocks_are_what_can_change_its_order() -> None:
    source = (
        "import a\nx = 1\n\n@cache\ndef f():\n    def inner(): pass\n    return 1\n\n"
        "y = 2\nclass A:\n    n = 1\n    def g(self):\n        pass\n"
    )
    blocks = [source[block[0].start : block[-1].end].split("\n")[0] for block in code_blocks(source)]
    assert blocks == ["import a", "@cache", "def inner(): pass", "y = 2", "class A:", "def g(self):"]


def test_words_of_a_text() -> None:
    assert [t.symbol for t in words("**It** was 2x faster, *it* was!")] == [
        "w it",
        "w was",
        "w 2x",
        "w faster",
        "w it",
        "w was",
    ]


@cache
def bank() -> list[str]:
    """Answers of several labs that are Python."""
    course = Course.open(ROOT)
    sources = []
    for name in ("1.3.1", "1.3.4", "3.1.1", "3.1.6"):
        lab = course.lab(name)
        kinds = {cell.grade_id: cell.kind for cell in lab.cells}
        for answer in answers.bank(course, lab)[:12]:
            sources += [s for grade_id, s in answer.cells.items() if s and kinds[grade_id] == "code" and "%" not in s]
    return sources


class _Rename(ast.NodeTransformer):
    def __init__(self, names: dict[str, str]) -> None:
        self.names = names

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        for field in ("id", "arg", "name", "attr"):
            value = getattr(node, field, None)
            if isinstance(value, str) and not isinstance(node, (ast.keyword, ast.alias)):
                setattr(node, field, self.names.get(value, value))
        return node


def renamed(source: str, names: st.DataObject | list[str]) -> tuple[str, str]:
    """The source, and the same with all names that it binds exchanged, both laid out alike."""
    tree = ast.parse(source)
    bound = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    bound |= {n.arg for n in ast.walk(tree) if isinstance(n, ast.arg)}
    bound |= {n.name for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    used = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    # A variable that is called as some library's attribute is: exchanging the one must not exchange the other.
    bound -= (used - own_attributes([source])) | set(dir(builtins))
    fresh = dict(zip(sorted(bound), names, strict=False))
    before = ast.unparse(tree)
    return before, ast.unparse(_Rename(fresh).visit(tree))


NAME = st.from_regex(r"\A[a-z][a-z0-9_]{0,8}\Z").filter(lambda s: not keyword.iskeyword(s) and s not in dir(builtins))


@settings(max_examples=60, deadline=None, database=None, derandomize=True)
@given(data=st.data())
def test_new_names_change_no_fingerprint(data: st.DataObject) -> None:
    source = data.draw(st.sampled_from(bank()))
    names = [f"{name}_{i}" for i, name in enumerate(data.draw(st.lists(NAME, min_size=60, max_size=60)))]
    before, after = renamed(source, names)
    assert symbols(before) == symbols(after)
