"""Run attacks against gradekit, all in one class, and against stock nbgrader, each in a course of its own."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from gradekit.course import Course, CourseError
from gradekit.grading.local import LocalGrader
from gradekit.grading.run import Workers, grade
from gradekit.kernels import Limits
from gradekit.redteam import stock
from gradekit.redteam.attack import Attack
from gradekit.redteam.effects import Effect, disturbances, effect
from gradekit.redteam.ground import CANARIES, NEIGHBOURS, SECRET_VARIABLE, Ground, build, ground
from gradekit.reports.feedback import give_feedback

log = logging.getLogger("gradekit.redteam")

#: Small, so that exhausting them is soon over; large enough for torch and a compiler.
LIMITS = Limits(
    wall_s=40, cpu_s=60, memory_bytes=1 << 30, processes=128, disk_bytes=64 << 20, file_bytes=32 << 20, disk_files=5000
)
#: Seconds for what outlives its job to show itself.
SURVIVORS_S = 3.0
#: The most seconds that one submission may hold a kernel: restarts, each with a cell that has to be killed.
LONGEST_S = 90.0
STOCK_TIMEOUT_S = 180

Progress = Callable[[Attack], None]


@contextmanager
def small_course(folder: Path) -> Iterator[tuple[Course, Path]]:
    """The generated course that every run copies, and a folder for the copies."""
    with (
        tempfile.TemporaryDirectory(prefix="gradekit-redteam-", ignore_cleanup_errors=True) as place,
        mock.patch.dict(os.environ, {SECRET_VARIABLE: CANARIES["environment"]}),
    ):
        root = Path(place)
        root.chmod(0o755)
        yield build(folder, root / "template"), root


def against_gradekit(template: Course, root: Path, attacks: list[Attack], *, jobs: int) -> dict[str, Effect]:
    """The effect of each attack, by marker. All are graded in one run, with honest neighbours among them.

    When a neighbour is disturbed, the attacks are run again in halves until it is known by which.

    Raises:
        CourseError: the neighbours do not get their marks even when nobody attacks.
    """
    with LocalGrader(jobs) as workers:
        if harm := _in_one_class(template, root, [], workers)[""].disturbed:
            raise CourseError(f"Honest submissions are not graded as they must be: {'; '.join(harm)}.")
        return _in_one_class(template, root, attacks, workers)


def _in_one_class(template: Course, root: Path, attacks: list[Attack], workers: Workers) -> dict[str, Effect]:
    """The same, and nobody's disturbances under the empty name when there are no attacks."""
    place = Path(tempfile.mkdtemp(dir=root))
    with ground(template, place) as here:
        students = {_student(attack, number): attack for number, attack in enumerate(attacks)}
        for student, attack in students.items():
            here.hand_in(attack, student)
        here.settle_neighbours()
        before = here.neighbourhood()
        labs = {attack.lab for attack in attacks} or set(here.course.assignments)
        slow: dict[str, str] = {}
        for lab in sorted(labs):
            done = grade(here.course, lab, workers, limits=LIMITS)
            for submission, outcomes in done.graded:
                if (seconds := sum(o.wall_s for o in outcomes)) > LONGEST_S:
                    slow[submission.student] = f"it held a kernel for {seconds:.0f} s"
            if any(attack.needs_feedback and attack.lab == lab for attack in attacks):
                give_feedback(here.course, lab, "shown-*")
        _wait_for_survivors(attacks)
        disturbed = disturbances(here, before, NEIGHBOURS, labs)
        if not attacks:
            return {"": Effect(disturbed=disturbed)}
        if disturbed and len(attacks) > 1:
            log.warning("%d attacks, and %s: running them in halves", len(attacks), "; ".join(disturbed))
            half = len(attacks) // 2
            found = [_in_one_class(template, root, part, workers) for part in (attacks[:half], attacks[half:])]
            return found[0] | found[1]
        return {
            attack.marker: effect(here, attack, student, disturbed or ((slow[student],) if student in slow else ()))
            for student, attack in students.items()
        }


def _student(attack: Attack, number: int) -> str:
    """Attackers stand between the neighbours in the order of grading; those with feedback have names of their own."""
    return f"{'shown' if attack.needs_feedback else 'mallory'}-{number:03}"


def _wait_for_survivors(attacks: list[Attack]) -> None:
    if any("outside" in attack.goals for attack in attacks):
        time.sleep(SURVIVORS_S)


# -- stock nbgrader ----------------------------------------------------------------------------------------------------


def against_stock(
    template: Course, root: Path, attacks: list[Attack], *, jobs: int, progress: Progress = lambda attack: None
) -> dict[str, Effect]:
    """The effect of each attack under ``nbgrader autograde`` and ``generate_feedback``, unsandboxed, by marker.

    Attacks that say they would harm the machine are left out. Each gets a course, a home and decoys of its own.
    """
    chosen = [attack for attack in attacks if attack.runs_against_stock]

    def run(attack: Attack) -> Effect:
        result = _alone(template, root, attack)
        progress(attack)
        return result

    with ThreadPoolExecutor(jobs) as pool:
        return dict(zip((attack.marker for attack in chosen), pool.map(run, chosen), strict=True))


def _alone(template: Course, root: Path, attack: Attack) -> Effect:
    place = Path(tempfile.mkdtemp(dir=root))
    student, neighbour = "mallory", NEIGHBOURS[-1]
    with ground(template, place) as here:
        (place / "home").mkdir()
        here.hand_in(attack, student)
        here.settle_neighbours((neighbour,))
        before = here.neighbourhood()
        disturbed: tuple[str, ...] = ()
        if not _nbgrader(here, place, "autograde", attack.lab):
            disturbed = (f"nbgrader had not ended after {STOCK_TIMEOUT_S} s",)
        if attack.needs_feedback:
            _nbgrader(here, place, "generate_feedback", attack.lab, "--student", student)
        _wait_for_survivors([attack])
        disturbed += disturbances(here, before, (neighbour,), {attack.lab})
        found = effect(here, attack, student, disturbed)
    shutil.rmtree(place, ignore_errors=True)
    return found


def _nbgrader(here: Ground, place: Path, *command: str) -> bool:
    """Run a command of nbgrader's as a fork of a process that has imported it; whether it ended by itself."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["nbgrader.apps.nbgraderapp"])
    process = context.Process(target=stock.command, args=(command, str(here.course.root), str(place / "home")))
    process.start()
    process.join(STOCK_TIMEOUT_S)
    ended = not process.is_alive()
    if process.pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the group that it made for itself, its kernels included
    process.join()
    return ended
