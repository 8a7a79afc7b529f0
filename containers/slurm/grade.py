"""Grade on a Slurm cluster: a Dask scheduler here, workers as Slurm jobs, and `gradekit grade` on them.

    python containers/slurm/grade.py --jobs 4 -- 3.1-llm-finetuning --course-dir /path/to/course

What follows ``--`` goes to ``gradekit grade``. What a job asks of Slurm is in jobqueue.yaml beside this file. The same
Python environment must lie at the same path on every node. Traffic is encrypted, and the scheduler accepts only who has
this run's key: a Dask scheduler runs whatever it is sent, and a Slurm cluster has other users.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import dask
import yaml
from dask_jobqueue import SLURMCluster
from distributed.security import Security


def client_environment(security: Security) -> dict[str, str]:
    """The environment that lets a Dask client in: its certificate and key, by Dask's own configuration names."""
    tls = security.get_tls_config_for_role("client")
    return {
        "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "True",
        "DASK_DISTRIBUTED__COMM__TLS__CA_FILE": tls["ca_file"],
        "DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT": tls["cert"],
        "DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY": tls["key"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Grade on a Slurm cluster; what follows -- goes to gradekit grade.")
    parser.add_argument("--jobs", type=int, default=2, help="Slurm jobs to ask for")
    parser.add_argument("--config", type=Path, default=Path(__file__).with_name("jobqueue.yaml"))
    parser.add_argument("grade", nargs="*", help="arguments of gradekit grade")
    options = parser.parse_args()
    dask.config.update(dask.config.config, yaml.safe_load(options.config.read_text()))
    security = Security.temporary()
    with SLURMCluster(security=security, scheduler_options={"dashboard_address": None}) as cluster:
        # Scaling would hide sbatch's errors in a log, and then wait for workers that never come.
        trial = subprocess.run(["sbatch", "--test-only"], input=cluster.job_script(), text=True, check=False)
        if trial.returncode:
            print(f"grade.py: Slurm does not take these jobs; see {options.config}", file=sys.stderr)
            return 2
        cluster.scale(jobs=options.jobs)
        print("Waiting for Slurm to start a job (squeue shows why it may not) ...", file=sys.stderr)
        cluster.wait_for_workers(1)
        command = [sys.executable, "-m", "gradekit.cli", "grade", "--cluster", cluster.scheduler_address]
        environment = os.environ | client_environment(security)
        return subprocess.run([*command, *options.grade], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
