"""What the names of a notebook stand for: imports, under whatever names, followed to the module that they come from."""

from __future__ import annotations

import ast
from collections.abc import Iterable


class Names:
    """Name -> dotted origin, as the imports seen so far give it, and the plain assignments of what they import."""

    def __init__(self) -> None:
        self.imported: dict[str, str] = {}
        self.assigned: dict[str, str] = {}

    def learn(self, tree: ast.AST) -> None:
        """Take in the imports of a cell, also those inside functions, and plain new names for what is imported."""
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    top = alias.name.partition(".")[0]
                    self.imported[alias.asname or top] = alias.name if alias.asname else top
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                for alias in node.names:
                    self.imported[alias.asname or alias.name] = f"{node.module}.{alias.name}"
            elif isinstance(node, ast.Assign | ast.NamedExpr):
                dotted = self.dotted(node.value)
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                for target in (target for target in targets if isinstance(target, ast.Name)):
                    self.assigned.pop(target.id, None)
                    if dotted:
                        self.assigned[target.id] = dotted

    def dotted(self, node: ast.expr) -> str:
        """Where an expression comes from, such as ``numpy.testing.assert_allclose``; empty when from no import.

        ``getattr(module, "name")``, ``__import__("name")`` and ``importlib.import_module("name")`` are followed, the
        text put together from constants included.
        """
        if isinstance(node, ast.Name):
            return self.assigned.get(node.id) or self.imported.get(node.id, "")
        if isinstance(node, ast.Attribute):
            base = self.dotted(node.value)
            return f"{base}.{node.attr}" if base else ""
        if isinstance(node, ast.Call) and node.args:
            return self._called(node)
        if isinstance(node, ast.Subscript) and self.dotted(node.value) == "sys.modules":
            return text(node.slice) or ""
        return ""

    def _called(self, node: ast.Call) -> str:
        name = node.func.id if isinstance(node.func, ast.Name) else self.dotted(node.func)
        if name == "getattr" and len(node.args) > 1:
            base, attribute = self.dotted(node.args[0]), text(node.args[1])
            return f"{base}.{attribute}" if base and attribute else ""
        if name in ("__import__", "importlib.import_module", "importlib.__import__", "sys.modules.get"):
            return text(node.args[0]) or ""
        return ""


def text(node: ast.expr) -> str | None:
    """The string that constants put together, or None when it is only known at run time."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = text(node.left), text(node.right)
        return left + right if left is not None and right is not None else None
    if isinstance(node, ast.JoinedStr):
        return _joined(node.values)
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "join"
        and len(node.args) == 1
        and isinstance(node.args[0], ast.List | ast.Tuple)
    ):
        between, parts = text(node.func.value), [text(part) for part in node.args[0].elts]
        return None if between is None or None in parts else between.join(part or "" for part in parts)
    return None


def _joined(values: Iterable[ast.expr]) -> str | None:
    parts = [text(value.value if isinstance(value, ast.FormattedValue) else value) for value in values]
    return None if None in parts else "".join(part or "" for part in parts)
