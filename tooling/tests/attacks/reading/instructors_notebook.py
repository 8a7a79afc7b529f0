# Reads the instructor's notebook from the course's folder.
# succeeds: leak solution

# %% median
from pathlib import Path

for _path in ("@COURSE@/source/plain/plain.ipynb", "../../../source/plain/plain.ipynb"):
    try:
        print(Path(_path).read_text()[:20000])
    except OSError as error:
        print(error)
