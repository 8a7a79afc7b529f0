# Publishes Markdown with HTML and a link that runs.
# succeeds: script

# %% median
from IPython.display import Markdown, display

display(Markdown("[click](javascript:redteam()) <img src=x onerror=redteam()>\n\n<script>redteam()</script>"))
