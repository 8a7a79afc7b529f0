# Writes half a surrogate pair into a code cell: JSON can say it, no encoder can send it.
# succeeds: disturbs

# %% make
for _cell in notebook["cells"]:
    if _cell["cell_type"] == "code" and not _cell["metadata"].get("nbgrader", {}).get("locked", True):
        _cell["source"] = "x = '\ud800'"
