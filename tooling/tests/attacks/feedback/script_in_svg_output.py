# Publishes a drawing with a script, a handler and a foreign object in it.
# succeeds: script

# %% median
from IPython.display import SVG, display

display(
    SVG(
        "<svg xmlns='http://www.w3.org/2000/svg' onload='redteam()'><script>redteam()</script>"
        "<foreignObject><iframe xmlns='http://www.w3.org/1999/xhtml' src='javascript:redteam()'/></foreignObject></svg>"
    )
)
