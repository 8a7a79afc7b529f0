"""A jupyter_client kernel provisioner: any Jupyter program starts sandboxed forks by naming the kernel ``gradekit``."""

from __future__ import annotations

import asyncio
import atexit
import os
import signal
import threading
from pathlib import Path
from typing import Any, cast

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.provisioning import KernelProvisionerBase
from traitlets import Dict, List, Unicode

from gradekit.kernels import preload
from gradekit.kernels.forkserver import FLOOR, ForkServer, KernelProcess
from gradekit.kernels.limits import KernelRequest, Limits

PASSED_ON = ("NBGRADER_EXECUTION", "NBGRADER_VALIDATING", "NUMBA_ENABLE_CUDASIM")
IDLE_S = 600.0  # a Jupyter server lives for weeks, and grades now and then

_servers: dict[tuple[Any, ...], ForkServer] = {}
_servers_lock = threading.Lock()


def shared_server(preloads: tuple[str, ...], floor: str, cores: int, env: dict[str, str]) -> ForkServer:
    """This process's server for a set of preloads: made on first use, closed at exit."""
    key = (preloads, floor, cores, tuple(sorted(env.items())))
    with _servers_lock:
        if key not in _servers:
            server = _servers[key] = ForkServer(preloads, floor=floor, cores=cores, env=env, idle_s=IDLE_S)
            atexit.register(server.close)
        return _servers[key]


class ForkProvisioner(KernelProvisionerBase):
    """Kernels from a fork server. The folder in which a program would start the kernel becomes its work folder."""

    preload = List(
        Unicode(),
        default_value=None,
        allow_none=True,
        help="Modules to import before the fork; by default, what the notebooks in the folder import.",
    ).tag(config=True)
    limits = Dict(help="Limits by name, such as {'memory_bytes': 2147483648}: see Limits.").tag(config=True)
    floor = Unicode(FLOOR, help="The lowest sandbox level to accept: namespaces, container, or none.").tag(config=True)

    server: ForkServer | None = None
    request: KernelRequest | None = None
    process: KernelProcess | None = None

    @property
    def has_process(self) -> bool:
        return self.process is not None

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        """From a stock kernel manager: ``cwd`` and ``env`` tell which files and settings the notebook is given."""
        kwargs = await super().pre_launch(cmd=[], **kwargs)
        folder = Path(kwargs.get("cwd") or os.getcwd())
        modules = preload.choose(sorted(folder.glob("*.ipynb"))) if self.preload is None else tuple(self.preload)
        env = {name: kwargs["env"][name] for name in PASSED_ON if name in kwargs["env"]}
        early = {k: v for k, v in env.items() if k.startswith("NUMBA_")}
        self.server = shared_server(modules, self.floor, 1, early)
        self.request = KernelRequest(files=folder, limits=Limits(**self.limits), env=env)
        return kwargs

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        assert self.server is not None
        loop = asyncio.get_running_loop()
        self.process = await loop.run_in_executor(None, self.server.spawn, self.request)
        self.connection_info = cast(KernelConnectionInfo, self.process.connection_info)
        return self.connection_info

    async def poll(self) -> int | None:
        if self.process is None:
            return 0
        if self.process.death is None:
            return None
        return self.process.death.status if self.process.death.status is not None else -signal.SIGKILL

    async def wait(self) -> int | None:
        if self.process is None:
            return 0
        loop = asyncio.get_running_loop()
        ended = loop.create_future()

        def tell() -> None:
            loop.call_soon_threadsafe(lambda: None if ended.done() else ended.set_result(None))

        self.process.on_death(tell)
        await ended
        status = await self.poll()
        self.process = None
        return status

    async def send_signal(self, signum: int) -> None:
        if self.process is None:
            return
        if signum == signal.SIGINT:
            self.process.interrupt()
        elif signum in (signal.SIGKILL, signal.SIGTERM):
            await self.kill()

    async def kill(self, restart: bool = False) -> None:
        if self.process is not None:
            self.process.kill("it was shut down")

    async def terminate(self, restart: bool = False) -> None:
        await self.kill()

    async def shutdown_requested(self, restart: bool = False) -> None:
        await self.kill()

    async def cleanup(self, restart: bool = False) -> None:
        await self.kill()
