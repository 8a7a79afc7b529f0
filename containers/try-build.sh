#!/bin/bash
# Build the images from the Dockerfile and use them, with no daemon and no registry: the base image is a Debian made by
# debootstrap, Buildah builds, Podman runs. As root, on Debian 12: apt-get install debootstrap buildah podman runc
#
#   containers/try-build.sh [WORK]     makes or reuses the folder WORK (default: a new temporary one, removed at the end)
#
# Where pip's settings name local folders: PIP_FOLDERS="/srv/wheels ..." mounts them in the build.
set -euo pipefail
cd "$(dirname "$0")/.."
work=${1:-$(mktemp -d /var/tmp/try-build-XXXXXX)}
[ "$#" -gt 0 ] || trap 'umount -l "$work"/storage/overlay 2>/dev/null || true; rm -rf "$work"' EXIT
mkdir -p "$work"
for command in debootstrap buildah podman runc; do
    command -v "$command" >/dev/null || { echo "try-build.sh: $command is missing: apt-get install $command" >&2; exit 2; }
done
[ "$(id -u)" = 0 ] || { echo "try-build.sh: debootstrap needs root" >&2; exit 2; }

store=(--root "$work/storage" --runroot "$work/run" --storage-driver overlay)
say() { printf '\n== %s\n' "$*"; }

say "a bare Debian 12"
if [ ! -e "$work/debian.tar" ]; then
    debootstrap --variant=minbase bookworm "$work/debian" >"$work/debootstrap.log"
    tar -C "$work/debian" -cf "$work/debian.tar" .
    rm -rf "$work/debian"
fi
podman "${store[@]}" import "$work/debian.tar" localhost/debian:debootstrap >/dev/null

# This machine's settings of pip (a mirror and its certificate, a folder of wheels) hold in the build too.
mounts=(--volume "$work/pip.conf:/etc/pip.conf:ro")
python3 -m pip config list | sed -nE "s/^(global|:env:)\.([a-z-]+)='(.*)'$/\2 = \3/p" | sort -u -t= -k1,1 |
    { echo '[global]'; sed 's,^cert = .*,cert = /run/pip-cert.pem,'; } >"$work/pip.conf"
certificate=$(python3 -m pip config list | sed -nE "s/.*\.cert='(.*)'$/\1/p" | head -n 1)
[ -z "$certificate" ] || mounts+=(--volume "$certificate:/run/pip-cert.pem:ro")
[ -z "$certificate" ] || { echo "cafile=/run/pip-cert.pem" >"$work/npmrc"; mounts+=(--volume "$work/npmrc:/root/.npmrc:ro"); }
for folder in ${PIP_FOLDERS:-}; do mounts+=(--volume "$folder:$folder:ro"); done

build() { # build TARGET
    say "building $1"
    time buildah "${store[@]}" build --isolation chroot --layers --quiet --file containers/Dockerfile --target "$1" \
        --build-arg BASE=localhost/debian:debootstrap --build-arg TORCH_INDEX= "${mounts[@]}" \
        --tag "localhost/spark-$1" .
}
for target in student grader hub; do build "$target"; done
podman "${store[@]}" images --format '{{.Repository}} {{.Size}}'
