"""One launch of a kernel: arguments in, an engine chosen, results and reports out."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any

import numpy as np

from . import lockstep, source, threads, values
from .errors import CudaSimError, LaunchError, RaceError
from .limits import STATIC_SHARED, check_launch
from .profile import Profile
from .races import Detector, Race
from .records import Geometry, Recorder

BY_THREADS = 2048  # threads of a launch that `check` also runs one at a time


class RaceWarning(UserWarning):
    """A data race that a launch had; the results may still look right."""


@dataclass
class _State:
    races: str = "warn"  # what every launch does about races: "off", "warn" or "raise"
    profiles: list[Profile] = field(default_factory=list)
    watchers: list[list[Race]] = field(default_factory=list)


state = _State()


@dataclass
class Argument:
    """A kernel argument on the simulated device: an array and its name, or a value."""

    name: str
    value: Any  # np.ndarray, np.void or a typed scalar
    back: Any = None  # the host array to copy to afterwards


def _device_array(v: Any) -> np.ndarray | None:
    """The memory behind a device array of numba's simulator, or of a CPU tensor; None for anything else."""
    if getattr(v, "__cuda_ndarray__", False) and hasattr(v, "_ary"):
        return v._ary
    if hasattr(v, "data_ptr") and hasattr(v, "detach"):  # a torch tensor: its own memory, as on a GPU
        return v.detach().numpy()
    return None


def prepare(name: str, v: Any) -> Argument:
    """Put one argument on the device.

    Raises:
        LaunchError: for what a kernel cannot take, such as a list.
    """
    device = _device_array(v)
    if device is not None:
        return Argument(name, device)
    hint = type(v).__name__ if type(v).__module__.endswith("args") else ""
    if hint in ("In", "Out", "InOut"):
        inner = _device_array(v.value)
        if inner is not None:
            return Argument(name, inner)
        return Argument(name, np.array(v.value, order="K", copy=True), None if hint == "In" else v.value)
    if isinstance(v, np.ndarray):
        if v.ndim == 0:
            return Argument(name, v[()])
        return Argument(name, np.array(v, order="K", copy=True, subok=False), v if v.flags.writeable else None)
    if isinstance(v, np.void) and v.dtype.names:
        return Argument(name, v.copy() if v.flags.writeable else v, v if v.flags.writeable else None)
    if isinstance(v, (list, dict, set)):
        raise LaunchError(
            f"argument '{name}' is a {type(v).__name__}: a kernel takes arrays and numbers; pass np.array(...)"
        )
    if isinstance(v, str):
        raise LaunchError(f"argument '{name}' is a string: there are no strings on a GPU; pass a number or an array")
    if isinstance(v, bool):
        return Argument(name, v)
    return Argument(name, values.typed(v))


def copy_back(args: Sequence[Argument]) -> None:
    """Host arrays get what the kernel wrote."""
    for a in args:
        if a.back is not None:
            if isinstance(a.value, np.void):
                for f in a.value.dtype.names or ():
                    a.back[f] = a.value[f]
            else:
                np.copyto(a.back, a.value)


def names_of(fn: FunctionType, count: int) -> list[str]:
    """Parameter names for `count` arguments.

    Raises:
        LaunchError: where the number of arguments is wrong.
    """
    params = list(inspect.signature(fn).parameters.values())
    need = sum(p.default is p.empty and p.kind != p.VAR_POSITIONAL for p in params)
    variadic = any(p.kind == p.VAR_POSITIONAL for p in params)
    if not variadic and not need <= count <= len(params):
        raise LaunchError(
            f"kernel '{fn.__name__}' takes {len(params)} arguments ({', '.join(p.name for p in params)}), "
            f"but got {count}"
        )
    names = [p.name for p in params]
    return [names[min(i, len(names) - 1)] for i in range(count)] if names else []


def register(recorder: Recorder, args: Sequence[Argument], written: frozenset[str] | None) -> list[int]:
    """Buffer numbers for the array arguments (-1 for scalars); arguments that share memory share a buffer."""
    numbers: list[int] = []
    seen: list[tuple[int, int, int]] = []
    arrays = [(i, a) for i, a in enumerate(args) if isinstance(a.value, (np.ndarray, np.void))]
    span = {i: _span(a.value) for i, a in arrays}
    for i, a in enumerate(args):
        if i not in span:
            numbers.append(-1)
            continue
        low, high = span[i]
        hit = next((n for lo, hi, n in seen if low < hi and lo < high), None)
        may_write = written is None or a.name in written
        if hit is None:
            dt = a.value.dtype
            grain = 1 if dt.names else dt.itemsize
            # Strides from the lowest address, so that an index can be read back from an offset.
            hit = recorder.buffer(a.name, "global", high - low, grain, a.value.shape, a.value.strides, may_write, low)
        b = recorder.buffers[hit]
        b.written |= may_write
        seen.append((low, high, hit))
        numbers.append(hit)
    return numbers


def _span(a: Any) -> tuple[int, int]:
    """First and last+1 byte address of an array."""
    if isinstance(a, np.void):
        start = a.__array_interface__["data"][0]
        return start, start + a.nbytes
    return np.lib.array_utils.byte_bounds(a) if a.size else (a.__array_interface__["data"][0],) * 2


@dataclass
class Outcome:
    """What a launch reported: the races found, the profile (if one was asked for) and the engine that ran it."""

    races: tuple[Race, ...]
    engine: str
    why_threads: str = ""


def execute(
    fn: FunctionType,
    grid: tuple[int, int, int],
    block: tuple[int, int, int],
    args: Sequence[Argument],
    *,
    dynamic_shared: int = 0,
    seed: int | None = None,
    races: bool = False,
    profile: Profile | None = None,
    engine: str = "auto",
) -> Outcome:
    """Run a kernel on prepared arguments, in lock step where that engine can, else thread by thread.

    Args:
        engine: "auto", or "lockstep" or "threads" to insist (used by the tests).
    Raises:
        CudaSimError: for what the GPU or its compiler would refuse or do wrong.
    """
    check_launch(grid, block, dynamic_shared)
    source.check_compiles(fn)
    geometry = Geometry(grid, block)
    reason = ""
    if engine != "threads":
        saved = [a.value.copy() if isinstance(a.value, (np.ndarray, np.void)) else None for a in args]
        try:
            program = lockstep.compile_kernel(fn)
            recorder, numbers = _recorder(geometry, args, races, profile, program.written)
            program.run(geometry, args, numbers, dynamic_shared, seed, recorder)
            return Outcome(_finish(recorder), "lockstep")
        except lockstep.Unsupported as e:
            if engine == "lockstep":
                raise
            reason = str(e)
        for a, s in zip(args, saved, strict=True):
            if isinstance(s, np.void):
                for f in s.dtype.names or ():
                    a.value[f] = s[f]
            elif s is not None:
                a.value[...] = s
        if profile is not None:
            profile.clear()
    if profile is not None:
        profile.branches_counted = False
    recorder, numbers = _recorder(geometry, args, races, profile, None)
    launch = threads.Launch(fn, geometry, dynamic_shared, seed, recorder)
    launch.run(tuple(_thread_value(a, n, launch) for a, n in zip(args, numbers, strict=True)))
    return Outcome(_finish(recorder), "threads", reason)


def _recorder(
    geometry: Geometry, args: Sequence[Argument], races: bool, profile: Profile | None, written: frozenset[str] | None
) -> tuple[Recorder | None, list[int]]:
    if not races and profile is None:
        return None, [-1] * len(args)
    detector = Detector(geometry) if races else None
    recorder = Recorder(geometry, detector, profile)
    if detector is not None:
        detector.recorder = recorder
    if profile is not None:
        profile.geometry = geometry
    return recorder, register(recorder, args, written)


def _finish(recorder: Recorder | None) -> tuple[Race, ...]:
    if recorder is None:
        return ()
    recorder.flush()
    if recorder.profile is not None:
        recorder.profile.shared_bytes = sum(b.nbytes for b in recorder.buffers if b.space == "shared")
    if recorder.races is None:
        return ()
    recorder.races.grid_barrier()
    return recorder.races.races()


def _thread_value(a: Argument, buf: int, launch: threads.Launch) -> Any:
    if isinstance(a.value, np.ndarray):
        base = launch.recorder.buffers[buf].keep if buf >= 0 else 0
        return threads.ThreadArray(a.value, launch, a.name, buf, base)
    if isinstance(a.value, np.void) and a.value.dtype.names:
        base = launch.recorder.buffers[buf].keep if buf >= 0 else 0
        return threads.Record(a.value, launch, a.name, buf, base)
    return a.value


def dims(grid: Any, block: Any) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Grid and block as triples.

    Raises:
        ValueError, TypeError: as numba does for what is no dimension.
    """
    out = []
    for name, v in (("griddim", grid), ("blockdim", block)):
        seq = list(v) if isinstance(v, (tuple, list)) else [v]
        if len(seq) > 3:
            raise ValueError(f"{name} must be a sequence of 1, 2 or 3 integers, got {seq!r}")
        for n in seq:
            if not isinstance(n, (int, np.integer)) or isinstance(n, bool):
                raise TypeError(f"{name} must be a sequence of integers, got {seq!r}; use // instead of / to divide")
        x, y, z = ([int(n) for n in seq] + [1, 1])[:3]
        out.append((x, y, z))
    return out[0], out[1]


def launch(
    fn: FunctionType,
    grid: tuple[int, int, int],
    block: tuple[int, int, int],
    args: Sequence[Any],
    dynamic_shared: int = 0,
    *,
    seed: int | None = None,
    engine: str = "auto",
    races: bool | None = None,
) -> Outcome:
    """Run a kernel as `kernel[grid, block](*args)` does: host arrays are copied in and out.

    Races are warned of, raised or left alone as `enable` was told (or noted for a `racecheck`).
    """
    prepared = [prepare(n, a) for n, a in zip(names_of(fn, len(args)), args, strict=True)]
    detect = races if races is not None else state.races != "off" or bool(state.watchers)
    profile = Profile() if state.profiles else None
    out = execute(
        fn,
        grid,
        block,
        prepared,
        dynamic_shared=dynamic_shared,
        seed=seed,
        races=detect,
        profile=profile,
        engine=engine,
    )
    copy_back(prepared)
    if profile is not None:
        for p in state.profiles:
            p.merge(profile, fn.__name__)
    for w in state.watchers:
        w.extend(out.races)
    if out.races and races is None and not state.watchers:
        text = report(fn, out.races)
        if state.races == "raise":
            raise RaceError(text, out.races)
        if state.races == "warn":
            warnings.warn(text, RaceWarning, stacklevel=4)
    return out


def report(fn: FunctionType, races: Sequence[Race]) -> str:
    """The races of one kernel in words, the first five in full."""
    head = (
        f"kernel '{fn.__name__}' has {len(races)} data race{'s' if len(races) != 1 else ''}; its result is undefined:"
    )
    more = [f"  ... and {len(races) - 5} more"] if len(races) > 5 else []
    return "\n".join([head, *(f"  {r}" for r in races[:5]), *more])


@contextmanager
def racecheck() -> Iterator[list[Race]]:
    """Collect the races of the launches inside; nothing is warned of or raised meanwhile.

    Yields:
        a list that fills with `Race` records.
    """
    found: list[Race] = []
    state.watchers.append(found)
    try:
        yield found
    finally:
        state.watchers.remove(found)


@contextmanager
def profile() -> Iterator[Profile]:
    """Count what the launches inside do to memory.

    Yields:
        a `Profile`; read it after the launches.
    """
    p = Profile()
    state.profiles.append(p)
    try:
        yield p
    finally:
        state.profiles.remove(p)


def _function(kernel: Any) -> FunctionType:
    fn = source.python_function(kernel)
    if fn is None and isinstance(kernel, FunctionType):
        fn = kernel
    if fn is None:
        raise TypeError(f"{kernel!r} is no kernel: pass a @cuda.jit kernel or its Python function")
    return fn


def run(
    kernel: Any, grid: Any, block: Any, *args: Any, shared: int = 0, seed: int | None = None, engine: str = "auto"
) -> Outcome:
    """Run a kernel in the engine, wherever its decorator would send it: on a GPU machine too.

    Args:
        kernel: a `cuda.jit` kernel or a Python function.  grid, block: dimensions.  args: host arrays
            (changed in place) and numbers.  shared: bytes of dynamic shared memory.
        seed: order of threads and blocks; None is the natural order.
        engine: "auto", "lockstep" or "threads".
    Returns:
        Outcome with the races found. Nothing is raised for a race.
    Raises:
        CudaSimError: for what the GPU or its compiler would refuse.
    """
    g, b = dims(grid, block)
    return launch(_function(kernel), g, b, args, shared, seed=seed, engine=engine, races=True)


@dataclass
class Check:
    """The verdict on a kernel run under several schedules.

    Attributes:
        races: found in any run.  error: the first refusal, or None.
        unstable: names of arrays whose contents depended on the schedule.
        outputs: the array arguments after the run in natural order, by name.
    """

    kernel: FunctionType
    races: tuple[Race, ...]
    error: CudaSimError | None
    unstable: tuple[str, ...]
    outputs: dict[str, np.ndarray]

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.races and self.error is None and not self.unstable

    def __str__(self) -> str:
        if self.ok:
            return f"kernel '{self.kernel.__name__}': no race, no error, the same result under every schedule"
        parts = [str(self.error)] if self.error is not None else []
        if self.races:
            parts.append(report(self.kernel, self.races))
        if self.unstable:
            parts.append(
                f"kernel '{self.kernel.__name__}': the contents of {', '.join(self.unstable)} depend on the order in "
                "which threads run"
            )
        return "\n".join(parts)

    def raise_if_bad(self) -> None:
        """Raise what was found.

        Raises:
            CudaSimError: the refusal, or RaceError.
        """
        if self.error is not None:
            raise self.error
        if not self.ok:
            raise RaceError(str(self), self.races)


def check(
    kernel: Any, grid: Any, block: Any, *args: Any, shared: int = 0, seeds: int = 4, rtol: float = 1e-5, seed: int = 0
) -> Check:
    """Run a kernel under several schedules on copies of the arguments, looking for races and for differences.

    Args:
        kernel, grid, block, args, shared: as for `run`; the arguments stay unchanged.
        seeds: number of schedules; the first is the natural order.  seed: what the others are drawn from.
        rtol: relative difference between schedules that floating-point sums may have.
    """
    fn = _function(kernel)
    g, b = dims(grid, block)
    found: dict[str, Race] = {}
    unstable: dict[str, None] = {}
    outputs: dict[str, np.ndarray] = {}
    error: CudaSimError | None = None
    for k in range(max(1, seeds)):
        prepared = [prepare(n, a) for n, a in zip(names_of(fn, len(args)), args, strict=True)]
        for p in prepared:
            if isinstance(p.value, np.ndarray):
                p.value = p.value.copy()
        try:
            # Lock step and one thread at a time are the two extremes of scheduling: a small launch sees both.
            small = math.prod(g) * math.prod(b) <= BY_THREADS
            out = execute(
                fn,
                g,
                b,
                prepared,
                dynamic_shared=shared,
                seed=None if k == 0 else seed * 1009 + k,
                races=True,
                engine="threads" if small and k % 2 else "auto",
            )
        except CudaSimError as e:
            error = error or e
            break
        found.update((str(r), r) for r in out.races)
        arrays = {p.name: p.value for p in prepared if isinstance(p.value, np.ndarray)}
        if k == 0:
            outputs = arrays
        else:
            unstable.update((n, None) for n, v in arrays.items() if not _same(outputs[n], v, rtol))
    return Check(fn, tuple(found.values()), error, tuple(unstable), outputs)


def _same(a: np.ndarray, b: np.ndarray, rtol: float) -> bool:
    if a.dtype.kind in "fc":
        scale = float(np.nanmax(np.abs(a), initial=0.0, where=np.isfinite(a)))
        return bool(np.allclose(a, b, rtol=rtol, atol=rtol * scale, equal_nan=True))
    return bool(np.array_equal(a, b))


__all__ = ["STATIC_SHARED", "Check", "Outcome", "RaceWarning", "check", "launch", "profile", "racecheck", "run"]
