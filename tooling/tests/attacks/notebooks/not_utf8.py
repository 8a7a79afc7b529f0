# Hands in bytes that are not UTF-8.
# succeeds: disturbs

# %% make
import json

notebook["cells"][0]["source"] = "MARKER"
content = json.dumps(notebook).encode().replace(b"MARKER", b"\xff\xfe\x80 \xc3\x28")
