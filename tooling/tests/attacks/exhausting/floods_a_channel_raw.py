# Writes garbage to every socket that the kernel holds, below the messaging library.
# succeeds: disturbs
# stock: resists: a kernel that breaks its channels costs its own submission

# %% median
import os
import stat

for _fd in range(3, 200):
    try:
        if stat.S_ISSOCK(os.fstat(_fd).st_mode):
            os.set_blocking(_fd, False)
            os.write(_fd, b"\xff" * 4096)
    except OSError:
        pass
