"""JupyterHub for the course, on one machine where every student and teacher is a system user.

Each person's JupyterLab runs as that person. The course is one more server, which runs as the course folder's owner and
which only the staff's group may open: hub menu "Services", then the course's name. Run it as root, from where
install-hub.sh puts it, which all users can read and which holds no lab:

    /opt/spark-course/bin/jupyterhub --config /opt/spark-course/hub/jupyterhub_config.py

What differs between departments comes from the environment; the defaults suit one machine of one's own:

    COURSE_OWNER          system user that owns the course folder                     instructor
    COURSE_FOLDER         the course folder, closed to everybody else                 the owner's ~/course
    STUDENT_GROUP         system group whose members may sign in                      students
    STAFF_GROUP           system group whose members also mark, as the course         course-staff
    NBGRADER_EXCHANGE     where releases and submissions change hands                 /srv/nbgrader/exchange
    JUPYTERHUB_STATE      the hub's own files: database, cookie secret, proxy's pid   /srv/jupyterhub
    JUPYTERHUB_DB_URL     its database, such as postgresql+psycopg2://hub@host/hub    SQLite in JUPYTERHUB_STATE
    JUPYTERHUB_BIND_URL   where browsers find the hub; put TLS in front of it         http://127.0.0.1:8000
    STUDENT_MEMORY, STUDENT_CPUS    shown to each server, for example 8G and 2; enforced by spawners that can (systemd,
                          Docker, Kubernetes), not by the plain local one that is set here

JupyterHub itself reads JPY_COOKIE_SECRET and CONFIGPROXY_AUTH_TOKEN, for secrets that are kept elsewhere.
"""

import grp
import os
import pwd
import sys
from pathlib import Path

from jupyterhub.utils import random_port
from tornado.web import RedirectHandler

c = get_config()  # noqa: F821 - JupyterHub provides it
here = Path(__file__).resolve().parent
COURSE = "spark"  # nbgrader's name of the course, as in nbgrader_config.py

owner = pwd.getpwnam(os.environ.get("COURSE_OWNER", "instructor"))
course_folder = Path(os.environ.get("COURSE_FOLDER", f"{owner.pw_dir}/course"))
student_group = os.environ.get("STUDENT_GROUP", "students")
staff_group = os.environ.get("STAFF_GROUP", "course-staff")
exchange = Path(os.environ.get("NBGRADER_EXCHANGE", "/srv/nbgrader/exchange"))
state = Path(os.environ.get("JUPYTERHUB_STATE", "/srv/jupyterhub"))
singleuser = [f"{sys.prefix}/bin/jupyterhub-singleuser"]
shell = {"PATH": f"{sys.prefix}/bin:{os.environ['PATH']}", "NBGRADER_EXCHANGE": str(exchange)}

for solutions in ("source", "tooling/answers", "tooling/canaries", ".git"):
    folder = here.parent / solutions
    if folder.is_dir() and folder.stat().st_mode & 0o077:
        raise PermissionError(f"students could read the solutions: first run chmod go= {folder}")

# -- folders ----------------------------------------------------------------------------------------------------------

state.mkdir(mode=0o700, parents=True, exist_ok=True)
# nbgrader wants the exchange writable by everybody. Sticky, so that nobody moves the course's own part of it away and
# puts another in its place; that part is there before the first student is.
exchange.mkdir(parents=True, exist_ok=True)
os.chown(exchange, 0, 0)
exchange.chmod(0o1777)
(exchange / COURSE).mkdir(exist_ok=True)
os.chown(exchange / COURSE, owner.pw_uid, owner.pw_gid)
(exchange / COURSE).chmod(0o755)
course_folder.chmod(0o700)  # solutions, marks and submissions

# -- the hub ----------------------------------------------------------------------------------------------------------

c.JupyterHub.bind_url = os.environ.get("JUPYTERHUB_BIND_URL", "http://127.0.0.1:8000")
c.JupyterHub.db_url = os.environ.get("JUPYTERHUB_DB_URL", f"sqlite:///{state}/jupyterhub.sqlite")
c.JupyterHub.cookie_secret_file = f"{state}/cookie_secret"
c.ConfigurableHTTPProxy.pid_file = f"{state}/proxy.pid"
proxy = here / "proxy/node_modules/.bin/configurable-http-proxy"
if not proxy.exists():
    raise FileNotFoundError(f"no proxy is installed in {here}/proxy: run npm ci --prefix {here}/proxy")
c.ConfigurableHTTPProxy.command = [str(proxy)]

# -- who may sign in --------------------------------------------------------------------------------------------------

c.JupyterHub.authenticator_class = "pam"
c.PAMAuthenticator.allowed_groups = {student_group, staff_group}
# A system group decides who is staff, at each sign-in; taking somebody out of it needs no restart.
c.Authenticator.manage_groups = True
c.Authenticator.allow_existing_users = False


def hub_groups(authenticator, handler, person):
    """Put the person into the course's hub group if the staff's system group says so; nbgrader names the groups."""
    account = pwd.getpwnam(person["name"])
    staff = grp.getgrnam(staff_group).gr_gid in os.getgrouplist(account.pw_name, account.pw_gid)
    person["groups"] = [f"formgrade-{COURSE}" if staff else f"nbgrader-{COURSE}"]
    return person


c.Authenticator.post_auth_hook = hub_groups

# -- each person's own server -----------------------------------------------------------------------------------------


def close_home(spawner):
    """Nobody reads another's work: many systems make homes that everybody can list."""
    account = pwd.getpwnam(spawner.user.name)
    home = Path(account.pw_dir)
    if home.stat().st_uid != account.pw_uid:
        raise RuntimeError(f"the home of {account.pw_name}, {home}, is not theirs: make them one of their own")
    home.chmod(home.stat().st_mode & 0o700)


c.Spawner.pre_spawn_hook = close_home
c.Spawner.cmd = singleuser
c.Spawner.default_url = "/lab"
c.Spawner.environment = {
    # nbgrader's and JupyterLab's settings for people who are not the course: see the files there.
    "JUPYTER_CONFIG_PATH": str(here / "jupyter-person"),
    **shell,
}
c.Spawner.mem_limit = os.environ.get("STUDENT_MEMORY")
c.Spawner.cpu_limit = float(os.environ["STUDENT_CPUS"]) if "STUDENT_CPUS" in os.environ else None

# -- the course's server ----------------------------------------------------------------------------------------------

c.JupyterHub.services = [
    {
        "name": COURSE,
        "url": f"http://127.0.0.1:{random_port()}",
        # The formgrader as a page of its own: JupyterHub forbids the frame in which JupyterLab would show it, because
        # on one host a student's server could frame it too.
        "command": [*singleuser, "--ServerApp.default_url=/formgrader"],
        "user": owner.pw_name,
        "cwd": str(course_folder),
        "environment": {
            "HOME": owner.pw_dir,
            "JUPYTER_CONFIG_PATH": str(here / "jupyter-course"),
            **shell,
            **{name: os.environ[name] for name in ("NBGRADER_DB_URL",) if name in os.environ},  # with its password
        },
        "oauth_no_confirm": True,
    }
]
# As a page of its own, the formgrader links to an assignment's folder as if its server stood at the host's root.
c.JupyterHub.extra_handlers = [
    (r"/tree/(.*)", RedirectHandler, {"url": f"/services/{COURSE}/lab/tree/{{0}}", "permanent": False})
]
c.JupyterHub.load_roles = [
    {"name": "course-staff", "scopes": [f"access:services!service={COURSE}"], "groups": [f"formgrade-{COURSE}"]},
]
