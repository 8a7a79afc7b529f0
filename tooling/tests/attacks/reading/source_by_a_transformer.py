# An input transformer sees the source of every cell and prints that of the hidden tests.
# succeeds: leak hidden

# %% median
_seen = []


def see(lines):
    _seen.extend(lines)
    return lines


get_ipython().input_transformers_post.append(see)


def median(values):
    return 0

# %% after test-median
print("".join(_seen)[::-1])
