"""JupyterHub keeps its own database in PostgreSQL, and the database container makes one for it."""

from __future__ import annotations

import os
import subprocess
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest
from psycopg2 import OperationalError, connect
from runninghub import department, running_hub
from runningpostgresql import database
from sqlalchemy import create_engine, inspect, make_url


def test_the_hub_signs_people_in_from_postgresql() -> None:
    with database("hub") as url, department("instructor", staff=[], students=["ada"]) as place:
        place.course.mkdir()
        place.environment["JUPYTERHUB_DB_URL"] = url
        with running_hub(place) as address, urllib.request.urlopen(f"{address}/hub/login") as page:
            assert page.status == 200
            assert "Password" in page.read().decode()
        engine = create_engine(url)
        assert {"users", "services", "oauth_clients"} <= set(inspect(engine).get_table_names())
        engine.dispose()
        assert not list(place.place.rglob("*.sqlite"))


def test_the_database_container_s_script_makes_both_databases() -> None:
    script = Path(__file__).parents[3] / "containers" / "postgres" / "databases.sh"
    with database("other") as url:
        host = make_url(url).query["host"]
        environment = os.environ | {"PGHOST": str(host), "PGDATABASE": "postgres", "POSTGRES_USER": "course"}
        environment |= {"HUB_DB_PASSWORD": "it's", "GRADEBOOK_DB_PASSWORD": 'a "word"'}
        subprocess.run(["sh", script], env=environment, check=True, capture_output=True)
        for name, stranger in (("hub", "gradebook"), ("gradebook", "hub")):
            with closing(connect(host=host, user=name, dbname=name)) as connection:
                connection.cursor().execute("CREATE TABLE trial (id INTEGER)")
            with pytest.raises(OperationalError, match="permission denied for database"):
                connect(host=host, user=stranger, dbname=name)
