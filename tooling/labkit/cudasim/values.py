"""Values inside a kernel: numba's types on NumPy scalars and arrays, shared by both engines.

A kernel's integers are 64 bits wide and its float literals double precision, as numba-cuda types them: so
`float32 + 1.0` is float64 here and on the GPU, and an integer sum wraps at 2**63.
Smaller integers loaded from an array widen to int64 at once (uint64 stays unsigned).
Every function here works on a scalar (one thread) and on an array (one element a thread).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .errors import CompileError

Value = Any


def widen(v: Value) -> Value:
    """A loaded or cast value in the type that arithmetic has: integers below 64 bits become int64."""
    dt = v.dtype
    if dt.kind in "iu" and dt.itemsize < 8:
        return v.astype(np.int64)
    return Unsigned(v) if type(v) is np.uint64 else v


def typed(v: Value) -> Value:
    """A Python constant as the compiler types it; anything else unchanged."""
    t = type(v)
    if t is int:
        return np.int64(v) if -(2**63) <= v < 2**63 else np.uint64(v & (2**64 - 1))
    if t is float:
        return np.float64(v)
    if t is complex:
        return np.complex128(v)
    if t is tuple:
        return tuple(typed(x) for x in v)
    if isinstance(v, np.generic) and v.dtype.kind in "iu":
        return widen(v)
    return v


class Unsigned(np.uint64):
    """A uint64 whose bit operations take int64 shift counts and masks, as compiled code does."""

    __slots__ = ()


def _unsigned_operator(name: str, bitwise: bool) -> Callable:
    base = getattr(np.uint64, name)

    def op(self: Any, other: Any = None) -> Any:
        if other is None:
            return Unsigned(base(self))
        if bitwise and isinstance(other, (int, np.integer)):
            other = np.uint64(int(other) & (2**64 - 1))
        r = base(self, other)
        return Unsigned(r) if type(r) is np.uint64 else r

    return op


for _stem in ("lshift", "rshift", "and", "or", "xor", "add", "sub", "mul", "floordiv", "mod"):
    for _prefix in ("", "r"):
        _n = f"__{_prefix}{_stem}__"
        setattr(Unsigned, _n, _unsigned_operator(_n, _stem in ("lshift", "rshift", "and", "or", "xor")))
Unsigned.__invert__ = _unsigned_operator("__invert__", False)  # type: ignore[method-assign]


def bitwise(f: Callable) -> Callable:
    """A bit operation on scalars or lanes; where one side is uint64, the other is taken as uint64 too."""

    def op(a: Value, b: Value) -> Value:
        a, b = np.asarray(a), np.asarray(b)
        if np.uint64 in (a.dtype, b.dtype) and a.dtype != b.dtype and a.dtype.kind in "iu" and b.dtype.kind in "iu":
            a, b = a.astype(np.uint64), b.astype(np.uint64)
        return f(a, b)[()]

    return op


class Cast:
    """A dtype as a kernel sees it: a conversion when called, a dtype where one is asked for."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = np.dtype(dtype)

    def __call__(self, v: Value = 0) -> Value:
        return cast(v, self.dtype)

    def __eq__(self, other: object) -> bool:
        return as_dtype(other) == self.dtype

    def __hash__(self) -> int:
        return hash(self.dtype)


def cast(v: Value, dtype: np.dtype) -> Value:
    """`v` converted to `dtype` (integers wrap, floats truncate towards zero), widened for arithmetic."""
    v = np.asarray(v)
    if dtype.kind in "iu" and v.dtype.kind == "f":
        v = np.trunc(v).astype(np.int64)
    elif dtype.kind in "iuf" and v.dtype.kind == "c":
        raise CompileError("a complex number cannot become a real one; take .real, .imag or abs()")
    return widen(v.astype(dtype)[()])


def as_dtype(spec: Any) -> np.dtype:
    """The NumPy dtype behind a numba type, a NumPy type, a `Cast` or a dtype name.

    Raises:
        CompileError: for anything else.
    """
    if isinstance(spec, Cast):
        return spec.dtype
    if isinstance(spec, np.dtype):
        return spec
    if hasattr(spec, "name") and type(spec).__module__.startswith(("numba.", "numba_cuda.")):
        from numba.np.numpy_support import as_dtype as numba_as_dtype

        try:
            return np.dtype(numba_as_dtype(spec))
        except Exception:
            return np.dtype(str(spec))
    try:
        return np.dtype(spec)
    except TypeError:
        raise CompileError(f"{spec!r} is no element type; use one such as numba.float32 or np.int32") from None


def promote(*vs: Value) -> np.dtype:
    """The type numba unifies the values' types to."""
    return np.result_type(*[getattr(v, "dtype", None) or np.asarray(typed(v)).dtype for v in vs])


def minimum(*vs: Value) -> Value:
    """Python's min on values of one promoted type: the later argument wins only when it is less."""
    return _fold(vs, lambda a, b: np.where(b < a, b, a))


def maximum(*vs: Value) -> Value:
    """Python's max on values of one promoted type: the later argument wins only when it is greater."""
    return _fold(vs, lambda a, b: np.where(b > a, b, a))


def _fold(vs: tuple, pick: Callable) -> Value:
    if len(vs) == 1 and isinstance(vs[0], tuple):
        vs = vs[0]
    dt = promote(*vs)
    out = vs[0]
    for v in vs[1:]:
        out = pick(out, v)
    return np.asarray(out).astype(dt)[()]


def _float_of(v: Value) -> Value:
    """Integers and booleans as float64, as numba's math functions take them."""
    dt = getattr(v, "dtype", None)
    if dt is None:
        return np.float64(v)
    return v.astype(np.float64) if dt.kind in "iub" else v


def _real1(f: Callable) -> Callable:
    return lambda x: f(_float_of(x))


def _real2(f: Callable) -> Callable:
    return lambda x, y: f(_float_of(x), _float_of(y))


def _scalar1(f: Callable[[float], float]) -> Callable:
    """A function of the math module, element by element; the result has the argument's float type."""

    def apply(x: Value) -> Value:
        x = _float_of(x)

        def one(v: float) -> float:
            try:
                return f(v)
            except (ValueError, OverflowError):
                return math.nan if not v > 0 or math.isinf(v) else math.inf

        out = np.array([one(float(v)) for v in np.ravel(x)], dtype=x.dtype)
        return out.reshape(np.shape(x))[()]

    return apply


def _int_of(f: Callable) -> Callable:
    """floor, ceil, trunc of the math module give an integer in a kernel."""
    return lambda x: np.asarray(f(_float_of(x))).astype(np.int64)[()]


def _powi(x: Value, y: Value) -> Value:
    return np.power(_float_of(x), _float_of(y))


def _frexp(x: Value) -> Value:
    m, e = np.frexp(_float_of(x))
    return m, widen(e)


MATH: dict[str, Any] = {
    "pi": np.float64(math.pi),
    "e": np.float64(math.e),
    "tau": np.float64(math.tau),
    "inf": np.float64(math.inf),
    "nan": np.float64(math.nan),
    **{
        n: _real1(getattr(np, f))
        for n, f in {
            "sqrt": "sqrt",
            "exp": "exp",
            "expm1": "expm1",
            "log": "log",
            "log2": "log2",
            "log10": "log10",
            "log1p": "log1p",
            "exp2": "exp2",
            "cbrt": "cbrt",
            "sin": "sin",
            "cos": "cos",
            "tan": "tan",
            "asin": "arcsin",
            "acos": "arccos",
            "atan": "arctan",
            "sinh": "sinh",
            "cosh": "cosh",
            "tanh": "tanh",
            "asinh": "arcsinh",
            "acosh": "arccosh",
            "atanh": "arctanh",
            "fabs": "fabs",
            "degrees": "degrees",
            "radians": "radians",
            "isnan": "isnan",
            "isinf": "isinf",
            "isfinite": "isfinite",
        }.items()
    },
    **{
        n: _real2(getattr(np, f))
        for n, f in {
            "atan2": "arctan2",
            "hypot": "hypot",
            "copysign": "copysign",
            "fmod": "fmod",
            "nextafter": "nextafter",
            "remainder": "remainder",
        }.items()
    },
    **{n: _scalar1(getattr(math, n)) for n in ("erf", "erfc", "gamma", "lgamma")},
    "pow": _powi,
    "floor": _int_of(np.floor),
    "ceil": _int_of(np.ceil),
    "trunc": _int_of(np.trunc),
    "modf": lambda x: np.modf(_float_of(x)),
    "frexp": _frexp,
    "ldexp": lambda x, e: np.ldexp(_float_of(x), np.asarray(e).astype(np.int32)),
}


def absolute(x: Value) -> Value:
    """abs()."""
    return np.abs(x)


def to_float(x: Value) -> Value:
    """float()."""
    return np.asarray(x).astype(np.float64)[()]


def to_int(x: Value) -> Value:
    """int(): truncates towards zero."""
    return cast(x, np.dtype(np.int64))


def to_bool(x: Value) -> Value:
    """bool()."""
    return np.asarray(x).astype(np.bool_)[()]


def rounded(x: Value, ndigits: Value = None) -> Value:
    """round(): to an integer, halves to even, or to `ndigits` decimals."""
    if ndigits is None:
        return np.asarray(np.rint(_float_of(x))).astype(np.int64)[()]
    x, n = np.asarray(_float_of(x)), int(ndigits)
    return np.array([round(float(v), n) for v in x.ravel()], x.dtype).reshape(x.shape)[()]


def power(x: Value, y: Value) -> Value:
    """`x ** y`; a negative integer exponent gives float64."""
    kinds = np.asarray(x).dtype.kind, np.asarray(y).dtype.kind
    if kinds[0] in "iub" and kinds[1] in "iub" and np.any(np.asarray(y) < 0):
        return np.power(_float_of(x), _float_of(y))
    return np.power(x, y)


# Integer intrinsics. The width is that of the value: 64 bits unless it was cast; NumPy scalars carry no
# memory of a cast after widening, so a value that fits in 32 bits is taken as 32 bits wide for clz and brev.


def _u64(x: Value) -> Value:
    return np.asarray(x).astype(np.int64).view(np.uint64) if np.asarray(x).dtype != np.uint64 else np.asarray(x)


def popc(x: Value) -> Value:
    """Number of set bits."""
    return np.asarray(np.bitwise_count(_bits32(x))).astype(np.int64)[()]


def _bits32(x: Value) -> Value:
    """The value's bit pattern: 32 bits where the value is a 32-bit number, else 64."""
    u = _u64(x)
    if np.asarray(x).dtype == np.uint64:
        return u
    s = u.view(np.int64) if u.ndim else u.astype(np.int64)
    return np.where((s >= -(2**31)) & (s < 2**32), u & np.uint64(0xFFFFFFFF), u)


def _is_wide(x: Value) -> Value:
    if np.asarray(x).dtype == np.uint64:
        return np.ones(np.shape(x), bool)
    s = _u64(x).astype(np.int64)
    return (s < -(2**31)) | (s >= 2**32)


def clz(x: Value) -> Value:
    """Number of zero bits above the highest set bit."""
    b = _bits32(x)
    width = np.where(_is_wide(x), 64, 32)
    length = np.zeros(np.shape(b), np.int64)
    for s in (32, 16, 8, 4, 2, 1):
        hit = b >> np.uint64(s) != 0
        length += np.where(hit, s, 0)
        b = np.where(hit, b >> np.uint64(s), b)
    return (width - (length + (b != 0)))[()]


def ffs(x: Value) -> Value:
    """Position of the lowest set bit, counted from 1; 0 where no bit is set."""
    u = _bits32(x)
    low = u & (~u + np.uint64(1))
    return np.where(u == 0, 0, np.bitwise_count(low - np.uint64(1)) + np.int64(1)).astype(np.int64)[()]


def brev(x: Value) -> Value:
    """Bits in reverse order."""
    u = _bits32(x)
    out = np.zeros_like(u)
    for i in range(64):
        out |= ((u >> np.uint64(i)) & np.uint64(1)) << np.uint64(63 - i)
    return np.where(_is_wide(x), out.astype(np.int64), (out >> np.uint64(32)).astype(np.int64))[()]


def fma(a: Value, b: Value, c: Value) -> Value:
    """a * b + c; float32 is rounded once, as the hardware does."""
    dt = promote(a, b, c)
    if dt == np.float32:
        return np.asarray(np.float64(a) * b + c).astype(np.float32)[()]
    return a * b + c


def _half(f: Callable) -> Callable:
    return lambda *xs: np.asarray(f(*[np.asarray(x).astype(np.float16).astype(np.float64) for x in xs])).astype(
        np.float16
    )[()]


FP16: dict[str, Callable] = {
    "hadd": _half(np.add),
    "hsub": _half(np.subtract),
    "hmul": _half(np.multiply),
    "hdiv": _half(np.divide),
    "hfma": _half(lambda a, b, c: a * b + c),
    "hneg": _half(np.negative),
    "habs": _half(np.abs),
    "hsin": _half(np.sin),
    "hcos": _half(np.cos),
    "hlog": _half(np.log),
    "hlog2": _half(np.log2),
    "hlog10": _half(np.log10),
    "hexp": _half(np.exp),
    "hexp2": _half(np.exp2),
    "hexp10": _half(lambda x: 10.0**x),
    "hsqrt": _half(np.sqrt),
    "hrsqrt": _half(lambda x: 1 / np.sqrt(x)),
    "hceil": _half(np.ceil),
    "hfloor": _half(np.floor),
    "hrcp": _half(np.reciprocal),
    "htrunc": _half(np.trunc),
    "hrint": _half(np.rint),
    "hmax": _half(np.fmax),
    "hmin": _half(np.fmin),
    "htanh": _half(np.tanh),
    "heq": np.equal,
    "hne": np.not_equal,
    "hge": np.greater_equal,
    "hgt": np.greater,
    "hle": np.less_equal,
    "hlt": np.less,
}

# Functions of libdevice that are not those of MATH under another name.
_LIBDEVICE_SPECIAL: dict[str, Callable] = {
    "rsqrt": lambda x: (1 / np.sqrt(x)).astype(np.asarray(x).dtype),
    "rcbrt": lambda x: 1 / np.cbrt(x),
    "fma": fma,
    "fmax": np.fmax,
    "fmin": np.fmin,
    "max": np.maximum,
    "min": np.minimum,
    "abs": np.abs,
    "saturate": lambda x: np.clip(x, 0, 1),
    "rint": np.rint,
    "round": lambda x: np.trunc(x + np.copysign(0.5, x)),
    "floor": np.floor,
    "ceil": np.ceil,
    "trunc": np.trunc,
    "exp10": lambda x: np.power(10.0, x),
    "popc": popc,
    "clz": clz,
    "ffs": ffs,
    "brev": brev,
    "sinpi": lambda x: np.sin(np.pi * x),
    "cospi": lambda x: np.cos(np.pi * x),
    "fdividef": lambda x, y: x / y,
    "fdim": lambda x, y: np.fmax(x - y, 0),
    "normcdf": lambda x: 0.5 * MATH["erfc"](-x / np.sqrt(2.0)),
}
_LIBDEVICE_SPECIAL["rsqrt"] = lambda x: np.asarray(1 / np.sqrt(_float_of(x))).astype(_float_of(x).dtype)[()]


def libdevice(name: str) -> Callable:
    """A function of `numba.cuda.libdevice`; the f suffix makes the arguments float32.

    Raises:
        CompileError: if the engine does not know it.
    """
    stem = name.removeprefix("fast_")
    for base, single in ((stem, False), (stem.removesuffix("f"), stem.endswith("f"))):
        f = _LIBDEVICE_SPECIAL.get(base) or MATH.get(base)
        if callable(f):
            if not single:
                return f
            return lambda *xs, f=f: np.asarray(f(*[np.asarray(x).astype(np.float32)[()] for x in xs])).astype(
                np.float32
            )[()]
    raise CompileError(f"libdevice.{name} is not known to the simulator; use the math module where it has the function")


NUMPY_CASTS = {
    n: Cast(getattr(np, n))
    for n in (
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "float16",
        "float32",
        "float64",
        "bool_",
        "complex64",
        "complex128",
        "intp",
        "uintp",
        "intc",
        "uintc",
        "double",
        "single",
        "half",
    )
}
_NUMPY_PASS = frozenset(
    [
        "pi",
        "e",
        "inf",
        "nan",
        "newaxis",
        "add",
        "subtract",
        "multiply",
        "divide",
        "true_divide",
        "floor_divide",
        "remainder",
        "mod",
        "power",
        "negative",
        "abs",
        "absolute",
        "fabs",
        "sign",
        "sqrt",
        "square",
        "cbrt",
        "reciprocal",
        "exp",
        "exp2",
        "expm1",
        "log",
        "log2",
        "log10",
        "log1p",
        "sin",
        "cos",
        "tan",
        "arcsin",
        "arccos",
        "arctan",
        "arctan2",
        "sinh",
        "cosh",
        "tanh",
        "arcsinh",
        "arccosh",
        "arctanh",
        "hypot",
        "deg2rad",
        "rad2deg",
        "degrees",
        "radians",
        "maximum",
        "minimum",
        "fmax",
        "fmin",
        "fmod",
        "floor",
        "ceil",
        "trunc",
        "rint",
        "isnan",
        "isinf",
        "isfinite",
        "signbit",
        "copysign",
        "nextafter",
        "ldexp",
        "logical_and",
        "logical_or",
        "logical_not",
        "logical_xor",
        "bitwise_and",
        "bitwise_or",
        "bitwise_xor",
        "invert",
        "left_shift",
        "right_shift",
        "equal",
        "not_equal",
        "less",
        "less_equal",
        "greater",
        "greater_equal",
        "real",
        "imag",
        "conj",
        "conjugate",
        "angle",
        "spacing",
        "logaddexp",
        "logaddexp2",
        "gcd",
        "lcm",
        "heaviside",
        "float_power",
        "positive",
        "divmod",
        "where",
        "clip",
        "dtype",
    ]
)


def numpy_name(name: str) -> Any:
    """What `np.<name>` means inside a kernel.

    Raises:
        CompileError: if it makes an array, or is otherwise nothing that a GPU thread can do.
    """
    if name in NUMPY_CASTS:
        return NUMPY_CASTS[name]
    if name in _NUMPY_PASS:
        return typed(getattr(np, name))
    raise CompileError(
        f"np.{name} is not available in a kernel: a thread works on single elements. Write the loop out, "
        "or make the array on the host (or with cuda.shared.array / cuda.local.array)"
    )
