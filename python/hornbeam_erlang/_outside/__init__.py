"""Processes outside of all workers: how they find a node of their user's, and call it."""

import os

from hornbeam_erlang._ops.carrier import Carrier
from hornbeam_erlang.exceptions import NotConnected


def visit() -> Carrier:
    """Return what carries this process's ops; imported only by who is no worker and has one."""
    if os.name != "posix":
        raise NotConnected("this is not a Hornbeam worker, and no server runs on this system")
    from hornbeam_erlang._outside.visitor import carrier

    return carrier()
