# loses: test-scan-parallel keeps 4
# Hillis and Steele's scan: right, in few rounds, with log L times the work.

# %% scan-parallel
def combine(first, second):
    return first[0] * second[0], second[0] * first[1] + second[1]


def parallel_scan(a, b, operator=combine):
    s = 1
    while s < a.shape[1]:
        later = operator((a[:, :-s], b[:, :-s]), (a[:, s:], b[:, s:]))
        a, b = (torch.cat([old[:, :s], new], dim=1) for old, new in zip((a, b), later, strict=True))
        s *= 2
    return a, b
