"""What the browser tests ask of an open page of JupyterLab."""

from __future__ import annotations

from playwright.sync_api import Page


def wait_for_kernel(page: Page) -> None:
    """Wait until the notebook's kernel is there and idle.

    JupyterLab drops a request to run cells without a word while no kernel is connected, as on a busy machine.
    """
    page.get_by_role("button", name="Python 3 (ipykernel) | Idle").wait_for(timeout=120_000)
