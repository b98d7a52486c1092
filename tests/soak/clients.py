"""Many clients at once: `python -m tests.soak.clients [--clients 500] [--seconds 60] [--database sqlite|postgresql]`.

An API server, worker processes, Redis and a database of their own. Each client goes on for the whole time, one request
after the other over one connection: it sends tasks (one by one, with a key, twenty at once), looks at them, lists,
counts and cancels. Prints requests and their times, and what is wrong; ends with status 1 if anything is:

    an answer that the request does not explain, or none
    a task that was accepted and has no row, or a row that nobody was told of
    a second task of a key that a pending one has
    whatever tests.soak.judge finds of a task: not ended, run twice, run after its cancellation was answered, …
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import socket
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2

from tests.servers import wait_until
from tests.soak import evidence, judge
from tests.soak.plan import Plan
from tests.soak.stage import PROJECT_DIR, Stage, stage
from workers.access import Role, new_token

TASK = "actors.short"
TOKENS = 10
BULK = 20
DELAY_S = 20.0
"""Of tasks with a key, and of those that are cancelled: they are pending when they are asked about."""
TIMEOUT_S = 120.0
SHOWN = 20
SHARES = {"send": 50, "send with a key": 8, "look": 20, "list": 8, "count": 4, "send twenty": 5, "cancel": 5}


class Clients:
    """What all of them found and did."""

    def __init__(self, url: str, tokens: list[str], count: int, seconds: float, seed: int) -> None:
        self._url = url
        self._tokens = tokens
        self._count = count
        self._seconds = seconds
        self._seed = seed
        self.times_s: dict[str, list[float]] = defaultdict(list)
        self.wrong: list[str] = []

    async def run(self) -> None:
        """All of them, for the time."""
        until_s = time.monotonic() + self._seconds
        await asyncio.gather(*(self._one(number, until_s) for number in range(self._count)))

    async def _one(self, number: int, until_s: float) -> None:
        chance = random.Random(f"{self._seed} {number}")
        headers = {"Authorization": f"Bearer {self._tokens[number % len(self._tokens)]}"}
        async with httpx2.AsyncClient(base_url=self._url, headers=headers, timeout=TIMEOUT_S) as http:
            client = Client(http, f"c{number}", chance, self)
            while time.monotonic() < until_s:
                what = chance.choices(list(SHARES), list(SHARES.values()))[0]
                try:
                    await client.acts[what]()
                except (httpx2.HTTPError, KeyError, ValueError) as error:
                    self.wrong.append(f"{what}: {type(error).__name__}: {error}")


class Client:
    """One of them. acts: what it does, by name."""

    def __init__(self, http: httpx2.AsyncClient, name: str, chance: random.Random, clients: Clients) -> None:
        self._http = http
        self._name = name
        self._chance = chance
        self._clients = clients
        self._sent = 0
        self._last_id: str | None = None
        self.acts: dict[str, Callable[[], Awaitable[None]]] = {
            "send": self._send,
            "send with a key": self._send_with_a_key,
            "send twenty": self._send_twenty,
            "look": self._look,
            "list": self._list,
            "count": self._count,
            "cancel": self._cancel,
        }

    async def _ask(self, what: str, method: str, path: str, expected: tuple[int, ...], **more: Any) -> Any:
        began_s = time.monotonic()
        answer = await self._http.request(method, path, **more)
        self._clients.times_s[what].append(time.monotonic() - began_s)
        if answer.status_code not in expected:
            raise ValueError(f"{answer.status_code} {answer.text[:300]}")
        return answer.json() if answer.status_code < 300 else None

    def _task(self, **more: Any) -> dict[str, Any]:
        self._sent += 1
        return {"task_name": TASK, "params": {"token": f"{self._name}.{self._sent}"}, **more}

    def _accepted(self, task: dict[str, Any], task_id: str, began_s: float) -> None:
        took_s = time.monotonic() - began_s
        evidence.write("accept", task=task_id, token=task["params"]["token"], took_s=took_s)
        self._last_id = task_id

    async def _send(self) -> None:
        await self._sent_one("send", self._task(priority=self._chance.randint(1, 10)))

    async def _sent_one(self, what: str, task: dict[str, Any]) -> str:
        began_s = time.monotonic()
        answer = await self._ask(what, "POST", "/api/tasks/enqueue", (201,), json=task)
        task_id: str = answer["task_id"]
        self._accepted(task, task_id, began_s)
        return task_id

    async def _send_with_a_key(self) -> None:
        task = self._task(delay_s=DELAY_S)
        task["idempotency_key"] = f"soak {task['params']['token']}"
        sent_s = time.monotonic()
        first = await self._sent_one("send with a key", task)
        again = await self._ask("send again", "POST", "/api/tasks/enqueue", (200, 201), json=task)
        if again["task_id"] != first and time.monotonic() - sent_s < DELAY_S:
            self._clients.wrong.append(f"its key is {first}'s, and it was sent again as {again['task_id']}")
        if again["task_id"] != first:
            self._accepted(task, again["task_id"], sent_s)

    async def _send_twenty(self) -> None:
        batch = [self._task() for _ in range(BULK)]
        began_s = time.monotonic()
        answer = await self._ask("send twenty", "POST", "/api/tasks/enqueue/bulk", (200,), json={"tasks": batch})
        for task, result in zip(batch, answer["results"], strict=True):
            if result["outcome"] != "accepted":
                raise ValueError(f"one of twenty: {result}")
            self._accepted(task, result["task_id"], began_s)

    async def _look(self) -> None:
        if self._last_id is not None:
            answer = await self._ask("look", "GET", f"/api/tasks/{self._last_id}", (200,))
            if answer["task_id"] != self._last_id:
                raise ValueError(f"asked for {self._last_id}, got {answer['task_id']}")

    async def _list(self) -> None:
        status = self._chance.choice(["pending", "completed", "failed"])
        answer = await self._ask("list", "GET", f"/api/tasks/?status={status}&limit=20", (200,))
        if any(row["status"] != status for row in answer["tasks"]):
            raise ValueError(f"a list of {status} has others")

    async def _count(self) -> None:
        await self._ask("count", "GET", "/api/tasks/count/all?status=completed", (200,))

    async def _cancel(self) -> None:
        task_id = await self._sent_one("send", self._task(delay_s=DELAY_S))
        answer = await self._ask("cancel", "POST", f"/api/tasks/{task_id}/cancel", (200, 409))
        evidence.write("cancel", task=task_id, answered=answer is not None and answer["outcome"] == "cancelled")


@contextmanager
def api(made: Stage, tokens: list[str]) -> Iterator[str]:
    """An API server on the stage's database and Redis."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    environment = {**made.environment, "CALLBOARD_API_PORT": str(port), "CALLBOARD_API_TOKENS": ",".join(tokens)}
    with (made.directory / "api.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "workers.web"], cwd=PROJECT_DIR, env=environment, stdout=log,
                                   stderr=log)  # fmt: skip
    url = f"http://127.0.0.1:{port}"

    def is_up() -> bool:
        try:
            return httpx2.get(f"{url}/health/live").status_code == 200
        except httpx2.HTTPError:
            return False

    try:
        wait_until(is_up, within_s=60, what="the API")
        yield url
    finally:
        process.terminate()
        process.wait()


def soak(plan: Plan, clients: int) -> list[str]:
    """Run it, print the figures; returns what is wrong."""
    made_tokens = [new_token(f"client-{number}", Role.OPERATE) for number in range(TOKENS)]
    with stage(plan) as made, api(made, [token.line() for _, token in made_tokens]) as url:
        os.environ[evidence.VARIABLE] = str(made.evidence)
        crowd = Clients(url, [secret for secret, _ in made_tokens], clients, plan.seconds, plan.seed)
        began_s = time.monotonic()
        asyncio.run(crowd.run())
        took_s = time.monotonic() - began_s
        at = judge.engine(made.database)
        wait_until(lambda: judge.unfinished(at) == 0, within_s=plan.settle_s, what="all rows to be terminal")
        ended_s = time.monotonic() - began_s - took_s
        ledger, seen = judge.read(at), evidence.read(made.evidence)
        at.dispose()
    verdict = judge.judge(ledger, seen, judge.Faults(threads=plan.threads, workers=plan.workers))
    wrong = [f"{count} × {what}" for what, count in Counter(crowd.wrong).most_common()]
    wrong += [f"{len(guilty)} × {rule}: {guilty[:SHOWN]}" for rule, guilty in verdict.guilty.items()]
    unheard = ledger.rows.keys() - seen.accepted.keys()
    if unheard:
        wrong.append(f"{len(unheard)} × it has a row, and nobody was told: {sorted(unheard)[:SHOWN]}")
    again = [task_id for task_id, runs in seen.executions.items() if len(runs) > 1]
    if again:
        wrong.append(f"{len(again)} × it ran twice: {again[:SHOWN]}")
    requests = sum(map(len, crowd.times_s.values()))
    rows = ", ".join(f"{count:,} {status}" for status, count in sorted(verdict.statuses.items()))
    print(f"{clients} clients, {took_s:.0f} s: {requests:,} requests, {requests / took_s:.0f}/s")
    print(f"{len(seen.accepted):,} tasks accepted; rows, {ended_s:.0f} s later: {rows}")
    for what, times_s in sorted(crowd.times_s.items()):
        times_s.sort()
        p50, p95 = (times_s[int(len(times_s) * share)] for share in (0.5, 0.95))
        print(f"  {what:16} {len(times_s):6,}  p50 {p50:5.2f} s  p95 {p95:5.2f} s  longest {times_s[-1]:5.2f} s")
    return wrong


def main() -> int:
    """The program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    given = parser.parse_args()
    plan = Plan(given.database, tasks=0, seconds=given.seconds, seed=given.seed, workers=given.workers)
    print(f"clients on {plan.database}, seed {plan.seed}", flush=True)
    wrong = soak(plan, given.clients)
    print("\n".join([*wrong, "FAILED" if wrong else "PASSED"]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
