# chat.py
from hornbeam_erlang import publish, subscribe, unsubscribe
import asyncio
import json

async def application(scope, receive, send):
    if scope['type'] == 'websocket':
        await send({'type': 'websocket.accept'})

        # Get room from path: /chat/room-name
        path = scope.get('path', '/chat/default')
        room = path.split('/')[-1] or 'default'
        topic = f'chat:{room}'

        # Subscribe to room
        subscribe(topic)

        try:
            # Create tasks for receiving from client and pub/sub
            await handle_chat(scope, receive, send, topic)
        finally:
            unsubscribe(topic)

async def handle_chat(scope, receive, send, topic):
    while True:
        message = await receive()

        if message['type'] == 'websocket.disconnect':
            break

        if message['type'] == 'websocket.receive':
            text = message.get('text', '')
            data = json.loads(text)

            # Broadcast to all subscribers
            publish(topic, {
                'type': 'message',
                'user': data.get('user', 'anonymous'),
                'text': data.get('text', '')
            })

        # Check for pub/sub messages
        pubsub_msg = check_pubsub()
        if pubsub_msg:
            await send({
                'type': 'websocket.send',
                'text': json.dumps(pubsub_msg)
            })
