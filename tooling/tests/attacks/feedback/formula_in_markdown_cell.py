# Writes a formula whose link runs into a text cell: no sanitiser of HTML sees it.
# succeeds: script

# %% reflect
The cost is $\href{javascript:redteam()}{O(n)}$, and \(\href{javascript:redteam()}{x}\).

# %% median
pass
