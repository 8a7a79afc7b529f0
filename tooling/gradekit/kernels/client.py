"""nbclient's NotebookClient for sandboxed kernels: it notices a death at once, keeps time, and never waits for ever."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nbclient import NotebookClient
from nbclient.exceptions import CellControlSignal, CellExecutionError, DeadKernelError
from nbclient.util import run_sync
from nbformat import NotebookNode

from gradekit.kernels.limits import Death
from gradekit.kernels.manager import SandboxedKernelManager

INTERRUPT_GRACE_S = 2.0


class SandboxedNotebookClient(NotebookClient):
    """Runs a notebook's cells in the kernel of a SandboxedKernelManager.

    A cell that outlives ``timeout`` (seconds) is interrupted; if it does not stop within two seconds, the kernel is
    killed. A dead kernel raises DeadKernelError from ``execute_cell`` and ``execute``; ``death`` then says why.
    ``seconds`` maps the index of each cell that was run to the seconds it took, ``timed_out`` holds those interrupted.
    """

    def __init__(self, nb: NotebookNode, km: SandboxedKernelManager, **kwargs: Any) -> None:
        kwargs.setdefault("allow_errors", True)
        kwargs.setdefault("interrupt_on_timeout", True)
        super().__init__(nb, km=km, **kwargs)
        self._manager = km
        self.seconds: dict[int, float] = {}
        self.timed_out: set[int] = set()
        self._running: int | None = None
        self._killer: asyncio.TimerHandle | None = None

    @property
    def death(self) -> Death | None:
        """Why the kernel ended; None while it lives."""
        return self._manager.death

    @contextmanager
    def aside(self, cell: NotebookNode, cell_index: int) -> Iterator[None]:
        """A cell that is run in here leaves the notebook as it is, also where it addresses what is displayed there."""
        notebook, displays = self.nb, self._display_id_map
        cells = [*notebook.cells]
        cells[cell_index] = cell
        self.nb, self._display_id_map = NotebookNode(notebook, cells=cells), {}
        try:
            yield
        finally:
            self.nb, self._display_id_map = notebook, displays

    async def async_execute_cell(
        self, cell: NotebookNode, cell_index: int, execution_count: int | None = None, store_history: bool = True
    ) -> NotebookNode:
        process = self._manager.process
        loop = asyncio.get_running_loop()
        started = time.monotonic()
        self._running = cell_index
        self._manager.guard.sent(cell.source)
        work = asyncio.ensure_future(super().async_execute_cell(cell, cell_index, execution_count, store_history))
        process.on_death(lambda: _call_in(loop, work.cancel))
        try:
            done = await work
            self._manager.guard.saw(*_outcome(done))
            return done
        except asyncio.CancelledError:
            if process.alive:  # we were cancelled, not the kernel
                raise
            raise DeadKernelError(f"Kernel died: {self._why()}") from None
        except (CellControlSignal, CellExecutionError):
            raise
        except DeadKernelError:
            process.wait(5)
            raise DeadKernelError(f"Kernel died: {self._why()}") from None
        except Exception as error:  # what a hostile kernel sent was not what nbclient expects
            process.kill(f"it broke the protocol: {type(error).__name__}: {error}"[:300])
            process.wait(5)
            raise DeadKernelError(f"Kernel died: {self._why()}") from error
        finally:
            self._running = None
            if self._killer:
                self._killer.cancel()
                self._killer = None
            self.seconds[cell_index] = time.monotonic() - started

    execute_cell = run_sync(async_execute_cell)

    async def async_wait_for_reply(self, msg_id: str, cell: NotebookNode | None = None) -> dict[str, Any] | None:
        process = self._manager.process
        loop = asyncio.get_running_loop()
        work = asyncio.ensure_future(super().async_wait_for_reply(msg_id, cell))
        process.on_death(lambda: _call_in(loop, work.cancel))
        try:
            return await work
        except asyncio.CancelledError:
            if process.alive:
                raise
            raise DeadKernelError(f"Kernel died: {self._why()}") from None

    async def _async_handle_timeout(self, timeout: int, cell: NotebookNode | None = None) -> None:
        process = self._manager.process
        if self._running is not None:
            self.timed_out.add(self._running)
        if self._killer is None:
            process.interrupt()
            reason = f"a cell ran for more than {timeout} s and did not stop when interrupted"
            loop = asyncio.get_running_loop()
            self._killer = loop.call_later(INTERRUPT_GRACE_S, lambda: process.kill(reason, limit="wall"))

    async def _async_poll_kernel_alive(self) -> None:
        """nbclient asks once a second; we are told (see async_execute_cell)."""

    def _why(self) -> str:
        return self.death.reason if self.death else "unknown cause"


def _outcome(cell: NotebookNode) -> tuple[bool, list[str]]:
    """Whether a cell's outputs hold an error, and the results that they show."""
    kinds = [output.output_type for output in cell.outputs]
    shown = [output.data.get("text/plain", "") for output in cell.outputs if output.output_type == "execute_result"]
    return "error" in kinds, shown


def _call_in(loop: asyncio.AbstractEventLoop, function: Any) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(function)
