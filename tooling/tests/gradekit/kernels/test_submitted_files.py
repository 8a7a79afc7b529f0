"""A submission's own files: the data can be read, helpers can be imported, and nothing shadows or leads out."""

import os
import socket
from pathlib import Path

import pytest
from gradekit.kernels import ForkServer
from gradekit.kernels.files import pack, unpack
from run_cells import run_cells


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    submitted = tmp_path / "ps1"
    (submitted / "data").mkdir(parents=True)
    (submitted / "data" / "numbers.csv").write_text("1,2\n")
    (submitted / "helpers.py").write_text("def double(x):\n    return 2 * x\n")
    return submitted


def test_data_and_helpers_are_found_where_they_were(server: ForkServer, folder: Path) -> None:
    ran = run_cells(
        server,
        "import helpers; print(helpers.double(21), open('data/numbers.csv').read())",
        "open('data/out.txt', 'w').write('x'); import os; print(sorted(os.listdir('data')))",
        files=folder,
    )
    assert ran.texts == ["42 1,2\n\n", "['numbers.csv', 'out.txt']\n"]
    assert sorted(os.listdir(folder / "data")) == ["numbers.csv"]  # what a kernel writes stays in the sandbox


@pytest.mark.parametrize("module", ["torch", "json", "colorsys", "numpy", "labkit"])
def test_no_file_shadows_what_the_tests_import(server: ForkServer, folder: Path, module: str) -> None:
    (folder / f"{module}.py").write_text("raise SystemExit('shadowed')\n")
    (folder / module).mkdir()
    (folder / module / "__init__.py").write_text("raise SystemExit('shadowed')\n")
    ran = run_cells(server, f"import {module}; print({module}.__file__)", files=folder)
    assert "/submission" not in ran.texts[0] and "shadowed" not in ran.texts[0]
    assert f"{module}" in ran.texts[0]


def test_start_up_files_have_no_effect(server: ForkServer, folder: Path) -> None:
    poison = "import builtins; builtins.poisoned = True\n"
    for name in (
        "sitecustomize.py",
        "usercustomize.py",
        "ipython_config.py",
        "ipykernel_config.py",
        "jupyter_config.py",
    ):
        (folder / name).write_text(poison)
    for name in (".ipython/profile_default/startup/00.py", ".ipython/profile_default/ipython_config.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(poison)
    (folder / "x.pth").write_text("import builtins; builtins.poisoned = True\n")
    ran = run_cells(server, "import builtins, json; print(hasattr(builtins, 'poisoned'))", files=folder)
    assert ran.texts == ["False\n"]


def test_notebooks_stay_outside(server: ForkServer, folder: Path) -> None:
    (folder / "problem.ipynb").write_text("hidden tests")
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / ".ipynb_checkpoints" / "problem-checkpoint.ipynb").write_text("hidden tests")
    ran = run_cells(server, "import os; print(sorted(os.listdir('.')))", files=folder)
    assert ran.texts == ["['data', 'helpers.py']\n"]


def test_links_fifos_and_sockets_are_left_out_and_named(folder: Path, server: ForkServer) -> None:
    (folder / "link").symlink_to("/etc/passwd")
    (folder / "up").symlink_to("..")
    (folder / "data" / "loop").symlink_to(".")
    os.mkfifo(folder / "fifo")
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(folder / "sock"))
    packed, skipped = pack(folder)
    os.close(packed)
    assert sorted(skipped) == ["data/loop", "fifo", "link", "sock", "up"]
    ran = run_cells(server, "import os; print(sorted(os.listdir('.')), os.listdir('data'))", files=folder)
    assert ran.texts == ["['data', 'helpers.py'] ['numbers.csv']\n"]


def test_names_and_sizes_survive_packing(tmp_path: Path) -> None:
    source, target = tmp_path / "from", tmp_path / "to"
    source.mkdir()
    target.mkdir()
    contents = {"empty": b"", "gr\u00fc\u00df.txt": "\u00e4".encode(), "big.bin": os.urandom(3 << 20), "a b\nc": b"x"}
    for name, data in contents.items():
        (source / name).write_bytes(data)
    with open(os.path.join(os.fsencode(source), b"bad\xff"), "wb") as f:
        f.write(b"bytes")
    packed, _ = pack(source)
    unpack(packed, str(target))
    os.close(packed)
    assert {n: (target / n).read_bytes() for n in contents} == contents
    assert os.path.exists(os.path.join(os.fsencode(target), b"bad\xff"))


def test_folder_too_large_is_refused_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "large").write_bytes(bytes(2000))
    monkeypatch.setattr("gradekit.kernels.files.MOST_BYTES", 1000)
    with pytest.raises(ValueError, match=r"remove what the notebooks do not read|larger than"):
        pack(tmp_path)


def test_files_do_not_eat_the_disk_limit(server: ForkServer, folder: Path) -> None:
    (folder / "data" / "large.bin").write_bytes(bytes(8 << 20))
    ran = run_cells(server, "open('mine', 'wb').write(bytes(3 << 20)); print('fits')", files=folder, disk_bytes=4 << 20)
    assert ran.texts == ["fits\n"]
