"""What a launch did to memory: the accesses of every thread, for the race detector and the profile.

Both engines write here; an access is a byte offset in a buffer, a size, a kind, a source site and a thread.
Threads are numbered through the grid: block number * threads in a block + thread number in the block.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import CodeType
from typing import Any

import numpy as np

READ, WRITE, ATOMIC = 0, 1, 2


@dataclass(frozen=True, order=True)
class Site:
    """A place in the source: file, line, column."""

    filename: str
    line: int
    column: int


@dataclass
class Buffer:
    """One array in global memory, or one shared array (the same in every block)."""

    name: str
    space: str  # "global" or "shared"
    nbytes: int
    grain: int  # bytes of the smallest element accessed: the race detector's cell
    shape: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    address: int = 0  # of its first byte, as cudaMalloc would align it
    written: bool = True  # whether the kernel may write it
    keep: Any = field(default=None, repr=False)

    def index(self, offset: int) -> tuple[int, ...]:
        """The element at a byte offset."""
        out = [0] * len(self.shape)
        for k in sorted(range(len(out)), key=lambda k: -abs(self.strides[k])):
            n, step = self.shape[k], abs(self.strides[k])
            if n > 1 and step:
                out[k], offset = divmod(offset, step)
                if self.strides[k] < 0:  # the buffer begins at its lowest address
                    out[k] = n - 1 - out[k]
        return tuple(out)


@dataclass(frozen=True)
class Geometry:
    """Grid and block dimensions, and how threads are numbered in them."""

    grid: tuple[int, int, int]
    block: tuple[int, int, int]

    @property
    def threads(self) -> int:
        """Threads in a block."""
        return self.block[0] * self.block[1] * self.block[2]

    @property
    def blocks(self) -> int:
        """Blocks in the grid."""
        return self.grid[0] * self.grid[1] * self.grid[2]

    @property
    def warps(self) -> int:
        """Warps in a block."""
        return -(-self.threads // 32)

    def block_index(self, block: int) -> tuple[int, int, int]:
        """blockIdx of a block number."""
        return block % self.grid[0], block // self.grid[0] % self.grid[1], block // (self.grid[0] * self.grid[1])

    def thread_index(self, thread: int) -> tuple[int, int, int]:
        """threadIdx of a thread number in its block."""
        return (
            thread % self.block[0],
            thread // self.block[0] % self.block[1],
            thread // (self.block[0] * self.block[1]),
        )

    def describe(self, number: int) -> str:
        """A thread of the grid in words, with as many dimensions as the launch has."""
        block, thread = divmod(number, self.threads)
        at_thread = _dims(self.thread_index(thread), self.block)
        return f"thread {at_thread} of block {_dims(self.block_index(block), self.grid)}"


def _dims(index: tuple[int, ...], dims: tuple[int, ...]) -> str:
    n = 3 if dims[2] > 1 else 2 if dims[1] > 1 else 1
    return str(index[0]) if n == 1 else str(index[:n])


class Lanes:
    """The threads that execute one instruction together: grid-wide numbers, warp rows and columns."""

    __slots__ = ("col", "dense", "full", "row", "thread")

    def __init__(self, thread: np.ndarray, row: np.ndarray, col: np.ndarray, full: bool = False) -> None:
        self.thread, self.row, self.col = thread, row, col
        self.full = full  # whole warps in order: row-major (n, 32)
        self.dense: tuple[int, np.ndarray] | None = None  # rows and flat places in a (rows, 32) table, once needed

    @classmethod
    def of(cls, thread: np.ndarray, geometry: Geometry) -> Lanes:
        """Lanes for thread numbers in any order."""
        block, t = np.divmod(thread, geometry.threads)
        return cls(thread, block * geometry.warps + t // 32, t % 32)

    def take(self, active: np.ndarray) -> Lanes:
        """The subset at the given positions."""
        return Lanes(self.thread[active], self.row[active], self.col[active])


class Recorder:
    """Accesses of one launch, handed to the race detector and the profile as they come.

    Args:
        geometry: of the launch.  races: a `races.Detector`, or None.  profile: a `profile.Profile`, or None.
    """

    def __init__(self, geometry: Geometry, races: Any, profile: Any) -> None:
        self.geometry = geometry
        self.races = races
        self.profile = profile
        self.sites: list[Site] = []
        self._site_ids: dict[Any, int] = {}
        self.buffers: list[Buffer] = []
        self._next_address = 1 << 20
        self._lists: list[tuple] = []
        self._count: dict[tuple[int, int, int], int] = {}

    def site(self, filename: str, line: int, column: int) -> int:
        """The number of a source place."""
        key = (filename, line, column)
        n = self._site_ids.get(key)
        if n is None:
            n = self._site_ids[key] = len(self.sites)
            self.sites.append(Site(*key))
        return n

    def site_of(self, code: CodeType, lasti: int) -> int:
        """The number of the source place of a bytecode instruction."""
        key = (code, lasti)
        n = self._site_ids.get(key)
        if n is None:
            line, _, column, _ = _positions(code)[lasti // 2]
            n = self._site_ids[key] = self.site(code.co_filename, line or code.co_firstlineno, column or 0)
        return n

    def buffer(
        self,
        name: str,
        space: str,
        nbytes: int,
        grain: int,
        shape: tuple = (),
        strides: tuple = (),
        written: bool = True,
        keep: Any = None,
    ) -> int:
        """Register an array; returns its number."""
        address = 0
        if space == "global":
            address = self._next_address
            self._next_address += -(-max(nbytes, 1) // 256) * 256
        else:
            address = sum(-(-b.nbytes // 16) * 16 for b in self.buffers if b.space == "shared")
        self.buffers.append(Buffer(name, space, nbytes, max(grain, 1), shape, strides, address, written, keep))
        return len(self.buffers) - 1

    def touch(self, buf: int, offset: int, size: int, kind: int, site: int, thread: int, epoch: int) -> None:
        """One access by one thread (the thread engine)."""
        key = (thread, site, kind)
        n = self._count.get(key, 0)
        self._count[key] = n + 1
        self._lists.append((buf, offset, size, kind, site, thread, epoch, n))

    def vector(
        self, buf: int, offset: np.ndarray, size: int, kind: int, site: int, lanes: Lanes, epoch: np.ndarray | None
    ) -> None:
        """One access by each of some threads in lock step (the lock-step engine)."""
        if self.profile is not None:
            self.profile.access(self.buffers[buf], offset, size, kind, self.sites[site], lanes)
        if self.races is not None and self.buffers[buf].written:
            self.races.access(buf, offset, size, kind, site, lanes.thread, epoch)

    def flush(self) -> None:
        """Hand on what `touch` collected: called where the threads of a block meet, and at a block's end."""
        if not self._lists:
            return
        rows = np.array(self._lists, dtype=np.int64)
        self._lists.clear()
        # Threads that execute a site for the n-th time are one instruction: lock step, as a warp runs.
        order = np.lexsort((rows[:, 5], rows[:, 2], rows[:, 0], rows[:, 3], rows[:, 7], rows[:, 4]))
        rows = rows[order]
        head = np.ones(len(rows), bool)
        head[1:] = (np.diff(rows[:, [0, 2, 3, 4, 7]], axis=0) != 0).any(axis=1)
        for part in np.split(rows, np.flatnonzero(head)[1:]):
            buf, _, size, kind, site = (int(v) for v in part[0, :5])
            self.vector(buf, part[:, 1], size, kind, site, Lanes.of(part[:, 5], self.geometry), part[:, 6])

    def barrier(self, block: int | None, blocks: np.ndarray | None = None) -> None:
        """All threads of a block (or of some, or of all running blocks) have met."""
        self.flush()
        if self.races is not None:
            self.races.barrier(blocks if blocks is not None else None if block is None else np.array([block]))


_POSITIONS: dict[CodeType, list] = {}


def _positions(code: CodeType) -> list:
    p = _POSITIONS.get(code)
    if p is None:
        p = _POSITIONS[code] = list(code.co_positions())
    return p
