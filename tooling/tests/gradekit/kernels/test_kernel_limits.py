"""Each limit is held, and what was exceeded is named; where a layer holds it, its absence is shown to be noticed."""

import dataclasses
import json
import time
from pathlib import Path

import pytest
from gradekit.kernels import ForkServer, Limits
from gradekit.kernels.limits import limit_behind
from run_cells import run_cells

MIB = 1 << 20
HOG = "data = []\nwhile True:\n    data.append(bytearray(10_000_000))"
FILL = "for i in range(8):\n    open(f'{folder}/part{i}', 'wb').write(bytes(10 << 20))"
# A message of many frames, sent past ipykernel: zmq puts no bound on it, and it would land in the grader's memory.
FRAMES = """
import zmq
pub = get_ipython().kernel.iopub_thread.socket
frame = bytes(4 << 20)
for _ in range(4):
    pub.send_multipart([b"stream"] + [frame] * 8)
import time; time.sleep(20)
"""


@pytest.mark.parametrize(
    ("limit", "source", "limits"),
    [
        ("wall", "import time; time.sleep(60)", {"wall_s": 1}),
        ("cpu", "while True: pass", {"cpu_s": 1}),
        ("output", "print('x' * 50_000_000)", {"output_bytes": 4 * MIB}),
        ("output", "while True: print('y' * 1000)", {"output_bytes": 4 * MIB}),
        ("output", "import sys\nwhile True: sys.stderr.write('z')", {"output_bytes": MIB, "wall_s": 60}),
        ("output", FRAMES, {"output_bytes": 4 * MIB}),
    ],
)
def test_kernel_over_a_limit_is_ended_and_the_limit_named(
    server: ForkServer, limit: str, source: str, limits: dict[str, int]
) -> None:
    start = time.monotonic()
    ran = run_cells(server, source, "print('never')", **limits)
    assert ran.death and ran.death.limit == limit, ran.death
    assert ran.texts[1] == ""
    assert time.monotonic() - start < 20


def test_flood_of_output_does_not_fill_the_grader(server: ForkServer) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    run_cells(server, "1")
    before = resident()
    assert run_cells(server, FRAMES, output_bytes=4 * MIB).death
    assert resident() - before < 40 * MIB


def test_memory_of_the_job_is_bounded(server: ForkServer) -> None:
    ran = run_cells(server, HOG, memory_bytes=200 * MIB)
    if ran.death:  # a cgroup counts the job
        assert ran.death.limit == "memory"
    else:  # a resource limit counts the process, and Python hears of it
        assert limit_behind(ran.outputs[0][-1]["ename"], "") == "memory"


@pytest.mark.parametrize("layers", [("cgroup",), ("cgroup", "rlimits")])
def test_memory_is_unbounded_only_without_both_layers(layers: tuple[str, ...]) -> None:
    bounded_hog = "data = [bytearray(10_000_000) for _ in range(40)]; print('had', len(data))"
    with ForkServer(without=frozenset(layers)) as weaker:
        ran = run_cells(weaker, bounded_hog, memory_bytes=200 * MIB)
    assert (ran.texts[0] == "had 40\n") == ("rlimits" in layers)


@pytest.mark.parametrize("folder", [".", "/tmp", "/dev/shm"])
def test_disk_of_the_job_is_bounded(server: ForkServer, folder: str) -> None:
    ran = run_cells(server, f"folder = {folder!r}\n{FILL}", "print('goes on')", disk_bytes=32 * MIB)
    error = ran.outputs[0][-1]
    assert limit_behind(error["ename"], error["evalue"]) == "disk"
    assert ran.texts[1] == "goes on\n"


def test_number_of_files_is_bounded(server: ForkServer) -> None:
    ran = run_cells(server, "for i in range(1000): open(f'f{i}', 'w').close()", disk_files=100)
    assert "No space left" in ran.texts[0]


def test_size_of_a_file_is_bounded(server: ForkServer) -> None:
    ran = run_cells(server, "open('big', 'wb').write(bytes(20 << 20))", file_bytes=10 * MIB)
    error = ran.outputs[0][-1]
    assert limit_behind(error["ename"], error["evalue"]) == "disk"


@pytest.mark.parametrize(
    "bomb",
    [
        "import threading, time\nfor _ in range(500): threading.Thread(target=time.sleep, args=(60,)).start()",
        "import os, time\nfor _ in range(500):\n    if os.fork() == 0:\n        time.sleep(60)",
    ],
)
def test_number_of_processes_and_threads_is_bounded(server: ForkServer, bomb: str) -> None:
    ran = run_cells(server, bomb, "print('goes on')", processes=64)
    error = ran.outputs[0][-1]
    assert limit_behind(error["ename"], error["evalue"]) == "processes", error
    assert ran.texts[1] == "goes on\n"


def test_number_of_open_files_is_bounded(server: ForkServer) -> None:
    ran = run_cells(server, "held = [open('/dev/null') for _ in range(500)]", open_files=128)
    assert "Too many open files" in ran.texts[0]


@pytest.mark.parametrize("source", ["open('big', 'wb').write(bytes(20 << 20)); print('wrote')"])
def test_file_size_needs_the_resource_limits(source: str) -> None:
    with ForkServer(without=frozenset({"rlimits"})) as weaker:
        assert run_cells(weaker, source, file_bytes=10 * MIB).texts == ["wrote\n"]


def test_limits_travel_as_json_and_must_be_positive() -> None:
    limits = Limits(wall_s=5, memory_bytes=1 << 30)
    assert Limits(**json.loads(json.dumps(limits.to_json()))) == limits
    for field in dataclasses.fields(Limits):
        with pytest.raises(ValueError, match=field.name):
            Limits(**{field.name: 0})
