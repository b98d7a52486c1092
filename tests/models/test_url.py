"""The address of a database is read and written as SQLAlchemy does it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import make_url
from sqlalchemy.engine import URL

from models.url import DatabaseUrl

ADDRESSES = [
    "sqlite:///var/callboard.db",
    "sqlite:////srv/a b/callboard.db",
    "sqlite:///with%20space.db",
    "sqlite://",
    "postgresql://h",
    "postgresql://u@h/d",
    "postgresql://u:@h/d",
    "postgresql://:p@h/d",
    "postgresql://u:p%40ss%2Fw%3Ard+x y@h:5433/d",
    "postgresql://u:p/w:x@h:5433/d",
    "postgresql://u:p@[::1]:5433/d",
    "postgresql://u:p@[fe80::1]/d",
    "postgresql:///d?host=/run/pg&port=5433",
    "postgresql:///d?host=one:5432&host=two:5433&application_name=a+b",
    "postgresql://h/d?sslmode=require&sslcert=%2Fa%2Fb.pem&empty=",
    "postgresql+psycopg://u:p@h?connect_timeout=3",
    "postgresql://größe:ß@h/dätabase",
]
TEXTS = st.one_of(st.none(), st.text(min_size=1, max_size=12).filter(lambda text: text.isprintable()))


def agrees(text: str) -> bool:
    ours, theirs = DatabaseUrl.parse(text), make_url(text)
    return (
        ours.render() == theirs.render_as_string(hide_password=False)
        and ours.render(hide_password=True) == theirs.render_as_string(hide_password=True)
        and (ours.scheme, ours.username, ours.password, ours.host, ours.port, ours.database)
        == (theirs.drivername, theirs.username, theirs.password, theirs.host, theirs.port, theirs.database)
        and {name for name, _ in ours.query} == set(theirs.query)
    )


@pytest.mark.parametrize("text", ADDRESSES)
def test_an_address_means_what_it_means_to_sqlalchemy(text: str) -> None:
    assert agrees(text)


@given(
    username=TEXTS,
    password=TEXTS,
    host=st.sampled_from([None, "h", "db.example.org", "::1", "10.0.0.1"]),
    port=st.one_of(st.none(), st.integers(min_value=1, max_value=65_535)),
    database=TEXTS,
    query=st.dictionaries(st.sampled_from(["host", "sslmode", "a b"]), st.text(min_size=1, max_size=8), max_size=3),
)
def test_whatever_sqlalchemy_writes_is_read_alike(
    username: str | None, password: str | None, host: str | None, port: int | None, database: str | None,
    query: dict[str, str],
) -> None:  # fmt: skip
    written = URL.create(
        "postgresql", username=username, password=password, host=host, port=port, database=database, query=query
    )

    assert agrees(written.render_as_string(hide_password=False))


def test_the_same_database_by_another_driver() -> None:
    parsed = DatabaseUrl.parse("postgresql+psycopg://u:p@h/d")

    assert parsed.with_scheme("postgresql").render() == "postgresql://u:p@h/d"


@pytest.mark.parametrize("text", ["", "x.db", "u:secret@h/d", "postgresql://u:secret@h:port/d", "a://[::1", "a://h:/d"])
def test_what_is_no_address_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="expected scheme://user:password@host:port/database") as raised:
        DatabaseUrl.parse(text)

    assert "secret" not in str(raised.value)
