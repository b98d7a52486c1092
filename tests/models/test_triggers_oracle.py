"""Random cron expressions against an oracle that looks at every minute, or every second, of two years.

With CALLBOARD_TEST_FULL=1 (`make soak`) 1,000 crontabs, 1,000 crons and 1,000 crons with seconds in each of the zones,
and 10,000 crontabs beside cronsim; else few of each. Of an expression with at most WALKED due times in the two years
all are compared, one after another; of one with more, as many, in runs that begin anywhere.
"""

import random
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice
from zoneinfo import ZoneInfo

import pendulum
import pytest
from cronsim import CronSim, CronSimError
from hypothesis import given, settings
from hypothesis import strategies as st
from periodiq import CronSpec

from models.triggers import Cron, Crontab, Trigger, TriggerError
from tests.models.oracle import Clock, Window, utc
from tests.scale import FULL

EXPRESSIONS = 1_000 if FULL else 10
WALKED = 500 if FULL else 100
IN_A_ROW = 25
DAYS = 731
TICK = timedelta(microseconds=1)
ZONES = {
    "Europe/Berlin": "2027-01-01",
    "America/New_York": "2027-01-01",
    "Australia/Lord_Howe": "2027-01-01",  # half an hour
    "Australia/Sydney": "2027-01-01",
    "Pacific/Apia": "2011-01-01",  # without 30 December 2011
    "America/St_Johns": "2010-01-01",  # the clock was changed at 00:01, back into the day before
    "America/Havana": "2027-01-01",  # and at midnight
}
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat", "sunday")
MONTHS = ("", "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "december")
RANGES = {
    "year": (2009, 2029), "month": (1, 12), "day": (1, 31), "week": (1, 53), "day_of_week": (0, 7),
    "hour": (0, 23), "minute": (0, 59), "second": (0, 59),
}  # fmt: skip
NEW_YEAR = utc("2026-01-01").replace(tzinfo=None)
CRONTAB = ("minute", "hour", "day", "month", "day_of_week")


@dataclass(frozen=True)
class Text:
    """A field as text, and the values that whoever wrote it meant."""

    text: str
    values: frozenset[int]

    @property
    def is_wild(self) -> bool:
        return self.text.startswith("*")


@cache
def clock(zone: str, unit_s: int) -> Clock:
    return Clock(zone, utc(ZONES[zone]), DAYS, unit_s)


@st.composite
def field_texts(draw: st.DrawFn, name: str) -> Text:
    """A field and what it means; not `7-7/2`, which cronsim takes for `7/2`."""
    low, high = RANGES[name]
    names = {"month": MONTHS, "day_of_week": WEEKDAYS}.get(name)

    def value(at_least: int = low) -> int:
        early = name == "hour" and at_least <= 4 and draw(st.booleans())  # clocks are changed at night
        return draw(st.integers(at_least, 4 if early else high))

    def written(number: int, *, ends: bool = False) -> str:
        named = names and (number < 7 or ends or name == "month")  # 7 is Sunday, but only `fri-sun` calls it so
        return names[number] if names and named and draw(st.booleans()) else str(number)

    if draw(st.integers(0, 2)) == 0:
        if name == "year" or draw(st.booleans()):
            return _meant(name, "*", range(low, high + 1))
        step = draw(st.integers(1, high))
        return _meant(name, f"*/{step}", range(low, high + 1)[::step])
    texts, values = [], set[int]()
    for _ in range(draw(st.integers(1, 3))):
        first = value()
        last = value(first)
        step = draw(st.integers(1, min(high, 9)))
        if name == "year" or draw(st.booleans()):
            texts.append(written(first))
            values.add(first)
        elif draw(st.booleans()):
            texts.append(
                f"{written(first)}-{written(last, ends=first not in {0, 7})}"
                + (f"/{step}" if step > 1 and last > first else "")
            )
            values.update(range(first, last + 1, step))
        else:
            texts.append(f"{written(first)}/{step}")
            values.update(range(first, high + 1, step))
    return _meant(name, ",".join(texts), values)


def _meant(name: str, text: str, values: range | set[int]) -> Text:
    shift = {"year": 1970}.get(name, 0)
    return Text(text, frozenset(value % 7 if name == "day_of_week" else value - shift for value in values))


CRONTABS = st.tuples(*(field_texts(name) for name in CRONTAB)).map(lambda texts: dict(zip(CRONTAB, texts, strict=True)))
CRONS = st.fixed_dictionaries({}, optional={name: field_texts(name) for name in RANGES}).filter(bool)


def with_defaults(given_fields: dict[str, Text]) -> dict[str, Text]:
    """All fields of a cron: what is finer than the finest given is at its minimum, everything else `*`."""
    fields = dict(given_fields)
    for name, finer in (("second", ()), ("minute", ("second",)), ("hour", ("second", "minute"))):
        if name not in given_fields and not any(one in given_fields for one in finer):
            fields[name] = Text("0", frozenset({0}))
    if not any(name in given_fields for name in ("second", "minute", "hour", "day", "day_of_week")):
        if "week" in given_fields:
            fields["day_of_week"] = Text("mon", frozenset({1}))
        else:
            fields["day"] = Text("1", frozenset({1}))
            fields.setdefault("month", Text("1", frozenset({1})))
    return fields


def is_fixed(fields: dict[str, Text]) -> bool:
    return all(name in fields and not fields[name].is_wild for name in ("hour", "minute"))


def assert_agrees(trigger: Trigger, watch: Clock, due: Window) -> None:
    """Ask from the beginning on, from anywhere, and around each change of the clock."""
    chance = random.Random(repr(trigger))
    if not walk(trigger, due, due.start - TICK, WALKED, chance):
        for _ in range(WALKED // IN_A_ROW):
            walk(trigger, due, due.start + chance.random() * (due.end - due.start), IN_A_ROW, chance)
    ask_around_changes(trigger, watch, due, chance)


def ask_around_changes(trigger: Trigger, watch: Clock, due: Window, chance: random.Random) -> None:
    """Ask every ten minutes for some hours around each change of the clock, and right before it."""
    for change in watch.changes:
        for passed_s in (*range(-9_000, 9_001, 600), -1):
            walk(trigger, due, change + timedelta(seconds=passed_s), 1, chance)


def walk(trigger: Trigger, due: Window, moment: datetime, steps: int, chance: random.Random) -> bool:
    """From one due time to the next, so many, or to the end of the window; returns whether that was reached.

    Each is also the next of any moment since the one before.
    """
    for _ in range(steps):
        expected, found = due.after(moment), trigger.next_after(moment)
        if expected is None:
            assert found is None or found >= due.end, f"{trigger!r} after {moment}"
            return True
        assert found == expected, f"{trigger!r} after {moment}"
        between = max(moment, expected - TICK - chance.random() ** 3 * (expected - moment))
        assert trigger.next_after(between) == expected, f"{trigger!r} after {between}"
        moment = expected
    return False


Meant = dict[str, Collection[int]]
SUNDAYS: Meant = {"minute": {0}, "hour": {0}, "day_of_week": {0}}
AT_TIMES: dict[str, Meant] = {
    "0 0 * * 0": SUNDAYS,
    "0 0 * * 7": SUNDAYS,
    "0 0 * * sun": SUNDAYS,
    "@weekly": SUNDAYS,
    "0 0 * * 0-6": {"minute": {0}, "hour": {0}},
    "0 0 * * fri-sun": {"minute": {0}, "hour": {0}, "day_of_week": {5, 6, 0}},
    "10,50 9 * * *": {"minute": {10, 50}, "hour": {9}},
    "0 0 29 2 *": {"minute": {0}, "hour": {0}, "day": {29}, "month": {2}},
    "59 23 31 * *": {"minute": {59}, "hour": {23}, "day": {31}},
    "0 12 30 * *": {"minute": {0}, "hour": {12}, "day": {30}},
    "30 2 * * *": {"minute": {30}, "hour": {2}},
    "0,30 0-3 * * *": {"minute": {0, 30}, "hour": range(4)},
    "15 1-3 * * sat,sun": {"minute": {15}, "hour": range(1, 4), "day_of_week": {6, 0}},
}
BY_ELAPSED_TIME: dict[str, Meant] = {
    "*/20 1-3 * * *": {"minute": {0, 20, 40}, "hour": range(1, 4)},
    "45 */2 * * *": {"minute": {45}, "hour": range(0, 24, 2)},
    "@hourly": {"minute": {0}},
    # Only on a day of which a part comes twice, so that the next match is a year and several changes away.
    "*/20 2 31 10 *": {"minute": {0, 20, 40}, "hour": {2}, "day": {31}, "month": {10}},  # Berlin
    "*/20 0,1 7 11 *": {"minute": {0, 20, 40}, "hour": {0, 1}, "day": {7}, "month": {11}},  # New York, Havana
    "*/20 1,2 4 4 *": {"minute": {0, 20, 40}, "hour": {1, 2}, "day": {4}, "month": {4}},  # Lord Howe, Sydney
}
ON_EITHER_DAY: dict[str, Meant] = {
    "0 0 13 * fri": {"minute": {0}, "hour": {0}, "day": {13}, "day_of_week": {5}},
    "30 2 1,31 3,10,11 sun": {"minute": {30}, "hour": {2}, "day": {1, 31}, "month": {3, 10, 11}, "day_of_week": {0}},
}


@pytest.mark.parametrize("expression", [*AT_TIMES, *BY_ELAPSED_TIME, *ON_EITHER_DAY])
def test_the_known_hard_ones_are_due_at_each_of_their_times_in_two_years(expression: str) -> None:
    meant = (AT_TIMES | BY_ELAPSED_TIME | ON_EITHER_DAY)[expression]

    for zone in ZONES:
        watch, trigger = clock(zone, 60), Crontab(expression, time_zone=zone)
        due = watch.window(meant, fixed=expression not in BY_ELAPSED_TIME, either=expression in ON_EITHER_DAY)
        chance = random.Random(expression)
        assert walk(trigger, due, due.start - TICK, DAYS * 1440, chance)
        ask_around_changes(trigger, watch, due, chance)


@pytest.mark.parametrize("zone", ZONES)
def test_a_crontab_is_due_in_the_minutes_that_match_it(zone: str) -> None:
    watch = clock(zone, 60)
    assert len(watch.changes) == 4 + (zone == "Pacific/Apia")

    @given(fields=CRONTABS)
    @settings(max_examples=EXPRESSIONS, deadline=None)
    def agrees(fields: dict[str, Text]) -> None:
        either = not (fields["day"].is_wild or fields["day_of_week"].is_wild)
        values = {name: text.values for name, text in fields.items()}
        expression = " ".join(fields[name].text for name in CRONTAB)
        due = watch.window(values, fixed=is_fixed(fields), either=either)
        with refused_only_if_never(due):
            assert_agrees(Crontab(expression, time_zone=zone), watch, due)

    agrees()


@pytest.mark.parametrize("zone", ZONES)
def test_a_cron_is_due_in_the_minutes_that_match_all_its_fields(zone: str) -> None:
    @given(fields=CRONS)
    @settings(max_examples=EXPRESSIONS, deadline=None)
    def agrees(fields: dict[str, Text]) -> None:
        fields["second"] = Text("0", frozenset({0}))
        assert_cron_agrees(clock(zone, 60), fields)

    agrees()


@pytest.mark.parametrize("zone", ZONES)
def test_a_cron_is_due_in_the_seconds_that_match_all_its_fields(zone: str) -> None:
    @given(fields=CRONS, second=field_texts("second"))
    @settings(max_examples=EXPRESSIONS, deadline=None)
    def agrees(fields: dict[str, Text], second: Text) -> None:
        assert_cron_agrees(clock(zone, 1), {"second": second, **fields})

    agrees()


def assert_cron_agrees(watch: Clock, fields: dict[str, Text]) -> None:
    full = with_defaults(fields)
    due = watch.window({name: text.values for name, text in full.items()}, fixed=is_fixed(full))
    with refused_only_if_never(due):
        assert_agrees(Cron.of({name: text.text for name, text in fields.items()}, time_zone=watch.zone), watch, due)


@contextmanager
def refused_only_if_never(due: Window) -> Iterator[None]:
    """What is refused because it can never be due must not be due in the window either."""
    try:
        yield
    except TriggerError as error:
        never = error.expected in {"a day that some month has", "fields that some date can match together"}
        if due.after(due.start - TICK) or not never:
            raise


MONTH_DAYS = st.one_of(field_texts("day").map(lambda text: text.text), st.sampled_from(["L", "LW", "15,L"]))
NTH = st.builds("{}#{}".format, st.integers(0, 7), st.integers(1, 5))
WEEKDAY_TEXTS = st.one_of(
    field_texts("day_of_week").map(lambda text: text.text.replace("day", "")),
    NTH,
    st.builds("{}L".format, st.integers(0, 7)),
)


@given(
    minute=field_texts("minute"), hour=field_texts("hour"), day=MONTH_DAYS, month=field_texts("month"),
    weekday=WEEKDAY_TEXTS, zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Sydney"]),
    after=st.datetimes(NEW_YEAR, NEW_YEAR.replace(year=2030)),
)  # fmt: skip
@settings(max_examples=10 * EXPRESSIONS, deadline=None)
def test_a_crontab_is_due_when_cronsim_says(
    minute: Text, hour: Text, day: str, month: Text, weekday: str, zone: str, after: datetime
) -> None:
    expression = f"{minute.text} {hour.text} {day} {month.text.replace('december', 'dec')} {weekday}"
    moment = after.replace(tzinfo=ZoneInfo(zone))
    try:
        theirs = CronSim(expression, moment)
    except CronSimError:
        return  # It has no opinion.
    if next(CronSim(expression, moment), None) is None:
        with pytest.raises(TriggerError, match="a day that some month has"):
            Crontab(expression)
        return
    trigger, after_s = Crontab(expression, time_zone=zone), moment.timestamp()

    for expected in islice((due for due in theirs if due.timestamp() > after_s), 20):
        found = trigger.next_after(moment)
        assert found == expected.astimezone(UTC)
        moment = found


def test_periodiq_passes_over_due_times_of_many_random_crontabs_and_we_of_none() -> None:
    """Trap 17."""
    watch = Clock("UTC", utc("2027-01-01"), DAYS, 60)
    late: list[bool] = []

    @given(fields=CRONTABS, after=st.datetimes(NEW_YEAR.replace(year=2027), NEW_YEAR.replace(year=2028)))
    @settings(max_examples=3_000 if FULL else 100, deadline=None)
    def ask(fields: dict[str, Text], after: datetime) -> None:
        either = not (fields["day"].is_wild or fields["day_of_week"].is_wild)
        values = {name: text.values for name, text in fields.items()}
        moment, expression = after.replace(tzinfo=UTC), " ".join(fields[name].text for name in CRONTAB)
        due_at = watch.window(values, fixed=is_fixed(fields), either=either).after(moment)
        if due_at is not None:
            assert Crontab(expression).next_after(moment) == due_at
            with suppress(ValueError):  # why: it knows names of three letters only, and sometimes finds no time at all.
                late.append(CronSpec.parse(expression).next_valid_date(pendulum.instance(moment)) > due_at)

    ask()
    print(f"{late.count(True)} of {len(late)}")
    assert late.count(True) > len(late) / 4 > 3
