"""Grading on this machine: threads that each drive a sandboxed kernel, one fork server for each set of preloads."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from gradekit.course import Course
from gradekit.grading.execute import execute
from gradekit.grading.job import Job, Outcome
from gradekit.grading.run import Graded, grade
from gradekit.kernels import ForkServer


class Servers:
    """The fork servers of this process, made on first use. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._servers: dict[tuple[str, ...], ForkServer] = {}

    def execute(self, job: Job, gpu: str | None = None) -> Outcome:
        """Run a job; ``gpu`` is what CUDA_VISIBLE_DEVICES is to be."""
        with self._lock:
            server = self._servers.setdefault(job.preload, ForkServer(job.preload))
        return execute(job, server, gpu)

    def close(self) -> None:
        """End all servers and their kernels."""
        for server in self._servers.values():
            server.close()


class LocalGrader:
    """A context in which assignments are graded; its servers and kernels are gone when it ends.

    Args:
        width: jobs at a time that want no GPU.
        gpus: devices, as CUDA_VISIBLE_DEVICES names them; each runs one job at a time.
    """

    def __init__(self, width: int, gpus: Sequence[str] = ()) -> None:
        self._cpu_width, self._gpus = width, tuple(gpus)
        self._servers = Servers()
        self._free: SimpleQueue[str] = SimpleQueue()
        for gpu in self._gpus:
            self._free.put(gpu)

    def __enter__(self) -> LocalGrader:
        self._pool = ThreadPoolExecutor(self._cpu_width, thread_name_prefix="gradekit")
        self._gpu_pool = ThreadPoolExecutor(max(1, len(self._gpus)), thread_name_prefix="gradekit-gpu")
        return self

    def __exit__(self, *_: object) -> None:
        for pool in (self._pool, self._gpu_pool):
            pool.shutdown(cancel_futures=True)
        self._servers.close()

    @property
    def width(self) -> int:
        return self._cpu_width + len(self._gpus)

    @property
    def gpu(self) -> bool:
        return bool(self._gpus)

    def submit(self, job: Job) -> Future[Outcome]:
        """See ``gradekit.grading.run.Workers``."""
        if job.gpu and self._gpus:
            return self._gpu_pool.submit(self._on_a_gpu, job)
        return self._pool.submit(self._servers.execute, job)

    def grade(self, course: Course, assignment: str, **options: Any) -> Graded:
        """``gradekit.grading.run.grade`` on this machine; takes its keyword arguments."""
        return grade(course, assignment, self, **options)

    def _on_a_gpu(self, job: Job) -> Outcome:
        gpu = self._free.get()
        try:
            return self._servers.execute(job, gpu)
        finally:
            self._free.put(gpu)


def visible_gpus() -> tuple[str, ...]:
    """This machine's GPUs by CUDA_VISIBLE_DEVICES, else by their device nodes: before a fork, CUDA is not asked."""
    if (named := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return tuple(name.strip() for name in named.split(",") if name.strip())
    numbers = (path.name.removeprefix("nvidia") for path in Path("/dev").glob("nvidia[0-9]*"))
    return tuple(sorted(numbers, key=int))
