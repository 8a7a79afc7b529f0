"""Data races: two threads at one address, one of them writing, nothing in between that orders them.

What orders two accesses (CUDA C++ Programming Guide, "Synchronization Functions", "Memory Fence Functions"):
a barrier of the block between threads of one block, `syncwarp` between lanes of one warp, a grid barrier or the
end of the kernel between blocks. Two atomics never conflict; an atomic and a plain access do.
The verdict does not depend on the order in which the engine happened to run the threads, nor on the values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np

from .records import ATOMIC, READ, WRITE, Geometry, Recorder, Site
from .source import where

_VERB = {READ: "reads", WRITE: "writes", ATOMIC: "updates atomically"}
COMPACT_AT = 4_000_000  # accesses to written global arrays kept before duplicates are dropped


@dataclass(frozen=True)
class Access:
    """One side of a race: what was done where, by whom (threadIdx and blockIdx), from which source line."""

    kind: str  # "reads", "writes" or "updates atomically"
    thread: tuple[int, int, int]
    block: tuple[int, int, int]
    filename: str
    line: int


@dataclass(frozen=True)
class Race:
    """Two accesses to one element that nothing orders.

    Attributes:
        array: its name.  space: "shared" or "global".  index: of the element.
        first, second: the accesses, in order of source line.
        scope: "warp", "block" or "grid": the nearest group that both threads belong to.
    """

    array: str
    space: str
    index: tuple[int, ...]
    first: Access
    second: Access
    scope: str
    text: str

    @property
    def lines(self) -> tuple[int, int]:
        """The two source lines, smaller first."""
        return self.first.line, self.second.line

    def __str__(self) -> str:
        return self.text


class _Event:
    """One access by some threads; its offsets are worked out only where they are needed."""

    __slots__ = ("_offset", "epoch", "kind", "site", "size", "thread")

    def __init__(
        self,
        offset: np.ndarray | Callable[[], np.ndarray],
        size: int,
        kind: int,
        site: int,
        thread: np.ndarray,
        epoch: np.ndarray | None,
    ) -> None:
        self._offset = offset
        self.size, self.kind, self.site, self.thread, self.epoch = size, kind, site, thread, epoch

    @property
    def offset(self) -> np.ndarray:
        if callable(self._offset):
            self._offset = self._offset()
        return self._offset


class Detector:
    """Collects accesses between barriers and finds the conflicting ones."""

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self.recorder: Recorder
        self._interval: dict[int, list[_Event]] = {}
        self._grid: dict[int, list[_Event]] = {}
        self._held = 0
        self._settled: dict[int, bool] = {}  # buffers seen in one interval only, without any conflict
        self._found: dict[tuple, tuple] = {}

    def access(
        self,
        buf: int,
        offset: np.ndarray | Callable[[], np.ndarray],
        size: int,
        kind: int,
        site: int,
        thread: np.ndarray,
        epoch: np.ndarray | None,
    ) -> None:
        """Note one access by some threads."""
        self._interval.setdefault(buf, []).append(_Event(offset, size, kind, site, thread, epoch))

    def barrier(self, blocks: np.ndarray | None) -> None:
        """The threads of these blocks (None: of all blocks that are running) have met."""
        for buf, events in self._interval.items():
            if blocks is None:
                mine, rest = events, []
            else:
                mine, rest = list[_Event](), list[_Event]()
                for e in events:
                    inside = np.isin(e.thread // self.geometry.threads, blocks)
                    for group, m in ((mine, inside), (rest, ~inside)):
                        if m.all():
                            group.append(e)
                        elif m.any():
                            group.append(_pick(e, m))
            if mine:
                several = self.recorder.buffers[buf].space == "global" and self.geometry.blocks > 1
                clean = self._block_level(buf, mine, several)
                if several:
                    self._settled[buf] = clean and buf not in self._settled
                    self._grid.setdefault(buf, []).extend(mine)
                    self._held += sum(len(e.thread) for e in mine)
            self._interval[buf] = rest
        if self._held > COMPACT_AT:
            self._compact()

    def grid_barrier(self) -> None:
        """All threads of the grid have met, or the kernel is over."""
        self.barrier(None)
        for buf, events in self._grid.items():
            if not self._settled[buf]:
                self._check(buf, events, "grid")
        self._grid.clear()
        self._settled.clear()
        self._held = 0

    def _block_level(self, buf: int, events: list[_Event], several: bool) -> bool:
        """Check what happened between two barriers; True if no two threads of any blocks conflict."""
        if all(e.kind == READ for e in events):
            return True
        synced = any(e.epoch is not None and e.epoch.any() for e in events)
        if several and not synced and not self._check(buf, events, "any", report=False):
            return True  # the common case, settled without telling blocks apart
        if synced:
            self._check(buf, events, "block")
            self._check(buf, events, "warp")
        else:
            self._check(buf, events, "thread")
        return False

    def _agent(self, e: _Event, level: str) -> np.ndarray:
        """Who counts as one party at this level."""
        if level == "grid":
            return e.thread // self.geometry.threads
        if level == "block":  # warps against each other
            block, t = np.divmod(e.thread, self.geometry.threads)
            return block * self.geometry.warps + t // 32
        return e.thread

    def _cells(self, buf: int, e: _Event, level: str) -> np.ndarray:
        """Numbers that are equal where two accesses may conflict at this level: the address, with the block or
        warp and its epoch for what only those can see."""
        b = self.recorder.buffers[buf]
        cell = e.offset >> (b.grain.bit_length() - 1) if b.grain & (b.grain - 1) == 0 else e.offset // b.grain
        n = b.nbytes // b.grain + 1
        if level in ("grid", "any"):
            return cell
        block = e.thread // self.geometry.threads
        if level != "warp":
            # Threads of different blocks meet in the grid's check, not here.
            return cell + block * n
        t = e.thread % self.geometry.threads
        epoch = e.epoch if e.epoch is not None else np.zeros(len(t), np.int64)
        return ((epoch * self.geometry.blocks + block) * self.geometry.warps + t // 32) * n + cell

    def _check(self, buf: int, events: list[_Event], level: str, report: bool = True) -> bool:
        """Look for conflicts between the parties of a level; True if there are any."""
        if not any(e.kind != READ for e in events):
            return False
        b = self.recorder.buffers[buf]
        events = [w for e in events for w in _grains(e, b.grain)]
        cells = [self._cells(buf, e, level) for e in events]
        agents = [self._agent(e, level) for e in events]
        low = min(int(c.min()) for c in cells)
        span = max(int(c.max()) for c in cells) - low + 1
        total = sum(len(c) for c in cells)
        if span > 8 * total + (1 << 20):
            flat = np.unique(np.concatenate(cells), return_inverse=True)[1]
            cells = np.split(flat, np.cumsum([len(c) for c in cells])[:-1])
            low, span = 0, int(flat.max()) + 1
        elif low:
            cells = [c - low for c in cells]
        writer = np.full(span, -1, np.int64)
        atom = atom2 = None
        for e, c, a in zip(events, cells, agents, strict=True):
            if e.kind == WRITE:
                writer[c] = a
        if any(e.kind == ATOMIC for e in events):
            # Two slots hold two different parties where there are two, so that one's own atomic hides nobody's.
            atom, atom2 = np.full(span, -1, np.int64), np.full(span, -1, np.int64)
            for e, c, a in zip(events, cells, agents, strict=True):
                if e.kind == ATOMIC:
                    atom[c] = a
            for e, c, a in zip(events, cells, agents, strict=True):
                if e.kind == ATOMIC:
                    other = atom[c] != a
                    atom2[c[other]] = a[other]
        bad = []
        for e, c, a in zip(events, cells, agents, strict=True):
            w = writer[c]
            hit = (w != a) & (w >= 0)
            if atom is not None and atom2 is not None and e.kind != ATOMIC:
                for slot in (atom, atom2):
                    s = slot[c]
                    hit |= (s != a) & (s >= 0)
            if hit.any():
                bad.append((e.kind, e.site, c[hit]))
        if bad and report:
            self._report(buf, events, cells, agents, bad)
        return bool(bad)

    def _report(
        self,
        buf: int,
        events: list[_Event],
        cells: list[np.ndarray],
        agents: list[np.ndarray],
        bad: list[tuple[int, int, np.ndarray]],
    ) -> None:
        """Record the lowest example of every pair of lines that conflict."""
        lowest: dict[tuple[int, int], np.ndarray] = {}
        for kind, site, c in bad:
            seen = lowest.get((kind, site))
            c = np.unique(c)[:4] if seen is None else np.unique(np.concatenate([seen, c]))[:4]
            lowest[kind, site] = c
        chosen = np.unique(np.concatenate(list(lowest.values())))
        parties: dict[int, dict[tuple[int, int], list[tuple[int, int, int]]]] = {}
        for e, c, a in zip(events, cells, agents, strict=True):
            for i in np.flatnonzero(np.isin(c, chosen)):
                group = parties.setdefault(int(c[i]), {}).setdefault((e.site, e.kind), [])
                group.append((int(e.thread[i]), int(a[i]), int(e.offset[i])))
        sites = self.recorder.sites
        for groups in parties.values():
            keys = sorted(groups, key=lambda k: (sites[k[0]], k[1]))
            for p, q in combinations_with_replacement(keys, 2):
                if (p[1] == READ and q[1] == READ) or (p[1] == ATOMIC and q[1] == ATOMIC):
                    continue
                pair = _lowest_pair(groups[p], groups[q])
                if pair is None:
                    continue
                (t1, _, offset), (t2, _, _) = pair
                key = (self.recorder.buffers[buf].name, sites[p[0]], p[1], sites[q[0]], q[1])
                block = t1 // self.geometry.threads
                example = (block if self.recorder.buffers[buf].space == "shared" else 0, offset, t1, t2, buf)
                if key not in self._found or example < self._found[key]:
                    self._found[key] = example

    def races(self) -> tuple[Race, ...]:
        """What was found, in order of array and source line: the same for the same kernel and launch."""
        out = []
        for (name, site1, kind1, site2, kind2), (_, offset, t1, t2, buf) in sorted(self._found.items()):
            b = self.recorder.buffers[buf]
            first, second = self._side(site1, kind1, t1), self._side(site2, kind2, t2)
            scope = (
                "grid"
                if first.block != second.block
                else "warp"
                if (t1 % self.geometry.threads) // 32 == (t2 % self.geometry.threads) // 32
                else "block"
            )
            index = b.index(offset)
            out.append(
                Race(
                    name,
                    b.space,
                    index,
                    first,
                    second,
                    scope,
                    self._text(name, b.space, index, first, second, scope, t1, t2),
                )
            )
        return tuple(out)

    def _side(self, site: Site, kind: int, thread: int) -> Access:
        block, t = divmod(thread, self.geometry.threads)
        return Access(
            _VERB[kind], self.geometry.thread_index(t), self.geometry.block_index(block), site.filename, site.line
        )

    def _text(
        self, name: str, space: str, index: tuple[int, ...], first: Access, second: Access, scope: str, t1: int, t2: int
    ) -> str:
        at = f"{name}[{', '.join(map(str, index))}]"
        if scope == "grid":
            todo = (
                "blocks run in any order and cannot wait for each other: use cuda.atomic, let each block write its own "
                "element, or split the work into two kernels"
            )
        elif "updates atomically" in (first.kind, second.kind):
            todo = "put cuda.syncthreads() between them, or make both atomic"
        elif first.kind == second.kind == "writes" and first.line == second.line:
            todo = "let one thread write it, give every thread its own element, or use cuda.atomic"
        elif scope == "warp":
            todo = "put cuda.syncthreads() (or cuda.syncwarp(), both are in one warp) between them"
        else:
            todo = "put cuda.syncthreads() between them"
        return (
            f"race on {space} array {at}: {self.geometry.describe(t1)} {first.kind} it in "
            f"{where(first.filename, first.line)}, {self.geometry.describe(t2)} {second.kind} it in "
            f"{where(second.filename, second.line)}, and nothing orders the two; {todo}"
        )

    def _compact(self) -> None:
        """Keep one access for each element, block, kind and site: all that the grid's check can tell apart."""
        for buf, events in self._grid.items():
            merged = []
            for key in sorted({(e.kind, e.site, e.size) for e in events}):
                same = [e for e in events if (e.kind, e.site, e.size) == key]
                offset = np.concatenate([e.offset for e in same])
                thread = np.concatenate([e.thread for e in same])
                order = np.lexsort((thread, thread // self.geometry.threads, offset))
                offset, thread = offset[order], thread[order]
                block = thread // self.geometry.threads
                keep = np.ones(len(offset), bool)
                keep[1:] = (np.diff(offset) != 0) | (np.diff(block) != 0)
                merged.append(_Event(offset[keep], key[2], key[0], key[1], thread[keep], None))
            self._grid[buf] = merged
        self._held = sum(len(e.thread) for events in self._grid.values() for e in events)


def _pick(e: _Event, m: np.ndarray) -> _Event:
    return _Event(e.offset[m], e.size, e.kind, e.site, e.thread[m], None if e.epoch is None else e.epoch[m])


def _grains(e: _Event, grain: int) -> list[_Event]:
    """An access wider than the buffer's cell, as one access for each cell."""
    if e.size <= grain:
        return [e]
    return [_Event(e.offset + k, grain, e.kind, e.site, e.thread, e.epoch) for k in range(0, e.size, grain)]


def _lowest_pair(ps: list[tuple[int, int, int]], qs: list[tuple[int, int, int]]) -> tuple | None:
    """The lexicographically lowest pair of accesses by different parties."""
    for p in sorted(ps):
        for q in sorted(qs):
            if p[1] != q[1]:
                return p, q
    return None
