"""Keep the two halves of a lab the same: the text that people review and the notebook that nbgrader reads.

Both halves have one canonical text, jupytext's percent format of them. The notebook's metadata remembers the digest of
that text at the last sync, so which side changed is read off the two files themselves: no clock, no third file. Only
for a notebook that was still open in JupyterLab, and is saved over what sync wrote, is there a note beside JupyterLab's
own checkpoint: without it such a notebook is a conflict.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import jupytext
import nbformat

from gradekit.authoring.files import write_atomically
from gradekit.course import READINESS, Course, CourseError, read_notebook

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
#: How one person looked at a cell in JupyterLab: folded, hidden.
VIEW = ("jupyter", "jp-MarkdownHeadingCollapsed")
#: What JupyterLab's property inspector writes when nothing was chosen in it.
UNSET = {"editable": True, "deletable": True, "slideshow": {"slide_type": ""}, "tags": []}


class Change(StrEnum):
    """What a pair needs."""

    NONE = "in sync"
    TO_NOTEBOOK = "text changed: notebook written"
    TO_TEXT = "notebook changed: text written"
    TIDY = "same content: outputs, ids and spacing tidied"
    CONFLICT = "both sides changed"
    BROKEN = "cannot be read"


class Keep(StrEnum):
    """The side that wins when both changed."""

    TEXT = "text"
    NOTEBOOK = "notebook"


@dataclass(frozen=True)
class Synced:
    """The state of one pair; ``detail`` says what to do about a conflict or a broken file."""

    text: Path
    notebook: Path
    change: Change
    detail: str = ""

    @property
    def failed(self) -> bool:
        return self.change in (Change.CONFLICT, Change.BROKEN)


def cell_ids(notebook: nbformat.NotebookNode) -> list[str]:
    """An id per cell: its grade id, or its place after the last cell that has one. Never chance: a sync is stable."""
    ids, anchor, offset = [], "start", 0
    for cell in notebook.cells:
        grade_id = cell.metadata.get("nbgrader", {}).get("grade_id")
        if grade_id:
            anchor, offset = grade_id, 0
            ids.append(grade_id[:64])
        else:
            offset += 1
            ids.append(f"{anchor[:58]}--{offset}")
    return ids


def canonical_text(notebook: nbformat.NotebookNode) -> str:
    """The percent-format text of a notebook, the same for every notebook with the same cells and cell metadata.

    Raises:
        CourseError: a cell holds what the format cannot, such as a line that begins like a cell.
    """
    bare = copy.deepcopy(notebook)
    bare.metadata = nbformat.NotebookNode(
        kernelspec=KERNEL, jupytext={"text_representation": {"extension": ".py", "format_name": "percent"}}
    )
    for cell in bare.cells:
        cell.metadata = _authored(cell.metadata)
        cell.source = _without_blank_ends(cell.source.replace("\r\n", "\n"))
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    # Version stamps would change every text with every release of jupytext.
    lines = jupytext.writes(bare, fmt="py:percent").splitlines()
    stamps = ("#       format_version:", "#       jupytext_version:")
    text = "\n".join(line for line in lines if not line.startswith(stamps)) + "\n"

    held = [(cell.cell_type, cell.source.strip()) for cell in jupytext.reads(text, fmt="py:percent").cells]
    for index, cell in enumerate(bare.cells):
        if index >= len(held) or held[index] != (cell.cell_type, cell.source.strip()):
            first = cell.source.strip().splitlines()[:1]
            raise CourseError(
                f"cell {index} ({' '.join(first)[:60]!r} ...) holds what the text half cannot, such as a line that "
                "begins like a cell ('# %%') or a magic written as a comment. Write it another way."
            )
    return text


def _without_blank_ends(source: str) -> str:
    """A cell without its first and last lines that hold nothing but spaces, which the format does not keep."""
    lines = source.split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    while lines and not lines[0].strip():
        lines.pop(0)
    return "\n".join(lines)


def _authored(metadata: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Of a cell's metadata what its author decided, in one order."""
    kept = {
        key: value
        for key, value in metadata.items()
        if key not in (*VIEW, "lines_to_next_cell") and (key not in UNSET or value != UNSET[key])
    }
    return nbformat.from_dict(json.loads(json.dumps(kept, sort_keys=True)))


def canonical_notebook(text: str) -> str:
    """The notebook, as the file's text, that belongs to a canonical text."""
    notebook = jupytext.reads(text, fmt="py:percent")
    for cell, cell_id in zip(notebook.cells, cell_ids(notebook), strict=True):
        cell.id = cell_id
        cell.metadata.pop("lines_to_next_cell", None)
    notebook.metadata = nbformat.NotebookNode(
        gradekit={"synced": digest(text)}, kernelspec=KERNEL, language_info={"name": "python"}
    )
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    nbformat.validate(notebook)
    return nbformat.writes(notebook) + "\n"


def digest(text: str) -> str:
    """A short fingerprint of a canonical text."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def pairs(course: Course) -> list[Path]:
    """The paths, without suffix, of all pairs in the source folder, whichever halves exist."""
    folder = course.path("source", ".")
    patterns = (f"{place}/*.{half}" for place in ("*", f"*/{READINESS}") for half in ("py", "ipynb"))
    return sorted({path.with_suffix("") for pattern in patterns for path in folder.glob(pattern)})


def sync(stem: Path, *, check: bool = False, keep: Keep | None = None) -> Synced:
    """Bring one pair in line, in the direction of the side that changed.

    Args:
        stem: the pair's path without suffix.
        check: change nothing, only say what would be done.
        keep: the side that wins when both changed; without it such a pair is left alone.
    """
    text_path, notebook_path = stem.with_name(stem.name + ".py"), stem.with_name(stem.name + ".ipynb")
    try:
        text = _read_text(text_path)
        notebook = _read_notebook(notebook_path) if notebook_path.exists() else None
        from_notebook = None if notebook is None else _canonical(notebook, notebook_path)
    except CourseError as error:
        return Synced(text_path, notebook_path, Change.BROKEN, str(error))

    synced = None if notebook is None else notebook.metadata.get("gradekit", {}).get("synced")
    if text is None:
        change, wanted = Change.TO_TEXT, from_notebook
    elif from_notebook is None:
        change, wanted = Change.TO_NOTEBOOK, text
    elif text == from_notebook:
        change, wanted = Change.TIDY, text
    elif synced == digest(from_notebook) or keep is Keep.TEXT:
        change, wanted = Change.TO_NOTEBOOK, text
    elif synced == digest(text) or _continued(notebook_path, synced, text) or keep is Keep.NOTEBOOK:
        change, wanted = Change.TO_TEXT, from_notebook
    else:
        return Synced(
            text_path,
            notebook_path,
            Change.CONFLICT,
            f"{text_path.name} and {notebook_path.name} both changed since they were last in sync. Compare them with "
            f"`git diff -- '{stem.name}.*'`, then keep one: `gradekit sync --keep text` or `--keep notebook`, "
            "with the lab's name.",
        )
    assert wanted is not None
    try:
        files = {text_path: wanted, notebook_path: canonical_notebook(wanted)}
    except nbformat.ValidationError as error:
        return Synced(text_path, notebook_path, Change.BROKEN, f"{text_path}: {str(error).splitlines()[0]}")
    stale = {path: content for path, content in files.items() if not _holds(path, content)}
    if not stale:
        return Synced(text_path, notebook_path, Change.NONE)
    if not check:
        for path, content in stale.items():
            write_atomically(path, content)
        if change is Change.TO_TEXT:
            _note_taken_over(notebook_path, synced, wanted)
    return Synced(text_path, notebook_path, change)


def require_notebooks(course: Course, assignment: str) -> None:
    """Check that the notebooks of an assignment hold what its texts say.

    Raises:
        CourseError: a text has changed since the last sync, or there is no such assignment.
    """
    for lab in course.labs(assignment):
        stem = lab.path.with_suffix("")
        if lab.text.exists() and sync(stem, check=True).change in (Change.TO_NOTEBOOK, Change.CONFLICT, Change.BROKEN):
            raise CourseError(f"{lab.text} is not what its notebook holds: run `gradekit sync {lab.name}` first.")


def _note_taken_over(notebook: Path, synced: str | None, text: str) -> None:
    """Remember which text came of a notebook; a tab that has it open does not know, and will save the old digest."""
    note = _note(notebook)
    note.parent.mkdir(exist_ok=True)
    write_atomically(note, json.dumps({"synced": synced, "text": digest(text)}))


def _continued(notebook: Path, synced: str | None, text: str) -> bool:
    """Whether the text is what the last sync took over from this very notebook, which was then edited further."""
    try:
        taken_over = json.loads(_note(notebook).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(taken_over == {"synced": synced, "text": digest(text)})


def _note(notebook: Path) -> Path:
    """In the folder that JupyterLab makes for its checkpoints: neither git nor a release takes it along."""
    return notebook.parent / ".ipynb_checkpoints" / f"{notebook.stem}.synced.json"


def _read_text(path: Path) -> str | None:
    """The canonical form of a text half, or None when there is no file."""
    try:
        notebook = jupytext.reads(path.read_text(encoding="utf-8"), fmt="py:percent")
    except FileNotFoundError:
        return None
    except Exception as error:  # a half-written header or metadata: whatever yaml and json raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CourseError(f"{path}: not a percent-format text that jupytext can read ({reason})") from None
    return _canonical(notebook, path)


def _canonical(notebook: nbformat.NotebookNode, path: Path) -> str:
    grade_ids = [cell.metadata.get("nbgrader", {}).get("grade_id") for cell in notebook.cells]
    for grade_id, count in Counter(filter(None, grade_ids)).items():
        if count > 1:
            raise CourseError(
                f"{path}: {count} cells have the grade id {grade_id!r}, as after a cell was copied or split. Give each "
                "new one an id of its own in JupyterLab's Create Assignment panel, or choose '-' for it there."
            )
    try:
        return canonical_text(notebook)
    except CourseError as error:
        raise CourseError(f"{path}: {error}") from None


def _read_notebook(path: Path) -> nbformat.NotebookNode:
    notebook = read_notebook(path)
    if any(cell.get("attachments") for cell in notebook.cells):
        raise CourseError(
            f"{path}: a cell has an image pasted into it, which the text half cannot hold. "
            "Save it in the data/ folder and link to it."
        )
    return notebook


def _holds(path: Path, content: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == content
