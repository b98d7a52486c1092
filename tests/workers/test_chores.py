"""The chores' last runs and findings, from Python, over HTTP and in the terminal: the same everywhere."""

import json
from datetime import UTC, datetime, timedelta

import httpx2
import pytest

from models import direct, task_upkeep
from tests.servers import wait_until
from tests.workers.cli.conftest import Run, run
from tests.workers.web.conftest import api, api_url
from workers import callboard, chores

__all__ = ["api", "api_url", "run"]

NOW = datetime.now(UTC)


@pytest.fixture
def done() -> None:
    """A sweep that found something ten minutes ago, and a relay that never succeeded."""
    began = NOW - timedelta(minutes=10)
    with direct.transaction() as to:
        for name in ("sweep", "relay"):
            task_upkeep.take_chore(
                to, name, holder="worker:h:1", now=began, until=began + timedelta(seconds=3), last_before=began,
                gap_before=began,
            )  # fmt: skip
        task_upkeep.record_chore(
            to, "sweep", holder="worker:h:1", began=began, took_ms=12, findings={"without_message": 2, "without_row": 0}
        )
        task_upkeep.record_failed_chore(to, "relay", holder="worker:h:1", error="no answer [yet]")


@pytest.mark.usefixtures("ledger_database", "done")
def test_python_and_rest_say_the_same_of_each(api: httpx2.Client) -> None:
    relay, sweep = chores.list_chores()

    began = NOW - timedelta(minutes=10)
    assert (relay["name"], relay["last_run_at"], relay["took_ms"], relay["error"]) == (
        "relay", None, None, "no answer [yet]"
    )  # fmt: skip
    assert sweep == {
        "name": "sweep", "holder": "worker:h:1", "steady_since": began, "last_run_at": began, "took_ms": 12,
        "findings": {"without_message": 2, "without_row": 0}, "error": None,
    }  # fmt: skip
    shown = api.get("/api/chores").json()
    assert [{**row, "last_run_at": None, "steady_since": None} for row in shown] == [
        {**row, "last_run_at": None, "steady_since": None} for row in (relay, sweep)
    ]
    assert datetime.fromisoformat(shown[1]["last_run_at"]) == began


@pytest.mark.usefixtures("sqlite_database", "done")
def test_the_terminal_shows_last_run_findings_and_error(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")

    _, relay, sweep = run("chores").out.splitlines()

    assert relay.split() == ["relay", "never", "failed", "since:", "no", "answer", "[yet]", "worker:h:1"]
    name, minutes, *rest = sweep.split()
    assert (name, int(minutes) >= 10) == ("sweep", True)
    assert " ".join(rest) == "min 12 ms 2 without_message worker:h:1"
    assert [row["name"] for row in json.loads(run("chores", "--json").out)] == ["relay", "sweep"]


@pytest.mark.usefixtures("sqlite_database")
def test_where_no_process_ever_ran_it_says_what_would_do_them(run: Run) -> None:
    ended = run("chores")

    assert (ended.code, ended.out) == (0, "")
    assert ended.error_lines == [
        "no chore was ever done: start a worker, the scheduler or the API, which share them"
    ]  # fmt: skip


@pytest.mark.usefixtures("system")
def test_real_upkeep_is_seen() -> None:
    upkeep = callboard.upkeep("test")
    upkeep.start()

    wait_until(
        lambda: {row["name"] for row in chores.list_chores() if row["last_run_at"]} >= {"relay", "prune"},
        within_s=20,
        what="chores to be done",
    )
    upkeep.stop()

    assert all(row["holder"].startswith("test:") for row in chores.list_chores())
