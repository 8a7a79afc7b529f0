"""Writing files that others may be reading."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_atomically(path: Path, content: str) -> None:
    """Replace a file's content in one step: a reader, or a crash, sees the old file or the new one."""
    with tempfile.NamedTemporaryFile(
        "w", dir=path.parent, prefix=f".{path.name}.", encoding="utf-8", delete=False
    ) as f:
        f.write(content)
    os.chmod(f.name, path.stat().st_mode & 0o777 if path.exists() else 0o644)
    os.replace(f.name, path)
