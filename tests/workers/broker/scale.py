"""How much the bus's tests do: a tenth of the full numbers, or all of them with CALLBOARD_TEST_FULL=1."""

from __future__ import annotations

from typing import Final

from tests.scale import FULL


def _of(full: int) -> int:
    return full if FULL else full // 10


MODEL_EXAMPLES: Final = 1_200 if FULL else 15
MODEL_STEPS: Final = 60
MIXED_PRIORITY_MESSAGES: Final = _of(10_000)
FAR_DELAYED_MESSAGES: Final = _of(1_000_000)
FAULT_RUNS: Final = _of(200)
NEAR_DELAYED_MESSAGES: Final = _of(1_000)
HOUR_DELAYED_MESSAGES: Final = _of(10_000)
GOOD_NEIGHBOURS: Final = _of(1_000)
LOOKED_UP_MESSAGES: Final = _of(100_000)
FULL_SERVER_MESSAGES: Final = _of(20_000)
RESTART_MESSAGES: Final = _of(1_000)
FREEZE_LEASE_S: Final = 25.0 if FULL else 2.5
FREEZE_S: Final = 60.0 if FULL else 0.0
KILL_LEASE_S: Final = 25.0 if FULL else 2.5
STALL_S: Final = 7.0 if FULL else 2.8
STALL_LEASE_S: Final = 25.0 if FULL else 10.0
