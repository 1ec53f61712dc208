"""A FastAPI app that takes files."""

import hashlib

from fastapi import FastAPI, UploadFile

app = FastAPI()


@app.post("/upload")
async def upload(file: UploadFile) -> str:
    data = await file.read()
    return f"{len(data)} {hashlib.sha256(data).hexdigest()}"


@app.get("/hello")
async def hello() -> str:
    return "hello"
