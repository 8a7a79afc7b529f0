# Writes into the environment's own packages: a .pth file, sitecustomize, a module that the next job imports.
# succeeds: outside
# stock: not run: it would write into this machine's Python environment

# %% median
import os
import site
import sys

for _folder in {*site.getsitepackages(), *sys.path, sys.prefix, os.path.dirname(os.__file__)}:
    if not _folder or _folder == os.getcwd():
        continue
    try:
        with open(os.path.join(_folder, "redteam.pth"), "w") as _file:
            _file.write("import os; os.close(os.open('@MARK@', os.O_CREAT | os.O_WRONLY))\n")
        print("WROTE", _folder)
    except OSError as error:
        print(error)
