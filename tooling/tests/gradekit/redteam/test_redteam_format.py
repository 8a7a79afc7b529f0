"""An attack says what it tries and what counts as success, in a form that can be checked."""

from __future__ import annotations

from pathlib import Path

import pytest
from gradekit.course import CourseError
from gradekit.redteam.attack import Family, corpus, load
from gradekit.redteam.ground import CANARIES


def written(folder: Path, text: str) -> Path:
    path = folder / "forging" / "an_attack.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_a_header_and_sections_are_read(tmp_path: Path) -> None:
    attack = load(
        written(
            tmp_path,
            "# Tries this\n# and that.\n# succeeds: points test-a test-b; leak hidden\n# earns: test-a 2\n"
            "# known: nothing\n#   stops it\n\n# %% a\nx = 1\n\n# %% file b/c.py\ny\n",
        )
    )
    assert (attack.name, attack.family, attack.lab) == ("an_attack", Family.FORGING, "plain")
    assert attack.tries == "Tries this and that."
    assert attack.goals == {"points": ("test-a", "test-b"), "leak": ("hidden",)}
    assert attack.earns == {"test-a": 2.0}
    assert attack.known == "nothing stops it"
    assert attack.sections == (("a", "x = 1\n"), ("file b/c.py", "y\n"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("# Tries.\n# succeeds: glory\n\n# %% a\nx\n", "must name one of"),
        ("# Tries.\n\n# %% a\nx\n", "must name one of"),
        ("# succeeds: outside\n\n# %% a\nx\n", "says what it tries"),
        ("# Tries.\n# succeeds: outside\n", "at least one section"),
        ("import os\n# %% a\nx\n", "only comments may"),
    ],
)
def test_what_is_missing_is_said(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(CourseError, match=said):
        load(written(tmp_path, text))


def test_an_attack_that_is_not_there_is_named(corpus_folder: Path) -> None:
    with pytest.raises(CourseError, match="no attack or family 'nonsense'"):
        corpus(corpus_folder, ["nonsense"])


def test_the_corpus_has_all_families_and_names_real_tests_and_canaries(corpus_folder: Path) -> None:
    attacks = corpus(corpus_folder)
    assert len(attacks) >= 70
    assert {attack.family for attack in attacks} == set(Family)
    texts = {path.stem: path.read_text() for path in (corpus_folder / "course").glob("*.py")}
    for attack in attacks:
        assert attack.marker.replace("-", "").replace("_", "").isalnum()
        for test in (*attack.goals.get("points", ()), *attack.earns):
            assert f'"grade_id": "{test}"' in texts[attack.lab], f"{attack.name} names {test}"
        assert set(attack.goals.get("leak", ())) <= set(CANARIES), attack.name
        sources = "".join(body for title, body in attack.sections if title != "make")
        assert not any(canary in sources for canary in CANARIES.values()), f"{attack.name} quotes a canary"
