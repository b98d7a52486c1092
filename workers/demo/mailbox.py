"""The mails that the catcher of `callboard up` kept since the demo began, and following a link in one."""

import re
import urllib.parse
import urllib.request
from dataclasses import dataclass
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path

from workers.settings import Settings

_VERSION = re.compile(r'name="version" value="(\d+)"')
_ANSWER_S = 10.0
_PAGE_MAX_BYTES = 1_000_000


@dataclass(frozen=True)
class Mailbox:
    """Mails of a folder that are newer than those that were there.

    Args:
        folder: the catcher's.
        seen: names of files that were there before.
    """

    folder: Path
    seen: frozenset[str]

    @classmethod
    def beginning_now(cls, folder: Path) -> "Mailbox":
        """What comes from now on."""
        return cls(folder, frozenset(path.name for path in folder.glob("*.eml")))

    def mails(self, *, to: str | None = None, about: str = "") -> list[EmailMessage]:
        """Those to an address (None: to anybody) whose subject has these words, in the order in which they came."""
        found = []
        for path in sorted(self.folder.glob("*.eml")):
            if path.name not in self.seen:
                mail = message_from_bytes(path.read_bytes(), policy=default)
                if about in str(mail["Subject"]) and (to is None or to in str(mail["To"])):
                    found.append(mail)
        return found


def words(mail: EmailMessage) -> str:
    """The text part."""
    part = mail.get_body(("plain",))
    return "" if part is None else str(part.get_content())


def files(mail: EmailMessage) -> list[str]:
    """Names of the files that go along."""
    return [part.get_filename() or "" for part in mail.iter_attachments()]


def follow(settings: Settings, mail: EmailMessage, label: str) -> str:
    """Open a mail's link as its reader would, press the button, and return the page that answers."""
    found = re.search(rf"^{label}: (http\S+)\s*$", words(mail), re.MULTILINE)
    if found is None:
        raise ValueError(f"the mail {mail['Subject']!r} has no link {label!r}")
    # why: where people reach the API need not be reachable from this machine.
    link = found[1].replace(settings.public_base, settings.own_base, 1)
    page = _open(urllib.request.Request(link))  # noqa: S310 - a link that this system has made
    version = _VERSION.search(page)
    form = urllib.parse.urlencode({"version": version[1] if version else "", "decision": "approved"}).encode()
    return _open(urllib.request.Request(link, data=form))  # noqa: S310 - as above


def _open(request: urllib.request.Request) -> str:
    with urllib.request.urlopen(request, timeout=_ANSWER_S) as answer:  # noqa: S310 - as above
        page: bytes = answer.read(_PAGE_MAX_BYTES)
    return page.decode()
