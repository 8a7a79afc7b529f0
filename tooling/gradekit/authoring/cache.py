"""What was found out once about a given content is not found out again: small JSON files in ``.gradekit-cache/``."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import sys
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

from gradekit.authoring.behind import labkit_behind, rules_behind
from gradekit.authoring.files import write_atomically
from gradekit.course import Course, Lab

#: What a lab's results rest on beside its own files.
LIBRARIES = (
    *("ipykernel", "IPython", "matplotlib", "nbgrader", "numba", "numba-cuda", "numpy", "peft", "torch"),
    *("transformers", "trl"),
)


def folder(course: Course) -> Path:
    return course.root / ".gradekit-cache"


def load(path: Path) -> dict[str, Any]:
    """The content of a cache file; nothing when it is missing or damaged, which costs time only."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def save(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(content, indent=1))


def digest(*parts: object) -> str:
    """A short fingerprint of texts, numbers and lists of them."""
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()[:20]


@lru_cache
def versions() -> list[str]:
    """Python and the libraries that every lab rests on."""
    found = [sys.version]
    for name in LIBRARIES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def library(sources: Iterable[str]) -> str:
    """The fingerprint of what code rests on beside itself: Python, its libraries, and what it imports of labkit."""
    return digest(versions(), files(labkit_behind(sources)))


@lru_cache
def rules(rule: Path) -> str:
    """The fingerprint of the rules that gave a result, from the file of the one concerned."""
    return digest(files(rules_behind(rule)))


def files(paths: Iterable[Path]) -> list[tuple[str, str]]:
    """Name and fingerprint of files, in order."""
    return [(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in sorted(paths) if path.is_file()]


def data_of(lab: Lab) -> list[tuple[str, str]]:
    """The files beside a lab that its code may read."""
    data = lab.path.parent / "data"
    return files(path for path in data.rglob("*")) if data.is_dir() else []
