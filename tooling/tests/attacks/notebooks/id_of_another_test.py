# Gives a cell of its own, which holds nothing, the id of a test, and the test another.
# succeeds: points test-median

# %% make
for _cell in notebook["cells"]:
    if _cell["metadata"].get("nbgrader", {}).get("grade_id") == "test-median":
        _cell["metadata"]["nbgrader"]["grade_id"] = "something-else"
notebook["cells"].append(
    {
        "cell_type": "code", "id": "mine", "execution_count": None, "outputs": [], "source": "2",
        "metadata": {"nbgrader": {"grade": True, "grade_id": "test-median", "locked": True, "points": 2, "schema_version": 3, "solution": False, "task": False}},
    }
)
