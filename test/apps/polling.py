"""A chat as the guide's, but that its handler waits no longer than a minute for an event."""

import asyncio

from hornbeam_erlang import check_pubsub, publish, subscribe


async def application(scope, receive, send):
    if scope["type"] != "websocket":
        raise NotImplementedError
    topic = scope["query_string"].decode()
    await send({"type": "websocket.accept"})
    subscribe(topic)
    await send({"type": "websocket.send", "text": "subscribed"})
    while (event := await asyncio.wait_for(receive(), 60))["type"] != "websocket.disconnect":
        if "text" in event:
            publish(topic, event["text"])
        if (message := check_pubsub()) is not None:
            await send({"type": "websocket.send", "text": message})
