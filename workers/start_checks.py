"""What is wrong with the servers around a worker, looked for when it starts (spec/traps.md 14).

Each finding says what was found, what is expected and how to mend it. It weighs

    REFUSES     in every mode: without its tables a worker could do nothing but fail
    MATTERS     a warning in development; in production mode it ends the start, unless its risk is accepted by name
                (CALLBOARD_ACCEPTED_RISKS)
    NOTED       a warning in every mode: what cannot be asked, for an ACL forbids it
    AWAY        the same, for the server does not answer: a worker has to be able to start before its servers are back

A start that is ended has status 2, and lists all that ended it.

Used by `callboard worker`, `callboard up`, `callboard check`, and by the boot of a worker process that has no
supervisor of ours. Opens connections when it runs, none when it is imported.
"""

import ipaddress
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any
from urllib.parse import urlsplit

import dramatiq
import redis
from dramatiq.encoder import Encoder, PickleEncoder

from models import database, direct, revision
from workers import links
from workers.broker.connect import RedisClient
from workers.broker.local import describe
from workers.errors import StartRefused
from workers.settings import Mode, Risk, Settings, hide_secrets

MAX_SKEW_S = 1.0
"""Redis's clock decides delays and leases, a host's clock when schedules are due: they have to agree."""


class Weight(Enum):
    """What a finding does to a start; see the module's docstring."""

    REFUSES = auto()
    MATTERS = auto()
    NOTED = auto()
    AWAY = auto()


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Args:
        text: what was found, what is expected, how to mend it.
        risk: its name, if it can be accepted.
        weight: what it does to a start.
    """

    text: str
    risk: Risk | None = None
    weight: Weight = Weight.MATTERS

    def stops(self, mode: Mode) -> bool:
        """Whether it ends a start in this mode."""
        return self.weight is Weight.REFUSES or (self.weight is Weight.MATTERS and mode is Mode.PRODUCTION)

    def __str__(self) -> str:
        return f"{self.text} [{self.risk}]" if self.risk else self.text


def run(
    settings: Settings,
    client: RedisClient,
    *,
    encoder: Encoder | None = None,
    now_s: Callable[[], float] = time.time,
) -> list[Finding]:
    """Look at everything, and return what is wrong; what is accepted is left out.

    Args:
        client: of the bus.
        encoder: of messages; None for the one that Dramatiq has.
        now_s: this host's clock, Unix seconds.
    """
    found = [
        *check_encoder(encoder or dramatiq.get_encoder()),
        *check_links(settings),
        *check_redis_url(settings.redis_url),
        *check_redis(client, now_s=now_s),
        *check_database(now_s=now_s),
    ]
    return [finding for finding in found if finding.risk not in settings.accepted_risks]


def enforce(findings: Iterable[Finding], settings: Settings) -> list[Finding]:
    """Return the findings, to be shown as warnings.

    Raises:
        StartRefused: if one of them stops a start in this mode; its message lists all of those.
    """
    listed = list(findings)
    stopping = [finding for finding in listed if finding.stops(settings.mode)]
    if stopping:
        lines = "".join(f"\n  - {finding}" for finding in stopping)
        where = " in production mode" if settings.mode is Mode.PRODUCTION else ""
        accept = ", or accept a risk that has a name in brackets with CALLBOARD_ACCEPTED_RISKS"
        mend = f"\nMend this{accept if any(finding.risk for finding in stopping) else ''}"
        raise StartRefused(f"the start is refused{where}:{lines}{mend}")
    return listed


# --- each check ------------------------------------------------------------------------------------------------------


def check_encoder(encoder: Encoder) -> Iterator[Finding]:
    """Messages must not be pickles: whoever can write to Redis could run any code in a worker."""
    if isinstance(encoder, PickleEncoder):
        yield Finding(
            f"messages are pickled ({type(encoder).__name__}), so whoever reaches Redis can run code in the workers; "
            "expected JSON: remove the call of dramatiq.set_encoder"
        )


def check_links(settings: Settings) -> Iterator[Finding]:
    """In production mode, links in mails need a key that all processes share, an address that people reach, and an API
    that lets in more than this machine. (In development a key is made, and this machine is enough.)"""
    if settings.mode is not Mode.PRODUCTION:
        return
    if not settings.link_secret:
        yield Finding(links.MEND)
    host = urlsplit(settings.public_base).hostname or ""
    if settings.public_url is None or (settings.public_base.startswith("http:") and not _is_loopback(host)):
        yield Finding(f"links in mails lead to {settings.public_base}, which not everybody can open, or not over TLS; "
                      "expected https:// and the name by which people reach the API: set CALLBOARD_PUBLIC_URL",
                      Risk.PUBLIC_URL)  # fmt: skip
    elif not settings.api_tokens and not _is_loopback(host):
        yield Finding(f"people reach the API at {settings.public_base}, and no tokens are set: it answers to this "
                      "machine's names only, so links in mails are refused, and behind a proxy that calls it by such a "
                      "name anybody may do everything; expected tokens: set CALLBOARD_API_TOKENS to what `callboard "
                      "tokens new NAME --role operate` prints",
                      Risk.API_TOKENS)  # fmt: skip


def check_redis_url(url: str | None) -> Iterator[Finding]:
    """Off loopback, the address needs a password and TLS. None is the local server."""
    if url is None:
        return
    parts = urlsplit(url)
    credentials, _, hosts = parts.netloc.rpartition("@")
    if parts.scheme == "unix" or all(_is_loopback(_host_of(host)) for host in hosts.split(",")):
        return
    where = f"Redis at {hide_secrets(url)}"
    if not credentials.partition(":")[2] and "password=" not in parts.query:
        yield Finding(f"{where} is not on this machine and is used without a password; expected one: set `requirepass` "
                      "or an ACL user there, and redis://user:password@… in REDIS_URL",
                      Risk.REDIS_PASSWORD)  # fmt: skip
    if not parts.scheme.startswith("rediss"):
        yield Finding(f"{where} is not on this machine and is used without TLS; expected rediss:// in REDIS_URL, and "
                      "CALLBOARD_REDIS_CA_FILE for an authority of your own",
                      Risk.REDIS_TLS)  # fmt: skip


def check_redis(client: RedisClient, *, now_s: Callable[[], float] = time.time) -> Iterator[Finding]:
    """Eviction, persistence and clock of the server, or of each primary of a cluster."""
    try:
        for where, server in _servers(client):
            yield from _check_memory(where, server)
            yield from _check_persistence(where, server)
            yield from _check_redis_clock(where, server, now_s)
    except (redis.RedisError, OSError) as error:
        yield _unasked(f"Redis at {describe(client)}", "eviction, persistence and clock", error)


def check_database(*, now_s: Callable[[], float] = time.time) -> Iterator[Finding]:
    """Tables, password, TLS and clock of the bound database."""
    try:
        yield from check_tables()
        if database.sqlite_path() is None:
            yield from _check_postgres(f"the database {database.describe()}", now_s)
    except database.DatabaseError as error:
        yield _unasked(f"the database {database.describe()}", "tables, password, TLS and clock", error)


def check_tables() -> Iterator[Finding]:
    """Tables that are missing or too old. Newer ones are fine: in a rolling deploy code runs on those of the next
    version. Raises DatabaseError."""
    path = database.sqlite_path()
    current = None if path and not path.exists() else revision.current()
    if current is None or (current in revision.known() and current != revision.head()):
        yield Finding(
            f"the database {database.describe()} is at {current or 'no revision'}, this code needs {revision.head()}: "
            "run `callboard migrate`",
            weight=Weight.REFUSES,
        )


def skew_s(server_s: float, before_s: float, after_s: float) -> float:
    """How far a server's clock is surely off ours: 0 if what was measured can be the way there and back.

    Args:
        server_s: what the server said, Unix seconds.
        before_s, after_s: our clock when it was asked and when it had answered.
    """
    return server_s - after_s if server_s > after_s else min(server_s - before_s, 0.0)


def _check_memory(where: str, server: Any) -> Iterator[Finding]:
    try:
        policy = server.info("memory").get("maxmemory_policy")
    except redis.ResponseError as error:
        yield _unasked(where, "eviction policy", error)
        return
    if policy != "noeviction":
        yield Finding(f"{where} drops keys when its memory is full (maxmemory-policy {policy}), accepted tasks too; "
                      "expected noeviction: CONFIG SET maxmemory-policy noeviction, and the same in redis.conf",
                      Risk.REDIS_EVICTION)  # fmt: skip


def _check_persistence(where: str, server: Any) -> Iterator[Finding]:
    try:
        if server.info("persistence").get("aof_enabled"):
            return
        save = server.config_get("save").get("save")
    except redis.ResponseError as error:
        yield _unasked(where, "persistence", error)
        return
    if not save:
        yield Finding(f"{where} keeps nothing on disk (appendonly no, save \"\"), so that its end loses what waits; "
                      "expected appendonly yes: CONFIG SET appendonly yes, and the same in redis.conf",
                      Risk.REDIS_PERSISTENCE)  # fmt: skip


def _check_redis_clock(where: str, server: Any, now_s: Callable[[], float]) -> Iterator[Finding]:
    try:
        before_s = now_s()
        seconds, microseconds = server.time()
        after_s = now_s()
    except redis.ResponseError as error:
        yield _unasked(where, "clock", error)
        return
    yield from _check_skew(where, seconds + microseconds / 1e6, before_s, after_s)


def _check_postgres(where: str, now_s: Callable[[], float]) -> Iterator[Finding]:
    with direct.reading() as to:
        before_s = now_s()
        server_s = float(to.run("SELECT extract(epoch FROM clock_timestamp())")[0][0])
        after_s = now_s()
        assert not isinstance(to, direct.SqliteDirect)
        host, was_asked, tls = to.link()
    proves_itself = was_asked or any(name == "sslcert" for name, _ in database.bound().query)
    yield from _check_skew(where, server_s, before_s, after_s)
    yield from check_database_link(where, host, proves_itself=proves_itself, tls=tls)


def check_database_link(where: str, host: str, *, proves_itself: bool, tls: bool) -> Iterator[Finding]:
    """Off loopback, the database must ask for a password (or a certificate, or a ticket), and be used over TLS.

    Args:
        where: the database, for people.
        host: what the driver is connected to: a name, an address, or the folder of a socket.
        proves_itself, tls: what the connection has.
    """
    if host == "" or host.startswith(("/", "@")) or _is_loopback(host):
        return
    if not proves_itself:
        yield Finding(f"{where} is not on this machine and asked for no password; expected one: a line with "
                      "scram-sha-256 in its pg_hba.conf, and postgresql://user:password@… in DATABASE_URL",
                      Risk.DATABASE_PASSWORD)  # fmt: skip
    if not tls:
        yield Finding(f"{where} is not on this machine and is used without TLS; expected ?sslmode=require (or "
                      "stronger) in DATABASE_URL, and ssl = on there",
                      Risk.DATABASE_TLS)  # fmt: skip


def _check_skew(where: str, server_s: float, before_s: float, after_s: float) -> Iterator[Finding]:
    off_s = skew_s(server_s, before_s, after_s)
    if abs(off_s) > MAX_SKEW_S:
        yield Finding(f"the clock of {where} is {abs(off_s):.1f} s {'ahead of' if off_s > 0 else 'behind'} this "
                      f"machine's; expected at most {MAX_SKEW_S:g} s: let NTP keep both",
                      Risk.CLOCK)  # fmt: skip


def _servers(client: RedisClient) -> Iterator[tuple[str, Any]]:
    if isinstance(client, redis.RedisCluster):
        for node in client.get_primaries():
            yield f"Redis at {node.name}", client.get_redis_connection(node)
    else:
        yield f"Redis at {describe(client)}", client


def _unasked(where: str, what: str, error: Exception) -> Finding:
    weight = Weight.NOTED if isinstance(error, redis.ResponseError) else Weight.AWAY
    return Finding(f"{where} could not be asked for its {what} ({hide_secrets(str(error))}): check them yourself, or "
                   "again when it answers", weight=weight)  # fmt: skip


def _host_of(address: str) -> str:
    return address[1 : address.find("]")] if address.startswith("[") else address.partition(":")[0]


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
