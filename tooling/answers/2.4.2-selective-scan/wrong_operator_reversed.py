# loses: test-scan-parallel keeps 3, test-scan-backward, test-scan-selective, test-scan-module
# The earlier a meets the later b. Common mistake 1.

# %% scan-parallel
def combine(first, second):
    return first[0] * second[0], first[0] * second[1] + first[1]


def parallel_scan(a: Tensor, b: Tensor, operator=combine) -> tuple[Tensor, Tensor]:
    n = a.shape[1]
    if n < 2:
        return a, b
    pairs = operator((a[:, : n - 1 : 2], b[:, : n - 1 : 2]), (a[:, 1::2], b[:, 1::2]))
    odd = parallel_scan(*pairs, operator)
    k = (n - 1) // 2
    even = operator((odd[0][:, :k], odd[1][:, :k]), (a[:, 2::2], b[:, 2::2]))
    scanned = torch.empty_like(a), torch.empty_like(b)
    for whole, start, one, two in zip(scanned, (a, b), odd, even, strict=True):
        whole[:, :1], whole[:, 1::2], whole[:, 2::2] = start[:, :1], one, two
    return scanned
