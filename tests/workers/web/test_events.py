"""/api/events: what happens to tasks is told as it happens, to a bounded number, from one look for all."""

import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from dramatiq import Worker

from models import database
from tests import probes
from tests.servers import wait_until
from tests.workers.rows import row
from tests.workers.web.test_problems import problem_of
from tests.workers.web.tokens import as_, with_tokens
from workers import events
from workers.actors.diagnostics import run_self_test
from workers.events import QUEUE_MAX, Event, Feed, Follower, Look, feed
from workers.web import events as streams

__all__ = ["with_tokens"]


class Listening:
    """A client of the stream; reads in a thread."""

    def __init__(self, url: str, **headers: str) -> None:
        self.told: list[dict[str, Any]] = []
        self.status = 0
        self.headers: dict[str, str] = {}
        self._client = httpx2.Client(base_url=url, timeout=90)
        self._headers = headers
        self._leaving = threading.Event()
        self.thread = threading.Thread(target=self._read)
        self.thread.start()

    def _read(self) -> None:
        with self._client.stream("GET", "/api/events", headers=self._headers) as answer:
            self.headers = dict(answer.headers)
            self.status = answer.status_code
            one: dict[str, Any] = {}
            for line in answer.iter_lines():
                if self._leaving.is_set():
                    return
                name, _, value = line.partition(": ")
                if not line and "event" in one:
                    self.told.append(one)
                    one = {}
                elif name in ("id", "event"):
                    one[name] = value
                elif name == "data":
                    one["data"] = json.loads(value)

    def of(self, task_id: str) -> list[str]:
        """What was told of a task: its statuses."""
        return [one["data"]["status"] for one in self.told if one["data"].get("task_id") == task_id]

    def leave(self) -> None:
        self._leaving.set()
        run_self_test.send()  # why: whatever is told wakes the reading thread.
        self.thread.join(timeout=60)
        self._client.close()


@contextmanager
def listening(url: str, **headers: str) -> Iterator[Listening]:
    before = feed.looks
    made = Listening(url, **headers)
    wait_until(lambda: made.status == 200 and feed.looks > before, within_s=10, what="the stream to begin")
    try:
        yield made
    finally:
        made.leave()


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    """Nobody follows before and after."""
    yield
    wait_until(lambda: not feed.followers, within_s=20, what="all to leave")


def test_a_task_is_told_of_from_its_sending_to_its_end(
    api_url: str, bus: object, ledger_database: str, worker: Worker, tmp_path: Path
) -> None:
    with listening(api_url) as heard:
        task_id = probes.wait_for.send(str(tmp_path / "evidence"), "ran", str(tmp_path / "enough")).message_id
        wait_until(lambda: "running" in heard.of(task_id), within_s=10, what="its start to be told")
        (tmp_path / "enough").touch()
        wait_until(lambda: "completed" in heard.of(task_id), within_s=10, what="its end to be told")

    assert heard.headers["content-type"].startswith("text/event-stream")
    assert heard.of(task_id)[-2:] == ["running", "completed"]
    told = next(one for one in heard.told if one["data"].get("task_id") == task_id)
    assert (told["event"], told["data"]["task_name"], told["data"]["queue"]) == ("task", "probes.wait_for", "jobs")


@pytest.mark.usefixtures("system")
def test_a_cancelled_task_and_two_followers_cost_one_look(api_url: str) -> None:
    with listening(api_url) as first, listening(api_url) as second:
        task_id = run_self_test.send_with_options(delay=3_600_000).message_id
        wait_until(lambda: first.of(task_id) == second.of(task_id) == ["pending"], within_s=10, what="its sending")
        httpx2.post(f"{api_url}/api/tasks/{task_id}/cancel")
        wait_until(lambda: first.of(task_id)[-1] == second.of(task_id)[-1] == "cancelled", within_s=10, what="its end")

        assert sum(thread.name == "callboard-events" for thread in threading.enumerate()) == 1

    assert [one for one in first.told if one["event"] == "reset"] == []


@pytest.mark.usefixtures("system")
def test_who_was_cut_off_goes_on_where_he_was(api_url: str) -> None:
    with listening(api_url):
        with listening(api_url) as cut:
            seen = run_self_test.send().message_id
            wait_until(lambda: cut.of(seen), within_s=10, what="the first task")
            last = next(one["id"] for one in cut.told if one["data"]["task_id"] == seen)
        missed = run_self_test.send().message_id
        wait_until(lambda: row(missed), within_s=5, what="its row")

        with listening(api_url, **{"Last-Event-ID": last}) as again:
            wait_until(lambda: again.of(missed), within_s=10, what="what was missed")
            assert again.of(seen) == []


@pytest.mark.parametrize("last", ["", "nonsense", "00000000-5", "-", "x-99999999999999999999", "²-²"])
@pytest.mark.usefixtures("system")
def test_who_names_an_event_that_nobody_knows_is_told_to_read_anew(last: str) -> None:
    made = Feed()
    follower = made.follow(lambda: None, after=last)

    assert [one.kind for one in follower.take()] == ["reset"]
    made.leave(follower)


@pytest.mark.usefixtures("system")
def test_one_more_than_may_follow_is_refused(api: httpx2.Client) -> None:
    followers = [feed.follow(lambda: None) for _ in range(events.FOLLOWERS_MAX)]
    try:
        answer = api.get("/api/events")
    finally:
        for follower in followers:
            feed.leave(follower)

    assert "try again later" in str(problem_of(answer, 429)["detail"])
    assert answer.headers["retry-after"] == "10"


@pytest.mark.usefixtures("system", "with_tokens")
def test_one_token_cannot_keep_the_others_out(api: httpx2.Client, api_url: str) -> None:
    with ExitStack() as open_ones:
        for _ in range(events.FOLLOWERS_OF_ONE_MAX):
            open_ones.enter_context(api.stream("GET", "/api/events", headers=as_("read")))

        refused = api.get("/api/events", headers=as_("read"))
        with api.stream("GET", "/api/events", headers=as_("admin")) as other:
            assert other.status_code == 200

    assert "read has 20 streams of events open already: close one" in str(problem_of(refused, 429)["detail"])
    assert refused.headers["retry-after"] == "10"
    wait_until(lambda: not feed.followers, within_s=20, what="the server to notice that all have gone")
    with api.stream("GET", "/api/events", headers=as_("read")) as again:
        assert again.status_code == 200


@pytest.mark.usefixtures("system")
def test_a_stream_ends_so_that_its_token_is_looked_at_again(
    api: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "LIFE_S", 0.2)

    with api.stream("GET", "/api/events") as answer:
        told = list(answer.iter_lines())

    assert told[0] == "retry: 2000"
    wait_until(lambda: not feed.followers, within_s=10, what="its place to be free")


@pytest.mark.usefixtures("system")
def test_of_a_crowd_as_many_follow_as_may_and_the_others_are_sent_away(api: httpx2.Client, api_url: str) -> None:
    where = urlsplit(api_url)
    crowd = 4 * events.FOLLOWERS_MAX
    with ExitStack() as open_ones:
        clients = [
            open_ones.enter_context(socket.create_connection((str(where.hostname), where.port or 0), timeout=30))
            for _ in range(crowd)
        ]
        for client in clients:
            client.sendall(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        heads = [client.recv(65_536) for client in clients]

        answered = Counter(head.split(b" ")[1] for head in heads)
        assert answered == {b"200": events.FOLLOWERS_MAX, b"429": crowd - events.FOLLOWERS_MAX}
        assert all(b"connection: close" in head.lower() for head in heads if b" 429 " in head)
        assert api.get("/health/live").status_code == 200


def test_who_does_not_take_his_events_is_told_once_that_he_missed_some() -> None:
    follower = Follower(lambda: None)

    for number in range(QUEUE_MAX * 2 + 1):
        follower.put(Event(f"x-{number}", "task", {}))

    taken = follower.take()
    assert (taken[0].kind, len(taken)) == ("reset", 1)
    assert follower.take() == []


@pytest.mark.usefixtures("bus", "ledger_database")
def test_a_look_tells_what_changed_once_and_says_when_it_is_not_all() -> None:
    from datetime import UTC, datetime

    look = Look()
    assert look.changes(datetime.now(UTC)) == ([], True)
    message = run_self_test.send()

    changed, is_whole = look.changes(datetime.now(UTC))
    assert ([one["task_id"] for one in changed], is_whole) == ([message.message_id], True)
    assert look.changes(datetime.now(UTC)) == ([], True)
    run_self_test.send_many([{}] * events.LOOK_MAX)
    changed, is_whole = look.changes(datetime.now(UTC))
    assert (len(changed), is_whole) == (events.LOOK_MAX, False)


def test_a_ledger_that_cannot_be_read_is_told_and_its_return_too(api_url: str, system: object, tmp_path: Path) -> None:
    bound = database.bound_url()
    with listening(api_url) as heard:
        database.bind(f"sqlite:///{tmp_path / 'empty.db'}")
        try:
            wait_until(lambda: [one["event"] for one in heard.told] == ["stale"], within_s=10, what="stale")
        finally:
            database.bind(bound)
        wait_until(lambda: [one["event"] for one in heard.told][:2] == ["stale", "fresh"], within_s=10, what="fresh")
