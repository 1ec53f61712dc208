#!/usr/bin/env bash
# Checks how files look: what ruff says of Python, and for all text the few rules that need no
# parser. Says nothing and exits with 0 when all is well.
set -uo pipefail
cd "$(dirname "$0")/.."
export LC_ALL=C.UTF-8

bad=0
files() { git ls-files --cached --others --exclude-standard -- "$@" | grep -v '\.LICENSE$'; }

# forbid WHAT REGEX FILE…: each line of the files that has the (Perl) pattern is a fault.
forbid() {
    local what=$1 regex=$2 found
    shift 2
    if [ $# -eq 0 ]; then return; fi
    if found=$(grep -nHP -- "$regex" "$@"); then
        sed "s/^/$what: /" <<<"$found"
        bad=1
    fi
}

mapfile -t text < <(files '*.erl' '*.hrl' '*.app.src' '*.config' '*.script' '*.py' '*.sh' '*.md' \
    '*.html' '*.toml' '*.args' Makefile)
mapfile -t erlang < <(files '*.erl' '*.hrl' '*.app.src' '*.config' '*.script')
mapfile -t source < <(files 'apps/*/src/*.erl' 'apps/*/src/**/*.erl')

if [ ${#source[@]} -eq 0 ]; then
    echo "git knows of no source files here"
    exit 1
fi
forbid 'trailing space' '[ \t]$' "${text[@]}"
forbid 'left from a merge' '^(<<<<<<<|>>>>>>>) ' "${text[@]}"
forbid 'over 100 columns' '^.{101}' "${erlang[@]}"
forbid 'tab' '\t' "${erlang[@]}"
forbid 'a sleep is not a wait' '\btimer:sleep\b' "${source[@]}"
# But for what nodes are called.
mapfile -t others < <(printf '%s\n' "${source[@]}" | grep -v /hornbeam_node_name.erl)
forbid 'atoms from data' '\b(list|binary)_to_atom\(' "${others[@]}"
forbid 'written to the screen, not to the log' '\bio:(format|put_chars)\((?!standard_error|user)' "${source[@]}"
forbid 'unfinished' '\b(TODO|FIXME|XXX)\b' "${erlang[@]}" "${source[@]}"

.venv/bin/ruff check --quiet . || bad=1
.venv/bin/ruff format --quiet --diff . || bad=1
exit $bad
