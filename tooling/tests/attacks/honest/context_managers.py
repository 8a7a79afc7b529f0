# Context managers around everything.

# %% head
import contextlib
import io


@contextlib.contextmanager
def quiet():
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as text:
        yield text

# %% each
def _quietly(function):
    def wrapper(*args):
        with contextlib.ExitStack() as stack:
            stack.enter_context(quiet())
            stack.callback(lambda: None)
            return function(*args)

    return wrapper


@NAME@ = _quietly(@NAME@)
