"""What code of a student's makes a TA look twice: each rule with the sentence that it gives."""

from __future__ import annotations

import ast
import builtins
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass

from gradekit.integrity.ipython_code import Code
from gradekit.integrity.names import Names, text


@dataclass(frozen=True)
class Note:
    """One finding: the line of the cell, and what a TA should know and do."""

    line: int
    what: str


FRAMES = "reads the stack of calls ({}); see whether it looks up what the test expects"
MEMORY = "looks through the memory of the process ({}); see what it searches for"
SHELL = "reaches the notebook's own machinery ({}); see whether the tests that follow still mean what they say"
MODULES = "reaches into the table of loaded modules ({}); see what it takes from there or replaces"
RUN = "runs code that is put together as text ({}); find out what it says"
COMPUTED = "reaches for something whose name is only known at run time ({}); find out what it is"
PROCESS = "starts another program ({}); see what it does"
END = "ends or signals a process ({}); see whether a test was to be kept from running"
LATER = "leaves code to run after the cell ({}); see what it does while later cells are judged"
NETWORK = "opens a network connection ({}), which the sandbox refuses; see what for"
NATIVE = "reaches around Python ({}); see what it reads or writes"
SOURCE = "reads the source of functions ({}); see whether it looks at the tests"
HOOK = "hooks into how Python runs ({}); see what it changes"

#: Where a name comes from -> the sentence. The longest that fits counts; an empty one is ordinary use.
ORIGINS = {
    "sys._getframe": FRAMES, "sys._current_frames": FRAMES, "inspect.currentframe": FRAMES, "inspect.stack": FRAMES,
    "inspect.trace": FRAMES, "inspect.getouterframes": FRAMES, "inspect.getinnerframes": FRAMES,
    "inspect.getframeinfo": FRAMES, "inspect.getargvalues": FRAMES, "inspect.getclosurevars": FRAMES,
    "traceback.walk_stack": FRAMES, "traceback.extract_stack": FRAMES, "traceback.walk_tb": FRAMES,
    "inspect.getsource": SOURCE, "inspect.getsourcelines": SOURCE, "inspect.getsourcefile": SOURCE,
    "inspect.findsource": SOURCE, "linecache": SOURCE, "dis": SOURCE,
    "gc": MEMORY, "gc.collect": "", "gc.enable": "", "gc.disable": "", "gc.freeze": "", "tracemalloc.take_snapshot": "",
    "ctypes": NATIVE, "_ctypes": NATIVE, "cffi": NATIVE, "mmap": NATIVE,
    "IPython.get_ipython": SHELL, "IPython.core.getipython": SHELL, "IPython.core.interactiveshell": SHELL,
    "ipykernel": SHELL, "IPython.display": "",
    "sys.modules": MODULES, "importlib.reload": MODULES, "builtins": MODULES,
    "sys.settrace": HOOK, "sys.setprofile": HOOK, "sys.addaudithook": HOOK, "sys.monitoring": HOOK,
    "sys.meta_path": HOOK, "sys.path_hooks": HOOK, "sys.path_importer_cache": HOOK, "threading.settrace": HOOK,
    "threading.setprofile": HOOK, "bdb": HOOK,
    "os._exit": END, "os.abort": END, "os.kill": END, "os.killpg": END, "signal": END, "faulthandler": END,
    "signal.Signals": "", "atexit": LATER, "weakref.finalize": LATER, "threading.Timer": LATER, "sched": LATER,
    "asyncio.create_task": LATER, "asyncio.ensure_future": LATER,
    "subprocess": PROCESS, "os.system": PROCESS, "os.popen": PROCESS, "os.fork": PROCESS, "os.forkpty": PROCESS,
    "os.posix_spawn": PROCESS, "os.posix_spawnp": PROCESS, "pty": PROCESS, "multiprocessing": PROCESS,
    "multiprocessing.cpu_count": "", "concurrent.futures.ProcessPoolExecutor": PROCESS,
    "asyncio.create_subprocess_exec": PROCESS, "asyncio.create_subprocess_shell": PROCESS,
    **{f"os.{call}{how}": PROCESS for call in ("exec", "spawn") for how in ("l", "le", "lp", "lpe", "v", "ve", "vp")},
    "socket": NETWORK, "http.client": NETWORK, "urllib.request": NETWORK, "requests": NETWORK, "httpx": NETWORK,
    "aiohttp": NETWORK, "ftplib": NETWORK, "smtplib": NETWORK, "websockets": NETWORK,
    "asyncio.open_connection": NETWORK,
}  # fmt: skip

#: Attributes that lead to frames and to the insides of functions, whatever they are asked of.
INSIDES = {
    **dict.fromkeys(("f_back", "f_locals", "f_globals", "f_builtins", "f_code", "f_trace"), FRAMES),
    **dict.fromkeys(("tb_frame", "tb_next", "gi_frame", "cr_frame", "ag_frame"), FRAMES),
    **dict.fromkeys(("cell_contents", "__closure__", "__globals__", "__subclasses__"), MEMORY),
    **dict.fromkeys(("user_ns", "input_transformers_post", "showtraceback", "display_formatter"), SHELL),
}
#: Modules an attribute of which, by a name that is computed, can be any of the above.
WATCHED = {
    *("builtins", "ctypes", "gc", "importlib", "inspect", "os", "signal", "socket", "subprocess", "sys", "threading"),
}
#: Settings that libraries offer as attributes to assign.
SETTINGS = ("torch.backends.", "pandas.options.", "matplotlib.rcParams", "matplotlib.pyplot.rcParams", "numba.config.")
#: Methods that decide what a comparison, or another's function, makes of an object.
OVERRIDES = {
    *("__eq__", "__ne__", "__torch_function__", "__torch_dispatch__", "__array_function__", "__array_ufunc__"),
    *("__class__", "__instancecheck__", "__subclasscheck__", "__getattribute__", "_render_traceback_"),
}
#: Builtins that a test's verdict may rest on.
JUDGES = {
    *("AssertionError", "BaseException", "Exception", "__import__", "abs", "all", "any", "bool", "callable", "compile"),
    *("eval", "exec", "float", "getattr", "hasattr", "int", "isinstance", "issubclass", "len", "print", "range"),
    *("repr", "round", "setattr", "sorted", "tuple", "type", "zip"),
}
LIBRARIES = {"cupy", "jax", "numpy", "peft", "scipy", "sklearn", "tensorflow", "torch", "transformers", "trl"}
SHELLS = {"!", "!!", "bash", "sh", "script", "system", "sx", "perl", "ruby", "pypy", "python", "python3", "cmd"}
_READERS = re.compile(
    r"(builtins\.|io\.|os\.|codecs\.)?open|pathlib\.\w*Path|os\.(listdir|scandir|walk|stat|readlink|chdir)|os\.path\.\w+"
    r"|glob\.i?glob|shutil\.\w+|numpy\.(load|loadtxt|genfromtxt|fromfile|memmap)|torch\.load|pandas\.read_\w+"
)
_WRITABLE = ("/tmp", "/dev/null", "/dev/shm")


def look(code: Code, names: Names, given: set[str]) -> list[Note]:
    """The notes on one piece of a student's code.

    Args:
        names: what names stand for, the code's own imports included.
        given: names that the course's own cells define, and that tests may rest on.
    """
    nodes = list(ast.walk(code.tree))
    shells = (magic for magic in code.magics if magic.name in SHELLS)
    notes = [Note(magic.line, PROCESS.format(_cut(f"{magic.name} {magic.text}"))) for magic in shells]
    for rule in (_origins, _insides, _computed, _patches, _overrides, _paths, _threads, _fallbacks):
        notes += rule(nodes, names)
    return notes + list(_redefined(code.tree, given))


def definitions(tree: ast.Module) -> set[str]:
    """The functions and classes that a cell defines for the notebook."""
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}


def _origins(nodes: list[ast.AST], names: Names) -> Iterator[Note]:
    """Uses of what ``ORIGINS`` lists, and imports of it."""
    # Of ``a.b.c`` and ``getattr(a, "b")`` the whole counts, not the names that it begins with.
    inner = {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
    inner |= {id(node.args[0]) for node in nodes if isinstance(node, ast.Call) and names.dotted(node)}
    for node in nodes:
        if id(node) in inner:
            continue
        if isinstance(node, ast.Import):
            dotted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            dotted = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute | ast.Name | ast.Call):
            dotted = [names.dotted(node)]
        else:
            continue
        for name in dotted:
            fitting = next((prefix for prefix in _prefixes(name) if prefix in ORIGINS), "")
            imported = isinstance(node, ast.Import | ast.ImportFrom)
            # An import of all of a module says less than what is then used of it.
            if ORIGINS.get(fitting) and not (imported and any(other.startswith(f"{name}.") for other in ORIGINS)):
                yield Note(node.lineno, ORIGINS[fitting].format(_cut(name)))
        if isinstance(node, ast.Name) and node.id in ("__builtins__", "get_ipython"):
            yield Note(node.lineno, (MODULES if node.id == "__builtins__" else SHELL).format(node.id))


def _prefixes(dotted: str) -> Iterator[str]:
    while dotted:
        yield dotted
        dotted = dotted.rpartition(".")[0]


def _insides(nodes: list[ast.AST], names: Names) -> Iterator[Note]:
    """Attributes of any object that lead to frames, and to what a function keeps to itself."""
    for node in nodes:
        name = node.attr if isinstance(node, ast.Attribute) else ""
        if isinstance(node, ast.Call) and _called(node, names) == "getattr" and len(node.args) > 1:
            name = text(node.args[1]) or ""
        if name in INSIDES:
            yield Note(node.lineno, INSIDES[name].format(name))  # type: ignore[attr-defined]


def _computed(nodes: list[ast.AST], names: Names) -> Iterator[Note]:
    """Names and code that are put together while the program runs."""
    for node in nodes:
        if not isinstance(node, ast.Call) or not node.args:
            continue
        called = _called(node, names)
        if called in ("exec", "eval", "compile"):
            yield Note(node.lineno, RUN.format(called))
        elif called in ("__import__", "importlib.import_module") and text(node.args[0]) is None:
            yield Note(node.lineno, COMPUTED.format(called))
        elif called in ("getattr", "vars", "operator.attrgetter"):
            base = names.dotted(node.args[0])
            unnamed = called == "vars" or (len(node.args) > 1 and text(node.args[1]) is None)
            if base.partition(".")[0] in WATCHED and unnamed:
                yield Note(node.lineno, COMPUTED.format(f"{called} of {base}"))


def _patches(nodes: list[ast.AST], names: Names) -> Iterator[Note]:
    """Changes to what was imported: a module's attributes, or those of a class or function in it."""
    for node in nodes:
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign | ast.Delete):
            targets = [part for target in node.targets for part in _parts(target)]
        elif isinstance(node, ast.AugAssign | ast.AnnAssign | ast.For):
            targets = list(_parts(node.target))
        elif isinstance(node, ast.withitem) and node.optional_vars is not None:
            targets = list(_parts(node.optional_vars))
        for target in targets:
            changed = _changed(target, names)
            if changed and not changed.startswith(SETTINGS):
                yield Note(target.lineno, f"changes {changed}, which it imports; see whether a test rests on it")
        if isinstance(node, ast.Call):
            changed = _changed_by(node, names)
            if changed:
                yield Note(node.lineno, f"changes {changed}, which it imports; see whether a test rests on it")


def _parts(target: ast.expr) -> Iterator[ast.expr]:
    if isinstance(target, ast.Tuple | ast.List):
        for part in target.elts:
            yield from _parts(part)
    else:
        yield target.value if isinstance(target, ast.Starred) else target


def _changed(target: ast.expr, names: Names) -> str:
    """``module.attribute`` when that is what an assignment changes."""
    if isinstance(target, ast.Attribute):
        return names.dotted(target)
    if isinstance(target, ast.Subscript):
        table = _table(target.value, names)
        return f"{table}.{text(target.slice) or '...'}" if table else ""
    return ""


def _table(node: ast.expr, names: Names) -> str:
    """The module whose ``__dict__`` an expression is."""
    if isinstance(node, ast.Attribute) and node.attr == "__dict__":
        return names.dotted(node.value)
    if isinstance(node, ast.Call) and _called(node, names) == "vars" and node.args:
        return names.dotted(node.args[0])
    return ""


def _changed_by(node: ast.Call, names: Names) -> str:
    called = _called(node, names)
    if called.startswith(("unittest.mock.patch", "mock.patch", "pytest.MonkeyPatch")):
        named = (text(node.args[0]) or names.dotted(node.args[0])) if node.args else ""
        return named or called
    setter = isinstance(node.func, ast.Attribute) and node.func.attr in ("__setattr__", "__delattr__")
    if (called in ("setattr", "delattr") or setter) and node.args:
        base = names.dotted(node.args[0])
        own = names.dotted(node.func.value) if setter and isinstance(node.func, ast.Attribute) else ""
        name = text(node.args[1]) if len(node.args) > 1 else None
        return f"{base}.{name or '...'}" if base else own
    if isinstance(node.func, ast.Attribute) and node.func.attr in ("update", "setdefault", "pop", "__setitem__"):
        table = _table(node.func.value, names)
        return f"{table}.__dict__" if table else ""
    return ""


def _overrides(nodes: list[ast.AST], names: Names) -> Iterator[Note]:
    """Classes that decide themselves what a comparison or another's function makes of them."""
    for node in nodes:
        found: list[str] = []
        if isinstance(node, ast.ClassDef):
            for statement in node.body:
                if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef):
                    found.append(statement.name)
                elif isinstance(statement, ast.Assign):
                    found += [target.id for target in statement.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.append(node.attr)
        elif isinstance(node, ast.Call) and _called(node, names) in ("setattr", "type", "types.new_class"):
            found += [value for argument in node.args for value in _strings(argument)]
        for name in found:
            if name in OVERRIDES:
                what = f"says itself what {name} means; see whether a wrong answer could pass by it"
                yield Note(node.lineno, what)  # type: ignore[attr-defined]


def _strings(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Dict):
        yield from (text(key) or "" for key in node.keys if key is not None)
    else:
        yield text(node) or ""


def _paths(nodes: list[ast.AST], names: Names) -> Iterator[Note]:
    """Files that are named by a path that leads out of the folder."""
    for node in nodes:
        if not isinstance(node, ast.Call):
            continue
        called = _called(node, names)
        if called in ("pathlib.Path.home", "os.path.expanduser", "os.getlogin"):
            yield Note(node.lineno, f"asks for the home folder ({called}); see what it looks for outside its own")
        elif node.args and _READERS.fullmatch(called):
            path = _start(node.args[0])
            if path and _leads_out(path):
                yield Note(node.lineno, f"opens {_cut(path)}, outside its folder; see what it looks for there")


def _start(node: ast.expr) -> str:
    """As much of a path's beginning as constants give."""
    whole = text(node)
    if whole is not None:
        return whole
    if isinstance(node, ast.JoinedStr) and node.values:
        return text(node.values[0]) or ""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _start(node.left)
    return ""


def _leads_out(path: str) -> bool:
    if path.startswith(("~", "$HOME")):
        return True
    path = posixpath.normpath(path)
    if path.startswith("/"):
        return not any(path == folder or path.startswith(f"{folder}/") for folder in _WRITABLE)
    return path == ".." or path.startswith("../")


def _threads(nodes: list[ast.AST], names: Names) -> Iterator[Note]:
    """Threads and pools that nothing in the cell waits for."""
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    managed = {id(node.context_expr) for node in nodes if isinstance(node, ast.withitem)}
    for node in nodes:
        if not isinstance(node, ast.Call) or id(node) in managed:
            continue
        called = _called(node, names)
        thread = called in ("threading.Thread", "_thread.start_new_thread", "threading._start_new_thread")
        pool = called == "concurrent.futures.ThreadPoolExecutor"
        if (thread and "join" not in attributes) or (pool and "shutdown" not in attributes):
            yield Note(node.lineno, LATER.format(called))


def _fallbacks(nodes: list[ast.AST], names: Names) -> Iterator[Note]:
    """``try`` around a kernel's launch or a function of the notebook, with a library's answer when it fails."""
    for node in nodes:
        if not isinstance(node, ast.Try):
            continue
        tried = [call for statement in node.body for call in ast.walk(statement) if isinstance(call, ast.Call)]
        launches = any(isinstance(call.func, ast.Subscript) for call in tried)
        own = any(isinstance(call.func, ast.Name) and not names.dotted(call.func) and not _builtin(call.func.id)
                  for call in tried)  # fmt: skip
        instead = [
            dotted
            for handler in node.handlers
            for call in ast.walk(handler)
            if isinstance(call, ast.Call)
            and (dotted := names.dotted(call.func)).partition(".")[0] in LIBRARIES
        ]
        if (launches or own) and instead:
            what = "a kernel" if launches else "its own function"
            note = f"calls {instead[0]} when {what} fails; see whether the answer is the student's or the library's"
            yield Note(node.lineno, note)


def _builtin(name: str) -> bool:
    return hasattr(builtins, name)


def _redefined(tree: ast.Module, given: set[str]) -> Iterator[Note]:
    """Names of the course's, or of Python's that verdicts rest on, which a cell gives another meaning."""
    for node in tree.body:
        bound: list[str] = []
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            bound = [node.name]
        elif isinstance(node, ast.Assign):
            bound = [part.id for target in node.targets for part in _parts(target) if isinstance(part, ast.Name)]
        elif isinstance(node, ast.Import | ast.ImportFrom):
            bound = [alias.asname or alias.name for alias in node.names]
        for name in bound:
            if name in given or name in JUDGES:
                whose = "the course's own" if name in given else "Python's own"
                yield Note(node.lineno, f"gives {name}, {whose}, another meaning; see whether a test rests on it")


def _called(node: ast.Call, names: Names) -> str:
    """What a call calls: a dotted origin, or the bare name of a builtin."""
    dotted = names.dotted(node.func)
    return dotted or (node.func.id if isinstance(node.func, ast.Name) else "")


def _cut(said: str) -> str:
    said = " ".join(said.split())
    return said if len(said) <= 60 else f"{said[:59]}…"
