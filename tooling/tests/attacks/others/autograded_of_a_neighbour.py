# Links its own file to another's place in the submission, so that grading writes there.
# succeeds: disturbs

# %% make
import os

os.symlink("@NEIGHBOUR@/plain/notes.txt", folder / "notes.txt")
os.symlink("@NEIGHBOUR@/plain", folder / "data")

# %% median
for _path in ("notes.txt", "data/notes.txt"):
    try:
        with open(_path, "a") as _file:
            _file.write("changed")
    except OSError as error:
        print(error)
