"""A TCP proxy in front of a server's unix socket, that spoils what it is told to.

Each client connection is two threads, one a direction. A fault is asked for each piece of a request (a piece is what
one `recv` brings: of a client that waits for its answers, one command).
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from enum import Enum


class Fault(Enum):
    """What happens to a request: NONE; DROP: the connection is cut before the server sees it; CUT: the server executes
    it, and the connection is cut instead of the answer; DELAY: the server sees it after the client's patience; RESET:
    as CUT, with a TCP reset."""

    NONE = 0
    DROP = 1
    CUT = 2
    DELAY = 3
    RESET = 4


Chooser = Callable[[bytes], Fault]


class Proxy:
    """Listens on the loopback. choose: given the bytes of a request, returns its fault; may be replaced at any time."""

    def __init__(self, socket_path: str, *, delay_s: float = 1.0) -> None:
        self._socket_path = socket_path
        self._delay_s = delay_s
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.choose: Chooser = lambda _request: Fault.NONE
        self.faults = 0
        self._closed = False
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def close(self) -> None:
        """Cuts everything."""
        self._closed = True
        for each in [self._listener, *self._sockets]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._socket_path)
            except OSError:
                continue
            self._sockets += [client, server]
            cut = threading.Event()
            threading.Thread(target=self._requests, args=(client, server, cut), daemon=True).start()
            threading.Thread(target=self._answers, args=(client, server, cut), daemon=True).start()

    def _requests(self, client: socket.socket, server: socket.socket, cut: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while piece := client.recv(1 << 20):
                fault = self.choose(piece)
                if fault is not Fault.NONE:
                    self.faults += 1
                if fault is Fault.DROP:
                    break
                if fault is Fault.DELAY:
                    time.sleep(self._delay_s)  # why: the fault is that it comes late
                if fault in (Fault.CUT, Fault.RESET):
                    cut.set()
                server.sendall(piece)
                if fault in (Fault.CUT, Fault.RESET):
                    # Its answer is what tells that it was executed; the other direction throws it away.
                    return
        self._end(client, server)

    def _answers(self, client: socket.socket, server: socket.socket, cut: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while piece := server.recv(1 << 20):
                if cut.is_set():
                    with contextlib.suppress(OSError):
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
                    break
                client.sendall(piece)
        self._end(client, server)

    def _end(self, *pair: socket.socket) -> None:
        for each in pair:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
