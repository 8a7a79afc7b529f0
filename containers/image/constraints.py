"""Print constraints.txt with torch and NumPy as the base image has them.

NVIDIA builds torch for its own CUDA, and for arm64 with the DGX Spark's GPU. A pin such as ``torch==2.13.0`` would
replace it by a build from a package index. torch is compiled against one NumPy, whose binary interface it shares. So
these two stay as they are; everything else is pinned as ever, and installed over what the base may have.

    python3 constraints.py constraints.txt
"""

import re
import sys
from importlib import metadata
from pathlib import Path

KEPT = ("torch", "numpy")


def adapted(pins: str) -> str:
    """The pins, with the versions of KEPT that this Python has."""
    for name in KEPT:
        try:
            installed = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        pins = re.sub(rf"(?m)^{name}==.*$", f"{name}=={installed}", pins)
    return pins


if __name__ == "__main__":
    sys.stdout.write(adapted(Path(sys.argv[1]).read_text()))
