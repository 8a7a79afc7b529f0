# Hands in a path so deep that copying it anywhere fails.
# succeeds: disturbs

# %% make
import os

_here = os.getcwd()
os.chdir(folder)
for _ in range(20):
    os.mkdir("d" * 200)
    os.chdir("d" * 200)
open("end.txt", "w").close()
os.chdir(_here)

# %% median
pass
