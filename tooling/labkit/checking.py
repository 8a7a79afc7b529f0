"""Assertions that teach, with partial credit and reasons.

A failing check is read by someone who is stuck: it says what was checked, what was expected, what came, at
which index, and where to look. What a student returns is not trusted: its exact type is checked first, and
its values are then read through functions bound when this module was imported, so that a subclass that
overrides `__eq__`, `__torch_function__` or `__array_function__`, or a patched `torch.allclose`, cannot answer
for it. """

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import urandom
from typing import Any, NoReturn

import numpy as np
import torch
from numpy import abs as np_abs
from numpy import argwhere, asarray, errstate, isfinite, isnan, ndarray, where
from torch import Tensor, nn

_detach, _to, _clone = Tensor.detach, Tensor.to, Tensor.clone
_reshape, _contiguous, _view = Tensor.reshape, Tensor.contiguous, Tensor.view
_numpy, _tobytes, _astype, _copy = Tensor.numpy, ndarray.tobytes, ndarray.astype, ndarray.copy

_NUMBERS: tuple[type, ...] = (
    int, float, complex, *(kind for kind in np.sctypeDict.values() if issubclass(kind, np.number))
)
_SHOWN = 5


def close(got: Any, want: Any, *, rtol: float, atol: float, what: str, hint: str = "") -> None:
    """Assert that `got` is `want` up to rounding: |got - want| <= atol + rtol * |want|, elementwise.

    Args:
        got: what the student's code returned; must have exactly the type, dtype, shape and device of `want`,
            and be finite wherever `want` is. (A parameter will do where a tensor is wanted, a tensor will not
            where a parameter is; any int, float or NumPy scalar will do where a number is wanted.)
        want: the reference: a number, or a `torch.Tensor`, `nn.Parameter` or `numpy.ndarray` of real or
            complex floating-point numbers.
        rtol: relative tolerance; there is no default, derive it in a comment where you call this.
        atol: absolute tolerance in the units of `want`.
        what: what is checked, in the student's words, such as "LoRALinear.forward(x)".
        hint: where to look when it fails.

    Raises:
        AssertionError: naming the first five mismatching indices and the largest errors.
        ValueError, TypeError: the check itself is wrong (a negative tolerance, integers: use `equal`).
    """
    if not (0 <= rtol < math.inf and 0 <= atol < math.inf):
        raise ValueError(f"rtol and atol must be finite and not negative: {rtol=}, {atol=}")
    _same_kind(got, want, what, hint)
    mine, theirs = _values(got), _values(want)
    if theirs.dtype.kind not in "fc":
        raise TypeError(f"{what}: close() is for floating-point values; compare {theirs.dtype} with equal()")
    bad = ~isfinite(mine) & isfinite(theirs)
    if bad.any():
        _fail(f"{what}: not finite", hint, _mismatches(mine, theirs, bad))
    with errstate(invalid="ignore"):  # infinities: a warning on stderr would cost the mark under stock nbgrader
        allowed = atol + rtol * np_abs(theirs)
        error = np_abs(mine - theirs)
    same = (mine == theirs) | (isnan(mine) & isnan(theirs))
    bad = ~(same | (error <= allowed)) | (~isfinite(theirs) & ~same)
    if bad.any():
        worst = where(isfinite(error), error, 0.0)
        relative = where(theirs != 0, worst / where(theirs != 0, np_abs(theirs), 1), 0.0)
        _fail(
            f"{what}: wrong values", hint, _mismatches(mine, theirs, bad),
            f"largest absolute error {worst.max():.3g}, largest relative error {relative.max():.3g}; "
            f"allowed: {atol:.3g} + {rtol:.3g} * |expected|",
        )


def equal(got: Any, want: Any, *, what: str, hint: str = "") -> None:
    """Assert that `got` is exactly `want`, in type and value.

    Args:
        got: what the student's code returned.
        want: bool, int, float, str, None, dtype, device, shape; list, tuple, set or dict of these; tensor or
            array (NaN equals NaN). A `torch.Size` will do where a tuple is wanted; True will not do for 1.
        what: what is checked; inside a container the path is appended, such as `what["weights"][0]`.
        hint: where to look when it fails.

    Raises:
        AssertionError: naming the first difference.
    """
    if isinstance(want, Tensor | ndarray):
        _same_kind(got, want, what, hint)
        mine, theirs = _values(got), _values(want)
        bad = mine != theirs
        if theirs.dtype.kind in "fc":
            bad &= ~(isnan(mine) & isnan(theirs))
        if bad.any():
            _fail(f"{what}: wrong values", hint, _mismatches(mine, theirs, bad))
        return
    kinds = (tuple, torch.Size) if type(want) in (tuple, torch.Size) else (type(want),)
    if type(got) not in kinds:
        _fail(f"{what}: wrong type", hint, f"expected  {_describe(want)}", f"got       {_describe(got)}")
    if isinstance(want, dict):
        _equal_keys(got.keys(), want.keys(), what, hint)
        for key, value in want.items():
            equal(got[key], value, what=f"{what}[{key!r}]", hint=hint)
    elif isinstance(want, list | tuple):
        if len(got) != len(want):
            _fail(f"{what}: wrong length", hint, f"expected  {len(want)}: {_short(want)}",
                  f"got       {len(got)}: {_short(got)}")
        for index, (left, right) in enumerate(zip(got, want, strict=True)):
            equal(left, right, what=f"{what}[{index}]", hint=hint)
    elif isinstance(want, set | frozenset):
        _equal_keys(got, want, what, hint)
    elif not (got == want or (want != want and got != got)):
        _fail(f"{what}: wrong value", hint, f"expected  {_short(want)}", f"got       {_short(got)}")


@contextmanager
def unchanged(**named: Any) -> Iterator[None]:
    """Assert that the named tensors and arrays come out of the block as they went in, bit for bit.

    Values may be tensors, arrays, modules (their state), or lists, tuples and dicts of these.

    Raises:
        AssertionError: naming the one that changed.
        TypeError: on entry, for a value of another kind.
    """
    before = {name: _bits(value) for name, value in named.items()}
    yield
    for name, value in named.items():
        if _bits(value) != before[name]:
            _fail(
                f"{name} was changed, and should have come back as it was",
                "make a new tensor or work on a copy: methods that end in _ and operators like += work in place",
            )


def raises(
    kind: type[BaseException], call: Callable[..., Any], *args: Any, what: str, hint: str = "", **kwargs: Any
) -> BaseException:
    """Assert that `call(*args, **kwargs)` raises `kind` (or a subclass of it), and return what was raised.

    An unfinished exercise does not count: its NotImplementedError, which is a RuntimeError, is let through.
    """
    try:
        result = call(*args, **kwargs)
    except NotImplementedError as error:
        if kind is NotImplementedError:
            return error
        raise
    except kind as error:
        return error
    except Exception as error:
        came = f"{type(error).__name__}: {error}"
        _fail(f"{what}: wrong exception", hint, f"expected  {kind.__name__}", f"got       {came}")
    else:
        came = _describe(result)
        _fail(f"{what}: nothing was raised", hint, f"expected  {kind.__name__}", f"got       {came}")


def gradient(
    function: Callable[..., Any],
    at: Mapping[str, Any],
    got: Mapping[str, Any] | None = None,
    *,
    rtol: float,
    atol: float,
    what: str,
    hint: str = "",
    step: float = 6e-6,
) -> None:
    """Assert that gradients agree with central finite differences taken in float64.

    Args:
        function: called with the arguments of `at` by keyword, in float64; returns a scalar (a number, or a
            tensor or array of one element).
        at: the point: tensors or arrays by argument name, of any float dtype; they are copied, not changed.
        got: the gradients to check, by argument name, each of the shape of that argument, of any float dtype.
            If not given, autograd's gradients of `function` itself are checked; `at` must then hold tensors.
        rtol, atol: tolerances; for smooth functions the differences themselves are good to about 1e-10 times
            the size of `function`.
        what: the function's name, as the student knows it.
        hint: where to look when it fails.
        step: relative step; the default is near the cube root of the float64 epsilon, which balances
            truncation and rounding (Press et al., Numerical Recipes, section 5.7).

    Raises:
        AssertionError: naming function, argument, index, got and expected.
    """
    point = {name: _double(value) for name, value in at.items()}
    if got is None:
        leaves = {name: value.requires_grad_() for name, value in point.items()}
        found = torch.autograd.grad(function(**leaves), list(leaves.values()), allow_unused=True)
        got = dict(zip(leaves, found, strict=True))
        point = {name: _clone(_detach(value)) for name, value in leaves.items()}
    else:
        got = {name: _double(g) if type(g) in (Tensor, ndarray) else g for name, g in got.items()}
    for name, value in got.items():
        if value is None:
            _fail(f"{what}: there is no gradient with respect to {name}", hint)
        want = _differences(function, point, name, step)
        close(value, want, rtol=rtol, atol=atol, what=f"{what}: gradient with respect to {name}", hint=hint)


def secret_seed() -> int:
    """A seed that nobody can know beforehand, for the fresh inputs of a hidden test.

    It is printed with the test's output, so that a TA can put the number in place of the call and see the
    same failure again.
    """
    seed = int.from_bytes(urandom(4), "big")
    print(f"fresh inputs from seed {seed}")
    return seed


@dataclass
class Credit:
    """Partial credit with reasons, for a test cell whose last expression is `credit.total()`.

    Each `check` is a named property and is judged by itself: a failure is printed with its reason and costs
    its own points. The total is a plain float, which stock nbgrader reads as the cell's score.

        credit = Credit(3)
        with credit.check("the shape is right", points=1, hint="count the axes"):
            checking.equal(y.shape, (2, 3), what="shape of y")
        with credit.check("the values are right", points=2):
            checking.close(y, want, rtol=1e-6, atol=0, what="y")
        credit.total()
    """

    points: float
    _earned: float = field(default=0.0, init=False)
    _offered: float = field(default=0.0, init=False)
    _reasons: list[str] = field(default_factory=list, init=False)

    @contextmanager
    def check(self, name: str, *, points: float, hint: str = "") -> Iterator[None]:
        """Earn `points` if the block raises nothing; else print the reason and go on."""
        self._offered += points
        try:
            yield
        except Exception as error:
            # Not BaseException: an interrupt or an exit stops the cell.
            if isinstance(error, NotImplementedError):
                reason = "not written yet"
            else:
                reason = f"{error}" if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
            advice = f"\n  where to look: {hint}" if hint else ""
            self._reasons.append(f"{name} (0 of {points:g}): {reason.strip() or 'failed'}{advice}")
            print(f"lost    {self._reasons[-1]}\n")
        else:
            self._earned += points
            print(f"earned  {name} ({points:g} of {points:g})")

    def total(self) -> float:
        """The points earned, between 0 (not included) and `points`.

        Raises:
            AssertionError: nothing was earned, so that the cell ends in an error.
            ValueError: the checks do not add up to `points` (a mistake in the test).
        """
        if not math.isclose(self._offered, self.points):
            raise ValueError(f"the checks offer {self._offered:g} points, the cell has {self.points:g}")
        if self._earned == 0:
            raise AssertionError("none of the checks passed:\n" + "\n".join(self._reasons))
        return float(self.points if not self._reasons else self._earned)


def _fail(title: str, hint: str, *lines: str) -> NoReturn:
    advice = [f"  where to look: {hint}"] if hint else []
    body = [f"  {line}" for text in lines for line in text.split("\n")]
    raise AssertionError("\n".join([title, *body, *advice]))


def _same_kind(got: Any, want: Any, what: str, hint: str) -> None:
    """The exact type, then layout, dtype, shape and device, in the order in which they mislead."""
    if isinstance(want, nn.Parameter):
        kinds: tuple[type, ...] = (nn.Parameter,)
    elif isinstance(want, Tensor):
        kinds = (Tensor, nn.Parameter)
    elif isinstance(want, ndarray):
        kinds = (ndarray,)
    elif type(want) in _NUMBERS:
        kinds = _NUMBERS
    else:
        raise TypeError(f"{what}: the reference is a {type(want).__name__}, not a tensor, array or number")
    if type(got) not in kinds:
        _fail(f"{what}: wrong type", hint, f"expected  {_describe(want)}", f"got       {_describe(got)}")
    traits = {Tensor: ("shape", "dtype", "device", "layout"), ndarray: ("shape", "dtype")}
    for trait in next((names for base, names in traits.items() if isinstance(want, base)), ()):
        if getattr(got, trait) != getattr(want, trait):
            _fail(f"{what}: wrong {trait}", hint, f"expected  {_describe(want)}", f"got       {_describe(got)}")


def _values(value: Any) -> ndarray:
    """The numbers of a tensor, an array or a scalar of a trusted type, in the widest type of their kind."""
    if isinstance(value, Tensor):
        value = _detach(value)
        wide = {"f": torch.float64, "c": torch.complex128}
        kind = "c" if value.dtype.is_complex else "f" if value.dtype.is_floating_point else ""
        return _numpy(_to(value, "cpu", wide[kind]) if kind else _to(value, "cpu"))
    wide_types = {"f": np.float64, "c": np.complex128}
    if not isinstance(value, ndarray):  # a number: an integer is compared as a real one
        value = asarray(value, np.complex128 if isinstance(value, complex | np.complexfloating) else np.float64)
    return _astype(value, wide_types.get(value.dtype.kind, value.dtype))


def _mismatches(got: ndarray, want: ndarray, bad: ndarray) -> str:
    rows: list[tuple[str, ...]] = [("index", "expected", "got")]
    for index in argwhere(bad)[:_SHOWN]:
        place = tuple(int(i) for i in index)
        shown = [f"{array[place]:.9g}" if array.dtype.kind in "fc" else str(array[place]) for array in (want, got)]
        rows.append((str(place) if place else "-", *shown))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    count = int(bad.sum())
    table = "\n".join("  ".join(map(str.rjust, row, widths)) for row in rows)
    more = f"\n(the first {_SHOWN} of them)" if count > _SHOWN else ""
    return f"{count} of {bad.size} values differ\n{table}{more}"


def _equal_keys(got: Any, want: Any, what: str, hint: str) -> None:
    """Compare as sets, after looking at types: an object of another type could claim to equal anything."""
    kinds = {type(key) for key in want}
    strangers = [key for key in got if type(key) not in kinds]
    missing = [key for key in want if key not in set(got)] if not strangers else []
    extra = strangers or [key for key in got if key not in want]
    if missing or extra:
        _fail(f"{what}: wrong entries", hint, f"missing    {_short(missing)}", f"unexpected {_short(extra)}")


def _bits(value: Any) -> Any:
    if isinstance(value, nn.Module):
        value = dict(nn.Module.state_dict(value))
    if isinstance(value, Tensor):
        flat = _contiguous(_reshape(_to(_detach(value), "cpu"), (-1,)))
        raw = _tobytes(_numpy(_view(flat, torch.uint8))) if flat.numel() else b""
        return tuple(value.shape), value.dtype, raw
    if isinstance(value, ndarray):
        return value.shape, value.dtype, _tobytes(value)
    if isinstance(value, Mapping):
        return {key: _bits(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_bits(item) for item in value]
    raise TypeError(f"unchanged() takes tensors, arrays, modules and containers, not {type(value).__name__}")


def _double(value: Any) -> Any:
    if isinstance(value, Tensor):
        return _clone(_to(_detach(value), torch.float64))
    return _copy(_astype(asarray(value), np.float64))


def _differences(function: Callable[..., Any], point: Mapping[str, Any], name: str, step: float) -> Any:
    """Central differences of a scalar function with respect to one argument, in the kind of that argument."""
    want = point[name] * 0
    for index in np.ndindex(*want.shape):
        centre = float(point[name][index])
        width = step * max(1.0, abs(centre))
        ends = []
        for end in (centre + width, centre - width):
            moved = {key: _double(value) for key, value in point.items()}
            moved[name][index] = end
            ends.append((end, float(function(**moved))))
        # Divide by the difference of the two points as they were rounded.
        want[index] = (ends[0][1] - ends[1][1]) / (ends[0][0] - ends[1][0])
    return want


def _describe(value: Any) -> str:
    if type(value) in (Tensor, nn.Parameter, ndarray):
        place = f" on {value.device}" if isinstance(value, Tensor) and value.device.type != "cpu" else ""
        return f"{type(value).__name__} of shape {tuple(value.shape)}, {value.dtype}{place}"
    return f"{type(value).__name__} {_short(value)}"


def _short(value: Any, limit: int = 120) -> str:
    try:
        text = repr(value)
    except Exception as error:  # a student's __repr__ may be broken, and the message must still come
        text = f"(its repr raised {type(error).__name__})"
    return text if len(text) <= limit else f"{text[: limit - 3]}..."

