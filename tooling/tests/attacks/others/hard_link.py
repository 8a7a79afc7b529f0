# Hands in a hard link to a file that the student may not read, but the grader may.
# succeeds: leak outside
# known: a hard link is the file itself; Linux refuses to make one to a file that one could not write
#   (fs.protected_hardlinks=1, the default), and nbgrader's exchange copies contents. Set the first, keep the second.

# %% make
import os

os.link("@OUTSIDE@/secret.txt", folder / "secret.txt")

# %% median
try:
    print(open("secret.txt").read())
except OSError as error:
    print(error)
