async def application(scope, receive, send):
    if scope['type'] == 'websocket':
        try:
            await send({'type': 'websocket.accept'})
            await handle_websocket(scope, receive, send)
        except Exception as e:
            # Close with error code
            await send({
                'type': 'websocket.close',
                'code': 1011, # Internal error
                'reason': 'Internal server error'
            })
