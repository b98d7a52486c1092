"""`/metrics`: a strict parser takes it, it says what happened, and a part that is away leaves the rest."""

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
from dramatiq import Worker
from prometheus_client import parser
from prometheus_client.openmetrics import parser as openmetrics_parser

from models import database
from models.task import TERMINAL
from tests import probes
from tests.faults.lock_probes import stay
from tests.models.conftest import rebind
from tests.servers import OwnRedis, wait_until
from tests.workers.web.conftest import api, api_url
from workers import Callboard, tasks
from workers.ledger.upkeep import Upkeep
from workers.metrics import exposition

__all__ = ["api", "api_url", "rebind"]

Samples = dict[tuple[str, tuple[str, ...]], float]


def scraped() -> Samples:
    """Every sample of now, by its name and its labels' values."""
    text, _ = exposition()
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in parser.text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def do_upkeep(system: Callboard) -> None:
    Upkeep(system.broker, holder="test", settle_after_s=1, reconcile_s=0, sweep_s=0).run_due()


def ended(*task_ids: str) -> None:
    def all_have() -> bool:
        rows = [tasks.get_task(task_id) for task_id in task_ids]
        return all(row is not None and row.status in TERMINAL for row in rows)

    wait_until(all_have, within_s=20, what="the end of the tasks")


def test_what_happened_is_counted(ledger_database: str, system: Callboard, worker: Worker, tmp_path: Path) -> None:
    added = [probes.add.send(1, 2).message_id for _ in range(5)]
    failing = probes.fail_times.send(str(tmp_path / "evidence"), 2).message_id
    ended(*added, failing)
    probes.add.send_with_options(args=(1, 2), delay=3_600_000)
    do_upkeep(system)

    found = scraped()

    assert found["callboard_up", ("database",)] == found["callboard_up", ("redis",)] == 1
    assert found["callboard_tasks_enqueued_total", ()] == 7
    assert found["callboard_tasks", ("pending",)] == 1
    assert found["callboard_tasks_finished_total", ("probes.add", "jobs", "completed")] == 5
    assert found["callboard_tasks_finished_total", ("probes.add", "jobs", "failed")] == 0
    assert found["callboard_tasks_finished_total", ("probes.fail_times", "jobs", "completed")] == 1
    assert found["callboard_task_retries_total", ("probes.fail_times", "jobs")] == 2
    assert found["callboard_task_run_seconds_count", ("probes.fail_times", "jobs")] == 3
    assert found["callboard_task_wait_seconds_count", ("probes.add", "jobs")] == 5
    assert found["callboard_task_wait_seconds_sum", ("probes.add", "jobs")] < 3_600
    assert found["callboard_queue_messages", ("jobs", "delayed")] == 1
    assert found["callboard_workers", ()] == 1
    assert found["callboard_worker_threads", ()] == 4
    assert found["callboard_drift", ("without_message",)] == 0

    def is_flush_measured() -> bool:
        probes.add.send(1, 2)  # why: the times of a flush are written by one that comes a second later.
        return scraped()["callboard_ledger_flush_seconds_count", ()] >= 1

    wait_until(is_flush_measured, within_s=20, what="the times of a flush")


@pytest.mark.parametrize(
    ("accept", "parse"),
    [
        ("", parser.text_string_to_metric_families),
        ("application/openmetrics-text; version=1.0.0", openmetrics_parser.text_string_to_metric_families),
    ],
)
@pytest.mark.usefixtures("system")
def test_a_strict_parser_takes_it(api: httpx2.Client, accept: str, parse: object) -> None:
    probes.add.send(1, 2)

    answer = api.get("/metrics", headers={"Accept": accept})

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(accept.split(";", maxsplit=1)[0] or "text/plain")
    families = list(parse(answer.text))  # type: ignore[operator]
    assert len(families) > 20
    assert all(family.documentation and family.name.startswith("callboard_") for family in families)


@pytest.mark.usefixtures("system")
def test_names_are_as_promtool_wants_them(worker: Worker) -> None:
    """The rules of `promtool check metrics`: totals are counters and no others are, base units, no type in a name."""
    ended(probes.add.send(1, 2).message_id)

    families = list(parser.text_string_to_metric_families(exposition()[0].decode()))

    for family in families:
        words = family.name.split("_")
        assert re.fullmatch(r"callboard(_[a-z]+)+", family.name), family.name
        assert not {"ms", "milliseconds", "minutes", "hours", "kb", "percent", family.type} & set(words), family.name
        samples = {sample.name.removeprefix(family.name) for sample in family.samples}
        assert (
            samples <= {"counter": {"_total"}, "gauge": {""}, "histogram": {"_bucket", "_count", "_sum"}}[family.type]
        )
        assert family.type == "counter" or words[-1] not in ("total", "count", "sum", "bucket")
        assert all(re.fullmatch(r"[a-z]+", label) for sample in family.samples for label in sample.labels)
    series = [(one.name, tuple(sorted(one.labels.items()))) for family in families for one in family.samples]
    assert len(set(series)) == len(series) > 50


def test_a_lock_that_was_waited_for_is_counted(system: Callboard, worker: Worker, tmp_path: Path) -> None:
    first = stay.send(str(tmp_path / "paper"), "first", 0.3).message_id
    second = stay.send(str(tmp_path / "paper"), "second").message_id
    ended(first, second)

    found = scraped()

    assert found["callboard_lock_acquired_total", ("vault",)] == 2
    assert found["callboard_lock_waits_total", ("vault",)] == 1
    assert found["callboard_lock_wait_seconds_total", ("vault",)] > 0


def test_without_redis_the_rest_is_shown(system: Callboard, own_redis: OwnRedis) -> None:
    own_redis.kill()

    found = scraped()

    assert (found["callboard_up", ("redis",)], found["callboard_up", ("database",)]) == (0, 1)
    assert found["callboard_workers", ()] == 0
    assert not any(name.startswith("callboard_queue") for name, _ in found)


@pytest.mark.usefixtures("rebind")
def test_without_the_database_the_rest_is_shown(bus: object, tmp_path: Path) -> None:
    database.bind(f"sqlite:///{tmp_path / 'none.db'}")

    found = scraped()

    assert (found["callboard_up", ("redis",)], found["callboard_up", ("database",)]) == (1, 0)
    assert ("callboard_queue_messages", ("jobs", "waiting")) in found


def test_every_process_says_the_same(system: Callboard, worker: Worker) -> None:
    """Counters are not in this process's memory: another one, that has done nothing, shows them."""
    ended(probes.add.send(1, 2).message_id)
    do_upkeep(system)

    shown = subprocess.run(
        [sys.executable, "-c", "from workers.metrics import exposition; print(exposition()[0].decode())"],
        env={**os.environ, "CALLBOARD_DATABASE_URL": database.bound_url()},
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip

    counters = [line for line in exposition()[0].decode().splitlines() if "_total" in line or "_bucket" in line]
    assert counters
    assert set(counters) <= set(shown.splitlines())
