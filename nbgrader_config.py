"""nbgrader's configuration for this course. Stock commands, the formgrader and gradekit all read it."""

import os
import shutil
from pathlib import Path

from gradekit.formgrader import quick

c = get_config()  # noqa: F821 - nbgrader provides it
course = Path(__file__).resolve().parent

# The course's name in the exchange, and what students pass as --course.
c.CourseDirectory.course_id = "spark"
c.CourseDirectory.root = str(course)

# Releases and submissions change hands here. A department points this at a folder that all its users can reach.
c.Exchange.root = os.environ.get("NBGRADER_EXCHANGE", str(course / "exchange"))

# The marks lie in gradebook.db here, or in a database server: postgresql+psycopg2://user:password@host/database
if "NBGRADER_DB_URL" in os.environ:
    c.CourseDirectory.db_url = os.environ["NBGRADER_DB_URL"]

# Students may write into the exchange as they like: take what is theirs alone, and follow no link.
c.ExchangeFactory.collect = "gradekit.exchange.Collect"

# The text half of each notebook pair holds the solutions: it must never be copied into a release.
# Whatever else lies beside a notebook (data/, README.md) belongs to the students too.
c.CourseDirectory.ignore = [
    ".ipynb_checkpoints",
    "*.pyc",
    "__pycache__",
    "feedback",
    ".gradekit.json",  # what grading found, for staff: no copy of it goes to students with their feedback
    *sorted({text.name for place in ("*", "*/readiness") for text in (course / "source").glob(f"{place}/*.py")}),
]



def complete_release(assignment, **_):
    """Add the ungraded readiness notebook, as it is: nbgrader leaves notebooks in folders behind.

    And take out each text half that was written after a server, such as the formgrader's, had read the list above.
    """
    source, release = course / "source" / assignment, course / "release" / assignment
    for notebook in source.glob("readiness/*.ipynb"):
        (release / "readiness").mkdir(exist_ok=True)
        shutil.copy(notebook, release / "readiness")
    for text in [*source.glob("*.py"), *source.glob("readiness/*.py")]:
        (release / text.relative_to(source)).unlink(missing_ok=True)


c.GenerateAssignment.post_convert_hook = complete_release

# What a student sees in place of a solution: it fails at once and says why, in every lab alike.
c.ClearSolutions.code_stub = {"python": "raise NotImplementedError()"}
c.ClearSolutions.text_stub = "*Write your answer here.*"

# A student may delete a test cell, by accident or not; it comes back before grading.
c.OverwriteCells.add_missing_cells = True

# A lab's cell takes at most 10 s on two quiet cores. A busy grader, or a first import from a cold disk, may take
# several times that; more is a hang.
c.Execute.timeout = 120

# Student code runs in gradekit's sandboxed, warm kernel, also when it is stock nbgrader or the formgrader that grades.
c.Execute.kernel_name = "gradekit"

# Students' feedback names hidden checks and hints, never the hidden tests; and whatever students wrote runs nowhere:
# neither in their feedback nor in the formgrader, where a TA reads each answer beside its mark scheme, and held points
# beside what holds them.
c.GenerateFeedback.exporter_class = "gradekit.reports.page.FeedbackExporter"
c.HTMLExporter.preprocessors = ["gradekit.reports.safe_html.Sanitize", "gradekit.formgrader.beside.Beside"]
c.HTMLExporter.filters = {"markdown2html": "gradekit.reports.safe_html.markdown2html"}

# The formgrader's lists stay quick when hundreds of students hand in.
quick.install()
