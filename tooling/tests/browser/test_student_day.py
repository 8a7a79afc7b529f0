"""A student's day on the department's JupyterHub, and what a student cannot reach; the hub is the real one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from jupyterlabpage import wait_for_kernel
from nbgrader.api import Gradebook
from playwright.sync_api import Browser, Page, expect
from runninghub import Department, Person, department, running_hub
from smallcourse import CHECKOUT, LAB, MODULE, small_course

ANSWER = """\
def rounding_bound(x, additions):
    if additions * U >= 1:
        raise ValueError("k U >= 1: the bound says nothing")
    return float(additions * U / (1 - additions * U) * np.abs(x).sum(dtype=np.float64))"""


@dataclass(frozen=True)
class Campus:
    """The department at the start of term: a hub that runs, and one lab of the course, released."""

    department: Department
    url: str

    def sign_in(self, browser: Browser, who: str, there: str = "/hub/") -> Page:
        """Sign in through the hub's form, in a browser window of one's own."""
        person = self.department.people[who]
        page = browser.new_page(viewport={"width": 1200, "height": 800})
        page.set_default_timeout(60_000)
        page.goto(self.url + there)
        page.get_by_label("Username").fill(person.name)
        page.get_by_label("Password").fill(person.password)
        page.get_by_role("button", name="Sign in").click()
        return page


@pytest.fixture(scope="module")
def campus() -> Iterator[Campus]:
    with department(owner="prof", staff=["tia"], students=["ada", "ben"]) as place:
        small_course(place.course)
        for path in [place.course, *place.course.rglob("*")]:
            shutil.chown(path, place.owner.name, place.owner.name)
        with running_hub(place) as url:
            place.run(place.owner, "nbgrader", "generate_assignment", MODULE, cwd=place.course)
            place.run(place.owner, "nbgrader", "release_assignment", MODULE, cwd=place.course)
            yield Campus(place, url)


def open_assignments(page: Page) -> None:
    page.get_by_role("menuitem", name="Nbgrader", exact=True).click()
    page.get_by_role("menuitem", name="Assignment List").click()


def test_a_student_signs_in_works_hands_in_and_reads_feedback(browser: Browser, campus: Campus) -> None:
    place = campus.department
    page = campus.sign_in(browser, "ada")
    open_assignments(page)
    expect(page.locator("#released_assignments_list")).to_contain_text(MODULE)
    page.get_by_role("button", name="Fetch", exact=True).click()
    page.get_by_role("button", name=MODULE).click()
    page.get_by_role("link", name=LAB).click()

    do_exercise(page)
    page.get_by_role("button", name="Validate").last.click()
    results = page.get_by_role("dialog")
    expect(results).to_contain_text("Validation Results", timeout=180_000)
    expect(results).to_contain_text("def check_atomic(")  # exercise 2 is still to be done
    expect(results).not_to_contain_text("def test_unit_bound(")
    results.get_by_role("button", name="Ok").click()

    page.get_by_role("tab", name="Assignments").click()
    page.get_by_role("button", name="Submit").click()
    submitted = page.locator("#submitted_assignments_list")
    expect(submitted).to_contain_text(re.compile(r"20\d\d-\d\d-\d\d .* UTC"))

    for command in (["nbgrader", "collect", MODULE], ["gradekit", "grade", MODULE], ["gradekit", "feedback", MODULE]):
        place.run(place.owner, *command, cwd=place.course)
    assert scores(place, place.people["ada"])["test-reduce-bound"] == 3
    spied = place.run(place.people["ben"], "ls", str(place.exchange / "spark/feedback"), check=False)
    assert "Permission denied" in spied

    submitted.get_by_role("button", name="Fetch Feedback").click()
    submitted.get_by_text("(view feedback)").click()
    page.get_by_role("listitem", name=re.compile(f"^Name: {LAB}.html")).dblclick()
    feedback = page.frame_locator("iframe").first
    expect(feedback.locator("body")).to_contain_text(f"{LAB} (Score: 3.0 / 39.0)")
    expect(feedback.locator("body")).to_contain_text("lengths that fill no whole block")  # a hidden check, by its name
    page.context.close()


def do_exercise(page: Page) -> None:
    """Type the first exercise's answer into its cell, and run all up to its test."""
    cell = page.locator(".jp-CodeCell", has_text="def rounding_bound(").first
    cell.scroll_into_view_if_needed()
    cell.locator(".cm-content").click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(ANSWER)
    wait_for_kernel(page)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Above Selected Cell").click()
    cell.locator(".cm-content").click()
    page.keyboard.press("Shift+Enter")
    page.keyboard.press("Shift+Enter")
    test = page.locator(".jp-CodeCell", has_text="def test_unit_bound").first
    expect(test.locator(".jp-InputPrompt")).to_have_text(re.compile(r"\[\d+\]"), timeout=120_000)
    expect(test.locator(".jp-OutputArea-output")).to_have_count(0)


def scores(place: Department, student: Person) -> dict[str, float | None]:
    with Gradebook(f"sqlite:///{place.course}/gradebook.db", "spark") as gradebook:
        grades = gradebook.find_submission_notebook(LAB, MODULE, student.name).grades
        return {grade.name: grade.auto_score for grade in grades}


ATTEMPTS = """\
import json, os
def attempt(action, *where):
    try:
        return repr(action(*where))[:60]
    except OSError as error:
        return type(error).__name__
read = lambda path: open(path, "rb").read()
server = next(p for p in os.listdir("/proc") if p.isdigit() and os.stat("/proc/" + p).st_uid == {ben})
print(json.dumps({{
    "my own file": attempt(read, "{ada_home}/mine.txt"),
    "what is released": attempt(os.listdir, "{exchange}/spark/outbound"),
    "ben's home": attempt(os.listdir, "{ben_home}"),
    "ben's file": attempt(read, "{ben_home}/secret.txt"),
    "ben's server's environment": attempt(read, "/proc/" + server + "/environ"),
    "ben's server": attempt(os.kill, int(server), 15),
    "the course": attempt(os.listdir, "{course}"),
    "the lab's solutions": attempt(read, "{course}/source/{lab}.py"),
    "the gradebook": attempt(read, "{course}/gradebook.db"),
    "who handed in": attempt(os.listdir, "{exchange}/spark/inbound"),
    "a release of my own": attempt(os.mkdir, "{exchange}/spark/outbound/mine"),
    "another exchange": attempt(os.rename, "{exchange}/spark", "{exchange}/old"),
    "the hub's cookies": attempt(read, "{hub}/cookie_secret"),
    "the hub's database": attempt(read, "{hub}/jupyterhub.sqlite"),
}}))"""
ALLOWED = {"my own file", "what is released"}


def test_a_student_reaches_neither_the_course_nor_another_s_work(browser: Browser, campus: Campus) -> None:
    place = campus.department
    ada, ben = place.people["ada"], place.people["ben"]
    other = campus.sign_in(browser, "ben")
    other.get_by_role("menuitem", name="Nbgrader", exact=True).wait_for()  # ben's server runs
    for who, name in ((ada, "mine.txt"), (ben, "secret.txt")):
        place.run(who, "sh", "-c", f"echo something > {name}")

    attempts = ATTEMPTS.format(
        ada_home=ada.home,
        ben=ben.home.stat().st_uid,
        ben_home=ben.home,
        course=place.course,
        exchange=place.exchange,
        hub=place.place / "hub",
        lab=f"{MODULE}/{LAB}",
    )
    page = campus.sign_in(browser, "ada")
    page.get_by_role("menuitem", name="File", exact=True).wait_for()
    page.goto(f"{campus.url}/user/{ada.name}/lab/tree/{notebook_of(ada, attempts)}?reset")  # no tab from before
    page.locator(".jp-CodeCell", has_text="def attempt(").locator(".cm-content").click()
    wait_for_kernel(page)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    output = page.locator(".jp-OutputArea-output", has_text="the hub's database").first
    expect(output).to_be_visible(timeout=60_000)
    outcomes = json.loads(output.inner_text())
    assert {what for what, came in outcomes.items() if not came.endswith("Error")} == ALLOWED, outcomes
    assert {came for what, came in outcomes.items() if what not in ALLOWED} == {"PermissionError"}, outcomes

    refused = {
        f"/user/{ben.name}/lab": 403,
        f"/user/{ben.name}/api/contents/secret.txt": 403,
        "/services/spark/": 403,
        "/services/spark/formgrader/": 403,
        f"/user/{ada.name}/formgrader": 404,
        "/hub/admin": 403,
    }
    assert {there: page.goto(campus.url + there).status for there in refused} == refused
    for window in (page, other):
        window.context.close()


def notebook_of(who: Person, code: str) -> Path:
    """A notebook of one cell in someone's home; its path there."""
    cell = {"cell_type": "code", "source": code, "metadata": {}, "outputs": [], "execution_count": None, "id": "one"}
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path = who.home / "try.ipynb"
    path.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": kernel, "cells": [cell]}))
    shutil.chown(path, who.name, who.name)
    return path.relative_to(who.home)


def test_staff_open_the_formgrader_and_the_lab_s_folder(browser: Browser, campus: Campus) -> None:
    page = campus.sign_in(browser, "tia", "/hub/home")
    page.get_by_role("button", name="Services").click()
    page.get_by_role("link", name="spark").click()
    expect(page.get_by_role("heading", name="Manage Assignments")).to_be_visible()
    expect(page.get_by_role("row", name=re.compile(MODULE))).to_contain_text("released")
    with page.context.expect_page() as opened:
        page.get_by_role("link", name=MODULE).click()
    files = opened.value.get_by_role("region", name="File Browser Section")
    expect(files.get_by_role("listitem", name=re.compile(f"^Name: {LAB}.ipynb"))).to_be_visible(timeout=60_000)
    page.context.close()


def test_only_students_and_staff_sign_in(browser: Browser, campus: Campus) -> None:
    page = campus.sign_in(browser, "prof")  # a user of the system, of neither group
    expect(page.get_by_text("Invalid username or password")).to_be_visible()
    page.context.close()


def test_the_hub_does_not_start_beside_solutions_that_students_can_read(campus: Campus, tmp_path: Path) -> None:
    shutil.copytree(CHECKOUT / "containers", tmp_path / "containers", ignore=shutil.ignore_patterns("node_modules"))
    (tmp_path / "source").mkdir(mode=0o755)
    hub = [sys.executable, "-m", "jupyterhub", f"--config={tmp_path}/containers/jupyterhub_config.py"]
    environment = {**os.environ, **campus.department.environment}
    refused = subprocess.run(hub, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert refused.returncode != 0
    assert f"first run chmod go= {tmp_path}/source" in refused.stderr


def test_a_hostile_student_s_folders_are_not_collected(campus: Campus) -> None:
    place = campus.department
    ada, ben = place.people["ada"], place.people["ben"]
    solutions = place.course / f"source/{MODULE}/{LAB}.ipynb"
    inbound = place.exchange / "spark/inbound"
    mine = f"{ben.name}+{MODULE}+2026-01-01 10:00:00 UTC+mine"
    planted = [
        f"mkdir '{inbound}/{mine}'",
        f"ln -s {solutions} '{inbound}/{mine}/'",
        f"echo my own > '{inbound}/{mine}/note.txt'",
        f"mkdir '{inbound}/{ada.name}+{MODULE}+2099-01-01 10:00:00 UTC+not-hers'",
        f"mkdir '{inbound}/nobody+{MODULE}+no time'",
    ]
    place.run(ben, "sh", "-c", " && ".join(planted))
    hers = place.course / f"submitted/{ada.name}/{MODULE}"
    before = {path: path.read_bytes() for path in hers.glob("*.*")}

    said = place.run(place.owner, "nbgrader", "collect", MODULE, "--update", cwd=place.course)

    collected = place.course / f"submitted/{ben.name}/{MODULE}"
    assert [path.name for path in collected.iterdir()] == ["note.txt"]
    assert {path: path.read_bytes() for path in hers.glob("*.*")} == before  # another's later folder is not hers
    reasons = (f"{LAB}.ipynb' (a link", f"and belongs to {ben.name}: somebody else's", "cannot be read", "was it late?")
    assert [reason for reason in reasons if reason not in said] == []
