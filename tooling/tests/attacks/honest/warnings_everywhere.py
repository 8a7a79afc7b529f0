# Warns, and changes what becomes of warnings.

# %% first
import warnings

warnings.simplefilter("always")
warnings.warn("this notebook is not finished", stacklevel=1)

# %% each
def _warns(function):
    def wrapper(*args):
        warnings.warn(f"{function.__name__} is slow", UserWarning, stacklevel=2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(*args)

    return wrapper


@NAME@ = _warns(@NAME@)
