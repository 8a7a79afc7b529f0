#!/bin/sh
# JupyterHub's proxy, from its lock file, and what the hub needs to sign system users in.
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get install -y --no-install-recommends nodejs npm
cd /srv/hub/proxy
npm ci --omit=dev --cache /tmp/npm
apt-get purge -y --auto-remove npm
rm -rf /var/lib/apt/lists/* /tmp/npm
