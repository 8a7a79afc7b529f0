"""The names that a locked cell gives: whatever imports, defines a function or a class, wherever it stands."""

import pytest
from gradekit.integrity.given import given_names

CASES = {
    "import numpy as np, os.path": {"np", "os"},
    "from math import pi as circle, tau": {"circle", "tau"},
    "from math import *": set(),
    "def f():\n    import json\n    def inner(): pass": {"f"},
    "async def f(): pass\nclass C:\n    def method(self): pass": {"f", "C"},
    "try:\n    import cupy as xp\nexcept ImportError:\n    import numpy as xp\nelse:\n    def g(): pass": {"xp", "g"},
    "if True:\n    with open('x') as file:\n        def h(): pass": {"h"},
    "x = 3\ny: int = 4\nfor k in range(3): pass": set(),
    "%matplotlib inline\nimport torch": {"torch"},
    "not python at all !": set(),
}


def test_what_is_the_students_and_what_that_decorates_is_left_out() -> None:
    source = "@mine\ndef f(): pass\n@cache(mine(3))\ndef g(): pass\n@cache\ndef h(): pass\ndef mine(): pass"
    assert given_names(source, {"mine"}) == {"h"}


@pytest.mark.parametrize("source", CASES)
def test_given_names(source: str) -> None:
    assert given_names(source) == CASES[source]
