"""What a worker process has loaded when it boots is left out of its garbage collections."""

import gc

import dramatiq

from workers import callboard
from workers.middleware.freeze import Freeze


def test_what_is_loaded_at_boot_is_not_looked_at_again() -> None:
    loaded: list[object] = [[]]
    assert any(one is loaded for one in gc.get_objects())

    dramatiq.Broker.emit_after(callboard.broker, "process_boot")
    try:
        assert not any(one is loaded for one in gc.get_objects())
        assert any(isinstance(one, Freeze) for one in callboard.broker.middleware)
    finally:
        gc.unfreeze()
