"""The edge to the app: streams as ASGI's scopes and events. Knows no pipe and no thread."""
