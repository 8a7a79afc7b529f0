#!/bin/sh
# Run once by the PostgreSQL image, when its volume is new: two databases, each with an owner of its own.
set -eu
for name in hub gradebook; do
    case $name in hub) password=$HUB_DB_PASSWORD ;; gradebook) password=$GRADEBOOK_DB_PASSWORD ;; esac
    psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --set name="$name" --set password="$password" <<'SQL'
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
REVOKE CONNECT ON DATABASE :"name" FROM PUBLIC;
SQL
done
