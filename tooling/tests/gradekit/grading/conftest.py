"""One grader for all tests of a module: its fork server is warm after the first."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from gradekit.grading.local import LocalGrader


@pytest.fixture(scope="session")
def grader() -> Iterator[LocalGrader]:
    with LocalGrader(2) as grader:
        yield grader
