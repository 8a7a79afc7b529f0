"""Launches that tests can trust: a student's kernel, or host function, run where nothing can answer for it.

A verdict on a kernel rests on what it wrote. So every launch gets fresh copies of its inputs (a result cached by
address cannot be right), outputs full of poison (what no thread wrote is seen, and memory that happens to hold an
earlier answer is not there), a check that the inputs came back as they went in, and a synchronised device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy import ndarray, shares_memory
from torch import Tensor

from labkit import checking, cudasim, hardware
from labkit.cudasim.host import Kernel

_POISON = {"f": np.nan, "c": complex(np.nan, np.nan)}


@dataclass(frozen=True)
class Output:
    """An argument that a kernel writes to; made by `out` and `start`."""

    begins: ndarray


@dataclass(frozen=True)
class Run:
    """What a launch, or a host function, did.

    Attributes:
        outs: of `launch`, the arrays that the kernel wrote, in the order of its arguments.
        result: of `call`, what the function returned.
        profile: what all its launches did to memory, counted by the simulator; `profile.kernels` names them.
    """

    profile: cudasim.Profile
    outs: tuple[ndarray, ...] = ()
    result: Any = None

    @property
    def out(self) -> ndarray:
        """The kernel's only output.

        Raises:
            ValueError: it has none, or several.
        """
        if len(self.outs) != 1:
            raise ValueError(f"this launch has {len(self.outs)} outputs; read them from `outs`")
        return self.outs[0]


def out(shape: int | tuple[int, ...], dtype: Any = np.float32) -> Output:
    """An output that starts as poison: NaN, or the integer type's smallest value (its largest, if unsigned).

    Raises:
        TypeError: there is no poison for `dtype`, as for bool: use int8.
    """
    kind = np.dtype(dtype)
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        return Output(np.full(shape, limits.min if kind.kind == "i" else limits.max, kind))
    if kind.kind not in _POISON:
        raise TypeError(f"an output of {kind} cannot be poisoned; use a floating-point or an integer type")
    return Output(np.full(shape, _POISON[kind.kind], kind))


def start(values: ndarray) -> Output:
    """An output that starts with `values`, as for a kernel that adds to it; `values` itself is left alone."""
    return Output(np.array(values))


def launch(kernel: Any, blocks: Any, threads: Any, *arguments: Any, shared: int = 0) -> Run:
    """Run `kernel[blocks, threads](*arguments)` on copies.

    In the simulator if there is no GPU. With one, the simulator counts and looks for races, and the values are
    those of the GPU.

    Args:
        kernel: a `cuda.jit` kernel.
        blocks, threads: the grid and the block; integers, or tuples of up to three.
        arguments: in the kernel's order: arrays that it reads, outputs made by `out` or `start`, and numbers.
        shared: bytes of dynamic shared memory for each block.

    Raises:
        AssertionError: it is no kernel, changed an input, or has a data race.
        NotImplementedError: its body is still the released one.
        CudaSimError: what a GPU, or its compiler, would refuse or do wrong.
    """
    name = _name(kernel)
    values = _copies(arguments)
    inputs = {f"argument {k} of {name}": v for k, v in enumerate(values) if isinstance(arguments[k], ndarray)}
    begins = [v.copy() if isinstance(v, ndarray) else v for v in values]
    with checking.unchanged(**inputs), cudasim.profile() as profile:
        races = cudasim.run(kernel, blocks, threads, *values, shared=shared).races
        assert not races, f"{name} has a data race: {races[0]}"
        if not hardware.simulating():
            _run_on_gpu(kernel, blocks, threads, shared, begins, values)
    return Run(profile, tuple(v for v, a in zip(values, arguments, strict=True) if isinstance(a, Output)))


def call(function: Callable[..., Any], *arguments: Any, decoys: Sequence[Any] | None = None) -> Run:
    """Run a host function that launches kernels itself and returns arrays or tensors.

    It is called twice: with decoys, then with the arguments, in the same memory. A result that was kept by the address
    or the shape of the inputs is the decoys' then.

    Args:
        function: takes `arguments` and returns an array, a tensor, or a tuple or list of these.
        decoys: other values for the arguments, of the same shapes and types. As a rule each floating-point array is
            halved, and everything else stays.

    Raises:
        AssertionError: an input was changed, or a result shares memory with an input or with an earlier result.
        ValueError: no decoys are given, and no argument is an array of floating-point numbers.
    """
    name = getattr(function, "__name__", "the function")
    if decoys is None:
        if not any(_floats(value) for value in arguments):
            raise ValueError("call() needs decoys: no argument is an array of floating-point numbers")
        decoys = [value / 2 if _floats(value) else value for value in arguments]
    held = _copies(decoys)
    earlier = function(*held)
    for place, value in zip(held, arguments, strict=True):
        if isinstance(place, ndarray | Tensor):
            place[...] = value
    inputs = {f"argument {k} of {name}": v for k, v in enumerate(held) if isinstance(v, ndarray | Tensor)}
    counting = nullcontext() if hardware.simulating() else _counting()
    with checking.unchanged(**inputs), cudasim.profile() as profile, counting:
        result = function(*held)
        if not hardware.simulating():
            _synchronize()
    for mine in _arrays(result):
        assert not any(_overlap(mine, other) for other in _arrays(held)), f"{name} returned the memory of an input"
        assert not any(_overlap(mine, other) for other in _arrays(earlier)), (
            f"{name} returned memory that an earlier call had returned: what its caller kept has changed"
        )
    return Run(profile, result=result)


def _name(kernel: Any) -> str:
    if type(kernel) is not _kernel_type():
        raise AssertionError(f"expected a @cuda.jit kernel, got a {type(kernel).__name__}")
    function: Any = kernel.py_func  # type: ignore[attr-defined]
    if "NotImplementedError" in function.__code__.co_names:
        raise NotImplementedError(f"{function.__name__} is not written yet")
    return function.__name__


def _kernel_type() -> type:
    if hardware.simulating():
        return Kernel
    from numba.cuda.dispatcher import CUDADispatcher  # numba's simulator has no such module

    return CUDADispatcher


def _copies(arguments: Sequence[Any]) -> list[Any]:
    """Fresh memory for each array, in its own layout."""
    values: list[Any] = []
    for value in arguments:
        if isinstance(value, Output):
            values.append(value.begins.copy())
        elif isinstance(value, ndarray):
            values.append(np.array(value, order="K", copy=True, subok=False))
        else:
            values.append(value.detach().clone() if isinstance(value, Tensor) else value)
    return values


def _run_on_gpu(
    kernel: Any, blocks: Any, threads: Any, shared: int, begins: list[Any], values: list[Any]
) -> None:
    """Run on the GPU with the arguments `begins`; what the arrays hold afterwards goes into those of `values`."""
    from numba import cuda

    placed = [cuda.to_device(value) if isinstance(value, ndarray) else value for value in begins]
    kernel[blocks, threads, 0, shared](*placed)
    _synchronize()
    for there, value in zip(placed, values, strict=True):
        if isinstance(value, ndarray):
            np.copyto(value, there.copy_to_host())


def _synchronize() -> None:
    from numba import cuda

    cuda.synchronize()  # the whole device: work that was sent to another stream has to be done as well


@contextmanager
def _counting() -> Iterator[None]:
    """With a GPU: each launch inside runs in the simulator first, on copies, so that the profile counts it."""
    from numba import cuda

    dispatcher: Any = _kernel_type()
    launch_on_gpu = dispatcher.call

    def call_and_count(self: Any, arguments: Any, configuration: Any) -> Any:
        copies = [cuda.as_cuda_array(a).copy_to_host() if cuda.is_cuda_array(a) else a for a in arguments]
        copies = [copy.copy() if isinstance(copy, ndarray) else copy for copy in copies]
        where = configuration.griddim, configuration.blockdim
        cudasim.run(self, *where, *copies, shared=configuration.sharedmem)
        return launch_on_gpu(self, arguments, configuration)

    dispatcher.call = call_and_count
    try:
        yield
    finally:
        dispatcher.call = launch_on_gpu


def _floats(value: Any) -> bool:
    if isinstance(value, ndarray):
        return value.dtype.kind in "fc"
    return isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex())


def _arrays(value: Any) -> list[Any]:
    items = value if isinstance(value, list | tuple) else [value]
    return [item for item in items if isinstance(item, ndarray | Tensor)]


def _overlap(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor) and (one.is_cuda or other.is_cuda):
        return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()
    left, right = (v.detach().numpy() if isinstance(v, Tensor) else v for v in (one, other))
    return shares_memory(left, right)
