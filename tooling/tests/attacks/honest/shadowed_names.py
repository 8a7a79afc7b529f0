# Names of its own that hide builtins, a function defined twice, deletions.

# %% first
id, input, dir, file, type_ = 1, 2, 3, 4, type
_hidden = id


def helper():
    return 1


def helper():  # the better one
    return 2


x = y = expected = values = credit = 0
del file
if __name__ == "__main__":
    print(helper(), _hidden)
