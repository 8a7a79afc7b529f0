# loses: test-affine
# w where w.T belongs.

# %% affine
def affine(x, w, b):
    return x @ w + b
