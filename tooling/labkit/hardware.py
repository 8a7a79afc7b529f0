"""What this machine has, and what a lab can run on it.

Importing this module, and asking it anything, never initialises CUDA: a process that is to be forked (the grader's
kernel server) may use it. The GPU is described by NVML, the library under nvidia-smi, which makes no CUDA context.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Literal

GIB = 2**30

Status = Literal["ok", "warning", "error"]
Tier = Literal["cpu", "gpu-optional", "gpu-required"]


class NotGradedHere(Exception):
    """This test needs hardware that this machine lacks: its points are neither earned nor lost here.

    Raised by `require_gpu` in a test cell. The grader reports the cell as not graded on this machine.
    """


@dataclass(frozen=True)
class GPU:
    """An NVIDIA GPU.

    Attributes:
        name: as the driver gives it, such as "NVIDIA GB10".
        compute_capability: (major, minor).
        memory: bytes that the GPU can allocate from; the machine's own memory where it is unified.
        unified: CPU and GPU share one physical memory.
        driver: version of the driver, such as "580.95.05".
        cuda: newest CUDA version that the driver supports, (major, minor).
    """

    name: str
    compute_capability: tuple[int, int]
    memory: int
    unified: bool
    driver: str
    cuda: tuple[int, int]


@dataclass(frozen=True)
class Machine:
    """This computer: its product name ("" if unknown), processor, cores of this process, memory in bytes and GPU."""

    product: str
    architecture: str
    cores: int
    memory: int
    gpu: GPU | None

    @property
    def is_spark(self) -> bool:
        """A DGX Spark, or another maker's computer around the same GB10."""
        return "DGX Spark" in self.product.replace("_", " ") or (self.gpu is not None and "GB10" in self.gpu.name)

    def can_run(self, tier: Tier) -> bool:
        """Whether a lab of this tier runs here; a gpu-optional one runs in the simulator where there is no GPU."""
        if tier not in ("cpu", "gpu-optional", "gpu-required"):
            raise ValueError(f"a lab's tier is cpu, gpu-optional or gpu-required, not {tier!r}")
        return tier != "gpu-required" or self.gpu is not None


@dataclass(frozen=True)
class Device:
    """Where `numba.cuda` kernels run in this process. Prints as its name: the GPU's, or "simulator"."""

    name: str
    simulated: bool

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Check:
    """One line of the doctor: what was looked at, how it is, what was found, and what to do about it."""

    name: str
    status: Status
    detail: str
    todo: str = ""


@cache
def machine() -> Machine:
    """Describe this machine. Cached: hardware does not change under a running process."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(
        product=_read("/sys/class/dmi/id/product_name"),
        architecture=platform.machine(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory=memory,
        gpu=_find_gpu(memory),
    )


def prepare_cuda() -> Device:
    """Choose where `numba.cuda` kernels run. Call it before `from numba import cuda`.

    Without a GPU, or when NUMBA_ENABLE_CUDASIM=1 asks for it, kernels run in `labkit.cudasim`. `numba` itself may
    have been imported already, in this process or in the one that it was forked from; `numba.cuda` may not.

    Returns:
        The device; it prints as "NVIDIA GB10", say, or "simulator".

    Raises:
        RuntimeError: the simulator is needed, and `numba.cuda` was imported before without it.
    """
    gpu = machine().gpu
    asked = os.environ.get("NUMBA_ENABLE_CUDASIM", "0") not in ("", "0")
    if gpu is not None and not asked and not simulating():
        return Device(gpu.name, simulated=False)
    _enable_simulator()
    return Device("simulator", simulated=True)


def simulating() -> bool:
    """Whether `numba.cuda` has been imported in this process and is a simulator."""
    cuda = sys.modules.get("numba.cuda")
    return cuda is not None and "simulator" in cuda.to_device.__module__


def require_gpu(what: str) -> None:
    """Go on if kernels run on a GPU here; else raise `NotGradedHere`.

    Args:
        what: what needs it, such as "warp shuffles".

    Raises:
        NotGradedHere: there is no GPU, or this process uses the simulator.
    """
    if machine().gpu is None or simulating():
        raise NotGradedHere(f"{what}: needs a GPU. Not graded on this machine; no points are earned or lost here.")


def checks() -> list[Check]:
    """Look at everything that a lab stands on. Never raises; takes a few seconds, for the kernels that it runs.

    The kernels run in processes of their own, so that CUDA is not initialised in this one.
    """
    here = machine()
    return [
        _check_python(), *_check_packages(),
        _check_gpu(here), *_check_kernels(here), _check_memory(here), _check_disk(),
    ]


def greeting() -> str:
    """One line that says where you are."""
    here = machine()
    if here.is_spark:
        return f"Hello, DGX Spark: {here.memory / GIB:.0f} GiB of unified memory, all of it within the GPU's reach."
    if here.gpu is not None:
        return f"Hello, {here.gpu.name}."
    return "Hello. This machine has no NVIDIA GPU: kernels run in a simulator, at sizes that it can bear."


def _enable_simulator() -> None:
    if "numba.cuda" in sys.modules and not simulating():
        raise RuntimeError(
            "numba.cuda was imported before it was told to simulate. Restart the kernel, and call "
            "hardware.prepare_cuda() before the first `from numba import cuda`."
        )
    from labkit import cudasim  # imports numba, which a process that only asks about the machine need not do

    cudasim.enable()


# ---- the GPU, by NVML (https://docs.nvidia.com/deploy/nvml-api/) ---------------------------------------------------


class _Memory(ctypes.Structure):
    _fields_ = [("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong)]


def _find_gpu(system_memory: int) -> GPU | None:
    """The first GPU that CUDA would show to this process, or None."""
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    if wanted in ("", "-1", "NoDevFiles"):
        return None
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    if nvml.nvmlInit_v2() != 0:
        return None
    try:
        return _describe_gpu(nvml, wanted, system_memory)
    finally:
        nvml.nvmlShutdown()


def _describe_gpu(nvml: ctypes.CDLL, wanted: str, system_memory: int) -> GPU | None:
    handle = ctypes.c_void_p()
    if wanted.isdecimal():
        found = nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(int(wanted)), ctypes.byref(handle))
    else:
        found = nvml.nvmlDeviceGetHandleByUUID(wanted.encode(), ctypes.byref(handle))
    if found != 0:
        return None
    name, driver = ctypes.create_string_buffer(96), ctypes.create_string_buffer(80)
    major, minor, cuda, memory = ctypes.c_int(), ctypes.c_int(), ctypes.c_int(), _Memory()
    nvml.nvmlDeviceGetName(handle, name, ctypes.c_uint(len(name)))
    nvml.nvmlSystemGetDriverVersion(driver, ctypes.c_uint(len(driver)))
    nvml.nvmlSystemGetCudaDriverVersion_v2(ctypes.byref(cuda))
    nvml.nvmlDeviceGetCudaComputeCapability(handle, ctypes.byref(major), ctypes.byref(minor))
    # A GPU without memory of its own answers "not supported": it allocates from the machine's.
    unified = nvml.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)) != 0 or b"GB10" in name.value
    return GPU(
        name=name.value.decode(),
        compute_capability=(major.value, minor.value),
        memory=system_memory if unified else memory.total,
        unified=unified,
        driver=driver.value.decode(),
        cuda=(cuda.value // 1000, cuda.value % 1000 // 10),
    )


# ---- the doctor's lines --------------------------------------------------------------------------------------------

_PACKAGES = ("numpy", "torch", "numba", "numba-cuda", "matplotlib")

# A barrier and a shuffle in each block, on the GPU or in the simulator as the environment says.
_KERNEL = """
import json
from labkit import hardware
device = hardware.prepare_cuda()
import numpy as np
from numba import cuda, float32

@cuda.jit
def add(x, y):
    slots = cuda.shared.array(2, float32)
    t = cuda.threadIdx.x
    value = x[cuda.grid(1)]
    for offset in (16, 8, 4, 2, 1):
        value += cuda.shfl_down_sync(0xFFFFFFFF, value, offset)
    if t % 32 == 0:
        slots[t // 32] = value
    cuda.syncthreads()
    if t == 0:
        y[cuda.blockIdx.x] = slots[0] + slots[1]

x, y = np.arange(192, dtype=np.float32), np.zeros(3, dtype=np.float32)
add[3, 64](x, y)
assert (y == x.reshape(3, 64).sum(1)).all(), f"wrong sums: {y}"
print(json.dumps("0 to 191 added in 3 blocks of 64 threads, with shuffles and a barrier"))
"""


def _check_python() -> Check:
    version = platform.python_version()
    if sys.version_info < (3, 11):  # noqa: UP036  the one place where an older Python is told what it is
        return Check("Python", "error", version, "install Python 3.11 and make the environment again with it")
    return Check("Python", "ok", f"{version} on {platform.machine()} ({sys.executable})")


def _check_packages() -> list[Check]:
    found: list[Check] = []
    for name in _PACKAGES:
        try:
            found.append(Check(name, "ok", metadata.version(name)))
        except metadata.PackageNotFoundError:
            found.append(Check(name, "error", "not installed", f"python -m pip install {name}"))
    return found


def _check_gpu(here: Machine) -> Check:
    gpu = here.gpu
    if gpu is None:
        if here.is_spark:
            return Check(
                "GPU", "error", "this is a DGX Spark, and its GPU does not show",
                "run nvidia-smi; in a container, start it with --gpus all",
            )
        todo = "nothing, but for labs marked gpu-required: they need another machine"
        return Check("GPU", "warning", "none; kernels run in a simulator", todo)
    major, minor = gpu.compute_capability
    detail = (
        f"{gpu.name}, compute capability {major}.{minor}, {gpu.memory / GIB:.0f} GiB"
        f"{' unified with the CPU' if gpu.unified else ''}, driver {gpu.driver} (CUDA {gpu.cuda[0]}.{gpu.cuda[1]})"
    )
    return Check("GPU", "ok", detail)


def _check_kernels(here: Machine) -> list[Check]:
    # The toolkit's version has to be the driver's or older.
    found = [] if here.gpu is None else [
        _run_kernel("CUDA kernel", "0", f'python -m pip install "numba-cuda[cu{min(here.gpu.cuda[0], 13)}]"')
    ]
    return [*found, _run_kernel("CUDA simulator", "1", "install numba and numba-cuda as constraints.txt has them")]


def _run_kernel(name: str, simulate: str, todo: str) -> Check:
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": simulate}
    try:
        done = subprocess.run(
            [sys.executable, "-c", _KERNEL], env=environment, capture_output=True, text=True, timeout=120, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Check(name, "error", f"{type(error).__name__}: {error}", todo)
    if done.returncode != 0:
        last = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]
        return Check(name, "error", last, todo)
    return Check(name, "ok", json.loads(done.stdout.splitlines()[-1]))


def _check_memory(here: Machine) -> Check:
    available = _available_memory()
    detail = f"{here.memory / GIB:.1f} GiB"
    if available is not None:
        detail += f", {available / GIB:.1f} GiB of it available"
    if available is not None and available < 2 * GIB:
        todo = "close what you do not need; a lab may take 2 GiB"
        if here.is_spark:
            # Unified memory: what the page cache holds is not free for the GPU.
            todo = "clear the buffer cache: sudo sh -c 'sync; echo 3 > /proc/sys/vm/drop_caches'"
        return Check("memory", "warning", detail, todo)
    return Check("memory", "ok", detail)


def _check_disk() -> Check:
    free = shutil.disk_usage(Path.cwd()).free
    detail = f"{free / GIB:.1f} GiB free in {Path.cwd()}"
    if free < 0.1 * GIB:
        return Check("disk", "error", detail, "free some space: notebooks cannot be saved on a full disk")
    if free < 2 * GIB:
        return Check("disk", "warning", detail, "free some space before a lab that writes models")
    return Check("disk", "ok", detail)


def _available_memory() -> int | None:
    """Bytes that can be had without swapping, by Linux's own estimate."""
    for line in _read("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
