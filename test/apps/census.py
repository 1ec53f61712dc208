"""An app that counts the sockets that it holds, in state that belongs to each of them."""

import os
import uuid

from hornbeam_erlang import state_incr, state_set

from gallery import gallery
from sockets import accept, messages, say


async def join(scope, receive, send):
    """Count this socket among those of the crowd that the path names; then say which worker."""
    crowd = scope["path"].split("/")[-1]
    await accept(send)
    state_incr((crowd, "count"), scope="connection")
    state_set((crowd, "member", uuid.uuid4().hex), os.getpid(), scope="connection")
    await say(send, str(os.getpid()))
    async for _ in messages(receive):
        pass


application = gallery(globals())
