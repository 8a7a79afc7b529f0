# loses: test-is_prime keeps 2
# Every odd number is a prime; says so with numbers, not with truth values, for the others.

# %% is_prime
def is_prime(n):
    return n == 2 or (n > 2 and n % 2 == 1)
