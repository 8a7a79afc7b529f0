"""What a forked child does: reads its request, locks itself in, becomes a kernel."""

from __future__ import annotations

import dataclasses
import gc
import json
import os
import random
import signal
import socket
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any

from gradekit.kernels import files, guardian, sandbox
from gradekit.kernels.limits import Limits

if TYPE_CHECKING:
    from gradekit.kernels.kernelapp import ForkedKernelApp

REFUSED, FAILED = 82, 83  # exit statuses before any student code ran
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS", "NUMBA_NUM_THREADS",
)  # fmt: skip


def run(
    inside: sandbox.Confinement,
    app: ForkedKernelApp,
    conversation: socket.socket,
    slot: int,
    number: int,
    guards: list[Any],
) -> None:
    """Never returns. Takes the guard out of ``guards``: frames and modules can be read by student code."""
    started = time.monotonic()
    try:
        for name in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
            signal.signal(name, signal.SIG_DFL)
        os.setsid()
        request, descriptors = _read_request(conversation)
        listeners, watched, packed = descriptors[:5], descriptors[5:7], descriptors[7:]
        guard_key = [bytes.fromhex(request.pop("guard"))]
        given_bytes, given_files = files.size_of(packed[0]) if packed else (0, 0)
        job = sandbox.JobPlan(
            slot=slot,
            number=number,
            limits=Limits(**request["limits"]),
            given_bytes=given_bytes,
            given_files=given_files,
            gpu=request["gpu"],
            keep=frozenset([*listeners, *watched, conversation.fileno()]),
        )
        if inside.level == "container":
            uid, folder = sandbox.job_uid(inside, slot), f"{inside.plan.jobs_dir}/{job.leaf}"
            channel = guardian.watch(uid, folder)
            job = dataclasses.replace(job, broker=channel, keep=job.keep | {channel})
        null = os.open("/dev/null", os.O_RDWR)
        for standard in (0, 1, 2):
            os.dup2(null, standard)
        os.close(null)
        work = sandbox.enter_job(inside, job)
        if packed:
            files.unpack(packed[0], work)
            os.close(packed[0])
        _set_environment(inside, job, request)
        sandbox.seal(inside, job)
        _freshen(request["cores"], work)
    except BaseException as error:
        _answer(conversation, {"error": f"{type(error).__name__}: {error}"})
        os._exit(REFUSED)
    _answer(conversation, {"level": inside.level, "sandbox_s": time.monotonic() - started})
    conversation.close()
    try:
        app.attach(listeners, request["key"].encode())
        guards.pop().start(*watched, guard_key.pop())
        gc.freeze()  # what the guard has made since the fork
        app.start()
    except BaseException:
        os._exit(FAILED)
    os._exit(0)


def _read_request(conversation: socket.socket) -> tuple[dict[str, Any], list[int]]:
    conversation.settimeout(10)
    data, descriptors, _, _ = socket.recv_fds(conversation, 1 << 16, 8)
    return json.loads(data), list(descriptors)


def _answer(conversation: socket.socket, message: dict[str, Any]) -> None:
    try:
        conversation.sendall(json.dumps(message).encode() + b"\n")
    except OSError:  # the launcher gave up: nobody wants this kernel
        os._exit(REFUSED)


def places(temporary: str) -> dict[str, str]:
    """Variables that name folders below the process's own temporary folder."""
    home = f"{temporary}/home"
    return {
        "HOME": home,
        "TMPDIR": temporary,
        "IPYTHONDIR": f"{home}/.ipython",
        "MPLCONFIGDIR": f"{home}/.config/matplotlib",
        "NUMBA_CACHE_DIR": f"{home}/.cache/numba",
    }


def settings(cores: int) -> dict[str, str]:
    """The environment that the server and its children have in common; nothing else is passed on."""
    return {
        "PATH": f"{sys.prefix}/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "TERM": "xterm-color",
        "USER": "student",
        "LOGNAME": "student",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        **dict.fromkeys(_THREAD_VARIABLES, str(cores)),
    }


def _set_environment(inside: sandbox.Confinement, job: sandbox.JobPlan, request: dict[str, Any]) -> None:
    if "environment" not in inside.plan.without:
        os.environ.clear()
    os.environ.update(settings(request["cores"]))
    os.environ.update(places(sandbox.temporary_directory(inside, job.leaf)))
    os.environ["CUDA_VISIBLE_DEVICES"] = request["gpu"] or ""
    os.environ.update(request["env"])
    time.tzset()


def _freshen(cores: int, work: str) -> None:
    """What a fork must not share with its siblings, and what was settled at import for the server only."""
    random.seed()
    tempfile.tempdir = None
    loaded = sys.modules
    if numpy := loaded.get("numpy"):
        numpy.random.seed()
    if torch := loaded.get("torch"):
        torch.default_generator.seed()
        torch.set_num_threads(cores)
    if process := loaded.get("multiprocessing.process"):
        process.current_process().authkey = os.urandom(32)
    if config := loaded.get("numba.core.config"):
        config.reload_config()
    sys.path.append(work)  # a student's own modules: found, but never instead of a library
