"""Gate 11: a lab imports only what labkit, the declared dependencies and the standard library give."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions

from gradekit.authoring.gates.subject import Fault, Gate, Subject, parsed
from gradekit.course import Course

#: What runs a course, and is on no student's machine for a lab's sake.
STAFF = frozenset({"gradekit", "nbgrader"})


def check(subject: Subject) -> Iterator[Fault]:
    allowed = declared(subject.course) if subject.ours else None
    for cell in subject.lab.cells:
        if cell.kind != "code":
            continue
        for line, package in imported(cell.source):
            where = subject.name_of(cell.index)
            beside = subject.lab.path.parent / "data" / f"{package}.py"
            if package in sys.stdlib_module_names or (beside.exists() and package not in STAFF):
                continue
            if package in STAFF:
                yield Fault(f"imports {package}, which students do not have; use labkit", where, line)
            elif allowed is not None and package not in allowed:
                yield Fault(f"imports {package}, which pyproject.toml does not declare; declare it", where, line)
            elif allowed is None and importlib.util.find_spec(package) is None:
                yield Fault(f"imports {package}, which is not installed here; install or declare it", where, line)


def imported(source: str) -> Iterator[tuple[int, str]]:
    """The line and the top-level package of each import of a cell."""
    for node in ast.walk(parsed(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.lineno, node.module.partition(".")[0]


def declared(course: Course) -> set[str] | None:
    """The packages that the course's pyproject.toml gives to a student, extras for a GPU included; None without one."""
    path = course.root / "pyproject.toml"
    if not path.exists():
        return None
    project = tomllib.loads(path.read_text(encoding="utf-8")).get("project", {})
    requirements = [*project.get("dependencies", []), *project.get("optional-dependencies", {}).get("gpu", [])]
    wanted = {_plain(re.split(r"[^\w.-]", requirement, maxsplit=1)[0]) for requirement in requirements}
    packages = {
        package for package, names in packages_distributions().items() if {_plain(name) for name in names} & wanted
    }
    # An extra that is not installed here: cupy's distributions carry the CUDA version in their names.
    return packages | {"labkit"} | {name.partition("_")[0] for name in wanted if name.startswith("cupy")}


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "_", name).lower()


GATE = Gate(11, "imports", check)
