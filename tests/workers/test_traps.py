"""The traps of spec/traps.md, and for each of them the tests that fail with stock behaviour.

Those of middleware and enqueue hooks are here; the others live with what they are about (TRAPS).
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dramatiq
import httpx2
import pytest
import redis
from dramatiq.broker import Broker, MessageProxy
from sqlalchemy import text

from models import database
from models.task import TaskStatus
from tests import probes
from tests.servers import wait_until
from tests.workers.broker.slow_hook import Slow
from tests.workers.cli.conftest import Run, run
from tests.workers.refusing import migrated, refusing
from tests.workers.rows import ended, outcomes, row
from tests.workers.web.conftest import api, api_url
from workers import callboard, tasks
from workers.errors import InvalidTask, LedgerUnavailable
from workers.middleware.retries import Retries
from workers.middleware.status import Status
from workers.middleware.time_limit import TimeLimit

__all__ = ["api", "api_url", "migrated", "refusing", "run"]

HERE = "workers/test_traps.py"
STOCK = "workers/broker/test_stock_traps.py"
"""Where stock is sent into the trap, so that it is seen to be one."""
TRAPS: dict[int, list[tuple[str, str]]] = {
    1: [(HERE, "test_status_is_before_retries_and_the_time_limit_is_last"),
        (HERE, "test_what_is_listed_before_retries_sees_the_final_failed_flag")],
    2: [(HERE, "test_while_the_table_is_away_nothing_is_acknowledged_and_what_ran_is_on_record"),
        (HERE, "test_hooks_that_raise_lose_no_outcome"),
        ("faults/test_deaths.py",
         "test_a_database_that_dies_while_tasks_run_delays_outcomes_and_starts_and_loses_nothing")],
    3: [(STOCK, "test_trap_3_a_retry_that_cannot_be_sent"),
        ("workers/broker/test_settle.py", "test_a_retry_runs_with_what_was_sent_whatever_the_function_did_to_it"),
        ("workers/test_lifecycle.py", "test_a_retry_policy_that_raises_loses_no_task")],
    4: [(STOCK, "test_trap_4_a_time_limit_that_passes_in_an_after_hook"),
        (HERE, "test_a_time_limit_that_passes_in_a_slow_after_hook_interrupts_nothing"),
        ("workers/test_lifecycle.py",
         "test_time_limits_that_pass_just_as_tasks_end_kill_no_thread_and_leave_no_row_open")],
    5: [(HERE, "test_a_delayed_task_with_a_retry_has_one_row_that_no_enqueue_hook_moves")],
    6: [(HERE, "test_no_message_option_can_be_set_from_outside")],
    7: [(STOCK, "test_trap_7_the_answer_to_a_fetch_is_lost"),
        ("workers/broker/test_faults.py", "test_a_lost_fetch_answer_strands_nothing_even_if_the_lease_is_long"),
        ("workers/broker/test_lease.py", "test_everything_a_killed_worker_held_is_run_by_another")],
    8: [(STOCK, "test_trap_8_the_server_is_read_only_for_a_moment_as_after_a_failover"),
        ("workers/broker/test_faults.py", "test_one_spoiled_call_loses_and_doubles_nothing")],
    9: [("workers/broker/test_poison.py", "test_poison_is_set_aside_and_its_neighbours_run")],
    10: [(STOCK, "test_trap_10_the_server_restarts_while_a_message_is_delayed"),
         ("workers/broker/test_delay.py",
          "test_a_million_far_messages_cost_a_worker_nothing_and_hold_up_no_near_one"),
         ("workers/broker/test_delay.py", "test_a_killed_server_comes_back_with_delayed_waiting_and_running_messages")],
    11: [(STOCK, "test_trap_11_the_clock_of_one_worker_is_a_minute_ahead"),
         (STOCK, "test_trap_11_who_was_away_too_long_acknowledges_what_another_has"),
         ("workers/broker/test_lease.py", "test_a_frozen_worker_cannot_acknowledge_what_another_has_taken"),
         ("workers/broker/test_lease.py",
          "test_workers_whose_clocks_are_two_minutes_off_take_nothing_from_each_other")],
    12: [(STOCK, "test_trap_12_one_dead_process_ends_the_whole_stock_command"),
         ("faults/test_supervised_workers.py", "test_a_killed_worker_process_is_started_again_alone"),
         ("faults/test_supervised_workers.py", "test_a_worker_thread_that_dies_is_noticed_and_its_process_replaced"),
         ("faults/test_poison.py", "test_poison_is_quarantined_and_a_thousand_neighbours_complete")],
    13: [(STOCK, "test_trap_13_what_a_stopping_worker_gives_back_is_first_again"),
         ("workers/broker/test_order.py", "test_messages_given_back_at_shutdown_are_first_again"),
         ("faults/test_supervised_workers.py", "test_a_task_that_outlasts_the_drain_is_given_back_and_holds_up_no_end"),
         ("workers/runner/test_isolated.py", "test_the_hard_limit_kills_what_hears_nothing")],
    14: [(STOCK, "test_trap_14_a_server_that_is_full_lets_nothing_end"),
         ("workers/broker/test_full_server.py", "test_a_full_server_refuses_sends_and_drains"),
         ("workers/test_start_checks.py", "test_a_redis_that_evicts_and_one_that_forgets_are_found")],
    15: [(STOCK, "test_trap_15_and_16_are_only_a_line_in_the_log_of_stock"),
         ("workers/test_lifecycle.py", "test_a_task_of_an_actor_that_this_code_does_not_know_waits"),
         ("faults/test_deaths.py", "test_a_task_that_the_old_code_does_not_know_waits_for_the_new_code")],
    16: [(STOCK, "test_trap_15_and_16_are_only_a_line_in_the_log_of_stock"),
         ("workers/test_lifecycle.py", "test_a_result_that_json_cannot_hold_is_said_clearly")],
    20: [("models/test_traps.py", "test_who_reads_and_then_writes_is_never_locked_out_on_sqlite")],
    21: [("models/test_traps.py", "test_text_that_postgresql_refuses_is_stored_all_the_same")],
    23: [("models/test_traps.py", "test_a_time_comes_back_from_sqlite_with_its_zone")],
    24: [("models/test_traps.py", "test_a_forked_process_leaves_its_parents_connections_alone")],
    28: [("workers/test_storable.py", "")],
}  # fmt: skip
"""Trap → the tests, by file below tests/ and name; without a name the file names the trap."""


@pytest.mark.parametrize("trap", TRAPS)
def test_every_trap_has_its_test(trap: int) -> None:
    for file, name in TRAPS[trap]:
        source = (Path(__file__).parents[1] / file).read_text()
        assert f"def {name}(" in source if name else re.search(rf"(?i)traps?\b[^\n]*\b{trap}\b", source)


class Witness(dramatiq.Middleware):
    """Notes what its hooks see."""

    def __init__(self) -> None:
        self.failed_flags: list[bool] = []
        self.enqueued: list[str] = []

    def after_process_message(
        self, broker: Broker, message: MessageProxy, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        """Note the flag that decides whether a message is dead."""
        self.failed_flags.append(message.failed)

    def after_enqueue(self, broker: Broker, message: dramatiq.Message[Any], delay: int | None) -> None:
        """Note that it was called."""
        self.enqueued.append(message.message_id)


class Spoiler(dramatiq.Middleware):
    """Raises in each hook around a task."""

    def before_process_message(self, broker: Broker, message: MessageProxy) -> None:
        """Raise."""
        raise RuntimeError("before")

    def after_process_message(
        self, broker: Broker, message: MessageProxy, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        """Raise."""
        raise RuntimeError("after")


Add = Callable[..., Any]


@pytest.fixture
def add(bus: redis.Redis) -> Iterator[Add]:
    """Adds a middleware to the broker for one test; ask for it before the worker."""
    before = list(callboard.broker.middleware)

    def add_one(one: dramatiq.Middleware, **where: Any) -> Any:
        callboard.broker.add_middleware(one, **where)
        return one

    yield add_one
    callboard.broker.middleware[:] = before


def test_status_is_before_retries_and_the_time_limit_is_last() -> None:
    """Trap 1."""
    kinds = [type(one) for one in callboard.broker.middleware]

    assert kinds.index(Status) < kinds.index(Retries)
    assert kinds[-1] is TimeLimit


def test_what_is_listed_before_retries_sees_the_final_failed_flag(
    add: Add, ledger_database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Trap 1: after-hooks run in reverse, so that one listed after Retries sees a dead message as one that is well."""
    beside_status = add(Witness(), before=Status)
    too_late = add(Witness(), after=Retries)
    request.getfixturevalue("worker")

    message = probes.fail_times.send_with_options(args=(str(tmp_path / "evidence"), 9), max_retries=1)

    found = ended(message.message_id)
    assert (found.status, found.reason) == (TaskStatus.FAILED, "retries exhausted")
    assert beside_status.failed_flags == [False, True]
    assert too_late.failed_flags == [False, False]
    wait_until(lambda: callboard.broker.depth("jobs").dead == 1, within_s=10, what="the dead letter")


@pytest.mark.parametrize("where", [{"before": Status}, {"after": Status}])
def test_hooks_that_raise_lose_no_outcome(
    add: Add, ledger_database: str, tmp_path: Path, request: pytest.FixtureRequest, where: dict[str, Any]
) -> None:
    """Trap 2: Dramatiq logs what a hook raises, and acknowledges all the same."""
    add(Spoiler(), **where)
    request.getfixturevalue("worker")

    good, bad = probes.add.send(1, 2), probes.refuse.send()

    assert (ended(good.message_id).status, row(good.message_id).result) == (TaskStatus.COMPLETED, 3)
    assert ended(bad.message_id).reason == "not retryable"
    assert (outcomes(good.message_id), outcomes(bad.message_id)) == (["completed"], ["failed"])


def test_while_the_table_is_away_nothing_is_acknowledged_and_what_ran_is_on_record(
    bus: redis.Redis, ledger_database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Trap 2: with stock hooks a failed status write is logged, the actor runs untracked, the message is forgotten."""
    paper = tmp_path / "evidence"
    sent = [probes.note.send(str(paper), str(number)).message_id for number in range(10)]
    rename("background_tasks", "away")
    try:
        request.getfixturevalue("worker")
        wait_until(lambda: callboard.broker.depth("jobs").leased, within_s=10, what="a worker that has fetched")
        with pytest.raises(LedgerUnavailable):
            probes.note.send(str(paper), "refused")
        assert callboard.broker.depth("jobs").live == len(sent)
    finally:
        rename("away", "background_tasks")

    found = [ended(task_id) for task_id in sent]
    assert {(task.status, task.attempt) for task in found} == {(TaskStatus.COMPLETED, 1)}
    assert sorted(probes.lines(paper)) == [str(number) for number in range(10)]
    wait_until(lambda: callboard.broker.depth("jobs").live == 0, within_s=10, what="the acknowledgements")


def rename(table: str, name: str) -> None:
    """Have a table vanish, or come back: to whoever writes to it the database is away."""
    with database.engine().begin() as connection:
        connection.execute(text(f"ALTER TABLE {table} RENAME TO {name}"))


@pytest.mark.parametrize("where", [{"before": Status}, {"after": TimeLimit}])
def test_a_time_limit_that_passes_in_a_slow_after_hook_interrupts_nothing(
    add: Add, ledger_database: str, tmp_path: Path, request: pytest.FixtureRequest, where: dict[str, Any]
) -> None:
    """Trap 4: with stock the thread dies, a failed task's retry is lost, and one that succeeded runs again."""
    slow = add(Slow(), **where)
    worker: dramatiq.Worker = request.getfixturevalue("worker")
    callboard.broker.emit_after("process_boot")  # why: it starts the time limit's clock, as a worker process does
    paper = str(tmp_path / "evidence")

    good = probes.note.send_with_options(args=(paper,), time_limit=100)
    bad = probes.fail_times.send_with_options(args=(paper, 1), time_limit=100)

    assert (ended(good.message_id).status, outcomes(good.message_id)) == (TaskStatus.COMPLETED, ["completed"])
    assert (ended(bad.message_id).status, outcomes(bad.message_id)) == (TaskStatus.COMPLETED, ["retried", "completed"])
    wait_until(lambda: slow.done == 3, within_s=10, what="the slow hook after each execution")
    assert slow.interrupted == 0
    assert len(probes.lines(tmp_path / "evidence")) == 3
    assert all(thread.is_alive() for thread in worker.workers)


def test_a_delayed_task_with_a_retry_has_one_row_that_no_enqueue_hook_moves(
    add: Add, ledger_database: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Trap 5: the enqueue hooks fire again for the delay's end and for the retry, and late."""
    witness = add(Witness(), before=Status)
    request.getfixturevalue("worker")

    message = probes.fail_times.send_with_options(args=(str(tmp_path / "evidence"), 1), delay=200)

    found = ended(message.message_id)
    assert (found.status, found.attempt, found.retry_count) == (TaskStatus.COMPLETED, 2, 1)
    assert outcomes(message.message_id) == ["retried", "completed"]
    assert tasks.get_task_count() == 1
    assert set(witness.enqueued) == {message.message_id}
    as_if_sent_anew = message.copy(options={})
    for late in (message, as_if_sent_anew):
        callboard.broker.emit_before("enqueue", late, None)
        callboard.broker.emit_after("enqueue", late, None)
    assert tasks.as_dict(row(message.message_id)) == tasks.as_dict(found)
    assert tasks.get_task_count() == 1


OUTSIDE: dict[str, Any] = {
    "on_retry_exhausted": "probes.note",
    "pipe_target": {"queue_name": "jobs", "actor_name": "probes.note", "args": [], "kwargs": {}, "options": {}},
    "throws": ["ValueError"],
    "time_limit": 10**9,
    "queue_name": "email",
    "options": {"pipe_target": None},
}


@pytest.mark.parametrize("option", OUTSIDE)
def test_no_message_option_can_be_set_from_outside(api: httpx2.Client, run: Run, refusing: None, option: str) -> None:
    """Trap 6: Dramatiq takes them from any message; whoever sets them runs what they like, where and as long as they
    like."""
    body = {"task_name": "diagnostics.run_self_test"}
    for request in (body | {option: OUTSIDE[option]}, body | {"params": {option: OUTSIDE[option]}}):
        answer = api.post("/api/tasks/enqueue", json=request)
        assert (answer.status_code, answer.json()["title"]) == (422, "Unprocessable content")
        assert answer.json()["field"] in (option, f"params.{option}")
    for given in ([f"{option}=1"], [f"--{option.replace('_', '-')}", "1"]):
        refused = run("enqueue", body["task_name"], *given)
        assert (refused.code, refused.out) == (2, "")
    with pytest.raises(InvalidTask):
        tasks.enqueue_task(body["task_name"], params={option: OUTSIDE[option]})


def test_in_python_an_option_that_changes_whose_task_it_is_is_refused(bus: redis.Redis, refusing: None) -> None:
    """Trap 6."""
    for option in ("on_retry_exhausted", "throws", "queue_name", "options"):
        with pytest.raises(InvalidTask, match="is no option of a send"):
            probes.note.send_with_options(args=("x",), **{option: "x"})
