"""How many rows are passed to one statement.

    PostgreSQL    a parameter a column: `columns_of` gives the arrays, `unnested` the statement's beginning, `of_v` its
                  names for their values. The arrays are in PostgreSQL's own notation: psycopg would write a list too,
                  object by object, which takes three times as long as all else that a group commit does in Python
    SQLite        a parameter a value, and the statement once a row: `numbered` gives its names for them

Must not: know a table.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec


def numbered(fields: Iterable[str]) -> dict[str, str]:
    """Field → its mark in a statement of SQLite, which takes the fields in this order."""
    return {name: f"?{number}" for number, name in enumerate(fields, start=1)}


def of_v(fields: Iterable[str]) -> dict[str, str]:
    """Field → its value in a statement that begins with a table `v`."""
    return {name: f"v.{name}" for name in fields}


def unnested(types: dict[str, str], **constants: str) -> str:
    """The beginning of a statement whose parameters are the arrays of `columns_of`: the rows are its table `v`.

    Args:
        types: column → PostgreSQL's type, in the order of the arrays.
        constants: further columns of `v` that are the same in each row: an expression. One that is a mark (`%s::text`)
            takes the parameter before the arrays.
    """
    arrays = ", ".join(f"%s::{kind}[]" for kind in types.values())
    same = "".join(f"{expression} AS {name}, " for name, expression in constants.items())
    return f"WITH v AS MATERIALIZED (SELECT {same}u.* FROM unnest({arrays}) AS u ({', '.join(types)}))"  # noqa: S608 - columns and types of ours


def columns_of(rows: Sequence[Sequence[Any]]) -> list[str]:
    """Each column of these rows as an array, to be cast by the statement: `%s::text[]`."""
    return [array_of(column) for column in zip(*rows, strict=True)]


def array_of(values: Sequence[Any]) -> str:
    """Text, finite numbers, booleans, aware times and None as one array.

    JSON's notation is PostgreSQL's but for the brackets and for control characters: after a backslash, PostgreSQL takes
    any character for itself.
    """
    text = msgspec.json.encode(values).decode()
    if "\\" in text and not "".join(value for value in values if isinstance(value, str)).isprintable():
        text = _ESCAPED.sub(_character, text)
    return f"{{{text[1:-1]}}}"


_ESCAPED: Final = re.compile(r"\\(?:u(....)|(.))")
_CONTROLS: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def _character(found: re.Match[str]) -> str:
    code, letter = found.groups()
    return chr(int(code, 16)) if code else _CONTROLS.get(letter, found[0])
