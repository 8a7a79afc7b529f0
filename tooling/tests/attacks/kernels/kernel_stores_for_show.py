# Launches a kernel that stores as often as the right one does, in a scratch array, and multiplies with NumPy.
# lab: deep
# succeeds: points test-scaled
# known: the profile counts what kernels did, not which result they made; an instructor who wants that hands the kernel in,
#   as lab 1.3.1 does with its spy, so that only what that kernel wrote can be right.

# %% scale
@cuda.jit
def scale(x, factor, out):
    k = cuda.grid(1)
    if k < out.size:
        out[k] = 0


# %% scaled
def scaled(x, factor):
    scale[(x.size + 63) // 64, 64](x, factor, np.empty_like(x))
    return factor * x
