"""Actors that hold one lock, each with a line of evidence for what happens to it."""

import time

from models.task import TaskType
from tests.probes import evidence
from workers.errors import LockLost
from workers.middleware.exclusive import exclusive
from workers.registry import actor
from workers.runner.current import current_task

TTL_S = 1.0


def _stay(path: str, name: str, seconds: float) -> None:
    token = current_task().fencing_token
    evidence(path, f"in {name} {token}")
    deadline_s = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline_s:
            time.sleep(0.01)  # why: bytecode at which an interrupt can land
    except LockLost:
        evidence(path, f"lost {name} {token}")
        raise
    evidence(path, f"out {name} {token}")


@actor(task_type=TaskType.JOB, max_retries=0)
@exclusive("vault", ttl_s=TTL_S, if_held="wait")
def stay(path: str, name: str, seconds: float = 0.0) -> None:
    """Hold the lock, in the first attempt for so long."""
    _stay(path, name, seconds if current_task().attempt == 1 else 0.0)


@actor(task_type=TaskType.JOB, max_retries=0, isolated=True)
@exclusive("vault", ttl_s=TTL_S, if_held="wait")
def stay_in_a_child(path: str, name: str, seconds: float = 0.0) -> None:
    """The same in a child process."""
    _stay(path, name, seconds)
