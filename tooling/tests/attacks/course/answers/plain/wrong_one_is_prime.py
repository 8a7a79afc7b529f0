# loses: test-is_prime keeps 3
# One is taken for a prime.

# %% is_prime
def is_prime(n):
    return all(n % d for d in range(2, math.isqrt(abs(n)) + 1)) and n > 0
