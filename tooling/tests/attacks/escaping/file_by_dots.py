# Climbs from its work folder to the root and down again.
# succeeds: outside

# %% median
import os

for _up in range(1, 12):
    try:
        open("../" * _up + "@MARK@".lstrip("/"), "w").close()
    except OSError:
        pass
for _fd in range(64):
    try:
        os.close(os.open("@MARK@".lstrip("/"), os.O_CREAT | os.O_WRONLY, dir_fd=_fd))
    except OSError:
        pass
