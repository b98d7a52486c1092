"""Worlds: what an actor can have an effect on, all of it fresh and the test's own, all of it real.

A database and a folder for files; an SMTP server and a webhook that the settings name. `enter` brings more servers.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from pydantic import SecretStr

from models import database
from models.mail import EmailDelivery
from models.task import Task
from tests import databases
from tests.workers.actors.running import all_rows
from tests.workers.alerts.conftest import Webhook
from tests.workers.clients.smtp_server import MailServer
from workers import callboard

Entered = TypeVar("Entered")
NewWorld = Callable[[], AbstractContextManager["World"]]

_NOBODY = "postgresql://nobody@127.0.0.1:1/nothing"
"""A port at which nothing listens."""


class World:
    """See the module's docstring; made by `worlds`."""

    def __init__(self, mails: MailServer, webhook: Webhook, stack: ExitStack) -> None:
        self.mails = mails
        self.webhook = webhook
        self._stack = stack

    @property
    def documents(self) -> Path:
        """The folder of generated documents; perhaps not there yet."""
        return callboard.settings.documents_dir

    def set(self, name: str, value: Any) -> None:
        """Set a setting for as long as the world is there."""
        self.change(callboard.settings, name, value)

    def change(self, holder: object, name: str, value: Any) -> None:
        """Change a duration or a bound of ours for as long as the world is there: never a function."""
        self.enter(pytest.MonkeyPatch.context()).setattr(holder, name, value)

    def enter(self, context: AbstractContextManager[Entered]) -> Entered:
        """Have something else for as long as the world is there, for instance a server."""
        return self._stack.enter_context(context)

    def refuse_mail(self) -> None:
        """From here on nothing listens where mail goes."""
        self.set("smtp_url", SecretStr("smtp://127.0.0.1:1"))

    def take_mail(self) -> None:
        """From here on the mail server is there again."""
        self.set("smtp_url", SecretStr(self.mails.url))

    @contextmanager
    def without_database(self) -> Iterator[None]:
        """Inside, nothing listens where the database is."""
        url = database.bound_url()
        database.bind(_NOBODY)
        try:
            yield
        finally:
            database.bind(url)

    @property
    def told(self) -> list[tuple[str, str, str]]:
        """Each mail that people have, once: recipient, subject, Message-ID. One that came twice under one Message-ID,
        because a worker died before it could note the server's answer, is one."""
        return sorted(
            {(str(mail["To"]), str(mail["Subject"]).strip(), str(mail["Message-ID"])) for mail in self.mails.mails}
        )

    @property
    def traffic(self) -> tuple[int, int]:
        """How many mails and notices came in, each counted as often as it came."""
        return len(self.mails.raw), len(self.webhook.posted)

    @property
    def deliveries(self) -> list[tuple[str, str, str]]:
        """Each delivery on record: template, recipient, outcome."""
        return sorted((one.template, one.recipient, one.outcome) for one in all_rows(EmailDelivery))

    @property
    def sent_tasks(self) -> list[tuple[str, str]]:
        """Each task on record, but for the one that a test sent: name and parameters. For effects of other tasks."""
        return sorted((task.task_name, str(task.params)) for task in all_rows(Task))

    @property
    def files(self) -> dict[str, bytes]:
        """Each generated document. What a dead worker left half written, with a dot before its name, is none."""
        found = self.documents.iterdir() if self.documents.exists() else ()
        return {path.name: path.read_bytes() for path in found if not path.name.startswith(".")}


def sqlite_in(directory: Path, template: Path) -> str:
    """The URL of a copy of the migrated database in a new directory."""
    directory.mkdir()
    shutil.copy(template, directory / "test.db")
    return f"sqlite:///{directory / 'test.db'}"


@contextmanager
def make_world(mails: MailServer, webhook: Webhook, database_url: str, directory: Path) -> Iterator[World]:
    """A world in a directory, over an empty, migrated database; servers are the test's, and forget."""
    mails.raw.clear()
    mails.envelopes.clear()
    mails.answers.clear()
    webhook.posted.clear()
    webhook.answers.clear()
    with databases.bound(database_url), ExitStack() as stack:
        world = World(mails, webhook, stack)
        world.set("var_dir", directory / "var")
        yield world
