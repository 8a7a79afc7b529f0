"""Mutation operators: small wrong changes to a reference solution, such as students make.

Half of them are cosmic-ray's, chosen so that each position is changed in the one or two ways that tell most (Offutt et
al., "An experimental determination of sufficient mutant operators", 1996). The other half are this field's own.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cosmic_ray.plugins
from cosmic_ray.ast import Visitor, get_ast
from cosmic_ray.mutating import mutate_code

COSMIC_RAY = tuple(
    f"core/{name}"
    for name in (
        "ReplaceBinaryOperator_Add_Sub",
        "ReplaceBinaryOperator_Sub_Add",
        "ReplaceBinaryOperator_Mul_Div",
        "ReplaceBinaryOperator_Div_Mul",
        "ReplaceBinaryOperator_FloorDiv_Mul",
        "ReplaceBinaryOperator_Mod_FloorDiv",
        "ReplaceBinaryOperator_Pow_Mul",
        "ReplaceBinaryOperator_LShift_RShift",
        "ReplaceBinaryOperator_RShift_LShift",
        "ReplaceBinaryOperator_BitOr_BitAnd",
        "ReplaceBinaryOperator_BitAnd_BitOr",
        "ReplaceBinaryOperator_BitXor_BitAnd",
        "ReplaceComparisonOperator_Lt_LtE",
        "ReplaceComparisonOperator_LtE_Lt",
        "ReplaceComparisonOperator_Gt_GtE",
        "ReplaceComparisonOperator_GtE_Gt",
        "ReplaceComparisonOperator_Eq_NotEq",
        "ReplaceComparisonOperator_NotEq_Eq",
        "ReplaceComparisonOperator_Is_IsNot",
        "ReplaceComparisonOperator_IsNot_Is",
        "ReplaceUnaryOperator_USub_UAdd",
        "ReplaceUnaryOperator_Delete_Not",
        "ReplaceTrueWithFalse",
        "ReplaceFalseWithTrue",
        "ReplaceAndWithOr",
        "ReplaceOrWithAnd",
        "ReplaceBreakWithContinue",
        "ReplaceContinueWithBreak",
        "NumberReplacer",
        "RemoveDecorator",
        "ZeroIterationForLoop",
    )
)

LEFT_OUT = {"detach", "clone", "copy", "contiguous", "requires_grad_", "zero_grad", "eval", "train", "to", "float"}
TRANSPOSES = {"T", "mT", "H"}, {"t", "transpose", "permute", "swapaxes", "swapdims"}
EXCHANGED = {
    "mean": "sum", "sum": "mean", "max": "min", "min": "max", "amax": "amin", "amin": "amax", "argmax": "argmin",
    "argmin": "argmax", "any": "all", "all": "any", "tril": "triu", "triu": "tril", "exp": "log", "log": "exp",
    "floor": "ceil", "ceil": "floor", "maximum": "minimum", "minimum": "maximum", "zeros": "ones", "ones": "zeros",
    "zeros_like": "ones_like", "ones_like": "zeros_like", "cumsum": "cumprod", "sqrt": "abs",
}  # fmt: skip
DOWNCAST = {"float64": "float32", "float32": "float16", "int64": "int32", "double": "float", "complex128": "complex64"}
BARRIERS = {"syncthreads", "syncwarp", "sync", "threadfence", "synchronize", "barrier"}
NO_GRAD = {"no_grad", "inference_mode", "enable_grad", "set_grad_enabled"}
SEEDED = {"manual_seed", "default_rng", "seed", "RandomState", "Random"}


@dataclass(frozen=True)
class Mutant:
    """A changed solution: the operator, the line (from 1) of the change, and the whole new source of the cell."""

    operator: str
    line: int
    source: str


def mutants(source: str, lines: set[int]) -> list[Mutant]:
    """All mutants of a cell that change something within ``lines`` and still parse, each program once."""
    found: dict[str, Mutant] = {}
    original = _tree(source)
    for mutant in (*_own(source), *_cosmic_ray(source)):
        if mutant.line not in lines:
            continue
        tree = _tree(mutant.source)
        if tree is not None and tree != original:
            found.setdefault(tree, mutant)
    return sorted(found.values(), key=lambda mutant: mutant.line)


def _tree(source: str) -> str | None:
    try:
        return ast.dump(ast.parse(source))
    except SyntaxError:
        return None


def _cosmic_ray(source: str) -> Iterator[Mutant]:
    for name in COSMIC_RAY:
        operator = cosmic_ray.plugins.get_operator(name)()
        places: list[int] = []

        class Places(Visitor):
            def visit(self, node: object, operator: object = operator, places: list[int] = places) -> object:
                places += [start[0] for start, _ in operator.mutation_positions(node)]  # type: ignore[attr-defined]
                return node

        Places().walk(get_ast(source))
        for occurrence, line in enumerate(places):
            changed = mutate_code(source, operator, occurrence)
            if changed is not None:
                yield Mutant(name.partition("/")[2], line, changed)


@dataclass(frozen=True)
class Edit:
    """Put ``text`` in the place of ``node``."""

    node: ast.AST
    text: str


def _own(source: str) -> Iterator[Mutant]:
    tree = ast.parse(source)
    offsets = [0]
    for line in source.splitlines(keepends=True):
        offsets.append(offsets[-1] + len(line.encode()))
    raw = source.encode()
    for node in ast.walk(tree):
        for name, operator in OPERATORS.items():
            for edit in operator(node):
                spot: ast.expr = edit.node  # type: ignore[assignment]  # every edited node has a place
                start = offsets[spot.lineno - 1] + spot.col_offset
                end = offsets[(spot.end_lineno or spot.lineno) - 1] + (spot.end_col_offset or 0)
                yield Mutant(name, spot.lineno, (raw[:start] + edit.text.encode() + raw[end:]).decode())


def _text(node: ast.AST) -> str:
    """Source of an expression, safe to put into any other."""
    text = ast.unparse(node)
    simple = isinstance(node, ast.Name | ast.Attribute | ast.Constant | ast.Call | ast.Subscript)
    return text if simple else f"({text})"


def _called(node: ast.AST) -> str:
    """The last name of what a call calls, empty for anything else."""
    if not isinstance(node, ast.Call):
        return ""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def drop_term(node: ast.AST) -> Iterator[Edit]:
    """One side of a sum, difference or product left out: a term, an eps, a maximum taken off, a scale factor."""
    arithmetic = ast.Add | ast.Sub | ast.Mult | ast.Div | ast.FloorDiv | ast.Mod
    if isinstance(node, ast.BinOp) and isinstance(node.op, arithmetic):
        yield Edit(node, _text(node.left))
        if isinstance(node.op, ast.Add | ast.Mult):
            yield Edit(node, _text(node.right))


def swap_operands(node: ast.AST) -> Iterator[Edit]:
    """a - b for b - a, and the like for what does not commute."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub | ast.Div | ast.MatMult | ast.FloorDiv | ast.Pow):
        yield Edit(node, f"({_text(node.right)} {_symbol(node.op)} {_text(node.left)})")


def _symbol(op: ast.operator) -> str:
    return {ast.Sub: "-", ast.Div: "/", ast.MatMult: "@", ast.FloorDiv: "//", ast.Pow: "**"}[type(op)]


def swap_arguments(node: ast.AST) -> Iterator[Edit]:
    """The first two positional arguments of a call, or the last two of where(), exchanged."""
    if not isinstance(node, ast.Call) or len(node.args) < 2 or any(isinstance(a, ast.Starred) for a in node.args):
        return
    first = 1 if _called(node) == "where" and len(node.args) == 3 else 0
    arguments = [*node.args]
    arguments[first], arguments[first + 1] = arguments[first + 1], arguments[first]
    yield Edit(node, ast.unparse(ast.Call(node.func, arguments, node.keywords)))


def wrong_axis(node: ast.AST) -> Iterator[Edit]:
    """Another axis, or none where one was given."""
    if isinstance(node, ast.Call):
        for keyword in node.keywords:
            if keyword.arg in ("axis", "dim"):
                yield Edit(keyword.value, "-1" if ast.unparse(keyword.value) in ("0", "-2") else "0")
                kept = [k for k in node.keywords if k is not keyword]
                yield Edit(node, ast.unparse(ast.Call(node.func, node.args, kept)))


def transpose_left_out(node: ast.AST) -> Iterator[Edit]:
    attributes, methods = TRANSPOSES
    if isinstance(node, ast.Attribute) and node.attr in attributes:
        yield Edit(node, _text(node.value))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in methods:
        yield Edit(node, _text(node.func.value))


def off_by_one(node: ast.AST) -> Iterator[Edit]:
    """One too many or too few in a range, one beside in an index. (Literal numbers are NumberReplacer's.)"""
    if _called(node) == "range":
        assert isinstance(node, ast.Call)
        for argument in node.args[:2]:
            if not isinstance(argument, ast.Constant):
                yield Edit(argument, f"{_text(argument)} - 1")
                yield Edit(argument, f"{_text(argument)} + 1")
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Name | ast.BinOp):
        yield Edit(node.slice, f"{_text(node.slice)} + 1")
    if isinstance(node, ast.Slice):
        for bound in (node.lower, node.upper):
            if bound is not None and not isinstance(bound, ast.Constant):
                yield Edit(bound, f"{_text(bound)} + 1")


def call_left_out(node: ast.AST) -> Iterator[Edit]:
    """x for x.detach(), x.clone() and the like."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEFT_OUT:
        yield Edit(node, _text(node.func.value))


def no_grad_left_out(node: ast.AST) -> Iterator[Edit]:
    if isinstance(node, ast.With):
        for item in node.items:
            if _called(item.context_expr) in NO_GRAD:
                yield Edit(item.context_expr, "__import__('contextlib').nullcontext()")


def exchange(node: ast.AST) -> Iterator[Edit]:
    """sum for mean, max for min, zeros for ones, and the other way round."""
    if _called(node) in EXCHANGED:
        assert isinstance(node, ast.Call)
        other = EXCHANGED[_called(node)]
        text = f"{_text(node.func.value)}.{other}" if isinstance(node.func, ast.Attribute) else other
        yield Edit(node.func, text)


def mask_inverted(node: ast.AST) -> Iterator[Edit]:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Invert):
        yield Edit(node, _text(node.operand))
    if _called(node) in ("masked_fill", "masked_fill_", "masked_select") and isinstance(node, ast.Call) and node.args:
        yield Edit(node.args[0], f"~{_text(node.args[0])}")


def dtype_downcast(node: ast.AST) -> Iterator[Edit]:
    if isinstance(node, ast.Attribute) and node.attr in DOWNCAST:
        yield Edit(node, f"{_text(node.value)}.{DOWNCAST[node.attr]}")


def barrier_removed(node: ast.AST) -> Iterator[Edit]:
    if isinstance(node, ast.Expr) and _called(node.value) in BARRIERS:
        yield Edit(node, "pass")


def atomic_replaced(node: ast.AST) -> Iterator[Edit]:
    """A plain read and write in the place of an atomic one."""
    if not isinstance(node, ast.Call) or len(node.args) != 3:
        return
    match = re.fullmatch(r"(?:\w+\.)*atomic\.(add|sub|max|min)", ast.unparse(node.func))
    if match:
        place = f"{_text(node.args[0])}[{ast.unparse(node.args[1])}]"
        value = _text(node.args[2])
        new = {"add": f"{place} + {value}", "sub": f"{place} - {value}"}.get(match[1], f"{match[1]}({place}, {value})")
        yield Edit(node, f"{place} = {new}")


def hard_coded(node: ast.AST) -> Iterator[Edit]:
    """A number that fits one example in the place of a seed, a shape or a length."""
    if _called(node) in SEEDED and isinstance(node, ast.Call) and node.args:
        yield Edit(node.args[0], "0")
    shape = isinstance(node, ast.Subscript) and isinstance(node.value, ast.Attribute) and node.value.attr == "shape"
    if (shape and isinstance(node.ctx, ast.Load)) or _called(node) in ("len", "size"):  # type: ignore[attr-defined]
        yield Edit(node, "4")


def branch_never_taken(node: ast.AST) -> Iterator[Edit]:
    if isinstance(node, ast.If | ast.IfExp):
        yield Edit(node.test, "False")
        yield Edit(node.test, "True")


def statement_left_out(node: ast.AST) -> Iterator[Edit]:
    """A call, an update in place or a stored attribute left out."""
    call = isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
    stored = isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute | ast.Subscript)
    if call or stored or isinstance(node, ast.AugAssign | ast.Raise):
        yield Edit(node, "pass")


OPERATORS: dict[str, Callable[[ast.AST], Iterator[Edit]]] = {
    operator.__name__.replace("_", "-"): operator
    for operator in (
        drop_term, swap_operands, swap_arguments, wrong_axis, transpose_left_out, off_by_one, call_left_out,
        no_grad_left_out, exchange, mask_inverted, dtype_downcast, barrier_removed, atomic_replaced, hard_coded,
        branch_never_taken, statement_left_out,
    )
}  # fmt: skip
