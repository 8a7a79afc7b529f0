"""A result rests on what its code imports, and on no more: that is what keeps a change to one module cheap."""

from __future__ import annotations

from pathlib import Path

import labkit
import pytest
from gradekit.authoring import cache
from gradekit.authoring.behind import labkit_behind, rules_behind
from gradekit.authoring.gates import GATES, form, insights, mutants, trivial

LABKIT = Path(labkit.__file__).parent


def names(*sources: str) -> set[str]:
    return {str(path.relative_to(LABKIT)) for path in labkit_behind(sources)}


def test_only_what_is_imported() -> None:
    assert names("import numpy") == set()
    assert names("from labkit import insight") == {"__init__.py", "insight.py"}
    assert names("%time\nimport labkit.timing") >= {"__init__.py", "timing.py"}
    assert "insight.py" not in names("import labkit.timing")


def test_what_imports_import() -> None:
    package = names("def late():\n    from labkit.cudasim import check")
    assert {"cudasim/__init__.py", "cudasim/errors.py", "cudasim/records.py", "cudasim/values.py"} <= package
    assert {"tiny/models.py", "tiny/tokenizer.py"} <= names("from labkit import tiny")


@pytest.mark.parametrize("source", ["def (", "__import__(name)", "importlib.import_module('labkit.' + name)"])
def test_what_cannot_be_read_rests_on_everything(source: str) -> None:
    assert names(source) == {str(path.relative_to(LABKIT)) for path in LABKIT.rglob("*.py")}


def test_a_gate_rests_on_its_own_rule_and_the_engine() -> None:
    modules = (form, mutants, insights)
    behind = {module: {path.name for path in rules_behind(Path(module.__file__))} for module in modules}
    for found in behind.values():
        assert {"subject.py", "replay.py", "replay_child.py", "run.py", "judge.py", "check.py", "release.py"} <= found
        assert not found & {"trivial.py", "cli.py", "show.py", "solutions.py", "scaffold.py"}
    assert "operators.py" in behind[mutants] and "operators.py" not in behind[form]
    assert "untouched.py" in behind[insights] and "sync.py" in behind[form]
    assert "trivial.py" in {path.name for path in rules_behind(Path(trivial.__file__))}
    assert len({cache.rules(Path(gate.check.__code__.co_filename)) for gate in GATES}) == len(GATES)


def test_a_changed_module_changes_what_rests_on_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    timed, plain = (cache.library([f"from labkit import {name}"]) for name in ("timing", "insight"))
    real = cache.files

    def changed(paths: list[Path]) -> list[tuple[str, str]]:
        return [(name, "edited" if name == "timing.py" else digest) for name, digest in real(paths)]

    monkeypatch.setattr(cache, "files", changed)
    assert cache.library(["from labkit import timing"]) != timed
    assert cache.library(["from labkit import insight"]) == plain
