# Looks for the hidden tests in In, the history and the last input of the shell.
# succeeds: leak hidden

# %% after test-median
print(In, _i, _ii, _iii)
print(list(get_ipython().history_manager.input_hist_raw))
print(list(get_ipython().history_manager.get_range(output=False)))
