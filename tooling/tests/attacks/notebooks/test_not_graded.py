# Switches the grade flag of a test off, so that its cell is nobody's.
# succeeds: disturbs

# %% make
for _cell in notebook["cells"]:
    if "grade" in _cell["metadata"].get("nbgrader", {}):
        _cell["metadata"]["nbgrader"]["grade"] = False
