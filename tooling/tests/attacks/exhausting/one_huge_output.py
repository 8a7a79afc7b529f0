# Publishes one output of many megabytes, of which every page and every grader has to keep a copy.
# succeeds: disturbs
# stock: not run: it would fill this machine's memory with what nbclient keeps

# %% median
from IPython.display import HTML, display

display(HTML("<p>" + "x" * (200 << 20)))
