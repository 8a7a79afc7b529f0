# Asks a shell, which has no Python in it to watch.
# succeeds: outside

# %% median
!touch @MARK@
import subprocess

subprocess.run(["/bin/sh", "-c", "touch @MARK@"], capture_output=True)
