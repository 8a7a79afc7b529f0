"""A PostgreSQL server that lives as long as a test, reached over a socket in its own folder."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

INSTALL = "needs PostgreSQL's server: apt-get install postgresql (Debian), and the package psycopg2-binary"


@contextmanager
def database(name: str) -> Iterator[str]:
    """The SQLAlchemy URL of an empty database."""
    places = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True), *map(Path, os.get_exec_path())]
    binaries = next((place for place in places if (place / "initdb").exists()), None)
    if binaries is None:
        pytest.fail(INSTALL)
    try:
        import psycopg2
    except ImportError:
        pytest.fail(INSTALL)
    root = Path(tempfile.mkdtemp(prefix="gradekit-pg-"))
    # It refuses to run as root, and a socket's path must be short.
    owner = "nobody" if os.geteuid() == 0 else None
    if owner:
        shutil.chown(root, owner)
    as_owner: dict[str, object] = {"user": owner, "group": pwd.getpwnam(owner).pw_gid} if owner else {}
    data = root / "data"
    command = [binaries / "initdb", "-D", data, "-U", "course", "--auth=trust", "--no-sync", "--encoding=UTF8"]
    subprocess.run(command, check=True, capture_output=True, cwd=root, **as_owner)  # type: ignore[call-overload]
    command = [binaries / "postgres", "-D", data, "-k", root, "-c", "listen_addresses=", "-c", "fsync=off"]
    quiet = subprocess.DEVNULL
    server = subprocess.Popen(command, stdout=quiet, stderr=quiet, cwd=root, **as_owner)  # type: ignore[call-overload]
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                connection = psycopg2.connect(host=str(root), user="course", dbname="postgres")
                break
            except psycopg2.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        connection.autocommit = True
        connection.cursor().execute(f"CREATE DATABASE {name}")
        connection.close()
        yield f"postgresql+psycopg2://course@/{name}?host={root}"
    finally:
        server.send_signal(signal.SIGINT)  # fast: it does not wait for its clients
        server.wait(20)
        shutil.rmtree(root, ignore_errors=True)
