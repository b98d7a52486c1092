"""When something is due: the hard ones, by table. All others: test_triggers_oracle.py."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from models.triggers import Cron, Crontab, Date, Interval, Trigger, from_row, preview, to_row
from tests.models.oracle import utc

BERLIN = "Europe/Berlin"
SUNDAY = "2026-11-22 12:00"


NEW_YORK, LORD_HOWE, SYDNEY, APIA = "America/New_York", "Australia/Lord_Howe", "Australia/Sydney", "Pacific/Apia"


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
    # New York: spring 14 March 2027, 02:00 → 03:00 EDT (07:00 UTC); autumn 7 November, 02:00 → 01:00.
    ("30 2 * * *", NEW_YORK, "2027-03-13 12:00"): ["2027-03-14 07:00", "2027-03-15 06:30"],
    ("30 1 * * *", NEW_YORK, "2027-11-06 12:00"): ["2027-11-07 05:30", "2027-11-08 06:30"],
    ("0 * * * *", NEW_YORK, "2027-11-07 04:30"): ["2027-11-07 05:00", "2027-11-07 06:00", "2027-11-07 07:00"],
    # Lord Howe changes by half an hour: 3 October 2027, 02:00 → 02:30; 4 April, 02:00 → 01:30.
    ("15 2 * * *", LORD_HOWE, "2027-10-02 12:00"): ["2027-10-02 15:30", "2027-10-03 15:15"],
    ("45 1 * * *", LORD_HOWE, "2027-04-03 12:00"): ["2027-04-03 14:45", "2027-04-04 15:15"],
    ("*/20 1 * * *", LORD_HOWE, "2027-04-03 12:00"): [
        "2027-04-03 14:00", "2027-04-03 14:20", "2027-04-03 14:40", "2027-04-03 15:10", "2027-04-04 14:30",
    ],
    # Sydney: 3 October 2027, 02:00 → 03:00; 4 April, 03:00 → 02:00.
    ("30 2 * * *", SYDNEY, "2027-10-02 12:00"): ["2027-10-02 16:00", "2027-10-03 15:30"],
    ("30 2 * * *", SYDNEY, "2027-04-03 12:00"): ["2027-04-03 15:30", "2027-04-04 16:30"],
    # Apia went from 29 to 31 December 2011 at midnight (10:00 UTC).
    ("0 9 * * *", APIA, "2011-12-29 12:00"): ["2011-12-29 19:00", "2011-12-30 10:00", "2011-12-30 19:00"],
    ("0 9 30 * *", APIA, "2011-12-01 12:00"): ["2011-12-30 10:00", "2012-01-29 19:00"],
    ("0 * 30 * *", APIA, "2011-12-29 12:00"): ["2012-01-29 10:00"],
    # Havana falls back at 01:00 to midnight, St John's fell back at 00:01 to the day before.
    ("30 0 * * *", "America/Havana", "2027-11-06 12:00"): ["2027-11-07 04:30", "2027-11-08 05:30"],
    ("59 * 6 11 *", "America/St_Johns", "2010-11-07 02:00"): ["2010-11-07 02:29", "2010-11-07 03:29"],
    # What crontab(5) and cronsim have besides.
    ("0 0 * * fri-sun", "UTC", SUNDAY): ["2026-11-27 00:00", "2026-11-28 00:00", "2026-11-29 00:00"],
    ("0 0 * * sun-mon", "UTC", SUNDAY): ["2026-11-23 00:00", "2026-11-29 00:00"],
    ("0 0 * * sun-sun", "UTC", SUNDAY): ["2026-11-29 00:00", "2026-12-06 00:00"],
    ("0 0 1 january *", "UTC", SUNDAY): ["2027-01-01 00:00", "2028-01-01 00:00"],
    ("7-7/2 0 * * *", "UTC", SUNDAY): ["2026-11-23 00:07", "2026-11-24 00:07"],
    ("50/5 0 * * *", "UTC", SUNDAY): ["2026-11-23 00:50", "2026-11-23 00:55", "2026-11-24 00:50"],
    ("0 0 LW * *", "UTC", SUNDAY): ["2026-11-30 00:00", "2026-12-31 00:00", "2027-01-29 00:00"],
    ("0 0 * * mon#1", "UTC", SUNDAY): ["2026-12-07 00:00", "2027-01-04 00:00"],
    ("0 0 * * friL", "UTC", SUNDAY): ["2026-11-27 00:00", "2026-12-25 00:00"],
}  # fmt: skip


@pytest.mark.parametrize(("given_case", "expected"), CRONTABS.items(), ids=lambda value: str(value[0]))
def test_a_crontab_is_due_when_cron_would_run_it(given_case: tuple[str, str, str], expected: list[str]) -> None:
    expression, zone, after = given_case

    found = preview(Crontab(expression, time_zone=zone), utc(after), len(expected))

    assert found == [utc(text) for text in expected]


CRONS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "an hour": ({"hour": 9}, ["2026-11-23 09:00", "2026-11-24 09:00"]),
    "a minute": ({"minute": 5}, ["2026-11-22 12:05", "2026-11-22 13:05"]),
    "a second": ({"second": "30"}, ["2026-11-22 12:00:30", "2026-11-22 12:01:30"]),
    "every second": ({"second": "*"}, ["2026-11-22 12:00:01", "2026-11-22 12:00:02"]),
    "a day": ({"day": 1}, ["2026-12-01 00:00", "2027-01-01 00:00"]),
    "a weekday": ({"day_of_week": "mon"}, ["2026-11-23 00:00", "2026-11-30 00:00"]),
    "crontab's Sundays": ({"day_of_week": "7", "hour": 1}, ["2026-11-29 01:00", "2026-12-06 01:00"]),
    "a month": ({"month": "jun"}, ["2027-06-01 00:00", "2028-06-01 00:00"]),
    "a year": ({"year": 2028}, ["2028-01-01 00:00"]),
    "a year's evenings": ({"year": 2028, "hour": 20}, ["2028-01-01 20:00", "2028-01-02 20:00"]),
    "a week": ({"week": 1}, ["2027-01-04 00:00", "2028-01-03 00:00"]),
    "a long year's last week": ({"week": 53, "day_of_week": "fri,sun"}, ["2027-01-01 00:00", "2027-01-03 00:00"]),
    "Friday the 13th": ({"day": 13, "day_of_week": "fri"}, ["2027-08-13 00:00", "2028-10-13 00:00"]),
    "29 February, a Sunday": ({"day": 29, "month": 2, "day_of_week": "sun"}, ["2032-02-29 00:00", "2060-02-29 00:00"]),
    "a year that is over": ({"year": "2020-2024"}, []),
    "the last of the last year": ({"year": 2199, "month": 12, "day": 29}, ["2199-12-29 00:00"]),
}


@pytest.mark.parametrize(("fields", "expected"), CRONS.values(), ids=CRONS.keys())
def test_a_cron_is_due_when_all_its_fields_match(fields: dict[str, Any], expected: list[str]) -> None:
    found = preview(Cron(**fields), utc(SUNDAY), max(2, len(expected)))

    assert found[: len(expected)] == [utc(text) for text in expected]
    if len(expected) < 2:
        assert len(found) == len(expected)


def test_where_clocks_change_by_half_an_hour_cronsim_passes_over_due_times() -> None:
    zone = ZoneInfo(LORD_HOWE)
    before = datetime(2027, 10, 2, 23, 18, tzinfo=zone)

    ours = Crontab("*/10 3 * * *", time_zone=LORD_HOWE).next_after(before)
    theirs = next(CronSim("*/10 3 * * *", before))

    assert ours == datetime(2027, 10, 3, 3, 0, tzinfo=zone)
    assert theirs == datetime(2027, 10, 3, 3, 30, tzinfo=zone)


DATES = [
    ("2024-12-25 00:00:00", "UTC", "2024-12-25 00:00"),
    ("2024-12-25", "UTC", "2024-12-25 00:00"),
    ("2024-12-25T18:30", BERLIN, "2024-12-25 17:30"),
    ("2024-12-25T18:30:00.5+05:00", BERLIN, "2024-12-25 13:30:00.5"),
    ("2027-03-28 02:30:00", BERLIN, "2027-03-28 01:00"),
    ("2027-10-31 02:30:00", BERLIN, "2027-10-31 00:30"),
    ("2011-12-30 12:00:00", APIA, "2011-12-30 10:00"),
    (datetime(2024, 12, 25, 1, tzinfo=ZoneInfo(BERLIN)), "UTC", "2024-12-25 00:00"),
]


@pytest.mark.parametrize(("run_date", "zone", "expected"), DATES)
def test_a_date_is_due_once(run_date: str | datetime, zone: str, expected: str) -> None:
    due = Date(run_date, time_zone=zone)

    assert preview(due, utc("2010-01-01"), 2) == [utc(expected)]
    assert due.next_after(utc(expected)) is None


@pytest.mark.parametrize("trigger", [Interval(hours=1), Cron(minute=0), Crontab("@hourly")])
def test_nothing_is_due_before_its_start_or_after_its_end(trigger: Trigger) -> None:
    bounded = from_row(to_row(trigger), "UTC", utc("2026-11-22 12:00"), utc("2026-11-22 14:00"))

    assert [due.hour for due in preview(bounded, utc("2020-01-01"), 5)] == [12, 13, 14]
    assert [due.hour for due in preview(bounded, utc("2026-11-22 12:00"), 5)] == [13, 14]


@pytest.mark.parametrize("trigger", [Interval(1), Cron(second="*"), Crontab("* * * * *")])
@pytest.mark.parametrize("year", [1, 1969, 9999])
def test_a_moment_at_the_end_of_the_calendar_does_no_harm(trigger: Trigger, year: int) -> None:
    last = datetime(year, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)

    due = trigger.next_after(last)

    assert due is None if year == 9999 else due is not None and due > last


def test_a_naive_moment_is_refused() -> None:
    with pytest.raises(ValueError, match="moment: expected an aware datetime"):
        Interval(1).next_after(datetime(2026, 1, 1))  # noqa: DTZ001  # naive is what is tested


def test_an_interval_is_counted_from_its_start() -> None:
    trigger = Interval(days=1, hours=12, start_at=utc("2026-11-22 10:07:03.25"))

    assert preview(trigger, utc("2026-01-01"), 2) == [utc("2026-11-22 10:07:03.25"), utc("2026-11-23 22:07:03.25")]


def test_an_interval_is_elapsed_time_whatever_clocks_do() -> None:
    trigger = Interval(days=1, time_zone=BERLIN)

    assert preview(trigger, utc("2027-03-27 12:00"), 2) == [utc("2027-03-28"), utc("2027-03-29")]


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


TRIGGERS = [
    Interval(60),
    Interval(weeks=1, days=2, minutes=3),
    Crontab("0 9 * * 1-5", time_zone=BERLIN),
    Crontab("@weekly", start_at=utc("2026-01-01"), end_at=utc("2027-01-01")),
    Cron(hour=9),
    Cron(day_of_week="MON-fri ", hour="9-17", minute="*/15", time_zone=BERLIN),
    Date("2024-12-25 00:00:00", time_zone=BERLIN),
    Date(utc("2024-12-25")),
]


@pytest.mark.parametrize("trigger", TRIGGERS)
def test_a_trigger_comes_back_from_its_row_and_its_columns(trigger: Trigger) -> None:
    stored = json.loads(json.dumps(to_row(trigger)))

    assert from_row(stored, trigger.time_zone, trigger.start_at, trigger.end_at) == trigger


def test_a_row_from_before_there_was_a_kind_crontab_is_read() -> None:
    stored = {"kind": "cron", "expression": "0 9 * * *", "time_zone": BERLIN}

    assert from_row(stored) == Crontab("0 9 * * *", time_zone=BERLIN)


def test_fields_may_be_numbers_or_text() -> None:
    assert Cron(hour=9, minute="30") == Cron(hour="9", minute=30)


def test_a_preview_ends_where_the_trigger_does() -> None:
    assert preview(Cron(year=2027, month=1, day="1,2"), utc(SUNDAY), 1000) == [utc("2027-01-01"), utc("2027-01-02")]
    assert len(preview(Interval(1), utc(SUNDAY), 1000)) == 1000


def moments(first: str, last: str) -> st.SearchStrategy[datetime]:
    """Any aware time between two."""
    low, high = (datetime.fromisoformat(text) for text in (first, last))
    return st.datetimes(low, high, timezones=st.just(UTC))


@given(seconds=st.integers(1, 400_000), moment=moments("1960-01-01 00:00", "2500-01-01 00:00"))
@settings(max_examples=60, deadline=None)
def test_an_interval_is_due_at_the_next_multiple_of_itself(seconds: int, moment: datetime) -> None:
    due = Interval(seconds).next_after(moment)

    assert due is not None
    assert timedelta(0) < due - moment <= timedelta(seconds=seconds)
    assert due.timestamp() % seconds == 0
