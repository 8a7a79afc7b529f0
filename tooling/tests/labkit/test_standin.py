"""The stand-in for CuPy: what does not mix, what is counted, and C in an ElementwiseKernel."""

import numpy as np
import pytest
from labkit import standin


@pytest.fixture
def host() -> np.ndarray:
    return np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.mark.parametrize(
    "mistake",
    [
        lambda x, h: x + h,
        lambda x, h: h + x,
        lambda x, h: standin.sum(h),
        lambda x, h: standin.concatenate([x, h]),
        lambda x, h: np.sum(x),
        lambda x, h: np.exp(x),
        lambda x, h: np.asarray(x),
        lambda x, h: float(x[0, 0]),
        lambda x, h: bool(x.any()),
        lambda x, h: x[np.array([0, 1])],
        lambda x, h: x.__iadd__(h),
        lambda x, h: x.__setitem__(0, h[0]),
    ],
)
def test_host_and_device_do_not_mix(host, mistake):
    there = standin.asarray(host)
    with pytest.raises(TypeError):
        mistake(there, host)
    assert (there.get() == host).all()


def test_values_and_dtypes_are_numpys(host):
    x = standin.asarray(host)
    for function in (
        lambda xp, a: (2 - a) * np.float32(3) / (a + 1),
        lambda xp, a: a.mean(axis=0, dtype=xp.float64),
        lambda xp, a: xp.where(a > 4, a, 0).T.reshape(-1),
        lambda xp, a: xp.searchsorted(xp.arange(3, dtype=xp.float32), a[0], side="right"),
        lambda xp, a: a[a > 3],
    ):
        want, got = np.asarray(function(np, host)), function(standin, x)
        assert type(got) is standin.ndarray and got.dtype == want.dtype
        assert (got.get() == want).all()


def test_launches_bytes_and_transfers(host):
    with standin.counting() as counts:
        x = standin.asarray(host)
        y = x * 2  # 48 bytes read, 48 written
        y[1:].T.reshape(-1)  # the transposed rows do not lie in order: a copy of 32 bytes
        y[:2]  # a view
        standin.asarray(y)  # is there already
    assert counts == standin.Counts(launches=2, device_bytes=96 + 64, to_device=1, to_device_bytes=48)
    with standin.counting() as counts:
        y.get()
        y[0, 0].item()
    assert (counts.launches, counts.to_host, counts.to_host_bytes) == (0, 2, 52)


def test_a_length_that_depends_on_values_is_a_wait(host):
    x = standin.asarray(host)
    with standin.counting() as counts:
        x[x > 3]
        standin.nonzero(x)
    assert counts.to_host == 2


def test_in_place_changes_the_array_and_counts(host):
    x = standin.asarray(host)
    view = x[0]
    with standin.counting() as counts:
        x += 1
        x[:, 1] = 7
    assert view.get().tolist() == [1, 7, 3, 4] and host[0, 0] == 0
    assert counts.launches == 2 and counts.device_bytes == 96 + 12


def test_counters_nest(host):
    with standin.counting() as outer:
        with standin.counting() as inner:
            standin.ones(3)
        standin.ones(3)
    assert (inner.launches, outer.launches) == (1, 2)


def test_module_of_arrays(host):
    assert standin.get_array_module(host) is np
    assert standin.get_array_module(host, standin.ones(1)) is standin
    with pytest.raises(AttributeError, match="fft"):
        _ = standin.fft


def test_an_elementwise_kernel_is_one_launch(host):
    operation = "float d = x - m; y = d > 2 && !isnan(d) ? fminf(d * 0.5f, 3.0f) : -d; z = m"
    kernel = standin.ElementwiseKernel("float32 x, T m", "float32 y, T z", operation, "k")
    x = standin.asarray(host)
    with standin.counting() as counts:
        y, z = kernel(x, x[0])
    d = host - host[0]
    assert (y.get() == np.where(d > 2, np.minimum(d / 2, 3), -d)).all()
    assert (z.get() == np.broadcast_to(host[0], d.shape)).all()
    assert counts == standin.Counts(launches=1, device_bytes=48 + 16 + 48 + 48)


def test_c_types_and_nan():
    def run(operation, *values, out="float32"):
        names = ", ".join(f"float32 x{k}" for k in range(len(values)))
        kernel = standin.ElementwiseKernel(names, f"{out} y", operation)
        return kernel(*(standin.asarray(np.array([v], np.float32)) for v in values)).get()

    assert run("y = x0 * 0.1", 3, out="float64")[0] == float(np.float32(3)) * 0.1  # a double literal
    assert run("y = x0 * 0.1f", 3, out="float64")[0] == np.float32(3) * np.float32(0.1)
    assert run("y = fmaxf(x0, x1)", np.nan, -3)[0] == -3  # C's fmaxf passes NaN over
    assert run("y = 2 * x0 - -x1 / 4", 3, 8)[0] == 8
    assert run("y = x0 == 1 ? 5 : x0 < 1 ? 6 : 7", 2)[0] == 7
    assert run("int k = x0; y = k + 1", 2.9)[0] == 3  # an assignment to int cuts off
    assert run("y = sqrtf(x0) + expf(0) + 1e-1f", 4)[0] == np.float32(2) + np.float32(1) + np.float32(0.1)


@pytest.mark.parametrize(
    ("operation", "error"),
    [
        ("y = ", SyntaxError), ("y = x +", SyntaxError), ("y = x) ", SyntaxError), ("y = x @ 2", SyntaxError),
        ("y = fminf(x)", SyntaxError), ("x = 1", NameError), ("y = w", NameError), ("d = x; y = d", NameError),
        ("float d = x", NameError), ("y = sinhf(x)", NameError), ("y = 1 / 2", TypeError),
        ("short d = x; y = d", SyntaxError),
    ],
)
def test_c_that_is_not_understood_is_refused(operation, error):
    with pytest.raises(error):
        standin.ElementwiseKernel("float32 x", "float32 y", operation)(standin.ones(2, np.float32))


def test_kernel_arguments_are_checked(host):
    kernel = standin.ElementwiseKernel("float32 x, T z", "T y", "y = x", "k")
    x = standin.asarray(host)
    for arguments in ((x,), (x, host), (standin.asarray(host.astype(np.float64)), x), (x, 1.0)):
        with pytest.raises(TypeError):
            kernel(*arguments)
    for parameters in ("raw float32 x", "float16 x", "x"):
        with pytest.raises(ValueError):
            standin.ElementwiseKernel(parameters, "float32 y", "y = 1")
