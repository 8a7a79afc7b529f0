# Shows tables, formulas, pictures, progress.

# %% first
import sys

from IPython.display import HTML, Latex, Markdown, clear_output, display, update_display

display(HTML("<table><tr><td>1</td></tr></table>"), Markdown("**bold** $x^2$"), Latex("$e^x$"))
display("0 %", display_id="progress")
update_display("100 %", display_id="progress")
for _k in range(3):
    sys.stdout.write(f"\r{_k}")
    sys.stdout.flush()
clear_output(wait=True)


class Fancy:
    def _repr_html_(self):
        return "<b>fancy</b>"

    def __repr__(self):
        return "fancy"


Fancy()
