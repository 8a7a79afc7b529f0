"""One command of nbgrader's, in a process of its own; imports nothing of gradekit's, so that it starts at once."""

from __future__ import annotations

import os


def command(arguments: tuple[str, ...], root: str, home: str) -> None:
    """Run ``nbgrader <arguments>`` in the course ``root``, with its log there and the user in ``home``."""
    from nbgrader.apps.nbgraderapp import NbGraderApp

    os.setpgid(0, 0)
    os.chdir(root)
    os.environ.update(HOME=home, MPLCONFIGDIR=home, OMP_NUM_THREADS="1")
    with open("nbgrader.log", "a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    NbGraderApp.launch_instance(argv=[*arguments, "--log-level=ERROR"])
