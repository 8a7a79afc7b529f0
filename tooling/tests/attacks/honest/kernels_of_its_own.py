# Writes another kernel, profiles it, times it, moves arrays about.
# lab: deep

# %% first
import numpy as np
from labkit import cudasim, timing
from numba import cuda, float32


@cuda.jit
def fill(out, value):
    tile = cuda.shared.array(32, float32)
    k = cuda.grid(1)
    tile[cuda.threadIdx.x] = value
    cuda.syncthreads()
    if k < out.size:
        out[k] = tile[cuda.threadIdx.x]


_out = cuda.to_device(np.zeros(50, np.float32))
with cudasim.profile() as _profile:
    fill[2, 32](_out, np.float32(3))
print(_out.copy_to_host()[:3], _profile.total.stores, timing.measure(lambda: sum(range(100)), repeats=2, warmup=0))
