"""The statements about alerts: each is compare-and-set, so that of two who see the same one acts.

    open_    nothing open of that key → open         the unique index decides
    see      open → open, with what is known now
    close    open → closed

Each takes a `models.direct` connection; the owner commits, and what follows (a notice) goes into the same transaction.
Must not: import SQLAlchemy, as every worker process runs these; read the clock.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from models.direct import Direct, marked, stamp
from models.task_moves import unstamp
from models.text import clean_text

MESSAGE_MAX_CHARS: Final = 500
KEY_MAX_CHARS: Final = 200


class OpenAlert(msgspec.Struct, frozen=True):
    """An open alert, as far as the rules need it."""

    alert_id: int
    rule: str
    key: str
    baseline: int | None
    seen_at: datetime | None


def open_alerts(to: Direct) -> dict[str, OpenAlert]:
    """All open alerts by their keys."""
    rows = to.run("SELECT alert_id, rule, key, baseline, seen_at FROM alerts WHERE closed_at IS NULL")
    return {row[2]: OpenAlert(row[0], row[1], row[2], row[3], unstamp(row[4])) for row in rows}


def open_(
    to: Direct, key: str, *, rule: str, message: str, now: datetime, count: int = 1, baseline: int | None = None
) -> int | None:
    """Open an alert; returns its id, or None if one of that key is open."""
    at = stamp(to.dialect, now)
    sql = (
        "INSERT INTO alerts (rule, key, message, count, baseline, opened_at, seen_at, notices, told)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, '[]', '[]') ON CONFLICT (key) WHERE closed_at IS NULL DO NOTHING"
        " RETURNING alert_id"
    )
    said = clean_text(message, MESSAGE_MAX_CHARS)
    found = to.run(marked(to, sql), (rule, clean_text(key, KEY_MAX_CHARS), said, count, baseline, at, at))
    return found[0][0] if found else None


def see(to: Direct, alert_id: int, *, message: str, count: int, now: datetime) -> None:
    """Its condition holds now."""
    sql = "UPDATE alerts SET seen_at = ?, message = ?, count = ? WHERE alert_id = ? AND closed_at IS NULL"
    to.run_counted(marked(to, sql), (stamp(to.dialect, now), clean_text(message, MESSAGE_MAX_CHARS), count, alert_id))


def close(to: Direct, alert_id: int, now: datetime) -> bool:
    """Its condition is over; False if another has closed it."""
    sql = "UPDATE alerts SET closed_at = ? WHERE alert_id = ? AND closed_at IS NULL"
    return to.run_counted(marked(to, sql), (stamp(to.dialect, now), alert_id)) == 1


def add_notices(to: Direct, alert_id: int, task_ids: Sequence[str]) -> None:
    """These tasks tell of it. For whoever has just opened or closed it, in that transaction."""
    known = to.run(marked(to, "SELECT notices FROM alerts WHERE alert_id = ?"), (alert_id,))[0][0]
    notices = [*(json.loads(known) if isinstance(known, str) else known), *task_ids]
    to.run_counted(marked(to, "UPDATE alerts SET notices = ? WHERE alert_id = ?"), (json.dumps(notices), alert_id))


def acknowledge(to: Direct, alert_id: int, *, by: str, now: datetime) -> bool:
    """Somebody knows of it; the first one stays. False if there is no such alert."""
    sql = (
        "UPDATE alerts SET acknowledged_by = coalesce(acknowledged_by, ?),"
        " acknowledged_at = coalesce(acknowledged_at, ?) WHERE alert_id = ?"
    )
    return to.run_counted(marked(to, sql), (clean_text(by, 100), stamp(to.dialect, now), alert_id)) == 1


EACH_PROVIDER: Final = (
    "WITH RECURSIVE p (provider) AS (SELECT min(provider) FROM provider_samples UNION ALL"
    " SELECT (SELECT min(n.provider) FROM provider_samples AS n WHERE n.provider > p.provider)"
    " FROM p WHERE p.provider IS NOT NULL)"
)
"""The providers that have samples, each by one step through the key, however many samples there are."""

Totals = Mapping[str, Sequence[int]]
"""Actor → how many ended, how many of them failed."""


def sample(to: Direct, totals: Totals, now: datetime, *, window_since: datetime) -> None:
    """Keep the totals of now; forget samples that no rule looks back on any more."""
    since, at = stamp(to.dialect, window_since), stamp(to.dialect, now)
    kept = "INSERT INTO alert_samples (sampled_at, totals) VALUES (?, ?) ON CONFLICT (sampled_at) DO NOTHING"
    to.run_counted(marked(to, kept), (at, json.dumps({name: list(amounts) for name, amounts in totals.items()})))
    needed = "SELECT max(sampled_at) FROM alert_samples WHERE sampled_at <= ?"
    old = f"DELETE FROM alert_samples WHERE sampled_at < ({needed})"
    to.run_counted(marked(to, old), (since,))


def samples(to: Direct, *, window_since: datetime) -> tuple[Totals, Totals] | None:
    """The totals at the beginning of the window (or as close to it as there is a sample), and those of the last sample;
    None if there is none."""
    since = stamp(to.dialect, window_since)
    first = (
        "SELECT totals FROM alert_samples ORDER BY CASE WHEN sampled_at <= ? THEN 0 ELSE 1 END,"
        " CASE WHEN sampled_at <= ? THEN sampled_at END DESC, sampled_at LIMIT 1"
    )
    rows = to.run(marked(to, first), (since, since))
    if not rows:
        return None
    last = to.run("SELECT totals FROM alert_samples ORDER BY sampled_at DESC LIMIT 1")
    return _json(rows[0][0]), _json(last[0][0])


def _json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str) else value
