"""What can be known of the container files without an engine: they lint, fit their schemas, and let no solution in."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata, util
from pathlib import Path
from types import ModuleType

import kubernetes_validate
import pytest
import yaml
from compose_spec import ComposeSpecification, PyCompose

ROOT = Path(__file__).parents[3]
CONTAINERS = ROOT / "containers"
BIN = Path(sys.executable).parent
DOCKERFILE = (CONTAINERS / "Dockerfile").read_text()
#: What may be sent to the builder at all.
OPEN = {
    "LICENSE", "README.md", "constraints.txt", "pyproject.toml", "containers/image", "containers/jupyter-course",
    "containers/jupyter-person", "containers/jupyterhub_config.py", "containers/proxy", "tooling/gradekit",
    "tooling/labkit",
}  # fmt: skip


def load(name: str) -> ModuleType:
    spec = util.spec_from_file_location(name, CONTAINERS / "image" / f"{name}.py")
    assert spec and spec.loader
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_dockerfile_and_the_scripts_lint() -> None:
    lint = [BIN / "hadolint", "--config", CONTAINERS / "hadolint.yaml", CONTAINERS / "Dockerfile"]
    done = subprocess.run(lint, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    scripts = [
        *CONTAINERS.glob("*.sh"),
        *CONTAINERS.glob("image/*.sh"),
        *CONTAINERS.glob("postgres/*.sh"),
        *CONTAINERS.glob("try/*.sh"),
    ]
    assert len(scripts) >= 6
    done = subprocess.run([BIN / "shellcheck", *scripts], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


# -- what gets into an image -------------------------------------------------------------------------------------------


def context() -> set[str]:
    """The paths that .dockerignore lets through."""
    first, *rest = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert first == "*", "everything is kept out but what is named"
    return {line[1:] for line in rest if line.startswith("!")}


def test_the_builder_is_sent_no_lab_no_test_and_no_mark() -> None:
    assert context() == OPEN
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    sent = [path for path in tracked.split("\0") if any((path + "/").startswith(f"{place}/") for place in OPEN)]
    assert "tooling/labkit/__init__.py" in sent
    secret = ("*.ipynb", "source/*", "tooling/answers/*", "tooling/canaries/*", "tooling/tests/*", "*.db", "*.env")
    assert not [path for path in sent if any(fnmatch.fnmatch(path, pattern) for pattern in secret)]


def stages() -> dict[str, tuple[str, str]]:
    """Each stage's parent and its instructions."""
    found = re.findall(r"(?ms)^FROM (\S+) AS (\w+)\n(.*?)(?=^FROM |\Z)", DOCKERFILE)
    return {name: (parent, text) for parent, name, text in found}


def copied(stage: str) -> list[str]:
    """What a stage and those that it is made of copy from the checkout."""
    parent, text = stages().get(stage, ("", ""))
    lines = re.findall(r"(?m)^COPY (?!--from)(.*) \S+$", text.replace("\\\n", ""))
    below = [name for name in (parent, *re.findall(r"--from=(\w+)|from=(\w+)", text)) if name in stages()]
    return [*" ".join(lines).split(), *(path for name in below for path in copied(name))]


def test_all_that_a_stage_copies_is_sent() -> None:
    for stage in stages():
        for path in copied(stage):
            assert any((path.rstrip("/") + "/").startswith(f"{place}/") for place in OPEN), path
            assert (ROOT / path).exists(), path


def test_the_student_image_has_labkit_and_no_grader() -> None:
    assert "tooling/labkit" in copied("student")
    assert not [path for path in copied("student") if "gradekit" in path]


def test_all_images_but_the_hub_run_as_an_ordinary_user() -> None:
    last = {name: re.findall(r"(?m)^USER (\S+)", text)[-1:] for name, (_, text) in stages().items()}
    assert last["runtime"] == last["grader"] == ["1000:1000"] and not last["student"]
    assert stages()["student"][0] == "runtime"


# -- pins --------------------------------------------------------------------------------------------------------------


def test_torch_and_numpy_stay_as_the_base_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    base = {"torch": "2.12.0a0+0123abc.nv26.5", "numpy": "2.1.0"}
    monkeypatch.setattr(metadata, "version", base.__getitem__)
    ours = (ROOT / "constraints.txt").read_text()
    adapted = load("constraints").adapted(ours)
    changed = set(adapted.splitlines()) - set(ours.splitlines())
    assert changed == {"torch==2.12.0a0+0123abc.nv26.5", "numpy==2.1.0"}


def test_on_a_bare_base_the_pins_are_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", absent)
    ours = (ROOT / "constraints.txt").read_text()
    assert load("constraints").adapted(ours) == ours


def test_an_image_has_what_the_project_requires() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = load("requirements").requirements(project, ["cluster"])
    assert {"torch", "nbgrader", "distributed", "psycopg2-binary"} <= set(wanted)
    assert not {"pytest", "playwright"} & set(wanted)


# -- compose, Kubernetes -----------------------------------------------------------------------------------------------


def compose() -> dict:
    """compose.yaml with its variables filled in."""
    text = (CONTAINERS / "compose.yaml").read_text()
    return yaml.safe_load(re.sub(r"\$\{\w+(?::-([^}]*)|:\?[^}]*)\}", lambda match: match[1] or "secret", text))


def test_compose_yaml_fits_the_specification() -> None:
    ComposeSpecification.model_validate(compose())
    project = PyCompose.from_yaml(yaml.safe_dump(compose()))
    project.validate()
    assert {"db", "hub", "hub-gpu", "grader", "grader-gpu"} == set(project.service_names())


def test_compose_yaml_has_no_password_and_needs_each() -> None:
    text = (CONTAINERS / "compose.yaml").read_text()
    for name in re.findall(r"\w*PASSWORD\w*(?=[:}])", text):
        assert f"${{{name}:?" in text, f"{name} must come from .env, and be missed when it is not there"
    assert not re.search(r"(?i)password: *[a-z0-9]", text)


def test_the_secrets_are_new_and_closed(tmp_path: Path) -> None:
    script = tmp_path / "new-secrets.sh"
    script.write_text((CONTAINERS / "new-secrets.sh").read_text())
    subprocess.run(["sh", script], check=True)
    secrets = dict(line.split("=") for line in (tmp_path / ".env").read_text().splitlines())
    wanted = set(re.findall(r"\$\{(\w+):\?", (CONTAINERS / "compose.yaml").read_text()))
    assert set(secrets) == wanted
    assert len(set(secrets.values())) == 3 and all(len(value) == 48 for value in secrets.values())
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600
    assert subprocess.run(["sh", script], capture_output=True, check=False).returncode == 1, "nothing is overwritten"


def test_nothing_but_the_hub_is_reached_from_outside() -> None:
    services = compose()["services"]
    assert {name for name, service in services.items() if "ports" in service} == {"hub", "hub-gpu"}
    assert services["hub"]["ports"] == ["127.0.0.1:8000:8000"]
    assert compose()["networks"]["back"]["internal"]
    for name in ("grader", "grader-gpu", "db"):
        assert services[name]["networks"] == ["back"]


@pytest.mark.parametrize("path", sorted((CONTAINERS / "kubernetes").glob("*.yaml")), ids=lambda path: path.name)
def test_kubernetes_manifests_fit_the_schema(path: Path) -> None:
    for manifest in yaml.safe_load_all(path.read_text()):
        if manifest["kind"] != "Kustomization":
            kubernetes_validate.validate(manifest, "1.36", strict=True)


def test_the_kustomization_names_files_that_are_there() -> None:
    kustomization = yaml.safe_load((CONTAINERS / "kubernetes" / "kustomization.yaml").read_text())
    assert all((CONTAINERS / "kubernetes" / name).is_file() for name in kustomization["resources"])


def test_workers_on_kubernetes_hold_nothing_of_the_course() -> None:
    manifests = yaml.safe_load_all((CONTAINERS / "kubernetes" / "workers.yaml").read_text())
    pods = [manifest["spec"]["template"]["spec"] for manifest in manifests if manifest["kind"] == "Deployment"]
    assert len(pods) == 2
    for pod in pods:
        assert pod["automountServiceAccountToken"] is False
        assert all("emptyDir" in volume for volume in pod.get("volumes", []))
        assert all("valueFrom" not in variable for variable in pod["containers"][0].get("env", []))


# -- the grader's sandbox under the profile ----------------------------------------------------------------------------

UNDER = [sys.executable, str(ROOT / "tooling/tests/gradekit/kernels/under_profile.py"), "65534"]


def test_the_profile_lets_the_sandbox_make_its_namespaces() -> None:
    ask = "import json; from gradekit.kernels import probe; r = probe(); print(json.dumps([r.level, r.failures]))"
    done = subprocess.run([*UNDER, sys.executable, "-c", ask], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["namespaces", []]


@pytest.mark.parametrize("call", ["bpf", "keyctl", "ptrace", "io_uring_setup", "perf_event_open", "userfaultfd"])
def test_the_profile_forbids(call: str) -> None:
    ask = f"from gradekit.kernels import linux; linux.syscall({call!r}, 0, 0, 0, 0, 0)"
    done = subprocess.run([*UNDER, sys.executable, "-c", ask], capture_output=True, text=True, check=False)
    assert "PermissionError: [Errno 1]" in done.stderr
    assert os.strerror(1) in done.stderr
