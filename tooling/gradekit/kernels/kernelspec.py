"""The kernelspec through which stock Jupyter programs find the sandboxed kernels."""

from __future__ import annotations

import json
from pathlib import Path

NAME = "gradekit"
SPEC = {
    "argv": ["gradekit-fork"],  # never run: the provisioner forks instead
    "display_name": "Python (sandboxed)",
    "language": "python",
    "interrupt_mode": "signal",
    "metadata": {"kernel_provisioner": {"provisioner_name": "gradekit-fork", "config": {}}},
}


def install(prefix: Path) -> Path:
    """Write the kernelspec ``gradekit`` below ``prefix`` (an environment, such as sys.prefix); returns its folder."""
    folder = prefix / "share" / "jupyter" / "kernels" / NAME
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "kernel.json").write_text(json.dumps(SPEC, indent=1) + "\n")
    return folder
