"""Which files of labkit and of the gates a lab's result rests on, so that a change elsewhere runs nothing again.

Read off the imports, those inside functions included. Code that cannot be read, or that imports by a computed name,
rests on all of labkit.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from IPython.core.inputtransformer2 import TransformerManager

_GRADEKIT = Path(__file__).parents[1]
#: Of gradekit only what can change a verdict is followed: not the kernels, whose own tests hold their behaviour.
_FOLLOWED = ("gradekit.authoring", "gradekit.course", "gradekit.grading.judge")
_COMPUTED = {"__import__", "import_module"}


def labkit_behind(sources: Iterable[str]) -> set[Path]:
    """The files of labkit that notebook cells and answers import, and what those import."""
    names: set[str] = set()
    for source in sources:
        try:
            tree = ast.parse(TransformerManager().transform_cell(source))
        except (SyntaxError, ValueError):
            return set(_labkit().rglob("*.py"))
        if _COMPUTED & {getattr(node, "id", getattr(node, "attr", "")) for node in ast.walk(tree)}:
            return set(_labkit().rglob("*.py"))
        names |= set(_imported(tree, ""))
    return _closure(path for name in names for path in _files(name))


def rules_behind(rule: Path) -> set[Path]:
    """The files of gradekit that a gate's verdict rests on, given the file that holds its rule."""
    # replay_child.py is started by its path; check.py asks the gates, and imports all of them.
    started = [rule, _GRADEKIT / "authoring" / "replay_child.py"]
    return {*_closure(started), _GRADEKIT / "authoring" / "check.py"}


def _closure(paths: Iterable[Path]) -> set[Path]:
    found: set[Path] = set()
    waiting = list(paths)
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += _next(path, path.stat().st_mtime_ns)
    return found


@lru_cache(maxsize=1024)
def _next(path: Path, changed: int) -> tuple[Path, ...]:
    """The files that a module imports itself."""
    package = ""
    if path.is_relative_to(_labkit()):
        inside = path.relative_to(_labkit().parent)
        package = ".".join(inside.parent.parts)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return tuple(found for name in _imported(tree, package) for found in _files(name))


def _imported(tree: ast.AST, package: str) -> Iterator[str]:
    """The dotted names that code imports: ``from a import b`` may mean the module a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *([base] if base else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _files(name: str) -> Iterator[Path]:
    """The files that run when a module of labkit is imported, or the one that a module of gradekit is."""
    parts = name.split(".")
    if parts[0] == "labkit":
        for length in range(1, len(parts) + 1):
            place = _labkit().parent.joinpath(*parts[:length])
            yield from (path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file())
    elif name.startswith(_FOLLOWED):
        # Not the packages' own files: they only list what there is, all other gates among it.
        path = _GRADEKIT.parent.joinpath(*parts).with_suffix(".py")
        if path.is_file():
            yield path


@lru_cache
def _labkit() -> Path:
    spec = find_spec("labkit")
    assert spec and spec.origin
    return Path(spec.origin).parent
