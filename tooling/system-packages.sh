#!/bin/sh
# Install the Debian packages that the tests use and this machine lacks; as an ordinary user, say which they are.
set -eu
missing=
need() { # need PACKAGE, whose presence the rest of the line tests
    package=$1
    shift
    "$@" >/dev/null 2>&1 || missing="$missing $package"
}
need git command -v git
need libseccomp2 sh -c 'ldconfig -p | grep -q libseccomp.so.2'
need chromium command -v chromium
need npm command -v npm
need postgresql sh -c 'ls /usr/lib/postgresql/*/bin/initdb'
need slurmctld ls /usr/sbin/slurmctld
need slurmd ls /usr/sbin/slurmd
need slurm-client command -v sbatch
need munge ls /usr/sbin/munged
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing$missing ..."
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
else
    echo "make: the tests need these packages:$missing. Install them, for example: sudo apt-get install$missing" >&2
    exit 1
fi
