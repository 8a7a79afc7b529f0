# Asks inspect for the source of the test function after its cell.
# succeeds: leak hidden

# %% after test-median
import inspect

try:
    print(inspect.getsource(test_unit_median))
except Exception as error:
    print(repr(error))

# %% median
def median(values):
    return sorted(values)[len(values) // 2]
