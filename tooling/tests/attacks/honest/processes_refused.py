# Tries processes, and does without them when it must.

# %% first
import multiprocessing
import subprocess
import sys

try:
    with multiprocessing.get_context("fork").Pool(1) as pool:
        print(pool.map(abs, [-1, 2]))
except Exception as error:
    print("no processes here:", type(error).__name__)
print(subprocess.run([sys.executable, "-c", "print(6 * 7)"], capture_output=True, text=True).stdout)
