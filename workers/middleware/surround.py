"""Surround: each actor's function is run by `workers.runner.surround` instead of directly; isolated ones in a child."""

import logging

import dramatiq
from dramatiq.broker import Broker

from workers.runner.isolated import Isolation
from workers.runner.surround import Surrounded
from workers.runner.task_logs import TaskLogHandler


class Surround(dramatiq.Middleware):
    """Also owns what a worker process needs for it: the fork server, and the handler of log lines.

    Args:
        isolation: of this process.
        task_log_level: of Python's logging, from which records are kept with the task that writes them.
    """

    # why: checked where they are declared, by workers.registry.actor
    actor_options = {"isolated", "hard_time_limit", "memory_limit_mb", "on_lost"}  # noqa: RUF012 - Dramatiq's own form

    def __init__(self, isolation: Isolation, *, task_log_level: int) -> None:
        self.isolation = isolation
        self._handler = TaskLogHandler(task_log_level)

    def before_declare_actor(self, broker: Broker, actor: "dramatiq.Actor[..., object]") -> None:
        """Take the place of its function."""
        actor.fn = Surrounded(actor, self.isolation)

    def before_worker_boot(self, broker: Broker, worker: dramatiq.Worker) -> None:
        """Start the fork server where an actor will need it, so that the first task does not wait for it."""
        logging.getLogger().addHandler(self._handler)
        if any(actor.options.get("isolated") for actor in broker.actors.values()):
            self.isolation.start()

    def after_worker_shutdown(self, broker: Broker, worker: dramatiq.Worker) -> None:
        """End the fork server, and with it what still runs in children."""
        logging.getLogger().removeHandler(self._handler)
        self.isolation.stop()
