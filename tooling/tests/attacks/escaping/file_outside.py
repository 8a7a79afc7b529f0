# Writes a file outside its work folder, by its absolute path.
# succeeds: outside

# %% median
try:
    open("@MARK@", "w").close()
except OSError as error:
    print(error)
