"""The soak in short (faults rows 1–4, 13 and 17): a workload of every kind under faults, the rows judged by evidence.

| row  | what happens                                    | besides the rules of tests.soak.judge             |
|------|-------------------------------------------------|---------------------------------------------------|
| 1    | nothing                                         | each task executed once for each of its attempts  |
| 2    | `kill -9` of a worker every 2 s                 | reruns no more than what can have been executing  |
| 3    | Redis killed, and back with its data            | the same                                          |
| 13   | worker after worker told to stop, and replaced  | no rerun but of what outlasted its grace          |
| 4+17 | all of it, the database away, Redis emptied     | the same as 2 and 3                               |

A tenth of the numbers or less, and 1 with 13, 2 with 3: the judge's rules and bounds are the same, each fault has its
own. All numbers, each row by itself, with CALLBOARD_TEST_FULL=1, or by `python -m tests.soak`. The seed is in the
report; CALLBOARD_TEST_SEED gives one.
"""

import os
import random
from typing import Any

import pytest

from tests.conftest import FAST
from tests.scale import FULL
from tests.soak.plan import Plan
from tests.soak.run import Report, run
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


@pytest.mark.parametrize("faults", [{}, {"deploy_every_s": 3.0}] if FULL else [{"deploy_every_s": 2.0}], ids=", ".join)
def test_without_a_kill_each_attempt_is_one_execution(database: str, faults: dict[str, Any]) -> None:
    size = {"tasks": 20_000 if faults else 100_000, "seconds": 60}
    report = soak(database, short={"tasks": 300, "seconds": 5, **faults}, full={**size, **faults})

    assert passed(report)
    assert set(report.verdict.reruns) <= {"retry"}


KILLS: dict[str, Any] = {"kill_every_s": 2.0}
RESTARTS: dict[str, Any] = {"redis_restarts": 5}
BOTH_IN_SHORT: dict[str, Any] = {"kill_every_s": 1.5, "redis_restarts": 2, "redis_down_s": (0.2, 0.8)}


@pytest.mark.parametrize("faults", [KILLS, RESTARTS] if FULL else [BOTH_IN_SHORT], ids=", ".join)
def test_workers_and_redis_killed_again_and_again_lose_nothing(database: str, faults: dict[str, Any]) -> None:
    report = soak(
        database,
        short={"tasks": 300, "seconds": 5, **faults},
        full={"tasks": 20_000, "seconds": 60, "settle_s": 30.0, **faults},
    )

    assert passed(report)


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
