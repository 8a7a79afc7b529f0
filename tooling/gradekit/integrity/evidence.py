"""What a net has caught: one thing about one cell of a submission, for a person to read."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Evidence:
    """One observation.

    Attributes:
        kind: which net caught it: "restored", "tampered", "frames", "canary", "static", ...
        cell: a grade id, or ``cell <index>``.
        what: one plain sentence for a TA.
        holds: whether the points of the cell are held for a person.
    """

    kind: str
    cell: str
    what: str
    holds: bool
