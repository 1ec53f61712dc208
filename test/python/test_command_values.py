"""What users write, and the terms that become of it."""

import pytest
from hornbeam_erlang._command.values import Kind, did_you_mean, read, shown
from hornbeam_erlang.terms import Atom

INFINITY = ("infinity",)


@pytest.mark.parametrize(
    ("kind", "given", "term"),
    [
        (Kind.DURATION, "30", 30_000),
        (Kind.DURATION, "30s", 30_000),
        (Kind.DURATION, "30 s", 30_000),
        (Kind.DURATION, "0.25", 250),
        (Kind.DURATION, "1.5s", 1500),
        (Kind.DURATION, "250ms", 250),
        (Kind.DURATION, "5m", 300_000),
        (Kind.DURATION, "2h", 7_200_000),
        (Kind.DURATION, "1d", 86_400_000),
        (Kind.DURATION, 20, 20_000),
        (Kind.DURATION, 20.0, 20_000),
        (Kind.DURATION, "infinity", Atom("infinity")),
        (Kind.SIZE, "16777216", 16_777_216),
        (Kind.SIZE, "16M", 16_777_216),
        (Kind.SIZE, "16m", 16_777_216),
        (Kind.SIZE, "16 MiB", 16_777_216),
        (Kind.SIZE, "16MB", 16_777_216),
        (Kind.SIZE, "64K", 65_536),
        (Kind.SIZE, "1G", 1_073_741_824),
        (Kind.SIZE, "7B", 7),
        (Kind.SIZE, 7, 7),
        (Kind.COUNT, "4", 4),
        (Kind.COUNT, "-1", -1),
        (Kind.COUNT, 4, 4),
        (Kind.COUNT, "infinity", Atom("infinity")),
        (Kind.SWITCH, "yes", True),
        (Kind.SWITCH, "False", False),
        (Kind.SWITCH, "0", False),
        (Kind.SWITCH, True, True),
        (Kind.NAMES, "a, b", ["a", "b"]),
        (Kind.NAMES, ["a,b", "c"], ["a", "b", "c"]),
        (Kind.NAMES, "", []),
        (Kind.PATHS, "/a:/b c", ["/a", "/b c"]),
        (Kind.FIELDS, "A=b=c", {"A": "b=c"}),
        (Kind.FIELDS, ["A=b", "C="], {"A": "b", "C": ""}),
        (Kind.FIELDS, {"A": "b", "N": 5}, {"A": "b", "N": "5"}),
        (Kind.TEXT, "größe", "größe"),
    ],
)
def test_value_is_read(kind, given, term):
    found = read(kind, given, INFINITY)
    assert (found, type(found)) == (term, type(term))


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        *((Kind.DURATION, given) for given in ("", "s", "30x", "-1", "1h30m", "5 min", True, [])),
        *((Kind.SIZE, given) for given in ("", "M", "1.5M", "16T", "-1", 1.5, True, {})),
        *((Kind.COUNT, given) for given in ("", "four", "1.5", 1.5, True, [])),
        *((Kind.SWITCH, given) for given in ("", "maybe", 2)),
        *((Kind.NAMES, given) for given in (5, [5], True)),
        *((Kind.FIELDS, given) for given in ("A", "=b", {"A": []}, {"A": True})),
        *((Kind.TEXT, given) for given in (5, True, [])),
    ],
)
def test_what_is_of_another_kind_is_refused(kind, given):
    with pytest.raises(ValueError, match=r"is not|has a value"):
        read(kind, given, INFINITY)


@pytest.mark.parametrize(
    ("kind", "term", "written"),
    [
        (Kind.DURATION, 30_000, "30s"),
        (Kind.DURATION, 90_000, "90s"),
        (Kind.DURATION, 300_000, "5m"),
        (Kind.DURATION, 250, "250ms"),
        (Kind.DURATION, 0, "0"),
        (Kind.SIZE, 16_777_216, "16M"),
        (Kind.SIZE, 16_777_217, "16777217"),
        (Kind.SIZE, 65_536, "64K"),
    ],
)
def test_term_is_shown_as_it_would_be_written(kind, term, written):
    assert shown(kind, term) == written
    assert read(kind, written) == term


def test_word_that_is_meant_is_named():
    with pytest.raises(ValueError, match="did you mean uvloop"):
        read(Kind.WORD, "uvlop", ("auto", "uvloop", "asyncio"))
    assert did_you_mean("something", ["else"]) == ""
