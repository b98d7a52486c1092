"""Parameters and results on their way into JSON: bound to the signature, validated, plain, and of a bounded size.

`bind` is for senders in Python (the signature must fit), `validate` for senders outside it (types are checked and
converted as well, by pydantic), `plain` for both and for results.

Must not: know the registry, a queue or a table.
"""

import dataclasses
import difflib
import inspect
import json
import types
import typing
import warnings
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import msgspec
from pydantic import BaseModel, ConfigDict, SecretBytes, SecretStr, ValidationError, create_model

from models.redaction import REDACTED, is_secret_name, redact_text, secrets_in
from workers.errors import InvalidTask

MAX_NESTING = 100
"""Levels of lists and objects in a parameter or a result."""


class NotPlain(ValueError):
    """A value that JSON cannot hold; the message says where it is and what it is."""


def plain(value: Any, *, what: str, max_bytes: int) -> Any:
    """The value as JSON's own types: dict, list, str, int, float, bool, None. Raises as `plain_text`."""
    # why: a tuple is a list from here on, as it will be for the worker.
    return json.loads(plain_text(value, what=what, max_bytes=max_bytes))


def plain_text(value: Any, *, what: str, max_bytes: int) -> str:
    """The value as JSON text, ASCII only.

    A datetime becomes ISO 8601 text, a UUID and a Decimal text, an Enum its value, a dataclass and a pydantic model an
    object, a tuple a list. NaN, infinity, sets, bytes, other objects, keys that are not text, integers of more than
    4,300 digits and nesting beyond MAX_NESTING are refused.

    Args:
        what: how to call the value in an error, for instance `parameter 'steps'`.
        max_bytes: bound of its JSON text.

    Raises:
        NotPlain: with the place, the type or the size, and the mend.
    """
    if value is None:
        return "null"  # why: what most tasks return.
    try:
        text = _written(value)
    except RecursionError:
        raise NotPlain(f"{what} is nested deeper than {MAX_NESTING} levels: flatten it") from None
    except _UNWRITABLE as error:
        place = _place_of(value)
        where = f" at {place}" if place else ""
        raise NotPlain(f"{what} cannot be written as JSON{where} ({_words(error)}): send plain values or an id instead"
                       ) from None  # fmt: skip
    if len(text) > max_bytes:
        raise NotPlain(f"{what} is {len(text):,} bytes as JSON, more than the {max_bytes:,} allowed: "
                       "store it and send its id instead")  # fmt: skip
    return text


_encode = json.JSONEncoder(allow_nan=False, check_circular=False, separators=(",", ":")).encode
_encode_quickly = msgspec.json.Encoder().encode
_SCALARS: frozenset[type] = frozenset({str, int, float, bool, type(None)})
_OF_ANNOTATION: dict[Any, frozenset[type]] = {
    inspect.Parameter.empty: _SCALARS,
    Any: _SCALARS,
    str: frozenset({str}),
    int: frozenset({int}),
    float: frozenset({float, int}),
    bool: frozenset({bool}),
    None: frozenset({type(None)}),
    type(None): frozenset({type(None)}),
}


class QuickCheck:
    """Passes arguments that fit a function beyond doubt, at a tenth of what `bind`, `check_values` and `plain_text`
    cost: plain scalars of just the types in a plain signature. Everything else, and so every error, is theirs.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        parameters = list(signature_of(function).parameters.values())
        self._is_plain = all(one.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD for one in parameters)
        self._allowed = {one.name: _allowed_by(one.annotation) for one in parameters}
        self._in_order = list(self._allowed.values())
        self._names = list(self._allowed)
        self._required = [one.name for one in parameters if one.default is inspect.Parameter.empty]

    def text(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, max_bytes: int) -> str | None:
        """The arguments as JSON text, as `plain_text` writes it; None if there is any doubt about them."""
        count = len(args)
        if not self._is_plain or count > len(self._in_order):
            return None
        for value, allowed in zip(args, self._in_order, strict=False):
            if type(value) not in allowed:
                return None
        for name, value in kwargs.items():
            if type(value) not in self._allowed.get(name, ()):
                return None
        if kwargs and count and not kwargs.keys().isdisjoint(self._names[:count]):
            return None
        for name in self._required[count:]:
            if name not in kwargs:
                return None
        try:
            text = self._text(args, kwargs)
        except ValueError:
            return None
        return text if len(text) <= max_bytes else None

    def _text(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        whole = {"args": args, "kwargs": kwargs}
        # why: msgspec is quicker, but writes NaN as null and 1e22 without its plus.
        if float in map(type, args) or float in map(type, kwargs.values()):
            return _encode(whole)
        try:
            encoded = _encode_quickly(whole)
        except UnicodeEncodeError:  # why: a lone surrogate, for which the other has an escape
            return _encode(whole)
        return encoded.decode() if encoded.isascii() else _encode(whole)


def _allowed_by(annotation: Any) -> frozenset[type]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        parts = [_OF_ANNOTATION.get(part) for part in typing.get_args(annotation)]
        return frozenset() if None in parts else frozenset().union(*(part for part in parts if part is not None))
    try:
        return _OF_ANNOTATION.get(annotation, frozenset())
    except TypeError:
        return frozenset()  # why: an annotation need not be hashable.


def options_text(options: Mapping[str, Any]) -> str:
    """A message's options as JSON text. Raises InvalidTask for what JSON cannot hold."""
    try:
        return _encode(dict(options))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidTask(f"options: expected values that JSON can hold: {error}", field="options") from None


def bind(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments by name, as the function's signature binds them; raises InvalidTask if they do not fit."""
    signature = signature_of(function)
    names = None if args else _named_only(function)
    if names is not None and names[0] <= kwargs.keys() <= names[1].keys():
        return {name: kwargs[name] for name in names[1] if name in kwargs}  # why: what is left costs ten times as much.
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        unknown = next((name for name in kwargs if name not in signature.parameters), None)
        if unknown is not None:
            raise _unknown_parameter(unknown, function) from None
        raise InvalidTask(f"params: {error}; expected {_expected(function)}", field="params") from None
    named: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_KEYWORD:
            named |= value
        else:
            named[name] = list(value) if kind is inspect.Parameter.VAR_POSITIONAL else value
    return named


@lru_cache(maxsize=4096)
def _named_only(function: Callable[..., Any]) -> tuple[frozenset[str], dict[str, None]] | None:
    """The names that must be given, and all names in their order; None: not every parameter can be given by name."""
    parameters = signature_of(function).parameters.values()
    if any(one.kind not in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY) for one in parameters):
        return None
    required = frozenset(one.name for one in parameters if one.default is inspect.Parameter.empty)
    return required, dict.fromkeys(one.name for one in parameters)


def validate(function: Callable[..., Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """Named arguments from outside, checked and converted by the types in the signature.

    Returns:
        Only the arguments that were given, as JSON's own types.

    Raises:
        InvalidTask: with `field` `params.<name>` and what was expected.
    """
    model = model_of(function)
    for name in params:
        if name not in model.model_fields and model.model_config.get("extra") != "allow":
            raise _unknown_parameter(name, function)
    checked = _checked(model, function, params)
    dumped = checked.model_dump(mode="json", exclude_unset=True)
    return typing.cast("dict[str, Any]", _revealed(checked, dumped)) if secret_types(function) else dumped


def check_values(function: Callable[..., Any], named: Mapping[str, Any]) -> None:
    """Refuse arguments whose values the signature's types do not allow; converts nothing.

    Raises:
        InvalidTask: with `field` `params.<name>`.
    """
    model = model_of(function)
    known = {name: value for name, value in named.items() if name in model.model_fields}
    _checked(model, function, known)


def secret_parameters(function: Callable[..., Any]) -> frozenset[str]:
    """Names of the parameters that hold secrets: by their type (`SecretStr`, also inside), or by their name."""
    return _secret_parameters(function)


@lru_cache(maxsize=4096)
def _secret_parameters(function: Callable[..., Any]) -> frozenset[str]:
    names = {name for name in signature_of(function).parameters if is_secret_name(name)}
    return frozenset(names | secret_types(function).keys())


@lru_cache(maxsize=4096)
def secret_types(function: Callable[..., Any]) -> Mapping[str, type[SecretStr] | type[SecretBytes] | None]:
    """The parameters whose type holds a secret → the class of the secret; None: it is somewhere inside the type."""
    found: dict[str, type[SecretStr | SecretBytes] | None] = {}
    for name, parameter in signature_of(function).parameters.items():
        if _holds_secret(parameter.annotation, frozenset()):
            parts = (parameter.annotation, *typing.get_args(parameter.annotation))
            found[name] = next((part for part in parts if part in (SecretStr, SecretBytes)), None)
    return found


def as_secrets(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments as they came off the bus, where the function declares a `SecretStr` as that: it prints as stars.

    For a function without such parameters they are returned as they are.
    """
    types_ = secret_types(function)
    if not types_:
        return args, kwargs
    names = list(signature_of(function).parameters)
    positional = tuple(_as_secret(types_.get(name), value) for name, value in zip(names, args, strict=False))
    named = {name: _as_secret(types_.get(name), value) for name, value in kwargs.items()}
    return positional + args[len(positional) :], named


def secret_values(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> frozenset[str]:
    """The secrets among the arguments, to be looked for in what the function says. Raises nothing."""
    names = signature_of(function).parameters
    named = {**dict(zip(names, args, strict=False)), **kwargs}
    return secrets_in({name: _plain_secret(value) for name, value in named.items()}, secret_parameters(function))


def _plain_secret(value: Any) -> Any:
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def _as_secret(kind: type[SecretStr] | type[SecretBytes] | None, value: Any) -> Any:
    if kind is None or not isinstance(value, str):
        return value
    return SecretStr(value) if kind is SecretStr else SecretBytes(value.encode())


def _holds_secret(annotation: Any, seen: frozenset[Any]) -> bool:
    if annotation in (SecretStr, SecretBytes):
        return True
    if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation not in seen:
        fields = annotation.model_fields.values()
        return any(_holds_secret(field.annotation, seen | {annotation}) for field in fields)
    return any(_holds_secret(part, seen) for part in typing.get_args(annotation))


def _revealed(value: Any, dumped: Any) -> Any:
    """What pydantic wrote as stars, as it is: the task needs it; whoever shows it redacts it."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, SecretBytes):
        return value.get_secret_value().decode()
    if isinstance(value, BaseModel) and isinstance(dumped, dict):
        return {name: _revealed(getattr(value, name, None), part) for name, part in dumped.items()}
    if isinstance(value, dict) and isinstance(dumped, dict):
        return {name: _revealed(part, dumped.get(name)) for name, part in value.items()}
    if isinstance(value, (list, tuple)) and isinstance(dumped, list):
        return [_revealed(part, kept) for part, kept in zip(value, dumped, strict=False)]
    return dumped


@lru_cache(maxsize=4096)
def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """The function's signature, its annotations evaluated where that is possible."""
    try:
        return inspect.signature(function, eval_str=True)
    except (NameError, AttributeError, SyntaxError, TypeError):
        return inspect.signature(function)  # why: a name that is imported for type checkers only.


@lru_cache(maxsize=4096)
def model_of(function: Callable[..., Any]) -> type[BaseModel]:
    """A pydantic model of the function's parameters; its JSON Schema is what forms and clients are made from."""
    fields: dict[str, Any] = {}
    extra: typing.Literal["allow", "forbid"] = "forbid"
    for parameter in signature_of(function).parameters.values():
        if parameter.kind in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL):
            extra = "allow" if parameter.kind is inspect.Parameter.VAR_KEYWORD else extra
            continue
        unknown = parameter.annotation is inspect.Parameter.empty or isinstance(parameter.annotation, str)
        annotation = Any if unknown else parameter.annotation
        fields[parameter.name] = (
            annotation,
            ... if parameter.default is inspect.Parameter.empty else parameter.default,
        )
    config = ConfigDict(extra=extra, arbitrary_types_allowed=True, protected_namespaces=())
    with warnings.catch_warnings():
        # why: pydantic warns of a parameter called `json` or `copy`; nobody calls the methods that it hides.
        warnings.filterwarnings("ignore", message="Field name .* shadows an attribute", category=UserWarning)
        return typing.cast("type[BaseModel]", create_model(f"{function.__name__}_params", __config__=config, **fields))


def _checked(model: type[BaseModel], function: Callable[..., Any], params: Mapping[str, Any]) -> BaseModel:
    try:
        return model.model_validate(dict(params))
    except ValidationError as error:
        problem = error.errors()[0]
        field = "params." + ".".join(str(part) for part in problem["loc"])
        said = redact_text(
            problem["msg"].removeprefix("Value error, "), secrets_in(params, secret_parameters(function))
        )
        raise InvalidTask(f"{field}: {said}; expected {_expected(function)}", field=field) from None


_UNWRITABLE = (TypeError, ValueError, msgspec.ValidationError)
_PLACE_MAX_CHARS = 200


def _written(value: Any) -> str:
    _check_nesting(value, MAX_NESTING)
    return _encode(msgspec.to_builtins(value, enc_hook=unwrap))


def _place_of(value: Any) -> str:
    """The way to the part that cannot be written, as in `rows[3].price`; empty if it is the value itself."""
    place = ""
    for _ in range(MAX_NESTING):
        for name, part in _parts(value):
            if not _is_writable(part):
                place, value = place + name, part
                break
        else:
            break
    return place.removeprefix(".")[:_PLACE_MAX_CHARS]


def _parts(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [(f".{key}", part) for key, part in value.items()]
    if isinstance(value, (list, tuple)):
        return [(f"[{index}]", part) for index, part in enumerate(value)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [(f".{field.name}", getattr(value, field.name)) for field in dataclasses.fields(value)]
    return [(f".{name}", part) for name, part in value] if isinstance(value, BaseModel) else []


def _is_writable(value: Any) -> bool:
    try:
        _written(value)
    except (*_UNWRITABLE, RecursionError):
        return False
    return True


def _words(error: Exception) -> str:
    """Cut: the words may hold a whole key or a representation that the caller's class makes up."""
    return str(error)[:_PLACE_MAX_CHARS]


def unwrap(value: Any) -> Any:
    """A pydantic model or secret as JSON's own types; raises TypeError for anything else."""
    if isinstance(value, BaseModel):
        return _revealed(value, value.model_dump(mode="json"))
    if isinstance(value, (SecretStr, SecretBytes)):
        return _revealed(value, None)
    raise TypeError(f"a {type(value).__name__} is not JSON")


_ALWAYS_JSON = frozenset({str, int, bool, type(None)})


def _check_nesting(value: Any, levels: int) -> None:
    if levels < 0:
        raise RecursionError
    if type(value) in _ALWAYS_JSON:
        return
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"the key {key!r} is not text")
            _check_nesting(item, levels - 1)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check_nesting(item, levels - 1)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            _check_nesting(getattr(value, field.name), levels - 1)
    elif isinstance(value, (set, frozenset, bytes, bytearray, memoryview)):
        raise TypeError(f"a {type(value).__name__} is not JSON")
    elif isinstance(value, float) and value - value != 0:
        raise TypeError(f"{value} is not a JSON number")


def _unknown_parameter(name: str, function: Callable[..., Any]) -> InvalidTask:
    near = difflib.get_close_matches(name, signature_of(function).parameters, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    field = f"params.{name[:100]}"
    return InvalidTask(f"{field}: there is no such parameter; {hint}expected {_expected(function)}", field=field)


def _expected(function: Callable[..., Any]) -> str:
    parts = []
    for parameter in signature_of(function).parameters.values():
        required = parameter.default is inspect.Parameter.empty
        shown = REDACTED if is_secret_name(parameter.name) else repr(parameter.default)
        parts.append(parameter.name if required else f"{parameter.name}={shown}")
    return "(" + ", ".join(parts) + ")"
