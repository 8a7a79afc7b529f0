"""Static findings: what a TA is pointed at, what honest code gives no finding for, and what no student can break."""

from __future__ import annotations

from dataclasses import dataclass

import nbformat
import pytest
from gradekit.integrity.evidence import Evidence
from gradekit.integrity.findings import scan


@dataclass(frozen=True)
class _Cell:
    grade_id: str
    source: str
    released: str
    locked: bool = False
    points: float = 0.0
    kind: str = "code"


@dataclass(frozen=True)
class _Target:
    cells: tuple[_Cell, ...]
    plain: tuple[str, ...] = ()


STUB = "def double(x):\n    raise NotImplementedError()"
VISIBLE = "want = {1: 2, 3: 6, 5: 10, 7: 14, 11: 22}\nfor x, y in want.items():\n    assert double(x) == y"
HIDDEN = "assert double(-17) == -34 and double(0) == 0 and double(2.5) == 5.0 and double(1e300) == 2e300"
GIVEN = "import gc, sys, subprocess\nimport numpy as np\ndef close(a, b):\n    return abs(a - b) < 1e-9"
TEST = _Cell("test-double", f"{VISIBLE}\n### BEGIN HIDDEN TESTS\n{HIDDEN}\n### END HIDDEN TESTS", VISIBLE, True, 2.0)
PLAIN = "gc.collect()\nsys._getframe()"
TARGET = _Target(
    (_Cell("given", GIVEN, GIVEN, locked=True), _Cell("double", "def double(x):\n    return 2 * x", STUB), TEST),
    (PLAIN,),
)


def _scan(source: str, *, answer: str = STUB) -> list[Evidence]:
    cells = []
    typed = (("given", GIVEN), ("double", answer), ("", source), ("", PLAIN), (TEST.grade_id, TEST.source))
    for grade_id, text in typed:
        cell = nbformat.v4.new_code_cell(text)
        if grade_id:
            cell.metadata["nbgrader"] = {"grade_id": grade_id}
        cells.append(cell)
    return scan(nbformat.v4.new_notebook(cells=cells), TARGET)


SUSPECT = [
    ("import gc as g\ng.get_objects()", "line 2: looks through the memory of the process (gc.get_objects)"),
    ("from inspect import currentframe as here\nhere()", "reads the stack of calls (inspect.currentframe)"),
    ("def f(e):\n    return e.__traceback__.tb_frame.f_back", "line 2: reads the stack of calls (f_back)"),
    ("def f(e):\n    return getattr(e, 'tb' + '_frame')", "reads the stack of calls (tb_frame)"),
    ("from sys import _getframe", "line 1: reads the stack of calls (sys._getframe)"),
    ("import inspect\ninspect.getsource(close)", "reads the source of functions"),
    ("import ctypes", "reaches around Python (ctypes)"),
    ("get_ipython().input_transformers_post", "line 1: reaches the notebook's own machinery (get_ipython)"),
    ("%timeit get_ipython()", "line 1: reaches the notebook's own machinery (get_ipython)"),
    ("%%capture out\n1\nsys.modules", "line 3: reaches into the table of loaded modules (sys.modules)"),
    ("m = sys.modules\nm['numpy'].testing.f = 1", "line 2: changes numpy.testing.f, which it imports"),
    ("__builtins__", "the table of loaded modules (__builtins__)"),
    ("np.testing.assert_allclose = lambda *a: None", "changes numpy.testing.assert_allclose, which it imports"),
    ("from numpy import testing\ntesting.assert_equal, x = 1, 2", "changes numpy.testing.assert_equal"),
    ("setattr(np, 'allclose', print)", "changes numpy.allclose, which it imports"),
    ("setattr(np, input(), print)", "changes numpy...., which it imports"),
    ("vars(np)['allclose'] = print", "changes numpy.allclose, which it imports"),
    ("np.__dict__['allclose'] = print", "changes numpy.allclose, which it imports"),
    ("np.__dict__.update(allclose=print)", "changes numpy.__dict__, which it imports"),
    ("type.__setattr__(np.ndarray, 'x', 1)", "changes numpy.ndarray.x, which it imports"),
    ("from unittest import mock\nmock.patch('numpy.allclose')", "line 2: changes numpy.allclose, which it imports"),
    ("from unittest.mock import patch\nwith patch.object(np, 'allclose'):\n    pass", "line 2: changes numpy"),
    ("import os\nos._exit(0)", "line 2: ends or signals a process (os._exit)"),
    ("import os\ngetattr(os, '_ex' + 'it')(0)", "line 2: ends or signals a process (os._exit)"),
    ("import os\ngetattr(os, ''.join(['_ex', 'it']))(0)", "line 2: ends or signals a process (os._exit)"),
    ("import os\ngetattr(os, name)(0)", "line 2: reaches for something whose name is only known at run time"),
    ("__import__('o' 's')._exit(0)", "ends or signals a process (os._exit)"),
    ("import importlib\nimportlib.import_module(name)", "is only known at run time (importlib.import_module)"),
    ("exec(text)", "runs code that is put together as text (exec)"),
    ("import signal\nsignal.alarm(1)", "line 2: ends or signals a process (signal.alarm)"),
    ("import threading\nt = threading.Thread(target=print)\nt.start()", "line 2: leaves code to run after the cell"),
    ("import atexit\natexit.register(print)", "leaves code to run after the cell (atexit.register)"),
    ("subprocess.run(['ls'])", "line 1: starts another program (subprocess.run)"),
    ("import os\nos.system('ls')", "starts another program (os.system)"),
    ("x = 1\n!ls -l", "line 2: starts another program (! ls -l)"),
    ("files = !ls", "line 1: starts another program (! ls)"),
    ("%%bash\nls", "line 1: starts another program (bash ls)"),
    ("%system ls", "line 1: starts another program (system ls)"),
    ("from socket import socket", "line 1: opens a network connection (socket.socket)"),
    ("import urllib.request", "opens a network connection (urllib.request)"),
    ("open('/etc/passwd')", "line 1: opens /etc/passwd, outside its folder"),
    ("from pathlib import Path\nPath('../other/notebook.ipynb').read_text()", "line 2: opens ../other/notebook.ipynb"),
    ("open(f'/proc/{pid}/mem')", "opens /proc/, outside its folder"),
    ("np.load('data/../../x.npy')", "opens data/../../x.npy, outside its folder"),
    ("from pathlib import Path\nPath.home()", "asks for the home folder (pathlib.Path.home)"),
    ("class Yes(float):\n    def __eq__(self, other):\n        return True", "line 1: says itself what __eq__ means"),
    ("class T(np.ndarray):\n    __array_ufunc__ = None", "says itself what __array_ufunc__ means"),
    ("T = type('T', (), {'__torch_function__': f})", "says itself what __torch_function__ means"),
    ("Yes.__eq__ = lambda self, other: True", "says itself what __eq__ means"),
    ("class E(Exception):\n    def _render_traceback_(self): ...", "says itself what _render_traceback_ means"),
    ("def close(a, b):\n    return True", "line 1: gives close, the course's own, another meaning"),
    ("isinstance = lambda *a: True", "gives isinstance, Python's own, another meaning"),
    ("def f(x):\n    try:\n        k[1, 32](x)\n    except Exception:\n        return np.sum(x)",
     "line 2: calls numpy.sum when a kernel fails"),
    ("try:\n    y = double(x)\nexcept Exception:\n    y = np.multiply(x, 2)",
     "line 1: calls numpy.multiply when its own function fails"),
    (f"x = 1\n{HIDDEN}", "line 2: is word for word what the hidden tests say"),
    (VISIBLE, "line 1: copies the text of a test"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "sentence"), SUSPECT)
def test_a_student_s_cell_is_pointed_at_with_its_line(source: str, sentence: str) -> None:
    found = _scan(source)
    assert any(sentence in evidence.what for evidence in found), found
    assert {(evidence.cell, evidence.kind, evidence.holds) for evidence in found} == {("cell 2", "static", False)}
    answered = _scan("", answer=source)
    assert {evidence.cell for evidence in answered} == {"double"}
    assert [evidence.what for evidence in answered] == [evidence.what for evidence in found]


HONEST = [
    "",
    "# a comment",
    "%matplotlib inline\nimport matplotlib.pyplot as plt\nplt.rcParams['figure.figsize'] = (4, 3)",
    "%timeit -n 10 -r 3 double(3)",
    "%%time\nx = [double(i) for i in range(3)]",
    "x = %timeit -o double(3)",
    "double?",
    "gc.collect()",
    "import torch\ntorch.backends.cudnn.deterministic = True\ntorch.set_num_threads(1)\ntorch.manual_seed(0)",
    "import warnings\nwarnings.filterwarnings('ignore')\nnp.seterr(all='ignore')\nnp.random.seed(0)",
    "import os\nos.environ['CUDA_VISIBLE_DEVICES'] = '0'\nos.path.join('data', 'x.txt')\nos.cpu_count()",
    "import logging\nlogging.getLogger(__name__).setLevel(logging.INFO)",
    "from dataclasses import dataclass\n@dataclass\nclass Point:\n    x: float = 0.0\np = Point()\np.x = 3.0",
    "import threading\nt = threading.Thread(target=print)\nt.start()\nt.join()",
    "from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor() as p:\n    list(p.map(abs, [1]))",
    "from functools import cache\n@cache\ndef f(n: int) -> int:\n    return n",
    "try:\n    x = int('3')\nexcept ValueError:\n    x = np.nan",
    "open('data/numbers.txt').read()\nopen('/tmp/x', 'w')\nopen('./out.csv', 'w')",
    "import inspect\ninspect.signature(double)",
    "x = np.zeros(3)\nx.shape = (3, 1)\nx[0] = 1",
    "pi = np.pi\npi = Point()\npi.x = 3",
    "sum = 0\nlist = [1]\nassert double(2) == 4",
    "class A:\n    def __repr__(self):\n        return 'A'\n    def __add__(self, other):\n        return self",
    "import traceback\ntry:\n    1 / 0\nexcept ZeroDivisionError:\n    traceback.print_exc()",
    "import unittest\nclass T(unittest.TestCase):\n    def test(self):\n        self.assertEqual(double(2), 4)",
]


@pytest.mark.parametrize("source", HONEST)
def test_honest_code_gives_no_finding(source: str) -> None:
    assert _scan(source) == []


def test_what_is_the_course_s_own_or_untouched_is_not_looked_at() -> None:
    assert _scan(PLAIN) == []
    locked = nbformat.v4.new_code_cell("import ctypes", metadata={"nbgrader": {"grade_id": "given"}})
    assert scan(nbformat.v4.new_notebook(cells=[locked]), TARGET) == []


def test_the_same_thing_on_many_lines_is_one_sentence() -> None:
    (evidence,) = _scan("import os\n" + "os._exit(0)\n" * 9)
    assert evidence.what.startswith("lines 2, 3, 4, 5, 6, ...: ends or signals")


@pytest.mark.parametrize(
    "source",
    [
        "def f(:\n  gc.get_objects()",
        "x = '\0'\nimport ctypes",
        "(" * 5000,
        "-" * 50_000 + "1",
        "a" + ".b" * 40_000,
        "%timeit " * 2000,
        "%x\n" * 2000,
        "!x = %y ?\n" * 2000,
        "%%timeit\n" * 500,
        "%%bash",
        "%",
        "\ud800",
    ],
)
def test_what_cannot_be_read_is_no_finding_and_no_crash(source: str) -> None:
    assert all("starts another program" in evidence.what for evidence in _scan(source))


def test_a_cell_too_long_to_look_through_says_so() -> None:
    (evidence,) = _scan("x = 1\n" * 20_000)
    assert "was not looked through" in evidence.what


def test_a_label_of_nbgrader_on_a_cell_of_its_own_hides_nothing() -> None:
    """Sanitising leaves nbgrader's metadata on known cells alone; the rest is the student's."""
    cell = nbformat.v4.new_code_cell("import ctypes", metadata={"nbgrader": {"grade_id": "unknown"}})
    (evidence,) = scan(nbformat.v4.new_notebook(cells=[cell]), TARGET)
    assert evidence.cell == "unknown"
