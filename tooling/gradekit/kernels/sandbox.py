"""The sandbox, in the order that works: what the fork server does once, and what each child does before student code.

Levels, best first:

``namespaces``  A root of its own and user, mount, pid, ipc, uts, network and cgroup namespaces, Landlock, seccomp,
                no_new_privs, no capabilities, resource limits; started as root also a uid for each job and cgroups.
``container``   Where namespaces are forbidden (a default container) but we started as root: a uid for each job,
                Landlock, seccomp without internet sockets, resource limits, a broker for connect(), and a guardian
                that sweeps up.
``none``        No protection. Only when asked for by name.

Every step either works or raises: a job that cannot lock itself in never runs.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sys
from dataclasses import dataclass, field
from typing import Any

from gradekit.kernels import broker, cgroup, landlock, linux, rootfs, seccomp
from gradekit.kernels.limits import Limits

LEVELS = ("namespaces", "container", "none")
LAYERS = (
    "user", "mount", "pid", "ipc", "uts", "net", "landlock", "seccomp", "no_new_privs", "capabilities", "rlimits",
    "cgroup", "descriptors", "environment", "broker",
)  # fmt: skip
_NAMESPACES = {
    "mount": linux.CLONE_NEWNS, "pid": linux.CLONE_NEWPID, "ipc": linux.CLONE_NEWIPC, "uts": linux.CLONE_NEWUTS,
    "net": linux.CLONE_NEWNET, "cgroup": linux.CLONE_NEWCGROUP,
}  # fmt: skip
_STUDENT = 1000
_OOM_FIRST = "800"
_KERNEL_BYTES = 128 << 20  # address space of ipykernel's own threads, mostly stacks that are never touched


@dataclass(frozen=True)
class ServerPlan:
    """What the launcher asks of a fork server. ``without``: layers taken away, for the tests of the layers."""

    tag: str
    uid_base: int
    slots: int
    jobs_dir: str
    readable: tuple[str, ...]
    without: frozenset[str] = frozenset()

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ServerPlan:
        return cls(**{**data, "readable": tuple(data["readable"]), "without": frozenset(data["without"])})


@dataclass
class Confinement:
    """What the server holds for its children once it is inside."""

    level: str
    plan: ServerPlan
    own_uids: bool = False
    pid_namespace: int | None = None
    cgroups: cgroup.Cgroups | None = None
    no_cgroups: str = ""
    filters: list[bytes] = field(default_factory=list)
    connect_filter: bytes = b""
    data_bytes: int = 0


@dataclass(frozen=True)
class JobPlan:
    """One child's share: its slot among the running jobs, its running number, its limits and devices."""

    slot: int
    number: int
    limits: Limits
    given_bytes: int
    given_files: int
    gpu: str | None
    keep: frozenset[int]
    broker: int | None = None

    @property
    def leaf(self) -> str:
        return leaf_name(self.number)


def leaf_name(number: int) -> str:
    return f"job-{number}"


# -- the server ----------------------------------------------------------------------------------------------------


def enter_server(level: str, plan: ServerPlan) -> Confinement:
    """Move the calling, still small and single-threaded process into ``level``; returns in the one that is inside."""
    inside = Confinement(level, plan)
    started_as_root = os.geteuid() == 0
    ranged = started_as_root and level == "namespaces"
    if level != "none":
        if "cgroup" in plan.without:
            inside.no_cgroups = "taken away by name"
        else:
            owner = plan.uid_base if ranged else os.geteuid()
            try:
                inside.cgroups = cgroup.open_branch(plan.tag, owner)
            except cgroup.NoCgroups as reason:
                inside.no_cgroups = str(reason)
        inside.filters = seccomp.compile_filters(namespaces=level == "namespaces")
    if level == "namespaces":
        _enter_namespaces(inside, started_as_root)
    elif level == "container":
        if not started_as_root:
            raise PermissionError(1, "without namespaces, jobs are kept apart by their uids: start as root")
        if landlock.abi() < 1:
            raise OSError(38, "without namespaces, files are kept from jobs by Landlock, and this kernel has none")
        inside.own_uids = True
        inside.connect_filter = broker.compile_filter()
    linux.prctl(linux.PR_SET_DUMPABLE, 0)  # nobody reads the server through /proc
    return inside


def _enter_namespaces(inside: Confinement, started_as_root: bool) -> None:
    plan = inside.plan
    if started_as_root:
        # As the machine's root first: an interpreter in a closed home folder can only be reached now.
        linux.unshare(linux.CLONE_NEWNS)
        rootfs.build(plan.readable)
        rootfs.mount_proc()
        if "mount" not in plan.without:
            rootfs.leave_old_root()
        inside.own_uids = _enter_user_namespace_with_range(plan.uid_base, plan.slots + 1)
    else:
        _enter_user_namespace(0)
    linux.unshare(_flags({"mount", "pid", "ipc", "uts", "net"}, plan.without))
    if not started_as_root:
        rootfs.build(plan.readable)
    parent = os.getpid()
    child = os.fork()
    if child:
        _wait_outside(child)
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    if "pid" in plan.without and os.getppid() != parent:
        os._exit(1)
    if "pid" not in plan.without:
        rootfs.mount_proc()
        inside.pid_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    if not started_as_root and "mount" not in plan.without:
        rootfs.leave_old_root()
    if "uts" not in plan.without:
        linux.set_hostname(b"sandbox")


def _flags(namespaces: set[str], without: frozenset[str]) -> int:
    """Clone flags. Without the layer "mount" the old root stays in sight, but there must be a place for our mounts."""
    return sum(_NAMESPACES[n] for n in namespaces - (without - {"mount", "cgroup"}))


def _enter_user_namespace(inside_uid: int) -> None:
    uid, gid = os.geteuid(), os.getegid()
    linux.unshare(linux.CLONE_NEWUSER)
    _write("/proc/self/setgroups", "deny")
    _write("/proc/self/uid_map", f"{inside_uid} {uid} 1")
    _write("/proc/self/gid_map", f"{inside_uid} {gid} 1")
    linux.become(inside_uid, inside_uid, groups=False)


def _enter_user_namespace_with_range(base: int, count: int) -> bool:
    """As root: a namespace with ``count`` ids, so that each job has one. A helper outside must write the map."""
    target = os.getpid()
    entered, mapped = os.pipe(), os.pipe()
    helper = os.fork()
    if helper == 0:
        status = 1
        with contextlib.suppress(OSError):
            os.close(entered[1])
            if os.read(entered[0], 1):
                for kind in ("uid", "gid"):
                    _write(f"/proc/{target}/{kind}_map", f"0 {base} {count}\n")
                status = 0
        os._exit(status)
    os.close(entered[0])
    try:
        linux.unshare(linux.CLONE_NEWUSER)
        os.write(entered[1], b"x")
    finally:
        os.close(entered[1])
        status = os.waitpid(helper, 0)[1]
        for descriptor in mapped:
            os.close(descriptor)
    if status != 0:
        raise PermissionError(1, f"the uids {base} to {base + count} cannot be mapped (root of a nested container?)")
    linux.become(0, 0, groups=True)
    return True


def _wait_outside(child: int) -> None:
    """The process that stays in the old pid namespace: it ends when its child does, and with the child's status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.closerange(3, 1 << 20)
    _, status = os.waitpid(child, 0)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


# -- a job ---------------------------------------------------------------------------------------------------------


def job_uid(inside: Confinement, slot: int) -> int:
    """The uid that a job runs under, as the server sees it; 0 when it shares the server's."""
    if not inside.own_uids:
        return 0
    return 1 + slot if inside.level == "namespaces" else inside.plan.uid_base + 1 + slot


def enter_job(inside: Confinement, job: JobPlan) -> str:
    """Lock the calling process in. Returns its work folder; raises OSError if any step fails.

    The files are unpacked by the caller between the two halves, see ``seal``.
    """
    without = inside.plan.without
    with contextlib.suppress(OSError):
        _write("/proc/self/oom_score_adj", _OOM_FIRST)
    if inside.cgroups:
        inside.cgroups.enter(job.leaf, job.limits.memory_bytes, job.limits.processes)
    uid = job_uid(inside, job.slot)
    if inside.level == "namespaces":
        linux.unshare(_flags({"mount", "ipc", "uts", "net", "cgroup"}, without))
        rootfs.job_mounts(
            uid,
            job.limits.disk_bytes + job.given_bytes,
            job.limits.disk_files + job.given_files,
            inside.plan.readable,
            job.gpu,
            new_proc="pid" not in without,
        )
        if "net" not in without:
            linux.loopback_up()
        if uid:
            linux.become(uid, uid, groups=True)
        if "user" not in without:
            # A second namespace that owns none of the others: rights in it are worth nothing.
            linux.prctl(linux.PR_SET_DUMPABLE, 1)
            _enter_user_namespace(_STUDENT)
        work = rootfs.WORK
    elif inside.level == "container":
        root = f"{inside.plan.jobs_dir}/{job.leaf}"
        for folder in (root, f"{root}/work", f"{root}/tmp", f"{root}/tmp/home"):
            os.mkdir(folder, 0o700)
            os.chown(folder, uid, uid)
        linux.become(uid, uid, groups=True)
        _check_interpreter()
        work = f"{root}/work"
    else:
        root = f"{inside.plan.jobs_dir}/{job.leaf}"
        for folder in (root, f"{root}/work", f"{root}/tmp", f"{root}/tmp/home"):
            os.mkdir(folder, 0o700)
        work = f"{root}/work"
    os.chdir(work)
    return work


def _check_interpreter() -> None:
    for path in (os.path.realpath(sys.executable), os.path.join(sys.prefix, "lib")):
        if not os.access(path, os.R_OK):
            raise PermissionError(13, f"{path} lies in a folder closed to other uids: move the environment out of it")


def temporary_directory(inside: Confinement, leaf: str) -> str:
    return "/tmp" if inside.level == "namespaces" else f"{inside.plan.jobs_dir}/{leaf}/tmp"


def seal(inside: Confinement, job: JobPlan) -> None:
    """The second half, after the files are in place: limits, descriptors, rights, Landlock, seccomp. No way back."""
    if inside.level == "none":
        linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
        return
    without = inside.plan.without
    if "rlimits" not in without:
        _set_limits(inside, job.limits)
    if "descriptors" not in without:
        linux.close_descriptors(set(job.keep))
    if "capabilities" not in without:
        linux.drop_capabilities()
    if "no_new_privs" not in without:
        linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
    # Set after the last change of ids and capabilities: those clear it.
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    linux.prctl(linux.PR_SET_DUMPABLE, 1)  # else /proc/self is closed to the job itself
    if "landlock" not in without and (landlock.abi() > 0 or inside.level == "container"):
        landlock.restrict(_rules(inside, job), tcp=inside.level == "namespaces")
    if job.broker is not None and "broker" not in without:
        broker.hand_over(inside.connect_filter, job.broker)
    if "seccomp" not in without:
        for program in inside.filters:
            linux.load_filter(program)


def _set_limits(inside: Confinement, limits: Limits) -> None:
    linux.set_limit(resource.RLIMIT_CORE, 0)
    linux.set_limit(resource.RLIMIT_MSGQUEUE, 0)
    linux.set_limit(resource.RLIMIT_MEMLOCK, 64 << 20)
    linux.set_limit(resource.RLIMIT_NOFILE, limits.open_files)
    linux.set_limit(resource.RLIMIT_FSIZE, limits.file_bytes)
    linux.set_limit(resource.RLIMIT_NPROC, limits.processes)
    # SIGXCPU first, SIGKILL a second later: pid 1 of a namespace does not hear the first.
    linux.set_limit(resource.RLIMIT_CPU, limits.cpu_s, limits.cpu_s + 1)
    if inside.cgroups is None:
        linux.set_limit(resource.RLIMIT_DATA, inside.data_bytes + _KERNEL_BYTES + limits.memory_bytes)


def _rules(inside: Confinement, job: JobPlan) -> list[tuple[str, int]]:
    plan = inside.plan
    libraries = [(p, landlock.RUN) for p in (*plan.readable, *rootfs.SYSTEM)]
    devices = [(f"/dev/{d}", landlock.DEVICE) for d in (*rootfs.DEVICES, "ptmx")]
    shared_memory = [("/dev/shm", landlock.OWN & ~landlock.EXECUTE)]
    machine = [(p, landlock.READ) for p in rootfs.MACHINE]
    if inside.level == "namespaces":
        own = [(p, landlock.OWN) for p in (rootfs.WORK, "/tmp")]
        gpu = [(n, landlock.DEVICE | landlock.READ) for n in rootfs.gpu_nodes()] if job.gpu is not None else []
        views = [("/proc", landlock.READ), ("/etc", landlock.READ), ("/dev", landlock.READ_DIR)]
        terminals = [("/dev/pts", landlock.DEVICE | landlock.READ_DIR)]
        # Where labkit lies in a checkout, a new Python (a subprocess, a spawned worker) lists the folder around it to
        # import it. In this root that folder holds labkit and nothing else.
        around = [(os.path.dirname(p), landlock.READ_DIR) for p in plan.readable]
        return libraries + devices + shared_memory + machine + own + gpu + views + terminals + around
    own = [(f"{plan.jobs_dir}/{job.leaf}", landlock.OWN)]
    etc = [(f"/etc/{e}", landlock.READ) for e in (*rootfs.ETC, "passwd", "group", "hosts")]
    # Not /proc/self: net/unix in it lists the path of every socket on the machine.
    mine = ("fd", "stat", "status", "statm", "maps", "limits", "cmdline", "comm")
    proc = [(f"/proc/{os.getpid()}/{f}", landlock.READ) for f in mine]
    proc += [(f"/proc/{f}", landlock.READ) for f in ("cpuinfo", "meminfo", "stat", "sys/kernel", "sys/vm")]
    gpu = [(n, landlock.DEVICE | landlock.READ) for n in rootfs.gpu_nodes()] if job.gpu is not None else []
    return libraries + devices + shared_memory + machine + own + etc + proc + gpu


def data_segment_bytes() -> int:
    """Private writable memory of this process: what RLIMIT_DATA counts (VmData in /proc/self/status)."""
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("VmData:"):
                return int(line.split()[1]) * 1024
    return 0


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
