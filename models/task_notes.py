"""What a running task says of itself: log lines and progress, written in batches. Changes no status.

Must not: move a row (models.task_moves).
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from models.direct import Direct, marked, stamp
from models.redaction import redact_text
from models.text import clean_text

LOG_LINE_MAX_CHARS: Final = 2_000
LOG_LINES_PER_ATTEMPT: Final = 1_000


class LogLine(msgspec.Struct, frozen=True):
    """A line that an attempt logged."""

    task_id: str
    attempt: int
    level: str
    message: str
    logged_at: datetime


class Progress(msgspec.Struct, frozen=True):
    """How far an attempt is: 0-1, and its own words; None leaves the words before."""

    task_id: str
    attempt: int
    progress: float
    message: str | None


_COUNT: Final = "SELECT count(*) FROM task_logs WHERE task_id = ? AND attempt = ?"
_LINE: Final = "INSERT INTO task_logs (task_id, attempt, logged_at, level, message) VALUES (?, ?, ?, ?, ?)"
_PROGRESS: Final = (
    "UPDATE background_tasks SET progress = ?, progress_message = coalesce(?, progress_message) "
    "WHERE task_id = ? AND attempt <= ? AND status IN ('pending', 'running')"
)


def write(to: Direct, notes: Sequence[LogLine | Progress]) -> None:
    """Keep them; lines beyond LOG_LINES_PER_ATTEMPT are dropped."""
    lines: dict[tuple[str, int], list[LogLine]] = defaultdict(list)
    latest: dict[str, Progress] = {}
    for note in notes:
        if isinstance(note, LogLine):
            lines[note.task_id, note.attempt].append(note)
        else:
            before = latest.get(note.task_id)
            words = note.message if note.message is not None or before is None else before.message
            latest[note.task_id] = Progress(note.task_id, note.attempt, note.progress, words)
    with to.atomic():
        for attempt, new in lines.items():
            kept = int(to.run(marked(to, _COUNT), attempt)[0][0])
            for line in new[: max(0, LOG_LINES_PER_ATTEMPT - kept)]:
                to.run(marked(to, _LINE), _line_values(to, line))
        for one in latest.values():
            words = one.message and clean_text(redact_text(one.message), 500)
            to.run(marked(to, _PROGRESS), (min(max(0.0, one.progress), 1.0), words, one.task_id, one.attempt))


def _line_values(to: Direct, line: LogLine) -> tuple[Any, ...]:
    words = clean_text(redact_text(line.message), LOG_LINE_MAX_CHARS)
    return line.task_id, line.attempt, stamp(to.dialect, line.logged_at), line.level[:16], words
