"""What a notebook's locked cells give under a name: imports, functions and classes that tests may rest on."""

from __future__ import annotations

import ast
from collections.abc import Collection

from gradekit.integrity.ipython_code import Unreadable, parse


def given_names(source: str, students: Collection[str] = ()) -> frozenset[str]:
    """The global names that a cell gives to modules, functions and classes; none when it cannot be read.

    Args:
        students: names that are the student's to define: they are left out, and so is what they decorate.
    """
    try:
        trees = [code.tree for code in parse(source)]
    except Unreadable:
        return frozenset()
    found: set[str] = set()
    own = set(students)
    waiting: list[ast.stmt] = [statement for tree in trees for statement in tree.body]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            marks = [leaf for decorator in node.decorator_list for leaf in ast.walk(decorator)]
            if not own.intersection(leaf.id for leaf in marks if isinstance(leaf, ast.Name)):
                found.add(node.name)
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
        waiting += [child for child in ast.walk(node) if isinstance(child, ast.stmt) and child is not node]
    return frozenset(found - own - {"*"})
