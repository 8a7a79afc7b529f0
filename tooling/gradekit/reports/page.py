"""The page that a student gets: nbgrader's own, of a notebook in which nothing is hidden any more and nothing runs.

In ``nbgrader_config.py``, so that ``nbgrader generate_feedback`` and the formgrader write it too::

    c.GenerateFeedback.exporter_class = "gradekit.reports.page.FeedbackExporter"
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Any

import nbformat
from nbconvert.exporters import HTMLExporter
from nbformat import NotebookNode
from nbformat.v4 import new_output
from nbgrader.converters.base import BaseConverter

from gradekit.grading.record import read_record
from gradekit.reports.hide import hide
from gradekit.reports.safe_html import Sanitize, markdown2html

#: A larger submitted notebook is not read again for its outputs.
MAX_BYTES = 50_000_000


#: How the comment begins that tells a person what was found, and what a student reads instead.
NOTE_FOR_STAFF = "Held for a person:"
HELD = "A person will look at this part before its points are given."
_HEAD_SCRIPT = re.compile(r"<script[^>]*\ssrc=\"(https?://[^/\"]+)")


class FeedbackExporter(HTMLExporter):
    """nbgrader's feedback, safe and without hidden tests, for students."""

    def from_notebook_node(  # type: ignore[override]
        self, nb: NotebookNode, resources: dict[str, Any] | None = None, **kw: Any
    ) -> tuple[str, dict[str, Any]]:
        """One page. ``resources["nbgrader"]`` names student and notebook, as nbgrader's converters give it."""
        self.register_filter("markdown2html", markdown2html)
        shown = hide(nb, self._handed_in(resources or {}), self.config)
        reached = self._reached(resources or {})
        for cell in shown.cells:
            if cell.metadata.get("nbgrader", {}).get("grade_id") in reached:
                cell.outputs = [new_output("stream", text=f"{HELD}\n")]
        shown, resources = Sanitize().preprocess(shown, resources)
        page, resources = super().from_notebook_node(shown, resources, **kw)
        return _with_policy(page), resources

    def _preprocess(self, nb: NotebookNode, resources: dict[str, Any]) -> tuple[NotebookNode, dict[str, Any]]:
        """nbgrader's preprocessors add marks and comments; what staff are told about a held cell is for staff."""
        nb, resources = super()._preprocess(nb, resources)
        for cell in nb.cells:
            own = cell.metadata.get("nbgrader", {})
            if NOTE_FOR_STAFF in str(own.get("comment")):
                own["comment"] = HELD
        return nb, resources

    def _reached(self, resources: dict[str, Any]) -> set[str]:
        """The tests that the student's code may have read: what they show may be what it found there."""
        folder = self._folder("autograded", resources)
        record = folder and read_record(folder)
        if not record:
            return set()
        name = resources["nbgrader"]["notebook"]
        evidence = [e for one in record["notebooks"] if one["name"] == name for e in one["evidence"]]
        return {one["cell"] for one in evidence if one["holds"]}

    def _handed_in(self, resources: dict[str, Any]) -> NotebookNode | None:
        """The student's notebook as it was submitted, when the submission is still there and can be read."""
        folder = self._folder("submitted", resources)
        return _read(folder / f"{resources['nbgrader']['notebook']}.ipynb") if folder else None

    def _folder(self, step: str, resources: dict[str, Any]) -> Path | None:
        """The folder of the submission at a step of nbgrader's; None where no converter of nbgrader's calls."""
        names = resources.get("nbgrader", {})
        if not isinstance(self.parent, BaseConverter) or not names:
            return None
        course = self.parent.coursedir
        return Path(course.format_path(getattr(course, f"{step}_directory"), names["student"], names["assignment"]))


def _with_policy(page: str) -> str:
    """The page with a policy for its browser: no script runs but those of the hosts that the page's head names."""
    head, end, body = page.partition("</head>")
    hosts = " ".join(sorted(set(_HEAD_SCRIPT.findall(head))))
    # MathJax evaluates its own settings as text, and asks its host's API for its version.
    policy = (
        f"default-src 'none'; script-src {hosts} 'unsafe-eval'; connect-src https://api.cdnjs.com; "
        f"style-src 'unsafe-inline' {hosts}; font-src data: {hosts}; img-src data: 'self' {hosts}; "
        "base-uri 'none'; form-action 'none'"
    )
    meta = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    return head.replace("<head>", f"<head>{meta}", 1) + end + body


def _read(path: Path) -> NotebookNode | None:
    """A student's notebook; None for a link, a pipe, or what is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(fd, encoding="utf-8", errors="replace") as file:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_BYTES:
                return None
            notebook = nbformat.reads(file.read(), as_version=4)
        nbformat.validate(notebook)
    except Exception:  # nbformat raises whatever the JSON or the schema does
        return None
    return notebook
