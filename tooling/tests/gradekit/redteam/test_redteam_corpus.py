"""The whole corpus against gradekit; a sample against stock nbgrader, which shows that the attacks are real ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from gradekit.redteam.attack import corpus
from gradekit.redteam.effects import End
from gradekit.redteam.run import run

SAMPLE = {
    "lambda_for_allclose": End.GAINED,
    "do_execute": End.GAINED,
    "failing_assertion": End.REACHED,
    "file_outside": End.REACHED,
    "script_in_html_output": End.REACHED,
    "neighbours_answer_changed": End.DISTURBED,
}


@pytest.mark.timeout(900)
def test_no_attack_gets_through_that_is_not_known(corpus_folder: Path) -> None:
    rows = run(corpus(corpus_folder), corpus_folder / "course", against="gradekit")
    through = {row.attack.name: str(row.ours) for row in rows if row.unexpected}
    assert not through
    assert sum(row.ours is not None and row.ours.end is End.HELD for row in rows) >= 10, "the nets hold nothing at all"


def test_the_attacks_work_where_nobody_stops_them(corpus_folder: Path) -> None:
    rows = run(corpus(corpus_folder, list(SAMPLE)), corpus_folder / "course", against="stock")
    assert {row.attack.name: row.stock.end for row in rows if row.stock} == SAMPLE
