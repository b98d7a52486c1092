"""Settings: each wrong value is named with its variable, without its secrets, and with what is expected."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic_settings import SettingsConfigDict

from workers.errors import SettingsError
from workers.settings import PREFIX, PROJECT_DIR, TEST_PREFIX, Mode, Settings, hide_secrets

BIN = Path(sys.executable).parent


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment without settings."""
    for name in [*os.environ]:
        if name in {"REDIS_URL", "DATABASE_URL"} or (name.startswith(PREFIX) and not name.startswith(TEST_PREFIX)):
            monkeypatch.delenv(name)
    return monkeypatch


def refusal(environment: pytest.MonkeyPatch, **variables: str) -> str:
    """What a start with these variables says."""
    for name, value in variables.items():
        environment.setenv(name, value)
    with pytest.raises(SettingsError) as raised:
        Settings.load()
    return str(raised.value)


def test_without_a_variable_the_defaults_hold(environment: pytest.MonkeyPatch) -> None:
    settings = Settings.load()

    assert settings.mode is Mode.DEVELOPMENT
    assert (settings.redis_url, settings.database) == (None, f"sqlite:///{PROJECT_DIR / 'var' / 'callboard.db'}")
    assert settings.is_embedded_database
    assert (settings.max_retries, settings.time_limit_s, settings.threads, settings.processes) == (3, 300, 10, 2)
    assert (settings.params_max_bytes, settings.result_max_bytes) == (256 * 1024, 256 * 1024)


WRONG = {
    "CALLBOARD_THREADS": ("many", "'many' is wrong: input should be a valid integer"),
    "CALLBOARD_PROCESSES": ("0", "'0' is wrong: input should be greater than or equal to 1"),
    "CALLBOARD_MODE": ("prod", "'prod' is wrong: input should be 'development' or 'production'"),
    "CALLBOARD_REDIS_URL": ("http://h", "'http://h' is wrong: expected redis://host:port/db, rediss://…, redis"),
    "REDIS_URL": ("localhost:6379", "'localhost:6379' is wrong: expected redis://host:port/db"),
    "CALLBOARD_DATABASE_URL": ("mysql://h/d", "expected sqlite:/// or postgresql://, got the scheme 'mysql'"),
    "DATABASE_URL": ("callboard.db", "expected sqlite:///path/to/file.db or postgresql://user:password@host/database"),
    "CALLBOARD_SMTP_URL": ("mail.example", "expected smtp://user:password@host:port or smtps://…"),
    "CALLBOARD_PDF_FONT_PATH": ("/nowhere.ttf", "'/nowhere.ttf' is wrong: expected the path of a file"),
    "CALLBOARD_REDIS_CA_FILE": ("/nowhere.pem", "'/nowhere.pem' is wrong: expected the path of a file"),
    "CALLBOARD_SHARDS": ("a=email;b=email", "'a=email;b=email' is wrong: expected each queue on one shard"),
    "CALLBOARD_PRIORITY_AGEING_S": ("0", "'0' is wrong: input should be greater than 0"),
    "CALLBOARD_ACCEPTED_RISKS": ("clock,tls", "is wrong: input should be 'redis-eviction', "),
    "CALLBOARD_STALL_TIMEOUT_S": ("30", "'30' is wrong: expected at least four times CALLBOARD_BUS_TIMEOUT_S (10.0)"),
    "CALLBOARD_TIME_LIMIT_S": ("nan", "'nan' is wrong: input should be"),
    "CALLBOARD_MAX_RETRIES": ("-1", "'-1' is wrong: input should be greater than or equal to 0"),
    "CALLBOARD_API_PORT": ("65536", "'65536' is wrong: input should be less than or equal to 65535"),
    "CALLBOARD_PARAMS_MAX_BYTES": ("1", "'1' is wrong: input should be greater than or equal to 1024"),
    "CALLBOARD_LEASE_S": ("", "'' is wrong: input should be a valid integer"),
    "CALLBOARD_HEARTBEAT_S": ("4", "'4' is wrong: expected less than a fifth of CALLBOARD_LEASE_S (20)"),
    "CALLBOARD_PUBLIC_URL": ("tasks.example.org", "'tasks.example.org' is wrong: expected https://host"),
    "CALLBOARD_MOBILE_URL": ("https://app.example.org/permits", "expected {permit_id} in it, as in https://app"),
    "CALLBOARD_LINK_SECRET": (
        "short",
        "CALLBOARD_LINK_SECRET='***' is wrong: expected at least 32 characters each, with commas between",
    ),
    "CALLBOARD_LINK_HOURS": ("0", "'0' is wrong: input should be greater than or equal to 1"),
    "CALLBOARD_MAX_BACKOFF_S": ("1", "'1' is wrong: expected no less than CALLBOARD_MIN_BACKOFF_S (15.0)"),
}


@pytest.mark.parametrize(("name", "value", "expected"), [(name, *case) for name, case in WRONG.items()])
def test_a_wrong_value_is_one_line_with_variable_value_and_what_is_expected(
    environment: pytest.MonkeyPatch, name: str, value: str, expected: str
) -> None:
    said = refusal(environment, **{name: value})

    assert said.startswith(f"{name}=")
    assert expected in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("url", ["redis://h:99999/0", "redis://h:port", "redis://h/zero", "redis://h:0", "memory://"])
def test_a_redis_url_that_could_only_fail_later_is_refused_at_once(environment: pytest.MonkeyPatch, url: str) -> None:
    assert "expected redis://host:port/db" in refusal(environment, CALLBOARD_REDIS_URL=url)


@pytest.mark.parametrize(
    "url", ["redis://h", "redis://h:6380/", "rediss://u:p@h:6379/3", "unix:///run/redis.sock?db=2", "redis://[::1]:1/0"]
)
def test_the_redis_urls_that_people_have_are_accepted(environment: pytest.MonkeyPatch, url: str) -> None:
    environment.setenv("REDIS_URL", url)

    assert Settings.load().redis_url == url


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "https://",
        "https://h:99999",
        "ftp://h",
        "https://h/a b",
        'https://h/"><x',
        "https://h/\n",
    ],
)
def test_an_address_for_links_that_is_none_is_refused(environment: pytest.MonkeyPatch, url: str) -> None:
    assert "expected https://host or http://host:port" in refusal(environment, CALLBOARD_PUBLIC_URL=url)


def test_links_begin_with_the_public_address_without_its_slash(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("CALLBOARD_PUBLIC_URL", "https://tasks.example.org/")

    assert Settings.load().public_base == "https://tasks.example.org"


def test_secrets_of_links_are_split_at_commas_and_never_shown(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("CALLBOARD_LINK_SECRET", f"{'a' * 32}, {'b' * 32}")

    settings = Settings.load()

    assert [secret.get_secret_value() for secret in settings.link_secret] == ["a" * 32, "b" * 32]
    assert "aaaa" not in repr(settings)


def test_each_wrong_variable_has_its_line(environment: pytest.MonkeyPatch) -> None:
    said = refusal(environment, CALLBOARD_THREADS="x", CALLBOARD_MODE="y", CALLBOARD_LEASE_S="z")

    assert [line.partition("=")[0] for line in said.splitlines()] == [
        "CALLBOARD_MODE", "CALLBOARD_THREADS", "CALLBOARD_LEASE_S",
    ]  # fmt: skip


def test_a_lease_too_short_for_the_default_heartbeat_is_refused_naming_both(environment: pytest.MonkeyPatch) -> None:
    said = refusal(environment, CALLBOARD_LEASE_S="10")

    assert said.startswith("CALLBOARD_HEARTBEAT_S='3.0' is wrong: expected less than a fifth of CALLBOARD_LEASE_S (10)")


@pytest.mark.parametrize("name", ["CALLBOARD_REDIS_URL", "REDIS_URL", "DATABASE_URL", "CALLBOARD_SMTP_URL"])
@pytest.mark.parametrize("url", ["http://u:hunter2@h", "http://u:hun:ter2/x@y@h", "u:hunter2@h/d", "http://:hunter2@h"])
def test_a_password_in_a_wrong_url_is_not_repeated(environment: pytest.MonkeyPatch, name: str, url: str) -> None:
    said = refusal(environment, **{name: url})

    assert said.startswith(f"{name}=")
    assert not re.search("hun|ter2", said)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("redis://u:p@h:6379/0", "redis://u:***@h:6379/0"),
        ("redis://:p@h", "redis://:***@h"),
        ("postgresql://u:a:b/c@d@h/x", "postgresql://u:***@h/x"),
        ("postgresql://h/d?user=u&password=p&sslmode=require", "postgresql://h/d?user=u&password=***&sslmode=require"),
        ("no answer from redis://u:p@h, and from redis://u:q@i", "no answer from redis://u:***@h, and from redis://u:***@i"),
        ("Callboard <a@b.example>", "Callboard <a@b.example>"),
        ("12:30 write to a@b.example", "12:30 write to a@b.example"),
    ],
)  # fmt: skip
def test_passwords_of_urls_are_hidden_and_nothing_else(text: str, shown: str) -> None:
    assert hide_secrets(text) == shown


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("CALLBOARD_THREDS", "CALLBOARD_THREDS is no setting: did you mean CALLBOARD_THREADS?"),
        ("CALLBOARD_REDIS", "did you mean CALLBOARD_REDIS_URL?"),
        ("CALLBOARD_XYZZY_PLUGH", "is no setting: remove it, or see the table of settings in README.md"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(environment: pytest.MonkeyPatch, name: str, hint: str) -> None:
    assert hint in refusal(environment, **{name: "1"})


def test_the_variables_of_other_programs_and_of_the_tests_are_left_alone(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("CALLBOARDS", "x")
    environment.setenv(f"{TEST_PREFIX}X", "x")
    environment.setenv("THREADS", "x")

    assert Settings.load().threads == 10


def test_the_two_urls_are_accepted_bare_and_the_prefixed_one_wins(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("REDIS_URL", "redis://bare")
    environment.setenv("DATABASE_URL", "postgres://u:p@h/d")

    bare = Settings.load()
    environment.setenv("CALLBOARD_REDIS_URL", "redis://prefixed")

    assert (bare.redis_url, bare.database) == ("redis://bare", "postgresql+psycopg://u:p@h/d")
    assert not bare.is_embedded_database
    assert Settings.load().redis_url == "redis://prefixed"


def test_an_empty_url_is_one_that_is_not_set(environment: pytest.MonkeyPatch) -> None:
    for name in ("REDIS_URL", "CALLBOARD_DATABASE_URL", "CALLBOARD_SMTP_URL"):
        environment.setenv(name, "")

    settings = Settings.load()

    assert (settings.redis_url, settings.database_url, settings.smtp_url) == (None, None, None)


def test_lists_are_separated_by_commas(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("CALLBOARD_ACTOR_MODULES", " team.one, team.two ,")

    assert Settings.load().actor_modules == ("team.one", "team.two")


def with_file(path: Path) -> type[Settings]:
    """Settings that read this file instead of the checkout's .env."""

    class FromFile(Settings):
        model_config = SettingsConfigDict(env_prefix=PREFIX, env_file=path, extra="ignore")

    return FromFile


def test_a_file_beside_the_project_is_read_and_the_environment_wins(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("CALLBOARD_THREADS=7\nCALLBOARD_PROCESSES=3\nREDIS_URL=redis://file\nOTHER=1\n")
    environment.setenv("CALLBOARD_PROCESSES", "4")

    settings = with_file(tmp_path / ".env").load()

    assert (settings.threads, settings.processes, settings.redis_url) == (7, 4, "redis://file")
    assert Settings.model_config.get("env_file") == PROJECT_DIR / ".env"


def test_the_file_is_checked_as_the_environment_is(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("CALLBOARD_THREADS=many\n")
    with pytest.raises(SettingsError, match="CALLBOARD_THREADS='many' is wrong: input should be a valid integer"):
        with_file(tmp_path / ".env").load()

    (tmp_path / ".env").write_text("CALLBOARD_THREDS=7\n")
    with pytest.raises(SettingsError, match=r"CALLBOARD_THREDS is no setting: did you mean CALLBOARD_THREADS\?"):
        with_file(tmp_path / ".env").load()


@pytest.mark.parametrize(
    "command",
    [[BIN / "callboard", "check"], [BIN / "dramatiq", "workers", "-p", "1", "-t", "1"]],
    ids=["callboard check", "dramatiq workers"],
)
def test_a_process_with_a_wrong_value_stops_with_one_line_and_no_traceback(command: list[str | Path]) -> None:
    environment = os.environ | {"CALLBOARD_REDIS_URL": "http://u:hunter2@h"}

    ended = subprocess.run(
        command, env=environment, cwd=PROJECT_DIR, capture_output=True, text=True, timeout=60, check=False
    )

    said = ended.stdout + ended.stderr
    assert ended.returncode in {1, 2}
    ours = [line for line in said.splitlines() if "CALLBOARD_REDIS_URL" in line]
    assert len(ours) == 1
    assert ours[0].startswith("callboard: CALLBOARD_REDIS_URL='http://u:***@h' is wrong: expected redis://host:port/db")
    assert "Traceback" not in said
    assert "hunter2" not in said
