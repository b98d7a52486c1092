"""Bulk enqueue by REST: `python -m tests.benchmarks.bulk [--tasks 10000] [--rounds 5] [--database sqlite|postgresql]`.

A real API server, Redis and database, no worker. Each round sends so many tasks by one request, and the same by
`send_many` in a process beside it, which spares HTTP, JSON and the checks of what strangers send. Prints both times of
each round, in seconds, and the ratio of their medians.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

import httpx2

from tests.soak.clients import api
from tests.soak.plan import Plan
from tests.soak.stage import PROJECT_DIR, stage
from workers.access import Role, new_token

TASK = "diagnostics.run_self_test"


def _params(tasks: int) -> list[dict[str, float]]:
    return [{"steps": 1 + number % 5, "seconds": 0.0} for number in range(tasks)]


def measure(database: str, tasks: int, rounds: int) -> None:
    """Run it and print."""
    body = {"tasks": [{"task_name": TASK, "params": params, "priority": 5} for params in _params(tasks)]}
    secret, token = new_token("benchmark", Role.OPERATE)
    headers = {"Authorization": f"Bearer {secret}"}
    by_rest_s, by_python_s = [], []
    with (
        stage(Plan(database, tasks=0, seconds=0, seed=0, workers=0)) as made,
        api(made, [token.line()]) as url,
        httpx2.Client(base_url=url, headers=headers, timeout=60) as client,
        subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.bulk", "--send", "--tasks", str(tasks)], cwd=PROJECT_DIR,
            env=made.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as sender,
    ):  # fmt: skip
        assert sender.stdin is not None
        assert sender.stdout is not None
        for number in range(rounds + 1):
            began_s = time.perf_counter()
            answer = client.post("/api/tasks/enqueue/bulk", json=body)
            rest_s = time.perf_counter() - began_s
            assert answer.json()["accepted"] == tasks, answer.text[:500]
            print("send", file=sender.stdin, flush=True)
            python_s = float(sender.stdout.readline())
            if number:  # why: the first warms up.
                by_rest_s.append(rest_s)
                by_python_s.append(python_s)
                print(f"{tasks:,} on {database}: REST {rest_s:.2f} s, send_many {python_s:.2f} s", flush=True)
    ratio = statistics.median(by_rest_s) / statistics.median(by_python_s)
    print(f"REST: median {statistics.median(by_rest_s):.2f} s, least {min(by_rest_s):.2f} s; {ratio:.1f} × send_many")


def send(tasks: int) -> None:
    """For each line of stdin send so many, and print how long it took."""
    from workers.actors.diagnostics import run_self_test  # why: only the process beside it sends by itself.

    many = _params(tasks)
    for _ in sys.stdin:
        began_s = time.perf_counter()
        run_self_test.send_many(many, priority=5)
        print(time.perf_counter() - began_s, flush=True)


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--send", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.send:
        send(asked.tasks)
    else:
        measure(asked.database, asked.tasks, asked.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
