# Hands in a notebook whose metadata is nested a thousand deep: it parses, and then something walks it.
# succeeds: disturbs

# %% make
_deep = {}
for _ in range(900):
    _deep = {"a": _deep}
notebook["metadata"]["x"] = _deep
for _cell in notebook["cells"]:
    _cell["metadata"]["x"] = _deep
