"""Sanitising: nothing a student can write raises, and every defect costs only what it must."""

from __future__ import annotations

import json
from typing import Any

import nbformat
import pytest
from gradekit.course import Course, read_notebook
from gradekit.grading.job import Target
from gradekit.grading.plan import read_targets
from gradekit.grading.sanitize import sanitize
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from notebookmutation import mutated


@pytest.fixture
def target(tiny_course: Course) -> Target:
    (only,) = read_targets(tiny_course, "ps1")
    return only


@pytest.fixture
def released(tiny_course: Course) -> dict[str, Any]:
    return json.loads((tiny_course.path("release", "ps1") / "warm-up.ipynb").read_text())


def put(notebook: dict[str, Any]) -> bytes:
    return json.dumps(notebook).encode()


def find(notebook: dict[str, Any], grade_id: str) -> dict[str, Any]:
    return next(c for c in notebook["cells"] if c["metadata"].get("nbgrader", {}).get("grade_id") == grade_id)


def ids(notebook: nbformat.NotebookNode) -> list[str]:
    return [c.metadata["nbgrader"]["grade_id"] for c in notebook.cells if "nbgrader" in c.metadata]


ALL = ["imports", "square", "test-square", "root", "test-root", "reflect"]


def test_the_release_comes_back_with_hidden_tests_and_no_findings(target: Target, released: dict[str, Any]) -> None:
    clean = sanitize(put(released), target)
    assert clean.findings == ()
    assert ids(clean.notebook) == ALL
    tests = next(c for c in clean.notebook.cells if c.metadata.get("nbgrader", {}).get("grade_id") == "test-square")
    assert "square(-4)" in tests.source
    # The mark scheme is no part of what a student received: an untouched reflection counts as untouched.
    assert {"square", "root", "reflect"} <= clean.unchanged
    nbformat.validate(clean.notebook)


def test_an_answer_is_kept(target: Target, released: dict[str, Any]) -> None:
    find(released, "square")["source"] = "def square(x):\n    return x ** 2"
    clean = sanitize(put(released), target)
    assert "square" not in clean.unchanged
    assert "def square(x):\n    return x ** 2" in [c.source for c in clean.notebook.cells]


def test_an_edited_test_is_restored(target: Target, released: dict[str, Any]) -> None:
    find(released, "test-square")["source"] = "pass"
    clean = sanitize(put(released), target)
    assert any("test-square is locked" in finding for finding in clean.findings)
    assert "pass" not in [c.source for c in clean.notebook.cells]


@pytest.mark.parametrize(("key", "value"), [("points", 1000), ("grade", False), ("solution", True), ("task", True)])
def test_changed_metadata_is_restored(target: Target, released: dict[str, Any], key: str, value: object) -> None:
    find(released, "test-square")["metadata"]["nbgrader"][key] = value
    clean = sanitize(put(released), target)
    meta = next(c for c in clean.notebook.cells if c.metadata.get("nbgrader", {}).get("grade_id") == "test-square")
    assert meta.metadata["nbgrader"]["points"] == 2
    assert meta.metadata["nbgrader"]["grade"] is True
    assert meta.metadata["nbgrader"]["solution"] is False
    assert any(key in finding for finding in clean.findings)


def test_deleted_cells_come_back_in_their_place(target: Target, released: dict[str, Any]) -> None:
    released["cells"].remove(find(released, "test-square"))
    clean = sanitize(put(released), target)
    assert ids(clean.notebook) == ALL
    assert any("test-square was missing" in finding for finding in clean.findings)


def test_all_cells_deleted(target: Target, released: dict[str, Any]) -> None:
    released["cells"] = []
    assert ids(sanitize(put(released), target).notebook) == ALL


def test_of_duplicated_cells_the_last_counts(target: Target, released: dict[str, Any]) -> None:
    again = json.loads(json.dumps(find(released, "square"))) | {"source": "def square(x): return 7", "id": "again"}
    released["cells"].append(again)
    clean = sanitize(put(released), target)
    assert sorted(ids(clean.notebook)) == sorted(ALL)
    last = next(c for c in clean.notebook.cells if c.metadata.get("nbgrader", {}).get("grade_id") == "square")
    assert last.source == "def square(x): return 7"
    assert any("more than once" in finding for finding in clean.findings)


def test_a_retyped_cell_gets_its_kind_back(target: Target, released: dict[str, Any]) -> None:
    cell = find(released, "test-square")
    cell["cell_type"] = "markdown"
    del cell["outputs"], cell["execution_count"]
    clean = sanitize(put(released), target)
    kinds = {c.metadata["nbgrader"]["grade_id"]: c.cell_type for c in clean.notebook.cells if "nbgrader" in c.metadata}
    assert kinds["test-square"] == "code"


def test_pictures_in_an_answer_are_kept(target: Target, released: dict[str, Any]) -> None:
    picture = {"plot.png": {"image/png": ["aGVs\n", "bG8="]}}
    find(released, "reflect")["attachments"] = {**picture, "bad": 3, "worse": {"image/png": 7, "text/plain": ["x"]}}
    clean = sanitize(put(released), target)
    reflect = next(c for c in clean.notebook.cells if c.metadata.get("nbgrader", {}).get("grade_id") == "reflect")
    assert reflect.attachments == {"plot.png": {"image/png": "aGVs\nbG8="}, "worse": {"text/plain": "x"}}
    nbformat.validate(clean.notebook)


def test_a_stolen_grade_id_is_taken_away(target: Target, released: dict[str, Any]) -> None:
    find(released, "square")["metadata"]["nbgrader"]["grade_id"] = "nobody-knows-me"
    clean = sanitize(put(released), target)
    assert ids(clean.notebook).count("square") == 1
    assert any("nobody-knows-me" in finding for finding in clean.findings)


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"\x00" * 100,
        b"not json",
        b"[]",
        b"3",
        b'{"cells": 1, "nbformat": 4}',
        b'{"nbformat": 17}',
        b'{"nbformat": "x", "cells": []}',
        b"[" * 100_000,
        b'{"nbformat": 4, "cells": [' + b"9" * 5000 + b"]}",
        "{\"nbformat\": 4, \"cells\": [\u2028".encode("utf-16"),
    ],
)
def test_what_is_no_notebook_is_replaced_and_said(target: Target, content: bytes | None) -> None:
    clean = sanitize(content, target)
    assert clean.unreadable
    assert ids(clean.notebook) == ALL


def test_an_old_notebook_format_is_brought_up_to_date(target: Target, tiny_course: Course) -> None:
    modern = read_notebook(tiny_course.path("release", "ps1") / "warm-up.ipynb")
    old = nbformat.convert(modern, 3)
    clean = sanitize(nbformat.writes(old, version=3).encode(), target)
    assert not clean.unreadable
    assert ids(clean.notebook) == ALL


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_mutation_is_survived(target: Target, released: dict[str, Any], data: st.DataObject) -> None:
    clean = sanitize(mutated(released, data), target)
    assert sorted(ids(clean.notebook)) == sorted(ALL)
    nbformat.validate(clean.notebook)
    points = [c.metadata["nbgrader"].get("points", 0) for c in clean.notebook.cells if "nbgrader" in c.metadata]
    assert sum(points) == 7


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_any_bytes_are_survived(target: Target, content: bytes) -> None:
    assert ids(sanitize(content, target).notebook) == ALL
