"""Take out of a graded notebook what students must not learn of the hidden tests, and say instead what they may.

A hidden check shows its name, how it ended, and its author's hint. What the kernel said while or after hidden code ran
is not to be trusted: a student's function can print its arguments, keep them for a later cell, or raise them. So

- a test cell with hidden tests shows no output of its own, only what this module writes;
- behind the first such cell a visible check shows its message, cut to ``MESSAGE`` characters, and the student's own
  cells show the outputs that were handed in, which no hidden test has met.
"""

from __future__ import annotations

import ast
import builtins
import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from nbformat import NotebookNode
from traitlets.config import Config

from gradekit.course import Role, role_of
from gradekit.hidden_tests import Check, Region, regions

#: Characters of a visible check's message that are shown once hidden tests have run.
MESSAGE = 1000
PASSED, FAILED, NOT_PASSED, NOT_REACHED = "passed", "failed", "not passed", "not reached"
#: Errors that grading itself writes, in words of its own.
_OURS = ("CellTimeoutError", "KernelDied")
#: What ``labkit.checking.Credit.total`` raises; the reasons that it repeats may be those of hidden checks.
_NO_CREDIT = "none of the checks passed"
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_FRAME = re.compile(r"Cell In\[\d*\], line (\d{1,6})(?:, in ([^(]+))?")
_ARROW = re.compile(r"-+> ?\d+ ?(.*)")
_CREDIT = re.compile(r"^(earned  |lost    )(.*?) \((?:0 of )?[\d.e+-]+(?: of [\d.e+-]+)?\)(?:: |$)", re.MULTILINE)


def hide(notebook: NotebookNode, handed_in: NotebookNode | None, config: Config | None = None) -> NotebookNode:
    """The notebook as its student may see it.

    Args:
        notebook: as graded, with the hidden tests in the sources of the test cells.
        handed_in: as the student submitted it, or None when that is not there any more.
        config: may set other markers than nbgrader's usual ones.
    """
    own = _Outputs(handed_in)
    cells, ran = [], False
    for cell in notebook.cells:
        if cell.cell_type != "code":
            cells.append(cell)
            continue
        hidden = regions(cell.source, config)
        ran = ran or bool(hidden)
        if not ran:
            cells.append(cell)
        elif role_of(cell) is Role.TEST or hidden:
            source, outputs = _visible(cell.source, hidden), _Report(cell, hidden).outputs
            cells.append(NotebookNode(cell, source=source, outputs=outputs))
        else:
            cells.append(NotebookNode(cell, outputs=own.of(cell)))
    return NotebookNode(notebook, cells=cells)


class _Outputs:
    """The outputs of a handed-in notebook, by the cell's source: a cell that says the same is the same."""

    def __init__(self, notebook: NotebookNode | None) -> None:
        cells = notebook.cells if notebook is not None else []
        self.known = {cell.source: cell.outputs for cell in cells if cell.get("cell_type") == "code"}

    def of(self, cell: NotebookNode) -> list[NotebookNode]:
        return list(self.known.get(cell.source, []))


def _visible(source: str, hidden: Sequence[Region]) -> str:
    """A test's source with each hidden region replaced by one comment."""
    lines = source.split("\n")
    for region in reversed(hidden):
        marker = lines[region.first - 1]
        indent = marker[: len(marker) - len(marker.lstrip())]
        lines[region.first - 1 : region.last] = [f"{indent}# Hidden checks run here."]
    return "\n".join(lines)


@dataclass
class _Block:
    """A ``with credit.check("name", hint="...")`` in a test: its lines, and what was printed about it."""

    name: str
    first: int
    last: int
    ended: str = ""
    reason: str = ""


@dataclass
class _Report:
    """What is said about one executed test cell in place of its outputs."""

    cell: NotebookNode
    hidden: Sequence[Region]
    tree: ast.Module = field(init=False)
    lines: list[str] = field(init=False)
    frames: list[int] = field(init=False)
    blocks: list[_Block] = field(init=False)

    def __post_init__(self) -> None:
        self.lines = self.cell.source.split("\n")
        try:
            self.tree = ast.parse(self.cell.source)
        except (SyntaxError, ValueError):  # magics
            self.tree = ast.Module([], [])
        self.error = next((out for out in self.cell.outputs if out.output_type == "error"), None)
        self.frames = self._frames()
        self.blocks = self._blocks()

    @property
    def outputs(self) -> list[NotebookNode]:
        rows = [(check, self._ended(check)) for region in self.hidden for check in region.checks]
        parts = [*self._credit(), *self._failure(), *_table(rows)]
        outputs = [NotebookNode(output_type="display_data", metadata=NotebookNode(), data=NotebookNode(
            {"text/html": "\n".join(parts)}))] if parts else []  # fmt: skip
        return outputs + [out for out in self.cell.outputs if _is_number(out)]

    def _frames(self) -> list[int]:
        """The lines of this cell through which the error came, outermost first.

        All cells are called alike in a traceback. What stands in the line, or the function around it, tells them apart.
        """
        found = []
        shown = _ANSI.sub("", "\n".join(self.error.traceback)).split("\n") if self.error else []
        starts = [(number, match) for number, text in enumerate(shown) if (match := _FRAME.match(text))]
        ends = [*(number for number, _ in starts[1:]), len(shown)]
        for (start, match), end in zip(starts, ends, strict=False):
            line, name = int(match[1]), match[2]
            said = next((arrow[1] for text in shown[start:end] if (arrow := _ARROW.match(text))), None)
            around = self._function(line)
            if not 0 < line <= len(self.lines):
                continue
            if said is not None:
                ours = said.strip() == self.lines[line - 1].strip()
            else:
                ours = name.startswith("<") if name and around is None else name == (around.name if around else None)
            if ours:
                found.append(line)
        return found

    def _blocks(self) -> list[_Block]:
        blocks = []
        for node in ast.walk(self.tree):
            if not isinstance(node, ast.With):
                continue
            for call in (item.context_expr for item in node.items):
                if (
                    isinstance(call, ast.Call)
                    and isinstance(call.func, ast.Attribute)
                    and call.func.attr == "check"
                    and call.args
                    and isinstance(call.args[0], ast.Constant)
                ):
                    blocks.append(_Block(str(call.args[0].value), node.lineno, node.end_lineno or node.lineno))
        text = "".join(out.text for out in self.cell.outputs if out.output_type == "stream" and out.name == "stdout")
        found = list(_CREDIT.finditer(text)) if blocks else []
        ends = [*(match.start() for match in found[1:]), len(text)]
        for match, end in zip(found, ends, strict=False):
            for block in blocks:
                if block.name == match[2] and not block.ended:
                    block.ended = match[1].strip()
                    said = text[match.end() : end]
                    block.reason = said.strip() if block.ended == "lost" else ""
        return blocks

    def _hides(self, block: _Block) -> bool:
        return any(block.first <= region.first <= block.last for region in self.hidden)

    def _credit(self) -> Iterator[str]:
        for block in self.blocks:
            if block.ended:
                lost = f": {block.reason[:MESSAGE]}".rstrip(": ") if block.ended == "lost" else ""
                reason = lost if not self._hides(block) else " (with hidden checks, see below)" if lost else ""
                yield f"<pre>{html.escape(f'{block.ended}  {block.name}{reason}')}</pre>"

    def _failure(self) -> Iterator[str]:
        """The error, when it came out of a visible check; of a hidden one only what its author wrote for all."""
        if self.error is None:
            return
        said = str(self.error.evalue)
        if any(region.first <= line <= region.last for region in self.hidden for line in self.frames):
            general = said if said in self._constants() else ""
            yield f"<pre>A hidden check failed{': ' if general else '.'}{html.escape(general)}</pre>"
            return
        if self.hidden and not self.frames and self.error.ename not in _OURS:
            yield f"<pre>{html.escape(self._type())} (where it came from is not known)</pre>"
            return
        if said.startswith(_NO_CREDIT):
            said = f"{_NO_CREDIT}."
        at = [f"    {self.lines[line - 1].strip()}" for line in self.frames]
        message = "\n".join([*at, f"{self._type()}: {said[:MESSAGE]}".rstrip(": ")])
        yield f"<pre>{html.escape(message)}</pre>"

    def _type(self) -> str:
        name = str(self.error.ename) if self.error else ""
        kind = getattr(builtins, name, None)
        known = isinstance(kind, type) and issubclass(kind, BaseException)
        return name if known or name in _OURS or name == "NotGradedHere" else "Error"

    def _constants(self) -> set[str]:
        """The messages of hidden assertions that are constants: they say the same to everybody."""
        return {
            node.msg.value
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Assert)
            and isinstance(node.msg, ast.Constant)
            and isinstance(node.msg.value, str)
            and any(region.first <= node.lineno <= region.last for region in self.hidden)
        }

    def _ended(self, check: Check) -> str:
        """How a hidden check ended, as far as the record tells."""
        block = next((block for block in self.blocks if block.first <= check.first <= block.last), None)
        if block is not None and block.ended:
            return PASSED if block.ended == "earned" else NOT_PASSED
        if self.error is None:
            return PASSED
        inside = [line for line in self.frames if any(r.first <= line <= r.last for r in self.hidden)]
        if inside and check.first <= inside[0] <= check.last:
            return FAILED
        return PASSED if self._came_after(check, inside[0] if inside else 0) else NOT_REACHED

    def _came_after(self, check: Check, line: int) -> bool:
        """Whether the error came from behind a check, in the order in which the test runs its lines."""
        function = self._function(check.first)
        beside = [at for at in ([line] if line else self.frames) if self._function(at) is function]
        if beside:
            return beside[0] > check.last
        outside = [at for at in self.frames if self._function(at) is None]
        calls = [
            node.lineno
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            and function is not None and node.func.id == function.name and self._function(node.lineno) is None
        ]  # fmt: skip
        return bool(outside and calls) and outside[0] > min(calls)

    def _function(self, line: int) -> ast.FunctionDef | None:
        """The innermost function around a line."""
        around = [
            node
            for node in ast.walk(self.tree)
            if isinstance(node, ast.FunctionDef) and node.lineno < line <= (node.end_lineno or 0)
        ]
        return max(around, key=lambda node: node.lineno, default=None)


def _table(rows: Sequence[tuple[Check, str]]) -> Iterator[str]:
    if not rows:
        return
    cell = '<td style="padding: 2px 12px 2px 0">'
    yield f"<table><tr>{cell}<b>hidden check</b></td>{cell}</td>{cell}<b>where to look</b></td></tr>"
    for check, ended in rows:
        name = html.escape(check.name or "a check without a name")
        hint = html.escape(check.hint) if ended not in (PASSED, NOT_REACHED) else ""
        word = f"<strong>{ended}</strong>" if ended in (FAILED, NOT_PASSED) else ended
        yield f"<tr>{cell}{name}</td>{cell}{word}</td>{cell}{hint}</td></tr>"
    yield "</table>"


def _is_number(output: Any) -> bool:
    """Whether an output is the value of partial credit."""
    if output.output_type != "execute_result" or set(output.data) != {"text/plain"}:
        return False
    return bool(re.fullmatch(r"(?:np\.\w+\()?\d{1,4}(?:\.\d{1,17})?\)?", str(output.data["text/plain"]).strip()))
