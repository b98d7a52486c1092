"""What sending costs in calls of the databases: a row and its commit are one."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlmodel import Session

from models import database, direct
from tests import probes
from tests.flights import Flights, counted

pytestmark = pytest.mark.usefixtures("bus")
SENDS = 20


@pytest.fixture
def flights(postgres_database: str) -> Iterator[Flights]:
    """Counts what goes to PostgreSQL from here on."""
    with tempfile.TemporaryDirectory(prefix="cb-") as name, counted(postgres_database, Path(name)) as (url, found):
        database.bind(url)
        yield found
        direct.forget()
        database.engine().dispose()
        database.bind(postgres_database)


def _cost(flights: Flights, work: Callable[[], object]) -> float:
    for _ in range(6):  # Until connections are open and statements prepared.
        work()
    before = flights.count
    for _ in range(SENDS):
        work()
    return (flights.count - before) / SENDS


def test_a_send_is_one_round_trip_to_postgresql(flights: Flights) -> None:
    assert _cost(flights, lambda: probes.note.send("/dev/null")) == 1


def test_a_thousand_at_once_are_one_round_trip_to_postgresql(flights: Flights) -> None:
    assert _cost(flights, lambda: probes.note.send_many([("/dev/null",)] * 1000)) == 1


def test_send_in_adds_its_row_to_the_transaction_and_one_round_trip_after_it(flights: Flights) -> None:
    def transact(*, sends: bool) -> None:
        with Session(database.engine()) as session:
            session.connection().exec_driver_sql("SELECT 1")
            if sends:
                probes.note.send_in(session, "/dev/null")
            session.commit()

    assert _cost(flights, lambda: transact(sends=True)) - _cost(flights, lambda: transact(sends=False)) == 2
