"""What really happened, outside the ledger: one file, to which every process appends a line in one write.

    start    an execution began         task, token, attempt, pid, run (names the execution), at
    return   it returned                run, at, value
    raise    it raised                  run, at, error
    accept   a send returned            task, token, took_s, and where it is delayed: delay_s
    refuse   a send raised              token, error, took_s
    cancel   a cancellation's answer    task, answered (cancelled while pending, or not), at

A process that is killed in the middle of a write may leave the beginning of a line: so each write begins on a new line,
and a line that cannot be read is counted and passed over. `at` is the host's clock, in seconds.
"""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

VARIABLE = "CALLBOARD_TEST_EVIDENCE"
"""The environment variable that names the file."""

_descriptors: dict[tuple[int, str], int] = {}


def write(event: str, **facts: Any) -> None:
    """Append a line to the file that the environment names."""
    key = (os.getpid(), os.environ[VARIABLE])
    if key not in _descriptors:
        _descriptors[key] = os.open(key[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    line = json.dumps({"event": event, "at": time.time(), **facts})
    os.write(_descriptors[key], f"\n{line}\n".encode())


@dataclass
class Execution:
    """One time that a task's function was entered; `ended` is None if nothing was heard of its end."""

    task: str
    token: str
    attempt: int
    pid: int
    started: float
    ended: float | None = None
    value: str | None = None
    error: str | None = None


@dataclass
class Evidence:
    """All that was written."""

    executions: dict[str, list[Execution]] = field(default_factory=lambda: defaultdict(list))
    accepted: dict[str, str] = field(default_factory=dict)
    """Task id → token."""
    refused: dict[str, str] = field(default_factory=dict)
    """Token → the error's name."""
    cancelled: dict[str, float] = field(default_factory=dict)
    """Task id → when "cancelled while pending" was answered."""
    asked: set[str] = field(default_factory=set)
    """Ids of tasks whose cancellation somebody asked for, whatever the answer."""
    not_before: dict[str, float] = field(default_factory=dict)
    """Task id → before when a delayed one must not start."""
    cancels: int = 0
    send_times_s: list[float] = field(default_factory=list)
    torn: int = 0

    @property
    def starts(self) -> int:
        """How many executions there were."""
        return sum(map(len, self.executions.values()))


def read(path: Path) -> Evidence:
    """The evidence so far; executions of a task in the order of their starts."""
    found = Evidence()
    runs: dict[str, Execution] = {}
    for line in path.read_text().split("\n") if path.exists() else []:
        if not line:
            continue
        try:
            fact = json.loads(line)
        except ValueError:
            found.torn += 1
            continue
        if "took_s" in fact:
            found.send_times_s.append(fact["took_s"])
        match fact["event"]:
            case "start":
                run = Execution(fact["task"], fact["token"], fact["attempt"], fact["pid"], fact["at"])
                runs[fact["run"]] = run
                found.executions[fact["task"]].append(run)
            case "return":
                runs[fact["run"]].ended, runs[fact["run"]].value = fact["at"], fact["value"]
            case "raise":
                runs[fact["run"]].ended, runs[fact["run"]].error = fact["at"], fact["error"]
            case "accept":
                found.accepted[fact["task"]] = fact["token"]
                if "delay_s" in fact:
                    found.not_before[fact["task"]] = fact["at"] - fact["took_s"] + fact["delay_s"]
            case "refuse":
                found.refused[fact["token"]] = fact["error"]
            case "cancel":
                found.cancels += 1
                found.asked.add(fact["task"])
                if fact["answered"]:
                    found.cancelled[fact["task"]] = fact["at"]
    return found
