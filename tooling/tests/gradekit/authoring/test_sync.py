"""Pairs: either direction by the side that changed, refusal when both did, and nothing lost."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest
from gradekit.authoring.sync import Change, Keep, canonical_notebook, canonical_text, pairs, sync
from gradekit.course import Course, CourseError
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.fixture
def stem(tiny_course: Course) -> Path:
    (only,) = pairs(tiny_course)
    assert sync(only).change is Change.NONE
    return only


def edit(path: Path, old: str, new: str) -> None:
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new))


def text_of(stem: Path) -> Path:
    return stem.with_name(stem.name + ".py")


def notebook_of(stem: Path) -> Path:
    return stem.with_name(stem.name + ".ipynb")


def test_a_changed_text_is_written_to_the_notebook(stem: Path) -> None:
    edit(text_of(stem), "x * x", "x ** 2")
    assert sync(stem, check=True).change is Change.TO_NOTEBOOK
    assert "x ** 2" not in notebook_of(stem).read_text()
    assert sync(stem).change is Change.TO_NOTEBOOK
    assert "x ** 2" in notebook_of(stem).read_text()
    assert sync(stem).change is Change.NONE


def test_a_changed_notebook_is_written_to_the_text(stem: Path) -> None:
    edit(notebook_of(stem), "x * x", "x ** 2")
    assert sync(stem).change is Change.TO_TEXT
    assert "x ** 2" in text_of(stem).read_text()
    assert sync(stem).change is Change.NONE


def test_two_changed_sides_are_left_alone_until_one_is_chosen(stem: Path) -> None:
    edit(notebook_of(stem), "x * x", "x ** 2")
    edit(text_of(stem), "x * x", "pow(x, 2)")
    before = text_of(stem).read_text(), notebook_of(stem).read_text()
    result = sync(stem)
    assert result.change is Change.CONFLICT
    assert "--keep" in result.detail
    assert (text_of(stem).read_text(), notebook_of(stem).read_text()) == before
    assert sync(stem, keep=Keep.NOTEBOOK).change is Change.TO_TEXT
    assert "x ** 2" in text_of(stem).read_text()


def test_the_same_edit_on_both_sides_is_no_conflict(stem: Path) -> None:
    edit(notebook_of(stem), "x * x", "x ** 2")
    edit(text_of(stem), "x * x", "x ** 2")
    assert sync(stem).change is Change.TIDY
    assert sync(stem).change is Change.NONE


def test_outputs_are_removed_and_ids_stay(stem: Path) -> None:
    notebook = nbformat.read(notebook_of(stem), as_version=4)
    ids = [cell.id for cell in notebook.cells]
    code = next(cell for cell in notebook.cells if cell.cell_type == "code")
    code.outputs = [nbformat.v4.new_output("stream", name="stdout", text="hello")]
    code.execution_count = 7
    nbformat.write(notebook, notebook_of(stem))
    assert sync(stem, check=True).change is Change.TIDY
    sync(stem)
    tidy = nbformat.read(notebook_of(stem), as_version=4)
    assert not any(cell.get("outputs") for cell in tidy.cells)
    assert [cell.id for cell in tidy.cells] == ids
    assert "square" in ids


def test_a_missing_half_is_written(stem: Path) -> None:
    for half in (text_of(stem), notebook_of(stem)):
        content = half.read_text()
        half.unlink()
        sync(stem)
        assert half.read_text() == content


@pytest.mark.parametrize("content", ["", "{", "[]", '{"cells": 3}'])
def test_a_broken_notebook_is_named_and_kept(stem: Path, content: str) -> None:
    notebook_of(stem).write_text(content)
    result = sync(stem)
    assert result.change is Change.BROKEN
    assert notebook_of(stem).name in result.detail
    assert notebook_of(stem).read_text() == content


def test_a_pasted_image_is_refused_because_the_text_cannot_hold_it(stem: Path) -> None:
    notebook = json.loads(notebook_of(stem).read_text())
    notebook["cells"][0]["attachments"] = {"a.png": {"image/png": "AAAA"}}
    notebook_of(stem).write_text(json.dumps(notebook))
    result = sync(stem)
    assert result.change is Change.BROKEN
    assert "image" in result.detail


def cell_called(notebook: nbformat.NotebookNode, grade_id: str) -> nbformat.NotebookNode:
    return next(cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("grade_id") == grade_id)


def test_what_jupyterlab_notes_of_a_view_is_no_change(stem: Path) -> None:
    text = text_of(stem).read_text()
    notebook = nbformat.read(notebook_of(stem), as_version=4)
    notebook.cells[0].metadata["jp-MarkdownHeadingCollapsed"] = True
    cell_called(notebook, "square").metadata.update(
        collapsed=True,
        editable=True,
        execution={"iopub.status.busy": "2026-01-01T00:00:00Z"},
        jupyter={"outputs_hidden": True, "source_hidden": True},
        scrolled=True,
        slideshow={"slide_type": ""},
        tags=[],
    )
    nbformat.write(notebook, notebook_of(stem))
    assert sync(stem).change is Change.TIDY
    assert text_of(stem).read_text() == text
    assert sync(stem).change is Change.NONE


def test_what_an_author_notes_on_a_cell_is_kept_in_one_order(stem: Path) -> None:
    notebook = json.loads(notebook_of(stem).read_text())
    cell = next(cell for cell in notebook["cells"] if cell["id"] == "square")
    cell["metadata"] = {"tags": ["hard"], "nbgrader": dict(reversed(cell["metadata"]["nbgrader"].items()))}
    notebook_of(stem).write_text(json.dumps(notebook))
    assert sync(stem).change is Change.TO_TEXT
    assert 'tags=["hard"]' in text_of(stem).read_text()
    assert sync(stem).change is Change.NONE


@pytest.mark.parametrize("marker", ["as it was", "none yet"])
def test_a_notebook_that_stayed_open_goes_on_where_it_was(stem: Path, marker: str) -> None:
    tab = nbformat.read(notebook_of(stem), as_version=4)  # what JupyterLab holds: it does not see sync's writing
    if marker == "none yet":
        del tab.metadata["gradekit"]
    for source in ("first", "second", "third"):
        tab.cells[0].source = f"# {source}"
        nbformat.write(tab, notebook_of(stem))
        assert sync(stem).change is (Change.CONFLICT if (marker, source) == ("none yet", "first") else Change.TO_TEXT)
        sync(stem, keep=Keep.NOTEBOOK)
        assert f"# # {source}" in text_of(stem).read_text()


def test_a_notebook_that_stayed_open_while_the_text_changed_is_a_conflict(stem: Path) -> None:
    tab = nbformat.read(notebook_of(stem), as_version=4)
    tab.cells[0].source = "# first"
    nbformat.write(tab, notebook_of(stem))
    assert sync(stem).change is Change.TO_TEXT
    edit(text_of(stem), "x * x", "x ** 2")
    assert sync(stem).change is Change.TO_NOTEBOOK
    tab.cells[0].source = "# second"
    nbformat.write(tab, notebook_of(stem))
    assert sync(stem).change is Change.CONFLICT
    assert "x ** 2" in text_of(stem).read_text()


def test_a_copied_graded_cell_is_named_and_nothing_written(stem: Path) -> None:
    text = text_of(stem).read_text()
    notebook = nbformat.read(notebook_of(stem), as_version=4)
    copied = nbformat.from_dict({**cell_called(notebook, "square"), "id": "fresh"})
    notebook.cells.append(copied)
    nbformat.write(notebook, notebook_of(stem))
    result = sync(stem)
    assert result.change is Change.BROKEN
    assert "2 cells have the grade id 'square'" in result.detail
    assert text_of(stem).read_text() == text


def test_line_ends_of_another_system_are_no_change(stem: Path) -> None:
    notebook = json.loads(notebook_of(stem).read_text())
    for cell in notebook["cells"]:
        cell["source"] = "".join(cell["source"]).replace("\n", "\r\n")
    notebook_of(stem).write_text(json.dumps(notebook))
    assert sync(stem).change is Change.TIDY


LINES = st.lists(
    st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\u2028\u2029\x85"), max_size=30)
    | st.sampled_from(["%timeit f()", "!ls", "# %%", "x = 1", "    return", "# ---", '"""', "### BEGIN SOLUTION"]),
    max_size=6,
).map("\n".join)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.booleans(), LINES), max_size=5))
def test_canonical_text_is_a_fixed_point(cells: list[tuple[bool, str]]) -> None:
    make = {True: nbformat.v4.new_code_cell, False: nbformat.v4.new_markdown_cell}
    notebook = nbformat.v4.new_notebook(cells=[make[code](source) for code, source in cells])
    try:
        text = canonical_text(notebook)
    except CourseError:
        return  # said so, and wrote nothing
    again = nbformat.reads(canonical_notebook(text), as_version=4)
    assert canonical_text(again) == text
