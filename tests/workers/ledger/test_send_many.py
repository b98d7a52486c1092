"""Many at once: a transaction and a call of the bus for each thousand, in order."""

import pytest
import redis

from models import database, task_query
from models.task_query import TaskFilter
from tests import probes
from tests.servers import OwnRedis
from workers import callboard, tasks
from workers.errors import InvalidTask
from workers.ledger.bus import CHUNK

pytestmark = pytest.mark.usefixtures("ledger_database", "bus")


def commands(bus: redis.Redis) -> int:
    return int(bus.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"])


def test_each_gets_its_row_and_its_message() -> None:
    sent = probes.add.send_many([{"left": 1, "right": 2}, (3, 4), [5, 6]], priority=9)

    ids = [message.message_id for message in sent]
    assert callboard.broker.absent([("jobs", task_id) for task_id in ids]) == set()
    found = [tasks.get_task_status(task_id) for task_id in ids]
    assert [one and one["params"] for one in found] == [
        {"left": 1, "right": 2}, {"left": 3, "right": 4}, {"left": 5, "right": 6},
    ]  # fmt: skip
    assert all(one and one["priority"] == 9 and one["enqueued_at"] for one in found)


def test_thousands_go_in_chunks(bus: redis.Redis) -> None:
    how_many = 2 * CHUNK + 1
    probes.add.send(0, 0)
    before = commands(bus)

    sent = tasks.send_many([probes.add.message(number, 1) for number in range(how_many)])

    assert tasks.get_task_count() == how_many + 1
    assert commands(bus) - before == 3
    with database.reading() as session:
        newest = task_query.page(session, TaskFilter(), limit=1, offset=0)[0].task_id
    assert newest == max(sent)


def test_one_that_is_wrong_sends_none() -> None:
    messages = [probes.add.message(1, 1) for _ in range(CHUNK + 1)]

    with pytest.raises(InvalidTask, match=r"params\.right"):
        tasks.send_many([*messages, probes.add.message(1, "x")])

    assert tasks.get_task_count() == 0


def test_sending_all_again_adds_nothing() -> None:
    messages = [probes.add.message(number, 1) for number in range(10)]
    copies = [message.copy() for message in messages]

    assert tasks.send_many(messages) == tasks.send_many(copies)
    assert tasks.get_task_count() == 10


def test_none_is_not_an_error() -> None:
    assert tasks.send_many([]) == []


def test_a_bus_that_is_down_leaves_them_to_the_relay(own_redis: OwnRedis) -> None:
    own_redis.kill()

    sent = probes.add.send_many([(1, number) for number in range(5)])

    rows = [tasks.get_task(message.message_id) for message in sent]
    assert [row is not None and row.enqueued_at for row in rows] == [None] * 5
