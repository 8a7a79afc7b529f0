"""Make a submitted notebook fit to run: what the student may not change is put back as the gradebook has it.

Stock nbgrader does this with DeduplicateIds, OverwriteKernelspec, OverwriteCells and CheckCellMetadata, and gives the
whole batch up on a notebook that one of them cannot take. Here nothing that a student can write raises: every defect is
mended, costs only the cells that it must, and becomes a finding for a TA.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import nbformat
from nbformat import NotebookNode

from gradekit.grading.job import SourceCell, Target


@dataclass(frozen=True)
class Sanitized:
    """A notebook that is fit to run.

    Attributes:
        unchanged: grade ids of solution and manual cells whose source is still the released one.
        findings: what had to be mended, in words for a TA.
        unreadable: why the file was no notebook at all; empty when it was one.
    """

    notebook: NotebookNode
    unchanged: frozenset[str]
    findings: tuple[str, ...] = ()
    unreadable: str = ""


def sanitize(content: bytes | None, target: Target, handed_out: Mapping[str, str] | None = None) -> Sanitized:
    """Sanitise the bytes of a submitted notebook.

    Args:
        content: None stands for a file that is not there.
        handed_out: grade id -> the cell in the release folder, where it may be older than the target: tests that are
            mended later were not edited by the student.
    """
    handed_out = handed_out or {}
    findings: list[str] = []
    unreadable = "" if content is not None else "the notebook is missing from the submission"
    cells: list[NotebookNode] = []
    if content is not None:
        try:
            cells = _read_cells(content, findings)
        except _NotANotebook as error:
            unreadable = str(error)
    if unreadable:
        findings.append(f"{target.notebook}.ipynb: {unreadable}; every cell was put back as released")
    known = {cell.grade_id: cell for cell in target.cells}
    _claim_grade_ids(cells, known, findings)
    for cell in cells:
        if "nbgrader" in cell.metadata:
            grade_id = cell.metadata["nbgrader"]["grade_id"]
            _restore(cell, known[grade_id], handed_out.get(grade_id), findings)
    cells = _add_missing(cells, target, findings if not unreadable else [])
    for index, cell in enumerate(cells):
        cell.id = f"cell-{index}"  # the same submission gives the same job
    metadata = NotebookNode(language_info=NotebookNode(name="python"))
    if target.kernelspec:
        metadata["kernelspec"] = NotebookNode(target.kernelspec)
    notebook = NotebookNode(cells=cells, metadata=metadata, nbformat=4, nbformat_minor=5)
    ids = [(cell.metadata["nbgrader"]["grade_id"], cell) for cell in cells if "nbgrader" in cell.metadata]
    unchanged = frozenset(
        grade_id for grade_id, cell in ids if cell.source in (known[grade_id].released, handed_out.get(grade_id))
    )
    return Sanitized(notebook, unchanged, tuple(findings), unreadable)


class _NotANotebook(Exception):
    pass


def _read_cells(content: bytes, findings: list[str]) -> list[NotebookNode]:
    """The cells of a notebook, each well-formed and without outputs; what is no cell is left out and reported."""
    try:
        text = content.decode("utf-8-sig", errors="replace")
        raw = json.loads(text)
    except (ValueError, RecursionError, MemoryError) as error:
        raise _NotANotebook(f"it is not JSON ({str(error).splitlines()[0]})") from None
    if not isinstance(raw, dict):
        raise _NotANotebook("it is JSON, but not a notebook")
    if raw.get("nbformat") != 4:
        try:
            raw = nbformat.reads(text, as_version=4)
        except Exception:  # a converter meets whatever the student wrote
            raise _NotANotebook(
                f"its format ({raw.get('nbformat')!r}) is not one that nbformat can bring to 4"
            ) from None
    if not isinstance(raw.get("cells"), list):
        raise _NotANotebook("it has no list of cells")
    cells = []
    for index, cell in enumerate(raw["cells"]):
        built = _build(cell)
        if built is None:
            findings.append(f"cell {index} is malformed and was left out")
        else:
            cells.append(built)
    return cells


def _build(raw: Any) -> NotebookNode | None:
    """A fresh cell with the kind, source, pictures and nbgrader metadata of ``raw``, and nothing else of it."""
    if not isinstance(raw, dict):
        return None
    source = raw.get("source", "")
    if isinstance(source, list) and all(isinstance(line, str) for line in source):
        source = "".join(source)
    kind = raw.get("cell_type")
    if not isinstance(source, str) or kind not in ("code", "markdown", "raw"):
        return None
    # A lone surrogate can be written in JSON, but not sent to a kernel.
    source = source.encode("utf-8", errors="replace").decode("utf-8")
    cell = _new(kind, source)
    metadata = raw.get("metadata")
    if isinstance(metadata, dict) and isinstance(metadata.get("nbgrader"), dict):
        cell.metadata["nbgrader"] = copy.deepcopy(metadata["nbgrader"])
    if kind == "markdown" and (pictures := _attachments(raw.get("attachments"))):
        cell["attachments"] = pictures
    return cell


def _attachments(raw: Any) -> dict[str, Any]:
    """Pictures dropped into a text cell, name -> MIME type -> base64 text; what is malformed is left out."""
    found: dict[str, Any] = {}
    for name, bundle in raw.items() if isinstance(raw, dict) else ():
        for kind, text in bundle.items() if isinstance(bundle, dict) else ():
            if isinstance(text, list) and all(isinstance(line, str) for line in text):
                text = "".join(text)
            if isinstance(text, str) and not kind.startswith("application/"):
                found.setdefault(name, {})[kind] = text
    return found


def _claim_grade_ids(cells: list[NotebookNode], known: dict[str, SourceCell], findings: list[str]) -> None:
    """Leave nbgrader metadata on at most one cell per known grade id: the last, as stock nbgrader does."""
    seen: set[str] = set()
    for cell in reversed(cells):
        meta = cell.metadata.get("nbgrader")
        if meta is None:
            continue
        grade_id = meta.get("grade_id")
        if not isinstance(grade_id, str) or grade_id not in known:
            if grade_id is not None:
                findings.append(f"a cell claims the id {str(grade_id)[:64]!r}, which the assignment does not have")
            del cell.metadata["nbgrader"]
        elif grade_id in seen:
            findings.append(f"cell {grade_id} stands there more than once; the last one counts")
            del cell.metadata["nbgrader"]
        else:
            seen.add(grade_id)


def _restore(cell: NotebookNode, original: SourceCell, handed_out: str | None, findings: list[str]) -> None:
    """Put back the kind, the metadata and, when it is locked, the source of a cell."""
    claimed, restored = cell.metadata["nbgrader"], original.metadata()
    if cell.cell_type != original.kind:
        findings.append(f"cell {original.grade_id} was turned into a {cell.cell_type} cell")
        source = cell.source
        cell.clear()
        cell.update(_new(original.kind, source))
    changed = [k for k in ("grade", "solution", "task", "points") if k in claimed and claimed[k] != restored.get(k)]
    if changed:
        findings.append(f"cell {original.grade_id}: its {' and '.join(changed)} had been changed")
    cell.metadata["nbgrader"] = NotebookNode(restored)
    if original.locked:
        if cell.source not in (original.released, original.source, handed_out):
            findings.append(f"cell {original.grade_id} is locked, but had been edited")
        cell.source = original.source


def _new(kind: str, source: str) -> NotebookNode:
    """A cell without an id. nbformat's own constructors validate each cell, which takes longer than all the rest."""
    cell = NotebookNode(cell_type=kind, metadata=NotebookNode(), source=source)
    return NotebookNode(cell, execution_count=None, outputs=[]) if kind == "code" else cell


def _add_missing(cells: list[NotebookNode], target: Target, findings: list[str]) -> list[NotebookNode]:
    """Put every known cell that is not there behind the one that precedes it in the original."""
    place = {c.metadata["nbgrader"]["grade_id"]: c for c in cells if "nbgrader" in c.metadata}
    out = list(cells)
    before: NotebookNode | None = None
    for original in target.cells:
        cell = place.get(original.grade_id)
        if cell is None:
            cell = _new(original.kind, original.source if original.locked else original.released)
            cell.metadata["nbgrader"] = NotebookNode(original.metadata())
            at = 0 if before is None else next(i for i, c in enumerate(out) if c is before) + 1
            out.insert(at, cell)
            findings.append(f"cell {original.grade_id} was missing and has been put back")
        before = cell
    return out
