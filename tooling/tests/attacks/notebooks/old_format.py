# Hands in format 2, with worksheets, which converters bring to 4 in their own way.
# succeeds: points test-median

# %% make
notebook = None
content = b'{"nbformat": 2, "metadata": {}, "worksheets": [{"cells": [{"cell_type": "code", "input": "x = 1", "language": "python", "outputs": []}]}]}'
