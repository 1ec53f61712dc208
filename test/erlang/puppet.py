#!/usr/bin/env -S python3 -S -E
"""The Python side of hornbeam_puppet: between the wire's pipes and a socket of the test."""

import os
import select
import signal
import socket

DEAF = os.environ["PUPPET_DEAF"] == "true"
HANGS_UP = os.environ["PUPPET_HANGS_UP"] == "true"
FROM_BEAM, TO_BEAM = 3, 4

test = socket.create_connection(("127.0.0.1", int(os.environ["PUPPET"])))
test.sendall(os.getpid().to_bytes(4, "big"))

sources = [test] if DEAF else [test, FROM_BEAM]
while True:
    ready, _, _ = select.select(sources, [], [])
    if test in ready:
        told = test.recv(1 << 20)
        if not told and HANGS_UP:
            os.close(FROM_BEAM)
            test.shutdown(socket.SHUT_WR)
            signal.pause()
        if not told:
            break
        try:
            while told:
                told = told[os.write(TO_BEAM, told) :]
        except BrokenPipeError:  # it has been cut off
            break
    if FROM_BEAM in ready:
        heard = os.read(FROM_BEAM, 1 << 20)
        if not heard:
            break
        test.sendall(heard)
