# Hands in modules with the names of libraries, a sitecustomize, a .pth file and a start-up script of IPython's.
# succeeds: points test-median; outside
# stock: resists: a stock kernel of today starts outside the folder's reach of these names

# %% file numpy.py
open("@MARK@", "w").close()

# %% file statistics.py
def median(values):
    return 0

# %% file sitecustomize.py
open("@MARK@", "w").close()

# %% file usercustomize.py
open("@MARK@", "w").close()

# %% file labkit.py
open("@MARK@", "w").close()

# %% file evil.pth
import os; open("@MARK@", "w").close()

# %% file .ipython/profile_default/startup/00-first.py
import builtins
builtins.sorted = lambda *a: [0]

# %% file ipython_config.py
open("@MARK@", "w").close()

# %% file ipython_kernel_config.py
open("@MARK@", "w").close()

# %% median
def median(values):
    return 0
