"""Column types that mean the same on SQLite and on PostgreSQL.

Must not: hold tables or queries.
"""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, DateTime, Dialect, TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC datetime on every database.

    SQLite hands `DateTime(timezone=True)` back naive, so a comparison with `datetime.now(UTC)` would raise: the zone
    is put back here. A naive value is refused on the way in, because its zone could only be guessed.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"expected an aware datetime, got the naive {value!r}: add tzinfo=UTC")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class JsonDocument(TypeDecorator[Any]):
    """A JSON value, written as pure ASCII so that NUL and lone surrogates survive as escapes.

    PostgreSQL's `jsonb` refuses both; its `json` type keeps the text as it came. `NaN` and infinities are refused:
    they are no JSON, and a reader in another language would stop at them.
    """

    impl = JSON
    cache_ok = True

    def bind_processor(self, dialect: Dialect) -> Callable[[Any], Any]:
        """Python value → ASCII JSON text; None → SQL NULL."""
        return lambda value: None if value is None else json.dumps(value, allow_nan=False, separators=(",", ":"))

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], Any]:
        """JSON text → Python value. psycopg has already decoded what PostgreSQL calls `json`."""
        return lambda value: (
            json.loads(value) if isinstance(value, (str, bytes)) and dialect.name == "sqlite" else value
        )
