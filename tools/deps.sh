#!/usr/bin/env bash
# Installs what the project needs and this machine lacks: the Debian packages, Cowboy, and the
# Python environment .venv. Quick and silent when all is there.
#
#   tools/deps.sh run      what it takes to build the server and to serve an app
#   tools/deps.sh wheel    also what makes wheels
#   tools/deps.sh test     also what checks, tests and documents it, a browser and Elixir among that
#   tools/deps.sh sessions the same, and into .venv-sessions apps that keep sessions in memory
#
# Erlang's libraries come from hex where it answers; elsewhere Debian's rabbitmq-server package
# carries them compiled. It is unpacked into _deps/lib, never installed, and no broker runs.
set -euo pipefail
cd "$(dirname "$0")/.."

erlang_packages=(rebar3 erlang-dev erlang-ssl erlang-inets erlang-os-mon)
test_packages=(erlang-proper erlang-proper-dev elixir chromium iproute2)
proxy_packages=(nginx haproxy)
carried_libraries=(cowboy cowlib ranch jsx prometheus quantile_estimator)
carried_libraries+=(ra aten gen_batch_server seshat)

main() {
    local purpose=${1:-run}
    if command -v apt-get >/dev/null; then
        install_packages "$purpose"
    else
        require_commands erl rebar3 python3
    fi
    erlang_libraries
    case $purpose in
        run) python_environment .venv reload test ;;
        sessions) python_environment .venv-sessions sessions sessions ;;
        # All that the others need is among what tests need.
        *) python_environment .venv "$purpose" test ;;
    esac
}

say() { printf '== %s\n' "$*"; }

fail() {
    printf 'make deps: %s\n' "$*" >&2
    exit 1
}

require_commands() {
    local command
    for command in "$@"; do
        command -v "$command" >/dev/null || fail "$command is missing; please install it"
    done
}

# --- Debian packages -------------------------------------------------------------------------

install_packages() {
    local wanted=() missing=() package
    # An Erlang of the user's own (kerl, asdf, …) stays as it is.
    case $(command -v rebar3 || true) in "" | /usr/bin/rebar3) wanted+=("${erlang_packages[@]}") ;; esac
    case $1 in test | sessions) wanted+=("${test_packages[@]}" "${proxy_packages[@]}") ;; esac
    if [ ! -x .venv/bin/pip ] && ! python3 -c 'import ensurepip' 2>/dev/null; then
        wanted+=(python3-venv)
    fi
    mapfile -t missing < <(not_installed "${wanted[@]}")
    if [ ${#missing[@]} -eq 0 ]; then return; fi
    say "installing ${missing[*]}"
    apt_update_once
    without_services quietly as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y --no-install-recommends "${missing[@]}"
    for package in "${proxy_packages[@]}"; do
        case " ${missing[*]} " in *" $package "*) not_at_boot "$package" ;; esac
    done
}

# Tests start their own proxies: those that a package brings as services stay off, now and at boot.
policy=/usr/sbin/policy-rc.d
without_services() {
    if [ -e $policy ]; then
        "$@"
        return
    fi
    trap 'as_root rm -f $policy' EXIT
    printf '#!/bin/sh\nexit 101\n' | as_root tee $policy >/dev/null
    as_root chmod +x $policy
    "$@"
    as_root rm -f $policy
    trap - EXIT
}

not_at_boot() {
    if command -v systemctl >/dev/null; then as_root systemctl disable "$1" >/dev/null 2>&1 || true; fi
}

not_installed() {
    local installed package
    installed=$(dpkg-query -W -f='${Package} ${db:Status-Status}\n' "$@" 2>/dev/null || true)
    for package in "$@"; do
        grep -qx "$package installed" <<<"$installed" || echo "$package"
    done
}

apt_updated=no
apt_update_once() {
    if [ $apt_updated = yes ]; then return; fi
    quietly as_root apt-get update
    apt_updated=yes
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        fail "this needs root, and there is no sudo: $*"
    fi
}

# Runs a command and shows what it said only when it fails.
quietly() {
    local log
    log=$(mktemp)
    if ! "$@" >"$log" 2>&1 </dev/null; then
        cat "$log" >&2
        rm -f "$log"
        fail "this failed: $*"
    fi
    rm -f "$log"
}

# --- Cowboy ----------------------------------------------------------------------------------

erlang_libraries() {
    # The list itself is the mark of a finished job: a longer list is a new job.
    local list="${carried_libraries[*]} LICENSES"
    if [ "$(cat _deps/.libraries 2>/dev/null)" = "$list" ]; then return; fi
    say "fetching Erlang libraries"
    rm -rf _deps
    if ! timeout 120 rebar3 get-deps >/dev/null 2>&1 </dev/null; then
        unpack_debian_libraries
    fi
    mkdir -p _deps
    echo "$list" >_deps/.libraries
}

unpack_debian_libraries() {
    command -v apt-get >/dev/null || fail "hex does not answer, and there is no apt to ask"
    say "hex does not answer: taking them from Debian's rabbitmq-server package"
    local work name found
    work=$(mktemp -d)
    chmod 755 "$work"
    apt_update_once
    (cd "$work" && quietly apt-get download rabbitmq-server)
    dpkg-deb -x "$work"/rabbitmq-server_*.deb "$work/x"
    mkdir -p _deps/lib
    for name in "${carried_libraries[@]}"; do
        # A plugin is a directory, or an .ez archive that holds the same directory.
        for found in "$work"/x/usr/lib/rabbitmq/lib/*/plugins/"$name"-[0-9]*; do
            case $found in
                *.ez) python3 -m zipfile -e "$found" _deps/lib ;;
                *) if [ -d "$found" ]; then cp -R "$found" _deps/lib/; fi ;;
            esac
        done
    done
    # One licence for the three, which hex has in each.
    for found in _deps/lib/{cowboy,cowlib,ranch}-*; do
        cp "$work"/x/usr/lib/rabbitmq/lib/*/LICENSE-ISC-cowboy "$found/LICENSE"
    done
    # Of this one the package has none; it is in the library's sources.
    for found in _deps/lib/prometheus-*; do
        cp tools/licenses/prometheus "$found/LICENSE"
    done
    # These may be had under either of two licences.
    for found in _deps/lib/{ra,aten,gen_batch_server,seshat}-*; do
        cp "$work"/x/usr/lib/rabbitmq/lib/*/LICENSE-APACHE2 "$found/LICENSE"
    done
    rm -rf "$work"
    compgen -G '_deps/lib/cowboy-*/ebin/cowboy.app' >/dev/null ||
        fail "Debian's rabbitmq-server package carries no Cowboy any more"
}

# --- Python ----------------------------------------------------------------------------------

# Installs an extra of the package into an environment, unless that has it or a larger one.
python_environment() {
    local venv=$1 extra=$2 larger=$3 stamp
    for stamp in "$venv/.installed-$extra" "$venv/.installed-$larger"; do
        if [ "$stamp" -nt python/pyproject.toml ] && "$venv/bin/python" -c '' 2>/dev/null; then return; fi
    done
    say "installing the Python package into $venv"
    "$venv/bin/python" -m pip --version >/dev/null 2>&1 || quietly python3 -m venv --clear "$venv"
    quietly "$venv/bin/python" -m pip install --disable-pip-version-check -e "python[$extra]"
    touch "$venv/.installed-$extra"
}

main "$@"
