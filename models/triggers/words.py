"""A pattern in words: `every 5 minutes from 09:00 to 17:59 from Monday to Friday`."""

from collections.abc import Callable, Sequence

from models.triggers.field import LAST, MONTHS, WEEKDAYS, Field
from models.triggers.pattern import Pattern

_MOST_TIMES = 6
_EVERY_HOUR = (1 << 24) - 1
_NTH = {1: "first", 2: "second", 3: "third", 4: "fourth", 5: "fifth", LAST: "last"}


def of(pattern: Pattern) -> str:
    """The pattern as a phrase."""
    times, days = _times(pattern), _days(pattern)
    if not days and pattern.hour.mask != _EVERY_HOUR and not times.endswith(" hours"):
        days = "every day"
    return f"{times} {days}".strip()


def _times(pattern: Pattern) -> str:
    hours, minutes, seconds = (_values(field) for field in (pattern.hour, pattern.minute, pattern.second))
    on_the_hour = minutes == seconds == [0]
    if len(hours) * len(minutes) * len(seconds) <= _MOST_TIMES:
        tails = [f":{second:02}" if seconds != [0] else "" for second in seconds]
        times = [f"{hour:02}:{minute:02}{tail}" for hour in hours for minute in minutes for tail in tails]
        return "at " + _listed(times)
    step = _step(hours, 24)
    in_a_row = hours == list(range(hours[0], hours[-1] + 1))
    if on_the_hour and in_a_row:
        return "every hour" if len(hours) == 24 else f"every hour from {hours[0]:02}:00 to {hours[-1]:02}:00"
    if on_the_hour:
        return f"every {step} hours" if step else "at " + _listed(_runs(hours, "{:02}:00".format))
    words = _within_the_hour(minutes, seconds)
    if len(hours) == 24:
        return words if len(minutes) == 60 or _step(minutes, 60) else words + " of every hour"
    if step:
        return f"{words} of every {step}{ {2: 'nd', 3: 'rd'}.get(step, 'th') } hour from 00:00"
    if in_a_row:
        return f"{words} from {hours[0]:02}:00 to {hours[-1]:02}:59"
    return f"{words} of the hours {_listed(_runs(hours))}"


def _within_the_hour(minutes: Sequence[int], seconds: Sequence[int]) -> str:
    of_minute, of_second = _units("minute", minutes), _units("second", seconds)
    if seconds == [0]:
        return of_minute
    if len(minutes) == 60:
        return of_second if of_second.startswith("every") else f"{of_second} of every minute"
    return f"{of_second} of {of_minute.removeprefix('at ')}"


def _units(unit: str, values: Sequence[int]) -> str:
    """`every minute`, `every 5 minutes`, `at minutes 1, 4 and 10–12`."""
    step = _step(values, 60)
    if len(values) == 60:
        return f"every {unit}"
    return f"every {step} {unit}s" if step else f"at {_named(unit, values)}"


def _named(unit: str, values: Sequence[int]) -> str:
    return f"{unit}{'s' if len(values) > 1 else ''} {_listed(_runs(values))}"


def _days(pattern: Pattern) -> str:
    days = pattern.days
    phrases = []
    day, weekday = _day_of_month(days.day), _day_of_week(days.day_of_week)
    day_numbers, months = _values(days.day), _values(days.month)
    one_date = len(day_numbers) == len(months) == 1 and not (weekday or days.day.last_day or days.day.last_workday)
    if one_date:
        phrases.append(f"on {day_numbers[0]} {MONTHS[months[0] - 1]}")
    elif day and weekday:
        weekday = weekday if days.either else "if it is " + weekday.removeprefix("on ").removeprefix("from ")
        phrases.append(f"{day} or {weekday}" if days.either else f"{day} {weekday}")
    else:
        phrases.append(day or weekday)
    if not (one_date or days.month.is_any):
        phrases.append("in " + _listed(_runs(months, lambda month: MONTHS[month - 1])))
    if not days.week.is_any:
        phrases.append("in ISO " + _named("week", _values(days.week)))
    if not days.year.is_any:
        phrases.append("in " + _listed(_runs(_values(days.year))))
    return " ".join(phrase for phrase in phrases if phrase)


def _day_of_month(field: Field) -> str:
    if field.is_any:
        return ""
    parts = []
    if values := _values(field):
        parts.append(f"{_named('day', values)} of the month")
    if field.last_day:
        parts.append("the last day of the month")
    if field.last_workday:
        parts.append("the last workday of the month")
    return "on " + _listed(parts)


def _day_of_week(field: Field) -> str:
    weekdays = [day or 7 for day in _values(field)]  # Sunday last, so that Saturday and Sunday are neighbours
    if len(weekdays) == 7 and not field.nth:
        return ""
    parts = _runs(sorted(weekdays), lambda day: WEEKDAYS[day % 7])
    parts += [f"the {_NTH[nth]} {WEEKDAYS[day]} of the month" for day, nth in field.nth]
    return ("from " if len(parts) == 1 and " to " in parts[0] else "on ") + _listed(parts)


def _values(field: Field) -> list[int]:
    return [value for value in range(field.mask.bit_length()) if field.mask >> value & 1]


def _step(values: Sequence[int], size: int) -> int | None:
    """The step, if the values are every so many of a whole cycle."""
    step = values[1] - values[0] if len(values) > 1 else 0
    return step if step > 1 and size % step == 0 and list(values) == list(range(0, size, step)) else None


def _runs(values: Sequence[int], shown: Callable[[int], str] = str) -> list[str]:
    """Neighbours of three and more as `first–last` (or `Monday to Friday`), and even steps as `1, 3 … 59`."""
    step = values[1] - values[0] if len(values) > 4 else 1
    if step > 1 and list(values) == list(range(values[0], values[-1] + 1, step)):
        return [f"{shown(values[0])}, {shown(values[1])} … {shown(values[-1])}"]
    parts: list[str] = []
    for value in values:
        if value - 1 not in values or value == values[0]:
            first = value
        if value + 1 not in values:
            joint = "–" if shown(first)[0].isdigit() else " to "
            alone = [shown(one) for one in range(first, value + 1)]
            parts += alone if len(alone) < 3 else [f"{shown(first)}{joint}{shown(value)}"]
    return parts


def _listed(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
