"""The lists of system calls hold on both architectures, and nothing is both allowed and refused."""

import pyseccomp
import pytest
from gradekit.kernels import linux, rootfs, seccomp
from pyseccomp import Arch

ALLOWED = " ".join(
    (seccomp.FILES, seccomp.MEMORY, seccomp.PROCESSES, seccomp.SIGNALS_AND_TIME, seccomp.WAITING_AND_TALKING)
).split()
REFUSED = seccomp.REFUSED.split()
# What glibc, CPython and libzmq use on ARM64, where the older calls do not exist.
ON_ARM64 = """
openat newfstatat statx faccessat faccessat2 renameat2 unlinkat mkdirat readlinkat clone execve ppoll pselect6
epoll_create1 epoll_ctl epoll_pwait eventfd2 pipe2 dup3 socket socketpair connect accept4 sendmsg recvmsg
futex mmap mprotect munmap brk madvise rt_sigaction rt_sigprocmask rt_sigreturn set_robust_list rseq getrandom
prlimit64 ioctl getdents64 sched_getaffinity clock_nanosleep exit_group memfd_create
"""


def number(name: str, architecture: int) -> int:
    return pyseccomp.resolve_syscall(architecture, name)


def test_every_name_is_a_system_call_somewhere() -> None:
    unknown = [
        n for n in ALLOWED + REFUSED + seccomp.IPC.split() if number(n, Arch.X86_64) < 0 and number(n, Arch.AARCH64) < 0
    ]
    assert unknown == ["fchmodat2"] * (number("fchmodat2", Arch.X86_64) < 0)  # libseccomp before 2.6


def test_nothing_is_both_allowed_and_refused() -> None:
    assert not set(ALLOWED) & set(REFUSED)
    assert len(ALLOWED) == len(set(ALLOWED))


@pytest.mark.parametrize("name", ON_ARM64.split())
def test_arm64_has_what_it_needs(name: str) -> None:
    assert number(name, Arch.AARCH64) >= 0
    assert name in ALLOWED


@pytest.mark.parametrize("name", ["open_tree", "move_mount", "mount_setattr", "pivot_root", "openat2", "seccomp"])
def test_sandbox_own_calls_are_known_and_not_given_to_jobs(name: str) -> None:
    assert linux.syscall_number(name) == number(name, Arch.NATIVE) >= 0
    assert number(name, Arch.AARCH64) >= 0
    assert name == "openat2" or name not in ALLOWED


def test_nested_folders_are_bound_once() -> None:
    assert rootfs.outermost(["/usr/lib", "/usr", "/usrx", "/opt/venv/lib/..", "/opt/venv/bin"]) == [
        "/opt/venv",
        "/usr",
        "/usrx",
    ]
