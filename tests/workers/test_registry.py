"""Actors by name: how they are declared, found, refused, and what a send may say."""

import re
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import dramatiq
import pytest
from dramatiq.brokers.stub import StubBroker

from models.task import TaskType
from workers import callboard
from workers.actors.diagnostics import run_self_test
from workers.errors import InvalidTask, UnknownActor
from workers.options import MAX_DELAY
from workers.registry import (
    TYPE_DEFAULTS,
    DuplicateActor,
    Registry,
    RegistryMiddleware,
    actor,
    check_type,
    default_priority_of,
    function_of,
    source_of,
    type_of,
)

DEFAULTS = {
    "email": ("email", 3),
    "report": ("reports", 5),
    "analytics": ("analytics", 2),
    "cleanup": ("cleanup", 1),
    "integration": ("external_api", 5),
    "network": ("network", 5),
    "media": ("media", 4),
    "ticket": ("tickets", 7),
    "job": ("jobs", 6),
    "health": ("health", 8),
}
"""The table of types in spec/inventory.md, written down a second time."""


@pytest.fixture
def registry() -> Iterator[Registry]:
    """An empty registry, into which actors are declared while the test runs."""
    made = Registry()
    broker = StubBroker()
    broker.add_middleware(RegistryMiddleware(made))
    before = dramatiq.get_broker()
    dramatiq.set_broker(broker)
    yield made
    dramatiq.set_broker(before)


def work(steps: int = 1) -> None:
    """Do nothing."""


async def work_async(steps: int = 1) -> None:
    """Do nothing, asynchronously."""


def test_types_have_the_queues_and_priorities_that_are_written_down() -> None:
    assert {str(task_type): default for task_type, default in TYPE_DEFAULTS.items()} == DEFAULTS


@pytest.mark.parametrize("task_type", TaskType)
def test_the_type_decides_queue_and_priority(registry: Registry, task_type: TaskType) -> None:
    declared = actor(task_type=task_type)(work)

    assert (declared.queue_name, default_priority_of(declared)) == DEFAULTS[task_type]
    assert type_of(declared) == task_type


def test_queue_and_priority_can_be_overridden_where_it_is_declared(registry: Registry) -> None:
    declared = actor(task_type=TaskType.EMAIL, queue="fast", priority=10)(work)

    assert (declared.queue_name, default_priority_of(declared)) == ("fast", 10)


def test_dramatiqs_own_order_agrees_with_ours(registry: Registry) -> None:
    first = actor(task_type=TaskType.EMAIL, priority=10, name="x.first")(work)
    last = actor(task_type=TaskType.EMAIL, priority=1, name="x.last")(work)

    assert first.priority < last.priority  # Dramatiq starts the smaller number first.


def test_the_name_is_module_and_function_unless_it_is_given(registry: Registry) -> None:
    assert actor(task_type=TaskType.JOB)(work).actor_name == "test_registry.work"
    assert actor(task_type=TaskType.JOB, name="jobs.other")(work).actor_name == "jobs.other"


def test_an_actor_is_found_by_its_name_and_by_each_alias(registry: Registry) -> None:
    declared = actor(task_type=TaskType.JOB, name="jobs.work", aliases=("old", "older.old"))(work)

    assert [registry.resolve(name) for name in ("jobs.work", "old", "older.old")] == [declared] * 3
    assert registry.find("oldest") is None


@pytest.mark.parametrize(
    ("name", "aliases"), [("a.one", ()), ("a.two", ("a.one",)), ("a.two", ("legacy",)), ("legacy", ())]
)
def test_a_name_that_is_taken_is_refused_naming_both_places(
    registry: Registry, name: str, aliases: tuple[str, ...]
) -> None:
    taken = actor(task_type=TaskType.JOB, name="a.one", aliases=("legacy",))(work)

    with pytest.raises(DuplicateActor, match="rename one of them") as raised:
        actor(task_type=TaskType.JOB, name=name, aliases=aliases)(work_async)

    assert all(place in str(raised.value) for place in (source_of(taken), f"{__name__}:{line_of('async def work')}"))
    assert registry.actors == {"a.one": taken}
    assert registry.aliases == {"legacy": "a.one"}


def line_of(start: str) -> int:
    lines = Path(__file__).read_text().splitlines()
    return next(number for number, line in enumerate(lines, 1) if line.startswith(start))


def test_a_duplicate_name_is_reported_at_import_with_both_places(tmp_path: Path) -> None:
    (tmp_path / "team.py").write_text("import dramatiq\n\n\n@dramatiq.actor(actor_name='health_check')\ndef f(): ...\n")
    script = "import sys; sys.path.insert(0, sys.argv[1]); import workers; import team"

    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=False)

    assert ended.returncode != 0
    assert re.search(
        r"DuplicateActor: 'health_check' is declared at team:4 and at workers\.actors\.health:\d+: rename one of them",
        ended.stderr,
    )


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ("diagnostics.run_selftest", "did you mean diagnostics.run_self_test"),
        ("email.send_confirmaton", "did you mean email.send_confirmation"),
        ("generate_pdf", "did you mean reports.generate_pdf"),
        ("__import__", "see `callboard actors` for the names"),
        ("", "see `callboard actors` for the names"),
        ("x" * 1_000_000, "see `callboard actors` for the names"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_ones(asked: str, hint: str) -> None:
    with pytest.raises(UnknownActor, match=re.escape(hint)) as raised:
        callboard.registry.resolve(asked)

    assert raised.value.field == "task_name"
    assert len(str(raised.value)) < 500


def test_an_unknown_type_is_refused_with_the_list() -> None:
    with pytest.raises(InvalidTask, match=r"task_type: expected one of email, report, .* health; got 'mail'"):
        check_type("mail")


BAD_PRIORITIES = [0, 11, -1, True, "5", 5.0, None]


@pytest.mark.parametrize("priority", [value for value in BAD_PRIORITIES if value is not None], ids=repr)
def test_a_priority_outside_one_to_ten_is_refused_at_declaration_and_send(registry: Registry, priority: Any) -> None:
    mend = re.escape(f"priority: expected a whole number from 1 (last) to 10 (first), got {priority!r}")

    with pytest.raises(InvalidTask, match=mend):
        actor(task_type=TaskType.JOB, priority=priority)
    with pytest.raises(InvalidTask, match=mend):
        run_self_test.message_with_options(priority=priority)


@pytest.mark.parametrize("priority", range(1, 11))
def test_each_priority_from_one_to_ten_can_be_asked_for(priority: int) -> None:
    assert run_self_test.message_with_options(priority=priority).options["priority"] == priority


def test_a_plain_dramatiq_actor_is_registered_with_priority_five(registry: Registry) -> None:
    declared = dramatiq.actor(work)

    assert registry.resolve("work") is declared
    assert (default_priority_of(declared), type_of(declared)) == (5, None)
    assert function_of(declared) is work


@pytest.mark.parametrize("declare", [dramatiq.actor, actor(task_type=TaskType.JOB)], ids=["dramatiq", "callboard"])
def test_the_function_of_an_async_actor_is_the_one_that_was_written(registry: Registry, declare: Any) -> None:
    dramatiq.get_broker().add_middleware(dramatiq.middleware.AsyncIO())

    assert function_of(declare(work_async)) is work_async


def test_an_actor_that_is_called_runs_in_place() -> None:
    assert run_self_test(steps=1, seconds=0) == {"steps": 1, "seconds": 0, "attempt": 1}


def test_a_mistyped_option_of_a_declaration_is_refused_at_import(registry: Registry) -> None:
    with pytest.raises(ValueError, match="max_retry"):
        dramatiq.actor(max_retry=3)(work)


@pytest.mark.parametrize(
    ("written", "starts", "seconds"),
    [
        ("10/s", 10, 1.0),
        ("100/m", 100, 60.0),
        ("5/h", 5, 3600.0),
        ((3, 0.5), 3, 0.5),
        ((10_000, 86_400), 10_000, 86_400.0),
    ],
)
def test_a_rate_is_read_where_it_is_declared(registry: Registry, written: Any, starts: int, seconds: float) -> None:
    declared = actor(task_type=TaskType.EMAIL, concurrency=3, rate_limit=written)(work)

    assert (declared.options["concurrency"], declared.options["rate_limit"]) == (3, (starts, seconds))


@pytest.mark.parametrize(
    "options",
    [
        *({"concurrency": wrong} for wrong in (0, -1, True, "3", 1.5, 100_001)),
        *({"rate_limit": wrong} for wrong in ("", "10", "10/d", "0/s", "-1/s", "1.5/s", "10 / s", "10/s ", "10001/s")),
        *(
            {"rate_limit": wrong}
            for wrong in ((0, 1), (1, 0), (1, -1), (1, float("nan")), (1, 1e9), (1,), 10, (True, 1))
        ),
    ],
)
@pytest.mark.parametrize("declare", [partial(actor, task_type=TaskType.EMAIL), dramatiq.actor])
def test_a_limit_that_is_none_is_refused_at_import_with_the_form(
    registry: Registry, options: dict[str, Any], declare: Any
) -> None:
    (name,) = options

    with pytest.raises(InvalidTask, match=f"{name}: expected .*got") as refused:
        declare(**options)(work)

    assert refused.value.field == name
    assert registry.actors == {}


def test_messages_of_a_limited_actor_wait_in_its_lane_under_all_of_its_names() -> None:
    declared = actor(task_type=TaskType.EMAIL, name="limits.try", aliases=("old.try",), rate_limit="5/m")(work)
    try:
        lanes = {callboard.broker.lane_of("email", name) for name in ("limits.try", "old.try")}
        assert lanes == {"email|limits.try"}
        assert "limits.try\n0 5 60000000" in callboard.broker.limits()
        assert callboard.broker.lane_of("email", run_self_test.actor_name) == "email"
    finally:
        del callboard.registry.actors[declared.actor_name], callboard.registry.aliases["old.try"]
        del callboard.broker.actors[declared.actor_name]


BAD_OPTIONS: list[tuple[dict[str, Any], str, str]] = [
    ({"priorty": 3}, "priorty", "'priorty' is no option of a send: did you mean 'priority'?"),
    ({"max_retry": 3}, "max_retry", "did you mean 'max_retries'?"),
    ({"dely": 3}, "dely", "did you mean 'delay'?"),
    ({"queue_name": "x"}, "queue_name", "is no option of a send: expected one of"),
    ({"throws": ()}, "throws", "is no option of a send"),
    ({"on_retry_exhausted": "x"}, "on_retry_exhausted", "is no option of a send"),
    ({"tags": "abc"}, "tags", "tags: expected a list of short texts, got 'abc'"),
    ({"tags": [1]}, "tags", "tags: expected a list of short texts"),
    ({"correlation_id": 5}, "correlation_id", "correlation_id: expected printable text of at most 100 characters"),
    ({"correlation_id": "x" * 101}, "correlation_id", "expected printable text of at most 100 characters"),
    ({"correlation_id": "a\x00"}, "correlation_id", "expected printable text of at most 100 characters"),
    ({"max_retries": -1}, "max_retries", "max_retries: expected a whole number, 0–1000, got -1"),
    ({"max_retries": "3"}, "max_retries", "max_retries: expected a whole number"),
    ({"time_limit": 1e99}, "time_limit", "time_limit: expected whole milliseconds, 1–604800000"),
    ({"min_backoff": True}, "min_backoff", "min_backoff: expected whole milliseconds"),
    ({"time_limit_s": 1e99}, "time_limit_s", "time_limit_s: expected seconds, above 0 and at most 604800"),
    ({"min_backoff_s": True}, "min_backoff_s", "min_backoff_s: expected seconds"),
    ({"max_backoff_s": "1"}, "max_backoff_s", "max_backoff_s: expected seconds"),
    ({"unique_for_s": 0}, "unique_for_s", "unique_for_s: expected seconds, above 0 and at most 31622400, got 0"),
    ({"time_limit": 5, "time_limit_s": 5}, "time_limit_s", "time_limit_s: expected it or time_limit, got both"),
    ({"delay": -1}, "delay", "delay: expected whole milliseconds, 0–316224000000, or a timedelta; got -1"),
    ({"delay": 10**30}, "delay", "delay: expected whole milliseconds"),
    ({"delay": 1.5}, "delay", "delay: expected whole milliseconds"),
    ({"delay": MAX_DELAY * 2}, "delay", "delay: expected whole milliseconds"),
    ({"eta": datetime.max.replace(tzinfo=UTC)}, "delay", "delay: expected whole milliseconds"),
    ({"eta": datetime.fromisoformat("2026-11-22 12:00")}, "eta", "eta: expected an aware time"),
    ({"eta": datetime.now(UTC), "delay": 5}, "eta", "eta: expected either delay= or eta=, got both"),
]


@pytest.mark.parametrize(("options", "field", "mend"), BAD_OPTIONS, ids=lambda value: str(value)[:30])
def test_an_option_that_cannot_be_is_refused_by_name_and_nothing_is_sent(
    sqlite_database: str, options: dict[str, Any], field: str, mend: str
) -> None:
    with pytest.raises(InvalidTask, match=re.escape(mend)) as raised:
        run_self_test.send_with_options(**options)

    assert raised.value.field == field


def test_an_option_that_is_none_is_one_that_was_not_given() -> None:
    assert run_self_test.message_with_options(priority=None, tags=None).options == {}


def test_durations_in_seconds_are_dramatiqs_own_in_milliseconds() -> None:
    in_seconds = run_self_test.message_with_options(
        time_limit_s=1.5, min_backoff_s=0.0001, max_backoff_s=60, idempotency_key="k", unique_for_s=30
    )

    assert in_seconds.options == {
        "time_limit": 1_500, "min_backoff": 1, "max_backoff": 60_000, "idempotency_key": "k", "unique_for": 30
    }  # fmt: skip


def delay_ms_of(**options: Any) -> int:
    """How far away a message is that was sent with these options."""
    before_ms = time.time_ns() // 1_000_000
    message = run_self_test.send_with_options(kwargs={"steps": 1, "seconds": 0}, **options)
    return int(message.options["eta"]) - before_ms if "eta" in message.options else 0


@pytest.mark.parametrize(
    ("options", "expected_ms"),
    [
        ({}, 0),
        ({"delay": 60_000}, 60_000),
        ({"delay": timedelta(minutes=1)}, 60_000),
        ({"eta": datetime.now(UTC) - timedelta(days=1)}, 0),
    ],
    ids=["none", "milliseconds", "timedelta", "past"],
)
@pytest.mark.usefixtures("system")
def test_a_delay_is_kept_in_milliseconds(options: dict[str, Any], expected_ms: int) -> None:
    assert expected_ms <= delay_ms_of(**options) <= expected_ms + 5_000


@pytest.mark.usefixtures("system")
def test_an_eta_is_a_delay_until_then() -> None:
    assert 55_000 <= delay_ms_of(eta=datetime.now(UTC) + timedelta(minutes=1)) <= 65_000


def test_ids_are_uuids_of_version_seven_in_the_order_of_their_time() -> None:
    before_ms = time.time_ns() // 1_000_000
    ids = [uuid.UUID(run_self_test.message().message_id) for _ in range(1_000)]

    assert {(one.version, one.variant) for one in ids} == {(7, uuid.RFC_4122)}
    times_ms = [one.int >> 80 for one in ids]
    assert times_ms == sorted(times_ms)
    assert before_ms <= times_ms[0] <= times_ms[-1] <= time.time_ns() // 1_000_000
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    ("options", "field", "mend"),
    [
        ({"on_lost": "ignore"}, "on_lost", "on_lost: expected 'rerun' or 'fail', got 'ignore'"),
        ({"hard_time_limit_s": 5}, "hard_time_limit_s", "hard_time_limit_s needs isolated=True"),
        ({"memory_limit_mb": 5}, "memory_limit_mb", "memory_limit_mb needs isolated=True"),
        (
            {"isolated": True, "hard_time_limit_s": 5, "time_limit_s": 5},
            "hard_time_limit_s",
            "expected more than time_limit_s (5) and at most 604800, got 5",
        ),
        ({"isolated": True, "hard_time_limit_s": 0}, "hard_time_limit_s", "expected more than 0 and at most"),
        ({"isolated": True, "memory_limit_mb": 0.5}, "memory_limit_mb", "expected a whole number of MiB, 1–1048576"),
    ],
)
def test_a_way_of_running_that_cannot_be_is_refused_where_it_is_declared(
    options: dict[str, Any], field: str, mend: str
) -> None:
    with pytest.raises(InvalidTask, match=re.escape(mend)) as raised:
        actor(task_type=TaskType.JOB, **options)

    assert raised.value.field == field
