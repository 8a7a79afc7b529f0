# Hands a test in twice, the second one empty.
# succeeds: points test-median

# %% make
import copy

_copies = []
for _cell in notebook["cells"]:
    if _cell["metadata"].get("nbgrader", {}).get("grade_id") == "test-median":
        _twin = copy.deepcopy(_cell)
        _twin["source"], _twin["id"] = "2", "twin"
        _copies.append(_twin)
notebook["cells"] += _copies
