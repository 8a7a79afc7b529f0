"""Run a command on a machine with the course's software: this checkout's, and its Python, without the course itself.

Usage, as root: python open_checkout.py COMMAND...

Only the command sees the difference: in its own view of the file system an empty folder takes the place of the
checkout, and of a closed home folder around it or its Python; at their usual paths lies what every user may read.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from gradekit.kernels import linux

CHECKOUT = Path(__file__).resolve().parents[2]
SOFTWARE = [CHECKOUT / name for name in ("tooling/labkit", "tooling/gradekit", "containers")]
NEEDED = [Path(os.path.realpath(sys.base_prefix)), Path(sys.prefix), *SOFTWARE]


def closed_folder(path: Path) -> Path | None:
    """The outermost folder on the way to ``path`` that is not for other users' eyes."""
    closed = (folder for folder in reversed(path.parents) if not folder.stat().st_mode & 0o001 or folder == CHECKOUT)
    return next(closed, None)


def open_checkout() -> None:
    closed = {path: folder for path in NEEDED if (folder := closed_folder(path))}
    linux.unshare(linux.CLONE_NEWNS)
    linux.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)
    trees = {path: linux.clone_tree(str(path)) for path in closed}
    for folder in {*closed.values()}:
        linux.mount("tmpfs", str(folder), "tmpfs", 0, "mode=755")
    for path, tree in trees.items():
        path.mkdir(parents=True, exist_ok=True)
        linux.attach_tree(tree, str(path))


if __name__ == "__main__":
    open_checkout()
    os.execvp(sys.argv[1], sys.argv[1:])
