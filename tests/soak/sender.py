"""A process that sends: `python -m tests.soak.sender NAME TASKS SECONDS SEED THREADS KINDS`.

Each thread sends its share evenly over the time, each task until a send of it is accepted: a send that raises is
evidence, and the next try has a token of its own. Some are cancelled a few sends later.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from collections.abc import Callable

from tests.soak import actors, evidence
from workers import tasks
from workers.errors import CallboardError, SendError

PAUSE_S = 0.2
"""Between two tries of a send that is refused."""

Send = Callable[[str], str]
"""Token → task id."""


def sends(chance: random.Random) -> dict[str, Send]:
    """How each kind is sent."""
    return {
        "short": lambda token: actors.send(actors.short, token, priority=chance.randint(1, 10)),
        "slow": lambda token: actors.send(actors.slow, token, round(chance.uniform(0.1, 0.5), 3)),
        "failing": lambda token: actors.send(actors.failing, token, chance.random() < 0.5),
        "retrying": lambda token: actors.send(actors.retrying, token, chance.randint(1, 2)),
        "delayed": lambda token: actors.send(actors.short, token, delay=chance.randint(100, 3_000)),
        "cancelled": lambda token: actors.send(actors.short, token, delay=chance.choice([None, 20, 500])),
        "nested": lambda token: actors.send(actors.nested, token, chance.randint(1, 3)),
    }


def cancel(task_id: str) -> None:
    """Cancel, with evidence of the answer."""
    try:
        answered = tasks.request_cancel(task_id) is tasks.CancelOutcome.CANCELLED
    except CallboardError:
        answered = False
    evidence.write("cancel", task=task_id, answered=answered)


def send_share(name: str, count: int, seconds: float, seed: str, kinds: dict[str, int]) -> None:
    """One thread's work."""
    chance = random.Random(f"{seed} {name}")
    how = sends(chance)
    began_s = time.monotonic()
    to_cancel: list[str] = []
    for number in range(count):
        time.sleep(max(0.0, began_s + number * seconds / count - time.monotonic()))  # why: the pace is the plan's
        kind = chance.choices(list(kinds), list(kinds.values()))[0]
        task_id = until_accepted(how[kind], f"{name}.{number}")
        if kind == "cancelled":
            to_cancel.append(task_id)
        if to_cancel and chance.random() < 0.3:
            cancel(to_cancel.pop(0))
    for task_id in to_cancel:
        cancel(task_id)


def until_accepted(send: Send, token: str) -> str:
    """The id under which it was accepted at last."""
    tries = 0
    while True:
        try:
            return send(f"{token}.{tries}" if tries else token)
        except SendError:
            tries += 1
            time.sleep(PAUSE_S)  # why: a caller that is refused waits before it asks again


def main() -> None:
    """Send it all; exit status 1 if a thread fell over something that is no SendError."""
    name, count, seconds, seed, threads, kinds = sys.argv[1:7]
    fallen: list[BaseException] = []

    def share(number: int) -> None:
        try:
            send_share(f"{name}.{number}", int(count) // int(threads), float(seconds), seed, json.loads(kinds))
        except BaseException as error:  # why: an error nobody was promised is a finding, not a silent thread
            fallen.append(error)
            raise

    all_threads = [threading.Thread(target=share, args=(number,)) for number in range(int(threads))]
    for thread in all_threads:
        thread.start()
    for thread in all_threads:
        thread.join()
    sys.exit(1 if fallen else 0)


if __name__ == "__main__":
    main()
