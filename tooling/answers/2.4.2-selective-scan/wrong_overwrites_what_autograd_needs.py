# loses: test-scan-parallel keeps 4, test-scan-module
# The operator sees slices of the tensor that is being filled: right numbers, and no way back for autograd.

# %% scan-parallel
def combine(first, second):
    return first[0] * second[0], second[0] * first[1] + second[1]


def parallel_scan(a: Tensor, b: Tensor, operator=combine) -> tuple[Tensor, Tensor]:
    n = a.shape[1]
    if n < 2:
        return a, b
    pairs = operator((a[:, : n - 1 : 2], b[:, : n - 1 : 2]), (a[:, 1::2], b[:, 1::2]))
    odd = parallel_scan(*pairs, operator)
    k = (n - 1) // 2
    scanned = torch.empty_like(a), torch.empty_like(b)
    for whole, start, one in zip(scanned, (a, b), odd, strict=True):
        whole[:, :1], whole[:, 1::2] = start[:, :1], one
    before = tuple(whole[:, 1::2][:, :k] for whole in scanned)
    even = operator(before, (a[:, 2::2], b[:, 2::2]))
    for whole, two in zip(scanned, even, strict=True):
        whole[:, 2::2] = two
    return scanned
