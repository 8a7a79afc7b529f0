"""A small course whose one lab passes every gate; each test breaks one thing in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from gradekit.authoring.sync import pairs, sync
from gradekit.course import Course

DATA = Path(__file__).parent / "data"
NAME = "0.1.1-axpy"
CONFIG = """
c = get_config()
c.CourseDirectory.course_id = "tiny"
c.ClearSolutions.code_stub = {"python": "raise NotImplementedError()"}
"""
SYLLABUS = """
domains: {"0": Zero}
modules:
  - {id: "0.1", title: Vectors, slug: 0.1-vectors, domain: 0, hours: [1, 2],
     objectives: [{id: 0.1.1, bloom: apply, text: Say what a vector update costs}],
     labs: [{id: 0.1.1, title: axpy, slug: 0.1.1-axpy, objectives: [0.1.1], hours: 1, tier: cpu, builds_on: null}]}
"""

Breaker = Callable[..., Course]


@pytest.fixture
def broken(tmp_path: Path) -> Breaker:
    """Make the course with ``replace`` applied to the lab's text, and files added to its bank or (None) left out."""

    def make(
        replace: dict[str, str] | None = None,
        *,
        bank: dict[str, str | None] | None = None,
        syllabus: bool = True,
        config: str = CONFIG,
    ) -> Course:
        text = (DATA / f"{NAME}.txt").read_text()
        for old, new in (replace or {}).items():
            assert text.count(old) == 1, f"{text.count(old)} times in the lab: {old}"
            text = text.replace(old, new)
        folder = tmp_path / "source" / "0.1-vectors"
        folder.mkdir(parents=True)
        (folder / f"{NAME}.py").write_text(text)
        (tmp_path / "nbgrader_config.py").write_text(config)
        if syllabus:
            (tmp_path / "syllabus.yaml").write_text(SYLLABUS)
        answers = tmp_path / "answers" / NAME
        answers.mkdir(parents=True)
        files: dict[str, str | None] = {f"{path.stem}.py": path.read_text() for path in (DATA / "bank").iterdir()}
        for name, content in (files | (bank or {})).items():
            if content is not None:
                (answers / name).write_text(content)
        course = Course.open(tmp_path)
        for stem in pairs(course):
            assert not sync(stem).failed
        return course

    return make


@pytest.fixture
def course(broken: Breaker) -> Course:
    """The clean course."""
    return broken()
