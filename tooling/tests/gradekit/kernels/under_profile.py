"""Run a command as Docker would run the grader: an ordinary user, no capabilities, under containers/seccomp.json.

Usage: python under_profile.py UID COMMAND...
"""

import json
import os
import sys
from pathlib import Path

import pyseccomp
from gradekit.kernels import linux
from open_home import open_home

open_home()
profile = json.loads((Path(__file__).parents[4] / "containers" / "seccomp.json").read_text())
assert profile["defaultAction"] == "SCMP_ACT_ALLOW"
rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
for rule in profile["syscalls"]:
    assert rule["action"] == "SCMP_ACT_ERRNO"
    for name in rule["names"]:
        if pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name) != -1:  # as runtimes do: not a call of any machine
            rules.add_rule(pyseccomp.ERRNO(rule["errnoRet"]), name)
uid, command = int(sys.argv[1]), sys.argv[2:]
if os.geteuid() == 0:
    linux.become(uid, uid, groups=True)
linux.drop_capabilities()
rules.load()  # sets no_new_privs, as security_opt does in compose.yaml
os.execvpe(command[0], command, {**os.environ, "HOME": "/nonexistent"})
