# Shows HTML with a script.
# succeeds: script

# %% median
from IPython.display import HTML, display

display(HTML("<script>redteam()</script><p onclick='redteam()'>hello</p>"))
