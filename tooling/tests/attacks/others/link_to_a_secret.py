# Hands in a symbolic link to a file beside the course: what is copied with the grader's rights comes back.
# succeeds: leak outside

# %% make
import os

os.symlink("@OUTSIDE@/secret.txt", folder / "secret.txt")

# %% median
try:
    print(open("secret.txt").read())
except OSError as error:
    print(error)
