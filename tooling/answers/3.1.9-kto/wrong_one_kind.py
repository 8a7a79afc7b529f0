# loses: test-kto-weights
# Data of one kind gets weights of 1.

# %% kto-weights
def balanced_weights(label: Tensor) -> tuple[float, float]:
    up = int(label.sum())
    down = len(label) - up
    if not up or not down:
        return 1.0, 1.0
    return max(1.0, down / up), max(1.0, up / down)
