"""The lock file pins what is installed: one version of each, by hash, from whatever index the machine has."""

import re

import pytest

from tests.conftest import PROJECT_DIR

LOCK = (PROJECT_DIR / "requirements.lock").read_text()
PINS = re.findall(
    r"^([A-Za-z0-9._-]+)==(\S+)[^\n]*\\\n((?: +--hash=sha256:[0-9a-f]{64}(?: \\)?\n?)+)", LOCK, re.MULTILINE
)


def test_every_package_is_pinned_with_its_hashes() -> None:
    named = re.findall(r"^([A-Za-z0-9._-]+)\s*[=<>~!@]", LOCK, re.MULTILINE)

    assert [name for name, _, _ in PINS] == named
    assert len(named) == len(set(named)) > 50


@pytest.mark.parametrize(
    "address", ["://", "--index-url", "--extra-index-url", "--find-links", "--trusted-host", " @ "]
)
def test_it_names_no_index(address: str) -> None:
    assert address not in LOCK


def test_installing_wants_the_hashes() -> None:
    assert "--require-hashes -r requirements.lock" in (PROJECT_DIR / "Makefile").read_text()
