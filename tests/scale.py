"""How much the tests do, and how long they wait: in short, or all of it with CALLBOARD_TEST_FULL=1 (`make soak`)."""

from __future__ import annotations

import os
from typing import Final

FULL: Final = os.environ.get("CALLBOARD_TEST_FULL") == "1"
PATIENCE: Final = 1 if FULL else 6
"""The short form says what happens, on a machine that may be busy with anything: a deadline is met so many times over.
The full form says within which time too."""
SLACK: Final = 1 if FULL else 20
"""So many times longer than on a quiet machine may what is measured take, in the short form."""
