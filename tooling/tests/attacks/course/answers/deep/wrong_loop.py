# loses: test-squares
# As slow as the loop.

# %% squares
def squares(x):
    total = 0.0
    for value in x:
        total += float(value) ** 2
    return total
