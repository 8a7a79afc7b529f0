# loses: test-affine
# Right values, no gradients.

# %% affine
def affine(x, w, b):
    return (x @ w.T + b).detach()
