"""What a worker process has loaded when it boots lives as long as it does: the garbage collector need not look at it.

A full collection would walk through a hundred thousand objects of modules for the few of the tasks, and write to the
pages that a child of the fork server shares.
"""

import gc

import dramatiq
from dramatiq.broker import Broker


class Freeze(dramatiq.Middleware):
    """Tells the collector, once a process."""

    def after_process_boot(self, broker: Broker) -> None:
        """Only `dramatiq` calls it, in its worker processes: who runs a worker in a process of his own keeps all."""
        gc.freeze()
