"""Secrets are found by the names beside them, by their form, and by their value; ordinary text stays as it is."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.redaction import MAX_CHARS, is_secret_name, redact, redact_text, secrets_in

SECRET = "hunter2-Zq9"


@pytest.mark.parametrize("text", [
    "password=hunter2-Zq9", "{'password': 'hunter2-Zq9', 'user': 'bob'}", '{"api_key": "hunter2-Zq9"}',
    '"{\\"token\\": \\"hunter2-Zq9\\"}"', "Authorization: Bearer hunter2-Zq9", "Cookie: a=1; sid=hunter2-Zq9",
    "Set-Cookie: sid=hunter2-Zq9; HttpOnly", "postgresql://u:hunter2-Zq9@host/db", "redis://:hunter2-Zq9@host/0",
    "redis://u:a:b@c/hunter2-Zq9@host", "http://api:8000/x?access_token=hunter2-Zq9&b=1",
    "[('password', 'hunter2-Zq9')]", "<password>hunter2-Zq9</password>", "passwd: hunter2-Zq9", "pwd=hunter2-Zq9",
    "AWS_SECRET_ACCESS_KEY=hunter2-Zq9", "X-Api-Key: hunter2-Zq9", "password => hunter2-Zq9",
    "Login(password=b'hunter2-Zq9')", "password='it\\'s hunter2-Zq9'", "token = hunter2-Zq9",
    "https://hunter2-Zq9hunter2-Zq9@github.com/x", "client_secret='hunter2-Zq9",
    "kwargs={'db_password': 'hunter2-Zq9'}",
])  # fmt: skip
def test_what_stands_beside_a_telling_name_is_hidden(text: str) -> None:
    found = redact_text(f"before {text} after")

    assert SECRET not in found
    assert found.startswith("before ")
    assert "***" in found


@pytest.mark.parametrize("text", [
    "bearer abcdefgh12345678", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "cb_" + "x" * 43, "ghp_" + "a1" * 18,
    "AKIAABCDEFGHIJKLMNOP", "-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----",
])  # fmt: skip
def test_what_has_the_form_of_a_token_is_hidden(text: str) -> None:
    assert redact_text(f"got {text}, sorry") == "got ***, sorry"


@pytest.mark.parametrize("text", [
    "", "JSON: unexpected token } here", "password=None, x=1", "the author is Keynes", "KeyError: 'monkey'",
    "http://host:8000/users/me@example.org", "mail to meera.nair@example.org: refused", "3 of 10 pages",
    "idempotency_key is taken", "https://example.org/a?b=c",
])  # fmt: skip
def test_ordinary_text_stays(text: str) -> None:
    assert redact_text(text) == text


def test_known_values_are_hidden_wherever_they_are_also_as_python_writes_them() -> None:
    hidden = {"it's\n" + SECRET, SECRET}

    assert SECRET not in redact_text(
        f"cannot log in with {SECRET}; {('it' + chr(39) + 's' + chr(10) + SECRET)!r}", hidden
    )


@pytest.mark.parametrize("name", [
    "password", "db_password", "PASSWD", "secret", "client-secret", "token", "apiKey", "api_key", "authorization",
    "cookie", "credentials", "dsn", "auth", "pin", "private_key", "session_id", "user.pass",
])  # fmt: skip
def test_a_name_that_tells_of_a_secret(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ["author", "monkey", "key", "idempotency_key", "compass_points", "pinned", "user", ""])
def test_a_name_that_does_not(name: str) -> None:
    assert not is_secret_name(name)


def test_a_document_is_redacted_at_every_depth_and_left_as_it_was() -> None:
    document: dict[str, Any] = {
        "user": "bob", "login": {"Password": SECRET, "more": [{"token": [SECRET]}]}, "url": f"redis://:{SECRET}@h",
        "max_tokens": 5, "token": None, "card": SECRET, "note": f"it is {SECRET}", "otp": 123456,
    }  # fmt: skip

    found = redact(document, {"card"}, {SECRET})

    assert SECRET not in str(found)
    assert "123456" not in str(found)
    assert (found["user"], found["max_tokens"], found["token"]) == ("bob", 5, None)
    assert document["card"] == SECRET


def test_the_values_of_secrets_are_found_to_be_looked_for() -> None:
    document = {
        "password": SECRET,
        "a": [{"token": ["abcd", 55555]}],
        "u": "redis://:other@h",
        "card": "4711",
        "pin": 1,
    }

    assert secrets_in(document, {"card"}) == {SECRET, "abcd", "55555", "other", "4711"}


@given(st.text(max_size=300))
def test_no_text_is_too_strange(text: str) -> None:
    once = redact_text(text)

    assert redact_text(once, {SECRET}) == redact_text(redact_text(once))


@pytest.mark.parametrize("part", [
    "a", "password", "token=", "://", "http://a:", "://a", "'", "cookie:", "-----BEGIN PRIVATE KEY-----", "eyJ",
    "token ", "bearer ", "token='", "\\",
])  # fmt: skip
def test_a_text_made_to_be_slow_is_bounded(part: str) -> None:
    assert len(redact_text("token://" + part * (300_000 // len(part)))) <= 2 * MAX_CHARS
