# loses: test-archcmp-match
# The first width that reaches the budget, even if the one below is nearer.

# %% archcmp-match
def match_width(measure: Callable[[int], int], budget: int, widths: range, tolerance: float = 0.02) -> int:
    low, high = 0, len(widths)
    while low < high:
        middle = (low + high) // 2
        if measure(widths[middle]) < budget:
            low = middle + 1
        else:
            high = middle
    error, best = min((abs(measure(width) - budget), width) for width in widths[min(low, len(widths) - 1) : low + 1])
    if error > tolerance * budget:
        raise ValueError(f"the nearest width, {best}, misses the budget by {error / budget:.1%}")
    return best
