# Dispatch by type, matching, closures that count, recursion.

# %% first
from collections import Counter, defaultdict, deque
from functools import reduce, singledispatch
from itertools import accumulate, chain, pairwise


@singledispatch
def describe(thing):
    return "something"


@describe.register
def _(thing: int):
    return f"the number {thing}"


def kind(thing):
    match thing:
        case {"name": str(name)}:
            return name
        case [first, *rest]:
            return (first, len(rest))
        case _:
            return None


print(describe(1), describe("x"), kind({"name": "n"}), kind([1, 2]), Counter("hello").most_common(1))
print(list(accumulate([1, 2, 3])), list(pairwise(chain([1], [2, 3]))), reduce(lambda a, b: a * b, [1, 2, 3]), deque([1], 1))

# %% each
def _counted(function):
    calls = defaultdict(int)

    def wrapper(*args):
        nonlocal calls
        calls[function.__name__] += 1
        wrapper.calls = calls
        return function(*args)

    return wrapper


@NAME@ = _counted(@NAME@)
