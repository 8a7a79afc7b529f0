# Writes nbgrader metadata of schema versions that never were, with values of the wrong types.
# succeeds: disturbs

# %% make
for _k, _cell in enumerate(notebook["cells"]):
    if "nbgrader" in _cell["metadata"]:
        _cell["metadata"]["nbgrader"].update(schema_version=[99, "x", None, -1][_k % 4], points=["all", None, 1e309, []][_k % 4])
