# Publishes the state of a widget and a view of it, which templates embed and load from elsewhere.
# succeeds: script

# %% median
from IPython.display import display

display(
    {
        "application/vnd.jupyter.widget-view+json": {"model_id": "</script><script>redteam()</script>"},
        "text/plain": "x",
    },
    raw=True,
)
display({"application/vnd.plotly.v1+json": {"data": [], "layout": {"title": "<img src=x onerror=redteam()>"}}}, raw=True)
display({"application/vnd.bokehjs_exec.v0+json": "", "application/javascript": "redteam()"}, raw=True)
display({"text/vnd.mermaid": "graph TD; A[<img src=x onerror=redteam()>]"}, raw=True)
