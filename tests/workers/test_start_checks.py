"""The start checks find what is unfit for accepted work, say the mend, and refuse the start in production mode."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from dramatiq.encoder import JSONEncoder, PickleEncoder
from pydantic import SecretStr

from models import database, direct, schema
from tests import warm
from tests.conftest import FAST
from tests.servers import end, wait_until
from tests.workers.broker.server import VALKEY, Server
from workers import Callboard, callboard, start_checks
from workers.access import Role, new_token
from workers.errors import StartRefused
from workers.settings import Mode, Risk, Settings
from workers.start_checks import Finding, Weight

BIN = Path(sys.executable).parent


LINKS = {
    "public_url": "https://tasks.example.org",
    "link_secret": (SecretStr("k" * 32),),
    "api_tokens": (new_token("ci", Role.OPERATE)[1],),
}
"""What production mode wants for links in mails."""


def settings(mode: Mode = Mode.DEVELOPMENT, *accepted: Risk, **changes: object) -> Settings:
    return callboard.settings.model_copy(update={"mode": mode, "accepted_risks": accepted, **LINKS, **changes})


def texts(findings: object) -> list[str]:
    return [str(finding) for finding in findings]  # type: ignore[attr-defined]  # an iterable of findings


@pytest.fixture
def unfit() -> Iterator[Server]:
    """A server that forgets, and evicts."""
    server = Server(VALKEY, maxmemory_policy="allkeys-lru")
    yield server
    server.remove()


# --- what is found ---------------------------------------------------------------------------------------------------


def test_a_fit_system_has_no_findings(system: Callboard) -> None:
    assert texts(start_checks.run(settings(Mode.PRODUCTION), system.broker.client)) == []


@pytest.mark.usefixtures("bus", "ledger_database")
def test_a_fit_system_has_none_on_either_database() -> None:
    assert texts(start_checks.run(settings(Mode.PRODUCTION), callboard.broker.client)) == []


def test_a_redis_that_evicts_and_one_that_forgets_are_found(unfit: Server) -> None:
    evicts, forgets = texts(start_checks.check_redis(unfit.client()))

    assert "drops keys when its memory is full (maxmemory-policy allkeys-lru)" in evicts
    assert "expected noeviction: CONFIG SET maxmemory-policy noeviction" in evicts
    assert evicts.endswith("[redis-eviction]")
    assert "keeps nothing on disk" in forgets
    assert "expected appendonly yes: CONFIG SET appendonly yes" in forgets
    assert forgets.endswith("[redis-persistence]")


def test_snapshots_alone_are_enough(unfit: Server) -> None:
    with unfit.client() as client:
        client.config_set("save", "3600 1")
        client.config_set("maxmemory-policy", "noeviction")

        assert texts(start_checks.check_redis(client)) == []


def test_a_redis_that_may_not_be_asked_is_a_warning_and_never_stops_a_start(unfit: Server) -> None:
    with unfit.client() as client:
        client.acl_setuser("limited", enabled=True, nopass=True, keys=["*"], commands=["+@all", "-info", "-config"])
    with redis.Redis.from_url(unfit.url, username="limited", password="any") as limited:
        findings = list(start_checks.check_redis(limited))

    assert len(findings) == 2
    assert all("could not be asked for its" in finding.text and finding.weight is Weight.NOTED for finding in findings)
    assert start_checks.enforce(findings, settings(Mode.PRODUCTION)) == findings


def test_a_redis_that_is_down_is_a_warning_and_never_stops_a_start(unfit: Server) -> None:
    unfit.kill()

    (finding,) = start_checks.check_redis(unfit.client())

    assert "could not be asked for its eviction, persistence and clock" in finding.text
    assert finding.weight is Weight.AWAY


def test_a_database_that_is_down_is_a_warning_and_never_stops_a_start(sqlite_database: str) -> None:
    database.bind("postgresql://u:secret@127.0.0.1:1/d")

    (finding,) = start_checks.check_database()

    assert "could not be asked for its tables" in finding.text
    assert "secret" not in finding.text
    assert finding.weight is Weight.AWAY


@pytest.mark.parametrize(
    ("url", "risks"),
    [
        (None, []),
        ("unix:///run/redis.sock", []),
        ("redis://localhost:6379/0", []),
        ("redis://127.0.0.2", []),
        ("redis://[::1]:6379", []),
        ("redis+sentinel://localhost:1,127.0.0.1:2/main", []),
        ("rediss://:secret@redis.internal", []),
        ("rediss://user:secret@10.0.0.1:6379/1", []),
        ("rediss+sentinel://u:secret@one:1,two:2/main", []),
        ("redis://:secret@redis.internal", [Risk.REDIS_TLS]),
        ("rediss://redis.internal", [Risk.REDIS_PASSWORD]),
        ("rediss://user@redis.internal", [Risk.REDIS_PASSWORD]),
        ("rediss://redis.internal?password=secret", []),
        ("redis://[2001:db8::1]:6379", [Risk.REDIS_PASSWORD, Risk.REDIS_TLS]),
        ("redis+cluster://:secret@node:6379", [Risk.REDIS_TLS]),
        ("redis+sentinel://:secret@localhost:1,elsewhere:2/main", [Risk.REDIS_TLS]),
    ],
)
def test_a_redis_off_loopback_needs_a_password_and_tls(url: str | None, risks: list[Risk]) -> None:
    findings = list(start_checks.check_redis_url(url))

    assert [finding.risk for finding in findings] == risks
    assert not any("secret" in finding.text for finding in findings)


@pytest.mark.parametrize(
    ("host", "proves_itself", "tls", "risks"),
    [
        ("", False, False, []),
        ("/run/postgresql", False, False, []),
        ("127.0.0.1", False, False, []),
        ("localhost", False, False, []),
        ("db.internal", True, True, []),
        ("db.internal", False, True, [Risk.DATABASE_PASSWORD]),
        ("10.0.0.1", True, False, [Risk.DATABASE_TLS]),
        ("db.internal", False, False, [Risk.DATABASE_PASSWORD, Risk.DATABASE_TLS]),
    ],
)
def test_a_database_off_loopback_needs_a_password_and_tls(
    host: str, proves_itself: bool, tls: bool, risks: list[Risk]
) -> None:
    findings = start_checks.check_database_link("it", host, proves_itself=proves_itself, tls=tls)

    assert [finding.risk for finding in findings] == risks


@pytest.mark.parametrize(
    ("server_s", "before_s", "after_s", "expected"),
    [(100.0, 99.0, 101.0, 0.0), (100.0, 100.0, 100.0, 0.0), (105.0, 99.0, 101.0, 4.0), (95.0, 99.0, 101.0, -4.0)],
)
def test_a_skew_is_what_the_way_there_and_back_cannot_explain(
    server_s: float, before_s: float, after_s: float, expected: float
) -> None:
    assert start_checks.skew_s(server_s, before_s, after_s) == expected


@pytest.mark.parametrize(("off_s", "words"), [(20.0, "behind this machine's"), (-20.0, "ahead of this machine's")])
def test_a_clock_that_is_off_is_found(system: Callboard, off_s: float, words: str) -> None:
    (finding,) = start_checks.check_redis(system.broker.client, now_s=lambda: time.time() + off_s)

    assert words in finding.text
    assert "expected at most 1 s: let NTP keep both" in finding.text
    assert finding.risk is Risk.CLOCK


@pytest.mark.usefixtures("postgres_database")
def test_the_clock_of_postgresql_is_compared_too() -> None:
    (finding,) = start_checks.check_database(now_s=lambda: time.time() - 20)

    assert "ahead of this machine's" in finding.text


def test_tables_that_are_not_up_to_date_are_found(sqlite_database: str) -> None:
    schema.downgrade()

    (finding,) = start_checks.check_database()

    assert f"this code needs {schema.head()}: run `callboard migrate`" in finding.text
    assert finding.stops(Mode.DEVELOPMENT)


def test_tables_of_a_newer_version_are_fine_for_a_rolling_deploy(sqlite_database: str) -> None:
    with direct.transaction() as to:
        to.run("UPDATE alembic_version SET version_num = '9999'")

    assert list(start_checks.check_database()) == []


def test_in_production_links_in_mails_need_a_key_that_all_share() -> None:
    (finding,) = start_checks.check_links(settings(Mode.PRODUCTION, link_secret=()))

    assert "CALLBOARD_LINK_SECRET is not set" in finding.text
    assert "set it to what `openssl rand -hex 32` prints" in finding.text
    assert (finding.risk, finding.stops(Mode.PRODUCTION)) == (None, True)


@pytest.mark.parametrize("url", [None, "http://tasks.example.org"])
def test_in_production_links_lead_to_where_people_are_and_over_tls(url: str | None) -> None:
    (finding,) = start_checks.check_links(settings(Mode.PRODUCTION, public_url=url))

    assert "expected https:// and the name by which people reach the API: set CALLBOARD_PUBLIC_URL" in finding.text
    assert finding.risk is Risk.PUBLIC_URL


def test_in_production_who_reaches_the_api_from_elsewhere_needs_a_token() -> None:
    (finding,) = start_checks.check_links(settings(Mode.PRODUCTION, api_tokens=()))

    assert "links in mails are refused, and behind a proxy that calls it by such a name anybody may" in finding.text
    assert "set CALLBOARD_API_TOKENS to what `callboard tokens new NAME --role operate` prints" in finding.text
    assert (finding.risk, finding.stops(Mode.PRODUCTION)) == (Risk.API_TOKENS, True)
    local = settings(Mode.PRODUCTION, api_tokens=(), public_url="http://127.0.0.1:8000")
    assert list(start_checks.check_links(local)) == []


def test_in_development_a_key_is_made_and_this_machine_is_enough() -> None:
    assert list(start_checks.check_links(settings(link_secret=(), public_url=None, api_tokens=()))) == []


def test_pickled_messages_are_found() -> None:
    class Ours(PickleEncoder):
        """As a team may have it."""

    (finding,) = start_checks.check_encoder(Ours())

    assert "messages are pickled (Ours)" in finding.text
    assert "remove the call of dramatiq.set_encoder" in finding.text
    assert (finding.risk, finding.stops(Mode.PRODUCTION)) == (None, True)
    assert list(start_checks.check_encoder(JSONEncoder())) == []


# --- what comes of it ------------------------------------------------------------------------------------------------

WRONG = [Finding("one is wrong", Risk.CLOCK), Finding("two is wrong"), Finding("three is unknown", weight=Weight.NOTED)]


def test_in_development_findings_are_warnings() -> None:
    assert start_checks.enforce(WRONG, settings()) == WRONG


def test_in_production_mode_the_start_is_refused_with_all_that_stops_it() -> None:
    with pytest.raises(StartRefused) as refused:
        start_checks.enforce(WRONG, settings(Mode.PRODUCTION))

    assert "\n  - one is wrong [clock]\n  - two is wrong\n" in str(refused.value)
    assert "three" not in str(refused.value)
    assert "accept a risk that has a name in brackets with CALLBOARD_ACCEPTED_RISKS" in str(refused.value)


def test_an_accepted_risk_is_not_found(unfit: Server, system: Callboard) -> None:
    accepting = settings(Mode.PRODUCTION, Risk.REDIS_EVICTION, Risk.REDIS_PERSISTENCE)

    assert texts(start_checks.run(accepting, unfit.client())) == []


@pytest.fixture
def environment(unfit: Server, sqlite_database: str) -> dict[str, str]:
    """Of a process on a server that is unfit."""
    return {**os.environ, **FAST, "CALLBOARD_REDIS_URL": unfit.url, "CALLBOARD_DATABASE_URL": sqlite_database}


COMMANDS = {
    "worker": [str(BIN / "callboard"), "worker"],
    "dramatiq": [str(BIN / "dramatiq"), "workers", "--processes", "1"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_worker_does_not_start_in_production_mode(environment: dict[str, str], command: str) -> None:
    ended = warm.run(
        COMMANDS[command],
        env={**environment, "CALLBOARD_MODE": "production"},
    )

    assert ended.returncode == 2
    assert "[redis-eviction]" in ended.stderr
    assert "[redis-persistence]" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_a_worker_does_not_start_without_its_tables_in_any_mode(
    environment: dict[str, str], command: str, tmp_path: Path
) -> None:
    ended = warm.run(
        COMMANDS[command],
        env={**environment, "CALLBOARD_DATABASE_URL": f"sqlite:///{tmp_path / 'new.db'}"},
    )

    assert ended.returncode == 2
    assert f"is at no revision, this code needs {schema.head()}: run `callboard migrate`\n" in ended.stderr
    assert "Mend this" in ended.stderr
    assert "ACCEPTED_RISKS" not in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_in_development_it_starts_and_warns_once(environment: dict[str, str], command: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = warm.popen(COMMANDS[command], cwd=BIN, env=environment, stdout=out, stderr=out)
    try:
        wait_until(lambda: "Worker process is ready" in log.read_text(), within_s=40, what="the worker")
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)
    finally:
        end(process)

    assert log.read_text().count("[redis-eviction]") == 1


@pytest.mark.parametrize(("mode", "code"), [("development", 0), ("production", 1)])
def test_callboard_check_shows_them(environment: dict[str, str], mode: str, code: int) -> None:
    ended = warm.run(
        [str(BIN / "callboard"), "check"],
        env={**environment, "CALLBOARD_MODE": mode},
    )  # fmt: skip

    assert ended.returncode == code
    assert "[redis-eviction]" in ended.stderr
    assert ("warning: " in ended.stderr) is (mode == "development")


@pytest.mark.parametrize("database_url", ["", "postgresql://u:secret@127.0.0.1:1/d"])
def test_a_check_that_may_expect_a_server_ends_with_3_if_it_does_not_answer(
    environment: dict[str, str], database_url: str, unfit: Server
) -> None:
    unfit.kill()

    ended = warm.run(
        [str(BIN / "callboard"), "check"],
        env={**environment, **({"CALLBOARD_DATABASE_URL": database_url} if database_url else {})},
    )  # fmt: skip

    assert ended.returncode == 3
    assert "could not be asked for its eviction, persistence and clock" in ended.stderr
    assert ("could not be asked for its tables" in ended.stderr) is (database_url != "")
    assert "all well" not in ended.stdout


def test_a_check_with_no_server_named_needs_none(environment: dict[str, str], tmp_path: Path) -> None:
    for name in ("CALLBOARD_REDIS_URL", "CALLBOARD_DATABASE_URL"):
        del environment[name]
    environment["CALLBOARD_VAR_DIR"] = str(tmp_path)

    def check() -> "subprocess.CompletedProcess[str]":
        return warm.run([str(BIN / "callboard"), "check"], env=environment)

    fresh = check()
    assert warm.run([str(BIN / "callboard"), "migrate"], env=environment).returncode == 0
    stopped = check()

    assert (fresh.returncode, fresh.stderr) == (0, "")
    assert "no database yet" in fresh.stdout
    assert stopped.returncode == 0
    assert "could not be asked" not in stopped.stderr  # why not empty: a developer may run a Redis on 6379
    assert stopped.stdout.startswith("all well: ")


def test_a_queue_that_no_actor_uses_is_refused(environment: dict[str, str]) -> None:
    ended = warm.run([str(BIN / "callboard"), "worker", "--queues", "emial"], env=environment)

    assert ended.returncode == 2
    assert "--queues: no actor uses emial: expected some of " in ended.stderr
