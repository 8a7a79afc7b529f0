# Hands in an empty file.
# succeeds: disturbs

# %% make
content = b""
