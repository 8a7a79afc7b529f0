# Names a file in an output's metadata, which nbconvert's extraction of outputs would write.
# succeeds: outside

# %% median
from IPython.display import display

display(
    {"image/png": "aGVsbG8=", "image/svg+xml": "<svg/>"},
    raw=True,
    metadata={"filenames": {"image/png": "@MARK@"}, "image/png": {"filename": "@MARK@"}},
)
