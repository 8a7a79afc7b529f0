"""The system calls that student code may make: an allow-list, compiled by libseccomp for the machine's architecture.

Whatever is not named below (and whatever later kernels add) fails with ENOSYS, so that libraries fall back as they do
on an old kernel; what an honest library may try and must not have fails with EPERM. Compiled once by the fork server,
loaded by each child in one call.
"""

from __future__ import annotations

import errno
import os

import pyseccomp
from pyseccomp import ALLOW, EQ, ERRNO, GT, MASKED_EQ, NE, Arg

from gradekit.kernels import linux

FILES = """
access faccessat faccessat2 chdir fchdir chmod fchmod fchmodat fchmodat2 chown fchown fchownat lchown close close_range
copy_file_range creat dup dup2 dup3 fadvise64 fallocate fcntl fdatasync flock fstat fstatfs fsync ftruncate getcwd
getdents getdents64 inotify_add_watch inotify_init inotify_init1 inotify_rm_watch link linkat lseek lstat mkdir mkdirat
mknod mknodat newfstatat open openat openat2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead
readlink readlinkat readv rename renameat renameat2 rmdir sendfile splice stat statfs statx symlink symlinkat sync
sync_file_range syncfs tee truncate umask unlink unlinkat utime utimensat utimes futimesat vmsplice write writev
fgetxattr flistxattr fremovexattr fsetxattr getxattr lgetxattr listxattr llistxattr lremovexattr lsetxattr removexattr
setxattr
"""
MEMORY = """
brk madvise membarrier memfd_create mincore mlock mlock2 mlockall mmap mprotect mremap msync munlock munlockall munmap
pkey_alloc pkey_free pkey_mprotect remap_file_pages get_mempolicy set_mempolicy mbind
"""
PROCESSES = """
arch_prctl capget capset clone execve execveat exit exit_group fork vfork getegid geteuid getgid getgroups getpgid
getpgrp getpid getppid getpriority getresgid getresuid getrlimit getrusage getsid gettid getuid ioprio_get ioprio_set
kill pidfd_open pidfd_send_signal prctl restart_syscall rseq sched_get_priority_max sched_get_priority_min
sched_getaffinity sched_getattr sched_getparam sched_getscheduler sched_rr_get_interval sched_setaffinity sched_setattr
sched_setparam sched_setscheduler sched_yield set_robust_list get_robust_list set_tid_address setfsgid setfsuid setgid
setgroups setpgid setpriority setregid setresgid setresuid setreuid setrlimit setsid setuid tgkill times tkill wait4
waitid uname sysinfo getcpu getrandom ioctl prlimit64
"""
SIGNALS_AND_TIME = """
alarm pause rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait
rt_tgsigqueueinfo sigaltstack signalfd signalfd4 clock_getres clock_gettime clock_nanosleep getitimer gettimeofday
nanosleep setitimer time timer_create timer_delete timer_getoverrun timer_gettime timer_settime timerfd_create
timerfd_gettime timerfd_settime
"""
WAITING_AND_TALKING = """
accept accept4 bind connect epoll_create epoll_create1 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait eventfd eventfd2
futex futex_waitv getpeername getsockname getsockopt io_cancel io_destroy io_getevents io_pgetevents io_setup io_submit
listen pipe pipe2 poll ppoll pselect6 recvfrom recvmmsg recvmsg select sendmmsg sendmsg sendto setsockopt shutdown
socket socketpair
"""
# System V IPC and POSIX queues have a namespace of their own, or are denied where there is none.
IPC = """
mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedsend mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop
semtimedop shmat shmctl shmdt shmget
"""
# Refused as by a kernel that has them but does not trust the caller: EPERM is what libraries expect here.
REFUSED = """
acct add_key adjtimex bpf chroot clock_adjtime clock_settime delete_module fanotify_init finit_module fsconfig fsmount
fsopen fspick init_module ioperm iopl kcmp kexec_file_load kexec_load keyctl migrate_pages mount mount_setattr
move_mount move_pages name_to_handle_at open_by_handle_at open_tree perf_event_open personality pidfd_getfd pivot_root
process_madvise process_vm_readv process_vm_writev ptrace quotactl reboot request_key setdomainname sethostname setns
settimeofday swapoff swapon syslog umount2 unshare userfaultfd vhangup
"""
NAMESPACE_FLAGS = (
    linux.CLONE_NEWNS, linux.CLONE_NEWCGROUP, linux.CLONE_NEWUTS, linux.CLONE_NEWIPC,
    linux.CLONE_NEWUSER, linux.CLONE_NEWPID, linux.CLONE_NEWNET, linux.CLONE_NEWTIME,
)  # fmt: skip
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK = 1, 2, 10, 16
_LOW_32_BITS = 0xFFFFFFFF


def _number(name: str) -> int | None:
    number = pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name)
    return number if number >= 0 else None  # negative: not on this architecture


def compile_filters(*, namespaces: bool) -> list[bytes]:
    """BPF programs to load one after the other (of two answers the kernel takes the stricter): arguments, then names.

    In this order, because the names do not include seccomp() itself.

    ``namespaces`` says whether network and IPC namespaces surround the job; without them there are no internet sockets
    and no IPC objects.
    """
    return [_export(_arguments(namespaces)), _export(_names(namespaces))]


def _filter(default: int) -> pyseccomp.SyscallFilter:
    rules = pyseccomp.SyscallFilter(default)
    rules.set_attr(pyseccomp.Attr.ACT_BADARCH, pyseccomp.KILL_PROCESS)  # 32-bit system calls have other numbers
    return rules


def _names(namespaces: bool) -> pyseccomp.SyscallFilter:
    rules = _filter(ERRNO(errno.ENOSYS))
    rules.set_attr(pyseccomp.Attr.CTL_OPTIMIZE, 2)  # a binary tree: half the start-up cost of a list
    allowed = [FILES, MEMORY, PROCESSES, SIGNALS_AND_TIME, WAITING_AND_TALKING] + [IPC] * namespaces
    refused = [REFUSED] + [IPC] * (not namespaces)
    for groups, action in ((allowed, ALLOW), (refused, ERRNO(errno.EPERM))):
        for name in " ".join(groups).split():
            number = pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name)
            if number >= 0:  # negative: not on this architecture
                rules.add_rule(action, number)
    return rules


def _arguments(namespaces: bool) -> pyseccomp.SyscallFilter:
    rules = _filter(ALLOW)
    refuse = ERRNO(errno.EPERM)
    # clone() starts threads and processes, not namespaces. clone3() hides its flags behind a pointer that no filter
    # can follow: it is not on the list of names, and the C library falls back to clone().
    for flag in NAMESPACE_FLAGS:
        rules.add_rule(refuse, "clone", Arg(0, MASKED_EQ, flag, flag))
    # A process may lower its own limits, not another's.
    rules.add_rule(refuse, "prlimit64", Arg(0, NE, 0))
    # Terminals accept faked key strokes by ioctl; the kernel looks at 32 bits of the request, so do we.
    for request in (_TIOCSTI, _TIOCLINUX):
        rules.add_rule(refuse, "ioctl", Arg(1, MASKED_EQ, _LOW_32_BITS, request))
    unknown = ERRNO(errno.EAFNOSUPPORT)
    families = {_AF_UNIX, _AF_INET, _AF_INET6, _AF_NETLINK} if namespaces else {_AF_UNIX}
    for call in ("socket", "socketpair"):
        for family in set(range(_AF_NETLINK + 1)) - families:
            rules.add_rule(unknown, call, Arg(0, EQ, family))
        rules.add_rule(unknown, call, Arg(0, GT, _AF_NETLINK))
        if namespaces:  # protocol 0, NETLINK_ROUTE, lists interfaces: getifaddrs() needs it
            rules.add_rule(unknown, call, Arg(0, EQ, _AF_NETLINK), Arg(2, NE, 0))
    return rules


def _export(rules: pyseccomp.SyscallFilter) -> bytes:
    with os.fdopen(os.memfd_create("filter", os.MFD_CLOEXEC), "w+b") as f:
        rules.export_bpf(f)
        f.seek(0)
        return f.read()
