# loses: test-cupy-encode keeps 2, test-cupy-preprocess, test-integration-cupy
# A value on an edge falls into the bucket below.

# %% cupy-encode
def bucketize(x: Any, edges: Any) -> Any:
    xp = array_module(x, edges)
    return xp.searchsorted(edges, x).astype(xp.int32)


def one_hot(codes: Any, classes: int) -> Any:
    xp = array_module(codes)
    return (codes[:, None] == xp.arange(classes)).astype(xp.float32)
