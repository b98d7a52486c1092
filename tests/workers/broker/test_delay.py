"""Messages for later: on the server, in time, in any number, through restarts."""

from __future__ import annotations

import resource
import time
from datetime import timedelta
from pathlib import Path

import pytest

from tests.scale import SLACK
from tests.workers.broker import scale
from tests.workers.broker.actors import actor_of
from tests.workers.broker.conftest import running, wait_until
from tests.workers.broker.evidence import Evidence
from tests.workers.broker.server import Server
from tests.workers.broker.worker_process import Actors, worker_process
from workers.broker import CallboardBroker
from workers.broker.calls import Posting
from workers.broker.envelope import pack

YEAR_MS = 365 * 86_400_000


def resident_kb(pid: int) -> int:
    for row in Path(f"/proc/{pid}/status").read_text().splitlines():
        if row.startswith("VmRSS:"):
            return int(row.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def test_a_million_far_messages_cost_a_worker_nothing_and_hold_up_no_near_one(
    own_server: Server, tmp_path: Path
) -> None:
    evidence = Evidence(tmp_path / "evidence")
    broker = CallboardBroker(own_server.url)
    actors = Actors(broker, evidence)
    own_server.client().config_set("appendfsync", "no")
    with worker_process(own_server.url, "callboard", evidence) as process:
        actors.note.send("warm")
        wait_until(lambda: evidence.count("ran")["warm"])
        before_kb = resident_kb(process.pid)
        record = pack(actors.note.message("far").encode(), priority=5, attempt=0)
        far = [
            Posting(f"far{i}", record, "default", f"d{YEAR_MS * 1000 + i}") for i in range(scale.FAR_DELAYED_MESSAGES)
        ]
        broker.bus_of("default").enqueue(far, timeout_s=120)
        sent_s = time.monotonic()
        actors.note.send_with_options(args=("near",), delay=300)
        wait_until(lambda: evidence.count("ran")["near"], 5)
        late_s = time.monotonic() - sent_s - 0.3

        assert late_s < 0.05 * SLACK
        assert resident_kb(process.pid) - before_kb < 5 * 1024
        assert broker.depth("default").delayed == scale.FAR_DELAYED_MESSAGES
    broker.close()


def test_near_messages_are_in_time_among_far_ones(broker: CallboardBroker) -> None:
    late_s: list[float] = []

    def note(due_s: float) -> None:
        late_s.append(time.time() - due_s)

    actor = actor_of(note, broker=broker)
    with running(broker):
        broker.enqueue_many([actor.message(0.0) for _ in range(scale.HOUR_DELAYED_MESSAGES)], delay=3_600_000)
        for _ in range(scale.NEAR_DELAYED_MESSAGES):
            due_s = time.time() + 1.0
            actor.send_with_options(args=(due_s,), delay=1_000)
        wait_until(lambda: len(late_s) == scale.NEAR_DELAYED_MESSAGES, 20)

    late_s.sort()
    assert late_s[0] >= -0.002
    assert late_s[int(0.99 * len(late_s))] <= 0.1 * SLACK
    assert broker.depth("default").delayed == scale.HOUR_DELAYED_MESSAGES


def test_an_eta_option_delays_until_that_time(broker: CallboardBroker) -> None:
    started_s: list[float] = []
    actor = actor_of(lambda: started_s.append(time.time()), actor_name="note", broker=broker)
    eta_ms = int(time.time() * 1000) + 250

    with running(broker):
        actor.send_with_options(eta=eta_ms)
        wait_until(lambda: started_s)

    assert 0 <= started_s[0] * 1000 - eta_ms < 50 * SLACK


def test_a_nearer_message_wakes_workers_that_sleep_until_a_farther_one(broker: CallboardBroker) -> None:
    started: list[tuple[int, float]] = []
    actor = actor_of(lambda i: started.append((i, time.time())), actor_name="note", broker=broker)

    with running(broker):
        sent_s = time.time()
        for i, delay_ms in enumerate((3_600_000, 900, 400, 150)):
            actor.send_with_options(args=(i,), delay=timedelta(milliseconds=delay_ms))
        wait_until(lambda: len(started) == 3)

    assert {i for i, _ in started} == {1, 2, 3}
    for i, at_s in started:
        assert 0 <= at_s - sent_s - (0.9, 0.4, 0.15)[i - 1] < 0.1 * SLACK


def test_delays_of_years_are_taken_and_absurd_ones_refused(broker: CallboardBroker) -> None:
    actor = actor_of(lambda: None, actor_name="note", broker=broker)

    actor.send_with_options(delay=50 * YEAR_MS)

    assert broker.depth("default").next_due_s is not None
    for delay_ms in (-1, 200 * YEAR_MS):
        with pytest.raises(ValueError, match="100 years"):
            actor.send_with_options(delay=delay_ms)
    assert broker.depth("default").delayed == 1


def test_a_killed_server_comes_back_with_delayed_waiting_and_running_messages(
    own_server: Server, tmp_path: Path
) -> None:
    evidence = Evidence(tmp_path / "evidence")
    broker = CallboardBroker(own_server.url)
    actors = Actors(broker, evidence)
    count = scale.RESTART_MESSAGES
    names: list[str] = []
    with worker_process(own_server.url, "callboard", evidence, threads=4):
        for i in range(4):
            actors.last.send(f"running{i}", 1.0)
            names.append(f"running{i}")
        wait_until(lambda: len(evidence.count("began")) == 4)
        broker.enqueue_many([actors.note.message(f"waiting{i}") for i in range(count)])
        broker.enqueue_many([actors.note.message(f"delayed{i}") for i in range(count)], delay=1_500)
        names += [f"{kind}{i}" for kind in ("waiting", "delayed") for i in range(count)]
        own_server.kill()
        own_server.start()
        wait_until(lambda: len(evidence.count("ran")) == len(names), 30)
        broker.join("default", timeout=10_000)

    assert set(evidence.count("ran")) == set(names)
    assert max(evidence.count("ran").values()) == 1
    broker.close()
