#!/usr/bin/env bash
# Tries this working tree's HEAD on another release of Debian: makes a minimal system of it in a
# folder, puts a clone there and runs a command in the clone as root, `make test` by default.
#
#   tools/debian.sh trixie                  DEBIAN_SYSTEMS=folder: instead of _debian
#   tools/debian.sh forky rebar3 ct --suite hornbeam_config_SUITE
#   tools/debian.sh bookworm bash           a shell, to look around
#   tools/debian.sh forky tools/first_steps.sh
#
# What `make wheel` has put into dist/ goes along.
#
# What is there is used again: the system, and what the clone has built. Packages come from where
# this machine gets its own, with its proxies, certificates and settings of apt and pip. All runs
# in a namespace of its own, so that no mount and no process is left, however it ends.
set -euo pipefail
cd "$(dirname "$0")/.."

# What the environment may say about registries. The rest of it stays outside.
carried_variables='^((PIP|HEX)_.*|.*_(proxy|PROXY)|.*_CA_(BUNDLE|CERTS)|SSL_CERT_(FILE|DIR))$'
pip_files=(/etc/pip.conf /etc/xdg/pip/pip.conf "$HOME/.pip/pip.conf" "$HOME/.config/pip/pip.conf")
certificates=/etc/ssl/certs/ca-certificates.crt

main() {
    if [ $# -eq 0 ] || [[ ! $1 =~ ^[a-z]+$ ]]; then
        fail 'usage: tools/debian.sh RELEASE [COMMAND…], where RELEASE is trixie, bookworm, forky, …'
    fi
    in_own_namespace "$@"
    local release=$1 systems=${DEBIAN_SYSTEMS:-_debian}
    shift
    mkdir -p "$systems"
    system=$(realpath "$systems")/$release
    exec 9>"$system.lock"
    flock -n 9 || fail "$system is in use"
    if [ ! -d "$system" ]; then bootstrap "$release"; fi
    carry_settings
    clone_head
    mount_kernel
    if [ $# -eq 0 ]; then set -- make test; fi
    enter "$@"
}

say() { printf '== %s\n' "$*"; }

fail() {
    printf 'tools/debian.sh: %s\n' "$*" >&2
    exit 1
}

# Starts the script again as root, as the first process of a namespace: with it end all others.
in_own_namespace() {
    if [ "${DEBIAN_INSIDE:-}" = yes ]; then return; fi
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || fail 'this needs root, and there is no sudo'
        exec sudo --preserve-env "$BASH" "$0" "$@"
    fi
    # In the background, since unshare takes no signals; what runs there takes them as ever.
    local inside status=0
    DEBIAN_INSIDE=yes env --default-signal=INT,QUIT \
        unshare --mount --pid --fork --kill-child --mount-proc "$BASH" "$0" "$@" <&0 &
    inside=$!
    trap 'kill -KILL "$inside"' INT TERM HUP
    wait "$inside" || status=$?
    exit "$status"
}

# Runs a command and shows what it said only when it fails.
quietly() { tools/quiet.sh "$@" || fail "this failed: $*"; }

# --- The system ------------------------------------------------------------------------------

bootstrap() {
    local release=$1 arguments=()
    if ! command -v debootstrap >/dev/null; then
        command -v apt-get >/dev/null || fail 'debootstrap is missing; please install it'
        say 'installing debootstrap'
        quietly apt-get update
        quietly env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y --no-install-recommends debootstrap
    fi
    say "making a $release in $system"
    rm -rf "$system.part" # of a run that was broken off
    arguments=("$release" "$system.part" "$(mirror)")
    # A release that is younger than debootstrap has no script there, but all are made alike.
    if [ ! -e "/usr/share/debootstrap/scripts/$release" ]; then
        arguments+=(/usr/share/debootstrap/scripts/sid)
    fi
    quietly debootstrap --variant=minbase --include=ca-certificates,git,make "${arguments[@]}"
    printf '#!/bin/sh\nexit 101\n' >"$system.part/usr/sbin/policy-rc.d" # packages start no daemons
    chmod +x "$system.part/usr/sbin/policy-rc.d"
    mv "$system.part" "$system"
}

# Where this machine's own Debian packages come from.
mirror() {
    local found=''
    if command -v apt-get >/dev/null; then
        found=$(apt-get indextargets --format '$(LABEL) $(REPO_URI)' 'Created-By: Packages' |
            sed -n 's/^Debian //p' | sort | uniq -c | sort -rn | awk 'NR == 1 { print $2 }')
    fi
    echo "${found:-http://deb.debian.org/debian}"
}

# --- This machine's ways to the registries -----------------------------------------------------

carry_settings() {
    local file
    for file in /etc/resolv.conf /etc/hosts "$certificates"; do
        if [ -e "$file" ]; then cp -L "$file" "$system$file"; fi
    done
    carry_apt
    for file in "${pip_files[@]}"; do
        if [ -e "$file" ]; then install -D -m 644 "$file" "$system${file/#$HOME//root}"; fi
    done
    carry_paths
}

carry_apt() {
    if [ ! -d /etc/apt ]; then return; fi
    # Proxies and the like; hooks and pinning belong to this machine's own packages.
    apt-config dump | grep -E '^Acquire::(https?::|Retries|Check-|ForceIPv)' \
        >"$system/etc/apt/apt.conf.d/90host" || true
    cp -r /etc/apt/auth.conf* "$system/etc/apt/" 2>/dev/null || true
}

# Folders and files that pip's settings name are seen at the same place inside.
carry_paths() {
    local path
    while read -r path; do
        # The pages of an index in a folder "simple" link to files that lie beside that folder.
        if [ "$(basename "$path")" = simple ]; then path=$(dirname "$path"); fi
        if [ -d "$path" ] && [ -z "$(ls -A "$system$path" 2>/dev/null)" ]; then
            mkdir -p "$system$path"
        elif [ -f "$path" ] && [ ! -s "$system$path" ]; then
            install -D /dev/null "$system$path"
        else
            continue
        fi
        mount --bind -o ro "$path" "$system$path"
    done < <({
        for path in "${pip_files[@]}"; do if [ -e "$path" ]; then cat "$path"; fi; done
        carried_environment
    } | grep -oE '(^|[[:space:]=]|file://)/[^[:space:]]+' | sed -E 's#^[^/]*(file://)?/#/#' | sort -u)
}

carried_environment() {
    local name
    for name in $(compgen -e | grep -E "$carried_variables"); do
        printf '%s=%s\n' "$name" "${!name}"
    done
}

# --- The clone, and the command in it ----------------------------------------------------------

# Git's own files travel as a bundle: the tree may belong to another user than root.
clone_head() {
    local clone=$system/root/hornbeam bundle
    bundle=$(mktemp)
    quietly git -c "safe.directory=$PWD" bundle create "$bundle" HEAD
    if [ ! -d "$clone" ]; then git init --quiet "$clone"; fi
    quietly git -C "$clone" fetch --no-tags "$bundle" HEAD
    quietly git -C "$clone" checkout --force --detach FETCH_HEAD
    quietly git -C "$clone" clean -fd # but not what is ignored: what was built
    rm -f "$bundle"
    if [ -d dist ]; then
        mkdir -p "$clone/dist"
        cp dist/*.whl "$clone/dist/"
    fi
}

mount_kernel() {
    mount -t proc proc "$system/proc"
    mount --rbind /dev "$system/dev"
    mount --rbind /sys "$system/sys"
}

enter() {
    local variables=() status=0
    mapfile -t variables < <(carried_environment)
    env -i "${variables[@]}" HOME=/root TERM="${TERM:-dumb}" LANG=C.UTF-8 \
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        chroot "$system" sh -c 'cd /root/hornbeam && exec "$@"' sh "$@" 9>&- || status=$?
    exit "$status"
}

main "$@"
