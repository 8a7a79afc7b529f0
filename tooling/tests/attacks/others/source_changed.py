# Changes the instructor's notebook, from which the next release is made.
# succeeds: disturbs

# %% median
from pathlib import Path

try:
    _path = Path("@COURSE@/source/plain/plain.py")
    _path.write_text(_path.read_text().replace("== expected", "is not None"))
except OSError as error:
    print(error)
