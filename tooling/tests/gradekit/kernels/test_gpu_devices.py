"""A job that asks for a GPU gets that device node and no other. With a made-up node: not yet measured on a GPU."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import needs_root
from gradekit.kernels import ForkServer, KernelRequest
from run_cells import run_in

LOOK = """
import os
print(os.environ["CUDA_VISIBLE_DEVICES"], sorted(n for n in os.listdir("/dev") if n.startswith("nvidia9")))
for name in ("nvidia97", "nvidia98"):
    try:
        print(len(open(f"/dev/{name}", "rb").read(4)))
    except OSError as e:
        print(type(e).__name__)
print(os.path.exists("/dev/null"), os.path.exists("/dev/shm"), os.path.exists("/dev/mem"))
"""


@pytest.fixture(scope="module")
def server() -> Iterator[ForkServer]:
    """On a machine with two more GPUs than it has: nodes that are /dev/zero under other names."""
    nodes = [Path("/dev/nvidia97"), Path("/dev/nvidia98")]
    try:
        for node in nodes:
            os.mknod(node, stat.S_IFCHR | 0o666, os.stat("/dev/zero").st_rdev)
            node.chmod(0o666)
        with ForkServer(levels=("namespaces",)) as running:
            yield running
    finally:
        for node in nodes:
            node.unlink(missing_ok=True)


@needs_root
@pytest.mark.parametrize(
    ("gpu", "seen"),
    [
        (None, " []\nFileNotFoundError\nFileNotFoundError\n"),
        ("97", "97 ['nvidia97']\n4\nFileNotFoundError\n"),
        ("97,98", "97,98 ['nvidia97', 'nvidia98']\n4\n4\n"),
        ("GPU-0f1e", "GPU-0f1e ['nvidia97', 'nvidia98']\n4\n4\n"),  # by name: CUDA_VISIBLE_DEVICES must choose
    ],
)
def test_only_the_devices_asked_for_are_there(server: ForkServer, gpu: str | None, seen: str) -> None:
    with server.kernel(KernelRequest(gpu=gpu)) as manager:
        assert run_in(manager, LOOK).texts == [seen + "True True False\n"]
