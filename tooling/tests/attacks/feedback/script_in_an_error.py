# Raises an error whose name, message and traceback are HTML.
# succeeds: script

# %% median
class Bad(Exception):
    def _render_traceback_(self):
        return ["</pre><script>redteam()</script>", "\x1b[31m</span><img src=x onerror=redteam()>"]


Bad.__name__ = "<script>redteam()</script>"
raise Bad("</pre><script>redteam()</script>")
