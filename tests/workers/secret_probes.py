"""Actors that are given secrets and let them out in every way that they have."""

import logging

from pydantic import BaseModel, SecretStr

from models.task import TaskType
from workers.registry import actor
from workers.runner.current import current_task

SECRET = "hunter2-Zq9"


class Login(BaseModel):
    """Of some service."""

    user: str
    word: SecretStr


@actor(task_type=TaskType.JOB, max_retries=0)
def leak(card: SecretStr, password: str, settings: dict[str, object], *, fails: bool = True) -> dict[str, str]:
    """Say what it was given: in log lines, progress, an exception, its cause, a result."""
    plain = card.get_secret_value()
    logging.getLogger("leaking").warning("the card is %s, settings %s", plain, settings)
    current_task().log.info("password is %s", password)
    current_task().progress(1, 1, f"with {password}")
    if not fails:
        return {"card": plain, "said": f"it is {password}", "shown": str(card)}
    try:
        raise KeyError(plain)
    except KeyError as error:
        raise ValueError(f"cannot log in as {plain!r} with {password} and {settings}") from error


@actor(task_type=TaskType.JOB, max_retries=0, isolated=True)
def leak_from_a_child(card: SecretStr, password: str) -> None:
    """The same from a process of its own."""
    logging.getLogger("leaking").warning("the card is %s", card.get_secret_value())
    current_task().log.info("it is %s", password)
    raise ValueError(f"cannot log in with {card.get_secret_value()} or {password}")


@actor(task_type=TaskType.JOB, max_retries=0)
def log_in(login: Login, word: SecretStr | None = None) -> str:
    """A secret inside a model, and one that need not be there."""
    return f"{login}{word}"
