"""What a schedule's due times come to: misfire and overlap policies, jitter. Pure; a table of cases tests it.

    first due time … latest due time … now        the row's `next_run_at` is the first that was not dealt with

    one, on time                    sent
    several, or late
        skip                        the latest is sent if it is no later than `misfire_grace_s`; the others are on
                                    record as skipped, together
        run_once                    the latest is sent, those before it are on record as skipped, together
        run_all                     one at a time, oldest first, and the next at once; more than `catch_up_max`: the
                                    oldest are on record as skipped, together
    the run before is unfinished    allow: sent · cancel_running: sent, the other is cancelled
                                    skip: on record as skipped; but under run_all a time that was missed (it is later
                                    than MISSED_AFTER, or another is due as well) waits for its turn

However long nobody was awake, a decision costs a bounded number of steps and writes at most two runs.

Must not: read rows or the clock.
"""

import hashlib
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from models.schedule import Misfire, Overlap, RunOutcome
from models.schedule_claim import DueSchedule, Run
from models.triggers import Trigger

MISSED_AFTER: Final = timedelta(seconds=5)
"""A scheduler that is awake sees a due time within a second: what is later than this was missed."""
COUNTED_MAX: Final = 5_000
"""More missed times than this are not counted."""


@dataclass(frozen=True)
class Decision:
    """What is to be written in one transaction.

    Args:
        runs: what becomes of due times; at most one of them is sent.
        next_run_at: the first due time after them; None if there is none.
        cancels: the unfinished task that makes room.
    """

    runs: tuple[Run, ...]
    next_run_at: datetime | None
    cancels: str | None = None

    @property
    def sent(self) -> Run | None:
        """The run that sends a task."""
        return next((run for run in self.runs if run.outcome is RunOutcome.SENT), None)


def decide(schedule: DueSchedule, trigger: Trigger, now: datetime) -> Decision | None:
    """What becomes of a schedule's due times up to now. None: nothing yet; it waits for the run before to end."""
    if schedule.misfire == Misfire.RUN_ALL:
        return _decide_one_of_all(schedule, trigger, now)
    newest, count = _due_times(trigger, schedule.next_run_at, now, newest=2)
    latest = newest[-1]
    next_run_at = trigger.next_after(latest)
    lateness, grace = now - latest, timedelta(seconds=schedule.misfire_grace_s)
    skips = schedule.misfire == Misfire.SKIP
    if skips and lateness > grace:
        reason = f"no scheduler was awake; {_seconds(lateness)} late is more than its grace of {_seconds(grace)}"
        return Decision((_skipped(schedule.next_run_at, latest, count, reason),), next_run_at)
    runs: list[Run] = []
    if len(newest) > 1:
        missed = "a missed time" if count == 2 else f"{'many' if count is None else count - 1} missed times"
        stands = "misfire=skip leaves out" if skips else f"the run of {_utc(latest)} stands for"
        reason = f"no scheduler was awake; {stands} {missed}"
        runs.append(_skipped(schedule.next_run_at, newest[-2], None if count is None else count - 1, reason))
    return _send_or_skip(schedule, latest, next_run_at, runs)


def jitter_of(schedule: DueSchedule, due_at: datetime) -> timedelta:
    """How much later than due a run starts: always the same for the same schedule and due time."""
    digest = hashlib.sha256(f"{schedule.schedule_id}/{due_at.isoformat()}".encode()).digest()
    return timedelta(milliseconds=int.from_bytes(digest[:8]) % (schedule.jitter_s * 1000 + 1))


def _decide_one_of_all(schedule: DueSchedule, trigger: Trigger, now: datetime) -> Decision | None:
    newest, count = _due_times(trigger, schedule.next_run_at, now, newest=schedule.catch_up_max + 1)
    if len(newest) > schedule.catch_up_max:
        left_out = None if count is None else count - schedule.catch_up_max
        reason = f"no scheduler was awake, and only the newest {schedule.catch_up_max} are made up for (catch_up_max)"
        return Decision((_skipped(schedule.next_run_at, newest[0], left_out, reason),), newest[1])
    was_missed = len(newest) > 1 or now - schedule.next_run_at > MISSED_AFTER
    if was_missed and schedule.last_is_unfinished and schedule.overlap == Overlap.SKIP:
        return None
    return _send_or_skip(schedule, schedule.next_run_at, trigger.next_after(schedule.next_run_at), [])


def _send_or_skip(schedule: DueSchedule, due_at: datetime, next_run_at: datetime | None, runs: list[Run]) -> Decision:
    if not schedule.last_is_unfinished or schedule.overlap == Overlap.ALLOW:
        return Decision((*runs, Run(due_at, RunOutcome.SENT)), next_run_at)
    before = schedule.last_task_id
    if schedule.overlap == Overlap.CANCEL_RUNNING:
        sent = Run(due_at, RunOutcome.SENT, reason=f"cancelled the run before, {before}")
        return Decision((*runs, sent), next_run_at, cancels=before)
    skipped = Run(due_at, RunOutcome.SKIPPED_OVERLAP, reason=f"the run before, {before}, is unfinished")
    return Decision((*runs, skipped), next_run_at)


def _due_times(trigger: Trigger, first: datetime, now: datetime, *, newest: int) -> tuple[list[datetime], int | None]:
    """The newest due times from `first` to now, ascending, and how many there are in all; None: too many to count."""
    kept: deque[datetime] = deque([first], maxlen=newest)
    count, moment = 1, trigger.next_after(first)
    while moment is not None and moment <= now:
        kept.append(moment)
        count += 1
        if count > COUNTED_MAX:
            return _newest(trigger, first, now, newest), None
        moment = trigger.next_after(moment)
    return list(kept), count


def _newest(trigger: Trigger, first: datetime, now: datetime, newest: int) -> list[datetime]:
    """The same without a walk over all of them: bisection for the latest moment after which there are enough."""
    enough, too_late = first - timedelta(seconds=1), now
    found = _some_after(trigger, enough, now, newest)
    while too_late - enough > timedelta(seconds=1):
        middle = enough + (too_late - enough) / 2
        times = _some_after(trigger, middle, now, newest)
        if len(times) == newest:
            enough, found = middle, times
        else:
            too_late = middle
    return found


def _some_after(trigger: Trigger, begin: datetime, now: datetime, most: int) -> list[datetime]:
    times: list[datetime] = []
    moment = trigger.next_after(begin)
    while moment is not None and moment <= now and len(times) < most:
        times.append(moment)
        moment = trigger.next_after(moment)
    return times


def _skipped(first: datetime, last: datetime, count: int | None, reason: str) -> Run:
    until = None if first == last else last
    return Run(first, RunOutcome.SKIPPED_MISFIRE, reason, due_until=until, due_count=1 if first == last else count)


def _seconds(duration: timedelta) -> str:
    return f"{duration.total_seconds():.0f} s"


def _utc(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")
