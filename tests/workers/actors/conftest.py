"""Fixtures of the domains: an SMTP server that the settings name, and a `var` folder of the test's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from tests.workers.clients.smtp_server import MailServer, mail_server
from workers import callboard
from workers.actors import email


@pytest.fixture
def mails(monkeypatch: pytest.MonkeyPatch) -> Iterator[MailServer]:
    """A real SMTP server, named by the settings."""
    with mail_server() as server:
        monkeypatch.setattr(callboard.settings, "smtp_url", SecretStr(server.url))
        email.mailer.cache_clear()
        yield server
        email.mailer.cache_clear()


@pytest.fixture
def no_mail_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Settings without an SMTP server."""
    monkeypatch.setattr(callboard.settings, "smtp_url", None)
    email.mailer.cache_clear()
    yield
    email.mailer.cache_clear()


@pytest.fixture
def documents(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of generated documents, the test's own."""
    monkeypatch.setattr(callboard.settings, "var_dir", tmp_path / "var")
    return callboard.settings.documents_dir
