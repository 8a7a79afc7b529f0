"""What goes to an executor and what comes back: plain data, no database, no shared file system, no hidden state."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from typing import Any

from gradekit.course import Role
from gradekit.grading.judge import Verdict
from gradekit.integrity.canaries import Coverage, Plant
from gradekit.integrity.evidence import Evidence
from gradekit.kernels import Limits


@dataclass(frozen=True)
class SourceCell:
    """A cell of the assignment as the gradebook knows it.

    Attributes:
        kind: ``code`` or ``markdown``.
        source: the cell in full, hidden tests and mark scheme included.
        released: the cell as the student received it.
        checksum: nbgrader's, over ``source``.
    """

    grade_id: str
    kind: str
    source: str
    released: str
    role: Role
    points: float
    locked: bool
    solution: bool
    checksum: str

    def metadata(self) -> dict[str, Any]:
        """The nbgrader metadata of this cell, whatever the student made of it."""
        graded = self.role in (Role.TEST, Role.MANUAL)
        task = self.role is Role.MANUAL and not self.solution
        meta: dict[str, Any] = {
            "cell_type": self.kind,
            "checksum": self.checksum,
            "grade": graded and not task,
            "grade_id": self.grade_id,
            "locked": self.locked,
            "schema_version": 3,
            "solution": self.solution,
            "task": task,
        }
        return meta | {"points": self.points} if graded else meta


@dataclass(frozen=True)
class Target:
    """One notebook of an assignment as the gradebook knows it.

    Attributes:
        plain: the sources of the code cells that the course gives without nbgrader's metadata.
    """

    assignment: str
    notebook: str
    kernelspec: dict[str, Any]
    cells: tuple[SourceCell, ...]
    plain: tuple[str, ...] = ()

    @property
    def graded(self) -> tuple[SourceCell, ...]:
        return tuple(cell for cell in self.cells if cell.role in (Role.TEST, Role.MANUAL))


@dataclass(frozen=True)
class Job:
    """One student's notebook, sanitised, with all that its execution needs.

    Attributes:
        notebook: the sanitised notebook as JSON text.
        files: path in the work folder -> content, the submission's other files under the course's own.
        unchanged: the grade ids of cells that the student left as released.
        findings: what sanitising had to mend, in words for a TA.
        cell_timeout: seconds that a cell may take.
        output_lines: lines of printed output, and of a traceback, that are kept of each cell; -1 keeps all.
        gpu: whether the job wants a GPU.
        plants: wrong answers that its tests are known to reject.
    """

    student: str
    target: Target
    notebook: str
    files: dict[str, bytes]
    unchanged: frozenset[str]
    limits: Limits
    preload: tuple[str, ...]
    cell_timeout: float
    output_lines: tuple[int, int]
    findings: tuple[str, ...] = ()
    unreadable: str = ""
    gpu: bool = False
    plants: tuple[Plant, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        notebook: the executed notebook as JSON text.
        verdicts: one for each graded cell of the target.
        seconds: grade id (or ``cell <index>``) -> seconds that its execution took.
        comments: grade id of a solution or manual cell -> what its automatic comment says.
        findings: the job's, and what execution showed: limits exceeded, kernels that died, odd values.
        evidence: what the nets of ``gradekit.integrity`` caught.
        canaries: what was planted, and which tests nothing was planted for.
        sandbox: the level that the code ran under.
        gpu: the value of CUDA_VISIBLE_DEVICES that it ran with; empty without a GPU.
        wall_s: seconds from the job's start to its end.
    """

    student: str
    assignment: str
    name: str
    notebook: str
    verdicts: tuple[Verdict, ...]
    seconds: dict[str, float] = field(default_factory=dict)
    comments: dict[str, str] = field(default_factory=dict)
    findings: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    canaries: Coverage = field(default_factory=Coverage)
    sandbox: str = ""
    gpu: str = ""
    wall_s: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """What is kept beside the marks: everything but the executed notebook, which is a file of its own."""
        return {
            "name": self.name,
            "verdicts": [asdict(verdict) for verdict in self.verdicts],
            "seconds": self.seconds,
            "wall_s": self.wall_s,
            "findings": list(self.findings),
            "evidence": [asdict(one) for one in self.evidence],
            "canaries": asdict(self.canaries),
            "sandbox": self.sandbox,
            "gpu": self.gpu,
        }


def digest(*parts: bytes) -> str:
    """A fingerprint of a sequence of byte strings."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(len(part).to_bytes(8, "little"))
        sha.update(part)
    return sha.hexdigest()
