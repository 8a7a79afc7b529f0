"""Collecting: a submission's own files, whatever else a student put in their way."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from gradekit.course import Course
from gradekit.exchange import Collect, copy_own_files
from nbgrader.apps.api import NbGraderAPI
from nbgrader.utils import get_username


@pytest.fixture
def handed_in(tmp_path: Path) -> Path:
    folder = tmp_path / "handed in"
    (folder / "data").mkdir(parents=True)
    (folder / "lab.ipynb").write_text("{}")
    (folder / "data/numbers.txt").write_text("1 2 3")
    return folder


def copied(source: Path, target: Path, room: int = 10**6) -> tuple[dict[str, int], list[str]]:
    """The copied files with their sizes, and what is said of the others."""
    target.mkdir()
    said = list(copy_own_files(str(source), str(target), room))
    return {str(path.relative_to(target)): path.stat().st_size for path in target.rglob("*") if path.is_file()}, said


def test_files_and_folders_are_copied(handed_in: Path, tmp_path: Path) -> None:
    assert copied(handed_in, tmp_path / "copy") == ({"lab.ipynb": 2, "data/numbers.txt": 5}, [])


def test_links_and_pipes_are_left_out(handed_in: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.py").write_text("the solutions")
    (handed_in / "a file.py").symlink_to(tmp_path / "secret.py")
    (handed_in / "a folder").symlink_to(tmp_path)
    os.mkfifo(handed_in / "a pipe")  # opening it would wait for ever
    files, said = copied(handed_in, tmp_path / "copy")
    assert set(files) == {"lab.ipynb", "data/numbers.txt"}
    assert sorted(words.split(" (")[0] for words in said) == ["'a file.py'", "'a folder'", "'a pipe'"]


def test_a_link_in_the_place_of_the_folder_is_not_followed(handed_in: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(handed_in)
    files, said = copied(link, tmp_path / "copy")
    assert files == {}
    assert said and said[0].startswith("everything")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_another_user_s_file_is_left_out(handed_in: Path, tmp_path: Path) -> None:
    (handed_in / "hers.txt").write_text("not mine")
    os.chown(handed_in / "hers.txt", 12345, 12345)
    files, said = copied(handed_in, tmp_path / "copy")
    assert "hers.txt" not in files
    assert "'hers.txt'" in said[0]


def test_no_more_is_copied_than_there_is_room(handed_in: Path, tmp_path: Path) -> None:
    (handed_in / "data/huge.bin").touch()
    os.truncate(handed_in / "data/huge.bin", 10**12)
    files, said = copied(handed_in, tmp_path / "copy", room=1000)
    assert sum(files.values()) == 1000
    assert said == ["the end of 'data/huge.bin' and what follows (more than CourseDirectory.max_dir_size)"]
    assert "lab.ipynb" in files  # what lies on top comes first


@pytest.fixture
def api(tiny_course: Course) -> NbGraderAPI:
    tiny_course.config.ExchangeFactory.collect = Collect
    api = NbGraderAPI(tiny_course.directory, config=tiny_course.config)
    assert api.release_assignment("ps1")["success"]
    return api


def inbound(course: Course, student: str, when: str) -> Path:
    folder = course.root / f"exchange/tiny/inbound/{student}+ps1+{when}+random"
    folder.mkdir()
    (folder / "warm-up.ipynb").write_text("{}")
    (folder / "timestamp.txt").write_text(when)
    return folder


def test_the_course_s_own_user_may_hand_in_for_anybody(tiny_course: Course, api: NbGraderAPI) -> None:
    inbound(tiny_course, "ada", f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC")
    assert api.collect("ps1")["success"]
    assert (tiny_course.path("submitted", "ps1", "ada") / "warm-up.ipynb").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
@pytest.mark.parametrize("check_owner", [True, False])
def test_a_folder_of_somebody_else_s_is_left_out(tiny_course: Course, api: NbGraderAPI, check_owner: bool) -> None:
    assert get_username() == "root"
    os.chown(inbound(tiny_course, "ada", "2026-01-01 10:00:00 UTC"), 12345, 12345)
    tiny_course.config.ExchangeCollect.check_owner = check_owner
    log = NbGraderAPI(tiny_course.directory, config=tiny_course.config).collect("ps1")["log"]
    assert ("belongs to user 12345" in log) is check_owner
    assert tiny_course.path("submitted", "ps1", "ada").exists() is not check_owner


def test_an_unreadable_name_stops_nobody_else(tiny_course: Course, api: NbGraderAPI) -> None:
    inbound(tiny_course, "ben", "no time at all")
    inbound(tiny_course, "ada", "2026-01-01 10:00:00 UTC")
    log = api.collect("ps1")["log"]
    assert "cannot be read" in log
    assert tiny_course.path("submitted", "ps1", "ada").exists()
    assert not tiny_course.path("submitted", "ps1", "ben").exists()


@pytest.mark.parametrize(("ago", "doubted"), [(timedelta(seconds=5), False), (timedelta(days=2), True)])
def test_a_time_long_before_the_files_is_doubted(
    tiny_course: Course, api: NbGraderAPI, ago: timedelta, doubted: bool
) -> None:
    inbound(tiny_course, "ada", f"{datetime.now(UTC) - ago:%Y-%m-%d %H:%M:%S} UTC")
    assert ("was it late?" in api.collect("ps1")["log"]) is doubted
