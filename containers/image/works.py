"""End the build when the environment does not do what labs rest on: the pinned torch, and arrays shared with NumPy.

python works.py PINS
"""

import re
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

pins = dict(re.findall(r"(?m)^([A-Za-z0-9._-]+)==([^\s;#]+)", Path(sys.argv[1]).read_text()))
for name in ("torch", "numpy"):
    installed = metadata.version(name)
    if pins[name] not in (installed, installed.partition("+")[0]):
        sys.exit(f"{name} is {installed} now, not {pins[name]}: another package has replaced it")
if torch.from_numpy(np.ones(3)).sum().item() != 3 or torch.ones(2).numpy().shape != (2,):
    sys.exit("torch and NumPy do not share arrays: they were built for different NumPy versions")
print(f"torch {torch.__version__} (CUDA {torch.version.cuda or 'none'}), NumPy {np.__version__}")
