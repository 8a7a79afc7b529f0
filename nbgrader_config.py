"""nbgrader's configuration for this course. Stock commands, the formgrader and gradekit all read it."""

import os
from pathlib import Path

c = get_config()  # noqa: F821 - nbgrader provides it
course = Path(__file__).resolve().parent

# The course's name in the exchange, and what students pass as --course.
c.CourseDirectory.course_id = "spark"
c.CourseDirectory.root = str(course)

# Releases and submissions change hands here. A department points this at a folder that all its users can reach.
c.Exchange.root = os.environ.get("NBGRADER_EXCHANGE", str(course / "exchange"))

# The text half of each notebook pair holds the solutions: it must never be copied into a release.
# Whatever else lies beside a notebook (data/, README.md) belongs to the students too.
c.CourseDirectory.ignore = [
    ".ipynb_checkpoints",
    "*.pyc",
    "__pycache__",
    "feedback",
    *sorted({text.name for text in (course / "source").glob("*/*.py")}),
]

# What a student sees in place of a solution: it fails at once and says why, in every lab alike.
c.ClearSolutions.code_stub = {"python": "raise NotImplementedError()"}
c.ClearSolutions.text_stub = "*Write your answer here.*"

# A student may delete a test cell, by accident or not; it comes back before grading.
c.OverwriteCells.add_missing_cells = True

# A lab's cell takes at most 10 s on two cores; three times that is a hang.
c.Execute.timeout = 30

# Student code runs in gradekit's sandboxed, warm kernel, also when it is stock nbgrader or the formgrader that grades.
c.Execute.kernel_name = "gradekit"
