# Writes a script, a handler and a running link into a text cell.
# succeeds: script

# %% before test-median
[markdown]
<script>redteam()</script> <img src=x onerror=redteam()> [click](javascript:redteam())
<iframe srcdoc="<script>redteam()</script>"></iframe>

# %% median
pass
