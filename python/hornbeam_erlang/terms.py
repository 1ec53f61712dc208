"""Python types for the Erlang terms that Python has no type for.

Pure values: knows nothing of the wire that carries them. An Erlang tuple is a Python `tuple`,
a list a `list`, a binary `bytes` or, where Erlang sends it as text, `str`.
"""

from dataclasses import dataclass

__all__ = ["Atom", "Term"]


class Atom(str):
    """Name an Erlang atom; equal to the `str` of the same name.

    Erlang receives it as an atom only where such an atom already exists.

    >>> Atom("ok")
    Atom('ok')
    >>> Atom("ok") == "ok"
    True
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return f"Atom({str.__repr__(self)})"


@dataclass(frozen=True, slots=True)
class Term:
    """Hold a pid, reference, port or fun, to be handed back to Erlang as it is.

    `data` is Erlang's external term format and means nothing to Python.
    """

    data: bytes
