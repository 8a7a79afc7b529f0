# Hands in a text that is no JSON.
# succeeds: disturbs

# %% make
content = b"<html>this is my notebook</html>"
