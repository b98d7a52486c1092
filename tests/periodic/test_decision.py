"""What becomes of due times: every misfire policy with every overlap policy, however long nobody was awake."""

from datetime import UTC, datetime, timedelta

import pytest

from models.schedule_claim import DueSchedule, Run
from models.triggers import Cron, Date, Interval, Trigger
from periodic.decision import COUNTED_MAX, Decision, decide, jitter_of

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
MINUTELY = Interval(minutes=1)


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


def due(
    *, misfire: str = "run_once", overlap: str = "skip", unfinished: bool = False, grace_s: int = 60,
    catch_up_max: int = 100, jitter_s: int = 0, next_run_at: datetime = NOON,
) -> DueSchedule:  # fmt: skip
    """A schedule that is due at noon."""
    return DueSchedule(
        schedule_id="nightly", actor="health.check_system", params={}, trigger={}, time_zone="UTC", start_at=None,
        end_at=None, priority=None, max_retries=3, time_limit_s=300, misfire=misfire, misfire_grace_s=grace_s,
        catch_up_max=catch_up_max, overlap=overlap, jitter_s=jitter_s, error=None,
        last_task_id="before" if unfinished else None, next_run_at=next_run_at, last_is_unfinished=unfinished,
    )  # fmt: skip


def shown(decision: Decision | None) -> list[tuple[str, datetime, datetime | None, int | None]]:
    assert decision is not None
    return [(str(run.outcome), run.due_at, run.due_until, run.due_count) for run in decision.runs]


@pytest.mark.parametrize("misfire", ["skip", "run_once", "run_all"])
@pytest.mark.parametrize(
    ("overlap", "unfinished", "outcome", "cancels"),
    [
        ("skip", False, "sent", None),
        ("skip", True, "skipped_overlap", None),
        ("allow", False, "sent", None),
        ("allow", True, "sent", None),
        ("cancel_running", False, "sent", None),
        ("cancel_running", True, "sent", "before"),
    ],
)
def test_a_time_that_is_met_depends_on_the_overlap_policy_alone(
    misfire: str, overlap: str, *, unfinished: bool, outcome: str, cancels: str | None
) -> None:
    decision = decide(
        due(misfire=misfire, overlap=overlap, unfinished=unfinished), MINUTELY, NOON + timedelta(seconds=1)
    )

    assert shown(decision) == [(outcome, NOON, None, 1)]
    assert decision is not None
    assert (decision.next_run_at, decision.cancels) == (NOON + minutes(1), cancels)
    if unfinished and outcome != "sent":
        assert decision.runs[0].reason == "the run before, before, is unfinished"


def test_run_once_sends_the_latest_and_records_the_others_together() -> None:
    decision = decide(due(), MINUTELY, NOON + minutes(5.5))

    assert shown(decision) == [
        ("skipped_misfire", NOON, NOON + minutes(4), 5),
        ("sent", NOON + minutes(5), None, 1),
    ]
    assert decision is not None
    assert decision.next_run_at == NOON + minutes(6)
    assert decision.runs[0].reason == (
        "no scheduler was awake; the run of 2026-11-22 12:05:00 UTC stands for 5 missed times"
    )


def test_run_once_of_a_single_late_time_sends_it_however_late() -> None:
    assert shown(decide(due(), Date("2026-11-22 12:00:00"), NOON + timedelta(days=400))) == [("sent", NOON, None, 1)]


def test_skip_leaves_out_what_is_later_than_the_grace() -> None:
    decision = decide(due(misfire="skip", grace_s=20), MINUTELY, NOON + minutes(5.5))

    assert shown(decision) == [("skipped_misfire", NOON, NOON + minutes(5), 6)]
    assert decision is not None
    assert decision.runs[0].reason == "no scheduler was awake; 30 s late is more than its grace of 20 s"
    assert decision.next_run_at == NOON + minutes(6)


def test_skip_sends_the_latest_if_that_is_within_the_grace() -> None:
    decision = decide(due(misfire="skip", grace_s=40), MINUTELY, NOON + minutes(5.5))

    assert [run[0] for run in shown(decision)] == ["skipped_misfire", "sent"]
    assert decision is not None
    assert decision.runs[0].reason == "no scheduler was awake; misfire=skip leaves out 5 missed times"


def test_run_all_makes_up_for_each_time_oldest_first() -> None:
    sent: list[Run] = []
    schedule = due(misfire="run_all")
    for _ in range(6):
        decision = decide(schedule, MINUTELY, NOON + minutes(5.5))
        assert decision is not None
        assert decision.next_run_at is not None
        assert decision.sent is not None
        sent.append(decision.sent)
        schedule = due(misfire="run_all", next_run_at=decision.next_run_at)

    assert [run.due_at for run in sent] == [NOON + minutes(minute) for minute in range(6)]
    assert schedule.next_run_at == NOON + minutes(6)


def test_run_all_leaves_out_the_oldest_above_its_cap_together() -> None:
    decision = decide(due(misfire="run_all", catch_up_max=3), MINUTELY, NOON + minutes(9.5))

    assert shown(decision) == [("skipped_misfire", NOON, NOON + minutes(6), 7)]
    assert decision is not None
    assert decision.next_run_at == NOON + minutes(7)
    assert "only the newest 3 are made up for (catch_up_max)" in (decision.runs[0].reason or "")


@pytest.mark.parametrize(("overlap", "waits"), [("skip", True), ("allow", False), ("cancel_running", False)])
@pytest.mark.parametrize("late_s", [6, 61, 300])
def test_a_missed_time_that_run_all_makes_up_for_waits_for_the_run_before(
    overlap: str, late_s: int, *, waits: bool
) -> None:
    late = due(misfire="run_all", overlap=overlap, unfinished=True)

    assert (decide(late, MINUTELY, NOON + timedelta(seconds=late_s)) is None) is waits


@pytest.mark.parametrize("misfire", ["skip", "run_once", "run_all"])
@pytest.mark.parametrize("trigger", [Interval(seconds=1), Cron(second="*", hour="3"), Cron(month=1, second="*")])
def test_years_of_missed_seconds_cost_a_bounded_number_of_steps(misfire: str, trigger: Trigger) -> None:
    first = trigger.next_after(NOON)
    assert first is not None
    asked: list[datetime] = []
    counting = _Counting(trigger, asked)

    decision = decide(due(misfire=misfire, next_run_at=first), counting, NOON + timedelta(days=1200))

    assert len(asked) < COUNTED_MAX + 60 * 102
    assert decision is not None
    assert decision.runs[0].due_at == first
    assert decision.runs[0].due_count is None
    assert decision.runs[0].due_until is not None
    assert trigger.next_after(decision.runs[0].due_until) == (
        decision.sent.due_at if decision.sent else decision.next_run_at
    )


class _Counting(Trigger):
    """Counts what another trigger is asked."""

    def __init__(self, inner: Trigger, asked: list[datetime]) -> None:
        object.__setattr__(self, "inner", inner)
        object.__setattr__(self, "asked", asked)

    def next_after(self, moment: datetime) -> datetime | None:
        self.asked.append(moment)  # type: ignore[attr-defined]  # set above, past the frozen dataclass
        return self.inner.next_after(moment)  # type: ignore[attr-defined,no-any-return]  # as above


def test_a_schedule_that_ends_is_not_due_again() -> None:
    decision = decide(due(), Date("2026-11-22 12:00:00"), NOON)

    assert decision is not None
    assert decision.next_run_at is None


def test_jitter_is_within_its_bound_and_the_same_each_time() -> None:
    jittery = due(jitter_s=30)
    times = [NOON + minutes(minute) for minute in range(200)]

    delays = [jitter_of(jittery, time) for time in times]

    assert delays == [jitter_of(jittery, time) for time in times]
    assert all(timedelta(0) <= delay <= timedelta(seconds=30) for delay in delays)
    assert max(delays) - min(delays) > timedelta(seconds=20)
    assert jitter_of(due(), NOON) == timedelta(0)
