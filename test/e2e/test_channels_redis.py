"""channels_redis' own tests, as they are published, of our layer and a real node.

They import `channels_redis.core`: that is here a module of a few lines, which names our layer so.
"""

from __future__ import annotations

import published
import pytest
from visitors import at

VERSION = "4.3.0"

LAYER = """
from hornbeam_erlang.channels import ChannelFull, HornbeamChannelLayer

class RedisChannelLayer(HornbeamChannelLayer):
    def __init__(self, hosts=None, **config):
        super().__init__(**config)
"""

# What cannot pass, and why.
LEFT_OUT = {
    "test_default_group_key_format": "asks for a key of Redis",
    "test_custom_group_key_format": "asks for a key of Redis",
    "test_receive_buffer_respects_capacity": "asks for a buffer that only their layer has",
    # Upstream expects that, too: its first message has 3 s, and is read 1 + 1 + 1 s later.
    "test_message_expiry__group_send__one_channel_expires_message": "contradicts itself",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the published tests and the module that they import."""
    folder = tmp_path_factory.mktemp("channels_redis")
    published.fetch(folder, "channels_redis", VERSION, {"tests/test_core.py": "test_core.py"})
    (folder / "channels_redis").mkdir()
    (folder / "channels_redis" / "core.py").write_text(LAYER)
    return folder


def test_tests_of_channels_redis_pass(serve, folder):
    server = serve("console:application", workers=2)
    found, said = published.run(folder, at(server))
    assert sorted(found["else"]) == sorted(LEFT_OUT), said
    assert "test_receive_cancel" in found["passed"]
    assert len(found["passed"]) == 24
