"""An app that can be imported only while the file that $BROKEN names does not exist."""

import os
from pathlib import Path

from sockets import application  # noqa: F401 - what is served

if Path(os.environ["BROKEN"]).exists():
    raise RuntimeError("the import is broken now")
