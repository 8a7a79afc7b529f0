#!/bin/sh
# What a base image lacks: Python with venv, the sandbox's library, and a user without rights. Debian and Ubuntu.
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get install -y --no-install-recommends ca-certificates libseccomp2 python3 python3-venv
rm -rf /var/lib/apt/lists/*
# Ubuntu's images have a user 1000 already.
if taken=$(getent passwd 1000 | cut -d: -f1) && [ -n "$taken" ]; then userdel --remove "$taken" 2>/dev/null; fi
useradd --uid 1000 --user-group --create-home --shell /bin/bash course
install -d -m 1777 /srv/nbgrader/exchange
install -d -o course -g course /course
