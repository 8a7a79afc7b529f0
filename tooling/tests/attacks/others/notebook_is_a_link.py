# Hands in a link to another student's notebook in place of its own.
# succeeds: points test-median test-softmax test-is_prime test-RunningMean

# %% make
import os

(folder / "plain.ipynb").unlink()
os.symlink("@NEIGHBOUR@/plain/plain.ipynb", folder / "theirs.ipynb")
os.symlink("theirs.ipynb", folder / "plain2.ipynb")
content = b"{}"

# %% median
pass
