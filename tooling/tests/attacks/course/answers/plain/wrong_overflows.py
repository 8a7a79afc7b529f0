# loses: test-softmax
# exp overflows for large values, with a warning.

# %% softmax
def softmax(x):
    return np.exp(x) / np.exp(x).sum()
