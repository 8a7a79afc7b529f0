# Annotations everywhere, some of them checked when it is called.

# %% each
import inspect
from collections.abc import Callable
from typing import Any, get_type_hints


def _checked(function: Callable[..., Any]) -> Callable[..., Any]:
    signature = inspect.signature(function)

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        get_type_hints(function)
        return function(*bound.args, **bound.kwargs)

    wrapper.__name__, wrapper.__doc__, wrapper.__wrapped__ = function.__name__, function.__doc__, function
    return wrapper


@NAME@ = _checked(@NAME@)
print(inspect.signature(@NAME@), inspect.getdoc(@NAME@), inspect.isfunction(@NAME@))
