# Looks for sockets of the fork server and of other kernels, and connects to those that it finds.
# succeeds: outside
# stock: not run: it would connect to every kernel that runs on this machine

# %% median
import glob
import socket

_paths = [line.split()[-1] for line in open("/proc/net/unix").read().splitlines()[1:]] if glob.glob("/proc/net/unix") else []
_found = []
for _path in set(_paths) | set(glob.glob("/tmp/**/*", recursive=True)) | set(glob.glob("/run/**/*", recursive=True)):
    if "gradekit" not in _path and "kernel" not in _path:
        continue
    try:
        with socket.socket(socket.AF_UNIX) as _s:
            _s.settimeout(1)
            _s.connect(_path.replace("@", "\0", 1) if _path.startswith("@") else _path)
            _found.append(_path)
    except OSError as error:
        print(_path, error)
if _found:
    try:
        open("@MARK@", "w").close()
    except OSError:
        pass
    print("REACHED", _found)
