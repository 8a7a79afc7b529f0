# NumPy for everything.

# %% median
def median(values):
    return float(np.median(np.array(values)))

# %% is_prime
def is_prime(n):
    if n < 2:
        return False
    divisors = np.arange(2, math.isqrt(n) + 1)
    return bool(np.all(n % divisors))

# %% RunningMean
class RunningMean:
    def __init__(self):
        self.values = np.zeros(0)

    def add(self, value):
        self.values = np.append(self.values, value)

    def value(self):
        return self.values.mean()
