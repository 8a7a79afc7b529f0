"""Which submissions share more than a class of strangers would: leads for a person, never marks.

A fingerprint is a run of ``GRAM`` tokens (Schleimer, Wilkerson and Aiken, SIGMOD 2003; here every run is kept, as
notebooks are small). Runs that the course gave, in the release or the reference, are no evidence, nor are those that
many submissions have. Two students with other runs in common have their answers aligned by RapidFuzz, and what lies
outside of those known runs is counted.
"""

from __future__ import annotations

import json
import math
import time
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product

from rapidfuzz.distance import LCSseq

from gradekit.course import Course, CourseError, Role, Submission
from gradekit.grading.job import Job, Target
from gradekit.grading.plan import Planner
from gradekit.kernels import Limits
from gradekit.similarity.tokens import Token, code_blocks, own_attributes, words

#: Tokens in a run that is looked up: of code, and of words.
GRAM = {"code": 12, "markdown": 5}
#: The shortest stretch of an alignment that counts.
RUN = {"code": 8, "markdown": 4}
#: Fewer shared tokens than these are no lead, however large a part of an answer they are.
ENOUGH = {"code": 40, "markdown": 25}
#: A run that more submissions have is common knowledge: this many, or this part of the class.
COMMON, COMMON_PART = 3, 0.05
#: Characters of a cell, and of all cells of a student, that are read; no honest answer is longer.
CELL, WORK = 20_000, 300_000


#: For each block of an answer, which of its tokens are the student's own.
Own = list[bytearray]
#: Two answers -> two of their blocks -> how many runs these have in common.
Votes = dict[tuple[int, int], Counter[tuple[int, int]]]


@dataclass(frozen=True)
class Block:
    """A function, or a stretch of statements: one character, and a place in the cell's source, for each token."""

    text: str
    starts: array[int]
    ends: array[int]


@dataclass(frozen=True)
class Answer:
    """A cell in which a student answered."""

    notebook: str
    cell: str
    kind: str
    source: str
    blocks: tuple[Block, ...]

    @property
    def grams(self) -> Iterator[tuple[int, int, int]]:
        """Fingerprint, block, and place in the block, of every run."""
        for number, block in enumerate(self.blocks):
            for place, gram in _grams(block.text, GRAM[self.kind]):
                yield gram, number, place


@dataclass(frozen=True)
class Work:
    """All answers of one student."""

    student: str
    answers: tuple[Answer, ...]

    @property
    def fingerprints(self) -> set[int]:
        """Of all runs."""
        return {gram for answer in self.answers for gram, _, _ in answer.grams}


@dataclass(frozen=True)
class Side:
    """One half of a match: an answer, the places and number of its own tokens that are shared, and how many it has."""

    student: str
    answer: Answer
    spans: tuple[tuple[int, int], ...]
    own: int
    shared: int

    @property
    def share(self) -> float:
        return self.shared / self.own if self.own else 0.0


@dataclass(frozen=True)
class Match:
    """Two answers that share more than strangers' do; ``longest`` is in tokens."""

    left: Side
    right: Side
    longest: int

    @property
    def share(self) -> float:
        return max(self.left.share, self.right.share)

    @property
    def shared(self) -> int:
        return min(self.left.shared, self.right.shared)


@dataclass(frozen=True)
class Lead:
    """Two students, and the answers that a person should look at, the most alike first."""

    left: str
    right: str
    matches: tuple[Match, ...]

    @property
    def shared(self) -> int:
        return sum(match.shared for match in self.matches)

    @property
    def share(self) -> float:
        return max(match.share for match in self.matches)

    @property
    def longest(self) -> int:
        return max(match.longest for match in self.matches)


@dataclass(frozen=True)
class Comparison:
    """What was compared, and what came of it.

    Attributes:
        common: how many submissions may have a run that is evidence.
        left_out: student -> what of the work was not compared, and why.
    """

    assignment: str
    threshold: float
    students: tuple[str, ...]
    common: int
    leads: tuple[Lead, ...]
    left_out: dict[str, str]
    seconds: float


class Reader:
    """Turns sources into answers. One per comparison: it gives each kind of token its character."""

    def __init__(self) -> None:
        self._characters: dict[str, str] = {}

    def blocks(self, kind: str, source: str, own: Collection[str]) -> tuple[Block, ...]:
        tokens = code_blocks(source, own) if kind == "code" else [words(source)]
        return tuple(
            Block(
                "".join(map(self._character, block)),
                array("I", (token.start for token in block)),
                array("I", (token.end for token in block)),
            )
            for block in tokens
        )

    def work(self, student: str, cells: Sequence[tuple[str, str, str, str]]) -> Work:
        """The answers of a student.

        Args:
            cells: notebook, name, kind and source of each.
        """
        own = own_attributes(source for _, _, kind, source in cells if kind == "code")
        return Work(student, tuple(Answer(*cell, self.blocks(cell[2], cell[3], own)) for cell in cells))

    def given(self, targets: Iterable[Target]) -> set[int]:
        """The fingerprints of all that the course gives or expects: the release and the reference."""
        sources = [
            (cell.kind, text) for target in targets for cell in target.cells for text in (cell.source, cell.released)
        ]
        sources += [("code", text) for target in targets for text in target.plain]
        own = own_attributes(source for kind, source in sources if kind == "code")
        return self.fingerprints(sources, own)

    def fingerprints(self, sources: Iterable[tuple[str, str]], own: Collection[str]) -> set[int]:
        """The fingerprints of kinds and sources."""
        return {
            gram
            for kind, text in sources
            if kind in GRAM
            for block in self.blocks(kind, text, own)
            for _, gram in _grams(block.text, GRAM[kind])
        }

    def _character(self, token: Token) -> str:
        number = len(self._characters)
        # Neither controls nor surrogates.
        return self._characters.setdefault(token.symbol, chr(number + (256 if number < 50_000 else 65_536)))


def compare(
    course: Course,
    assignment: str,
    *,
    threshold: float,
    progress: Callable[[Submission], None] = lambda submission: None,
) -> Comparison:
    """Compare all collected submissions of an assignment, all its notebooks together. Writes nothing.

    Args:
        threshold: the part of an answer's own tokens, 0 to 1, from which on it is a lead.

    Raises:
        CourseError: the assignment is unknown or was never generated, or the threshold is no such part.
    """
    if not 0 < threshold <= 1:
        raise CourseError(f"The threshold is a part of an answer, above 0 and at most 1, not {threshold:g}.")
    start = time.monotonic()
    planner = Planner(course, assignment, Limits())
    reader = Reader()
    given = reader.given(planner.targets)
    works: list[Work] = []
    left_out: dict[str, str] = {}
    for submission in course.submissions(assignment):
        try:
            cells = list(answered(planner.plan(submission).jobs))
            read = list(_within_limits(cells))
            if read != cells:
                left_out[submission.student] = f"cells beyond {CELL:,} characters, or {WORK:,} together, are cut"
            works.append(reader.work(submission.student, read))
        except Exception as error:  # whatever a student's folder provokes stays with that student
            left_out[submission.student] = str(error)
        progress(submission)
    leads = find(works, given, threshold)
    students = tuple(work.student for work in works)
    seconds = time.monotonic() - start
    return Comparison(assignment, threshold, students, common(len(works)), tuple(leads), left_out, seconds)


def answered(jobs: Iterable[Job]) -> Iterator[tuple[str, str, str, str]]:
    """Notebook, name, kind and source of what a student typed: in the cells for it, and in code cells of their own."""
    for job in jobs:
        roles = {cell.grade_id: cell.role for cell in job.target.cells}
        for index, cell in enumerate(json.loads(job.notebook)["cells"]):
            grade_id, kind, source = (
                cell["metadata"].get("nbgrader", {}).get("grade_id", ""),
                cell["cell_type"],
                cell["source"],
            )
            role = roles.get(grade_id, Role.PLAIN)
            added = role is Role.PLAIN and kind == "code" and source not in job.target.plain
            if kind in GRAM and grade_id not in job.unchanged and (role in (Role.EXERCISE, Role.MANUAL) or added):
                yield job.target.notebook, grade_id or f"cell {index + 1}", kind, source


def _within_limits(cells: Iterable[tuple[str, str, str, str]]) -> Iterator[tuple[str, str, str, str]]:
    rest = WORK
    for notebook, name, kind, source in cells:
        read = source[: min(CELL, rest)]
        rest -= len(read)
        yield notebook, name, kind, read


def common(students: int) -> int:
    """How many submissions of a class may have a run that still tells something."""
    return max(COMMON, math.ceil(COMMON_PART * students))


def find(works: Sequence[Work], given: set[int], threshold: float) -> list[Lead]:
    """The leads in a class, the most shared first.

    Args:
        given: fingerprints that are no evidence.
    """
    having = Counter(gram for work in works for gram in work.fingerprints)
    limit = common(len(works))
    known = given | {gram for gram, students in having.items() if students > limit}
    own = [[_own(answer, known) for answer in work.answers] for work in works]
    telling = {gram for gram, students in having.items() if students > 1} - known
    having.clear()
    places = [_places(work, telling) for work in works]
    index: dict[int, list[int]] = defaultdict(list)
    for number, found in enumerate(places):
        for gram in found:
            index[gram].append(number)
    pairs: dict[tuple[int, int], list[int]] = defaultdict(list)
    for gram, numbers in index.items():
        for pair in combinations(numbers, 2):
            pairs[pair].append(gram)
    leads = []
    for (left, right), grams in pairs.items():
        votes: Votes = defaultdict(Counter)
        for gram in grams:
            for (a, block_a), (b, block_b) in product(places[left][gram], places[right][gram]):
                votes[a, b][block_a, block_b] += 1
        matches = list(_matches(works[left], works[right], own[left], own[right], votes))
        chosen = [m for m in matches if m.share >= threshold and m.shared >= ENOUGH[m.left.answer.kind]]
        if chosen:
            chosen.sort(key=lambda match: (-match.shared, match.left.answer.notebook, match.left.answer.cell))
            leads.append(Lead(works[left].student, works[right].student, tuple(chosen)))
    return sorted(leads, key=lambda lead: (-lead.shared, lead.left, lead.right))


def _places(work: Work, telling: set[int]) -> dict[int, set[tuple[int, int]]]:
    """Fingerprint -> the answers and blocks in which it stands."""
    found: dict[int, set[tuple[int, int]]] = defaultdict(set)
    for number, answer in enumerate(work.answers):
        for gram, block, _ in answer.grams:
            if gram in telling:
                found[gram].add((number, block))
    return found


def _matches(
    left: Work, right: Work, left_own: Sequence[Own], right_own: Sequence[Own], votes: Votes
) -> Iterator[Match]:
    """Pairs of answers with blocks aligned: each block with the one that it shares the most runs with."""
    for (a, b), blocks in votes.items():
        one, other = left.answers[a], right.answers[b]
        if one.kind != other.kind:
            continue
        taken: tuple[set[int], set[int]] = (set(), set())
        runs: list[tuple[int, int, int, int, int]] = []
        for (block_a, block_b), _ in blocks.most_common():
            if block_a in taken[0] or block_b in taken[1]:
                continue
            taken[0].add(block_a)
            taken[1].add(block_b)
            codes = LCSseq.opcodes(one.blocks[block_a].text, other.blocks[block_b].text)
            runs += [
                (block_a, code.src_start, block_b, code.dest_start, code.src_end - code.src_start)
                for code in codes
                if code.tag == "equal" and code.src_end - code.src_start >= RUN[one.kind]
            ]
        if runs:
            sides = (
                _side(left.student, one, left_own[a], [(block, place, n) for block, place, _, _, n in runs]),
                _side(right.student, other, right_own[b], [(block, place, n) for _, _, block, place, n in runs]),
            )
            yield Match(*sides, max(run[-1] for run in runs))


def _side(student: str, answer: Answer, own: Own, runs: list[tuple[int, int, int]]) -> Side:
    shared = sum(sum(own[block][place : place + n]) for block, place, n in runs)
    spans = sorted(span for block, place, n in runs for span in _spans(answer, own, block, place, n))
    return Side(student, answer, tuple(spans), sum(map(sum, own)), shared)


def _spans(answer: Answer, own: Own, block: int, place: int, length: int) -> Iterator[tuple[int, int]]:
    """Where a run stands in the source, less what is not the student's own and what was not compared, as comments."""
    starts, ends = answer.blocks[block].starts, answer.blocks[block].ends
    span: tuple[int, int] | None = None
    for token in range(place, place + length):
        gap = answer.source[span[1] : starts[token]] if span else ""
        goes_on = span and own[block][token] and not (gap.strip() and "\n" in gap)
        if span and not goes_on:
            yield span
            span = None
        if own[block][token]:
            span = (span[0] if span else starts[token], ends[token])
    if span:
        yield span


def _own(answer: Answer, known: set[int]) -> Own:
    """1 for each token that is in no known run, by block."""
    own = [bytearray(b"\1") * len(block.text) for block in answer.blocks]
    length = GRAM[answer.kind]
    for gram, block, place in answer.grams:
        if gram in known:
            own[block][place : place + length] = bytes(length)
    return own


def _grams(text: str, length: int) -> Iterator[tuple[int, int]]:
    for place in range(len(text) - length + 1):
        yield place, hash(text[place : place + length])
