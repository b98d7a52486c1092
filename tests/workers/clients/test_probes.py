"""Probes against real services: what is up, what is down and why, and that nobody can hold one up."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from pydantic import SecretStr

from models.provider import ProviderKind
from tests.workers.clients import probed
from tests.workers.clients.smtp_server import mail_server
from workers import callboard
from workers.clients.probes import LONGEST, probe
from workers.errors import PermanentError

Service = Callable[[], AbstractContextManager[str]]
KINDS = [str(kind) for kind in ProviderKind]


def smtp() -> AbstractContextManager[str]:
    class Target:
        def __enter__(self) -> str:
            self.server = mail_server()
            return f"127.0.0.1:{self.server.__enter__().port}"

        def __exit__(self, *error: object) -> None:
            self.server.__exit__(None, None, None)

    return Target()


UP: dict[str, Service] = {
    "http": probed.web_application, "smtp": smtp, "mqtt": probed.mqtt_broker, "snmp": probed.snmp_agent
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_service_that_answers_is_up_and_it_is_known_how_long_it_took(kind: str) -> None:
    with UP[kind]() as target:
        found = probe(kind, target, 5.0)

    assert (found.is_up, found.error) == (True, None)
    assert 0 < (found.latency_ms or 0) < 15_000


@pytest.mark.parametrize("kind", KINDS)
def test_where_nothing_listens_it_is_down(kind: str) -> None:
    target = f"127.0.0.1:{probed.free_port()}"

    found = probe(kind, f"http://{target}/" if kind == "http" else target, 0.3)

    assert not found.is_up
    assert found.latency_ms is None
    assert found.error


def test_an_http_status_from_400_on_is_down_and_a_redirect_is_not_followed() -> None:
    asked: list[str] = []
    with probed.web_application(503) as busy, probed.web_application(302, asked=asked) as moved:
        assert probe("http", busy, 5).error == "it answered 503 Service Unavailable"
        assert probe("http", moved, 5).is_up

    assert asked == ["health"]


SPEAKS_OTHERWISE = {
    "http": (b"SSH-2.0-OpenSSH_9.6\r\n", "RemoteProtocolError"),
    "smtp": (b"SSH-2.0-OpenSSH_9.6\r\n", "it answered 'SSH-2.0-OpenSSH_9.6', expected 220"),
    "mqtt": (b"HTTP/1.1 400 Bad Request\r\n\r\n", "it does not speak MQTT"),
}


@pytest.mark.parametrize("kind", SPEAKS_OTHERWISE)
def test_a_service_of_another_kind_is_down_and_the_error_says_what_it_said(kind: str) -> None:
    answer, said = SPEAKS_OTHERWISE[kind]
    with probed.says(answer) as target:
        found = probe(kind, f"http://{target}/" if kind == "http" else target, 5)

    assert not found.is_up
    assert said in (found.error or "")


@pytest.mark.parametrize("kind", ["http", "smtp", "mqtt"])
def test_one_that_says_nothing_or_drips_is_down_when_the_time_is_up(kind: str) -> None:
    begin = {"http": b"HTTP/1.1 200 OK\r\nX: ", "smtp": b"220-", "mqtt": b"\x20"}[kind]
    for parts in ((), (begin, *[b"a"] * 100)):
        with probed.says(*parts, pause_s=0.1) as target:
            began_s = time.monotonic()
            found = probe(kind, f"http://{target}/" if kind == "http" else target, 0.4)

            assert not found.is_up
            assert time.monotonic() - began_s < LONGEST * 0.4 + 5  # the machine may be busy; the drip takes ten


def test_an_answer_without_end_is_down() -> None:
    for endless in (b"220 " + b"x" * 10_000, b"220-more\r\n" * 200):
        with probed.says(endless) as target:
            assert "has no end" in (probe("smtp", target, 5).error or "")


def test_a_broker_that_wants_a_login_is_up() -> None:
    with probed.mqtt_broker(anonymous=False) as target:
        assert probe("mqtt", target, 5).is_up


def test_an_agent_of_another_community_is_down_and_the_error_says_the_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callboard.settings, "snmp_community", SecretStr("other"))
    with probed.snmp_agent() as target:
        found = probe("snmp", target, 0.3)

    assert "CALLBOARD_SNMP_COMMUNITY" in (found.error or "")
    assert "other" not in (found.error or "").split("CALLBOARD")[0]


@pytest.mark.parametrize("kind", ["smtp", "mqtt", "snmp"])
@pytest.mark.parametrize(
    "target", ["", "host", "host:", ":25", "host:0", "host:70000", "a:b@host:25", "host:25/x", "http://host:25"]
)
def test_a_target_that_is_none_is_refused_with_the_mend(kind: str, target: str) -> None:
    with pytest.raises(PermanentError, match=r"expected host:port, as .* correct the target in the table providers"):
        probe(kind, target, 1)


@pytest.mark.parametrize("target", ["", "host:80", "ftp://host/", "http://", "http://u:p@host/", "http://host:99999/"])
def test_a_url_that_is_none_is_refused_with_the_mend(target: str) -> None:
    with pytest.raises(PermanentError, match="expected a URL without user and password"):
        probe("http", target, 1)


def test_a_kind_or_time_out_that_cannot_be_is_refused() -> None:
    with pytest.raises(PermanentError, match="expected a kind of http, smtp, mqtt, snmp, got 'gopher'"):
        probe("gopher", "host:70", 1)
    for timeout_s in (0, -1, 16, float("nan")):
        with pytest.raises(PermanentError, match="expected a timeout_s of more than 0 and at most 15 seconds"):
            probe("http", "http://host/", timeout_s)
