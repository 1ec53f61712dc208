"""Python's end of the barest call: what comes by one pipe is called, in its order, and its result
goes by the other. No loop, no thread, no error is caught, nobody can cancel anything."""

import os

import msgpack
from calls import echo

FROM_NODE, TO_NODE = 3, 4


def main() -> None:
    """Answer until the pipe is closed."""
    unpacker = msgpack.Unpacker()
    pack = msgpack.Packer().pack
    while data := os.read(FROM_NODE, 1 << 20):
        unpacker.feed(data)
        results: list[bytes] = []
        for number, args in unpacker:
            result = pack((number, echo(*args)))
            results += len(result).to_bytes(4, "big"), result
        os.write(TO_NODE, b"".join(results))


main()
