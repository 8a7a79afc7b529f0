"""The evening before term: an instructor edits a lab in JupyterLab, syncs, and releases it."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
import pytest
from jupyterlabpage import wait_for_kernel
from playwright.sync_api import Browser, Page, expect
from runninghub import free_ports, wait_for_page
from smallcourse import LAB, MODULE, small_course

BIN = Path(sys.prefix) / "bin"


@dataclass(frozen=True)
class Desk:
    """JupyterLab on a course folder, as ``make formgrader`` starts it, and a shell beside it."""

    course: Path
    url: str
    environment: dict[str, str]

    @property
    def text(self) -> Path:
        return self.course / f"source/{MODULE}/{LAB}.py"

    @property
    def notebook(self) -> Path:
        return self.text.with_suffix(".ipynb")

    def run(self, *command: str) -> str:
        done = subprocess.run(
            command,
            cwd=self.course,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=300,
        )
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}"
        return done.stdout


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    course, token, (port,) = tmp_path / "course", secrets.token_hex(16), free_ports(1)
    small_course(course)
    environment = {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(tmp_path), "LANG": "C.UTF-8"}
    as_root = ["--allow-root"] if os.geteuid() == 0 else []
    options = ["--no-browser", f"--port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={token}"]
    log = tmp_path / "jupyterlab.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [str(BIN / "jupyter"), "lab", *options, *as_root],
            cwd=course,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_for_page(f"http://127.0.0.1:{port}/login", process, log)
        yield Desk(course, f"http://127.0.0.1:{port}/lab/tree/source/{MODULE}/{LAB}.ipynb?token={token}", environment)
    finally:
        process.terminate()
        process.wait(30)


def append_to_first_cell(page: Page, sentence: str) -> None:
    """Open the notebook's first text cell for editing, type at its end, render and save it."""
    cell = page.locator(".jp-MarkdownCell").first
    cell.locator(".jp-MarkdownOutput, .cm-content").locator("visible=true").first.dblclick()
    cell.locator(".cm-content").click()
    page.keyboard.press("Control+End")
    page.keyboard.insert_text(f" {sentence}")
    page.keyboard.press("Shift+Enter")
    expect(cell.locator(".jp-MarkdownOutput")).to_contain_text(sentence)


def save(page: Page, desk: Desk, sentence: str) -> None:
    """Save the notebook; over what sync wrote meanwhile, as an instructor does who leaves the tab open."""
    page.keyboard.press("Control+s")
    overwrite = page.get_by_role("button", name="Overwrite")
    for _ in range(100):
        if sentence in desk.notebook.read_text():
            return
        if overwrite.is_visible():
            overwrite.click()
        page.wait_for_timeout(100)
    raise AssertionError("the notebook was not saved")


def test_an_edit_in_jupyterlab_is_synced_and_released(browser: Browser, desk: Desk) -> None:
    before = desk.text.read_text().splitlines()
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    page.set_default_timeout(60_000)
    page.goto(desk.url)

    first_code = page.locator(".jp-CodeCell").first
    append_to_first_cell(page, "Bring a calculator.")
    first_code.locator(".cm-content").click()
    wait_for_kernel(page)
    page.keyboard.press("Shift+Enter")
    expect(first_code.locator(".jp-OutputArea-output").first).to_contain_text("Kernels run on", timeout=120_000)
    save(page, desk, "Bring a calculator.")
    assert "Kernels run on" in "".join(output_texts(desk.notebook))
    assert "notebook changed: text written" in desk.run("gradekit", "sync")
    assert changed_lines(before, desk.text) == [("You will add up", "Bring a calculator.")]
    assert output_texts(desk.notebook) == []

    # The tab is still open and goes on from there.
    append_to_first_cell(page, "And a pencil.")
    save(page, desk, "And a pencil.")
    assert "notebook changed: text written" in desk.run("gradekit", "sync")
    assert changed_lines(before, desk.text) == [("You will add up", "Bring a calculator. And a pencil.")]
    assert desk.run("gradekit", "sync", "--check").strip().endswith("in sync")

    desk.run("nbgrader", "generate_assignment", MODULE, "--force")
    desk.run("nbgrader", "release_assignment", MODULE, "--force")
    released = desk.course / f"exchange/spark/outbound/{MODULE}"
    assert [path.name for path in released.iterdir()] == [f"{LAB}.ipynb"]
    assert "And a pencil." in (released / f"{LAB}.ipynb").read_text()
    assert "BEGIN SOLUTION" not in (released / f"{LAB}.ipynb").read_text()
    page.context.close()


def output_texts(notebook: Path) -> list[str]:
    cells = nbformat.read(notebook, as_version=4).cells
    return [output.get("text", "") for cell in cells for output in cell.get("outputs", [])]


def changed_lines(before: list[str], text: Path) -> list[tuple[str, str]]:
    """Of each line that differs, how it began and what stands there now in addition."""
    after = text.read_text().splitlines()
    assert len(after) == len(before)
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    return [(old.removeprefix("# ")[:15], new.removeprefix(old).strip()) for old, new in changed]
