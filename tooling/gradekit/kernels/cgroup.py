"""Memory and process counts of a whole job, by cgroups (version 1 or 2), where this machine lets us make any.

The fork server opens its own branch of the tree while it still may; each child makes a leaf in it, writes its limits
and enters; the server reads what was exceeded when the child has ended, and removes the leaf.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

CONTROLLERS = ("memory", "pids")


class NoCgroups(Exception):
    """Why there are none here, for the report."""


@dataclass(frozen=True)
class Cgroups:
    """Descriptors of our branch, one for each controller (the same one twice under version 2)."""

    version: int
    branches: dict[str, int]

    def enter(self, leaf: str, memory_bytes: int, processes: int) -> None:
        """Make the leaf, set its limits, move the calling process in."""
        for controller in self._trees():
            os.mkdir(leaf, 0o755, dir_fd=self.branches[controller])
        if self.version == 1:
            self._write("memory", f"{leaf}/memory.limit_in_bytes", memory_bytes)
            with contextlib.suppress(OSError):  # only where swap is accounted
                self._write("memory", f"{leaf}/memory.memsw.limit_in_bytes", memory_bytes)
        else:
            self._write("memory", f"{leaf}/memory.max", memory_bytes)
            with contextlib.suppress(OSError):
                self._write("memory", f"{leaf}/memory.swap.max", 0)
        self._write("pids", f"{leaf}/pids.max", processes)
        for controller in self._trees():
            self._write(controller, f"{leaf}/cgroup.procs", 0)

    def leave(self, leaf: str) -> dict[str, int]:
        """After the job's end: what it hit (``oom_kill``, ``pids_max``), its peak in bytes; removes the leaf."""
        names = (
            ("memory.oom_control", "memory.max_usage_in_bytes", "pids.events")
            if self.version == 1
            else ("memory.events", "memory.peak", "pids.events")
        )
        events, peak, forks = (
            self._read(controller, f"{leaf}/{name}")
            for controller, name in zip(("memory", "memory", "pids"), names, strict=True)
        )
        found = {
            "oom_kill": _field(events, "oom_kill"),
            "pids_max": _field(forks, "max"),
            "peak": int(peak) if peak.strip().isdigit() else 0,
        }
        for controller in self._trees():
            with contextlib.suppress(OSError):
                os.rmdir(leaf, dir_fd=self.branches[controller])
        return found

    def _trees(self) -> tuple[str, ...]:
        return CONTROLLERS if self.version == 1 else CONTROLLERS[:1]

    def _write(self, controller: str, name: str, value: int) -> None:
        descriptor = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=self.branches[controller])
        try:
            os.write(descriptor, str(value).encode())
        finally:
            os.close(descriptor)

    def _read(self, controller: str, name: str) -> str:
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.branches[controller])
        except OSError:
            return ""
        try:
            return os.read(descriptor, 4096).decode()
        finally:
            os.close(descriptor)


def _field(text: str, key: str) -> int:
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == key:
            return int(value)
    return 0


def open_branch(tag: str, owner: int) -> Cgroups:
    """Make a branch called ``tag`` below our own cgroup and give it to the uid ``owner``."""
    try:
        trees = _own_directories()
        if all(c in trees for c in CONTROLLERS):
            version, branches = 1, {c: trees[c] / tag for c in CONTROLLERS}
            for branch in branches.values():
                branch.mkdir()
        elif "" in trees:
            version, branches = 2, dict.fromkeys(CONTROLLERS, _unified_branch(trees[""], tag))
        else:
            raise NoCgroups("no cgroup file system with the memory and pids controllers is mounted")
        for branch in set(branches.values()):
            for name in ("", "cgroup.procs", "tasks", "cgroup.subtree_control", "cgroup.threads"):
                with contextlib.suppress(FileNotFoundError):
                    os.chown(branch / name, owner, -1)
        return Cgroups(version, {c: os.open(b, os.O_PATH | os.O_CLOEXEC) for c, b in branches.items()})
    except OSError as error:
        close_branch(tag)
        raise NoCgroups(
            f"{error.strerror} ({error.filename}): run as root, or in a delegated scope: "
            "systemd-run --user --scope -p Delegate=yes ..."
        ) from error


def close_branch(tag: str, patience_s: float = 2.0) -> None:
    """Remove a branch and what is left in it, from outside; processes that are still ending are waited for."""
    deadline = time.monotonic() + patience_s
    for directory in _own_directories().values():
        for branch in (directory / tag, directory.parent / tag):
            while branch.is_dir():
                for leaf in [*(p for p in branch.iterdir() if p.is_dir()), branch]:
                    with contextlib.suppress(OSError):
                        leaf.rmdir()
                if time.monotonic() > deadline:
                    break
                time.sleep(0.01)


def close_branches_of_the_dead() -> None:
    """Remove the branches of launchers (their process id is in the tag) that were killed before they could."""
    for directory in _own_directories().values():
        for branch in [*directory.glob("gradekit-[0-9]*-*"), *directory.parent.glob("gradekit-[0-9]*-*")]:
            if not Path("/proc", branch.name.split("-")[1]).exists():
                close_branch(branch.name, patience_s=0)


def _unified_branch(own: Path, tag: str) -> Path:
    """Version 2 allows no processes beside controlled children: use a sibling where we cannot use a child."""
    wanted = " ".join(f"+{c}" for c in CONTROLLERS)
    parent = own
    try:
        (own / "cgroup.subtree_control").write_text(wanted)
    except OSError:
        parent = own.parent
        if not set(CONTROLLERS) <= set((parent / "cgroup.subtree_control").read_text().split()):
            raise
    branch = parent / tag
    (branch / "server").mkdir(parents=True)
    (branch / "server" / "cgroup.procs").write_text("0")
    (branch / "cgroup.subtree_control").write_text(wanted)
    return branch


def _own_directories() -> dict[str, Path]:
    """Our cgroup's directory for each controller; the key ``""`` is version 2's single tree."""
    mounts: dict[str, tuple[str, str]] = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        root, point = before.split()[3:5]
        if kind == "cgroup2":
            mounts.setdefault("", (root, point))
        elif kind == "cgroup":
            for controller in options.split(","):
                mounts.setdefault(controller, (root, point))
    found = {}
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            if controller in mounts:
                root, point = mounts[controller]
                inside = os.path.relpath(path, root)
                directory = Path(point) if inside.startswith("..") else Path(point, inside)
                found[controller] = Path(os.path.normpath(directory))
    return found
