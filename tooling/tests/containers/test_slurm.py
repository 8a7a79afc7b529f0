"""Grading through Slurm: a one-node cluster of Debian's packages, started here, and the script that operators run."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml
from gradekit.course import Course
from gradekit.grading.local import LocalGrader
from tinycourse import RIGHT, scores, submit

SLURM = Path(__file__).parents[3] / "containers" / "slurm"
INSTALL = "needs Slurm: apt-get install slurmctld slurmd slurm-client munge (Debian)"
# No systemd, no cgroups, no accounts: what a container gives.
CONFIG = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={root}/munge.socket
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
KillWait=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=2000 State=UNKNOWN
PartitionName=grading Nodes={host} Default=YES State=UP
"""


@pytest.fixture
def slurm() -> Iterator[dict[str, str]]:
    """The environment in which Slurm's commands find a cluster that lives as long as the test."""
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    if not all(map(shutil.which, ("munged", "slurmctld", "slurmd", "sbatch"))):
        pytest.fail(INSTALL)
    root = Path(tempfile.mkdtemp(prefix="gradekit-slurm-"))  # the path of munge's socket must be short
    root.chmod(0o755)  # munge's clients may be anyone
    for folder in ("state", "spool"):
        (root / folder).mkdir()
    host = socket.gethostname().partition(".")[0]
    user = pwd.getpwuid(os.geteuid()).pw_name
    config = root / "slurm.conf"
    config.write_text(CONFIG.format(root=root, host=host, user=user, ports=_free_ports(2)))
    key = root / "munge.key"
    key.write_bytes(os.urandom(128))
    key.chmod(0o600)
    munge = ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={root}/munge.socket"]
    munge += [f"--pid-file={root}/munged.pid", f"--log-file={root}/munged.log", f"--seed-file={root}/munge.seed"]
    environment = os.environ | {"SLURM_CONF": str(config)}
    daemons = (munge, ["slurmctld", "-D", "-f", str(config)], ["slurmd", "-D", "-f", str(config)])
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, root, ignore_errors=True)
        for command in daemons:
            log = stack.enter_context((root / f"{command[0]}.out").open("w"))
            stack.callback(_end, subprocess.Popen(command, stdout=log, stderr=log, env=environment))
        _await_idle_node(environment, root)
        yield environment


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _end(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    try:
        daemon.wait(20)
    except subprocess.TimeoutExpired:
        daemon.kill()


def _await_idle_node(environment: dict[str, str], root: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        command = ["sinfo", "--noheader", "--format=%T"]
        found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if found.stdout.strip() == "idle":
            return
        if time.monotonic() > deadline:
            logs = "\n".join(path.read_text()[-2000:] for path in root.glob("*.out"))
            pytest.fail(f"Slurm did not start: {found.stdout}{found.stderr}\n{logs}")
        time.sleep(0.2)


def grade(slurm: dict[str, str], course: Course, folder: Path, **job: object) -> subprocess.CompletedProcess[str]:
    """Run the operator's script in ``folder`` with jobs for this small machine."""
    config = yaml.safe_load((SLURM / "jobqueue.yaml").read_text())
    config["jobqueue"]["slurm"] |= {"queue": "grading", "cores": 1, "memory": "500MB", "walltime": "00:05:00", **job}
    (folder / "jobqueue.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, str(SLURM / "grade.py"), "--jobs", "2", "--config", str(folder / "jobqueue.yaml")]
    command += ["--", "ps1", "--course-dir", str(course.root)]
    return subprocess.run(command, env=slurm, cwd=folder, capture_output=True, text=True, timeout=180, check=False)


def test_slurm_jobs_give_the_marks_that_this_machine_gives_and_end(
    slurm: dict[str, str], tiny_course: Course, tmp_path: Path
) -> None:
    submit(tiny_course, "right", RIGHT)
    submit(tiny_course, "untouched")
    submit(tiny_course, "fatal", {**RIGHT, "root": "def root(x):\n    import os\n    os._exit(1)"})
    done = grade(slurm, tiny_course, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "3 graded" in done.stdout
    logs = [path.read_text() for path in (tmp_path / "slurm-logs").glob("*.err")]
    assert any("tls://" in log for log in logs), "no worker ran as a Slurm job"
    assert not any("tcp://" in log for log in logs)
    students = ("right", "untouched", "fatal")
    through_slurm = {student: scores(tiny_course, student) for student in students}
    assert through_slurm["right"] == {"test-square": 2, "test-root": 3, "reflect": None}
    with LocalGrader(2) as grader:
        assert len(grader.grade(tiny_course, "ps1", force=True).graded) == 3
    assert {student: scores(tiny_course, student) for student in students} == through_slurm
    # Nothing is left: no job, no key.
    deadline = time.monotonic() + 30
    while subprocess.run(["squeue", "-h"], env=slurm, capture_output=True, check=True).stdout:
        assert time.monotonic() < deadline, "the run's jobs are still in the queue"
        time.sleep(0.2)
    assert {path.name for path in tmp_path.iterdir()} == {"course", "jobqueue.yaml", "slurm-logs"}


def test_what_sbatch_refuses_ends_the_run_with_its_reason(
    slurm: dict[str, str], tiny_course: Course, tmp_path: Path
) -> None:
    done = grade(slurm, tiny_course, tmp_path, queue="no-such-partition")
    assert done.returncode == 2
    assert "invalid partition specified: no-such-partition" in done.stderr
