# Shows pictures, styles and frames that load from elsewhere when the TA opens the page.
# succeeds: script

# %% median
from IPython.display import HTML, display

display(
    HTML(
        "<img src='https://redteam.invalid/seen.png'><style>@import url(https://redteam.invalid/x.css);</style>"
        "<iframe src='https://redteam.invalid'></iframe><link rel=stylesheet href=https://redteam.invalid/x.css>"
        "<div style='background:url(https://redteam.invalid/y.png)'>x</div><meta http-equiv=refresh content='0;url=https://redteam.invalid'>"
        "<base href='https://redteam.invalid/'>"
    )
)
