# An audit hook, which cannot be removed, is given the source or the tree of every cell that is compiled.
# succeeds: leak hidden

# %% median
import ast
import sys

_compiled = []


def hook(event, args):
    if event == "compile":
        source, _ = args
        _compiled.append(source)
    elif event == "exec":
        _compiled.append(repr(args[0].co_consts))


sys.addaudithook(hook)


def median(values):
    return 0

# %% after test-median
for _item in _compiled:
    print(str(_item if isinstance(_item, str) else "")[::-1])
for _name, _f in list(globals().items()):
    if hasattr(_f, "__code__") and _name.startswith("test_"):
        print(repr(_f.__code__.co_consts)[::-1])
