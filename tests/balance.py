"""How the tests are spread over pytest-xdist's processes: what lasts longest starts first, so that none is left over.

A file stays on one process, because tests of a file may share what its fixtures set up. The tests of the files in
APART share nothing with each other and last long: each goes wherever a process is free. Most of them wait for other
processes most of the time, so there are more processes of pytest than cores (`-n` in pyproject.toml).
"""

import pytest
from xdist.scheduler.loadscope import LoadScopeScheduling

APART = (
    "tests/faults/test_soak.py",
    "tests/faults/test_outages.py",
    "tests/faults/test_poison.py",
    "tests/faults/test_rolling_deploys.py",
    "tests/faults/test_scheduler.py",
    "tests/faults/test_locks.py",
    "tests/faults/test_supervised_workers.py",
    "tests/workers/broker/test_model.py",
    "tests/faults/test_deaths.py",
    "tests/models/test_task_moves_machine.py",
    "tests/acceptance/test_readme.py",
    "tests/faults/test_crash_points.py",
    "tests/faults/test_send_in.py",
    "tests/faults/test_cancel_race.py",
    "tests/periodic/test_process.py",
    "tests/periodic/test_agenda.py",
    "tests/workers/ledger/test_outbox.py",
    "tests/workers/ledger/test_upkeep.py",
    "tests/workers/broker/test_stock_traps.py",
)
"""In the order in which they start."""
FIRST = (
    "tests/acceptance/test_up.py",
    "tests/workers/web/test_conformity.py",
    *APART,
    "tests/faults/",
    "tests/workers/test_lifecycle.py",
)
"""Files and folders that last long; the rest comes after them."""


class Balanced(LoadScopeScheduling):
    """Hands out files, and the tests of APART one by one, in the order in which they were collected."""

    def __init__(self, config: pytest.Config, log: object = None) -> None:
        super().__init__(config, log)  # type: ignore[arg-type]  # xdist's own type is private
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        return nodeid if nodeid.startswith(APART) else nodeid.split("::", 1)[0]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Balanced:
    """Take the scheduling from xdist's own."""
    return Balanced(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what lasts longest first."""
    items.sort(key=_rank)


def _rank(item: pytest.Item) -> int:
    return next((rank for rank, start in enumerate(FIRST) if item.nodeid.startswith(start)), len(FIRST))
