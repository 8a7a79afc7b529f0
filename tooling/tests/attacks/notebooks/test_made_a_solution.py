# Makes a test a cell that is answered and graded at once, whose source is the student's.
# succeeds: points test-median

# %% make
for _cell in notebook["cells"]:
    _meta = _cell["metadata"].get("nbgrader", {})
    if _meta.get("grade_id") == "test-median":
        _meta.update(solution=True, locked=False)
        _cell["source"] = "2"
