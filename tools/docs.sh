#!/usr/bin/env bash
# Makes the Erlang reference in doc/, and fails where edoc has a warning.
set -uo pipefail
cd "$(dirname "$0")/.."
export TERM=dumb
output=$(rebar3 edoc 2>&1 </dev/null) && ! grep -qi warning <<<"$output" && exit 0
echo "$output" >&2
exit 1
