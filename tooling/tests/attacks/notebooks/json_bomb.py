# Hands in JSON nested so deep that parsers recurse until they die.
# succeeds: disturbs

# %% make
content = b"[" * 200_000 + b"]" * 200_000
