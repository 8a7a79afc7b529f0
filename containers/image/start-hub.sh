#!/bin/sh
# Make the people of /run/secrets/users system users of this container, then start the hub. A line for each:
#     name:uid:students:password hash          or course-staff; the hash is what `openssl passwd -6` prints
# The uid is what files in the volumes belong to: never give it to another person.
set -eu
for group in students course-staff; do groupadd --force "$group"; done
while IFS=: read -r name uid group hash; do
    case $name in '' | '#'*) continue ;; esac
    getent passwd "$name" >/dev/null ||
        useradd --uid "$uid" --user-group --groups "$group" --create-home --shell /bin/bash --password "$hash" "$name"
done </run/secrets/users
exec jupyterhub --config /srv/hub/jupyterhub_config.py
