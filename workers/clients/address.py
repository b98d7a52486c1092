"""E-mail addresses: what counts as one. Must not: send anything."""

import re

from workers.errors import PermanentError

MAX_ADDRESS_CHARS = 254
"""RFC 5321 §4.5.3.1.3."""

_ADDRESS = re.compile(r"(?=[^@]{1,64}@)[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
                      r"@[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
                      r"(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*")  # fmt: skip


def check_address(address: str) -> str:
    """The address if it is one plain `local@domain`.

    Raises:
        PermanentError: anything else, for instance a line break, which could smuggle in further headers.
    """
    if not isinstance(address, str) or len(address) > MAX_ADDRESS_CHARS or _ADDRESS.fullmatch(address) is None:
        shown = str(address)[:100].encode("unicode_escape").decode("ascii")
        raise PermanentError(f"expected an e-mail address such as name@example.org, got '{shown}'")
    return address
