"""The cases of the Autobahn test suite, made to run under the Python that is there.

The suite (`autobahntestsuite` on PyPI) is for Python 2.7 and needs an old Twisted. Its cases are
plain classes that drive a client by a few methods. So only they are taken: unpacked, converted by
`lib2to3` and given stand-ins for what they import. Text and bytes were one thing in Python 2;
here every payload of a case is a `str` of code points below 256, one for each byte. Nothing of
the suite is kept in this repository.
"""

from __future__ import annotations

import binascii
import builtins
import importlib
import re
import subprocess
import sys
import tarfile
import types
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VERSION = "25.10.1"

SUBSTITUTIONS = [
    (r"binascii\.(b2a_hex|hexlify)\(", "in_hex("),
    (r"\.encode\(\"utf-8\"\)", '.encode("utf-8").decode("latin-1")'),
    (r"msg\.encode\('utf-8'\)", "msg.encode('utf-8').decode('latin-1')"),
    (r"msg\.decode\('utf-8'\)", "in_bytes(msg).decode('utf-8')"),
    (r"\.update\(msg\)", ".update(in_bytes(msg))"),
    (r"\(object, Case, \)", "(Case, )"),
    (r"\.tostring\(\)", ".tobytes().decode('latin-1')"),
    (r"len\(self\.payload\) / ", "len(self.payload) // "),
    (r"self\.testData = open\((.*)\)\.read\(\)", r"self.testData = read_once(\1)"),
]


def load(folder: Path) -> list[type]:
    """Return the suite's case classes, in its order; download and convert them when needed."""
    package = folder / VERSION / "case"
    if not package.exists():
        convert(source(folder), package)
    stand_in(package.parent / "testdata")
    sys.path.insert(0, str(package.parent))
    module = importlib.import_module("case")
    case_class = importlib.import_module("case.case").Case
    case_class.compare = lambda self, one, other: one == other
    return list(module.Cases)


def source(folder: Path) -> Path:
    """Download the suite and return the folder of its code."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [f"autobahntestsuite=={VERSION}", "--no-deps", "--no-binary", ":all:"]
    quiet = ["--quiet", "--disable-pip-version-check", "-d", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "download", *wanted, *quiet], check=True)
    archive = next(folder.glob(f"autobahntestsuite-{VERSION}.tar.*"))
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    return folder / f"autobahntestsuite-{VERSION}" / "autobahntestsuite"


def convert(code: Path, package: Path) -> None:
    """Write the cases as Python 3; a character of a source is a byte of it, as it was in 2."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            from lib2to3.refactor import RefactoringTool, get_fixers_from_package
        except ImportError:
            raise SystemExit("lib2to3 is needed: run with Python 3.12 or older") from None
    tool = RefactoringTool(get_fixers_from_package("lib2to3.fixes"), {}, [])
    partly = package.with_suffix(".part")
    partly.mkdir(parents=True, exist_ok=True)
    for file in sorted((code / "case").glob("*.py")):
        old = file.read_text("latin-1").split("def test_utf8(")[0]
        if file.name == "case6_x_x.py":
            old += "Case6_X_X = []" + file.read_text("latin-1").split("Case6_X_X = []")[1]
            old = old.split("def test_encode(")[0]
        # lib2to3 looks for siblings beside the file of this name to make imports relative.
        new = str(tool.refactor_string(old.expandtabs(3).rstrip() + "\n", str(file)))
        for pattern, text in SUBSTITUTIONS:
            new = re.sub(pattern, text, new)
        (partly / file.name).write_text(new.replace("coding=utf-8", ""), "utf-8")
    (code / "testdata").rename(package.parent / "testdata")
    partly.rename(package)


def stand_in(testdata: Path) -> None:
    """Put in place what the cases import and what the substitutions call."""
    builtins.in_bytes = in_bytes  # type: ignore[attr-defined]
    builtins.in_hex = lambda data: binascii.b2a_hex(in_bytes(data)).decode()  # type: ignore[attr-defined]
    builtins.read_once = read_once  # type: ignore[attr-defined]
    names: dict[str, dict[str, Any]] = {
        "autobahn": {},
        "autobahn.websocket": {},
        "autobahn.websocket.protocol": {"WebSocketProtocol": States},
        "autobahn.websocket.compress": {
            "PerMessageDeflateOffer": Offer,
            "PerMessageDeflateOfferAccept": None,
            "PerMessageDeflateResponse": None,
            "PerMessageDeflateResponseAccept": None,
        },
        "autobahn.websocket.utf8validator": {"Utf8Validator": Validator},
        "zope": {},
        "zope.interface": {"implements": lambda *_: None, "implementer": lambda *_: lambda c: c},
        "twisted": {},
        "twisted.internet": {"reactor": None, "interfaces": Anything()},
        "pkg_resources": {
            "resource_filename": lambda _, name: str(testdata / name.removeprefix("testdata/")),
        },
    }
    for name, members in names.items():
        module = types.ModuleType(name)
        vars(module).update(members)
        sys.modules[name] = module


class Anything:
    def __getattr__(self, name: str) -> type:
        return type(name, (), {})


class Validator:
    """Say twice whether text is good: the cases ask for that, and whether it may end there."""

    def reset(self) -> None:
        pass

    def validate(self, text: str) -> tuple[bool, bool]:
        try:
            in_bytes(text).decode("utf-8")
        except UnicodeDecodeError:
            return False, False
        return True, True


class States:
    """How far a connection is."""

    STATE_CLOSED, STATE_CONNECTING, STATE_CLOSING, STATE_OPEN = 0, 1, 2, 3


@dataclass
class Offer:
    """What a client offers of permessage-deflate."""

    acceptNoContextTakeover: bool = True
    acceptMaxWindowBits: bool = True
    requestNoContextTakeover: bool = False
    requestMaxWindowBits: int = 0

    def header(self) -> str:
        parts = ["permessage-deflate"]
        parts += ["client_no_context_takeover"] * self.acceptNoContextTakeover
        parts += ["client_max_window_bits"] * self.acceptMaxWindowBits
        parts += ["server_no_context_takeover"] * self.requestNoContextTakeover
        if self.requestMaxWindowBits:
            parts.append(f"server_max_window_bits={self.requestMaxWindowBits}")
        return "; ".join(parts)


def in_bytes(data: str | bytes) -> bytes:
    return data if isinstance(data, bytes) else data.encode("latin-1")


FILES: dict[tuple[Any, ...], bytes] = {}


def read_once(*asked: Any) -> bytes:
    if asked not in FILES:
        FILES[asked] = Path(asked[0]).read_bytes()
    return FILES[asked]


def identity(case: type) -> str:
    """Name a case as the suite's reports do: 1.1.1."""
    return case.__name__.removeprefix("Case").replace("_", ".")
