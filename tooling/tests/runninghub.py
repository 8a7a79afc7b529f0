"""The course on a machine of its own: system users, the exchange, and JupyterHub as a department would run it."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from open_checkout import CHECKOUT

BIN = Path(sys.prefix) / "bin"
ON_THE_MACHINE = [sys.executable, str(CHECKOUT / "tooling/tests/open_checkout.py")]


@dataclass(frozen=True)
class Person:
    """A system user, with the password that the hub asks for."""

    name: str
    password: str
    home: Path


@dataclass(frozen=True)
class Department:
    """A machine with users and an exchange; ``owner`` has the course folder."""

    place: Path
    owner: Person
    people: dict[str, Person]
    environment: dict[str, str]

    @property
    def course(self) -> Path:
        return self.owner.home / "course"

    @property
    def exchange(self) -> Path:
        return self.place / "exchange"

    def run(self, who: Person, *command: str, cwd: Path | None = None, check: bool = True) -> str:
        """What a command prints that ``who`` types into a shell; in the course's environment."""
        in_shell = ["runuser", "-u", who.name, "--", *command]
        settings = {
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "HOME": str(who.home),
            "LANG": "C.UTF-8",
            "NBGRADER_EXCHANGE": str(self.exchange),
        }
        done = subprocess.run(
            [*ON_THE_MACHINE, *in_shell],
            cwd=cwd or who.home,
            env=settings,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=300,
        )
        assert not check or done.returncode == 0, f"{who.name}: {' '.join(command)}\n{done.stdout}"
        return done.stdout


@contextlib.contextmanager
def department(owner: str, staff: Sequence[str], students: Sequence[str]) -> Iterator[Department]:
    """Make system users and groups with a prefix of this process, and remove them, their files and processes."""
    if os.geteuid() != 0:
        pytest.skip("only root can make the system users of a JupyterHub: run these tests as root, as in a container")
    prefix = f"hubtest{os.getpid()}-"
    groups = {"staff": f"{prefix}staff", "students": f"{prefix}students"}
    roles = {owner: None, **dict.fromkeys(staff, "staff"), **dict.fromkeys(students, "students")}
    place = Path(tempfile.mkdtemp(prefix="department-"))
    place.chmod(0o755)
    made: list[Person] = []
    try:
        for group in groups.values():
            subprocess.run(["groupadd", group], check=True)
        for name, role in roles.items():
            person = Person(prefix + name, secrets.token_urlsafe(12), place / name)
            membership = ["--groups", groups[role]] if role else []
            account = ["--create-home", "--home-dir", str(person.home), "--shell", "/bin/bash", "--user-group"]
            subprocess.run(["useradd", *account, *membership, person.name], check=True)
            made.append(person)
            subprocess.run(["chpasswd"], input=f"{person.name}:{person.password}", text=True, check=True)
        environment = {
            "COURSE_OWNER": made[0].name,
            "STUDENT_GROUP": groups["students"],
            "STAFF_GROUP": groups["staff"],
            "NBGRADER_EXCHANGE": str(place / "exchange"),
            "JUPYTERHUB_STATE": str(place / "hub"),
        }
        yield Department(place, made[0], dict(zip(roles, made, strict=True)), environment)
    finally:
        for person in made:
            end_all_of(person.name)
            subprocess.run(["userdel", "--force", person.name], check=False, capture_output=True)
        for group in groups.values():
            subprocess.run(["groupdel", group], check=False, capture_output=True)
        shutil.rmtree(place, ignore_errors=True)


def end_all_of(user: str) -> None:
    """Kill what a user made here still runs; a server may just be starting another process."""
    for _ in range(50):
        alive = [p for p in psutil.process_iter(["username"]) if p.info["username"] == user]
        if not alive:
            return
        for process in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        time.sleep(0.1)


@contextlib.contextmanager
def running_hub(department: Department) -> Iterator[str]:
    """JupyterHub with the department's real configuration; yields its address."""
    installed = CHECKOUT / "containers/proxy/node_modules"
    assert installed.is_dir(), f"these tests run the hub's proxy: install it with npm ci --prefix {installed.parent}"
    hub, proxy, public = free_ports(3)
    url = f"http://127.0.0.1:{public}"
    command = [
        *ON_THE_MACHINE,
        str(BIN / "jupyterhub"),
        f"--config={CHECKOUT / 'containers/jupyterhub_config.py'}",
        f"--JupyterHub.hub_port={hub}",
        f"--ConfigurableHTTPProxy.api_url=http://127.0.0.1:{proxy}",
    ]
    log = department.place / "hub.log"
    environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **department.environment}
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            cwd=department.place,
            env={**environment, "JUPYTERHUB_BIND_URL": url},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_for_page(f"{url}/hub/login", process, log)
        yield url
    finally:
        # Asked politely, a hub waits for each server in turn.
        with contextlib.suppress(psutil.NoSuchProcess):
            for member in psutil.Process(process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.kill()
        process.kill()
        process.wait()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on just now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [s.getsockname()[1] for s in sockets]


def wait_for_page(url: str, process: subprocess.Popen, log: Path, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the hub ended:\n{log.read_text()[-5000:]}"
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            urllib.request.urlopen(url, timeout=5).close()
            return
        time.sleep(0.2)
    raise AssertionError(f"no page at {url} after {seconds} s:\n{log.read_text()[-5000:]}")
