#!/bin/bash
# Build the images from the Dockerfile and use them, with no daemon and no registry: the base image is a Debian made by
# debootstrap, Buildah builds, Podman runs. As root, on Debian 12: apt-get install debootstrap buildah podman runc
#
#   containers/try/run.sh [WORK]     makes or reuses the folder WORK (default: a new temporary one, removed at the end)
#
# Where pip's settings name local folders: PIP_FOLDERS="/srv/wheels ..." mounts them in the build.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=${1:-$(mktemp -d /var/tmp/spark-try-XXXXXX)}
[ "$#" -gt 0 ] || trap 'umount -l "$work"/storage/overlay 2>/dev/null || true; rm -rf "$work"' EXIT
mkdir -p "$work"
for command in debootstrap buildah podman runc; do
    command -v "$command" >/dev/null || { echo "containers/try/run.sh: $command is missing: apt-get install $command" >&2; exit 2; }
done
[ "$(id -u)" = 0 ] || { echo "containers/try/run.sh: debootstrap needs root" >&2; exit 2; }

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
if [ -n "$certificate" ]; then
    echo "cafile=/run/pip-cert.pem" >"$work/npmrc"
    mounts+=(--volume "$certificate:/run/pip-cert.pem:ro" --volume "$work/npmrc:/srv/hub/proxy/.npmrc:ro")
fi
for folder in ${PIP_FOLDERS:-}; do mounts+=(--volume "$folder:$folder:ro"); done

build() { # build TARGET
    say "building $1"
    time buildah "${store[@]}" build --isolation chroot --layers --quiet --format docker --file containers/Dockerfile --target "$1" \
        --build-arg BASE=localhost/debian:debootstrap --build-arg TORCH_INDEX= "${mounts[@]}" \
        --tag "localhost/spark-$1" .
}
for target in student grader hub; do build "$target"; done
podman "${store[@]}" images --format '{{.Repository}} {{.Size}}'

# Docker's default capabilities and limits, this machine's network; no cgroup manager is asked for.
run=(podman "${store[@]}" --cgroup-manager cgroupfs --runtime runc run --rm --ulimit nofile=4096:4096
    --ulimit nproc=4096:4096 --network host)
fail() { echo "containers/try/run.sh: $*" >&2; exit 1; }
stop() { podman "${store[@]}" --runtime runc stop --time 5 "$@" >/dev/null; }
healthy() { # healthy CONTAINER NAME: its image's HEALTHCHECK succeeds within a minute
    for _ in $(seq 30); do
        if podman "${store[@]}" --runtime runc healthcheck run "$1" >/dev/null 2>&1; then echo "$2 answers"; return; fi
        sleep 2
    done
    podman "${store[@]}" logs "$1" | tail -n 20
    fail "$2 does not answer"
}
share=$work/share
rm -rf "$share"
install -d -o 1000 -g 1000 "$share" "$share/course" "$share/tiny"

say "a course of this checkout, and what its students get, made in the grader image"
git ls-files -z source tooling/canaries nbgrader_config.py constraints.txt syllabus.yaml |
    xargs -0 cp --parents --target-directory "$share/course"
chown -R 1000:1000 "$share/course"
"${run[@]}" --volume "$share/course:/course" localhost/spark-grader \
    nbgrader generate_assignment 1.3-cuda-python --log-level=WARN
release=$share/course/release/1.3-cuda-python

say "the student image"
[ "$("${run[@]}" localhost/spark-student id -u)" = 1000 ] || fail "the student image runs as another user than 1000"
"${run[@]}" localhost/spark-student python3 -m labkit
if "${run[@]}" localhost/spark-student python3 -c 'import gradekit' 2>/dev/null; then fail "gradekit is in it"; fi
found=$("${run[@]}" --user 0 localhost/spark-student find / -xdev '(' -name '*1.3.1*' -o -path '*/canaries/*' -o -name '*.db' ')' \
    -not -path '/proc/*' -not -path '*/site-packages/*')
[ -z "$found" ] || fail "the student image has $found"
"${run[@]}" --volume "$release:/home/course/lab" --volume "$PWD/containers/try:/try:ro" localhost/spark-student \
    python3 /try/open_lab.py lab/1.3.1-parallel-reduction.ipynb
lab=$("${run[@]}" --detach localhost/spark-student)
healthy "$lab" JupyterLab
stop "$lab"

say "the grader image, with compose.yaml's options: namespaces"
strict=(--cap-drop ALL --security-opt no-new-privileges --security-opt seccomp=containers/seccomp.json
    --security-opt unmask=ALL)
mine=(--volume "$share/course:/course" --volume "$share/tiny:/tiny" --volume "$PWD/containers/try:/try:ro"
    --volume "$PWD/tooling/tests:/tests:ro" --env PYTHONPATH=/tests)
"${run[@]}" "${strict[@]}" "${mine[@]}" localhost/spark-grader gradekit doctor | tee "$work/doctor"
grep -q 'level namespaces' "$work/doctor" || fail "no namespaces under compose.yaml's options"
"${run[@]}" "${strict[@]}" "${mine[@]}" localhost/spark-grader python3 /try/grade_tiny.py /tiny/compose

say "the grader image, with the rights that kubernetes/workers.yaml gives: a uid for each job"
# Podman's default profile lets everybody make namespaces; Docker's and containerd's do not.
python3 - >"$work/seccomp.json" <<'END'
import json

profile = json.load(open("/usr/share/containers/seccomp.json"))
barred = {"unshare", "setns", "mount", "umount2", "pivot_root", "open_tree", "move_mount", "mount_setattr", "clone3"}
for rule in profile["syscalls"]:
    rule["names"] = [name for name in rule["names"] if name not in barred]
profile["syscalls"] = [rule for rule in profile["syscalls"] if rule["names"]]
print(json.dumps(profile))
END
pod=(--user 0 --cap-drop ALL --security-opt no-new-privileges
    --security-opt "seccomp=$work/seccomp.json" --read-only --tmpfs /tmp --env HOME=/tmp)
for capability in CHOWN DAC_OVERRIDE FOWNER KILL SETGID SETUID; do pod+=(--cap-add "$capability"); done
"${run[@]}" "${pod[@]}" localhost/spark-grader gradekit doctor | tee "$work/doctor"
grep -q 'level container' "$work/doctor" || fail "no sandbox in a pod"
scheduler=$("${run[@]}" --detach localhost/spark-grader dask scheduler --no-dashboard --host 127.0.0.1 --port 18786)
worker=$("${run[@]}" --detach "${pod[@]}" localhost/spark-grader \
    dask worker tcp://127.0.0.1:18786 --nthreads 2 --no-dashboard --local-directory /tmp)
"${run[@]}" "${pod[@]}" "${mine[@]}" localhost/spark-grader \
    python3 /try/grade_tiny.py /tiny/pods --cluster tcp://127.0.0.1:18786
stop "$worker" "$scheduler"

say "the hub image"
printf 'ada:2001:students:%s\n' "$(openssl passwd -6 "a password")" >"$work/users"
hub=$("${run[@]}" --detach --volume "$work/users:/run/secrets/users:ro" --volume "$share/course:/course" \
    --env COURSE_OWNER=course localhost/spark-hub)
healthy "$hub" JupyterHub
podman "${store[@]}" --runtime runc exec --interactive "$hub" python3 - <"containers/try/sign_in.py"
stop "$hub"
say "all of it works"
