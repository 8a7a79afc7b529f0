# Puts scripts into ids, tags and names of cells, which become attributes.
# succeeds: script

# %% make
for _k, _cell in enumerate(notebook["cells"]):
    _cell["metadata"]["tags"] = ["\"><script>redteam()</script>"]
    _cell["metadata"]["name"] = "\"><img src=x onerror=redteam()>"
    _cell["id"] = f"x{_k}"

# %% median
pass
