# Connects to a socket without a path, which no file permission guards.
# succeeds: outside

# %% median
import socket

try:
    with socket.socket(socket.AF_UNIX) as _s:
        _s.connect("\0@SOCKET@")
        _s.sendall(b"@NAME@\n")
except OSError as error:
    print(error)
