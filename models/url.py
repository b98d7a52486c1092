"""The address of a database, read and written as SQLAlchemy does it, without importing SQLAlchemy.

    scheme://user:password@host:port/database?name=value

Why: settings check the address, and the statements of every task need it, in processes that have no other use for
SQLAlchemy, which takes 18 MB (a test compares the two).
"""

import re
from dataclasses import dataclass, replace
from typing import Self
from urllib.parse import parse_qsl, quote, quote_plus, unquote

_GRAMMAR = re.compile(
    r"""(?P<scheme>[\w+]+)://
        (?:(?P<username>[^:/]*)(?::(?P<password>[^@]*))?@)?
        (?:\[(?P<ipv6>[^/?]+)\]|(?P<name>[^/:?]+))?
        (?::(?P<port>[0-9]+))?
        (?:/(?P<database>[^?]*))?
        (?:\?(?P<query>.*))?""",
    re.VERBOSE,
)


@dataclass(frozen=True)
class DatabaseUrl:
    """Its parts, unquoted; None or empty: not there."""

    scheme: str
    username: str | None = None
    password: str | None = None
    host: str | None = None
    port: int | None = None
    database: str | None = None
    query: tuple[tuple[str, str], ...] = ()
    """Sorted by name; a name may be there more than once."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError for what is no such address; the message does not quote it."""
        found = _GRAMMAR.fullmatch(text)
        if found is None:
            raise ValueError("expected scheme://user:password@host:port/database")
        username, password, database = (
            None if part is None else unquote(part) for part in found.group("username", "password", "database")
        )
        return cls(
            scheme=found["scheme"],
            username=username,
            password=password,
            host=found["name"] or found["ipv6"],
            port=int(found["port"]) if found["port"] else None,
            database=database,
            query=tuple(sorted(parse_qsl(found["query"] or ""), key=lambda pair: pair[0])),
        )

    def with_scheme(self, scheme: str) -> Self:
        """The same database, for another driver."""
        return replace(self, scheme=scheme)

    def render(self, *, hide_password: bool = False) -> str:
        """As text, quoted where it must be; with stars for the password if it is for people."""
        text = f"{self.scheme}://"
        if self.username is not None:
            text += quote(self.username, safe=" +")
            if self.password is not None:
                text += ":" + ("***" if hide_password else quote(self.password, safe=" +"))
            text += "@"
        if self.host is not None:
            text += f"[{self.host}]" if ":" in self.host else self.host
        if self.port is not None:
            text += f":{self.port}"
        if self.database is not None:
            text += "/" + quote(self.database, safe=" +/")
        if self.query:
            text += "?" + "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in self.query)
        return text
