"""Actors declared by a call: Dramatiq's decorator has types for decorating only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dramatiq


def actor_of(function: Callable[..., Any], **options: Any) -> dramatiq.Actor[..., Any]:
    """Returns an actor. options: as for `dramatiq.actor`, `broker` among them."""
    return dramatiq.actor(**options)(function)
