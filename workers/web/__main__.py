"""`python -m workers.web`: the API under uvicorn, where the settings say."""

import uvicorn

from workers import callboard
from workers.web.app import create_app


def main() -> None:
    """Serve until told to stop."""
    settings = callboard.settings
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
