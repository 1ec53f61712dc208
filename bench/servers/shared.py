"""Run a command several times over one listening socket, as supervisor's `fcgi-program` does.

`python shared.py COUNT COMMAND…`: each of them finds the socket as its descriptor 0. Knows
nothing of what they serve; ends them when it is ended.
"""

import signal
import socket
import subprocess
import sys

BACKLOG = 4096


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    count, *command = sys.argv[1:]
    with socket.create_server(("127.0.0.1", 0), backlog=BACKLOG) as listener:
        processes = [subprocess.Popen(command, stdin=listener) for _ in range(int(count))]
    try:
        for process in processes:
            process.wait()
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait()


if __name__ == "__main__":
    main()
