"""The table of all actors, a domain a file: each module here has `CASES`, actor → Case."""

import importlib
import pkgutil

from tests.workers.actors.case import Case


def gather() -> dict[str, Case]:
    """The rows of all modules here."""
    found: dict[str, Case] = {}
    for module in pkgutil.iter_modules(__path__):
        rows: dict[str, Case] = importlib.import_module(f"{__name__}.{module.name}").CASES
        twice = found.keys() & rows.keys()
        assert not twice, f"{', '.join(twice)}: in {module.name} and in another module; keep one"
        found |= rows
    return found
