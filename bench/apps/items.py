"""The FastAPI app of the HTTP benchmark: an object whose number is in the path."""

from fastapi import FastAPI

application = FastAPI()


@application.get("/items/{number}")
async def item(number: int) -> dict[str, int | str]:
    """Return the item of this number."""
    return {"id": number, "name": f"item {number}"}
