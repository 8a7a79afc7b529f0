# loses: test-softmax
# A magic in the cell, and a name that is not there.

# %% softmax
%time _ = np.exp(1.0)
def softmax(x):
    return nump.exp(x)
