# Writes NaN and Infinity where numbers belong, which Python's JSON reads and the world's does not.
# succeeds: points test-median test-softmax

# %% make
import json

for _cell in notebook["cells"]:
    if "points" in _cell["metadata"].get("nbgrader", {}):
        _cell["metadata"]["nbgrader"]["points"] = float("inf")
content = json.dumps(notebook).replace("Infinity", "Infinity", 1).encode()
