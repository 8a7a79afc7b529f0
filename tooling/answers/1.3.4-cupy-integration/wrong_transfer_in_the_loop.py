# loses: test-cupy-preprocess keeps 2
# Each column crosses alone, and comes back alone.

# %% cupy-preprocess
def preprocess(table: np.ndarray, xp: Any) -> np.ndarray:
    home = np.asarray if xp is np else xp.asnumpy
    parts = []
    for c in range(table.shape[1] - 2):
        parts.append(home(standardize(fill_missing(xp.asarray(table[:, c : c + 1])))))
    edges = xp.asarray(np.array(EDGES, np.float32))
    parts.append(home(one_hot(bucketize(xp.asarray(table[:, -2]), edges), 4)))
    parts.append(home(one_hot(xp.asarray(table[:, -1].astype(np.int32)), CLASSES)))
    return np.concatenate(parts, axis=1)
