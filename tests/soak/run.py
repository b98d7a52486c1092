"""A soak from its plan to its report."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from itertools import pairwise

import redis
from sqlalchemy.exc import SQLAlchemyError

from tests.scale import FULL
from tests.servers import wait_until
from tests.soak import evidence, judge
from tests.soak.evidence import Evidence
from tests.soak.judge import Ledger, Verdict
from tests.soak.plan import Plan
from tests.soak.stage import Stage, stage

SLOW = 5
"""A busy machine may take so many times longer to send than planned."""
LOOK_AHEAD = 4
"""Messages that a worker holds for each of its threads at most, so as many may end before an outcome is written. On a
quiet machine, with the database there, it is written before the next begins."""
MAX_GUILTY = 20
"""Task ids that a report names for each rule."""


@dataclass
class Report:
    """What a soak found; `findings` is empty if it passed."""

    plan: Plan
    verdict: Verdict
    ledger: Ledger
    seen: Evidence
    sent_s: float
    """How long the sending took."""
    mend_s: float | None
    """From the last fault's end until all rows were terminal; None if they never were."""
    faults: dict[str, int]
    messages_left: int
    findings: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        verdict, seen = self.verdict, self.seen
        starts = sorted(run.started for runs in seen.executions.values() for run in runs)
        silence_s = max((later - earlier for earlier, later in pairwise(starts)), default=0.0)
        mend = "never" if self.mend_s is None else f"{self.mend_s:.1f} s"
        rows = {
            "seed": self.plan.seed,
            "database": self.plan.database,
            "faults": ", ".join(f"{count} × {what}" for what, count in self.faults.items()) or "none",
            "sends accepted / refused": f"{len(seen.accepted)} / {len(seen.refused)} ({verdict.unknown} unknown)",
            "longest send": f"{max(seen.send_times_s, default=0.0):.1f} s",
            "cancelled while pending": f"{len(seen.cancelled)} of {seen.cancels} asked",
            "rows": ", ".join(f"{count} {status}" for status, count in sorted(verdict.statuses.items())),
            "executions": seen.starts,
            "executed again": ", ".join(f"{count} by {why}" for why, count in sorted(verdict.reruns.items())) or "none",
            "in flight at a kill": verdict.in_flight,
            "longest silence": f"{silence_s:.1f} s",
            "sending took": f"{self.sent_s:.1f} s",
            "mended after the last fault": mend,
            "messages left on the bus": self.messages_left,
        }
        lines = [f"{name:28} {value}" for name, value in rows.items()]
        return "\n".join([*lines, *self.findings, "PASSED" if not self.findings else "FAILED"])


def run(plan: Plan) -> Report:
    """Play the plan; the report says what was found."""
    with stage(plan) as made:
        return _run(plan, made)


def _run(plan: Plan, made: Stage) -> Report:
    began = time.time()
    senders, faults = made.send(), made.play()
    at = judge.engine(made.database)

    def sent() -> bool:
        made.check_workers()
        return all(sender.poll() is not None for sender in senders)

    def at_rest() -> bool:
        made.check_workers()
        try:
            return judge.unfinished(at) == 0
        except SQLAlchemyError:  # why: a connection of before the outage
            return False

    findings: list[str] = []
    mend_s = None
    sent_s = plan.seconds
    try:
        patience_s = plan.database_outage_s + plan.settle_s + SLOW * plan.seconds
        wait_until(sent, within_s=patience_s, what="the senders to end")
        sent_s = time.time() - began
        for fault in faults:
            fault.join()
        last = max((when for when, _ in made.done), default=began)
        from_here_s = time.monotonic()
        wait_until(at_rest, within_s=plan.settle_s, what="all rows to be terminal")
        mend_s = max(time.time() - last, 0.0)
        left_s = max(1.0, plan.settle_s - (time.monotonic() - from_here_s))
        wait_until(lambda: _messages(made) == 0, within_s=left_s, what="the bus to be empty")
    except AssertionError as error:
        findings.append(str(error))
    finally:
        for fault in faults:
            fault.cancel()
            fault.join()
        for sender in senders:
            if sender.poll() is None:
                sender.kill()
            if sender.wait() != 0:
                findings.append(f"a sender ended with status {sender.returncode}: {_tail(made)}")
    ledger, seen = judge.read(at), evidence.read(made.evidence)
    at.dispose()
    verdict = judge.judge(
        ledger,
        seen,
        judge.Faults(
            made.killed,
            made.kills,
            made.bus_faults,
            plan.settle_s,
            made.database_faults,
            plan.threads,
            plan.workers,
            unwritten=LOOK_AHEAD if plan.database_outage_s or not FULL else 0,
        ),
    )
    done: dict[str, int] = {}
    for _, what in made.done:
        kind = what.split(" for ")[0]
        done[kind] = done.get(kind, 0) + 1
    findings += made.ended_alone
    for rule, guilty in verdict.guilty.items():
        findings.append(f"{len(guilty)} × {rule}")
        findings += [f"    {task_id} {_shown(ledger, seen, task_id)}" for task_id in guilty[:MAX_GUILTY]]
    return Report(plan, verdict, ledger, seen, sent_s, mend_s, done, _messages(made), findings)


def _messages(made: Stage) -> int:
    with redis.Redis.from_url(made.redis.url) as client:
        return int(client.hlen("{callboard}:messages"))


def _tail(made: Stage) -> str:
    return " | ".join(path.read_text()[-600:] for path in sorted(made.directory.glob("sender-*.log")))


def _shown(ledger: Ledger, seen: Evidence, task_id: str) -> str:
    row = ledger.rows.get(task_id)
    if row is None:
        return f"no row; executions {len(seen.executions.get(task_id, []))}"
    runs = [
        f"#{run.attempt} pid {run.pid} {run.error or ('returned' if run.value else 'no end')}"
        for run in seen.executions.get(task_id, [])
    ]
    outcomes = [f"#{attempt.number} {attempt.outcome}" for attempt in ledger.attempts.get(task_id, [])]
    return (
        f"{row.task_name} {row.status} {row.reason or ''} attempt {row.attempt} retries {row.retry_count} "
        f"error {row.error_type} eta {row.eta} enqueued {row.enqueued_at}; attempts {outcomes}; ran {runs}"
    )
