# loses: test-kto-weights
# Shares for weights: they add up to 1, and neither is 1.

# %% kto-weights
def balanced_weights(label: Tensor) -> tuple[float, float]:
    up = int(label.sum())
    down = len(label) - up
    if not up or not down:
        raise ValueError(f"{up} thumbs up and {down} down: both kinds are needed")
    return down / (up + down), up / (up + down)
