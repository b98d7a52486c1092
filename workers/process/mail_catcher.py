"""A development mail server: takes any mail over SMTP on loopback and keeps each as a file under `var/mail/`.

    python -m workers.process.mail_catcher PORT DIRECTORY

A mail is accepted (250) only once its file is complete: it is written beside, flushed and renamed.
"""

import os
import re
import sys
import threading
from datetime import UTC, datetime
from email import message_from_bytes
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller

MAX_MAIL_BYTES = 32 * 1024 * 1024


class MailCatcher:
    """aiosmtpd's handler that keeps mails.

    Args:
        directory: where the files go; made if need be.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        """Keep one mail; the answer to the client."""
        content: bytes = envelope.original_content or envelope.content
        moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
        recipient = re.sub(r"[^A-Za-z0-9@._-]", "_", ", ".join(envelope.rcpt_tos))[:80]
        final = self._directory / f"{moment}-{recipient}.eml"
        part = final.with_suffix(".part")
        try:
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            part.rename(final)
        except OSError as error:
            return f"451 the mail cannot be kept ({error.strerror})"
        subject = str(message_from_bytes(content)["Subject"])
        print(f"kept {final.name}: {subject[:100]!a}", flush=True)
        return "250 OK"


def serve(port: int, directory: Path) -> None:
    """Serve on loopback until the process is told to stop."""
    controller = Controller(
        MailCatcher(directory), hostname="127.0.0.1", port=port, data_size_limit=MAX_MAIL_BYTES, ident="Callboard"
    )
    controller.start()
    print(f"mail catcher on 127.0.0.1:{port}, keeping mails in {directory}", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    serve(int(sys.argv[1]), Path(sys.argv[2]))
