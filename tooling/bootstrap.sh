#!/bin/sh
# Make .venv with everything pinned in constraints.txt. Usage: bootstrap.sh VENV EXTRAS
# Says in one line what is missing and what to do; leaves nothing half-made that a second run would trip over.
set -eu
venv=$1
extras=$2
need_mb=6000 # 2,500 MB installed, as much again while pip unpacks, and room for a class's submissions

fail() {
    printf 'make: %s\n' "$1" >&2
    exit 1
}

usable() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

python=${PYTHON:-}
if [ -n "$python" ]; then
    usable "$python" || fail "PYTHON=$python is not Python 3.11 or later. Name another: make PYTHON=python3.11"
else
    for candidate in python3.11 python3.12 python3.13 python3; do
        if usable "$candidate"; then python=$candidate && break; fi
    done
    [ -n "$python" ] || fail "no Python 3.11 or later on PATH (python3 is $(python3 --version 2>/dev/null || echo missing)). \
Install one, for example: apt-get install python3 python3-venv, then run make again."
fi
"$python" -c 'import venv, ensurepip' 2>/dev/null ||
    fail "$python has no venv module. Install it, for example: apt-get install python3-venv, then run make again."
if [ ! -x "$venv/bin/python" ]; then
    free_mb=$(df -Pm . | awk 'NR == 2 { print $4 }')
    [ "$free_mb" -ge "$need_mb" ] || fail "only $free_mb MB free here, $need_mb needed. Make room, or clone onto a larger disk."
    "$python" -m venv "$venv" || { rm -rf "$venv"; fail "could not make a virtual environment in $venv (see above)."; }
fi
install() { "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt "$@"; }
echo "Installing into $venv (the first time takes a few minutes) ..."
# torch first and by itself: otherwise another package may pull a build that this machine has no use for.
install torch || fail "torch could not be installed (see above). Is there a network, and disk space? Run make again."
install --editable ".[$extras]" || fail "the packages could not be installed (see above). Run make again; nothing is lost."
# The kernel that nbgrader's own commands and the formgrader run student code in.
"$venv/bin/python" -c 'import pathlib, sys; from gradekit.kernels import install; install(pathlib.Path(sys.prefix))' ||
    fail "the sandboxed kernel could not be installed (see above)."
