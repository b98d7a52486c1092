"""`await actor.send_in(async_session, …)`: as in a Session, without the event loop waiting for Redis."""

import asyncio

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

from models import database
from tests import probes
from tests.servers import wait_until
from workers import callboard, tasks

pytestmark = pytest.mark.usefixtures("bus")


async def _send(*, commits: bool) -> str:
    # psycopg's URL is the same for both; SQLite's driver has none of asyncio.
    url = database.bound_url().replace("sqlite://", "sqlite+aiosqlite://")
    engine = create_async_engine(url)
    async with AsyncSession(engine) as session:
        message = await probes.note.send_in(session, "/dev/null")
        await (session.commit() if commits else session.rollback())
    await engine.dispose()
    return str(message.message_id)


@pytest.mark.usefixtures("ledger_database")
def test_what_an_async_session_commits_goes_out() -> None:
    task_id = asyncio.run(_send(commits=True))

    assert tasks.get_task(task_id) is not None
    wait_until(
        lambda: not callboard.broker.absent([("jobs", task_id)]), within_s=5, what="the message to be on the bus"
    )


@pytest.mark.usefixtures("ledger_database")
def test_what_an_async_session_rolls_back_never_existed() -> None:
    task_id = asyncio.run(_send(commits=False))

    assert tasks.get_task(task_id) is None
    assert callboard.broker.absent([("jobs", task_id)]) == {task_id}
