# loses: test-data-messages, test-data-chatml, test-data-tokenize, test-data-filter, test-data-dedup, test-data-pack, test-data-mask, test-data-module
# Nothing was begun.

# %% data-messages
# untouched


# %% data-chatml
# untouched


# %% data-tokenize
# untouched


# %% data-filter
# untouched


# %% data-dedup
# untouched


# %% data-pack
# untouched


# %% data-mask
# untouched
