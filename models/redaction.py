"""Secrets in what is shown: values under telling names, passwords in URLs, tokens by their form, known values.

    redact(value)       a JSON value on its way out: parameters, results, details
    redact_text(text)   a text on its way in: error messages, tracebacks, log lines, where nobody can tell later which
                        part of it was a parameter. `hidden` are values that are known to be secret.

A text that merely looks like one with a secret loses a word; that is the cheaper mistake.

Must not: import a library, because every process and every failing task needs this.
"""

import re
from collections.abc import Collection, Iterator
from typing import Any, Final

REDACTED: Final = "***"
HIDDEN_MIN_CHARS: Final = 4
"""Shorter values are not looked for in texts: they would be found everywhere."""
MAX_CHARS: Final = 128 * 1024
"""What is beyond is cut first: a text of megabytes is bounded to far less when it is stored."""

_WORDS = (
    r"pass(?:word|wd|phrase|code)|pwd|secret|token|(?:api|access|private|signing|encryption|auth)[_-]?key|authorization"
    r"|cookie|credential|session[_-]?id|jwt"
)
_NAME = re.compile(rf"(?i)(?:{_WORDS})|(?:^|[_.-])(?:pass|auth|pin|otp|cvv|dsn)$")
_PAIR = re.compile(
    rf"""(?ix)
    ( (?:{_WORDS}) [\w-]{{0,40}}
      (?: \\{{0,2}} ["']? \]? \s{{0,3}} (?:=>|[=:>]) \s{{0,3}}  |  ["'] \s{{0,3}} , \s{{0,3}} (?=["']) )
      (?: (?:bearer|basic|digest|token) \s+ )?
      (?! None\b | null\b | true\b | false\b )
    )
    (?: \\{{0,2}} [bru]? "(?:[^"\\]|\\.)*+(?:"|$)
      | \\{{0,2}} [bru]? '(?:[^'\\]|\\.)*+(?:'|$)
      | [^\s,;&)}}\]"'<]++
    )""",
)
_HEADER = re.compile(r"(?i)((?:cookie|authorization)[\"']?\s{0,3}:\s{0,3})[^\r\n\"']+")
_URL = re.compile(r"(?i)([a-z][a-z0-9+.-]{0,30}://[^\s:/?#@'\"]*:)(?!\d{1,5}(?:[/?#\s'\",)]|$))[^\s'\"<>]{1,300}(?=@)")
_URL_TOKEN = re.compile(r"(://)[^\s:/?#@'\"]{16,300}+(?=@)")
_FORMS = re.compile(
    r"(?i:\b(?:bearer|basic)\s+)[\w.~+/=-]{8,}|\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*|\bcb_[\w-]{20,}|\bgh[pousr]_\w{20,}"
    r"|\bxox[a-z]-[\w-]{10,}|\bAKIA[0-9A-Z]{16}\b|-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z ]+-----|$)"
)
_PAIR_HINTS = (
    *("pass", "pwd", "secret", "token", "authorization", "cookie", "credential", "session", "jwt"),
    *("_key", "-key", "apikey", "accesskey", "privatekey", "signingkey", "encryptionkey", "authkey"),
)
_FORM_HINTS = ("bearer", "basic", "eyj", "cb_", "gh", "xox", "akia", "-----begin")


def is_secret_name(name: str) -> bool:
    """Whether a parameter, key or field of this name holds a secret."""
    return _NAME.search(name) is not None


def redact_text(text: str, hidden: Collection[str] = ()) -> str:
    """The text without secrets.

    Args:
        text: anything; cut at MAX_CHARS.
        hidden: values that must not be in it, wherever they came from.
    """
    if len(text) > MAX_CHARS:
        text = text[:MAX_CHARS]
    for value in sorted(hidden, key=len, reverse=True):  # why: one may be a part of another.
        if value in text:
            text = text.replace(value, REDACTED)
        escaped = repr(value)[1:-1]
        if escaped != value:
            text = text.replace(escaped, REDACTED)
    lowered = text.lower()  # why: most texts hold nothing to look at, and this says so at a tenth of the cost.
    if any(hint in lowered for hint in _PAIR_HINTS):
        text = _PAIR.sub(rf"\1{REDACTED}", _HEADER.sub(rf"\1{REDACTED}", text))
    if "://" in lowered:
        text = _URL_TOKEN.sub(rf"\1{REDACTED}", _URL.sub(rf"\1{REDACTED}", text))
    if any(hint in lowered for hint in _FORM_HINTS):
        text = _FORMS.sub(REDACTED, text)
    return text


def redact(value: Any, secret_names: Collection[str] = (), hidden: Collection[str] = ()) -> Any:
    """A JSON value without secrets; the value itself is left as it is.

    Args:
        value: of JSON's types.
        secret_names: further keys of its outermost object that hold secrets.
        hidden: as of redact_text.
    """
    if isinstance(value, dict):
        return {
            key: _redacted_value(key, part) if key in secret_names or is_secret_name(key) else redact(part, (), hidden)
            for key, part in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [redact(part, (), hidden) for part in value]
    return redact_text(value, hidden) if isinstance(value, str) else value


def secrets_in(value: Any, secret_names: Collection[str] = ()) -> frozenset[str]:
    """The secret values in a JSON value, to be looked for in texts. Arguments as of `redact`."""
    return frozenset(text for text in _secrets(value, secret_names) if len(text) >= HIDDEN_MIN_CHARS)


def _redacted_value(key: str, value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    is_count = isinstance(value, (int, float)) and "token" in key.lower()
    return value if is_count else REDACTED  # why: max_tokens=100 is no token.


def _secrets(value: Any, secret_names: Collection[str]) -> Iterator[str]:
    if isinstance(value, dict):
        for key, part in value.items():
            if key in secret_names or is_secret_name(key):
                yield from _leaves(part)
            else:
                yield from _secrets(part, ())
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _secrets(part, ())
    elif isinstance(value, str) and "://" in value:
        for found in _URL.finditer(value):
            yield found.group()[len(found.group(1)) :]


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for part in value.values():
            yield from _leaves(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _leaves(part)
    elif isinstance(value, (str, int, float)) and not isinstance(value, bool):
        yield str(value)
