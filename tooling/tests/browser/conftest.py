"""A real browser for the tests that follow a person through the programs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, driven by Playwright; no browser of Playwright's own is downloaded.

    Not for the whole session: Playwright's event loop counts as running in this thread until it is
    closed, and asyncio.run() refuses to start in any test that comes after.
    """
    chromium = shutil.which("chromium")
    assert chromium, "these tests drive Chromium: install it, for example: apt-get install chromium"
    as_root = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=as_root)
        yield running
        running.close()
