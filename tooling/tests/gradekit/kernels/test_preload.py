"""Preloads come from what the notebooks import, and only from known libraries."""

from pathlib import Path

import nbformat
import pytest
from gradekit.kernels.preload import KNOWN, choose, imports_of


def notebook(path: Path, *sources: str) -> Path:
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(s) for s in sources]), path)
    return path


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import torch.nn as nn, numpy as np", {"torch", "numpy"}),
        ("from transformers import AutoModel", {"transformers"}),
        ("%matplotlib inline\n!pip list\nimport numpy", {"numpy"}),
        ("def f():\n    import scipy.stats", {"scipy"}),
        ("from . import helper\nfrom .x import y", set()),
        ("import (", set()),
        ("x = '\0'", set()),
        ("(" * 5000, set()),
    ],
)
def test_imports_are_found_wherever_they_stand(source: str, names: set[str]) -> None:
    assert imports_of(source) == names


def test_choice_is_the_union_of_known_libraries_in_a_fixed_order(tmp_path: Path) -> None:
    first = notebook(tmp_path / "a.ipynb", "import peft", "import secrets_of_the_course")
    second = notebook(tmp_path / "b.ipynb", "import numpy")
    assert choose([first, second]) == choose([second, first]) == ("numpy", "torch", "peft")


def test_unreadable_notebooks_count_for_nothing(tmp_path: Path) -> None:
    for name, text in {
        "json": "{",
        "cells": '{"cells": 3}',
        "list": "[]",
        "source": '{"cells": [{"cell_type": "code"}]}',
    }.items():
        (tmp_path / f"{name}.ipynb").write_text(text)
    (tmp_path / "binary.ipynb").write_bytes(b"\xff\0")
    assert choose(sorted(tmp_path.iterdir())) == ()


def test_libraries_that_use_torch_bring_it_first() -> None:
    """The server hides the GPU from what torch's users ask at import; it must have torch by then."""
    for name in ("transformers", "peft", "trl"):
        assert KNOWN[name][0] == "torch"
