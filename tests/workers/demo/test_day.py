"""The demo's day beyond what tests/acceptance/test_up.py sees of it: patience, what a killed run leaves, refusals."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from urllib.error import HTTPError

import pytest
from dramatiq import Worker
from pydantic import SecretStr

from models import database
from models.provider import Provider
from tests.factories.upkeep import know_provider
from workers import callboard, sample
from workers.alerts import watch
from workers.demo import day, mailbox, records
from workers.demo.mailbox import Mailbox
from workers.errors import CallboardError

NOW = datetime(2026, 11, 26, 9, 0, tzinfo=UTC)

pytestmark = pytest.mark.usefixtures("system")


@pytest.fixture
def watched() -> Iterator[None]:
    """Somebody looks at the alerts all the time."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.1):
            watch.turn(callboard)

    looking = threading.Thread(target=look)
    looking.start()
    yield
    over.set()
    looking.join()


def test_it_waits_for_the_end_of_an_alert_for_as_long_as_the_settings_say_and_its_patience_on_top(
    worker: Worker, watched: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(day, "PATIENCE_S", 5.0)
    monkeypatch.setattr(callboard.settings, "alert_clear_s", 6.0)
    sample.load(callboard.settings)
    door = day.Door()
    stored = records.store(NOW, name=records.name_of(NOW), provider_url=door.url)

    said = day.service_fails_and_recovers(day.Day(callboard, stored, Mailbox(tmp_path, frozenset()), door))

    assert "opened, and over after 6 s" in said


def is_probed(name: str) -> bool:
    with database.reading() as session:
        return session.get_one(Provider, name).is_enabled


def test_the_provider_of_a_run_that_was_killed_is_forgotten_by_the_next_and_no_other(sqlite_database: str) -> None:
    killed, running = (f"door-{records.name_of(NOW - timedelta(minutes=ago))}" for ago in (61, 1))
    for name in (killed, running, "a door", "door"):
        know_provider(provider=name)

    records.forget_providers(begun_before=NOW - timedelta(hours=1))

    assert {name: is_probed(name) for name in (killed, running, "a door", "door")} == {
        killed: False, running: True, "a door": True, "door": True,
    }  # fmt: skip


def test_a_link_is_opened_on_this_machine_wherever_people_reach_the_api(monkeypatch: pytest.MonkeyPatch) -> None:
    door = day.Door()
    monkeypatch.setattr(callboard.settings, "public_url", "https://tasks.example.org")
    monkeypatch.setattr(callboard.settings, "api_port", door.port)
    mail = EmailMessage()
    mail.set_content("Approve: https://tasks.example.org/decide/body.signature\n")

    with door.opened(), pytest.raises(HTTPError, match="501") as answered:
        mailbox.follow(callboard.settings, mail, "Approve")

    with answered.value:
        assert answered.value.url == f"http://127.0.0.1:{door.port}/decide/body.signature"


def test_it_is_refused_where_mail_goes_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callboard.settings, "smtp_url", SecretStr("smtp://mail.example.org"))

    with pytest.raises(CallboardError, match="CALLBOARD_SMTP_URL sends them elsewhere: unset it"):
        day.begin(callboard)
