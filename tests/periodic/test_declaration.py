"""What a schedule may say: each field in its bounds, and an error that names the field and the mend."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from models.triggers import Crontab
from periodic.declaration import Declaration, checked, cron, crontab, date, interval, problems
from periodic.timetable import TIMETABLE
from workers import callboard
from workers.errors import InvalidSchedule

GOOD = Declaration("nightly", "diagnostics.run_self_test", crontab("0 2 * * *"), {"steps": 1})
HUGE = 10**400


def test_a_good_one_comes_back_as_columns() -> None:
    found = checked(replace(GOOD, start_at="2026-01-01T00:00:00+01:00"), callboard.registry)

    assert found.values["trigger"] == {"kind": "crontab", "expression": "0 2 * * *"}
    assert found.values["name"] == "nightly"
    assert found.values["start_at"] == datetime(2025, 12, 31, 23, tzinfo=UTC)
    assert (found.values["misfire"], found.values["overlap"], found.values["enabled"]) == ("run_once", "skip", True)
    assert found.trigger.next_after(datetime(2026, 1, 1, 3, tzinfo=UTC)) == datetime(2026, 1, 2, 2, tzinfo=UTC)


def test_an_alias_becomes_the_actors_own_name_and_parameters_are_converted() -> None:
    found = checked(replace(GOOD, actor="health_check", params={}), callboard.registry)

    assert found.values["actor"] == "health.check_system"
    assert checked(replace(GOOD, params={"steps": "3"}), callboard.registry).values["params"] == {"steps": 3}


def test_a_trigger_object_brings_its_own_zone() -> None:
    found = checked(replace(GOOD, trigger=Crontab("0 9 * * *", time_zone="Europe/Berlin")), callboard.registry)

    assert (found.values["time_zone"], found.values["trigger"]["kind"]) == ("Europe/Berlin", "crontab")


@pytest.mark.parametrize(
    ("changes", "field", "mend"),
    [
        ({"schedule_id": ""}, "id", "id: expected 1–100 letters, digits"),
        ({"schedule_id": "a b"}, "id", "got 'a b'"),
        ({"schedule_id": "../etc"}, "id", "that begin with a letter or digit"),
        ({"schedule_id": "x" * 101}, "id", "expected 1–100"),
        ({"schedule_id": "é"}, "id", "expected 1–100 letters"),
        ({"schedule_id": 7}, "id", "got 7"),
        ({"name": "x" * 201}, "name", "at most 200 printable characters"),
        ({"name": "a\nb"}, "name", "printable"),
        ({"name": 7}, "name", "got 7"),
        ({"actor": "diagnostics.run_self_tset"}, "actor", "actor: there is no actor 'diagnostics.run_self_tset'"),
        ({"actor": "x" * 100_000}, "actor", "see `callboard actors`"),
        ({"params": {"stepz": 1}}, "params.stepz", "steps"),
        ({"params": {"steps": 0}}, "params.steps", "greater than or equal to 1"),
        ({"params": [1]}, "params", "expected named arguments"),
        ({"params": {1: 2}}, "params", "expected named arguments"),
        ({"priority": 0}, "priority", "a whole number, 1–10, got 0"),
        ({"priority": 11}, "priority", "1–10, got 11"),
        ({"priority": True}, "priority", "got True"),
        ({"priority": 5.0}, "priority", "got 5.0"),
        ({"max_retries": -1}, "max_retries", "0–1000, got -1"),
        ({"max_retries": 1_001}, "max_retries", "0–1000"),
        ({"time_limit_s": 0}, "time_limit_s", "1–604800"),
        ({"time_limit_s": None}, "time_limit_s", "got None"),
        ({"misfire": "sometimes"}, "misfire", "one of skip, run_once, run_all; got 'sometimes'"),
        ({"misfire": None}, "misfire", "one of skip"),
        ({"misfire_grace_s": -1}, "misfire_grace_s", "0–"),
        ({"catch_up_max": 0}, "catch_up_max", "1–1000"),
        ({"catch_up_max": 1_001}, "catch_up_max", "1–1000"),
        ({"overlap": "maybe"}, "overlap", "one of allow, skip, cancel_running"),
        ({"jitter_s": 86_401}, "jitter_s", "0–86400"),
        ({"enabled": "yes"}, "enabled", "true or false"),
        ({"time_zone": "Europe/Berlln"}, "time_zone", "Europe/Berlln"),
        ({"time_zone": "../../etc/passwd"}, "time_zone", "got"),
        ({"start_at": "yesterday"}, "start_at", "yesterday"),
        ({"start_at": datetime(2026, 1, 1)}, "start_at", "start_at"),  # noqa: DTZ001 - naive on purpose
        ({"start_at": "2027-01-01T00:00+00:00", "end_at": "2026-01-01T00:00+00:00"}, "end_at", "start_at"),
        ({"trigger": {}}, "kind", "one of interval, cron, crontab, date"),
        ({"trigger": {"kind": "sometimes"}}, "kind", "sometimes"),
        ({"trigger": crontab("99 99 * * *")}, "expression", "99"),
        ({"trigger": crontab("* * * *")}, "expression", "* * * *"),
        ({"trigger": cron(hour=24)}, "hour", "24"),
        ({"trigger": cron(hour="0--100000000")}, "hour", "0--100000000"),
        ({"trigger": cron(hours=9)}, "hours", "hour"),
        ({"trigger": interval(seconds=0)}, "interval", "0"),
        ({"trigger": interval(seconds=HUGE)}, "seconds", "digits"),
        ({"trigger": date("2026-13-01 00:00:00")}, "run_date", "2026-13-01"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_naming_field_and_mend(changes: dict[str, Any], field: str, mend: str) -> None:
    with pytest.raises(InvalidSchedule) as refused:
        checked(replace(GOOD, **changes), callboard.registry)

    assert refused.value.field == field
    assert mend in str(refused.value)
    assert len(str(refused.value)) < 500


def test_parameters_have_the_bound_of_a_task() -> None:
    with pytest.raises(InvalidSchedule, match=r"params: expected at most 10 bytes of JSON"):
        checked(replace(GOOD, params={"steps": 1}), callboard.registry, params_max_bytes=10)


def test_problems_name_each_bad_line_and_the_default_timetable_has_none() -> None:
    bad = [replace(GOOD, actor="no.such"), GOOD, replace(GOOD, schedule_id="other", trigger=cron(minute=60))]

    found = problems(bad, callboard.registry)

    assert problems(TIMETABLE, callboard.registry) == []
    assert [line.partition(":")[0] for line in found] == ["schedule nightly", "schedule other"]
