# loses: test-cupy-encode keeps 2
# Rows of an identity matrix: a code of -1 becomes the last class.

# %% cupy-encode
def bucketize(x: Any, edges: Any) -> Any:
    xp = array_module(x, edges)
    return xp.searchsorted(edges, x, side="right").astype(xp.int32)


def one_hot(codes: Any, classes: int) -> Any:
    xp = array_module(codes)
    return (codes[:, None] % classes == xp.arange(classes)).astype(xp.float32)
