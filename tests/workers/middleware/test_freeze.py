"""What a worker process has loaded when it boots is left out of its garbage collections."""

import gc
import sys

import dramatiq

from workers import callboard
from workers.middleware.freeze import Freeze


def test_what_is_loaded_at_boot_is_not_looked_at_again() -> None:
    gc.unfreeze()  # a test before may have booted a worker in this process
    module = sys.modules["workers.ledger.ledger"]
    assert any(one is vars(module) for one in gc.get_objects())

    dramatiq.Broker.emit_after(callboard.broker, "process_boot")
    try:
        assert not any(one is vars(module) for one in gc.get_objects())
        assert any(isinstance(one, Freeze) for one in callboard.broker.middleware)
    finally:
        gc.unfreeze()
