"""Run an untouched lab as a student does, in the student image: what fails are exercises and their tests.

python open_lab.py NOTEBOOK
"""

import sys
from collections import Counter
from pathlib import Path

import nbformat
from nbclient import NotebookClient

path = Path(sys.argv[1])
notebook = nbformat.read(path, as_version=4)
NotebookClient(notebook, allow_errors=True, timeout=300, resources={"metadata": {"path": str(path.parent)}}).execute()
outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
errors = Counter(output["ename"] for output in outputs if output["output_type"] == "error")
print(f"{path.name}: {sum(cell.cell_type == 'code' for cell in notebook.cells)} code cells, errors: {dict(errors)}")
sys.exit(0 if errors and set(errors) <= {"NotImplementedError", "AssertionError"} else "only exercises may fail")
