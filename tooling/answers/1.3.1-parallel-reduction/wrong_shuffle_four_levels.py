# loses: test-reduce-shuffle
# Offsets 8, 4, 2, 1: half of each warp is left out.

# %% reduce-shuffle
@cuda.jit(device=True)
def warp_sum(value):
    for offset in (8, 4, 2, 1):
        value += cuda.shfl_down_sync(0xFFFFFFFF, value, offset)
    return value


@cuda.jit
def shuffle_sum(x, partials):
    slots = cuda.shared.array(32, float32)
    t = cuda.threadIdx.x
    total = float32(0)
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        total += x[i]
    total = warp_sum(total)
    if t % 32 == 0:
        slots[t // 32] = total
    cuda.syncthreads()
    if t < 32:
        total = warp_sum(slots[t] if t < cuda.blockDim.x // 32 else float32(0))
        if t == 0:
            partials[cuda.blockIdx.x] = total
