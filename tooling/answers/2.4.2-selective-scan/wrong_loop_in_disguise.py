# loses: test-scan-parallel keeps 4, test-scan-backward keeps 3, test-scan-selective keeps 4
# Calls the operator once for each step.

# %% scan-parallel
def combine(first, second):
    return first[0] * second[0], second[0] * first[1] + second[1]


def parallel_scan(a, b, operator=combine):
    steps = []
    for t in range(a.shape[1]):
        step = a[:, t : t + 1], b[:, t : t + 1]
        steps.append(operator(steps[-1], step) if steps else step)
    if not steps:
        return a, b
    return torch.cat([s[0] for s in steps], dim=1), torch.cat([s[1] for s in steps], dim=1)
