"""python-socketio's own tests of managers that publish, as they are published, of ours.

They make the managers that a subclass is made of: those names are here our subclasses.
"""

from __future__ import annotations

from importlib.metadata import version

import published
from visitors import environment

MANAGERS = """
import socketio.async_pubsub_manager
import socketio.pubsub_manager
from hornbeam_erlang.socketio import HornbeamManager, HornbeamSyncManager

socketio.async_pubsub_manager.AsyncPubSubManager = HornbeamManager
socketio.pubsub_manager.PubSubManager = HornbeamSyncManager
"""


def test_tests_of_socketio_for_its_managers_pass(tmp_path):
    tests = {
        f"tests/{kind}/test_pubsub_manager.py": f"test_{kind}.py" for kind in ("async", "common")
    }
    published.fetch(tmp_path, "python-socketio", version("python-socketio"), tests)
    (tmp_path / "conftest.py").write_text(MANAGERS)
    found, said = published.run(tmp_path, environment(HORNBEAM_SOCKET="off"))
    assert found["else"] == [], said
    assert len(found["passed"]) >= 100
