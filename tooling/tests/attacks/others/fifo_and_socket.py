# Hands in a pipe and a socket, on which a copying grader hangs.
# succeeds: disturbs
# stock: not run: shutil.copy of a pipe waits for ever

# %% make
import os
import socket

os.mkfifo(folder / "data.csv")
_s = socket.socket(socket.AF_UNIX)
_here = os.getcwd()
os.chdir(folder)
_s.bind("socket")
os.chdir(_here)
_s.close()

# %% median
pass
