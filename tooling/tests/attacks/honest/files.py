# Writes and reads files in its folder and in temporary ones.

# %% first
import csv
import json
import os
import pickle
import tempfile
from pathlib import Path

Path("notes").mkdir(exist_ok=True)
Path("notes/a.json").write_text(json.dumps({"k": [1, 2]}))
with open("table.csv", "w", newline="") as file:
    csv.writer(file).writerows([[1, 2], [3, 4]])
with tempfile.NamedTemporaryFile("w+b") as file:
    pickle.dump({"x": 1}, file)
    file.seek(0)
    print(pickle.load(file))
print(json.loads(Path("notes/a.json").read_text()), os.listdir("."), Path.cwd().name != "", os.environ.get("HOME"))
