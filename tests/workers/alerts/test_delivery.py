"""Notices reach a real mail server and a real webhook, once each; a channel that is away disturbs nothing."""

import socket
from datetime import UTC, datetime

import pytest
from dramatiq import Worker
from pydantic import SecretStr

from models import alert_moves, direct
from models.alert import Alert
from models.task import TaskStatus
from tests import probes
from tests.servers import wait_until
from tests.workers.actors.running import all_rows, ended
from tests.workers.alerts.conftest import Webhook
from tests.workers.clients.smtp_server import MailServer
from tests.workers.rows import row
from workers import Callboard, callboard, tasks
from workers.alerts import watch
from workers.errors import SettingsError
from workers.ledger.relay import relay
from workers.settings import Settings

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def raise_one(key: str = "provider_down:mqtt") -> None:
    # why "planted": the worker's own upkeep closes what a rule of its own does not see.
    assert watch.open_(callboard, key, rule="planted", message="provider mqtt is down: refused", now=NOW)
    relay(callboard.broker, grace_s=-1)


def end_it() -> None:
    with direct.reading() as to:
        (alert,) = alert_moves.open_alerts(to).values()
    assert watch.close(callboard, alert, NOW)
    relay(callboard.broker, grace_s=-1)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings that name somebody to mail."""
    monkeypatch.setattr(callboard.settings, "alert_recipients", ("ops@example.org",))


def test_opening_and_end_are_told_by_mail_and_webhook_once_each(
    ledger_database: str, worker: Worker, mails: MailServer, webhook: Webhook, told: None
) -> None:
    raise_one()
    wait_until(lambda: len(webhook.posted) == len(mails.mails) == 1, within_s=20, what="the first notices")
    end_it()

    (alert,) = all_rows(Alert)
    assert {ended(task_id).status for task_id in alert.notices} == {TaskStatus.COMPLETED}
    assert len(alert.notices) == 4
    (alert,) = all_rows(Alert)
    assert sorted(told.split()[1] for told in alert.told) == ["opened", "recovered"]
    assert webhook.titles == ["Alert: provider_down:mqtt", "Recovered: provider_down:mqtt"]
    assert webhook.posted[0]["message"].startswith("provider mqtt is down: refused")
    assert [mail["Subject"] for mail in mails.mails] == [
        "Alert: provider mqtt is down: refused", "Recovered: provider mqtt is down: refused"
    ]  # fmt: skip


def test_words_of_others_forge_no_header_and_tell_no_secret(
    system: Callboard, worker: Worker, mails: MailServer, webhook: Webhook, told: None
) -> None:
    said = "provider x: no answer of amqp://cb:hunter2@mq\r\nBcc: evil@example.org\x0b\u2028\x1b[2J"

    assert watch.open_(callboard, "k", rule="planted", message=said, now=NOW)
    relay(callboard.broker, grace_s=-1)
    wait_until(lambda: len(webhook.posted) == len(mails.mails) == 1, within_s=20, what="the notices")

    (mail,), (posted,), (alert,) = mails.mails, webhook.posted, all_rows(Alert)
    assert mail["Bcc"] is None
    assert mail["To"] == "ops@example.org"
    assert "hunter2" not in mail.as_string() + str(posted) + alert.message
    assert alert.message == "provider x: no answer of amqp://cb:***@mq\\r\\nBcc: evil@example.org\\x0b\\u2028\\x1b[2J"


def test_the_channels_url_is_nowhere_to_be_read(system: Callboard, worker: Worker, webhook: Webhook) -> None:
    webhook.answers += [500] * 20
    raise_one()
    (alert,) = all_rows(Alert)
    (task_id,) = alert.notices
    wait_until(lambda: (tasks.get_task(task_id) or alert).error_message, within_s=20, what="a failed attempt")  # type: ignore[union-attr]

    row = tasks.get_task_status(task_id)

    assert row is not None
    assert "the channel did not take the notice (500)" in row["error_message"]
    assert "s3cret" not in str(row)


def test_a_channel_that_is_away_is_tried_again_and_disturbs_no_task(
    system: Callboard, worker: Worker, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(callboard.broker.get_actor("alerts.deliver").options, "min_backoff", 50)
    webhook.answers += [503, 302]

    raise_one()
    others = [probes.add.send(number, 1).message_id for number in range(20)]

    assert {ended(task_id).status for task_id in others} == {TaskStatus.COMPLETED}
    (alert,) = all_rows(Alert)
    delivered = ended(alert.notices[0])
    assert (delivered.status, delivered.retry_count) == (TaskStatus.COMPLETED, 2)
    assert webhook.titles == ["Alert: provider_down:mqtt"]


def test_a_mail_server_that_is_away_and_a_webhook_that_hangs_disturb_no_task(
    system: Callboard, worker: Worker, mails: MailServer, told: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = closed.getsockname()[1]
    monkeypatch.setattr(callboard.settings, "smtp_url", SecretStr(f"smtp://127.0.0.1:{nobody}"))
    with socket.create_server(("127.0.0.1", 0)) as hangs:
        url = SecretStr(f"json://127.0.0.1:{hangs.getsockname()[1]}/x")
        monkeypatch.setattr(callboard.settings, "alert_channels", (url,))

        raise_one()
        (alert,) = all_rows(Alert)
        wait_until(lambda: all(row(one).attempt for one in alert.notices), within_s=20, what="both deliveries to begin")
        others = [probes.add.send(number, 1).message_id for number in range(20)]

        assert {ended(task_id).status for task_id in others} == {TaskStatus.COMPLETED}
        assert {row(one).status for one in alert.notices} <= {TaskStatus.PENDING, TaskStatus.RUNNING}
        (mail,) = [row(one) for one in alert.notices if row(one).task_name == "email.send_alert"]
        wait_until(lambda: row(mail.task_id).retry_count >= 1, within_s=20, what="the mail to be tried in vain")
        assert watch.turn(callboard)["opened"] == 0


def test_a_channel_that_nobody_knows_or_that_was_removed_fails_for_good_with_the_mend(
    system: Callboard, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callboard.settings, "alert_channels", (SecretStr("nonsense://x"),))
    raise_one()
    (alert,) = all_rows(Alert)
    assert "correct CALLBOARD_ALERT_CHANNELS" in str(ended(alert.notices[0]).error_message)
    removed = tasks.enqueue_task("alerts.deliver", params={"alert_id": alert.alert_id, "channel": "json-000000"})

    found = ended(removed)

    assert (found.status, found.reason) == (TaskStatus.FAILED, "not retryable")
    assert "CALLBOARD_ALERT_CHANNELS was changed" in str(found.error_message)


def test_a_delivery_that_runs_again_tells_nobody_twice(system: Callboard, worker: Worker, webhook: Webhook) -> None:
    raise_one()
    (alert,) = all_rows(Alert)
    params = tasks.get_task_status(ended(alert.notices[0]).task_id)

    again = tasks.enqueue_task("alerts.deliver", params=params and params["params"])

    assert ended(again).status == TaskStatus.COMPLETED
    assert len(webhook.posted) == 1


def test_with_nobody_to_tell_the_alert_is_kept_and_nothing_sent(system: Callboard) -> None:
    raise_one()

    assert len(all_rows(Alert)) == 1
    assert tasks.get_task_count() == 0


def test_a_channel_that_is_no_url_stops_the_start_without_being_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLBOARD_ALERT_CHANNELS", "jsons://ops.example.org/s3cret no-url")

    with pytest.raises(SettingsError, match="expected URLs separated by spaces") as caught:
        Settings.load()

    assert "s3cret" not in str(caught.value)
