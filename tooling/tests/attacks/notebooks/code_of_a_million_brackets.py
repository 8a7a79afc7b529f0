# Hands in code that kills a parser: brackets nested a hundred thousand deep.
# succeeds: disturbs

# %% make
for _cell in notebook["cells"]:
    if _cell["metadata"].get("nbgrader", {}).get("grade_id") == "median":
        _cell["source"] = "x = " + "(" * 100_000 + ")" * 100_000 + "\n" + "-" * 50_000 + "1"
