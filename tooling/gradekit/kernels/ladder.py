"""Which level this machine gives: a throw-away child takes every real step before a level is claimed."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import traceback

from gradekit.kernels import cgroup, landlock, linux, sandbox
from gradekit.kernels.limits import Limits
from gradekit.kernels.report import Layer, SandboxReport


def climb(plan: sandbox.ServerPlan, levels: list[str]) -> tuple[SandboxReport, str | None]:
    """Try ``levels`` in turn; the report, and the first level that works (None: refuse)."""
    failures: list[str] = []
    for level in levels:
        trial = dataclasses.replace(plan, tag=f"{plan.tag}-trial")
        reason, no_cgroups, own_uids = _try(level, trial)
        if reason is None:
            report = SandboxReport(level, _layers(level, plan, no_cgroups, own_uids), tuple(failures))
            return report, level
        failures.append(f"{level}: {reason}")
    return SandboxReport("refused", (), tuple(failures)), None


def _try(level: str, plan: sandbox.ServerPlan) -> tuple[str | None, str, bool]:
    """Why the level does not work here (None: it does), why there are no cgroups, whether each job has its own uid."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read_end)
        status = 1
        try:
            inside = sandbox.enter_server(level, plan)
            _as_a_job(inside)
            os.write(write_end, f"ok\n{inside.no_cgroups}\n{inside.own_uids:d}".encode())
            status = 0
        except BaseException as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            with contextlib.suppress(OSError):
                os.write(write_end, f"no\n{error} (in {frame.name})\n0".encode())
        os._exit(status)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as answer:
        verdict, detail, own_uids = (answer.read().decode(errors="replace") or "no\nthe trial died\n0").split("\n", 2)
    os.waitpid(child, 0)
    with contextlib.suppress(OSError):
        cgroup.close_branch(plan.tag)
    return (None, detail, own_uids == "1") if verdict == "ok" else (detail, "", False)


def _as_a_job(inside: sandbox.Confinement) -> None:
    """Take a job's steps in a child of the trial, and raise what it raises."""
    read_end, write_end = os.pipe()
    if inside.pid_namespace is not None:
        linux.unshare(linux.CLONE_NEWPID)
    child = os.fork()
    if child == 0:
        os.close(read_end)
        try:
            job = sandbox.JobPlan(0, 0, Limits(), 0, 0, None, frozenset([write_end]))
            inside.data_bytes = sandbox.data_segment_bytes()
            sandbox.enter_job(inside, job)
            sandbox.seal(inside, job)
        except BaseException as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            os.write(write_end, f"{error} (in {frame.name})".encode())
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as answer:
        reason = answer.read().decode(errors="replace")
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if inside.cgroups:
        inside.cgroups.leave(sandbox.leaf_name(0))
    if reason or status:
        raise OSError(0, reason or f"a job of the trial ended with {status}")


def _layers(level: str, plan: sandbox.ServerPlan, no_cgroups: str, own_uids: bool) -> tuple[Layer, ...]:
    if level == "none":
        return ()
    namespaces = level == "namespaces"
    version = landlock.abi()
    per_process = "limits of memory hold for each process, not for the job: "
    absent = "namespaces are not to be had here" if not namespaces else ""
    found = [Layer(f"{n} namespace", namespaces, absent) for n in ("user", "mount", "pid", "ipc", "uts", "net")]
    landlocked = f"ABI {version}" if version else "not in this kernel: the mount namespace stands alone"
    found += [
        Layer("Landlock", version > 0, landlocked),
        Layer("seccomp", True, "an allow-list"),
        Layer("no_new_privs", True, ""),
        Layer("resource limits", True, ""),
        Layer("cgroups", not no_cgroups, per_process + no_cgroups if no_cgroups else ""),
        Layer("a disk quota", namespaces, "" if namespaces else "only a limit for each file: the disk is shared"),
        Layer("a uid for each job", own_uids, "" if own_uids else "needs a start as root"),
    ]
    if not namespaces:
        found.append(Layer("a broker for connect()", True))
    return tuple(dataclasses.replace(x, ok=False, why="taken away by name") if _dropped(x, plan) else x for x in found)


def _dropped(layer: Layer, plan: sandbox.ServerPlan) -> bool:
    name = layer.name.lower().replace(" namespace", "").replace("resource limits", "rlimits").rstrip("s")
    return any(name == w.rstrip("s") for w in plan.without)
