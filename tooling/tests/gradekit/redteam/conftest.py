"""Where the corpus lies."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def corpus_folder() -> Path:
    return Path(__file__).resolve().parents[2] / "attacks"
