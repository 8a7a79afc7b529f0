# Changes numpy's settings and seeds.

# %% first
import random

import numpy as np

np.seterr(all="ignore")
np.set_printoptions(precision=3, suppress=True)
np.random.seed(0)
random.seed(0)
rng = np.random.default_rng(7)
with np.errstate(divide="raise"):
    try:
        np.float64(1) / 0
    except FloatingPointError as error:
        print(error)
print(rng.normal(size=3), np.random.rand(2), random.random(), np.vectorize(lambda v: v + 1)([1, 2]))

# %% each
def _ignoring(function):
    def wrapper(*args):
        with np.errstate(all="ignore"):
            return function(*args)

    return wrapper


@NAME@ = _ignoring(@NAME@)
