"""`python -m workers.web`: the API under uvicorn, where the settings say. Refuses to leave loopback."""

import ipaddress
import sys

import uvicorn

from workers import callboard
from workers.web.app import create_app


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server bound to this host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def main() -> None:
    """Serve until told to stop."""
    settings = callboard.settings
    if not is_loopback(settings.api_host):
        sys.exit(
            f"callboard: CALLBOARD_API_HOST={settings.api_host} would open the API to the network, and it has no "
            "authentication yet: bind it to 127.0.0.1 and put a proxy that authenticates in front"
        )
    uvicorn.run(
        create_app(),
        host=settings.api_host,
        port=settings.api_port,
        log_level="warning",
        timeout_graceful_shutdown=3,
        server_header=False,
    )


if __name__ == "__main__":
    main()
