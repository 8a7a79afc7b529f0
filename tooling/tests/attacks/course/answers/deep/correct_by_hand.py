# einsum, a grid-stride loop, blocks of another size.

# %% affine
def affine(x, w, b):
    return torch.einsum("ni,oi->no", x, w) + b.unsqueeze(0)

# %% scale
@cuda.jit
def scale(x, factor, out):
    k = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    while k < x.size:
        out[k] = x[k] * factor
        k += cuda.gridDim.x * cuda.blockDim.x

# %% scaled
def scaled(x, factor):
    result = np.zeros(x.shape, x.dtype)
    threads = 32
    scale[-(-x.size // threads), threads](x, factor, result)
    return result

# %% squares
def squares(x):
    return float(np.sum(x**2))
