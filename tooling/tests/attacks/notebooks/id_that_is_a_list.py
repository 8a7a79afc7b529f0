# Makes grade ids lists, numbers, empty and endless.
# succeeds: disturbs

# %% make
for _k, _cell in enumerate(notebook["cells"]):
    if "nbgrader" in _cell["metadata"]:
        _cell["metadata"]["nbgrader"]["grade_id"] = [["a"], 7, "", "x" * 100_000, {"a": 1}, None][_k % 6]
