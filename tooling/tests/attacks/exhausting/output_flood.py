# Prints without an end.
# succeeds: disturbs
# stock: not run: it would fill this machine's memory with what nbclient keeps

# %% median
while True:
    print("x" * 10_000)
