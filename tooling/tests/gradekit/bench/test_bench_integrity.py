"""`gradekit bench integrity` on a course that is not this one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from gradekit.course import Course


def test_the_guard_and_the_canaries_of_any_course_are_timed(tiny_course: Course, tmp_path: Path) -> None:
    figures = tmp_path / "integrity.json"
    command = [sys.executable, "-m", "gradekit.cli", "bench", "integrity", "--json", str(figures)]
    command += ["--course-dir", str(tiny_course.root)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(figures.read_text())
    assert 0 < found["guard_ms"]["alone"] < found["guard_ms"]["graded"]
    assert [*found["labs"]] == ["warm-up"]
    lab = found["labs"]["warm-up"]
    assert lab["tests"] == 2 and lab["planted"] >= 1 and lab["uncovered"] < 2
    assert lab["canaries_s"] > 0 and lab["own_s"] > 0
    assert "warm-up" in done.stdout
    assert not tiny_course.submissions("ps1"), "it was measured on a copy"
