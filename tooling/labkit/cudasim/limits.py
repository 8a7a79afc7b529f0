"""What a launch may ask for, and how many blocks fit on a multiprocessor.

Source: CUDA C++ Programming Guide, section "Compute Capabilities", tables "Technical Specifications per
Compute Capability", for 9.0 (Hopper) and 12.x (Blackwell, the DGX Spark's GB10 is 12.1).
"""

from __future__ import annotations

from dataclasses import dataclass

from .errors import LaunchError

WARP = 32
MAX_THREADS = 1024
MAX_BLOCK = (1024, 1024, 64)
MAX_GRID = (2**31 - 1, 65535, 65535)
STATIC_SHARED = 48 * 1024


@dataclass(frozen=True)
class Capability:
    """Limits of one compute capability; shared memory in bytes."""

    version: tuple[int, int]
    threads_per_sm: int
    blocks_per_sm: int
    shared_per_block: int
    shared_per_sm: int
    registers_per_sm: int = 65536


CAPABILITIES = {
    (9, 0): Capability((9, 0), 2048, 32, 227 * 1024, 228 * 1024),
    (12, 0): Capability((12, 0), 1536, 24, 99 * 1024, 100 * 1024),
}


def check_launch(grid: tuple[int, ...], block: tuple[int, ...], dynamic_shared: int) -> None:
    """Refuse a launch that every GPU refuses.

    Raises:
        LaunchError: with the limit, what was asked for, and what to do.
    """
    for name, dims, limit in (("block", block, MAX_BLOCK), ("grid", grid, MAX_GRID)):
        for axis, n, most in zip("xyz", dims, limit, strict=True):
            if n < 1:
                raise LaunchError(
                    f"the {name} has {n} in dimension {axis}: every dimension must be at least 1"
                    + (" (an empty input? launch nothing when n == 0)" if name == "grid" else "")
                )
            if n > most:
                raise LaunchError(f"the {name} has {n} in dimension {axis}; the GPU allows at most {most}")
    threads = block[0] * block[1] * block[2]
    if threads > MAX_THREADS:
        raise LaunchError(
            f"a block of {' x '.join(map(str, block))} = {threads} threads: a block has at most {MAX_THREADS} "
            "threads; use smaller blocks and more of them"
        )
    most = CAPABILITIES[(9, 0)].shared_per_block
    if dynamic_shared > most:
        raise LaunchError(f"{dynamic_shared} bytes of dynamic shared memory for a block; there are at most {most}")


def occupancy(threads: int, shared: int, registers: int, cc: tuple[int, int]) -> dict[str, float | int | str]:
    """Blocks and warps resident on one multiprocessor, and what limits them.

    Args:
        threads: threads in a block.  shared: bytes of shared memory of a block.
        registers: registers of a thread (0: not known, no limit).  cc: (9, 0) or (12, 0).
    Returns:
        blocks, warps, fraction (of the most warps there can be) and limited_by. 1 KiB of shared memory
        is reserved for each block.
    """
    c = CAPABILITIES[cc]
    warps = -(-threads // WARP)
    limits = {"blocks": c.blocks_per_sm, "threads": c.threads_per_sm // (warps * WARP)}
    if shared:
        limits["shared memory"] = c.shared_per_sm // (shared + 1024)
    if registers:
        limits["registers"] = c.registers_per_sm // (-(-registers * WARP // 256) * 256 * warps)
    by = min(limits, key=lambda k: limits[k])
    blocks = limits[by]
    return {
        "blocks": blocks,
        "warps": blocks * warps,
        "fraction": blocks * warps * WARP / c.threads_per_sm,
        "limited_by": by,
    }
