# Compiles a helper of its own with numba.
# lab: deep

# %% first
import numba
import numpy as np


@numba.njit
def total(x):
    s = 0.0
    for v in x:
        s += v
    return s


@numba.vectorize(["float64(float64, float64)"])
def plus(a, b):
    return a + b


print(total(np.arange(5.0)), plus(1.0, 2.0), numba.get_num_threads())
