"""What the machine has: on this one, on a made-up Spark, and in processes that import numba in every order."""

import ctypes
import json
import subprocess
import sys

import pytest
from labkit import hardware
from labkit.__main__ import main

SPARK = hardware.GPU("NVIDIA GB10", (12, 1), 128 * 10**9, unified=True, driver="580.95.05", cuda=(13, 0))


def machine(gpu=None, product="", memory=16 * hardware.GIB):
    return hardware.Machine(product, "aarch64", 20, memory, gpu)


@pytest.fixture
def here(monkeypatch):
    """Let the machine be what the test says."""

    def become(described):
        monkeypatch.setattr(hardware, "machine", lambda: described)

    return become


def python(code, **environment):
    """Run code in a fresh process without a GPU; what it printed, or its last line of error."""
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PATH": "/usr/bin", "CUDA_VISIBLE_DEVICES": "", **environment},
        capture_output=True, text=True, timeout=120, check=False,
    )
    return done.stdout.strip() if done.returncode == 0 else done.stderr.strip().splitlines()[-1]


KERNEL = """
from numba import cuda
import numpy as np
@cuda.jit
def set_one(x):
    x[cuda.grid(1)] = 1
x = np.zeros(4)
set_one[2, 2](x)
from labkit import cudasim
print(device, x.sum(), hardware.simulating(), cudasim.is_enabled())
"""


@pytest.mark.parametrize("before", ["", "import numba", "import numba, os; os.fork() and (os.wait(), os._exit(0))"])
def test_kernels_run_in_the_simulator_whatever_was_imported_before(before):
    prepare = "from labkit import hardware; device = hardware.prepare_cuda(); device = hardware.prepare_cuda()"
    assert python(f"{before}\n{prepare}\n{KERNEL}") == "simulator 4.0 True True"


def test_numba_cuda_imported_for_a_gpu_cannot_be_turned_into_a_simulator():
    said = python("from numba import cuda\nfrom labkit import hardware\nhardware.prepare_cuda()")
    assert said.startswith("RuntimeError") and "Restart the kernel" in said


def test_asking_about_the_machine_imports_neither_numba_nor_cuda():
    code = "import sys; from labkit import hardware; hardware.machine(); hardware.greeting()"
    assert python(f"{code}; print([m for m in sys.modules if m.split('.')[0] in ('numba', 'cuda', 'torch')])") == "[]"


def test_with_a_gpu_nothing_is_simulated_unless_asked(here, monkeypatch):
    here(machine(SPARK))
    monkeypatch.delenv("NUMBA_ENABLE_CUDASIM", raising=False)
    monkeypatch.setattr(hardware, "simulating", lambda: False)
    assert str(hardware.prepare_cuda()) == "NVIDIA GB10" and not hardware.prepare_cuda().simulated
    hardware.require_gpu("shuffles")
    monkeypatch.setenv("NUMBA_ENABLE_CUDASIM", "1")
    monkeypatch.setattr(hardware, "_enable_simulator", lambda: None)
    assert hardware.prepare_cuda().simulated


def test_a_test_that_needs_a_gpu_is_not_graded_in_the_simulator(here, monkeypatch):
    here(machine())
    with pytest.raises(hardware.NotGradedHere, match="shuffles"):
        hardware.require_gpu("shuffles")
    here(machine(SPARK))
    monkeypatch.setattr(hardware, "simulating", lambda: True)
    with pytest.raises(hardware.NotGradedHere):
        hardware.require_gpu("shuffles")


def test_not_graded_here_is_no_assertion():
    # An except AssertionError in a notebook must not turn it into a failure, nor an unfinished exercise into it.
    assert not issubclass(hardware.NotGradedHere, AssertionError | NotImplementedError)


def test_tiers():
    without, with_gpu = machine(), machine(SPARK)
    assert [without.can_run(tier) for tier in ("cpu", "gpu-optional", "gpu-required")] == [True, True, False]
    assert with_gpu.can_run("gpu-required")
    with pytest.raises(ValueError, match="gpu-optional"):
        without.can_run("gpu")


@pytest.mark.parametrize(
    ("described", "spark"),
    [
        (machine(SPARK), True),
        (machine(product="NVIDIA_DGX_Spark"), True),
        (machine(product="NVIDIA DGX Spark"), True),
        (machine(), False),
        (machine(hardware.GPU("NVIDIA H200", (9, 0), 1, False, "1", (13, 0)), "PowerEdge"), False),
    ],
)
def test_a_spark_is_greeted_by_name(here, described, spark):
    here(described)
    assert described.is_spark is spark
    assert ("DGX Spark" in hardware.greeting()) is spark


class FakeNvml:
    """NVML as it answers on a GB10: no memory of its own."""

    def __init__(self, count=1, memory_status=3, name=b"NVIDIA GB10"):
        self.count, self.memory_status, self.name, self.closed = count, memory_status, name, False

    def nvmlInit_v2(self):
        return 0

    def nvmlShutdown(self):
        self.closed = True

    def nvmlDeviceGetHandleByIndex_v2(self, index, handle):
        return 0 if index.value < self.count else 2

    def nvmlDeviceGetHandleByUUID(self, uuid, handle):
        return 0 if uuid == b"GPU-1" else 2

    def nvmlDeviceGetName(self, handle, name, size):
        name.value = self.name

    def nvmlSystemGetDriverVersion(self, driver, size):
        driver.value = b"580.95.05"

    def nvmlSystemGetCudaDriverVersion_v2(self, cuda):
        cuda._obj.value = 13020

    def nvmlDeviceGetCudaComputeCapability(self, handle, major, minor):
        major._obj.value, minor._obj.value = 12, 1

    def nvmlDeviceGetMemoryInfo(self, handle, memory):
        memory._obj.total = 5
        return self.memory_status


@pytest.mark.parametrize(
    ("visible", "found"), [(None, True), ("0", True), ("GPU-1", True), ("1", False), ("", False), ("-1", False)]
)
def test_the_gpu_that_cuda_would_show(monkeypatch, visible, found):
    nvml = FakeNvml()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: nvml)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    gpu = hardware._find_gpu(7)
    assert gpu == (hardware.GPU("NVIDIA GB10", (12, 1), 7, True, "580.95.05", (13, 2)) if found else None)
    assert nvml.closed or visible in ("", "-1")


def test_a_gpu_with_memory_of_its_own(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: FakeNvml(memory_status=0, name=b"NVIDIA H200"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    gpu = hardware._find_gpu(7)
    assert (gpu.memory, gpu.unified) == (5, False)


@pytest.fixture
def quick(monkeypatch):
    """No kernels in processes of their own."""
    monkeypatch.setattr(hardware, "_run_kernel", lambda name, simulate, todo: hardware.Check(name, "ok", simulate))


def test_checks_of_this_machine(here, quick, capsys):
    here(machine())
    assert main([]) == 0
    said = capsys.readouterr().out
    assert "Hello" in said and "CUDA simulator" in said and "Ready." in said and "ERROR" not in said


def test_json_and_the_exit_status(here, quick, capsys, monkeypatch):
    here(machine(product="NVIDIA DGX Spark"))
    assert main(["--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    gpu = next(check for check in report["checks"] if check["name"] == "GPU")
    assert not report["ready"] and gpu["status"] == "error" and "--gpus all" in gpu["todo"]


def test_a_spark_is_checked_on_its_gpu_and_in_the_simulator(here, quick):
    here(machine(SPARK, memory=128 * 10**9))
    checks = {check.name: check for check in hardware.checks()}
    assert (checks["CUDA kernel"].detail, checks["CUDA simulator"].detail) == ("0", "1")
    assert "unified" in checks["GPU"].detail and "12.1" in checks["GPU"].detail


def test_a_package_that_is_missing_is_an_error(monkeypatch):
    monkeypatch.setattr(hardware, "_PACKAGES", ("numpy", "no-such-package"))
    numpy, missing = hardware._check_packages()
    assert numpy.status == "ok" and missing.status == "error" and "pip install no-such-package" in missing.todo


def test_little_memory_on_a_spark_says_how_to_clear_the_cache(monkeypatch):
    monkeypatch.setattr(hardware, "_available_memory", lambda: hardware.GIB)
    assert "drop_caches" in hardware._check_memory(machine(SPARK)).todo
    assert "drop_caches" not in hardware._check_memory(machine()).todo


def test_a_full_disk_is_an_error(monkeypatch):
    for free, status in ((10**6, "error"), (hardware.GIB, "warning"), (10 * hardware.GIB, "ok")):
        monkeypatch.setattr(hardware.shutil, "disk_usage", lambda path, free=free: type("Usage", (), {"free": free}))
        assert hardware._check_disk().status == status


def test_a_kernel_really_runs_in_the_simulator_and_a_broken_one_is_an_error(monkeypatch):
    assert hardware._run_kernel("CUDA simulator", "1", "todo").status == "ok"
    monkeypatch.setattr(hardware, "_KERNEL", "raise OSError('libnvvm is missing')")
    check = hardware._run_kernel("CUDA kernel", "0", "todo")
    assert (check.status, check.detail, check.todo) == ("error", "OSError: libnvvm is missing", "todo")
