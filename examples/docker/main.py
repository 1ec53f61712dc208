"""What the image serves: a page, an echo, and who is alive."""

from fastapi import FastAPI, WebSocket

app = FastAPI()


@app.get("/")
def hello() -> dict[str, str]:
    """Greet."""
    return {"hello": "world"}


@app.get("/health")
async def health() -> dict[str, bool]:
    """Answer, which a worker that hangs does not."""
    return {"alive": True}


@app.websocket("/echo")
async def echo(socket: WebSocket) -> None:
    """Send back what comes."""
    await socket.accept()
    async for text in socket.iter_text():
        await socket.send_text(text)
