# Publishes a formula whose link runs, and one that breaks out of its element.
# succeeds: script

# %% median
from IPython.display import Latex, Math, display

display(Latex(r"$\href{javascript:redteam()}{x}$</div><script>redteam()</script>"))
display(Math(r"\href{javascript:redteam()}{x}"))
