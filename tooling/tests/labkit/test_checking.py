"""labkit.checking: what it lets through, what it refuses, and what its messages say."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from labkit import checking
from torch import nn

TIGHT = {"rtol": 1e-6, "atol": 1e-7, "what": "f(x)"}


class Liar(torch.Tensor):
    """Claims to equal anything."""

    __hash__ = torch.Tensor.__hash__

    def __eq__(self, other):
        return torch.ones(self.shape, dtype=torch.bool)

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return torch.zeros(3)


class LyingArray(np.ndarray):
    def __array_function__(self, func, types, args, kwargs):
        return np.zeros(3)


def message(call, *args, **kwargs) -> str:
    with pytest.raises(AssertionError) as caught:
        call(*args, **kwargs)
    return str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        torch.randn(3, 4), torch.randn(5).bfloat16(), torch.randn(2, dtype=torch.complex64), torch.zeros(0),
        torch.tensor(2.0), torch.randn(4, 6).t()[::2], nn.Parameter(torch.ones(2)), np.linspace(0, 1, 5),
        np.float32(2), 3, 2.5, 1 + 2j, torch.tensor([float("nan"), float("-inf"), 1.0]),
    ],
    ids=repr,
)
def test_close_accepts_the_same(value):
    checking.close(value, value, rtol=0, atol=0, what="x")


def test_close_keeps_the_tolerance_on_both_sides():
    want = torch.tensor([100.0, 0.0], dtype=torch.float64)
    checking.close(want + torch.tensor([1e-4, 0.9e-7]), want, **TIGHT)
    message(checking.close, want + torch.tensor([1.1e-4, 0]), want, **TIGHT)
    message(checking.close, want - torch.tensor([0, 1.1e-7]), want, **TIGHT)


@pytest.mark.parametrize(
    ("got", "want", "says"),
    [
        (None, torch.zeros(3), "wrong type"),
        ([0.0, 0.0, 0.0], torch.zeros(3), "wrong type"),
        (np.zeros(3, dtype=np.float32), torch.zeros(3), "wrong type"),
        (torch.zeros(3).as_subclass(Liar), torch.ones(3), "wrong type"),
        (np.zeros(3).view(LyingArray), np.zeros(3), "wrong type"),
        (torch.zeros(3), nn.Parameter(torch.zeros(3)), "wrong type"),
        (True, 1.0, "wrong type"),
        (torch.zeros(3, 1), torch.zeros(3), "wrong shape"),
        (torch.zeros(3, dtype=torch.float64), torch.zeros(3), "wrong dtype"),
        (torch.zeros(3, device="meta"), torch.zeros(3), "wrong device"),
        (torch.tensor([0.0, float("nan")]), torch.zeros(2), "not finite"),
        (torch.tensor([float("inf")]), torch.ones(1), "not finite"),
        (torch.tensor([1.0]), torch.tensor([float("inf")]), "wrong values"),
        (torch.tensor([float("inf")]), torch.tensor([float("-inf")]), "wrong values"),
        (torch.tensor([1.0]), torch.tensor([float("nan")]), "wrong values"),
        (torch.zeros(3), torch.full((3,), 2e-7), "wrong values"),
    ],
)
def test_close_refuses(got, want, says):
    assert says in message(checking.close, got, want, **TIGHT)


@pytest.mark.filterwarnings("error")
def test_close_is_silent_about_infinities():
    want = torch.tensor([float("-inf"), float("nan"), 0.0])
    checking.close(want.clone(), want, rtol=0, atol=0, what="x")
    message(checking.close, torch.zeros(3), want, **TIGHT)


def test_close_shows_five_mismatches_the_errors_and_the_hint():
    want = torch.ones(3, 4)
    got = want.clone()
    got[1:, :3] = 3.0
    text = message(checking.close, got, want, hint="look at the scale", **TIGHT)
    assert "6 of 12" in text
    assert text.count("\n") == 10
    assert "(1, 0)" in text
    assert "(2, 1)" in text
    assert "(2, 2)" not in text
    assert "largest absolute error 2" in text
    assert "look at the scale" in text


def test_close_leaves_no_way_to_forget_the_tolerances():
    with pytest.raises(TypeError):
        checking.close(1.0, 1.0, what="x")
    with pytest.raises(ValueError, match="rtol and atol"):
        checking.close(1.0, 1.0, rtol=-1, atol=0, what="x")
    with pytest.raises(TypeError, match="equal"):
        checking.close(torch.tensor([1]), torch.tensor([1]), rtol=0, atol=0, what="x")


def test_close_is_not_fooled_by_patched_modules(monkeypatch):
    for module, name in [(torch, "allclose"), (torch, "isclose"), (np, "allclose"), (np, "abs"), (np, "isfinite")]:
        monkeypatch.setattr(module, name, lambda *args, **kwargs: True)
    monkeypatch.setattr(torch.Tensor, "detach", lambda self: torch.ones(3))
    message(checking.close, torch.zeros(3), torch.full((3,), 2.0), **TIGHT)


@pytest.mark.parametrize(
    "value",
    [1, True, "a", None, 2.5, float("nan"), (1, "a"), [1, [2]], {"a": [1, 2]}, {1, 2}, torch.float32,
     torch.device("cpu"), torch.tensor([1, 2]), torch.tensor([True]), torch.tensor([float("nan")]), np.arange(3)],
    ids=repr,
)
def test_equal_accepts_the_same(value):
    checking.equal(value, value, what="x")


@pytest.mark.parametrize(
    ("got", "want", "says"),
    [
        (True, 1, "wrong type"), (1, True, "wrong type"), (1.0, 1, "wrong type"), (np.int64(1), 1, "wrong type"),
        (2, 1, "wrong value"), ("a", "b", "wrong value"), ([1, 2], (1, 2), "wrong type"),
        ([1], [1, 2], "wrong length"), ({"a": 1}, {"b": 1}, "missing"), ({"a": 1, "b": 2}, {"a": 1}, "unexpected"),
        ({"a": {"b": [0, 1]}}, {"a": {"b": [0, 2]}}, "x['a']['b'][1]"), ({1}, {1, 2}, "missing"),
        (torch.tensor([1, 2]), torch.tensor([1, 3]), "(1,)"), (torch.tensor([1]), torch.tensor([1.0]), "dtype"),
        (torch.tensor([True]), torch.tensor([False]), "False"),
        (np.array([1.0]), np.array([1.0 + 1e-15]), "wrong values"),
    ],
)
def test_equal_refuses(got, want, says):
    assert says in message(checking.equal, got, want, what="x")


def test_equal_takes_a_size_for_a_tuple_and_no_impostor():
    class Anything(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other):
            return True

    checking.equal(torch.zeros(2, 3).shape, (2, 3), what="shape")
    message(checking.equal, Anything("a"), "b", what="x")
    message(checking.equal, {Anything("a"): 1}, {"b": 1}, what="x")


@pytest.mark.parametrize(
    ("value", "spoil"),
    [
        (torch.zeros(3), lambda x: x.add_(1)),
        (torch.zeros(3), lambda x: x.neg_()),  # -0.0 equals 0.0, and is still a change
        (torch.zeros(4, 4)[:, ::2], lambda x: x[0].fill_(1)),
        (torch.zeros(2).bfloat16(), lambda x: x.fill_(1)),
        (np.zeros(3), lambda x: x.__setitem__(0, 1)),
        ({"a": [torch.zeros(2)]}, lambda x: x["a"][0].fill_(2)),
        ([torch.zeros(2)], lambda x: x.append(torch.zeros(1))),
        (nn.Linear(2, 2), lambda x: x.weight.data.mul_(2)),
    ],
)
def test_unchanged_names_what_changed(value, spoil):
    with checking.unchanged(x=value):
        pass

    def block():
        with checking.unchanged(fine=torch.ones(2), x=value):
            spoil(value)

    assert message(block).startswith("x was changed")


def test_unchanged_is_safe_with_nan_and_lets_errors_through():
    with checking.unchanged(x=torch.tensor([float("nan")]), y=torch.zeros(0)):
        pass
    x = torch.zeros(1)
    with pytest.raises(KeyError), checking.unchanged(x=x):
        x += 1
        raise KeyError
    with pytest.raises(TypeError, match="unchanged"), checking.unchanged(x="text"):
        pass


def stub(x):
    raise NotImplementedError()


def test_raises():
    error = checking.raises(ValueError, int, "x", what="int")
    assert isinstance(error, ValueError)
    assert "nothing was raised" in message(checking.raises, ValueError, int, "1", what="int")
    text = message(checking.raises, KeyError, int, "x", what="int", hint="raise it")
    assert "ValueError" in text
    assert "raise it" in text


def test_raises_does_not_take_an_unfinished_exercise_for_an_error():
    with pytest.raises(NotImplementedError):
        checking.raises(RuntimeError, stub, 1, what="stub")
    with pytest.raises(NotImplementedError):
        checking.raises(Exception, stub, 1, what="stub")
    assert checking.raises(NotImplementedError, stub, 1, what="stub")


@given(st.integers(0, 2**32 - 1), st.sampled_from([(2, 3), (1, 1), (4, 1)]))
def test_gradient_agrees_with_autograd(seed, shape):
    generator = torch.Generator().manual_seed(seed)
    at = {"a": torch.randn(shape, generator=generator), "b": torch.randn(shape[::-1], generator=generator)}
    with checking.unchanged(at=at):
        # Central differences: truncation h^2 f'''/6 and rounding 1e-16 |f| / h are both below 1e-9 here.
        checking.gradient(lambda a, b: (a @ b).sin().sum(), at, rtol=1e-7, atol=1e-8, what="f")


class WrongBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.saved_tensors[0]  # the factor 2 is missing


def test_gradient_names_function_argument_and_index():
    tolerance = {"rtol": 1e-7, "atol": 1e-8, "what": "square"}
    text = message(checking.gradient, lambda x: WrongBackward.apply(x).sum(), {"x": torch.ones(2)}, **tolerance)
    assert "square: gradient with respect to x" in text
    assert "(1,)" in text
    text = message(checking.gradient, lambda x, y: (x * y.detach()).sum(),
                   {"x": torch.ones(2), "y": torch.ones(2)}, **tolerance)
    assert "no gradient with respect to y" in text


def test_gradient_checks_what_a_student_returned():
    def loss(x):
        return float((x**3).sum())

    x = np.array([1.0, 2.0])
    tolerance = {"rtol": 1e-7, "atol": 1e-8, "what": "cube"}
    checking.gradient(loss, {"x": x}, {"x": 3 * x**2}, **tolerance)
    message(checking.gradient, loss, {"x": x}, {"x": 3 * x}, **tolerance)
    message(checking.gradient, loss, {"x": x}, {"x": None}, **tolerance)
    message(checking.gradient, loss, {"x": x}, {"x": [3.0, 12.0]}, **tolerance)


def test_secret_seeds_differ_and_are_shown(capsys):
    seeds = {checking.secret_seed() for _ in range(20)}
    assert len(seeds) == 20
    assert str(seeds.pop()) in capsys.readouterr().out


def earn(*passes: bool) -> float:
    credit = checking.Credit(len(passes))
    for place, passed in enumerate(passes):
        with credit.check(f"property {place}", points=1, hint="there"):
            assert passed, "because"
    return credit.total()


def test_credit_adds_up_and_gives_reasons(capsys):
    assert earn(True, True, True) == 3.0
    assert type(earn(True, True)) is float
    assert earn(True, False, True) == 2.0
    out, err = capsys.readouterr()
    assert "property 1" in out
    assert "because" in out
    assert "there" in out
    assert err == ""
    with pytest.raises(AssertionError, match="because"):
        earn(False, False)


def test_credit_counts_any_exception_as_a_failure_and_no_interrupt(capsys):
    credit = checking.Credit(3)
    with credit.check("unfinished", points=1):
        stub(1)
    with credit.check("broken", points=1):
        int("x")
    with credit.check("done", points=1):
        pass
    assert credit.total() == 1.0
    out = capsys.readouterr().out
    assert "unfinished (0 of 1): not written yet" in out
    assert "broken (0 of 1): ValueError: invalid literal" in out
    with pytest.raises(KeyboardInterrupt), credit.check("interrupted", points=1):
        raise KeyboardInterrupt


def test_credit_refuses_checks_that_do_not_add_up():
    credit = checking.Credit(3)
    with credit.check("one", points=1):
        pass
    with pytest.raises(ValueError, match="offer 1"):
        credit.total()


def test_credit_in_thirds_reaches_the_full_total():
    credit = checking.Credit(1)
    for place in range(3):
        with credit.check(f"{place}", points=1 / 3):
            pass
    assert credit.total() == 1.0
