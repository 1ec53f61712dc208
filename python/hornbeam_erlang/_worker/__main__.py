"""python -m hornbeam_erlang._worker: the life of a worker, from `hello` to `stopped`.

    hello ──start──► import ──► lifespan ──► ready ──stop──► drain ──► stopped
                        └───────────┴──► failed

Knows the order of things and which exit status ends them; the things themselves are elsewhere.
"""

from hornbeam_erlang._worker import process

process.take_over()

# ruff: noqa: E402 - the pipes are secured before anything else is imported
import asyncio
import atexit
import gc
import math
import os
import platform
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import hornbeam_erlang
from hornbeam_erlang._ops import identity
from hornbeam_erlang._ops.carrier import install, uninstall
from hornbeam_erlang._wire import packets
from hornbeam_erlang._worker import stacks
from hornbeam_erlang._worker.carrier import WorkerCarrier
from hornbeam_erlang._worker.config import Config
from hornbeam_erlang._worker.failure import Failure, describe
from hornbeam_erlang._worker.lifespan import Lifespan
from hornbeam_erlang._worker.loader import load, prepare_path
from hornbeam_erlang._worker.logs import Capture, Log, LogQueue
from hornbeam_erlang._worker.loops import new_loop, shut_generators, shut_threads
from hornbeam_erlang._worker.pipes import LAST_WORDS, Pipes
from hornbeam_erlang._worker.server import Server
from hornbeam_erlang._worker.wsgi import Wsgi
from hornbeam_erlang.exceptions import ProtocolError

# Said to who runs a free-threaded build of Python.
FREE_THREADED = (
    "this Python runs without its global interpreter lock, which Hornbeam does not support: "
    "use an ordinary build, or set the environment variable PYTHON_GIL to 1"
)

_log = Log("hornbeam.worker")


class Worker:
    """One run of this process."""

    def __init__(self) -> None:
        self._logs = LogQueue()
        self._capture = Capture(self._logs)
        self._pipes = Pipes(self._logs)
        # When the time of the stop is over (`time.monotonic`).
        self._end = math.inf
        os.register_at_fork(after_in_child=self._forked)

    def run(self) -> int:
        """Live; return the exit status."""
        self._pipes.send(packets.encode_hello(packets.VERSION, _about()))
        config = self._receive_config()
        self._capture.install()
        # What runs here and in the lifespan calls for the worker, whoever calls from elsewhere not.
        identity.current.set(identity.WORKER)
        carrier = WorkerCarrier(self._pipes, config)
        install(carrier)
        atexit.register(self._last_words)
        loop = self._new_loop(config)
        app = self._load(config)
        if config.threads is None:
            server = Server(app, self._pipes, loop, config, carrier)
        else:
            app = Wsgi(app, loop, config.threads, self._capture.errors)
            server = Server(app, self._pipes, loop, config, carrier, app.is_stuck)
        stacks.watch(server.tasks)
        self._pipes.start(loop, server)
        try:
            loop.run_until_complete(self._serve(server, Lifespan(app, config.lifespan)))
        except BaseException as error:  # SystemExit, from a task or a callback of the app
            _log.critical(f"the app has ended the event loop\n{describe(error).traceback}")
            return process.FAILED
        finally:
            self._pipes.stop()
            carrier.stop()
            carrier.topics.leave(0)  # wakes the threads that wait for a message
        loop.close()
        self._pipes.send(packets.encode_stopped())
        self._pipes.drain(LAST_WORDS)
        self._leave_in(self._end - time.monotonic())
        return process.STOPPED

    # Start

    def _receive_config(self) -> Config:
        message = self._pipes.receive()
        try:
            packets.check(message)
            if message[0] != packets.START:
                raise ProtocolError(f"message {message[0]} comes before start")
            config = Config.from_map(message[2])
        except (ProtocolError, ValueError) as error:
            self._fail("config", describe(error))
        if not getattr(sys, "_is_gil_enabled", lambda: True)():
            self._fail("config", Failure("RuntimeError", FREE_THREADED, ""))
        self._pipes.open_window(config.worker_window, config.tell_window)
        return config

    def _new_loop(self, config: Config) -> asyncio.AbstractEventLoop:
        """Make the loop before the import: an app may ask for it there."""
        try:
            loop = new_loop(config.loop)
        except ImportError as error:
            self._fail("config", describe(error))
        asyncio.set_event_loop(loop)
        self._capture.watch(loop)
        return loop

    def _load(self, config: Config) -> Any:
        configure = self._logging_of(sys.argv[1:])
        prepare_path(config.pythonpath)
        self._configure(configure)
        try:
            return load(config.app, config.interface)
        except BaseException as error:  # also SystemExit: an import must not end us silently
            self._fail("import", describe(error))

    def _logging_of(self, arguments: Sequence[str]) -> Callable[[], None]:
        """Read the file that this process was started with, while no folder of the app is in front.

        Return what configures logging by it.
        """
        del sys.argv[1:]  # it is none of the app's
        if not arguments:
            return lambda: None
        from hornbeam_erlang._worker import log_config

        try:
            return log_config.prepare(arguments[0])
        except ValueError as error:
            self._fail("config", Failure("ValueError", str(error), ""))

    def _configure(self, configure: Callable[[], None]) -> None:
        """Do it once classes of the app's modules can be found."""
        try:
            configure()
        except ValueError as error:
            self._fail("config", Failure("ValueError", str(error), ""))

    async def _serve(self, server: Server, lifespan: Lifespan) -> None:
        # An app may cancel all the tasks that there are: this one is none of its own.
        if (task := asyncio.current_task()) is not None:
            asyncio._unregister_task(task)
        failure = await lifespan.startup()
        if failure is not None:
            self._fail("lifespan", failure)
        server.share(lifespan.state)
        # What the app is made of stays: no collection has to look through it again.
        gc.collect()
        gc.freeze()
        about = {
            "loop": _loop_name(),
            "lifespan": lifespan.supported,
            "stacks": stacks.dump_at_a_signal(),
        }
        self._pipes.write(packets.encode_ready(about))
        seconds = await server.stopping
        await self._finish(server, lifespan, seconds)

    # End

    async def _finish(self, server: Server, lifespan: Lifespan, seconds: float) -> None:
        """Spend half of the time on handlers, a quarter on the lifespan, the rest on leaving."""
        self._end = time.monotonic() + seconds
        await server.finish(seconds / 2, seconds / 8)
        try:
            async with asyncio.timeout(seconds / 4):
                await lifespan.shutdown()
        except TimeoutError:
            _log.warning(f"the lifespan did not shut down within {seconds / 4:.1f} s")
        await _cancel_tasks(seconds / 32)
        await shut_generators(seconds / 32)
        if not await shut_threads(self._end - time.monotonic() - seconds / 32):
            _log.warning("threads of the event loop's executor still ran at the stop")

    def _leave_in(self, seconds: float) -> None:
        """End this process when its time is over, whatever threads of the app still run."""
        timer = threading.Timer(max(seconds, 0), self._leave)
        timer.daemon = True
        timer.start()

    def _leave(self) -> None:
        self._exit(process.STOPPED)

    def _fail(self, stage: str, failure: Failure) -> NoReturn:
        """Tell why this worker cannot start, and exit: also past threads that still run."""
        self._pipes.stop()
        self._pipes.send(packets.encode_failed(stage, *failure))
        self._exit(process.FAILED)

    def _exit(self, status: int) -> NoReturn:
        try:
            self._last_words()
        finally:
            os._exit(status)

    def _last_words(self) -> None:
        try:
            self._capture.finish()
        finally:
            self._pipes.drain(LAST_WORDS)

    def _forked(self) -> None:
        """Leave the wire to the parent."""
        atexit.unregister(self._last_words)
        self._logs.divert(2)
        self._capture.restore()
        uninstall()


async def _cancel_tasks(seconds: float) -> None:
    """Cancel what the app has left behind."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=seconds)


def _about() -> dict[str, Any]:
    return {
        "os_pid": os.getpid(),
        "python": platform.python_version(),
        "package": hornbeam_erlang.__version__,
    }


def _loop_name() -> str:
    return type(asyncio.get_running_loop()).__module__.partition(".")[0]


if __name__ == "__main__":
    sys.exit(Worker().run())
