"""Every promise of the sandbox is attacked twice: with all layers, where the attack must fail, and with the layers that
stop it taken away, where it must get through. So no attack here is one that would have failed anyway.
"""

import ctypes
import os
import socket
import textwrap
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import needs_root
from gradekit.kernels import ForkServer
from run_cells import run_cells, run_in

SECRET = "the hidden tests"


@dataclass
class Outside:
    """Things on the machine that no kernel may reach."""

    secret: Path
    port: int
    abstract: str
    segment: int
    pid: int


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    folder = tmp_path_factory.mktemp("outside")
    for parent in (folder, *folder.parents):
        if parent.owner() == Path(folder).owner() and parent != Path("/"):
            os.chmod(parent, parent.stat().st_mode | 0o055)  # reachable by every uid: only the sandbox is in the way
    secret = folder / "secret.txt"
    secret.write_text(SECRET)
    secret.chmod(0o644)
    listener = socket.create_server(("127.0.0.1", 0))
    name = f"gradekit-test-{os.getpid()}"
    abstract = socket.socket(socket.AF_UNIX)
    abstract.bind("\0" + name)
    abstract.listen()
    for s in (listener, abstract):
        threading.Thread(target=_greet, args=(s,), daemon=True).start()
    libc = ctypes.CDLL(None, use_errno=True)
    segment = libc.shmget(os.getpid(), 4096, 0o1000 | 0o666)
    assert segment >= 0
    yield Outside(secret, listener.getsockname()[1], name, os.getpid(), os.getpid())
    libc.shmctl(segment, 0, None)
    listener.close()
    abstract.close()


def _greet(listener: socket.socket) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        connection.sendall(b"hello")
        connection.close()


def attack(body: str, outside: Any = None, **names: Any) -> str:
    """Source that runs ``body`` and prints what it returned, or that it was stopped."""
    values = {**(vars(outside) if outside else {}), **names}
    constants = "\n".join(f"{k} = {(str(v) if isinstance(v, Path) else v)!r}" for k, v in values.items())
    function = "def go():\n" + textwrap.indent(textwrap.dedent(body), "    ")
    ending = "try:\n    print('THROUGH' if go() else 'stopped: nothing')\n"
    return "\n".join([constants, function, ending + "except BaseException as e:\n    print('stopped:', repr(e))"])


READ = """
    for root in ("", "/.old"):
        try:
            return open(root + secret).read() == "the hidden tests"
        except OSError as e:
            error = e
    raise error
"""
CONNECT = """
    import socket
    return socket.create_connection(("127.0.0.1", port), timeout=2).recv(5) == b"hello"
"""
ABSTRACT = """
    import socket
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(2)
    s.connect("\\0" + abstract)
    return s.recv(5) == b"hello"
"""
SEE = """
    import os
    return os.path.exists(f"/proc/{pid}/cmdline")
"""
SEGMENT = """
    import ctypes
    return ctypes.CDLL(None).shmget(segment, 4096, 0) >= 0
"""
HOSTNAME = """
    import socket
    return socket.gethostname() == real_name
"""
LIST_ROOT = """
    import os
    return bool(os.listdir("/"))
"""
USER_NAMESPACE = """
    import ctypes, os
    child = os.fork()  # a process with threads may not
    if child == 0:
        os._exit(0 if ctypes.CDLL(None).unshare(0x10000000) == 0 else 1)
    return os.waitpid(child, 0)[1] == 0
"""
IDENTITY = """
    import os
    return os.getuid() != 1000
"""
RIGHTS = """
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(status["CapEff"], 16) != 0 or int(status["CapBnd"], 16) != 0
"""
NEW_PRIVILEGES = """
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(status["NoNewPrivs"]) == 0
"""
TOGETHER = """
    import os, socket
    hogs = []
    for _ in range(3):
        ours, theirs = socket.socketpair()
        if os.fork() == 0:
            try:
                hog = bytearray(90 << 20)
                theirs.send(b"x")
                theirs.recv(1)
                theirs.send(b"x")
            finally:
                os._exit(0)
        theirs.close()
        hogs.append(ours)
    if not all(hog.recv(1) for hog in hogs):
        return False
    for hog in hogs:  # the first may have been killed to make room for the last: all have to live now
        hog.send(b"x")
    return all(hog.recv(1) for hog in hogs)
"""
ENVIRONMENT = """
    import os
    return "SECRET_TOKEN" in os.environ
"""

ATTACKS = {
    "read a file of the machine": (READ, {"mount", "landlock"}),
    "connect to a server of the machine": (CONNECT, {"net"}),
    "connect to an abstract socket": (ABSTRACT, {"net", "landlock"}),
    "see another process": (SEE, {"pid"}),
    "attach shared memory of the machine": (SEGMENT, {"ipc"}),
    "learn the machine's name": (HOSTNAME, {"uts"}),
    "list the root folder": (LIST_ROOT, {"landlock"}),
    "make a user namespace": (USER_NAMESPACE, {"seccomp"}),
    "have another identity than the student's": (IDENTITY, {"user"}),
    "have capabilities": (RIGHTS, {"capabilities"}),
    "gain privileges by a setuid program": (NEW_PRIVILEGES, {"no_new_privs", "landlock", "seccomp"}),
    "use the memory limit several times over": (TOGETHER, {"cgroup"}),
    "read the grader's environment": (ENVIRONMENT, {"environment"}),
}
NEED_ROOT = {
    "have another identity than the student's",
    "use the memory limit several times over",
    "see another process",
}


@pytest.fixture(autouse=True)
def secret_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "x")


@pytest.fixture(scope="module")
def full() -> Iterator[ForkServer]:
    with ForkServer(levels=("namespaces",)) as running:
        yield running


@pytest.mark.parametrize("name", [pytest.param(n, marks=needs_root if n in NEED_ROOT else ()) for n in ATTACKS])
def test_attack_fails_and_gets_through_without_its_layers(name: str, full: ForkServer, outside: Outside) -> None:
    body, layers = ATTACKS[name]
    source = attack(body, outside, real_name=socket.gethostname())
    limits = {"memory_bytes": 200 << 20} if "memory" in name else {}
    ran = run_cells(full, source, **limits)
    assert ran.death or ran.texts[0].startswith("stopped"), f"{name}: {ran.texts[0]}"
    with ForkServer(levels=("namespaces",), without=frozenset(layers)) as weaker:
        assert run_cells(weaker, source, **limits).texts[0] == "THROUGH\n", f"{name} is stopped by more than {layers}"


CALLS = {
    "ptrace": "libc.ptrace(0, 0, 0, 0)",
    "personality": "libc.personality(0x0040000)",
    "io_uring_setup": "libc.syscall(425, 1, buffer(120))",
    "keyctl": "libc.syscall({keyctl}, 0, -3, 0)",
    "netlink socket for kernel events": "libc.socket(16, 3, 15)",
    "userfaultfd": "libc.syscall({userfaultfd}, 1)",
    "name_to_handle_at": "libc.syscall({name_to_handle_at}, -100, b'/tmp', buffer(b'\\x80' + bytes(99)), buffer(8), 0)",
    "prlimit of another": "libc.prlimit(os.fork() or os._exit(0), 7, None, buffer(16))",
}


@pytest.mark.parametrize("name", CALLS)
def test_system_call_is_refused_by_seccomp_alone(name: str, full: ForkServer, unfiltered: ForkServer) -> None:
    import pyseccomp

    numbers = {
        n: pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, n) for n in ("keyctl", "userfaultfd", "name_to_handle_at")
    }
    call = (
        CALLS[name].replace("{", "{{").replace("}", "}}") if "{" not in CALLS[name] else CALLS[name].format(**numbers)
    )
    source = attack(f"""
        import ctypes, os
        libc, buffer = ctypes.CDLL(None, use_errno=True), ctypes.create_string_buffer
        if {call} >= 0:
            return True
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    """)
    assert run_cells(full, source).texts[0].startswith("stopped: "), name
    assert run_cells(unfiltered, source).texts[0] == "THROUGH\n", name


@pytest.fixture(scope="module")
def unfiltered() -> Iterator[ForkServer]:
    with ForkServer(levels=("namespaces",), without=frozenset({"seccomp"})) as running:
        yield running


def test_terminal_input_cannot_be_faked_even_with_high_bits_set(full: ForkServer, unfiltered: ForkServer) -> None:
    """The kernel looks at 32 bits of an ioctl's request; a filter that compares 64 is blind to the rest."""
    source = attack(
        """
        import ctypes, os, errno
        libc = ctypes.CDLL(None, use_errno=True)
        libc.syscall({ioctl}, 0, ctypes.c_ulong(0x1_0000_5412), b"x")
        return ctypes.get_errno() == errno.ENOTTY  # asked and answered: descriptor 0 is no terminal
    """.replace("{ioctl}", str(_number("ioctl")))
    )
    assert run_cells(full, source).texts[0].startswith("stopped")
    assert run_cells(unfiltered, source).texts[0] == "THROUGH\n"


def _number(name: str) -> int:
    import pyseccomp

    return pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name)


FORGE = """
import os
for fd in map(int, os.listdir("/proc/self/fd")):
    try:
        if os.readlink(f"/proc/self/fd/{fd}").startswith("socket:"):
            os.write(fd, b'{"status": 0, "cpu_s": 0.0}\\n')
    except OSError:
        pass
"""


@pytest.mark.parametrize("without", [frozenset(), frozenset({"descriptors"})])
def test_no_descriptor_leads_to_a_sibling(without: frozenset[str]) -> None:
    """The server holds a control socket for each job; a child that kept a sibling's could announce its death."""
    with ForkServer(levels=("namespaces",), without=without) as running, running.kernel() as victim:
        run_in(victim, "1")
        run_cells(running, FORGE, timeout=5)
        assert victim.process.wait(1) is bool(without)


def test_sibling_kernels_cannot_see_each_other(full: ForkServer) -> None:
    with full.kernel() as first:
        run_in(
            first,
            "open('/tmp/mine', 'w').write('x'); open('/dev/shm/mine', 'w').write('x'); open('mine', 'w').write('x')",
        )
        files = "import os; print([p for p in ('/tmp/mine', '/dev/shm/mine', 'mine') if os.path.exists(p)])"
        processes = "print([p for p in os.listdir('/proc') if p.isdigit()])"
        assert run_cells(full, files, processes).texts == ["[]\n", "['1']\n"]


def test_nothing_but_the_work_folder_and_tmp_is_writable(full: ForkServer) -> None:
    source = """
        import os, sys
        written = []
        libraries = [sys.prefix, os.path.dirname(os.__file__), *(p for p in sys.path if os.path.isdir(p))]
        system = ["/", "/etc", "/usr", "/usr/lib", "/dev", "/proc/sys/kernel", "/sys"]
        for folder in (*libraries, *system, "/tmp", "/dev/shm", "/submission"):
            try:
                open(folder + "/intruder", "w").close()
                written.append(folder)
            except OSError:
                pass
        print(sorted(set(written)))
    """
    assert run_cells(full, textwrap.dedent(source)).texts == ["['/dev/shm', '/submission', '/tmp']\n"]


def test_only_harmless_devices_and_no_gpu(full: ForkServer) -> None:
    devices = run_cells(full, "import os; print(sorted(os.listdir('/dev')))").texts[0]
    harmless = ["fd", "full", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin", "stdout", "urandom", "zero"]
    assert devices == f"{harmless}\n"


def test_environment_is_an_allow_list(full: ForkServer) -> None:
    seen = run_cells(full, "import os; print(sorted(os.environ))").texts[0]
    assert "'HOME'" in seen and "'OMP_NUM_THREADS'" in seen and "SECRET_TOKEN" not in seen


def test_neither_tests_nor_answers_of_the_course_are_in_sight(full: ForkServer) -> None:
    """labkit may lie in a checkout beside them: it alone is shown."""
    tooling = Path(__file__).parents[3]
    assert (tooling / "tests").is_dir() and (tooling / "answers").is_dir()
    source = f"""
        import os
        from pathlib import Path
        import labkit
        tooling = Path({str(tooling)!r})
        hidden = [tooling / n for n in ("tests", "answers", "gradekit")] + [tooling.parent / "source"]
        print([p.name for p in hidden if p.exists()])
    """
    assert run_cells(full, textwrap.dedent(source)).texts == ["[]\n"]
