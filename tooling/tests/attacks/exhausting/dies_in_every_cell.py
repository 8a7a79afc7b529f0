# Kills its kernel in every cell, so that each is started again.
# succeeds: disturbs

# %% make
for _k in range(40):
    notebook["cells"].insert(
        2,
        {"cell_type": "code", "id": f"die-{_k}", "metadata": {}, "execution_count": None, "outputs": [], "source": "import os; os._exit(1)"},
    )
