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


@pytest.mark.timeout(1800)
def test_some_honest_answers_to_the_labs(corpus_folder: Path) -> None:
    course = Course.open(corpus_folder.parents[2])
    report = grade_labs(course, corpus_folder, jobs=2, every=50)
    assert {submission.lab.name for submission in report.submissions} == {lab.name for lab in course.labs()}
    assert not report.held
    assert not report.otherwise
