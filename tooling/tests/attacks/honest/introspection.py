# Looks at its own functions.

# %% each
import ast
import dis
import inspect

if callable(@NAME@) and inspect.isfunction(@NAME@):
    print(inspect.signature(@NAME@), @NAME@.__code__.co_varnames[:3], len(inspect.getsource(@NAME@)))
    print(type(ast.parse(inspect.getsource(@NAME@)).body[0]).__name__, callable(@NAME@), dir(@NAME@)[:2])

# %% last
print(sorted(name for name in globals() if not name.startswith("_"))[:5], vars().keys() == globals().keys())
print(locals() is globals(), inspect.currentframe() is not None)
