"""What the engine refuses, in words that name thread, block, array, index, line and what to do."""

from __future__ import annotations


class CudaSimError(Exception):
    """Base of everything that the engine reports about a kernel."""


class LaunchError(CudaSimError, ValueError):
    """The grid, the block or the shared memory asked for does not exist on a GPU."""


class CompileError(CudaSimError, TypeError):
    """The kernel is Python that the CUDA compiler refuses."""


class OutOfBoundsError(CudaSimError, IndexError):
    """A thread touched an element that the array does not have."""


class BarrierError(CudaSimError, RuntimeError):
    """A barrier or warp primitive that some of the threads it waits for never reach."""


class DeadlockError(CudaSimError, RuntimeError):
    """Threads wait for each other for ever."""


class RaceError(CudaSimError, AssertionError):
    """Conflicting accesses without a barrier or an atomic between them.

    Attributes:
        races: the `labkit.cudasim.Race` records, in order of source line.
    """

    def __init__(self, message: str, races: tuple = ()) -> None:
        super().__init__(message)
        self.races = races


class KernelError(CudaSimError, RuntimeError):
    """A Python error inside a kernel, with the thread it happened in."""
