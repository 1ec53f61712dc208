"""An app whose import waits as long as the file that $HELD names exists."""

import os
import time
from pathlib import Path

from exchanges import application  # noqa: F401 - what is served

while Path(os.environ["HELD"]).exists():
    time.sleep(0.01)
