# loses: test-matmul-roofline keeps 3
# Registers are not rounded up to a multiple of 8.

# %% matmul-roofline
def roofline(m: int, n: int, k: int, rows: int, columns: int, gpu: GPU) -> Prediction:
    if any(size < 1 for size in (m, n, k, rows, columns)):
        raise ValueError(f"all sizes must be at least 1: {m=}, {n=}, {k=}, {rows=}, {columns=}")
    flops = 2 * m * n * k
    nbytes = 4 * (m * k * -(-n // columns) + k * n * -(-m // rows) + m * n)
    bound = "memory" if flops / nbytes < gpu.flops / gpu.bandwidth else "compute"
    return Prediction(flops, nbytes, flops / nbytes, bound, max(flops / gpu.flops, nbytes / gpu.bandwidth))


def resident_blocks(threads: int, shared: int, registers: int, gpu: GPU) -> tuple[int, str]:
    rounded = -(-threads // 32) * 32
    limits = {"blocks": gpu.blocks, "threads": gpu.threads // rounded, "shared memory": gpu.shared // (shared + 1024)}
    limits["registers"] = gpu.registers // (registers * rounded)
    tightest = min(limits, key=limits.get)
    return limits[tightest], tightest
