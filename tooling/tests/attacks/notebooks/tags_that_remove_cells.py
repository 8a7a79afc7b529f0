# Tags its cells so that exporters remove them, and writes exporter settings into the notebook's metadata.
# succeeds: points test-median

# %% make
notebook["metadata"]["nbconvert"] = {"exclude": True}
notebook["metadata"]["celltoolbar"] = "Create Assignment"
notebook["metadata"]["nbgrader"] = {"points": 99}
for _cell in notebook["cells"]:
    _cell["metadata"]["tags"] = ["remove_cell", "raises-exception", "skip-execution"]
    _cell["metadata"]["deletable"] = True
