"""Which libraries a fork server should import for a set of notebooks: what they import, from a list of known ones.

Only public libraries are ever preloaded, never a course's own code, since every kernel can read what was loaded before
its fork. labkit is one of them: students install it anyway.
"""

from __future__ import annotations

import ast
import importlib.util
import json
from collections.abc import Iterable
from pathlib import Path

# Library -> what to import for it. Submodules that the library loads late, at every kernel's cost, are named.
KNOWN = {
    "numpy": ("numpy",),
    "scipy": ("scipy",),
    "pandas": ("pandas",),
    "sklearn": ("sklearn",),
    "sympy": ("sympy",),
    "networkx": ("networkx",),
    "PIL": ("PIL.Image",),
    "matplotlib": ("matplotlib.pyplot", "matplotlib_inline.backend_inline"),  # finds all fonts, once
    "numba": ("numba",),
    "torch": ("torch",),
    "transformers": ("torch", "transformers"),
    "peft": ("torch", "peft"),
    "trl": ("torch", "trl"),
    "datasets": ("datasets",),
    "tokenizers": ("tokenizers",),
    "safetensors": ("torch", "safetensors.torch"),
    "labkit": ("torch", "numba", "matplotlib.pyplot", "matplotlib_inline.backend_inline", "labkit"),
}


def choose(notebooks: Iterable[Path]) -> tuple[str, ...]:
    """Modules to preload for ``notebooks``, in a fixed order; unreadable notebooks count for nothing."""
    named: set[str] = set()
    for path in notebooks:
        named |= _imported_by(path)
    modules = [m for library in KNOWN if library in named and _installed(library) for m in KNOWN[library]]
    return tuple(dict.fromkeys(modules))


def _installed(library: str) -> bool:
    return importlib.util.find_spec(library) is not None


def _imported_by(path: Path) -> set[str]:
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = [c["source"] for c in cells if c["cell_type"] == "code"]
        sources = ["".join(lines) for lines in code]  # a string or a list of strings
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    return set().union(*(imports_of(s) for s in sources)) if sources else set()


def imports_of(source: str) -> set[str]:
    """Top-level names of the packages that a cell's code imports; lines of IPython magic are skipped."""
    lines = ["pass" if line.lstrip().startswith(("%", "!", "?")) else line for line in str(source).splitlines()]
    try:
        tree = ast.parse("\n".join(lines))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found
