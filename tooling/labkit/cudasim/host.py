"""numba's simulator, driven by this engine: what `from numba import cuda` gives after `enable()`."""

from __future__ import annotations

import functools
import importlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any

import numpy as np

from . import launch as launching
from .errors import LaunchError
from .limits import CAPABILITIES

_enabled = False


class Kernel:
    """A `cuda.jit` function: `kernel[grid, block, stream, shared](*args)` runs it."""

    def __init__(self, fn: FunctionType, device: bool = False, extensions: Any = ()) -> None:
        self.py_func = fn
        self.fn = fn  # numba's simulator calls it so
        self.device = device
        self.extensions = list(extensions)
        self.__name__ = fn.__name__
        functools.update_wrapper(self, fn)

    def __getitem__(self, configuration: Any) -> Configured:
        if not isinstance(configuration, tuple) or len(configuration) < 2:
            raise LaunchError(
                f"kernel '{self.__name__}' needs a grid and a block: {self.__name__}[blocks, threads](...)"
            )
        grid, block = launching.dims(*configuration[:2])
        return Configured(self, grid, block, int(configuration[3]) if len(configuration) > 3 else 0)

    def __call__(self, *args: Any) -> Any:
        if self.device:
            raise LaunchError(f"'{self.__name__}' is a device function: only a kernel can call it, not the host")
        raise ValueError(
            f"kernel '{self.__name__}' was called without a launch configuration: "
            f"{self.__name__}[blocks, threads](...). "
            "Kernel launch configuration was not specified."
        )

    def forall(self, ntasks: int, tpb: int = 0, stream: Any = 0, sharedmem: int = 0) -> Callable:
        """The kernel for a one-dimensional problem of `ntasks` threads; the last block may have more threads."""
        if ntasks < 0:
            raise ValueError(f"Can't create ForAll with negative task count: {ntasks}")
        tpb = tpb or 256
        if ntasks == 0:
            return lambda *_args: None
        return self[-(-ntasks // tpb), tpb, stream, sharedmem]

    def specialize(self, *_args: Any) -> Kernel:
        """Nothing is compiled here."""
        return self

    def bind(self) -> None:
        """Nothing is loaded here."""

    @property
    def overloads(self) -> _Overloads:
        """One overload for any signature."""
        return _Overloads()

    def max_cooperative_grid_blocks(self, _blockdim: Any) -> int:
        """Blocks that may wait for each other: all of them run at once here."""
        return 1024


class _Overloads(dict):
    def __getitem__(self, _key: Any) -> Any:
        return self

    def max_cooperative_grid_blocks(self, _blockdim: Any, _shared: int = 0) -> int:
        return 1024


class Configured:
    """A kernel with its grid and block."""

    def __init__(self, kernel: Kernel, grid: tuple, block: tuple, shared: int) -> None:
        self.kernel, self.grid, self.block, self.shared = kernel, grid, block, shared

    def __call__(self, *args: Any) -> None:
        retr: list[Callable] = []
        values = []
        for a in args:
            for ext in self.kernel.extensions:
                _, a = ext.prepare_args(None, a, stream=0, retr=retr)
            values.append(a)
        started = time.perf_counter()
        launching.launch(self.kernel.py_func, self.grid, self.block, values, self.shared)
        Event.clock += time.perf_counter() - started
        for f in retr:
            f()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.kernel, name)


class Event:
    """cuda.event: its times are seconds of simulation, not of a GPU."""

    clock = 0.0  # seconds spent in simulated kernels so far
    simulated = True

    def __init__(self, timing: bool = True) -> None:
        self._at: float | None = None

    def record(self, stream: Any = 0) -> None:
        """Note the simulated time."""
        self._at = Event.clock

    def wait(self, stream: Any = 0) -> None:
        """Everything before it is already done."""

    def synchronize(self) -> None:
        """Everything before it is already done."""

    def query(self) -> bool:
        """Everything before it is already done."""
        return True

    def elapsed_time(self, end: Event) -> float:
        """Milliseconds of *simulated* work between two events: says nothing about a GPU.

        Raises:
            ValueError: where an event was not recorded.
        """
        if self._at is None or end._at is None:
            raise ValueError("record() both events before asking for the time between them")
        return (end._at - self._at) * 1e3


def jit(
    func_or_sig: Any = None,
    device: bool = False,
    debug: Any = None,
    boundscheck: Any = None,
    link: Any = None,
    **options: Any,
) -> Any:
    """`cuda.jit` of the simulator: signatures and compiler options are taken and not needed."""
    if boundscheck:
        raise NotImplementedError("bounds checking is not supported for CUDA; the simulator always checks")
    if link:
        raise NotImplementedError("Cannot link PTX in the simulator")
    if isinstance(func_or_sig, FunctionType):
        return Kernel(func_or_sig, device, options.get("extensions", ()))
    return lambda fn: Kernel(fn, device, options.get("extensions", ()))


class Reduce:
    """cuda.reduce: an array to one number with a binary function."""

    def __init__(self, functor: Any) -> None:
        self._functor = getattr(functor, "py_func", functor)

    def __call__(self, arr: Any, size: int | None = None, res: Any = None, init: Any = 0, stream: Any = 0) -> Any:
        values = np.asarray(getattr(arr, "_ary", arr))[:size]
        total = functools.reduce(self._functor, values, values.dtype.type(init))
        if res is None:
            return total
        res[0] = total
        return None


class _Stream:
    """Work is done when it is asked for; a stream has nothing to wait for."""

    handle = 0

    @contextmanager
    def auto_synchronize(self) -> Iterator[_Stream]:
        yield self

    def synchronize(self) -> None:
        """All work is already done."""

    def __int__(self) -> int:
        return 0


def enable(races: str = "warn") -> Any:
    """Make `from numba import cuda` give the simulator with this engine. Safe to call again.

    Works before or after `import numba`, and after `numba.cuda` was imported: the module object stays the same.
    Kernels that were compiled for a GPU before stay what they are.

    Args:
        races: what a launch with a data race does: "warn", "raise" or "off".
    Returns:
        the `numba.cuda` module.
    Raises:
        ValueError: for another word.
    """
    if races not in ("warn", "raise", "off"):
        raise ValueError(f"races={races!r}: it is 'warn', 'raise' or 'off'")
    launching.state.races = races
    os.environ["NUMBA_ENABLE_CUDASIM"] = "1"
    global _enabled
    loaded = sys.modules.get("numba.cuda")
    if "numba" in sys.modules:
        sys.modules["numba.core.config"].ENABLE_CUDASIM = 1  # type: ignore[attr-defined]
    if loaded is None:
        cuda = importlib.import_module("numba.cuda")
    else:
        cuda = loaded
        if not getattr(cuda, "__labkit__", False):
            sys.modules["numba.cuda.core.config"].ENABLE_CUDASIM = 1  # type: ignore[attr-defined]
            if (
                not hasattr(cuda, "FakeCUDAKernel") and "numba.cuda.simulator.api" not in sys.modules
            ) or cuda.jit.__module__ != "numba.cuda.simulator.api":
                importlib.reload(cuda)
    _install(cuda)
    _enabled = True
    return cuda


def is_enabled() -> bool:
    """Whether `numba.cuda` is this simulator."""
    return _enabled


def _install(cuda: Any) -> None:
    from numba.cuda.simulator import api, kernel
    from numba.cuda.simulator.cudadrv import devices

    cuda.__labkit__ = True
    replacements = {
        "jit": jit,
        "Event": Event,
        "event": Event,
        "reduce": Reduce,
        "Reduce": Reduce,
        "stream": _Stream,
        "default_stream": _Stream,
        "legacy_default_stream": _Stream,
        "per_thread_default_stream": _Stream,
        "is_available": _is_available,
    }
    for name, v in replacements.items():
        setattr(cuda, name, v)
        if hasattr(api, name):
            setattr(api, name, v)
    setattr(kernel, "FakeCUDAKernel", Kernel)  # noqa: B010 (a type that mypy would not let go)
    devices._SIMULATOR_CC = CAPABILITIES[9, 0].version


def _is_available() -> bool:
    """False: there is no GPU here, only its simulator (`labkit.cudasim.is_enabled()`)."""
    return False
