# Hands in fifty thousand cells.
# succeeds: disturbs
# stock: not run: it takes stock nbgrader half an hour to run them, and does no more than that

# %% make
for _k in range(50_000):
    notebook["cells"].append({"cell_type": "markdown", "id": f"m{_k}", "metadata": {}, "source": "x"})
