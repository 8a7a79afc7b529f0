"""The rungs: an ordinary user, something like a container, and a machine that gives neither."""

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import needs_root
from gradekit.kernels import ForkServer, probe

HERE = Path(__file__).parent
ALL = ["namespaces", "container"]


def run_as(
    how: list[str], *sources: str, levels: list[str] = ALL, without: tuple[str, ...] = (), **limits: Any
) -> dict[str, Any]:
    asked = json.dumps({"levels": levels, "without": without, "sources": sources, "limits": limits})
    command = [sys.executable, *how, sys.executable, str(HERE / "run_cells.py"), asked]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


USER = [str(HERE / "as_user.py"), "54321"]
CONTAINER = [str(HERE / "as_container.py")]


def test_probe_names_the_level_and_every_layer() -> None:
    report = probe()
    assert report.level == "namespaces"
    names = {layer.name for layer in report.layers}
    assert {"mount namespace", "net namespace", "Landlock", "seccomp", "cgroups"} <= names
    assert all(layer.ok or layer.why for layer in report.layers)
    assert report.level in str(report)


@needs_root
def test_ordinary_user_gets_namespaces() -> None:
    said = run_as(
        USER,
        "import os; print(os.getuid(), os.getpid(), os.getcwd())",
        "import os; print([p for p in ('/home', '/var', '/srv', '/boot') if os.path.isdir(p)])",
        "import socket; socket.create_connection(('127.0.0.1', 22), timeout=1)",
        "open('mine', 'w').write('x'); print(open('mine').read())",
        "b = bytearray(400 << 20)",
        memory_bytes=200 << 20,
    )
    assert said["level"] == "namespaces"
    assert said["texts"][0] == "1000 1 /submission\n"
    assert said["texts"][1] == "[]\n"
    assert "refused" in said["texts"][2]
    assert said["texts"][3] == "x\n"
    assert said["texts"][4].startswith("MemoryError")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user of the machine may enter; pytest's own are closed, and closed again by every run."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@needs_root
def test_container_rung_keeps_the_promises_it_makes(open_folder: Path) -> None:
    secret = open_folder / "secret"
    secret.write_text("hidden tests")
    secret.chmod(0o644)
    said = run_as(
        CONTAINER,
        "import os; print(os.getuid() >= 1000, os.path.basename(os.getcwd()))",
        f"print(open({str(secret)!r}).read())",
        "import socket; socket.socket(socket.AF_INET)",
        "import os; os.kill(os.getppid(), 9)",
        f"print(os.listdir({str(open_folder)!r}))",
        "open('/tmp/intruder', 'w')",
        "import ctypes; print(ctypes.CDLL(None).shmget(0, 4096, 0o1600))",
        "import torch; print(torch.ones(3).sum().item())",
        "import multiprocessing as mp\nwith mp.get_context('fork').Pool(2) as p: print(p.map(abs, [-1, -2]))",
        "import tempfile; f = tempfile.NamedTemporaryFile('w'); f.write('x'); print('wrote')",
    )
    assert said["level"] == "container"
    texts = said["texts"]
    assert texts[0] == "True work\n"
    assert texts[1].startswith("PermissionError")
    assert texts[2].startswith("OSError: [Errno 97]")
    assert texts[3].startswith("PermissionError")
    assert texts[4].startswith("PermissionError")
    assert texts[5].startswith("PermissionError")
    assert texts[6] == "-1\n"
    assert texts[7:] == ["3.0\n", "[1, 2]\n", "wrote\n"]


@needs_root
def test_container_rung_needs_landlock_to_keep_files(open_folder: Path) -> None:
    secret = open_folder / "secret"
    secret.write_text("hidden tests")
    secret.chmod(0o644)
    said = run_as(CONTAINER, f"print(open({str(secret)!r}).read())", levels=["container"], without=("landlock",))
    assert said["texts"] == ["hidden tests\n"]


@needs_root
@pytest.mark.parametrize("without", [(), ("broker",)])
def test_container_rung_needs_the_broker_to_keep_sockets(open_folder: Path, without: tuple[str, ...]) -> None:
    path = f"{open_folder}/open-to-all"
    attack = f"import socket; socket.socket(socket.AF_UNIX).connect({path!r}); print('THROUGH')"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        os.chmod(path, 0o666)
        listener.listen()
        said = run_as(CONTAINER, attack, levels=["container"], without=without)
    assert said["texts"][0].startswith("THROUGH" if without else "PermissionError")


@needs_root
def test_container_rung_lets_a_job_talk_to_itself() -> None:
    """DataLoader's workers send tensors by descriptors, over sockets in the job's own folder."""
    loader = (
        "import torch\nfrom torch.utils.data import DataLoader, TensorDataset\nd = TensorDataset(torch.ones(64, 4))\n"
        "print(sum(b[0].sum().item() for b in DataLoader(d, batch_size=8, num_workers=2)))"
    )
    manager = "import multiprocessing as mp\nwith mp.Manager() as m: print(m.list([1, 2])[1])"
    printing = (
        "import os, time\nif os.fork() == 0:\n    print('child', flush=True); os._exit(0)\nos.wait(); time.sleep(0.5)"
    )
    said = run_as(CONTAINER, loader, manager, printing)
    assert [text.strip() for text in said["texts"]] == ["256.0", "2", "child"]


@needs_root
def test_container_rung_sweeps_up_daemons() -> None:
    marker = "86399.577"
    daemon = (
        "import os, time\n"
        "for _ in range(3):\n"
        "    if os.fork() == 0:\n"
        f"        os.setsid(); os.fork(); os.execvp('sleep', ['sleep', '{marker}'])\n"
        "time.sleep(0.3); print('started')"
    )
    assert run_as(CONTAINER, daemon)["texts"] == ["started\n"]
    commands = [p.read_bytes() for p in Path("/proc").glob("[0-9]*/cmdline")]
    assert not [c for c in commands if marker.encode() in c]


@needs_root
def test_container_rung_names_limits_and_deaths() -> None:
    assert run_as(CONTAINER, "while True: pass", cpu_s=1)["death"]["limit"] == "cpu"
    assert "SIGSEGV" in run_as(CONTAINER, "import ctypes; ctypes.string_at(0)")["death"]["reason"]


START = """
from gradekit.kernels import ForkServer, SandboxError
try:
    ForkServer(floor={floor!r}).start()
except SandboxError as refused:
    print("REFUSED", refused)
"""


def python_as(how: list[str], source: str) -> str:
    command = [sys.executable, *how, sys.executable, "-c", source]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@needs_root
def test_machine_that_gives_neither_is_refused_with_reasons() -> None:
    """An ordinary user in a container: no namespaces, and no uids to keep jobs apart."""
    how = [*CONTAINER, sys.executable, *USER]
    said = python_as(how, "from gradekit.kernels import probe; print(probe())")
    assert "sandbox level: refused" in said and "start as root" in said
    said = python_as(how, START.format(floor="container"))
    assert "REFUSED" in said and "no student code was run" in said


@needs_root
def test_floor_above_what_is_there_is_refused() -> None:
    assert "REFUSED" in python_as(CONTAINER, START.format(floor="namespaces"))
    assert python_as(CONTAINER, START.format(floor="container")) == ""


def test_no_sandbox_only_by_name() -> None:
    with ForkServer(floor="none") as server:
        assert server.report.level == "namespaces"  # the floor is a floor: the best is still taken
    with ForkServer(levels=("none",)) as server:
        assert server.report.level == "none"
    with pytest.raises(ValueError, match="floor"):
        ForkServer(floor="whatever")
