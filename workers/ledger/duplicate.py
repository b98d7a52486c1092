"""What a send returns that sent nothing, because another task has its idempotency key."""

from typing import Any, Final

from dramatiq import Message

DUPLICATE: Final = "duplicate"
"""Option of a returned message: it is that of an earlier task, which has the same idempotency key. Nothing was sent."""


def duplicate_of(message: Message[Any], owner: str) -> Message[Any]:
    """The message under the id of the task that has its idempotency key, and saying so."""
    return message.copy(message_id=owner, options={DUPLICATE: True})
