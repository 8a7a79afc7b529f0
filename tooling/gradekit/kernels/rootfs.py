"""The small read-only world in which the fork server and its kernels live.

Built once by the server before it imports anything: a tmpfs that holds the system's libraries, the Python environment,
a few harmless files of /etc, device nodes without secrets, and nothing of the course, the home folders or the rest of
the machine. Each job then gets its own work folder, /tmp, /dev/shm, /dev/pts and /proc in its own mount namespace.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gradekit.kernels import linux

WORK = "/submission"
SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/opt/nvidia")
ETC = (
    "alternatives", "fonts", "ld.so.cache", "localtime", "mime.types", "nsswitch.conf", "protocols", "services", "ssl",
)  # fmt: skip
MACHINE = ("/sys/devices/system/cpu", "/sys/devices/system/node")
DEVICES = ("null", "zero", "full", "random", "urandom")
_BOX, _GPU, _OLD = "/.box", "/.gpu", "/.old"
_LOCKED = linux.MS_NOSUID | linux.MS_NODEV


def python_directories() -> list[str]:
    """Where this interpreter, its environment and labkit live."""
    found = [sys.prefix, sys.base_prefix, os.path.dirname(os.path.dirname(os.path.realpath(sys.executable)))]
    labkit = importlib.util.find_spec("labkit")
    if labkit and labkit.origin:  # installed for development it lies in a checkout, whose other folders stay hidden
        found.append(os.path.dirname(labkit.origin))
    return found


def gpu_nodes() -> list[str]:
    return sorted(str(p) for p in Path("/dev").glob("nvidia*"))


@dataclass(frozen=True)
class Tree:
    """A mount to be placed in the new root: where, whether it is a folder, and a detached copy of it."""

    path: str
    is_dir: bool
    descriptor: int


def _grab(paths: Iterable[str]) -> list[Tree]:
    return [Tree(p, os.path.isdir(p), linux.clone_tree(p)) for p in paths if os.path.exists(p)]


def outermost(paths: Iterable[str]) -> list[str]:
    """The paths, without those that lie below another one."""
    kept: list[str] = []
    for path in sorted({os.path.normpath(p) for p in paths}):
        if not kept or not (path + "/").startswith(kept[-1].rstrip("/") + "/"):
            kept.append(path)
    return kept


def build(readable: Iterable[str]) -> None:
    """Make the new root and move into it; the old one stays at /.old until ``leave_old_root``."""
    linux.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)
    # Copies first: afterwards the new root covers /tmp, and the interpreter may lie there, or in a closed home folder.
    links = [(p, os.readlink(p)) for p in SYSTEM if os.path.islink(p)]
    wanted = outermost([*readable, *(p for p in SYSTEM if not os.path.islink(p)), *MACHINE])
    read_only = _grab([*wanted, *(f"/etc/{e}" for e in ETC)])
    devices = _grab(f"/dev/{d}" for d in DEVICES)
    gpus = _grab(gpu_nodes())

    old_umask = os.umask(0o022)
    new = "/tmp"
    linux.mount("tmpfs", new, "tmpfs", _LOCKED, "size=4m,nr_inodes=4096,mode=755")
    # The server's own /tmp, for libraries that write while they are imported. First: an environment may lie there.
    os.mkdir(new + "/tmp")
    linux.mount("tmpfs", new + "/tmp", "tmpfs", _LOCKED, "size=64m,mode=1777")
    for tree in read_only:
        _place(tree, new + tree.path)
        linux.set_mount_attributes(
            new + tree.path, linux.MOUNT_ATTR_RDONLY | linux.MOUNT_ATTR_NOSUID | linux.MOUNT_ATTR_NODEV
        )
    for path, target in links:
        os.symlink(target, new + path)
    for tree in devices:
        _place(tree, new + tree.path)
    for tree in gpus:
        _place(tree, new + tree.path.replace("/dev", _GPU, 1))
    for folder in ("/proc", "/dev/shm", "/dev/pts", WORK, _BOX, _GPU, _OLD):
        os.makedirs(new + folder, exist_ok=True)
    for name, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        os.symlink(target, f"{new}/dev/{name}")
    os.symlink("pts/ptmx", f"{new}/dev/ptmx")
    Path(f"{new}/etc/passwd").write_text("root:x:0:0::/:/bin/false\nstudent:x:1000:1000::/tmp/home:/bin/sh\n")
    Path(f"{new}/etc/group").write_text("root:x:0:\nstudent:x:1000:\n")
    Path(f"{new}/etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
    os.umask(old_umask)
    linux.pivot_root(new, new + _OLD)
    os.chdir("/")


def mount_proc() -> None:
    linux.mount("proc", "/proc", "proc", _LOCKED | linux.MS_NOEXEC)


def leave_old_root() -> None:
    linux.detach(_OLD)
    os.rmdir(_OLD)
    linux.set_mount_attributes("/", linux.MOUNT_ATTR_RDONLY, recursive=False)


def job_mounts(
    uid: int, disk_bytes: int, disk_files: int, readable: Iterable[str], gpu: str | None, *, new_proc: bool
) -> None:
    """In the job's own mount namespace: a private work folder, /tmp and /dev/shm under one quota, /dev/pts, /proc."""
    linux.mount("tmpfs", _BOX, "tmpfs", _LOCKED, f"size={disk_bytes},nr_inodes={disk_files + 16},mode=755")
    for name, mode in (("tmp", 0o1777), ("shm", 0o1777), ("tmp/home", 0o700), ("work", 0o755)):
        os.mkdir(f"{_BOX}/{name}")
        os.chmod(f"{_BOX}/{name}", mode)
        os.chown(f"{_BOX}/{name}", uid, uid)
    hidden = _grab(p for p in readable if p.startswith("/tmp/"))  # an environment below /tmp must stay in sight
    if gpu is not None:
        _mount_gpu_devices(gpu)
    for name, target in (("tmp", "/tmp"), ("shm", "/dev/shm"), ("work", WORK)):
        linux.mount(f"{_BOX}/{name}", target, None, linux.MS_BIND)
    for tree in hidden:
        _place(tree, tree.path)
    terminals = "newinstance,ptmxmode=0666,mode=0600"
    linux.mount("devpts", "/dev/pts", "devpts", linux.MS_NOSUID | linux.MS_NOEXEC, terminals)
    if new_proc:
        mount_proc()
    for done_with in (_BOX, _GPU):
        linux.mount("tmpfs", done_with, "tmpfs", _LOCKED | linux.MS_RDONLY, "size=4k,nr_inodes=1,mode=000")


def _mount_gpu_devices(gpu: str) -> None:
    """A /dev of its own with the standard nodes and the GPU's. Not yet measured on a GPU."""
    indices = gpu.split(",")
    chosen = [
        node
        for node in sorted(os.listdir(_GPU))
        if not node.removeprefix("nvidia").isdigit()
        or not all(i.isdigit() for i in indices)  # named by UUID: CUDA_VISIBLE_DEVICES must choose
        or node.removeprefix("nvidia") in indices
    ]
    standard = [(f"/dev/{d}", Tree(f"/dev/{d}", False, linux.clone_tree(f"/dev/{d}"))) for d in DEVICES]
    trees = [(f"/dev/{n}", Tree(n, os.path.isdir(f"{_GPU}/{n}"), linux.clone_tree(f"{_GPU}/{n}"))) for n in chosen]
    linux.mount("tmpfs", "/dev", "tmpfs", linux.MS_NOSUID, "size=64k,mode=755")
    for target, tree in standard + trees:
        _place(tree, target)
    for folder in ("shm", "pts"):
        os.mkdir(f"/dev/{folder}")
    for name, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        os.symlink(target, f"/dev/{name}")
    os.symlink("pts/ptmx", "/dev/ptmx")


def _place(tree: Tree, target: str) -> None:
    os.makedirs(target if tree.is_dir else os.path.dirname(target), 0o755, exist_ok=True)
    if not tree.is_dir and not os.path.exists(target):
        os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
    linux.attach_tree(tree.descriptor, target)
    os.close(tree.descriptor)
