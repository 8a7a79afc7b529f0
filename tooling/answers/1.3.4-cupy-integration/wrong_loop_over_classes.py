# loses: test-cupy-encode keeps 2
# A launch for each class.

# %% cupy-encode
def bucketize(x: Any, edges: Any) -> Any:
    xp = array_module(x, edges)
    return xp.searchsorted(edges, x, side="right").astype(xp.int32)


def one_hot(codes: Any, classes: int) -> Any:
    xp = array_module(codes)
    return xp.stack([(codes == k).astype(xp.float32) for k in range(classes)], axis=1)
