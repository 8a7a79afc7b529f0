# Waits for input, which nobody will type.
# succeeds: disturbs

# %% median
def median(values):
    return input("The median of", values)


try:
    input("now?")
except Exception as error:
    print(repr(error))
