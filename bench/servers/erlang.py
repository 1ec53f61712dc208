"""How all Erlang servers are started: the same emulator flags, the same libraries."""

import os
import subprocess
from collections.abc import Sequence

from servers.process import BENCH, PROJECT, ServerError

# Idle schedulers sleep instead of spinning: they share the cores with Python and the load.
# Heaps are in small carriers, the oldest first, as in config/vm.args.
FLAGS = ["+sbwt", "none", "+sbwtdcpu", "none", "+sbwtdio", "none"]
FLAGS += ["+MHas", "ageffcaoff", "+MHlmbcs", "256"]

_VERSIONS = """
    File = filename:join([code:root_dir(), "releases", erlang:system_info(otp_release),
                          "OTP_VERSION"]),
    {ok, Otp} = file:read_file(File),
    io:format("otp ~ts~n", [string:trim(Otp)]),
    [begin _ = application:load(Name),
           {ok, Version} = application:get_key(Name, vsn),
           io:format("~ts ~ts~n", [Name, Version])
     end || Name <- [APPLICATIONS]],
    halt().
"""


def erl(evaluate: str, perf: bool = False, emulator: Sequence[str] = ()) -> list[str]:
    """A node with no shell and no distribution that evaluates an expression and stays.

    `emulator` are flags of the emulator beside those of all.
    """
    names = ["+JPperf", "true"] if perf else []
    paths = [str(path) for path in sorted(PROJECT.glob("_build/default/lib/*/ebin"))]
    return ["erl", "-noinput", *FLAGS, *emulator, *names, "-pa", str(BENCH / "_build"), *paths,
            "-eval", evaluate]  # fmt: skip


def environment() -> dict[str, str]:
    """`ERL_LIBS` with the libraries that `make deps` unpacked."""
    libraries = [str(PROJECT / "_deps/lib"), os.environ.get("ERL_LIBS", "")]
    return {"ERL_LIBS": ":".join(filter(None, libraries))}


def versions(*applications: str, libraries: str = "") -> dict[str, str]:
    """The versions of OTP and of these applications, from our libraries or from others."""
    command = erl(_VERSIONS.replace("APPLICATIONS", ", ".join(applications)))
    environ = os.environ | ({"ERL_LIBS": libraries} if libraries else environment())
    result = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=30, env=environ
    )
    if result.returncode != 0:
        raise ServerError(f"`make build` comes first; {applications}:\n{result.stdout[-2000:]}")
    return dict(line.split(" ", 1) for line in result.stdout.splitlines())
