"""Makes the start checks when a worker process boots that no supervisor of ours has started."""

import logging
import sys

import dramatiq
from dramatiq.broker import Broker

from workers import start_checks
from workers.broker import CallboardBroker
from workers.errors import StartRefused
from workers.settings import Settings

EXIT_REFUSED = 2
_logger = logging.getLogger(__name__)


class StartChecks(dramatiq.Middleware):
    """Warns, or refuses the start in production mode.

    Args:
        settings: with a pulse, a supervisor of ours has made the checks, and they are not repeated in each process.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def before_worker_boot(self, broker: Broker, worker: dramatiq.Worker) -> None:
        """Check. Ends the process with status 2 if the start is refused."""
        if self._settings.pulse_fd is not None or not isinstance(broker, CallboardBroker):
            return
        try:
            findings = start_checks.enforce(start_checks.run(self._settings, broker.client), self._settings)
        except StartRefused as error:
            for line in str(error).splitlines():  # why: within a record a line break is written as an escape.
                _logger.critical("%s", line)
            sys.exit(EXIT_REFUSED)
        for finding in findings:
            _logger.warning("start check: %s", finding)
