"""A kernel's source: how its lines are named, its syntax tree, and the Python that a GPU compiler refuses."""

from __future__ import annotations

import ast
import builtins
import functools
import inspect
import os
import re
import textwrap
from types import CodeType, FunctionType
from typing import Any

from .errors import CompileError

CALLABLE_BUILTINS = frozenset(
    [
        "abs",
        "bool",
        "complex",
        "divmod",
        "enumerate",
        "float",
        "int",
        "len",
        "max",
        "min",
        "pow",
        "print",
        "range",
        "round",
        "zip",
        "tuple",
        "isinstance",
        "slice",
        "getattr",
        "hasattr",
        "iter",
        "next",
        "sum",
        "any",
        "all",
    ]
)
EXCEPTIONS = frozenset(n for n, v in vars(builtins).items() if isinstance(v, type) and issubclass(v, BaseException))

_REFUSED: dict[type, str] = {
    ast.List: "a list: a kernel has no heap to grow one in; use cuda.local.array(constant_size, dtype) or a tuple",
    ast.Dict: "a dict: there are none on a GPU; use arrays and indices",
    ast.Set: "a set: there are none on a GPU; use an array of flags",
    ast.ListComp: "a list comprehension: write a loop that stores into an array",
    ast.SetComp: "a set comprehension: there are no sets on a GPU; write a loop over an array of flags",
    ast.DictComp: "a dict comprehension: there are no dicts on a GPU; write a loop over arrays",
    ast.GeneratorExp: "a generator expression: write the loop out",
    ast.Try: "try/except: exceptions cannot be caught on a GPU; test the condition with if before you act",
    ast.With: "a with block: there are no context managers on a GPU",
    ast.JoinedStr: "an f-string: there are no strings on a GPU; print(a, b) takes the values one by one",
    ast.Yield: "yield: a kernel is no generator; store results into an array",
    ast.YieldFrom: "yield: a kernel is no generator; store results into an array",
    ast.Await: "await: kernels are not coroutines",
    ast.AsyncFunctionDef: "an async function: kernels are not coroutines",
    ast.ClassDef: "a class: there are no classes on a GPU; use plain arrays and device functions",
    ast.Global: "a global statement: globals are constants in a kernel; pass an array instead",
    ast.Nonlocal: "a nonlocal statement: outer variables are constants in a kernel; pass an array instead",
    ast.Import: "an import: import at the top of the file, outside the kernel",
    ast.ImportFrom: "an import: import at the top of the file, outside the kernel",
    ast.Delete: "del: variables of a kernel live in registers and need no deleting",
    ast.Lambda: "a lambda: write a @cuda.jit(device=True) function instead",
}


def where(filename: str, line: int) -> str:
    """Name a source line as a beginner knows it: "cell line 4" in a notebook, else "file.py line 4"."""
    base = os.path.basename(filename)
    if re.search(r"ipykernel_\d+", filename) or filename.startswith(("<ipython", "<cell")):
        return f"cell line {line}"
    return f"{base} line {line}"


@functools.lru_cache(maxsize=512)
def _tree(code: CodeType) -> ast.FunctionDef | None:
    try:
        text = textwrap.dedent(inspect.getsource(code))
        tree = ast.parse(text)
    except (OSError, TypeError, SyntaxError, IndentationError):
        return None
    node = tree.body[0] if tree.body else None
    if not isinstance(node, ast.FunctionDef) or node.name != code.co_name:
        return None
    ast.increment_lineno(tree, code.co_firstlineno - 1)
    return node


def tree_of(fn: FunctionType) -> ast.FunctionDef | None:
    """The function's syntax tree with the line numbers of its file, or None where no source is to be had."""
    return _tree(fn.__code__)


def outer_names(fn: FunctionType) -> dict[str, Any]:
    """Globals and closure variables that the function's code names, with their present values."""
    code = fn.__code__
    names: dict[str, Any] = {}
    todo = [code]
    while todo:
        c = todo.pop()
        names.update((n, fn.__globals__[n]) for n in c.co_names if n in fn.__globals__)
        todo += [k for k in c.co_consts if isinstance(k, CodeType)]
    for name, cell in zip(code.co_freevars, fn.__closure__ or (), strict=True):
        try:
            names[name] = cell.cell_contents
        except ValueError:
            continue
    return names


@functools.lru_cache(maxsize=512)
def _refusal(code: CodeType, device: bool) -> tuple[int, str] | None:
    node = _tree(code)
    if node is None:
        return None
    body = node.body
    if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body = body[1:]
    found = []
    local_names = {a.arg for a in node.args.args} | {
        n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    }
    for stmt in body:
        for n in ast.walk(stmt):
            if type(n) in _REFUSED:
                found.append((n.lineno, _REFUSED[type(n)]))  # type: ignore[attr-defined]
            elif isinstance(n, ast.BinOp) and isinstance(n.op, ast.MatMult):
                found.append((n.lineno, "the @ operator: write the sum over k out as a loop"))
            elif not device and isinstance(n, ast.Call) and _is_shared_array(n):
                # A device function may be called with literals, which make its parameters constants.
                bad = _varying(n.args[0] if n.args else _keyword(n, "shape"), local_names, node)
                if bad:
                    found.append(
                        (
                            n.lineno,
                            f"{ast.unparse(n.func)} whose shape is not a constant ({bad}): the compiler must know the "
                            "size; "
                            "use a number or a global constant, or dynamic shared memory (shape 0 and "
                            "kernel[grid, block, stream, bytes])",
                        )
                    )
    return min(found) if found else None


def _is_shared_array(n: ast.AST) -> bool:
    return (
        isinstance(n, ast.Call)
        and isinstance(n.func, ast.Attribute)
        and n.func.attr == "array"
        and isinstance(n.func.value, ast.Attribute)
        and n.func.value.attr in ("shared", "local")
    )


def _keyword(n: ast.Call, name: str) -> ast.expr | None:
    return next((k.value for k in n.keywords if k.arg == name), None)


def _varying(shape: ast.expr | None, local_names: set[str], fn: ast.FunctionDef) -> str:
    """The part of a shape that is not a compile-time constant, or ""."""
    if shape is None:
        return ""
    for n in ast.walk(shape):
        if isinstance(n, ast.Name) and n.id in local_names and not _constant_local(n.id, fn):
            return n.id
        if isinstance(n, ast.Attribute) and n.attr in ("x", "y", "z") and isinstance(n.value, ast.Attribute):
            return ast.unparse(n)
        if isinstance(n, ast.Call):
            return ast.unparse(n)
    return ""


def _constant_local(name: str, fn: ast.FunctionDef) -> bool:
    stores = [s for s in ast.walk(fn) if isinstance(s, ast.Name) and s.id == name and isinstance(s.ctx, ast.Store)]
    values = [
        s.value
        for s in ast.walk(fn)
        if isinstance(s, ast.Assign)
        and len(s.targets) == 1
        and isinstance(s.targets[0], ast.Name)
        and s.targets[0].id == name
    ]
    return (
        len(stores) == 1
        and len(values) == 1
        and not any(isinstance(n, (ast.Call, ast.Subscript, ast.Attribute)) for n in ast.walk(values[0]))
        and not any(isinstance(n, ast.Name) and n.id in {a.arg for a in fn.args.args} for n in ast.walk(values[0]))
    )


def check_compiles(fn: FunctionType, device: bool = False) -> None:
    """Refuse Python that the CUDA compiler refuses.

    Args:
        fn: a kernel, or (`device`) a device function.

    Raises:
        CompileError: naming the first such line, and what to write instead.
    """
    refusal = _refusal(fn.__code__, device)
    if refusal:
        line, what = refusal
        raise CompileError(f"{where(fn.__code__.co_filename, line)}: kernel '{fn.__name__}' uses {what}")


def mentions(fn: FunctionType, names: frozenset[str]) -> bool:
    """Whether the function's code, or that of a device function it calls, names one of `names`."""
    seen: set[CodeType] = set()
    todo = [fn]
    while todo:
        f = todo.pop()
        if f.__code__ in seen:
            continue
        seen.add(f.__code__)
        if names.intersection(f.__code__.co_names):
            return True
        for v in outer_names(f).values():
            g = python_function(v)
            if g is not None:
                todo.append(g)
            elif callable(v) and getattr(v, "__name__", None) in names:
                return True
    return False


def has_while(fn: FunctionType) -> bool:
    """Whether the function, or a device function it calls, has a while loop (or no source to look at)."""
    seen: set[CodeType] = set()
    todo = [fn]
    while todo:
        f = todo.pop()
        if f.__code__ in seen:
            continue
        seen.add(f.__code__)
        node = tree_of(f)
        if node is None or any(isinstance(n, ast.While) for n in ast.walk(node)):
            return True
        todo += [g for v in outer_names(f).values() if (g := python_function(v)) is not None]
    return False


def python_function(value: Any) -> FunctionType | None:
    """The Python function behind a compiled kernel or device function (ours, or numba's dispatcher), else None."""
    if isinstance(value, FunctionType):
        return None
    fn = getattr(value, "py_func", None)
    return fn if isinstance(fn, FunctionType) else None
