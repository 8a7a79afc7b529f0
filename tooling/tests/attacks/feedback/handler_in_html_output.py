# Shows pictures and details whose event handlers run without a click.
# succeeds: script

# %% median
from IPython.display import HTML, display

display(HTML("<img src=x onerror=redteam()><details open ontoggle=redteam()><svg onload=redteam()></svg>"))
