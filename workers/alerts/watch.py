"""The life of an alert, and what tells of it; the chore `alerts` makes a turn every ten seconds.

    (no row) ──condition seen──→ open      the row and the tasks that tell of it: one transaction
    open     ──seen again──────→ open      count and words are those of now; nobody is told again
    open     ──not seen for alert_clear_s──→ closed    with the tasks that tell of it: one transaction
    open, closed ──somebody says so──→ acknowledged as well

So ten thousand failures are one alert with a count, and a condition that flickers faster than `alert_clear_s` is one
alert. Two processes that make a turn at once: a unique index decides who opens, compare-and-set who closes, and only he
tells. A rule that cannot look (Redis is away) closes nothing.

What a crash leaves: before the commit, nothing; the next turn sees the same. After it, rows of tasks without messages,
which the relay sends. A delivery that fails is a failed task like any other and is retried; nothing waits for it, and
no alert is made of it.

Must not: deliver (workers.actors.alerts); import SQLAlchemy, as every worker process runs this.
"""

import hashlib
import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from models import alert_moves, direct, task_moves
from models.alert_moves import OpenAlert
from models.direct import Direct
from models.redaction import redact_text
from workers.alerts.rules import Condition, look
from workers.runner.log_format import escape

if TYPE_CHECKING:
    from workers import Callboard
    from workers.settings import Settings

_logger = logging.getLogger(__name__)


def turn(callboard: "Callboard", now: datetime | None = None) -> dict[str, int]:
    """Look at all rules once, open and close alerts.

    Args:
        now: aware UTC; for tests.

    Returns:
        opened, closed: how many; open: how many are open then.
    """
    now = now or datetime.now(UTC)
    with direct.reading() as to:
        seen = look(callboard, to, now)
        known = alert_moves.open_alerts(to)
    window = timedelta(seconds=callboard.settings.alert_window_s)
    opened = sum(_saw(callboard, one, known.get(one.key[: alert_moves.KEY_MAX_CHARS]), now) for one in seen.conditions)
    held = {one.key[: alert_moves.KEY_MAX_CHARS] for one in seen.conditions}
    over = now - timedelta(seconds=callboard.settings.alert_clear_s)
    closed = sum(
        close(callboard, alert, now)
        for alert in known.values()
        if alert.rule in seen.judged and alert.key not in held and (alert.seen_at is None or alert.seen_at <= over)
    )
    with direct.transaction() as to:
        # why last: a crash before leaves the older sample, from which the same failures are seen again.
        alert_moves.sample(to, seen.ended, now, window_since=now - window)
    return {"opened": opened, "closed": closed, "open": len(known) + opened - closed}


def _saw(callboard: "Callboard", seen: Condition, known: OpenAlert | None, now: datetime) -> bool:
    """Open an alert, or bring it up to date; whether it was opened."""
    if known is None:
        count = seen.count if seen.total is None or seen.before is None else seen.total - seen.before
        return open_(
            callboard, seen.key, rule=seen.rule, message=seen.message, count=count, baseline=seen.before, now=now
        )
    count = seen.count if seen.total is None or known.baseline is None else seen.total - known.baseline
    with direct.transaction() as to:
        alert_moves.see(to, known.alert_id, message=_line(seen.message), count=count, now=now)
    return False


def _line(message: str) -> str:
    """The words of an alert as they may go into mails' subjects, chats and logs: other people's text may be in them."""
    return escape(redact_text(message))


def open_(
    callboard: "Callboard",
    key: str,
    *,
    rule: str,
    message: str,
    now: datetime,
    count: int = 1,
    baseline: int | None = None,
) -> bool:
    """Open an alert and tell of it; False if one of that key is open."""
    message = _line(message)
    with direct.transaction() as to, to.atomic():
        alert_id = alert_moves.open_(
            to, key, rule=rule, message=message, count=count, baseline=baseline, now=now
        )  # fmt: skip
        if alert_id is None:
            return False
        _tell(callboard, to, alert_id, "opened", now)
    _logger.warning("alert: %s", message)
    return True


def close(callboard: "Callboard", alert: OpenAlert, now: datetime) -> bool:
    """Close an alert and tell of it; False if another has closed it."""
    with direct.transaction() as to, to.atomic():
        if not alert_moves.close(to, alert.alert_id, now):
            return False
        _tell(callboard, to, alert.alert_id, "recovered", now)
    _logger.warning("alert over: %s", alert.key)
    return True


def _tell(callboard: "Callboard", to: Direct, alert_id: int, event: str, now: datetime) -> None:
    settings = callboard.settings
    notices: list[tuple[str, dict[str, object]]] = []
    if settings.alert_recipients:
        notices.append(("email.send_alert", {"alert_id": alert_id, "event": event}))
    notices += [
        ("alerts.deliver", {"alert_id": alert_id, "channel": channel, "event": event}) for channel in channels(settings)
    ]
    rows = []
    for name, params in notices:
        message = callboard.registry.resolve(name).message(**params)
        # why the relay's: it is within a second, and a worker needs no more than this connection for it.
        rows.append(callboard.ledger.row_of(callboard.broker, message, delay_ms=None, now=now, sent=False))
    if rows:
        task_moves.accept(to, rows)
        alert_moves.add_notices(to, alert_id, [row.task_id for row in rows])


def channels(settings: "Settings") -> dict[str, str]:
    """The channels that the settings name: a name that says no secret → its URL."""
    urls: Sequence[str] = [one.get_secret_value() for one in settings.alert_channels]
    return {f"{urlsplit(url).scheme}-{hashlib.sha256(url.encode()).hexdigest()[:6]}": url for url in urls}
