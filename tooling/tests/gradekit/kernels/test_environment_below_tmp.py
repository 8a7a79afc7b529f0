"""An environment that lies below /tmp, where people clone to try things out, is in sight, and read-only."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from gradekit.kernels import ForkServer, forkserver
from run_cells import run_cells


def test_an_environment_below_tmp_can_be_read_and_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        (Path(folder) / "library.txt").write_text("from the environment")
        real = forkserver.python_directories()
        monkeypatch.setattr(forkserver, "python_directories", lambda: [*real, folder])
        with ForkServer() as server:
            assert server.report.level == "namespaces"
            ran = run_cells(
                server,
                f"open('{folder}/library.txt').read()",
                f"open('{folder}/mine.txt', 'w')",
                "open('/tmp/mine.txt', 'w').write('my own /tmp')",
            )
    assert ran.texts[0] == "'from the environment'"
    assert "Error" in ran.texts[1]
    assert ran.texts[2] == "11"
