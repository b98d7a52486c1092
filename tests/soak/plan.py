"""What a soak does. Everything random in it comes from the seed; only the machine's timing does not."""

from __future__ import annotations

from dataclasses import dataclass, field

KINDS = {"short": 62, "slow": 3, "failing": 5, "retrying": 10, "delayed": 8, "cancelled": 6, "nested": 6}
"""Kind of task → its share of the sends, in percent."""


@dataclass(frozen=True)
class Plan:
    """A soak's size and faults.

    Args:
        database: sqlite or postgresql.
        tasks: how many sends must be accepted; children of nested tasks come on top.
        seconds: the sends are spread over this time, and the faults happen in it.
        seed: of the workload and of the faults.
        kill_every_s: `kill -9` of a random worker process; 0: never.
        deploy_every_s: SIGTERM to one worker after the other, and a new one in its place; 0: never.
        redis_restarts: how often Redis is killed, for a time out of `redis_down_s`.
        database_outage_s: how long the database is stopped (SQLite: its write lock is held); 0: never.
        flush: whether Redis is emptied once.
        settle_s: all rows must be terminal this long after the last send and fault.
        workers, threads: worker processes, and threads of each.
        sender_processes, sender_threads: who sends.
        settings: CALLBOARD_… of all processes, besides those of the caller's environment.
        kinds: share of each kind.
    """

    database: str
    tasks: int
    seconds: float
    seed: int
    kill_every_s: float = 0.0
    deploy_every_s: float = 0.0
    redis_restarts: int = 0
    redis_down_s: tuple[float, float] = (0.5, 5.0)
    database_outage_s: float = 0.0
    flush: bool = False
    settle_s: float = 120.0
    workers: int = 4
    threads: int = 8
    sender_processes: int = 2
    sender_threads: int = 2
    settings: dict[str, str] = field(default_factory=dict)
    kinds: dict[str, int] = field(default_factory=lambda: dict(KINDS))
