# loses: test-profiling-record, test-profiling-summarize, test-profiling-shares, test-profiling-diagnose, test-profiling-prepare, test-profiling-fast, test-profiling-fast-train, test-profiling-amdahl, test-profiling-read-nsys, test-profiling-all
# Nothing was begun.

# %% profiling-record
# untouched

# %% profiling-summarize
# untouched

# %% profiling-shares
# untouched

# %% profiling-diagnose
# untouched

# %% profiling-prepare
# untouched

# %% profiling-fast
# untouched

# %% profiling-fast-train
# untouched

# %% profiling-amdahl
# untouched

# %% profiling-read-nsys
# untouched
