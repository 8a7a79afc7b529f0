# loses: test-cupy-preprocess keeps 2
# The edges are made from a list on the host: a second transfer.

# %% cupy-preprocess
def preprocess(table: np.ndarray, xp: Any) -> np.ndarray:
    there = xp.asarray(table)
    edges = xp.asarray(np.array(EDGES, np.float32))
    numeric = standardize(fill_missing(there[:, :-2]))
    ages = one_hot(bucketize(there[:, -2], edges), 4)
    kinds = one_hot(there[:, -1].astype(xp.int32), CLASSES)
    features = xp.concatenate([numeric, ages, kinds], axis=1)
    return features if xp is np else xp.asnumpy(features)
