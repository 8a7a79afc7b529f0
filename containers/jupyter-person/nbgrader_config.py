"""nbgrader for a student: the course's name and the exchange. Of the course folder nothing is known here."""

import os

c = get_config()  # noqa: F821 - nbgrader provides it
c.CourseDirectory.course_id = "spark"
c.Exchange.root = os.environ["NBGRADER_EXCHANGE"]
# Validating runs the notebook; a cell may take as long as it may in grading.
c.Execute.timeout = 120
