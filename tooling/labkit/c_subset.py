"""The C of an elementwise kernel, evaluated with NumPy: a small subset, C's types, no loops.

Statements are assignments, separated by semicolons; a local variable is declared with its type (`float d = x - m;`).
Expressions: + - * /, comparisons, && || !, ?:, parentheses, and the functions of `FUNCTIONS` (`sqrtf` is the float32
version of `sqrt`). As in C, 0.5 is a double and 0.5f a float; a double makes the whole expression one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "sqrt": np.sqrt, "fabs": np.abs, "exp": np.exp, "log": np.log, "fmin": np.fmin, "fmax": np.fmax, "isnan": np.isnan,
}
TYPES = {"float": np.float32, "double": np.float64, "int": np.int32, "bool": np.bool_}
TYPES |= {name: np.dtype(name).type for name in ("float32", "float64", "int32", "int64")}
_LEVELS: tuple[dict[str, Callable[..., Any]], ...] = (
    {"||": np.logical_or}, {"&&": np.logical_and}, {"==": np.equal, "!=": np.not_equal},
    {"<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal},
    {"+": np.add, "-": np.subtract}, {"*": np.multiply, "/": np.divide},
)
_TOKEN = re.compile(
    r"\s*((?:\d+\.\d*|\.\d+|\d+)(?:[eE][+-]?\d+)?f?|\w+|[<>=!]=|&&|\|\||[-+*/()?:,<>=!])"
)


def run(operation: str, inputs: Mapping[str, Any], outputs: Mapping[str, np.dtype]) -> dict[str, Any]:
    """Values of `outputs` after the statements of `operation`, computed from `inputs` (arrays or NumPy scalars).

    Raises:
        SyntaxError: a statement is not in the subset.
        NameError: a name is not known, is read before it is written, or an output is never written.
        TypeError: integers are divided, which C would cut off.
    """
    values, types = dict(inputs), dict(outputs)
    with np.errstate(all="ignore"):  # C has no warnings at run time either
        for statement in filter(None, (part.strip() for part in operation.split(";"))):
            match = re.fullmatch(r"(?:(?:const\s+)?(\w+)\s+)?(\w+)\s*=(?!=)(.+)", statement, re.DOTALL)
            if match is None:
                raise SyntaxError(f"expected `name = expression`, got `{statement}`")
            kind, name, text = match.groups()
            if kind is not None:
                if kind not in TYPES or name in values or name in types:
                    raise SyntaxError(f"`{kind} {name}`: an unknown type, or a name that is taken")
                types[name] = np.dtype(TYPES[kind])
            if name not in types:
                known = "an input cannot be assigned to" if name in values else "declare it first, as in float d = ..."
                raise NameError(f"`{statement}`: {name} is no output; {known}")
            values[name] = np.asarray(_Parser(text, values).all()).astype(types[name])
    missing = [name for name in outputs if name not in values]
    if missing:
        raise NameError(f"the operation never writes {', '.join(missing)}")
    return {name: values[name] for name in outputs}


class _Parser:
    """Recursive descent over one expression, which it evaluates on the way."""

    def __init__(self, text: str, values: Mapping[str, Any]) -> None:
        self.text, self.values, self.tokens, end = text.strip(), values, [], 0
        while end < len(self.text):
            match = _TOKEN.match(self.text, end)
            if match is None:
                raise SyntaxError(f"`{self.text}`: cannot read `{self.text[end:].strip()[:10]}`")
            self.tokens.append(match[1])
            end = match.end()
        self.tokens.reverse()  # the next one is last

    def all(self) -> Any:
        value = self._choice()
        if self.tokens:
            raise SyntaxError(f"`{self.text}`: `{self.tokens[-1]}` was not expected")
        return value

    def _take(self, *wanted: str) -> str:
        """The next token if it is one of `wanted`, else nothing."""
        return self.tokens.pop() if self.tokens and self.tokens[-1] in wanted else ""

    def _need(self, wanted: str) -> None:
        if not self._take(wanted):
            got = self.tokens[-1] if self.tokens else "the end"
            raise SyntaxError(f"`{self.text}`: expected `{wanted}`, got `{got}`")

    def _choice(self) -> Any:
        condition = self._binary(0)
        if not self._take("?"):
            return condition
        yes = self._choice()
        self._need(":")
        return np.where(condition, *_same(yes, self._choice()))

    def _binary(self, level: int) -> Any:
        if level == len(_LEVELS):
            return self._unary()
        left = self._binary(level + 1)
        while operator := self._take(*_LEVELS[level]):
            left, right = _same(left, self._binary(level + 1))
            if operator == "/" and left.dtype.kind != "f":
                raise TypeError(f"`{self.text}`: C cuts off a quotient of integers; make one of them a float")
            left = _LEVELS[level][operator](left, right)
        return left

    def _unary(self) -> Any:
        if operator := self._take("-", "!"):
            return np.negative(self._unary()) if operator == "-" else np.logical_not(self._unary())
        if self._take("("):
            value = self._choice()
            self._need(")")
            return value
        token = self.tokens.pop() if self.tokens else "the end"
        if token[0].isdigit() or token[0] == ".":
            kind = np.float32 if token.endswith("f") else np.int32 if token.isdigit() else np.float64
            return kind(token.rstrip("f"))
        if not token.isidentifier():
            raise SyntaxError(f"`{self.text}`: `{token}` was not expected")
        if not self._take("("):
            if token not in self.values:
                raise NameError(f"`{self.text}`: {token} has no value here")
            return self.values[token]
        return self._call(token)

    def _call(self, name: str) -> Any:
        arguments = [self._choice()]
        while self._take(","):
            arguments.append(self._choice())
        self._need(")")
        plain = name if name in FUNCTIONS else name.removesuffix("f")
        if plain not in FUNCTIONS:
            raise NameError(f"`{self.text}`: no function {name}; there are {', '.join(FUNCTIONS)}, and sqrtf and so on")
        if len(arguments) != FUNCTIONS[plain].nin:  # type: ignore[attr-defined]
            raise SyntaxError(f"`{self.text}`: {name} does not take {len(arguments)} arguments")
        if plain != "isnan":
            arguments = [np.asarray(a).astype(np.float32 if name != plain else np.float64) for a in arguments]
        return FUNCTIONS[plain](*arguments)


def _same(left: Any, right: Any) -> tuple[Any, Any]:
    """Both in C's common type: double over float over integers (NumPy would make int32 with float32 a double)."""
    kinds = [np.asarray(value).dtype for value in (left, right)]
    floats = [kind for kind in kinds if kind.kind == "f"]
    common = np.result_type(*(floats or [*kinds, np.dtype(np.int32)]))
    return np.asarray(left).astype(common), np.asarray(right).astype(common)
