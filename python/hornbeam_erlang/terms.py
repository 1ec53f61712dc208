"""Python types for the Erlang terms that Python has no type for.

Pure values: knows nothing of the wire that carries them. An Erlang tuple is a Python `tuple`,
a list a `list`, a binary `str` when it is UTF-8 and else `bytes`; `undefined`, `nil` and `null`
are `None`.
"""

from dataclasses import dataclass

__all__ = ["Atom", "Fun", "Pid", "Port", "Reference", "Term"]


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
    """Hold a term that only Erlang can look into, to be handed back to it as it is.

    `data` is Erlang's external term format and means nothing to Python. Two are equal when they
    are the same term; they may be keys of a dict.

    >>> Pid(b"1") == Pid(b"1"), Pid(b"1") == Reference(b"1")
    (True, False)
    """

    data: bytes


class Pid(Term):
    """Hold the identifier of an Erlang process."""

    __slots__ = ()


class Reference(Term):
    """Hold an Erlang reference."""

    __slots__ = ()


class Port(Term):
    """Hold an Erlang port."""

    __slots__ = ()


class Fun(Term):
    """Hold an Erlang fun, which Python can keep and hand back but not call."""

    __slots__ = ()
