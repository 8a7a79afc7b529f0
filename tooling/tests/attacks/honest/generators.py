# Generators, coroutines by hand, iterators, send and throw.

# %% first
def averages():
    total = count = 0
    value = None
    while True:
        try:
            value = yield total / count if count else None
        except ValueError:
            total = count = 0
            continue
        total, count = total + value, count + 1


_g = averages()
next(_g)
print([_g.send(k) for k in range(4)], _g.throw(ValueError), _g.gi_running)
_g.close()
print(sum(k * k for k in range(10)), list(zip(*[iter(range(6))] * 2)))

# %% each
def _by_generator(function):
    def wrapper(*args):
        def once():
            yield function(*args)

        return next(once())

    return wrapper


@NAME@ = _by_generator(@NAME@)
