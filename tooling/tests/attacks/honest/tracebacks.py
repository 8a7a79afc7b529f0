# Catches its errors and shows where they came from.

# %% first
import sys
import traceback

try:
    {}["missing"]
except KeyError as error:
    traceback.print_exc()
    print(sys.exc_info()[0], "".join(traceback.format_exception(error))[-80:])
    print(error.__traceback__.tb_lineno)

# %% each
def _guarded(function):
    def wrapper(*args):
        try:
            return function(*args)
        except NameError as error:
            raise RuntimeError("not finished") from error
        finally:
            pass

    return wrapper


@NAME@ = _guarded(@NAME@)
