# Claims a format of nbformat that does not exist yet.
# succeeds: disturbs

# %% make
notebook["nbformat"], notebook["nbformat_minor"] = 99, -3
