"""Grade a small course with the command that staff type, in the grader image; compare the marks.

python grade_tiny.py COURSE [OPTION ...]      the options are gradekit grade's; tooling/tests must be on PYTHONPATH
"""

import subprocess
import sys
from pathlib import Path

from nbgrader.apps.api import NbGraderAPI
from tinycourse import RIGHT, build_course, scores, submit

course = build_course(Path(sys.argv[1]))
made = NbGraderAPI(course.directory, config=course.config).generate_assignment("ps1")
assert made["success"], made["log"]
snoop = "import os\nassert not os.path.exists('/course') or not os.listdir('/course')\n"
submit(course, "right", RIGHT)
submit(course, "untouched")
submit(course, "fatal", {**RIGHT, "root": "def root(x):\n    import os\n    os._exit(1)"})
submit(course, "snoop", {**RIGHT, "square": snoop + RIGHT["square"]})
subprocess.run(["gradekit", "grade", "ps1", "--course-dir", str(course.root), *sys.argv[2:]], check=True)
full = {"test-square": 2, "test-root": 3, "reflect": None}
expected = {
    "right": full,
    "untouched": {"test-square": 0, "test-root": 0, "reflect": 0},
    "fatal": {**full, "test-root": 0},
}
found = {student: scores(course, student) for student in expected}
sys.exit(0 if found == expected else f"the marks are {found}")
