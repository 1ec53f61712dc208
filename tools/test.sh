#!/usr/bin/env bash
# Runs the parts of the test named on the command line, one line each, shows the log of those
# that fail, and closes with the sum of all test cases. A check (lint, types, …) has no cases; one
# that fails counts as a failed test, and so does a suite that ran none. Parts with a + between them
# run side by side. At most three cases that failed are run again, once and with nothing beside
# them: what the load of others did to them is told, but does not count. `TRIES=1` gives no second
# try.
set -uo pipefail
cd "$(dirname "$0")/.."
export TERM=dumb # keeps rebar3's colours out of the logs
# A run repeats the one before, so that what it says is about the change; `make fuzz`, which sets
# this to nothing, is what looks further.
export FUZZ_SEED=${FUZZ_SEED-1}

logs=_build/logs
passed=0 failed=0 skipped=0 again=0
MOST_AGAIN=3

run_lint() { tools/lint.sh; }
run_types() { (cd python && ../.venv/bin/mypy) && .venv/bin/mypy --strict examples/*/chat.py examples/*/priv/*.py; }
run_xref() { rebar3 xref; }
run_dialyzer() { rebar3 dialyzer; }
run_docs() { tools/docs.sh; }
run_site() { .venv/bin/python tools/site.py; }
# What was compiled of suites that have other names by now would run, too.
run_ct() {
    rm -rf _build/test/extras
    rebar3 ct --suite "$(comma_separated "$(suites -L)")"
}
# The cases that failed, with nothing beside them.
again_ct() { rebar3 ct --retry; }
# Suites of several nodes mostly wait for them: they run beside the others, in a folder of their own.
run_nodes() {
    rm -rf _build/nodes/test/extras
    REBAR_BASE_DIR=_build/nodes rebar3 ct --suite "$(comma_separated "$(suites -l)")"
}
again_nodes() { REBAR_BASE_DIR=_build/nodes rebar3 ct --retry; }
suites() { grep "$1" hornbeam_cluster:start test/erlang/*_SUITE.erl; }
comma_separated() { paste -sd, <<<"$1"; }
# Parameters that come out of sets have one order in all processes.
run_pytest() { PYTHONHASHSEED=0 run_python test/python -n 2 --dist loadfile; }
again_pytest() { PYTHONHASHSEED=0 run_again test/python; }
# They wait more than they work: files run side by side, each with a node of its own, and in the
# order of test/e2e/longest.py.
run_e2e() {
    rebar3 compile && run_python test/e2e -n 4 --dist loadfile --no-loadscope-reorder --durations 40
}
again_e2e() { run_again test/e2e; }
run_wheel() { run_python test/wheel; }
again_wheel() { run_again test/wheel; }
# Three nodes on machines of their own, whose network is cut; root only.
run_cluster() { rebar3 compile && run_python test/cluster -n 2 --dist loadfile; }
again_cluster() { run_again test/cluster; }
run_sessions() {
    rebar3 compile && .venv-sessions/bin/python -m pytest -c python/pyproject.toml --rootdir . \
        -o addopts=-q --tb=short test/sessions
}
run_fuzz_beam() { rebar3 ct --suite hornbeam_fuzz_SUITE,hornbeam_hostile_SUITE; }
run_fuzz_worker() { run_python test/python/test_fuzz.py test/python/test_worker_model.py; }
run_fuzz_node() {
    rebar3 compile && run_python test/e2e/test_fuzz.py test/e2e/test_differential.py test/e2e/test_hostile.py
}
run_again() { run_python "$@" --last-failed --last-failed-no-failures none; }
run_python() { .venv/bin/python -m pytest -c python/pyproject.toml --rootdir . --tb=short "$@"; }

# The number before (or, in Common Test's words, after) a word in a suite's closing line.
cases_ct() {
    local line number='s/.*'
    line=$(grep -aE '^(All|Failed|Skipped|Passed) .*[0-9]+.* tests' "$1" | tail -1)
    ok=$(sed -nE "${number}(All|Passed) ([0-9]+) tests.*/\2/p" <<<"$line")
    bad=$(sed -nE "${number}Failed ([0-9]+) tests.*/\1/p" <<<"$line")
    # Skipped N (asked for, because a set-up failed): the second kind has failed.
    left=$(sed -nE "${number}Skipped [0-9]+ \(([0-9]+), ([0-9]+)\).*/\1/p" <<<"$line")
    broken=$(sed -nE "${number}Skipped [0-9]+ \(([0-9]+), ([0-9]+)\).*/\2/p" <<<"$line")
    bad=$((${bad:-0} + ${broken:-0}))
}

cases_pytest() {
    local line
    line=$(grep -aE '(passed|failed|error|skipped).* in [0-9.]+s' "$1" | tail -1)
    ok=$(word passed) bad=$(($(word failed) + $(word errors?))) left=$(word skipped)
}
cases_nodes() { cases_ct "$1"; }
cases_e2e() { cases_pytest "$1"; }
cases_cluster() { cases_pytest "$1"; }
cases_wheel() { cases_pytest "$1"; }
cases_sessions() { cases_pytest "$1"; }
cases_fuzz_beam() { cases_ct "$1"; }
cases_fuzz_worker() { cases_pytest "$1"; }
cases_fuzz_node() { cases_pytest "$1"; }
word() {
    local number
    number=$(grep -oE "[0-9]+ $1\b" <<<"$line")
    echo "${number%% *}" | grep . || echo 0
}

# Runs one part, and leaves its sums: passed, failed, skipped, passed when run again.
part() {
    local name=$1 status=0 ok=0 bad=0 left=0
    SECONDS=0
    "run_$name" >"$logs/$name.log" 2>&1 </dev/null || status=$?
    if declare -F "cases_$name" >/dev/null; then
        "cases_$name" "$logs/$name.log"
        if [ $((${ok:-0} + bad)) -eq 0 ]; then status=1; fi
    fi
    if [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then bad=1; fi
    echo "${ok:-0} $bad ${left:-0} 0 $SECONDS" >"$logs/$name.sum"
}

# Gives the few cases of a part that failed their second try, alone.
second_try() {
    local name=$1 passed failed skipped again seconds status=0 ok=0 bad=0 left=0
    read -r passed failed skipped again seconds <"$logs/$name.sum"
    if [ "$failed" -eq 0 ] || [ "$failed" -gt "$MOST_AGAIN" ]; then return; fi
    if [ "${TRIES:-2}" -eq 1 ] || ! declare -F "again_$name" >/dev/null; then return; fi
    SECONDS=0
    "again_$name" >"$logs/$name.again.log" 2>&1 </dev/null || status=$?
    "cases_$name" "$logs/$name.again.log"
    if [ "$status" -eq 0 ] && [ "$bad" -eq 0 ] && [ "${ok:-0}" -ge "$failed" ]; then
        echo "$((passed + failed)) 0 $skipped $failed $((seconds + SECONDS))" >"$logs/$name.sum"
    fi
}

# Says what came of a part, with the end of its log if anything had failed.
tell() {
    local name=$1 log=$logs/$1.log passed failed skipped again seconds result
    read -r passed failed skipped again seconds <"$logs/$name.sum"
    result="$passed passed, $failed failed"
    if ! declare -F "cases_$name" >/dev/null; then
        result=ok
        if [ "$failed" -ne 0 ]; then result=failed; fi
    fi
    if [ "$again" -ne 0 ]; then result+=", of which $again only when run again alone"; fi
    printf '%-10s%s (%d s)\n' "$name" "$result" "$seconds"
    if [ "$failed" -ne 0 ] || [ "$again" -ne 0 ]; then
        echo "---------- $log"
        tail -n 120 "$log"
        echo "----------"
    fi
}

# Runs parts side by side: those that wait and those that compute.
together() {
    local name
    for name in "$@"; do
        rm -f "$logs/$name".*
        part "$name" &
    done
    wait
    for name in "$@"; do
        second_try "$name"
        tell "$name"
    done
}

add() {
    local ok bad left late
    read -r ok bad left late _ <"$logs/$1.sum"
    passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + left))
    again=$((again + late))
}

mkdir -p "$logs"
for names in "$@"; do
    # shellcheck disable=SC2086
    together ${names//+/ }
    for name in ${names//+/ }; do add "$name"; done
done

# Checks alone have no cases to sum up.
if [ $((passed + failed)) -eq 0 ]; then exit 0; fi
echo
summary="$passed passed, $failed failed"
if [ "$skipped" -ne 0 ]; then summary+=", $skipped skipped"; fi
if [ "$again" -ne 0 ]; then summary+="; $again passed only when run again alone"; fi
echo "$summary"
[ "$failed" -eq 0 ]
