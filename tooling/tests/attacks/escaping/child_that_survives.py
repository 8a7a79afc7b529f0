# Starts a process of its own session that writes a file when the kernel is long gone.
# succeeds: outside

# %% median
import subprocess

subprocess.Popen(
    ["/bin/sh", "-c", "sleep 2; touch @MARK@"],
    start_new_session=True,
    stdin=subprocess.DEVNULL,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
)
