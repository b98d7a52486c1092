"""Finds the domain modules and imports them; a module that fails is reported, never lost."""

import importlib
import logging
import pkgutil

from workers import actors
from workers.registry import ImportFailure, Registry
from workers.settings import Mode, Settings

_logger = logging.getLogger(__name__)


def import_actors(registry: Registry, settings: Settings) -> None:
    """Import every module of `workers.actors` and those that CALLBOARD_ACTOR_MODULES names.

    A module that raises is kept in `registry.failures` and logged; in production mode it stops the start.

    Raises:
        ImportError: in production mode, naming the module and its error.
    """
    own = [f"{actors.__name__}.{module.name}" for module in pkgutil.iter_modules(actors.__path__)]
    for name in (*sorted(own), *settings.actor_modules):
        try:
            importlib.import_module(name)
        except Exception as error:  # why: whatever a domain module raises, the other domains go on.
            said = f"{type(error).__name__}: {error}"
            if settings.mode is Mode.PRODUCTION:
                raise ImportError(f"{name} cannot be imported ({said}): mend it, or run in development mode") from error
            registry.failures.append(ImportFailure(name, said))
            _logger.error("%s cannot be imported (%s); its actors are missing", name, said)
