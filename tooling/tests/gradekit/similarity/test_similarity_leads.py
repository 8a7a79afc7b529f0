"""Which pairs become leads: disguised copies, and none of what honest students have in common."""

from __future__ import annotations

import ast
import random
from pathlib import Path

import pytest
from gradekit.authoring import answers
from gradekit.authoring.release import released
from gradekit.course import Course
from gradekit.similarity.compare import Reader, Work, common, find
from gradekit.similarity.tokens import own_attributes

ROOT = Path(__file__).parents[4]

COPY = '''
def clean(rows):
    """Drop what is empty."""
    kept = []
    for row in rows:
        text = row.get("text", "").strip()
        if len(text) > 3 and text not in kept:
            kept.append(text)
    return kept


def count(rows, limit=10):
    seen = {}
    for row in clean(rows):
        for word in row.split():
            seen[word] = seen.get(word, 0) + 1
    return sorted(seen.items(), key=lambda pair: -pair[1])[:limit]
'''
DISGUISED = """
# my own solution!!
def frequencies(data, top=25):
    table = {}
    for entry in tidy(data):
        for w in entry.split():
            table[w] = table.get(w, 1) + 2
    print("counted")
    return sorted(table.items(), key=lambda p: -p[0])[:top]

def tidy(data):
    result = []
    for d in data:
        s = d.get("body", "?").strip()
        if len(s) > 5 and s not in result:
            result.append(s)
    return result
"""
OTHER = """
import re
from collections import Counter

def clean(rows):
    return list(dict.fromkeys(filter(lambda t: len(t) > 3, (re.sub(r"\\s+", " ", row["text"]) for row in rows))))

def count(rows, limit=10):
    words = Counter()
    while rows:
        words.update(clean([rows.pop()])[0].lower().split(" "))
    return words.most_common(limit)
"""


def works(*sources: str, kind: str = "code") -> list[Work]:
    reader = Reader()
    return [reader.work(f"s{i}", [("lab", "cell", kind, source)]) for i, source in enumerate(sources)]


def test_a_copy_is_found_whatever_it_calls_itself() -> None:
    (lead,) = find(works(COPY, OTHER, DISGUISED), set(), 0.6)
    assert (lead.left, lead.right) == ("s0", "s2")
    (match,) = lead.matches
    assert match.share > 0.9 and match.longest >= 40
    for side in (match.left, match.right):
        shown = [side.answer.source[start:end] for start, end in side.spans]
        assert any(".strip()" in text for text in shown) and any("sorted(" in text for text in shown)
        assert not any("import" in text or "my own" in text for text in shown)


def test_what_the_course_gave_is_no_evidence_under_any_name() -> None:
    reader = Reader()
    students = [reader.work(name, [("lab", "cell", "code", COPY)]) for name in ("a", "b")]
    assert find(students, set(), 0.6)
    given = reader.fingerprints([("code", COPY.replace("rows", "lines").replace("3", "4"))], ())
    assert not find(students, given, 0.6)


def test_what_the_course_gave_and_what_is_not_compared_is_not_marked() -> None:
    reader = Reader()
    stub = "def clean(rows: list[dict[str, str]], limit: int = 10, *, strict: bool = False) -> list[tuple[str, int]]:\n"
    source = (
        stub
        + '    """What the course says."""\n'
        + COPY.replace("\n", "\n    ").replace("kept = []", "kept = []  # mine")
    )
    students = [reader.work(name, [("lab", "cell", "code", source)]) for name in ("a", "b")]
    ((match,),) = [lead.matches for lead in find(students, reader.fingerprints([("code", stub)], ()), 0.6)]
    marked = [source[start:end] for start, end in match.left.spans]
    assert any("kept.append(text)" in text for text in marked)
    assert not any("strict" in text or "course" in text or "mine" in text for text in marked)


def test_what_many_have_is_common_knowledge() -> None:
    limit = common(20)
    few = works(*[COPY] * limit, *[""] * (20 - limit))
    assert len(find(few, set(), 0.6)) == limit * (limit - 1) // 2
    assert not find(works(*[COPY] * (limit + 1), *[""] * (19 - limit)), set(), 0.6)
    assert common(300) == 15


def test_short_answers_that_must_be_alike_are_no_lead() -> None:
    assert not find(works("def area(w, h):\n    return w * h", "def area(a, b):\n    return a * b"), set(), 0.6)


def test_written_answers_are_compared_by_words() -> None:
    text = (
        "The kernel was limited by memory: moving the partial sums into registers halved the traffic, and the time "
        "went down from nine to five milliseconds. I did not expect that the larger block would be slower again."
    )
    other = (
        "Registers made it about twice as fast since less is read from global memory. A larger block is slower because "
        "fewer of them fit on one multiprocessor at a time, as the profile of the second run shows quite clearly."
    )
    (lead,) = find(works(text, other, "Well. " + text.replace("nine", "8").upper(), kind="markdown"), set(), 0.6)
    assert (lead.left, lead.right) == ("s0", "s2")


class _Disguise(ast.NodeTransformer):
    """Other names and constants."""

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.copy_location(ast.Name(self.names.get(node.id, node.id), node.ctx), node)

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.arg = self.names.get(node.arg, node.arg)
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        return ast.Constant(node.value + 1) if type(node.value) in (int, float) else node


def disguised(source: str, chance: random.Random) -> str:
    """A copy with other names and constants, no comments, its functions in another order, and statements thrown in."""
    tree = ast.parse(source)
    bound = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    bound |= {n.arg for n in ast.walk(tree) if isinstance(n, ast.arg)}
    tree = _Disguise({name: f"own_{i}" for i, name in enumerate(sorted(bound))}).visit(tree)
    chance.shuffle(tree.body)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.body.insert(0, ast.parse("checked = None").body[0])
    return ast.unparse(ast.fix_missing_locations(tree))


@pytest.mark.parametrize("name", ["1.3.1", "2.4.4", "3.1.9"])
def test_in_a_class_from_the_answer_bank_copies_are_leads_and_honest_pairs_are_not(name: str) -> None:
    """Right and wrong answers of a lab, and of each right one a disguised copy."""
    course, chance, reader = Course.open(ROOT), random.Random(1), Reader()
    lab = course.lab(name)
    kinds = {cell.grade_id: cell.kind for cell in lab.cells}
    cells = [(cell.kind, cell.source) for cell in lab.cells]
    cells += [(cell.cell_type, cell.source) for cell in released(course, lab).cells]
    own = own_attributes(source for kind, source in cells if kind == "code")
    known = reader.fingerprints(cells, own)
    students, copies = [], set()
    for answer in answers.bank(course, lab):
        typed = [(lab.name, g, kinds[g], s) for g, s in answers.sources(lab, answer).items() if s is not None]
        students.append(reader.work(answer.name, typed))
        if answer.name.startswith("correct"):
            copy = [(n, g, kind, disguised(s, chance) if kind == "code" else s) for n, g, kind, s in typed]
            students.append(reader.work(f"{answer.name}, copied", copy))
            copies.add((answer.name, f"{answer.name}, copied"))
    assert {(lead.left, lead.right) for lead in find(students, known, 0.6)} == copies
