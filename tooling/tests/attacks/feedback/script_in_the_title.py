# Puts a script into the notebook's title and metadata, which templates print.
# succeeds: script

# %% make
notebook["metadata"]["title"] = "</title><script>redteam()</script>"
notebook["metadata"]["authors"] = [{"name": "<script>redteam()</script>"}]
notebook["metadata"]["language_info"] = {"name": "python", "pygments_lexer": "\"><script>redteam()</script>", "version": "<script>redteam()</script>"}

# %% median
pass
