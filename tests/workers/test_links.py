"""Links in mails: nobody but us can make one, and one that was touched is none."""

import base64
import json
import stat
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from workers import callboard, links
from workers.errors import PermanentError
from workers.links import Link, LinkRefused, read, sign
from workers.settings import Mode, Settings

NOW = datetime(2026, 11, 24, 9, 30, tzinfo=UTC)
KEY, OTHER = b"k" * 32, b"o" * 32
LINK = Link(permit_id=17, party_id=3, decision="approved", nonce="a" * 32, expires_at=NOW + timedelta(hours=1))
TOKEN = sign(LINK, KEY)
BODY, SIGNATURE = TOKEN.split(".")


def settings(**changes: object) -> Settings:
    return callboard.settings.model_copy(update=changes)


def refused(token: str, *, now: datetime = NOW, reason: str = "changed") -> LinkRefused:
    with pytest.raises(LinkRefused) as caught:
        read(token, [KEY], now)
    assert caught.value.reason == reason
    return caught.value


@pytest.mark.parametrize("decision", ["approved", "rejected", None])
def test_a_link_says_what_was_signed(decision: links.Choice | None) -> None:
    link = Link(17, 3, decision, "n", NOW + timedelta(seconds=1))

    assert read(sign(link, KEY), [KEY], NOW) == link


def test_a_change_of_any_character_is_refused() -> None:
    # Every other letter at the end of each half, where base64 has bits that count for nothing.
    others = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=%"
    last = {len(BODY) - 1, len(TOKEN) - 1}
    for place, was in enumerate(TOKEN):
        for other in others if place in last else "A" if was != "A" else "B":
            if other != was:
                refused(TOKEN[:place] + other + TOKEN[place + 1 :])


@pytest.mark.parametrize(
    "token",
    ["", ".", "a.b", BODY, f"{BODY}.", f".{SIGNATURE}", f"{TOKEN}.", f"{TOKEN}=", f" {TOKEN}", f"{TOKEN}\n",
     f"{BODY}.{BODY}.{SIGNATURE}", "x" * 10_000, f"{'x' * 290}.{SIGNATURE}", "\ud800.\ud800", "é.é", "\0"],
)  # fmt: skip
def test_what_is_no_link_is_refused_and_says_what_to_do(token: str) -> None:
    assert "open it from the mail again" in str(refused(token))


@given(st.text(max_size=400))
def test_whatever_is_shown_is_refused_and_nothing_else_happens(token: str) -> None:
    refused(token)


@pytest.mark.parametrize("said", [
    [1, 18, 3, "approved", "a" * 32, 2**31], [1, 17, 4, "approved", "a" * 32, 2**31],
    [1, 17, 3, "rejected", "a" * 32, 2**31], [1, 17, 3, "approved", "b" * 32, 2**31],
])  # fmt: skip
def test_another_permit_party_decision_or_nonce_needs_another_signature(said: list[object]) -> None:
    body = base64.urlsafe_b64encode(json.dumps(said, separators=(",", ":")).encode()).rstrip(b"=").decode()

    refused(f"{body}.{SIGNATURE}")


def test_it_works_until_it_expires_and_then_says_so() -> None:
    read(TOKEN, [KEY], LINK.expires_at - timedelta(seconds=1))

    error = refused(TOKEN, now=LINK.expires_at, reason="expired")

    assert "was valid until 24 November 2026, 10:30 UTC: ask for a new mail" in str(error)
    assert error.link == LINK


def test_a_key_can_be_replaced_while_links_of_the_one_before_still_work() -> None:
    rotated = settings(link_secret=(SecretStr("o" * 32), SecretStr("k" * 32)))

    assert read(TOKEN, links.keys(rotated), NOW) == LINK
    assert links.url(rotated, LINK).endswith(f"/decide/{sign(LINK, OTHER)}")


def test_a_link_of_newer_code_asks_to_come_back() -> None:
    body = base64.urlsafe_b64encode(b'[2,{"permit":17}]').rstrip(b"=").decode()
    newer = f"{body}.{links._signature(body, KEY)}"

    assert "try again in a few minutes" in str(refused(newer))


def test_a_key_that_is_not_ours_signs_nothing() -> None:
    refused(sign(LINK, OTHER))


def test_in_development_a_key_is_made_once_and_kept_for_its_owner(tmp_path: Path) -> None:
    fresh = settings(var_dir=tmp_path / "var")
    together = threading.Barrier(8)
    made: list[bytes] = []

    def make() -> None:
        together.wait()
        made.extend(links.keys(fresh))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(made) == 8
    assert len(set(made)) == 1
    assert len(made[0]) >= 64
    (kept,) = (tmp_path / "var").iterdir()
    assert kept.name == "link-secret"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600


def test_in_production_a_key_has_to_be_set(tmp_path: Path) -> None:
    with pytest.raises(PermanentError, match="set it to what `openssl rand -hex 32` prints"):
        links.keys(settings(mode=Mode.PRODUCTION, var_dir=tmp_path))

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "begins"),
    [
        ({"public_url": "https://tasks.example.org"}, "https://tasks.example.org/decide/"),
        ({"public_url": "https://example.org/callboard"}, "https://example.org/callboard/decide/"),
        ({"api_host": "127.0.0.1", "api_port": 8123}, "http://127.0.0.1:8123/decide/"),
        ({"api_host": "::1", "api_port": 80}, "http://[::1]:80/decide/"),
    ],
)
def test_a_link_leads_to_where_people_reach_the_api(changes: dict[str, object], begins: str) -> None:
    assert links.url(settings(link_secret=(SecretStr("k" * 32),), **changes), LINK) == begins + TOKEN
