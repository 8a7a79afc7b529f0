# Shows what the hidden test passes and holds as rich output: an HTML table in the feedback.
# succeeds: leak hidden

# %% median
import sys

from IPython.display import HTML, display


def median(values):
    display(HTML("<pre>" + repr(sys._getframe(1).f_code.co_consts).encode().hex() + "</pre>"))
    return 0
