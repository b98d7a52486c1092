"""Whether the packages beside this one are ours: their names are common, and somebody's own may be found first.

Looked at before anything of them is imported, so that a clash is explained instead of failing somewhere inside.
"""

from importlib.util import find_spec
from pathlib import Path

HOUSE = Path(__file__).resolve().parent.parent


def check(*names: str, house: Path = HOUSE) -> None:
    """Raise ImportError if one of these packages would be taken from somewhere else than this one."""
    for name in names:
        spec = find_spec(name)
        places = [] if spec is None else [*(spec.submodule_search_locations or [spec.origin or ""])]
        if not any(Path(place).resolve() == house / name for place in places):
            found = f"{places[0]} is found" if places else "there is none"
            raise ImportError(
                f"Callboard needs its own package {name!r} ({house / name}), but {found}: the name is taken by "
                "a module of yours or another distribution. Run Callboard from its own checkout and environment and "
                "talk to it by REST, or rename yours (README, 'Adopt it')"
            )


check("models", "periodic")
