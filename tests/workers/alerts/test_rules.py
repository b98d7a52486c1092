"""Each rule fires once and recovers once, whatever happens meanwhile; two that look at once tell once."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from models import database, direct, schedule_claim, task_moves, task_upkeep, worker_rows
from models.alert import Alert
from models.health import ProviderSample
from models.schedule import RunOutcome, Schedule
from models.task import AttemptOutcome, TaskStatus, new_task_id
from models.task_moves import End, NewTask, Start
from tests import probes
from tests.factories.upkeep import know_provider
from tests.models.rows import at_once
from tests.workers.actors.running import all_rows
from workers import Callboard, callboard, tasks
from workers.alerts import watch
from workers.errors import InvalidTask
from workers.ledger.presence import MISSED_BEATS
from workers.registry import ImportFailure

LONG = timedelta(hours=2)
SETTINGS = callboard.settings

pytestmark = pytest.mark.usefixtures("ledger_database", "bus")


def fail(count: int, task_name: str = "probes.add", *, status: TaskStatus = TaskStatus.FAILED) -> None:
    """So many tasks that ended so."""
    now = datetime.now(UTC)
    rows = [NewTask(new_task_id(), task_name, "jobs", now, now) for _ in range(count)]
    outcome = AttemptOutcome.FAILED if status is TaskStatus.FAILED else AttemptOutcome.COMPLETED
    ends = [End(row.task_id, 1, "w", now, now, status, outcome) for row in rows]
    with direct.transaction() as to:
        task_moves.accept(to, rows)
        assert len(task_moves.end(to, ends)) == count


def look(*, later: timedelta = timedelta(0)) -> dict[str, int]:
    """A turn, of now or of later."""
    return watch.turn(callboard, datetime.now(UTC) + later)


def alerts(rule: str) -> list[Alert]:
    return [alert for alert in all_rows(Alert) if alert.rule == rule]


def plant_failures() -> Callable[[], None]:
    look()
    fail(3)
    return lambda: None


def plant_failure_rate() -> Callable[[], None]:
    look()
    fail(10, status=TaskStatus.COMPLETED)
    fail(11)
    return lambda: None


def plant_old_message() -> Callable[[], None]:
    message = probes.add.message(1, 2)
    with direct.transaction() as to:
        task_moves.accept(to, [NewTask(message.message_id, "probes.add", "jobs", datetime.now(UTC), None)])
    callboard.broker.publish([message], arrived_us=[round((datetime.now(UTC) - LONG).timestamp() * 1e6)])
    return lambda: callboard.broker.flush("jobs")


def plant_message_without_worker() -> Callable[[], None]:
    probes.add.send(1, 2)

    def serve() -> None:
        at = datetime.now(UTC) + timedelta(minutes=2)
        with direct.transaction() as to:
            worker_rows.beat(to, worker_id="w", hostname="h", pid=1, threads=1, queues=["jobs"], started_at=at, at=at)

    return serve


def plant_overdue_schedule() -> Callable[[], None]:
    with database.writing() as session:
        yearly = {"kind": "crontab", "expression": "0 0 1 1 *"}
        session.add(Schedule(schedule_id="s", actor="probes.add", trigger=yearly, next_run_at=datetime.now(UTC) - LONG))

    def dealt_with() -> None:
        with database.writing() as session:
            session.execute(update(Schedule).values(next_run_at=datetime.now(UTC) + 4 * LONG))

    return dealt_with


def plant_missed_run() -> Callable[[], None]:
    now = datetime.now(UTC)
    with direct.transaction() as to:
        run = schedule_claim.Run(now, RunOutcome.SKIPPED_MISFIRE, due_count=4)
        assert schedule_claim.record(to, [schedule_claim.Record("s", run)], now=now)
    return lambda: None


def plant_stuck_task() -> Callable[[], None]:
    at = datetime.now(UTC) - LONG
    row = NewTask(new_task_id(), "probes.too_long", "jobs", at, at)
    start = Start(row.task_id, 1, "w", at)
    with direct.transaction() as to:
        task_moves.accept(to, [row])
        assert task_moves.start(to, [start])

    def end() -> None:
        with direct.transaction() as to:
            assert task_moves.end(to, [End(row.task_id, 1, "w", at, at, TaskStatus.FAILED, AttemptOutcome.FAILED)])

    return end


def plant_provider() -> Callable[[], None]:
    def sample(is_up: bool, at: datetime) -> None:
        with database.writing() as session:
            session.add(ProviderSample(provider="mqtt", sampled_at=at, is_up=is_up, error=None if is_up else "refused"))

    now = datetime.now(UTC)
    sample(True, now - timedelta(minutes=2))
    sample(False, now - timedelta(minutes=1))
    return lambda: sample(True, now)


def plant_failed_import() -> Callable[[], None]:
    callboard.registry.failures.append(ImportFailure("workers.actors.broken", "SyntaxError: x"))
    return callboard.registry.failures.clear


RULES = [
    ("task_failed", plant_failures, "probes.add: 3 failed for good within 600 s"),
    ("failure_rate", plant_failure_rate, "52 % of 21 tasks failed for good"),
    ("queue_age", plant_old_message, "queue jobs: the oldest of 1 messages has waited for 7"),
    ("no_worker", plant_message_without_worker, "queue jobs: 1 messages wait, and none of 0 live workers serves it"),
    ("missed_schedule", plant_overdue_schedule, "is `periodiq periodic` running?"),
    ("missed_schedule", plant_missed_run, "schedule s: 4 due times were left out"),
    ("stuck_task", plant_stuck_task, "probes.too_long: 1 run on after their time limit"),
    ("provider_down", plant_provider, "provider mqtt is down: refused"),
    ("failed_import", plant_failed_import, "workers.actors.broken cannot be imported"),
]


@pytest.mark.parametrize(("rule", "plant", "said"), RULES, ids=[one[1].__name__ for one in RULES])
def test_a_rule_fires_once_and_recovers_once(
    rule: str, plant: Callable[[], Callable[[], None]], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SETTINGS, "alert_recipients", ("ops@example.org",))
    mend = plant()

    for _ in range(3):
        look()

    (alert,) = alerts(rule)
    assert said in alert.message
    assert alert.closed_at is None
    assert len(alert.notices) == 1

    mend()
    look()
    assert alerts(rule)[0].closed_at is None, "it has to stay away for alert_clear_s"
    for _ in range(2):
        look(later=timedelta(hours=1) if rule != "no_worker" else timedelta(minutes=2))

    (alert,) = alerts(rule)
    assert alert.closed_at is not None
    told = [tasks.get_task(task_id) for task_id in alert.notices]
    assert [one and one.params["kwargs"]["event"] for one in told] == ["opened", "recovered"]


def test_every_rule_is_tested() -> None:
    from workers.alerts import rules  # why: its docstring is the list.

    assert rules.__doc__ is not None
    named = {line.split()[0] for line in rules.__doc__.splitlines() if line.startswith("    ") and line[4] != " "}
    assert named == {one[0] for one in RULES}


def test_ten_thousand_failures_are_one_alert_with_the_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SETTINGS, "alert_recipients", ("ops@example.org",))
    look()

    for _ in range(10):
        fail(1_000)
        look()

    (alert,) = alerts("task_failed")
    assert alert.count == 10_000
    assert len(alert.notices) == 1
    assert tasks.get_task_count(TaskStatus.PENDING) == 2  # the other is of the failure rate
    assert len(all_rows(Alert)) == 2


def test_what_failed_before_anybody_looked_is_history() -> None:
    fail(5)

    assert look()["opened"] == 0
    assert look()["opened"] == 0


def test_failures_while_nobody_looked_are_seen_afterwards() -> None:
    look()
    fail(5)

    assert look(later=LONG)["opened"] == 1

    assert alerts("task_failed")[0].count == 5


def test_a_second_outbreak_is_a_second_alert_with_a_count_of_its_own() -> None:
    look()
    fail(5)
    look()
    look(later=timedelta(minutes=20))
    look(later=timedelta(minutes=30))

    fail(2)
    look(later=timedelta(minutes=31))

    assert [(alert.count, alert.closed_at is None) for alert in alerts("task_failed")] == [(5, False), (2, True)]


def test_a_delivery_that_fails_makes_no_alert() -> None:
    look()
    fail(5, "alerts.deliver")
    fail(5, "email.send_alert")

    assert look()["opened"] == 0


def test_the_alert_of_a_provider_that_is_switched_off_is_over_while_its_last_sample_is_new() -> None:
    plant_provider()
    look()
    know_provider("mqtt", is_enabled=False)

    assert look(later=timedelta(minutes=5))["closed"] == 1


def test_processes_that_look_at_once_open_and_close_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SETTINGS, "alert_recipients", ("ops@example.org",))
    plant_provider()
    plant_missed_run()

    opened = at_once(*[look] * 4)
    assert sum(turn["opened"] for turn in opened) == 2
    closed = at_once(*[lambda: look(later=LONG)] * 4)

    assert sum(turn["closed"] for turn in closed) == 2
    assert [len(alert.notices) for alert in all_rows(Alert)] == [2, 2]
    assert tasks.get_task_count() == 4


def test_what_cannot_be_looked_at_stays_as_it_is(own_redis: object, system: Callboard) -> None:
    probes.add.send(1, 2)
    look()
    assert len(alerts("no_worker")) == 1
    own_redis.kill()  # type: ignore[attr-defined]  # OwnRedis

    look(later=LONG)

    assert alerts("no_worker")[0].closed_at is None


def test_after_the_database_was_away_workers_get_the_time_to_say_that_they_live() -> None:
    probes.add.send(1, 2)
    now, beat = datetime.now(UTC), timedelta(seconds=SETTINGS.heartbeat_s)

    def rescue(at: datetime) -> None:
        with direct.transaction() as to:
            assert task_upkeep.take_chore(
                to, "rescue", holder="w", now=at, until=at, last_before=at - beat / 2, gap_before=at - 3 * beat
            )
            task_upkeep.record_chore(to, "rescue", holder="w", began=at, took_ms=1, findings={})

    rescue(now - LONG)
    watch.turn(callboard, now)
    assert alerts("no_worker") == [], "the database has just come back"
    rescue(now)
    watch.turn(callboard, now)
    assert alerts("no_worker") == [], "workers have not had the time to beat"

    for count in range(2 * MISSED_BEATS):
        rescue(now + (count + 1) * beat)
    watch.turn(callboard, now + 2 * MISSED_BEATS * beat)

    assert len(alerts("no_worker")) == 1


def test_acknowledging_keeps_the_first_name() -> None:
    from workers.alerts import acknowledge, list_alerts  # why: the functions that people act through.

    plant_provider()
    look()
    (shown,) = list_alerts()

    assert acknowledge(shown["alert_id"], by="ada")
    assert acknowledge(shown["alert_id"], by="bob")
    assert not acknowledge(4711, by="ada")

    (shown,) = list_alerts()
    assert (shown["acknowledged_by"], shown["rule"]) == ("ada", "provider_down")
    with pytest.raises(InvalidTask, match="1–1000"):
        list_alerts(limit=0)
    assert list_alerts(before_id=shown["alert_id"]) == []
