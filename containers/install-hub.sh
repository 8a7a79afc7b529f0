#!/bin/sh
# Install JupyterHub for the users of this machine, without containers. As root, from a checkout of the course:
#
#   containers/install-hub.sh [PREFIX]        /opt/spark-course by default
#
# Everybody can read PREFIX and runs programs from it; it holds no lab and no answer, and does not need the checkout.
set -eu
prefix=${1:-/opt/spark-course}
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo "install-hub.sh: run it as root: a hub starts each server as its user" >&2; exit 1; }
command -v npm >/dev/null || { echo "install-hub.sh: npm is missing, for example: apt-get install nodejs npm" >&2; exit 1; }
python=$(realpath "$(command -v "${PYTHON:-python3}")")
runuser -u nobody -- "$python" -c 'import venv, ensurepip' || {
    echo "install-hub.sh: $python is not for everybody to run, or has no venv. Name another: PYTHON=/usr/bin/python3 $0" >&2
    exit 1
}
umask 022
[ -x "$prefix/bin/python" ] || "$python" -m venv "$prefix"
pip() { "$prefix/bin/python" -m pip install --quiet --disable-pip-version-check --constraint constraints.txt "$@"; }
pip torch
pip --force-reinstall --no-deps . # a copy: nobody but its owner can read the checkout
pip ".[cluster,hub]"
"$prefix/bin/python" -c 'import pathlib, sys; from gradekit.kernels import install; install(pathlib.Path(sys.prefix))'
rm -rf "$prefix/hub"
mkdir "$prefix/hub"
cp -R containers/jupyterhub_config.py containers/jupyter-course containers/jupyter-person containers/proxy "$prefix/hub"
npm ci --silent --omit=dev --prefix "$prefix/hub/proxy"
echo "Installed. Start it: $prefix/bin/jupyterhub --config $prefix/hub/jupyterhub_config.py"
