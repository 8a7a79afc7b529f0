"""What a kernel does to memory, counted: sectors, coalescing, bank conflicts, divergence, atomics.

The rules, for compute capability 9.0 and 12.x:

- Global memory: the accesses of a warp's instruction become as many 32-byte transactions (sectors) as are needed to
  serve its active threads (CUDA C++ Best Practices Guide, "Coalesced Access to Global Memory", compute
  capability 6.0 and higher; CUDA C++ Programming Guide, "Device Memory Accesses"). A cache line has four sectors.
- Shared memory: 32 banks, successive 32-bit words in successive banks; threads that touch different words of one
  bank are served one after the other, threads that touch the same word together (CUDA C++ Programming
  Guide, "Shared Memory" under Compute Capability 5.x, to which 6.x to 12.x refer). 8-byte accesses of a warp are
  served as two half warps, 16-byte ones as four quarter warps.
- Divergence: a branch on which the active lanes of a warp do not agree executes both sides ("SIMT Architecture").
- Atomics on one address by several lanes of a warp are done one after the other.

Counted, not timed: no cache, no latency. Not yet held against a GPU's counters.
"""

from __future__ import annotations

import functools
import linecache
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from .limits import occupancy
from .records import ATOMIC, READ, Buffer, Geometry, Lanes, Site
from .source import where

SECTOR, LINE, BANKS = 32, 128, 32


@dataclass
class Counts:
    """Counters of one source line, or of a launch.

    `loads`, `stores`, `shared_loads`, `shared_stores`, `atomics` and `arithmetic` count threads' operations;
    `requests`, `shared_requests`, `atomic_requests`, `branches` count warps' instructions; `barriers` counts blocks.
    """

    loads: int = 0
    stores: int = 0
    requests: int = 0  # global loads, stores and atomics of a warp
    sectors: int = 0  # 32-byte transactions
    cache_lines: int = 0  # 128-byte lines touched
    bytes_used: int = 0  # that threads asked for; an element that several lanes share counts once
    shared_loads: int = 0
    shared_stores: int = 0
    shared_requests: int = 0
    wavefronts: int = 0  # passes that shared memory needs; without conflicts one a request (two for 8 bytes)
    conflicts: int = 0  # passes more than without conflicts
    max_ways: int = 0  # worst conflict: passes for one (part of a) warp; 1 is free of conflicts
    atomics: int = 0
    atomic_requests: int = 0
    contention: int = 0  # most lanes of one warp on one address
    serialised: int = 0  # passes of atomics: for each request, the most lanes on one address
    branches: int = 0
    divergent: int = 0
    barriers: int = 0
    arithmetic: int = 0

    @property
    def bytes_moved(self) -> int:
        """Between the multiprocessors and global memory."""
        return self.sectors * SECTOR

    @property
    def efficiency(self) -> float:
        """Coalescing: the fraction of the bytes moved that some thread asked for; 1.0 where nothing moved."""
        return self.bytes_used / self.bytes_moved if self.sectors else 1.0

    @property
    def sectors_per_request(self) -> float:
        """4.0 is the best for 4-byte elements, 32.0 the worst."""
        return self.sectors / self.requests if self.requests else 0.0

    @property
    def ways(self) -> float:
        """Mean number of passes for a shared-memory request; 1.0 is free of conflicts (2.0 for 8 bytes)."""
        return self.wavefronts / self.shared_requests if self.shared_requests else 0.0

    def add(self, other: Counts) -> None:
        """Add another line's or launch's counters."""
        for f in fields(self):
            a, b = getattr(self, f.name), getattr(other, f.name)
            setattr(self, f.name, max(a, b) if f.name in ("max_ways", "contention") else a + b)


@dataclass
class Sample:
    """The addresses of the first warp that executed an access: for the picture."""

    array: str
    space: str
    kind: int
    size: int
    addresses: np.ndarray  # (32,), -1 for a lane that was not active


@dataclass
class Profile:
    """Counters by source line and in total; `print(p)` is a table, `p.picture()` shows addresses by lane.

    Attributes:
        sites: counters by source place.  geometry: of the last launch.
        shared_bytes: shared memory of a block of the last launch.
        kernels: name of each kernel that was launched -> how often.
    """

    sites: dict[Site, Counts] = field(default_factory=dict)
    samples: dict[tuple[Site, int], Sample] = field(default_factory=dict)
    geometry: Geometry | None = None
    shared_bytes: int = 0
    kernels: dict[str, int] = field(default_factory=dict)
    branches_counted: bool = True

    def clear(self) -> None:
        """Forget everything."""
        self.sites.clear()
        self.samples.clear()

    def _at(self, site: Site) -> Counts:
        c = self.sites.get(site)
        if c is None:
            c = self.sites[site] = Counts()
        return c

    # -- written by the engines ------------------------------------------------------------------------------

    def access(self, buf: Buffer, offset: np.ndarray, size: int, kind: int, site: Site, lanes: Lanes) -> None:
        """Count one access by some lanes in lock step."""
        c = self._at(site)
        n = len(offset)
        dense = _dense(offset + buf.address, lanes)
        if (site, kind) not in self.samples:
            self.samples[site, kind] = Sample(buf.name, buf.space, kind, size, dense[0].copy())
        cost = _cost(dense, size, buf.space == "shared", kind == ATOMIC)
        if kind == ATOMIC:
            c.atomics += n
            c.atomic_requests += len(dense)
            c.serialised += cost.serialised
            c.contention = max(c.contention, cost.contention)
        if buf.space == "shared":
            if kind != ATOMIC:
                if kind == READ:
                    c.shared_loads += n
                else:
                    c.shared_stores += n
                c.shared_requests += len(dense)
                c.wavefronts += cost.passes
                c.conflicts += cost.passes - cost.ideal
                c.max_ways = max(c.max_ways, cost.ways)
            return
        if kind == READ:
            c.loads += n
        elif kind != ATOMIC:
            c.stores += n
        c.requests += len(dense)
        c.sectors += cost.sectors
        c.cache_lines += cost.lines
        c.bytes_used += cost.elements * size

    def branch(self, site: Site, lanes: Lanes, taken: np.ndarray) -> None:
        """Count a branch by some lanes in lock step."""
        c = self._at(site)
        row = lanes.row - lanes.row.min()
        n = int(row.max()) + 1
        here = np.bincount(row, minlength=n)
        yes = np.bincount(row[taken], minlength=n)
        c.branches += int(np.count_nonzero(here))
        c.divergent += int(np.count_nonzero((yes > 0) & (yes < here)))

    def barrier(self, site: Site, blocks: int = 1) -> None:
        """Count a barrier of some blocks."""
        self._at(site).barriers += blocks

    def arithmetic(self, site: Site, lanes: int) -> None:
        """Count an arithmetic operation by some lanes."""
        self._at(site).arithmetic += lanes

    def merge(self, other: Profile, kernel: str) -> None:
        """Add a launch."""
        for site, c in other.sites.items():
            self._at(site).add(c)
        for key, s in other.samples.items():
            self.samples.setdefault(key, s)
        self.geometry, self.shared_bytes = other.geometry, other.shared_bytes
        self.branches_counted &= other.branches_counted
        self.kernels[kernel] = self.kernels.get(kernel, 0) + 1

    # -- read by people --------------------------------------------------------------------------------------

    @property
    def launches(self) -> int:
        """How many launches there were."""
        return sum(self.kernels.values())

    @property
    def total(self) -> Counts:
        """All lines together."""
        out = Counts()
        for c in self.sites.values():
            out.add(c)
        return out

    @property
    def lines(self) -> dict[int, Counts]:
        """Counters by source line number."""
        out: dict[int, Counts] = {}
        for site in sorted(self.sites):
            out.setdefault(site.line, Counts()).add(self.sites[site])
        return out

    def line(self, text: str) -> Counts:
        """Counters of the source lines that contain `text`.

        Raises:
            KeyError: where no counted line does.
        """
        out, hit = Counts(), False
        for site in sorted(self.sites):
            if text in linecache.getline(site.filename, site.line):
                out.add(self.sites[site])
                hit = True
        if not hit:
            raise KeyError(f"no line of the profiled kernels contains {text!r}")
        return out

    def occupancy(self, cc: tuple[int, int] = (9, 0), registers: int = 0) -> dict[str, Any]:
        """Blocks and warps that fit on a multiprocessor for the last launch; see `limits.occupancy`."""
        if self.geometry is None:
            raise ValueError("launch a kernel inside `with cudasim.profile()` first")
        return occupancy(self.geometry.threads, self.shared_bytes, registers, cc)

    def __str__(self) -> str:
        if not self.sites:
            return "nothing was launched inside this profile"
        head = (
            "line",
            "global",
            "sectors/req",
            "efficiency",
            "shared",
            "ways",
            "atomics",
            "divergent",
            "barriers",
            "source",
        )
        rows: list[tuple[str, ...]] = [head]
        by_place: dict[tuple[str, int], Counts] = {}
        for site in sorted(self.sites):
            by_place.setdefault((site.filename, site.line), Counts()).add(self.sites[site])
        for (filename, line), c in by_place.items():
            rows.append((where(filename, line), *_cells(c), linecache.getline(filename, line).strip()[:60]))
        rows.append(("total", *_cells(self.total), ""))
        widths = [max(len(r[k]) for r in rows) for k in range(len(head))]
        out = ["  ".join(v.ljust(w) for v, w in zip(r, widths, strict=True)).rstrip() for r in rows]
        total = self.total
        out.append(
            f"{total.bytes_moved} bytes moved, {total.bytes_used} used; {total.barriers} barriers; "
            f"{total.arithmetic} arithmetic operations"
        )
        if not self.branches_counted:
            out.append("(branches and arithmetic were not counted: this kernel ran thread by thread)")
        return "\n".join(out)

    def picture(self, line: int | str | None = None, ax: Any = None) -> Any:
        """Which lane of the first warp touches which address.

        Args:
            line: a line number or text in the line; None takes the line with the most sectors or conflicts.
            ax: matplotlib axes to draw on; None makes new ones.
        Returns:
            the axes: lanes across, bytes from the lowest address upwards, 32-byte sectors (or banks) in stripes.
        Raises:
            KeyError: where the line has no memory access.
        """
        import matplotlib.pyplot as plt

        chosen = [
            (k, s)
            for k, s in self.samples.items()
            if line is None
            or (k[0].line == line if isinstance(line, int) else line in linecache.getline(k[0].filename, k[0].line))
        ]
        if not chosen:
            raise KeyError(f"no memory access in line {line!r}")
        (site, _), s = max(
            chosen, key=lambda p: (self.sites[p[0][0]].sectors + self.sites[p[0][0]].wavefronts, p[0][0])
        )
        if ax is None:
            _, ax = plt.subplots(figsize=(7, 3.5))
        lanes = np.flatnonzero(s.addresses >= 0)
        low = int(s.addresses[lanes].min()) // SECTOR * SECTOR
        addr = s.addresses[lanes] - low
        if s.space == "shared":
            ax.scatter(lanes, s.addresses[lanes] // 4 % BANKS, s=18)
            ax.set_ylabel("bank")
            ax.set_ylim(-1, BANKS)
        else:
            top = int(addr.max()) + s.size
            if top <= 64 * SECTOR:
                for k in range(0, -(-top // SECTOR), 2):
                    ax.axhspan(k * SECTOR, (k + 1) * SECTOR, color="0.92", lw=0)
            ax.scatter(lanes, addr, s=18)
            ax.set_ylabel("byte, in stripes of 32-byte sectors" if top <= 64 * SECTOR else "byte")
        ax.set_xlabel("lane of the warp")
        verb = {READ: "reads", ATOMIC: "updates"}.get(s.kind, "writes")
        ax.set_title(f"{where(site.filename, site.line)}: {verb} {s.array}")
        return ax


def _cells(c: Counts) -> tuple[str, ...]:
    return (
        str(c.loads + c.stores) if c.loads + c.stores else "",
        f"{c.sectors_per_request:.1f}" if c.requests else "",
        f"{c.efficiency:.0%}" if c.requests else "",
        str(c.shared_loads + c.shared_stores) if c.shared_requests else "",
        f"{c.ways:.1f}" if c.shared_requests else "",
        f"{c.atomics} (x{c.contention})" if c.atomics else "",
        f"{c.divergent}/{c.branches}" if c.branches else "",
        str(c.barriers) if c.barriers else "",
    )


def _dense(addr: np.ndarray, lanes: Lanes) -> np.ndarray:
    """Addresses as (warps, 32), -1 where a lane is not active."""
    if lanes.full:
        return addr.reshape(-1, 32)
    if lanes.dense is None:
        row = lanes.row
        step = row[1:] - row[:-1]
        if step.size and step.min() < 0:
            _, row = np.unique(row, return_inverse=True)
        else:
            row = np.concatenate([[0], np.cumsum(step != 0)])
        lanes.dense = int(row.max()) + 1, row * 32 + lanes.col
    rows, at = lanes.dense
    dense = np.full(rows * 32, -1, np.int64)
    dense[at] = addr
    return dense.reshape(rows, 32)


@dataclass
class _Cost:
    """What some warps' requests take, summed over the warps (`ways` and `contention`: the most)."""

    sectors: int = 0
    lines: int = 0
    elements: int = 0
    passes: int = 0
    ideal: int = 0
    ways: int = 0
    serialised: int = 0
    contention: int = 0


def _cost(dense: np.ndarray, size: int, shared: bool, atomic: bool) -> _Cost:
    """The cost of requests at these addresses; warps with the same pattern are looked at once."""
    base = dense[:, 0]
    pattern = dense[0] - base[0]
    if dense.min() < 0 or not (dense - base[:, None] == pattern).all():
        return _count(dense, size, shared, atomic)
    out = _Cost()
    # Moving a pattern by whole cache lines changes neither its sectors nor its banks.
    starts = np.bincount(base & (LINE - 1), minlength=1)
    for start in np.flatnonzero(starts):
        one, times = _cost_of_pattern(pattern.tobytes(), int(start), size, shared, atomic), int(starts[start])
        for f in fields(out):
            v = getattr(one, f.name)
            setattr(
                out,
                f.name,
                max(getattr(out, f.name), v) if f.name in ("ways", "contention") else getattr(out, f.name) + v * times,
            )
    return out


@functools.lru_cache(maxsize=4096)
def _cost_of_pattern(pattern: bytes, start: int, size: int, shared: bool, atomic: bool) -> _Cost:
    row = np.frombuffer(pattern, np.int64)
    row = row + start - min(0, int(row.min()) // LINE * LINE)
    return _count(row[None, :], size, shared, atomic)


def _count(rows: np.ndarray, size: int, shared: bool, atomic: bool) -> _Cost:
    out = _Cost()
    if atomic:
        worst = _most_equal(rows)
        out.serialised, out.contention = int(worst.sum()), int(worst.max())
    if shared:
        if not atomic:
            passes, ideal, out.ways = _bank_passes(rows, size)
            out.passes, out.ideal = int(passes.sum()), int(ideal.sum())
        return out
    out.sectors = int(_distinct(rows >> 5).sum())
    out.lines = int(_distinct(rows >> 7).sum())
    out.elements = int(_distinct(rows).sum())
    return out


def _distinct(rows: np.ndarray) -> np.ndarray:
    """Number of different values in each row, -1 aside."""
    s = np.sort(rows, axis=1)
    return (s[:, 0] >= 0) + np.count_nonzero(s[:, 1:] != s[:, :-1], axis=1)


def _most_equal(rows: np.ndarray) -> np.ndarray:
    """How often the most frequent value of each row occurs, -1 aside."""
    s = np.sort(rows, axis=1)
    run, best = np.where(s[:, 0] >= 0, 1, 0), np.where(s[:, 0] >= 0, 1, 0)
    for k in range(1, s.shape[1]):
        run = np.where(s[:, k] < 0, 0, np.where(s[:, k] == s[:, k - 1], run + 1, 1))
        best = np.maximum(best, run)
    return best


def _bank_passes(rows: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Passes that each warp's request takes, those of a request without conflicts, and the most in one part."""
    parts = max(1, min(size // 4, 4))
    passes = np.zeros(len(rows), np.int64)
    ideal = np.zeros(len(rows), np.int64)
    most = 0
    for part in np.split(rows, parts, axis=1) if parts > 1 else [rows]:
        words = part >> 2  # -1 stays -1
        if size > 4:
            words = np.concatenate([np.where(part >= 0, words + k, -1) for k in range(size // 4)], axis=1)
        s = np.sort(words, axis=1)
        new = s >= 0
        new[:, 1:] &= s[:, 1:] != s[:, :-1]
        r, k = np.nonzero(new)
        degree = (
            np.bincount(r * BANKS + (s[r, k] & (BANKS - 1)), minlength=len(rows) * BANKS).reshape(-1, BANKS).max(axis=1)
        )
        passes += degree
        ideal += degree > 0
        most = max(most, int(degree.max()))
    return passes, ideal, most
