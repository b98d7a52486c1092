"""What the bus raises. Permanent or transient is decided in `backoff.py`; here are the names only.

BrokerError (dramatiq)
 ├─ BusFull            the server is at its memory limit: the message was not taken
 ├─ BusRefused         the server refuses us for good (rights, wrong kind of server)
 └─ BrokerConnectionError (dramatiq)
     └─ BusUnavailable  no answer within the time allowed: the message may have been taken; sending it again is safe
"""

from __future__ import annotations

from dramatiq.errors import BrokerConnectionError, BrokerError


class BusFull(BrokerError):
    """The Redis server is at `maxmemory`: it took nothing. Free memory or raise the limit, then send again."""


class BusRefused(BrokerError):
    """The Redis server refused the call for a reason that waiting does not mend. The message says which."""


class BusUnavailable(BrokerConnectionError):
    """The Redis server did not answer in time. Sending the same message again is safe: it is taken once."""
