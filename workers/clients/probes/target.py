"""What probes have in common: what a target is, and the error of a service that is down."""

from urllib.parse import urlsplit

from workers.errors import PermanentError, TaskError


class Down(TaskError):
    """The service answered, but not as one that works; the message says what."""


def host_and_port(target: str) -> tuple[str, int]:
    """Of `host:port` or `[address]:port`. Raises PermanentError for anything else."""
    try:
        parts = urlsplit(f"//{target}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port or parts.netloc != target or "@" in target:
        raise PermanentError(f"expected host:port, as mail.example.org:25 or [::1]:25, got {target[:200]!a}: correct "
                             "the target in the table providers")  # fmt: skip
    return host, port
