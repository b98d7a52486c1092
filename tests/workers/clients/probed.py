"""Real services on loopback ports, to be probed: an MQTT broker (amqtt), an SNMP agent (pysnmp), a web application
(uvicorn), and a server that says whatever a test wants.
"""

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from typing import Any

from amqtt.broker import Broker
from fastapi import FastAPI, Response
from pysnmp.carrier.asyncio.dgram import udp
from pysnmp.entity import config
from pysnmp.entity.engine import SnmpEngine
from pysnmp.entity.rfc3413 import context
from pysnmp.entity.rfc3413.cmdrsp import GetCommandResponder

from tests.workers.web.conftest import serving

COMMUNITY = "public"
_ANONYMOUS = "amqtt.plugins.authentication.AnonymousAuthPlugin"


@contextmanager
def mqtt_broker(*, anonymous: bool = True) -> Iterator[str]:
    """A broker; its target. anonymous: whether who shows no login may connect."""

    @asynccontextmanager
    async def run() -> AsyncIterator[str]:
        target = f"127.0.0.1:{free_port()}"
        listeners = {"default": {"type": "tcp", "bind": target}}
        broker = Broker({"listeners": listeners, "plugins": {_ANONYMOUS: {"allow_anonymous": anonymous}}})
        await broker.start()
        yield target
        await broker.shutdown()

    with _in_a_thread(run) as target:
        yield target


@contextmanager
def snmp_agent() -> Iterator[str]:
    """An agent that answers COMMUNITY about the system group; its target."""

    @asynccontextmanager
    async def run() -> AsyncIterator[str]:
        engine, port = SnmpEngine(), free_port(socket.SOCK_DGRAM)
        transport: Any = udp.UdpTransport()
        config.add_transport(engine, udp.DOMAIN_NAME, transport.open_server_mode(("127.0.0.1", port)))
        config.add_v1_system(engine, "area", COMMUNITY)
        config.add_vacm_user(engine, 2, "area", "noAuthNoPriv", (1, 3, 6, 1, 2, 1, 1))
        GetCommandResponder(engine, context.SnmpContext(engine))
        while transport.transport is None:  # noqa: ASYNC110 - pysnmp has no event for it
            await asyncio.sleep(0.01)
        yield f"127.0.0.1:{port}"
        engine.close_dispatcher()

    with _in_a_thread(run) as target:
        yield target


@contextmanager
def web_application(status: int = 200, *, asked: list[str] | None = None) -> Iterator[str]:
    """An application that answers every path with this status; its URL. asked: gets the paths."""
    app = FastAPI()

    @app.get("/{path:path}")
    def answer(path: str) -> Response:
        if asked is not None:
            asked.append(path)
        return Response(status_code=status, headers={"Location": "/elsewhere"} if 300 <= status < 400 else None)

    with serving(app) as url:
        yield f"{url}/health"


@contextmanager
def says(*parts: bytes, pause_s: float = 0.0) -> Iterator[str]:
    """A server that sends these bytes to whoever connects, a pause after each, and then says no more; its target."""
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection:
                for part in parts:
                    try:
                        connection.sendall(part)
                    except OSError:
                        break
                    over.wait(pause_s)
                # why: what is unread when it closes would end the connection before what was sent has arrived. And
                # why not for ever: the next one may be waiting.
                connection.settimeout(0.5)
                with suppress(OSError):
                    while connection.recv(65_536):
                        pass

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        over.set()
        listening.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    """A port at which nothing listens."""
    with socket.socket(socket.AF_INET, kind) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def _in_a_thread(run: Callable[[], AbstractAsyncContextManager[str]]) -> Iterator[str]:
    """Enter an asynchronous context in a loop of its own, for the length of the block."""
    targets: list[str] = []
    failed: list[BaseException] = []
    ends: list[Callable[[], object]] = []

    async def stay() -> None:
        over, loop = asyncio.Event(), asyncio.get_running_loop()
        async with run() as target:
            ends.append(lambda: loop.call_soon_threadsafe(over.set))
            targets.append(target)
            await over.wait()

    def main() -> None:
        try:
            asyncio.run(stay())
        except BaseException as error:  # why: whatever it is, the test has to hear of it.
            failed.append(error)

    thread = threading.Thread(target=main)
    thread.start()
    deadline = time.monotonic() + 20
    while not targets and not failed and time.monotonic() < deadline:
        time.sleep(0.01)  # why: it waits for what another thread finds, up to a deadline
    assert targets, failed
    try:
        yield targets[0]
    finally:
        ends[0]()
        thread.join(20)
    assert not failed, failed
