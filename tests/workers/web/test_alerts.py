"""The routes of alerts, and their verbs at the command line."""

import json
from datetime import UTC, datetime

import httpx2
import pytest
from typer.testing import CliRunner

from workers import callboard
from workers.alerts import watch
from workers.cli.main import app

pytestmark = pytest.mark.usefixtures("ledger_database", "bus")


@pytest.fixture(autouse=True)
def two_alerts(ledger_database: str) -> None:
    for name in ("a", "b"):
        assert watch.open_(
            callboard, f"k:{name}", rule="stuck_task", message=f"<b>{name}</b>", now=datetime.now(UTC), count=3
        )  # fmt: skip


def test_alerts_are_listed_newest_first_a_page_at_a_time(api: httpx2.Client) -> None:
    first = api.get("/api/alerts", params={"limit": 1}).json()
    second = api.get("/api/alerts", params={"limit": 1, "before_id": first["next_before_id"]}).json()

    assert [one["key"] for one in (*first["alerts"], *second["alerts"])] == ["k:b", "k:a"]
    assert first["alerts"][0]["count"] == 3
    assert api.get("/api/alerts", params={"limit": 0}).status_code == 422


def test_an_alert_is_acknowledged_and_unknown_ones_are_not_found(api: httpx2.Client) -> None:
    alert_id = api.get("/api/alerts").json()["alerts"][0]["alert_id"]

    answer = api.post(f"/api/alerts/{alert_id}/acknowledge")

    assert answer.json() == {"alert_id": alert_id, "message": "Alert acknowledged"}
    assert api.get("/api/alerts").json()["alerts"][0]["acknowledged_by"] == "local"
    assert api.post("/api/alerts/4711/acknowledge").status_code == 404


def test_the_command_line_lists_and_acknowledges() -> None:
    runner = CliRunner()
    listed = runner.invoke(app, ["alerts", "list", "--json"])
    alert_id = json.loads(listed.stdout)[1]["alert_id"]

    assert runner.invoke(app, ["alerts", "acknowledge", str(alert_id)]).exit_code == 0

    shown = runner.invoke(app, ["alerts", "list", "--all"]).stdout
    assert "known to" in shown
    assert shown.endswith("2 alerts\n")
