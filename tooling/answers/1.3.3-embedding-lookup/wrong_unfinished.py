# loses: test-embed-by-element, test-embed-lookup, test-embed-refusals, test-embed-scatter, test-embed-segments, test-embed-segment-sum, test-embed-function
# Nothing is written but the first kernel.

# %% embed-by-element
# untouched

# %% embed-lookup
# untouched

# %% embed-scatter
# untouched

# %% embed-segments
# untouched

# %% embed-segment-sum
# untouched

# %% embed-function
# untouched
