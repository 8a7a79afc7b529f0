# Times itself with decorators.

# %% head
import functools
import time


def timed(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        start = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            timed.total = getattr(timed, "total", 0.0) + time.perf_counter() - start

    return wrapper

# %% each
@NAME@ = timed(@NAME@)

# %% last
print(f"{getattr(timed, 'total', 0):.6f} s at {time.strftime('%H:%M')}, {time.time_ns()}")
