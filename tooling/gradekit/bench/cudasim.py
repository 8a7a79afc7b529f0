"""`gradekit bench cudasim`: labkit.cudasim against numba's simulator, in ratios of one run on one machine.

Targets: 100 times numba's simulator on kernels with barriers, 50 times on element-wise ones; a vector add of 65,536
threads in under 1 s and a 128x128 tiled matrix product in under 5 s; race detection at most 4 times, the profile
at most 6 times the plain run. Numba's simulator is timed once (it is slow and its spread does not matter), in a
process of its own; this engine is the best of five.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

TARGETS = {"barriers": 100, "element-wise": 50}
RACES, PROFILE = 4.0, 6.0

KERNELS = """
from numba import cuda, float32

@cuda.jit
def vector_add(a, b, c):
    i = cuda.grid(1)
    if i < c.size:
        c[i] = a[i] + b[i]

@cuda.jit
def saxpy_grid_stride(a, x, y):
    for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
        y[i] = a * x[i] + y[i]

@cuda.jit
def reduction(x, out):
    s = cuda.shared.array(256, float32)
    i = cuda.grid(1)
    t = cuda.threadIdx.x
    s[t] = x[i] if i < x.size else 0.0
    cuda.syncthreads()
    k = 128
    while k > 0:
        if t < k:
            s[t] += s[t + k]
        cuda.syncthreads()
        k //= 2
    if t == 0:
        cuda.atomic.add(out, 0, s[0])

@cuda.jit
def matmul_tiled(a, b, c):
    sa = cuda.shared.array((16, 16), float32)
    sb = cuda.shared.array((16, 16), float32)
    x, y = cuda.grid(2)
    tx = cuda.threadIdx.x
    ty = cuda.threadIdx.y
    acc = float32(0.0)
    for k in range(a.shape[1] // 16):
        sa[ty, tx] = a[y, k * 16 + tx]
        sb[ty, tx] = b[k * 16 + ty, x]
        cuda.syncthreads()
        for j in range(16):
            acc += sa[ty, j] * sb[j, tx]
        cuda.syncthreads()
    c[y, x] = acc
"""


def cases(kernels: Any) -> dict[str, tuple[str, Callable[[], Any], Callable[[], bool]]]:
    """Name -> (kind of kernel, one launch, whether its result is right)."""
    rng = np.random.default_rng(0)
    v, w = rng.random(65536, dtype=np.float32), rng.random(65536, dtype=np.float32)
    m, n = rng.random((128, 128), dtype=np.float32), rng.random((128, 128), dtype=np.float32)
    c, y, out, p = np.zeros_like(v), np.zeros_like(v), np.zeros(1, np.float32), np.zeros_like(m)

    def reduce() -> None:
        out[:] = 0
        kernels.reduction[16, 256](v[:4096], out)

    def saxpy() -> None:
        y[:] = 0
        kernels.saxpy_grid_stride[16, 256](2.0, v, y)

    return {
        "vector add, 65,536 threads": (
            "element-wise",
            lambda: kernels.vector_add[256, 256](v, w, c),
            lambda: bool(np.array_equal(c, v + w)),
        ),
        "saxpy, grid stride, 65,536 elements": ("element-wise", saxpy, lambda: bool(np.allclose(y, 2 * v, rtol=1e-6))),
        "reduction, 16 x 256 threads": (
            "barriers",
            reduce,
            lambda: bool(np.isclose(out[0], v[:4096].sum(), rtol=1e-4)),
        ),
        "matrix product 128x128, 16x16 tiles": (
            "barriers",
            lambda: kernels.matmul_tiled[(8, 8), (16, 16)](m, n, p),
            lambda: bool(np.allclose(p, m @ n, rtol=1e-4)),
        ),
    }


def load(folder: Path) -> Any:
    """The benchmark's kernels as a module, defined for the simulator that is enabled."""
    import importlib.util

    path = folder / "bench_kernels.py"
    path.write_text(KERNELS)
    spec = importlib.util.spec_from_file_location("bench_kernels", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def seconds(launch: Callable[[], Any], repeat: int = 5) -> float:
    """The best of some launches, after one that is not timed."""
    launch()
    best = float("inf")
    for _ in range(repeat):
        started = time.perf_counter()
        launch()
        best = min(best, time.perf_counter() - started)
    return best


def baseline() -> None:
    """Time numba's own simulator; prints JSON. Runs in a process of its own, with NUMBA_ENABLE_CUDASIM=1."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        out = {}
        for name, (_, launch, right) in cases(load(Path(folder))).items():
            started = time.perf_counter()
            launch()
            out[name] = time.perf_counter() - started
            if not right():
                raise SystemExit(f"numba's simulator computed {name} wrongly")
    print(json.dumps(out))


def run(json_path: Path | None) -> None:
    """Measure, print a table, and write the numbers to `json_path` if there is one.

    Raises:
        RuntimeError: where a result is wrong, or numba's simulator did not run.
    """
    import tempfile

    from labkit import cudasim

    child = subprocess.run(
        [sys.executable, "-c", "from gradekit.bench.cudasim import baseline; baseline()"],
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1"},
        capture_output=True,
        text=True,
    )
    if child.returncode:
        raise RuntimeError(f"numba's simulator failed:\n{child.stderr[-2000:]}")
    theirs = json.loads(child.stdout.strip().splitlines()[-1])
    cudasim.enable(races="off")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (kind, launch, right) in cases(load(Path(folder))).items():
            plain = seconds(launch)
            if not right():
                raise RuntimeError(f"labkit.cudasim computed {name} wrongly")

            def raced(launch: Callable[[], Any] = launch, name: str = name) -> None:
                with cudasim.racecheck() as races:
                    launch()
                if races:
                    raise RuntimeError(f"{name}: {races[0]}")

            def profiled(launch: Callable[[], Any] = launch) -> None:
                with cudasim.profile():
                    launch()

            races, profile = seconds(raced), seconds(profiled)
            rows.append(
                {
                    "kernel": name,
                    "kind": kind,
                    "numba_s": theirs[name],
                    "plain_s": plain,
                    "races_s": races,
                    "profile_s": profile,
                    "speedup": theirs[name] / plain,
                    "races_ratio": races / plain,
                    "profile_ratio": profile / plain,
                }
            )
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"NumPy {np.__version__}"
    )
    print(f"{'kernel':38} {'numba s':>9} {'here s':>9} {'times':>8} {'target':>7} {'races x':>8} {'profile x':>9}")
    for r in rows:
        met = r["speedup"] >= TARGETS[r["kind"]] and r["races_ratio"] <= RACES and r["profile_ratio"] <= PROFILE
        print(
            f"{r['kernel']:38} {r['numba_s']:9.3f} {r['plain_s']:9.4f} {r['speedup']:8.0f} {TARGETS[r['kind']]:7d} "
            f"{r['races_ratio']:8.2f} {r['profile_ratio']:9.2f}{'' if met else '  target missed'}"
        )
    if json_path is not None:
        json_path.write_text(
            json.dumps(
                {"python": platform.python_version(), "numpy": np.__version__, "cores": os.cpu_count(), "rows": rows},
                indent=2,
            )
            + "\n"
        )
