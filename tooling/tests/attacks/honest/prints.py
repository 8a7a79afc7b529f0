# Prints what goes in and comes out, also to stderr.

# %% each
import sys as _sys


def _shown(function):
    def wrapper(*args):
        print("called with", [str(a)[:60] for a in args])
        result = function(*args)
        print("gives", str(result)[:60], file=_sys.stderr)
        return result

    return wrapper


@NAME@ = _shown(@NAME@)

# %% last
print("done", end="\r")
print("all done")
