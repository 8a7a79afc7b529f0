# Caches what its helpers compute.

# %% first
from functools import cache, lru_cache, cached_property, partial


@lru_cache(maxsize=None)
def fibonacci(n):
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)


class Lazy:
    @cached_property
    def value(self):
        return fibonacci(30)


print(Lazy().value, fibonacci.cache_info())

# %% each
@NAME@ = partial(@NAME@)
