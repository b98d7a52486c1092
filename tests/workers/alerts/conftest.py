"""A real HTTP server that keeps what it is told, and settings that name it."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from pydantic import SecretStr

from tests.workers.actors.conftest import mails
from workers import callboard

__all__ = ["mails", "webhook"]


@dataclass
class Webhook:
    """What was posted, and what is answered: the next of `answers`, or 200."""

    port: int = 0
    posted: list[dict[str, Any]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)

    @property
    def titles(self) -> list[str]:
        """Of what was taken, sorted."""
        return sorted(one["title"] for one in self.posted)


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    """A webhook, named by the settings."""
    kept = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            answer = kept.answers.pop(0) if kept.answers else 200
            if answer == 200:
                kept.posted.append(body)
            self.send_response(answer)
            if answer == 302:
                self.send_header("Location", f"http://127.0.0.1:{kept.port}/elsewhere")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    kept.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    url = SecretStr(f"json://127.0.0.1:{kept.port}/s3cret-path")
    monkeypatch.setattr(callboard.settings, "alert_channels", (url,))
    yield kept
    server.shutdown()
    thread.join()
    server.server_close()
