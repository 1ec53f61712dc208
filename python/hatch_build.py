"""Tags a wheel that carries an Erlang as one of this platform; tools/wheel.py makes both kinds."""

import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CarriedErlang(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if any(Path(self.root, "hornbeam_erlang", "_erlang").glob("erts-*")):
            platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data |= {"pure_python": False, "tag": f"py3-none-{platform}"}
