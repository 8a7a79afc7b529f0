# Puts a file of its own into the release that every student fetches.
# succeeds: disturbs

# %% median
from pathlib import Path

try:
    Path("@COURSE@/release/plain/torch.py").write_text("print('everybody runs this')\n")
except OSError as error:
    print(error)
