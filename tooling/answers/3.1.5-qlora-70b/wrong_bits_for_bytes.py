# loses: test-qlora-budget
# Bits are taken for bytes.

# %% qlora-budget
def memory_budget(
    shape: LlamaShape, *, r: int, batch: int, length: int, block: int = 64, group: int = 256
) -> dict[str, float]:
    hidden, wide = shape.hidden, shape.intermediate
    narrow = shape.kv_heads * hidden // shape.heads
    linears = [(hidden, hidden), (hidden, narrow), (hidden, narrow), (hidden, hidden)]
    linears += [(hidden, wide), (hidden, wide), (wide, hidden)]
    weights = shape.layers * sum(a * b for a, b in linears)
    adapters = shape.layers * sum(r * (a + b) for a, b in linears)
    tokens = batch * length
    lines = {
        "base": weights * (4 + 8 / block + 32 / (block * group)),
        "rest": 2.0 * (2 * shape.vocab * hidden + (2 * shape.layers + 1) * hidden),
        "adapters": 4.0 * adapters,
        "gradients": 4.0 * adapters,
        "optimizer": 8.0 * adapters,
        "checkpoints": 2.0 * shape.layers * tokens * hidden,
        "block": 2.0 * tokens * (8 * hidden + 4 * wide),
        "logits": 8.0 * tokens * shape.vocab,
        "weight": 2.0 * max(a * b for a, b in linears),
    }
    return lines | {"total": sum(lines.values())}
