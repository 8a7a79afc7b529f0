"""Grading on a Dask cluster: the same jobs, on whatever workers are there; nothing is shared with them but the jobs.

Each worker keeps fork servers of its own. A job that wants a GPU goes to a worker that was started with the resource
``GPU`` (``dask worker ... --resources GPU=1``), where there is one. When a worker is lost, Dask runs its jobs again on
another; workers may come and go.
"""

from __future__ import annotations

import platform
import time
import uuid
import warnings
from concurrent.futures import Future
from importlib import metadata
from queue import SimpleQueue
from typing import Any, cast

import distributed
from distributed.diagnostics.plugin import WorkerPlugin

from gradekit.course import Course, CourseError
from gradekit.grading.job import Job, Outcome
from gradekit.grading.local import Servers, visible_gpus
from gradekit.grading.run import Graded, grade

CONNECT_S = 10
WORKERS_S = 60
#: How long the number of a cluster's workers is taken to stay as it is.
SIZE_S = 2.0


class WorkerServers(WorkerPlugin):
    """What one run keeps on each worker: fork servers, which go when the run ends or the worker does, and GPUs.

    Args:
        versions: those of the machine that sends the jobs; a worker must have the same.
    """

    def __init__(self, versions: dict[str, str]) -> None:
        self.versions = versions
        self.name = f"gradekit-{uuid.uuid4().hex}"

    def setup(self, worker: distributed.Worker) -> None:
        """Called by Dask on each worker, also on those that join later.

        Raises:
            RuntimeError: the worker has other versions.
        """
        own = versions()
        other = [f"{name} {own[name]}, not {wanted}" for name, wanted in self.versions.items() if own[name] != wanted]
        if other:
            raise RuntimeError(f"worker {worker.address} has {' and '.join(other)}")
        count = int(worker.state.total_resources.get("GPU", 0))
        devices = visible_gpus() or [str(number) for number in range(count)]
        self.servers = Servers()
        self.free: SimpleQueue[str] = SimpleQueue()
        for device in devices[:count]:
            self.free.put(device)

    def teardown(self, worker: distributed.Worker) -> None:
        """Called by Dask at the end."""
        if hasattr(self, "servers"):
            self.servers.close()

    def execute(self, job: Job, *, gpu: bool) -> Outcome:
        """Run a job here, with a GPU of this worker if it is to have one."""
        if not gpu:
            return self.servers.execute(job)
        device = self.free.get()
        try:
            return self.servers.execute(job, device)
        finally:
            self.free.put(device)


def versions() -> dict[str, str]:
    """What must be the same on both sides: jobs travel as pickles of this Python's objects."""
    return {
        "gradekit": metadata.version("spark-course"),
        "Python": ".".join(platform.python_version_tuple()[:2]),
        "distributed": distributed.__version__,
    }


def execute_on_worker(plugin: str, job: Job, gpu: bool) -> Outcome:
    """Run a job on the worker that this is called on."""
    servers = cast(WorkerServers, distributed.get_worker().plugins[plugin])
    return servers.execute(job, gpu=gpu)


class ClusterGrader:
    """A context in which assignments are graded on a cluster; nothing of it is left there when it ends.

    Args:
        address: a Dask scheduler's, such as ``tcp://host:8786``.

    Raises:
        CourseError: no scheduler or no worker answers, or a worker has other versions.
    """

    def __init__(self, address: str) -> None:
        self.address = address

    def __enter__(self) -> ClusterGrader:
        try:
            self._client = distributed.Client(self.address, timeout=CONNECT_S, set_as_default=False)
        except (OSError, ValueError) as error:
            raise CourseError(
                f"No Dask scheduler answers at {self.address} ({error}). Start one with `dask scheduler`."
            ) from None
        try:
            self._client.wait_for_workers(1, timeout=WORKERS_S)
            self._plugin = WorkerServers(versions())
            self._client.register_plugin(self._plugin)
        except TimeoutError:
            self._client.close()
            raise CourseError(
                f"The scheduler at {self.address} has no workers. Start some with `dask worker {self.address}`."
            ) from None
        except Exception as error:  # whatever a worker says that cannot load this package
            self._client.close()
            raise CourseError(
                f"The cluster at {self.address} cannot grade: {error}. "
                "Install the same Python, gradekit and constraints.txt on every worker as here."
            ) from None
        self._size, self._size_at = (0, False), 0.0
        self._executors = {
            False: self._client.get_executor(pure=False),
            True: self._client.get_executor(pure=False, resources={"GPU": 1}),
        }
        return self

    def __exit__(self, *_: object) -> None:
        if self._client.status == "running":
            self._client.unregister_worker_plugin(self._plugin.name)
        self._client.close()

    @property
    def width(self) -> int:
        return self._measure()[0]

    @property
    def gpu(self) -> bool:
        return self._measure()[1]

    def submit(self, job: Job) -> Future[Outcome]:
        """See ``gradekit.grading.run.Workers``.

        Raises:
            CourseError: the cluster is gone.
        """
        if self._client.status not in ("running", "connecting"):
            raise CourseError(
                f"The cluster at {self.address} is gone. What was graded is recorded; the same command goes on."
            )
        gpu = job.gpu and self.gpu
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sending large graph")  # a submission with large files
            return self._executors[gpu].submit(execute_on_worker, self._plugin.name, job, gpu)

    def grade(self, course: Course, assignment: str, **options: Any) -> Graded:
        """``gradekit.grading.run.grade`` on the cluster; takes its keyword arguments."""
        return grade(course, assignment, self, **options)

    def _measure(self) -> tuple[int, bool]:
        """The threads of all workers, at least one, and whether any has a GPU."""
        if time.monotonic() - self._size_at > SIZE_S and self._client.status == "running":
            workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
            threads = sum(worker["nthreads"] for worker in workers)
            self._size = max(1, threads), any(worker["resources"].get("GPU") for worker in workers)
            self._size_at = time.monotonic()
        return self._size
