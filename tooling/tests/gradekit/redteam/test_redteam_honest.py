"""No honest submission is held, and no style of writing changes a mark."""

from __future__ import annotations

from pathlib import Path

import pytest
from gradekit.course import Course
from gradekit.redteam.honest import grade_labs, grade_small


@pytest.mark.timeout(900)
def test_more_than_two_hundred_honest_submissions(corpus_folder: Path) -> None:
    report = grade_small(corpus_folder, jobs=2)
    assert len(report.submissions) >= 200
    assert len({submission.student for submission in report.submissions}) == len(report.submissions)
    assert not report.held
    assert not report.otherwise


@pytest.mark.timeout(900)
def test_some_honest_answers_to_the_labs(corpus_folder: Path) -> None:
    report = grade_labs(Course.open(corpus_folder.parents[2]), corpus_folder, jobs=2, every=25)
    assert len({submission.lab.name for submission in report.submissions}) >= 5
    assert not report.held
    assert not report.otherwise
