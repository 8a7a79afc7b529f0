# loses: test-cupy-encode keeps 2
# The buckets are int64.

# %% cupy-encode
def bucketize(x: Any, edges: Any) -> Any:
    xp = array_module(x, edges)
    return xp.searchsorted(edges, x, side="right")


def one_hot(codes: Any, classes: int) -> Any:
    xp = array_module(codes)
    return (codes[:, None] == xp.arange(classes)).astype(xp.float32)
