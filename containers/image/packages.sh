#!/bin/sh
# Make /opt/course: every package that notebooks, the hub and the grader import. Run beside pyproject.toml and
# constraints.txt; EXTRAS and TORCH_INDEX are the Dockerfile's.
set -eu
cd "$(dirname "$0")"
venv=/opt/course
# NVIDIA's image sets a file of pins of its own for every pip; constraints.py keeps of them what matters.
unset PIP_CONSTRAINT
if python3 -c 'import torch' 2>/dev/null; then
    python3 constraints.py constraints.txt >/tmp/pins.txt
    python3 -m venv --system-site-packages "$venv"
else
    cp constraints.txt /tmp/pins.txt
    python3 -m venv "$venv"
    # torch by itself: the default index has CUDA's builds, three gigabytes that a machine without a GPU has no use for.
    "$venv/bin/pip" install --no-cache-dir --constraint /tmp/pins.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch
fi
"$venv/bin/python" requirements.py pyproject.toml cluster ${EXTRAS:+"$EXTRAS"} >/tmp/requirements.txt
"$venv/bin/pip" install --no-cache-dir --constraint /tmp/pins.txt --requirement /tmp/requirements.txt jupyterhub
"$venv/bin/pip" check
"$venv/bin/python" works.py /tmp/pins.txt
