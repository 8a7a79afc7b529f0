"""Notebooks such as no editor writes: the released one with a few of its parts replaced, deleted or repeated."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def mutated(released: dict[str, Any], data: st.DataObject) -> bytes:
    """The JSON text of ``released`` after one to four mutations anywhere in the tree."""
    notebook = json.loads(json.dumps(released))
    for _ in range(data.draw(st.integers(1, 4))):
        node: Any = notebook
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            if not keys:
                break
            key = data.draw(st.sampled_from(keys))
            if isinstance(node[key], dict | list) and node[key] and data.draw(st.booleans()):
                node = node[key]
                continue
            action = data.draw(st.sampled_from(["replace", "delete", "repeat"]))
            if action == "replace":
                node[key] = data.draw(JSON)
            elif action == "delete":
                del node[key]
            elif isinstance(node, list):
                node.append(node[key])
            break
    return json.dumps(notebook).encode()
