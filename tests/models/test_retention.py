"""What has ended long enough ago goes, with all that hangs off it; everything else stays."""

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import models.retention
from models import database, direct, schedule_claim, tables, task_groups, task_moves
from models.retention import PAGE_ROWS, Retention, cut_wal, id_at
from models.schedule import RunOutcome
from models.schedule_claim import Record, Run
from models.task import AttemptOutcome, TaskStatus, new_task_id
from models.task_moves import End, NewTask
from tests.models import crowd

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
TABLES = ("background_tasks", "task_attempts", "task_logs", "idempotency_keys", "email_deliveries", "workers")

pytestmark = pytest.mark.usefixtures("ledger_database")


@pytest.fixture
def retention() -> Retention:
    """With the default times."""
    return Retention(result_days=7, task_days=30)


def ask(sql: str, *values: Any) -> list[tuple[Any, ...]]:
    """Rows of a statement."""
    with direct.transaction() as to:
        return to.run(sql if to.dialect == "sqlite" else sql.replace("?", "%s"), [_stamped(to, v) for v in values])


def _stamped(to: Any, value: Any) -> Any:
    return direct.stamp(to.dialect, value) if isinstance(value, datetime) else value


def ended(
    ago: timedelta, *, status: TaskStatus = TaskStatus.COMPLETED, task_id: str | None = None, result: str = '"r"'
) -> str:
    """The id of a task that was sent and ended so long ago, with an attempt, a log line, a key and a mail."""
    at = NOW - ago
    made = task_id or crowd.task_id(at, int(ago.total_seconds()))
    accepted(made, at)
    outcome = {TaskStatus.FAILED: AttemptOutcome.FAILED, TaskStatus.CANCELLED: AttemptOutcome.CANCELLED}
    end = End(
        made, 1, "w", started_at=at, finished_at=at, status=status, result=result,
        outcome=outcome.get(status, AttemptOutcome.COMPLETED),
    )  # fmt: skip
    with direct.transaction() as to:
        assert task_moves.end(to, [end])
    ask("INSERT INTO task_logs (task_id, attempt, logged_at, level, message) VALUES (?, 1, ?, 'info', 'm')", made, at)
    ask("INSERT INTO idempotency_keys (key, task_id, held_until) VALUES (?, ?, NULL)", made, made)
    ask("INSERT INTO email_deliveries (task_id, recipient, message_id, template, subject, outcome, created_at)"
        " VALUES (?, 'a@example.org', 'm', 't', 's', 'sent', ?)", made, at)  # fmt: skip
    return made


def accepted(task_id: str, at: datetime) -> str:
    """The id of a task that was sent then and waits."""
    with direct.transaction() as to:
        task_moves.accept(to, [NewTask(task_id, "probes.add", "jobs", created_at=at, enqueued_at=at)])
    return task_id


def counts() -> dict[str, int]:
    """Rows by table."""
    return {table: ask(f"SELECT count(*) FROM {table}")[0][0] for table in TABLES}


def prune(retention: Retention, now: datetime = NOW) -> dict[str, int]:
    """Turns until nothing is left to do; the sum of what they found."""
    total: dict[str, int] = {}
    while True:
        found = retention.turn(now)
        total = {name: total.get(name, 0) + found[name] for name in found}
        if not found["more"]:
            return total


@pytest.mark.parametrize("status", [TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED])
def test_an_ended_task_goes_after_its_time_with_all_that_hangs_off_it(retention: Retention, status: TaskStatus) -> None:
    ended(31 * DAY, status=status)
    younger = ended(29 * DAY, status=status)

    found = prune(retention)

    assert found["tasks"] == 1
    assert counts() == {**dict.fromkeys(TABLES, 1), "workers": 0}
    assert ask("SELECT task_id FROM background_tasks") == [(younger,)]


def test_a_result_goes_before_its_task_and_the_row_says_when(retention: Retention) -> None:
    older, younger, empty = ended(8 * DAY), ended(6 * DAY), ended(9 * DAY, result="null")

    found = prune(retention)

    pruned = {row[0]: row[1:] for row in ask("SELECT task_id, result IS NULL, result_pruned_at FROM background_tasks")}
    assert found["results"] == 1
    assert bool(pruned[older][0])
    assert task_moves.unstamp(pruned[older][1]) == NOW
    assert [(bool(pruned[one][0]), pruned[one][1]) for one in (younger, empty)] == [(False, None)] * 2


def test_what_has_not_ended_stays_however_old_it_is(retention: Retention) -> None:
    waiting = accepted(crowd.task_id(NOW - 400 * DAY, 1), NOW - 400 * DAY)

    assert prune(retention)["tasks"] == 0
    assert ask("SELECT task_id FROM background_tasks") == [(waiting,)]


def test_a_task_whose_key_is_held_stays_until_it_is_not(retention: Retention) -> None:
    held = ended(31 * DAY)
    ask("UPDATE idempotency_keys SET held_until = ? WHERE task_id = ?", NOW + DAY, held)

    assert prune(retention)["tasks"] == 0
    assert prune(retention, NOW + 2 * DAY)["tasks"] == 1
    assert counts()["idempotency_keys"] == 0


def test_a_task_that_was_reopened_while_the_page_was_read_stays(retention: Retention) -> None:
    reopened = ended(31 * DAY, status=TaskStatus.FAILED)
    with direct.reading() as to:
        page = retention._tasks._page(to, "", None, NOW)
    with direct.transaction() as to:
        assert task_moves.reopen(to, reopened)

    assert page[0][0] == reopened
    assert retention._tasks._write([reopened], NOW) == 0
    assert counts()["task_attempts"] == 1


def test_ids_that_do_not_tell_their_age_are_looked_at_too(retention: Retention) -> None:
    ended(31 * DAY, task_id="f47ac10b-58cc-4372-a567-0e02b2c3d479")
    kept = ended(2 * DAY, task_id="f47ac10b-58cc-4372-a567-0e02b2c3d480")

    assert prune(retention)["tasks"] == 1
    assert ask("SELECT task_id FROM background_tasks") == [(kept,)]


def test_a_task_that_ended_long_after_it_was_sent_is_found_within_a_day_of_its_time(retention: Retention) -> None:
    late = ended(29 * DAY, task_id=crowd.task_id(NOW - 60 * DAY, 1))
    prune(retention)

    assert prune(retention, NOW + 2 * DAY)["tasks"] == 1
    assert ask("SELECT task_id FROM background_tasks WHERE task_id = ?", late) == []


def test_more_than_a_page_goes_and_the_walk_goes_on_where_it_was(retention: Retention) -> None:
    rows = 2 * PAGE_ROWS + 500
    crowd.fill(rows, first=NOW - 40 * DAY, last=NOW - 31 * DAY)

    first = retention.turn(NOW, turn_s=0.02)
    rest = prune(retention)

    unfinished = 2 * -(-rows // 1000)
    assert first["more"] == 1
    assert first["tasks"] + rest["tasks"] == rows - unfinished
    assert counts()["background_tasks"] == unfinished


def test_a_group_goes_when_the_last_of_its_members_has_gone(retention: Retention) -> None:
    members = {"old": ended(40 * DAY), "half": ended(41 * DAY), "young": ended(DAY)}
    stays = ended(DAY, task_id=crowd.task_id(NOW - DAY, 7))
    with direct.transaction() as to:
        for group_id in (*members, "never sent"):
            at = NOW - (DAY if group_id == "young" else 40 * DAY)
            assert task_groups.begin(to, group_id, 2, parent_id=None, correlation_id=None, now=at)
    for task_id, group_id in (*((members[one], one) for one in members), (stays, "half")):
        ask("UPDATE background_tasks SET group_id = ? WHERE task_id = ?", group_id, task_id)

    assert prune(retention)["groups"] == 2

    assert ask("SELECT group_id FROM task_groups ORDER BY group_id") == [("half",), ("young",)]
    assert prune(retention)["groups"] == 0


def test_a_worker_that_was_not_heard_of_for_as_long_goes(retention: Retention) -> None:
    for name, ago in (("old", 31 * DAY), ("young", 29 * DAY)):
        ask(
            "INSERT INTO workers (worker_id, hostname, pid, threads, started_at, heartbeat_at)"
            " VALUES (?, 'h', 1, 1, ?, ?)", name, NOW - ago, NOW - ago,
        )  # fmt: skip

    assert prune(retention)["workers"] == 1
    assert ask("SELECT worker_id FROM workers") == [("young",)]


def test_a_run_of_a_schedule_goes_after_its_time_in_batches(retention: Retention) -> None:
    for due_at in [*(NOW - timedelta(days=31, seconds=number) for number in range(1_500)), NOW - timedelta(days=29)]:
        with direct.transaction() as to:
            schedule_claim.record(to, [Record("nightly", Run(due_at, RunOutcome.SENT), None)], now=due_at)

    first, second = retention.turn(NOW), retention.turn(NOW)

    assert [(turn["runs"], turn["more"]) for turn in (first, second)] == [(1_000, 1), (500, 0)]
    assert ask("SELECT COUNT(*) FROM schedule_runs") == [(1,)]


SAMPLE = "sampled_at, hostname, cpu_percent, memory_percent, disk_percent, database_ms, redis_ms, queue_age_s"
DATED = {
    "health_samples": f"INSERT INTO health_samples ({SAMPLE}, task_id) VALUES (?, 'h', 1, 1, 1, 1, 1, 1, ?)",
    "provider_samples": "INSERT INTO provider_samples (sampled_at, is_up, provider) VALUES (?, '1', ?)",
    "alerts": "INSERT INTO alerts (rule, message, count, opened_at, notices, told, closed_at, key)"
    " VALUES ('r', 'm', 1, '2020-01-01 00:00:00+00', '[]', '[]', ?, ?)",
    "timetables": "INSERT INTO timetables (asserted_at, fingerprint) VALUES (?, ?)",
}  # fmt: skip
"""Table → how a row of a time and a name comes into it."""


@pytest.mark.parametrize("table", DATED)
def test_what_has_a_time_of_its_own_goes_after_it(retention: Retention, table: str) -> None:
    for name, ago in (("a", 40 * DAY), ("b", 31 * DAY), ("c", 29 * DAY), ("d", DAY)):
        ask(DATED[table], NOW - ago, name)

    found = retention.turn(NOW)

    assert (found[table], found["more"]) == (2, 0)
    assert ask(f"SELECT count(*) FROM {table}") == [(2,)]
    assert retention.turn(NOW)[table] == 0


def test_samples_of_many_providers_go_in_batches(retention: Retention, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models.retention, "MAX_BATCH_ROWS", 10)
    for number in range(24):
        ask(DATED["provider_samples"], NOW - 31 * DAY - timedelta(minutes=number), f"p{number % 4}")
    ask(DATED["provider_samples"], NOW - 29 * DAY, "p2")

    turns = [retention.turn(NOW) for _ in range(3)]

    assert [(turn["provider_samples"], turn["more"]) for turn in turns] == [(10, 1), (10, 1), (4, 0)]
    assert ask("SELECT provider FROM provider_samples") == [("p2",)]


def test_an_alert_that_is_open_stays_however_old_it_is(retention: Retention) -> None:
    ask(DATED["alerts"], None, "open")

    assert retention.turn(NOW)["alerts"] == 0
    assert ask("SELECT key FROM alerts") == [("open",)]


def test_nothing_is_asked_of_a_walk_that_is_at_its_end(retention: Retention) -> None:
    ended(31 * DAY)
    prune(retention)

    assert set(retention.turn(NOW).values()) == {0}


BOUNDED = {"schedules", "chores", "alert_samples"}
"""At most so many (`schedules_max`); a row for each chore; cut by who writes (alert_moves.sample)."""


def test_every_table_that_the_system_itself_writes_is_pruned_or_bounded() -> None:
    modules = {"task_tables", "schedule", "timetable", "alert", "audit", "health", "mail"}
    named = [getattr(tables, name) for name in tables.__all__ if name != "TOTALS"]
    own = {table.__tablename__ for table in named if table.__module__.rpartition(".")[2] in modules}

    assert own - BOUNDED == {*TABLES, *DATED, "task_groups", "schedule_runs", "audit_log"}


def test_the_smallest_id_of_a_moment_lies_between_the_ids_of_before_and_after() -> None:
    before, at = crowd.task_id(NOW - timedelta(milliseconds=1), 2**40), id_at(NOW)

    assert before < at <= crowd.task_id(NOW, 0)
    assert id_at(datetime.now(UTC) - DAY) < new_task_id() < id_at(datetime.now(UTC) + DAY)


def test_a_large_write_ahead_log_of_sqlite_is_cut_off() -> None:
    path = database.sqlite_path()
    ended(31 * DAY)
    if path is None:
        assert not cut_wal(max_bytes=0)
        return
    wal = Path(f"{path}-wal")
    assert wal.stat().st_size > 0
    with_reader = sqlite3.connect(path, isolation_level=None)
    with_reader.execute("BEGIN")
    with_reader.execute("SELECT count(*) FROM background_tasks").fetchone()
    ended(32 * DAY)

    assert not cut_wal(max_bytes=10**9)
    assert not cut_wal(max_bytes=0)
    with_reader.close()
    assert cut_wal(max_bytes=0)
    assert wal.stat().st_size == 0
