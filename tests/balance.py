"""How the tests are spread over pytest-xdist's processes, so that all of them work until the end.

A file stays on one process, because tests of a file may share what its fixtures set up. The tests of the files in LONG
and LAST share nothing with each other: each goes wherever a process is free.

    first    LONG, in that order: what lasts longest is never left over. They wait for other processes most of the time,
             so there are more processes of pytest than cores (`-n` in pyproject.toml), and
    between  all other files, evenly: they compute, while those wait
    last     the many short tests of LAST: whichever process is free has one left
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from xdist.scheduler.loadscope import LoadScopeScheduling

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

WHOLE = ("tests/acceptance/test_up.py", "tests/workers/test_lifecycle.py")
"""Files that last long, and are one."""
LONG = (
    "tests/acceptance/test_up.py",
    "tests/workers/web/test_conformity.py",
    "tests/faults/test_soak.py",
    "tests/faults/test_outages.py",
    "tests/faults/test_poison.py",
    "tests/faults/test_rolling_deploys.py",
    "tests/faults/test_scheduler.py",
    "tests/acceptance/",
    "tests/workers/broker/test_model.py",
    "tests/faults/test_locks.py",
    "tests/faults/test_supervised_workers.py",
    "tests/faults/test_deaths.py",
    "tests/models/test_task_moves_machine.py",
    "tests/workers/test_lifecycle.py",
    "tests/faults/",
    "tests/workers/test_start_checks.py",
    "tests/periodic/test_process.py",
    "tests/periodic/test_agenda.py",
    "tests/workers/ledger/test_outbox.py",
    "tests/workers/ledger/test_upkeep.py",
    "tests/workers/broker/test_stock_traps.py",
    "tests/workers/broker/test_lease.py",
    "tests/workers/broker/test_limits.py",
)
"""In the order in which they start."""
LAST = ("tests/workers/actors/test_every_actor.py", "tests/models/test_task_filter.py")
BETWEEN = 0.8
"""The last of LONG starts when this part of the other files has been handed out."""


class Balanced(LoadScopeScheduling):
    """Hands out files, or tests one by one, in the order in which they were collected."""

    def __init__(self, config: pytest.Config, log: object = None) -> None:
        super().__init__(config, log)  # type: ignore[arg-type]  # xdist's own type is private
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        return _scope(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Balanced:
    """Take the scheduling from xdist's own."""
    return Balanced(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put them in order."""
    scopes: dict[str, list[pytest.Item]] = {}
    for item in items:
        scopes.setdefault(_scope(item.nodeid), []).append(item)
    long = sorted((name for name in scopes if name.startswith(LONG)), key=_rank)
    last = [name for name in scopes if name.startswith(LAST)]
    others = [name for name in scopes if not name.startswith((*LONG, *LAST))]
    items[:] = [item for name in (*_woven(long, others), *last) for item in scopes[name]]


def _scope(nodeid: str) -> str:
    is_apart = nodeid.startswith((*LONG, *LAST)) and not nodeid.startswith(WHOLE)
    return nodeid if is_apart else nodeid.partition("::")[0]


def _rank(name: str) -> int:
    return next(rank for rank, start in enumerate(LONG) if name.startswith(start))


def _woven(long: Sequence[str], others: Sequence[str]) -> Iterator[str]:
    """All of `long`, and after each its share of `others`."""
    given = 0
    for number, name in enumerate(long, start=1):
        yield name
        due = round(BETWEEN * len(others) * number / len(long))
        yield from others[given:due]
        given = due
    yield from others[given:]
