"""What a kernel may use, what it is given, and why it ended: plain data that can travel as JSON."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MIB = 1 << 20
GIB = 1 << 30


@dataclass(frozen=True)
class Limits:
    """Bounds on one kernel and on everything it starts.

    ``wall_s`` and ``cpu_s`` are seconds over the kernel's life (CPU time is counted per process). ``memory_bytes``
    is held by a cgroup for the whole job where there is one, else by RLIMIT_DATA for each process, on top of what
    the fork server had loaded. ``processes`` counts threads too, as Linux does. ``file_bytes`` bounds each file,
    ``disk_bytes`` and ``disk_files`` everything the job writes to its work folder, /tmp and /dev/shm together, beyond
    the files it was given. ``output_bytes`` counts every byte the kernel sends, envelopes (about 2 kB a cell) included.
    """

    wall_s: float = 1800.0
    cpu_s: int = 1800
    memory_bytes: int = 4 * GIB
    processes: int = 256
    file_bytes: int = 256 * MIB
    disk_bytes: int = 512 * MIB
    disk_files: int = 20_000
    output_bytes: int = 8 * MIB
    open_files: int = 1024

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            if getattr(self, f.name) <= 0:
                raise ValueError(f"Limits.{f.name} must be positive, not {getattr(self, f.name)}")

    def doubled(self) -> Limits:
        """Twice of everything."""
        return Limits(**{f.name: 2 * getattr(self, f.name) for f in dataclasses.fields(self)})

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class KernelRequest:
    """One kernel, please.

    ``files``: a folder whose regular files are copied into the kernel's work folder (notebooks are left out: they
    hold the tests). ``env``: variables added to the kernel's small environment. ``gpu``: value of
    CUDA_VISIBLE_DEVICES, such as ``"0"``; None means no GPU device node is let in. ``cores``: threads for OpenMP,
    MKL, OpenBLAS, numba and torch.
    """

    files: Path | None = None
    limits: Limits = field(default_factory=Limits)
    env: dict[str, str] = field(default_factory=dict)
    gpu: str | None = None
    cores: int = 1


@dataclass(frozen=True)
class Death:
    """Why a kernel ended.

    ``limit``: the limit exceeded (``"wall"``, ``"cpu"``, ``"memory"``, ``"processes"``, ``"disk"``, ``"output"``)
    or None. ``reason``: one sentence for a person. ``status``: exit status as subprocess reports it. ``usage``:
    ``cpu_s`` (seconds), ``max_rss_bytes`` (of its largest process), ``cgroup_max_bytes`` where there is a cgroup; empty
    when the fork server died before it could say.
    """

    limit: str | None
    reason: str
    status: int | None = None
    usage: dict[str, float] = field(default_factory=dict)


def limit_behind(ename: str, evalue: str) -> str | None:
    """The limit that an error in a cell's output points to, if any: a full disk raises, it does not kill."""
    if ename in ("MemoryError", "_ArrayMemoryError", "OutOfMemoryError") or "can't allocate memory" in evalue:
        return "memory"
    if "[Errno 28]" in evalue or "[Errno 27]" in evalue or "[Errno 122]" in evalue:
        return "disk"
    if "can't start new thread" in evalue or (ename == "BlockingIOError" and "[Errno 11]" in evalue):
        return "processes"
    return None
