"""`health.check_system`: a sample a task, an alert opened and closed once, one notice each."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from dramatiq import Worker
from sqlalchemy import update

from models import database
from models.health import Alert, HealthSample
from models.task import Task, TaskStatus
from tests.servers import wait_until
from tests.workers.actors.running import all_rows, ended
from tests.workers.clients.smtp_server import MailServer
from workers import callboard, tasks
from workers.actors.health import NOTICE_GRACE_S, judge, measure, send_notices, thresholds

AT = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
LIMITS = {"disk_percent": 92.0, "cpu_percent": 95.0}


def sample(task_id: str, **measured: float) -> HealthSample:
    columns = ("cpu_percent", "memory_percent", "disk_percent", "database_ms", "redis_ms", "queue_age_s")
    return HealthSample(
        task_id=task_id, sampled_at=AT, hostname="h1", **(dict.fromkeys(columns, 1.0) | measured)
    )  # fmt: skip


def open_alerts() -> list[Alert]:
    return [alert for alert in all_rows(Alert) if alert.closed_at is None]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings that name somebody to tell."""
    monkeypatch.setattr(callboard.settings, "alert_recipients", ("ops@example.org",))


def test_a_check_stores_one_sample_of_this_machine(ledger_database: str, worker: Worker) -> None:
    task_id = tasks.enqueue_task("system_health_check_job")

    found = ended(task_id)
    assert (found.task_name, found.status) == ("health.check_system", TaskStatus.COMPLETED)
    (stored,) = all_rows(HealthSample)
    assert stored.task_id == task_id
    assert 0 <= stored.cpu_percent <= 100
    assert 0 < stored.memory_percent <= 100
    assert 0 < stored.disk_percent <= 100
    assert stored.database_ms > 0
    assert stored.redis_ms > 0
    assert found.result["hostname"] == stored.hostname
    assert found.result["alerts"] == [alert.key for alert in open_alerts()]


def test_every_threshold_is_a_measured_column() -> None:
    assert set(thresholds(callboard.settings)) <= set(HealthSample.model_fields)


def test_the_queue_age_is_that_of_the_task_that_waits_longest(system: object) -> None:
    tasks.enqueue_task("diagnostics.run_self_test")
    tasks.enqueue_task("diagnostics.run_self_test", delay_s=3_600)
    with database.writing() as session:
        session.execute(update(Task).values(created_at=datetime.now(UTC) - timedelta(seconds=120)))

    assert 120 <= measure("t").queue_age_s < 130


def test_a_value_at_the_threshold_is_no_alert(sqlite_database: str) -> None:
    assert judge(sample("t1", disk_percent=92.0), LIMITS) == []

    assert all_rows(Alert) == []


def test_an_alert_opens_once_and_closes_once(ledger_database: str) -> None:
    said = [judge(sample(f"t{number}", disk_percent=value), LIMITS) for number, value in enumerate((93, 99, 50, 40))]

    assert said == [["health.disk_percent@h1"], ["health.disk_percent@h1"], [], []]
    (alert,) = all_rows(Alert)
    assert alert.message == "disk_percent of h1 is 93.0, above 92"
    assert (alert.opened_at, alert.closed_at) == (AT, AT)
    assert len(all_rows(HealthSample)) == 4


def test_a_condition_that_comes_back_is_a_new_alert(sqlite_database: str) -> None:
    for number, value in enumerate((93, 50, 93)):
        judge(sample(f"t{number}", disk_percent=value), LIMITS)

    assert [alert.closed_at is None for alert in all_rows(Alert)] == [False, True]


def test_two_checks_at_the_same_moment_open_one_alert_and_keep_both_samples(ledger_database: str) -> None:
    together = threading.Barrier(2)
    failures: list[Exception] = []

    def check(task_id: str) -> None:
        together.wait()
        try:
            judge(sample(task_id, disk_percent=99, cpu_percent=99), LIMITS)
        except Exception as error:
            failures.append(error)

    for round_number in range(5):
        threads = [threading.Thread(target=check, args=(f"t{round_number}-{number}",)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert sorted(alert.key for alert in open_alerts()) == ["health.cpu_percent@h1", "health.disk_percent@h1"]
        judge(sample(f"t{round_number}-over"), LIMITS)
    assert len(all_rows(HealthSample)) == 15


def test_an_alert_is_mailed_once_to_those_whom_the_settings_name(
    system: object, worker: Worker, mails: MailServer, told: None
) -> None:
    judge(sample("t1", disk_percent=99), LIMITS)

    send_notices()
    send_notices()

    (alert,) = all_rows(Alert)
    assert alert.notice_task_id is not None
    assert ended(alert.notice_task_id).status == TaskStatus.COMPLETED
    assert [mail["To"] for mail in mails.mails] == ["ops@example.org"]
    assert tasks.get_task_count() == 1


def test_two_checks_that_tell_at_the_same_moment_tell_once(ledger_database: str, bus: object, told: None) -> None:
    for round_number in range(1, 6):
        together = threading.Barrier(2)

        def tell(together: threading.Barrier = together) -> None:
            together.wait()
            send_notices()

        judge(sample(f"t{round_number}", disk_percent=99), LIMITS)
        threads = [threading.Thread(target=tell) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert tasks.get_task_count() == round_number
        judge(sample(f"t{round_number}-over"), LIMITS)


@pytest.mark.parametrize(("age_s", "sent"), [(NOTICE_GRACE_S / 2, 0), (NOTICE_GRACE_S + 1, 1)])
def test_a_notice_whose_process_died_before_the_send_is_sent_by_a_later_check(
    ledger_database: str, bus: object, told: None, age_s: float, sent: int
) -> None:
    decided_at = datetime.now(UTC) - timedelta(seconds=age_s)
    digits = f"{int(decided_at.timestamp() * 1000):012x}"
    with database.writing() as session:
        never_sent = f"{digits[:8]}-{digits[8:]}-7000-8000-000000000000"
        session.add(Alert(key="k", message="m", opened_at=AT, notice_task_id=never_sent))

    send_notices()
    send_notices()

    assert tasks.get_task_count() == sent


def test_a_closed_alert_is_not_mailed(system: object, told: None) -> None:
    judge(sample("t1", disk_percent=99), LIMITS)
    judge(sample("t2", disk_percent=9), LIMITS)

    send_notices()

    assert tasks.get_task_count() == 0


def test_with_nobody_to_tell_the_alert_is_kept_and_nothing_sent(system: object) -> None:
    judge(sample("t1", disk_percent=99), LIMITS)

    send_notices()

    assert len(open_alerts()) == 1
    assert tasks.get_task_count() == 0


def test_over_a_threshold_the_check_itself_opens_the_alert_and_sends_the_notice(
    system: object, worker: Worker, mails: MailServer, told: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callboard.settings, "health_memory_percent", 0.001)

    task_id = tasks.enqueue_task("health.check_system")

    assert any(key.startswith("health.memory_percent@") for key in ended(task_id).result["alerts"])
    wait_until(lambda: any("memory_percent" in mail["Subject"] for mail in mails.mails), within_s=10, what="the mail")
