"""When something is due: the hard ones by table, all others by brute force."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.triggers import Crontab, Interval, TriggerError, from_row, to_row

BERLIN = "Europe/Berlin"
SUNDAY = "2026-11-22 12:00"


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def next_times(trigger: Crontab | Interval, after: datetime, count: int) -> list[datetime]:
    found = []
    for _ in range(count):
        due = trigger.next_after(after)
        assert due is not None
        found.append(due)
        after = due
    return found


CRONTABS: dict[tuple[str, str, str], list[str]] = {
    ("0 0 * * 0", "UTC", SUNDAY): ["2026-11-29 00:00", "2026-12-06 00:00"],
    ("0 0 * * 7", "UTC", SUNDAY): ["2026-11-29 00:00", "2026-12-06 00:00"],
    ("0 0 * * sun", "UTC", SUNDAY): ["2026-11-29 00:00", "2026-12-06 00:00"],
    ("@weekly", "UTC", SUNDAY): ["2026-11-29 00:00", "2026-12-06 00:00"],
    (" @Weekly ", "UTC", SUNDAY): ["2026-11-29 00:00"],
    ("0 0 * * 0-6", "UTC", SUNDAY): ["2026-11-23 00:00", "2026-11-24 00:00"],
    ("0 7 * * mon", "UTC", SUNDAY): ["2026-11-23 07:00"],
    ("10,50 9 * * *", "UTC", "2026-11-22 08:20"): ["2026-11-22 09:10", "2026-11-22 09:50", "2026-11-23 09:10"],
    ("0 0 29 2 *", "UTC", SUNDAY): ["2028-02-29 00:00", "2032-02-29 00:00"],
    ("0 0 31 * *", "UTC", SUNDAY): ["2026-12-31 00:00", "2027-01-31 00:00", "2027-03-31 00:00"],
    ("0 0 L * *", "UTC", SUNDAY): ["2026-11-30 00:00", "2026-12-31 00:00", "2027-01-31 00:00", "2027-02-28 00:00"],
    ("0 0 13 * 5", "UTC", SUNDAY): ["2026-11-27 00:00", "2026-12-04 00:00", "2026-12-11 00:00", "2026-12-13 00:00"],
    ("59 23 31 12 *", "UTC", "2026-12-31 23:59"): ["2027-12-31 23:59"],
    ("@yearly", "UTC", SUNDAY): ["2027-01-01 00:00"],
    ("@monthly", "UTC", SUNDAY): ["2026-12-01 00:00"],
    ("@daily", "UTC", SUNDAY): ["2026-11-23 00:00"],
    ("@hourly", "UTC", "2026-11-22 12:59"): ["2026-11-22 13:00", "2026-11-22 14:00"],
    # Spring, 29 March: 02:00 to 03:00 does not exist; what falls into it runs at 03:00 (01:00 UTC), once.
    ("30 2 * * *", BERLIN, "2026-03-28 12:00"): ["2026-03-29 01:00", "2026-03-30 00:30"],
    ("0 9 * * *", BERLIN, "2026-03-28 12:00"): ["2026-03-29 07:00", "2026-03-30 07:00"],
    ("*/30 * * * *", BERLIN, "2026-03-29 00:20"): ["2026-03-29 00:30", "2026-03-29 01:00", "2026-03-29 01:30"],
    # Autumn, 25 October: 02:00 to 03:00 comes twice; a job at a time of day runs in the first one only.
    ("30 2 * * *", BERLIN, "2026-10-24 12:00"): ["2026-10-25 00:30", "2026-10-26 01:30"],
    ("30 2 * * *", BERLIN, "2026-10-25 01:15"): ["2026-10-26 01:30"],
    ("0,30 2 * * *", BERLIN, "2026-10-25 01:10"): ["2026-10-26 01:00", "2026-10-26 01:30"],
    ("*/30 * * * *", BERLIN, "2026-10-24 23:59"): [
        "2026-10-25 00:00", "2026-10-25 00:30", "2026-10-25 01:00", "2026-10-25 01:30", "2026-10-25 02:00",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("given_case", "expected"), CRONTABS.items(), ids=lambda value: str(value[0]))
def test_a_crontab_is_due_when_cron_would_run_it(given_case: tuple[str, str, str], expected: list[str]) -> None:
    expression, zone, after = given_case

    found = next_times(Crontab(expression, time_zone=zone), utc(after), len(expected))

    assert found == [utc(text) for text in expected]


@pytest.mark.parametrize(
    ("seconds", "after", "expected"),
    [
        (60, "2026-11-22 12:00:00", "2026-11-22 12:01:00"),
        (60, "2026-11-22 12:00:59.999999", "2026-11-22 12:01:00"),
        (1, "2026-11-22 12:00:00.5", "2026-11-22 12:00:01"),
        (7 * 24 * 3600, "1970-01-01 00:00:00", "1970-01-08 00:00:00"),
        (10, "1969-12-31 23:59:59.5", "1970-01-01 00:00:00"),
    ],
)
def test_an_interval_is_counted_from_the_epoch(seconds: int, after: str, expected: str) -> None:
    assert Interval(seconds).next_after(utc(after)) == utc(expected)


BAD_ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "no kind": ({}, "kind: expected one of interval, cron, got None"),
    "unknown kind": ({"kind": "daily"}, "kind: expected one of interval, cron, got 'daily'"),
    "kind that is no text": ({"kind": []}, r"kind: expected one of interval, cron, got \[\]"),
    "unknown field": ({"kind": "interval", "minutes": 1}, "interval: .*'minutes'"),
    "missing field": ({"kind": "interval"}, "interval: .*'seconds'"),
    "no seconds": ({"kind": "interval", "seconds": 0}, "seconds: expected a whole number, 1–31622400, got 0"),
    "too many seconds": ({"kind": "interval", "seconds": 10**9}, "seconds: expected a whole number, 1–31622400"),
    "seconds as text": ({"kind": "interval", "seconds": "60"}, "seconds: expected a whole number, .* got '60'"),
    "half seconds": ({"kind": "interval", "seconds": 1.5}, "seconds: expected a whole number"),
    "seconds that are true": ({"kind": "interval", "seconds": True}, "seconds: expected a whole number"),
    "no expression": ({"kind": "cron", "expression": ""}, "expression: expected five fields .* or one of @yearly"),
    "expression that is no text": ({"kind": "cron", "expression": 5}, "expression: expected text of at most 200"),
    "six fields": ({"kind": "cron", "expression": "0 0 * * * *"}, "expression: expected five fields"),
    "unknown alias": ({"kind": "cron", "expression": "@reboot"}, "expression: expected five fields .* got '@reboot'"),
    "endless": ({"kind": "cron", "expression": "1," * 200}, "expression: expected text of at most 200 characters"),
    "out of range": ({"kind": "cron", "expression": "99 99 * * *"}, "expression: Bad minute in '99 99"),
    "hour 24": ({"kind": "cron", "expression": "0 24 * * *"}, "expression: Bad hour"),
    "day 0": ({"kind": "cron", "expression": "0 0 0 * *"}, "expression: Bad day-of-month"),
    "weekday 8": ({"kind": "cron", "expression": "0 0 * * 8"}, "expression: Bad day-of-week"),
    "a date that never comes": ({"kind": "cron", "expression": "0 0 30 2 *"}, "expression: Bad day-of-month"),
    "a huge range": ({"kind": "cron", "expression": "0-100000000 * * * *"}, "expression: Bad minute"),
    "a negative range": ({"kind": "cron", "expression": "0--100000000 * * * *"}, "expression: Bad minute"),
    "a backward range": ({"kind": "cron", "expression": "5-1 * * * *"}, "expression: Bad minute"),
    "no step": ({"kind": "cron", "expression": "*/0 * * * *"}, "expression: Bad minute"),
    "other digits": ({"kind": "cron", "expression": "٣ * * * *"}, "expression: Bad minute"),
    "no zone": ({"kind": "cron", "expression": "* * * * *", "time_zone": ""}, "time_zone: expected an IANA name"),
    "unknown zone": (
        {"kind": "cron", "expression": "* * * * *", "time_zone": "Mars/Olympus"},
        "time_zone: expected an IANA name such as Europe/Berlin, got 'Mars/Olympus'",
    ),
    "a path": ({"kind": "cron", "expression": "* * * * *", "time_zone": "../../etc/passwd"}, "time_zone: expected"),
    "a zone with NUL": ({"kind": "cron", "expression": "* * * * *", "time_zone": "a\x00"}, "time_zone: expected"),
    "a zone that is no text": ({"kind": "cron", "expression": "* * * * *", "time_zone": None}, "time_zone: expected"),
}


@pytest.mark.parametrize(("stored", "mend"), BAD_ROWS.values(), ids=BAD_ROWS.keys())
def test_a_trigger_that_cannot_be_is_refused_naming_the_field(stored: dict[str, Any], mend: str) -> None:
    with pytest.raises(TriggerError, match=mend) as raised:
        from_row(stored)

    assert len(str(raised.value)) < 500


@pytest.mark.parametrize("trigger", [Interval(60), Crontab("0 9 * * 1-5", time_zone=BERLIN), Crontab("@weekly")])
def test_a_trigger_comes_back_from_its_row(trigger: Interval | Crontab) -> None:
    assert from_row(to_row(trigger)) == trigger


@pytest.mark.parametrize(
    ("trigger", "words"),
    [(Interval(60), "every 60 s"), (Crontab("0 9 * * *", time_zone=BERLIN), "At 09:00 every day (Europe/Berlin)")],
)
def test_a_trigger_can_be_read(trigger: Interval | Crontab, words: str) -> None:
    assert trigger.in_words() == words


def moments(first: str, last: str) -> st.SearchStrategy[datetime]:
    """Any aware time between two."""
    low, high = (datetime.fromisoformat(text) for text in (first, last))
    return st.datetimes(low, high, timezones=st.just(UTC))


@st.composite
def fields(draw: st.DrawFn, low: int, high: int) -> tuple[str, frozenset[int]]:
    """A crontab field and the values that it means."""
    everything = range(low, high + 1)
    if draw(st.booleans()):
        step = draw(st.integers(1, high))
        return ("*", frozenset(everything)) if step == 1 else (f"*/{step}", frozenset(everything[::step]))
    texts: list[str] = []
    values: set[int] = set()
    for _ in range(draw(st.integers(1, 3))):
        first, last = sorted((draw(st.integers(low, high)), draw(st.integers(low, high))))
        step = draw(st.integers(1, 5))
        if first == last:
            texts.append(str(first))
            values.add(first)
        else:
            texts.append(f"{first}-{last}" + (f"/{step}" if step > 1 else ""))
            values.update(range(first, last + 1, step))
    return ",".join(texts), frozenset(values)


WINDOW = timedelta(days=3)


@given(
    minute=fields(0, 59), hour=fields(0, 23), day=fields(1, 28), weekday=fields(0, 6),
    start=moments("2026-10-01 00:00", "2026-12-20 00:00"),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_any_crontab_is_due_in_exactly_the_minutes_that_match_it(
    minute: tuple[str, frozenset[int]], hour: tuple[str, frozenset[int]], day: tuple[str, frozenset[int]],
    weekday: tuple[str, frozenset[int]], start: datetime,
) -> None:  # fmt: skip
    crontab = Crontab(f"{minute[0]} {hour[0]} {day[0]} * {weekday[0]}")

    def matches(moment: datetime) -> bool:
        on_day, on_weekday = moment.day in day[1], moment.isoweekday() % 7 in weekday[1]
        starred = day[0].startswith("*") or weekday[0].startswith("*")
        right_day = on_day and on_weekday if starred else on_day or on_weekday
        # Day 29 and later are in `*`, but not in the values drawn from 1–28.
        if day[0].startswith("*"):
            step = int(day[0].partition("/")[2] or 1)
            right_day = (moment.day - 1) % step == 0 and on_weekday
        return moment.minute in minute[1] and moment.hour in hour[1] and right_day

    first = start.replace(second=0, microsecond=0) + timedelta(minutes=1)
    minutes = (first + timedelta(minutes=passed) for passed in range(int(WINDOW.total_seconds()) // 60))
    expected = [moment for moment in minutes if matches(moment)][:60]

    due: datetime | None = start
    for moment in expected:
        due = crontab.next_after(due)
        assert due == moment
    if len(expected) < 60:
        due = crontab.next_after(due)
        assert due is None or due >= first + WINDOW


CHANGES = st.one_of(
    moments("2026-03-28 20:00", "2026-03-29 06:00"),
    moments("2026-10-24 20:00", "2026-10-25 06:00"),
)


@given(moment=CHANGES, minute=fields(0, 59), hour=fields(0, 4))
@settings(max_examples=100, deadline=None)
def test_a_due_time_is_always_later_than_the_moment_asked_for(
    moment: datetime, minute: tuple[str, frozenset[int]], hour: tuple[str, frozenset[int]]
) -> None:
    due = next_times(Crontab(f"{minute[0]} {hour[0]} * * *", time_zone=BERLIN), moment, 5)

    assert [moment, *due] == sorted({moment, *due})
    assert all(one.astimezone(ZoneInfo(BERLIN)).minute in minute[1] | {0} for one in due)


@given(seconds=st.integers(1, 400_000), moment=moments("1960-01-01 00:00", "2500-01-01 00:00"))
@settings(max_examples=60, deadline=None)
def test_an_interval_is_due_at_the_next_multiple_of_itself(seconds: int, moment: datetime) -> None:
    due = Interval(seconds).next_after(moment)

    assert due is not None
    assert timedelta(0) < due - moment <= timedelta(seconds=seconds)
    assert due.timestamp() % seconds == 0
