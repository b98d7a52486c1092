"""Text that is stored: its cleaning, what exceptions say, durations in words.

Must not: import SQLAlchemy, because every process needs this.
"""

import re

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_CUT_MARK = "… [cut]"


def clean_text(text: str, max_chars: int) -> str:
    """Make any text storable: NUL and lone surrogates become escapes, and what is too long is cut with a mark.

    Args:
        text: anything, for instance the message of an exception that a task raised.
        max_chars: the bound in characters, mark included.
    """
    safe = _UNSTORABLE.sub(lambda match: f"\\u{ord(match.group()):04x}", text)
    return safe if len(safe) <= max_chars else (safe[: max(0, max_chars - len(_CUT_MARK))] + _CUT_MARK)[:max_chars]


def words_of(error: BaseException) -> str:
    """What an exception says: `str(error)`, or that its own `__str__` fails. Raises nothing."""
    try:
        return str(error)
    except Exception:  # why: `__str__` is the code of whoever wrote the class.
        return f"(the message of this {type(error).__name__} cannot be shown: its __str__ raises)"


def span(seconds: float) -> str:
    """A duration for people: `45 s`, `23 min`, `1 h`, `2 h 1 min`."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return " ".join(f"{count} {unit}" for count, unit in ((hours, "h"), (minutes, "min")) if count)
