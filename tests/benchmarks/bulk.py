"""Bulk enqueue by REST: `python -m tests.benchmarks.bulk [--tasks 10000] [--rounds 5] [--database sqlite|postgresql]`.

A real API server, Redis and database, no worker. Each round sends so many tasks by one request, and the same by
`send_many` in this process, which spares HTTP, JSON and the checks of what strangers send. Prints both times of each
round, in seconds, and the ratio of their medians.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time

import httpx2

from tests.soak.plan import Plan
from tests.soak.stage import stage

TASK = "diagnostics.run_self_test"


def measure(database: str, tasks: int, rounds: int) -> None:
    """Run it and print."""
    many = [{"steps": 1 + number % 5, "seconds": 0.0} for number in range(tasks)]
    body = {"tasks": [{"task_name": TASK, "params": params, "priority": 5} for params in many]}
    by_rest_s, by_python_s = [], []
    with stage(Plan(database, tasks=0, seconds=0, seed=0, workers=0)) as made:
        os.environ.update(made.environment)
        from tests.soak.clients import api  # why: what imports `workers` takes its servers from the environment.
        from workers.access import Role, new_token
        from workers.actors.diagnostics import run_self_test

        secret, token = new_token("benchmark", Role.OPERATE)
        headers = {"Authorization": f"Bearer {secret}"}
        with api(made, [token.line()]) as url, httpx2.Client(base_url=url, headers=headers, timeout=60) as client:
            for number in range(rounds + 1):
                began_s = time.perf_counter()
                answer = client.post("/api/tasks/enqueue/bulk", json=body)
                rest_s = time.perf_counter() - began_s
                assert answer.json()["accepted"] == tasks, answer.text[:500]
                began_s = time.perf_counter()
                run_self_test.send_many(many, priority=5)
                python_s = time.perf_counter() - began_s
                if number:  # why: the first warms up.
                    by_rest_s.append(rest_s)
                    by_python_s.append(python_s)
                    print(f"{tasks:,} on {database}: REST {rest_s:.2f} s, send_many {python_s:.2f} s", flush=True)
    ratio = statistics.median(by_rest_s) / statistics.median(by_python_s)
    print(f"REST: median {statistics.median(by_rest_s):.2f} s, least {min(by_rest_s):.2f} s; {ratio:.1f} × send_many")


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    asked = parser.parse_args()
    measure(asked.database, asked.tasks, asked.rounds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
