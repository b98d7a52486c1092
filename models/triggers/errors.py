"""The one error of triggers, and how a value from outside is shown in it."""

MAX_SHOWN_CHARS = 80


class TriggerError(ValueError):
    """A trigger that cannot be: `<field>: expected <what>, got <value>`.

    Args:
        field: the argument that is wrong, as its sender named it.
        value: what came; anything at all, it is shown in at most MAX_SHOWN_CHARS characters.
        expected: the range, the form, or what to write instead.
    """

    def __init__(self, field: str, value: object, expected: str) -> None:
        self.field = field
        self.value = shown(value)
        self.expected = expected
        super().__init__(f"{field}: expected {expected}, got {self.value}")


def shown(value: object) -> str:
    """Any value as short printable text."""
    if isinstance(value, str):
        cut = value[:MAX_SHOWN_CHARS]
        return repr(cut) + (" …" if len(value) > MAX_SHOWN_CHARS else "")
    if isinstance(value, int) and value.bit_length() > 128:
        return "a number of more than 38 digits"  # why: Python refuses to write out more than 4,300 digits.
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    return f"a {type(value).__name__}"
