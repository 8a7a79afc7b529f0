# loses: test-scan-parallel keeps 1, test-scan-backward, test-scan-selective keeps 4, test-scan-module
# Divides by cumulative products, which underflow, or are 0. Common mistake 2.

# %% scan-parallel
def combine(first, second):
    return first[0] * second[0], second[0] * first[1] + second[1]


def parallel_scan(a, b, operator=combine):
    products = a.cumprod(dim=1)
    return products, products * (b / products).cumsum(dim=1)
