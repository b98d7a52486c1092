"""A worker process has loaded only what it uses: what SQLAlchemy and the like take would be paid by each of them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlmodel import col, select

from models import database
from models.task import Chore, TaskStatus
from tests import servers
from tests.conftest import FAST
from tests.servers import OwnRedis, wait_until
from tests.workers import loaded
from workers import tasks

PROJECT_DIR = Path(__file__).resolve().parents[2]
HEAVY = {"sqlalchemy": 18, "sqlmodel": 1, "alembic": 15, "psycopg": 9, "jinja2": 3, "reportlab": 20, "fastapi": 30,
         "typer": 5, "rich": 5, "psutil": 2, "aiosmtpd": 3}  # fmt: skip
"""Package → about how many MB it adds to a worker process."""
FIRST_CHORES = {"relay", "cancel", "rescue", "prune", "groups"}


@pytest.fixture
def worker_process(own_redis: OwnRedis, ledger_database: str, tmp_path: Path) -> Iterator[None]:
    """`dramatiq workers` as anybody starts it: it makes the start checks itself."""
    environment = {
        **os.environ,
        **FAST,
        "CALLBOARD_REDIS_URL": own_redis.url,
        "CALLBOARD_DATABASE_URL": ledger_database,
        "CALLBOARD_ACTOR_MODULES": loaded.__name__,
    }
    command = [str(Path(sys.executable).parent / "dramatiq"), "workers", "--processes", "1", "--threads", "2"]
    with (tmp_path / "worker.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=PROJECT_DIR, env=environment, stdout=log, stderr=log)
    yield
    process.terminate()  # why: killed, it would leave a worker behind that takes another test's message.
    try:
        process.wait(timeout=90)
    finally:
        servers.end(process)


def chores_done() -> set[str]:
    with database.reading() as session:
        return set(session.exec(select(Chore.name).where(col(Chore.last_run_at).is_not(None))).all())


@pytest.mark.usefixtures("worker_process")
def test_a_worker_that_checked_ran_and_kept_house_has_loaded_nothing_heavy(ledger_database: str) -> None:
    wait_until(lambda: chores_done() >= FIRST_CHORES, within_s=40, what="each chore to be done once")

    task_id = loaded.packages.send(1).message_id
    wait_until(lambda: tasks.get_task(task_id).status == TaskStatus.COMPLETED, within_s=20, what="the task to end")  # type: ignore[union-attr]  # the row is there

    task = tasks.get_task(task_id)
    assert task is not None
    assert task.result["pid"] != os.getpid()
    # Where the extra `traces` is installed, as here, redis-py loads OpenTelemetry's SDK, and that psutil: 3 MB in all.
    needed = {"psutil"} if ledger_database.startswith("sqlite") else {"psutil", "psycopg"}
    assert HEAVY.keys() & set(task.result["packages"]) == needed
