"""A submission's files on their way into the sandbox: packed into memory by the grader, unpacked by the child.

Only plain files and folders travel. Symbolic links, fifos, sockets and devices are left out, so nothing can lead out of
the folder or hang its reader; notebooks are left out, because an autograded one holds the hidden tests. There is no
shared folder between grader and sandbox, and none to clean up.
"""

from __future__ import annotations

import fnmatch
import json
import os
import stat
from pathlib import Path

LEFT_OUT = ("*.ipynb", ".ipynb_checkpoints", "__pycache__", ".git")
MOST_BYTES = 2 << 30
MOST_FILES = 20_000


def pack(folder: Path) -> tuple[int, list[str]]:
    """A memory file that holds the folder's plain files, and the names of what was not a plain file.

    Raises ValueError for a folder of more than 2 GiB or 20,000 files.
    """
    index: list[tuple[str, int]] = []
    skipped: list[str] = []
    contents = os.memfd_create("submission", os.MFD_CLOEXEC)
    total = 0
    try:
        for base, folders, names, base_fd in os.fwalk(folder, follow_symlinks=False):
            folders[:] = sorted(f for f in folders if not _left_out(f))
            for name in sorted([*names, *folders]):
                path = os.path.relpath(os.path.join(base, name), folder)
                mode = os.stat(name, dir_fd=base_fd, follow_symlinks=False).st_mode
                if stat.S_ISDIR(mode):
                    index.append((path, -1))
                elif _left_out(name):
                    continue
                elif not stat.S_ISREG(mode):
                    skipped.append(path)
                else:
                    size = _append(contents, name, base_fd)
                    index.append((path, size))
                    total += size
                if total > MOST_BYTES or len(index) > MOST_FILES:
                    raise ValueError(
                        f"{folder} holds more than {MOST_BYTES >> 30} GiB or {MOST_FILES} files: "
                        "remove what the notebooks do not read"
                    )
        header = json.dumps(index).encode()
        return _with_header(header, contents, total), skipped
    finally:
        os.close(contents)


def size_of(packed: int) -> tuple[int, int]:
    """Bytes and number of entries in a packed folder."""
    length = int.from_bytes(os.pread(packed, 8, 0), "little")
    index = json.loads(os.pread(packed, length, 8))
    return sum(max(size, 0) for _, size in index), len(index)


def unpack(packed: int, target: str) -> None:
    """Write the packed files below ``target``, an empty folder that belongs to the caller."""
    length = int.from_bytes(os.pread(packed, 8, 0), "little")
    index = json.loads(os.pread(packed, length, 8))
    offset = 8 + length
    for path, size in index:
        place = os.path.join(target, path)
        if size < 0:
            os.mkdir(place)
            continue
        descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        try:
            end = offset + size
            while offset < end:
                offset += os.sendfile(descriptor, packed, offset, end - offset)
        finally:
            os.close(descriptor)


def _left_out(name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in LEFT_OUT)


def _append(contents: int, name: str, folder_fd: int) -> int:
    source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder_fd)
    try:
        if not stat.S_ISREG(os.fstat(source).st_mode):  # exchanged since we looked
            raise ValueError(f"{name} changed while it was copied")
        size = 0
        while sent := os.sendfile(contents, source, size, 1 << 24):
            size += sent
            if size > MOST_BYTES:
                raise ValueError(f"{name} is larger than {MOST_BYTES >> 30} GiB")
        return size
    finally:
        os.close(source)


def _with_header(header: bytes, contents: int, total: int) -> int:
    packed = os.memfd_create("submission", os.MFD_CLOEXEC)
    os.write(packed, len(header).to_bytes(8, "little"))
    os.write(packed, header)
    offset = 0
    while offset < total:
        offset += os.sendfile(packed, contents, offset, total - offset)
    return packed
