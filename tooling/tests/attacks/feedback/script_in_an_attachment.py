# Attaches a picture that is a page, with a type that breaks out of its attribute.
# succeeds: script

# %% make
import base64

_page = base64.b64encode(b"<script>redteam()</script>").decode()
notebook["cells"].append(
    {
        "cell_type": "markdown", "id": "attached", "metadata": {},
        "source": "![a](attachment:a) ![b](attachment:b) <img src='attachment:a'>",
        "attachments": {
            "a": {"image/svg+xml": base64.b64encode(b"<svg onload='redteam()'/>").decode()},
            "b": {"image/png\" onerror=\"redteam()": _page, "text/html": "<script>redteam()</script>"},
        },
    }
)

# %% median
pass
