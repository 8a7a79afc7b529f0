"""Collect what students handed in, and nothing else.

A hub's students are users of the same machine and may write into the exchange as they like. Stock nbgrader copies what
a link in a submission points to, with the instructor's rights: a link to the course's own notebook comes back as a
perfect submission, with the solutions in its feedback. It takes a folder for the work of whoever its name says, and
stops at a name or a size that it cannot take, so that one student stops the class.
"""

from __future__ import annotations

import os
import pwd
import stat
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from nbgrader.exchange import ExchangeError
from nbgrader.exchange.default import ExchangeCollect

EPOCH = datetime(1970, 1, 1)
SLACK = timedelta(minutes=10)  # between the time in a submission's name and its last file


class Collect(ExchangeCollect):
    """nbgrader's collect for a course whose students share a machine with it; ``c.ExchangeFactory.collect``.

    Taken is a folder that belongs to the student it names, or to the user who collects, or to root; of it, the regular
    files that belong to the same user. What is left out is said in a warning, and costs nobody else anything.
    ``ExchangeCollect.check_owner = False`` takes a folder whoever's it is.
    """

    src_records: list[dict[str, Any]]

    def init_src(self) -> None:
        super().init_src()
        self.src_records = [record for record in self.src_records if record["username"]]

    def _path_to_record(self, path: str) -> dict[str, Any]:
        """nbgrader's record of a folder; without a user name where it is not to be taken."""
        try:
            record = super()._path_to_record(path)
            there = os.stat(path, follow_symlinks=False)
        except (ExchangeError, ValueError, OverflowError, OSError) as error:
            return self._left_out(path, f"its name or place cannot be read ({error})")
        owner = _user_name(there.st_uid)
        if not stat.S_ISDIR(there.st_mode):
            return self._left_out(path, "it is no folder")
        if self.check_owner and there.st_uid not in (0, os.getuid()) and owner != record["username"]:
            return self._left_out(path, f"it names {record['username']} and belongs to {owner}: somebody else's work?")
        changed = datetime.fromtimestamp(there.st_ctime, UTC).replace(tzinfo=None)
        if changed - record["timestamp"] > SLACK:
            self.log.warning(
                "%r says that it is of %s UTC, and was last changed on %s: was it late?",
                path,
                record["timestamp"],
                changed.replace(microsecond=0),
            )
        return record

    def _left_out(self, path: str, why: str) -> dict[str, Any]:
        self.log.warning("Not collected: %r: %s", path, why)
        return {"username": "", "filename": os.path.basename(path), "timestamp": EPOCH}

    def do_copy(self, src: str, dest: str, log: Any = None) -> None:
        """Copy what belongs to the submission, and of that what nbgrader's own rules let through."""
        with tempfile.TemporaryDirectory() as private:
            staged = os.path.join(private, "submission")
            os.mkdir(staged)
            for left_out in copy_own_files(src, staged, 1000 * self.coursedir.max_dir_size):
                self.log.warning("Left out of %r: %s", src, left_out)
            super().do_copy(staged, dest, log=log)


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def copy_own_files(source: str, target: str, room: int) -> Iterator[str]:
    """Copy a folder's regular files that belong to the folder's owner, at most ``room`` bytes; say what is left out.

    The owner may exchange files for links meanwhile: every file is opened first and looked at then, by no path.
    """
    try:
        top = os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError as error:
        yield f"everything ({error.strerror})"
        return
    unread: list[OSError] = []
    try:
        owner = os.fstat(top).st_uid
        for folder, folders, files, here in os.fwalk(".", onerror=unread.append, dir_fd=top, follow_symlinks=False):
            os.makedirs(os.path.join(target, folder), exist_ok=True)
            for name in [*files, *(name for name in folders if _is_link(here, name))]:
                path = os.path.normpath(os.path.join(folder, name))
                opened = _open_own(here, name, owner)
                if opened is None:
                    yield f"{path!r} (a link, or no regular file of the student's)"
                    continue
                room -= _copy(opened, os.path.join(target, folder, name), room)
                if room <= 0:
                    yield f"the end of {path!r} and what follows (more than CourseDirectory.max_dir_size)"
                    return
    finally:
        os.close(top)
    for failure in unread:
        yield f"{failure.filename!r} ({failure.strerror})"


def _is_link(folder: int, name: str) -> bool:
    try:
        return stat.S_ISLNK(os.lstat(name, dir_fd=folder).st_mode)
    except OSError:  # gone meanwhile
        return False


def _open_own(folder: int, name: str, owner: int) -> int | None:
    """A regular file of ``owner``'s in an open folder, opened; None if it is anything else."""
    try:
        opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except OSError:
        return None
    there = os.fstat(opened)
    if stat.S_ISREG(there.st_mode) and there.st_uid == owner:
        return opened
    os.close(opened)
    return None


def _copy(opened: int, target: str, room: int) -> int:
    """Copy an open file, of which ``room`` bytes at most; return how many they were."""
    copied = 0
    with open(opened, "rb") as source, open(target, "wb") as copy:
        while chunk := source.read(min(1 << 20, room - copied)):
            copied += copy.write(chunk)
    return copied
