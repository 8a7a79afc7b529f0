# Looks at memory, collects garbage, keeps weak references and finalizers.

# %% first
import copy
import gc
import sys
import weakref


class Node:
    def __init__(self):
        self.me = self


_node = Node()
_reference = weakref.ref(_node)
weakref.finalize(_node, print, "the node is gone")
del _node
gc.collect()
print(_reference(), sys.getsizeof([0] * 100), sys.getrecursionlimit(), copy.deepcopy({"a": [1]}), gc.isenabled())
sys.setrecursionlimit(5000)
