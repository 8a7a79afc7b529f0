"""The guard around a graded cell: what is put back, what is noticed, and that it cannot be silenced unnoticed.

Cells whose text starts with ``#! graded`` are the course's own and graded; the others are the student's.
"""

import math
import re
from collections.abc import Iterator

import pytest
from gradekit.integrity import inside
from gradekit.integrity.evidence import Evidence
from gradekit.integrity.given import given_names
from gradekit.integrity.inside import versions
from gradekit.kernels import ForkServer, SandboxedNotebookClient
from gradekit.kernels.client import DeadKernelError
from nbclient.util import run_sync
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_notebook

TEST = "#! graded\n"
GIVEN = "#! given\n"


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    with ForkServer(("numpy", "numpy.testing")) as running:
        yield running


class Ran:
    def __init__(self, cells: list[NotebookNode], evidence: list[list[Evidence]]) -> None:
        self.cells, self.evidence = cells, evidence

    @property
    def kinds(self) -> list[set[str]]:
        """For each cell, the kinds of evidence that hold."""
        return [{e.kind for e in each if e.holds} for each in self.evidence]

    @property
    def errors(self) -> list[str]:
        return [o.ename for cell in self.cells for o in cell.outputs if o.output_type == "error"]

    def text(self, index: int) -> str:
        return "".join(o.get("text") or str(o.get("data", {}).get("text/plain", "")) for o in self.cells[index].outputs)


def run(server: ForkServer, *sources: str) -> Ran:
    notebook = new_notebook(cells=[new_code_cell(source) for source in sources])
    evidence: list[list[Evidence]] = []

    async def go() -> None:
        with server.kernel() as manager:
            client = SandboxedNotebookClient(notebook, km=manager, timeout=30)
            async with client.async_setup_kernel(cleanup_kc=True):
                for index, cell in enumerate(notebook.cells):
                    manager.guard.before(
                        index,
                        graded=cell.source.startswith(TEST),
                        locked=cell.source.startswith((TEST, GIVEN)),
                        gives=given_names(cell.source) if cell.source.startswith((TEST, GIVEN)) else (),
                    )
                    await client.async_execute_cell(cell, index, store_history=False)
                    evidence.append(manager.guard.after(index))

    run_sync(go)()
    return Ran(notebook.cells, evidence)


# -- what is put back --------------------------------------------------------------------------------------------------

PATCHES = {
    "a builtin": ("import builtins; builtins.abs = lambda x: 0", "assert abs(-3) == 3"),
    "a deleted builtin": ("import builtins; del builtins.abs", "assert abs(-1) == 1"),
    "a builtin hidden in a module": (
        "import numpy.testing._private.utils as u; u.isinstance = lambda *a: True",
        "import numpy.testing._private.utils as u; assert 'isinstance' not in vars(u)",
    ),
    "__builtins__ of the notebook": ("__builtins__ = {'__import__': __import__, 'abs': 5}", "assert abs(-3) == 3"),
    "a function of math": ("import math; math.isclose = lambda *a, **k: True", "import math; assert not math.isclose(1, 2)"),
    "a clock": ("import time; time.perf_counter = lambda: 0.0", "import time; assert time.perf_counter() > 0"),
    "an assert helper": (
        "import numpy.testing as t; t.assert_allclose = lambda *a, **k: None",
        "import numpy.testing as t\nwith t.assert_raises(AssertionError): t.assert_allclose(1, 2)",
    ),
    "what an assert helper calls": (
        "import numpy.testing._private.utils as u; u.assert_array_compare = lambda *a, **k: None",
        "import numpy.testing as t\nwith t.assert_raises(AssertionError): t.assert_allclose(1, 2)",
    ),
    "a helper's keyword defaults": (
        "import json; json.dumps.__kwdefaults__['sort_keys'] = True",
        "import json; assert json.dumps({'b': 1, 'a': 2}) == '{\"b\": 1, \"a\": 2}'",
    ),
    "a helper's defaults": (
        "import numpy.testing as t; t.assert_almost_equal.__defaults__ = (-9, '', True)",
        "import numpy.testing as t\nwith t.assert_raises(AssertionError): t.assert_almost_equal(1, 2)",
    ),
    "a helper's code": (
        "import numpy.testing as t; t.assert_equal.__code__ = (lambda *a, **k: None).__code__",
        "import numpy.testing as t\nwith t.assert_raises(AssertionError): t.assert_equal(1, 2)",
    ),
    "a method": (
        "import unittest; unittest.TestCase.assertEqual = lambda *a: None",
        "import unittest\ntry: unittest.TestCase().assertEqual(1, 2)\nexcept AssertionError: pass\nelse: 1/0",
    ),
    "a method that hides an inherited one": (
        "import collections; collections.Counter.__len__ = lambda s: 3",
        "import collections; assert len(collections.Counter()) == 0",
    ),
    "a module swapped for a fake": (
        "import sys, types; sys.modules['math'] = types.SimpleNamespace(isclose=lambda *a: True)",
        "import math; assert not math.isclose(1, 2)",
    ),
    "a fake of a module not imported before": (
        "import sys, types; sys.modules['sndhdr'] = sys.modules['colorsys'] = types.ModuleType('colorsys')",
        "import colorsys; assert colorsys.rgb_to_hsv",
    ),
    "the class of a module": (
        "import math, types, sys\nclass M(types.ModuleType):\n    isclose = property(lambda s: lambda *a: True)\n"
        "import numpy\nclass N(types.ModuleType):\n    allclose = property(lambda s: lambda *a: True)\nnumpy.__class__ = N",
        "import numpy; assert not numpy.allclose(1, 2)",
    ),
    "an import hook": (
        "import sys\nclass F:\n    def find_spec(self, *a): raise ImportError\nsys.meta_path.insert(0, F())",
        "import colorsys",
    ),
    "a trace function": ("import sys; sys.settrace(lambda *a: None)", "import sys; assert sys.gettrace() is None"),
    "a profile function": ("import sys; sys.setprofile(lambda *a: None)", "import sys; assert sys.getprofile() is None"),
    "an input transformer": (
        "get_ipython().input_transformers_post.append(lambda lines: ['pass'])", "assert False, 'must fail'"
    ),
    "a syntax tree transformer": (
        "import ast\nclass T(ast.NodeTransformer):\n    def visit_Assert(self, n): return ast.Pass()\n"
        "get_ipython().ast_transformers.append(T())",
        "assert False, 'must fail'",
    ),
    "the shell's run_code": (
        "async def f(*a, **k): return False\nget_ipython().run_code = f", "assert False, 'must fail'"
    ),
    "the shell's method, in its class": (
        "async def f(*a, **k): return False\ntype(get_ipython()).run_code = f", "assert False, 'must fail'"
    ),
    "the kernel's do_execute": (
        "async def f(*a, **k): return {'status': 'ok', 'execution_count': 1, 'payload': [], 'user_expressions': {}}\n"
        "get_ipython().kernel.do_execute = f",
        "assert False, 'must fail'",
    ),
    "a message handler of the kernel": (
        "get_ipython().kernel.shell_handlers['execute_request'] = None", "assert False, 'must fail'"
    ),
    "an exception handler": (
        "get_ipython().set_custom_exc((AssertionError,), lambda *a, **k: None)\n"
        "get_ipython().showtraceback = lambda *a, **k: None",
        "assert False, 'must fail'",
    ),
    "an event hook": (
        "import math\ndef hook(*a): math.isclose = lambda *a: True\n"
        "get_ipython().events.register('pre_run_cell', hook)",
        "import math; assert not math.isclose(1, 2)",
    ),
    "what a last expression shows": ("get_ipython().ast_node_interactivity = 'none'", "5"),
    "how a number shows": (
        "get_ipython().display_formatter.formatters['text/plain'].for_type(int, lambda n, p, c: p.text('99'))", "5"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PATCHES)
def test_is_put_back_before_a_graded_cell(server: ForkServer, name: str) -> None:
    patch, test = PATCHES[name]
    ran = run(server, patch, TEST + test)
    if "must fail" in test:
        assert ran.errors == ["AssertionError"]
    else:
        assert not ran.errors
    if test == "5":
        assert ran.text(1) == "5"
    assert not ran.kinds[1]
    if "function" not in name and "exception" not in name:
        assert [e.kind for e in ran.evidence[1]] == ["restored"]


def test_what_is_the_students_own_stays(server: ForkServer) -> None:
    ran = run(
        server,
        "import sys, math, numpy, types, warnings, random\n"
        "def f(): return cache\ncache = {}\nclass C:\n    def __eq__(self, o): return True\n"
        "mine = types.ModuleType('mine'); sys.modules['mine'] = mine\n"
        "numpy.seterr(all='ignore'); numpy.set_printoptions(precision=2); warnings.simplefilter('ignore')\n"
        "random.seed(5); sys.path.append('/submission/helpers'); sys.setrecursionlimit(5000)",
        TEST + "cache['seen'] = 1",
        "import random, mine, sys; print(f(), C() == 1, random.random(), numpy.geterr()['over'], sys.path[-1])",
    )
    assert not any(ran.evidence)
    assert ran.text(2) == "{'seen': 1} True 0.6229016948897019 ignore /submission/helpers\n"


IMPORTS = GIVEN + "import statistics\ndef loop(x):\n    return 1\nclass Kept:\n    pass\nmine = 1"
REBOUND = {
    "a fake module": ("import types\nstatistics = types.SimpleNamespace(median=max)", "assert statistics.median([1, 2, 4]) == 2"),
    "a given function": ("def loop(x):\n    return 2", "assert loop(0) == 1"),
    "a given class": ("Kept = 5", "Kept()"),
    "a deleted name": ("del loop", "assert loop(0) == 1"),
}


@pytest.mark.parametrize("name", REBOUND)
def test_the_courses_own_names_are_put_back(server: ForkServer, name: str) -> None:
    change, test = REBOUND[name]
    ran = run(server, IMPORTS, change, TEST + test)
    assert not ran.errors and not ran.kinds[2]
    assert [e.kind for e in ran.evidence[2]] == ["restored"]


def test_given_values_are_the_students_to_change(server: ForkServer) -> None:
    ran = run(server, IMPORTS, "mine += 1\nimport statistics as other", TEST + "assert mine == 2 and other is statistics")
    assert not ran.errors and not any(ran.evidence)


def test_a_given_name_that_is_replaced_during_the_test_is_noticed(server: ForkServer) -> None:
    ran = run(server, IMPORTS, "def f(x):\n    globals()['loop'] = f\n    return 4", TEST + HONEST_TEST)
    assert ran.kinds[2] == {"tampered"}


def test_a_helper_that_the_test_defines_is_its_own(server: ForkServer) -> None:
    swap = "def f():\n    if loop(1) == 2:\n        old = loop\n        globals()['loop'] = lambda x: old(x) + 1"
    ran = run(server, swap, TEST + "def loop(x):\n    return x + 1\nf()\nassert loop(1) == 3")
    assert not ran.errors and ran.kinds[1] == {"tampered"}


def test_a_locked_cell_imports_no_fake(server: ForkServer) -> None:
    fake = "import sys, types\nsys.modules['sndhdr'] = types.ModuleType('sndhdr')"
    assert not run(server, fake, GIVEN + "import sndhdr\nsndhdr.what").errors


def test_a_handler_of_the_notebooks_own_is_silenced(server: ForkServer) -> None:
    handler = "import signal\nseen = []\nsignal.signal(signal.SIGUSR1, lambda n, f: seen.append(f))"
    ran = run(server, handler, TEST + "import signal; signal.raise_signal(signal.SIGUSR1); assert not seen")
    assert not ran.errors


def test_memory_that_was_reached_before_the_test_holds_it(server: ForkServer) -> None:
    reach = "import ctypes\nf = ctypes.pythonapi.PyEval_GetFrame"
    ran = run(server, "x = 1", reach, TEST + "assert True", "y = 1", TEST + "assert True")
    assert [bool(kinds) for kinds in ran.kinds] == [False, False, True, False, True]
    assert ran.kinds[2] == {"memory"}


def test_a_generators_frame_that_is_kept_holds_the_test(server: ForkServer) -> None:
    make = "def g():\n    yield 1\n    yield 2\nit = g(); "
    assert run(server, make + "frame = it.gi_frame", TEST + "assert next(it)").kinds[1] == {"frames"}
    assert not any(run(server, make + "print(it.gi_frame.f_lineno)", TEST + "assert next(it)").evidence)


# -- what is noticed while a test runs ---------------------------------------------------------------------------------

HONEST_TEST = "r = f(2)\nassert r == 4"
NOTICED = {
    "left patched": ("import math\ndef f(x):\n    math.isclose = lambda *a: True\n    return 4", "tampered"),
    "patched and put back": (
        "import math\ndef f(x):\n    old = math.isclose\n    math.isclose = 1\n    math.isclose = old\n    return 4", "tampered"
    ),
    "patched and put back in the dict": (
        "import builtins\ndef f(x):\n    d = vars(builtins)\n    old = d['abs']\n    d['abs'] = 1\n    d['abs'] = old\n"
        "    return 4",
        "tampered",
    ),
    "a method patched and put back": (
        "import unittest\ndef f(x):\n    C = unittest.TestCase\n    old = C.assertEqual\n    C.assertEqual = None\n"
        "    C.assertEqual = old\n    return 4",
        "tampered",
    ),
    "a helper's code replaced": (
        "import numpy.testing as t\ncode = (lambda *a, **k: None).__code__\n"
        "def f(x):\n    t.assert_equal.__code__ = code\n    return 4",
        "tampered",
    ),
    "the caller's frame": ("import sys\ndef f(x):\n    return sys._getframe(1).f_locals and 4", "frames"),
    "the caller's frame by inspect": ("import inspect\ndef f(x):\n    inspect.currentframe().f_back\n    return 4", "frames"),
    "the stack": ("import inspect\ndef f(x):\n    inspect.stack()\n    return 4", "frames"),
    "a frame of an exception": (
        "import sys\ndef f(x):\n    try: 1/0\n    except ZeroDivisionError as e: e.__traceback__.tb_frame.f_back\n"
        "    return 4",
        "frames",
    ),
    "a frame of a running generator": (
        "def g():\n    yield me.gi_frame\ndef f(x):\n    global me\n    me = g()\n    next(me)\n    return 4", "frames"
    ),
    "a caller further up, by a library": (
        "from IPython.utils.frame import extract_module_locals as ask\ndef f(x):\n    ask(depth=1)\n    return 4", "frames"
    ),
    "a caller's name, by a library": ("import typing\ndef f(x):\n    typing._caller(1)\n    return 4", "frames"),
    "all objects": ("import gc\ndef f(x):\n    gc.get_objects()\n    return 4", "frames"),
    "referrers": ("import gc\ndef f(x):\n    gc.get_referrers(x)\n    return 4", "frames"),
    "memory": ("import ctypes\ndef f(x):\n    ctypes.string_at(id(x), 8)\n    return 4", "frames"),
    "a trace function": ("import sys\ndef f(x):\n    sys.settrace(None)\n    return 4", "frames"),
    "another thread's frames": (
        "import sys, threading\ndef f(x):\n    t = threading.Thread(target=sys._current_frames)\n    t.start(); t.join()\n"
        "    sys._current_frames()\n    return 4",
        "frames",
    ),
    "code in a library's name": (
        "import os\ndef f(x):\n    exec(compile('import sys; sys._getframe(2)', os.__file__, 'exec'), {})\n    return 4",
        "disguise",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NOTICED)
def test_is_noticed_while_a_test_runs(server: ForkServer, name: str) -> None:
    answer, kind = NOTICED[name]
    ran = run(server, answer, TEST + HONEST_TEST, TEST + "assert True")
    assert not ran.errors
    assert kind in ran.kinds[1]
    assert not ran.evidence[0] and not ran.kinds[2]


def test_what_a_given_cell_defines_can_be_read_and_a_test_cannot(server: ForkServer) -> None:
    """The text of a given kernel decides how fast the simulator runs it."""
    look = "    import linecache\n    return ''.join(map(str, linecache.cache.values()))"
    ran = run(
        server,
        GIVEN + "def helper():\n    return 'a given word'",
        f"import inspect\ndef f():\n{look}",
        TEST + "text = f()\n'a given' + ' word' in text, 'a secret' + ' word' in text, 'a secret word' == ''",
        "print('a given' + ' word' in inspect.getsource(helper))",
    )
    assert not ran.errors
    assert ran.text(2) == "(True, False, False)" and ran.text(3) == "True\n"


def test_a_thread_that_keeps_patching_is_noticed(server: ForkServer) -> None:
    ran = run(
        server,
        "import math, threading, time\ndef work():\n    while True:\n        math.isclose = lambda *a: True\n"
        "        time.sleep(0.0005)\nthreading.Thread(target=work, daemon=True).start()",
        TEST + "import time; time.sleep(0.05)",
    )
    assert ran.kinds[1] == {"tampered"}


HONEST = {
    "logging": "import logging\ndef f(x):\n    logging.getLogger('mine').warning('x is %s', x)\n    return 4",
    "namedtuple": "from collections import namedtuple\ndef f(x):\n    return namedtuple('P', 'a')(4).a",
    "dataclass": (
        "from dataclasses import dataclass\ndef f(x):\n    @dataclass(order=True)\n    class P:\n        a: int = 4\n"
        "    return P().a"
    ),
    "own errors printed": (
        "import traceback\ndef f(x):\n    try: 1/0\n    except ZeroDivisionError: traceback.print_exc()\n    return 4"
    ),
    "warnings": "import warnings\ndef f(x):\n    warnings.warn('slow', stacklevel=2)\n    return 4",
    "warnings caught": (
        "import warnings\ndef f(x):\n    with warnings.catch_warnings():\n        warnings.simplefilter('ignore')\n"
        "        return 4"
    ),
    "a cache": "import functools\n@functools.cache\ndef f(x):\n    return 4",
    "an enum": "import enum\ndef f(x):\n    return enum.Enum('E', 'a b c d').d.value",
    "a thread": (
        "import threading\ndef f(x):\n    t = threading.Thread(target=print, args=(1,))\n    t.start(); t.join()\n    return 4"
    ),
    "an executor": (
        "from concurrent.futures import ThreadPoolExecutor\ndef f(x):\n    with ThreadPoolExecutor(2) as p:\n"
        "        return sum(p.map(int, '13'))"
    ),
    "type hints": "import typing\ndef f(x: typing.Annotated[int, 'x']) -> int:\n    typing.get_type_hints(f)\n    return 4",
    "a library imported late": "def f(x):\n    import wave, xmlrpc.client, sqlite3, pygments.lexers\n    return 4",
    "redirected output": (
        "import contextlib, io\ndef f(x):\n    with contextlib.redirect_stdout(io.StringIO()): print(1)\n    return 4"
    ),
    "magics": "def f(x):\n    get_ipython().run_line_magic('timeit', '-n1 -r1 1')\n    return 4",
    "display": "from IPython.display import display, HTML\ndef f(x):\n    display(HTML('<b>x</b>'))\n    return 4",
    "numpy": "import numpy as np\ndef f(x):\n    with np.errstate(all='ignore'): np.log(np.zeros(3))\n    return 4",
    "own tests, one of which fails": (
        "import io, unittest\nclass T(unittest.TestCase):\n    def test_f(self): raise OSError('no')\ndef f(x):\n"
        "    unittest.TextTestRunner(io.StringIO()).run(T('test_f'))\n    return 4"
    ),
    "an unfinished kernel": (
        "import numpy as np\nfrom labkit import cudasim\ncudasim.enable()\nfrom numba import cuda\n"
        "@cuda.jit\ndef k(a):\n    raise NotImplementedError()\n"
        "def f(x):\n    try: k[1, 1](np.zeros(1))\n    except NotImplementedError: return 4"
    ),
    "own code inspected": "import inspect\ndef f(x):\n    inspect.getsource(f); f.__code__.co_varnames\n    return 4",
    "own generator's frame": "def g():\n    yield 1\ndef f(x):\n    it = g(); next(it); it.gi_frame.f_lineno\n    return 4",
    "an error of its own": "def f(x):\n    raise ValueError('not yet')",
    "a wrong answer": "def f(x):\n    return 5",
}  # fmt: skip


@pytest.mark.parametrize("name", HONEST)
def test_honest_code_gives_no_evidence(server: ForkServer, name: str) -> None:
    ran = run(server, HONEST[name], TEST + HONEST_TEST, TEST + "5")
    assert not any(ran.evidence)
    assert ran.text(2) == "5"
    assert ran.errors in ([], ["ValueError"], ["AssertionError"])


def test_a_flag_that_a_library_sets_for_itself_is_no_patch(server: ForkServer) -> None:
    flag = "from torch.autograd.graph import allow_mutation_on_saved_tensors\ndef f(x):\n"
    ran = run(server, flag + "    with allow_mutation_on_saved_tensors(): return 4", TEST + HONEST_TEST)
    assert "tampered" not in ran.kinds[1] and not any(one.holds for one in ran.evidence[1])


def test_a_test_may_look_into_frames_and_functions_itself(server: ForkServer) -> None:
    ran = run(server, "def f(x):\n    return 4", TEST + "import sys, gc\nsys._getframe(); gc.get_objects()\nf.__code__.co_names")
    assert not any(ran.evidence)


# -- verdicts that were not given by the test --------------------------------------------------------------------------

FORGED = {
    "a reply of its own": (
        "def f(x):\n    k = get_ipython().kernel\n    parent = k.get_parent('shell')\n    ident = k._shell_parent_ident.get()\n"
        "    k.session.send(k.shell_stream, 'execute_reply', {'status': 'ok', 'execution_count': 1, 'payload': [],\n"
        "        'user_expressions': {}}, parent, ident=ident)\n"
        "    k.session.send(k.iopub_socket, 'status', {'execution_state': 'idle'}, parent, ident=b'status')\n"
        "    import time; time.sleep(0.5)\n    return 5",
        "assert f(2) == 4",
    ),
    "a result of its own": ("import sys\ndef f(x):\n    sys.displayhook(5)\n    return 1", "f(2)"),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_verdict_of_its_own_making_is_noticed(server: ForkServer, name: str) -> None:
    answer, test = FORGED[name]
    ran = run(server, answer, TEST + test)
    assert ran.kinds[1] & {"forged"}


# -- what a test says stays unread -------------------------------------------------------------------------------------

SECRET = TEST + "def check():\n    assert f(2) == 'cobalt heron'\ncheck()"
SEARCH = """
import linecache, sys
k = get_ipython().kernel
places = [str(linecache.cache), str(k.get_parent('shell').get('content')), str(vars(get_ipython().last_execution_result)),
          str(vars(get_ipython().last_execution_result.info)), str(globals().get('_ih')), str(globals().get('In')),
          str(vars(get_ipython().history_manager)), str(getattr(sys, 'last_value', '')), str(getattr(sys, 'last_exc', '')),
          str(get_ipython()._last_traceback), str(get_ipython().InteractiveTB.tb)]
print([i for i, place in enumerate(places) if 'cobalt ' + 'heron' in place])
"""  # fmt: skip


def test_its_source_cannot_be_read_by_what_it_calls(server: ForkServer) -> None:
    inside = "def f(x):\n" + "".join(f"    {line}\n" for line in SEARCH.strip().splitlines()) + "    return 'cobalt ' + 'heron'"
    ran = run(server, inside, SECRET)
    assert ran.text(1) == "[]\n"


@pytest.mark.parametrize("outcome", ["'cobalt ' + 'heron'", "'wrong'", "1 / 0"])
def test_its_source_cannot_be_read_afterwards(server: ForkServer, outcome: str) -> None:
    ran = run(server, f"def f(x):\n    return {outcome}", SECRET, SEARCH)
    assert ran.text(2) == "[]\n"


def test_its_error_shows_the_line_that_failed(server: ForkServer) -> None:
    ran = run(server, "def f(x):\n    return 5", TEST + "value = 4\nassert f(2) == value")
    (error,) = ran.cells[1].outputs
    assert "assert f(2) == value" in re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(error.traceback))


def test_reading_the_code_of_a_test_function_is_noticed(server: ForkServer) -> None:
    ran = run(server, "def f(x):\n    return 'cobalt ' + 'heron'", SECRET, "check.__code__.co_consts")
    assert [e.kind for e in ran.evidence[2]] == ["frames"]


def test_an_audit_hook_is_refused(server: ForkServer) -> None:
    ran = run(server, "import sys\nseen = []\nsys.addaudithook(lambda *a: seen.append(a))", TEST + "assert True", "len(seen)")
    assert ran.text(2) == "0"
    assert [e.kind for e in ran.evidence[0]] == ["audit"]


# -- the guard itself --------------------------------------------------------------------------------------------------

def test_nothing_that_can_be_named_leads_to_the_guard(server: ForkServer) -> None:
    ran = run(
        server,
        "import gc, sys\nfound = [n for n in sys.modules if 'integrity' in n]\n"
        "kinds = {type(o).__name__ for o in gc.get_objects()}\n"
        "frames, frame = [], sys._getframe()\nwhile frame:\n"
        "    frames += [type(v).__name__ for v in frame.f_locals.values()]; frame = frame.f_back\n"
        "print(found, kinds & {'Watch', 'Auditor', 'Snapshot', 'Shell', 'Protected'}, {'Watch'} & set(frames))",
    )
    assert ran.text(0) == "['gradekit.integrity', 'gradekit.integrity.inside'] set() set()\n"


CLOSE = """
import os, socket, stat
for d in range(3, 64):
    try:
        if stat.S_ISSOCK(os.fstat(d).st_mode) and socket.socket(fileno=os.dup(d)).type == socket.SOCK_SEQPACKET:
            @@
    except OSError:
        pass
"""


def test_a_closed_channel_ends_the_kernel_or_is_evidence(server: ForkServer) -> None:
    try:
        ran = run(server, CLOSE.replace("@@", "os.close(d)"), TEST + "assert True")
    except DeadKernelError:
        return
    assert ran.kinds[1] == {"cut"}


def test_a_channel_led_elsewhere_ends_the_kernel_when_there_is_something_to_say(server: ForkServer) -> None:
    cut = "def f(x):\n" + "".join(
        f"    {line}\n" for line in CLOSE.replace("@@", "os.dup2(os.open('/dev/null', os.O_RDWR), d)").splitlines()
    )
    with pytest.raises(DeadKernelError):
        run(server, cut + "    import sys; sys._getframe(1)\n    return 4", TEST + HONEST_TEST)


def test_writing_to_the_channel_makes_no_evidence(server: ForkServer) -> None:
    ran = run(server, CLOSE.replace("@@", "os.write(d, b'x' * 64)"), TEST + "assert True")
    assert ran.kinds[1] <= {"cut"} and not any(e.kind not in ("cut",) for e in ran.evidence[1])


# -- stamps ------------------------------------------------------------------------------------------------------------


def test_stamps_are_where_we_read_them() -> None:
    assert versions.works()


def test_a_wrong_place_for_stamps_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "_OFFSET", versions._OFFSET - 8)  # the number of entries
    assert not versions.works()


def test_without_stamps_a_patch_is_still_put_back_and_the_weakness_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    spoiled = [
        (name, compile("def works(): return False\ndef stamps(dicts): return []\nimport gc\ndef dict_of(cls):\n"
                       "    return gc.get_referents(type.__dict__['__dict__'].__get__(cls))[0]", code.co_filename, "exec")
         if name.endswith(".versions") else code)
        for name, code in inside.read()
    ]  # fmt: skip
    monkeypatch.delattr(inside, "versions")  # else the real one would be found there
    guard = inside.load(spoiled)
    shell = pytest.importorskip("IPython.core.interactiveshell").InteractiveShell.instance()
    guard.take(shell, shell, ("/nowhere/",))
    monkeypatch.setattr("math.isclose", None)
    assert not guard.snapshot.stamped
    assert "math.isclose" in guard.snapshot.restore()
    assert math.isclose(1, 1)
    assert guard._before("0", "1", "1")[-1][0] == "weaker"
