"""Settings: the only reader of the environment.

Every setting is an environment variable with the prefix `CALLBOARD_`; `REDIS_URL` and `DATABASE_URL` are accepted bare
too. A file `.env` beside the project is read as well. A wrong value or an unknown name stops the start with a line
that names the variable, the value (secrets hidden) and what is expected.

Must not: open a connection. `redis_url` None means "find the local one", which the bus does when it first connects.
"""

import difflib
import ipaddress
import os
import re
from email.utils import parseaddr
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from models.database import normalise_url
from workers.access import Token, parse_token
from workers.errors import SettingsError

PREFIX = "CALLBOARD_"
_BARE_NAMES = frozenset({"REDIS_URL", "DATABASE_URL"})
TEST_PREFIX = "CALLBOARD_TEST_"
"""Variables of the test suite, which are no settings."""

_CHECKOUT = Path(__file__).resolve().parent.parent
PROJECT_DIR = _CHECKOUT if (_CHECKOUT / "pyproject.toml").exists() else Path.cwd()
"""Where `var/` and `.env` are: the checkout, so that every process of the project finds the same ones."""

_URL_PASSWORD = re.compile(r"((?:^|//|[\s'\"(=,])[^:@/\s]*:)(?!//)\S+(?=@)")
"""From the first colon to the last @: a password may hold both, unescaped."""
_QUERY_SECRET = re.compile(r"([?&][^=&\s]*(?:password|secret|token|key)[^=&\s]*=)[^&\s]+", re.IGNORECASE)
LINK_SECRET_MIN_CHARS = 32
_SECRET_NAME = re.compile(r"PASSWORD|SECRET|TOKEN|KEY|CHANNELS", re.IGNORECASE)


class Mode(StrEnum):
    """How strict the start is."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"


class Risk(StrEnum):
    """What the checks at the start of a worker look for; each can be accepted by its name."""

    REDIS_EVICTION = "redis-eviction"
    REDIS_PERSISTENCE = "redis-persistence"
    REDIS_PASSWORD = "redis-password"  # noqa: S105 - the name of a risk
    REDIS_TLS = "redis-tls"
    DATABASE_PASSWORD = "database-password"  # noqa: S105 - the name of a risk
    DATABASE_TLS = "database-tls"
    CLOCK = "clock"
    PUBLIC_URL = "public-url"
    API_TOKENS = "api-tokens"


class LogFormat(StrEnum):
    """Of the lines on standard error."""

    CONSOLE = "console"
    JSON = "json"


class LogLevel(StrEnum):
    """Python's levels."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class Settings(BaseSettings):
    """All settings with their defaults; see README for the table."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_file=PROJECT_DIR / ".env", extra="ignore")

    mode: Mode = Mode.DEVELOPMENT
    """In production a domain module that fails to import, or a finding of the start checks, stops the start; in
    development it is reported."""
    accepted_risks: Annotated[tuple[Risk, ...], NoDecode] = ()
    """Findings of the start checks that are known and accepted, separated by commas: as in a network of one's own."""
    var_dir: Path = PROJECT_DIR / "var"
    """What Callboard writes: database, Redis, mails, documents."""
    redis_url: str | None = Field(default=None, validation_alias=AliasChoices("CALLBOARD_REDIS_URL", "REDIS_URL"))
    """None: the embedded server's socket under var_dir if it answers, else localhost:6379."""
    database_url: str | None = Field(
        default=None, validation_alias=AliasChoices("CALLBOARD_DATABASE_URL", "DATABASE_URL")
    )
    """None: the file callboard.db under var_dir."""
    redis_ca_file: Path | None = None
    """Authorities to trust for rediss:// instead of the system's, as a PEM file."""
    shards: Annotated[dict[str, tuple[str, ...]], NoDecode] = Field(default_factory=dict)
    """For Redis Cluster: `name=queue,queue;name=queue`. Priority is strict within a shard only."""
    priority_ageing_s: float | None = Field(default=None, gt=0, le=604_800)
    """None: strict priority, which may starve. Else so many seconds of waiting make up for one step of priority."""
    actor_modules: Annotated[tuple[str, ...], NoDecode] = ()
    """Further modules with actors, separated by commas."""

    schedules_max: int = Field(default=10_000, ge=1, le=100_000)
    """How many schedules there may be."""

    processes: int = Field(default=2, ge=1, le=256)
    """Worker processes of `callboard up` and `callboard worker`."""
    threads: int = Field(default=10, ge=1, le=1_000)
    """Threads of each worker process."""
    shutdown_timeout_s: int = Field(default=25, ge=1, le=3_600)
    """How long a stopping worker lets running tasks finish."""
    restart_workers: bool = True
    """Whether a worker process that dies is started again; if not, its supervisor stops the others and ends."""
    bus_timeout_s: float = Field(default=10.0, gt=0, le=60)
    """How long a Redis command may take; above the stalls that the server is known to have."""
    send_timeout_s: float = Field(default=0.25, gt=0, le=60)
    """How long `send()` waits for the bus before it leaves the task to the relay."""
    stall_timeout_s: float = Field(default=60.0, gt=0, le=3_600, validate_default=True)
    """A worker process that is silent, or whose fetching or settling thread is stuck, for this long is restarted."""
    pulse_fd: int | None = Field(default=None, ge=3)
    """Set by `callboard worker` and `callboard up` for their workers: the pipe on which they say that they are well."""
    lease_s: int = Field(default=20, ge=1, le=3_600)
    """A worker that the bus has not heard of for this long is dead and its messages go to others."""
    heartbeat_s: float = Field(default=3.0, gt=0, le=600)
    """How often a worker process writes that it is alive; five of them missed make it dead. 5 × this < lease_s."""

    max_retries: int = Field(default=3, ge=0, le=1_000)
    min_backoff_s: float = Field(default=15.0, gt=0, le=86_400)
    max_backoff_s: float = Field(default=3_600.0, gt=0, le=604_800)
    time_limit_s: float = Field(default=300.0, gt=0, le=604_800)
    task_log_level: LogLevel = LogLevel.INFO
    """From which level records that a task writes by Python's logging are kept with its attempt."""
    params_max_bytes: int = Field(default=256 * 1024, ge=1_024, le=64 * 1024 * 1024)
    result_max_bytes: int = Field(default=256 * 1024, ge=1_024, le=64 * 1024 * 1024)

    result_retention_days: int = Field(default=7, ge=1, le=3_650)
    """How long a result is kept, from the end of its task."""
    task_retention_days: int = Field(default=30, ge=1, le=3_650)
    """How long an ended task is kept, with its attempts, log lines and idempotency key."""
    audit_retention_days: int = Field(default=365, ge=1, le=36_500)
    """How long the audit log remembers."""
    log_retention_days: int = Field(default=30, ge=1, le=3_650)
    """How long log lines of ended tasks are kept, and health samples."""
    document_retention_days: int = Field(default=365, ge=1, le=36_500)
    """How long generated PDFs are kept."""

    log_format: LogFormat = LogFormat.CONSOLE
    """Of what processes write to standard error."""
    traces: bool = False
    """Runs of tasks are spans of OpenTelemetry, whose own variables say where they go; needs the extra `traces`."""
    api_tokens: Annotated[tuple[Token, ...], NoDecode] = ()
    """Who may use the API: `name:role:hash` or `name:role:hash:end`, separated by commas. None: only this machine may,
    and do everything."""
    api_rate_per_s: float = Field(default=500.0, gt=0, le=1_000_000)
    """Requests a second of each token, by each API process; twice that at once."""
    api_body_timeout_s: float = Field(default=20.0, gt=0, le=3_600)
    """How long a client may take for a request's body."""
    api_host: str = "127.0.0.1"
    """Off loopback only with tokens."""
    api_port: int = Field(default=8000, ge=1, le=65_535)

    smtp_url: SecretStr | None = None
    """smtp://user:password@host:587?starttls=1; None: `callboard up` starts a mail catcher."""
    smtp_timeout_s: float = Field(default=20.0, gt=0, le=600)
    mail_from: str = "Callboard <no-reply@callboard.localhost>"
    public_url: str | None = None
    """Where people reach the API, for links in mails, as `https://tasks.example.org`; None: api_host and api_port."""
    link_secret: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    """What signs the links in mails: the first of them; the others, separated by commas, are still accepted. None: one
    is made under var_dir, in development only."""
    link_hours: int = Field(default=168, ge=1, le=8_760)
    """How long a link in a mail works."""
    mobile_url: str | None = None
    """Where a phone opens a permit, `{permit_id}` in it; None: on the page of its signed link."""
    mail_catcher_port: int = Field(default=1025, ge=1, le=65_535)
    alert_recipients: Annotated[tuple[str, ...], NoDecode] = ()
    """Who is mailed when an alert opens and when it is over, separated by commas."""
    alert_channels: Annotated[tuple[SecretStr, ...], NoDecode] = ()
    """Where else it is told: URLs separated by spaces, as `jsons://host/path` for a webhook, `slack://…`."""
    alert_window_s: float = Field(default=600.0, gt=0, le=86_400)
    """The span that failures are counted in."""
    alert_clear_s: float = Field(default=60.0, ge=0, le=86_400)
    """An alert is over when its condition has not held for so long."""
    alert_failure_percent: float = Field(default=50.0, gt=0, le=100)
    alert_late_s: float = Field(default=60.0, gt=0, le=86_400)
    """A schedule that is overdue for so long is missed."""
    alert_stuck_s: float = Field(default=60.0, gt=0, le=86_400)
    """A task that runs on for so long after its time limit is stuck."""

    health_cpu_percent: float = Field(default=95.0, gt=0, le=100)
    health_memory_percent: float = Field(default=92.0, gt=0, le=100)
    health_disk_percent: float = Field(default=92.0, gt=0, le=100)
    health_round_trip_ms: float = Field(default=500.0, gt=0)
    health_queue_age_s: float = Field(default=300.0, gt=0)

    snmp_community: SecretStr = SecretStr("public")
    """With which probes ask SNMP agents (v2c)."""

    pdf_font_path: Path | None = None
    """A TrueType font for reports in scripts that the built-in one lacks."""

    @field_validator("actor_modules", "alert_recipients", "accepted_risks", mode="before")
    @classmethod
    def _split_commas(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("alert_channels", mode="before")
    @classmethod
    def _split_channels(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        urls = value.split()
        if not all(re.fullmatch(r"[a-z][a-z0-9+.-]*://\S+", url) for url in urls):
            raise ValueError("expected URLs separated by spaces, as jsons://host/path or slack://…; mail goes to "
                             "CALLBOARD_ALERT_RECIPIENTS")  # fmt: skip
        return tuple(urls)

    @field_validator("public_url", "mobile_url")
    @classmethod
    def _is_web_address(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        is_plain = value.isascii() and value.isprintable() and not any(character in value for character in " \"'<>")
        if (
            parts.scheme not in ("http", "https")
            or not parts.hostname
            or not _has_a_port_or_none(value)
            or not is_plain
        ):
            raise ValueError("expected https://host or http://host:port")
        return value.rstrip("/")

    @field_validator("mobile_url")
    @classmethod
    def _names_the_permit(cls, value: str | None) -> str | None:
        if value is not None and "{permit_id}" not in value:
            raise ValueError("expected {permit_id} in it, as in https://app.example.org/permits/{permit_id}")
        return value

    @field_validator("link_secret", mode="before")
    @classmethod
    def _split_secrets(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        found = tuple(part.strip() for part in value.split(",") if part.strip())
        if any(len(secret) < LINK_SECRET_MIN_CHARS for secret in found):
            raise ValueError(f"expected at least {LINK_SECRET_MIN_CHARS} characters each, with commas between, as "
                             "`openssl rand -hex 32` prints one")  # fmt: skip
        return found

    @field_validator("redis_url", "database_url", "smtp_url", "public_url", "mobile_url", mode="before")
    @classmethod
    def _empty_is_unset(cls, value: Any) -> Any:
        return value or None

    @field_validator("database_url")
    @classmethod
    def _is_database_url(cls, value: str | None) -> str | None:
        return value and normalise_url(value)

    @field_validator("redis_url")
    @classmethod
    def _is_redis_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        scheme, _, arrangement = parts.scheme.partition("+")
        if arrangement == "sentinel":
            if scheme not in ("redis", "rediss") or not parts.path.strip("/"):
                raise ValueError("expected redis+sentinel://host:port,host:port/service, with the master's name last")
            return value
        is_database = scheme == "unix" or parts.path in ("", "/") or parts.path[1:].isdecimal()
        known = scheme in ("redis", "rediss", "unix") and arrangement in ("", "cluster")
        if not known or not _has_a_port_or_none(value) or not is_database:
            raise ValueError("expected redis://host:port/db, rediss://…, redis+sentinel://…/service, "
                             "redis+cluster://… or unix:///path")  # fmt: skip
        return value

    @field_validator("shards", mode="before")
    @classmethod
    def _split_shards(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        shards: dict[str, tuple[str, ...]] = {}
        for part in filter(None, (part.strip() for part in value.split(";"))):
            name, equals, queues = part.partition("=")
            if not equals or not re.fullmatch(r"[A-Za-z0-9_-]{1,50}", name.strip()):
                raise ValueError("expected name=queue,queue;name=queue as in heavy=media,reports;mail=email")
            shards[name.strip()] = tuple(queue.strip() for queue in queues.split(",") if queue.strip())
        queues_of_all = [queue for queues in shards.values() for queue in queues]
        if len(queues_of_all) != len(set(queues_of_all)):
            raise ValueError("expected each queue on one shard")
        return shards

    @field_validator("smtp_url")
    @classmethod
    def _is_smtp_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        url = value.get_secret_value()
        if urlsplit(url).scheme not in ("smtp", "smtps") or not _has_a_port_or_none(url):
            raise ValueError("expected smtp://user:password@host:port or smtps://…")
        return value

    @field_validator("pdf_font_path", "redis_ca_file")
    @classmethod
    def _is_a_file(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_file():
            raise ValueError("expected the path of a file")
        return value

    @field_validator("api_tokens", mode="before")
    @classmethod
    def _parse_tokens(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        tokens = tuple(parse_token(line) for line in value.split(",") if line.strip())
        names = [token.name for token in tokens]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"expected each name once, got {twice} twice: the audit log tells callers apart by it")
        return tokens

    @field_validator("api_host")
    @classmethod
    def _is_loopback_or_has_tokens(cls, value: str, info: Any) -> str:
        if info.data.get("api_tokens", True) and value:
            return value
        try:
            loopback = value == "localhost" or ipaddress.ip_address(value).is_loopback
        except ValueError:
            loopback = False
        if not loopback:
            raise ValueError("expected a loopback address such as 127.0.0.1, because no tokens are set and anybody "
                             "could do everything: set CALLBOARD_API_TOKENS to what `callboard tokens new NAME --role "
                             "operate` prints")  # fmt: skip
        return value

    @field_validator("mail_from")
    @classmethod
    def _has_an_address(cls, value: str) -> str:
        if "@" not in parseaddr(value)[1] or not value.isprintable():
            raise ValueError("expected Name <address@host>")
        return value

    @field_validator("heartbeat_s")
    @classmethod
    def _beats_within_a_lease(cls, value: float, info: Any) -> float:
        lease_s = info.data.get("lease_s")
        if lease_s is not None and value * 5 >= lease_s:
            raise ValueError(f"expected less than a fifth of CALLBOARD_LEASE_S ({lease_s}), so that a dead worker is "
                             "known to be dead when its messages come back")  # fmt: skip
        return value

    @field_validator("stall_timeout_s")
    @classmethod
    def _outlasts_the_bus(cls, value: float, info: Any) -> float:
        bus_timeout_s = info.data.get("bus_timeout_s")
        if bus_timeout_s is not None and value < bus_timeout_s * 4:
            raise ValueError(f"expected at least four times CALLBOARD_BUS_TIMEOUT_S ({bus_timeout_s}), so that a "
                             "worker that waits for Redis is not taken for one that is stuck")  # fmt: skip
        return value

    @field_validator("max_backoff_s")
    @classmethod
    def _is_no_less_than_the_first(cls, value: float, info: Any) -> float:
        min_backoff_s = info.data.get("min_backoff_s")
        if min_backoff_s is not None and value < min_backoff_s:
            raise ValueError(f"expected no less than CALLBOARD_MIN_BACKOFF_S ({min_backoff_s})")
        return value

    @classmethod
    def load(cls) -> Self:
        """Read the environment.

        Raises:
            SettingsError: a line for each variable that is wrong.
        """
        try:
            settings = cls()
        except ValidationError as error:
            raise SettingsError("\n".join(_line(cls, problem) for problem in error.errors())) from None
        unknown = _unknown_names(cls)
        if unknown:
            raise SettingsError("\n".join(unknown))
        return settings

    @cached_property
    def database(self) -> str:
        """The database's URL, the default filled in."""
        return self.database_url or f"sqlite:///{self.var_dir / 'callboard.db'}"

    @property
    def is_embedded_database(self) -> bool:
        """Whether it is the SQLite file under `var_dir` that nobody configured."""
        return self.database_url is None

    @property
    def own_base(self) -> str:
        """Where the API is for this machine, without a slash at its end."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.api_host, self.api_host)  # noqa: S104 - looked up only
        return f"http://[{host}]:{self.api_port}" if ":" in host else f"http://{host}:{self.api_port}"

    @property
    def public_base(self) -> str:
        """What links in mails begin with, without a slash at its end."""
        return self.public_url or self.own_base

    @property
    def media_dir(self) -> Path:
        """Where files that people added are kept."""
        return self.var_dir / "media"

    @property
    def documents_dir(self) -> Path:
        """Where generated documents are kept."""
        return self.var_dir / "documents"


def hide_secrets(text: str) -> str:
    """The text with the passwords of URLs in it replaced by stars."""
    return _QUERY_SECRET.sub(r"\1***", _URL_PASSWORD.sub(r"\1***", text))


def _has_a_port_or_none(url: str) -> bool:
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False


def _line(cls: type[Settings], problem: Any) -> str:
    name = _variable_of(str(problem["loc"][0]))
    given = os.environ.get(name, str(problem.get("input", "")))
    shown = "***" if _SECRET_NAME.search(name) else hide_secrets(given)
    said = str(problem["msg"]).removeprefix("Value error, ")
    return f"{name}={shown[:200]!r} is wrong: {said[0].lower() + said[1:]}"


def _variable_of(field: str) -> str:
    name = field if field.isupper() else PREFIX + field.upper()
    bare = name.removeprefix(PREFIX)
    return bare if name not in os.environ and bare in _BARE_NAMES and bare in os.environ else name


def _unknown_names(cls: type[Settings]) -> list[str]:
    known = {PREFIX + name.upper() for name in cls.model_fields}
    env_file = cls.model_config.get("env_file")
    in_file = dotenv_values(env_file) if isinstance(env_file, (str, Path)) else {}
    lines: list[str] = []
    for name in sorted({*os.environ, *in_file}):
        if name.startswith(PREFIX) and not name.startswith(TEST_PREFIX) and name not in known:
            # why: without the prefix, which they all share and which would make any two alike.
            near = difflib.get_close_matches(name[len(PREFIX) :], [one[len(PREFIX) :] for one in sorted(known)], n=1)
            hint = (
                f"did you mean {PREFIX}{near[0]}?" if near else "remove it, or see the table of settings in README.md"
            )
            lines.append(f"{name} is no setting: {hint}")
    return lines
