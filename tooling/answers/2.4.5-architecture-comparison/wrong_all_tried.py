# loses: test-archcmp-match
# Every width is tried.

# %% archcmp-match
def match_width(measure: Callable[[int], int], budget: int, widths: range, tolerance: float = 0.02) -> int:
    best = min(widths, key=lambda width: abs(measure(width) - budget))
    if abs(measure(best) - budget) > tolerance * budget:
        raise ValueError("no width fits")
    return best
