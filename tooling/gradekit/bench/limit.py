"""The limit that a grader can reach: the same cells by plain ``exec`` in forks of a process that has the imports.

``python -m gradekit.bench.limit WIDTH PRELOAD NOTEBOOK...``: no sandbox, no kernel, no gradebook, nothing kept.
``PRELOAD`` is a comma-separated list of modules, or ``-``.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import json
import os
import sys
from pathlib import Path


def main(width: int, preload: str, notebooks: list[str]) -> None:
    """Run every notebook in a fork of its own, ``width`` at a time."""
    for name in preload.split(",") if preload != "-" else ():
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    running = 0
    for notebook in notebooks:
        if running == width:
            os.wait()
            running -= 1
        if os.fork() == 0:
            _run(Path(notebook))
            os._exit(0)
        running += 1
    for _ in range(running):
        os.wait()


def _run(notebook: Path) -> None:
    namespace: dict[str, object] = {}
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                with contextlib.suppress(Exception):  # a wrong answer's assertion
                    exec("".join(cell["source"]), namespace)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
