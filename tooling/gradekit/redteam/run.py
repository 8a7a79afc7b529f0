"""Run the corpus against both graders."""

from __future__ import annotations

from pathlib import Path

from gradekit.redteam.attack import Attack
from gradekit.redteam.columns import Progress, against_gradekit, against_stock, small_course
from gradekit.redteam.report import Row

GRADERS = ("both", "gradekit", "stock")


def run(
    attacks: list[Attack],
    course_texts: Path,
    *,
    against: str = "both",
    jobs: int = 2,
    progress: Progress = lambda attack: None,
) -> list[Row]:
    """What each attack did to stock nbgrader and to gradekit.

    Args:
        against: one of GRADERS.
        course_texts: the folder with the small course's texts.
        jobs: submissions at a time.
        progress: told of each attack that was run against stock nbgrader.
    """
    with small_course(course_texts) as (template, root):
        ours = against_gradekit(template, root, attacks, jobs=jobs) if against != "stock" else {}
        stock = against_stock(template, root, attacks, jobs=jobs, progress=progress) if against != "gradekit" else {}
    return [Row(attack, stock.get(attack.marker), ours.get(attack.marker)) for attack in attacks]
