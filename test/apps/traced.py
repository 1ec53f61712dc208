"""An app with OpenTelemetry's ASGI instrumentation, as the guide sets it up.

Its spans go into a file, a line each: kept in memory until a batch is due, or the app shuts down.
"""

import json
import os
from contextlib import asynccontextmanager
from pathlib import Path

from opentelemetry import trace
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import format_span_id, format_trace_id
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute


class File(SpanExporter):
    def export(self, spans):
        with Path(os.environ["SPANS"]).open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(described(span)) + "\n" for span in spans)
        return SpanExportResult.SUCCESS


def described(span):
    return {
        "name": span.name,
        "trace": format_trace_id(span.context.trace_id),
        "id": format_span_id(span.context.span_id),
        "parent": span.parent and format_span_id(span.parent.span_id),
        "state": str(span.context.trace_state.to_header()),
        "attributes": dict(span.attributes),
        "pid": os.getpid(),
    }


provider = TracerProvider()
# No batch is due within a test: what is in the file was written at the end of a worker.
provider.add_span_processor(BatchSpanProcessor(File(), schedule_delay_millis=600_000))
trace.set_tracer_provider(provider)


async def hello(request):
    with trace.get_tracer(__name__).start_as_current_span("inside"):
        return PlainTextResponse("hello")


async def echo(websocket):
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


@asynccontextmanager
async def lifespan(app):
    yield
    provider.shutdown()


application = OpenTelemetryMiddleware(
    Starlette(
        routes=[Route("/hello", hello), WebSocketRoute("/echo", echo)],
        lifespan=lifespan,
    ),
    exclude_spans=["receive", "send"],
)
