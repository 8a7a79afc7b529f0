"""Shared fixtures."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from gradekit.course import Course
from tinycourse import CONFIG, build_course


@pytest.fixture(scope="session")
def _generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny course after ``nbgrader generate_assignment``, made once."""
    from nbgrader.apps.api import NbGraderAPI

    root = tmp_path_factory.mktemp("generated") / "course"
    course = build_course(root)
    done = NbGraderAPI(course.directory, config=course.config).generate_assignment("ps1")
    assert done["success"], done
    return root


@pytest.fixture
def tiny_course(_generated: Path, tmp_path: Path) -> Course:
    """A fresh copy of the tiny course, released form and gradebook included."""
    root = tmp_path / "course"
    shutil.copytree(_generated, root)
    (root / "nbgrader_config.py").write_text(CONFIG.format(exchange=str(root / "exchange")))
    return Course.open(root)
