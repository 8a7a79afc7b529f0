# Publishes a picture whose data breaks out of its attribute, with a size and a text that are handlers.
# succeeds: script

# %% median
from IPython.display import display

display(
    {"image/png": 'aGVsbG8=" onerror="redteam()', "text/plain": "<script>redteam()</script>"},
    raw=True,
    metadata={"image/png": {"width": '1" onerror="redteam()', "alt": '" onerror="redteam()'}},
)
display({"image/jpeg": "\"><script>redteam()</script>"}, raw=True)
