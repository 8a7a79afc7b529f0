# Hands in a cell of twenty megabytes.
# succeeds: disturbs

# %% make
notebook["cells"].append({"cell_type": "markdown", "id": "huge", "metadata": {}, "source": "words " * (20 << 20 >> 3)})
