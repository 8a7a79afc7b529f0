#!/bin/sh
# Write .env beside compose.yaml: passwords of the databases, new and random. An existing one stays.
set -eu
cd "$(dirname "$0")"
[ -e .env ] && { echo "containers/.env is there already" >&2; exit 1; }
random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
umask 077
cat >.env <<END
POSTGRES_PASSWORD=$(random)
HUB_DB_PASSWORD=$(random)
GRADEBOOK_DB_PASSWORD=$(random)
END
echo "wrote containers/.env, for you alone to read"
