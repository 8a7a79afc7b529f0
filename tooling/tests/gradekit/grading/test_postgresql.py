"""The gradebook in PostgreSQL, started here for the test, reached over a socket in its own folder."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from gradekit.course import Course
from gradekit.grading.local import LocalGrader
from nbgrader.api import Gradebook
from nbgrader.apps.api import NbGraderAPI
from tinycourse import RIGHT, build_course, scores, submit

FULL = {"test-square": 2, "test-root": 3, "reflect": None}
INSTALL = "needs PostgreSQL's server: apt-get install postgresql (Debian), and the package psycopg2-binary"


@pytest.fixture
def db_url() -> Iterator[str]:
    """An empty database of a server that lives as long as the test."""
    places = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True), *map(Path, os.get_exec_path())]
    binaries = next((place for place in places if (place / "initdb").exists()), None)
    if binaries is None:
        pytest.fail(INSTALL)
    try:
        import psycopg2
    except ImportError:
        pytest.fail(INSTALL)
    root = Path(tempfile.mkdtemp(prefix="gradekit-pg-"))
    # It refuses to run as root, and a socket's path must be short.
    owner = "nobody" if os.geteuid() == 0 else None
    if owner:
        shutil.chown(root, owner)
    as_owner: dict[str, object] = {"user": owner, "group": pwd.getpwnam(owner).pw_gid} if owner else {}
    data = root / "data"
    command = [binaries / "initdb", "-D", data, "-U", "course", "--auth=trust", "--no-sync", "--encoding=UTF8"]
    subprocess.run(command, check=True, capture_output=True, cwd=root, **as_owner)  # type: ignore[call-overload]
    command = [binaries / "postgres", "-D", data, "-k", root, "-c", "listen_addresses=", "-c", "fsync=off"]
    quiet = subprocess.DEVNULL
    server = subprocess.Popen(command, stdout=quiet, stderr=quiet, cwd=root, **as_owner)  # type: ignore[call-overload]
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                connection = psycopg2.connect(host=str(root), user="course", dbname="postgres")
                break
            except psycopg2.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        connection.autocommit = True
        connection.cursor().execute("CREATE DATABASE gradebook")
        connection.close()
        yield f"postgresql+psycopg2://course@/gradebook?host={root}"
    finally:
        server.terminate()
        server.wait(20)
        shutil.rmtree(root, ignore_errors=True)


def test_marks_go_to_postgresql_as_to_sqlite(db_url: str, tmp_path: Path, grader: LocalGrader) -> None:
    root = tmp_path / "course"
    build_course(root)
    config = root / "nbgrader_config.py"
    config.write_text(f"{config.read_text()}\nc.CourseDirectory.db_url = {db_url!r}\n")
    course = Course.open(root)
    done = NbGraderAPI(course.directory, config=course.config).generate_assignment("ps1")
    assert done["success"], done["log"]
    submit(course, "right", RIGHT)
    submit(course, "untouched")
    assert not grader.grade(course, "ps1").failed
    assert scores(course, "right") == FULL
    assert scores(course, "untouched") == {"test-square": 0, "test-root": 0, "reflect": 0}
    assert len(grader.grade(course, "ps1").skipped) == 2
    with Gradebook(db_url, course.course_id) as gradebook:
        gradebook.find_grade("reflect", "warm-up", "ps1", "right").manual_score = 1.5
        gradebook.db.commit()
    assert len(grader.grade(course, "ps1", force=True).graded) == 2
    with Gradebook(db_url, course.course_id) as gradebook:
        assert gradebook.find_submission("ps1", "right").score == 6.5
    assert not (root / "gradebook.db").exists()
