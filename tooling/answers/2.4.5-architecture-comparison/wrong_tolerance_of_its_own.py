# loses: test-archcmp-match
# The tolerance that is given is ignored.

# %% archcmp-match
def match_width(measure: Callable[[int], int], budget: int, widths: range, tolerance: float = 0.02) -> int:
    low, high = 0, len(widths)
    while low < high:
        middle = (low + high) // 2
        if measure(widths[middle]) < budget:
            low = middle + 1
        else:
            high = middle
    error, best = min((abs(measure(width) - budget), width) for width in widths[max(low - 1, 0) : low + 1])
    if error > 0.02 * budget:
        raise ValueError(f"the nearest width, {best}, misses the budget by {error / budget:.1%}")
    return best
