"""`python -m workers.web`: the API under uvicorn, where the settings say."""

import uvicorn

from workers import callboard
from workers.runner import log_format
from workers.web.app import create_app


def main() -> None:
    """Serve until told to stop, and keep ledger and bus in step meanwhile, as every process of the system does."""
    settings = callboard.settings
    log_format.install(settings.log_format)
    upkeep = callboard.upkeep("web")
    upkeep.start()
    uvicorn.run(
        create_app(),
        host=settings.api_host,
        port=settings.api_port,
        log_level="warning",
        log_config=None,
        timeout_graceful_shutdown=3,
        server_header=False,
    )
    upkeep.stop()


if __name__ == "__main__":
    main()
