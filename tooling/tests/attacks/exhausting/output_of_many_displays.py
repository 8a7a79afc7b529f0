# Publishes a hundred thousand small outputs and updates of outputs.
# succeeds: disturbs
# stock: not run: an hour of nbclient's work

# %% median
from IPython.display import clear_output, display

for _k in range(100_000):
    display(_k, display_id="same", update=_k > 0)
    clear_output(wait=True)
