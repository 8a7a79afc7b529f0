"""Which cells of a notebook a cell needs, read off the global names that each one binds and uses.

Names are not the whole truth (a cell can change an object that another one made), so whoever leaves cells out on the
strength of this checks once that the reference still passes without them.
"""

from __future__ import annotations

import ast
import symtable
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode

from gradekit.course import Role, cells_of

#: Always run: what everything else may rest on, and what is asked about.
_KEPT = (Role.EXERCISE, Role.GIVEN, Role.TEST)


@dataclass(frozen=True)
class Names:
    """The global names that a cell binds, and those that it uses anywhere; not ``known`` when it cannot be read."""

    binds: frozenset[str]
    uses: frozenset[str]
    known: bool = True


def names(source: str) -> Names:
    """The global names of a cell's source, IPython's syntax included."""
    try:
        plain = TransformerManager().transform_cell(source)
        table = symtable.symtable(plain, "cell", "exec")
    except (SyntaxError, ValueError):
        return Names(frozenset(), frozenset(), known=False)
    binds, uses = _changed(ast.parse(plain)), set()
    tables = [table]
    while tables:
        scope = tables.pop()
        top = scope is table
        for symbol in scope.get_symbols():
            is_global = top or symbol.is_global()
            if is_global and (symbol.is_assigned() or symbol.is_imported()):
                binds.add(symbol.get_name())
            if is_global and symbol.is_referenced():
                uses.add(symbol.get_name())
        tables += scope.get_children()
    return Names(frozenset(binds), frozenset(uses))


def _changed(tree: ast.Module) -> set[str]:
    """Names whose objects a cell changes: ``model.head = head``, ``table[3] = 1``, ``setattr(cls, ...)``."""
    found = set()
    for statement in tree.body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            continue
        for node in ast.walk(statement):
            place: ast.AST = node
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "setattr" and node.args:
                place = node.args[0]
            elif not (isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store)):
                continue
            while isinstance(place, ast.Attribute | ast.Subscript):
                place = place.value
            if isinstance(place, ast.Name):
                found.add(place.id)
    return found


@dataclass(frozen=True)
class Graph:
    """The cells of a notebook and what each needs."""

    notebook: NotebookNode

    @cached_property
    def code(self) -> list[int]:
        """The indices of the code cells."""
        return [index for index, cell in enumerate(self.notebook.cells) if cell.cell_type == "code"]

    @cached_property
    def names(self) -> dict[int, Names]:
        return {index: names(self.notebook.cells[index].source) for index in self.code}

    @cached_property
    def roles(self) -> dict[int, Role]:
        return {cell.index: cell.role for cell in cells_of(self.notebook)}

    @cached_property
    def needs(self) -> dict[int, frozenset[int]]:
        """For each code cell, the earlier cells that bind a name which it uses.

        All of them, not only the last: a plain cell that binds a name again may do so under a condition.
        """
        found = {}
        binders: dict[str, set[int]] = {}
        unreadable: set[int] = set()
        for index in self.code:
            here = self.names[index]
            found[index] = frozenset(unreadable.union(*(binders.get(name, set()) for name in here.uses)))
            for name in here.binds:
                binders.setdefault(name, set()).add(index)
            if not here.known:
                unreadable.add(index)
        return found

    def closure(self, cells: Collection[int]) -> set[int]:
        """``cells`` and all that they need, directly or not."""
        found, waiting = set(cells), list(cells)
        while waiting:
            new = self.needs[waiting.pop()] - found
            found |= new
            waiting += new
        return found

    @cached_property
    def core(self) -> set[int]:
        """Exercises, tests and given cells with all that they need: without demonstrations that nothing rests on."""
        return self.closure([index for index in self.code if self.roles[index] in _KEPT])

    def tests_of(self, cell: int) -> list[int]:
        """The test cells behind ``cell`` that rest on it, directly or not, in order."""
        behind = (index for index in self.code if index > cell and self.roles[index] is Role.TEST)
        return [index for index in behind if cell in self.closure([index])]
