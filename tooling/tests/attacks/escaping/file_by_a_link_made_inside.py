# Makes a link in its work folder that leads outside and writes through it, also when the folder is copied back.
# succeeds: outside

# %% median
import os

try:
    os.symlink("@OUTSIDE@", "out")
    open("out/@NAME@", "w").close()
except OSError as error:
    print(error)
