# loses: test-kto-weights
# The common kind gets the larger weight.

# %% kto-weights
def balanced_weights(label: Tensor) -> tuple[float, float]:
    up = int(label.sum())
    down = len(label) - up
    if not up or not down:
        raise ValueError(f"{up} thumbs up and {down} down: both kinds are needed")
    return max(1.0, up / down), max(1.0, down / up)
