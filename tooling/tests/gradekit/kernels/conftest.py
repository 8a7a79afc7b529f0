"""Servers that tests share, and the helpers' place on the path."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # run_cells, open_home

from gradekit.kernels import ForkServer, SandboxError

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="starts as root")


@pytest.fixture(scope="session")
def server() -> Iterator[ForkServer]:
    """A fork server without preloads, at the best level of this machine."""
    try:
        with ForkServer() as running:
            yield running
    except SandboxError as refused:
        pytest.fail(f"this machine gives no sandbox, and the course cannot be graded on it: {refused}")
