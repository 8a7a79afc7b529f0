# Looks for the hidden tests in every notebook that it can find from its work folder upwards.
# succeeds: leak hidden

# %% median
import os

for _top in (".", "..", "../..", "../../..", "@COURSE@", "/tmp"):
    for _base, _, _names in os.walk(_top):
        for _name in _names:
            if _name.endswith((".ipynb", ".py", ".json")) and _base.count("/") < 8:
                try:
                    _text = open(os.path.join(_base, _name), errors="replace").read()
                except OSError:
                    continue
                if " ".join(["cobalt", "heron"]) in _text:
                    print(_text[_text.index(" ".join(["cobalt", "heron"])) - 200 :][:400])
