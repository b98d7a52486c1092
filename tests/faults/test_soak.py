"""The soak in short (faults rows 1–4, 13 and 17): a workload of every kind under faults, the rows judged by evidence.

| row  | what happens                                    | besides the rules of tests.soak.judge             |
|------|-------------------------------------------------|---------------------------------------------------|
| 1    | nothing                                         | each task executed once for each of its attempts  |
| 2    | `kill -9` of a worker every 2 s                 | reruns no more than what can have been executing  |
| 3    | Redis killed, and back with its data            | the same                                          |
| 13   | worker after worker told to stop, and replaced  | no rerun but of what outlasted its grace          |
| 4+17 | all of it, the database away, Redis emptied     | the same as 2 and 3                               |

A tenth of the numbers or less; all of them with CALLBOARD_TEST_FULL=1, or by `python -m tests.soak`. The seed is in the
report; CALLBOARD_TEST_SEED gives one.
"""

import os
import random
from typing import Any

import pytest

from tests.conftest import FAST
from tests.soak.plan import Plan
from tests.soak.run import Report, run
from tests.workers.broker.scale import FULL
from workers.settings import Settings

SEED = int(os.environ.get("CALLBOARD_TEST_SEED", random.SystemRandom().randrange(10**6)))
REAL_TIMES = {
    name: str(Settings.model_fields[name.removeprefix("CALLBOARD_").lower()].default)
    for name in FAST
    if name.endswith("_S") and FULL
}
"""Full numbers run with the defaults instead of the tests' tenth of them."""


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def soak(database: str, *, short: dict[str, Any], full: dict[str, Any]) -> Report:
    given = full if FULL else {"workers": 2, "threads": 4, "settle_s": 30.0, "sender_processes": 1, **short}
    return run(Plan(database=database, seed=SEED, settings=REAL_TIMES, **given))


def passed(report: Report) -> bool:
    print(report)
    return not report.findings


def test_without_a_fault_each_attempt_is_one_execution(database: str) -> None:
    report = soak(database, short={"tasks": 300, "seconds": 2}, full={"tasks": 100_000, "seconds": 60})

    assert passed(report)
    assert set(report.verdict.reruns) <= {"retry"}


def test_workers_killed_one_after_the_other_lose_nothing(database: str) -> None:
    report = soak(
        database,
        short={"tasks": 300, "seconds": 5, "kill_every_s": 1.5},
        full={"tasks": 20_000, "seconds": 60, "kill_every_s": 2.0, "settle_s": 30.0},
    )

    assert passed(report)


def test_redis_killed_again_and_again_loses_nothing(database: str) -> None:
    report = soak(
        database,
        short={"tasks": 300, "seconds": 4, "redis_restarts": 2, "redis_down_s": (0.2, 0.8)},
        full={"tasks": 20_000, "seconds": 60, "redis_restarts": 5, "settle_s": 30.0},
    )

    assert passed(report)


def test_workers_deployed_under_load_double_nothing(database: str) -> None:
    report = soak(
        database,
        short={"tasks": 300, "seconds": 5, "deploy_every_s": 2.0},
        full={"tasks": 20_000, "seconds": 60, "deploy_every_s": 3.0},
    )

    assert passed(report)
    assert set(report.verdict.reruns) <= {"retry"}


def test_everything_at_once_loses_nothing(database: str) -> None:
    report = soak(
        database,
        short={
            "tasks": 500, "seconds": 8, "kill_every_s": 2.0, "redis_restarts": 2, "redis_down_s": (0.2, 0.8),
            "database_outage_s": 2.0, "flush": True,
        },
        full={
            "tasks": 100_000, "seconds": 150, "kill_every_s": 2.0, "redis_restarts": 5, "database_outage_s": 30.0,
            "flush": True, "settle_s": 180.0, "workers": 4,
        },
    )  # fmt: skip

    assert passed(report)
