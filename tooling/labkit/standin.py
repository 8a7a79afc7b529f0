"""A strict stand-in for CuPy where there is no GPU: its rules and its costs, NumPy's values.

    from labkit import standin as xp
    with xp.counting() as counts:
        y = xp.asnumpy(xp.asarray(x) * 2)       # counts.launches == 1, one transfer each way

An array here wraps a NumPy array and is none: as in CuPy, nothing moves between host and device unless it is said
(`asarray`, `asnumpy`, `.get()`, `.item()`), and the two kinds do not mix. Stricter than CuPy in three places, where
CuPy would wait for the device, or copy, without saying so: float(x), int(x) and `if x:`; NumPy functions on device
arrays; NumPy arrays as indices.

Costs are a model: each function that makes a new array is one launch that reads its inputs once and writes its result
once; a view costs nothing; a result whose size depends on values (x[mask], nonzero) sends its size to the host.
CuPy's own std, median, sort and concatenate launch more than one kernel, so the counts are lower bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from labkit import c_subset

_VALUES = {
    "bool_", "dtype", "e", "finfo", "float32", "float64", "iinfo", "inf", "int32", "int64", "int8", "intp",
    "nan", "newaxis", "pi", "uint8", "result_type",
}
_CREATE = {
    "arange", "empty", "eye", "full", "linspace", "ones", "zeros",
}
_COMPUTE = {
    "abs", "absolute", "add", "all", "any", "argmax", "argmin", "argsort", "broadcast_to", "ceil", "clip",
    "column_stack", "concatenate", "copy", "count_nonzero", "cumsum", "digitize", "divide", "empty_like",
    "equal", "exp", "expand_dims", "floor", "fmax", "fmin", "full_like", "greater", "greater_equal", "hstack",
    "isfinite", "isinf", "isnan", "less", "less_equal", "log", "log1p", "logical_and", "logical_not",
    "logical_or", "max", "maximum", "mean", "median", "min", "minimum", "multiply", "nan_to_num", "nanmax",
    "nanmean", "nanmedian", "nanmin", "nanstd", "nansum", "nanvar", "negative", "nonzero", "not_equal",
    "ones_like", "power", "prod", "ravel", "repeat", "reshape", "rint", "searchsorted", "sign", "sort", "sqrt",
    "square", "squeeze", "stack", "std", "subtract", "sum", "take", "take_along_axis", "transpose",
    "true_divide", "var", "vstack", "where", "zeros_like",
}
_METHODS = (
    "all", "any", "argmax", "argmin", "argsort", "astype", "clip", "copy", "cumsum", "max", "mean", "min",
    "nonzero", "prod", "ravel", "repeat", "reshape", "squeeze", "std", "sum", "take", "transpose", "var",
)
_OPERATORS = (
    "add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor", "radd", "rsub", "rmul",
    "rtruediv", "rfloordiv", "rpow", "rand", "ror", "lt", "le", "gt", "ge", "eq", "ne", "neg", "abs", "invert",
)
_IN_PLACE = {"iadd": np.add, "isub": np.subtract, "imul": np.multiply, "itruediv": np.divide}


@dataclass
class Counts:
    """What was asked of the device: kernels, the bytes that they read and write, transfers and their bytes."""

    launches: int = 0
    device_bytes: int = 0
    to_device: int = 0
    to_device_bytes: int = 0
    to_host: int = 0
    to_host_bytes: int = 0


_counters: list[Counts] = []


@contextmanager
def counting() -> Iterator[Counts]:
    """Count what happens inside the block; blocks may be nested."""
    mine = Counts()
    _counters.append(mine)
    try:
        yield mine
    finally:
        _counters[:] = [counts for counts in _counters if counts is not mine]


def _count(**numbers: int) -> None:
    for counts in _counters:
        for name, number in numbers.items():
            setattr(counts, name, getattr(counts, name) + number)


def _host(value: Any, read: list[np.ndarray]) -> Any:
    """`value` with NumPy arrays in place of device arrays, which are added to `read`."""
    if isinstance(value, ndarray):
        read.append(value._values)
        return value._values
    if isinstance(value, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>: host and device do not mix; use xp.asarray first")
    return type(value)(_host(item, read) for item in value) if type(value) in (list, tuple) else value


def _launch(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a NumPy function on what device arrays hold, and count one kernel unless the result is a view."""
    read: list[np.ndarray] = []
    result = function(*_host(args, read), **{name: _host(value, read) for name, value in kwargs.items()})
    if result is NotImplemented:
        return result
    made = [np.asarray(one) for one in (result if isinstance(result, tuple) else [result])]
    if isinstance(result, tuple):
        _count(to_host=1, to_host_bytes=8)
    if not any(np.may_share_memory(one, other) for one in made for other in read):
        _count(launches=1, device_bytes=sum(array.nbytes for array in (*read, *made)))
    wrapped = tuple(ndarray(one) for one in made)
    return wrapped if isinstance(result, tuple) else wrapped[0]


class ndarray:
    """An array on the device. Made by `asarray` and the functions of this module, never by hand."""

    __array_ufunc__ = None  # so that NumPy's operators leave the answer to this class
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, values: np.ndarray) -> None:
        self._values = values

    shape = property(lambda self: self._values.shape)
    dtype = property(lambda self: self._values.dtype)
    ndim = property(lambda self: self._values.ndim)
    size = property(lambda self: self._values.size)
    nbytes = property(lambda self: self._values.nbytes)
    T = property(lambda self: ndarray(self._values.T))

    def get(self) -> np.ndarray:
        """Copy to the host, and wait for it."""
        _count(to_host=1, to_host_bytes=self.nbytes)
        return self._values.copy()

    def item(self, *place: int) -> Any:
        """One element, as a Python number: a transfer, and a wait for everything before it."""
        _count(to_host=1, to_host_bytes=self.dtype.itemsize)
        return self._values.item(*place)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"standin.{self._values!r}"

    def __iter__(self) -> Iterator[Any]:
        return (self[k] for k in range(len(self)))

    def __getitem__(self, place: Any) -> Any:
        for one in place if isinstance(place, tuple) else (place,):
            if isinstance(one, ndarray) and one.dtype == np.bool_:
                _count(to_host=1, to_host_bytes=8)
        return _launch(_index, self, place)

    def __setitem__(self, place: Any, value: Any) -> None:
        where, read = _host(place, []), []  # type: ignore[var-annotated]
        self._values[where] = _host(value, read)
        written = self._values[where].nbytes
        _count(launches=1, device_bytes=written + sum(array.nbytes for array in read))

    def _refuse(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array or a number is not allowed. "
                        "Use xp's functions, or `.get()` or `.item()` if it has to travel to the host.")

    __array__ = __float__ = __int__ = __bool__ = __index__ = __complex__ = __array_function__ = _refuse


def _index(values: np.ndarray, place: Any) -> Any:
    one = values[place]
    if isinstance(one, np.generic):  # CuPy gives a view without axes
        return values[(*place, ...) if isinstance(place, tuple) else (place, ...)]
    return one


def _method(name: str) -> Callable[..., Any]:
    return lambda self, *args, **kwargs: _launch(
        lambda values, *a, **k: getattr(values, name)(*a, **k), self, *args, **kwargs
    )


def _in_place(function: Callable[..., Any]) -> Callable[..., Any]:
    def change(self: ndarray, other: Any) -> ndarray:
        read = [self._values]
        function(self._values, _host(other, read), out=self._values)
        _count(launches=1, device_bytes=sum(array.nbytes for array in read) + self.nbytes)
        return self

    return change


for _name in (*_METHODS, *(f"__{name}__" for name in _OPERATORS)):
    setattr(ndarray, _name, _method(_name))
for _name, _ufunc in _IN_PLACE.items():
    setattr(ndarray, f"__{_name}__", _in_place(_ufunc))


def asarray(values: Any, dtype: Any = None) -> ndarray:
    """Copy to the device; what is there already stays, or is converted there."""
    if isinstance(values, ndarray):
        return values if dtype in (None, values.dtype) else values.astype(dtype)  # type: ignore[attr-defined]
    copy = np.array(values, dtype=dtype)
    _count(to_device=1, to_device_bytes=copy.nbytes)
    return ndarray(copy)


array = asarray


def asnumpy(values: Any) -> np.ndarray:
    """Copy to the host."""
    return values.get() if isinstance(values, ndarray) else np.asarray(values)


def get_array_module(*arrays: Any) -> Any:
    """This module if any of them is on the device, else NumPy."""
    import sys

    return sys.modules[__name__] if any(isinstance(one, ndarray) for one in arrays) else np


def __getattr__(name: str) -> Any:
    if name in _VALUES:
        return getattr(np, name)
    if name in _CREATE or name in _COMPUTE:
        return lambda *args, **kwargs: _launch(getattr(np, name), *args, **kwargs)
    raise AttributeError(f"the stand-in for CuPy has no {name!r}; what it has is listed in labkit/standin.py")


class ElementwiseKernel:
    """CuPy's `ElementwiseKernel`: one launch for a whole expression in C (`labkit.c_subset`).

    Args:
        in_params, out_params: such as "float32 x, float32 mean"; one capital letter is a type that the arrays decide.
        operation: C statements that assign to the outputs.
        name: of the kernel.

    Called with arrays and numbers for the inputs, which are broadcast; returns the output, or a tuple of them.

    Raises:
        TypeError: an array is not on the device, or not of the declared type.
    """

    def __init__(self, in_params: str, out_params: str, operation: str, name: str = "kernel") -> None:
        self.name, self._operation = name, operation
        self._inputs, self._outputs = _parameters(in_params), _parameters(out_params)

    def __call__(self, *args: Any) -> Any:
        if len(args) != len(self._inputs):
            raise TypeError(f"{self.name} takes {len(self._inputs)} inputs, got {len(args)}; outputs are made for you")
        read: list[np.ndarray] = []
        given = dict(zip((name for _, name in self._inputs), _host(args, read), strict=True))
        types: dict[str, Any] = dict(c_subset.TYPES)
        for kind, name in self._inputs:
            if isinstance(given[name], np.ndarray) and types.setdefault(kind, given[name].dtype) != given[name].dtype:
                raise TypeError(f"Type is mismatched. {name} {given[name].dtype} {np.dtype(types[kind])}")
        unknown = {kind for kind, _ in self._inputs + self._outputs} - set(types)
        if unknown:
            raise TypeError(f"{self.name}: no array decides the type {', '.join(sorted(unknown))}")
        values = {name: np.asarray(given[name], dtype=types[kind]) for kind, name in self._inputs}
        results = c_subset.run(self._operation, values, {name: np.dtype(types[kind]) for kind, name in self._outputs})
        shape = np.broadcast_shapes(*(value.shape for value in values.values()))
        made = [np.array(np.broadcast_to(one, shape)) for one in results.values()]
        _count(launches=1, device_bytes=sum(array.nbytes for array in (*read, *made)))
        return tuple(map(ndarray, made)) if len(made) > 1 else ndarray(made[0])


def _parameters(text: str) -> list[tuple[str, str]]:
    pairs = [tuple(part.split()) for part in text.split(",")]
    for pair in pairs:
        if len(pair) != 2 or not pair[1].isidentifier() or not (pair[0] in c_subset.TYPES or len(pair[0]) == 1):
            raise ValueError(f"expected parameters such as `float32 x, T y`, got `{text}`")
    return pairs  # type: ignore[return-value]
