# Connects to a port of the machine.
# succeeds: outside

# %% median
import socket

for _host in ("127.0.0.1", "localhost", "::1"):
    try:
        with socket.create_connection((_host, int("@PORT@")), timeout=2) as _s:
            _s.sendall(b"@NAME@\n")
    except OSError as error:
        print(error)
