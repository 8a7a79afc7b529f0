"""Every command, link and picture in the guides and the README exists."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from gradekit.cli import app

ROOT = Path(__file__).resolve().parents[3]
BIN = Path(sys.executable).parent
PAGES = [*(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "containers/README.md")),
         *sorted((ROOT / "docs").rglob("*.md"))]  # fmt: skip
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def commands(page: Path) -> Iterator[list[str]]:
    """The words of each shell command of a page: in its ``sh`` blocks, and in code within a line."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    lines += re.findall(r"`((?:gradekit|make|nbgrader) [a-z][^`\n]*)`", prose)
    for line in lines:
        command = re.split(r"\s{2,}|\s#", line.strip())[0]  # what follows is said of it
        if re.match(r"(gradekit|make|nbgrader) ", command):
            yield command.split()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_exist(page: Path) -> None:
    for words in commands(page):
        if words[0] == "make":
            wanted = [word for word in words[1:] if "=" not in word]
            assert set(wanted) <= TARGETS, words
        elif words[0] == "gradekit":
            options = _options(words[1:])
            assert options is not None, f"no such command: {words}"
            given = {word.partition("=")[0] for word in words if word.startswith("--")}
            assert given <= options | {"--help"}, words


def _options(words: list[str]) -> set[str] | None:
    """The options of a gradekit command, or None when there is no such command."""
    command = typer.main.get_command(app)
    while words and hasattr(command, "commands"):
        if words[0] not in command.commands:
            return None
        command, words = command.commands[words[0]], words[1:]
    return {name for parameter in command.params for name in parameter.opts}


def test_nbgrader_commands_exist() -> None:
    named = {words[1] for page in PAGES for words in commands(page) if words[0] == "nbgrader"}
    listed = subprocess.run([BIN / "nbgrader", "--help-all"], capture_output=True, text=True, check=False).stdout
    assert {name for name in named if not re.search(rf"^{name}$", listed, re.MULTILINE)} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)#\s]*)[^)]*\)", text):
        assert not target or re.match(r"https?:", target) or (page.parent / target).exists(), target
