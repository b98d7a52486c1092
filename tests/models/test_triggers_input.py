"""What anybody may send as a trigger: refused with the field, the value and the range, and never expensive."""

from datetime import datetime
from typing import Any

import pytest

from models.triggers import Cron, Interval, TriggerError, from_row, parse, preview
from tests.models.oracle import utc

NAIVE = utc("2026-01-01").replace(tzinfo=None)
FIELDS = {
    "year": (1970, 2199), "month": (1, 12), "day": (1, 31), "week": (1, 53), "day_of_week": (0, 7),
    "hour": (0, 23), "minute": (0, 59), "second": (0, 59),
}  # fmt: skip
BAD_VALUES = [
    "", " ", ",", "1,", "*,", "-1", "1-", "-", "/", "*/", "*/0", "*/-1", "*/10000", "*/99999999999", "0--100000000",
    "0-100000000", "1" * 100, "9" * 5_000, "1," * 101, "٣", "１", "²", "1.5", "1e1", "0x1", "+1", "1_0", "**", "*-5",
    "5*", "?", "L-1", "W", "5#1#2", "x", "mon" * 20, "a\x00b", "\ud800", "\u202e1", "' OR 1=1--", "<script>",
    True, False, 1.0, float("nan"), 10**5_000, -(10**5_000), [], [1], {"a": 1}, (1,), b"1", NAIVE,
]  # fmt: skip
ROWS: dict[str, tuple[dict[Any, Any], str]] = {
    "no kind": ({}, "kind: expected one of interval, cron, crontab, date, got None"),
    "unknown kind": ({"kind": "daily"}, "kind: expected one of interval, .*, got 'daily'"),
    "kind that is no text": ({"kind": []}, "kind: expected one of interval, .*, got a list"),
    "unknown argument": ({"kind": "interval", "minuets": 1}, "minuets: expected an argument of interval: .*minutes"),
    "argument that is no text": ({"kind": "cron", 5: 1}, "arguments: expected an argument of cron: .* got 5"),
    "argument with a long name": ({"kind": "cron", "x" * 10_000: 1}, "arguments: expected an argument of cron"),
    "no interval": ({"kind": "interval"}, "interval: expected at least one of weeks, .* in all"),
    "no seconds": ({"kind": "interval", "seconds": 0}, "interval: expected at least one of weeks, .* in all"),
    "too many seconds": ({"kind": "interval", "seconds": 10**9}, "seconds: expected a whole number, 0–31622400"),
    "too much in all": ({"kind": "interval", "days": 366, "seconds": 1}, "interval: .* in all, got .31622401 s"),
    "negative": ({"kind": "interval", "hours": 2, "minutes": -1}, "minutes: expected a whole number, 0–527040, got -1"),
    "too many weeks": ({"kind": "interval", "weeks": 53}, "weeks: expected a whole number, 0–52, got 53"),
    "huge": ({"kind": "interval", "days": 10**5_000}, "days: .* got a number of more than 38 digits"),
    "text": ({"kind": "interval", "seconds": "60"}, "seconds: expected a whole number, .* got '60'"),
    "half": ({"kind": "interval", "seconds": 1.5}, "seconds: expected a whole number, .* got 1.5"),
    "not a number": ({"kind": "interval", "seconds": float("nan")}, "seconds: expected a whole number, .* got nan"),
    "true": ({"kind": "interval", "seconds": True}, "seconds: expected a whole number, .* got True"),
    "no field": ({"kind": "cron"}, "cron: expected at least one of year, month, .* second, got None"),
    "30 February": ({"kind": "cron", "day": 30, "month": 2}, "cron: expected fields that some date can match together"),
    "no leap year": ({"kind": "cron", "day": 29, "month": 2, "year": 2027}, "cron: expected fields that some date can"),
    "week 53 in June": ({"kind": "cron", "week": 53, "month": 6}, "cron: .* got 'month=6 week=53'"),
    "month by a wrong name": ({"kind": "cron", "month": "brumaire"}, "month: expected 1–12 or jan … dec, as"),
    "backward": ({"kind": "cron", "hour": "22-6"}, "hour: expected ranges that begin with the lower value; write two"),
    "hours between jobs": ({"kind": "cron", "minute": "*/90"}, r"minute: expected a step of 1–59 \(for longer ones"),
    "no expression": ({"kind": "crontab"}, "expression: expected an argument of crontab that has to be given"),
    "empty": ({"kind": "crontab", "expression": ""}, "expression: expected five fields .* or one of @yearly"),
    "no text": ({"kind": "crontab", "expression": 5}, "expression: expected text of at most 200 characters, got 5"),
    "a list": ({"kind": "crontab", "expression": ["*"]}, "expression: expected text .* got a list"),
    "six fields": ({"kind": "crontab", "expression": "0 0 * * * *"}, "expected five fields .*; for seconds give cron"),
    "seven fields": ({"kind": "crontab", "expression": "0 0 * * * * *"}, "expression: expected five fields"),
    "unknown alias": ({"kind": "crontab", "expression": "@reboot"}, "expression: expected five fields .*'@reboot'"),
    "endless": ({"kind": "crontab", "expression": "1," * 10_000}, "expression: expected text of at most 200 char"),
    "out of range": ({"kind": "crontab", "expression": "99 99 * * *"}, "expression: expected minute 0–59, .* got '99'"),
    "hour 24": ({"kind": "crontab", "expression": "0 24 * * *"}, "expression: expected hour 0–23"),
    "day 0": ({"kind": "crontab", "expression": "0 0 0 * *"}, "expression: expected day 1–31"),
    "weekday 8": ({"kind": "crontab", "expression": "0 0 * * 8"}, "day_of_week 0–7 .0 and 7 are Sunday. or sun … sat"),
    "never": ({"kind": "crontab", "expression": "0 0 30 2 *"}, "expression: expected a day that some month has"),
    "weekday 6th": ({"kind": "crontab", "expression": "0 0 * * 1#6"}, "expression: expected day_of_week 0–7"),
    "no date": ({"kind": "date"}, "run_date: expected an argument of date that has to be given"),
    "no such date": ({"kind": "date", "run_date": "2026-02-30 00:00:00"}, "run_date: expected a time such as 2026-12"),
    "a date as number": ({"kind": "date", "run_date": 1e12}, "run_date: expected a time such as"),
    "a date too late": ({"kind": "date", "run_date": "9999-12-31"}, "run_date: expected a time .*1970–2199"),
    "a naive date": ({"kind": "date", "run_date": NAIVE}, "run_date: expected a time such as"),
    "other digits": ({"kind": "date", "run_date": "٢٠٢٦-01-01"}, "run_date: expected a time such as"),
    "a long date": ({"kind": "date", "run_date": "2026-01-01" + " " * 10**6}, "run_date: expected a time such as"),
}  # fmt: skip
BAD_ZONES = [
    "", "Mars/Olympus", "../../etc/passwd", "/etc/localtime", "a\x00", "\ud800", "Europe", "localtime", "right/UTC",
    "posix/UTC", "x" * 1_000_000, None, 5, True, ["UTC"], {},
]  # fmt: skip


@pytest.mark.parametrize(("stored", "mend"), ROWS.values(), ids=ROWS.keys())
def test_a_trigger_that_cannot_be_is_refused_naming_the_field(stored: dict[str, Any], mend: str) -> None:
    with pytest.raises(TriggerError, match=mend) as raised:
        from_row(stored)

    assert len(str(raised.value)) < 500
    assert str(raised.value) == f"{raised.value.field}: expected {raised.value.expected}, got {raised.value.value}"


@pytest.mark.parametrize("name", FIELDS)
@pytest.mark.parametrize("value", BAD_VALUES, ids=range(len(BAD_VALUES)))
def test_a_field_that_cannot_be_is_refused_with_its_range(name: str, value: object) -> None:
    with pytest.raises(TriggerError) as raised:
        parse("cron", {name: value})

    assert raised.value.field == name
    assert len(str(raised.value)) < 500
    assert "–" in raised.value.expected  # the range
    assert str(raised.value).encode()  # whatever it shows can be printed and stored


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_is_refused_below_and_above_its_range_and_taken_at_both_ends(name: str) -> None:
    low, high = FIELDS[name]

    for value in (low - 1, high + 1, str(high + 1), f"{low}-{high + 1}", f"*/{high + 1}", f"{high}-{low}"):
        with pytest.raises(TriggerError, match=f"^{name}: expected "):
            parse("cron", {name: value})
    for value in (low, high, f"{low}-{high}", f"*/{high}", f"{low}-{high}/{high}", ",".join([str(low)] * 40)):
        parse("cron", {name: value})


@pytest.mark.parametrize("zone", BAD_ZONES, ids=range(len(BAD_ZONES)))
def test_an_unknown_zone_is_refused(zone: Any) -> None:
    with pytest.raises(TriggerError, match="time_zone: expected an IANA name such as") as raised:
        parse("cron", {"hour": 9}, time_zone=zone)

    assert len(str(raised.value)) < 250


@pytest.mark.parametrize("name", ["start_at", "end_at"])
@pytest.mark.parametrize("value", ["", "tomorrow", NAIVE, 5, True, [], "1" * 5_000, "0001-01-01"])
def test_a_bound_that_is_no_moment_is_refused(name: str, value: Any) -> None:
    with pytest.raises(TriggerError, match=f"{name}: expected a time from 1970 on such as 2026-12-24 18:00:00"):
        parse("interval", {"seconds": 1}, **{name: value})


def test_bounds_the_wrong_way_round_are_refused() -> None:
    with pytest.raises(TriggerError, match="end_at: expected no time before start_at 2026-02-01"):
        parse("interval", {"seconds": 1}, start_at="2026-02-01T00:00:00Z", end_at="2026-01-01T00:00:00Z")
    with pytest.raises(TriggerError, match="run_date: expected a time from 2026-02-01"):
        parse("date", {"run_date": "2026-01-01"}, start_at="2026-02-01T00:00:00Z")


@pytest.mark.parametrize("arguments", [None, [], "hour=9", 5])
def test_arguments_that_are_no_names_with_values_are_refused(arguments: object) -> None:
    with pytest.raises(TriggerError, match="arguments: expected names with values, such as"):
        parse("cron", arguments)


def test_what_a_person_sends_may_hold_zone_and_bounds() -> None:
    sent = {"hour": "9", "time_zone": "Europe/Berlin", "start_at": "2026-12-01T00:00:00+01:00"}

    found = parse("cron", sent)

    assert found == Cron(hour=9, time_zone="Europe/Berlin", start_at=utc("2026-11-30 23:00"))


@pytest.mark.parametrize("count", [0, -1, 1001, 10**100, True, 1.0, "5", None])
def test_a_preview_is_bounded(count: Any) -> None:
    with pytest.raises(TriggerError, match="count: expected a whole number, 1–1000"):
        preview(Interval(1), utc("2026-01-01"), count)


@pytest.mark.parametrize("weekdays", [0, "0", "0-4", "mon,5", "6/2"])
def test_apschedulers_weekday_numbers_are_refused_with_a_hint(weekdays: object) -> None:
    with pytest.raises(TriggerError, match=r"day_of_week: expected names, mon … sun, .* APScheduler's 0"):
        Cron.from_apscheduler({"day_of_week": weekdays, "hour": 7})


@pytest.mark.parametrize("weekdays", ["mon", "mon-fri", "*", "*/2", "sat,sun"])
def test_what_apscheduler_and_crontab_call_the_same_is_imported(weekdays: str) -> None:
    imported = Cron.from_apscheduler({"day_of_week": weekdays, "hour": 7}, time_zone="Europe/Berlin")

    assert imported == Cron(day_of_week=weekdays, hour=7, time_zone="Europe/Berlin")
    assert isinstance(imported.next_after(utc("2026-11-22")), datetime)
