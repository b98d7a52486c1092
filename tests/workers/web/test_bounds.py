"""What is too slow, too much, too often, or sent by another site's page is refused, and the server goes on."""

import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.workers.web.conftest import serving
from tests.workers.web.tokens import as_, refused_in_words, with_tokens
from workers import callboard, tasks
from workers.web import create_app
from workers.web.rate import RateLimit
from workers.web.server import HEADERS_MAX_BYTES, ImpatientProtocol

__all__ = ["with_tokens"]
SELF_TEST = {"task_name": "diagnostics.run_self_test"}
SEND = "/api/tasks/enqueue"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    """An API that waits for a tenth of a second and allows two requests a second."""
    monkeypatch.setattr(callboard.settings, "api_body_timeout_s", 0.1)
    monkeypatch.setattr(callboard.settings, "api_rate_per_s", 1.0)
    monkeypatch.setattr(ImpatientProtocol, "headers_timeout_s", 0.1)
    with serving(create_app()) as url:
        parts = urlsplit(url)
        yield str(parts.hostname), parts.port or 0


def answer_to(address: tuple[str, int], sent: bytes) -> bytes:
    """What comes back until the server closes the connection."""
    with socket.create_connection(address, timeout=10) as client:
        client.sendall(sent)
        received = b""
        while chunk := client.recv(65_536):
            received += chunk
        return received


@pytest.mark.usefixtures("refusing")
def test_a_body_that_does_not_come_is_given_up(impatient: tuple[str, int]) -> None:
    head = b"POST /api/tasks/enqueue HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"

    received = answer_to(impatient, head + b"Content-Length: 100\r\n\r\n{")

    assert received.startswith(b"HTTP/1.1 408 ")
    assert b"the body took longer than 0.1 s" in received


@pytest.mark.usefixtures("refusing")
def test_a_body_of_100_megabytes_is_refused_before_a_byte_of_it_is_read(impatient: tuple[str, int]) -> None:
    head = b"POST /api/tasks/enqueue HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"

    received = answer_to(impatient, head + b"Content-Length: 100000000\r\nConnection: close\r\n\r\n")

    assert received.startswith(b"HTTP/1.1 413 ")
    assert b"store large data and send its id" in received


@pytest.mark.parametrize("sent", [b"", b"GET /health/live HT", b"GET /health/live HTTP/1.1\r\nHost: local"])
def test_headers_that_do_not_come_are_given_up(impatient: tuple[str, int], sent: bytes) -> None:
    assert answer_to(impatient, sent) == b""


def test_a_slow_answer_is_not_cut_off(monkeypatch: pytest.MonkeyPatch, system: object) -> None:
    monkeypatch.setattr(ImpatientProtocol, "headers_timeout_s", 0.05)
    app = create_app()
    import threading  # why: one event that makes the answer wait, and nothing else here needs it.

    released = threading.Event()
    app.get("/slow")(lambda: released.wait(0.3))

    with serving(app) as url:
        assert httpx2.get(f"{url}/slow").status_code == 200


def test_headers_without_end_are_refused(impatient: tuple[str, int]) -> None:
    received = answer_to(impatient, b"GET /health/live HTTP/1.1\r\nX: " + b"x" * (HEADERS_MAX_BYTES + 70_000))

    assert received == b"" or received.startswith(b"HTTP/1.1 400 ")


@pytest.mark.usefixtures("with_tokens", "system")
def test_a_token_that_asks_too_often_waits_and_the_others_do_not(impatient: tuple[str, int]) -> None:
    with httpx2.Client(base_url=f"http://{impatient[0]}:{impatient[1]}") as client:
        answers = [client.get("/api/chores", headers=as_("read")) for _ in range(20)]
        other = client.get("/api/chores", headers=as_("admin"))

    refused = [answer for answer in answers if answer.status_code != 200]
    assert "CALLBOARD_API_RATE_PER_S" in refused_in_words(refused[0], 429)
    assert int(refused[0].headers["retry-after"]) >= 1
    assert (answers[0].status_code, other.status_code) == (200, 200)


def test_a_bucket_holds_two_seconds_worth_and_fills_steadily() -> None:
    limit = RateLimit(10)

    assert [limit.take("ci", 0.0) for _ in range(20)] == [0.0] * 20
    assert limit.take("ci", 0.0) == pytest.approx(0.1)
    assert limit.take("ops", 0.0) == 0
    assert limit.take("ci", 0.1) == 0
    assert limit.take("ci", 0.1) > 0
    assert [limit.take("ci", 1_000.0) for _ in range(20)] == [0.0] * 20
    assert limit.take("ci", 999.0) > 0


@pytest.mark.parametrize("headers", [
    {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"}, {"origin": "https://evil.example"},
    {"origin": "null"}, {"content-type": "text/plain"}, {"content-type": "application/x-www-form-urlencoded"},
    {"content-type": "multipart/form-data; boundary=x"}, {"content-type": "Text/Plain;charset=utf-8"},
])  # fmt: skip
@pytest.mark.usefixtures("refusing")
def test_nothing_acts_for_the_page_of_another_site(api: httpx2.Client, headers: dict[str, str]) -> None:
    given = {"content-type": "application/json"} | headers

    answer = api.post(SEND, content=b'{"task_name": "diagnostics.run_self_test"}', headers=given)

    refused_in_words(answer, 403)
    assert tasks.get_task_count() == 0


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "localhost.evil", ""])
@pytest.mark.usefixtures("refusing")
def test_a_name_that_was_made_to_point_here_opens_nothing(api: httpx2.Client, host: str) -> None:
    assert "set CALLBOARD_API_TOKENS" in refused_in_words(api.get("/api/tasks/", headers={"host": host}), 403)


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "callboard.localhost"])
@pytest.mark.usefixtures("refusing")
def test_this_machines_own_names_are_taken(api: httpx2.Client, host: str) -> None:
    assert api.get("/api/tasks/", headers={"host": host}).status_code == 200


@pytest.mark.usefixtures("system")
def test_the_same_sites_own_page_may_act(api: httpx2.Client) -> None:
    headers = {"sec-fetch-site": "same-origin", "origin": str(api.base_url).rstrip("/")}

    assert api.post(SEND, json=SELF_TEST, headers=headers).status_code == 201


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("path", ["/api/tasks/enqueue", "/api/tasks/x/cancel"])
@pytest.mark.usefixtures("refusing")
def test_looking_has_no_effect_and_no_answer_is_for_other_origins(api: httpx2.Client, method: str, path: str) -> None:
    answer = api.request(method, path, headers={"origin": "https://evil.example"})

    assert answer.status_code in (404, 405)
    assert not [name for name in answer.headers if name.startswith("access-control")]


INJECTIONS = [
    "' OR 1=1--",
    "'; DROP TABLE background_tasks;--",
    "%",
    "_",
    "\x00",
    "$.a",
    "*",
    "a\r\nX-Evil: 1",
    "\u202e",
]


@pytest.mark.parametrize("field", ["who", "action", "target"])
@pytest.mark.parametrize("value", INJECTIONS)
@pytest.mark.usefixtures("refusing")
def test_a_filter_finds_what_is_equal_and_nothing_else(api: httpx2.Client, field: str, value: str) -> None:
    answer = api.get("/api/audit", params={field: value})

    assert (answer.status_code, answer.json()["entries"]) == (200, [])
    assert "x-evil" not in answer.headers


@pytest.mark.parametrize("query", [
    "limit=0", "limit=-1", "limit=1000000000", "limit=9223372036854775808", "before_id=0",
    "before_id=9223372036854775808",
    "since=yesterday", "since=2026-01-01T00:00:00", "until=9999-99-99", "who=" + "x" * 201, "since=-1e400", "until=0.5",
])  # fmt: skip
@pytest.mark.usefixtures("refusing")
def test_a_filter_out_of_bounds_is_refused(api: httpx2.Client, query: str) -> None:
    refused_in_words(api.get(f"/api/audit?{query}"), 422)
