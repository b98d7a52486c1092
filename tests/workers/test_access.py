"""Tokens: made, kept as hashes, taken from the setting, compared without telling how near a guess was."""

import hashlib
from datetime import UTC, datetime

import pytest

from workers.access import PREFIX, Caller, Role, caller_of, new_token, parse_token
from workers.errors import SettingsError
from workers.settings import Settings

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
HASH = hashlib.sha256(b"secret").hexdigest()


@pytest.mark.parametrize(("role", "covered"), [
    (Role.READ, {Role.READ}), (Role.OPERATE, {Role.READ, Role.OPERATE}), (Role.ADMIN, set(Role)),
])  # fmt: skip
def test_a_role_may_do_what_those_below_it_may(role: Role, covered: set[Role]) -> None:
    assert {wanted for wanted in Role if role.covers(wanted)} == covered


def test_a_new_token_lets_its_holder_in_by_its_line_which_does_not_hold_it() -> None:
    secret, token = new_token("ci", Role.OPERATE)

    assert secret.startswith(PREFIX)
    assert secret not in token.line()
    assert caller_of([parse_token(token.line())], secret, NOW) == Caller("ci", Role.OPERATE)


def test_two_tokens_of_one_name_are_different() -> None:
    assert new_token("ci", Role.READ)[0] != new_token("ci", Role.READ)[0]


@pytest.mark.parametrize("shown", ["", "secre", "secret ", "Secret", "secretsecret", HASH, "\ud800", "x" * 100_000])
def test_anything_else_lets_nobody_in(shown: str) -> None:
    assert caller_of([parse_token(f"ci:read:{HASH}")], shown, NOW) is None


@pytest.mark.parametrize(("end", "is_valid"), [
    ("2026-11-22", False), ("2026-11-23", True), ("20261122T120000Z", False), ("2026-11-22T12:00:01+00:00", True),
    ("2026-11-22T13:00:00+02:00", False),
])  # fmt: skip
def test_a_token_counts_until_its_end(end: str, *, is_valid: bool) -> None:
    found = caller_of([parse_token(f"ci:read:{HASH}:{end}")], "secret", NOW)

    assert (found is not None) == is_valid


def test_every_hash_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []
    real = __import__("hmac").compare_digest
    monkeypatch.setattr("hmac.compare_digest", lambda kept, shown: compared.append(kept) or real(kept, shown))
    tokens = [parse_token(f"{name}:read:{HASH}") for name in ("first", "second", "third")]

    caller_of(tokens, "secret", NOW)

    assert len(compared) == 3


@pytest.mark.parametrize(("line", "mend"), [
    ("ci", "read, operate, admin"), ("ci:read", "64 hexadecimal digits"), ("c i:read:" + HASH, "1–50 letters"),
    (":read:" + HASH, "1–50 letters"), ("ci:root:" + HASH, "read, operate, admin"), ("ci:read:hunter2", "never the "),
    ("ci:read:" + HASH.upper(), "64 hexadecimal"), (f"ci:read:{HASH}:soon", "2027-01-31"),
    (f"ci:read:{HASH},ci:admin:{HASH}", "each name once, got ci twice"),
])  # fmt: skip
def test_a_wrong_setting_says_what_was_expected_and_shows_no_secret(
    monkeypatch: pytest.MonkeyPatch, line: str, mend: str
) -> None:
    monkeypatch.setenv("CALLBOARD_API_TOKENS", line)

    with pytest.raises(SettingsError) as raised:
        Settings.load()

    assert mend in str(raised.value)
    assert "hunter2" not in str(raised.value)
    assert HASH not in str(raised.value)


def test_with_tokens_any_address_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLBOARD_API_TOKENS", f"ci:read:{HASH}, ops:admin:{HASH}:2027-01-31")
    monkeypatch.setenv("CALLBOARD_API_HOST", "0.0.0.0")

    settings = Settings.load()

    assert [token.name for token in settings.api_tokens] == ["ci", "ops"]
    assert settings.api_host == "0.0.0.0"


@pytest.mark.parametrize("name", ["", "a:b", "a b", "ü", "x" * 51])
def test_a_name_that_is_none_is_refused_with_what_is_expected(name: str) -> None:
    with pytest.raises(ValueError, match=r"expected 1–50 letters, digits, _ \. @ or -, got '"):
        new_token(name, Role.READ)
