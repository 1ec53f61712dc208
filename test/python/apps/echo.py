"""Echoes: what a WebSocket says, or the body of a request."""


async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await echo_messages(receive, send)
    elif scope["type"] == "http":
        await echo_body(receive, send)
    else:
        raise NotImplementedError(scope["type"])


async def echo_messages(receive, send):
    await send({"type": "websocket.accept"})
    while True:
        event = await receive()
        if event["type"] == "websocket.disconnect":
            return
        if event["type"] == "websocket.receive":
            await send(event | {"type": "websocket.send"})


async def echo_body(receive, send):
    headers = [(b"content-type", b"application/octet-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    more = True
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            return
        more = event["more_body"]
        await send({"type": "http.response.body", "body": event["body"], "more_body": more})
