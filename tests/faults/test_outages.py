"""Servers that hang, are full or forget, workers that were away too long (faults rows 5, 14, 15, 17), 8 writers (19).

| what                                     | what must come of it                                                      |
|------------------------------------------|---------------------------------------------------------------------------|
| the database hangs (SIGSTOP) under load  | nothing starts untracked, no attempt is used up, memory stays where it is;|
|                                          | what ended meanwhile is written 10 s after its return at the latest       |
| a worker hangs for longer than its lease | another runs its task; what it has to say afterwards is refused           |
| Redis at `maxmemory`                     | what was accepted is acknowledged and drains; nothing is lost             |
| Redis emptied (FLUSHALL) under load      | it is filled again from the ledger within 60 s; what runs, runs on, once  |
| eight processes write to one SQLite file | none hears "locked"                                                       |
"""

import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from models import database, task_query
from models.task import TaskStatus
from tests import probes
from tests.faults.conftest import THREADS, StartWorker, kill_tree
from tests.scale import FULL
from tests.servers import OwnPostgres, OwnRedis, wait_until
from tests.soak import actors, evidence
from tests.soak.plan import Plan
from tests.soak.run import run
from tests.workers.rows import all_ended as ended
from tests.workers.rows import row
from workers import tasks
from workers.errors import LedgerUnavailable, OutcomeUnknown

HANG_S = 300.0 if FULL else 3.0
WRITTEN_WITHIN_S = 10.0
"""After the database's return: five times the longest back-off of who writes."""
REBUILT_WITHIN_S = 60.0
MAX_GROWTH_MB = 50
MESSAGES = 20_000 if FULL else 400
WRITES = 16_000 if FULL else 400
WRITERS = 8


def memory_mb(pid: int) -> float:
    bytes_used: int = max(one.memory_info().rss for one in psutil.Process(pid).children(recursive=True))
    return bytes_used / 2**20


def hang_postgres(server: OwnPostgres) -> Callable[[], None]:
    server.signal(signal.SIGSTOP)
    return lambda: server.signal(signal.SIGCONT)


def hang_sqlite(url: str) -> Callable[[], None]:
    holder = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")

    def let_go() -> None:
        holder.execute("ROLLBACK")
        holder.close()

    return let_go


@pytest.mark.parametrize("ledger_database", ["sqlite", "own_postgres"], indirect=True)
def test_a_database_that_hangs_delays_and_loses_nothing(
    start_worker: StartWorker, request: pytest.FixtureRequest, ledger_database: str, tmp_path: Path
) -> None:
    paper = tmp_path / "paper"
    worker = start_worker()
    running = [probes.note.send(str(paper), f"running {number}", 0.5).message_id for number in range(4)]
    wait_until(lambda: len(probes.lines(paper)) == 4, within_s=20, what="the tasks to start")
    # Each takes longer than a busy machine needs to see that an outcome is overdue.
    many = probes.note.send_many([(str(paper), f"waiting {number}", 1.5) for number in range(10)])
    waiting = [message.message_id for message in many]
    before_mb = memory_mb(worker.pid)

    is_sqlite = ledger_database.startswith("sqlite")
    let_go = hang_sqlite(ledger_database) if is_sqlite else hang_postgres(request.getfixturevalue("own_postgres"))
    at_first = len(probes.lines(paper))
    time.sleep(HANG_S)  # why: it hangs for that long
    started = len(probes.lines(paper)) - at_first
    growth_mb = memory_mb(worker.pid) - before_mb
    let_go()
    returned_at = datetime.now(UTC)

    written = ended(*running, within_s=WRITTEN_WITHIN_S)
    assert all(task.completed_at is not None and task.completed_at < returned_at for task in written)
    assert {(task.status, task.attempt) for task in ended(*running, *waiting)} == {(TaskStatus.COMPLETED, 1)}
    assert len(probes.lines(paper)) == 14
    assert started <= THREADS  # one a thread, until an outcome was overdue
    assert growth_mb < MAX_GROWTH_MB


@pytest.mark.parametrize("key", [None, "one"])
@pytest.mark.parametrize("ledger_database", ["own_postgres"], indirect=True)
@pytest.mark.usefixtures("ledger_database")
def test_a_send_of_which_nobody_can_say_what_became_names_the_mend_and_may_be_repeated(
    key: str | None, own_postgres: OwnPostgres, bus: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.postgres.ANSWER_WITHIN_S", 1.0)
    monkeypatch.setattr("models.database.POSTGRES_CONNECT_TIMEOUT_S", 2)
    options = {"idempotency_key": key} if key else {}
    probes.note.send(str(tmp_path / "paper"))  # a connection is there
    message = probes.note.message_with_options(args=(str(tmp_path / "paper"),), **options)

    let_go = hang_postgres(own_postgres)
    try:
        with pytest.raises(OutcomeUnknown, match="the database did not answer") as unknown:
            tasks.send_many([message])
    finally:
        let_go()
    tasks.send_many([message])
    tasks.send_many([message])

    assert unknown.value.task_id == message.message_id
    assert "send_many([message])" in str(unknown.value)
    assert tasks.get_task_count() == bus.hlen("{callboard}:messages") == 2


@pytest.mark.parametrize("ledger_database", ["postgresql"], indirect=True)
def test_a_send_that_waits_for_a_lock_for_too_long_may_be_done_later_and_says_no_less(
    ledger_database: str, bus: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What CREATE INDEX takes: others may read, and whose connection is cut still waits for his turn to write."""
    monkeypatch.setattr("models.postgres.ANSWER_WITHIN_S", 1.0)
    message = probes.note.message(str(tmp_path / "paper"))

    with psycopg.connect(ledger_database) as holder:
        holder.execute("LOCK TABLE background_tasks IN SHARE MODE")
        with pytest.raises(OutcomeUnknown, match="may do it yet"):
            tasks.send_many([message])
        assert tasks.get_task(message.message_id) is None
    wait_until(lambda: tasks.get_task(message.message_id), within_s=20, what="the row that nobody waits for any more")
    tasks.send_many([message])

    assert tasks.get_task_count() == bus.hlen("{callboard}:messages") == 1


@pytest.mark.parametrize("ledger_database", ["postgresql"], indirect=True)
@pytest.mark.usefixtures("bus")
def test_a_cancellation_that_waits_for_a_lock_for_too_long_may_be_done_later_and_says_no_less(
    ledger_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.postgres.ANSWER_WITHIN_S", 1.0)
    task_id = probes.note.send(str(tmp_path / "paper")).message_id

    with psycopg.connect(ledger_database) as holder:
        holder.execute("LOCK TABLE background_tasks IN SHARE MODE")
        with pytest.raises(LedgerUnavailable, match="to be cancelled may be so, or become so: ask again"):
            tasks.request_cancel(task_id)
        assert row(task_id).status == TaskStatus.PENDING
    wait_until(lambda: tasks.request_cancel(task_id), within_s=20, what="an answer")

    assert row(task_id).status == TaskStatus.CANCELLED


def test_what_a_worker_says_that_was_away_too_long_is_refused(
    start_worker: StartWorker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(evidence.VARIABLE, str(tmp_path / "witness"))
    frozen = start_worker()
    task_id = actors.send(actors.slow, "it", 2.0)

    def runs() -> list[evidence.Execution]:
        return evidence.read(tmp_path / "witness").executions[task_id]

    wait_until(lambda: len(runs()) == 1, within_s=20, what="the task to start")
    family = psutil.Process(frozen.pid).children(recursive=True)
    for process in family:
        process.send_signal(signal.SIGSTOP)
    other = start_worker()
    (after_other,) = ended(task_id)
    kill_tree(other)
    for process in family:
        process.send_signal(signal.SIGCONT)
    wait_until(lambda: all(run.ended for run in runs()), within_s=20, what="the frozen execution to end")
    frozen.send_signal(signal.SIGTERM)
    frozen.wait(timeout=90)  # why: it has said all that it had to say

    with database.reading() as session:
        outcomes = [attempt.outcome for attempt in task_query.attempts(session, task_id)]
    assert outcomes == ["lost", "completed"]
    first, second = runs()
    assert (after_other.status, after_other.attempt) == (TaskStatus.COMPLETED, second.attempt)
    assert row(task_id).result == after_other.result == second.value
    assert first.value != second.value


def test_with_redis_full_what_was_accepted_completes(
    start_worker: StartWorker, own_redis: OwnRedis, ledger_database: str, tmp_path: Path
) -> None:
    paper = tmp_path / "paper"
    sent = [probes.note.send(str(paper), f"task {number}").message_id for number in range(MESSAGES)]
    with redis.Redis.from_url(own_redis.url) as client:
        client.config_set("maxmemory", "1mb")
        sent.append(probes.note.send(str(paper), "while full").message_id)
        start_worker()
        wait_until(lambda: tasks.get_task_count(TaskStatus.COMPLETED) >= MESSAGES, within_s=120, what="the drain")
        why = "the relay, which fails: the Redis server is full and took nothing"
        wait_until(lambda: why in str(tasks.waiting_on(sent[-1])), within_s=20, what="it to say that Redis is full")
        client.config_set("maxmemory", "0")

    assert {task.status for task in ended(*sent)} == {TaskStatus.COMPLETED}
    assert sorted(probes.lines(paper)) == sorted({*probes.lines(paper)})


def test_what_redis_forgets_under_load_it_is_told_again_from_the_ledger(
    start_worker: StartWorker, own_redis: OwnRedis, ledger_database: str, tmp_path: Path
) -> None:
    paper = tmp_path / "paper"
    start_worker()
    running = [probes.note.send(str(paper), f"running {number}", 2.0).message_id for number in range(THREADS - 1)]
    wait_until(lambda: len(probes.lines(paper)) == len(running), within_s=20, what="the long tasks to start")
    delayed = [probes.note.send_with_options(args=(str(paper), f"delayed {number}"), delay=500) for number in range(20)]
    many = probes.note.send_many([(str(paper), f"waiting {number}", 0.01) for number in range(MESSAGES)])
    waiting = [one.message_id for one in many]
    before = len(probes.lines(paper))

    with redis.Redis.from_url(own_redis.url) as client:
        client.flushall()
    after = probes.note.send(str(paper), "after").message_id

    found = ended(*running, *(one.message_id for one in delayed), *waiting, after, within_s=REBUILT_WITHIN_S)
    assert {task.status for task in found} == {TaskStatus.COMPLETED}
    assert before < MESSAGES  # else there was nothing left to forget
    ran = Counter(probes.lines(paper))
    assert len(ran) == len(found)
    assert {ran[f"running {number}"] for number in range(len(running))} == {1}
    assert ran.total() - len(ran) <= THREADS  # what was executing


def test_eight_processes_write_to_one_sqlite_file_and_none_is_refused() -> None:
    report = run(
        Plan(
            database="sqlite", tasks=WRITES, seconds=0.1, seed=1, settle_s=90, workers=1, threads=4,
            sender_processes=WRITERS, sender_threads=1, kinds={"short": 1},
        )
    )  # fmt: skip

    print(report)
    assert not report.findings
    assert not report.seen.refused
    assert report.seen.starts == WRITES
