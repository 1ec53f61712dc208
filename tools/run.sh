#!/usr/bin/env bash
# Serves an app by this checkout, in the foreground, until Ctrl-C or SIGTERM: the example chat, or
# what the environment names. `make run` calls this when all is built.
#
#   tools/run.sh
#   APP=main:app DIR=~/shop PORT=9000 tools/run.sh
#   APP=main:app DIR=~/shop ARGS='--reload --workers 2' tools/run.sh
#
# The app runs with this checkout's Python. Where its folder has a .venv of the same version, what is
# installed there can be imported.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
python=$root/.venv/bin/python

main() {
    local words=() own
    cd "$(folder)" || fail "DIR is no folder: ${DIR:-}"
    if [ -n "${APP:-}" ]; then words+=("$APP"); fi
    if [ -n "${PORT:-}" ]; then words+=(--port "$PORT"); fi
    own=$(own_packages) || exit
    if [ -n "$own" ]; then words+=(--pythonpath "$own"); fi
    # shellcheck disable=SC2086 # flags are parted by spaces
    exec "$python" -m hornbeam_erlang "${words[@]}" ${ARGS:-}
}

fail() {
    printf 'make run: %s\n' "$*" >&2
    exit 2
}

folder() {
    if [ -n "${DIR:-}" ]; then
        echo "${DIR/#\~\//$HOME/}"
    elif [ -n "${APP:-}" ]; then
        pwd
    else
        echo "$root/examples/chat"
    fi
}

# Where the app's own virtual environment keeps its packages.
own_packages() {
    local ask='import sysconfig as s; print(s.get_python_version(), s.get_path("purelib"))'
    local theirs ours
    if [ ! -x .venv/bin/python ] || [ "$PWD" = "$root" ]; then return; fi
    theirs=$(.venv/bin/python -c "$ask") ours=$("$python" -c "$ask")
    if [ "${theirs%% *}" != "${ours%% *}" ]; then
        fail "$PWD/.venv is Python ${theirs%% *} and this checkout's is ${ours%% *}:" \
            "install the package there (pip install -e $root/python) and run its hornbeam"
    fi
    echo "${theirs#* }"
}

main
