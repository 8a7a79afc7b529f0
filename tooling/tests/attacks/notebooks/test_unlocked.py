# Takes the lock off a test, and empties it.
# succeeds: points test-median

# %% make
for _cell in notebook["cells"]:
    _meta = _cell["metadata"].get("nbgrader", {})
    if _meta.get("grade_id") == "test-median":
        _meta["locked"] = False
        _cell["source"] = "2"
