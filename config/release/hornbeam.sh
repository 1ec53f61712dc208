#!/bin/sh
# bin/hornbeam: relx's own script, but that `eval` prints text as text. There erl_call would print it,
# as the numbers of its bytes.
script=$(readlink -f "$0")-{{ release_version }}
if [ "${1:-}" = eval ]; then
    shift
    set -- evaluate "$@"
fi
exec "$script" "$@"
