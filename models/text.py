"""Text that is stored: its cleaning, and what exceptions say.

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
