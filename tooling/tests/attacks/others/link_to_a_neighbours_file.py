# Hands in a symbolic link to another student's file and prints what it shows.
# succeeds: leak neighbour

# %% make
import os

os.symlink("@NEIGHBOUR@/plain/notes.txt", folder / "theirs.txt")

# %% median
try:
    print(open("theirs.txt").read())
except OSError as error:
    print(error)
