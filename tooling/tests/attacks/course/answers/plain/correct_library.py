# The standard library and plain formulas, where the reference writes loops.

# %% median
def median(values):
    return statistics.median(values)

# %% softmax
def softmax(x):
    e = np.exp(x - np.max(x))
    return e / np.sum(e)

# %% is_prime
def is_prime(n):
    if n < 2:
        return False
    d = 2
    while d * d <= n:
        if n % d == 0:
            return False
        d += 1
    return True

# %% RunningMean
class RunningMean:
    def __init__(self):
        self.values = []

    def add(self, value):
        self.values.append(value)

    def value(self):
        return sum(self.values) / len(self.values)
