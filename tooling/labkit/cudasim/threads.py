"""The thread engine: every CUDA thread runs the kernel's own Python code, in a greenlet where it has to wait.

Complete and slow: whatever numba-cuda compiles runs here. The lock-step engine hands over to it what it
does not know, and every error, so that a message always comes from the simplest machine.
A thread runs until it waits at a barrier or a warp primitive; the order of threads is a permutation from a seed.
"""

from __future__ import annotations

import linecache
import re
import sys
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any

import numpy as np
from greenlet import getcurrent, greenlet

from . import source, values
from .errors import BarrierError, CompileError, CudaSimError, DeadlockError, KernelError, LaunchError, OutOfBoundsError
from .limits import STATIC_SHARED
from .records import ATOMIC, READ, WRITE, Geometry, Recorder

_WAITS = frozenset(
    [
        "syncthreads",
        "syncthreads_count",
        "syncthreads_and",
        "syncthreads_or",
        "syncwarp",
        "shfl_sync",
        "shfl_up_sync",
        "shfl_down_sync",
        "shfl_xor_sync",
        "vote_sync_intrinsic",
        "all_sync",
        "any_sync",
        "eq_sync",
        "ballot_sync",
        "match_any_sync",
        "match_all_sync",
        "cg",
        "this_grid",
    ]
)
_ATOMICS = frozenset(("atomic",))
SPIN = 16  # atomics or volatile reads in a row after which a thread lets others run
ROUNDS = 50  # rounds of that in which no atomic changes anything and no thread ends: a deadlock

here = str(__file__).rsplit("/", 1)[0]


def user_frame(depth: int = 1) -> Any:
    """The nearest frame that is not the engine's own."""
    f = sys._getframe(depth)
    while f.f_back is not None and f.f_code.co_filename.startswith(here):
        f = f.f_back
    return f


class Dim3:
    """x, y, z of an index or a dimension."""

    __slots__ = ("x", "y", "z")

    def __init__(self, x: int, y: int, z: int) -> None:
        self.x, self.y, self.z = np.int64(x), np.int64(y), np.int64(z)

    def __iter__(self) -> Any:
        return iter((self.x, self.y, self.z))


class Thread:
    """One CUDA thread."""

    __slots__ = (
        "block",
        "blockIdx",
        "epoch",
        "glet",
        "lane",
        "number",
        "op",
        "rank",
        "result",
        "spins",
        "state",
        "threadIdx",
        "where",
    )

    def __init__(self, block: Block, rank: int, thread_idx: Dim3, number: int) -> None:
        self.block, self.rank, self.number = block, rank, number
        self.threadIdx, self.blockIdx = thread_idx, block.index
        self.lane: int = rank % 32
        self.state = "ready"  # ready, barrier, warp, grid, done
        self.op: Any = None
        self.result: Any = None
        self.where: tuple[str, int] = ("", 0)
        self.epoch = 0
        self.spins = 0
        self.glet: greenlet | None = None


class Block:
    """The threads of one block and the memory they share."""

    def __init__(self, launch: Launch, number: int) -> None:
        g = launch.geometry
        self.index = Dim3(*g.block_index(number))
        self.number = number
        self.shared: dict[Any, np.ndarray] = {}
        self.dynamic = np.zeros(launch.dynamic_shared, np.uint8)
        self.threads = [Thread(self, i, launch.thread_dims[i], number * g.threads + i) for i in range(g.threads)]


class ThreadArray:
    """An array as a kernel's thread sees it: single elements, views, checked bounds, every access noted."""

    __slots__ = ("_a", "_base", "_buf", "_launch", "_name")

    def __init__(self, a: np.ndarray, launch: Launch, name: str, buf: int = -1, base: int = 0) -> None:
        self._a, self._launch, self._name = a, launch, name
        self._buf, self._base = buf, base  # buffer number (-1: private), address of the buffer's first byte

    def __getitem__(self, idx: Any) -> Any:
        try:
            v = self._a[idx]
        except IndexError:
            raise self._launch.bad_index(self, idx, user_frame(2)) from None
        if self._launch.watch and self._buf >= 0:
            self._note(idx, v, READ)
        if type(v) is np.ndarray:
            return ThreadArray(v, self._launch, self._name, self._buf, self._base)
        if type(v) in _WIDEN:
            return np.int64(v)
        if type(v) is np.uint64:
            return values.Unsigned(v)
        if isinstance(v, np.void) and v.dtype.names:
            return Record(v, self._launch, self._name, self._buf, self._base)
        return v

    def __setitem__(self, idx: Any, v: Any) -> None:
        if type(v) in (ThreadArray, Record):
            v = v._a
        a = self._a
        try:
            if self._launch.watch and self._buf >= 0:
                self._note(idx, None, WRITE)
            if not a.flags.writeable:
                f = user_frame(2)
                raise CompileError(
                    f"{source.where(f.f_code.co_filename, f.f_lineno)}: '{self._name}' is constant memory "
                    "(a global array or cuda.const.array_like): a kernel can only read it"
                )
            if isinstance(v, (float, np.floating)) and a.dtype.kind in "iu":
                v = values.cast(v, np.dtype(np.int64))
            elif isinstance(v, (int, np.integer)) and a.dtype.kind in "iu":
                v = np.asarray(v).astype(a.dtype)
            a[idx] = v
        except IndexError:
            raise self._launch.bad_index(self, idx, user_frame(2)) from None

    def _note(self, idx: Any, v: Any, kind: int) -> None:
        launch = self._launch
        f = user_frame(3)
        site = launch.recorder.site_of(f.f_code, f.f_lasti)
        t = launch.current
        if isinstance(v, np.void) and v.dtype.names:
            return  # a record: its fields are noted when they are touched
        idx = idx if isinstance(idx, tuple) else (idx,)
        if len(idx) == self._a.ndim and all(isinstance(i, (int, np.integer)) for i in idx):
            off = self._a.__array_interface__["data"][0] - self._base
            for i, n, s in zip(idx, self._a.shape, self._a.strides, strict=True):
                off += (int(i) + n if i < 0 else int(i)) * s
            launch.recorder.touch(self._buf, off, self._a.itemsize, kind, site, t.number, t.epoch)
        elif kind == WRITE or not isinstance(v, np.ndarray):
            for off in _offsets(self._a[idx], self._base):
                launch.recorder.touch(self._buf, off, self._a.itemsize, kind, site, t.number, t.epoch)

    def __getattr__(self, name: str) -> Any:
        a = self._a
        if name == "shape":
            return tuple(np.int64(n) for n in a.shape)
        if name in ("size", "ndim", "itemsize", "nbytes"):
            return np.int64(getattr(a, name))
        if a.dtype.names and name in a.dtype.names:
            return ThreadArray(a[name], self._launch, self._name, self._buf, self._base)
        if name == "strides":
            return tuple(np.int64(n) for n in a.strides)
        if name in ("dtype", "flags"):
            return getattr(a, name)
        if name in ("T", "real", "imag"):
            return ThreadArray(getattr(a, name), self._launch, self._name, self._buf, self._base)
        if name in ("reshape", "ravel", "view", "transpose"):
            return lambda *args, **kw: ThreadArray(
                getattr(a, name)(*[values.as_dtype(x) if name == "view" else x for x in args], **kw),
                self._launch,
                self._name,
                self._buf,
                self._base,
            )
        if name.startswith("__") or not hasattr(a, name):
            raise AttributeError(f"arrays in a kernel have no attribute {name!r}")
        return getattr(a, name)

    def __setattr__(self, name: str, v: Any) -> None:
        if name in ThreadArray.__slots__:
            object.__setattr__(self, name, v)
        else:
            self._a[name] = v

    def __len__(self) -> int:
        return len(self._a)

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self._a)))

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.asarray(self._a, dtype=dtype)

    def __array_ufunc__(self, ufunc: Any, method: str, *args: Any, **kw: Any) -> Any:
        out = kw.get("out")
        if out:
            kw["out"] = tuple(o._a if isinstance(o, ThreadArray) else o for o in out)
        return getattr(ufunc, method)(*[a._a if isinstance(a, ThreadArray) else a for a in args], **kw)


_WIDEN = frozenset((np.int8, np.int16, np.int32, np.uint8, np.uint16, np.uint32))


def _offsets(a: np.ndarray, base: int) -> list[int]:
    """Byte offsets of all elements of a view."""
    start = a.__array_interface__["data"][0] - base
    if not a.ndim:
        return [start]
    grids = np.indices(a.shape).reshape(a.ndim, -1)
    return [int(o) for o in start + np.tensordot(np.array(a.strides), grids, 1)]


class Record:
    """One element of a structured array: fields as attributes or items."""

    __slots__ = ("_a", "_base", "_buf", "_launch", "_name")

    def __init__(self, a: np.void, launch: Launch, name: str, buf: int, base: int) -> None:
        self._a, self._launch, self._name, self._buf, self._base = a, launch, name, buf, base

    def _note(self, name: str, kind: int) -> None:
        launch = self._launch
        if not launch.watch or self._buf < 0:
            return
        fields: Any = self._a.dtype.fields
        dt, off, *_ = fields[name]
        if dt.names or dt.subdtype:
            return
        f = user_frame(3)
        t = launch.current
        address = self._a.__array_interface__["data"][0] - self._base + off
        launch.recorder.touch(
            self._buf, address, dt.itemsize, kind, launch.recorder.site_of(f.f_code, f.f_lasti), t.number, t.epoch
        )

    def __getitem__(self, name: Any) -> Any:
        if isinstance(name, (int, np.integer)):
            name = (self._a.dtype.names or ())[int(name)]
        if name not in (self._a.dtype.names or ()):
            raise AttributeError(f"record of array '{self._name}' has no field {name!r}; it has {self._a.dtype.names}")
        self._note(name, READ)
        v = self._a[name]
        if isinstance(v, np.ndarray):
            return ThreadArray(v, self._launch, self._name, self._buf, self._base)
        if isinstance(v, np.void) and v.dtype.names:
            return Record(v, self._launch, self._name, self._buf, self._base)
        return values.widen(v) if isinstance(v, np.generic) and v.dtype.kind in "iu" else v

    def __setitem__(self, name: Any, v: Any) -> None:
        if isinstance(name, (int, np.integer)):
            name = (self._a.dtype.names or ())[int(name)]
        self._note(name, WRITE)
        self._a[name] = v._a if isinstance(v, (ThreadArray, Record)) else v

    def __getattr__(self, name: str) -> Any:
        return self[name]

    def __setattr__(self, name: str, v: Any) -> None:
        if name in Record.__slots__:
            object.__setattr__(self, name, v)
        else:
            self[name] = v


class Launch:
    """One run of a kernel, thread by thread.

    Args:
        fn: the kernel's Python function.  geometry: grid and block.  dynamic_shared: bytes.
        seed: None runs threads and blocks in order, a number in a permutation drawn from it.
        recorder: notes accesses, or None.
    """

    def __init__(
        self,
        fn: FunctionType,
        geometry: Geometry,
        dynamic_shared: int = 0,
        seed: int | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self.fn, self.geometry, self.dynamic_shared = fn, geometry, dynamic_shared
        self.recorder: Any = recorder
        self.watch = recorder is not None
        self.rng = None if seed is None else np.random.default_rng(seed)
        self.thread_dims = [Dim3(*geometry.thread_index(i)) for i in range(geometry.threads)]
        self.grid_dim, self.block_dim = Dim3(*geometry.grid), Dim3(*geometry.block)
        self.current: Thread = None  # type: ignore[assignment]
        self.progress = False  # whether an atomic has changed memory lately
        self.shared_bytes: dict[Any, int] = {}
        self.shared_buffers: dict[Any, int] = {}
        self.functions: dict[Any, Callable] = {}
        self.cuda = Cuda(self)
        self.waits = source.mentions(fn, _WAITS)
        # Only a loop around an atomic or a flag can wait for another thread without a barrier.
        self.spinning = source.has_while(fn) and source.mentions(fn, _ATOMICS)
        self.cooperative = source.mentions(fn, frozenset(("cg", "this_grid")))
        self.body = self.bind(fn)

    # -- running -------------------------------------------------------------------------------------------

    def run(self, args: tuple) -> None:
        """Run the whole grid.

        Raises:
            CudaSimError: for what a GPU would not do; any other exception that the kernel raises keeps its type.
        """
        order = range(self.geometry.blocks)
        if self.rng is not None:
            order = self.rng.permutation(self.geometry.blocks)  # type: ignore[assignment]
        with np.errstate(all="ignore"):
            if self.cooperative or self.spinning:
                self._run_waiting([Block(self, int(b)) for b in order], args)
                return
            for b in order:
                block = Block(self, int(b))
                if self.waits:
                    self._run_waiting([block], args)
                else:
                    self._run_straight(block, args)

    def _run_straight(self, block: Block, args: tuple) -> None:
        for t in self._order(block.threads):
            self.current = t
            self._call(t, args)
        if self.watch:
            self.recorder.barrier(block.number)

    def _order(self, threads: list[Thread]) -> list[Thread]:
        return threads if self.rng is None else [threads[i] for i in self.rng.permutation(len(threads))]

    def _call(self, t: Thread, args: tuple) -> None:
        try:
            self.body(*args)
        except CompileError as e:
            at = self._place(e)
            if at[1] and not re.search(r"line \d+: ", str(e)):
                raise CompileError(f"{source.where(*at)}: {e}") from None
            raise
        except CudaSimError:
            raise
        except Exception as e:
            raise self._explain(e, t) from e

    @staticmethod
    def _place(e: Exception) -> tuple[str, int]:
        """File and line of the kernel where an exception came from."""
        tb, place = e.__traceback__, ("", 0)
        while tb is not None:
            if not tb.tb_frame.f_code.co_filename.startswith(here):
                place = (tb.tb_frame.f_code.co_filename, tb.tb_lineno)
            tb = tb.tb_next
        return place

    def _explain(self, e: Exception, t: Thread) -> Exception:
        place = self._place(e)
        at = f"tid={list(map(int, t.threadIdx))} ctaid={list(map(int, t.blockIdx))}"
        line = f" ({source.where(*place)}, {self.geometry.describe(t.number)})" if place[1] else ""
        try:
            return type(e)(f"{at}: {e}{line}")
        except Exception:
            return KernelError(f"{at}: {type(e).__name__}: {e}{line}")

    def _run_waiting(self, blocks: list[Block], args: tuple) -> None:
        hub = getcurrent()

        def main(t: Thread) -> None:
            self._call(t, args)
            t.state = "done"

        for b in blocks:
            for t in b.threads:
                t.glet = greenlet(lambda t=t: main(t), hub)
        idle, left = 0, 0
        try:
            while True:
                moved = False
                for b in blocks:
                    while self._step(b):
                        moved = True
                unfinished = [t for b in blocks for t in b.threads if t.state != "done"]
                if not unfinished:
                    break
                if all(t.state == "grid" for t in unfinished):
                    missing = next((t for b in blocks for t in b.threads if t.state == "done"), None)
                    if missing is not None:
                        t = unfinished[0]
                        raise BarrierError(
                            f"{source.where(*t.where)}: grid.sync() waits for every thread of the grid, but "
                            f"{self.geometry.describe(missing.number)} has returned without reaching it; "
                            "let every thread reach it, and put only the work into the if"
                        )
                    if self.watch:
                        self.recorder.flush()
                        if self.recorder.races is not None:
                            self.recorder.races.grid_barrier()
                    for t in unfinished:
                        t.state, moved = "ready", True
                spinning = any(t.state == "spin" for t in unfinished)
                if spinning:
                    for t in unfinished:
                        if t.state == "spin":
                            t.state = "ready"
                    idle = 0 if self.progress or len(unfinished) < left else idle + 1
                    self.progress, left = False, len(unfinished)
                    if idle < ROUNDS:
                        continue
                if not moved or spinning:
                    self._stuck(blocks, unfinished, spinning)
        finally:
            for b in blocks:
                for t in b.threads:
                    t.glet = None
        if self.watch:
            for b in blocks:
                self.recorder.barrier(b.number)

    def _step(self, block: Block) -> bool:
        """Run every ready thread of a block until it waits; then release what can be. False: nothing moved."""
        moved = False
        for t in self._order(block.threads):
            if t.state == "ready":
                moved = True
                self.current = t
                t.glet.switch()  # type: ignore[union-attr]
        for first in range(0, len(block.threads), 32):
            warp = block.threads[first : first + 32]
            if any(t.state == "warp" for t in warp):
                moved |= self._release_warp(warp)
        waiting = [t for t in block.threads if t.state == "barrier"]
        if waiting and len(waiting) == len(block.threads):
            if len({t.op[1] for t in waiting}) > 1:
                self._split_barrier(waiting)
            results = self._barrier_value(waiting)
            if self.watch:
                self.recorder.barrier(block.number)
                if self.recorder.profile is not None:
                    self.recorder.profile.barrier(self.recorder.sites[self.recorder.site_of(*waiting[0].op[1])])
            for t in waiting:
                t.state, t.result = "ready", results
                t.epoch = 0
            moved = True
        elif waiting and all(t.state in ("barrier", "done") for t in block.threads):
            self._missed_barrier(block, waiting)
        return moved

    @staticmethod
    def _barrier_value(waiting: list[Thread]) -> Any:
        kind = waiting[0].op[0]
        flags = [bool(t.op[2]) for t in waiting]
        return {"count": np.int64(sum(flags)), "and": np.int64(all(flags)), "or": np.int64(any(flags))}.get(kind)

    def _missed_barrier(self, block: Block, waiting: list[Thread]) -> None:
        gone = next(t for t in block.threads if t.state == "done")
        t = waiting[0]
        raise BarrierError(
            f"{source.where(*t.where)}: {self.geometry.describe(t.number)} and {len(waiting) - 1} more wait at "
            f"cuda.syncthreads(), but {self.geometry.describe(gone.number)} returned without reaching "
            f"it. A barrier waits "
            "for every thread of the block: do not return early and do not put it inside an if that some threads skip; "
            "put only the work into the if"
        )

    def _split_barrier(self, waiting: list[Thread]) -> None:
        a = waiting[0]
        b = next(t for t in waiting if t.op[1] != a.op[1])
        raise BarrierError(
            f"{source.where(*a.where)}: {self.geometry.describe(a.number)} waits at cuda.syncthreads() here, but "
            f"{self.geometry.describe(b.number)} waits at another one in {source.where(*b.where)}. All "
            f"threads of a block "
            "must meet at the same barrier: move it out of the if"
        )

    def _stuck(self, blocks: list[Block], unfinished: list[Thread], spinning: bool) -> None:
        t = next((t for t in unfinished if t.state == "warp"), None)
        if t is not None:
            mask = t.op[1]
            absent = next(
                (
                    u
                    for u in t.block.threads[t.rank - t.lane : t.rank - t.lane + 32]
                    if (mask >> u.lane & 1 and u.state != "warp") or (mask >> u.lane & 1 and u.op[:2] != t.op[:2])
                ),
                t,
            )
            raise BarrierError(
                f"{source.where(*t.where)}: {self.geometry.describe(t.number)} calls cuda.{t.op[0]} with "
                f"mask {mask:#010x}, "
                f"which names lane {absent.lane} ({self.geometry.describe(absent.number)}), but that "
                f"lane does not come to "
                "this call with the same mask. Every lane in the mask must make the same call: move it out of the "
                "if, or use a mask of the lanes that are there (cuda.activemask() or ballot_sync before the if)"
            )
        t = next((t for t in unfinished if t.state == "barrier"), None)
        if t is not None and not spinning:
            raise BarrierError(
                f"{source.where(*t.where)}: {self.geometry.describe(t.number)} waits at a barrier that the other "
                "threads never reach: they wait at another barrier"
            )
        t = unfinished[0]
        raise DeadlockError(
            f"{source.where(*t.where) if t.where[1] else 'the kernel'}: {self.geometry.describe(t.number)} and "
            f"{len(unfinished) - 1} more threads wait for ever: the value that the loop waits for never "
            "comes. Look for a lock that is not given back, or a flag that no running thread sets"
        )

    def wait(self, state: str, op: tuple) -> Any:
        """Stop the current thread until the engine lets it go on."""
        t = self.current
        f = user_frame(2)
        t.where = (f.f_code.co_filename, f.f_lineno)
        t.op = op if state == "warp" else (op[0], (f.f_code, f.f_lasti), *op[1:])
        t.state = state
        t.spins = 0
        self._switch_out()
        return t.result

    def _switch_out(self) -> None:
        glet = self.current.glet
        if glet is None:
            raise CudaSimError(
                "a barrier was reached by a name that the engine did not foresee: call it as cuda.<name>"
            )
        glet.parent.switch()

    def spin(self) -> None:
        """Let other threads run now and then, while this one may be waiting for them."""
        t = self.current
        t.spins += 1
        if t.spins >= SPIN and t.glet is not None:
            t.spins = 0
            f = user_frame(3)
            t.where = (f.f_code.co_filename, f.f_lineno)
            t.state = "spin"
            self._switch_out()

    # -- warp primitives -----------------------------------------------------------------------------------

    def _release_warp(self, warp: list[Thread]) -> bool:
        released = False
        for t in warp:
            if t.state != "warp":
                continue
            name, mask = t.op[:2]
            named = [u for u in warp if mask >> u.lane & 1 and u.state != "done"]
            if not mask >> t.lane & 1:
                raise BarrierError(
                    f"{source.where(*t.where)}: {self.geometry.describe(t.number)} is lane {t.lane}, which is not in "
                    f"the mask {mask:#010x} that it passes to cuda.{name}: a lane must name itself"
                )
            if all(u.state == "warp" and u.op[:2] == (name, mask) for u in named):
                by_lane = {u.lane: u for u in named}
                for u in named:
                    u.result = _WARP[name](u, by_lane)
                for u in named:
                    u.state = "ready"
                    if name == "syncwarp":
                        u.epoch += 1
                released = True
        return released

    # -- arrays --------------------------------------------------------------------------------------------

    def bad_index(self, array: ThreadArray, idx: Any, frame: Any) -> Exception:
        """The error for an index that the array does not have."""
        at = source.where(frame.f_code.co_filename, frame.f_lineno)
        shape = array._a.shape
        parts = idx if isinstance(idx, tuple) else (idx,)
        who = self.geometry.describe(self.current.number)
        if not all(isinstance(i, (int, np.integer, slice)) or i is None or i is Ellipsis for i in parts):
            kinds = ", ".join(type(i).__name__ for i in parts)
            return CompileError(
                f"{at}: '{array._name}' is indexed with {kinds}: an index must be an integer; use // instead of /, "
                "or int(...)"
            )
        if len(parts) > len(shape):
            return CompileError(
                f"{at}: '{array._name}' has {len(shape)} dimension(s), but is indexed with {len(parts)}"
            )
        axis = next(
            (
                k
                for k, (i, n) in enumerate(zip(parts, shape, strict=False))
                if isinstance(i, (int, np.integer)) and not -n <= i < n
            ),
            0,
        )
        shown = ", ".join(str(i) for i in parts)
        n = shape[axis]
        return OutOfBoundsError(
            f"tid={list(map(int, self.current.threadIdx))} "
            f"ctaid={list(map(int, self.current.blockIdx))}: {at}: {who} touches "
            f"{array._name}[{shown}], but dimension {axis} of '{array._name}' has {n} elements (0 to "
            f"{n - 1}). On a GPU this "
            "reads or overwrites foreign memory without a word. Guard it: if i < n"
        )

    def shared_array(self, shape: Any, dtype: Any, key: Any, frame: Any) -> ThreadArray:
        """The block's array for one call site; made by the first thread that comes."""
        dt = values.as_dtype(dtype)
        block = self.current.block
        dims = tuple(int(n) for n in shape) if isinstance(shape, tuple) else (int(shape),)
        name = _target(frame)
        if dims == (0,):
            a = block.dynamic[: len(block.dynamic) // dt.itemsize * dt.itemsize].view(dt)
            key, whole = "dynamic", block.dynamic
            if not len(a):
                raise LaunchError(
                    f"{source.where(frame.f_code.co_filename, frame.f_lineno)}: shape 0 means dynamic shared memory, "
                    "but the launch gave none: kernel[grid, block, stream, bytes]"
                )
        else:
            if key not in block.shared:
                nbytes = int(np.prod(dims)) * dt.itemsize
                self.shared_bytes[key] = nbytes
                if sum(self.shared_bytes.values()) > STATIC_SHARED:
                    raise LaunchError(
                        f"{source.where(frame.f_code.co_filename, frame.f_lineno)}: '{name}' brings the "
                        f"block's static shared memory "
                        f"to {sum(self.shared_bytes.values())} bytes; a block has at most "
                        f"{STATIC_SHARED} (48 KB). Use smaller "
                        "tiles or a smaller element type"
                    )
                block.shared[key] = garbage(dims, dt)
            a = whole = block.shared[key]
        buf = -1
        if self.watch:
            if key not in self.shared_buffers:
                self.shared_buffers[key] = self.recorder.buffer(
                    name, "shared", whole.nbytes, _grain(dt), a.shape, a.strides
                )
            buf = self.shared_buffers[key]
            b = self.recorder.buffers[buf]
            b.grain = min(b.grain, _grain(dt))
        return ThreadArray(a, self, name, buf, whole.__array_interface__["data"][0])

    # -- binding -------------------------------------------------------------------------------------------

    def bind(self, fn: FunctionType) -> Callable:
        """The function with its constants typed, and the engine behind the names it uses."""
        code = fn.__code__
        key = (code, tuple(map(id, fn.__closure__ or ())))
        if key in self.functions:
            return self.functions[key]
        names: dict[str, Any] = {"__builtins__": {**_BUILTINS, **source_exceptions()}, "__name__": fn.__module__}
        bound = FunctionType(_typed_code(code), names, fn.__name__, values.typed(fn.__defaults__), fn.__closure__)
        self.functions[key] = bound
        for name, v in fn.__globals__.items():
            if name in code.co_names:
                names[name] = self.meaning(name, v)
        for nested in (c for c in code.co_consts if isinstance(c, CodeType)):
            for name in nested.co_names:
                if name in fn.__globals__ and name not in names:
                    names[name] = self.meaning(name, fn.__globals__[name])
        if fn.__closure__:
            from types import CellType

            cells = []
            for name, cell in zip(code.co_freevars, fn.__closure__, strict=True):
                try:
                    cells.append(CellType(self.meaning(name, cell.cell_contents)))
                except ValueError:
                    cells.append(CellType())
            again = FunctionType(bound.__code__, names, fn.__name__, values.typed(fn.__defaults__), tuple(cells))
            self.functions[key] = bound = again
        bound.__kwdefaults__ = fn.__kwdefaults__
        return bound

    def meaning(self, name: str, v: Any) -> Any:
        """What an outer name stands for inside the kernel."""
        inner = source.python_function(v)
        if inner is not None:
            source.check_compiles(inner, device=True)
            return self.bind(inner)
        return outer_meaning(name, v, self)


def outer_meaning(name: str, v: Any, launch: Launch) -> Any:
    """Modules, arrays, types, constants and intrinsics by their meaning in a kernel."""
    import math

    module = getattr(v, "__name__", "") if type(v) is type(math) else ""
    if module == "numba.cuda":
        return launch.cuda
    if module == "math":
        return _Namespace("math", values.MATH.__getitem__)
    if module == "numpy":
        return _Namespace("np", values.numpy_name)
    if module.endswith("cuda.libdevice"):
        return _Namespace("libdevice", values.libdevice)
    if module == "operator":
        return v
    if isinstance(v, np.ndarray):
        const = v.view()
        const.flags.writeable = False
        return ThreadArray(const, launch, name)
    if isinstance(v, FunctionType):
        if (v.__module__ or "").startswith("numba.cuda.") and ".tests." not in v.__module__:
            return getattr(launch.cuda, v.__name__)

        def refuse(*_a: Any, **_k: Any) -> Any:
            f = user_frame(2)
            raise CompileError(
                f"{source.where(f.f_code.co_filename, f.f_lineno)}: the kernel calls the plain Python function "
                f"'{name}': the GPU compiler only knows device functions; put @cuda.jit(device=True) above it"
            )

        return refuse
    if callable(v) and getattr(v, "__module__", None) == "math":
        return values.MATH[v.__name__]
    if isinstance(v, np.ufunc):
        return v
    if isinstance(v, type) and issubclass(v, np.generic):
        return values.numpy_name(v.__name__)
    if type(v).__module__.startswith("numba") and hasattr(v, "cast_python_value"):
        return values.Cast(values.as_dtype(v)) if _is_number_type(v) else v
    return values.typed(v)


def _is_number_type(v: Any) -> bool:
    try:
        return values.as_dtype(v).kind in "iufcb"
    except Exception:
        return False


def source_exceptions() -> dict[str, Any]:
    """Exceptions that a kernel may raise, and assert."""
    import builtins

    return {n: getattr(builtins, n) for n in source.EXCEPTIONS}


class _Namespace:
    """A module inside a kernel: only what a GPU can do."""

    def __init__(self, name: str, lookup: Callable[[str], Any]) -> None:
        self._name, self._lookup = name, lookup

    def __getattr__(self, attr: str) -> Any:
        try:
            v = self._lookup(attr)
        except KeyError:
            raise CompileError(f"{self._name}.{attr} is not available in a kernel") from None
        setattr(self, attr, v)
        return v


_TYPED: dict[CodeType, CodeType] = {}


def _typed_code(code: CodeType) -> CodeType:
    t = _TYPED.get(code)
    if t is None:
        consts = tuple(_typed_code(c) if isinstance(c, CodeType) else values.typed(c) for c in code.co_consts)
        t = _TYPED[code] = code.replace(co_consts=consts)
    return t


def _grain(dt: np.dtype) -> int:
    return 1 if dt.names else dt.itemsize


def garbage(shape: Any, dt: np.dtype) -> np.ndarray:
    """Memory as a GPU leaves it: not zero, so that what is never written shows (NaN, or a pattern)."""
    a = np.empty(shape, dt)
    if dt.kind in "fc":
        a.fill(np.nan)
    else:
        a.view(np.uint8)[...] = 0xCD if dt.kind != "b" else 1
    return a


def assigned_name(filename: str, line: int) -> str:
    """The variable that the call in this line is assigned to."""
    m = re.match(r"\s*(\w+)\s*=", linecache.getline(filename, line))
    return m.group(1) if m else f"array of line {line}"


def _target(frame: Any) -> str:
    return assigned_name(frame.f_code.co_filename, frame.f_lineno)


def _range(*args: Any) -> Any:
    return map(np.int64, range(*[_index(a) for a in args]))


def _index(v: Any) -> int:
    if isinstance(v, (float, np.floating)):
        raise CompileError(f"range({v}) needs integers; use // instead of /, or int(...)")
    return int(v)


def _len(v: Any) -> Any:
    return np.int64(len(v))


def _enumerate(seq: Any, start: int = 0) -> Any:
    return ((np.int64(i), x) for i, x in enumerate(seq, start))


_BUILTINS: dict[str, Any] = {
    "abs": values.absolute,
    "bool": values.to_bool,
    "complex": complex,
    "divmod": divmod,
    "enumerate": _enumerate,
    "float": values.to_float,
    "int": values.to_int,
    "len": _len,
    "max": values.maximum,
    "min": values.minimum,
    "pow": values.power,
    "print": print,
    "range": _range,
    "round": values.rounded,
    "zip": zip,
    "tuple": tuple,
    "isinstance": isinstance,
    "slice": slice,
    "getattr": getattr,
    "hasattr": hasattr,
    "iter": iter,
    "next": next,
    "sum": sum,
    "any": any,
    "all": all,
    "True": True,
    "False": False,
    "None": None,
    "Ellipsis": Ellipsis,
    "__debug__": False,
}


# -- the cuda module as a kernel sees it ----------------------------------------------------------------------


class _Shared:
    def __init__(self, launch: Launch) -> None:
        self._launch = launch

    def array(self, shape: Any, dtype: Any, alignment: Any = None) -> ThreadArray:
        f = user_frame(2)
        _no_alignment(alignment)
        return self._launch.shared_array(shape, dtype, (f.f_code, f.f_lasti), f)


class _Local:
    def __init__(self, launch: Launch) -> None:
        self._launch = launch

    def array(self, shape: Any, dtype: Any, alignment: Any = None) -> ThreadArray:
        _no_alignment(alignment)
        dims = tuple(int(n) for n in shape) if isinstance(shape, tuple) else (int(shape),)
        return ThreadArray(garbage(dims, values.as_dtype(dtype)), self._launch, _target(user_frame(2)))


def _no_alignment(alignment: Any) -> None:
    if alignment is not None:
        raise RuntimeError("Array alignment is not supported in cudasim")


class _Const:
    @staticmethod
    def array_like(a: Any) -> Any:
        return a


class _GridGroup:
    def __init__(self, launch: Launch) -> None:
        self._launch = launch

    def sync(self) -> Any:
        self._launch.wait("grid", ("grid",))
        return np.int64(1)


class _Cg:
    def __init__(self, launch: Launch) -> None:
        self._launch = launch

    def this_grid(self) -> _GridGroup:
        return _GridGroup(self._launch)


def _wrap(x: Any, limit: Any) -> Any:
    return 0 if x >= limit else x + 1


_UPDATE: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda o, v: o + v,
    "sub": lambda o, v: o - v,
    "and_": lambda o, v: o & v,
    "or_": lambda o, v: o | v,
    "xor": lambda o, v: o ^ v,
    "exch": lambda o, v: v,
    "max": lambda o, v: v if v > o else o,
    "min": lambda o, v: v if v < o else o,
    "nanmax": lambda o, v: np.fmax(o, v),
    "nanmin": lambda o, v: np.fmin(o, v),
    "inc": lambda o, v: o.dtype.type(0) if o >= v else o + o.dtype.type(1),
    "dec": lambda o, v: v if o == 0 or o > v else o - o.dtype.type(1),
}


class _Atomic:
    """cuda.atomic: read, change and write one element as one step; gives the old value."""

    def __init__(self, launch: Launch) -> None:
        self._launch = launch
        for name, f in _UPDATE.items():
            setattr(self, name, self._make(f))

    def _make(self, f: Callable) -> Callable:
        def op(array: ThreadArray, idx: Any, val: Any) -> Any:
            old = self._old(array, idx)
            array._a[idx] = new = f(old, np.asarray(val).astype(array._a.dtype)[()])
            self._launch.progress |= bool(new != old)
            return values.widen(old)

        return op

    def _old(self, array: ThreadArray, idx: Any) -> Any:
        launch = self._launch
        if launch.spinning:
            launch.spin()
        try:
            old = array._a[idx]
        except IndexError:
            raise launch.bad_index(array, idx, user_frame(3)) from None
        if launch.watch and array._buf >= 0:
            array._note(idx, None, ATOMIC)
        return old

    def cas(self, array: ThreadArray, idx: Any, old: Any, val: Any) -> Any:
        now = self._old(array, idx)
        if now == old:
            array._a[idx] = val
            self._launch.progress = True
        return values.widen(now)

    def compare_and_swap(self, array: ThreadArray, old: Any, val: Any) -> Any:
        return self.cas(array, (0,) * array._a.ndim, old, val)


def _int_result(v: Any) -> np.int64:
    return np.int64(v)


def _shfl(pick: Callable[[Thread], int]) -> Callable:
    def result(t: Thread, lanes: dict[int, Thread]) -> Any:
        src = pick(t)
        if not 0 <= src < 32 or src not in lanes:
            return t.op[2]
        return lanes[src].op[2]

    return result


def _match_any(t: Thread, lanes: dict[int, Thread]) -> Any:
    return _int_result(sum(1 << n for n, u in lanes.items() if u.op[2] == t.op[2]))


def _match_all(t: Thread, lanes: dict[int, Thread]) -> Any:
    same = all(u.op[2] == t.op[2] for u in lanes.values())
    return (_int_result(t.op[1] if same else 0), np.bool_(same))


_WARP: dict[str, Callable[[Thread, dict[int, Thread]], Any]] = {
    "syncwarp": lambda t, lanes: None,
    "shfl_sync": _shfl(lambda t: int(t.op[3]) % 32),
    "shfl_up_sync": _shfl(lambda t: t.lane - int(t.op[3])),
    "shfl_down_sync": _shfl(lambda t: t.lane + int(t.op[3])),
    "shfl_xor_sync": _shfl(lambda t: t.lane ^ int(t.op[3])),
    "all_sync": lambda t, lanes: np.bool_(all(u.op[2] for u in lanes.values())),
    "any_sync": lambda t, lanes: np.bool_(any(u.op[2] for u in lanes.values())),
    "eq_sync": lambda t, lanes: np.bool_(len({bool(u.op[2]) for u in lanes.values()}) == 1),
    "ballot_sync": lambda t, lanes: _int_result(sum(1 << n for n, u in lanes.items() if u.op[2])),
    "match_any_sync": _match_any,
    "match_all_sync": _match_all,
}


class Cuda:
    """The `cuda` module inside a running kernel."""

    warpsize = np.int64(32)

    def __init__(self, launch: Launch) -> None:
        self._launch = launch
        self.shared, self.local, self.const, self.cg = _Shared(launch), _Local(launch), _Const(), _Cg(launch)
        self.atomic = _Atomic(launch)
        self.gridDim, self.blockDim = launch.grid_dim, launch.block_dim
        self.fp16 = _Namespace("cuda.fp16", values.FP16.__getitem__)
        self.libdevice = _Namespace("libdevice", values.libdevice)
        self.popc, self.clz, self.ffs, self.brev, self.fma = (
            values.popc,
            values.clz,
            values.ffs,
            values.brev,
            values.fma,
        )
        self.cbrt = values.MATH["cbrt"]

    @property
    def threadIdx(self) -> Dim3:
        return self._launch.current.threadIdx

    @property
    def blockIdx(self) -> Dim3:
        return self._launch.current.blockIdx

    @property
    def laneid(self) -> np.int64:
        return np.int64(self._launch.current.lane)

    def grid(self, n: int) -> Any:
        t = self._launch.current
        i, b, d = t.threadIdx, t.blockIdx, self.blockDim
        x = b.x * d.x + i.x
        if n == 1:
            return x
        y = b.y * d.y + i.y
        if n == 2:
            return x, y
        if n == 3:
            return x, y, b.z * d.z + i.z
        raise CompileError(f"cuda.grid({n}): a grid has 1, 2 or 3 dimensions")

    def gridsize(self, n: int) -> Any:
        d, g = self.blockDim, self.gridDim
        sizes = (d.x * g.x, d.y * g.y, d.z * g.z)
        if n not in (1, 2, 3):
            raise CompileError(f"cuda.gridsize({n}): a grid has 1, 2 or 3 dimensions")
        return sizes[0] if n == 1 else sizes[: int(n)]

    def syncthreads(self) -> None:
        self._launch.wait("barrier", ("plain", True))

    def syncthreads_count(self, v: Any) -> Any:
        return self._launch.wait("barrier", ("count", v))

    def syncthreads_and(self, v: Any) -> Any:
        return self._launch.wait("barrier", ("and", v))

    def syncthreads_or(self, v: Any) -> Any:
        return self._launch.wait("barrier", ("or", v))

    def threadfence(self) -> None:
        """Orders this thread's writes for others to see; here memory is always in order."""

    threadfence_block = threadfence_system = threadfence

    def nanosleep(self, ns: int) -> None:
        """Waits on a GPU; here it only lets others run."""
        if self._launch.spinning:
            self._launch.spin()

    def selp(self, c: Any, a: Any, b: Any) -> Any:
        return a if c else b

    def syncwarp(self, mask: Any = 0xFFFFFFFF) -> None:
        self._launch.wait("warp", ("syncwarp", _mask(mask)))

    def activemask(self) -> Any:
        t = self._launch.current
        first = t.rank - t.lane
        return _int_result(sum(1 << u.lane for u in t.block.threads[first : first + 32] if u.state != "done"))

    def lanemask_lt(self) -> Any:
        return _int_result((1 << self._launch.current.lane) - 1)

    def vote_sync_intrinsic(self, mask: Any, mode: Any, predicate: Any) -> Any:
        name = ("all_sync", "any_sync", "eq_sync", "ballot_sync")[int(mode)]
        return getattr(self, name)(mask, predicate)

    def __getattr__(self, name: str) -> Any:
        if name in _WARP:
            launch = self._launch
            return lambda mask, *args: launch.wait("warp", (name, _mask(mask), *args))
        if name.startswith("_"):
            raise AttributeError(name)
        import numba.cuda

        v = getattr(numba.cuda, name, None)
        if v is None:
            raise CompileError(f"cuda.{name} does not exist in a kernel")
        if _is_number_type(v):
            return values.Cast(values.as_dtype(v))
        return v


def _mask(mask: Any) -> int:
    return int(mask) & 0xFFFFFFFF
