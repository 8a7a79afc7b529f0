# Hands in notebooks with names that lead elsewhere when they are joined to a path.
# succeeds: disturbs; outside

# %% make
import json

for _name in ("..%2f..%2fescape.ipynb", "plain.ipynb\n.ipynb", "-rf.ipynb", "$(touch @NAME@).ipynb", "*.ipynb", "{student_id}.ipynb"):
    (folder / _name).write_text(json.dumps(notebook))

# %% median
pass
