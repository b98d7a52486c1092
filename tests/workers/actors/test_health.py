"""`health.check_system`: a sample a task, an alert opened and closed once, one notice each."""

import socket
import threading
from datetime import UTC, datetime, timedelta

import pytest
from dramatiq import Worker
from sqlalchemy import update

from models import database
from models.alert import Alert
from models.health import HealthSample
from models.health_moves import Sample
from models.task import Task, TaskStatus, new_task_id
from tests.factories.upkeep import know_provider
from tests.servers import wait_until
from tests.workers.actors.running import all_rows, ended
from tests.workers.clients.probed import free_port
from tests.workers.clients.smtp_server import MailServer
from workers import callboard, tasks
from workers.actors.health import judge, measure, probe_and_store, send_probes, thresholds
from workers.alerts import watch
from workers.ledger.relay import relay

AT = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
LIMITS = {"disk_percent": 92.0, "cpu_percent": 95.0}


def sample(task_id: str, **measured: float) -> Sample:
    columns = ("cpu_percent", "memory_percent", "disk_percent", "database_ms", "redis_ms", "queue_age_s")
    return Sample(
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

    assert 120 <= measure("t").queue_age_s < 300


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


def test_an_alert_and_its_end_are_mailed_once_each_to_those_whom_the_settings_name(
    system: object, worker: Worker, mails: MailServer, told: None
) -> None:
    judge(sample("t1", disk_percent=99), LIMITS)

    judge(sample("t2", disk_percent=99), LIMITS)
    judge(sample("t3", disk_percent=9), LIMITS)
    relay(callboard.broker, grace_s=-1)

    (alert,) = all_rows(Alert)
    assert [ended(task_id).status for task_id in alert.notices] == [TaskStatus.COMPLETED] * 2
    assert sorted(str(mail["Subject"])[:6] for mail in mails.mails) == ["Alert:", "Recove"]
    assert {mail["To"] for mail in mails.mails} == {"ops@example.org"}
    assert tasks.get_task_count() == 2


def test_with_nobody_to_tell_the_alert_is_kept_and_nothing_sent(system: object) -> None:
    judge(sample("t1", disk_percent=99), LIMITS)

    assert len(open_alerts()) == 1
    assert tasks.get_task_count() == 0


def test_over_a_threshold_the_check_itself_opens_the_alert_and_sends_the_notice(
    system: object, worker: Worker, mails: MailServer, told: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callboard.settings, "health_memory_percent", 0.001)

    task_id = tasks.enqueue_task("health.check_system")

    assert any(key.startswith("health.memory_percent@") for key in ended(task_id).result["alerts"])
    relay(callboard.broker, grace_s=-1)
    wait_until(lambda: any("memory_percent" in mail["Subject"] for mail in mails.mails), within_s=10, what="the mail")


def test_a_provider_that_goes_down_alerts_once_and_its_recovery_ends_it(system: object, told: None) -> None:
    port = free_port()
    know_provider("erp", kind="smtp", target=f"127.0.0.1:{port}", timeout_s=5)
    now = datetime.now(UTC)

    for number in range(2):
        assert not probe_and_store("erp", f"t{number}").is_up
        watch.turn(callboard, now + timedelta(seconds=number))
    opened = open_alerts()
    with socket.create_server(("127.0.0.1", port)) as server:
        thread = threading.Thread(target=_greet, args=[server])
        thread.start()
        assert probe_and_store("erp", "t2").is_up
        thread.join()
    watch.turn(callboard, now + timedelta(minutes=10))

    assert [(alert.key, len(alert.notices)) for alert in opened] == [("provider_down:erp", 1)]
    (alert,) = all_rows(Alert)
    assert alert.closed_at is not None
    assert len(alert.notices) == 2


def _greet(server: socket.socket) -> None:
    """Take one conversation as a mail server does."""
    connection, _ = server.accept()
    with connection, connection.makefile("rwb") as file:
        for answer in (b"220 here\r\n", b"250-here\r\n250 HELP\r\n"):
            file.write(answer)
            file.flush()
            file.readline()


def test_while_the_last_probe_of_a_provider_waits_no_other_is_sent(system: object) -> None:
    know_provider("erp")

    assert [send_probes(new_task_id()) for _ in range(2)] == [["erp"]] * 2

    assert [task.task_name for task in all_rows(Task)] == ["health.probe_provider"]
