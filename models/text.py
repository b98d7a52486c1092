"""The cleaning of text that is stored. Must not: import SQLAlchemy, because every process needs this."""

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
