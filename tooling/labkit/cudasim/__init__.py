"""CUDA kernels on any laptop, with the bugs shown.

`enable()` makes `from numba import cuda` give numba's simulator with this engine: the same kernels run unchanged on a
GPU and here, where a launch also reports data races, barriers that not all threads reach, and accesses out of bounds,
with thread, block, array, index and source line.

    from labkit import cudasim
    cuda = cudasim.enable()                 # or: cudasim.enable(); from numba import cuda
    kernel[grid, block](x, out)             # races are warned of; enable(races="raise") raises
    with cudasim.profile() as p:            # sectors, coalescing, bank conflicts, divergence, atomics
        kernel[grid, block](x, out)
    print(p); p.picture()
    with cudasim.racecheck() as races: ...  # collect instead of warn
    cudasim.check(kernel, grid, block, x, out)   # several schedules, on copies; also on a GPU machine
    cudasim.run(kernel, grid, block, x, out)     # this engine whatever the decorator chose

Two engines. Lock step (`lockstep`) runs all threads of many blocks as NumPy arrays under masks; the thread engine
(`threads`) runs the kernel's own Python in a greenlet a thread, knows everything, and words every error. Lock step
hands over what it does not know: structured arrays, vector types, prints, locks between threads, errors.

Why so (measured with `gradekit bench cudasim`, 2 cores of an AMD EPYC busy with other work): numba's simulator, one OS
thread a CUDA thread, took 12.4 s for a vector add of 65,536 threads, 3.9 s for a reduction of 16 x 256 and 30 s for a
128x128 tiled product; greenlets took 0.2 s for the reduction; lock step 0.007 s, 0.0015 s and 0.026 s. So lock step
is the engine, and greenlets the one that is always right.

Where the answer can differ from a GPU's: rounding of float atomics (the GPU's order is not fixed either), and SIMD
variants of exp, sin and the like in the last place. Types are numba's: integers widen to 64 bits, float literals
are float64, and a variable that is float32 on one path and float64 on another becomes float64 (in
the thread engine: only in the threads that took that path).
"""

from .errors import (
    BarrierError,
    CompileError,
    CudaSimError,
    DeadlockError,
    KernelError,
    LaunchError,
    OutOfBoundsError,
    RaceError,
)
from .host import enable, is_enabled
from .launch import Check, Outcome, RaceWarning, check, profile, racecheck, run
from .limits import occupancy
from .profile import Counts, Profile
from .races import Access, Race

__all__ = [
    "Access",
    "BarrierError",
    "Check",
    "CompileError",
    "Counts",
    "CudaSimError",
    "DeadlockError",
    "KernelError",
    "LaunchError",
    "OutOfBoundsError",
    "Outcome",
    "Profile",
    "Race",
    "RaceError",
    "RaceWarning",
    "check",
    "enable",
    "is_enabled",
    "occupancy",
    "profile",
    "racecheck",
    "run",
]
