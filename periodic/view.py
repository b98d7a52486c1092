"""A schedule as people and programs outside see it: in words, and without the secrets among its parameters."""

from collections.abc import Mapping
from typing import Any

from models.redaction import REDACTED, redact
from models.schedule import Schedule
from periodic.declaration import checked_trigger
from workers import callboard
from workers.params import secret_parameters
from workers.registry import function_of


def as_dict(row: Schedule, last_status: str | None) -> dict[str, Any]:
    """Its `id` and columns, the trigger in `words` (None with an `error`), and the `last_status`, of its last task."""
    columns = {name: getattr(row, name) for name in Schedule.model_fields if name != "schedule_id"}
    actor = callboard.registry.find(row.actor)
    secret_names = frozenset() if actor is None else secret_parameters(function_of(actor))
    columns["params"] = redact(row.params, secret_names)
    if row.declared is not None:
        columns["declared"] = {**row.declared, "params": redact(row.declared.get("params"), secret_names)}
    return {"id": row.schedule_id, "words": _words(row), "last_status": last_status, **columns}


def with_secrets(given: Any, kept: Mapping[str, Any]) -> Any:
    """Parameters as they were shown and sent back: where a secret's stars stand, the secret stays."""
    if not isinstance(given, Mapping):
        return given
    return {name: kept.get(name, value) if value == REDACTED else value for name, value in given.items()}


def _words(row: Schedule) -> str | None:
    if row.error:
        return None
    return checked_trigger(row.trigger, row.time_zone, row.start_at, row.end_at).in_words()
