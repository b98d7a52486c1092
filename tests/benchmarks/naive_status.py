"""The status table that a team writes in an afternoon: one commit a move, in the hooks. Ours is measured against it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import dramatiq
from dramatiq.broker import Broker, MessageProxy
from sqlalchemy import Engine, event, make_url
from sqlmodel import Field, Session, SQLModel, create_engine


class NaiveTask(SQLModel, table=True):
    """A row a task."""

    __tablename__ = "naive_tasks"

    task_id: str = Field(primary_key=True)
    task_name: str
    status: str = Field(index=True)
    created_at: datetime
    started_at: datetime | None = None
    completed_at: datetime | None = None


def make_engine(url: str) -> Engine:
    """With what it needs to work at all under sixteen threads: WAL and a busy time-out on SQLite."""
    if make_url(url).drivername == "sqlite":
        engine = create_engine(url, connect_args={"timeout": 30})
        event.listen(engine, "connect", lambda connection, _record: connection.execute("PRAGMA journal_mode=WAL"))
        return engine
    return create_engine(url, pool_size=10, max_overflow=10)


class NaiveStatus(dramatiq.Middleware):
    """enqueued → running → done or failed."""

    def __init__(self, url: str) -> None:
        self._engine = make_engine(url)
        NaiveTask.__table__.create(self._engine, checkfirst=True)  # type: ignore[attr-defined]  # SQLModel's

    def before_enqueue(self, broker: Broker, message: dramatiq.Message[Any], delay: int | None) -> None:
        with Session(self._engine) as session:
            session.add(
                NaiveTask(
                    task_id=message.message_id,
                    task_name=message.actor_name,
                    status="enqueued",
                    created_at=datetime.now(UTC),
                )
            )
            session.commit()

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        self._move(message, status="running", started_at=datetime.now(UTC))

    def after_process_message(
        self, broker: Broker, message: MessageProxy, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        self._move(message, status="failed" if exception else "done", completed_at=datetime.now(UTC))

    def _move(self, message: MessageProxy, **values: Any) -> None:
        with Session(self._engine) as session:
            task = session.get(NaiveTask, message.message_id)
            if task is not None:
                task.sqlmodel_update(values)
                session.commit()
