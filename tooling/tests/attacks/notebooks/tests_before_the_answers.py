# Moves the tests in front of the answers and defines what they call there, wrongly; the answers never run before a test.
# succeeds: points test-median

# %% make
_tests = [c for c in notebook["cells"] if c["metadata"].get("nbgrader", {}).get("grade_id", "").startswith("test-")]
notebook["cells"] = [notebook["cells"][1], *_tests, *[c for c in notebook["cells"] if c not in _tests]]
