"""Tokens for tests: one a role, one that is over; the setting and what their holders send."""

from datetime import UTC, datetime

import httpx2
import pytest

from workers import callboard
from workers.access import Role, Token, new_token

SECRETS: dict[str, str] = {}
_TOKENS: list[Token] = []
for _role in Role:
    _secret, _token = new_token(_role, _role)
    SECRETS[_role] = _secret
    _TOKENS.append(_token)
SECRETS["over"], _over = new_token("over", Role.ADMIN, datetime(2026, 1, 1, tzinfo=UTC))
TOKENS = (*_TOKENS, _over)


@pytest.fixture
def with_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """The API wants a token."""
    monkeypatch.setattr(callboard.settings, "api_tokens", TOKENS)


def as_(who: str) -> dict[str, str]:
    """The headers with which this role, or `over`, calls."""
    return {"authorization": f"Bearer {SECRETS[who]}"}


def refused_in_words(answer: httpx2.Response, status: int) -> str:
    """The detail of a problem document of this status."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    detail: str = answer.json()["detail"]
    return detail
