"""Old import paths yield today's actors, with a DeprecationWarning, counted.

`install` appends a finder to `sys.meta_path`: because it is the last, a real module of such a name always wins. The
modules are made in memory; nothing is added to the top level of the project.

    background_tasks, background_tasks.tasks, background_tasks.<domain>_tasks
    app.tasks, app.tasks.*, app.services.background_jobs
    backgroundtask, backgroundtask.taskplugins

An attribute of such a module is looked up as an alias: first `<module>.<name>`, then `<name>`, then a canonical name
that ends in `.<name>`. `BackgroundTaskManager` and `BackgroundJobService` are `workers.tasks`.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import re
import sys
import types
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

from workers.registry import Registry

_LEGACY_MODULE = re.compile(
    r"background_tasks(\.tasks|\.\w+_tasks)?|app(\.tasks(\.\w+)?|\.services(\.background_jobs)?)?"
    r"|backgroundtask(\.taskplugins)?"
)
MANAGERS = frozenset({"BackgroundTaskManager", "BackgroundJobService"})
"""Classes of old that are `workers.tasks` now."""

uses: Counter[str] = Counter()
"""How often each legacy name was used in this process."""


class LegacyFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds legacy modules and fills them from a registry."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """A spec for a legacy name; None for any other."""
        if not is_legacy(fullname):
            return None
        return importlib.util.spec_from_loader(fullname, self, is_package=True)

    def exec_module(self, module: types.ModuleType) -> None:
        """Give the module its look-up."""

        def look_up(name: str) -> Any:
            asking = inspect.currentframe()
            asking = asking and asking.f_back
            # why: `from module import name` asks twice, first importlib and then the statement itself.
            is_probe = asking is not None and asking.f_code.co_filename == "<frozen importlib._bootstrap>"
            return self._look_up(module.__name__, name, is_probe=is_probe)

        module.__getattr__ = look_up  # type: ignore[method-assign]  # PEP 562: a function in the module's namespace.

    def _look_up(self, module: str, name: str, *, is_probe: bool) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        legacy = f"{module}.{name}"
        found: Any = None
        if name in MANAGERS:
            found, now = importlib.import_module("workers.tasks"), "workers.tasks"
        else:
            found = find(self.registry, module, name)
            now = found.actor_name if found is not None else ""
        if found is None:
            raise AttributeError(f"{legacy} is no known actor: see `callboard actors` for the names")
        if is_probe:
            return found
        uses[legacy] += 1
        warnings.warn(f"{legacy} is a legacy name: use {now}", DeprecationWarning, stacklevel=3)
        return found


def is_legacy(module: str) -> bool:
    """Whether that is the name of a module of old."""
    return _LEGACY_MODULE.fullmatch(module) is not None


def find(registry: Registry, module: str, name: str) -> Any:
    """The actor that an attribute of a legacy module stands for, or None."""
    return registry.find(f"{module}.{name}") or registry.find(name) or _by_last_part(registry, name)


def _by_last_part(registry: Registry, name: str) -> Any:
    matches = [actor for canonical, actor in registry.actors.items() if canonical.endswith(f".{name}")]
    return matches[0] if len(matches) == 1 else None


def install(registry: Registry) -> None:
    """Put the finder last on `sys.meta_path`, once."""
    if not any(isinstance(finder, LegacyFinder) for finder in sys.meta_path):
        sys.meta_path.append(LegacyFinder(registry))
