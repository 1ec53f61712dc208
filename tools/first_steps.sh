#!/usr/bin/env bash
# Takes the steps of a new user in a system that has a Python and no Erlang: pip, the command, a page
# and a WebSocket. The wheels are those of dist/, or of the folder that is named.
#
#   tools/debian.sh trixie tools/first_steps.sh
set -euo pipefail
cd "$(dirname "$0")/.."
dist=$(realpath "${1:-dist}")

main() {
    compgen -G "$dist/*.whl" >/dev/null || fail "no wheel in $dist: \`make wheel\` makes two"
    python3 -c 'import ensurepip, venv' 2>/dev/null || as_debian_does
    printf '%s, %s\n' "$(. /etc/os-release && echo "$PRETTY_NAME")" "$(python3 --version)"
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    cp examples/docker/main.py "$work"
    cd "$work"
    python3 -m venv .venv
    step 'pip install' .venv/bin/pip install -qq --disable-pip-version-check --find-links "$dist" \
        hornbeam-erlang fastapi websockets
    step 'hornbeam main:app' serve
}

fail() {
    printf 'tools/first_steps.sh: %s\n' "$*" >&2
    exit 1
}

as_debian_does() {
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends python3 python3-venv >/dev/null
}

# Runs one of the steps, and says how long it took.
step() {
    local name=$1 began
    shift
    began=$(date +%s%N)
    "$@"
    printf '%s: %d ms\n' "$name" $((($(date +%s%N) - began) / 1000000))
}

serve() {
    .venv/bin/hornbeam main:app --port 0 --no-access-log 2>banner &
    local server=$! status=0
    .venv/bin/python - "$server" <<'END' || status=$?
import json, os, re, sys, time, urllib.request
from pathlib import Path
from websockets.sync.client import connect

deadline = time.monotonic() + 60
while not (found := re.search(r"listening on http://(\S+)", Path("banner").read_text())):
    assert time.monotonic() < deadline, Path("banner").read_text()
    os.kill(int(sys.argv[1]), 0)
    time.sleep(0.02)
assert json.load(urllib.request.urlopen(f"http://{found[1]}/")) == {"hello": "world"}
with connect(f"ws://{found[1]}/echo") as socket:
    socket.send("größe")
    assert socket.recv() == "größe"
END
    kill "$server"
    wait "$server" || status=$?
    if [ $status -ne 0 ]; then cat banner; fi
    return $status
}

main
