"""What people read of a trigger."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.triggers import Cron, Crontab, Date, Interval, Trigger
from tests.models.oracle import utc

CRONTABS = {
    "* * * * *": "every minute",
    "*/5 * * * *": "every 5 minutes",
    "*/7 * * * *": "at minutes 0, 7 … 56 of every hour",
    "@hourly": "every hour",
    "5 * * * *": "at minute 5 of every hour",
    "10,50 9 * * *": "at 09:10 and 09:50 every day",
    "30 9 * * *": "at 09:30 every day",
    "0 */6 * * *": "at 00:00, 06:00, 12:00 and 18:00 every day",
    "0 */2 * * *": "every 2 hours",
    "0 9-17 * * mon-fri": "every hour from 09:00 to 17:00 from Monday to Friday",
    "*/15 9-17 * * 1-5": "every 15 minutes from 09:00 to 17:59 from Monday to Friday",
    "5,10 1,3,5,7 * * *": "at minutes 5 and 10 of the hours 1, 3, 5 and 7 every day",
    "1-59/2 */2 * * *": "at minutes 1, 3 … 59 of every 2nd hour from 00:00 every day",
    "0 0 13 * fri": "at 00:00 on day 13 of the month or on Friday",
    "0 0 */13 * fri": "at 00:00 on days 1, 14 and 27 of the month if it is Friday",
    "@weekly": "at 00:00 on Sunday",
    "@monthly": "at 00:00 on day 1 of the month",
    "@yearly": "at 00:00 on 1 January",
    "0 9 * * sat,sun": "at 09:00 on Saturday and Sunday",
    "0 0 L jan-mar,6 *": "at 00:00 on the last day of the month in January to March and June",
    "0 0 LW * *": "at 00:00 on the last workday of the month",
    "0 0 * * tue#2,friL": "at 00:00 on the second Tuesday of the month and the last Friday of the month",
}
CRONS: list[tuple[dict[str, Any], str]] = [
    ({"hour": 9}, "at 09:00 every day"),
    ({"hour": 9, "minute": 0, "second": 5}, "at 09:00:05 every day"),
    ({"hour": 9, "second": 5}, "at second 5 of every minute from 09:00 to 09:59 every day"),
    ({"second": "*"}, "every second"),
    ({"second": "*/10"}, "every 10 seconds"),
    ({"second": 30}, "at second 30 of every minute"),
    ({"minute": "*/5", "second": "10,20"}, "at seconds 10 and 20 of every 5 minutes"),
    ({"hour": 9, "minute": "*", "second": "*/20"}, "every 20 seconds from 09:00 to 09:59 every day"),
    ({"day": 13, "day_of_week": "fri"}, "at 00:00 on day 13 of the month if it is Friday"),
    ({"week": 10}, "at 00:00 on Monday in ISO week 10"),
    ({"week": "1-53/2", "day_of_week": "mon", "hour": 7}, "at 07:00 on Monday in ISO weeks 1, 3 … 53"),
    ({"year": "2027-2029", "month": "feb", "day": 29}, "at 00:00 on 29 February in 2027–2029"),
]  # fmt: skip
OTHERS: list[tuple[Trigger, str]] = [
    (Interval(1), "every second"),
    (Interval(90), "every 1 minute 30 seconds"),
    (Interval(seconds=3600), "every hour"),
    (Interval(hours=36), "every 1 day 12 hours"),
    (Interval(weeks=2), "every 2 weeks"),
    (Interval(days=10), "every 10 days"),
    (Interval(60, start_at=utc("2026-12-01 06:00")), "every minute, from 2026-12-01 06:00 (UTC)"),
    (Date("2026-12-24 18:00:00", time_zone="Europe/Berlin"), "once, at 2026-12-24 18:00 (Europe/Berlin)"),
    (
        Crontab("@daily", time_zone="Europe/Berlin", start_at=utc("2026-12-01"), end_at=utc("2027-01-01 00:00:30")),
        "at 00:00 every day (Europe/Berlin), from 2026-12-01 01:00 until 2027-01-01 01:00:30",
    ),
]


@pytest.mark.parametrize(("expression", "words"), CRONTABS.items())
def test_a_crontab_can_be_read(expression: str, words: str) -> None:
    assert Crontab(expression, time_zone="Europe/Berlin").in_words() == f"{words} (Europe/Berlin)"


@pytest.mark.parametrize(("fields", "words"), CRONS, ids=str)
def test_a_cron_can_be_read(fields: dict[str, Any], words: str) -> None:
    assert Cron(**fields).in_words() == f"{words} (UTC)"


@pytest.mark.parametrize(("trigger", "words"), OTHERS, ids=str)
def test_a_trigger_can_be_read_with_its_bounds(trigger: Trigger, words: str) -> None:
    assert trigger.in_words() == words


def lists(low: int, high: int) -> st.SearchStrategy[str]:
    """The longest texts."""
    return st.one_of(
        st.just("*"), st.sets(st.integers(low, high), min_size=1).map(lambda some: ",".join(map(str, some)))
    )


@given(lists(0, 59), lists(0, 59), lists(0, 23), lists(1, 12), lists(0, 6))
def test_words_are_never_longer_than_a_person_reads(
    second: str, minute: str, hour: str, month: str, weekday: str
) -> None:
    words = Cron(second=second, minute=minute, hour=hour, month=month, day_of_week=weekday).in_words()

    assert 0 < len(words) < 900
    assert "  " not in words
