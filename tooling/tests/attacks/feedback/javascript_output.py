# Publishes JavaScript as such.
# succeeds: script

# %% median
from IPython.display import Javascript, display

display(Javascript("redteam()"))
