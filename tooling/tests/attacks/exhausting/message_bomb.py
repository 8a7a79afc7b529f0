# Sends malformed and nested messages on iopub: no header, wrong signatures, a display with a thousand levels.
# succeeds: disturbs

# %% median
_kernel = get_ipython().kernel
_nested = "x"
for _ in range(400):
    _nested = {"a": _nested}
for _content in ({"data": _nested, "metadata": _nested}, {"data": {"text/plain": 7}}, {"name": 1, "text": None}, {}):
    for _kind in ("display_data", "stream", "execute_result", "error", "update_display_data", "clear_output", "status"):
        try:
            _kernel.session.send(_kernel.iopub_socket, _kind, _content, parent=_kernel.get_parent(), ident=b"x")
        except Exception as error:
            print(repr(error)[:200])
