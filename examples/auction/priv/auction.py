"""An auction: Erlang decides which bid counts, FastAPI talks to the bidders."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, HTTPException, WebSocket
from hornbeam_erlang import RemoteError, aio

app = FastAPI()


@app.post("/bids/{bidder}")
async def bid(bidder: str, amount: int) -> Any:
    """Bid; 409 where somebody has offered as much."""
    try:
        return await aio.call("bid", bidder, amount)
    except RemoteError as refusal:
        raise HTTPException(409, "somebody has offered as much") from refusal


@app.websocket("/bids")
async def watch(socket: WebSocket) -> None:
    """Send the highest bid, then each that counts: those Erlang writes, and Python sleeps."""
    await socket.accept()
    await aio.subscribe("bids", forward=True)
    await socket.send_json(await aio.call("highest"))
    async for _ in socket.iter_text():
        pass
