"""A course folder with one real lab of this course, for tests in which all of a module would take minutes."""

from __future__ import annotations

import shutil
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
MODULE, LAB = "1.3-cuda-python", "1.3.1-parallel-reduction"


def small_course(folder: Path) -> None:
    """Lay out the course in ``folder``, which is made: configuration, the lab, its answer bank and its canaries."""
    kept = [
        "nbgrader_config.py",
        "syllabus.yaml",
        f"source/{MODULE}/{LAB}.py",
        f"source/{MODULE}/{LAB}.ipynb",
        f"tooling/canaries/{MODULE}/{LAB}.json",
    ]
    for name in kept:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CHECKOUT / name, folder / name)
    shutil.copytree(CHECKOUT / f"tooling/answers/{LAB}", folder / f"tooling/answers/{LAB}")
