"""Parameters on their way into JSON and through a message."""

import re
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import pytest
from annotated_types import Ge, Le, Len
from dramatiq.errors import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr

from workers.broker.codec import MessageCodec
from workers.errors import InvalidTask
from workers.params import MAX_NESTING, NotPlain, bind, model_of, plain, validate

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_BYTES = 1_000


class Colour(Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    tags: list[str] = field(default_factory=list)


class Person(BaseModel):
    name: str
    born: date


class Loose(BaseModel):
    any: Any


class Wordy:
    def __repr__(self) -> str:
        return "x" * 100_000


class Level(Enum):
    HIGH = 3


@dataclass
class Link:
    next: "Link | None" = None


@dataclass
class Measured:
    value: float


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def endless() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def linked(length: int) -> Link:
    head = Link()
    for _ in range(length):
        head = Link(head)
    return head


PLAIN = {
    "JSON's own": ({"a": [1, 2.5, True, None, "t"]}, {"a": [1, 2.5, True, None, "t"]}),
    "a tuple": ((1, 2), [1, 2]),
    "a time": (datetime(2026, 11, 22, 12, tzinfo=UTC), "2026-11-22T12:00:00Z"),
    "a date": (date(2026, 11, 22), "2026-11-22"),
    "a UUID": (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    "a decimal": (Decimal("1.10"), "1.10"),
    "an enum": (Colour.RED, "red"),
    "an enum of numbers": ({"level": Level.HIGH}, {"level": 3}),
    "a naive time": (datetime(2026, 11, 22, 12), "2026-11-22T12:00:00"),  # noqa: DTZ001 - its zone is the task's affair
    "an integer of 600 digits": (10**600, 10**600),
    "a dataclass": (Point(1, ["t"]), {"x": 1, "tags": ["t"]}),
    "a pydantic model": (Person(name="A", born=date(2000, 1, 2)), {"name": "A", "born": "2000-01-02"}),
    "models in a list": ([Person(name="A", born=date(2000, 1, 2))], [{"name": "A", "born": "2000-01-02"}]),
    "a big integer": (2**64, 2**64),
    "a very negative integer": (-(2**200), -(2**200)),
    "NUL": ("a\x00", "a\x00"),
    "a lone surrogate": ("\ud800", "\ud800"),
    "the deepest nesting": (nested(MAX_NESTING), nested(MAX_NESTING)),
}
NOT_PLAIN = {
    "NaN": (float("nan"), "nan is not a JSON number"),
    "infinity": ({"a": [float("-inf")]}, "-inf is not a JSON number"),
    "NaN in a dataclass": (Measured(float("nan")), "at value (nan is not a JSON number)"),
    "NaN deep inside": ({"rows": [1, {"price": float("nan")}]}, "at rows[1].price (nan is not a JSON number)"),
    "a set in a dataclass": ([Point(1, {"t"})], "at [0].tags (a set is not JSON)"),  # type: ignore[arg-type]  # wrong
    "an object in a model": ({"who": Loose(any=object())}, "at who.any ("),
    "an object whose words are endless": (Wordy(), "a Wordy is not JSON"),
    "a set": ({1}, "a set is not JSON"),
    "a frozenset inside": ({"a": frozenset()}, "a frozenset is not JSON"),
    "bytes": (b"x", "a bytes is not JSON"),
    "a bytearray": ([bytearray()], "a bytearray is not JSON"),
    "a key that is a number": ({1: "x"}, "the key 1 is not text"),
    "an object": (object(), "a object is not JSON"),
    "a generator": ((n for n in [1]), "a generator is not JSON"),
    "too deep": (nested(MAX_NESTING + 1), "nested deeper than 100 levels: flatten it"),
    "endless": (endless(), "nested deeper than 100 levels: flatten it"),
    "an endless dataclass": (linked(100_000), "nested deeper than 100 levels: flatten it"),
    "an integer of 10,000 digits": ({"n": 10**9_999}, "at n (Exceeds the limit"),
    "a key that is endless": ({"k" * 100_000: {1}}, "a set is not JSON"),
    "too long": ("x" * MAX_BYTES, "1,002 bytes as JSON, more than the 1,000 allowed: store it and send its id instead"),
    "too long when escaped": ("ü" * 200, "1,202 bytes as JSON"),
}


@pytest.mark.parametrize(("value", "expected"), PLAIN.values(), ids=PLAIN.keys())
def test_a_value_that_json_can_hold_becomes_json(value: Any, expected: Any) -> None:
    assert plain(value, what="x", max_bytes=MAX_BYTES) == expected


@pytest.mark.parametrize(("value", "mend"), NOT_PLAIN.values(), ids=NOT_PLAIN.keys())
def test_any_other_value_is_refused_saying_what_it_is(value: Any, mend: str) -> None:
    with pytest.raises(NotPlain, match=re.escape(mend)) as raised:
        plain(value, what="parameter 'x'", max_bytes=MAX_BYTES)

    assert str(raised.value).startswith("parameter 'x' ")
    assert len(str(raised.value)) < 500


def test_a_value_of_exactly_the_size_is_taken() -> None:
    assert plain("x" * (MAX_BYTES - 2), what="x", max_bytes=MAX_BYTES)


@pytest.mark.parametrize(("value", "expected"), PLAIN.values(), ids=PLAIN.keys())
def test_what_params_allow_a_message_carries(value: Any, expected: Any) -> None:
    encoder = MessageCodec()

    carried = encoder.decode(encoder.encode({"kwargs": {"value": plain(value, what="x", max_bytes=MAX_BYTES)}}))

    assert carried == {"kwargs": {"value": expected}}


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters()), inner, max_size=4),
    max_leaves=10,
)


@given(value=JSON_VALUES)
@settings(max_examples=120, deadline=None)
def test_any_json_value_is_carried_as_it_was(value: Any) -> None:
    encoder = MessageCodec()

    assert plain(value, what="x", max_bytes=10**6) == value
    assert encoder.decode(encoder.encode({"args": [value]})) == {"args": [value]}


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{not json", b"\x80\x04\x95pickle", b"\xff\xfe", b"[" * 100_000, b'{"a": NaN}', b'{"a": 1e400}',
        b'{"a": ' + b"9" * 5_000 + b"}", b'{"a": "\\ud800", "b": NaN}', b'["\\ud800"' + b"[" * 100_000,
        b'{"a": "\\ud800", "b": ' + b"9" * 5_000 + b"}", b'"\\ud800',
    ],
    ids=lambda data: repr(data[:20]),
)  # fmt: skip
def test_bytes_that_are_no_message_are_refused_as_undecodable(data: bytes) -> None:
    with pytest.raises(DecodeError, match="failed to decode message"):
        MessageCodec().decode(data)


def confirm(fir_id: str, copies: Annotated[int, Ge(1), Le(9)] = 1, *, at: datetime | None = None) -> None:
    """Has what a signature may have, nearly."""


def spread(first: int, *rest: int, **named: str) -> None:
    """Has the rest."""


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "expected"),
    [
        (confirm, ("F",), {}, {"fir_id": "F"}),
        (confirm, ("F", 2), {"at": None}, {"fir_id": "F", "copies": 2, "at": None}),
        (confirm, (), {"copies": 3, "fir_id": "F"}, {"fir_id": "F", "copies": 3}),
        (spread, (1, 2, 3), {"a": "b"}, {"first": 1, "rest": [2, 3], "a": "b"}),
    ],
)
def test_arguments_are_bound_to_their_names(function: Any, args: Any, kwargs: Any, expected: Any) -> None:
    assert bind(function, args, kwargs) == expected


@pytest.mark.parametrize(
    ("args", "kwargs", "name", "mend"),
    [
        ((), {}, "params", "missing a required argument: 'fir_id'; expected (fir_id, copies=1, at=None)"),
        (("a", 1, 2), {}, "params", "too many positional arguments; expected (fir_id, copies=1, at=None)"),
        (("a",), {"fir_id": "b"}, "params", "multiple values for argument 'fir_id'"),
        (("a",), {"copy": 1}, "params.copy", "there is no such parameter; did you mean 'copies'? expected (fir_id"),
        (("a",), {"zzz": 1}, "params.zzz", "there is no such parameter; expected (fir_id"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_with_the_signature(args: Any, kwargs: Any, name: str, mend: str) -> None:
    with pytest.raises(InvalidTask, match=re.escape(mend)) as raised:
        bind(confirm, args, kwargs)

    assert raised.value.field == name


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"fir_id": "F"}, {"fir_id": "F"}),
        ({"fir_id": "F", "copies": "2"}, {"fir_id": "F", "copies": 2}),
        ({"fir_id": "F", "at": "2026-11-22T12:00:00+01:00"}, {"fir_id": "F", "at": "2026-11-22T12:00:00+01:00"}),
        ({"fir_id": "F", "at": None}, {"fir_id": "F", "at": None}),
    ],
)
def test_params_from_outside_are_checked_converted_and_plain(params: Any, expected: Any) -> None:
    assert validate(confirm, params) == expected


@pytest.mark.parametrize(
    ("params", "name", "mend"),
    [
        ({}, "params.fir_id", "params.fir_id: Field required; expected (fir_id, copies=1, at=None)"),
        ({"fir_id": 5}, "params.fir_id", "Input should be a valid string"),
        ({"fir_id": "F", "copies": 0}, "params.copies", "Input should be greater than or equal to 1"),
        ({"fir_id": "F", "copies": 10}, "params.copies", "Input should be less than or equal to 9"),
        ({"fir_id": "F", "copies": "many"}, "params.copies", "Input should be a valid integer"),
        ({"fir_id": "F", "at": "tomorrow"}, "params.at", "Input should be a valid datetime"),
        ({"fir_id": "F", "copy": 1}, "params.copy", "did you mean 'copies'?"),
        ({"fir_id": "F", "x" * 5_000: 1}, "params." + "x" * 100, "there is no such parameter; expected (fir_id"),
    ],
)
def test_params_from_outside_that_do_not_fit_are_refused_by_name(params: Any, name: str, mend: str) -> None:
    with pytest.raises(InvalidTask, match=re.escape(mend)) as raised:
        validate(confirm, params)

    assert raised.value.field == name


def test_a_place_inside_a_parameter_is_named_with_its_path() -> None:
    def bulk(people: Annotated[list[Person], Len(1, 3)]) -> None: ...

    with pytest.raises(InvalidTask, match=r"params\.people\.1\.born: ") as raised:
        validate(bulk, {"people": [{"name": "A", "born": "2000-01-01"}, {"name": "B", "born": "soon"}]})

    assert raised.value.field == "params.people.1.born"
    assert validate(bulk, {"people": [{"name": "A", "born": "2000-01-01"}]}) == {
        "people": [{"name": "A", "born": "2000-01-01"}]
    }


def test_a_secret_is_not_repeated_in_the_error() -> None:
    def log_in(password: Annotated[SecretStr, Len(1, 5)]) -> None: ...

    with pytest.raises(InvalidTask) as raised:
        validate(log_in, {"password": "hunter2-hunter2"})

    assert "hunter2" not in str(raised.value)


def test_a_function_that_takes_any_name_is_given_any_name() -> None:
    assert validate(spread, {"first": 1, "a": "b"}) == {"first": 1, "a": "b"}


def test_parameters_may_have_the_names_that_pydantic_uses_itself() -> None:
    def awkward(json: str, copy: int, schema: str, model_config_name: str) -> None: ...

    params = {"json": "j", "copy": 1, "schema": "s", "model_config_name": "m"}

    assert validate(awkward, params) == params
    assert set(model_of(awkward).model_json_schema()["properties"]) == set(params)


def test_an_annotation_that_only_type_checkers_can_read_does_not_stop_a_send() -> None:
    def typed(items: "Iterable[int]", count: int = 1) -> None: ...

    assert bind(typed, ([1],), {}) == {"items": [1]}
    assert validate(typed, {"items": [1], "count": 2}) == {"items": [1], "count": 2}


def test_the_schema_of_the_parameters_names_types_bounds_and_defaults() -> None:
    schema = model_of(confirm).model_json_schema()

    assert schema["required"] == ["fir_id"]
    assert schema["properties"]["copies"] | {"title": ""} == {
        "type": "integer", "minimum": 1, "maximum": 9, "default": 1, "title": "",
    }  # fmt: skip
    assert schema["additionalProperties"] is False
