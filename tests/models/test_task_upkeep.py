"""Who does a chore: the table `chores` decides, on both databases, whatever the clocks do."""

from datetime import UTC, datetime, timedelta

import pytest

from models import direct, task_upkeep
from models.task_upkeep import CLOCKS_DIFFER_BY

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
EVERY = timedelta(seconds=10)
HELD = timedelta(seconds=3)
GAP = timedelta(seconds=28)


@pytest.fixture(autouse=True)
def _empty(ledger_database: str) -> None:
    """The table, fresh."""


def take(holder: str, now: datetime) -> datetime | None:
    with direct.transaction() as to:
        return task_upkeep.take_chore(
            to, "sweep", holder=holder, now=now, until=now + HELD, last_before=now - EVERY, gap_before=now - GAP
        )


def done(holder: str, began: datetime) -> None:
    with direct.transaction() as to:
        task_upkeep.record_chore(to, "sweep", holder=holder, began=began, took_ms=7, findings={"found": 2})


def looks_due(now: datetime) -> bool:
    with direct.reading() as to:
        return task_upkeep.standings(to)["sweep"].is_due(now, now - EVERY)


def test_one_takes_it_and_another_when_it_is_due_again() -> None:
    assert take("a", NOW) == NOW
    assert take("b", NOW + timedelta(seconds=1)) is None
    done("a", NOW)
    assert take("b", NOW + timedelta(seconds=9)) is None
    assert not looks_due(NOW + timedelta(seconds=9))
    assert looks_due(NOW + timedelta(seconds=10))
    assert take("b", NOW + timedelta(seconds=10)) == NOW, "it has been done without a gap"


def test_who_died_in_it_delays_it_by_the_hold_and_no_longer() -> None:
    assert take("dead", NOW)
    assert take("b", NOW + HELD) == NOW + HELD, "nobody had ever finished it"


def test_who_was_frozen_in_it_cannot_let_go_of_what_another_holds() -> None:
    take("frozen", NOW)
    take("b", NOW + HELD)
    done("frozen", NOW)

    assert take("c", NOW + HELD + timedelta(seconds=1)) is None


def test_a_gap_is_known_whoever_did_it_before() -> None:
    take("a", NOW)
    done("a", NOW)
    later = NOW + GAP + timedelta(seconds=1)

    assert take("a", later) == later


def test_what_it_failed_with_is_shown_until_it_succeeds() -> None:
    take("a", NOW)
    with direct.transaction() as to:
        task_upkeep.record_failed_chore(to, "sweep", holder="a", error="Redis is away")
    assert shown() == "Redis is away"
    take("b", NOW + HELD)
    done("b", NOW + HELD)

    assert shown() is None


def shown() -> str | None:
    with direct.reading() as to:
        [[error]] = to.run("SELECT error FROM chores")
    return str(error) if error else None


@pytest.mark.parametrize("is_done", [True, False])
def test_a_clock_that_was_set_back_does_not_stop_it(is_done: bool) -> None:
    take("a", NOW)
    if is_done:
        done("a", NOW)
    earlier = NOW - CLOCKS_DIFFER_BY - HELD

    assert looks_due(earlier)
    assert take("b", earlier) == earlier
