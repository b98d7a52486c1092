"""Callboard's workers. `dramatiq workers` imports this package and finds the broker and the actors.

The only composition root: settings, database, broker, middleware, `set_broker`, then actors, in this order. Importing
it opens no connection.
"""

import workers.neighbours  # noqa: F401, I001 - first: it explains a clash of names before one can hurt.

import logging
import os
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import dramatiq
from dramatiq.middleware import CurrentMessage

from models import database
from models.retention import Retention
from workers import discovery, legacy
from workers.broker import Limit, MessageCodec, Policy
from workers.broker.local import make_client
from workers.errors import SettingsError
from workers.ledger.bus import LedgerBroker
from workers.ledger.ledger import Ledger
from workers.ledger.upkeep import Upkeep
from workers.middleware.children import Callbacks, GroupCallbacks, GroupChore, Pipelines
from workers.middleware.event_loop import EventLoop
from workers.middleware.freeze import Freeze
from workers.middleware.exclusive import Admission, Exclusive
from workers.middleware.results import Results
from workers.middleware.retries import Retries
from workers.middleware.shutdown import ShutdownNotifications
from workers.middleware.signals import OneStop
from workers.middleware.start_checks import StartChecks
from workers.middleware.status import Status
from workers.middleware.surround import Surround
from workers.middleware.time_limit import TimeLimit
from workers.middleware.tracing import Tracing
from workers.middleware.watch import Watch
from workers.registry import Registry, RegistryMiddleware, secrets_of
from workers.runner import current, log_format
from workers.runner.broker import MaskedBroker
from workers.runner.isolated import Isolation
from workers.settings import Settings

MESSAGE_OVERHEAD_BYTES = 64 * 1024
"""What a message may have besides its parameters: options, names, a traceback."""
_OUR_COMMANDS = {"callboard", "dramatiq", "periodiq", "-m"}

__all__ = ["Callboard", "callboard"]


@dataclass(frozen=True)
class Callboard:
    """What this process is made of; `from workers import callboard` gives the only one."""

    settings: Settings
    registry: Registry
    ledger: Ledger
    broker: LedgerBroker

    def upkeep(self, role: str) -> Upkeep:
        """What keeps ledger and bus in step, for a process that is no worker (a worker has its own). role: its name."""
        return _upkeep(self.settings, self.broker, f"{role}:{socket.gethostname()[:80]}:{os.getpid()}")


def _stop(error: Exception) -> NoReturn:
    """End one of our own processes with a line instead of a traceback; let a stranger's see the exception."""
    if Path(sys.argv[0]).name in _OUR_COMMANDS:
        print(f"callboard: {error}", file=sys.stderr)
        sys.exit(2)
    raise error


def _load_settings() -> Settings:
    try:
        return Settings.load()
    except SettingsError as error:
        _stop(error)


class _NoResultWarning(logging.Filter):
    """Drops Dramatiq's warning that a result is discarded: the ledger keeps it (spec/traps.md 27)."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "returned a value that is not None" not in str(record.msg)


def _limit(declared: dramatiq.Actor[..., Any] | None) -> Limit | None:
    """What an actor declared with `concurrency=` or `rate_limit=` may do."""
    options = {} if declared is None else declared.options
    concurrency, rate_limit = options.get("concurrency"), options.get("rate_limit")
    if concurrency is None and rate_limit is None:
        return None
    rate, per_s = rate_limit or (None, None)
    return Limit(concurrency, rate, per_s)


def _must_not_run_twice(actor: "dramatiq.Actor[..., Any] | None") -> bool:
    return actor is not None and actor.options.get("on_lost") == "fail"


def _upkeep(
    settings: Settings, broker: LedgerBroker, holder: str, interrupt: Callable[[str], object] | None = None
) -> Upkeep:
    retention = Retention(
        result_days=settings.result_retention_days,
        task_days=settings.task_retention_days,
        audit_days=settings.audit_retention_days,
    )
    return Upkeep(
        broker,
        holder=holder,
        settle_after_s=settings.lease_s,
        interrupt=interrupt,
        prune=lambda: retention.turn(datetime.now(UTC)),
        groups=GroupChore(broker),
        alerts=_look_for_alerts,
    )


def _look_for_alerts() -> dict[str, int]:
    from workers.alerts import watch  # why: it asks for the composed whole.

    return watch.turn(callboard)


def _compose(settings: Settings) -> Callboard:
    registry = Registry()
    ledger = Ledger(
        heartbeat_s=settings.heartbeat_s, threads=settings.threads, result_max_bytes=settings.result_max_bytes
    )
    ledger.secrets_of = lambda message: secrets_of(registry, message)
    current.find_secrets_by(ledger.secrets_of)
    ledger.fails_when_lost = lambda name: _must_not_run_twice(registry.find(name))
    client = make_client(
        settings.redis_url,
        var_dir=settings.var_dir,
        timeout_s=settings.bus_timeout_s,
        ca_file=settings.redis_ca_file,
    )
    task_log_level = logging.getLevelNamesMapping()[settings.task_log_level.upper()]
    isolation = Isolation(result_max_bytes=settings.result_max_bytes, task_log_level=task_log_level)
    exclusive = Exclusive()
    broker = MaskedBroker(
        ledger=ledger,
        registry=registry,
        client=client,
        shards=settings.shards,
        policy=Policy(lease_s=settings.lease_s, ageing_s_per_priority=settings.priority_ageing_s),
        publish_timeout_s=settings.send_timeout_s,
        limit_of=lambda name: _limit(registry.find(name)),
        middleware=[
            RegistryMiddleware(registry),
            OneStop(),
            Freeze(),
            StartChecks(settings),
            Watch(
                stall_timeout_s=settings.stall_timeout_s,
                shutdown_timeout_s=settings.shutdown_timeout_s,
                pulse_fd=settings.pulse_fd,
                also=lambda: [*ledger.threads(), *exclusive.threads()],
            ),
            exclusive,
            Status(
                ledger,
                params_max_bytes=settings.params_max_bytes,
                max_retries=settings.max_retries,
                shutdown_timeout_s=settings.shutdown_timeout_s,
                make_upkeep=lambda holder, interrupt: _upkeep(settings, broker, holder, interrupt),
            ),
            *([Tracing()] if settings.traces else []),
            # why behind the status: at the end its children are gone before their tasks may start elsewhere.
            Surround(isolation, task_log_level=task_log_level),
            Admission(exclusive),
            EventLoop(),
            Callbacks(),
            Pipelines(),
            GroupCallbacks(ledger),
            Results(),
            Retries(
                max_retries=settings.max_retries,
                min_backoff=round(settings.min_backoff_s * 1000),
                max_backoff=round(settings.max_backoff_s * 1000),
            ),
            ShutdownNotifications(),
            CurrentMessage(),
            TimeLimit(time_limit=settings.time_limit_s * 1000, interval=250),
        ],
    )
    return Callboard(settings, registry, ledger, broker)


try:
    callboard = _compose(_load_settings())
except SettingsError as error:
    _stop(error)
database.bind(callboard.settings.database)
if Path(sys.argv[0]).name in ("dramatiq", "periodiq"):
    log_format.install(callboard.settings.log_format)  # why here: they have set up their logging, and import this next.
logging.getLogger("dramatiq.worker.WorkerThread").addFilter(_NoResultWarning())
dramatiq.set_encoder(MessageCodec(size_limit_bytes=callboard.settings.params_max_bytes + MESSAGE_OVERHEAD_BYTES))
dramatiq.set_broker(callboard.broker)
legacy.install(callboard.registry)
try:
    discovery.import_actors(callboard.registry, callboard.settings)
except ImportError as error:
    _stop(error)
