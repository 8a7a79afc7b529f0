"""A sandboxed kernel's life: it runs cells, is interrupted, killed, restarted, and leaves nothing behind."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from gradekit.kernels import ForkServer, KernelRequest
from run_cells import run_cells, run_in


def processes_with(marker: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if marker.encode() in command:
                found.append(int(entry.name))
    return found


def eventually(condition: object, seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.02)
    return False


def test_cells_share_a_namespace_and_are_timed(server: ForkServer) -> None:
    ran = run_cells(
        server,
        "x = 20",
        "import time; time.sleep(0.3); print(x + 1)",
        "x * 2",
        "1 / 0",
        "await __import__('asyncio').sleep(0); x",
    )
    assert ran.texts == ["", "21\n", "40", "ZeroDivisionError: division by zero", "20"]
    assert 0.3 <= ran.seconds[1] < 3
    assert ran.death is None


def test_random_state_differs_between_forks() -> None:
    draw = "import random, numpy, torch; print(random.random(), numpy.random.rand(), torch.rand(1).item())"
    with ForkServer(("numpy", "torch")) as warm:
        first, second = (run_cells(warm, draw).texts[0].split() for _ in range(2))
        threads = run_cells(warm, "import os, torch; print(torch.get_num_threads(), os.environ['OMP_NUM_THREADS'])")
        assert threads.texts == ["1 1\n"]
        with warm.kernel(KernelRequest(cores=2)) as manager:
            assert run_in(manager, "import torch; print(torch.get_num_threads())").texts == ["2\n"]
    assert all(a != b for a, b in zip(first, second, strict=True))


def test_hung_cell_is_interrupted_and_the_next_one_runs(server: ForkServer) -> None:
    ran = run_cells(server, "import time; time.sleep(60)", "print('on')", timeout=1)
    assert ran.timed_out == [0]
    assert ran.texts[0].startswith("KeyboardInterrupt")
    assert ran.texts[1] == "on\n"
    assert ran.seconds[0] < 5


def test_cell_that_ignores_interrupts_is_killed(server: ForkServer) -> None:
    stubborn = "import time\nwhile True:\n    try:\n        time.sleep(1)\n    except BaseException:\n        pass"
    ran = run_cells(server, stubborn, "print('never')", timeout=1)
    assert ran.death and ran.death.limit == "wall"
    assert ran.seconds[0] < 10


def test_death_is_noticed_within_a_tenth_of_a_second(server: ForkServer) -> None:
    """The best of five: the machine may be busy, but nothing of ours may wait for a poll."""
    took = [run_cells(server, "import os; os._exit(7)") for _ in range(5)]
    assert {r.death.status for r in took if r.death} == {7}
    assert min(r.seconds[0] for r in took) < 0.1


def test_kernel_ended_by_a_signal_says_which(server: ForkServer) -> None:
    ran = run_cells(server, "import ctypes; ctypes.string_at(0)")
    assert ran.death and "SIGSEGV" in ran.death.reason and ran.death.limit is None
    assert ran.death.usage["cpu_s"] > 0


def test_restart_gives_a_fresh_kernel(server: ForkServer) -> None:
    with server.kernel() as manager:
        assert run_in(manager, "x = 1; print('x' in globals())").texts == ["True\n"]
        first = manager.process
        asyncio.run(manager.restart_kernel())
        assert not first.alive
        assert run_in(manager, "print('x' in globals())").texts == ["False\n"]


def test_nothing_a_kernel_started_outlives_it(server: ForkServer) -> None:
    marker = "86399.271"
    daemon = f"""
        import os, subprocess, time
        subprocess.Popen(["sleep", "{marker}"], start_new_session=True)
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.execvp("sleep", ["sleep", "{marker}"])
            os._exit(0)
        time.sleep(0.3)
    """
    with server.kernel() as manager:
        run_in(manager, textwrap.dedent(daemon))
        assert len(processes_with(marker)) == 2
    assert processes_with(marker) == []


def test_server_that_dies_takes_its_kernels_and_is_started_again() -> None:
    with ForkServer() as mortal:
        first = mortal.pid
        assert first
        with mortal.kernel() as manager:
            run_in(manager, "1")
            os.kill(first, signal.SIGKILL)
            assert manager.process.wait(5)
            assert manager.process.death and "server died" in manager.process.death.reason
        assert run_cells(mortal, "print('again')").texts == ["again\n"]
        assert mortal.pid != first


def test_nothing_is_left_when_the_server_is_closed(server: ForkServer) -> None:
    before = len(os.listdir("/proc/self/fd"))
    closing = ForkServer()
    run_cells(closing, "1")
    folder, pid = closing._folder, closing.pid
    closing.close()
    assert pid and not Path(f"/proc/{pid}").exists()
    assert not Path(folder).exists()
    assert len(os.listdir("/proc/self/fd")) <= before
    assert not list(Path("/sys/fs/cgroup").glob(f"**/{closing._tag}*"))


def test_nothing_is_left_when_the_grader_is_killed() -> None:
    marker = "86399.314"
    grader = f"""
        import sys, time
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from gradekit.kernels import ForkServer
        from run_cells import run_in
        server = ForkServer()
        with server.kernel() as manager:
            run_in(manager, "import subprocess; subprocess.Popen(['sleep', '{marker}']); import time; time.sleep(0.2)")
            print(server.pid, flush=True)
            time.sleep(60)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(grader)], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    server_pid = int(process.stdout.readline())
    assert processes_with(marker)
    process.kill()
    process.wait()
    process.stdout.close()
    assert eventually(lambda: not processes_with(marker) and not Path(f"/proc/{server_pid}").exists())


def test_a_hundred_kernels_leave_no_growth(server: ForkServer) -> None:
    def footprint() -> tuple[int, int, int]:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * 4096, len(os.listdir("/proc/self/fd")), len(os.listdir(server._folder))

    for _ in range(20):
        run_cells(server, "1")
    memory, descriptors, folders = footprint()
    for _ in range(80):
        run_cells(server, "1")
    memory_after, descriptors_after, folders_after = footprint()
    assert descriptors_after <= descriptors + 2
    assert folders_after == folders
    assert memory_after - memory < 8 << 20


def test_preload_that_starts_a_thread_is_refused(tmp_path: Path) -> None:
    from gradekit.kernels import SandboxError

    with pytest.raises(SandboxError, match="thread"):
        ForkServer(("this", "antigravity", "concurrent.futures.thread", "no_such_module_or_thread")).start()


def test_the_next_grader_sweeps_up_after_a_killed_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    dead = subprocess.Popen(["true"])
    dead.wait()
    stale, live = tmp_path / f"gradekit-{dead.pid}-0-abc", tmp_path / f"gradekit-{os.getpid()}-999-abc"
    for folder in (stale, live):
        (folder / "jobs").mkdir(parents=True)
    with ForkServer(levels=("none",)):
        assert not stale.exists()
        assert live.exists()


def test_idle_server_gives_its_memory_back_until_it_is_needed() -> None:
    with ForkServer(idle_s=0.3) as server:
        assert run_cells(server, "print(1)").texts == ["1\n"]
        assert eventually(lambda: server.pid is None)
        assert run_cells(server, "print(2)").texts == ["2\n"]
