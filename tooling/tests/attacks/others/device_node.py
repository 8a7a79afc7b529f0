# Hands in a device that never ends.
# succeeds: disturbs
# stock: not run: it would be copied without an end

# %% make
import os
import stat

try:
    os.mknod(folder / "zeros.bin", 0o666 | stat.S_IFCHR, os.makedev(1, 5))
except PermissionError:
    os.symlink("/dev/zero", folder / "zeros.bin")

# %% median
pass
