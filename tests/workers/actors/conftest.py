"""Fixtures of the domains: an SMTP server that the settings name, and a `var` folder of the test's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from tests.workers.clients.smtp_server import MailServer, mail_server
from workers import callboard


@pytest.fixture
def mails(monkeypatch: pytest.MonkeyPatch) -> Iterator[MailServer]:
    """A real SMTP server, named by the settings."""
    with mail_server() as server:
        monkeypatch.setattr(callboard.settings, "smtp_url", SecretStr(server.url))
        yield server


@pytest.fixture
def no_mail_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings without an SMTP server."""
    monkeypatch.setattr(callboard.settings, "smtp_url", None)


@pytest.fixture
def documents(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder of generated documents, the test's own."""
    monkeypatch.setattr(callboard.settings, "var_dir", tmp_path / "var")
    return callboard.settings.documents_dir
