# Overwrites another student's submission before it is graded.
# succeeds: disturbs

# %% median
from pathlib import Path

for _name in ("plain.ipynb", "notes.txt"):
    try:
        Path("@NEIGHBOUR@/plain", _name).write_text("{}")
    except OSError as error:
        print(error)
