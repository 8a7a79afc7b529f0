# Hands in a symbolic link to a folder with secrets in it.
# succeeds: leak outside

# %% make
import os

os.symlink("@OUTSIDE@", folder / "data")

# %% median
try:
    print(open("data/secret.txt").read())
except OSError as error:
    print(error)
