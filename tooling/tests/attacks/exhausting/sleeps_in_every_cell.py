# Sleeps a little less than the limit in every cell that it can add.
# succeeds: disturbs
# stock: not run: it would take minutes and do no more than that

# %% make
for _k in range(12):
    notebook["cells"].append(
        {"cell_type": "code", "id": f"sleep-{_k}", "metadata": {}, "execution_count": None, "outputs": [], "source": "import time; time.sleep(8)"}
    )
