"""Kernel manager and client that lose no time: for nbclient, papermill and whoever takes an AsyncKernelManager."""

from __future__ import annotations

import asyncio
import secrets
from queue import Empty
from typing import Any

from jupyter_client.asynchronous import AsyncKernelClient
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager

from gradekit.integrity.guard import Guard
from gradekit.kernels.forkserver import ForkServer, KernelProcess
from gradekit.kernels.limits import Death, KernelRequest
from gradekit.kernels.provisioner import ForkProvisioner


class FastClient(AsyncKernelClient):
    """No heartbeat (a death arrives on the control socket), and ready without polling."""

    def start_channels(self, *args: Any, **kwargs: Any) -> None:
        kwargs["hb"] = False
        super().start_channels(*args, **kwargs)

    async def wait_for_ready(self, timeout: float | None = None) -> None:
        """Until ipykernel's ``iopub_welcome``: our subscription has arrived, nothing can be lost any more."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (timeout or 60)
        while True:
            try:
                message = await self.get_iopub_msg(timeout=0.05)
            except Empty:
                if self.parent is None or not await self.parent.is_alive():
                    raise RuntimeError("the kernel died before it was ready") from None
                if loop.time() > deadline:
                    raise RuntimeError("the kernel did not become ready in time") from None
                continue
            if message["msg_type"] == "iopub_welcome":
                return


class SandboxedKernelManager(AsyncKernelManager):
    """An AsyncKernelManager whose kernels are forks of ``server``, each for ``request``."""

    provisioner: ForkProvisioner | None = None

    def __init__(self, *, server: ForkServer, request: KernelRequest, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.server, self.request = server, request
        self._kernel_spec = KernelSpec(argv=["-"], display_name="gradekit", language="python", interrupt_mode="signal")
        self.client_factory = FastClient
        self._clients: list[AsyncKernelClient] = []

    @property
    def process(self) -> KernelProcess:
        """The kernel, once started."""
        if self.provisioner is None or self.provisioner.process is None:
            raise RuntimeError("no kernel was started yet")
        return self.provisioner.process

    @property
    def guard(self) -> Guard:
        """What keeps watch over the kernel's tests, once it is started."""
        return self.process.guard

    @property
    def death(self) -> Death | None:
        """Why the kernel ended; None while it lives, or before there was one."""
        return self.provisioner.process.death if self.provisioner and self.provisioner.process else None

    async def start_kernel(self, **kwargs: Any) -> None:  # type: ignore[override]
        self._attempted_start = True
        self.shutting_down = False
        self._launch_args = {}
        self.kernel_id = self.kernel_id or secrets.token_hex(8)
        if self.provisioner is None:
            self.provisioner = ForkProvisioner(parent=self, kernel_id=self.kernel_id, kernel_spec=self._kernel_spec)
            self.provisioner.server = self.server
        self.provisioner.request = self.request
        self.load_connection_info(await self.provisioner.launch_kernel([]))

    async def shutdown_kernel(self, now: bool = False, restart: bool = False) -> None:  # type: ignore[override]
        """A fork that has given its outcome has nothing to put in order: it is killed, with all it started."""
        self.shutting_down = True
        if self.provisioner is not None:
            await self.provisioner.kill()
            await self.provisioner.wait()
        await self.cleanup_resources(restart=restart)

    async def restart_kernel(self, now: bool = False, newports: bool = False, **kwargs: Any) -> None:  # type: ignore[override]
        await self.shutdown_kernel(restart=True)
        await self.start_kernel()

    async def is_alive(self) -> bool:  # type: ignore[override]
        return await self._async_is_alive()

    def client(self, **kwargs: Any) -> AsyncKernelClient:  # type: ignore[override]
        client: AsyncKernelClient = super().client(**kwargs)
        self._clients.append(client)
        return client

    async def cleanup_resources(self, restart: bool = False) -> None:  # type: ignore[override]
        self.discard()

    def discard(self) -> None:
        """End the kernel, if there is one, and wait until nothing of it is left. Needs no event loop."""
        if self.provisioner is not None and self.provisioner.process is not None:
            self.provisioner.process.kill("its work was done")
            self.provisioner.process.wait(10)
        while self._clients:
            client = self._clients.pop()
            client.stop_channels()
            client.context.destroy(linger=0)
        if self._created_context:
            self.context.destroy(linger=0)
            self._created_context = False
