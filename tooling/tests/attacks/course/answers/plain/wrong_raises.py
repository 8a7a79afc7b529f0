# loses: test-median, test-softmax
# Raises errors of its own.

# %% median
class EmptyError(ValueError):
    """Not enough values."""


def median(values):
    if len(values) < 3:
        raise EmptyError(f"only {len(values)} values")
    return sorted(values)[len(values) // 2]

# %% softmax
def softmax(x):
    return np.exp(x) / total
