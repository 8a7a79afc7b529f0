"""ipykernel, cut in two around the fork.

Before it, in the server: all of IPKernelApp.initialize() that needs no socket, thread or event loop. After it, in the
locked-in child: sockets, threads, streams. Five listening unix sockets come in as descriptors (ZMQ_USE_FD), so the
kernel binds nothing, has no connection file and no path that anyone could connect to from inside.
"""

from __future__ import annotations

import asyncio
import os
import sys
import uuid
from pathlib import Path
from typing import Any, ClassVar

import ipykernel.debugger
import ipykernel.iostream
import IPython.core.completerlib
import IPython.core.debugger
import IPython.core.logger
import IPython.core.oinspect
import IPython.extensions.storemagic  # noqa: F401
import tornado.platform.asyncio  # noqa: F401
import zmq
from ipykernel.control import ControlThread
from ipykernel.kernelapp import IPKernelApp
from ipykernel.shellchannel import ShellChannelThread
from IPython.core.profiledir import ProfileDir
from zmq.eventloop.zmqstream import ZMQStream

CHANNELS = ("shell", "iopub", "stdin", "hb", "control")


def _show_a_traceback(shell: Any) -> None:
    """Formats one error: the first takes 40 ms, those after it 4. Keeps no frame of the server's."""
    try:
        raise AssertionError
    except AssertionError:
        shell.InteractiveTB.structured_traceback(*sys.exc_info())
    shell.InteractiveTB.tb = None


class ForkedKernelApp(IPKernelApp):
    """IPKernelApp whose sockets are given to it, and which is initialised in two halves."""

    descriptors: ClassVar[dict[int, int]] = {}  # channel number (1 to 5) -> listening socket

    @classmethod
    def prepare(cls) -> ForkedKernelApp:
        """The half before the fork. Leaves no thread, no event loop and no secret behind."""
        ipykernel.debugger._is_debugpy_available = False  # nobody debugs here, and its sockets cost time
        app = ForkedKernelApp.instance(transport="ipc", ip="/unused", log_level=50)
        app.ignore_cwd = True  # nothing of the submission comes before the libraries on sys.path
        super(IPKernelApp, app).initialize(["--HistoryManager.enabled=False"])
        app.init_pdb()
        app.kernel = app.kernel_class.instance(  # type: ignore[attr-defined]
            parent=app, session=app.session, log=app.log, profile_dir=app.profile_dir, user_ns=app.user_ns
        )
        app.init_path()
        app.init_shell()
        app.init_gui_pylab()
        app.init_extensions()
        app.init_code()
        assert app.shell is not None
        app.shell.run_cell("1", silent=True, store_history=False)  # fills the parser's and transformers' caches
        _show_a_traceback(app.shell)
        asyncio.set_event_loop(None)
        return app

    def attach(self, descriptors: list[int], key: bytes) -> None:
        """The half after the fork, in the locked-in child. ``descriptors``: listening sockets, as in CHANNELS."""
        ForkedKernelApp.descriptors = dict(enumerate(descriptors, start=1))
        for number, name in enumerate(CHANNELS, start=1):
            setattr(self, f"{name}_port", number)
        self.session.key = key
        self.session.session = str(uuid.uuid4())
        self.session.pid = os.getpid()
        profile = os.path.expanduser("~/.ipython/profile_default")
        os.makedirs(f"{profile}/db", exist_ok=True)
        self.profile_dir = ProfileDir.create_profile_dir(profile)
        assert self.shell is not None
        self.kernel.profile_dir = self.shell.profile_dir = self.profile_dir
        self.shell.db.root = Path(profile, "db")

        self.init_sockets()
        self.init_heartbeat()
        self.init_io()
        self.init_signal()
        self._connect_kernel()

    def _connect_kernel(self) -> None:
        """What Kernel.__init__ and IPKernelApp.init_kernel would have read from the sockets."""
        kernel, shell = self.kernel, self.shell
        assert shell is not None
        channel_thread = self.shell_channel_thread
        kernel.control_thread, kernel.shell_channel_thread = self.control_thread, channel_thread
        kernel.iopub_thread, kernel.iopub_socket = self.iopub_thread, self.iopub_socket
        kernel.stdin_socket = self.stdin_socket
        kernel.shell_stream = channel_thread.shell_stream = ZMQStream(self.shell_socket, channel_thread.io_loop)
        kernel.control_stream = ZMQStream(self.control_socket, self.control_thread.io_loop)
        self.control_thread.start()
        channel_thread.start()
        kernel._stdout, kernel._stderr = sys.stdout, sys.stderr
        shell.displayhook.pub_socket = shell.display_pub.pub_socket = self.iopub_socket
        self.displayhook.get_execution_count = lambda: kernel.execution_count

    # -- what IPKernelApp calls while the second half runs ------------------------------------------------------------

    def _try_bind_socket(self, s: Any, port: int) -> int:
        s.setsockopt(zmq.USE_FD, self.descriptors[port])
        s.bind(f"ipc:///given-{port}")
        return port

    def init_control(self, context: Any) -> None:
        """As in ipykernel, less the debugger's sockets: one of them would try to reach our shell's path for ever."""
        self.control_socket = context.socket(zmq.ROUTER)
        self.control_socket.linger = 1000
        self.control_port = self._bind_socket(self.control_socket, self.control_port)
        self.control_socket.router_handover = 1
        self.control_thread = ControlThread(daemon=True)
        self.shell_channel_thread = ShellChannelThread(context, daemon=True)

    def init_heartbeat(self) -> None:
        """Only to answer stock clients; ours hears of a death from the fork server."""
        app = self

        class Heartbeat(ipykernel.heartbeat.Heartbeat):
            def _try_bind_socket(self) -> None:
                app._try_bind_socket(self.socket, self.port)

        self.heartbeat = Heartbeat(zmq.Context(), (self.transport, self.ip, self.hb_port))
        self.heartbeat.start()


def _pipe_in(thread: Any) -> None:
    thread._pipe_uuid = os.urandom(16)
    thread._pipe_port = 0
    socket = thread.socket.context.socket(zmq.PULL)
    socket.linger = 0
    thread._pipe_path = f"ipc://{os.environ['TMPDIR']}/.iopub"
    socket.bind(thread._pipe_path)
    thread._pipe_in = ZMQStream(socket, thread.io_loop)
    thread._pipe_in.on_recv(thread._handle_pipe_msg)


def _pipe_out(thread: Any) -> tuple[Any, Any]:
    context = zmq.Context()
    socket = context.socket(zmq.PUSH)
    socket.linger = 3000
    socket.connect(thread._pipe_path)
    return context, socket


# ipykernel carries the prints of forked workers over TCP; libzmq aborts the process where internet sockets are denied.
ipykernel.iostream.IOPubThread._setup_pipe_in = _pipe_in  # type: ignore[method-assign]
ipykernel.iostream.IOPubThread._setup_pipe_out = _pipe_out  # type: ignore[method-assign]
