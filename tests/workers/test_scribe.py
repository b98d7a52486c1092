"""The scribe on real databases; of the broker only the wire is faked, so that a test sees what is told to it, and when.

| the database         | what must come of it                                                                       |
|----------------------|--------------------------------------------------------------------------------------------|
| answers              | an outcome is committed before the bus is told; long tasks are shown, short ones written once |
| refuses some data    | only the guilty one is changed                                                             |
| is away, or hangs    | nothing new starts, nothing is forgotten; all goes on after                                |
| is away for good     | the row stays as it was, and the bus is told nothing                                       |
"""

import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from dramatiq import Message

from models import database, direct, postgres, task_moves, task_query
from models.task import AttemptOutcome, TaskStatus, new_task_id
from models.task_moves import NewTask, Standing, Start
from models.task_notes import LogLine, Progress
from tests.models.rows import accepted, an_end, attempts, new_row, row, running, start
from tests.servers import OwnPostgres, wait_until
from workers.broker import Delivery, Parcel, Settlement, Verdict
from workers.ledger import scribe as scribe_module
from workers.ledger.flush import Ended
from workers.ledger.scribe import Scribe, Stopping

PENDING, RUNNING, COMPLETED, FAILED, CANCELLED = TaskStatus
NOW = datetime.now(UTC)


@dataclass
class Wire:
    """In place of the broker: what it was told, and how the rows stood at that moment."""

    settled: list[tuple[Settlement, Standing | None]] = field(default_factory=list)
    fetching: list[str] = field(default_factory=list)

    def submit_settlements(self, settlements: Sequence[Settlement]) -> None:
        with direct.reading() as to:
            standing = task_moves.standing(to, [one.message_id for one in settlements])
        self.settled += [(one, standing.get(one.message_id)) for one in settlements]

    def hold_fetching(self, reason: str) -> None:
        self.fetching.append("held")

    def allow_fetching(self, reason: str) -> None:
        self.fetching.append("allowed")

    def verdicts(self) -> dict[str, Verdict]:
        return {settlement.message_id: settlement.verdict for settlement, _ in self.settled}


def parcel(task_id: str, attempt: int = 1) -> Parcel:
    """A message as the bus hands it out."""
    sent: Message[Any] = Message(
        queue_name="jobs", actor_name="probes.add", args=(), kwargs={}, options={}, message_id=task_id
    )
    delivery = Delivery(task_id, b"", fence=attempt, losses=0, score="0", queue_name="jobs", owner="me")
    return Parcel(sent, delivery, priority=5, attempt=0, got_s=0.0, held_until_s=0.0)


def ended(task_id: str, attempt: int = 1, *, verdict: Verdict = Verdict.ACK, **fields: Any) -> Ended:
    message = parcel(task_id, attempt)
    return Ended(an_end(task_id, attempt, **fields), message.settlement(verdict), message)


def first(task_id: str, **fields: Any) -> Start:
    """A first delivery, which does not ask."""
    return Start(task_id, 1, "w-1", NOW, **{"checked": False} | fields)


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def scribe(ledger_database: str) -> Iterator[Scribe]:
    """Not started; stopped in the end."""
    made = Scribe(adopt=lambda message: new_row(task_id=message.message_id))
    yield made
    made.stop(0.1)


def in_thread(call: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    """Call it in a thread; what it returned or raised is put into the list."""
    came: list[Any] = []

    def run() -> None:
        try:
            came.append(call())
        except Exception as error:
            came.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, came


# --- it answers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("a_linger", "lingers"), [(0, 1), (4, 1), (12, 4), (120, 2)])
def test_the_more_outcomes_come_the_longer_a_commit_waits_for_more_of_them(
    scribe: Scribe, wire: Wire, a_linger: int, lingers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    came = [accepted() for _ in range(4 * a_linger + 1)]
    first_commit = threading.Event()

    class Clock:
        """Outcomes come while the scribe lingers for its first commit."""

        monotonic = staticmethod(time.monotonic)

        def sleep(self, _s: float) -> None:
            for _ in range(0 if wire.settled else a_linger):
                scribe.end(ended(came.pop()))

    monkeypatch.setattr(scribe_module, "time", Clock())
    scribe.on_written = lambda written: (counts.append(len(written)), first_commit.set())
    counts: list[int] = []
    scribe.end(ended(came.pop()))
    scribe.start(wire)

    assert first_commit.wait(10)
    assert counts[0] == 1 + lingers * a_linger


def test_outcomes_of_all_threads_are_written_and_told_to_the_bus_only_after_their_commit(
    scribe: Scribe, wire: Wire
) -> None:
    ids = [[new_task_id() for _ in range(1_000)] for _ in range(8)]
    for part in ids:
        with direct.transaction() as to:
            task_moves.accept(to, [new_row(task_id=task_id) for task_id in part])
    scribe.start(wire)

    def work(mine: list[str]) -> None:
        for task_id in mine:
            scribe.begin(first(task_id))
            scribe.end(ended(task_id))

    threads = [threading.Thread(target=work, args=(mine,)) for mine in ids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: len(wire.settled) >= 8_000, within_s=60, what="all outcomes")

    assert {settlement.message_id for settlement, _ in wire.settled} == {task_id for mine in ids for task_id in mine}
    assert len(wire.settled) == 8_000
    assert {standing and standing.status for _, standing in wire.settled} == {COMPLETED}
    with database.reading() as session:
        assert task_query.count(session, task_query.TaskFilter(status=COMPLETED)) == 8_000


@pytest.fixture
def written(ledger_database: str) -> Callable[[str], list[str]]:
    """The statuses that were written on a row, one after another."""
    with direct.transaction() as to:
        to.run("CREATE TABLE written (task_id text, status text)")
        if to.dialect == "sqlite":
            insert = "INSERT INTO written VALUES (NEW.task_id, NEW.status);"
            to.run(f"CREATE TRIGGER note AFTER UPDATE ON background_tasks BEGIN {insert} END")
        else:
            to.run(
                "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS "
                "'BEGIN INSERT INTO written VALUES (NEW.task_id, NEW.status); RETURN NEW; END'"
            )
            to.run("CREATE TRIGGER note AFTER UPDATE ON background_tasks FOR EACH ROW EXECUTE FUNCTION note()")

    def of(task_id: str) -> list[str]:
        with direct.reading() as to:
            mark = "?" if to.dialect == "sqlite" else "%s"
            return [one[0] for one in to.run(f"SELECT status FROM written WHERE task_id = {mark}", [task_id])]

    return of


def test_a_task_that_runs_on_is_shown_and_a_short_one_is_written_once(
    scribe: Scribe, wire: Wire, written: Callable[[str], list[str]]
) -> None:
    long, short = accepted(), accepted()
    scribe.start(wire)

    scribe.begin(first(long))
    wait_until(lambda: row(long).status == RUNNING, within_s=10, what="the long task to be shown")
    scribe.begin(first(short))
    scribe.end(ended(short))
    scribe.end(ended(long))
    wait_until(lambda: len(wire.settled) == 2, within_s=10, what="both outcomes")

    assert (written(long), written(short)) == (["running", "completed"], ["completed"])
    assert [one.outcome for one in (*attempts(long), *attempts(short))] == [AttemptOutcome.COMPLETED] * 2


def test_who_asks_is_told_what_the_row_says(scribe: Scribe, wire: Wire) -> None:
    free, taken = accepted(correlation_id="c-1"), running()
    scribe.start(wire)

    granted = scribe.ask(first(free, checked=True))

    assert granted is not None
    assert granted.correlation_id == "c-1"
    assert row(free).status == RUNNING
    assert scribe.ask(first(taken, checked=True)) is None


def test_log_lines_and_progress_go_along(scribe: Scribe, wire: Wire) -> None:
    task_id = running()
    scribe.start(wire)

    scribe.note(LogLine(task_id, 1, "info", "half way", NOW))
    scribe.note(Progress(task_id, 1, 0.5, "half"))
    wait_until(lambda: row(task_id).progress == 0.5, within_s=10, what="the progress")

    with database.reading() as session:
        assert [line.message for line in task_query.logs(session, task_id)] == ["half way"]
    assert row(task_id).progress_message == "half"


def test_stop_writes_what_is_held(scribe: Scribe, wire: Wire) -> None:
    ids = [accepted() for _ in range(200)]
    scribe.start(wire)

    for task_id in ids:
        scribe.end(ended(task_id))
        scribe.note(LogLine(task_id, 1, "info", "last words", NOW))
    scribe.stop(20)

    assert wire.verdicts().keys() == set(ids)
    with database.reading() as session:
        assert [line.message for line in task_query.logs(session, ids[-1])] == ["last words"]
    assert not scribe.is_alive()


# --- outcomes that move no row ---------------------------------------------------------------------------------------


def test_an_outcome_whose_commit_was_not_answered_is_settled_as_decided(scribe: Scribe, wire: Wire) -> None:
    retry = {"status": PENDING, "outcome": AttemptOutcome.RETRIED, "eta": NOW, "retried": True}
    done, again = running(), running()
    with direct.transaction() as to:
        task_moves.end(to, [an_end(done), an_end(again, **retry)])  # type: ignore[arg-type]  # one dict of several types

    scribe.end(ended(done))
    scribe.end(ended(again, verdict=Verdict.RETRY, **retry))
    scribe.start(wire)
    wait_until(lambda: len(wire.settled) == 2, within_s=10, what="both settlements")

    assert wire.verdicts() == {done: Verdict.ACK, again: Verdict.RETRY}
    assert (row(done).status, row(again).retry_count) == (COMPLETED, 1)


def test_an_outcome_that_comes_after_a_later_attempt_has_started_is_only_acknowledged(
    scribe: Scribe, wire: Wire
) -> None:
    task_id = running("dead")
    with direct.transaction() as to:
        task_moves.lose(to, [task_moves.Loss(task_id, 1, "dead")], NOW)
    assert start(task_id, 2, "w-2")

    scribe.end(ended(task_id, verdict=Verdict.RETRY, status=PENDING, outcome=AttemptOutcome.RETRIED))
    scribe.start(wire)
    wait_until(lambda: wire.settled, within_s=10, what="the settlement")

    assert wire.verdicts() == {task_id: Verdict.ACK}
    assert (row(task_id).status, row(task_id).attempt, row(task_id).worker_id) == (RUNNING, 2, "w-2")


def test_a_task_that_ran_without_a_row_gets_one(scribe: Scribe, wire: Wire) -> None:
    task_id = new_task_id()

    scribe.end(ended(task_id, result="42"))
    scribe.start(wire)
    wait_until(lambda: wire.settled, within_s=10, what="the settlement")

    assert (row(task_id).status, row(task_id).result) == (COMPLETED, 42)
    assert [one.outcome for one in attempts(task_id)] == [AttemptOutcome.COMPLETED]


@pytest.mark.usefixtures("ledger_database")
def test_a_task_of_which_no_row_can_be_made_keeps_no_other_from_its_outcome(wire: Wire) -> None:
    def refuse(_message: object) -> NewTask:
        raise ValueError("its parameters are no JSON any more")

    scribe = Scribe(adopt=refuse)
    good, stranger = accepted(), new_task_id()

    for task_id in (stranger, good):
        scribe.end(ended(task_id))
    scribe.start(wire)
    wait_until(lambda: len(wire.settled) == 2, within_s=10, what="both settlements")
    scribe.stop(5)

    assert wire.verdicts() == {good: Verdict.ACK, stranger: Verdict.DEAD}
    assert row(good).status == COMPLETED


# --- data that the database refuses ----------------------------------------------------------------------------------

GUILTY = {"a lone surrogate": '"\ud800"', "NUL": '"\x00"', "no JSON": "{"}


@pytest.mark.parametrize("what", GUILTY)
def test_of_a_flush_that_is_refused_only_the_guilty_outcome_is_changed(scribe: Scribe, wire: Wire, what: str) -> None:
    ids = [accepted() for _ in range(20)]
    guilty, asking = ids[7], accepted()
    result = GUILTY[what] if database.sqlite_path() is None else GUILTY["a lone surrogate"]

    for task_id in ids:
        scribe.end(ended(task_id, result=result if task_id == guilty else "1"))
    scribe.note(LogLine(ids[0], 1, "\ud800", "of no level", NOW))
    scribe.note(LogLine(ids[0], 1, "info", "of a good level", NOW))
    thread, came = in_thread(lambda: scribe.ask(first(asking, checked=True)))
    scribe.start(wire)
    wait_until(lambda: len(wire.settled) == 20, within_s=20, what="all settlements")
    thread.join(10)

    assert [row(task_id).status for task_id in ids if task_id != guilty] == [COMPLETED] * 19
    found = row(guilty)
    assert (found.status, found.reason, found.error_type) == (FAILED, "outcome not storable", "OutcomeNotStorable")
    assert "the worker's log says what it said" in (found.error_message or "")
    assert row(asking).status == RUNNING
    assert len(came) == 1
    with database.reading() as session:
        assert [line.message for line in task_query.logs(session, ids[0])] == ["of a good level"]


def test_an_outcome_that_is_refused_in_every_form_stays_unacknowledged_until_it_is_taken(
    scribe: Scribe, wire: Wire
) -> None:
    guilty, good = accepted(), accepted()
    with direct.transaction() as to:
        if to.dialect == "sqlite":
            to.run(
                f"CREATE TRIGGER refuse BEFORE UPDATE ON background_tasks WHEN NEW.task_id = '{guilty}'"
                " BEGIN SELECT RAISE(ABORT, 'not this one'); END"
            )
        else:
            to.run(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
                "'BEGIN RAISE EXCEPTION USING ERRCODE = ''check_violation''; END'"
            )
            to.run(
                "CREATE TRIGGER refuse BEFORE UPDATE ON background_tasks FOR EACH ROW"
                f" WHEN (NEW.task_id = '{guilty}') EXECUTE FUNCTION refuse()"
            )
    scribe.start(wire)

    scribe.end(ended(guilty, result="1"))
    scribe.end(ended(good))
    wait_until(lambda: good in wire.verdicts(), within_s=20, what="the other's settlement")
    later = accepted()
    scribe.end(ended(later))
    wait_until(lambda: later in wire.verdicts(), within_s=20, what="the settlement of one that came later")

    assert guilty not in wire.verdicts()
    assert (row(guilty).status, scribe.held) == (PENDING, 1)
    with direct.transaction() as to:
        to.run("DROP TRIGGER refuse" + ("" if to.dialect == "sqlite" else " ON background_tasks"))
    wait_until(lambda: guilty in wire.verdicts(), within_s=20, what="it to be taken at last")
    assert (row(guilty).status, row(guilty).result) == (COMPLETED, 1)


# --- the database is away --------------------------------------------------------------------------------------------


@contextmanager
def lock_held(url: str) -> Iterator[None]:
    """Another connection, not of ours, has SQLite's write lock."""
    holder = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    yield
    holder.execute("ROLLBACK")
    holder.close()


@contextmanager
def killed(server: OwnPostgres) -> Iterator[None]:
    """The server is gone, and comes back on the same data."""
    server.kill()
    yield
    server.start()


@contextmanager
def hung(server: OwnPostgres) -> Iterator[None]:
    """The server is there and answers nothing."""
    server.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.signal(signal.SIGCONT)


@pytest.fixture
def outage(request: pytest.FixtureRequest, ledger_database: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A block during which the database is away, in the way that the parameter names."""
    monkeypatch.setattr(database, "SQLITE_WAIT_S", 0.5)
    monkeypatch.setattr(postgres, "ANSWER_WITHIN_S", 1.0)
    direct.forget()
    if request.param == "lock":
        return lambda: lock_held(ledger_database)
    server: OwnPostgres = request.getfixturevalue("own_postgres")
    return lambda: killed(server) if request.param == "killed" else hung(server)


OUTAGES = pytest.mark.parametrize(
    ("ledger_database", "outage"),
    [("sqlite", "lock"), ("own_postgres", "killed"), ("own_postgres", "hung")],
    indirect=True,
    ids=["sqlite-locked", "postgresql-killed", "postgresql-hung"],
)


@OUTAGES
def test_while_the_database_is_away_nothing_starts_and_nothing_is_lost(
    scribe: Scribe, wire: Wire, outage: Callable[[], Any]
) -> None:
    before, during, second, asking = (accepted() for _ in range(4))
    scribe.start(wire)
    scribe.end(ended(before))
    wait_until(lambda: wire.settled, within_s=10, what="an outcome before")

    with outage():
        scribe.end(ended(during))
        wait_until(lambda: wire.fetching, within_s=20, what="fetching to be held")
        beginning, begun = in_thread(lambda: scribe.begin(first(second)))
        asker, granted = in_thread(lambda: scribe.ask(first(asking, checked=True)))
        beginning.join(0.5)
        assert (begun, granted, scribe.held) == ([], [], 1)
        assert wire.verdicts().keys() == {before}

    wait_until(lambda: during in wire.verdicts(), within_s=30, what="the held outcome")
    beginning.join(60)
    asker.join(60)
    assert begun == [None]
    assert len(granted) == 1
    assert granted[0] is not None
    assert (row(during).status, row(asking).status) == (COMPLETED, RUNNING)
    wait_until(lambda: row(second).status == RUNNING, within_s=20, what="the one that waited to be shown")
    assert (wire.fetching[0], wire.fetching[-1]) == ("held", "allowed")


@pytest.mark.parametrize("ledger_database", ["sqlite"], indirect=True)
def test_a_flush_that_lasts_too_long_holds_what_would_start(scribe: Scribe, wire: Wire, ledger_database: str) -> None:
    rows = iter([accepted() for _ in range(1_000)])
    scribe.start(wire)

    with lock_held(ledger_database):
        wait_until(
            lambda: wire.fetching or scribe.end(ended(next(rows))), within_s=5, what="an outcome to notice it"
        )  # fmt: skip
        beginning, begun = in_thread(lambda: scribe.begin(first(next(rows))))
        beginning.join(0.5)
        assert begun == []

    beginning.join(60)
    assert begun == [None]
    wait_until(lambda: scribe.held == 0, within_s=10, what="the outcomes to be written")


@pytest.mark.parametrize("ledger_database", ["sqlite"], indirect=True)
def test_nothing_starts_while_the_database_does_not_keep_up(
    scribe: Scribe, wire: Wire, ledger_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scribe_module, "OVERDUE_S", 60.0)
    monkeypatch.setattr(scribe_module, "MOST_HELD", 5)
    rows = [accepted() for _ in range(8)]
    scribe.start(wire)

    with lock_held(ledger_database):
        scribe.end(ended(rows[0]))
        wait_until(lambda: scribe._flush_since_s is not None, within_s=10, what="a flush that waits for the lock")
        for task_id in rows[1:5]:
            scribe.end(ended(task_id))
        scribe.begin(first(rows[6]))
        scribe.end(ended(rows[5]))
        beginning, begun = in_thread(lambda: scribe.begin(first(rows[7])))
        beginning.join(0.3)
        assert (begun, scribe.held, wire.fetching) == ([], 6, [])

    beginning.join(10)
    assert begun == [None]


@pytest.mark.parametrize(
    ("ledger_database", "outage"), [("sqlite", "lock"), ("own_postgres", "killed")], indirect=True
)  # fmt: skip
def test_stopped_while_the_database_is_away_it_leaves_the_row_as_it_was(
    scribe: Scribe, wire: Wire, outage: Callable[[], Any]
) -> None:
    task_id, waiting = accepted(), accepted()
    scribe.start(wire)

    with outage():
        scribe.end(ended(task_id))
        wait_until(lambda: wire.fetching, within_s=20, what="fetching to be held")
        beginning, begun = in_thread(lambda: scribe.begin(first(waiting)))
        asker, answered = in_thread(lambda: scribe.ask(first(waiting, checked=True)))
        scribe.stop(0.1)
        beginning.join(60)
        asker.join(60)
        # A try that still waits for the database when that comes back would be written, as it should.
        wait_until(lambda: not scribe.is_alive(), within_s=40, what="the last try to fail")

    assert [type(one) for one in (*begun, *answered)] == [Stopping, Stopping]
    assert (wire.settled, scribe.held) == ([], 1)
    assert (row(task_id).status, row(task_id).attempt) == (PENDING, 0)


@pytest.mark.parametrize(
    ("ledger_database", "outage"), [("sqlite", "lock")], indirect=True
)  # fmt: skip
def test_what_tasks_say_while_the_database_is_away_is_bounded(
    scribe: Scribe, wire: Wire, outage: Callable[[], Any]
) -> None:
    talker = running()
    scribe.start(wire)

    with outage():
        for number in range(scribe_module.MOST_NOTES + 100):
            scribe.note(LogLine(talker, 1, "info", f"line {number}", NOW))
        assert len(scribe._notes) == scribe_module.MOST_NOTES

    scribe.stop(30)
    with database.reading() as session:
        assert task_query.logs(session, talker)[0].message == "line 0"
