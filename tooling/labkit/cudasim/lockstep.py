"""The lock-step engine: all threads of many blocks run each operation together, as NumPy arrays.

A kernel's syntax tree becomes closures. A value is a scalar where all threads agree on it, else an array with one
element a thread (a lane). Where threads take different ways, each side runs under a mask of its lanes and the
variables that differ are merged after it: the classic way to put a scalar program on a vector machine
(Allen, Kennedy: Optimizing Compilers for Modern Architectures, chapter 7, "if-conversion"; ispc works so too).
What it does not know, and every error, it leaves to the thread engine by raising `Unsupported`.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any

import numpy as np

from . import source, threads, values
from .errors import CudaSimError
from .limits import STATIC_SHARED
from .records import ATOMIC, READ, WRITE, Geometry, Lanes, Recorder

BATCH = 32768  # lanes that run together: large enough to hide Python, small enough for the cache
COOPERATIVE = 1 << 20  # threads of a grid that waits for itself
SPIN = 1000  # rounds of a while loop with atomics after which it is taken to wait for another lane

Value = Any
Env = dict[str, Any]


class Unsupported(Exception):
    """This engine cannot run the kernel: the thread engine must."""


class Mask:
    """The lanes that are active: as bits, as positions."""

    __slots__ = ("act", "bits", "lanes", "n")

    def __init__(self, bits: np.ndarray, act: np.ndarray | None = None) -> None:
        self.bits = bits
        self.act = np.flatnonzero(bits) if act is None else act
        self.n = len(self.act)
        self.lanes: Lanes | None = None


class _Empty:
    """No lane at all."""


EMPTY: Any = _Empty()  # a mask is None (all lanes), a Mask, or EMPTY
_UNSET: Any = object()


class LaneArray:
    """An array as lanes see it: elements of a flat memory, at an offset that may differ from lane to lane."""

    __slots__ = ("block_size", "buf", "byte0", "flat", "name", "off", "shape", "strides")

    def __init__(
        self,
        flat: np.ndarray,
        off: Value,
        shape: tuple,
        strides: tuple,
        name: str,
        buf: int = -1,
        byte0: int = 0,
        block_size: int = 0,
    ) -> None:
        self.flat, self.off, self.shape, self.strides = flat, off, shape, strides
        self.name, self.buf, self.byte0 = name, buf, byte0
        self.block_size = block_size  # elements of a block's part, for shared memory


class _Grid:
    """cuda.cg.this_grid()."""


_GRID = _Grid()


class Run:
    """One batch of blocks in lock step."""

    def __init__(
        self,
        geometry: Geometry,
        blocks: np.ndarray,
        dynamic_shared: int,
        recorder: Recorder | None,
        order: np.ndarray | None,
        shared_buffers: dict[Any, int],
        cooperative: bool,
    ) -> None:
        g = self.geometry = geometry
        self.recorder, self.shared_buffers, self.cooperative = recorder, shared_buffers, cooperative
        self.profile = recorder.profile if recorder is not None else None
        self.blocks = blocks
        self.nb, T = len(blocks), g.threads
        self.n = self.nb * T
        local = np.repeat(np.arange(self.nb), T)
        tid = np.tile(np.arange(T), self.nb)
        if order is not None:
            local, tid = local[order], tid[order]
        self.local, self.tid = local, tid
        block = blocks[local]
        bx, by, _ = g.block
        gx, gy, _ = g.grid
        one = self.nb == 1
        self.threadIdx = [
            np.int64(0) if n == 1 else v
            for n, v in zip(g.block, (tid % bx if bx < T else tid, tid // bx % by, tid // (bx * by)), strict=True)
        ]
        self.blockIdx = [
            np.int64(0) if n == 1 else (v[0] if one else v)
            for n, v in zip(
                g.grid, (block % gx if g.blocks > gx else block, block // gx % gy, block // (gx * gy)), strict=True
            )
        ]
        self.blockDim = [np.int64(n) for n in g.block]
        self.gridDim = [np.int64(n) for n in g.grid]
        self.row, self.col = local * g.warps + tid // 32, tid % 32
        self.rows = self.nb * g.warps
        self.lanes = Lanes(block * T + tid, block * g.warps + tid // 32, self.col, full=order is None and T % 32 == 0)
        self.pos: np.ndarray | None = None
        self.exited: np.ndarray | None = None
        self.epoch: np.ndarray | None = None
        self.shared: dict[Any, np.ndarray] = {}
        self.shared_bytes: dict[Any, int] = {}
        self.dynamic_shared = dynamic_shared
        self.dynamic = np.zeros(self.nb * dynamic_shared, np.uint8)
        self.grids: dict[int, Any] = {}

    # -- masks ---------------------------------------------------------------------------------------------

    def size(self, m: Any) -> int:
        return self.n if m is None else m.n

    def split(self, m: Any, c: np.ndarray) -> tuple[Any, Any]:
        """The lanes of m where c holds, and the others."""
        if c.dtype != np.bool_:
            c = c != 0
        bits = c if m is None else c & m.bits
        n = int(np.count_nonzero(bits))
        if n == 0:
            return EMPTY, m
        if n == self.size(m):
            return m, EMPTY
        return Mask(bits), Mask(~c if m is None else m.bits & ~c)

    def union(self, a: Any, b: Any) -> Any:
        if a is EMPTY:
            return b
        if b is EMPTY:
            return a
        if a is None or b is None:
            return None
        bits = a.bits | b.bits
        m = Mask(bits)
        return None if m.n == self.n else m

    def active(self, m: Any) -> np.ndarray:
        return np.arange(self.n) if m is None else m.act

    def lanes_of(self, m: Any) -> Lanes:
        if m is None:
            return self.lanes
        if m.lanes is None:
            m.lanes = self.lanes.take(m.act)
        return m.lanes

    # -- memory --------------------------------------------------------------------------------------------

    def locate(self, a: LaneArray, idx: tuple, m: Any) -> Value:
        """Flat positions of an element for the active lanes: an int, or an array in the order of m.act."""
        if len(idx) != len(a.shape):
            raise Unsupported("index count")
        total: Value = a.off
        if m is not None and type(total) is np.ndarray:
            total = total[m.act]
        for i, n, s in zip(idx, a.shape, a.strides, strict=True):
            if type(i) is np.ndarray:
                if i.dtype.kind not in "iu":
                    raise Unsupported("index type")
                if m is not None:
                    i = i[m.act]
                if i.view(np.uint64).max() >= n:
                    i = np.where(i < 0, i + n, i)
                    if i.view(np.uint64).max() >= n:
                        raise Unsupported("out of bounds")
                total = total + i * s if s != 1 else (i if type(total) is int and total == 0 else total + i)
            else:
                if not isinstance(i, (np.integer, int)):
                    raise Unsupported("index type")
                i = int(i)
                if i < 0:
                    i += int(n)
                if not 0 <= i < n:
                    raise Unsupported("out of bounds")
                total = total + i * s
        return total

    def note(self, a: LaneArray, lin: Value, m: Any, kind: int, site: Any) -> None:
        rec = self.recorder
        if rec is None or a.buf < 0:
            return
        races = rec.races is not None and rec.buffers[a.buf].written
        if not races and self.profile is None:
            return
        lanes = self.lanes_of(m)
        if type(lin) is not np.ndarray:
            lin = np.full(len(lanes.thread), lin)
        number = rec.site(*site)
        size = a.flat.dtype.itemsize
        epoch = None if self.epoch is None else (self.epoch if m is None else self.epoch[m.act])
        if self.profile is not None:
            size_of_block = a.block_size * size
            # Whole cache lines more or less change neither banks nor sectors: spare the subtraction.
            off = lin * size + a.byte0 if size_of_block % 128 == 0 else self.offsets(a, lin, m)
            self.profile.access(rec.buffers[a.buf], off, size, kind, rec.sites[number], lanes)
        if races:
            rec.races.access(a.buf, lambda: self.offsets(a, lin, m), size, kind, number, lanes.thread, epoch)

    def offsets(self, a: LaneArray, lin: np.ndarray, m: Any) -> np.ndarray:
        """Byte offsets in the array's buffer (for shared memory: in the block's own part)."""
        if a.block_size:
            lin = lin - (self.local if m is None else self.local[m.act]) * a.block_size
        return lin * a.flat.dtype.itemsize + a.byte0

    def load(self, a: LaneArray, idx: tuple, m: Any, site: Any) -> Value:
        lin = self.locate(a, idx, m)
        if self.recorder is not None:
            self.note(a, lin, m, READ, site)
        v = a.flat[lin]
        if v.dtype.kind in "iu" and v.dtype.itemsize < 8:
            v = v.astype(np.int64)
        if m is None or type(lin) is not np.ndarray:
            return v
        out = np.zeros(self.n, v.dtype)
        out[m.act] = v
        return out

    def store(self, a: LaneArray, idx: tuple, v: Value, m: Any, site: Any) -> None:
        lin = self.locate(a, idx, m)
        if not a.flat.flags.writeable:
            raise Unsupported("constant memory")
        if self.recorder is not None:
            self.note(a, lin, m, WRITE, site)
        if isinstance(v, (LaneArray, tuple, _Grid)) or v is None:
            raise Unsupported("stored value")
        if type(v) is np.ndarray:
            if v.dtype.kind == "c" and a.flat.dtype.kind != "c":
                raise Unsupported("complex to real")
            if m is not None:
                v = v[m.act]
            if type(lin) is not np.ndarray:
                v = v[-1]
        a.flat[lin] = v.astype(a.flat.dtype) if isinstance(v, (np.ndarray, np.generic)) else v

    def view(self, a: LaneArray, idx: tuple, m: Any) -> LaneArray:
        """A row, column or slice of an array."""
        off, shape, strides = a.off, [], []
        for k, (n, s) in enumerate(zip(a.shape, a.strides, strict=True)):
            i = idx[k] if k < len(idx) else slice(None)
            if isinstance(i, slice):
                if any(type(p) is np.ndarray for p in (i.start, i.stop, i.step)):
                    raise Unsupported("slice bounds that differ between threads")
                start, stop, step = slice(*[None if p is None else int(p) for p in (i.start, i.stop, i.step)]).indices(
                    int(n)
                )
                off = off + start * s
                shape.append(len(range(start, stop, step)))
                strides.append(s * step)
            else:
                one = LaneArray(a.flat, 0, (n,), (s,), a.name)
                lin = self.locate(one, (i,), m)
                if type(lin) is np.ndarray and m is not None:
                    full = np.zeros(self.n, np.int64)
                    full[m.act] = lin
                    lin = full
                off = off + lin
        return LaneArray(a.flat, off, tuple(shape), tuple(strides), a.name, a.buf, a.byte0, a.block_size)

    def allocate(self, space: str, shape: Any, dtype: Any, key: Any, name: str) -> LaneArray:
        dt = values.as_dtype(dtype)
        if dt.kind not in "biufc":
            raise Unsupported("structured arrays")
        dims = tuple(int(n) for n in shape) if isinstance(shape, tuple) else (int(shape),)
        size = int(np.prod(dims))
        strides = tuple(int(np.prod(dims[k + 1 :])) for k in range(len(dims)))
        if space == "local":
            return LaneArray(threads.garbage(self.n * size, dt), np.arange(self.n) * size, dims, strides, name)
        if dims == (0,):
            per = self.dynamic_shared // dt.itemsize
            if not per or self.dynamic_shared % dt.itemsize:
                raise Unsupported("dynamic shared memory")
            flat, dims, strides, size, key = self.dynamic.view(dt), (per,), (1,), per, "dynamic"
            whole = self.dynamic_shared
        else:
            if key not in self.shared:
                self.shared_bytes[key] = size * dt.itemsize
                if sum(self.shared_bytes.values()) > STATIC_SHARED:
                    raise Unsupported("too much shared memory")
                self.shared[key] = threads.garbage(self.nb * size, dt)
            flat, whole = self.shared[key], size * dt.itemsize
        buf = -1
        if self.recorder is not None:
            if key not in self.shared_buffers:
                self.shared_buffers[key] = self.recorder.buffer(
                    name, "shared", whole, dt.itemsize, dims, tuple(s * dt.itemsize for s in strides)
                )
            buf = self.shared_buffers[key]
            b = self.recorder.buffers[buf]
            b.grain = min(b.grain, dt.itemsize)
        off: Value = 0 if self.nb == 1 else self.local * size
        return LaneArray(flat, off, dims, strides, name, buf, 0, size)

    # -- waiting -------------------------------------------------------------------------------------------

    def barrier(self, m: Any, site: Any) -> None:
        which = None
        if m is not None:
            here = np.bincount(self.local[m.act], minlength=self.nb)
            if ((here != 0) & (here != self.geometry.threads)).any():
                raise Unsupported("barrier not reached by all threads")
            which = self.blocks[here != 0]
        if self.recorder is not None:
            if self.recorder.races is not None:
                self.recorder.races.barrier(which)
            if self.profile is not None:
                s = self.recorder.sites[self.recorder.site(*site)]
                self.profile.barrier(s, self.nb if which is None else len(which))
        if self.epoch is not None:
            if m is None:
                self.epoch = None
            else:
                self.epoch = self.epoch.copy()
                self.epoch[m.act] = 0

    def barrier_value(self, kind: str, v: Value, m: Any, site: Any) -> Value:
        self.barrier(m, site)
        flags = np.broadcast_to(np.asarray(v) != 0, self.n)
        act = self.active(m)
        count = np.bincount(self.local[act], weights=flags[act], minlength=self.nb).astype(np.int64)
        if kind == "and":
            count = (count == self.geometry.threads).astype(np.int64)
        elif kind == "or":
            count = (count > 0).astype(np.int64)
        return count[self.local]

    def grid_barrier(self, m: Any) -> Value:
        if m is not None or self.nb != self.geometry.blocks:
            raise Unsupported("grid barrier not reached by all threads")
        if self.recorder is not None and self.recorder.races is not None:
            self.recorder.races.grid_barrier()
        self.epoch = None
        return np.int64(1)

    # -- warps ---------------------------------------------------------------------------------------------

    def _bits_of(self, flags: np.ndarray) -> np.ndarray:
        """One 32-bit word a warp from one flag a lane."""
        return np.bincount(
            self.row, weights=np.where(flags, (1 << self.col).astype(np.float64), 0.0), minlength=self.rows
        ).astype(np.int64)

    def members(self, mask: Value, m: Any) -> np.ndarray:
        """The lanes that take part in a warp primitive, as bits; checks that those named are there."""
        if type(mask) is np.ndarray:
            mine = mask[self.active(m)]
            if (mine != mine[0]).any():
                raise Unsupported("masks that differ")
            mask = mine[0]
        word = int(mask) & 0xFFFFFFFF
        here = np.ones(self.n, bool) if m is None else m.bits
        if word == 0xFFFFFFFF and m is None:
            return here
        named = (word >> self.col & 1).astype(bool)
        if (here & ~named).any():
            raise Unsupported("a lane that does not name itself")
        alive = np.ones(self.n, bool) if self.exited is None else ~self.exited
        busy = np.zeros(self.rows, bool)
        busy[self.row[here]] = True
        if (busy[self.row] & named & alive & ~here).any():
            raise Unsupported("a named lane is elsewhere")
        return here & named

    def shuffle(self, kind: str, mask: Value, v: Value, arg: Value, m: Any) -> Value:
        take = self.members(mask, m)
        if self.pos is None:
            self.pos = np.full((self.rows, 32), -1)
            self.pos[self.row, self.col] = np.arange(self.n)
        v = np.broadcast_to(np.asarray(v), self.n)
        arg = np.asarray(arg).astype(np.int64)
        src = {
            "shfl_sync": lambda: arg % 32 + 0 * self.col,
            "shfl_up_sync": lambda: self.col - arg,
            "shfl_down_sync": lambda: self.col + arg,
            "shfl_xor_sync": lambda: self.col ^ arg,
        }[kind]()
        valid = (src >= 0) & (src < 32)
        partner = self.pos[self.row, np.where(valid, src, 0)]
        valid &= partner >= 0
        valid &= take[partner]
        return np.where(valid, v[partner], v)

    def vote(self, kind: str, mask: Value, v: Value, m: Any) -> Value:
        take = self.members(mask, m)
        flags = np.broadcast_to(np.asarray(v) != 0, self.n) & take
        yes, all_ = self._bits_of(flags), self._bits_of(take)
        out = {
            "all_sync": yes == all_,
            "any_sync": yes != 0,
            "eq_sync": (yes == all_) | (yes == 0),
            "ballot_sync": yes,
        }[kind]
        return out[self.row]

    def match(self, kind: str, mask: Value, v: Value, m: Any) -> Value:
        take = self.members(mask, m)
        v = np.broadcast_to(np.asarray(v), self.n)
        dense = np.zeros((self.rows, 32), v.dtype)
        here = np.zeros((self.rows, 32), bool)
        dense[self.row, self.col], here[self.row, self.col] = v, take
        same = (dense[:, :, None] == dense[:, None, :]) & here[:, None, :]
        bits = (same * (1 << np.arange(32))).sum(axis=2)[self.row, self.col]
        if kind == "match_any_sync":
            return bits
        all_ = self._bits_of(take)[self.row]
        agree = bits == all_
        word = mask[self.active(m)][0] if type(mask) is np.ndarray else mask
        return np.where(agree, np.int64(int(word) & 0xFFFFFFFF), 0), agree

    def syncwarp(self, mask: Value, m: Any) -> None:
        take = self.members(mask, m)
        if self.recorder is not None and self.recorder.races is not None:
            self.epoch = (np.zeros(self.n, np.int64) if self.epoch is None else self.epoch) + take

    def activemask(self, m: Any) -> Value:
        here = np.ones(self.n, bool) if m is None else m.bits
        return self._bits_of(here)[self.row]

    # -- atomics -------------------------------------------------------------------------------------------

    def atomic(
        self, name: str, a: LaneArray, idx: tuple, v: Value, m: Any, site: Any, used: bool, compare: Value = None
    ) -> Value:
        lin = self.locate(a, idx, m)
        if not a.flat.flags.writeable:
            raise Unsupported("constant memory")
        if self.recorder is not None:
            self.note(a, lin, m, ATOMIC, site)
        act = self.active(m)
        dt = a.flat.dtype
        lin = np.broadcast_to(lin, len(act))
        v = np.broadcast_to(np.asarray(v), self.n)[act].astype(dt)
        if not used and name in _UFUNC_AT:
            _UFUNC_AT[name].at(a.flat, lin, v)
            return None
        old = np.empty(len(act), dt)
        if len(np.unique(lin)) == len(lin) and name in _UFUNC_AT:
            old[:] = a.flat[lin]
            _UFUNC_AT[name].at(a.flat, lin, v)
        elif name == "cas":
            want = np.broadcast_to(np.asarray(compare), self.n)[act]
            flat = a.flat
            for k in range(len(act)):
                p = lin[k]
                old[k] = flat[p]
                if flat[p] == want[k]:
                    flat[p] = v[k]
        else:
            f, flat = threads._UPDATE[name], a.flat
            for k in range(len(act)):
                p = lin[k]
                old[k] = flat[p]
                flat[p] = f(flat[p], v[k])
        out = values.widen(old)
        if m is None:
            return out
        full = np.zeros(self.n, out.dtype)
        full[act] = out
        return full

    # -- indices -------------------------------------------------------------------------------------------

    def grid(self, n: int) -> Value:
        if n not in self.grids:
            parts = [b * d + t for b, d, t in zip(self.blockIdx, self.blockDim, self.threadIdx, strict=True)]
            self.grids[n] = parts[0] if n == 1 else tuple(parts[:n])
        return self.grids[n]

    def branch(self, m: Any, c: Value, site: Any) -> None:
        """Tell the profile how the warps decided."""
        if self.profile is not None and self.recorder is not None:
            s = self.recorder.sites[self.recorder.site(*site)]
            lanes = self.lanes_of(m)
            if type(c) is np.ndarray:
                flags = (c if m is None else c[m.act]) != 0
            else:
                flags = np.full(len(lanes.thread), bool(c))
            self.profile.branch(s, lanes, flags)


_UFUNC_AT = {
    "add": np.add,
    "sub": np.subtract,
    "and_": np.bitwise_and,
    "or_": np.bitwise_or,
    "xor": np.bitwise_xor,
    "max": np.maximum,
    "min": np.minimum,
    "nanmax": np.fmax,
    "nanmin": np.fmin,
}


class _Loop:
    """Lanes that left an iteration of a loop."""

    __slots__ = ("broken", "continued")

    def __init__(self) -> None:
        self.broken: Any = EMPTY
        self.continued: Any = EMPTY


class _Frame:
    """One call: its return value, its loops, and whether lanes wait outside of the current statements."""

    __slots__ = ("kernel", "loops", "parked", "value")

    def __init__(self, kernel: bool = False) -> None:
        self.value: Any = _UNSET
        self.loops: list[_Loop] = []
        self.parked = False
        self.kernel = kernel


def merge(bits: np.ndarray, new: Value, old: Value) -> Value:
    """new where bits, old elsewhere."""
    if new is old:
        return new
    if isinstance(new, tuple) and isinstance(old, tuple) and len(new) == len(old):
        return tuple(merge(bits, a, b) for a, b in zip(new, old, strict=True))
    plain = (np.ndarray, np.generic, bool, int, float)
    if isinstance(new, plain) and isinstance(old, plain):
        if (
            not isinstance(new, np.ndarray)
            and not isinstance(old, np.ndarray)
            and type(new) is type(old)
            and new == old
        ):
            return new
        return np.where(bits, new, old)
    if (
        isinstance(new, LaneArray)
        and isinstance(old, LaneArray)
        and new.flat is old.flat
        and new.shape == old.shape
        and new.strides == old.strides
    ):
        return LaneArray(
            new.flat,
            np.where(bits, new.off, old.off),
            new.shape,
            new.strides,
            new.name,
            new.buf,
            new.byte0,
            new.block_size,
        )
    raise Unsupported("a variable that is different things in different threads")


def _merge_env(bits: np.ndarray, env: Env, new: Env) -> None:
    """Take over into env what the lanes in bits have in new."""
    for name, v in new.items():
        old = env.get(name, _UNSET)
        if old is _UNSET:
            env[name] = v
        elif old is not v:
            env[name] = merge(bits, v, old)


_BINARY: dict[type, Callable] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.true_divide,
    ast.FloorDiv: np.floor_divide,
    ast.Mod: np.remainder,
    ast.Pow: values.power,
    ast.LShift: values.bitwise(np.left_shift),
    ast.RShift: values.bitwise(np.right_shift),
    ast.BitOr: values.bitwise(np.bitwise_or),
    ast.BitXor: values.bitwise(np.bitwise_xor),
    ast.BitAnd: values.bitwise(np.bitwise_and),
}
_ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow)
_COMPARE: dict[type, Callable] = {
    ast.Eq: np.equal,
    ast.NotEq: np.not_equal,
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
}
_SIMPLE_BUILTINS: dict[str, Callable] = {
    "abs": values.absolute,
    "float": values.to_float,
    "int": values.to_int,
    "bool": values.to_bool,
    "min": values.minimum,
    "max": values.maximum,
    "round": values.rounded,
    "pow": values.power,
}
_NUMBERS = (np.ndarray, np.generic, bool, int, float)


def _number(v: Value) -> Value:
    if type(v) is np.ndarray or isinstance(v, _NUMBERS):
        return v
    raise Unsupported("an operation on something that is no number")


class Function:
    """A kernel or device function, compiled to closures."""

    def __init__(self, fn: FunctionType, program: Program) -> None:
        self.fn, self.program = fn, program
        tree = source.tree_of(fn)
        if tree is None:
            raise Unsupported("no source")
        a = tree.args
        if a.vararg or a.kwarg or a.kwonlyargs or a.posonlyargs:
            raise Unsupported("variadic functions")
        self.params = [p.arg for p in a.args]
        self.defaults = dict(
            zip(self.params[len(self.params) - len(a.defaults) :], values.typed(fn.__defaults__ or ()), strict=True)
        )
        self.names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        self.names |= set(self.params)
        self.outer = source.outer_names(fn)
        self.filename = fn.__code__.co_filename
        self.body: Callable | None = None
        self.tree = tree

    def call(self, S: Run, args: list, m: Any) -> Value:
        """Run as a device function for the lanes of m."""
        if self.body is None:
            self.body = self.block(self.tree.body)
        env = dict(self.defaults)
        env.update(zip(self.params, args, strict=False))
        if len(args) > len(self.params) or len(env) < len(self.params):
            raise Unsupported("argument count")
        frame = _Frame()
        self.body(S, env, m, frame)
        return None if frame.value is _UNSET else frame.value

    def site(self, node: ast.AST) -> tuple[str, int, int]:
        return self.filename, node.lineno, node.col_offset  # type: ignore[attr-defined]

    # -- statements ----------------------------------------------------------------------------------------

    def block(self, stmts: list[ast.stmt]) -> Callable:
        parts = [
            self.stmt(s)
            for s in stmts
            if not isinstance(s, ast.Pass) and not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))
        ]

        def run(S: Run, env: Env, m: Any, F: _Frame) -> Any:
            for p in parts:
                m = p(S, env, m, F)
                if m is EMPTY:
                    break
            return m

        return run

    def stmt(self, s: ast.stmt) -> Callable:
        method = getattr(self, "stmt_" + type(s).__name__, None)
        if method is None:
            raise Unsupported(type(s).__name__)
        return method(s)

    def stmt_Expr(self, s: ast.Expr) -> Callable:
        ev = self.call_expr(s.value, used=False) if isinstance(s.value, ast.Call) else self.expr(s.value)

        def run(S: Run, env: Env, m: Any, F: _Frame) -> Any:
            ev(S, env, m)
            return m

        return run

    def stmt_Assign(self, s: ast.Assign) -> Callable:
        ev = self.expr(s.value)
        targets = [self.target(t) for t in s.targets]

        def run(S: Run, env: Env, m: Any, F: _Frame) -> Any:
            v = ev(S, env, m)
            for t in targets:
                t(S, env, m, F, v)
            return m

        return run

    def stmt_AnnAssign(self, s: ast.AnnAssign) -> Callable:
        if s.value is None:
            return lambda S, env, m, F: m
        return self.stmt_Assign(ast.copy_location(ast.Assign([s.target], s.value), s))

    def target(self, t: ast.expr) -> Callable:
        if isinstance(t, ast.Name):
            name = t.id

            def assign(S: Run, env: Env, m: Any, F: _Frame, v: Value) -> None:
                if F.parked and m is not None and name in env:
                    v = merge(m.bits, v, env[name])
                env[name] = v

            return assign
        if isinstance(t, ast.Tuple):
            parts = [self.target(e) for e in t.elts]

            def unpack(S: Run, env: Env, m: Any, F: _Frame, v: Value) -> None:
                if not isinstance(v, tuple) or len(v) != len(parts):
                    raise Unsupported("unpacking")
                for p, x in zip(parts, v, strict=True):
                    p(S, env, m, F, x)

            return unpack
        if isinstance(t, ast.Subscript):
            base, index, site = self.expr(t.value), self.index(t.slice), self.site(t)

            def put(S: Run, env: Env, m: Any, F: _Frame, v: Value) -> None:
                a = base(S, env, m)
                if not isinstance(a, LaneArray):
                    raise Unsupported("storing into something that is no array")
                S.store(a, index(S, env, m), v, m, site)

            return put
        raise Unsupported("assignment target")

    def stmt_AugAssign(self, s: ast.AugAssign) -> Callable:
        op = self.binary(type(s.op), self.site(s))
        ev = self.expr(s.value)
        if isinstance(s.target, ast.Name):
            name, put = s.target.id, self.target(s.target)

            def run(S: Run, env: Env, m: Any, F: _Frame) -> Any:
                if name not in env:
                    raise Unsupported("undefined name")
                put(S, env, m, F, op(S, env[name], ev(S, env, m), m))
                return m

            return run
        if isinstance(s.target, ast.Subscript):
            base, index, site = self.expr(s.target.value), self.index(s.target.slice), self.site(s.target)

            def run_item(S: Run, env: Env, m: Any, F: _Frame) -> Any:
                a, i = base(S, env, m), index(S, env, m)
                if not isinstance(a, LaneArray):
                    raise Unsupported("storing into something that is no array")
                old = S.load(a, i, m, site)
                S.store(a, i, op(S, old, ev(S, env, m), m), m, site)
                return m

            return run_item
        raise Unsupported("assignment target")

    def stmt_If(self, s: ast.If) -> Callable:
        test, body, site = self.expr(s.test), self.block(s.body), self.site(s)
        orelse = self.block(s.orelse) if s.orelse else None
        parks = any(isinstance(n, (ast.Break, ast.Continue)) for n in ast.walk(s))

        def run(S: Run, env: Env, m: Any, F: _Frame) -> Any:
            c = test(S, env, m)
            if S.profile is not None:
                S.branch(m, c, site)
            if type(c) is not np.ndarray:
                if c:
                    return body(S, env, m, F)
                return orelse(S, env, m, F) if orelse is not None else m
            yes, no = S.split(m, c)
            if no is EMPTY:
                return body(S, env, m, F)
            if yes is EMPTY:
                return orelse(S, env, m, F) if orelse is not None else m
            e1 = dict(env)
            r1 = body(S, e1, yes, F)
            if orelse is None:
                e2, r2 = env, no
            else:
                e2 = dict(env)
                r2 = orelse(S, e2, no, F)
            if r1 is EMPTY and not parks:  # those lanes have returned: nobody asks for their variables
                if e2 is not env:
                    env.update(e2)
            elif r2 is EMPTY and not parks:
                env.update(e1)
            else:
                if e2 is not env:
                    for name, v in e2.items():
                        env.setdefault(name, v)
                    for name in list(env):
                        if name in e1 and name in e2:
                            env[name] = e2[name]
                _merge_env(yes.bits, env, e1)
            if r1 is yes and r2 is no:
                return m
            return S.union(r1, r2)

        return run

    def stmt_While(self, s: ast.While) -> Callable:
        test, body, site = self.expr(s.test), self.block(s.body), self.site(s)
        orelse = self.block(s.orelse) if s.orelse else None
        waits = any(isinstance(n, ast.Attribute) and n.attr == "atomic" for n in ast.walk(self.tree))

        def run(S: Run, env: Env, m: Any, F: _Frame) -> Any:
            loop = _Loop()
            F.loops.append(loop)
            outer, cur, left, rounds = F.parked, m, EMPTY, 0
            while True:
                c = test(S, env, cur)
                if S.profile is not None:
                    S.branch(cur, c, site)
                if type(c) is not np.ndarray:
                    if not c:
                        left = S.union(left, cur)
                        break
                    go = cur
                else:
                    go, stop = S.split(cur, c)
                    if stop is not EMPTY:
                        left = cur if go is EMPTY and left is EMPTY else S.union(left, stop)
                    if go is EMPTY:
                        break
                rounds += 1
                if waits and rounds > SPIN:
                    raise Unsupported("a loop that waits for other threads")
                cur = self.iterate(S, env, m, go, F, body, loop, outer)
                if cur is EMPTY:
                    break
            return self.leave(S, env, m, left, F, loop, outer, orelse)

        return run

    @staticmethod
    def iterate(
        S: Run,
        env: Env,
        entry: Any,
        go: Any,
        F: _Frame,
        body: Callable,
        loop: _Loop,
        outer: bool,
        put: Callable | None = None,
        v: Value = None,
    ) -> Any:
        """One iteration for the lanes of go; gives those that go on."""
        if go is entry:
            if put is not None:
                put(S, env, go, F, v)
            r = body(S, env, go, F)
        else:
            e = dict(env)
            if put is not None:
                put(S, e, go, F, v)
            r = body(S, e, go, F)
            _merge_env(go.bits, env, e)
        r = S.union(r, loop.continued)
        loop.continued = EMPTY
        F.parked = outer
        if r is not EMPTY and r is not go and S.size(r) == S.size(go):
            r = go
        return r

    @staticmethod
    def leave(
        S: Run, env: Env, entry: Any, left: Any, F: _Frame, loop: _Loop, outer: bool, orelse: Callable | None
    ) -> Any:
        """The loop is over: those that left by its end (through else), and those that broke out, go on."""
        F.loops.pop()
        F.parked = outer
        if orelse is not None and left is not EMPTY:
            if left is entry:
                left = orelse(S, env, left, F)
            else:
                e = dict(env)
                bits = left.bits
                left = orelse(S, e, left, F)
                _merge_env(bits, env, e)
        out = S.union(left, loop.broken)
        if out is not EMPTY and S.size(out) == S.size(entry):
            return entry
        return out

    def stmt_For(self, s: ast.For) -> Callable:
        it = s.iter
        known, f = self.static(it.func) if isinstance(it, ast.Call) else (False, None)
        if not (isinstance(it, ast.Call) and known and f is range and not it.keywords and 1 <= len(it.args) <= 3):
            raise Unsupported("a for loop over something else than range")
        bounds = [self.expr(a) for a in it.args]
        put, body, site = self.target(s.target), self.block(s.body), self.site(s)
        orelse = self.block(s.orelse) if s.orelse else None

        def run(S: Run, env: Env, m: Any, F: _Frame) -> Any:
            b = [_number(x(S, env, m)) for x in bounds]
            if any(np.asarray(x).dtype.kind not in "iu" for x in b):
                raise Unsupported("range of something that is no integer")
            start, stop, step = (np.int64(0), b[0], np.int64(1)) if len(b) == 1 else (*b, np.int64(1))[:3]
            loop = _Loop()
            F.loops.append(loop)
            outer, cur, left = F.parked, m, EMPTY
            if not any(type(x) is np.ndarray for x in (start, stop, step)):
                if step == 0:
                    raise Unsupported("range step of zero")
                for i in range(int(start), int(stop), int(step)):
                    cur = self.iterate(S, env, m, cur, F, body, loop, outer, put, np.int64(i))
                    if cur is EMPTY:
                        break
                return self.leave(S, env, m, cur, F, loop, outer, orelse)
            lane_i = np.broadcast_to(start, S.n).astype(np.int64)
            if np.any(np.asarray(step) == 0):
                raise Unsupported("range step of zero")
            up = np.asarray(step) > 0
            while True:
                more = np.where(up, lane_i < stop, lane_i > stop)
                if S.profile is not None:
                    S.branch(cur, more, site)
                go, end = S.split(cur, more)
                if end is not EMPTY:
                    left = cur if go is EMPTY and left is EMPTY else S.union(left, end)
                if go is EMPTY:
                    break
                cur = self.iterate(S, env, m, go, F, body, loop, outer, put, lane_i)
                if cur is EMPTY:
                    break
                lane_i = lane_i + step
            return self.leave(S, env, m, left, F, loop, outer, orelse)

        return run

    def stmt_Break(self, s: ast.Break) -> Callable:
        def run(S: Run, env: Env, m: Any, F: _Frame) -> Any:
            loop = F.loops[-1]
            loop.broken = S.union(loop.broken, m)
            F.parked = True
            return EMPTY

        return run

    def stmt_Continue(self, s: ast.Continue) -> Callable:
        def run(S: Run, env: Env, m: Any, F: _Frame) -> Any:
            loop = F.loops[-1]
            loop.continued = S.union(loop.continued, m)
            F.parked = True
            return EMPTY

        return run

    def stmt_Return(self, s: ast.Return) -> Callable:
        ev = self.expr(s.value) if s.value is not None else None

        def run(S: Run, env: Env, m: Any, F: _Frame) -> Any:
            if ev is not None:
                v = ev(S, env, m)
                F.value = v if F.value is _UNSET or m is None else merge(m.bits, v, F.value)
            if F.kernel and m is not None:
                S.exited = m.bits if S.exited is None else S.exited | m.bits
            return EMPTY

        return run

    def stmt_Assert(self, s: ast.Assert) -> Callable:
        test = self.expr(s.test)

        def run(S: Run, env: Env, m: Any, F: _Frame) -> Any:
            c = np.broadcast_to(test(S, env, m), S.n)
            if not (c if m is None else c[m.act]).all():
                raise Unsupported("a failed assertion")
            return m

        return run

    def stmt_Raise(self, s: ast.Raise) -> Callable:
        def run(S: Run, env: Env, m: Any, F: _Frame) -> Any:
            raise Unsupported("an exception")

        return run

    # -- expressions ---------------------------------------------------------------------------------------

    def static(self, node: ast.expr) -> tuple[bool, Any]:
        """The Python object that a name or attribute of an outer module stands for."""
        if isinstance(node, ast.Name) and node.id not in self.names:
            if node.id in self.outer:
                return True, self.outer[node.id]
            b = self.fn.__globals__["__builtins__"]
            b = b if isinstance(b, dict) else vars(b)
            return (True, b[node.id]) if node.id in b else (False, None)
        if isinstance(node, ast.Attribute):
            known, base = self.static(node.value)
            if known and type(base) is type(math) and hasattr(base, node.attr):
                return True, getattr(base, node.attr)
        return False, None

    def cuda_path(self, node: ast.expr) -> str | None:
        """ "atomic.add" for `cuda.atomic.add`, None for what is not of the cuda module."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if isinstance(node, ast.Name):
            known, base = self.static(node)
            if known and type(base) is type(math) and base.__name__ == "numba.cuda":
                return ".".join(reversed(parts))
            if known and type(base) is type(math) and base.__name__ == "numba.cuda.libdevice" and parts:
                return "libdevice." + ".".join(reversed(parts))
        return None

    def expr(self, e: ast.expr) -> Callable:
        method = getattr(self, "expr_" + type(e).__name__, None)
        if method is None:
            raise Unsupported(type(e).__name__)
        return method(e)

    def expr_Constant(self, e: ast.Constant) -> Callable:
        if isinstance(e.value, (str, bytes)) or e.value is Ellipsis:
            raise Unsupported("strings")
        v = values.typed(e.value)
        return lambda S, env, m: v

    def expr_Name(self, e: ast.Name) -> Callable:
        name = e.id
        if name in self.names:

            def local(S: Run, env: Env, m: Any) -> Value:
                try:
                    return env[name]
                except KeyError:
                    raise Unsupported("undefined name") from None

            return local
        known, v = self.static(e)
        if not known:
            raise Unsupported("undefined name")
        return self.constant(name, v)

    def constant(self, name: str, v: Any) -> Callable:
        if isinstance(v, np.ndarray):
            a = global_array(v, name, -1, 0, writeable=False)
            return lambda S, env, m: a
        if (
            v is None
            or isinstance(v, (bool, int, float, complex, np.number, np.bool_))
            or (type(v) is tuple and all(isinstance(x, (bool, int, float, np.number)) for x in v))
        ):
            v = values.typed(v)
            return lambda S, env, m: v
        raise Unsupported(f"the outer name {name}")

    def expr_Attribute(self, e: ast.Attribute) -> Callable:
        path = self.cuda_path(e)
        if path is not None:
            return self.cuda_value(path)
        known, v = self.static(e)
        if known:
            root = e.value
            module = self.static(root)[1]
            if module is math and e.attr in values.MATH:
                v = values.MATH[e.attr]
            return self.constant(e.attr, v)
        base, attr = self.expr(e.value), e.attr

        def run(S: Run, env: Env, m: Any) -> Value:
            a = base(S, env, m)
            if isinstance(a, LaneArray):
                if attr == "shape":
                    return tuple(np.int64(n) for n in a.shape)
                if attr == "size":
                    return np.int64(math.prod(int(n) for n in a.shape))
                if attr == "ndim":
                    return np.int64(len(a.shape))
            elif attr in ("real", "imag") and isinstance(a, (np.ndarray, np.generic)):
                return getattr(a, attr)
            raise Unsupported(f"attribute {attr}")

        return run

    def cuda_value(self, path: str) -> Callable:
        head, _, axis = path.partition(".")
        if head in ("threadIdx", "blockIdx", "blockDim", "gridDim") and axis in ("x", "y", "z"):
            k = "xyz".index(axis)
            return lambda S, env, m: getattr(S, head)[k]
        if path == "laneid":
            return lambda S, env, m: S.col
        if path == "warpsize":
            return lambda S, env, m: np.int64(32)
        raise Unsupported(f"cuda.{path}")

    def index(self, node: ast.expr) -> Callable:
        """A subscript as a tuple of values and slices."""
        parts = node.elts if isinstance(node, ast.Tuple) else [node]
        evs = [self.slice_expr(p) if isinstance(p, ast.Slice) else self.expr(p) for p in parts]

        def run(S: Run, env: Env, m: Any) -> tuple:
            out: list[Value] = []
            for ev in evs:
                v = ev(S, env, m)
                out.extend(v) if isinstance(v, tuple) else out.append(v)
            return tuple(out)

        return run

    def slice_expr(self, p: ast.Slice) -> Callable:
        parts = [self.expr(x) if x is not None else None for x in (p.lower, p.upper, p.step)]
        return lambda S, env, m: slice(*[None if x is None else x(S, env, m) for x in parts])

    def expr_Subscript(self, e: ast.Subscript) -> Callable:
        base, index, site = self.expr(e.value), self.index(e.slice), self.site(e)

        def run(S: Run, env: Env, m: Any) -> Value:
            a = base(S, env, m)
            i = index(S, env, m)
            if isinstance(a, LaneArray):
                if len(i) < len(a.shape) or any(isinstance(x, slice) for x in i):
                    if len(i) > len(a.shape):
                        raise Unsupported("index count")
                    return S.view(a, i, m)
                return S.load(a, i, m, site)
            if (
                isinstance(a, tuple)
                and len(i) == 1
                and isinstance(i[0], (np.integer, int))
                and -len(a) <= i[0] < len(a)
            ):
                return a[int(i[0])]
            raise Unsupported("a subscript of something that is no array")

        return run

    def expr_Tuple(self, e: ast.Tuple) -> Callable:
        parts = [self.expr(x) for x in e.elts]
        return lambda S, env, m: tuple(p(S, env, m) for p in parts)

    def binary(self, op: type, site: Any) -> Callable:
        f = _BINARY.get(op)
        if f is None:
            raise Unsupported(op.__name__)
        counts = issubclass(op, _ARITHMETIC)

        def run(S: Run, a: Value, b: Value, m: Any) -> Value:
            if not isinstance(a, _NUMBERS) or not isinstance(b, _NUMBERS):
                raise Unsupported("an operation on something that is no number")
            if counts:
                if getattr(a, "dtype", None) == np.bool_ or type(a) is bool:
                    a = np.asarray(a).astype(np.int64)
                if getattr(b, "dtype", None) == np.bool_ or type(b) is bool:
                    b = np.asarray(b).astype(np.int64)
                if S.profile is not None and S.recorder is not None:
                    S.profile.arithmetic(S.recorder.sites[S.recorder.site(*site)], S.size(m))
            try:
                return f(a, b)
            except TypeError:
                raise Unsupported("an operation on these types") from None

        return run

    def expr_BinOp(self, e: ast.BinOp) -> Callable:
        left, right, op = self.expr(e.left), self.expr(e.right), self.binary(type(e.op), self.site(e))
        return lambda S, env, m: op(S, left(S, env, m), right(S, env, m), m)

    def expr_UnaryOp(self, e: ast.UnaryOp) -> Callable:
        if isinstance(e.op, ast.USub) and isinstance(e.operand, ast.Constant):
            v = np.negative(values.typed(e.operand.value))
            return lambda S, env, m: v
        ev = self.expr(e.operand)
        f = {ast.USub: np.negative, ast.UAdd: np.positive, ast.Invert: np.invert, ast.Not: np.logical_not}[type(e.op)]
        return lambda S, env, m: f(_number(ev(S, env, m)))

    def expr_Compare(self, e: ast.Compare) -> Callable:
        if len(e.ops) > 1:
            parts: list[ast.expr] = []
            left = e.left
            for op, right in zip(e.ops, e.comparators, strict=True):
                parts.append(ast.copy_location(ast.Compare(left, [op], [right]), e))
                left = right
            return self.expr(ast.copy_location(ast.BoolOp(ast.And(), parts), e))
        a, b, f = self.expr(e.left), self.expr(e.comparators[0]), _COMPARE.get(type(e.ops[0]))
        if f is None:
            if isinstance(e.ops[0], (ast.Is, ast.IsNot)):
                want = isinstance(e.ops[0], ast.Is)

                def identity(S: Run, env: Env, m: Any) -> Value:
                    x, y = a(S, env, m), b(S, env, m)
                    if x is not None and y is not None:
                        raise Unsupported("is")
                    return (x is y) == want

                return identity
            raise Unsupported(type(e.ops[0]).__name__)
        return lambda S, env, m: f(_number(a(S, env, m)), _number(b(S, env, m)))

    def expr_BoolOp(self, e: ast.BoolOp) -> Callable:
        parts, conj = [self.expr(v) for v in e.values], isinstance(e.op, ast.And)

        def run(S: Run, env: Env, m: Any) -> Value:
            v, cur = parts[0](S, env, m), m
            for p in parts[1:]:
                if type(v) is not np.ndarray:
                    if bool(v) != conj:
                        break
                    v = p(S, env, cur)
                    continue
                yes, no = S.split(cur, v)
                go = yes if conj else no
                if go is EMPTY:
                    break
                new = p(S, env, go)
                v = new if go is m else merge(go.bits, new, v)  # lanes that an earlier term has settled keep its value
                cur = go
            return v

        return run

    def expr_IfExp(self, e: ast.IfExp) -> Callable:
        test, a, b, site = self.expr(e.test), self.expr(e.body), self.expr(e.orelse), self.site(e)

        def run(S: Run, env: Env, m: Any) -> Value:
            c = test(S, env, m)
            if S.profile is not None:
                S.branch(m, c, site)
            if type(c) is not np.ndarray:
                return a(S, env, m) if c else b(S, env, m)
            yes, no = S.split(m, c)
            if no is EMPTY:
                return a(S, env, m)
            if yes is EMPTY:
                return b(S, env, m)
            return merge(yes.bits, a(S, env, yes), b(S, env, no))

        return run

    def expr_NamedExpr(self, e: ast.NamedExpr) -> Callable:
        raise Unsupported(":=")

    def expr_Call(self, e: ast.Call) -> Callable:
        return self.call_expr(e, used=True)

    def call_expr(self, e: ast.Call, used: bool) -> Callable:
        if any(isinstance(a, ast.Starred) for a in e.args):
            raise Unsupported("*arguments")
        path = self.cuda_path(e.func)
        if path is not None:
            return self.cuda_call(path, e, used)
        known, f = self.static(e.func)
        if not known:
            if isinstance(e.func, ast.Attribute) and e.func.attr == "sync" and not e.args:
                base = self.expr(e.func.value)

                def sync(S: Run, env: Env, m: Any) -> Value:
                    if base(S, env, m) is not _GRID:
                        raise Unsupported("a method")
                    return S.grid_barrier(m)

                return sync
            raise Unsupported("a method")
        if e.keywords:
            raise Unsupported("keyword arguments")
        inner = source.python_function(f)
        if inner is not None:
            source.check_compiles(inner, device=True)
            args = [self.expr(a) for a in e.args]
            callee = self.program.function(inner)
            return lambda S, env, m: callee.call(S, [a(S, env, m) for a in args], m)
        return self.pure(self.meaning(e.func, f), [self.expr(a) for a in e.args])

    def meaning(self, node: ast.expr, f: Any) -> Callable:
        """A function of numbers behind a builtin, math, numpy or type name."""
        name = getattr(f, "__name__", "")
        module = self.static(node.value)[1] if isinstance(node, ast.Attribute) else None
        if module is math or getattr(f, "__module__", None) == "math":
            if callable(values.MATH.get(name)):
                return values.MATH[name]
        elif module is np or isinstance(f, np.ufunc) or (isinstance(f, type) and issubclass(f, np.generic)):
            try:
                return values.numpy_name(node.attr if isinstance(node, ast.Attribute) else name)
            except CudaSimError:
                raise Unsupported(f"np.{name}") from None
        elif isinstance(node, ast.Name) and node.id in _SIMPLE_BUILTINS and node.id not in self.outer:
            return _SIMPLE_BUILTINS[node.id]
        elif f is len:
            return lambda a: np.int64(a.shape[0] if isinstance(a, LaneArray) else len(a))
        elif type(f).__module__.startswith("numba") and threads._is_number_type(f):
            return values.Cast(values.as_dtype(f))
        raise Unsupported(f"a call of {name or node}")

    @staticmethod
    def pure(f: Callable, args: list[Callable]) -> Callable:
        def run(S: Run, env: Env, m: Any) -> Value:
            vs = [a(S, env, m) for a in args]
            if any(isinstance(v, LaneArray) for v in vs) and not getattr(f, "__name__", "") == "<lambda>":
                raise Unsupported("a function of a whole array")
            try:
                return f(*vs)
            except (TypeError, AttributeError, ValueError):
                raise Unsupported("a call with these types") from None

        return run

    def dtype_of(self, node: ast.expr) -> np.dtype:
        known, v = self.static(node)
        if not known and (path := self.cuda_path(node)) is not None:
            import numba.cuda

            known, v = True, getattr(numba.cuda, path, None)
        if not known:
            raise Unsupported("element type")
        return values.as_dtype(v)

    def cuda_call(self, path: str, e: ast.Call, used: bool) -> Callable:
        site = self.site(e)
        keys = {k.arg: k.value for k in e.keywords}
        head, _, tail = path.partition(".")
        if path in ("shared.array", "local.array"):
            shape = e.args[0] if e.args else keys.get("shape")
            dtype = e.args[1] if len(e.args) > 1 else keys.get("dtype")
            if shape is None or dtype is None or "alignment" in keys or len(e.args) > 2:
                raise Unsupported("array arguments")
            dims, dt = self.expr(shape), self.dtype_of(dtype)
            name = threads.assigned_name(self.filename, e.lineno)
            return lambda S, env, m: S.allocate(head, dims(S, env, m), dt, site, name)
        if e.keywords:
            raise Unsupported("keyword arguments")
        if path in ("grid", "gridsize"):
            if len(e.args) != 1 or not isinstance(e.args[0], ast.Constant) or e.args[0].value not in (1, 2, 3):
                raise Unsupported("grid dimensions")
            n = int(str(e.args[0].value))
            if path == "grid":
                return lambda S, env, m: S.grid(n)

            def gridsize(S: Run, env: Env, m: Any) -> Value:
                sizes = tuple(a * b for a, b in zip(S.blockDim, S.gridDim, strict=True))
                return sizes[0] if n == 1 else sizes[:n]

            return gridsize
        args = [self.expr(a) for a in e.args]
        if head == "atomic":
            return self.atomic_call(tail, args, site, used)
        if path == "syncthreads" and not args:
            return lambda S, env, m: S.barrier(m, site)
        if path in ("syncthreads_count", "syncthreads_and", "syncthreads_or") and len(args) == 1:
            kind = path.removeprefix("syncthreads_")
            return lambda S, env, m: S.barrier_value(kind, args[0](S, env, m), m, site)
        if path in ("threadfence", "threadfence_block", "threadfence_system"):
            return lambda S, env, m: None
        if path == "nanosleep":
            return lambda S, env, m: None
        if path == "syncwarp" and len(args) < 2:
            return lambda S, env, m: S.syncwarp(args[0](S, env, m) if args else np.int64(0xFFFFFFFF), m)
        if path in ("shfl_sync", "shfl_up_sync", "shfl_down_sync", "shfl_xor_sync") and len(args) == 3:
            return lambda S, env, m: S.shuffle(path, *[a(S, env, m) for a in args], m)
        if path in ("all_sync", "any_sync", "eq_sync", "ballot_sync") and len(args) == 2:
            return lambda S, env, m: S.vote(path, *[a(S, env, m) for a in args], m)
        if path in ("match_any_sync", "match_all_sync") and len(args) == 2:
            return lambda S, env, m: S.match(path, *[a(S, env, m) for a in args], m)
        if path == "activemask":
            return lambda S, env, m: S.activemask(m)
        if path == "lanemask_lt":
            return lambda S, env, m: (1 << S.col) - 1
        if path == "cg.this_grid":
            return lambda S, env, m: _GRID
        if path == "const.array_like":
            return lambda S, env, m: args[0](S, env, m)
        if path == "selp" and len(args) == 3:

            def selp(S: Run, env: Env, m: Any) -> Value:
                c, a, b = (x(S, env, m) for x in args)
                return (a if c else b) if type(c) is not np.ndarray else merge(c != 0, a, b)

            return selp
        simple = {
            "popc": values.popc,
            "clz": values.clz,
            "ffs": values.ffs,
            "brev": values.brev,
            "fma": values.fma,
            "cbrt": values.MATH["cbrt"],
            **{f"fp16.{n}": f for n, f in values.FP16.items()},
        }
        if path in simple:
            return self.pure(simple[path], args)
        if head == "libdevice":
            return self.pure(values.libdevice(tail), args)
        if "." not in path:
            import numba.cuda

            v = getattr(numba.cuda, path, None)
            if v is not None and threads._is_number_type(v):
                return self.pure(values.Cast(values.as_dtype(v)), args)
        raise Unsupported(f"cuda.{path}")

    def atomic_call(self, name: str, args: list[Callable], site: Any, used: bool) -> Callable:
        def run(S: Run, env: Env, m: Any) -> Value:
            a, *rest = [x(S, env, m) for x in args]
            if not isinstance(a, LaneArray):
                raise Unsupported("an atomic on something that is no array")
            if name == "compare_and_swap":
                old, v = rest
                return S.atomic("cas", a, (np.int64(0),) * len(a.shape), v, m, site, True, old)
            idx = rest[0] if isinstance(rest[0], tuple) else (rest[0],)
            if name == "cas":
                return S.atomic("cas", a, idx, rest[2], m, site, True, rest[1])
            if name not in threads._UPDATE or len(rest) != 2:
                raise Unsupported(f"atomic.{name}")
            return S.atomic(name, a, idx, rest[1], m, site, used)

        return run


def global_array(v: np.ndarray, name: str, buf: int, base: int, writeable: bool = True) -> LaneArray:
    """An array argument (or constant) as flat memory with an offset and strides in elements."""
    dt = v.dtype
    if dt.kind not in "biufc" or not dt.isnative:
        raise Unsupported(f"arrays of {dt}")
    if any(s % dt.itemsize for s in v.strides):
        raise Unsupported("strides that are no whole elements")
    strides = tuple(s // dt.itemsize for s in v.strides)
    low = sum((n - 1) * s for n, s in zip(v.shape, strides, strict=True) if s < 0) if v.size else 0
    high = sum((n - 1) * s for n, s in zip(v.shape, strides, strict=True) if s > 0) if v.size else -1
    start = v[tuple(slice(None, None, -1) if s < 0 else slice(None) for s in strides)] if low else v
    flat = np.lib.stride_tricks.as_strided(
        start, (high - low + 1,), (dt.itemsize,), writeable=writeable and v.flags.writeable
    )
    byte0 = v.__array_interface__["data"][0] + low * dt.itemsize - base if buf >= 0 else 0
    return LaneArray(flat, -low, v.shape, strides, name, buf, byte0)


class Program:
    """A kernel with the device functions it calls."""

    def __init__(self, fn: FunctionType) -> None:
        self.functions: dict[Any, Function] = {}
        self.kernel = self.function(fn)
        self.kernel.body = self.kernel.block(self.kernel.tree.body)
        self.cooperative = source.mentions(fn, frozenset(("cg", "this_grid")))
        self.written = _written(self.kernel.tree)

    def function(self, fn: FunctionType) -> Function:
        """The compiled form of a function; compiled when it is first called."""
        key = (fn.__code__, tuple(map(id, fn.__closure__ or ())))
        if key not in self.functions:
            self.functions[key] = Function(fn, self)
        return self.functions[key]

    def current(self) -> bool:
        """Whether every outer name still means what it meant when the program was compiled."""
        for f in self.functions.values():
            now = source.outer_names(f.fn)
            if len(now) != len(f.outer) or any(now.get(n, _UNSET) is not v for n, v in f.outer.items()):
                return False
        return True

    def run(
        self,
        geometry: Geometry,
        args: Any,
        buffers: list[int],
        dynamic_shared: int,
        seed: int | None,
        recorder: Recorder | None,
    ) -> None:
        """Run the grid.

        Raises:
            Unsupported: leave it to the thread engine; arrays may have changed.
        """
        k = self.kernel
        env: Env = dict(k.defaults)
        with np.errstate(all="ignore"):
            for name, a, buf in zip(k.params, args, buffers, strict=False):
                if isinstance(a.value, np.ndarray):
                    base = recorder.buffers[buf].keep if recorder is not None and buf >= 0 else 0
                    env[name] = global_array(a.value, name, buf, base)
                elif (
                    isinstance(a.value, (np.number, np.bool_, bool))
                    or a.value is None
                    or (type(a.value) is tuple and all(isinstance(x, np.number) for x in a.value))
                ):
                    env[name] = a.value
                else:
                    raise Unsupported(f"an argument of type {type(a.value).__name__}")
            rng = None if seed is None else np.random.default_rng(seed)
            order = np.arange(geometry.blocks) if rng is None else rng.permutation(geometry.blocks)
            step = max(1, BATCH // geometry.threads)
            if self.cooperative:
                step = geometry.blocks
                if geometry.blocks * geometry.threads > COOPERATIVE:
                    raise Unsupported("a cooperative grid of this size")
            shared: dict[Any, int] = {}
            for first in range(0, geometry.blocks, step):
                blocks = order[first : first + step]
                lanes = None if rng is None else rng.permutation(len(blocks) * geometry.threads)
                S = Run(geometry, blocks, dynamic_shared, recorder, lanes, shared, self.cooperative)
                try:
                    k.body(S, dict(env), None, _Frame(kernel=True))  # type: ignore[misc]
                except (CudaSimError, RecursionError, MemoryError) as e:
                    raise Unsupported(str(e)) from e
                if recorder is not None:
                    recorder.barrier(None)


def _written(tree: ast.FunctionDef) -> frozenset[str] | None:
    """Parameters that the kernel may write: every name that is used otherwise than in a load or for its shape."""
    harmless = set()
    for n in ast.walk(tree):
        if isinstance(n, ast.Subscript) and isinstance(n.value, ast.Name) and isinstance(n.ctx, ast.Load):
            harmless.add(id(n.value))
        if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name) and n.attr in ("shape", "size", "ndim"):
            harmless.add(id(n.value))
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and n.func.id == "len":
            harmless.update(id(a) for a in n.args)
    # A view of a row may be written through another name, and so may what a name or call hands on.
    partial = {
        n.value.id
        for n in ast.walk(tree)
        if isinstance(n, ast.Assign)
        for n in ast.walk(n.value)
        if isinstance(n, ast.Subscript)
        and isinstance(n.value, ast.Name)
        and (
            isinstance(n.slice, ast.Slice)
            or (isinstance(n.slice, ast.Tuple) and any(isinstance(x, ast.Slice) for x in n.slice.elts))
        )
    }
    for a in ast.walk(tree):
        if (
            isinstance(a, ast.AugAssign)
            and isinstance(a.target, ast.Subscript)
            and isinstance(a.target.value, ast.Name)
        ):
            partial.add(a.target.value.id)
        if isinstance(a, ast.Assign) and isinstance(a.value, ast.Subscript) and isinstance(a.value.value, ast.Name):
            stored = {t.id for t in a.targets if isinstance(t, ast.Name)}
            if any(
                isinstance(s, ast.Subscript) and isinstance(s.value, ast.Name) and s.value.id in stored
                for s in ast.walk(tree)
            ):
                partial.add(a.value.value.id)
        if isinstance(a, ast.Subscript) and isinstance(a.value, ast.Subscript):
            inner = a.value
            while isinstance(inner, ast.Subscript):
                inner = inner.value  # type: ignore[assignment]
            if isinstance(inner, ast.Name) and isinstance(a.ctx, ast.Store):
                partial.add(inner.id)
        if isinstance(a, ast.Call):
            for arg in a.args:
                partial |= {
                    n.value.id
                    for n in ast.walk(arg)
                    if isinstance(n, ast.Subscript)
                    and isinstance(n.value, ast.Name)
                    and a.func is not None
                    and not _is_pure_call(a)
                }
    names = {a.arg for a in tree.args.args}
    used = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and id(n) not in harmless}
    return frozenset(names & (used | partial))


def _is_pure_call(call: ast.Call) -> bool:
    """A call of a builtin or of a module's function: it gets numbers, not views."""
    return isinstance(call.func, ast.Attribute) or (
        isinstance(call.func, ast.Name) and (call.func.id in _SIMPLE_BUILTINS or call.func.id in ("range", "len"))
    )


_PROGRAMS: dict[CodeType, Program] = {}  # the latest program of each kernel


def compile_kernel(fn: FunctionType) -> Program:
    """The kernel as a lock-step program; compiled again when a name from outside it means something else now.

    Raises:
        Unsupported: with the first thing that this engine does not know.
    """
    program = _PROGRAMS.get(fn.__code__)
    if program is None or program.kernel.fn is not fn or not program.current():
        try:
            program = Program(fn)
        except RecursionError:
            raise Unsupported("nesting") from None
        if len(_PROGRAMS) > 256:
            _PROGRAMS.clear()
        _PROGRAMS[fn.__code__] = program
    return program
