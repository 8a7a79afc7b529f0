"""What this machine gives the course and its grader, and what to do about what it lacks."""

from __future__ import annotations

import os
import re
import tempfile
from importlib import metadata
from pathlib import Path

from labkit import hardware
from labkit.hardware import Check

from gradekit import gradebook
from gradekit.course import Course, CourseError

_PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;#]+)")
_EXTENSION = "@jupyter/nbgrader"
_SERVER_EXTENSION = "nbgrader.server_extensions.formgrader"


def examine(folder: Path) -> list[Check]:
    """Every line of the doctor's report on the course in ``folder``; a line that could not be looked at is an error."""
    checks = [*hardware.checks(), check_packages(folder), check_jupyterlab(), check_sandbox()]
    try:
        course = Course.open(folder)
    except CourseError as error:
        return [*checks, Check("course", "error", str(error), "run gradekit in the course's folder, or name it")]
    return [*checks, check_course(course), check_exchange(course), check_gradebook(course)]


def check_packages(folder: Path) -> Check:
    """The installed packages against ``constraints.txt``."""
    path = folder / "constraints.txt"
    try:
        found = (_PIN.match(line) for line in path.read_text().splitlines())
        pins = {match["name"]: match["version"] for match in found if match}
    except OSError:
        return Check("packages", "warning", "there is no constraints.txt to compare with", "pin your versions in one")
    other, missing = [], []
    for name, version in pins.items():
        try:
            installed = metadata.version(name).partition("+")[0]
        except metadata.PackageNotFoundError:
            missing.append(name)
            continue
        if installed != version:
            other.append(f"{name} {installed}, not {version}")
    if other:
        detail = f"{len(other)} of {len(pins)} differ from constraints.txt: {'; '.join(other[:5])}"
        return Check("packages", "warning", detail, "pip install -c constraints.txt -e . brings them back")
    absent = f"; {len(missing)} of optional extras are not installed" if missing else ""
    return Check("packages", "ok", f"{len(pins) - len(missing)} as constraints.txt pins them{absent}")


def check_jupyterlab() -> Check:
    """nbgrader's tabs in JupyterLab: the browser's half and the server's."""
    todo = "pip install -c constraints.txt --force-reinstall nbgrader, then restart JupyterLab"
    try:
        from jupyter_core.paths import jupyter_config_path, jupyter_path
        from jupyter_server.extension.config import ExtensionConfigManager
        from jupyterlab_server.config import get_page_config

        page = get_page_config(jupyter_path("labextensions"))
        installed = {extension["name"] for extension in page["federated_extensions"]}
        disabled = {name.partition(":")[0] for name in page.get("disabledExtensions", [])}
        browser = _EXTENSION in installed - disabled
        manager = ExtensionConfigManager(read_config_path=jupyter_config_path())
        server = manager.get_jpserver_extensions().get(_SERVER_EXTENSION, False)
    except Exception as error:  # whatever a half-installed JupyterLab raises is what the user has to know
        return Check("JupyterLab", "error", f"{type(error).__name__}: {error}", todo)
    if not browser or not server:
        half = "extension" if not browser else "server extension"
        return Check("JupyterLab", "error", f"nbgrader's {half} is not enabled", todo)
    return Check("JupyterLab", "ok", f"{metadata.version('jupyterlab')}, with nbgrader's tabs enabled")


def check_sandbox() -> Check:
    """The layers of the sandbox that student code runs in, tried for real in a process that is thrown away."""
    from gradekit.kernels import probe

    report = probe()
    layers = ", ".join(layer.name for layer in report.layers if layer.ok)
    lacking = "; ".join(f"{layer.name}: {layer.why}" for layer in report.layers if not layer.ok)
    if report.level == "refused":
        return Check(
            "sandbox", "error", "this machine gives too little to run student code in", "; ".join(report.failures)
        )
    return Check("sandbox", "ok", f"level {report.level}: {layers}" + (f"; without {lacking}" if lacking else ""))


def check_course(course: Course) -> Check:
    """The course itself: that there is something to teach."""
    labs = course.labs()
    if not labs:
        todo = "gradekit sync writes the notebooks of the texts in source/"
        return Check("course", "warning", f"{course.course_id or 'no course id'}: no notebooks in source/", todo)
    detail = f"{course.course_id}: {len(labs)} labs in {len(course.assignments)} assignments"
    return Check("course", "ok", detail)


def check_exchange(course: Course) -> Check:
    """The folder through which releases and submissions change hands."""
    root = course.exchange
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            pass
    except OSError as error:
        todo = f"mkdir -p {root} && chmod ugo+rwx {root}, or set NBGRADER_EXCHANGE to a folder that all can write"
        return Check("exchange", "error", f"{root} is not writable ({error.strerror})", todo)
    if not os.stat(root).st_mode & 0o002:
        todo = f"for students with accounts of their own: chmod ugo+rwx {root}"
        return Check("exchange", "ok", f"{root} is writable for you", todo)
    return Check("exchange", "ok", f"{root} is writable for all")


def check_gradebook(course: Course) -> Check:
    """The database that holds the marks."""
    from nbgrader.api import Gradebook
    from sqlalchemy.engine import make_url

    shown = make_url(course.db_url).render_as_string(hide_password=True)
    if not gradebook.exists(course):
        return Check("gradebook", "ok", f"{shown}: not there yet; the first release makes it")
    try:
        with Gradebook(course.db_url, course.course_id) as marks:
            counts = f"{len(marks.assignments)} assignments, {len(marks.students)} students"
    except Exception as error:  # any driver's own errors
        todo = "look at CourseDirectory.db_url in nbgrader_config.py; after an nbgrader update: nbgrader db upgrade"
        return Check("gradebook", "error", f"{shown}: {str(error).splitlines()[0]}", todo)
    return Check("gradebook", "ok", f"{shown}: {counts}")
