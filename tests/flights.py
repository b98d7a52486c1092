"""A relay before PostgreSQL's socket that counts flights: how often the client spoke after the server had spoken."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import make_url

_NAME = ".s.PGSQL.5432"


class Flights:
    """What went through so far."""

    def __init__(self) -> None:
        self.count = 0


@contextlib.contextmanager
def counted(url: str, directory: Path) -> Iterator[tuple[str, Flights]]:
    """The server's URL through the relay, whose socket is in this directory, and the count."""
    parsed = make_url(url)
    host = str(parsed.query.get("host", parsed.host))
    port = int(str(parsed.query.get("port", parsed.port or 5432)))
    flights, opened = Flights(), list[socket.socket]()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(directory / _NAME))
    listener.listen()

    def connect() -> socket.socket:
        if not host.startswith("/"):
            return socket.create_connection((host, port))
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{host}/.s.PGSQL.{port}")
        return server

    def carry(source: socket.socket, target: socket.socket, *, is_request: bool, spoke: list[bool]) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                flights.count += is_request and not spoke[0]
                spoke[0] = is_request
                target.sendall(piece)
            target.shutdown(socket.SHUT_WR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, server, spoke = listener.accept()[0], connect(), [False]
                opened.extend((client, server))
                for source, target, is_request in ((client, server, True), (server, client, False)):
                    options = {"is_request": is_request, "spoke": spoke}
                    threading.Thread(target=carry, args=(source, target), kwargs=options, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield (
            parsed.set(host=None, port=None, query={"host": str(directory)}).render_as_string(hide_password=False),
            flights,
        )
    finally:
        for one in (listener, *opened):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
