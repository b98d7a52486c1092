"""Alerts: rules that look at this installation, and what becomes of what they see.

    rules    which conditions hold now; reads only
    watch    opens and closes alerts, and has tasks tell of it

Delivery is tasks: `email.send_alert`, `alerts.deliver`. People look and acknowledge through `list_alerts` and
`acknowledge`, which REST and CLI show with the same words.
"""

from datetime import UTC, datetime
from typing import Any

from workers.errors import InvalidTask

__all__ = ["MAX_PAGE", "acknowledge", "list_alerts"]

MAX_PAGE = 1_000


def list_alerts(*, only_open: bool = True, limit: int = 100, before_id: int | None = None) -> list[dict[str, Any]]:
    """Alerts, newest first.

    Args:
        only_open: leave out those that are over.
        limit: 1–1000.
        before_id: go on below this alert.

    Raises:
        InvalidTask: a limit out of bounds.
        DatabaseError: they cannot be read.
    """
    if not 1 <= limit <= MAX_PAGE:
        raise InvalidTask(f"limit: expected 1–{MAX_PAGE}, got {limit}", field="limit")
    from models import alert, database  # why: SQLAlchemy, which workers do without until a task wants it.

    with database.reading() as session:
        found = alert.page(session, only_open=only_open, limit=limit, before_id=before_id)
        return [row.model_dump(exclude={"baseline"}) for row in found]


def acknowledge(alert_id: int, *, by: str) -> bool:
    """Note who takes care of an alert; the first one stays. False if there is no such alert."""
    from models import alert_moves, direct

    with direct.transaction() as to:
        return alert_moves.acknowledge(to, alert_id, by=by, now=datetime.now(UTC))
