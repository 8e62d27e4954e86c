#!/bin/sh
# Installs what the black-box tests and benches/compare need. Safe to run again: when every tool
# is present it does nothing. Works as root, with sudo, or says what is missing.
set -eu

# tool:package pairs; packages are Debian and Ubuntu names
TOOLS="
cc:build-essential
curl:curl
openssl:openssl
wrk:wrk
nginx:nginx-light
haproxy:haproxy
promtool:prometheus
python3:python3
strace:strace
setpriv:util-linux
taskset:util-linux
"

PATH="$PATH:/usr/sbin:/sbin"
missing=""
for pair in $TOOLS; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair#*:}"
done
if [ -z "$missing" ]; then
    exit 0
fi

if ! command -v apt-get >/dev/null 2>&1; then
    echo "install-tools: please install:$missing" >&2
    exit 1
fi
if [ "$(id -u)" = 0 ]; then
    as_root=""
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    as_root="sudo"
else
    echo "install-tools: not root and no sudo without a password; please install:$missing" >&2
    exit 1
fi

echo "install-tools: installing$missing"
# Services that the packages bring along are not wanted here: only the programs are.
policy=/usr/sbin/policy-rc.d
made_policy=""
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
    made_policy=yes
fi
status=0
$as_root apt-get update -qq || status=$?
# shellcheck disable=SC2086 # a list of words is meant
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing || status=$?
if [ -n "$made_policy" ]; then
    $as_root rm -f "$policy"
fi
exit "$status"
