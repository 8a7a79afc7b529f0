# Updates instead of sums, recursion instead of sorting, float128 in the middle.

# %% median
def _smallest(values, k):
    pivot = values[len(values) // 2]
    below, above = [v for v in values if v < pivot], [v for v in values if v > pivot]
    same = len(values) - len(below) - len(above)
    if k < len(below):
        return _smallest(below, k)
    if k < len(below) + same:
        return pivot
    return _smallest(above, k - len(below) - same)


def median(values):
    n = len(values)
    return (_smallest(values, (n - 1) // 2) + _smallest(values, n // 2)) / 2

# %% softmax
def softmax(x):
    logs = x - (np.max(x) + np.log(np.sum(np.exp(x - np.max(x)))))
    return np.exp(logs)

# %% is_prime
def is_prime(n):
    if n in (2, 3):
        return True
    if n < 2 or n % 2 == 0:
        return False
    for d in range(3, math.isqrt(n) + 1, 2):
        if n % d == 0:
            return False
    return True

# %% RunningMean
class RunningMean:
    count = 0
    mean = 0.0

    def add(self, value):
        self.count += 1
        self.mean += (value - self.mean) / self.count

    def value(self):
        return self.mean
