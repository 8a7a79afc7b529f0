# The framework's own layer and reductions.

# %% affine
def affine(x, w, b):
    return torch.nn.functional.linear(x, w, b)

# %% squares
def squares(x):
    return float(np.linalg.norm(x) ** 2)
