"""Text of an assignment's tests that stands in an answer: runs of tokens that both have and no student was given."""

from __future__ import annotations

import re
from collections.abc import Iterable

#: Tokens in a row. A line such as ``generator = torch.Generator().manual_seed(seed)`` has 12.
HIDDEN_RUN, VISIBLE_RUN = 20, 40
_TOKEN = re.compile(r"#[^\n]*|\"[^\"\n]*\"|'[^'\n]*'|\w+(?:\.\d+)?|[^\w\s]")


class Tokens:
    """The runs of ``length`` tokens of some texts."""

    def __init__(self, texts: Iterable[str], length: int) -> None:
        self.length = length
        self.runs = {run for text in texts for run, _ in runs_of(text, length)}

    def found_in(self, text: str) -> int | None:
        """The line of ``text`` in which the first of these runs begins, or None."""
        return next((line for run, line in runs_of(text, self.length) if run in self.runs), None)


def runs_of(text: str, length: int) -> Iterable[tuple[tuple[str, ...], int]]:
    """Each run of ``length`` tokens, comments and layout aside, and the line in which it begins."""
    tokens, line, end = [], 1, 0
    for match in _TOKEN.finditer(text):
        line += text.count("\n", end, match.start())
        end = match.start()
        if not match[0].startswith("#"):
            tokens.append((match[0], line))
    for start in range(len(tokens) - length + 1):
        yield tuple(token for token, _ in tokens[start : start + length]), tokens[start][1]
