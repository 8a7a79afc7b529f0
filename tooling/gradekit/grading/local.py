"""Grading on this machine: threads that each drive a sandboxed kernel, one fork server for each set of preloads."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from gradekit.course import Course
from gradekit.grading.execute import execute
from gradekit.grading.job import Job, Outcome
from gradekit.grading.run import Graded, grade
from gradekit.kernels import ForkServer


class LocalGrader:
    """A context in which assignments are graded; its servers and kernels are gone when it ends.

    Args:
        width: jobs at a time.
    """

    def __init__(self, width: int) -> None:
        self.width = width
        self._lock = threading.Lock()
        self._servers: dict[tuple[str, ...], ForkServer] = {}

    def __enter__(self) -> LocalGrader:
        self._pool = ThreadPoolExecutor(self.width, thread_name_prefix="gradekit")
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        for server in self._servers.values():
            server.close()

    def grade(self, course: Course, assignment: str, **options: Any) -> Graded:
        """``gradekit.grading.run.grade`` on this machine; takes its keyword arguments."""
        return grade(course, assignment, executor=self._pool, execute=self.execute, width=self.width, **options)

    def execute(self, job: Job) -> Outcome:
        return execute(job, self._server(job.preload))

    def _server(self, preload: tuple[str, ...]) -> ForkServer:
        with self._lock:
            if preload not in self._servers:
                self._servers[preload] = ForkServer(preload)
            return self._servers[preload]
