# Holds a lock on the gradebook from a process that outlives the kernel, so that others' marks cannot be written.
# succeeds: disturbs
# stock: resists: the lock is given back after 3 s here, so that the run ends; held for good it stops the batch

# %% median
import subprocess
import sys

_hold = """
import sqlite3, time
db = sqlite3.connect('@COURSE@/gradebook.db', timeout=1, isolation_level=None)
db.execute('begin exclusive')
time.sleep(3)
"""
subprocess.Popen([sys.executable, "-c", _hold], start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
