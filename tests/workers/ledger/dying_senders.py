"""Processes that send in their own transaction and are killed by SIGKILL at a chosen moment.

    python -m tests.workers.ledger.dying_senders HOW_MANY MOMENT FILE

MOMENT is `committed` (after the commit, before the message goes out) or `joined` (before the commit). Each process is a
fork of this one, and writes the id of its task to FILE before it dies.
"""

import os
import signal
import sys

from sqlalchemy import event
from sqlmodel import Session

from models import database
from tests import probes
from workers.ledger import outbox


def main(how_many: int, moment: str, path: str) -> None:
    """Fork so many senders, one after the other, and see each die."""
    database.engine()  # why: loaded and made once, not by each child; it has no connection yet.
    assert outbox
    for _ in range(how_many):
        child = os.fork()
        if child == 0:
            _send_and_die(moment, path)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), status
        assert os.WTERMSIG(status) == signal.SIGKILL


def _send_and_die(moment: str, path: str) -> None:
    with Session(database.engine()) as session:
        event.listen(session, "after_commit", lambda _session: os.kill(os.getpid(), signal.SIGKILL))
        message = probes.note.send_in(session, path + ".ran", "ran")
        probes.evidence(path, message.message_id)
        if moment == "joined":
            os.kill(os.getpid(), signal.SIGKILL)
        session.commit()
    os._exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
