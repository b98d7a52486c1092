"""A tree of files, and what is found in it."""

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

from periodic.elsewhere import Found, look

Planted = Callable[..., list[tuple[str, int, str]]]


def plant(folder: Path, files: dict[str, str | bytes]) -> Path:
    """Write files below a folder; text is dedented."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else dedent(content).lstrip("\n").encode())
    return folder


def shape(found: Found, folder: Path) -> list[tuple[str, int, str]]:
    """The hits as (file below the folder, line, name)."""
    return [(str(Path(hit.path).relative_to(folder)), hit.line, hit.name) for hit in found.hits]


@pytest.fixture
def hits(tmp_path: Path) -> Planted:
    """Plant files and look: the hits as (file, line, name)."""

    def plant_and_look(files: dict[str, str | bytes]) -> list[tuple[str, int, str]]:
        return shape(look([plant(tmp_path, files)]), tmp_path)

    return plant_and_look
